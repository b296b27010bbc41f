"""What are the rows of a task as token ids? One function per task, from raw to tokenised rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hf_stabilizer.errors import ConfigurationError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_stabilizer.data import Splits

# Any in this module: batches of raw and of tokenised rows.
Rows = Mapping[str, list[Any]]
Encoder = Callable[[Rows], dict[str, list[Any]]]
NO_LABEL = -100
"""What transformers' losses leave out."""


def row_encoder(
    task: str,
    splits: Splits,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    max_target_length: int,
) -> Encoder:
    """Returns the function that turns a batch of raw rows into a batch of tokenised rows.

    Args:
        task: One of `hf_stabilizer.tasks.TASKS`.
        splits: Columns and classes of the rows.
        tokenizer: Makes the tokens.
        max_length: Tokens per row at most.
        max_target_length: Tokens per target at most.

    Raises:
        ConfigurationError: The tokenizer cannot do what the task needs.
    """
    if task == "token-classification":
        return _token_encoder(splits, tokenizer, max_length)
    if task == "causal-lm":
        return _with_own_tokens(_text_encoder(splits, tokenizer, max_length))
    if task == "masked-lm":
        _check_mask(tokenizer)
        return _text_encoder(splits, tokenizer, max_length)
    if task == "seq2seq":
        return _target_encoder(splits, tokenizer, max_length, max_target_length)
    if task == "multiple-choice":
        return _with_labels(splits, _choice_encoder(splits, tokenizer, max_length))
    return _with_labels(splits, _text_encoder(splits, tokenizer, max_length))


def _with_labels(splits: Splits, texts: Encoder) -> Encoder:
    label_of = _label_encoder(splits)

    def encode(rows: Rows) -> dict[str, list[Any]]:
        soft = rows.get(splits.soft_label_column or "")  # In the training rows alone.
        labels = soft or [label_of(label) for label in rows[str(splits.label_column)]]
        return {**texts(rows), "labels": labels}

    return encode


def _label_encoder(splits: Splits) -> Callable[[Any], Any]:
    if splits.label_names is None:
        return lambda label: label
    ids = {name: place for place, name in enumerate(splits.label_names)}
    if splits.multi_label:  # The loss of several labels compares floats.
        return lambda labels: [float(name in labels) for name in ids]
    return lambda label: ids[label]


def _text_encoder(splits: Splits, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoder:
    def encode(rows: Rows) -> dict[str, list[Any]]:
        columns = [list(rows[column]) for column in splits.text_columns]
        return dict(tokenizer(*columns, truncation=True, max_length=max_length))

    return encode


def _choice_encoder(splits: Splits, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoder:
    first, *second = splits.text_columns
    number = len(splits.choice_columns)

    def encode(rows: Rows) -> dict[str, list[Any]]:
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


def _token_encoder(splits: Splits, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoder:
    if not tokenizer.is_fast:
        raise ConfigurationError(
            f"token-classification needs a fast tokenizer, which tells what sub-tokens make up a "
            f"word, and {type(tokenizer).__name__} is none; choose another model"
        )
    (column,) = splits.text_columns
    ids = {name: place for place, name in enumerate(splits.label_names or ())}

    def encode(rows: Rows) -> dict[str, list[Any]]:
        words = [list(tokens) for tokens in rows[column]]
        found = tokenizer(words, is_split_into_words=True, truncation=True, max_length=max_length)
        labels = [
            align_labels(found.word_ids(row), [ids[tag] for tag in tags])
            for row, tags in enumerate(rows[str(splits.label_column)])
        ]
        return {**found, "labels": labels}

    return encode


def align_labels(word_ids: list[int | None], labels: list[int]) -> list[int]:
    """Returns one label per sub-token: that of its word on the first of a word, elsewhere -100.

    Args:
        word_ids: The word of each sub-token, None for special ones.
        labels: The label of each word.

    Example:
        >>> align_labels([None, 0, 0, 1, None], [5, 7])
        [-100, 5, -100, 7, -100]
    """
    before = [None, *word_ids[:-1]]
    return [
        NO_LABEL if word is None or word == last else labels[word]
        for word, last in zip(word_ids, before, strict=True)
    ]


def _with_own_tokens(texts: Encoder) -> Encoder:
    def encode(rows: Rows) -> dict[str, list[Any]]:
        found = texts(rows)
        # Of the row itself, not of the padded batch: padding may be the token that ends a text.
        return {**found, "labels": [list(ids) for ids in found["input_ids"]]}

    return encode


def _check_mask(tokenizer: PreTrainedTokenizerBase) -> None:
    if tokenizer.mask_token is None:
        raise ConfigurationError(
            "task='masked-lm' needs a tokenizer with a mask token, and that of this model has "
            "none; choose another model, or set task: causal-lm"
        )


def _target_encoder(
    splits: Splits, tokenizer: PreTrainedTokenizerBase, max_length: int, max_target_length: int
) -> Encoder:
    texts = _text_encoder(splits, tokenizer, max_length)

    def encode(rows: Rows) -> dict[str, list[Any]]:
        targets = tokenizer(
            text_target=list(rows[str(splits.label_column)]),
            truncation=True,
            max_length=max_target_length,
        )
        return {**texts(rows), "labels": targets["input_ids"]}

    return encode
