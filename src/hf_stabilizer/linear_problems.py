"""How is a linear layer fitted to each kind of problem? Regularised optima of weight W and bias b.

All minimise   mean loss(X W' + b, targets) + l2/2 |W|^2   with the bias b not penalised:

    problem                       loss, averaged over rows (and, where marked *, over outputs)
    single_label_classification   cross-entropy of a softmax over the outputs
    multiple_choice               cross-entropy of a softmax over the choices of a row, one output
    multi_label_classification    binary cross-entropy *
    regression                    squared error / 2 *

These are the losses of transformers' own heads (`ForSequenceClassificationLoss`), but for the half
in the squared error, so that ridge regression has no stray factor of two. Each fit takes several
penalties, each starting from the optimum of the last. Numbers only: no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.special import expit, logsumexp

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Targets: TypeAlias = npt.NDArray[Any]  # Any: integers for classes and choices, floats otherwise
Parts: TypeAlias = Sequence[Floats]
"""Inputs in one piece or several, (rows, axes) or (rows, choices, axes) each."""

TOLERANCE = 1e-10
"""Largest gradient left by a fit, per unit of the square root of the curvature."""
CURVATURE = 0.25
"""Largest second derivative of the logistic loss."""


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

    fit: Callable[[Parts, Targets, Sequence[float], Task], Iterator[Layer]]
    """(inputs, targets, several l2, task) -> the optimum for each l2"""
    loss: Callable[[Floats, Targets], Floats]
    """(outputs of the layer, targets) -> the loss of each row"""


Loss: TypeAlias = Callable[[Floats], tuple[float, Floats]]
"""Outputs of the layer -> the mean loss, and its derivative by the outputs."""


def _descend(
    loss: Loss, inputs: Parts, penalties: Sequence[float], task: Task, curvature: float
) -> Iterator[Layer]:
    """Minimises loss(X W' + b) + l2/2 |W|^2 for each l2, each from the optimum of the last.

    In the variables W sqrt(curvature v + l2) and b sqrt(curvature), v the mean squares of X.
    """
    outputs, width = task.outputs, inputs[0].shape[-1]
    flat = [part.reshape(-1, width) for part in inputs]
    shape = (-1, *inputs[0].shape[1:-1], outputs)
    cuts = np.cumsum([len(part) for part in flat])[:-1]
    squares = sum(np.einsum("ij,ij->j", part, part) for part in flat) / sum(map(len, flat))
    steep = np.full(outputs, np.sqrt(curvature))
    weight, bias = np.zeros((outputs, width)), np.zeros(outputs)

    for l2 in penalties:
        scale = np.sqrt(curvature * squares + l2)

        def objective(point: Floats, l2: float = l2, scale: Floats = scale) -> tuple[float, Floats]:
            weight, bias = _unpack(point, scale, steep)
            scores = np.concatenate([part @ weight.T for part in flat]) + bias
            value, slope = loss(scores.reshape(shape))
            slopes = np.split(slope.reshape(-1, outputs), cuts)
            by_weight = sum(a.T @ b for a, b in zip(slopes, flat, strict=True)) + l2 * weight
            by_bias = sum(part.sum(axis=0) for part in slopes) * task.has_bias
            value += l2 / 2 * float(np.square(weight).sum())
            return value, np.concatenate([(by_weight / scale).ravel(), by_bias / steep])

        start = np.concatenate([(weight * scale).ravel(), bias * steep])
        options = {"gtol": task.tolerance, "ftol": 0.0, "maxiter": 10_000}
        found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
        weight, bias = _unpack(found.x, scale, steep)
        yield Layer(weight, bias)


def _unpack(point: Floats, scale: Floats, steep: Floats) -> tuple[Floats, Floats]:
    weight, bias = np.split(point, [-len(steep)])
    return weight.reshape(len(steep), -1) / scale, bias / steep


def _fit_single_label(
    inputs: Parts, targets: Targets, penalties: Sequence[float], task: Task
) -> Iterator[Layer]:
    """Softmax regression on the classes that occur.

    A class that does not occur has no optimum (its bias would fall for ever): it gets weight zero
    and the lowest bias of the others. As the rows of W sum to zero at the optimum, its output is
    then never the largest one.
    """
    present, classes = np.unique(targets, return_inverse=True)
    for found in _fit_present(inputs, classes, penalties, len(present), task):
        layer = _zeros(inputs, task)
        layer.weight[present], layer.bias[:] = found.weight, found.bias.min()
        layer.bias[present] = found.bias
        yield layer


def _fit_present(
    inputs: Parts, classes: Targets, penalties: Sequence[float], number: int, task: Task
) -> Iterator[Layer]:
    if number > 2:
        task = Task(number, task.has_bias, task.tolerance)
        yield from _descend(_cross_entropy_loss(classes), inputs, penalties, task, CURVATURE)
        return
    task = Task(1, task.has_bias, task.tolerance)
    if number == 1:  # nothing to tell apart
        yield from (_zeros(inputs, task) for _ in penalties)
        return
    # Two rows are -w/2 and w/2 at the optimum (of all pairs with difference w they have the
    # smallest norm), and their l2/2 |W|^2 is l2/4 |w|^2.
    halves = [l2 / 2 for l2 in penalties]
    signs = np.array([-0.5, 0.5])
    for found in _descend(_binary_loss(classes[:, None]), inputs, halves, task, CURVATURE):
        yield Layer(signs[:, None] * found.weight, signs * found.bias)


def _zeros(inputs: Parts, task: Task) -> Layer:
    return Layer(np.zeros((task.outputs, inputs[0].shape[-1])), np.zeros(task.outputs))


def _fit_multi_label(
    inputs: Parts, targets: Targets, penalties: Sequence[float], task: Task
) -> Iterator[Layer]:
    """One logistic regression per label; a label that is constant gets its smoothed log-odds."""
    positive = targets.sum(axis=0)
    varied = (positive > 0) & (positive < len(targets))
    odds = np.log((positive + 0.5) / (len(targets) - positive + 0.5)) * task.has_bias
    part = Task(int(varied.sum()), task.has_bias, task.tolerance)
    # The loss is a mean over all labels, those that are constant too.
    loss = _binary_loss(targets[:, varied], outputs=task.outputs)
    fitted = _descend(loss, inputs, penalties, part, CURVATURE / task.outputs)
    for found in fitted if part.outputs else (_zeros(inputs, part) for _ in penalties):
        layer = _zeros(inputs, task)
        layer.bias[:] = odds
        layer.weight[varied], layer.bias[varied] = found.weight, found.bias
        yield layer


def _fit_regression(
    inputs: Parts, targets: Targets, penalties: Sequence[float], task: Task
) -> Iterator[Layer]:
    """Ridge regression in closed form: along the axes of these very rows it is a division."""
    rows = len(targets)
    cuts = np.cumsum([len(part) for part in inputs])[:-1]
    centre = sum(part.sum(axis=0) for part in inputs) / rows * task.has_bias
    mean = targets.mean(axis=0) * task.has_bias
    parts = list(zip(np.split(targets - mean, cuts), inputs, strict=True))
    moments = sum(x.T @ x for x in inputs) / rows - np.outer(centre, centre)
    variances, axes = eigh(moments)
    variances = np.maximum(variances, 0.0)
    products = sum(y.T @ x for y, x in parts) @ axes / rows  # (outputs, axes)
    for l2 in penalties:
        weight = products / (variances + l2 * task.outputs) @ axes.T
        yield Layer(weight, mean - weight @ centre)


def _fit_multiple_choice(
    inputs: Parts, targets: Targets, penalties: Sequence[float], task: Task
) -> Iterator[Layer]:
    """McFadden's conditional logit; its bias moves all choices alike, so it stays zero."""
    softmax = _cross_entropy_loss(targets)

    def loss(scores: Floats) -> tuple[float, Floats]:
        value, slope = softmax(scores[..., 0])
        return value, slope[..., None]

    part = Task(1, has_bias=False, tolerance=task.tolerance)
    # A row has as many inputs as choices, and the mean squares are over all of them.
    curvature = CURVATURE * inputs[0].shape[1]
    yield from _descend(loss, inputs, penalties, part, curvature)


def _cross_entropy_loss(targets: Targets) -> Loss:
    places = np.arange(len(targets)), targets

    def loss(scores: Floats) -> tuple[float, Floats]:
        # By hand: scipy's logsumexp takes longer than all the rest of a step.
        shifted = scores - scores.max(axis=1, keepdims=True)
        slope = np.exp(shifted)
        sums = slope.sum(axis=1, keepdims=True)
        value = float((np.log(sums[:, 0]) - shifted[places]).mean())
        slope /= sums
        slope[places] -= 1.0
        return value, slope / len(scores)

    return loss


def _binary_loss(targets: Targets, outputs: int = 1) -> Loss:
    """Mean over rows, and over `outputs` labels, of which these may be a part."""
    total = len(targets) * outputs

    def loss(scores: Floats) -> tuple[float, Floats]:
        value = (np.logaddexp(0.0, scores) - targets * scores).sum() / total
        return float(value), (expit(scores) - targets) / total

    return loss


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
