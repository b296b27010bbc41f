"""How good did each run look at each point of its training? Best score so far, for planning.

A study that stops early ranks its runs by the best score so far at the fraction f of training;
these are the numbers that it would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hf_stabilizer.errors import ConfigurationError, DataError
from hf_stabilizer.records import Run
from hf_stabilizer.studies.statistics.checks import check_share
from hf_stabilizer.studies.statistics.looks import score_curve
from hf_stabilizer.studies.statistics.summaries import final_score

Floats = npt.NDArray[np.float64]
MOST_FRACTIONS = 20
FEWEST_RUNS = 3


@dataclass(frozen=True)
class Curves:
    """The best validation score so far of n whole runs at K fractions of training."""

    fractions: tuple[float, ...]
    """Fractions of training in (0, 1), ascending."""
    so_far: Floats
    """Best score up to and with each fraction: (n, K); NaN before a run's first evaluation."""
    final: Floats
    """Best validation score of the whole run, which decides in the end: (n,); NaN for a run
    without any score, which loses to every other."""
    result: Floats
    """The score that counts for the run so chosen: (n,), the same as `final` without test rows."""
    greater_is_better: bool
    """Direction of the metric."""
    left_out: int = 0
    """Runs left out: stopped early, so that their end is not known."""
    without_score: int = 0
    """Runs among the n that raised before any evaluation."""


def curves_of(
    runs: Iterable[Run], *, fractions: Sequence[float] | None = None, on_test: bool = False
) -> Curves:
    """Returns the curves of one recipe's finished runs.

    A run that failed is in them, as a study would have started it as well: with its scores as far
    as there are any, and as the loser of every comparison where there are none.

    Args:
        runs: Runs of one recipe with their evaluations. A whole run is as long as the longest.
        fractions: Fractions of training in (0, 1) to look at; None: those at which runs were
            evaluated, thinned to 20 at most.
        on_test: Let the test score be what counts; runs without one are left out.

    Raises:
        ConfigurationError: A fraction outside (0, 1).
        DataError: Runs of several recipes, or none that has a score before its end.

    Example:
        >>> def run(*scores):
        ...     curve = tuple((5 * k, {"f1": s}) for k, s in enumerate(scores, 1))
        ...     best = max(scores)
        ...     return Run("plain", {}, "finished", "", curve, "f1", best_score=best, steps=20)
        >>> found = curves_of([run(0.5, 0.7, 0.6, 0.6), run(0.4, 0.6, 0.7, 0.8)])
        >>> found.fractions, found.so_far.tolist(), found.final.tolist()
        ((0.25, 0.5, 0.75), [[0.5, 0.7, 0.7], [0.4, 0.6, 0.7]], [0.7, 0.8])
    """
    everything = list(runs)
    names = sorted({run.recipe for run in everything})
    if len(names) > 1:
        raise DataError(
            f"plan from the runs of one recipe, got those of {', '.join(names)}; their curves "
            "differ, so name one"
        )
    usable = [run for run in everything if _is_usable(run, on_test)]
    if on_test and everything and not usable:
        raise DataError(
            f"none of the {len(everything)} runs went to its end with a test score, so a plan "
            "cannot count those; leave on_test out"
        )
    whole = max((_length(run) for run in usable), default=0)
    # A run that tells no step, as one of which results alone are left, was looked at at its end.
    points = [
        score_curve(run) if _length(run) else [(whole, score) for _, score in score_curve(run)]
        for run in usable
    ]
    chosen = _fractions(points, whole) if fractions is None else sorted(set(fractions))
    for fraction in chosen:
        check_share(fraction, name="fractions")
    if not chosen or not any(points):
        raise DataError(
            f"none of the {len(everything)} runs was evaluated before its end, so nothing can be "
            "said about stopping early; plan from runs with several evaluations each"
        )
    better = max if all(run.greater_is_better for run in everything) else min
    ends = [math.ceil(fraction * whole) for fraction in chosen]
    so_far = [
        [better((s for at, s in p if at <= end), default=math.nan) for end in ends] for p in points
    ]
    final = np.array([better((s for _, s in p), default=math.nan) for p in points], dtype=float)
    result = np.array([run.test_score for run in usable], dtype=float) if on_test else final
    return Curves(
        fractions=tuple(float(fraction) for fraction in chosen),
        so_far=np.array(so_far, dtype=float),
        final=final,
        result=result,
        greater_is_better=better is max,
        left_out=len(everything) - len(usable),
        without_score=int(np.isnan(final).sum()),
    )


def curves_to_plan_from(
    runs: Curves | Iterable[Run], fractions: Sequence[float] | None, on_test: bool
) -> Curves:
    """Returns the curves that are there, or those of runs, three or more.

    Raises:
        ConfigurationError: An option of `curves_of` beside curves that are there.
        DataError: Fewer than three runs with a score, or as in `curves_of`.

    Example:
        >>> curves_to_plan_from([], None, False)
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.DataError: none of the 0 runs was evaluated before its end, so nothing
        can be said about stopping early; plan from runs with several evaluations each
    """
    if isinstance(runs, Curves):
        if fractions is not None or on_test:
            raise ConfigurationError(
                "fractions and on_test belong to curves_of; give them there, or give runs"
            )
        curves = runs
    else:
        curves = curves_of(runs, fractions=fractions, on_test=on_test)
    scored = int(np.isfinite(curves.final).sum())
    if scored < FEWEST_RUNS:
        raise DataError(
            f"a plan needs {FEWEST_RUNS} whole runs with a score or more, got {scored}; with fewer "
            "use the rule p = B / 2 at f = 0.25"
        )
    return curves


def losing(values: Floats, curves: Curves) -> Floats:
    """Returns scores turned so that greater is better; a run without one loses to every other.

    Example:
        >>> nothing = np.array([])
        >>> losing(np.array([0.5, np.nan]), Curves((), nothing, nothing, nothing, False)).tolist()
        [-0.5, -inf]
    """
    turned = values if curves.greater_is_better else -values
    found: Floats = np.where(np.isnan(turned), -np.inf, turned)
    return found


def _is_usable(run: Run, on_test: bool) -> bool:
    if run.status == "stopped":
        return False
    return not on_test or (run.test_score is not None and final_score(run) is not None)


def _length(run: Run) -> int:
    """Optimizer steps of a run, as far as they are known."""
    return max([run.steps, *(int(step) for step, _ in run.evaluations)])


def _fractions(points: Sequence[Sequence[tuple[int, float]]], whole: int) -> list[float]:
    """Where runs were evaluated before the end, thinned evenly."""
    found = sorted({at / whole for point in points for at, _ in point if 0 < at < whole})
    if len(found) <= MOST_FRACTIONS:
        return found
    places = np.linspace(0, len(found) - 1, MOST_FRACTIONS).round().astype(int)
    return [found[place] for place in dict.fromkeys(places.tolist())]
