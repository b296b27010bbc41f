"""Has every row its text? Texts as texts, tokens as tuples of them; none is empty."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hf_stabilizer.data.columns import Columns, quoted
from hf_stabilizer.data.lists import read_lists
from hf_stabilizer.data.reading import Table
from hf_stabilizer.errors import DataError


def clean_texts(table: Table, columns: Columns, *, task: str) -> pd.DataFrame:
    """Returns the rows with a text in each cell that the model reads, or a tuple of tokens.

    Raises:
        DataError: A cell is empty, or holds no list where tokens are wanted.
    """
    clean = _check_tokens if task == "token-classification" else _check_texts
    return clean(table, columns)


def _check_texts(table: Table, columns: Columns) -> pd.DataFrame:
    frame = table.frame.copy()
    missing = {}
    for column in (*columns.texts, *columns.choices):
        cells = frame[column]
        frame[column] = cells.astype(str)
        empty = cells.isna() | (frame[column].str.strip() == "")
        if empty.any():
            missing[column] = empty.to_numpy()
    if missing:
        rows = np.any(list(missing.values()), axis=0)  # (rows,)
        remedy = " and ".join(f"{quoted(column)}.str.strip().str.len() > 0" for column in missing)
        raise DataError(
            f"{rows.sum()} of {len(rows)} rows of {table.origin} have no text in column "
            f"{' or '.join(map(repr, missing))} (the first is row {rows.argmax() + 1}); remove "
            f'them, for instance with filter: "{remedy}"'
        )
    return frame


def _check_tokens(table: Table, columns: Columns) -> pd.DataFrame:
    """Returns the rows with a tuple of texts in each cell, which can be compared as a text can."""
    (column,) = columns.texts
    frame = table.frame.copy()
    frame[column] = pd.Series(
        [tuple(map(str, tokens)) for tokens in read_lists(table, column, of="tokens")],
        index=frame.index,
        dtype=object,
    )
    return frame
