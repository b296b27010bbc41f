"""What do the scores of many runs say, and how sure can we be?

Numbers in, numbers out: no torch, no transformers. Three decisions shape the module.

Few runs are the rule, so tests are exact. Two recipes run over the same seeds give differences
d_1..d_n; if nothing but chance separates them, each d_i is as likely to be -d_i. All 2^n choices
of signs give the p-value, and the same choices give the interval (Hartigan 1969), so that the
interval leaves out zero exactly when p is at most 1 - confidence. Nothing is assumed to be normal.

Failed runs are the point, so none is dropped in silence. A collapsed run keeps its score in every
mean and spread; a run without a score cannot be averaged, and is counted and shown instead. Runs
that a study stopped early have no final score: they are counted, never averaged.

Spread is a result of its own: `spread_p_value` tests it as strictly as the mean is tested.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from hf_stabilizer.records import Run

Floats = npt.NDArray[np.float64]

EXACT_UP_TO = 16
"""Pairs up to which every choice of signs is looked at; above it `SAMPLES` are drawn."""
SAMPLES = 19_999
RESAMPLES = 9_999


class Interval(NamedTuple):
    """The two ends of an interval, both included."""

    low: float
    high: float


def sample_std(scores: Sequence[float]) -> float | None:
    """Returns sqrt(sum (x_i - mean)^2 / (n - 1)), or None for fewer than two scores.

    Example:
        >>> sample_std([1.0, 2.0, 3.0])
        1.0
    """
    return float(np.std(scores, ddof=1)) if len(scores) > 1 else None


def bootstrap_interval(
    scores: Sequence[float], *, confidence: float = 0.95, seed: int = 0
) -> Interval | None:
    """Returns the bias-corrected and accelerated (BCa) bootstrap interval of the mean.

    The same scores and seed give the same interval. Below eight scores or so bootstrap intervals
    are known to be too narrow: they describe the runs that were made, they test nothing.

    Args:
        scores: Independent scores, finite.
        confidence: Share of such intervals that should hold the true mean, in (0, 1).
        seed: Seed of the resampling.

    Returns:
        None for fewer than three scores, which cannot bound a mean; a single point where all
        scores are equal.

    Example:
        >>> low, high = bootstrap_interval([0.70, 0.72, 0.68, 0.75, 0.71, 0.60])
        >>> f"{low:.3f} {high:.3f}"
        '0.643 0.722'

    Source: Efron 1987, Better Bootstrap Confidence Intervals; as `scipy.stats.bootstrap` does it.
    """
    if len(scores) < 3:
        return None
    if min(scores) == max(scores):
        return Interval(float(scores[0]), float(scores[0]))
    result = stats.bootstrap(
        (np.sort(np.asarray(scores, dtype=float)),),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=confidence,
        method="BCa",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(result.low), float(result.high))


def wilson_interval(count: int, total: int, *, confidence: float = 0.95) -> Interval:
    """Returns Wilson's interval for a share, such as that of failed runs.

    (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), with p = count / n; unlike the
    simple interval it is right for 0 failures of 6, too. Without runs it is all of [0, 1].

    Example:
        >>> low, high = wilson_interval(0, 6)
        >>> f"{low:.2f} {high:.2f}"
        '0.00 0.39'

    Source: Wilson 1927, Probable Inference, the Law of Succession, and Statistical Inference.
    """
    if total == 0:
        return Interval(0.0, 1.0)
    z = float(stats.norm.ppf((1 + confidence) / 2))
    p, correction = count / total, z * z / total
    centre = (p + correction / 2) / (1 + correction)
    reach = z * math.sqrt(p * (1 - p) / total + correction / (4 * total)) / (1 + correction)
    return Interval(max(0.0, centre - reach), min(1.0, centre + reach))


def expected_validation_performance(
    scores: Sequence[float], *, greater_is_better: bool = True
) -> list[float]:
    """Returns the expected best score of k runs, for k = 1..n.

    sum_i x_(i) ((i/n)^k - ((i-1)/n)^k) over the scores in order, worst first: the mean of the best
    of k draws, with replacement, from the scores seen. The first value is the mean, later ones are
    low where k comes near n (Tang et al. 2020, arXiv 2004.13705).

    Example:
        >>> expected_validation_performance([0.0, 1.0])
        [0.5, 0.75]
        >>> expected_validation_performance([0.0, 1.0], greater_is_better=False)
        [0.5, 0.25]

    Source: Dodge, Gururangan, Card, Schwartz, Smith 2019, Show Your Work, section 3.1,
    arXiv 1909.03004.
    """
    n = len(scores)
    ordered = np.sort(np.asarray(scores, dtype=float))
    ordered = ordered if greater_is_better else ordered[::-1]
    below = np.arange(n + 1) / max(n, 1)
    return [float(ordered @ np.diff(below**k)) for k in range(1, n + 1)]


def smallest_p_value(pairs: int) -> float:
    """Returns the smallest two-sided p-value that so many pairs can reach at all: 2 / 2^n.

    Five pairs cannot reach .05, whatever they show; six can.

    Example:
        >>> smallest_p_value(5), smallest_p_value(6)
        (0.0625, 0.03125)
    """
    return min(1.0, 2.0 ** (1 - pairs))


def pairs_needed(*, level: float = 0.05, comparisons: int = 1) -> int:
    """Returns how many pairs can reach a level at all after correction for some comparisons.

    Example:
        >>> pairs_needed(), pairs_needed(comparisons=4)
        (6, 8)
    """
    return next(n for n in range(1, 64) if smallest_p_value(n) * comparisons <= level)


def sign_flip_p_value(differences: Sequence[float], *, seed: int = 0) -> float | None:
    """Returns the two-sided p-value of a mean difference of zero, by flipping signs.

    The share of the 2^n choices of signs whose sum is at least as far from zero as the one seen;
    exact up to 16 pairs, above that from 19,999 drawn choices and the one seen. It assumes that
    differences are symmetric about their mean, which seeds that are paired give for free when
    nothing but chance separates the recipes.

    Example:
        >>> sign_flip_p_value([0.1, 0.2, 0.1, 0.3, 0.2, 0.1])
        0.03125
        >>> sign_flip_p_value([0.1, -0.1])
        1.0

    Source: Fisher 1935, The Design of Experiments, section 21; Dror, Baumer, Shlomov, Reichart
    2018, The Hitchhiker's Guide to Testing Statistical Significance in NLP.
    """
    if not len(differences):
        return None
    means = _subset_means(differences, seed=seed)
    below, above = np.sum(means <= 0), np.sum(means >= 0)
    return float(min(1.0, 2 * (1 + min(below, above)) / (1 + len(means))))


def sign_flip_interval(
    differences: Sequence[float], *, confidence: float = 0.95, seed: int = 0
) -> Interval | None:
    """Returns the mean differences that `sign_flip_p_value` would not reject.

    The true mean is as likely to lie in any of the 2^n gaps between the means of the 2^n - 1
    non-empty subsets of the differences, so the interval reaches from the k-th smallest to the
    k-th largest of these, k = floor(2^n (1 - confidence) / 2). For six pairs at 95 % that is from
    the smallest difference to the largest.

    Returns:
        None where there are too few pairs for any finite interval (at 95 %: fewer than six).

    Example:
        >>> sign_flip_interval([0.1, 0.2, 0.1, 0.3, 0.2, 0.1])
        Interval(low=0.1, high=0.3)
        >>> sign_flip_interval([0.1, 0.2, 0.1, 0.3, 0.2]) is None
        True

    Source: Hartigan 1969, Using Subsample Values as Typical Values, theorem 1.
    """
    means = np.sort(_subset_means(differences, seed=seed))
    # The small addend mends (1 - 0.95) / 2 falling a hair short of 0.025.
    k = math.floor((1 + len(means)) * (1 - confidence) / 2 + 1e-9)
    return Interval(float(means[k - 1]), float(means[-k])) if k else None


def spread_p_value(
    first: Sequence[float], second: Sequence[float], *, seed: int = 0
) -> float | None:
    """Returns the p-value of two paired sets of scores being spread alike.

    Brown and Forsythe's distances from the median, |x_i - median x|, compared pair by pair with
    `sign_flip_p_value`. We do not use the classic Pitman-Morgan test: where recipes do not differ,
    but one run in seven collapses, it claims a difference in 30 to 40 % of studies of 6 to 10
    pairs (heavy tails, t with 3 degrees of freedom: 15 to 22 %), this one in 6 % (3 to 4 %), at
    little cost in power from eight pairs on.

    Returns:
        None for fewer than two pairs.

    Example:
        >>> plain = [0.30, 0.45, 0.21, 0.38, 0.29, 0.50]
        >>> spread_p_value(plain, [0.86, 0.861, 0.859, 0.858, 0.862, 0.86])
        0.03125

    Source: Brown, Forsythe 1974, Robust Tests for the Equality of Variances; for pairs Wilcox
    1989, Comparing the variances of dependent groups.
    """
    if len(first) < 2:
        return None
    distances = [np.abs(np.asarray(x, dtype=float) - np.median(x)) for x in (first, second)]
    return sign_flip_p_value((distances[1] - distances[0]).tolist(), seed=seed)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values corrected for their number, in the order given.

    The i-th smallest of m becomes the largest of (m - j + 1) p_(j) over j <= i, at most 1: the
    chance of even one false claim among them stays below the level.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    Source: Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure.
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, (len(p_values) - rank) * p_values[index])
        corrected[index] = min(1.0, largest)
    return corrected


@dataclass(frozen=True)
class RecipeSummary:
    """What the runs of one recipe say together. Scores are None where there are too few."""

    recipe: str
    """Name of the recipe."""
    runs: int
    """Runs recorded."""
    scored: int
    """Runs with a final score; the six numbers that follow are over these."""
    mean: float | None
    """Mean score."""
    std: float | None
    """Sample standard deviation, from two scores on."""
    median: float | None
    """Median score."""
    worst: float | None
    """The worst score: the smallest, or the largest where smaller is better."""
    best: float | None
    """The best score."""
    interval: Interval | None
    """95 % BCa bootstrap interval of the mean, from three scores on."""
    failed: int
    """Runs that raised or collapsed; a collapsed run keeps its score."""
    failed_rate: float
    """Share of failed runs, in [0, 1]."""
    failed_interval: Interval
    """95 % Wilson interval of that share."""
    stopped: int
    """Runs that the study stopped early; they have no final score."""
    seconds: float
    """Mean wall-clock time of a run in seconds, failed and stopped runs included."""


def final_score(run: Run) -> float | None:
    """Returns the score of a run that may be averaged: finite, and not of a run stopped early."""
    if run.status == "stopped" or run.score is None or not math.isfinite(run.score):
        return None
    return float(run.score)


def summary_rows(runs: Iterable[Run], recipes: Sequence[str]) -> list[RecipeSummary]:
    """Returns one summary per recipe, in the order given, also for a recipe without runs.

    Example:
        >>> run = Run("plain", {"head_seed": 1}, "finished", best_score=0.7, seconds=9.0)
        >>> row, = summary_rows([run], ["plain"])
        >>> row.mean, row.std, row.failed, row.seconds
        (0.7, None, 0, 9.0)
    """
    everything = tuple(runs)
    return [_summary(name, [r for r in everything if r.recipe == name]) for name in recipes]


def _summary(recipe: str, runs: Sequence[Run]) -> RecipeSummary:
    greater_is_better = all(run.greater_is_better for run in runs)
    scores = sorted(
        (score for run in runs if (score := final_score(run)) is not None),
        reverse=not greater_is_better,
    )
    failed = sum(run.status == "failed" for run in runs)
    return RecipeSummary(
        recipe=recipe,
        runs=len(runs),
        scored=len(scores),
        mean=float(np.mean(scores)) if scores else None,
        std=sample_std(scores),
        median=float(np.median(scores)) if scores else None,
        worst=scores[0] if scores else None,
        best=scores[-1] if scores else None,
        interval=bootstrap_interval(scores),
        failed=failed,
        failed_rate=failed / len(runs) if runs else 0.0,
        failed_interval=wilson_interval(failed, len(runs)),
        stopped=sum(run.status == "stopped" for run in runs),
        seconds=float(np.mean([run.seconds for run in runs])) if runs else 0.0,
    )


def _subset_means(differences: Sequence[float], *, seed: int) -> Floats:
    """Means of all non-empty subsets of the differences, or of a sample of them.

    Flipping the signs of a subset moves the sum to or past the other side of a value v exactly if
    the subset's mean is at most v: so these means hold the whole test.
    """
    n = len(differences)
    values = np.asarray(differences, dtype=float)
    if n <= EXACT_UP_TO:
        chosen = (np.arange(1, 2**n)[:, None] >> np.arange(n)) & 1  # (2^n - 1, n)
    else:
        # An empty subset has a chance of 2^-17 at most; dividing by 1 makes it a zero, not a NaN.
        chosen = np.random.default_rng(seed).integers(0, 2, size=(SAMPLES, n), dtype=np.int8)
    means: Floats = (chosen @ values) / np.maximum(chosen.sum(axis=1), 1)
    # Sums such as .1 + .1 - .2 are zero but for rounding, and zero counts on both sides.
    means[np.abs(means) <= 1e-12 * np.abs(values).max(initial=0.0)] = 0.0
    return means
