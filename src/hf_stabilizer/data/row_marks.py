"""Which rows are these, whatever file they came from? A short text that other rows do not have.

A procedure that goes on compares it with the one in its record: a file that has changed meanwhile
would let it hold results on some rows against results on others.

Imports neither torch nor transformers.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from datasets import Dataset


def mark_of_rows(*tables: Dataset | pd.DataFrame | None) -> str:
    """Returns a mark that other rows, or the same in another order or division, do not have.

    What counts is how cells read as text, in all columns, and the columns' names; where the rows
    were read from, and the labels of a table's index, do not count.

    Args:
        tables: One table or several, for instance training, validation and test rows; None for
            one that is not there.

    Returns:
        How many rows there are in all, and the first 16 hexadecimal digits of a SHA-256.

    Example:
        >>> rows = pd.DataFrame({"text": ["a", "b"]})
        >>> mark_of_rows(rows) == mark_of_rows(rows.copy()), mark_of_rows(rows[::-1])[:2]
        (True, '2-')
        >>> mark_of_rows(rows) == mark_of_rows(rows[::-1])
        False
        >>> mark_of_rows(rows, None) == mark_of_rows(rows)
        False
    """
    digest = hashlib.sha256()
    for table in tables:
        digest.update(b"none" if table is None else _digest(table))
    count = sum(len(table) for table in tables if table is not None)
    return f"{count}-{digest.hexdigest()[:16]}"


def _digest(table: Dataset | pd.DataFrame) -> bytes:
    # By way of Python's own lists: an array of pandas would be written short.
    frame = table if isinstance(table, pd.DataFrame) else pd.DataFrame(table.to_dict())
    words = frame.map(_word)
    hashes = pd.util.hash_pandas_object(words, index=False).to_numpy()
    names = "\0".join(map(str, frame.columns)).encode()
    return hashlib.sha256(names + hashes.tobytes()).digest()


def _word(cell: object) -> str:
    plain = cell.tolist() if hasattr(cell, "tolist") else cell
    return str(plain)
