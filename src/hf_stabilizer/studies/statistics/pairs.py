"""Does one recipe score otherwise than another under the same seeds, or is it chance?

Two recipes run over the same seeds give differences d_1..d_n; if nothing but chance separates
them, each d_i is as likely to be -d_i. All 2^n choices of signs give the p-value, and the same
choices give the interval (Hartigan 1969), so that the interval leaves out zero exactly when p is
at most 1 - confidence. Nothing is assumed to be normal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hf_stabilizer.studies.statistics.checks import check_share, finite_scores, same_length
from hf_stabilizer.studies.statistics.intervals import Interval, wilson_interval

Floats = npt.NDArray[np.float64]

EXACT_UP_TO = 16
"""Pairs up to which every choice of signs is looked at; above it `SAMPLES` are drawn."""
SAMPLES = 19_999


@dataclass(frozen=True)
class Superiority:
    """How often one recipe is better than another under the same seeds."""

    share: float
    """(wins + ties / 2) / pairs, in [0, 1]; one half is no difference."""
    interval: Interval
    """95 % Wilson interval of that share."""
    wins: int
    """Pairs in which the candidate is better."""
    ties: int
    """Pairs in which both score the same."""
    losses: int
    """Pairs in which the baseline is better."""


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

    Returns:
        None without pairs.

    Raises:
        DataError: A difference is no finite number.

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

    Raises:
        ConfigurationError: `confidence` is not in (0, 1).
        DataError: A difference is no finite number.

    Example:
        >>> sign_flip_interval([0.1, 0.2, 0.1, 0.3, 0.2, 0.1])
        Interval(low=0.1, high=0.3)
        >>> sign_flip_interval([0.1, 0.2, 0.1, 0.3, 0.2]) is None
        True

    Source: Hartigan 1969, Using Subsample Values as Typical Values, theorem 1.
    """
    check_share(confidence, name="confidence")
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

    Raises:
        DataError: The two are not equally long, or a score is no finite number.

    Example:
        >>> plain = [0.30, 0.45, 0.21, 0.38, 0.29, 0.50]
        >>> spread_p_value(plain, [0.86, 0.861, 0.859, 0.858, 0.862, 0.86])
        0.03125

    Source: Brown, Forsythe 1974, Robust Tests for the Equality of Variances; for pairs Wilcox
    1989, Comparing the variances of dependent groups.
    """
    if len(first) < 2:
        return None
    return sign_flip_p_value(spread_differences(first, second), seed=seed)


def spread_differences(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Returns how much farther from its own median the second of each pair lies than the first.

    Example:
        >>> spread_differences([1.0, 2.0, 3.0], [5.0, 7.0, 8.0])
        [1.0, 0.0, 0.0]
    """
    same_length(first=first, second=second)
    named = {"first": first, "second": second}
    scores = [finite_scores(values, name=name) for name, values in named.items()]
    distances = [np.abs(values - np.median(values)) for values in scores]
    found: list[float] = (distances[1] - distances[0]).tolist()
    return found


def probability_of_superiority(
    first: Sequence[float], second: Sequence[float], *, greater_is_better: bool = True
) -> Superiority | None:
    """Returns the share of pairs in which the second is better, ties counted half.

    The chance that it wins under a new seed, with Wilson's interval.

    Args:
        first: Scores of the baseline.
        second: Scores of the candidate under the same seeds, in the same order.
        greater_is_better: Direction of the metric.

    Returns:
        None without pairs.

    Raises:
        DataError: The two are not equally long, or a score is no finite number.

    Example:
        >>> found = probability_of_superiority([0.5, 0.6, 0.7, 0.8], [0.6, 0.6, 0.8, 0.9])
        >>> found.share, found.wins, found.ties, found.losses
        (0.875, 3, 1, 0)

    Source: Bouthillier et al. 2021, Accounting for Variance in Machine Learning Benchmarks,
    section 4, arXiv 2103.03098, who call a share of .75 and more meaningful.
    """
    same_length(first=first, second=second)
    before, after = finite_scores(first, name="first"), finite_scores(second, name="second")
    if not len(before):
        return None
    gains = after - before if greater_is_better else before - after
    wins, ties = int(np.sum(gains > 0)), int(np.sum(gains == 0))
    return Superiority(
        share=(wins + ties / 2) / len(gains),
        interval=wilson_interval(wins + ties / 2, len(gains)),
        wins=wins,
        ties=ties,
        losses=len(gains) - wins - ties,
    )


