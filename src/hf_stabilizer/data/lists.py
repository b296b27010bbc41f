"""What list does this cell hold? Tokens and their tags, as tables and text files spell them."""

from __future__ import annotations

import ast
import json
from typing import Any

import numpy as np

from hf_stabilizer.data.columns import quoted
from hf_stabilizer.data.reading import Table
from hf_stabilizer.errors import DataError

# Any in this module: cells of the user's table.


def read_lists(table: Table, column: str, *, of: str) -> list[tuple[Any, ...]]:
    """Returns the list in each cell of a column: a list, or one written as JSON or Python has it.

    Args:
        table: The rows.
        column: Name of the column.
        of: What the lists hold, for messages.

    Raises:
        DataError: A cell holds no list, or an empty one, or one with an empty element.

    Example:
        >>> import pandas as pd
        >>> rows = pd.DataFrame({"tokens": [["New", "York"], '["is"]', "['big']"]})
        >>> read_lists(Table(rows, {}, "train_file 'a.json'"), "tokens", of="tokens")
        [('New', 'York'), ('is',), ('big',)]
    """
    lists = [_as_list(cell) for cell in table.frame[column]]
    for row, found in enumerate(lists):
        if found is None or any(item is None or item != item for item in found):
            raise DataError(
                f"column {column!r} of {table.origin} holds {table.frame[column].iloc[row]!r:.80} "
                f'in row {row + 1}, which is not a list of {of}; write ["a", "b"]'
            )
        if not found:
            raise DataError(
                f"column {column!r} of {table.origin} holds an empty list of {of} in row "
                f"{row + 1}; remove such rows, for instance with filter: "
                f'"{quoted(column)}.str.len() > 0"'
            )
    return [found for found in lists if found is not None]


def _as_list(cell: Any) -> tuple[Any, ...] | None:
    if isinstance(cell, str):
        cell = _spelled(cell)
    return tuple(cell) if isinstance(cell, list | tuple | np.ndarray) else None


def _spelled(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    return None
