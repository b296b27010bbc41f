"""How much too good is the best of n on validation? What is left of it on the test rows.

Of k runs the one with the best validation score is chosen. Its validation score was picked for
being high, its test score was not, so

    optimism(k) = (E[validation of the chosen] - E[validation]) - (E[test of the chosen] - E[test])

is the part of the gain that choosing seemed to bring and that new rows do not give back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hf_stabilizer.records import Run
from hf_stabilizer.studies.statistics.best_of import Estimator, best_of_weights
from hf_stabilizer.studies.statistics.checks import finite_scores, same_length
from hf_stabilizer.studies.statistics.intervals import Interval, percentile_interval
from hf_stabilizer.studies.statistics.summaries import final_score

Floats = npt.NDArray[np.float64]
OPTIMISM_RESAMPLES = 999


@dataclass(frozen=True)
class Optimism:
    """The run chosen by validation among k, expected, for k = 1..n, one entry for each k."""

    validation: tuple[float, ...]
    """Expected validation score of the chosen run, in units of the metric."""
    test: tuple[float, ...]
    """Expected test score of the chosen run; the first entry is the mean of all runs."""
    optimism: tuple[float, ...]
    """Gain on validation minus gain on test, positive is too good, in either direction of the
    metric; the first entry is 0."""
    intervals: tuple[Interval | None, ...]
    """95 % interval of the optimism, the runs resampled; None for fewer than three runs."""
    within_run: float | None
    """Mean of validation minus test of a single run, positive is too good: what picking the best
    of a run's own evaluations, and easier rows, make up."""
    runs: int
    """Runs with both scores."""
    left_out: int = 0
    """Runs that lack one of them, or were stopped early."""


def optimism(
    validation: Sequence[float],
    test: Sequence[float],
    *,
    greater_is_better: bool = True,
    estimator: Estimator = "unbiased",
    seed: int = 0,
    left_out: int = 0,
) -> Optimism:
    """Returns what choosing the best of k runs on validation seems to bring, and what it brings.

    Exact over all choices of k of the n runs; runs that tie on validation are chosen alike often.

    Args:
        validation: Each run's best validation score, finite.
        test: Its test score with the weights that validation chose, in the same order.
        greater_is_better: Direction of the metric.
        estimator: "unbiased" (without replacement) or "biased" (with it).
        seed: Seed of the resampling behind the intervals.
        left_out: How many runs lack a score, for the record.

    Raises:
        ConfigurationError: The estimator has another name.
        DataError: The two are not equally long, or a score is no finite number.

    Example:
        >>> found = optimism([0.70, 0.80, 0.90], [0.70, 0.75, 0.72])
        >>> [round(x, 3) for x in found.validation], [round(x, 3) for x in found.test]
        ([0.8, 0.867, 0.9], [0.723, 0.73, 0.72])
        >>> round(found.optimism[-1], 3)
        0.103
    """
    same_length(validation=validation, test=test)
    seen, new = finite_scores(validation, name="validation"), finite_scores(test, name="test")
    sign = 1.0 if greater_is_better else -1.0
    weights = best_of_weights(len(seen), estimator)
    chosen = _chosen(sign * seen, np.stack([seen, new]), weights)  # (2, k)
    gains = _gains(sign * chosen)
    return Optimism(
        validation=tuple(chosen[0].tolist()),
        test=tuple(chosen[1].tolist()),
        optimism=tuple(gains.tolist()),
        intervals=_intervals(sign * seen, sign * new, weights, seed),
        within_run=float(np.mean(sign * (seen - new))) if len(seen) else None,
        runs=len(seen),
        left_out=left_out,
    )


def optimism_of_runs(runs: Iterable[Run], *, estimator: Estimator = "unbiased") -> Optimism | None:
    """Returns `optimism` for the runs of one recipe, or None where none has a test score.

    Example:
        >>> def run(best, test):
        ...     return Run("plain", {}, "finished", best_score=best, test_score=test)
        >>> found = optimism_of_runs([run(0.7, 0.7), run(0.8, 0.7), run(0.9, None)])
        >>> found.runs, found.left_out, round(found.optimism[1], 3)
        (2, 1, 0.05)
    """
    everything = list(runs)
    pairs = [
        (run.best_score, run.test_score)
        for run in everything
        if final_score(run) is not None
        and run.test_score is not None
        and run.best_score is not None
        and np.isfinite(run.best_score)
    ]
    if not pairs:
        return None
    return optimism(
        [best for best, _ in pairs],
        [test for _, test in pairs],
        greater_is_better=all(run.greater_is_better for run in everything),
        estimator=estimator,
        left_out=len(everything) - len(pairs),
    )


def _chosen(key: Floats, values: Floats, weights: Floats) -> Floats:
    """Expected values of the run with the largest key among k: (values, k)."""
    order = np.argsort(key, kind="stable")
    _, group = np.unique(key[order], return_inverse=True)
    group = group.reshape(-1)
    # Runs that tie share the chance of their places, so each counts as the mean of its group.
    sizes = np.bincount(group)
    means = np.stack([np.bincount(group, row[order]) / sizes for row in values])
    expected: Floats = means[:, group] @ weights.T
    return expected


def _gains(chosen: Floats) -> Floats:
    gains: Floats = (chosen[0] - chosen[0][:1]) - (chosen[1] - chosen[1][:1])
    return gains


def _intervals(
    validation: Floats, test: Floats, weights: Floats, seed: int
) -> tuple[Interval | None, ...]:
    n = len(validation)
    if n < 3:
        return (None,) * n
    rng = np.random.default_rng(seed)
    found = np.empty((OPTIMISM_RESAMPLES, n))
    for row in range(OPTIMISM_RESAMPLES):
        drawn = rng.integers(0, n, size=n)
        values = np.stack([validation[drawn], test[drawn]])
        found[row] = _gains(_chosen(validation[drawn], values, weights))
    return tuple(percentile_interval(column) for column in found.T)
