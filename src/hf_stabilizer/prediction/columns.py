"""Which columns of these rows does a trained model read, and has every row what it takes?

    named by the caller, else as the run was trained, else a sure guess

A run writes down the columns that it read, those that it guessed too, so that rows of another file
are read in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from hf_stabilizer.data import DataArguments
from hf_stabilizer.data.columns import TEXT_ALONE, Columns, choose_columns, require_columns
from hf_stabilizer.data.lists import read_lists
from hf_stabilizer.data.reading import Table
from hf_stabilizer.errors import DataError
from hf_stabilizer.member import Member

# Any in this module: cells of the user's table.
NO_LABEL = "_no_label"
"""Stands for the column of the label, which rows to predict need not have."""
ORIGIN = "the file of the rows"
"""What messages call the table."""


def columns_of(
    member: Member,
    frame: pd.DataFrame,
    text_columns: Sequence[str] | None = None,
    choice_columns: Sequence[str] | None = None,
) -> Columns:
    """Settles which columns the model reads: those named, those of its run, or a sure guess.

    Raises:
        DataError: A column is missing, or a guess is not sure.
    """
    texts = list(text_columns or member.settled.get("text_columns") or ())
    choices = list(choice_columns or member.settled.get("choice_columns") or ())
    arguments = DataArguments(
        text_columns=texts or None,
        choice_columns=choices or None,
        label_column=None if member.task in TEXT_ALONE else _label(member, frame, texts),
    )
    columns = choose_columns(frame, arguments, task=member.task)
    for key, needed, named in (
        ("text_columns", columns.texts, text_columns),
        ("choice_columns", columns.choices, choice_columns),
    ):
        by = key if named or not member.settled.get(key) else f"{key}, as {member.name!r} has them"
        require_columns(frame, needed, key=by, origin=ORIGIN)
    return columns


def checked_texts(frame: pd.DataFrame, column: str) -> list[str]:
    """Returns the texts of a column.

    Raises:
        DataError: A row has none.
    """
    cells = frame[column]
    texts = cells.astype(str)
    empty = (cells.isna() | (texts.str.strip() == "")).to_numpy()
    if empty.any():
        raise DataError(
            f"{empty.sum()} of {len(frame)} rows have no text in column {column!r} (the first is "
            f"row {int(empty.argmax()) + 1}); remove them"
        )
    return [str(text) for text in texts]


def checked_words(frame: pd.DataFrame, column: str) -> list[list[str]]:
    """Returns the words of each row of a column of lists.

    Raises:
        DataError: A row has no list of words, or an empty one.

    Example:
        >>> checked_words(pd.DataFrame({"tokens": [["New", "York"], '["is"]']}), "tokens")
        [['New', 'York'], ['is']]
    """
    rows = read_lists(Table(frame, {}, ORIGIN), column, of="tokens")
    return [[str(word) for word in row] for row in rows]


def checked_cells(member: Member, frame: pd.DataFrame, column: str) -> list[Any]:
    """Returns what the model reads of a column: texts, or lists of words for tags.

    Raises:
        DataError: A row has nothing there.
    """
    of_words = member.task == "token-classification"
    return list((checked_words if of_words else checked_texts)(frame, column))


def _label(member: Member, frame: pd.DataFrame, texts: Sequence[str]) -> str:
    """Returns a column that is not to be taken for the text; where that is known, none."""
    if texts:
        return NO_LABEL
    return member.settled.get("label_column") or _usual_label(frame, member.task) or NO_LABEL


def _usual_label(frame: pd.DataFrame, task: str) -> str | None:
    """The column that would be the label, so that it is not taken for the text."""
    try:
        names = [str(name) for name in frame.columns]
        texts = DataArguments(text_columns=names[:1])
        return choose_columns(frame, texts, task=task).label if len(names) > 1 else None
    except DataError:
        return None
