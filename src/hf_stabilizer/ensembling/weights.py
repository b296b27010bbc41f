r"""Which weights make the best mean? Those with the smallest loss on out-of-fold rows.

    minimise  -1/n sum_r log sum_m w_m p_m(y_r)      classes and choices: log loss
              1/n sum_r sum_c binary log loss        several labels
              1/n sum_r (sum_m w_m x_m(r) - y_r)^2   numbers: squared error
    subject to  w_m >= 0, sum w = 1

Convex, so there is one smallest value; scipy's SLSQP finds it from equal weights. It ends where the
loss hardly falls any more in absolute terms, so numbers are weighed by their errors, which have no
unit once they are divided by those of the best member: prices come out as ratings do. Source:
stacking with convex weights is Breiman 1996, Stacked Regressions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hf_stabilizer.ensembling.combining import Array
from hf_stabilizer.errors import DataError
from hf_stabilizer.scores import MULTI, NUMBER, Kind

_SMALLEST = 1e-12
"""A probability below it costs no more: one row that all members miss must not decide alone."""


def fit_weights(probabilities: Array, labels: Array, kind: Kind) -> Array:
    """Returns non-negative weights of sum 1 with the smallest loss on these rows.

    Equal members get equal weights; one member gets 1. Of numbers the unit does not matter.

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
    members, rows = probabilities.shape[:2]
    if not rows:
        raise DataError("there are no rows to fit weights on")
    if members == 1:
        return np.ones(1)
    if kind == NUMBER:
        return _least_squares(probabilities[:, :, 0] - labels)
    return _smallest(
        lambda w: mean_loss(np.tensordot(w, probabilities, axes=1), labels, kind), members
    )


def _least_squares(errors: Array) -> Array:
    """Weighs members by their errors [members, rows], whose mean is the error of the mean."""
    products = errors @ errors.T / errors.shape[1]  # (members, members)
    # The best member's, so that one that is far out does not hide what the others differ in.
    unit = products.diagonal().min() or products.mean() or 1.0
    scaled = products / unit
    return _smallest(lambda w: float(w @ scaled @ w), len(errors), slope=lambda w: 2 * scaled @ w)


def _smallest(
    loss: Callable[[Array], float], members: int, *, slope: Callable[[Array], Array] | None = None
) -> Array:
    from scipy.optimize import minimize

    found = minimize(
        loss,
        np.full(members, 1 / members),
        jac=slope,
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
