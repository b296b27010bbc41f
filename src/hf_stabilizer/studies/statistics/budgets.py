"""What does a study cost, and what can a budget buy? Start many, stop early, continue some.

    cost = (t f + p (1 - f)) s

t runs go to the fraction f of their s steps, the best p go on to the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hf_stabilizer.errors import ConfigurationError, check_whole
from hf_stabilizer.records import Run
from hf_stabilizer.studies.statistics.checks import check_share

STOP_AT = 0.25
"""f of the recipe `dodge`; the paper found .2 to .3 good."""
MOST_BUDGET = 10_000
"""Full runs per recipe up to which a budget is believed; a simulation holds every run of it."""


@dataclass(frozen=True)
class StudySettings:
    """How a study stops early: t, f and p."""

    runs: int
    """t: runs started per recipe."""
    stop_at: float
    """f: fraction of training after which the others are stopped, in (0, 1]."""
    keep: int
    """p: runs that go on to the end."""

    @property
    def cost(self) -> float:
        """What it costs, in full runs."""
        return cost(self.runs, self.stop_at, self.keep)


@dataclass(frozen=True)
class Spent:
    """What the runs of a recipe have cost so far."""

    steps: int
    """Optimizer steps taken, those of stopped and failed runs included."""
    seconds: float
    """Their wall-clock seconds, summed over runs."""
    full_runs: float
    """The steps in units of one whole run."""
    saved: float
    """Share of the steps that running every one of them to the end would have cost, in [0, 1]."""


def cost(runs: int, stop_at: float = 1.0, keep: int | None = None, steps: float = 1.0) -> float:
    """Returns (t f + p (1 - f)) s: the cost of a study that stops early, per recipe.

    Args:
        runs: t, runs started.
        stop_at: f, fraction of training after which the others are stopped, in (0, 1]; 1 stops
            none.
        keep: p, runs that go on, in [1, t]; None: all of them.
        steps: s, what one whole run costs, in any unit: optimizer steps, seconds; 1: full runs.

    Raises:
        ConfigurationError: A number outside its range.

    Example:
        >>> cost(25, 0.25, 5), cost(10)
        (10.0, 10.0)
        >>> cost(20, 0.25, 5, steps=48)
        420.0

    Source: Dodge et al. 2020, arXiv 2002.06305, section 5.
    """
    check_whole(runs, "of runs from 1 up", name="runs", least=1)
    check_share(stop_at, name="stop_at", upto_one=True)
    kept = runs if keep is None else keep
    check_whole(kept, f"of runs in [1, {runs}], the runs started", name="keep", least=1, most=runs)
    return (runs * stop_at + kept * (1 - stop_at)) * steps


def settings_for_budget(budget: float, *, stop_at: float = STOP_AT) -> StudySettings:
    """Returns what a budget of full runs buys by the rule of the recipe `dodge`.

    p = B/2 and t = (B - p (1 - f)) / f, both rounded down, p at least 1.

    Args:
        budget: B, in full runs, 1 or more.
        stop_at: f, fraction of training after which the others are stopped, in (0, 1); the paper
            found .2 to .3 good. Its best value for one's own data: `plan_study`.

    Raises:
        ConfigurationError: A number outside its range.

    Example:
        >>> settings_for_budget(10)
        StudySettings(runs=25, stop_at=0.25, keep=5)
        >>> settings_for_budget(1)
        StudySettings(runs=1, stop_at=0.25, keep=1)

    Source: Dodge et al. 2020, arXiv 2002.06305, section 5.
    """
    check_budget(budget)
    check_share(stop_at, name="stop_at")
    keep = max(1, math.floor(budget / 2))
    return StudySettings(startable(budget, stop_at, keep), stop_at, keep)


def runs_to_keep(runs: int, stop_at: float) -> int:
    """Returns p = round(t f / (1 + f)), at least 1: how many of t runs the rule of `dodge` keeps.

    With p = B/2 the rule starts t = (B - B (1 - f) / 2) / f = B (1 + f) / (2 f) runs, so that
    p = B/2 = t f / (1 + f).

    Example:
        >>> runs_to_keep(25, 0.25), runs_to_keep(20, 0.25), runs_to_keep(2, 0.25)
        (5, 4, 1)

    Source: Dodge et al. 2020, arXiv 2002.06305, section 5.
    """
    return max(1, round(runs * stop_at / (1 + stop_at)))


def startable(budget: float, stop_at: float, keep: int) -> int:
    """Returns t = floor((B - p (1 - f)) / f), the runs that a budget starts beside those kept.

    Example:
        >>> startable(10, 0.25, 5)
        25
    """
    # A hair is added as (10 - 5 * .9) / .1 falls just short of 55.
    return math.floor((budget - keep * (1 - stop_at)) / stop_at + 1e-9)


def spent(runs: Iterable[Run], *, stop_at: float | None = None) -> Spent:
    """Returns what the runs of one recipe have cost, and what stopping some of them saved.

    A whole run is as long as the longest among them; where some were stopped and none has finished,
    as long as the step of the stop over the fraction `stop_at`, if that is given.

    Example:
        >>> whole = Run("plain", {}, "finished", steps=40, seconds=9.0)
        >>> stopped = Run("plain", {}, "stopped", steps=10, seconds=2.0)
        >>> spent([whole, stopped, stopped])
        Spent(steps=60, seconds=13.0, full_runs=1.5, saved=0.5)
    """
    everything = list(runs)
    steps = sum(run.steps for run in everything)
    longest = _whole_steps(everything, stop_at)
    return Spent(
        steps=steps,
        seconds=float(sum(run.seconds for run in everything)),
        full_runs=steps / longest if longest else 0.0,
        saved=1 - steps / (longest * len(everything)) if longest else 0.0,
    )


def _whole_steps(runs: Sequence[Run], stop_at: float | None) -> int:
    """Steps of a whole run."""
    longest = max((run.steps for run in runs), default=0)
    cut = [run.steps for run in runs if run.status == "stopped"]
    if stop_at is None or not cut or any(run.status == "finished" for run in runs):
        return longest
    return max(longest, round(max(cut) / stop_at))


def check_budget(budget: float) -> None:
    """Raises ConfigurationError unless the budget is a finite number of full runs from 1 up.

    Example:
        >>> check_budget(0.5)
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: budget must be a number of full runs, 1 or more,
        got 0.5
    """
    if not (math.isfinite(budget) and budget >= 1):
        raise ConfigurationError(f"budget must be a number of full runs, 1 or more, got {budget!r}")
    if budget > MOST_BUDGET:
        raise ConfigurationError(
            f"budget must be at most {MOST_BUDGET} full runs per recipe, got {budget!r}; it counts "
            "runs, not seconds or steps"
        )
