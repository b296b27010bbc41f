"""What came of an ensemble? The members beside it, on the same rows, and an honest sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from hf_stabilizer.ensembling.judging import how_sure
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.statistics import Interval

# Any in this module: plain values for JSON.
WHICH = {
    "test": "test rows",
    "validation": "validation rows",
    "file": "rows of the file",
    "out-of-fold": "out-of-fold rows",
}


@dataclass(frozen=True)
class EnsembleMember:
    """One member beside the others."""

    name: str
    """Its folder, or recipe and seeds."""
    score: float | None
    """On the rows that judge; None without labels."""
    validation_score: float | None
    """Its best on the validation rows of its run, as its record has it."""
    weight: float | None = None
    """Its share of the mean; None where there is none, as with ranks."""


@dataclass(frozen=True)
class Ensemble:
    """What several models say together, beside what each says."""

    members: tuple[EnsembleMember, ...]
    """In the order given."""
    combine: str
    """How they were combined."""
    part: str
    """Which rows judge: "test", "validation", "file" or "out-of-fold"."""
    metric: str
    """Name of the score."""
    greater_is_better: bool
    """Whether a larger value of it is the better one."""
    score: float | None
    """Of the ensemble; None without labels."""
    difference: float | None
    """Its score minus that of the best member on the same rows."""
    interval: Interval | None
    """Of the difference, 95 %, from resampled rows."""
    predictions: pd.DataFrame = field(compare=False)
    """Per row: label where known, `prediction`, `probability_<label>`."""
    notes: tuple[str, ...] = ()
    """What to keep in mind, a sentence each."""
    folder: Path | None = None
    """Where it was written; None for nowhere."""

    @property
    def best(self) -> EnsembleMember | None:
        """The member with the best score on these very rows, which only hindsight knows."""
        return _best(self.members, "score", self.greater_is_better)

    @property
    def chosen(self) -> EnsembleMember | None:
        """The member that its validation score would choose."""
        return _best(self.members, "validation_score", self.greater_is_better)

    @property
    def verdict(self) -> str:
        """One honest sentence: what was won over the best member, and how sure that is."""
        rows, number = WHICH[self.part], formats.number
        if self.score is None or self.difference is None or self.best is None:
            return f"The {rows} have no labels, so nothing was judged."
        decimals = formats.decimals_for([self.score])
        decimals = formats.decimals_to_tell(self.difference, decimals)
        best = number(self.best.score, decimals)
        said = (
            f"{self.metric} of the ensemble of {len(self.members)} on {len(self.predictions)} "
            f"{rows} is {number(self.score, decimals)}, that of its best member there {best}: "
            f"{number(self.difference, decimals, signed=True)}"
        )
        if len(self.members) == 1:
            return f"{said}; an ensemble of one is its member."
        sure = how_sure(
            self.difference,
            self.interval,
            greater_is_better=self.greater_is_better,
            decimals=decimals,
        )
        return f"{said}{sure}."

    def to_records(self) -> dict[str, Any]:
        """Returns everything but the predictions, in plain values."""
        return {
            "members": [asdict(member) for member in self.members],
            **{name: getattr(self, name) for name in ("combine", "part", "metric", "score")},
            "rows": len(self.predictions),
            "difference": self.difference,
            "interval": list(self.interval) if self.interval is not None else None,
            "verdict": self.verdict,
            "notes": list(self.notes),
        }


def _best(members: Sequence[EnsembleMember], which: str, greater: bool) -> EnsembleMember | None:
    scored = [member for member in members if getattr(member, which) is not None]
    pick = max if greater else min
    return pick(scored, key=lambda member: getattr(member, which)) if scored else None
