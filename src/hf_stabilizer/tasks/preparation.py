"""How are divided rows made into what a model takes? Tokenised, labels as the loss wants them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hf_stabilizer.errors import ConfigurationError, check_choice
from hf_stabilizer.models import LONGEST
from hf_stabilizer.tasks.encoders import Encoder, row_encoder
from hf_stabilizer.tasks.masks import fixed_masks
from hf_stabilizer.tasks.prepared import PreparedTask, ProblemType

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from hf_stabilizer.data import Splits

# Any in this module: token ids of a row, or of each choice of a row.
TASKS: tuple[str, ...] = (
    *("text-classification", "text-regression", "multiple-choice"),
    *("token-classification", "causal-lm", "masked-lm", "seq2seq"),
)


def prepare_task(
    task: str,
    splits: Splits,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int | None = None,
    max_target_length: int | None = None,
) -> PreparedTask:
    """Tokenises the rows of a task and turns its labels into what the loss takes.

    Two text columns become a pair, cut at the longer text first. For multiple-choice each choice
    is paired with the text: (text, choice); of two text columns the second goes with the choice:
    (context, question + choice). For token-classification the first sub-token of each token bears
    its tag; a token that is cut off, or that the tokenizer makes nothing of, is not scored. For
    masked-lm the masks of validation and test rows are drawn here, once; those of the training
    rows with each batch.

    Args:
        task: One of `TASKS`.
        splits: What `hf_stabilizer.data.load_splits` returned for the same task.
        tokenizer: What `load_tokenizer` returned.
        max_length: Tokens per row at most, special ones included; None: what the tokenizer names
            as its model's limit, at most 512.
        max_target_length: The same for the targets of seq2seq; None: as `max_length`.

    Raises:
        ConfigurationError: The task is unknown, a length is out of range, or the tokenizer does
            not fit the task.
    """
    check_choice(task, TASKS, name="task")
    length = _check_length(max_length, tokenizer)
    target_length = _check_target_length(max_target_length, tokenizer, length)
    encode = row_encoder(
        task, splits, tokenizer, max_length=length, max_target_length=target_length
    )
    scored = [
        None if rows is None else _longest_first(_encode(rows, _scored(task, encode, tokenizer)))
        for rows in (splits.validation, splits.test)
    ]
    (validation, validation_rows), (test, test_rows) = (part or (None, None) for part in scored)
    return PreparedTask(
        task=task,
        train=_encode(splits.train, encode),
        validation=validation,
        test=test,
        tokenizer=tokenizer,
        num_labels=_count_labels(task, splits),
        label_names=splits.label_names,
        problem_type=_problem_type(task, splits),
        groups=splits.groups,
        validation_rows=validation_rows,
        test_rows=test_rows,
        soft_labels=splits.soft_label_column is not None,
        text_columns=splits.text_columns,
        choice_columns=splits.choice_columns or None,
        label_column=splits.label_column,
        validation_targets=_targets(task, splits, splits.validation, validation_rows),
        test_targets=_targets(task, splits, splits.test, test_rows),
    )


def _targets(
    task: str, splits: Splits, rows: Dataset | None, places: Sequence[int] | None
) -> tuple[str, ...] | None:
    """Returns the texts that the rows are to become, in the order that they are scored in."""
    if task != "seq2seq" or rows is None or places is None:
        return None
    texts = [str(text) for text in rows[str(splits.label_column)]]
    return tuple(texts[place] for place in places)


def _scored(task: str, encode: Encoder, tokenizer: PreTrainedTokenizerBase) -> Encoder:
    """Returns the encoder of rows that are scored; each split draws its own masks from the seed."""
    return fixed_masks(encode, tokenizer) if task == "masked-lm" else encode


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


def _check_target_length(
    max_target_length: int | None, tokenizer: PreTrainedTokenizerBase, otherwise: int
) -> int:
    least = tokenizer.num_special_tokens_to_add() + 1
    if max_target_length is not None and max_target_length < least:
        raise ConfigurationError(
            f"max_target_length must be {least} tokens or more, special ones included, got "
            f"{max_target_length!r}; leave it out for as many as a text may have"
        )
    return otherwise if max_target_length is None else max_target_length


def _count_labels(task: str, splits: Splits) -> int:
    if task == "multiple-choice":
        return len(splits.choice_columns)
    if task == "text-regression":
        return 1
    return len(splits.label_names or ())


def _problem_type(task: str, splits: Splits) -> ProblemType:
    if task == "text-classification":
        multi = splits.multi_label
        return "multi_label_classification" if multi else "single_label_classification"
    return "regression" if task == "text-regression" else None


def _encode(rows: Dataset, encode: Encoder) -> Dataset:
    return rows.map(
        encode,
        batched=True,
        remove_columns=rows.column_names,
        load_from_cache_file=False,
        new_fingerprint=uuid.uuid4().hex[:16],  # Else the tokenizer is pickled to hash it: slow.
        desc="Tokenising",
    )


def _longest_first(rows: Dataset) -> tuple[Dataset, tuple[int, ...]]:
    """Returns the rows sorted, and the place of each in the rows that were given."""
    lengths = [_length(ids) for ids in rows["input_ids"]]
    places = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    return rows.select(places), tuple(places)


def _length(ids: Sequence[Any]) -> int:
    return max(len(choice) for choice in ids) if ids and isinstance(ids[0], list) else len(ids)
