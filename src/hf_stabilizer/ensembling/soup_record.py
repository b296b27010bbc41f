"""What came of a soup? Its members beside it, on the rows that chose and on those that judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hf_stabilizer.ensembling.judging import how_sure
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.statistics import Interval

# Any in this module: plain values for JSON.


@dataclass(frozen=True)
class SoupMember:
    """One model that a soup was made of, or could have been."""

    name: str
    """Its folder, or recipe and seeds."""
    score: float
    """On the validation rows."""
    is_in: bool
    """Whether it is in the soup."""


@dataclass(frozen=True)
class Soup:
    """One model whose weights are the mean of several, beside the best of them."""

    kind: str
    """ "greedy" or "uniform"."""
    members: tuple[SoupMember, ...]
    """Best first, by the validation rows."""
    metric: str
    """Name of the score."""
    greater_is_better: bool
    """Whether a larger value of it is the better one."""
    score: float
    """Of the soup on the validation rows, which chose it."""
    test_score: float | None = None
    """Of the soup on the test rows; None without any."""
    best_test_score: float | None = None
    """Of the best member by validation on the same rows."""
    interval: Interval | None = None
    """Of the difference on the test rows, 95 %, from resampled rows."""
    notes: tuple[str, ...] = ()
    """What was left out, a sentence each."""
    folder: Path = field(default=Path(), compare=False)
    """Where the model lies: `from_pretrained` loads it."""

    @property
    def best(self) -> SoupMember:
        """The best member by the validation rows."""
        return self.members[0]

    @property
    def difference(self) -> float | None:
        """Test score of the soup minus that of its best member."""
        if self.test_score is None or self.best_test_score is None:
            return None
        return self.test_score - self.best_test_score

    @property
    def verdict(self) -> str:
        """One honest sentence: what the soup won over its best member, and how sure that is."""
        used = sum(member.is_in for member in self.members)
        number, decimals = formats.number, formats.decimals_for([self.score])
        decimals = formats.decimals_to_tell(self.difference, decimals)
        said = (
            f"The {self.kind} soup of {used} of {len(self.members)} models has {self.metric} "
            f"{number(self.score, decimals)} on the validation rows, its best member "
            f"{number(self.best.score, decimals)}"
        )
        if self.difference is None:
            return f"{said}; there are no test rows to judge it."
        if used == 1 and self.difference == 0:
            return f"{said}; it is that member."
        judged = (
            f"on the test rows {number(self.test_score, decimals)} and "
            f"{number(self.best_test_score, decimals)}: "
            f"{number(self.difference, decimals, signed=True)}"
        )
        sure = how_sure(
            self.difference,
            self.interval,
            greater_is_better=self.greater_is_better,
            decimals=decimals,
        )
        return f"{said}; {judged}{sure}."

    def to_records(self) -> dict[str, Any]:
        """Returns everything but the folder, in plain values."""
        values = asdict(self)
        del values["folder"]
        interval = None if self.interval is None else list(self.interval)
        return {**values, "interval": interval, "verdict": self.verdict}

    @classmethod
    def from_records(cls, outcome: Mapping[str, Any], folder: Path) -> Soup:
        """Returns what `to_records` wrote."""
        values = {k: v for k, v in outcome.items() if k in cls.__dataclass_fields__}
        members = tuple(SoupMember(**member) for member in values["members"])
        interval = None if values["interval"] is None else Interval(*values["interval"])
        more = {"members": members, "interval": interval, "notes": tuple(values["notes"])}
        return cls(**{**values, **more, "folder": folder})
