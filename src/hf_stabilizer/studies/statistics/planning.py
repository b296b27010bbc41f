"""With this budget, how many runs to start, when to stop, how many to keep? By simulation.

For every (t, f, p) with t f + p (1 - f) <= B: draw t of the finished runs with replacement, rank
them by their best score so far at f, keep the best p, and take the best of these at the end. What
that gives on average is held against B runs trained to the end:

    relative error reduction = (E[early] - E[plain]) / (perfect - E[plain])
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hf_stabilizer.errors import ConfigurationError, DataError, check_whole
from hf_stabilizer.records import Run
from hf_stabilizer.studies.statistics.budgets import (
    STOP_AT,
    StudySettings,
    check_budget,
    settings_for_budget,
    startable,
)
from hf_stabilizer.studies.statistics.curves import Curves, curves_of, curves_to_plan_from
from hf_stabilizer.studies.statistics.intervals import Interval, percentile_interval
from hf_stabilizer.studies.statistics.simulation import simulate

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

MOST_KEPT = 12
"""How many values of p are tried for a budget."""


@dataclass(frozen=True)
class Option:
    """One way to spend the budget."""

    settings: StudySettings
    """t, f and p; f = 1 stops none."""
    cost: float
    """t f + p (1 - f), in full runs."""
    expected: float
    """Expected score of the run chosen in the end, in units of the metric."""
    gain: float
    """Expected score minus that of plain runs at the same budget, positive is better."""
    error_reduction: float | None
    """That gain over the error that plain runs leave; None where they leave none."""
    interval: Interval
    """95 % interval of the gain, the finished runs resampled."""
    best_share: float
    """Share of these resamples in which no other option is better, in [0, 1]."""
    expected_interval: Interval | None = None
    """95 % interval of the expected score, from the same resamples."""
    error_interval: Interval | None = None
    """`interval` over the error that plain runs leave; None where they leave none."""


@dataclass(frozen=True)
class Plan:
    """What a budget buys, as far as the finished runs can tell."""

    budget: float
    """B, in full runs."""
    plain: Option
    """All runs to the end, none stopped."""
    recommended: Option
    """The option with the best expected score."""
    options: tuple[Option, ...]
    """Every option looked at, `plain` among them, the best first."""
    runs: int
    """Number of finished runs behind it."""
    left_out: int = 0
    """Runs left out (`Curves.left_out`)."""
    dodge: Option | None = None
    """What `settings_for_budget` buys; None where the runs do not tell of it: no score by f = 0.25,
    or a budget that starts no more runs than it keeps."""

    @property
    def is_sure(self) -> bool:
        """Whether the interval of the recommended option's gain lies above zero."""
        return self.recommended.interval.low > 0

    @property
    def runs_needed(self) -> int | None:
        """About how many finished runs would make it sure, if the gain stays what it seems.

        The interval shrinks with the square root of their number: n ((gain - low) / gain)^2. None
        where nothing is gained.
        """
        gain, low = self.recommended.gain, self.recommended.interval.low
        return math.ceil(self.runs * ((gain - low) / gain) ** 2) if gain > 0 else None


