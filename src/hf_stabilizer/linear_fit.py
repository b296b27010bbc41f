"""Which linear layer predicts these targets best, and with which penalty? Fits and their folds.

    W, b  =  argmin   mean loss(X W' + b, targets) + l2/2 |W|^2       (see `linear_problems`)
    l2    =  the candidate with the lowest mean loss on rows of folds that were held out

The inputs are rotated onto their principal axes first, once for all folds and penalties. That
changes no optimum, since |W| does not depend on the axes and W lies in the span of the rows; but
along those axes the curvature is nearly known, and L-BFGS on variables scaled by it needs few
steps. The rows are sorted by fold, so that no fold needs a copy of the others. No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh, svd

from hf_stabilizer.linear_problems import PROBLEMS, Floats, Integers, Layer, Targets, Task

FOLDS = 5
RELATIVE_L2 = 10.0 ** np.arange(-6.0, 0.5, 0.5)
"""Candidates for l2, as multiples of the total variance of the inputs (mean |x - mean x|^2)."""
COARSE_TOLERANCE = 1e-4
"""`Task.tolerance` of the fits of the cross-validation."""
PATIENCE = 3
"""So many weaker penalties in a row that do no better end the search."""


@dataclass(frozen=True)
class CrossValidation:
    """What layers said about rows that they were not fitted to."""

    l2: float
    """The penalty with the lowest mean loss on held-out rows; of equals the strongest."""
    outputs: Floats
    """Outputs for every row with that penalty, each from the layer of the other folds;
    shape (rows, outputs), for "multiple_choice" (rows, choices, 1)."""


def fit_layer(
    problem: str,
    inputs: Floats,
    targets: Targets,
    l2: float | None,
    task: Task,
    *,
    groups: Integers | None = None,
) -> tuple[Layer, float]:
    """Fits the layer; chooses `l2` by cross-validation if it is None.

    Args:
        problem: A key of `PROBLEMS`.
        inputs: Shape (rows, features); (rows, choices, features) for "multiple_choice".
        targets: Class or choice indices (rows,), 0/1 or real values (rows, outputs).
        l2: Strength of the penalty, in units of loss per squared weight; > 0.
        task: The shape of the layer.
        groups: Rows of one number stay in one fold, e.g. the tokens of a text.

    Returns:
        The layer and the `l2` that was used.
    """
    if l2 is None:
        l2 = cross_validate_l2(problem, inputs, targets, task, assign_folds(targets, groups)).l2
    axes = _Axes.of(inputs, centred=_may_move(problem, task))
    layer = next(PROBLEMS[problem].fit([axes.rotate(inputs)], targets, [l2], task))
    return axes.back(layer, has_bias=task.has_bias and problem != "multiple_choice"), l2


def cross_validate_l2(
    problem: str, inputs: Floats, targets: Targets, task: Task, folds: Integers
) -> CrossValidation:
    """Fits on all folds but one, for each of them and each candidate, and chooses `l2`."""
    chosen = PROBLEMS[problem]
    coarse = Task(task.outputs, task.has_bias, COARSE_TOLERANCE)
    order = np.argsort(folds, kind="stable")
    rotated = _Axes.of(inputs, centred=_may_move(problem, task)).rotate(inputs)[order]
    targets = targets[order]
    held_out = _slices(folds[order])
    candidates = _candidates(inputs)
    fits = [
        chosen.fit(
            _without(rotated, out), np.concatenate(_without(targets, out)), candidates, coarse
        )
        for out in held_out
    ]
    best, lowest, worse = CrossValidation(candidates[0], np.empty(0)), np.inf, 0
    # The fits go down the candidates side by side: past the best there is no need to go on.
    for l2, layers in zip(candidates, zip(*fits, strict=True), strict=True):
        pairs = zip(held_out, layers, strict=True)
        outputs = np.concatenate([layer(rotated[out]) for out, layer in pairs])
        loss = chosen.loss(outputs, targets).mean()
        worse = 0 if loss < lowest else worse + 1
        if loss < lowest:
            best, lowest = CrossValidation(l2, outputs[np.argsort(order)]), loss
        if worse == PATIENCE:
            break
    return best


def _slices(folds: Integers) -> list[slice]:
    """Returns where each fold lies among rows that are sorted by fold."""
    starts = np.flatnonzero(np.diff(folds, prepend=-1))
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(folds)], strict=True)]


def _without(rows: Targets, out: slice) -> list[Targets]:
    return [part for part in (rows[: out.start], rows[out.stop :]) if len(part)]


def _candidates(inputs: Floats) -> list[float]:
    """Returns the penalties to try, the strongest first."""
    flat = inputs.reshape(-1, inputs.shape[-1])
    square = float(np.square(flat).sum(axis=1).mean())
    variance = float(np.square(flat - flat.mean(axis=0)).sum(axis=1).mean())
    if variance <= 1e-12 * square:  # Equal but for rounding, which must not be fitted.
        variance = square or 1.0
    return [float(r) * variance for r in RELATIVE_L2[::-1]]


def assign_folds(targets: Targets, groups: Integers | None = None) -> Integers:
    """Deals the rows, sorted by target, to the folds like cards.

    So each class is spread as evenly as can be, classes with fewer rows than folds too, and a
    real-valued target likewise; nothing is drawn at random. With groups these are dealt whole,
    sorted by their rarest class (by their mean target), then by size.

    Example:
        >>> assign_folds(np.array([1, 0, 0, 0, 0, 1, 0]))
        array([0, 0, 1, 2, 3, 1, 4])
        >>> assign_folds(np.array([0, 1, 0, 0, 0, 1]), groups=np.array([7, 7, 8, 8, 9, 9]))
        array([1, 1, 0, 0, 2, 2])
    """
    if groups is None:
        return _deal(targets.reshape(len(targets), -1))
    _, member = np.unique(groups, return_inverse=True)
    sizes = np.bincount(member)
    if targets.ndim == 1 and np.issubdtype(targets.dtype, np.integer):
        _, classes, counts = np.unique(targets, return_inverse=True, return_counts=True)
        ranks = np.argsort(np.argsort(counts, kind="stable"), kind="stable")
        kinds = np.full(len(sizes), len(counts))
        np.minimum.at(kinds, member, ranks[classes])
        kinds = -kinds[:, None]  # the commonest first
    else:
        kinds = np.zeros((len(sizes), int(targets[0].size)))
        np.add.at(kinds, member, targets.reshape(len(targets), -1))
        kinds = kinds / sizes[:, None]
    return _deal(np.column_stack([kinds, sizes]))[member]


def _deal(keys: Targets) -> Integers:
    folds = np.empty(len(keys), dtype=np.int64)
    folds[np.lexsort(keys.T[::-1])] = np.arange(len(keys)) % FOLDS
    return folds


@dataclass(frozen=True)
class _Axes:
    """The principal axes of the inputs, about their mean if the fit does not depend on it."""

    axes: Floats
    """(axes, features), orthonormal"""
    centre: Floats
    """(features,)"""

    @classmethod
    def of(cls, inputs: Floats, *, centred: bool) -> _Axes:
        flat = inputs.reshape(-1, inputs.shape[-1])
        rows, features = flat.shape
        centre = flat.mean(axis=0) if centred else np.zeros(features)
        if rows < features:
            axes = svd(flat - centre, full_matrices=False)[2]
        else:  # the same axes, in the time of one product
            moments = flat.T @ flat - rows * np.outer(centre, centre)
            axes = eigh(moments)[1].T
        return cls(axes, centre)

    def rotate(self, inputs: Floats) -> Floats:
        """Returns the inputs along the axes, (..., axes)."""
        return np.asarray(inputs @ self.axes.T - self.axes @ self.centre)

    def back(self, layer: Layer, *, has_bias: bool) -> Layer:
        """Returns the layer for inputs as they were."""
        weight = layer.weight @ self.axes
        return Layer(weight, layer.bias - weight @ self.centre if has_bias else layer.bias)


def _may_move(problem: str, task: Task) -> bool:
    """Whether a vector that is added to all inputs changes no optimal weight."""
    return task.has_bias or problem == "multiple_choice"