def significance_words(
    differences: Sequence[float], *, level: float = 0.05, comparisons: int = 1
) -> str:
    """Returns a sentence where these pairs cannot reach the level, whatever they show; else "".

    A pair without a difference cannot help: turning its sign changes nothing.

    Args:
        differences: Candidate minus baseline of each pair.
        level: The level that a claim needs, in (0, 1).
        comparisons: Number of comparisons that share the level.

    Example:
        >>> significance_words([0.1, 0.2, 0.1, 0.3, 0.2])
        '5 pairs cannot reach p <= 0.05 in an exact paired test, whatever they show; 6 can'
        >>> significance_words([0.1, 0.2, 0.1, 0.3, 0.2, 0.0])
        '6 pairs, 1 without a difference, cannot reach p <= 0.05 in an exact paired test; one more
        that differs can'
        >>> significance_words([0.1] * 6)
        ''
    """
    check_share(level, name="level")
    needed = pairs_needed(level=level, comparisons=comparisons)
    pairs, differing = len(differences), sum(d != 0 for d in differences)
    if differing >= needed:
        return ""
    counted = {0: "no pair", 1: "one pair"}.get(pairs, f"{pairs} pairs")
    test = f"cannot reach p <= {level:g} in an exact paired test"
    if pairs < needed:
        return f"{counted} {test}, whatever they show; {needed} can"
    more = needed - differing
    that_differ = "one more that differs" if more == 1 else f"{more} more that differ"
    return f"{counted}, {pairs - differing} without a difference, {test}; {that_differ} can"


def choices_of_signs(pairs: int, *, seed: int) -> tuple[Floats, bool]:
    """Returns choices of signs, one in each row, and whether they were drawn.

    All 2^n up to 16 pairs, the one seen (all plus) among them; above that 19,999 drawn ones.

    Example:
        >>> choices_of_signs(2, seed=0)[0].tolist()
        [[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]
    """
    if pairs <= EXACT_UP_TO:
        every: Floats = 1.0 - 2.0 * _subsets(pairs).astype(np.float64)
        return every, False
    drawn = np.random.default_rng(seed).integers(0, 2, size=(SAMPLES, pairs), dtype=np.int8)
    signs: Floats = 1.0 - 2.0 * drawn.astype(np.float64)
    return signs, True


def _subsets(n: int) -> npt.NDArray[np.int64]:
    """All subsets of n things as rows of zeros and ones, the empty one first."""
    rows: npt.NDArray[np.int64] = (np.arange(2**n)[:, None] >> np.arange(n)) & 1  # (2^n, n)
    return rows


def _subset_means(differences: Sequence[float], *, seed: int) -> Floats:
    """Means of all non-empty subsets of the differences, or of a sample of them.

    Flipping the signs of a subset moves the sum to or past the other side of a value v exactly if
    the subset's mean is at most v: so these means hold the whole test.
    """
    n = len(differences)
    values = finite_scores(differences, name="differences")
    if n <= EXACT_UP_TO:
        chosen = _subsets(n)[1:]  # (2^n - 1, n)
    else:
        # An empty subset has a chance of 2^-17 at most; dividing by 1 makes it a zero, not a NaN.
        chosen = np.random.default_rng(seed).integers(0, 2, size=(SAMPLES, n), dtype=np.int8)
    means: Floats = (chosen @ values) / np.maximum(chosen.sum(axis=1), 1)
    # Sums such as .1 + .1 - .2 are zero but for rounding, and zero counts on both sides.
    means[np.abs(means) <= 1e-12 * np.abs(values).max(initial=0.0)] = 0.0
    return means
