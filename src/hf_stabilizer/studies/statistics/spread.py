"""How far do scores lie apart? The standard deviation, and what one lost run does not move."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hf_stabilizer.studies.statistics.checks import finite_scores

NORMAL_MAD = 1.482602218505602
"""1 / Phi^-1(3/4): times this, the MAD of normal scores is their standard deviation."""


def sample_std(scores: Sequence[float]) -> float | None:
    """Returns sqrt(sum (x_i - mean)^2 / (n - 1)), or None for fewer than two scores.

    Raises:
        DataError: A score is no finite number.

    Example:
        >>> sample_std([1.0, 2.0, 3.0])
        1.0
    """
    values = finite_scores(scores, name="scores")
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def median_absolute_deviation(scores: Sequence[float], *, scaled: bool = True) -> float | None:
    """Returns the median of |x_i - median x|, in units of the metric, or None below two scores.

    Half of the runs may be lost before it is; a standard deviation is moved by the first.

    Args:
        scores: Final scores, finite.
        scaled: Times 1.4826, so that it estimates the standard deviation of normal scores; False:
            the plain median.

    Raises:
        DataError: A score is no finite number.

    Example:
        >>> median_absolute_deviation([0.70, 0.71, 0.72, 0.73, 0.10], scaled=False)
        0.01
        >>> sample_std([0.70, 0.71, 0.72, 0.73, 0.10])
        0.275...

    Source: Hampel 1974, The Influence Curve and Its Role in Robust Estimation.
    """
    values = finite_scores(scores, name="scores")
    if len(values) < 2:
        return None
    found = float(np.median(np.abs(values - np.median(values))))
    # Differences such as .71 - .70 carry rounding in the 17th digit, which is no spread.
    return round(found * NORMAL_MAD if scaled else found, 15)


def interquartile_range(scores: Sequence[float]) -> float | None:
    """Returns the third quartile minus the first, or None below two scores.

    Quartiles are numpy's (linear interpolation, type 7 of Hyndman and Fan 1996).

    Raises:
        DataError: A score is no finite number.

    Example:
        >>> interquartile_range([0.0, 1.0, 2.0, 3.0, 100.0])
        2.0
    """
    values = finite_scores(scores, name="scores")
    if len(values) < 2:
        return None
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low)
