"""How good is the best of k runs, on average? Expected validation performance.

    E[best of k] = sum_i w_i(k) x_(i),   x_(1) the worst of n scores, x_(n) the best

    biased     w_i(k) = (i/n)^k - ((i-1)/n)^k          k draws with replacement (Dodge et al. 2019)
    unbiased   w_i(k) = C(i-1, k-1) / C(n, k)          k draws without it (Tang et al. 2020)

The unbiased one is right on average and ends, at k = n, in the one best run; the biased one is low
where k comes near n, but varies less, and led to fewer wrong rankings of models (Dodge et al. 2021,
arXiv 2110.00613).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hf_stabilizer.errors import check_choice
from hf_stabilizer.studies.statistics.checks import finite_scores
from hf_stabilizer.studies.statistics.intervals import Interval, percentile_interval

Floats = npt.NDArray[np.float64]
Estimator = Literal["biased", "unbiased"]
ESTIMATORS = ("biased", "unbiased")
BEST_OF_RESAMPLES = 1_999


@dataclass(frozen=True)
class BestOf:
    """The best of k runs, expected, for k = 1..n. Each tuple has one entry for each k."""

    expected: tuple[float, ...]
    """Expected best score, in units of the metric."""
    std: tuple[float, ...]
    """Standard deviation of the best of k: how far a single search of k runs falls from it."""
    intervals: tuple[Interval | None, ...]
    """Interval of the expectation, the runs resampled; None for fewer than three runs."""
    runs: int
    """Number n of runs with a score."""
    left_out: int = 0
    """Runs without a score, which are in none of these numbers."""


def expected_validation_performance(
    scores: Sequence[float],
    *,
    greater_is_better: bool = True,
    estimator: Estimator = "biased",
) -> list[float]:
    """Returns the expected best score of k runs, for k = 1..n.

    The first value is the mean. "biased", the estimator of the paper, is the mean of the best of k
    draws with replacement, sum_i x_(i) ((i/n)^k - ((i-1)/n)^k) over the scores in order, worst
    first; it is low where k comes near n. "unbiased" draws without replacement,
    sum_i x_(i) C(i-1, k-1) / C(n, k), and ends in the best score seen.

    Args:
        scores: Final validation scores, one for each run, finite.
        greater_is_better: Direction of the metric.
        estimator: "biased" or "unbiased".

    Raises:
        ConfigurationError: The estimator has another name.
        DataError: A score is no finite number.

    Example:
        >>> expected_validation_performance([0.0, 1.0])
        [0.5, 0.75]
        >>> expected_validation_performance([0.0, 1.0], estimator="unbiased")
        [0.5, 1.0]
        >>> expected_validation_performance([0.0, 1.0], greater_is_better=False)
        [0.5, 0.25]

    Source: Dodge, Gururangan, Card, Schwartz, Smith 2019, Show Your Work, section 3.1,
    arXiv 1909.03004; Tang, Lee, Xin, Liu, Yu, Lin 2020, arXiv 2004.13705, section 3.
    """
    ordered = _worst_first(finite_scores(scores, name="scores"), greater_is_better)
    return [float(x) for x in best_of_weights(len(ordered), estimator) @ ordered]


def expected_best(
    scores: Sequence[float],
    *,
    greater_is_better: bool = True,
    estimator: Estimator = "unbiased",
    confidence: float = 0.95,
    seed: int = 0,
    left_out: int = 0,
) -> BestOf:
    """Returns `expected_validation_performance` with its spread and its interval.

    std_k = sqrt(sum_i w_i(k) x_(i)^2 - E_k^2). The interval is the middle part of the estimates
    from 1,999 resamples of the runs. It is too narrow where k comes near n, as no resample holds a
    run better than the best one seen (Tang et al. 2020, section 4): trust it for k <= n / 2.

    Args:
        scores: Final validation scores, one for each run, finite.
        greater_is_better: Direction of the metric.
        estimator: "biased" or "unbiased", see the head of this module.
        confidence: Share of such intervals that should hold the true value, in (0, 1).
        seed: Seed of the resampling.
        left_out: How many runs had no score, for the record.

    Example:
        >>> found = expected_best([0.60, 0.70, 0.72, 0.75])
        >>> [round(x, 3) for x in found.expected], found.runs
        ([0.692, 0.732, 0.742, 0.75], 4)
        >>> low, high = found.intervals[1]
        >>> bool(low < found.expected[1] < high)
        True

    Source: as `expected_validation_performance`.
    """
    values = finite_scores(scores, name="scores")
    n = len(values)
    ordered = _worst_first(values, greater_is_better)
    weights = best_of_weights(n, estimator)
    expected = weights @ ordered
    # The spread about the expectation, not E[x^2] - E[x]^2: equal scores give an exact 0.
    squares = (weights * (ordered[None, :] - expected[:, None]) ** 2).sum(axis=1)
    return BestOf(
        expected=tuple(float(x) for x in expected),
        std=tuple(float(x) for x in np.sqrt(squares)),
        intervals=_intervals(values, weights, greater_is_better, confidence, seed),
        runs=n,
        left_out=left_out,
    )


def best_of_weights(n: int, estimator: Estimator) -> Floats:
    """Returns w_i(k), the chance that the i-th score from the worst is the best of k: (k, i).

    Example:
        >>> best_of_weights(2, "biased").tolist()
        [[0.5, 0.5], [0.25, 0.75]]
    """
    check_choice(estimator, ESTIMATORS, name="estimator")
    i, k = np.arange(1, n + 1)[None, :], np.arange(1, n + 1)[:, None]
    if estimator == "biased":
        weights: Floats = (i / max(n, 1)) ** k - ((i - 1) / max(n, 1)) ** k
        return weights
    # C(i-1, k-1) / C(n, k) = k/n times the product over j = 1..k-1 of (i - j) / (n - j).
    j = np.arange(1, n)[:, None]
    factors = np.maximum(i - j, 0) / np.maximum(n - j, 1)  # (k - 1, i)
    products = np.cumprod(np.vstack([np.ones((1, n)), factors]), axis=0)[:n]
    unbiased: Floats = products * k / max(n, 1)
    return unbiased


def _worst_first(scores: Floats, greater_is_better: bool) -> Floats:
    ordered: Floats = np.sort(scores, axis=-1)
    return ordered if greater_is_better else ordered[..., ::-1]


def _intervals(
    scores: Floats, weights: Floats, greater_is_better: bool, confidence: float, seed: int
) -> tuple[Interval | None, ...]:
    n = len(scores)
    if n < 3:
        return (None,) * n
    drawn = np.random.default_rng(seed).choice(scores, size=(BEST_OF_RESAMPLES, n))
    estimates = _worst_first(drawn, greater_is_better) @ weights.T  # (resamples, k)
    return tuple(percentile_interval(column, confidence=confidence) for column in estimates.T)
