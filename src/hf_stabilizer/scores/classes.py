"""How many rows have the right class, or have it near the top? Over scikit-learn."""

from __future__ import annotations

import numpy as np

from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.scores.score import Array


def accuracy(predictions: Array, references: Array) -> float:
    """Returns the share of right rows; with several labels per row all of them must be right."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(references, predictions))


def f1(predictions: Array, references: Array, average: str) -> float:
    """Returns F1: of class 1 ("binary"), averaged over classes ("macro") or decisions ("micro").

    Raises:
        ConfigurationError: "binary", and there are more than two classes.
    """
    from sklearn.metrics import f1_score

    if average == "binary" and set(np.unique([references, predictions])) - {0, 1}:
        raise ConfigurationError(
            "metric 'f1' is for two classes, and there are more; use f1_macro or f1_micro"
        )
    # A class that is never predicted has F1 0, as is usual.
    return float(f1_score(references, predictions, average=average, zero_division=0))


def matthews_correlation(predictions: Array, references: Array) -> float:
    """Returns the Matthews correlation of the classes."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(references, predictions))


def top_accuracy(scores: Array, references: Array, k: int) -> float:
    """Returns the share of rows whose class is among the k with the best scores."""
    return float(np.mean(_ranks(scores, references) <= k))


def map_at(scores: Array, references: Array, k: int) -> float:
    """Returns the mean of 1 / rank of the right class, 0 beyond rank k."""
    ranks = _ranks(scores, references)
    return float(np.mean(np.where(ranks <= k, 1 / ranks, 0.0)))


def _ranks(scores: Array, references: Array) -> Array:
    """Returns the rank of the right class or choice, 1 the best; a tie counts against it."""
    scores = np.nan_to_num(scores, nan=-np.inf)
    right = scores[np.arange(len(references)), references]  # (rows,)
    ranks: Array = (scores >= right[:, None]).sum(axis=1)
    return ranks
