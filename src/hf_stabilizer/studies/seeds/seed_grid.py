"""Which seeds do the runs of a study have? One after the other, or a grid of them.

    no grid            head 1, data 1, dropout 1    head 2, data 2, dropout 2    ...
    head 1-3, data 1-3     d1 d2 d3
                      h1    1  4  .       runs 1 to 6 of the grid: every head and every data seed
                      h2    .  2  5       twice, and connected, so that what the head does can be
                      h3    6  .  3       told from what the data order does

A seed that is not varied is that of the first run. That holds for dropout, too: where it stays as
it is, two cells of the grid differ by head and data order alone.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from hf_stabilizer.errors import LAST_SEED, ConfigurationError, check_whole

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


class SeedGrid(TypedDict):
    """The options of a study that vary its seeds, as they were given."""

    head_seeds: int | Sequence[int] | None
    """Seeds of the new parameters: how many, or which; None: one."""
    data_seeds: int | Sequence[int] | None
    """Seeds of the order of the data."""
    dropout_seeds: int | Sequence[int] | None
    """Seeds of dropout."""


OPTIONS = {"head_seeds": "head_seed", "data_seeds": "data_seed", "dropout_seeds": "seed"}
"""Option of a study -> the seed of a run that it varies."""
WORDS = {"head_seed": "head", "data_seed": "data", "seed": "dropout"}
"""Seed of a run -> what people call it."""


def plan_seeds(
    *,
    runs: int | None,
    first_seed: int = 1,
    head_seeds: int | Sequence[int] | None = None,
    data_seeds: int | Sequence[int] | None = None,
    dropout_seeds: int | Sequence[int] | None = None,
) -> list[dict[str, int]]:
    """Returns the three seeds of each run, in the order in which the runs are begun.

    Without a grid run k has head, data and dropout seed `first_seed + k - 1`. With one or more of
    the last three options every combination of them is a run, and the seeds that are not named
    stay at `first_seed`. With `runs` as well it is the part of that grid which begins it: each
    seed as equally often as possible, and connected as early as that allows, so that the two-way
    analysis can be made from (number of heads + number of data seeds) runs on. A larger `runs`
    holds the runs of a smaller one.

    Args:
        runs: Number of runs; None with a grid: all of it.
        first_seed: The first seed, in [0, 2^32).
        head_seeds: Seeds of the new parameters: how many, counted from `first_seed`, or which.
        data_seeds: Seeds of the order of the data; likewise.
        dropout_seeds: Seeds of dropout; likewise.

    Raises:
        ConfigurationError: A number or a seed cannot be right; `runs` is absent and there is no
            grid, or is larger than the grid.

    Example:
        >>> plan_seeds(runs=2, first_seed=5)[1]
        {'head_seed': 6, 'data_seed': 6, 'seed': 6}
        >>> grid = plan_seeds(runs=None, head_seeds=3, data_seeds=[7, 8])
        >>> [(s["head_seed"], s["data_seed"], s["seed"]) for s in grid]
        [(1, 7, 1), (2, 8, 1), (3, 7, 1), (1, 8, 1), (2, 7, 1), (3, 8, 1)]
    """
    asked: SeedGrid = {
        "head_seeds": head_seeds,
        "data_seeds": data_seeds,
        "dropout_seeds": dropout_seeds,
    }
    check_whole(first_seed, "in [0, 2^32)", name="first_seed", most=LAST_SEED)
    if runs is not None:
        check_whole(runs, "of runs per recipe from 1 up", name="runs", least=1)
    cells = _cells(asked, first_seed)
    if cells is None:
        return _one_after_the_other(runs, first_seed)
    if runs is not None and runs > len(cells):
        raise ConfigurationError(
            f"runs={runs} is more than the {shape(cells)} = {len(cells)} cells of the grid of "
            "seeds; leave runs out to run all of them, or give more seeds"
        )
    chosen = [cells[place] for place in _order(cells)[:runs]]
    _note_what_is_not_told_apart(chosen)
    return chosen


def grid_runs(
    *,
    runs: int | None,
    first_seed: int = 1,
    head_seeds: int | Sequence[int] | None = None,
    data_seeds: int | Sequence[int] | None = None,
    dropout_seeds: int | Sequence[int] | None = None,
) -> int | None:
    """Returns `runs`, or where that is None and there is a grid, the number of its cells.

    Raises:
        ConfigurationError: The seeds of the grid cannot be right.

    Example:
        >>> grid_runs(runs=None, head_seeds=5, data_seeds=4), grid_runs(runs=None)
        (20, None)
    """
    asked: SeedGrid = {
        "head_seeds": head_seeds,
        "data_seeds": data_seeds,
        "dropout_seeds": dropout_seeds,
    }
    if runs is not None:
        return runs
    check_whole(first_seed, "in [0, 2^32)", name="first_seed", most=LAST_SEED)
    cells = _cells(asked, first_seed)
    return None if cells is None else len(cells)


def varied(seeds: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Returns how many levels each seed has, for those that have more than one.

    Example:
        >>> varied(plan_seeds(runs=None, head_seeds=3, data_seeds=2))
        {'head_seed': 3, 'data_seed': 2}
    """
    some = [dict(one) for one in seeds]
    counts = {name: len({one[name] for one in some if name in one}) for name in WORDS}
    return {name: count for name, count in counts.items() if count > 1}


