"""What do the training rows look like? A bounded look, which draws no random number.

A table of rows (`datasets.Dataset`) has its label column read whole. Rows of any other kind are
read one by one: some hundreds of them, always the same, and no longer than half a second.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from hf_stabilizer.random_state import remember_random_state

# Any in this module: whatever people hand to the Trainer as a dataset.
LABELS = ("labels", "label", "label_ids")
SAMPLE = 500
SECONDS = 0.5

_Labels: TypeAlias = tuple[Tensor | None, int, bool]
"""The labels in one dimension, how many each row has, and whether they are those of all rows."""
_NO_LABELS: _Labels = (None, 1, False)


@dataclass(frozen=True)
class Rows:
    """What a look at the training rows showed."""

    count: int
    """Rows in the training data."""
    columns: tuple[str, ...] = ()
    """Names of what a row holds; empty where rows are no mappings or cannot be read."""
    labels: Tensor | None = None
    """Labels of the rows that were read, ignored ones (-100) left out, in one dimension."""
    are_all_labels: bool = False
    """Whether these are the labels of all rows."""
    label_width: int = 1
    """Numbers in one row's label; 0 where rows differ in it."""
    longest: int = 0
    """Tokens of the longest row that was read; 0 where rows hold no `input_ids`."""
    largest_token: int = -1
    """The largest token id that was read; -1 where rows hold no `input_ids`."""
    problem: str = ""
    """Why a row could not be read; empty where all could."""


def look_at(dataset: Any, label_names: Sequence[str] | None) -> Rows | None:
    """Returns what the rows look like, None for data without a length.

    Args:
        dataset: What the Trainer takes as `train_dataset`.
        label_names: Names of the columns that may hold labels; None: those of transformers.
    """
    try:
        count = len(dataset)
    except TypeError:
        return None
    restore = remember_random_state()  # rows may be augmented at random while they are read
    try:
        sample = list(_sample(dataset, count))
    except Exception as error:  # whatever a stranger's rows raise
        return Rows(count, problem=f"{type(error).__name__}: {error}")
    finally:
        restore()
    if not sample or not isinstance(sample[0], Mapping):
        return Rows(count)
    columns = tuple(map(str, sample[0]))
    try:
        return _read(dataset, count, columns, sample, label_names or LABELS)
    except (TypeError, ValueError, RuntimeError, KeyError):  # texts, pictures, numbers of any shape
        return Rows(count, columns)


def _read(
    dataset: Any,
    count: int,
    columns: tuple[str, ...],
    sample: Sequence[Mapping[str, Any]],
    label_names: Sequence[str],
) -> Rows:
    named = [name for name in label_names if name in columns]
    labels, width, is_all = _labels(dataset, count, sample, named[0]) if named else _NO_LABELS
    texts = [text for row in sample if "input_ids" in row for text in _texts(row["input_ids"])]
    return Rows(
        count=count,
        columns=columns,
        labels=None if labels is None else labels[labels != -100],
        are_all_labels=is_all,
        label_width=width,
        longest=max((text.numel() for text in texts), default=0),
        largest_token=max((int(text.max()) for text in texts if text.numel()), default=-1),
    )


def _texts(tokens: Any) -> list[Tensor]:
    """The one text of a row, or its choices, which may differ in length."""
    is_nested = isinstance(tokens, list) and tokens and isinstance(tokens[0], list)
    texts = tokens if is_nested else [tokens]
    tensors = [torch.as_tensor(text) for text in texts]
    return [part for tensor in tensors for part in (tensor if tensor.ndim > 1 else [tensor])]


def _sample(dataset: Any, count: int) -> Iterator[Any]:
    end = time.perf_counter() + SECONDS
    # Neither every n-th row nor the first ones: classes often take turns, or are sorted.
    for place in random.Random(0).sample(range(count), min(count, SAMPLE)):
        yield dataset[place]
        if time.perf_counter() > end:
            return


def _labels(dataset: Any, count: int, sample: Sequence[Mapping[str, Any]], name: str) -> _Labels:
    if name in (getattr(dataset, "column_names", None) or ()):
        return (*_flat(dataset[name][:]), True)
    found = [row[name] for row in sample if row.get(name) is not None]
    return (*_flat(found), len(found) == count)


def _flat(labels: Iterable[Any]) -> tuple[Tensor | None, int]:
    """All labels in one dimension, and how many each row has (0: they differ)."""
    values = list(labels)
    if not values:
        return None, 1
    if all(isinstance(value, int | float) for value in values):
        return torch.tensor(values), 1  # a hundred times as fast as one by one
    tensors = [torch.as_tensor(value).reshape(-1) for value in values]
    widths = {tensor.numel() for tensor in tensors}
    return torch.cat(tensors), widths.pop() if len(widths) == 1 else 0
