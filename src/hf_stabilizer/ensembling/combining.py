r"""What is the mean of several models' outputs? Of probabilities, of logits, of ranks, or weighted.

    mean_probability   p = mean_m softmax(z_m)      several labels: sigmoid; numbers: their mean
    mean_logit         p = softmax(mean_m z_m)      the normalised geometric mean of probabilities
    rank_mean          mean_m r_m                   r: rank in [0, 1], see `scaled_ranks`
    weighted           p = sum_m w_m softmax(z_m)   w_m >= 0, sum 1

For multiple choice the probabilities are those of the choices of a row, and the mean of three runs'
probabilities is the ensemble that Radek Osmulski published for the Kaggle LLM Science Exam (2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_stabilizer.errors import ConfigurationError, check_choice
from hf_stabilizer.scores import CHOICE, MULTI, NUMBER, Kind

# Any: outputs are float32 as models make them; what is computed is float64.
Array = npt.NDArray[Any]
COMBINATIONS = ("mean_probability", "mean_logit", "rank_mean", "weighted")


def probabilities(outputs: Array, kind: Kind) -> Array:
    """Returns the probabilities that a model's outputs stand for; numbers stay as they are.

    Args:
        outputs: Logits of shape [..., rows, classes or choices], or numbers [..., rows, 1].
        kind: "single_label_classification" and "multiple-choice": softmax over the last axis;
            "multi_label_classification": sigmoid; "regression": nothing.

    Example:
        >>> probabilities(np.log([[1.0, 3.0]]), "multiple-choice").round(6)
        array([[0.25, 0.75]])
    """
    from scipy.special import expit, softmax

    exact = np.asarray(outputs, dtype=np.float64)
    if kind == NUMBER:
        return exact
    found: Array = expit(exact) if kind == MULTI else softmax(exact, axis=-1)
    return found


def combine(
    outputs: Array,
    kind: Kind,
    *,
    how: str = "mean_probability",
    weights: Sequence[float] | None = None,
) -> Array:
    """Returns what several models say together.

    Of one model, or of equal ones, it is that model's own answer.

    Args:
        outputs: Shape [members, rows, classes], as the models put them out.
        kind: Kind of label, as in `hf_stabilizer.scores`.
        how: One of `COMBINATIONS`.
        weights: One for each member, with "weighted" and nowhere else; scaled to sum 1.

    Returns:
        float64 of shape [rows, classes]: probabilities; numbers for regression; mean ranks in
        [0, 1] for "rank_mean".

    Raises:
        ConfigurationError: `how` is unknown, it does not fit, or the weights cannot be any.

    Example:
        >>> two = np.log([[[0.9, 0.1]], [[0.5, 0.5]]])
        >>> combine(two, "single_label_classification").round(3)
        array([[0.7, 0.3]])
        >>> combine(two, "single_label_classification", how="mean_logit").round(3)
        array([[0.75, 0.25]])
        >>> combine(two, "single_label_classification", how="weighted", weights=[3, 1]).round(3)
        array([[0.8, 0.2]])
    """
    check_choice(how, COMBINATIONS, name="combine")
    if (weights is not None) != (how == "weighted"):
        raise ConfigurationError(
            f"combine={how!r} and weights={None if weights is None else list(weights)!r} do not go "
            "together; weights belong to combine='weighted', and it needs them"
        )
    if how == "mean_logit":
        return probabilities(np.asarray(outputs, dtype=np.float64).mean(axis=0), kind)
    if how == "rank_mean":
        return _mean_rank(outputs, kind)
    every = probabilities(outputs, kind)
    if weights is None:
        mean: Array = every.mean(axis=0)
        return mean
    weighted: Array = np.tensordot(checked_weights(weights, len(outputs)), every, axes=1)
    return weighted


def checked_weights(weights: Sequence[float], members: int) -> Array:
    """Returns the weights scaled to sum 1.

    Raises:
        ConfigurationError: There is not one for each member, one is negative or no number, or all
            are 0.

    Example:
        >>> checked_weights([1, 3], 2)
        array([0.25, 0.75])
    """
    found = np.asarray(weights, dtype=np.float64)
    if found.shape != (members,) or not np.isfinite(found).all() or (found < 0).any():
        raise ConfigurationError(
            f"weights must be {members} numbers from 0 up, one for each member, got "
            f"{list(weights)!r}"
        )
    if not found.sum():
        raise ConfigurationError("weights are all 0; give one member or more a weight above 0")
    scaled: Array = found / found.sum()
    return scaled


def scaled_ranks(values: Array, *, axis: int) -> Array:
    """Returns ranks along an axis, scaled so that the smallest is 0 and the largest 1.

    (rank - 1) / (n - 1), rank from 1 to n, ties their mean rank; 1/2 where n is 1.

    Example:
        >>> scaled_ranks(np.array([0.2, 0.9, 0.2, 0.5]), axis=0).round(3)
        array([0.167, 1.   , 0.167, 0.667])
    """
    from scipy.stats import rankdata

    number = values.shape[axis]
    if number == 1:
        return np.full(values.shape, 0.5)
    ranks: Array = (rankdata(values, axis=axis) - 1) / (number - 1)
    return ranks


def _mean_rank(outputs: Array, kind: Kind) -> Array:
    """Ranks of each class's probability over the rows; of choices within their row."""
    if kind == MULTI:
        raise ConfigurationError(
            "combine='rank_mean' does not fit several labels per row: a rank has no threshold over "
            "which a label counts; use mean_probability or mean_logit"
        )
    # Of a row's choices A means nothing in another row; what compares are the choices of one row.
    axis = 2 if kind == CHOICE else 1
    mean: Array = scaled_ranks(probabilities(outputs, kind), axis=axis).mean(axis=0)
    return mean