def plan_study(
    runs: Curves | Iterable[Run],
    budget: float,
    *,
    fractions: Sequence[float] | None = None,
    on_test: bool = False,
    perfect: float | None = None,
    most_runs: int | None = None,
    simulations: int = 1_000,
    resamples: int = 200,
    seed: int = 0,
) -> Plan:
    """Returns the best t, f and p for a budget, from finished runs' own curves.

    Draws are with replacement, so no plan can find a better run than the best one that is there:
    gains from starting many more runs than were finished are understated. Among many options the
    best looks a little better than it is; its interval and `best_share` say how far to trust it.

    Args:
        runs: Finished runs of one recipe, or their `Curves`; three or more.
        budget: B, in full runs, 1 or more.
        fractions: Fractions f to try; None: those of the curves (`curves_of`), and 0.25.
        on_test: Choose by validation, but count the test score; only with runs.
        perfect: The score without error, for the relative error reduction; None: 1 where greater
            is better, 0 where smaller is.
        most_runs: The largest t to try, from the plain runs of the budget up; None: as many as the
            budget bears, which may be many times those that were finished.
        simulations: Simulated studies for each option.
        resamples: Resamples of the finished runs behind the intervals.
        seed: Seed of the simulation; the same seed gives the same plan.

    Raises:
        ConfigurationError: A number outside its range.
        DataError: Too few runs, runs of several recipes, no early evaluations, or scores beyond
            the perfect one.

    Example:
        >>> def run(k):
        ...     end = 0.5 + (k * 7 % 20) / 50
        ...     curve = ((5, {"f1": end - 0.3 + (k % 3) / 50}), (20, {"f1": end}))
        ...     return Run("plain", {}, "finished", "", curve, "f1", best_score=end, steps=20)
        >>> plan = plan_study([run(k) for k in range(20)], 6)
        >>> plan.plain.settings, plan.recommended.settings.stop_at
        (StudySettings(runs=6, stop_at=1.0, keep=6), 0.25)
        >>> plan.recommended.gain > 0, plan.is_sure
        (True, True)

    Source: Dodge et al. 2020, arXiv 2002.06305, section 5; its figure of the relative error
    reduction over the budget is `error_reduction` of the recommended option for each budget.
    """
    check_budget(budget)
    check_whole(simulations, "from 1 up", name="simulations", least=1)
    check_whole(resamples, "from 2 up", name="resamples", least=2)
    if most_runs is not None:
        least = math.floor(budget + 1e-9)
        check_whole(most_runs, f"from {least} up, the plain runs", name="most_runs", least=least)
    curves = planning_curves(runs, fractions, on_test)
    sign = 1.0 if curves.greater_is_better else -1.0
    top = _perfect(curves, perfect)
    rule = _rule(curves, budget)
    settings = _options(curves.fractions, budget, most_runs)
    settings += [rule] if rule is not None and rule not in settings else []
    seen, spread = simulate(curves, settings, simulations, resamples, seed)
    options = _judged(settings, seen, spread, sign, top)
    return Plan(
        budget=float(budget),
        plain=next(option for option in options if option.settings.stop_at == 1.0),
        recommended=options[0],
        options=tuple(options),
        runs=len(curves.final),
        left_out=curves.left_out,
        dodge=next((option for option in options if option.settings == rule), None),
    )


def planning_curves(
    runs: Curves | Iterable[Run], fractions: Sequence[float] | None = None, on_test: bool = False
) -> Curves:
    """Returns the curves of runs at the fractions of their evaluations and at that of `dodge`.

    Raises:
        ConfigurationError: As in `curves_of`.
        DataError: As in `curves_of`, or fewer than three runs with a score.
    """
    if isinstance(runs, Curves):
        return curves_to_plan_from(runs, fractions, on_test)
    everything = list(runs)
    curves = curves_to_plan_from(everything, fractions, on_test)
    if fractions is not None or STOP_AT in curves.fractions or curves.fractions[0] > STOP_AT:
        return curves
    return curves_of(everything, fractions=[*curves.fractions, STOP_AT], on_test=on_test)


