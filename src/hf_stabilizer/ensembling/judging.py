"""How good is the mean beside its members? Scores on the same rows, and an interval over rows.

Rows are resampled with replacement, the same ones for both sides (paired bootstrap, Efron and
Tibshirani 1993), and the middle 95 % of the differences are the interval. It tells what other rows
might have said of these very models; it says nothing of other seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hf_stabilizer.ensembling.combining import Array
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.scores import CHOICE, MULTI, NUMBER, SCORES, SINGLE, Kind
from hf_stabilizer.scores.inputs import Outputs
from hf_stabilizer.scores.names import parse_name
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.statistics import Interval, percentile_interval

RESAMPLES = 1_000
LOSS = "negative_log_likelihood"
_OF_PROBABILITIES = (LOSS, "brier_score", "calibration_error", "calibration_error_K")


@dataclass(frozen=True)
class Judge:
    """A score, computed from (probabilities, labels)."""

    whole: Callable[[Array, Array], float]
    """Of all rows together."""
    by_row: Callable[[Array, Array], Array] | None = None
    """Of each row, where the score is what `finish` makes of their mean; None where it is not."""
    finish: Callable[[float], float] = float
    """From the mean over rows to the score."""

    def __call__(self, found: Array, labels: Array) -> float:
        """Returns the score of all rows together."""
        return self.whole(found, labels)


def judge_of(metric: str, kind: Kind, *, combine: str = "mean_probability") -> Judge:
    """Returns what computes a score from (probabilities, labels).

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

    finish = math.sqrt if family == "rmse" else float
    return Judge(judge, _row_scores(family, k, kind), finish)


def _row_scores(family: str, k: int | None, kind: Kind) -> Callable[[Array, Array], Array] | None:
    """Returns the function from (probabilities, labels) to the scores of the rows by themselves."""

    def ranks(found: Array, labels: Array) -> Array:
        right = found[np.arange(len(labels)), labels.astype(np.int64)]
        found_ranks: Array = (found >= right[:, None]).sum(axis=1)
        return found_ranks

    known: dict[str, Callable[[Array, Array], Array]] = {
        "top_K_accuracy": lambda found, labels: ranks(found, labels) <= (k or 1),
        "map_at_K": lambda f, y: np.where(ranks(f, y) <= (k or 1), 1 / ranks(f, y), 0.0),
        "mse": lambda found, labels: (found[:, 0] - labels) ** 2,
        "rmse": lambda found, labels: (found[:, 0] - labels) ** 2,
        "mae": lambda found, labels: np.abs(found[:, 0] - labels),
    }
    if kind != MULTI:
        known["accuracy"] = lambda found, labels: found.argmax(axis=1) == labels
    return known.get(family)


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
    difference = _by_rows(first, second, labels, judge) or _by_scores(first, second, labels, judge)
    return percentile_interval([difference(draw.integers(0, rows, rows)) for _ in range(RESAMPLES)])


def _by_scores(
    first: Array, second: Array, labels: Array, judge: Judge
) -> Callable[[Array], float]:
    """Returns the function from resampled rows to the difference of both sides' scores."""

    def difference(chosen: Array) -> float:
        right = labels[chosen]
        return judge(first[chosen], right) - judge(second[chosen], right)

    return difference


def _by_rows(
    first: Array, second: Array, labels: Array, judge: Judge
) -> Callable[[Array], float] | None:
    """The same for a score that is a mean over rows, a hundred times faster; None for others.

    The rows' own scores must come to the score itself, or they are not used.
    """
    rows = judge.by_row
    if rows is None:
        return None
    mine, theirs = (rows(side, labels).astype(np.float64) for side in (first, second))  # (rows,)
    means = [judge.finish(float(side.mean())) for side in (mine, theirs)]
    if not np.allclose(means, [judge(first, labels), judge(second, labels)], rtol=1e-9, atol=1e-12):
        return None

    def difference(chosen: Array) -> float:
        return judge.finish(float(mine[chosen].mean())) - judge.finish(float(theirs[chosen].mean()))

    return difference


def how_sure(
    difference: float, interval: Interval | None, *, greater_is_better: bool, decimals: int
) -> str:
    """Returns the end of a sentence about a difference: its interval, and what it comes to.

    Example:
        >>> how_sure(0.02, Interval(-0.01, 0.05), greater_is_better=True, decimals=2)
        ' (95 % interval over rows -0.01 to +0.05), no clear gain'
    """
    if interval is None:
        return "; too few rows for an interval"
    low, high = (formats.number(end, decimals, signed=True) for end in interval)
    is_clear = interval.low > 0 or interval.high < 0
    is_better = (difference > 0) == greater_is_better
    words = ("a clear gain" if is_better else "a clear loss") if is_clear else "no clear gain"
    return f" (95 % interval over rows {low} to {high}), {words}"
