"""Are the heads that are good on one data set good on the other, too? Agreement of rankings.

    W = 12 sum_i (R_i - mean R)^2 / (m^2 (n^3 - n) - m sum_j T_j)

for n seeds ranked on m data sets, R_i the sum of a seed's ranks, T_j = sum over ties of (t^3 - t).
W is 1 where all data sets rank the seeds alike and 0 where they cancel out; without ties the mean
of Spearman's correlation over pairs of data sets is (m W - 1) / (m - 1).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from hf_stabilizer.errors import DataError
from hf_stabilizer.records import Run
from hf_stabilizer.studies.statistics.good_seeds import seed_means_of_runs

Floats = npt.NDArray[np.float64]

RANK_SHUFFLES = 9_999
ALL_RANKINGS_UP_TO = 20_000
"""Number of rankings up to which all of them are looked at."""


@dataclass(frozen=True)
class RankAgreement:
    """How alike several data sets rank the same seeds."""

    data_sets: tuple[str, ...]
    """Names in the order given."""
    seeds: tuple[Hashable, ...]
    """Seeds that every data set has, the best mean rank first."""
    mean_ranks: tuple[float, ...]
    """Mean rank of each of these seeds; 1 is the best."""
    kendall_w: float
    """Kendall's coefficient of concordance, in [0, 1]."""
    p_value: float
    """Chance of a W that large if each data set ranked at random; exact where there are few
    rankings, else from 9,999 shuffles and the one seen."""
    spearman: tuple[tuple[str, str, float | None], ...]
    """(data set, data set, Spearman's correlation); None where one of them ties all seeds."""
    dropped: int
    """Seeds that some data set lacks."""


def rank_agreement(
    scores: Mapping[str, Mapping[Hashable, float]],
    *,
    greater_is_better: bool | Mapping[str, bool] = True,
    seed: int = 0,
) -> RankAgreement | None:
    """Returns how alike data sets rank the seeds that all of them have.

    Args:
        scores: For each data set the (mean) score of each seed, finite.
        greater_is_better: Direction of the metric, for all or for each data set.
        seed: Seed of the shuffles.

    Returns:
        None for fewer than two data sets, fewer than three shared seeds, or where every data set
        ties all of them.

    Raises:
        DataError: A score is no finite number.

    Example:
        >>> mrpc = {1: 0.84, 2: 0.86, 3: 0.81, 4: 0.88}
        >>> rte = {1: 0.61, 2: 0.66, 3: 0.58, 4: 0.65}
        >>> found = rank_agreement({"mrpc": mrpc, "rte": rte})
        >>> found.kendall_w, found.seeds, round(found.p_value, 3)
        (0.9, (2, 4, 1, 3), 0.167)

    Source: Kendall, Babington Smith 1939, The Problem of m Rankings; the question is that of
    Dodge et al. 2020, arXiv 2002.06305, section 4.
    """
    names = list(scores)
    everyone = list(dict.fromkeys(level for name in names for level in scores[name]))
    shared = [level for level in everyone if all(level in scores[name] for name in names)]
    if len(names) < 2 or len(shared) < 3:
        return None
    ranks = np.stack([_ranks(scores[n], shared, _direction(greater_is_better, n)) for n in names])
    w = _kendall_w(ranks)
    if w is None:
        return None
    means = ranks.mean(axis=0)
    order = np.argsort(means, kind="stable")
    return RankAgreement(
        data_sets=tuple(names),
        seeds=tuple(shared[place] for place in order),
        mean_ranks=tuple(float(means[place]) for place in order),
        kendall_w=w,
        p_value=_p_value(ranks, seed),
        spearman=tuple(
            (names[i], names[j], _correlation(ranks[i], ranks[j]))
            for i, j in itertools.combinations(range(len(names)), 2)
        ),
        dropped=len(everyone) - len(shared),
    )


def rank_agreement_of_runs(
    runs: Mapping[str, Iterable[Run]], *, seed: str = "head_seed", blocks: str = "data_seed"
) -> RankAgreement | None:
    """Returns `rank_agreement` of the same seeds over several data sets, from their runs.

    A seed's score is its `SeedMean.effect`, its distance from the others under the same data
    seeds, so that a hole in one grid does not move it; where no block is shared, its mean.

    Example:
        >>> def runs(*means):
        ...     return [
        ...         Run("plain", {"head_seed": h, "data_seed": d}, "finished", best_score=m + d / 9)
        ...         for h, m in enumerate(means) for d in (1, 2)
        ...     ]
        >>> rank_agreement_of_runs({"a": runs(0.1, 0.2, 0.3), "b": runs(0.2, 0.3, 0.4)}).kendall_w
        1.0
    """
    scores: dict[str, dict[Hashable, float]] = {}
    directions: dict[str, bool] = {}
    for name, some in runs.items():
        mine = list(some)
        means = seed_means_of_runs(mine, seed=seed, blocks=blocks)
        compared = any(mean.effect is not None for mean in means)
        scores[name] = {
            mean.seed: mean.mean if mean.effect is None else mean.effect
            for mean in means
            if not compared or mean.effect is not None
        }
        directions[name] = all(run.greater_is_better for run in mine)
    return rank_agreement(scores, greater_is_better=directions)


def _direction(greater_is_better: bool | Mapping[str, bool], name: str) -> bool:
    return greater_is_better if isinstance(greater_is_better, bool) else greater_is_better[name]


def _ranks(
    scores: Mapping[Hashable, float], seeds: list[Hashable], greater_is_better: bool
) -> Floats:
    values = np.array([scores[level] for level in seeds], dtype=float)
    if not np.isfinite(values).all():
        raise DataError(f"scores must be finite numbers, got {values.tolist()!r}")
    # Means such as (.1 + .2) / 2 and .15 are equal but for rounding, and a tie is a tie.
    values = np.round(values, 12)
    ranks: Floats = stats.rankdata(-values if greater_is_better else values)
    return ranks


def _tie_terms(ranks: Floats) -> float:
    """sum_j T_j."""
    sizes = [np.unique(row, return_counts=True)[1] for row in ranks]
    return float(sum((size**3 - size).sum() for size in sizes))


def _kendall_w(ranks: Floats) -> float | None:
    m, n = ranks.shape
    whole = m * m * (n**3 - n) - m * _tie_terms(ranks)
    if whole <= 0:
        return None
    sums = ranks.sum(axis=0)
    return float(12 * ((sums - sums.mean()) ** 2).sum() / whole)


def _p_value(ranks: Floats, seed: int) -> float:
    """W grows with the sum of squared rank sums alone, as shuffling leaves ties as they are."""
    m, n = ranks.shape
    seen = float((ranks.sum(axis=0) ** 2).sum())
    if math.factorial(n) ** (m - 1) <= ALL_RANKINGS_UP_TO:
        orders = [list(order) for order in itertools.permutations(range(n))]
        found = [
            float(
                ((ranks[0] + sum(r[o] for r, o in zip(ranks[1:], chosen, strict=True))) ** 2).sum()
            )
            for chosen in itertools.product(orders, repeat=m - 1)
        ]
        return float(np.mean(np.asarray(found) >= seen - 1e-9))
    rng = np.random.default_rng(seed)
    drawn = np.zeros((RANK_SHUFFLES, n))
    for row in ranks:
        drawn += rng.permuted(np.tile(row, (RANK_SHUFFLES, 1)), axis=1)
    count = int(((drawn**2).sum(axis=1) >= seen - 1e-9).sum())
    return (1 + count) / (1 + RANK_SHUFFLES)


def _correlation(first: Floats, second: Floats) -> float | None:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])