def shape(seeds: Iterable[Mapping[str, int]]) -> str:
    """Returns the size of a grid in words.

    Example:
        >>> shape(plan_seeds(runs=None, head_seeds=5, data_seeds=4))
        '5 head x 4 data seeds'
        >>> shape(plan_seeds(runs=None, head_seeds=1))
        'one'
    """
    parts = [f"{count} {WORDS[name]}" for name, count in varied(seeds).items()]
    return f"{' x '.join(parts)} seeds" if parts else "one"


def said(seeds: Sequence[Mapping[str, int]]) -> str:
    """Returns the arguments of `run_study` that give these seeds.

    Example:
        >>> said(plan_seeds(runs=6))
        'runs=6'
        >>> said(plan_seeds(runs=5, head_seeds=2, data_seeds=3))
        'head_seeds=[1, 2], data_seeds=[1, 2, 3], dropout_seeds=[1], runs=5'
    """
    names = [name for name in WORDS if all(name in one for one in seeds)]
    if all(len({one[name] for name in names}) <= 1 for one in seeds):
        return f"runs={len(seeds)}"
    levels = {name: sorted({one[name] for one in seeds}) for name in names}
    full = int(np.prod([len(some) for some in levels.values()]))
    parts = [f"{option}={levels[name]}" for option, name in OPTIONS.items() if name in levels]
    return ", ".join([*parts, *([f"runs={len(seeds)}"] if len(seeds) < full else [])])


def _cells(asked: SeedGrid, first_seed: int) -> list[dict[str, int]] | None:
    """Every cell of the grid, in the order of its levels; None where there is no grid."""
    given = dict(asked)
    if all(one is None for one in given.values()):
        return None
    levels = [_levels(one, first_seed, name=name) for name, one in given.items()]
    return [dict(zip(OPTIONS.values(), cell, strict=True)) for cell in itertools.product(*levels)]


def _one_after_the_other(runs: int | None, first_seed: int) -> list[dict[str, int]]:
    if runs is None:
        raise ConfigurationError(
            "runs is needed: how many runs each recipe has; or give a grid of seeds with "
            "head_seeds and data_seeds"
        )
    most = LAST_SEED + 1 - runs
    check_whole(first_seed, "in [0, 2^32), and so the last seed", name="first_seed", most=most)
    return [dict.fromkeys(OPTIONS.values(), first_seed + k) for k in range(runs)]