def plan_over_budgets(
    runs: Curves | Iterable[Run],
    budgets: Sequence[float],
    *,
    perfect: float | None = None,
    most_runs: int | None = None,
    simulations: int = 1_000,
    resamples: int = 200,
    seed: int = 0,
) -> tuple[Plan, ...]:
    """Returns a plan for each budget: the paper's figure of error reduction over the budget.

    Args:
        runs: As in `plan_study`; give `Curves` to choose fractions or the test score.
        budgets: In full runs, each 1 or more.
        perfect: As in `plan_study`.
        most_runs: As in `plan_study`; where a budget bears more plain runs, these are the limit.
        simulations: As in `plan_study`.
        resamples: As in `plan_study`.
        seed: As in `plan_study`.

    Raises:
        ConfigurationError: As in `plan_study`.
        DataError: As in `plan_study`.

    Example:
        >>> def run(k):
        ...     end = 0.5 + (k * 7 % 20) / 50
        ...     curve = ((5, {"f1": end - 0.3 + (k % 3) / 50}), (20, {"f1": end}))
        ...     return Run("plain", {}, "finished", "", curve, "f1", best_score=end, steps=20)
        >>> plans = plan_over_budgets([run(k) for k in range(20)], (2, 4, 8), simulations=200)
        >>> [plan.recommended.error_reduction > 0.1 for plan in plans]
        [True, True, True]
    """
    curves = planning_curves(runs)
    return tuple(
        plan_study(
            curves,
            budget,
            perfect=perfect,
            most_runs=None if most_runs is None else max(most_runs, math.floor(budget + 1e-9)),
            simulations=simulations,
            resamples=resamples,
            seed=seed,
        )
        for budget in budgets
    )


def _perfect(curves: Curves, perfect: float | None) -> float:
    sign = 1.0 if curves.greater_is_better else -1.0
    top = (1.0 if curves.greater_is_better else 0.0) if perfect is None else float(perfect)
    if not math.isfinite(top):
        raise ConfigurationError(f"perfect must be a finite score, got {top!r}")
    best = sign * float(np.nanmax(sign * curves.result))
    if sign * best > sign * top:
        raise DataError(
            f"perfect must not be beaten by a score, got {top!r} with a best score of {best!r}; "
            "name the score without error, e.g. 100 for percentages"
        )
    return top


def _rule(curves: Curves, budget: float) -> StudySettings | None:
    """What the rule of `dodge` buys, if the curves tell of it."""
    rule = settings_for_budget(budget)
    is_known = rule.stop_at in curves.fractions and rule.runs > rule.keep
    return rule if is_known else None


def _options(
    fractions: Sequence[float], budget: float, most_runs: int | None
) -> list[StudySettings]:
    """Plain runs first, then every f with some p and as many starts as the budget bears."""
    whole = math.floor(budget + 1e-9)
    kept = np.unique(np.linspace(1, whole, min(whole, MOST_KEPT)).round().astype(int)).tolist()
    found = [StudySettings(whole, 1.0, whole)]
    for fraction in fractions:
        for p in kept:
            t = startable(budget, fraction, p)
            t = t if most_runs is None else min(t, most_runs)
            if t > p:
                found.append(StudySettings(t, fraction, p))
    return found


def _judged(
    settings: Sequence[StudySettings], seen: Floats, spread: Floats, sign: float, top: float
) -> list[Option]:
    gains, spread_gains = seen - seen[0], spread - spread[:, :1]  # plain runs stand first
    hair = 1e-12 * max(1.0, float(np.abs(spread).max()))
    best = (spread >= spread.max(axis=1, keepdims=True) - hair).mean(axis=0)
    error = sign * top - float(seen[0])
    found = []
    for column, one in enumerate(settings):
        ends = percentile_interval(spread_gains[:, column])
        assert ends is not None  # every resample has a finite score
        found.append(
            Option(
                settings=one,
                cost=one.cost,
                expected=sign * float(seen[column]),
                gain=float(gains[column]),
                error_reduction=float(gains[column]) / error if error > hair else None,
                interval=ends,
                best_share=float(best[column]),
                expected_interval=_turned(percentile_interval(spread[:, column]), sign),
                error_interval=Interval(ends.low / error, ends.high / error)
                if error > hair
                else None,
            )
        )
    # Where nothing is gained, stopping none comes first.
    return sorted(found, key=lambda o: (-round(o.gain, 12), -o.settings.stop_at, o.settings.runs))


def _turned(interval: Interval | None, sign: float) -> Interval | None:
    """The interval in units of the metric."""
    if interval is None or sign > 0:
        return interval
    return Interval(-interval.high, -interval.low)
