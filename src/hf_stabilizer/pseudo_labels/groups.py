"""Of which group are the rows that judge? Unlabelled rows of the same groups teach no student.

`group_column` keeps rows of one author, film or patient on one side of every split: a model that
knows others of the group knows more than it will of new ones. A pseudo-labelled row of such a group
would bring it back to the other side.

Importing this module imports neither torch nor transformers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from hf_stabilizer.pseudo_labels.held_out import Rows

# Any in this module: cells of the user's table.
_WHOLE = re.compile(r"(-?)0*(\d+)(?:\.0+)?")


@dataclass(frozen=True)
class HeldOutGroups:
    """The groups of the rows that judge."""

    column: str
    """The column of the groups."""
    names: frozenset[str]
    """Their names, as `group_name` has them."""
    nameless: int = 0
    """Rows that judge whose group is not known."""

    @classmethod
    def of(cls, column: str, tables: Iterable[Rows]) -> HeldOutGroups:
        """Returns the groups of these rows.

        Args:
            column: The column of the groups.
            tables: Rows that judge; in a table without the column the groups are not known.

        Example:
            >>> rows = pd.DataFrame({"film": ["Alien", None]})
            >>> HeldOutGroups.of("film", [rows, pd.DataFrame({"text": ["good"]})])
            HeldOutGroups(column='film', names=frozenset({'Alien'}), nameless=2)
        """
        found = [name for rows in tables for name in _names(rows, column)]
        return cls(column, frozenset(filter(None, found)), sum(not name for name in found))

    def hold(self, rows: pd.DataFrame) -> list[bool]:
        """Returns whether each row is of one of the groups; False where its group is not known."""
        return [name in self.names for name in _names(rows, self.column)]

    def cautions(self, unlabelled: pd.DataFrame) -> list[str]:
        """Returns why rows of these groups may be pseudo-labelled all the same, a sentence each."""
        found = []
        if self.nameless:
            found.append(
                f"{self.nameless} rows that judge have no group in column {self.column!r}, so that "
                "unlabelled rows of their groups cannot be kept out"
            )
        if self.column not in unlabelled.columns:
            found.append(
                f"the unlabelled rows have no column {self.column!r}, so that those of a group "
                "that judges cannot be kept out, and scores may be too good; add it to their file"
            )
        elif unknown := _names(unlabelled, self.column).count(""):
            found.append(
                f"{unknown} of {len(unlabelled)} unlabelled rows have no group in column "
                f"{self.column!r}, and may be of one that judges"
            )
        return found


def _names(rows: Rows, column: str) -> list[str]:
    columns = rows.columns if isinstance(rows, pd.DataFrame) else rows.column_names
    return [group_name(cell) for cell in rows[column]] if column in columns else [""] * len(rows)


def group_name(cell: Any) -> str:
    """Returns the name of a group whatever type its column has in this file; "" for none.

    An empty cell elsewhere in a column makes pandas read 7 as 7.0, and names of letters elsewhere
    leave the zeros of 007.

    Example:
        >>> group_name(7.0), group_name("007"), group_name(" Alien 3"), group_name(float("nan"))
        ('7', '7', 'Alien 3', '')
    """
    if cell is None or cell is pd.NA or (isinstance(cell, float) and cell != cell):
        return ""
    word = str(cell).strip()
    whole = _WHOLE.fullmatch(word)
    return whole[1] + whole[2] if whole else word
