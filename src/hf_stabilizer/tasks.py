"""What does a task make of its rows? From divided rows to what a model takes.

    task                  model                               labels
    text-classification   AutoModelForSequenceClassification  one class id, or 0.0 / 1.0 per class
    text-regression       AutoModelForSequenceClassification  one float
    multiple-choice       AutoModelForMultipleChoice          index of the right choice

Importing this module imports neither torch nor transformers; its functions do.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hf_stabilizer.errors import ConfigurationError, DataError, check_choice
from hf_stabilizer.models import LONGEST, load_tokenizer
from hf_stabilizer.records import write_atomically

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from hf_stabilizer.data import Splits

# Any in this module: batches and keyword arguments of transformers and datasets.
TASKS: tuple[str, ...] = ("text-classification", "text-regression", "multiple-choice")
ProblemType = Literal[
    "single_label_classification", "multi_label_classification", "regression", None
]
_RECORD = "task.json"


@dataclass(frozen=True)
class PreparedTask:
    """Tokenised rows, and how to batch and model them."""

    task: str
    """One of `TASKS`."""
    train: Dataset
    """What the model takes, and "labels"; rows of differing length, in their own order."""
    validation: Dataset
    """The same, the longest rows first, so that evaluation pads little."""
    test: Dataset | None
    """The same; None if there are no test rows."""
    tokenizer: PreTrainedTokenizerBase
    """Made the rows, pads the batches, and is saved beside the model."""
    num_labels: int
    """Classes; 1 for regression; for multiple-choice the number of choices."""
    label_names: tuple[str, ...] | None
    """Names of the classes in the order of their ids; None but for text-classification."""
    problem_type: ProblemType
    """As `PreTrainedConfig.problem_type` has it; None for multiple-choice."""
    groups: tuple[str, ...] | None = None
    """The group of each training row, which folds keep together; None if there are no groups."""

    @property
    def data_collator(self) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        """Pads the rows of a batch to the longest of them."""
        import transformers

        if self.task == "multiple-choice":
            return transformers.DataCollatorForMultipleChoice(self.tokenizer)
        return transformers.DataCollatorWithPadding(self.tokenizer)

    def save_to(self, folder: str | Path) -> None:
        """Writes everything into a folder, for worker processes to share; the record comes last."""
        folder = Path(folder)
        for part in ("train", "validation", "test"):
            rows = getattr(self, part)
            if rows is not None:
                rows.save_to_disk(str(folder / part))
        self.tokenizer.save_pretrained(str(folder / "tokenizer"))
        record = {
            "task": self.task,
            "num_labels": self.num_labels,
            "label_names": self.label_names,
            "problem_type": self.problem_type,
            "groups": self.groups,
            "parts": [p for p in ("train", "validation", "test") if getattr(self, p) is not None],
        }
        write_atomically(folder / _RECORD, json.dumps(record, indent=2))

    @staticmethod
    def is_saved_in(folder: str | Path) -> bool:
        """Whether `save_to` has written into the folder, to its end."""
        return (Path(folder) / _RECORD).exists()

    @classmethod
    def load_from(cls, folder: str | Path) -> PreparedTask:
        """Reads back what `save_to` wrote; the rows stay on disk, mapped into memory.

        Raises:
            DataError: The folder was not written by `save_to`, or not to its end.
        """
        from datasets import load_from_disk

        folder = Path(folder)
        try:
            record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{str(folder)!r} holds no prepared task ({error}); prepare it again"
            ) from error
        parts = {part: load_from_disk(str(folder / part)) for part in record["parts"]}
        return cls(
            task=record["task"],
            train=parts["train"],
            validation=parts["validation"],
            test=parts.get("test"),
            tokenizer=load_tokenizer(str(folder / "tokenizer")),
            num_labels=record["num_labels"],
            label_names=tuple(record["label_names"]) if record["label_names"] else None,
            problem_type=record["problem_type"],
            groups=tuple(record["groups"]) if record["groups"] else None,
        )


def prepare_task(
    task: str,
    splits: Splits,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int | None = None,
) -> PreparedTask:
    """Tokenises the rows of a task and turns its labels into what the loss takes.

    Two text columns become a pair, cut at the longer text first. For multiple-choice each choice
    is paired with the text: (text, choice); of two text columns the second goes with the choice:
    (context, question + choice).

    Args:
        task: One of `TASKS`.
        splits: What `hf_stabilizer.data.load_splits` returned for the same task.
        tokenizer: What `load_tokenizer` returned.
        max_length: Tokens per row at most, special ones included; None: what the tokenizer names
            as its model's limit, at most 512.

    Raises:
        ConfigurationError: The task is unknown, or `max_length` is out of range.
    """
    check_choice(task, TASKS, name="task")
    encode = _row_encoder(task, splits, tokenizer, _check_length(max_length, tokenizer))
    return PreparedTask(
        task=task,
        train=_encode(splits.train, encode),
        validation=_longest_first(_encode(splits.validation, encode)),
        test=None if splits.test is None else _longest_first(_encode(splits.test, encode)),
        tokenizer=tokenizer,
        num_labels=_count_labels(task, splits),
        label_names=splits.label_names,
        problem_type=_problem_type(task, splits),
        groups=splits.groups,
    )


def _check_length(max_length: int | None, tokenizer: PreTrainedTokenizerBase) -> int:
    if max_length is None:
        return min(int(tokenizer.model_max_length), LONGEST)
    least = tokenizer.num_special_tokens_to_add(pair=True) + 2
    if max_length < least:
        raise ConfigurationError(
            f"max_length must be {least} tokens or more, special ones included, got "
            f"{max_length!r}; leave it out for the model's own limit"
        )
    return max_length


def _count_labels(task: str, splits: Splits) -> int:
    if task == "multiple-choice":
        return len(splits.choice_columns)
    return len(splits.label_names or ("number",))


def _problem_type(task: str, splits: Splits) -> ProblemType:
    if task == "text-classification":
        multi = splits.multi_label
        return "multi_label_classification" if multi else "single_label_classification"
    return "regression" if task == "text-regression" else None


Encoder = Callable[[Mapping[str, list[Any]]], dict[str, list[Any]]]


def _row_encoder(
    task: str, splits: Splits, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Encoder:
    """Returns the function that turns a batch of raw rows into a batch of tokenised rows."""
    texts = _choice_encoder(splits, tokenizer, max_length)
    if task != "multiple-choice":
        texts = _text_encoder(splits, tokenizer, max_length)
    label_of = _label_encoder(splits)

    def encode(rows: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        labels = [label_of(label) for label in rows[splits.label_column]]
        return {**texts(rows), "labels": labels}

    return encode


def _text_encoder(splits: Splits, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoder:
    def encode(rows: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        columns = [list(rows[column]) for column in splits.text_columns]
        return dict(tokenizer(*columns, truncation=True, max_length=max_length))

    return encode


def _choice_encoder(splits: Splits, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoder:
    first, *second = splits.text_columns
    number = len(splits.choice_columns)

    def encode(rows: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        contexts, choices = [], []
        for row, context in enumerate(rows[first]):
            for column in splits.choice_columns:
                contexts.append(context)
                choices.append(" ".join([*(rows[name][row] for name in second), rows[column][row]]))
        flat = tokenizer(contexts, choices, truncation=True, max_length=max_length)
        return {
            name: [values[start : start + number] for start in range(0, len(values), number)]
            for name, values in flat.items()
        }

    return encode


def _label_encoder(splits: Splits) -> Callable[[Any], Any]:
    if splits.label_names is None:
        return lambda label: label
    ids = {name: place for place, name in enumerate(splits.label_names)}
    if splits.multi_label:  # The loss of several labels compares floats.
        return lambda labels: [float(name in labels) for name in ids]
    return lambda label: ids[label]


def _encode(rows: Dataset, encode: Encoder) -> Dataset:
    return rows.map(
        encode,
        batched=True,
        remove_columns=rows.column_names,
        load_from_cache_file=False,
        new_fingerprint=uuid.uuid4().hex[:16],  # Else the tokenizer is pickled to hash it: slow.
        desc="Tokenising",
    )


def _longest_first(rows: Dataset) -> Dataset:
    lengths = [_length(ids) for ids in rows["input_ids"]]
    return rows.select(sorted(range(len(lengths)), key=lambda row: -lengths[row]))


def _length(ids: Sequence[Any]) -> int:
    return max(len(choice) for choice in ids) if ids and isinstance(ids[0], list) else len(ids)
