"""Which rows must no student learn from a teacher? What is like the rows that judge it.

A label that a teacher gives to a validation or test row, or to a near duplicate of one, tells the
student about the rows that judge it: such rows are kept out.

Importing this module imports neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

import pandas as pd

from hf_stabilizer.data.columns import require_columns
from hf_stabilizer.data.frames import frame_of
from hf_stabilizer.data.near_duplicates import near_duplicates, normalized

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_stabilizer.pseudo_labels.groups import HeldOutGroups

Rows: TypeAlias = "Dataset | pd.DataFrame"


@dataclass(frozen=True)
class Guarded:
    """What stands on both sides of the wall; texts as they were written."""

    held_out: tuple[str, ...] = ()
    """Texts of rows that judge: validation and test rows."""
    labelled: tuple[str, ...] = ()
    """Texts of rows whose true label students learn anyhow."""
    groups: HeldOutGroups | None = None
    """Groups of the rows that judge; None where rows have none."""


@dataclass(frozen=True)
class Sieved:
    """What was left out of the selected rows."""

    places: tuple[int, ...]
    """Places of the rows that are left, in order."""
    near_held_out: int = 0
    """Rows that are near duplicates of a held-out row."""
    labelled: int = 0
    """Rows whose text is that of a row with a true label."""


def texts_of(rows: Rows, columns: Sequence[str]) -> list[str]:
    """Returns the text of each row; of several columns, one after the other.

    Raises:
        DataError: A column is missing.

    Example:
        >>> texts_of(pd.DataFrame({"a": ["good"], "b": ["film"]}), ["a", "b"])
        ['good film']
    """
    frame = frame_of(rows, or_file=False)
    require_columns(frame, columns, key="text_columns", origin="the file of the rows")
    cells = [frame[name].fillna("").astype(str).tolist() for name in columns]
    return [" ".join(row) for row in zip(*cells, strict=True)]


def several(rows: Rows | Sequence[Rows] | None) -> list[Rows]:
    """Returns tables of rows, whether one, several or none were given."""
    if rows is None:
        return []
    if isinstance(rows, pd.DataFrame) or hasattr(rows, "column_names"):
        return [cast("Rows", rows)]
    return list(cast("Sequence[Rows]", rows))


def sieve(texts: Sequence[str], guarded: Guarded, *, similarity: float) -> Sieved:
    """Leaves out near duplicates of held-out rows, and rows whose true label is known.

    A row of which both is true counts as the first.

    Args:
        texts: Texts of the selected rows.
        guarded: Texts of the held-out and of the labelled rows.
        similarity: Least similarity of a near duplicate, in (0, 1], see `near_duplicates`.

    Example:
        >>> texts = ["A good film!", "a grim plot", "a warm score"]
        >>> sieve(texts, Guarded(("a good film",), ("A GRIM PLOT",)), similarity=0.8)
        Sieved(places=(2,), near_held_out=1, labelled=1)
    """
    near = {place for place, _, _ in near_duplicates(texts, guarded.held_out, threshold=similarity)}
    known = {normalized(text) for text in guarded.labelled}
    equal = {place for place, text in enumerate(texts) if normalized(text) in known} - near
    left = tuple(place for place in range(len(texts)) if place not in near | equal)
    return Sieved(left, len(near), len(equal))
