"""What does a study that stops early find, on average? The draws behind a plan.

The t draws of a study need not be made one by one. Their places in the ranking at the stop are t
uniform numbers, and the p largest of these are U_1 = V_1^(1/t), U_(i+1) = U_i V_(i+1)^(1/(t - i))
with uniform V (Devroye 1986, Non-Uniform Random Variate Generation, chapter V.3), so p numbers do
the work of t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hf_stabilizer.studies.statistics.budgets import StudySettings
from hf_stabilizer.studies.statistics.curves import Curves, losing

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

TIE_ORDERS = 100
"""Times that runs which tie are put in another order, where there are ties."""


@dataclass(frozen=True)
class _Draws:
    """Uniform numbers that every option is simulated with."""

    seed: int
    simulations: int
    made: dict[tuple[int, int], Floats] = field(default_factory=dict)

    def largest(self, t: int, p: int) -> Floats:
        """The p largest of t uniform numbers, in descending order: (simulations, p)."""
        if (t, p) not in self.made:
            rng = np.random.default_rng([self.seed, t, p])
            v = rng.random((self.simulations, p))
            powers = 1.0 / (t - np.arange(p, dtype=np.float64))
            self.made[t, p] = np.cumprod(v**powers, axis=1).astype(np.float64)
        return self.made[t, p]


def simulate(
    curves: Curves, settings: Sequence[StudySettings], simulations: int, resamples: int, seed: int
) -> tuple[Floats, Floats]:
    """Returns the expected result of each study, turned so that greater is better.

    Args:
        curves: The finished runs.
        settings: t, f and p of each study.
        simulations: Simulated studies for each.
        resamples: R, resamples of the finished runs.
        seed: Seed of all draws.

    Returns:
        For the runs as they are, (studies,), and for each resample of them, (R, studies).

    Example:
        >>> so_far, final = np.array([[0.1], [0.2], [0.3]]), np.array([0.5, 0.6, 0.7])
        >>> curves = Curves((0.5,), so_far, final, final, True)
        >>> found, _ = simulate(curves, [StudySettings(50, 0.5, 1)], 100, 2, seed=0)
        >>> found.round(3).tolist()
        [0.7]
    """
    rng = np.random.default_rng(seed)
    n = len(curves.final)
    as_they_are = np.tile(np.arange(n), (TIE_ORDERS if _has_ties(curves) else 1, 1))
    resampled = rng.integers(0, n, size=(resamples, n))
    few = max(50, simulations // 4)  # resamples differ by more than their simulation errs
    point = _expected(curves, settings, as_they_are, _Draws(seed, simulations), rng).mean(axis=0)
    return point, _expected(curves, settings, resampled, _Draws(seed, few), rng)


def _expected(
    curves: Curves,
    settings: Sequence[StudySettings],
    samples: Whole,
    draws: _Draws,
    rng: np.random.Generator,
) -> Floats:
    """Expected result of each option in each sample of the runs: (samples, options)."""
    final = losing(curves.final, curves)[samples]
    last = _places(final, rng)  # place of each run at the end: (samples, n)
    by_place = np.take_along_axis(_results(curves)[samples], np.argsort(last, axis=1), axis=1)
    found = np.empty((len(samples), len(settings)))
    early = losing(curves.so_far, curves)
    at_stop = {
        fraction: np.take_along_axis(
            last, np.argsort(_places(early[samples, place], rng), axis=1), axis=1
        )
        for place, fraction in enumerate(curves.fractions)
    }
    at_stop[1.0] = np.sort(last, axis=1)
    for column, one in enumerate(settings):
        drawn = draws.largest(one.runs, one.keep)  # (simulations, p)
        places = np.minimum((drawn * final.shape[1]).astype(np.int64), final.shape[1] - 1)
        best = at_stop[one.stop_at][:, places].max(axis=2)  # (samples, simulations)
        found[:, column] = np.take_along_axis(by_place, best, axis=1).mean(axis=1)
    return found


def _has_ties(curves: Curves) -> bool:
    columns = [*losing(curves.so_far, curves).T, losing(curves.final, curves)]
    return any(len(np.unique(column)) < len(column) for column in columns)


def _places(values: Floats, rng: np.random.Generator) -> Whole:
    """The place of each run from the worst up, in each row; ties in random order."""
    order = np.lexsort((rng.random(values.shape), values), axis=1)
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(values.shape[1])[None, :], axis=1)
    return places


def _results(curves: Curves) -> Floats:
    """What counts in the end, turned; a run without a score is worth the worst that was seen."""
    turned = curves.result if curves.greater_is_better else -curves.result
    found: Floats = np.where(np.isnan(turned), np.nanmin(turned), turned)
    return found
