r"""Which rows judge, and which rows learn? Seeded samples that keep the shares of the labels.

For n rows of which n_c have label c, a sample of size m takes about m n_c / n rows of each label:
the whole part of that, and the remaining rows one each to the labels with the largest remainder.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]


def stratified_sample(
    strata: Sequence[str], size: int, *, seed: Sequence[int], leave_one: bool = False
) -> list[int]:
    """Draws `size` rows so that each stratum keeps its share; returns their places in order.

    Args:
        strata: The stratum of each row, its label for instance; all alike: a plain random sample.
        size: Number of rows to draw, at most what there is.
        seed: Whole numbers that seed the draw, always the same number of them: [s] and [s, s - 1]
            seed alike.
        leave_one: Leave at least one row of each stratum undrawn, where rows must remain to learn
            from. Otherwise at least one row of each stratum is drawn, if `size` allows.

    Example:
        >>> rows = ["a"] * 6 + ["b"] * 3 + ["c"]
        >>> [rows[place] for place in stratified_sample(rows, 3, seed=[0])]
        ['a', 'b', 'c']
        >>> [rows[place] for place in stratified_sample(rows, 3, seed=[0], leave_one=True)]
        ['a', 'a', 'b']
    """
    names, codes, counts = np.unique(np.asarray(strata), return_inverse=True, return_counts=True)
    least = np.zeros(len(names), dtype=np.int64)
    most = counts - 1 if leave_one else counts
    if not leave_one and size >= len(names):
        least += 1
    quotas = allot(counts, min(size, int(most.sum())), least=least, most=most)
    # The stream of RandomState is frozen: a split stays the same under every version of numpy.
    order = np.random.RandomState(list(seed)).permutation(len(codes))
    drawn = [order[codes[order] == code][:quota] for code, quota in enumerate(quotas)]
    return sorted(int(place) for place in np.concatenate(drawn))


def allot(counts: Counts, size: int, *, least: Counts, most: Counts) -> Counts:
    """Divides `size` among strata in proportion to their counts, within the bounds.

    Example:
        >>> allot(np.array([6, 3, 1]), 3, least=np.array([0, 0, 0]), most=np.array([6, 3, 1]))
        array([2, 1, 0])
    """
    total = counts.sum()
    share = size * counts  # In units of 1 / total: whole numbers compare without rounding.
    quotas: Counts = np.clip(share // total, least, most)
    while quotas.sum() < size:
        quotas[np.argmax(np.where(quotas < most, share - quotas * total, -np.inf))] += 1
    while quotas.sum() > size:
        quotas[np.argmin(np.where(quotas > least, share - quotas * total, np.inf))] -= 1
    return quotas


def grouped_sample(
    groups: Sequence[str], strata: Sequence[str], size: int, *, seed: Sequence[int]
) -> list[int]:
    """Draws whole groups, about `size` rows in all; returns the places of their rows in order.

    The groups come in a random order, and one is taken if that brings the number of drawn rows
    of each stratum closer to its share, by the sum of squared relative distances; one group at
    least is left.

    Args:
        groups: The group of each row.
        strata: The stratum of each row, its label for instance.
        size: Number of rows wanted; what comes out is near it, as whole groups allow.
        seed: Whole numbers that seed the draw.

    Example:
        >>> films = ["a", "a", "b", "b", "c", "c"]
        >>> [films[place] for place in grouped_sample(films, ["x", "y"] * 3, 2, seed=[0])]
        ['c', 'c']
    """
    names, group_codes = np.unique(np.asarray(groups), return_inverse=True)
    kinds, stratum_codes = np.unique(np.asarray(strata), return_inverse=True)
    table = np.zeros((len(names), len(kinds)))  # (groups, strata)
    np.add.at(table, (group_codes, stratum_codes), 1)
    wanted = size * table.sum(axis=0) / len(group_codes)

    order = np.random.RandomState(list(seed)).permutation(len(names))
    taken = np.zeros(len(kinds))
    drawn: list[int] = []
    for group in order:
        room = len(drawn) < len(names) - 1  # The last group is left to learn from.
        if room and _distance(taken + table[group], wanted) < _distance(taken, wanted):
            taken += table[group]
            drawn.append(group)
    if not drawn:  # Every group is larger than what is wanted: the one that is nearest.
        drawn = [min(order, key=lambda group: _distance(table[group], wanted))]
    return [int(place) for place in np.flatnonzero(np.isin(group_codes, drawn))]


def _distance(taken: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]) -> float:
    return float(np.sum(((taken - wanted) / wanted) ** 2))
