"""What do the teachers think of a row, and how sure are they? Arrays in, arrays out.

    P = mean over teachers of softmax(outputs)            [rows, classes]
    confidence = max over classes of P                    one class, or one choice
    confidence = min over labels of max(P, 1 - P)         several classes: sure of each, either way
    spread = standard deviation over teachers             numbers

Source: the mean of probabilities is the soft vote of Lakshminarayanan et al. 2017
(arXiv:1612.01474); pseudo-labels are Lee 2013. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_stabilizer.pseudo_labels.options import Kind

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Judgement:
    """What the teachers make of rows, together."""

    kind: Kind
    """What a row is given."""
    mean: Floats
    """[rows, classes] probabilities, or [rows, 1] numbers: the mean over the teachers."""
    sureness: Floats
    """[rows] confidence; of numbers the spread, and a smaller one is surer."""
    agreed: Bools
    """[rows] whether all teachers predict the same; of numbers always true."""

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """[rows] the likeliest class; 0 for numbers."""
        found: npt.NDArray[np.int64] = self.mean.argmax(axis=1)
        return found

    @property
    def positive(self) -> Bools:
        """[rows, classes] which classes a row has, where it may have several."""
        found: Bools = self.mean > 0.5
        return found


def judge(outputs: npt.NDArray[Any], kind: Kind) -> Judgement:
    """Returns what teachers make of rows.

    Args:
        outputs: [teachers, rows, classes] logits, or [teachers, rows, 1] numbers.
        kind: What a row is given.

    Example:
        >>> sure, torn = [np.log(9.0), 0.0], [0.0, 0.0]
        >>> both = judge(np.array([[sure, torn], [torn, torn]]), "classes")
        >>> both.mean.round(2).tolist(), both.sureness.round(2).tolist(), both.agreed.tolist()
        ([[0.7, 0.3], [0.5, 0.5]], [0.7, 0.5], [True, True])
    """
    if kind == "number":
        values = np.asarray(outputs, dtype=np.float64)
        spread = values.std(axis=0)[:, 0]
        return Judgement(kind, values.mean(axis=0), spread, np.ones(len(spread), dtype=bool))
    each = probabilities(outputs, kind)  # (teachers, rows, classes)
    mean = each.mean(axis=0)
    if kind == "labels":
        sets = each > 0.5
        agreed = (sets == sets[:1]).all(axis=(0, 2))
        return Judgement(kind, mean, np.maximum(mean, 1 - mean).min(axis=1), agreed)
    classes = each.argmax(axis=2)
    return Judgement(kind, mean, mean.max(axis=1), (classes == classes[:1]).all(axis=0))


def probabilities(outputs: npt.NDArray[Any], kind: Kind) -> Floats:
    """Returns the probabilities of logits: sigmoid for several classes, else softmax.

    Args:
        outputs: [..., classes] logits.
        kind: "labels" for classes that do not exclude one another.

    Example:
        >>> probabilities(np.array([0.0, 0.0]), "classes"), probabilities(np.array([0.0]), "labels")
        (array([0.5, 0.5]), array([0.5]))
    """
    from scipy.special import expit, softmax

    logits = np.asarray(outputs, dtype=np.float64)
    found: Floats = expit(logits) if kind == "labels" else softmax(logits, axis=-1)
    return found


def sharpened(mean: Floats, temperature: float) -> Floats:
    """Returns p^(1/T), made to sum to 1 over the classes.

    T=1 gives p; T towards 0 gives 1 to the likeliest class; a large T gives all the same.

    Args:
        mean: [rows, classes] probabilities.
        temperature: T, above 0.

    Example:
        >>> sharpened(np.array([[0.8, 0.2]]), 0.5).round(3)
        array([[0.941, 0.059]])

    Source: Berthelot et al. 2019 (MixMatch, arXiv:1905.02249), equation 7.
    """
    if temperature == 1:
        return mean
    with np.errstate(divide="ignore"):  # the logarithm of 0, whose power is 0
        logs = np.log(mean) / temperature
    powers = np.exp(logs - logs.max(axis=-1, keepdims=True))
    found: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return found
