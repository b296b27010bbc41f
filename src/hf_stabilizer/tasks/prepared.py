"""What is ready to be trained on? The tokenised rows of a task, in memory or in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hf_stabilizer.errors import DataError
from hf_stabilizer.models import load_tokenizer
from hf_stabilizer.records import write_atomically
from hf_stabilizer.tasks.masks import MaskingCollator

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Any in this module: batches, and what JSON holds.
ProblemType = Literal[
    "single_label_classification", "multi_label_classification", "regression", None
]
Collator = Callable[[list[dict[str, Any]]], dict[str, Any]]
_RECORD = "task.json"
# Fields that the record holds as lists.
_LISTS = (
    *("label_names", "groups", "validation_rows", "test_rows", "text_columns", "choice_columns"),
    *("validation_targets", "test_targets"),
)


@dataclass(frozen=True)
class PreparedTask:
    """Tokenised rows, and how to batch and model them."""

    task: str
    """One of `TASKS`."""
    train: Dataset
    """What the model takes, and "labels" (not for masked-lm: the masks are drawn with each batch);
    rows of differing length, in their own order."""
    validation: Dataset
    """The same, the longest rows first, so that evaluation pads little; for masked-lm with masks
    that never change."""
    test: Dataset | None
    """The same; None if there are no test rows."""
    tokenizer: PreTrainedTokenizerBase
    """Made the rows, pads the batches, and is saved beside the model."""
    num_labels: int
    """Classes or tags; 1 for regression; for multiple-choice the number of choices; 0 where tokens
    are written."""
    label_names: tuple[str, ...] | None
    """Names of the classes in the order of their ids; None where labels are no classes."""
    problem_type: ProblemType
    """As `PreTrainedConfig.problem_type` has it; None for the tasks that it does not know."""
    groups: tuple[str, ...] | None = None
    """The group of each training row, which folds keep together; None if there are no groups."""
    validation_rows: tuple[int, ...] | None = None
    """The place in `Splits.validation` of each row of `validation`; None where that was not
    recorded, by a version that did not know it."""
    test_rows: tuple[int, ...] | None = None
    """The same for `test`; None as well if there are no test rows."""
    soft_labels: bool = False
    """Whether a training row's label is a probability per class."""
    text_columns: tuple[str, ...] | None = None
    """The columns of the texts that were read, named or guessed; None: not recorded."""
    choice_columns: tuple[str, ...] | None = None
    """The same for the choices; None as well if the task has none."""
    label_column: str | None = None
    """The same for the label."""
    validation_targets: tuple[str, ...] | None = None
    """The text that each row of `validation` is to become, whole, however short `labels` were cut;
    None for all tasks but seq2seq."""
    test_targets: tuple[str, ...] | None = None
    """The same for `test`; None as well if there are no test rows."""

    @property
    def data_collator(self) -> Collator:
        """Pads the rows of a batch to the longest of them; masks training rows of masked-lm."""
        return self.collator_for(None)

    def collator_for(self, model: PreTrainedModel | None) -> Collator:
        """Returns the same, with what a decoder of the model takes, where the task has one."""
        import transformers

        if self.task == "multiple-choice":
            return transformers.DataCollatorForMultipleChoice(self.tokenizer)
        if self.task in ("token-classification", "causal-lm"):
            return transformers.DataCollatorForTokenClassification(self.tokenizer)
        if self.task == "masked-lm":
            return MaskingCollator(self.tokenizer)
        if self.task == "seq2seq":
            return transformers.DataCollatorForSeq2Seq(self.tokenizer, model=model)
        return transformers.DataCollatorWithPadding(self.tokenizer)

    @property
    def settled(self) -> dict[str, Any]:
        """Configuration keys of the columns, as they were named or guessed; {} if not recorded."""
        columns = {
            "text_columns": self.text_columns,
            "choice_columns": self.choice_columns,
            "label_column": self.label_column,
        }
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in columns.items()}
        return {name: value for name, value in plain.items() if value}

    @property
    def decided_train(self) -> Dataset:
        """The training rows with one label each: of probabilities the most probable class."""
        if not self.soft_labels:
            return self.train
        labels = [max(range(len(row)), key=row.__getitem__) for row in self.train["labels"]]
        return self.train.remove_columns("labels").add_column("labels", labels)

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
            "problem_type": self.problem_type,
            "soft_labels": self.soft_labels,
            "label_column": self.label_column,
            **{name: getattr(self, name) for name in _LISTS},
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
        lists = {name: record.get(name) for name in _LISTS}
        return cls(
            task=record["task"],
            train=parts["train"],
            validation=parts["validation"],
            test=parts.get("test"),
            tokenizer=load_tokenizer(str(folder / "tokenizer")),
            num_labels=record["num_labels"],
            problem_type=record["problem_type"],
            soft_labels=record.get("soft_labels", False),
            label_column=record.get("label_column"),
            **{name: tuple(value) if value else None for name, value in lists.items()},
        )
