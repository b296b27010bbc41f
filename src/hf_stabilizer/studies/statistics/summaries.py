"""What do the runs of one recipe say together? One record for each recipe.

Failed runs are the point, so none is dropped in silence. A collapsed run keeps its score in every
mean and spread; a run without a score cannot be averaged, and is counted and shown instead. Runs
that a study stopped early have no final score: they are counted, never averaged. Whether they would
have failed is not known, so they are no part of the failed-run rate:

    failed-run rate = failed / ended           ended = runs - stopped
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hf_stabilizer.records import Run
from hf_stabilizer.studies.early_stopping.choosing import lost_when_stopped
from hf_stabilizer.studies.statistics.intervals import (
    Interval,
    bootstrap_interval,
    wilson_interval,
)
from hf_stabilizer.studies.statistics.shared_seeds import shared_seeds
from hf_stabilizer.studies.statistics.spread import (
    interquartile_range,
    median_absolute_deviation,
    sample_std,
)


@dataclass(frozen=True)
class RecipeSummary:
    """What the runs of one recipe say together. Scores are None where there are too few."""

    recipe: str
    """Name of the recipe."""
    runs: int
    """Runs recorded."""
    scored: int
    """Runs with a final score; the six numbers that follow are over these."""
    mean: float | None
    """Mean score."""
    std: float | None
    """Sample standard deviation, from two scores on."""
    median: float | None
    """Median score."""
    worst: float | None
    """The worst score: the smallest, or the largest where smaller is better."""
    best: float | None
    """The best score."""
    interval: Interval | None
    """95 % BCa bootstrap interval of the mean, from three scores on."""
    failed: int
    """Runs that raised or collapsed; a collapsed run keeps its score."""
    failed_rate: float
    """Share of failed runs among those that ended, `failed / ended`, in [0, 1]; where runs were
    stopped early it is not that of runs at random: those that went on were chosen, and those that
    failed before the stop count where sound stopped ones do not, so it may be too high."""
    failed_interval: Interval
    """95 % Wilson interval of that share."""
    stopped: int
    """Runs that the study stopped early; they have no final score."""
    seconds: float
    """Mean wall-clock time of a run in seconds, failed and stopped runs included."""
    mad: float | None = None
    """Median absolute deviation times 1.4826, from two scores on: a standard deviation that a few
    lost runs do not move."""
    iqr: float | None = None
    """Interquartile range, from two scores on."""
    lost_when_stopped: int = 0
    """Those of the stopped runs that had collapsed by then; not among the failed ones."""

    @property
    def ended(self) -> int:
        """Runs that the study did not stop: carried to the end, or failed on the way."""
        return self.runs - self.stopped


def final_score(run: Run) -> float | None:
    """Returns the score of a run that may be averaged: finite, and not of a run stopped early."""
    if run.status == "stopped" or run.score is None or not math.isfinite(run.score):
        return None
    return float(run.score)


def summary_rows(runs: Iterable[Run], recipes: Sequence[str]) -> list[RecipeSummary]:
    """Returns one summary per recipe, in the order given, also for a recipe without runs.

    Example:
        >>> run = Run("plain", {"head_seed": 1}, "finished", best_score=0.7, seconds=9.0)
        >>> row, = summary_rows([run], ["plain"])
        >>> row.mean, row.std, row.failed, row.seconds
        (0.7, None, 0, 9.0)
    """
    everything = tuple(runs)
    return [_summary(name, [r for r in everything if r.recipe == name]) for name in recipes]


def _summary(recipe: str, runs: Sequence[Run]) -> RecipeSummary:
    greater_is_better = all(run.greater_is_better for run in runs)
    scores = sorted(
        (score for run in runs if (score := final_score(run)) is not None),
        reverse=not greater_is_better,
    )
    failed = sum(run.status == "failed" for run in runs)
    stopped = [run for run in runs if run.status == "stopped"]
    ended = len(runs) - len(stopped)
    return RecipeSummary(
        recipe=recipe,
        runs=len(runs),
        scored=len(scores),
        mean=float(np.mean(scores)) if scores else None,
        std=sample_std(scores),
        median=float(np.median(scores)) if scores else None,
        worst=scores[0] if scores else None,
        best=scores[-1] if scores else None,
        interval=bootstrap_interval(_independent(runs)),
        failed=failed,
        failed_rate=failed / ended if ended else 0.0,
        failed_interval=wilson_interval(failed, ended),
        stopped=len(stopped),
        seconds=float(np.mean([run.seconds for run in runs])) if runs else 0.0,
        mad=median_absolute_deviation(scores),
        iqr=interquartile_range(scores),
        lost_when_stopped=sum(bool(lost_when_stopped(run)) for run in stopped),
    )


def _independent(runs: Sequence[Run]) -> list[float]:
    """Scores that may be drawn again one by one: of runs in a grid of seeds its units."""
    scored = [run for run in runs if final_score(run) is not None]
    scores = [score for run in scored if (score := final_score(run)) is not None]
    seeds = [run.seeds for run in scored]
    told = {tuple(sorted(one.items())) for one in seeds}
    grid = shared_seeds(seeds) if len(told) == len(seeds) > 1 else None
    return scores if grid is None else grid.of(scores)