def _levels(given: Any, first_seed: int, *, name: str) -> list[int]:  # Any: it is checked here
    if given is None:
        return [first_seed]
    if isinstance(given, Sequence) and not isinstance(given, str):
        if not given or len(set(given)) < len(given):
            raise ConfigurationError(
                f"{name} must be one or more different seeds, got {list(given)!r}"
            )
        for seed in given:
            check_whole(seed, "in [0, 2^32), each of them", name=name, most=LAST_SEED)
        return [int(seed) for seed in given]
    most = LAST_SEED + 1 - first_seed
    check_whole(given, "of seeds from 1 up, or a list of them", name=name, least=1, most=most)
    return [first_seed + k for k in range(given)]


def _order(cells: Sequence[Mapping[str, int]]) -> list[int]:
    """The cells so that every beginning of them is balanced, and connected as soon as can be.

    Greedy. The next cell is the one whose seeds were used least; among those one that tells
    something new, as its row of indicators is no combination of earlier rows; among those the one
    whose pairs of seeds were used least; then along the diagonals of the grid. Runs per seed
    differ by one at most, but for single moments of a few shapes such as 8 x 6, when by two.
    """
    counts = varied(cells)
    names = sorted(counts, key=lambda name: -counts[name])  # the longest first balances best
    if len(names) < 2:
        return list(range(len(cells)))
    levels = np.array([_numbered([cell[name] for cell in cells]) for name in names])  # (f, N)
    pairs = np.array([a * (b.max() + 1) + b for a, b in itertools.combinations(levels, 2)])
    told = _Told(levels)
    # Diagonal after diagonal, so that no row is left with cells that its columns do not need.
    diagonals = (levels[1:] - levels[0]) % (1 + levels[1:].max(axis=1, keepdims=True))
    order: list[int] = []
    open_cells = np.ones(len(cells), dtype=bool)
    for _ in cells:
        chosen = np.array(order, dtype=np.int64)
        used = _used(levels, chosen)
        keys = (*diagonals, _used(pairs, chosen), ~told.is_new(), used, ~open_cells)
        place = int(np.lexsort(keys)[0])
        order.append(place)
        open_cells[place] = False
        told.add(place)
    return order


class _Told:
    """What the cells so far tell apart: the span of their rows of indicators."""

    def __init__(self, levels: Whole):
        indicators = [np.eye(int(some.max()) + 1)[some] for some in levels]
        self._rest: Floats = np.hstack(indicators)  # (N, sum of levels), beyond the span so far
        self._open = 1 + int(sum(levels.max(axis=1)))  # its whole rank

    def is_new(self) -> npt.NDArray[np.bool_]:
        if not self._open:
            return np.zeros(len(self._rest), dtype=bool)
        found: npt.NDArray[np.bool_] = (self._rest**2).sum(axis=1) > 1e-9
        return found

    def add(self, place: int) -> None:
        row = self._rest[place]
        length = float(np.sqrt(row @ row))
        if not self._open or length <= 1e-4:
            return
        direction = row / length
        self._rest = self._rest - np.outer(self._rest @ direction, direction)
        self._open -= 1


def _used(levels: Whole, chosen: Whole) -> Whole:
    """How much more often than the least used of its kind each cell's seeds were used."""
    found = np.zeros(levels.shape[1], dtype=np.int64)
    for some in levels:
        counts = np.bincount(some[chosen], minlength=int(some.max()) + 1)
        found += (counts - counts.min())[some]
    return found


def _numbered(seeds: Sequence[int]) -> Whole:
    places = {seed: place for place, seed in enumerate(dict.fromkeys(seeds))}
    return np.array([places[seed] for seed in seeds], dtype=np.int64)


def _note_what_is_not_told_apart(cells: Sequence[Mapping[str, int]]) -> None:
    levels = varied(cells)
    needed = sum(levels.values()) - len(levels) + 2  # one more than there is to estimate
    if len(levels) > 1 and len(cells) < needed:
        logger.warning(
            f"with runs={len(cells)} of {shape(cells)} the effects of the seeds cannot be told "
            f"apart; {needed} runs or more can"
        )
