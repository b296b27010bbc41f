"""What does this label say? From the cells of a column to class names, numbers or choices."""

from __future__ import annotations

import ast
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hf_stabilizer.data.columns import TEXT_ALONE, Columns, quoted
from hf_stabilizer.data.lists import read_lists
from hf_stabilizer.data.reading import Table
from hf_stabilizer.errors import DataError

# Any in this module: cells of the user's table.


def missing_labels(table: Table, column: str) -> pd.Series[bool]:
    """Tells which rows have no label: an empty cell, or -1 where the numbers stand for names."""
    cells = table.frame[column]
    if column in table.class_names and pd.api.types.is_numeric_dtype(cells):
        return cells.isna() | (cells == -1)
    return cells.isna()


def read_labels(table: Table, columns: Columns, *, task: str) -> list[Any]:
    """Reads the label of every row.

    Returns:
        For text-classification a class name per row, or a list of them (multi label); for
        text-regression a float; for multiple-choice the index of the right choice; for
        token-classification a list of tags; for seq2seq the text to be written; where the text
        alone is learnt from None.

    Raises:
        DataError: A label is missing, or is not what the task needs.
    """
    if columns.label is None:
        return [None] * len(table.frame)
    missing = missing_labels(table, columns.label)
    if missing.any():
        raise DataError(
            f"{missing.sum()} of {len(missing)} rows of {table.origin} have no label in column "
            f"{columns.label!r} (the first is row {_row(missing.to_numpy())}); remove them, for "
            f'instance with filter: "{quoted(columns.label)}.notna()"'
        )
    return _READERS[task](table, columns)


def order_of_labels(labels: Iterable[str], declared: Sequence[str] | None) -> tuple[str, ...]:
    """Returns the distinct labels in the order of their ids: as declared, by number, or by name.

    Example:
        >>> order_of_labels(["10", "9", "9"], None), order_of_labels(["rotten", "fresh"], None)
        (('9', '10'), ('fresh', 'rotten'))
    """
    distinct = set(labels)
    if declared is not None:
        return tuple(name for name in declared if name in distinct)
    if all(re.fullmatch(r"-?\d+", name) for name in distinct):
        return tuple(sorted(distinct, key=lambda name: (int(name), name)))
    return tuple(sorted(distinct))


def strata_of(labels: Sequence[Any], *, task: str) -> list[str]:
    """Returns what a split is balanced over: the label; of several, the one rarest of all.

    Example:
        >>> strata_of([["a", "b"], ["a"], []], task="text-classification")
        ['b', 'a', '']
        >>> strata_of([0.5, 1.5], task="text-regression")
        ['', '']
    """
    if task in _NOT_STRATIFIED:
        return [""] * len(labels)
    if not isinstance(labels[0], list):
        return [str(label) for label in labels]
    frequency = Counter(name for row in labels for name in row)
    return [min(row, key=lambda name: (frequency[name], name), default="") for row in labels]


def _read_classes(table: Table, columns: Columns) -> list[Any]:
    column = str(columns.label)
    cells, names = table.frame[column], table.class_names.get(column)
    rows = cells.tolist()
    if all(isinstance(cell, str) and cell[:1] + cell[-1:] == "[]" for cell in rows):
        rows = [_spelled_list(cell, table, column) for cell in rows]
    if any(isinstance(cell, list | tuple | np.ndarray) for cell in rows):
        return [_class_list(cell, names, table, column) for cell in rows]
    if pd.api.types.is_float_dtype(cells) and (cells % 1 != 0).any():
        fraction = float(cells[cells % 1 != 0].iloc[0])
        raise DataError(
            f"label_column {columns.label!r} of {table.origin} holds fractions such as "
            f"{fraction!r}, which are no classes; set task: text-regression"
        )
    labels = [_class_name(cell, names) for cell in rows]
    if len(labels) > 2 and len(set(labels)) == len(labels):
        raise DataError(
            f"every row of {table.origin} has a label of its own in column {columns.label!r}; "
            "set label_column to a column of classes"
        )
    return labels


def _spelled_list(cell: str, table: Table, column: str) -> list[Any]:
    """Reads a list as CSV files hold it, e.g. `['joy', 'fear']`."""
    try:
        return list(ast.literal_eval(cell))
    except (ValueError, SyntaxError) as error:
        raise DataError(
            f"column {column!r} of {table.origin} holds {cell!r}, which is not a list of labels; "
            "write ['a', 'b']"
        ) from error


def _class_list(cell: Any, names: Sequence[str] | None, table: Table, column: str) -> list[str]:
    if not isinstance(cell, list | tuple | np.ndarray):
        raise DataError(
            f"column {column!r} of {table.origin} holds lists, and {cell!r}, which is none; write "
            "a list in every row, [] for a row without a label"
        )
    if any(label is None or label != label for label in cell):  # NaN differs from itself.
        raise DataError(
            f"column {column!r} of {table.origin} holds an empty label in {list(cell)}; leave it "
            "out of the list"
        )
    labels = [_class_name(label, names) for label in cell]
    if len(set(labels)) < len(labels):
        raise DataError(
            f"column {column!r} of {table.origin} holds {labels}, which names a label twice; list "
            "the labels that apply, not one 0 or 1 per label"
        )
    return labels


