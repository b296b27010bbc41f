r"""Which weights make the best mean? Those with the smallest loss on out-of-fold rows.

    minimise  -1/n sum_r log sum_m w_m p_m(y_r)      classes and choices: log loss
              1/n sum_r sum_c binary log loss        several labels
              1/n sum_r (sum_m w_m x_m(r) - y_r)^2   numbers: squared error
    subject to  w_m >= 0, sum w = 1

Convex, so there is one smallest value; scipy's SLSQP finds it from equal weights. Source: stacking
with convex weights is Breiman 1996, Stacked Regressions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hf_stabilizer.ensembling.combining import Array
from hf_stabilizer.errors import DataError
from hf_stabilizer.scores import MULTI, NUMBER, Kind

_SMALLEST = 1e-12
"""A probability below it costs no more: one row that all members miss must not decide alone."""


def fit_weights(probabilities: Array, labels: Array, kind: Kind) -> Array:
    """Returns non-negative weights of sum 1 with the smallest loss on these rows.

    Equal members get equal weights; one member gets 1.

    Args:
        probabilities: Shape [members, rows, classes]; for regression numbers [members, rows, 1].
        labels: Class ids [rows], flags [rows, classes], or numbers [rows].
        kind: Kind of label.

    Raises:
        DataError: There are no rows.

    Example:
        >>> good, bad = [[0.9, 0.1], [0.1, 0.9]], [[0.5, 0.5], [0.5, 0.5]]
        >>> weights = fit_weights(np.array([good, bad]), np.array([0, 1]), "multiple-choice")
        >>> weights.round(4) + 0.0
        array([1., 0.])
    """
    from scipy.optimize import minimize

    members, rows = probabilities.shape[:2]
    if not rows:
        raise DataError("there are no rows to fit weights on")
    equal: Array = np.full(members, 1 / members)
    if members == 1:
        return equal
    found = minimize(
        lambda w: mean_loss(np.tensordot(w, probabilities, axes=1), labels, kind),
        equal,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * members,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-12, "maxiter": 500},
    ).x
    positive = np.clip(found, 0.0, None)
    weights: Array = positive / positive.sum()
    return weights


def mean_loss(combined: Array, labels: Array, kind: Kind) -> float:
    """Returns the loss that weights are fitted to: log loss, or mean squared error of numbers.

    Example:
        >>> f"{mean_loss(np.array([[0.5, 0.5]]), np.array([1]), 'multiple-choice'):.4f}"
        '0.6931'
    """
    if kind == NUMBER:
        return float(np.mean((combined[:, 0] - labels) ** 2))
    if kind == MULTI:
        right = np.where(labels > 0.5, combined, 1 - combined)
        return float(-np.log(np.clip(right, _SMALLEST, None)).sum(axis=1).mean())
    right = combined[np.arange(len(labels)), labels.astype(np.int64)]
    return float(-np.log(np.clip(right, _SMALLEST, None)).mean())


def cross_fitted(probabilities: Array, labels: Array, kind: Kind, folds: Sequence[int]) -> Array:
    """Returns the weighted mean of each row, by weights fitted without the rows of its fold.

    So that out-of-fold rows can judge weights that are fitted on out-of-fold rows.

    Args:
        probabilities: Shape [members, rows, classes].
        labels: As in `fit_weights`.
        kind: Kind of label.
        folds: The fold of each row; two or more different ones.
    """
    places = np.asarray(folds)
    combined: Array = np.empty_like(probabilities[0])
    for fold in np.unique(places):
        held = places == fold
        weights = fit_weights(probabilities[:, ~held], labels[~held], kind)
        combined[held] = np.tensordot(weights, probabilities[:, held], axes=1)
    return combined
