"""Where do the scores of many runs pile up? A smooth density for a drawing.

    y(x) = 1/(n h) sum_i phi((x - x_i) / h),    h = 0.9 min(std, IQR / 1.34) n^(-1/5)

with phi the standard normal density and h Silverman's rule of thumb, which keeps the two humps of
a recipe that fails now and then apart, as a plain standard deviation would not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hf_stabilizer.errors import ConfigurationError, check_whole
from hf_stabilizer.studies.statistics.checks import finite_scores
from hf_stabilizer.studies.statistics.spread import interquartile_range


@dataclass(frozen=True)
class Density:
    """A density over scores, ready to be drawn."""

    x: tuple[float, ...]
    """Scores, evenly spaced."""
    y: tuple[float, ...]
    """Density there, per unit of the metric; its area is 1."""
    bandwidth: float
    """Width h of the kernel, in units of the metric."""


def density(
    scores: Sequence[float],
    *,
    low: float | None = None,
    high: float | None = None,
    points: int = 121,
    bandwidth: float | None = None,
) -> Density | None:
    """Returns the Gaussian kernel density of scores.

    Args:
        scores: Final scores, finite.
        low: Where it begins; None: three bandwidths below the worst. Give the same ends to
            densities that are drawn over one another.
        high: Where it ends; None: three bandwidths above the best.
        points: Number of points, two or more.
        bandwidth: Width of the kernel in units of the metric; None: Silverman's rule of thumb.

    Returns:
        None for fewer than two scores, and where all are equal: there is nothing to smooth.

    Raises:
        ConfigurationError: A bandwidth that is not positive, ends in the wrong order.
        DataError: A score is no finite number.

    Example:
        >>> found = density([0.70, 0.72, 0.74, 0.75, 0.60])
        >>> len(found.x), round(found.bandwidth, 3)
        (121, 0.019)
        >>> density([0.7, 0.7]) is None
        True

    Source: Silverman 1986, Density Estimation for Statistics and Data Analysis, equation 3.31.
    """
    values = finite_scores(scores, name="scores")
    check_whole(points, "from 2 up", name="points", least=2)
    if bandwidth is not None and not bandwidth > 0:
        raise ConfigurationError(f"bandwidth must be positive, got {bandwidth!r}")
    if len(values) < 2 or values.min() == values.max():
        return None
    h = bandwidth or _rule_of_thumb(values.tolist())
    start = values.min() - 3 * h if low is None else low
    end = values.max() + 3 * h if high is None else high
    if not start < end:
        raise ConfigurationError(f"low must lie below high, got {start!r} and {end!r}")
    x = np.linspace(start, end, points)
    distances = (x[:, None] - values[None, :]) / h  # (points, n)
    y = np.exp(-0.5 * distances**2).sum(axis=1) / (len(values) * h * math.sqrt(2 * math.pi))
    return Density(tuple(x.tolist()), tuple(y.tolist()), float(h))


def _rule_of_thumb(scores: Sequence[float]) -> float:
    std, quartiles = float(np.std(scores, ddof=1)), interquartile_range(scores) or 0.0
    spread = min(std, quartiles / 1.34) if quartiles > 0 else std
    return float(0.9 * spread * len(scores) ** -0.2)
