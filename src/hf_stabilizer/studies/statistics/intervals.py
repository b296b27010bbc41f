"""Between which ends does a number lie? Intervals from few scores, and of a share.

Nothing is assumed to be normal: scores are resampled, shares are Wilson's.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from hf_stabilizer.errors import DataError, check_choice
from hf_stabilizer.studies.statistics.checks import check_share, finite_scores

RESAMPLES = 9_999

Statistic = Literal["mean", "std"]


class Interval(NamedTuple):
    """The two ends of an interval, both included."""

    low: float
    high: float


def bootstrap_interval(
    scores: Sequence[float],
    *,
    confidence: float = 0.95,
    seed: int = 0,
    statistic: Statistic = "mean",
) -> Interval | None:
    """Returns the bias-corrected and accelerated (BCa) bootstrap interval, by default of the mean.

    The same scores and seed give the same interval. Below eight scores or so bootstrap intervals
    are known to be too narrow: they describe the runs that were made, they test nothing.

    Args:
        scores: Independent scores, finite.
        confidence: Share of such intervals that should hold the true value, in (0, 1).
        seed: Seed of the resampling.
        statistic: What is bounded: "mean" or "std" (the sample's standard deviation). Where ties
            leave BCa undefined it is the plain percentile interval.

    Returns:
        None for fewer than three scores, which cannot bound a mean; a single point where all
        scores are equal.

    Raises:
        ConfigurationError: The statistic has another name, or `confidence` is not in (0, 1).
        DataError: A score is no finite number.

    Example:
        >>> low, high = bootstrap_interval([0.70, 0.72, 0.68, 0.75, 0.71, 0.60])
        >>> f"{low:.3f} {high:.3f}"
        '0.643 0.722'

    Source: Efron 1987, Better Bootstrap Confidence Intervals; as `scipy.stats.bootstrap` does it.
    """
    check_choice(statistic, tuple(_STATISTICS), name="statistic")
    check_share(confidence, name="confidence")
    ordered = np.sort(finite_scores(scores, name="scores"))
    if len(ordered) < 3:
        return None
    if ordered[0] == ordered[-1]:
        point = 0.0 if statistic == "std" else float(ordered[0])
        return Interval(point, point)
    ends = _resampled(ordered, _STATISTICS[statistic], confidence, seed, "BCa")
    if not all(map(math.isfinite, ends)):
        ends = _resampled(ordered, _STATISTICS[statistic], confidence, seed, "percentile")
    return ends


def wilson_interval(count: float, total: int, *, confidence: float = 0.95) -> Interval:
    """Returns Wilson's interval for a share, such as that of failed runs.

    (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), with p = count / n; unlike the
    simple interval it is right for 0 failures of 6, too. Without runs it is all of [0, 1].

    Args:
        count: How many of them, in [0, total]; a tie may count half.
        total: Of how many.
        confidence: Share of such intervals that should hold the true share, in (0, 1).

    Raises:
        ConfigurationError: `confidence` is not in (0, 1).
        DataError: `count` is not in [0, total].

    Example:
        >>> low, high = wilson_interval(0, 6)
        >>> f"{low:.2f} {high:.2f}"
        '0.00 0.39'

    Source: Wilson 1927, Probable Inference, the Law of Succession, and Statistical Inference.
    """
    check_share(confidence, name="confidence")
    if not 0 <= count <= total:
        raise DataError(f"count must be in [0, total], got {count!r} of {total!r}")
    if total == 0:
        return Interval(0.0, 1.0)
    z = float(stats.norm.ppf((1 + confidence) / 2))
    p, correction = count / total, z * z / total
    centre = (p + correction / 2) / (1 + correction)
    reach = z * math.sqrt(p * (1 - p) / total + correction / (4 * total)) / (1 + correction)
    return Interval(max(0.0, centre - reach), min(1.0, centre + reach))


def percentile_interval(values: npt.ArrayLike, *, confidence: float = 0.95) -> Interval | None:
    """Returns the middle part of resampled values, NaN left out; None where none are left.

    Example:
        >>> percentile_interval([float(x) for x in range(101)], confidence=0.5)
        Interval(low=25.0, high=75.0)
    """
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    if not known.size:
        return None
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def _std(values: npt.NDArray[np.float64], axis: int) -> Any:  # Any: a float or an array
    return np.std(values, axis=axis, ddof=1)


_STATISTICS: dict[str, Callable[..., Any]] = {"mean": np.mean, "std": _std}


def _resampled(
    scores: npt.NDArray[np.float64],
    statistic: Callable[..., Any],
    confidence: float,
    seed: int,
    method: str,
) -> Interval:
    with warnings.catch_warnings():
        # Ties may leave the acceleration 0 / 0; the caller then asks for the other method.
        warnings.simplefilter("ignore")
        result = stats.bootstrap(
            (scores,),
            statistic,
            n_resamples=RESAMPLES,
            confidence_level=confidence,
            method=method,
            random_state=np.random.default_rng(seed),
        ).confidence_interval
    return Interval(float(result.low), float(result.high))
