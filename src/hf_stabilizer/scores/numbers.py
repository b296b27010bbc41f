"""How far are predicted numbers from the true ones? Over scikit-learn and scipy."""

from __future__ import annotations

import numpy as np

from hf_stabilizer.scores.score import Array


def mean_squared_error(predictions: Array, references: Array) -> float:
    """Returns the mean squared difference; infinite where a prediction is not finite."""
    from sklearn.metrics import mean_squared_error as error

    if not np.isfinite(predictions).all():
        return float("inf")
    return float(error(references, predictions))


def root_mean_squared_error(predictions: Array, references: Array) -> float:
    """Returns the root of the mean squared difference."""
    return float(np.sqrt(mean_squared_error(predictions, references)))


def mean_absolute_error(predictions: Array, references: Array) -> float:
    """Returns the mean absolute difference; infinite where a prediction is not finite."""
    from sklearn.metrics import mean_absolute_error as error

    if not np.isfinite(predictions).all():
        return float("inf")
    return float(error(references, predictions))


def correlation(predictions: Array, references: Array, kind: str) -> float:
    """Returns the correlation of values ("pearson") or of their ranks ("spearman").

    It is 0 where it is undefined: for constants, and predictions that are not finite.
    """
    from scipy import stats

    if not np.isfinite(predictions).all() or np.ptp(predictions) == 0 or np.ptp(references) == 0:
        return 0.0
    correlate = stats.pearsonr if kind == "pearson" else stats.spearmanr
    return float(correlate(predictions, references)[0])
