"""How many runs, stopped where, and how many go on? As asked, and else by the rule of `dodge`.

    cost per recipe in full runs = t f + p (1 - f)        Dodge et al. 2020, section 5
    the rule for a budget of B full runs:  p = B / 2,  t = (B - p (1 - f)) / f,  f = 0.25

t runs are trained to the fraction f of their steps, the best p of them to the end. What is left
open follows from the rule: B cancels out of p = t f / (1 + f). Imports no torch.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from numbers import Real

from hf_stabilizer.errors import ConfigurationError, check_whole
from hf_stabilizer.studies.seeds.seed_grid import SeedGrid, grid_runs
from hf_stabilizer.studies.statistics import runs_to_keep, settings_for_budget
from hf_stabilizer.studies.statistics.budgets import STOP_AT

RUNS = 6
"""Runs per recipe where nothing is said: the fewest pairs that can show p < .05."""
LOOKS = 10
"""Evaluations per epoch of a study that stops early, where nothing says when to evaluate."""
SAY_WHEN = ("evaluations_per_epoch", "eval_strategy", "eval_steps")
"""The configuration keys that say when to evaluate."""


@dataclass(frozen=True)
class Stopping:
    """Where runs are halted, and how many go on."""

    stop_at: float
    """f: fraction of each run's optimizer steps, in (0, 1)."""
    keep: int
    """p: runs of each recipe that go on to the end."""
    filled_in: tuple[str, ...] = field(default=(), compare=False)
    """What the rule set, as nothing was said of it: "keep=4"."""


@dataclass(frozen=True)
class Extent:
    """How many runs a study has, and how it stops early."""

    runs: int
    """t: runs per recipe."""
    stopping: Stopping | None
    """None: all go to the end."""


def read_extent(
    *,
    runs: int | None = None,
    stop_at: float | None = None,
    keep: int | None = None,
    budget: float | None = None,
    usual: int = RUNS,
    first_seed: int = 1,
    grid: SeedGrid | None = None,
) -> Extent:
    """Returns how many runs there are and how they stop early, what is left open filled in.

    Any of `stop_at`, `keep` and `budget` asks for early stopping. `stop_at` left open is 0.25,
    `keep` is round(t f / (1 + f)), at least 1: the p for which the t runs are what `dodge` starts.

    Args:
        runs: t, 1 or more; None: the cells of the grid, what the budget buys, or `usual`.
        stop_at: f, fraction of each run's optimizer steps, in (0, 1).
        keep: p, in [1, runs].
        budget: B, in full runs per recipe, 1 or more; it sets `runs` and `keep`.
        usual: t where nothing says it.
        first_seed: Seed of the first run, in [0, 2^32).
        grid: Seeds that vary by themselves, as `grid_runs` takes them.

    Raises:
        ConfigurationError: A number outside its range, or `runs` or `keep` beside a budget.

    Example:
        >>> read_extent(runs=20, stop_at=0.25)
        Extent(runs=20, stopping=Stopping(stop_at=0.25, keep=4, filled_in=('keep=4',)))
        >>> read_extent(budget=10) == Extent(25, Stopping(0.25, 5))
        True
        >>> read_extent()
        Extent(runs=6, stopping=None)

    Source: Dodge et al. 2020, arXiv 2002.06305, section 5.
    """
    if budget is not None:
        return _bought(budget, runs=runs, stop_at=stop_at, keep=keep)
    if grid is not None:
        runs = grid_runs(runs=runs, first_seed=first_seed, **grid)
    started = usual if runs is None else runs
    check_whole(started, "of runs per recipe from 1 up", name="runs", least=1)
    if stop_at is None and keep is None:
        return Extent(started, None)
    fraction = _fraction(STOP_AT if stop_at is None else stop_at)
    kept = runs_to_keep(started, fraction) if keep is None else keep
    wanted = f"of runs in [1, {started}], the runs started"
    check_whole(kept, wanted, name="keep", least=1, most=started)
    filled_in = [f"stop_at={fraction:g}"] if stop_at is None else []
    filled_in += [f"keep={kept}"] if keep is None else []
    return Extent(started, Stopping(fraction, int(kept), tuple(filled_in)))


def _bought(budget: float, *, runs: int | None, stop_at: float | None, keep: int | None) -> Extent:
    _check_number(budget)
    for name, value in (("runs", runs), ("keep", keep)):
        if value is not None:
            raise ConfigurationError(
                f"a budget of {budget:g} says how many runs there are, and {name} {value} says so "
                "too; leave one of the two out"
            )
    found = settings_for_budget(budget, stop_at=_fraction(STOP_AT if stop_at is None else stop_at))
    filled_in = [f"runs={found.runs}", f"keep={found.keep}"]
    filled_in += [f"stop_at={found.stop_at:g}"] if stop_at is None else []
    return Extent(found.runs, Stopping(found.stop_at, found.keep, tuple(filled_in)))


def _check_number(budget: object) -> None:
    if isinstance(budget, bool) or not isinstance(budget, Real):
        raise ConfigurationError(
            f"budget must be a number of full runs per recipe, 1 or more, got {budget!r}"
        )


def _fraction(stop_at: float) -> float:
    is_number = isinstance(stop_at, int | float) and not isinstance(stop_at, bool)
    if not is_number or not 0 < stop_at < 1:
        raise ConfigurationError(
            f"stop_at must be a fraction of the run in (0, 1), got {stop_at!r}; 0.2 to 0.3 is good"
        )
    return float(stop_at)


def says_rule(filled_in: Sequence[str]) -> str:
    """Returns what the rule set, as a sentence behind another; empty where it set nothing.

    Example:
        >>> says_rule(("keep=4",))
        ' Set by the rule of dodge: keep=4.'
    """
    return f" Set by the rule of dodge: {', '.join(filled_in)}." if filled_in else ""


def says_when(given: Container[str]) -> bool:
    """Returns whether keys that were given say when to evaluate.

    Example:
        >>> says_when(frozenset({"eval_steps", "seed"})), says_when(frozenset({"seed"}))
        (True, False)
    """
    return any(key in given for key in SAY_WHEN)
