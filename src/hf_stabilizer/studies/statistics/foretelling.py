"""Does the ranking early in training foretell the ranking at the end?

The rank correlation of the best score so far at each fraction with the final best score: where it
is high, stopping the rest there loses little; where it levels off, stopping later buys nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from hf_stabilizer.records import Run
from hf_stabilizer.studies.statistics.curves import Curves, curves_to_plan_from, losing
from hf_stabilizer.studies.statistics.intervals import Interval, percentile_interval

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class EarlyRank:
    """How well the ranking at a fraction of training foretells that at the end."""

    fraction: float
    """Fraction of training."""
    spearman: float | None
    """Spearman's correlation with the final best score; None where either ties all runs."""
    kendall: float | None
    """Kendall's tau-b with it."""
    interval: Interval | None
    """95 % interval of Spearman's correlation, the runs resampled; None below four runs."""


def early_ranks(
    runs: Curves | Iterable[Run], *, resamples: int = 500, seed: int = 0
) -> tuple[EarlyRank, ...]:
    """Returns how well the ranking at each fraction foretells the ranking at the end.

    Best score so far against the final best score; a run without a score yet ranks last. Where the
    correlation levels off, stopping later buys nothing.

    Args:
        runs: Finished runs of one recipe, or their `Curves`; three or more.
        resamples: Resamples of the runs behind the intervals.
        seed: Seed of the resampling.

    Raises:
        DataError: As in `plan_study`.

    Example:
        >>> def run(end):
        ...     curve = ((5, {"f1": end / 2}), (20, {"f1": end}))
        ...     return Run("plain", {}, "finished", "", curve, "f1", steps=20)
        >>> found = early_ranks([run(k / 9) for k in range(9)])
        >>> [(rank.fraction, rank.spearman, rank.kendall) for rank in found]
        [(0.25, 1.0, 1.0)]

    Source: Dodge et al. 2020, arXiv 2002.06305, section 5.
    """
    curves = curves_to_plan_from(runs, None, False)
    early, final = losing(curves.so_far, curves), losing(curves.final, curves)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(final), size=(resamples, len(final)))
    found = []
    for place, fraction in enumerate(curves.fractions):
        column = early[:, place]
        spearman = _spearman(column[None, :], final[None, :])[0]
        known = len(final) > 3 and math.isfinite(spearman)
        resampled = _spearman(column[drawn], final[drawn]) if known else np.array([])
        found.append(
            EarlyRank(
                fraction=fraction,
                spearman=float(spearman) if math.isfinite(spearman) else None,
                kendall=_kendall(column, final),
                interval=percentile_interval(resampled),
            )
        )
    return tuple(found)


def _ranks(values: Floats) -> Floats:
    ranks: Floats = stats.rankdata(values, axis=1)
    return ranks


def _spearman(first: Floats, second: Floats) -> Floats:
    """Spearman's correlation in each row, NaN where one of the two ties all."""
    a, b = _ranks(first), _ranks(second)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    norm = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    found: Floats = np.divide(
        (a * b).sum(axis=1), norm, out=np.full(len(a), np.nan), where=norm > 0
    )
    return found


def _kendall(first: Floats, second: Floats) -> float | None:
    """Tau-b; minus infinity stands for a run without a score and compares as the least."""
    a = np.sign(_ranks(first[None, :]).T - _ranks(first[None, :]))
    b = np.sign(_ranks(second[None, :]).T - _ranks(second[None, :]))
    norm = math.sqrt(float((a**2).sum()) * float((b**2).sum()))
    return float((a * b).sum()) / norm if norm else None
