"""Which linear layer predicts these targets best? Regularised fits of weight W and bias b.

All minimise   mean loss(X W' + b, targets) + l2/2 |W|^2   with the bias b not penalised:

    problem                       loss, averaged over rows (and, where marked *, over outputs)
    single_label_classification   cross-entropy of a softmax over the outputs
    multiple_choice               cross-entropy of a softmax over the choices of a row, one output
    multi_label_classification    binary cross-entropy *
    regression                    squared error / 2 *

These are the losses of transformers' own heads (`ForSequenceClassificationLoss`), but for the half
in the squared error, so that ridge regression has no stray factor of two. Numbers only: no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression, Ridge

Floats = npt.NDArray[np.float64]
Targets = npt.NDArray[Any]  # Any: integers for classes and choices, floats otherwise

FOLDS = 5
RELATIVE_L2 = 10.0 ** np.arange(-6.0, 0.5, 0.5)
"""Candidates for l2, as multiples of the total variance of the inputs (mean |x - mean x|^2)."""
TOLERANCE, COARSE_TOLERANCE = 1e-9, 1e-4
"""Largest gradient left in the final fit, and in the fits of the cross-validation."""


@dataclass(frozen=True)
class Layer:
    """A linear layer in numbers."""

    weight: Floats
    """(outputs, features)"""
    bias: Floats
    """(outputs,); zeros where the layer has none"""

    def __call__(self, inputs: Floats) -> Floats:
        """Returns the outputs, shape (..., outputs)."""
        return np.asarray(inputs @ self.weight.T + self.bias)


@dataclass(frozen=True)
class Task:
    """What is asked of the layer, whatever the rows."""

    outputs: int
    """Outputs of the layer."""
    has_bias: bool
    """Whether the layer has a bias."""
    tolerance: float = TOLERANCE
    """Largest gradient left by an iterative fit."""


@dataclass(frozen=True)
class Problem:
    """A kind of supervision: how to fit a layer to it, and how to score a fitted one."""

    fit: Callable[[Floats, Targets, float, Task], Layer]
    """(inputs, targets, l2, task) -> the optimum"""
    loss: Callable[[Floats, Targets], Floats]
    """(outputs of the layer, targets) -> the loss of each row"""


def fit_layer(
    problem: str, inputs: Floats, targets: Targets, l2: float | None, task: Task
) -> tuple[Layer, float]:
    """Fits the layer; chooses `l2` by cross-validation if it is None.

    Args:
        problem: A key of `PROBLEMS`.
        inputs: Shape (rows, features); (rows, choices, features) for "multiple_choice".
        targets: Class or choice indices (rows,), 0/1 or real values (rows, outputs).
        l2: Strength of the penalty, in units of loss per squared weight; > 0.
        task: The shape of the layer.

    Returns:
        The layer and the `l2` that was used.
    """
    chosen = PROBLEMS[problem]
    if l2 is None:
        l2 = _choose_l2(chosen, inputs, targets, task)
    return chosen.fit(inputs, targets, l2, task), l2


def _choose_l2(problem: Problem, inputs: Floats, targets: Targets, task: Task) -> float:
    """Returns the candidate with the lowest held-out loss; of equals the strongest."""
    coarse = Task(task.outputs, task.has_bias, COARSE_TOLERANCE)
    folds = assign_folds(targets)

    def held_out_loss(l2: float) -> float:
        losses = np.empty(len(targets))
        for fold in np.unique(folds):
            held_out = folds == fold
            layer = problem.fit(inputs[~held_out], targets[~held_out], l2, coarse)
            losses[held_out] = problem.loss(layer(inputs[held_out]), targets[held_out])
        return float(losses.mean())

    flat = inputs.reshape(-1, inputs.shape[-1])
    variance = float(np.square(flat - flat.mean(axis=0)).sum(axis=1).mean())
    # Inputs that are all equal carry nothing: any penalty gives zero weights.
    candidates = [float(r) * (variance or 1.0) for r in RELATIVE_L2[::-1]]
    return min(candidates, key=held_out_loss)


def assign_folds(targets: Targets) -> npt.NDArray[np.int64]:
    """Deals the rows, sorted by target, to the folds like cards.

    So each class is spread as evenly as can be, classes with fewer rows than folds too, and a
    real-valued target likewise; nothing is drawn at random.

    Example:
        >>> assign_folds(np.array([1, 0, 0, 0, 0, 1, 0]))
        array([0, 0, 1, 2, 3, 1, 4])
    """
    keys = targets.reshape(len(targets), -1).T
    folds = np.empty(len(targets), dtype=np.int64)
    folds[np.lexsort(keys[::-1])] = np.arange(len(targets)) % FOLDS
    return folds


def _fit_single_label(inputs: Floats, targets: Targets, l2: float, task: Task) -> Layer:
    """Softmax regression on the classes that occur.

    A class that does not occur has no optimum (its bias would fall for ever): it gets weight zero
    and the lowest bias of the others. As the rows of W sum to zero at the optimum, its output is
    then never the largest one.
    """
    layer = Layer(np.zeros((task.outputs, inputs.shape[1])), np.zeros(task.outputs))
    present, classes = np.unique(targets, return_inverse=True)
    if len(present) > 1:
        rows, offsets = _logistic(inputs, classes, _inverse_penalty(l2, len(present)), task)
        if len(present) == 2:
            rows, offsets = np.vstack([-rows, rows]) / 2, np.concatenate([-offsets, offsets]) / 2
        layer.weight[present], layer.bias[:] = rows, offsets.min()
        layer.bias[present] = offsets
    return layer


def _inverse_penalty(l2: float, classes: int) -> float:
    """Returns 1/l2 as scikit-learn's parametrisation asks for it.

    For two classes it fits one row w, and our two rows are -w/2 and w/2 at the optimum (of all
    pairs with difference w they have the smallest norm). Their l2/2 |W|^2 is l2/4 |w|^2.
    """
    return 2 / l2 if classes == 2 else 1 / l2


def _logistic(
    inputs: Floats, classes: Targets, inverse_penalty: float, task: Task
) -> tuple[Floats, Floats]:
    """Returns coefficients and intercepts of scikit-learn's logistic regression.

    The inputs are centred first, which changes no optimum as the intercept is free, but saves
    the solver many iterations. They are not scaled: that would change what is penalised.
    """
    centre = inputs.mean(axis=0) if task.has_bias else np.zeros(inputs.shape[1])
    model = LogisticRegression(
        C=inverse_penalty / len(inputs),
        fit_intercept=task.has_bias,
        tol=task.tolerance,
        max_iter=10_000,
    ).fit(inputs - centre, classes)
    return model.coef_, model.intercept_ - model.coef_ @ centre


def _fit_multi_label(inputs: Floats, targets: Targets, l2: float, task: Task) -> Layer:
    """One logistic regression per label; a label that is constant gets its smoothed log-odds."""
    layer = Layer(np.zeros((task.outputs, inputs.shape[1])), np.zeros(task.outputs))
    for label, column in enumerate(targets.T):
        positive = column.sum()
        if 0 < positive < len(column):
            # The loss is a mean over labels too: each has 1/outputs of it, against the whole l2.
            row, offset = _logistic(inputs, column, 1 / (l2 * task.outputs), task)
            layer.weight[label], layer.bias[label] = row[0], offset[0]
        elif task.has_bias:
            layer.bias[label] = np.log((positive + 0.5) / (len(column) - positive + 0.5))
    return layer


def _fit_regression(inputs: Floats, targets: Targets, l2: float, task: Task) -> Layer:
    """Ridge regression; `alpha` is the penalty for a sum, not a mean, of squares."""
    model = Ridge(alpha=l2 * targets.size, fit_intercept=task.has_bias).fit(inputs, targets)
    bias = np.broadcast_to(model.intercept_, task.outputs).astype(np.float64)
    return Layer(np.reshape(model.coef_, (task.outputs, -1)), bias)


def _fit_multiple_choice(inputs: Floats, targets: Targets, l2: float, task: Task) -> Layer:
    """McFadden's conditional logit; its bias moves all choices alike, so it stays zero."""
    rows = np.arange(len(targets))

    def objective(weight: Floats) -> tuple[float, Floats]:
        scores = inputs @ weight  # (rows, choices)
        errors = np.exp(scores - logsumexp(scores, axis=1, keepdims=True))
        errors[rows, targets] -= 1.0
        value = _cross_entropy(scores, targets).mean() + l2 / 2 * weight @ weight
        return float(value), np.einsum("rc,rcf->f", errors, inputs) / len(rows) + l2 * weight

    options = {"gtol": task.tolerance, "ftol": 64 * np.finfo(float).eps, "maxiter": 10_000}
    start = np.zeros(inputs.shape[2])
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    return Layer(found.x[None], np.zeros(1))


def _cross_entropy(scores: Floats, targets: Targets) -> Floats:
    return np.asarray(logsumexp(scores, axis=1) - scores[np.arange(len(targets)), targets])


def _binary_cross_entropy(scores: Floats, targets: Targets) -> Floats:
    return np.asarray((np.logaddexp(0.0, scores) - targets * scores).mean(axis=1))


def _half_squared_error(scores: Floats, targets: Targets) -> Floats:
    return np.asarray(np.square(scores - targets).mean(axis=1) / 2)


def _choice_cross_entropy(scores: Floats, targets: Targets) -> Floats:
    return _cross_entropy(scores[..., 0], targets)


PROBLEMS = {
    "single_label_classification": Problem(_fit_single_label, _cross_entropy),
    "multi_label_classification": Problem(_fit_multi_label, _binary_cross_entropy),
    "multiple_choice": Problem(_fit_multiple_choice, _choice_cross_entropy),
    "regression": Problem(_fit_regression, _half_squared_error),
}
"""By transformers' names for `config.problem_type`, and one that it has no name for."""
