"""How sure is a classifier, and is it right to be? From the softmax p of each row's scores.

    entropy                  mean over rows of  -sum_c p_c ln p_c              nats, 0..ln C
    negative log-likelihood  mean over rows of  -ln p_label                    nats, 0..
    Brier score              mean over rows of  sum_c (p_c - [c is label])^2   0..2
    calibration error        sum_m |B_m|/n |accuracy(B_m) - confidence(B_m)|   0..1

B_m holds the rows whose largest p lies in ((m - 1)/M, m/M]. Scores that are not numbers are those
of a model that is lost: sure of a wrong class.

Sources: Brier 1950 (the sum over all classes, also where there are two: twice the other usual
form); Guo, Pleiss, Sun, Weinberger 2017, section 2, arXiv 1706.04599 (M = 15).
"""

from __future__ import annotations

import numpy as np

from hf_stabilizer.scores.score import Array

BINS = 15
"""Bins of the calibration error where none are named, as in its source."""


def prediction_entropy(scores: Array, references: Array) -> float:
    """Returns the mean entropy of the predicted distributions, in nats.

    Example:
        >>> round(prediction_entropy(np.zeros((3, 2)), np.zeros(3, int)), 4)  # ln 2
        0.6931
    """
    logs = _log_probabilities(scores, references)
    finite = np.where(np.isneginf(logs), 0.0, logs)  # p ln p goes to 0 with p
    return abs(float(-(np.exp(logs) * finite).sum(axis=-1).mean()))


def negative_log_likelihood(scores: Array, references: Array) -> float:
    """Returns the mean of -ln p of the right class: the mean cross-entropy, in nats."""
    logs = _log_probabilities(scores, references)
    return abs(float(-logs[np.arange(len(references)), references].mean()))


def brier_score(scores: Array, references: Array) -> float:
    """Returns the mean squared distance of the distribution from the right class, in [0, 2]."""
    probabilities = np.exp(_log_probabilities(scores, references))
    right = np.eye(probabilities.shape[-1])[references]
    return float(((probabilities - right) ** 2).sum(axis=-1).mean())


def calibration_error(scores: Array, references: Array, k: int = BINS) -> float:
    """Returns the expected calibration error over `k` bins of equal width.

    Example:
        >>> sure = np.log([[0.9, 0.1], [0.9, 0.1]])
        >>> round(calibration_error(sure, np.array([0, 1]), k=10), 4)  # right half of the time
        0.4
    """
    probabilities = np.exp(_log_probabilities(scores, references))
    confidence = probabilities.max(axis=-1)
    is_right = probabilities.argmax(axis=-1) == references
    bins = np.clip(np.ceil(confidence * k).astype(int) - 1, 0, k - 1)  # ((m - 1)/k, m/k]
    gaps = np.bincount(bins, weights=is_right - confidence, minlength=k)
    return float(np.abs(gaps).sum() / len(references))


def _log_probabilities(scores: Array, references: Array) -> Array:
    """Returns ln p. Shape (rows, classes)."""
    from scipy.special import log_softmax

    scores = np.asarray(scores, dtype=np.float64)
    lost = ~np.isfinite(scores.max(axis=-1))  # a NaN, +inf, or nothing but -inf
    wrong = (references + 1) % scores.shape[-1]
    sure = np.where(np.arange(scores.shape[-1]) == wrong[:, None], 0.0, -np.inf)
    logs: Array = np.where(
        lost[:, None], sure, log_softmax(np.where(lost[:, None], 0.0, scores), axis=-1)
    )
    return logs
