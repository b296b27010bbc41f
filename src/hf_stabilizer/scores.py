"""How good are these predictions? One function per score, over scikit-learn and scipy.

    predictions, references --compute--> one number that compares

A score must compare: the Trainer never replaces a best score that is not a number. So the
correlation of constant predictions is 0, not undefined, and predictions that are not finite
have an infinite error and correlation 0.

Importing this module imports neither package; the functions do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hf_stabilizer.errors import ConfigurationError

# Any in this module: arrays of classes, flags, scores or numbers, as the metric wants them.
Array = npt.NDArray[Any]
Wants = Literal["classes", "scores", "numbers"]
Kind = Literal[
    "single_label_classification", "multi_label_classification", "regression", "multiple-choice"
]
SINGLE: Kind = "single_label_classification"
MULTI: Kind = "multi_label_classification"
NUMBER: Kind = "regression"
CHOICE: Kind = "multiple-choice"


@dataclass(frozen=True)
class Score:
    """One kind of score."""

    compute: Callable[..., float]
    """From (predictions, references), and K where the name has one, to the score."""
    wants: Wants
    """What the predictions are: class ids (a flag per class for several labels), a score per
    class or choice, or numbers."""
    kinds: tuple[Kind, ...]
    """Kinds of label it fits."""
    greater_is_better: bool = True
    """Whether larger values are better."""
    has_k: bool = False
    """Whether its name holds a number K."""
    num_labels: int | None = None
    """How many classes it is for; None: any number."""


def _accuracy(predictions: Array, references: Array) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(references, predictions))


def _f1(predictions: Array, references: Array, average: str) -> float:
    from sklearn.metrics import f1_score

    if average == "binary" and set(np.unique([references, predictions])) - {0, 1}:
        raise ConfigurationError(
            "metric 'f1' is for two classes, and there are more; use f1_macro or f1_micro"
        )
    # A class that is never predicted has F1 0, as is usual.
    return float(f1_score(references, predictions, average=average, zero_division=0))


def _matthews(predictions: Array, references: Array) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(references, predictions))


def _ranks(scores: Array, references: Array) -> Array:
    """Returns the rank of the right class or choice, 1 the best; a tie counts against it."""
    scores = np.nan_to_num(scores, nan=-np.inf)
    right = scores[np.arange(len(references)), references]  # (rows,)
    ranks: Array = (scores >= right[:, None]).sum(axis=1)
    return ranks


def _top_accuracy(scores: Array, references: Array, k: int) -> float:
    return float(np.mean(_ranks(scores, references) <= k))


def _map_at(scores: Array, references: Array, k: int) -> float:
    ranks = _ranks(scores, references)
    return float(np.mean(np.where(ranks <= k, 1 / ranks, 0.0)))


def _squared(predictions: Array, references: Array) -> float:
    from sklearn.metrics import mean_squared_error

    if not np.isfinite(predictions).all():
        return float("inf")
    return float(mean_squared_error(references, predictions))


def _root_squared(predictions: Array, references: Array) -> float:
    return float(np.sqrt(_squared(predictions, references)))


def _absolute(predictions: Array, references: Array) -> float:
    from sklearn.metrics import mean_absolute_error

    if not np.isfinite(predictions).all():
        return float("inf")
    return float(mean_absolute_error(references, predictions))


def _correlation(predictions: Array, references: Array, kind: str) -> float:
    from scipy import stats

    if not np.isfinite(predictions).all() or np.ptp(predictions) == 0 or np.ptp(references) == 0:
        return 0.0
    correlate = stats.pearsonr if kind == "pearson" else stats.spearmanr
    return float(correlate(predictions, references)[0])


SCORES: Mapping[str, Score] = {
    "accuracy": Score(_accuracy, "classes", (SINGLE, MULTI, CHOICE)),
    "f1": Score(functools.partial(_f1, average="binary"), "classes", (SINGLE,), num_labels=2),
    "f1_macro": Score(functools.partial(_f1, average="macro"), "classes", (SINGLE, MULTI)),
    "f1_micro": Score(functools.partial(_f1, average="micro"), "classes", (SINGLE, MULTI)),
    "matthews_correlation": Score(_matthews, "classes", (SINGLE,)),
    "top_K_accuracy": Score(_top_accuracy, "scores", (SINGLE, CHOICE), has_k=True),
    "map_at_K": Score(_map_at, "scores", (SINGLE, CHOICE), has_k=True),
    "rmse": Score(_root_squared, "numbers", (NUMBER,), greater_is_better=False),
    "mse": Score(_squared, "numbers", (NUMBER,), greater_is_better=False),
    "mae": Score(_absolute, "numbers", (NUMBER,), greater_is_better=False),
    "pearson": Score(functools.partial(_correlation, kind="pearson"), "numbers", (NUMBER,)),
    "spearman": Score(functools.partial(_correlation, kind="spearman"), "numbers", (NUMBER,)),
}
"""By name; K stands for a whole number."""
