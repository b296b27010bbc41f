"""How good is the mean beside its members? Scores on the same rows, and an interval over rows.

Rows are resampled with replacement, the same ones for both sides (paired bootstrap, Efron and
Tibshirani 1993), and the middle 95 % of the differences are the interval. It tells what other rows
might have said of these very models; it says nothing of other seeds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hf_stabilizer.ensembling.combining import Array
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.scores import CHOICE, MULTI, NUMBER, SCORES, SINGLE, Kind
from hf_stabilizer.scores.inputs import Outputs
from hf_stabilizer.scores.names import parse_name
from hf_stabilizer.studies.statistics import Interval, percentile_interval

RESAMPLES = 1_000
LOSS = "negative_log_likelihood"
_OF_PROBABILITIES = (LOSS, "brier_score", "calibration_error", "calibration_error_K")
Judge = Callable[[Array, Array], float]


def judge_of(metric: str, kind: Kind, *, combine: str = "mean_probability") -> Judge:
    """Returns the function from (probabilities, labels) to the score.

    Args:
        metric: Name of a metric; "loss" is the mean log loss, or the mean squared error.
        kind: Kind of label.
        combine: How members are combined; ranks are no probabilities.

    Raises:
        ConfigurationError: The metric does not fit the labels, or the combination.

    Example:
        >>> score = judge_of("accuracy", "single_label_classification")
        >>> score(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]))
        0.5
    """
    if metric == "loss":
        metric = {NUMBER: "mse"}.get(kind, LOSS)
    family, k = parse_name(metric)
    score = SCORES[family]
    if kind not in score.kinds:
        raise ConfigurationError(f"metric {metric!r} does not fit {kind}; name another")
    _check_ranks(family, kind, combine)
    options = {"k": k} if score.has_k else {}

    def judge(found: Array, labels: Array) -> float:
        outputs = Outputs(_as_outputs(found, kind), np.asarray(labels), kind)
        return float(score.compute(*outputs.read(score.wants), **options))

    return judge


def _check_ranks(family: str, kind: Kind, combine: str) -> None:
    if combine != "rank_mean":
        return
    if family in _OF_PROBABILITIES or (kind == NUMBER and family != "spearman"):
        raise ConfigurationError(
            f"combine='rank_mean' gives ranks, which {family!r} cannot judge; use "
            f"{'spearman' if kind == NUMBER else 'accuracy'} as metric, or another combination"
        )


def _as_outputs(found: Array, kind: Kind) -> Array:
    """Turns probabilities into what models put out, as scores take it."""
    if kind == MULTI:
        clipped = np.clip(found, np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).epsneg)
        logits: Array = np.log(clipped) - np.log1p(-clipped)
        return logits
    if kind in (SINGLE, CHOICE):
        logs: Array = np.log(np.clip(found, np.finfo(np.float64).tiny, None))
        return logs
    return found


def paired_interval(
    first: Array, second: Array, labels: Array, judge: Judge, *, seed: int = 0
) -> Interval | None:
    """Returns the bootstrap interval of judge(first) - judge(second) over rows.

    Args:
        first: What one side says, [rows, classes].
        second: What the other says.
        labels: What is right.
        judge: What `judge_of` returned.
        seed: Seed of the resampling.

    Returns:
        None for fewer than three rows; a point where both sides say the same.

    Example:
        >>> score = judge_of("accuracy", "single_label_classification")
        >>> same = np.array([[0.9, 0.1]] * 5)
        >>> paired_interval(same, same, np.zeros(5, int), score)
        Interval(low=0.0, high=0.0)
    """
    rows = len(labels)
    if rows < 3:
        return None
    if np.array_equal(first, second):
        return Interval(0.0, 0.0)
    draw = np.random.default_rng(seed)
    differences = []
    for _ in range(RESAMPLES):
        chosen = draw.integers(0, rows, rows)
        differences.append(
            judge(first[chosen], labels[chosen]) - judge(second[chosen], labels[chosen])
        )
    return percentile_interval(differences)
