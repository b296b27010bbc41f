"""What was said about every row, and what was true? Read from the files of a cross-validation.

folds.parquet          label and texts of each row
out_of_fold.parquet    what the models said that had not learnt from it, runs averaged
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from hf_stabilizer.errors import StudyError
from hf_stabilizer.folds.record import FOLDS_FILE, CrossValidation

# Any in this module: labels of whatever kind the task has.
Kind = Literal["classes", "several", "numbers"]
PROBABILITY = "probability_"
PLACES = ("row", "source", "source_row", "fold", "label")
"""Columns of the file of folds that are no text."""


@dataclass(frozen=True)
class Answers:
    """Every row of the pool with its label, its prediction and its texts."""

    kind: Kind
    """One class (or choice) for each row, several, or a number."""
    names: tuple[str, ...]
    """The classes or choices; none for numbers."""
    rows: pd.DataFrame
    """`row`, `source`, `source_row`, `fold`, `label`, `prediction`, `probability_NAME`, `text`."""

    @classmethod
    def of(cls, found: CrossValidation) -> Answers:
        """Reads them from the folder of a cross-validation that is over.

        Raises:
            StudyError: A file is missing, or it lies in no folder.
        """
        table = found.out_of_fold.assign(text=_texts(found))
        columns = list(map(str, table.columns))
        names = [c.removeprefix(PROBABILITY) for c in columns if c.startswith(PROBABILITY)]
        if not names:
            return cls("numbers", (), table)
        is_list = table["label"].map(lambda label: isinstance(label, (list, np.ndarray))).any()
        if not is_list:
            return cls("classes", tuple(names), table)
        lists = {key: table[key].map(list) for key in ("label", "prediction")}
        return cls("several", tuple(names), table.assign(**lists))

    @property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """One for each class or choice. Shape (rows, classes)."""
        columns = [PROBABILITY + name for name in self.names]
        return np.asarray(self.rows[columns], dtype=np.float64)

    @property
    def truth(self) -> npt.NDArray[np.float64]:
        """A 1 for each class that is right, else 0. Shape (rows, classes)."""
        labels = [x if isinstance(x, list) else [x] for x in self.rows["label"]]
        return np.array([[float(name in one) for name in self.names] for one in labels])

    @property
    def residuals(self) -> npt.NDArray[np.float64]:
        """Prediction minus label of each row; of numbers only. Shape (rows,)."""
        return np.asarray(self.rows["prediction"] - self.rows["label"], dtype=np.float64)

    def counts(self, fold: str) -> dict[str, int]:
        """Returns how many rows of a fold have each class; empty for numbers."""
        of_fold = np.asarray(self.rows["fold"] == fold)
        if not self.names:
            return {}
        return dict(zip(self.names, self.truth[of_fold].sum(axis=0).astype(int), strict=True))


def in_words(label: Any) -> str:
    """Returns a label or a prediction as text.

    Example:
        >>> in_words(["x", "y"]), in_words([]), in_words(0.123456), in_words("fresh")
        ('x, y', 'none', '0.1235', 'fresh')
    """
    if isinstance(label, list):
        return ", ".join(map(str, label)) or "none"
    return f"{label:.4g}" if isinstance(label, float) else str(label)


def shortened(text: str, longest: int) -> str:
    """Returns a text on one line, cut where it is too long.

    Example:
        >>> print(shortened("a  film", 9), shortened("abcdef", 4))
        a film abc…
    """
    line = " ".join(text.split())
    return (
        line if len(line) <= longest else f"{line[: longest - 1].rstrip()}\N{HORIZONTAL ELLIPSIS}"
    )


def _texts(found: CrossValidation) -> Sequence[str]:
    """The texts and choices of each row, in one."""
    path = (found.folder or Path()) / FOLDS_FILE
    if not path.is_file():
        raise StudyError(f"there is no {FOLDS_FILE} in {str(found.folder)!r}; restore it")
    rows = pd.read_parquet(path)
    columns = [name for name in rows if name not in PLACES]
    return [
        " | ".join(str(cell) for cell in row)
        for row in rows[columns].itertuples(index=False, name=None)
    ]
