"""Which unlabelled rows may be labelled at all? Those of no group that judges, and each text once.

    unlabelled --groups--> of no group that judges --texts--> the first row of each text

Both come before anything is drawn, judged or ranked: what stands in a row of a group that judges
changes nothing, and a text that is repeated fills no more than one place of `top_k`.

Importing this module imports neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from hf_stabilizer.data.near_duplicates import normalized
from hf_stabilizer.errors import DataError
from hf_stabilizer.pseudo_labels.groups import HeldOutGroups
from hf_stabilizer.pseudo_labels.held_out import texts_of


@dataclass(frozen=True)
class Usable:
    """The rows that may be labelled, and how many may not."""

    places: tuple[int, ...]
    """Places of the rows, in order."""
    of_groups: int = 0
    """Rows that are left out as others of their group judge."""
    repeated: int = 0
    """Rows that are left out as an earlier one has the same text, once normalised."""

    def __str__(self) -> str:
        """Says in words what was left out; "" if nothing was."""
        told = {
            f"{self.of_groups} as others of their group judge": self.of_groups,
            f"{self.repeated} as an earlier one has their text": self.repeated,
        }
        rows = len(self.places) + self.of_groups + self.repeated
        words = " and ".join(word for word, count in told.items() if count)
        return f"{self.of_groups + self.repeated} of {rows} were left out, {words}" if words else ""


def usable_rows(
    rows: pd.DataFrame, columns: Sequence[str], groups: HeldOutGroups | None = None
) -> Usable:
    """Returns which rows may be labelled.

    Args:
        rows: The unlabelled rows.
        columns: What is the text of a row.
        groups: The groups that judge; None where rows have none.

    Raises:
        DataError: None may.

    Example:
        >>> rows = pd.DataFrame({"text": ["good", "Good!", "bad", "bad"], "film": [*"aabc"]})
        >>> usable_rows(rows, ["text"], HeldOutGroups("film", frozenset("b")))
        Usable(places=(0, 3), of_groups=1, repeated=1)
    """
    judging = [False] * len(rows) if groups is None else groups.hold(rows)
    first: dict[str, int] = {}
    for place, text in enumerate(texts_of(rows, columns)):
        if not judging[place]:
            first.setdefault(normalized(text), place)
    if not first:
        assert groups is not None  # else the first row is the first of its text
        raise DataError(
            f"all {len(rows)} unlabelled rows are of groups that judge, by column "
            f"{groups.column!r}; give rows of other groups"
        )
    of_groups = sum(judging)
    return Usable(tuple(first.values()), of_groups, len(rows) - of_groups - len(first))
