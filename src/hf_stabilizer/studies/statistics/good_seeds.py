"""Are some heads better than others whatever the data order, or only luckier?

Each head seed is held against the other heads under the same data seeds. The best of many looks
good by chance alone, so p-values are those of the best of all: scores are shuffled among heads
within each data seed, and a head must beat what the luckiest head of a shuffle reaches.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hf_stabilizer.records import Run
from hf_stabilizer.studies.statistics.checks import finite_scores, same_length
from hf_stabilizer.studies.statistics.intervals import Interval, bootstrap_interval
from hf_stabilizer.studies.statistics.seed_factors import (
    SHUFFLES,
    shuffled_within,
    two_way_analysis,
)
from hf_stabilizer.studies.statistics.summaries import final_score

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SeedMean:
    """What one level of a seed, such as one head, scores over the others."""

    seed: Hashable
    """The seed."""
    runs: int
    """Its runs with a final score."""
    mean: float
    """Their mean score."""
    interval: Interval | None
    """95 % BCa bootstrap interval of the mean, from three runs on."""
    effect: float | None
    """Mean of its score minus that of the other seeds under the same block (data seed), in units
    of the metric; None where it shares no block with another."""
    p_value: float | None
    """Chance that among so many seeds the luckiest, or the least lucky, lies that far off."""
    expected: float | None
    """What to expect of it under new data seeds: its mean drawn towards that of all, by as much
    as the spread within seeds says; None where that cannot be told."""


def seed_means(
    scores: Sequence[float],
    seeds: Sequence[Hashable],
    blocks: Sequence[Hashable],
    *,
    greater_is_better: bool = True,
    shuffle_seed: int = 0,
) -> tuple[SeedMean, ...]:
    """Returns the mean of each seed over the blocks, the best effect first.

    With T = |effect| sqrt(runs), p is the share of 1,999 shuffles within blocks (and the one seen)
    whose largest T over all seeds reaches that of this seed: corrected for the number looked at.
    With H seeds over D blocks even the clearest has a p of about 2 H / H^D, so two blocks show
    nothing; take four or more.
    expected = mean + s (H - 1)/H effect, s = v / (v + rest / runs), with v the variance of the
    seeds and rest that within them (`two_way_analysis`), H the number of seeds.

    Args:
        scores: Final scores, finite, one for each run.
        seeds: The seed in question of each run, e.g. the head's.
        blocks: What it is compared within, e.g. the data seed.
        greater_is_better: Direction of the metric.
        shuffle_seed: Seed of the shuffles.

    Raises:
        DataError: The three are not equally long, or a score is no finite number.

    Example:
        >>> scores = [0.70, 0.72, 0.74, 0.80, 0.83, 0.83, 0.60, 0.61, 0.65, 0.71, 0.73, 0.74]
        >>> heads, data = [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4], [1, 2, 3] * 4
        >>> best, *others = seed_means(scores, heads, data)
        >>> best.seed, round(best.mean, 3), round(best.effect, 3)
        (2, 0.82, 0.131)
        >>> 0.05 < best.p_value < 0.2  # three data seeds are few
        True

    Source: Dodge et al. 2020, arXiv 2002.06305, section 4 (good initialisations); Westfall,
    Young 1993 (single-step max T); Robinson 1991, That BLUP Is a Good Thing.
    """
    same_length(scores=scores, seeds=seeds, blocks=blocks)
    y = finite_scores(scores, name="scores")
    if not len(y):
        return ()
    levels, rows = _numbered(seeds), _numbered(blocks)
    names = list(dict.fromkeys(seeds))
    contrasts = _contrasts(levels, rows)  # (seeds, n); a row of zeros where nothing is shared
    effects = contrasts @ y
    p_values = _corrected(y, contrasts, levels, rows, shuffle_seed)
    shrink = _shrinkage(y, seeds, blocks, levels)
    overall, share = float(y.mean()), (len(names) - 1) / len(names)
    found = []
    for place, name in enumerate(names):
        mine = y[levels == place]
        alone = not contrasts[place].any()
        effect = None if alone else float(effects[place])
        pulled = None if shrink is None or effect is None else float(shrink[place]) * share * effect
        found.append(
            SeedMean(
                seed=name,
                runs=len(mine),
                mean=float(mine.mean()),
                interval=bootstrap_interval(mine.tolist()),
                effect=effect,
                p_value=None if alone else float(p_values[place]),
                expected=None if pulled is None else overall + pulled,
            )
        )
    sign = -1.0 if greater_is_better else 1.0
    return tuple(sorted(found, key=lambda m: (m.effect is None, sign * (m.effect or 0.0))))


def seed_means_of_runs(
    runs: Iterable[Run], *, seed: str = "head_seed", blocks: str = "data_seed"
) -> tuple[SeedMean, ...]:
    """Returns `seed_means` for the runs of one recipe; runs without a final score are left out.

    Example:
        >>> runs = [
        ...     Run("plain", {"head_seed": h, "data_seed": d}, "finished", best_score=0.5 + h / 10)
        ...     for h in (1, 2, 3) for d in (1, 2)
        ... ]
        >>> [mean.seed for mean in seed_means_of_runs(runs)]
        [3, 2, 1]
    """
    everything = list(runs)
    known = [
        (score, run.seeds[seed], run.seeds[blocks])
        for run in everything
        if (score := final_score(run)) is not None and seed in run.seeds and blocks in run.seeds
    ]
    return seed_means(
        [score for score, _, _ in known],
        [level for _, level, _ in known],
        [block for _, _, block in known],
        greater_is_better=all(run.greater_is_better for run in everything),
    )


def _numbered(seeds: Sequence[Hashable]) -> Whole:
    places = {level: place for place, level in enumerate(dict.fromkeys(seeds))}
    return np.array([places[level] for level in seeds], dtype=np.int64)


def _contrasts(levels: Whole, blocks: Whole) -> Floats:
    """Rows that, times the scores, are each seed's mean distance from the others in its blocks."""
    found = np.zeros((int(levels.max()) + 1, len(levels)))
    for seed in range(len(found)):
        used = 0
        for block in np.unique(blocks[levels == seed]):
            mine = (levels == seed) & (blocks == block)
            others = (levels != seed) & (blocks == block)
            if others.any():
                used += int(mine.sum())
                found[seed, mine] += 1.0
                found[seed, others] -= mine.sum() / others.sum()
        found[seed] /= max(used, 1)
    return found


def _corrected(y: Floats, contrasts: Floats, levels: Whole, blocks: Whole, seed: int) -> Floats:
    weights = np.sqrt(np.bincount(levels))
    seen = np.abs(contrasts @ y) * weights
    shuffled = shuffled_within(y, blocks, times=SHUFFLES, seed=seed)
    largest = (np.abs(shuffled @ contrasts.T) * weights).max(axis=1)
    hair = 1e-9 * float(np.abs(y).max())
    reached = (largest[:, None] >= seen[None, :] - hair).sum(axis=0)
    p_values: Floats = (1 + reached) / (1 + SHUFFLES)
    return p_values


def _shrinkage(
    y: Floats, seeds: Sequence[Hashable], blocks: Sequence[Hashable], levels: Whole
) -> Floats | None:
    found = two_way_analysis(y.tolist(), seeds, blocks, names=("seed", "block"))
    if found is None:
        return None
    between = found["seed"].variance
    within = sum(factor.variance for factor in found.factors[2:])
    if between + within == 0.0:
        return np.ones(int(levels.max()) + 1)
    factors: Floats = between / (between + within / np.bincount(levels))
    return factors