def _class_name(cell: Any, names: Sequence[str] | None) -> str:
    if names is not None and not isinstance(cell, str):
        return names[int(cell)]
    # An empty cell elsewhere in a column of whole numbers makes pandas read 1 as 1.0.
    is_whole = isinstance(cell, float) and cell.is_integer()
    return str(int(cell)) if is_whole else str(cell).strip()


def _read_numbers(table: Table, columns: Columns) -> list[float]:
    cells = table.frame[columns.label]
    numbers = pd.to_numeric(cells, errors="coerce").astype(float)
    wrong = ~np.isfinite(numbers.to_numpy())
    if wrong.any():
        raise DataError(
            f"label_column {columns.label!r} of {table.origin} holds {cells[wrong].iloc[0]!r} in "
            f"row {_row(wrong)}; text-regression needs finite numbers"
        )
    return [float(number) for number in numbers]


def _read_choices(table: Table, columns: Columns) -> list[int]:
    choices = table.frame[list(columns.choices)].astype(str).to_numpy().tolist()
    cells = [_class_name(cell, None) for cell in table.frame[columns.label]]
    pairs = list(zip(cells, choices, strict=True))
    # "3" among the choices 2, 3, 5 and 7 is no index where another label, 7, can only be a text.
    are_texts = any(_choice(cell, columns.choices, ()) is None for cell in cells) and all(
        texts.count(cell) == 1 for cell, texts in pairs
    )
    labels = [
        texts.index(cell) if are_texts else _choice(cell, columns.choices, texts)
        for cell, texts in pairs
    ]
    for row, label in enumerate(labels):
        if label is None:
            raise DataError(
                f"label_column {columns.label!r} of {table.origin} holds {cells[row]!r} in row "
                f"{row + 1}; it must be one of {', '.join(columns.choices)}, a letter from A, an "
                f"index from 0 to {len(columns.choices) - 1}, or the text of one choice"
            )
    return [label for label in labels if label is not None]


def _choice(cell: str, columns: Sequence[str], texts: Sequence[str]) -> int | None:
    """Returns the index that a label means; a column's name comes first, its text last."""
    letters = string.ascii_uppercase[: len(columns)]
    if cell in columns:
        return list(columns).index(cell)
    if cell.isdecimal() and int(cell) < len(columns):
        return int(cell)
    if len(cell) == 1 and cell.upper() in letters:
        return letters.index(cell.upper())
    if texts.count(cell) == 1:
        return texts.index(cell)
    return None


def _read_tags(table: Table, columns: Columns) -> list[list[str]]:
    column, (tokens,) = str(columns.label), columns.texts
    names = table.class_names.get(column)
    tags = read_lists(table, column, of="tags")
    counts = map(len, read_lists(table, tokens, of="tokens"))
    for row, (count, of_row) in enumerate(zip(counts, tags, strict=True)):
        if len(of_row) != count:
            raise DataError(
                f"row {row + 1} of {table.origin} has {count} tokens in column {tokens!r} and "
                f"{len(of_row)} tags in column {column!r}; each token needs one tag"
            )
    return [[_class_name(tag, names) for tag in of_row] for of_row in tags]


def _read_targets(table: Table, columns: Columns) -> list[str]:
    texts = table.frame[columns.label].astype(str)
    empty = (texts.str.strip() == "").to_numpy()
    if empty.any():
        raise DataError(
            f"{empty.sum()} of {len(empty)} rows of {table.origin} have no text in label_column "
            f"{columns.label!r} (the first is row {_row(empty)}); remove them, for instance with "
            f'filter: "{quoted(str(columns.label))}.str.strip().str.len() > 0"'
        )
    return [str(text) for text in texts]


def _no_labels(table: Table, columns: Columns) -> list[None]:
    return [None] * len(table.frame)


def _row(mask: npt.NDArray[np.bool_]) -> int:
    """The first row for which it is true, counted from 1 after header and filter."""
    return int(np.argmax(mask)) + 1


_READERS: dict[str, Callable[[Table, Columns], list[Any]]] = {
    "text-classification": _read_classes,
    "text-regression": _read_numbers,
    "multiple-choice": _read_choices,
    "token-classification": _read_tags,
    **dict.fromkeys(TEXT_ALONE, _no_labels),
    "seq2seq": _read_targets,
}
TASKS: tuple[str, ...] = tuple(_READERS)
_NOT_STRATIFIED = ("text-regression", "token-classification", "seq2seq", *TEXT_ALONE)
