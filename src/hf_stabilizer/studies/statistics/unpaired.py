"""Do two recipes score differently when their runs cannot be paired by seeds?

Runs that exist already often tell no seeds. Then the two sets of scores are independent samples.
If nothing but chance separated the recipes, any n of the n + m scores could have been the first
recipe's. All choices give the p-value, and the same choices give the interval, so that the
interval leaves out zero exactly when p is at most 1 - confidence. Nothing is assumed to be normal.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hf_stabilizer.studies.statistics.checks import check_share, finite_scores
from hf_stabilizer.studies.statistics.intervals import Interval
from hf_stabilizer.studies.statistics.pairs import SAMPLES

Floats = npt.NDArray[np.float64]

EXACT_UP_TO = 50_000
"""Choices up to which every one is looked at; above it `SAMPLES` are drawn."""


def smallest_unpaired_p_value(first: int, second: int) -> float:
    """Returns the smallest two-sided p-value that so many runs can reach at all: 2 / C(n + m, n).

    Three runs against three cannot reach .05, whatever they show; four against four can.

    Example:
        >>> round(smallest_unpaired_p_value(3, 3), 3), round(smallest_unpaired_p_value(4, 4), 3)
        (0.1, 0.029)
    """
    return min(1.0, 2.0 / math.comb(first + second, first))


def permutation_p_value(
    first: Sequence[float], second: Sequence[float], *, seed: int = 0
) -> float | None:
    """Returns the two-sided p-value of two independent sets of scores having one mean.

    Twice the smaller share of the choices of n among the n + m scores whose difference of means
    is as far to one side as the one seen, at most 1; exact up to 50,000 choices, above that from
    19,999 drawn ones and the one seen.

    Returns:
        None without scores on both sides.

    Raises:
        DataError: A score is no finite number.

    Example:
        >>> round(permutation_p_value([0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]), 4)
        0.0286
        >>> permutation_p_value([0.1, 0.2], [0.1, 0.2])
        1.0

    Source: Fisher 1935, The Design of Experiments, section 21; Ernst 2004, Permutation Methods: A
    Basis for Exact Inference, section 2.
    """
    if not (len(first) and len(second)):
        return None
    shifts = _shifts(first, second, seed=seed)
    below, above = np.sum(shifts <= 0), np.sum(shifts >= 0)
    return float(min(1.0, 2 * (1 + min(below, above)) / (1 + len(shifts))))


def permutation_interval(
    first: Sequence[float], second: Sequence[float], *, confidence: float = 0.95, seed: int = 0
) -> Interval | None:
    """Returns the differences, second minus first, that `permutation_p_value` would not reject.

    The second recipe's scores less d are held against the first's; d is in the interval unless
    that test's p-value is at most 1 - confidence.

    Returns:
        None where there are too few runs for any finite interval.

    Raises:
        ConfigurationError: `confidence` is not in (0, 1).
        DataError: A score is no finite number.

    Example:
        >>> permutation_interval([1, 2, 3, 4], [5, 6, 7, 8])
        Interval(low=1.0, high=7.0)
        >>> permutation_interval([1, 2, 3], [5, 6, 7]) is None
        True

    Source: Ernst 2004, Permutation Methods, section 2.3; Hartigan 1969 for the paired case.
    """
    check_share(confidence, name="confidence")
    shifts = np.sort(_shifts(first, second, seed=seed))
    # The small addend mends (1 - 0.95) / 2 falling a hair short of 0.025.
    k = math.floor((1 + len(shifts)) * (1 - confidence) / 2 + 1e-9)
    return Interval(float(shifts[k - 1]), float(shifts[-k])) if k else None


def superiority_of_unpaired(
    first: Sequence[float], second: Sequence[float], *, greater_is_better: bool = True
) -> float | None:
    """Returns the chance that a run of the second beats one of the first, ties counted half.

    Over all n m pairs of runs; one half is no difference.

    Returns:
        None without scores on both sides.

    Raises:
        DataError: A score is no finite number.

    Example:
        >>> superiority_of_unpaired([0.1, 0.2], [0.2, 0.3])
        0.875

    Source: Mann, Whitney 1947, On a Test of Whether one of Two Random Variables is Stochastically
    Larger than the Other: U / (n m).
    """
    if not (len(first) and len(second)):
        return None
    before, after = finite_scores(first, name="first"), finite_scores(second, name="second")
    gaps = np.subtract.outer(after, before)  # (m, n)
    wins = gaps > 0 if greater_is_better else gaps < 0
    return float((wins.sum() + (gaps == 0).sum() / 2) / gaps.size)


def _shifts(first: Sequence[float], second: Sequence[float], *, seed: int) -> Floats:
    """For each other choice, the d at which it is as extreme as the one seen.

    With the second's scores less d, the difference of means of a choice is a - b d, b < 1, and of
    the one seen D - d: they are equal at d = (D - a) / (1 - b).
    """
    n, m = len(first), len(second)
    if not (n and m):
        return np.empty(0)
    named = {"first": first, "second": second}
    scores = np.concatenate([finite_scores(values, name=name) for name, values in named.items()])
    is_second = np.arange(n + m) >= n
    chosen = _choices(n, m, seed=seed)  # (choices, n + m), true where it is called the second's
    weights = np.where(chosen, 1 / m, -1 / n)
    seen = scores[n:].mean() - scores[:n].mean()
    shifts: Floats = (seen - weights @ scores) / (1 - weights @ is_second)
    shifts[np.abs(shifts) <= 1e-12 * np.abs(scores).max(initial=0.0)] = 0.0
    return shifts


def _choices(n: int, m: int, *, seed: int) -> npt.NDArray[np.bool_]:
    """Every choice of m among n + m but the one seen, or a sample of them."""
    if math.comb(n + m, m) <= EXACT_UP_TO:
        places = np.array(list(itertools.combinations(range(n + m), m)))
        chosen = np.zeros((len(places), n + m), dtype=bool)
        np.put_along_axis(chosen, places, True, axis=1)
    else:
        order = np.random.default_rng(seed).random((SAMPLES, n + m)).argsort(axis=1)
        chosen = order < m
    seen = np.arange(n + m) >= n
    others: npt.NDArray[np.bool_] = chosen[(chosen != seen).any(axis=1)]
    return others
