"""How many independent numbers are in runs that share seeds? What a grid of seeds can prove.

    d_hd = mean + A_h + B_d + rest        a difference between recipes under head h and data seed d

Cells in one row share A_h, cells in one column B_d: twenty-five cells in 5 x 5 seeds are not
twenty-five witnesses. Flipping the signs of all cells one by one takes them for that, and flipping
whole rows forgets the B. Both are honoured by

    u_k = mean + A_k + B_k,    k = 1..n,    n the smaller number of levels

from least squares, A and B summing to zero: on a full grid the mean of row k plus that of column k
minus the mean of all. If nothing but heads and data orders tell the recipes apart, u_1..u_n are
independent, whatever the distribution of A and B; the rest correlates them negatively, so that a
test errs on the safe side (full 6 x 6: it takes the rest for 11/6 of its variance). Their mean is
the mean of all cells. Where a grid has too many holes for that, cells that share no seed are
chosen, which are independent without further ado.

Measured false differences at p <= .05, 4,000 grids each with effects of head, data order and rest
in six proportions, normal, t with 3 degrees of freedom, or one run in seven collapsed: 0.4 to 5 %
(cell by cell: up to 79 %).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SharedSeeds:
    """How runs that share seeds become independent numbers."""

    levels: Mapping[str, int]
    """Number of levels of each seed that has more than one, by option name."""
    weights: tuple[tuple[float, ...], ...]
    """One row for each independent unit, one column for each run; each row sums to one."""
    mean_weights: tuple[float, ...]
    """Weight of each run in the mean: least squares, every level of a seed counting alike."""
    chosen: tuple[int, ...] | None
    """Places of the runs that share no seed, where those alone are used; None: all are."""

    @property
    def units(self) -> int:
        """Number of independent units."""
        return len(self.weights)

    def of(self, values: Sequence[float]) -> list[float]:
        """Returns the independent units of one number for each run, in the runs' order.

        Example:
            >>> grid = [{"head_seed": h, "data_seed": d} for h in (1, 2) for d in (1, 2)]
            >>> [round(unit, 3) for unit in shared_seeds(grid).of([1.0, 2.0, 3.0, 5.0])]
            [0.75, 4.75]
        """
        found: Floats = np.array(self.weights) @ np.asarray(values, dtype=float)
        # Sums such as .1 + .2 - .3 are zero but for rounding, and zero has no sign to flip.
        found[np.abs(found) <= 1e-12 * np.abs(np.asarray(values)).max(initial=0.0)] = 0.0
        return [float(unit) for unit in found]

    def mean(self, values: Sequence[float]) -> float:
        """Returns the mean of one number for each run; on a full grid the plain mean."""
        return math.fsum(w * v for w, v in zip(self.mean_weights, values, strict=True))


def shared_seeds(seeds: Sequence[Mapping[str, int]]) -> SharedSeeds | None:
    """Returns how runs with these seeds become independent units.

    A seed with one level in all runs is taken as given: what is found holds for that one. Seeds
    that go together in all runs are one factor, under the first one's name.

    Args:
        seeds: Seeds of each run by option name, no two alike.

    Returns:
        None where no two runs share a level of a seed that varies: each is a unit itself.

    Example:
        >>> grid = [{"head_seed": h, "data_seed": d} for h in range(6) for d in range(8)]
        >>> found = shared_seeds(grid)
        >>> found.units, dict(found.levels)
        (6, {'head_seed': 6, 'data_seed': 8})
        >>> shared_seeds([{"head_seed": k, "data_seed": k} for k in range(6)]) is None
        True

    Source: the problem is that of Cameron, Gelbach, Miller 2011, Robust Inference with Multiway
    Clustering, whose sandwich needs many levels of each; that of Hartigan 1969 (`pairs`) needs
    few. Joining the two ways into one row of independent units is ours.
    """
    factors = {name: _numbered([one[name] for one in seeds]) for name in _names(seeds)}
    names = [name for name, some in factors.items() if max(some) and _is_own(name, factors)]
    levels = np.array([factors[name] for name in names], dtype=np.int64)
    if not any(len(set(some.tolist())) < len(some) for some in levels):
        return None
    counts = {name: int(some.max()) + 1 for name, some in zip(names, levels, strict=True)}
    # Runs that are alike in every seed that all of them tell are one unit.
    found = _averages(levels[0]) if len(names) == 1 else _least_squares(levels)
    if found is not None:
        units, mean = found
        return SharedSeeds(counts, _rows(units), tuple(mean.tolist()), None)
    chosen = _sharing_nothing(levels)
    units = np.eye(len(seeds))[chosen]
    return SharedSeeds(counts, _rows(units), tuple(units.mean(axis=0).tolist()), tuple(chosen))


def _names(seeds: Sequence[Mapping[str, int]]) -> list[str]:
    """Seeds that every run tells."""
    return [name for name in dict.fromkeys(n for one in seeds for n in one)
            if all(name in one for one in seeds)]  # fmt: skip


def _is_own(name: str, factors: Mapping[str, list[int]]) -> bool:
    """Whether no seed before this one tells the runs apart in the same way."""
    before = list(factors)[: list(factors).index(name)]
    return not any(_partition(factors[name]) == _partition(factors[one]) for one in before)


def _partition(levels: Sequence[int]) -> list[int]:
    """Levels renumbered in the order of their first runs."""
    first = list(dict.fromkeys(levels))
    return [first.index(level) for level in levels]


def _numbered(seeds: Sequence[int]) -> list[int]:
    """Levels from 0 up, the smallest seed first."""
    places = {seed: place for place, seed in enumerate(sorted(set(seeds)))}
    return [places[seed] for seed in seeds]


def _rows(weights: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in weights.tolist())


def _means(levels: Whole) -> Floats:
    """The mean over the runs of each level."""
    found: Floats = np.eye(int(levels.max()) + 1)[levels].T
    found = found / found.sum(axis=1, keepdims=True)
    return found


def _averages(levels: Whole) -> tuple[Floats, Floats]:
    units = _means(levels)
    return units, units.mean(axis=0)


def _least_squares(levels: Whole) -> tuple[Floats, Floats] | None:
    """Weights of u_1..u_n and of the mean; None where the runs are too few to be safe.

    Of a factor with more levels than n the effects go in turn to the units, whose means over them
    stand in for single effects.
    """
    sizes = [int(some.max()) + 1 for some in levels]
    design = np.hstack([np.ones((levels.shape[1], 1)), *map(_contrasts, levels, sizes)])
    n, (runs, unknown) = min(sizes), design.shape
    # With hardly a run more than unknowns single runs that collapse go straight into the units.
    if runs < unknown + n - 1 or np.linalg.matrix_rank(design) < unknown:
        return None
    fitted = np.linalg.pinv(design)  # (unknown, runs)
    mean, place = fitted[0], 1
    units = np.tile(mean, (n, 1))
    for size in sizes:
        effects = _sum_to_zero(size) @ fitted[place : place + size - 1]  # (levels, runs)
        units += _means(np.arange(size) % n) @ effects
        place += size - 1
    # The rest must not make the mean of the units less sure than they look.
    together = float((units.mean(axis=0) ** 2).sum())
    is_safe = together <= float((units**2).sum()) / n**2 * (1 + 1e-9)
    return (units, mean) if is_safe else None


def _sum_to_zero(size: int) -> Floats:
    """Effects of all levels from those of all but the last: (levels, levels - 1)."""
    return np.vstack([np.eye(size - 1), -np.ones((1, size - 1))])


def _contrasts(levels: Whole, size: int) -> Floats:
    found: Floats = _sum_to_zero(size)[levels]
    return found


def _sharing_nothing(levels: Whole) -> list[int]:
    """Runs of which no two share a level of any seed, as many as a greedy look finds.

    Those whose seeds are rarest come first: they stand in fewest others' way.
    """
    counts = sum(np.bincount(some)[some] for some in levels)
    taken: list[set[int]] = [set() for _ in levels]
    chosen = []
    for place in np.argsort(counts, kind="stable").tolist():
        mine = levels[:, place].tolist()
        if not any(level in some for level, some in zip(mine, taken, strict=True)):
            chosen.append(place)
            for level, some in zip(mine, taken, strict=True):
                some.add(level)
    return sorted(chosen)
