"""Which seed makes the scores of a recipe differ, and is any head better than luck explains?

Needs runs in which head seed and data seed vary separately, as `--head-seeds` and `--data-seeds`
make them: a full grid, or one with holes.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from hf_stabilizer.records import Run
from hf_stabilizer.studies.findings.finding import Record, ends
from hf_stabilizer.studies.statistics import (
    Density,
    SeedFactors,
    SeedMean,
    density,
    final_score,
    seed_means_of_runs,
    two_way_analysis_of_runs,
)
from hf_stabilizer.studies.statistics.shared_seeds import shared_seeds
from hf_stabilizer.studies.study import Study

LEVEL = 0.05
FEWEST_FOR_DENSITY = 3

CellState = Literal["scored", "stopped", "without score", "no run"]
Dropout = Literal["one for all", "as the head", "as the data", "apart"]


@dataclass(frozen=True)
class Cell:
    """The runs of one head seed and one data seed."""

    head: int
    """Head seed."""
    data: int
    """Data seed."""
    runs: tuple[Run, ...]
    """Its runs; several where dropout seeds vary, too."""
    score: float | None
    """Mean final score; None without one."""
    state: CellState
    """"scored"; else why there is no score: "stopped" early, "without score" (it failed) or "no
    run", which a partial grid leaves out or a study under way has not made yet."""


@dataclass(frozen=True)
class SeedGrid:
    """Head seeds against data seeds for one recipe."""

    recipe: str
    """Name of the recipe."""
    heads: tuple[int, ...]
    """Head seeds, ascending."""
    data: tuple[int, ...]
    """Data seeds, ascending."""
    cells: tuple[Cell, ...]
    """Every cell of the grid, row by row (one row for each head)."""
    analysis: SeedFactors | None
    """The two-way analysis of variance; None where the scores that are there cannot tell head and
    data apart."""
    head_means: tuple[SeedMean, ...]
    """Each head over its data seeds, the best effect first."""
    data_means: tuple[SeedMean, ...]
    """Each data seed over its heads, the best effect first."""
    head_densities: Mapping[int, Density]
    """Density of the scores of each head with three scores or more that differ, all of one width
    over the same ends, so that they compare."""
    data_densities: Mapping[int, Density]
    """The same for each data seed."""
    dropout: Dropout
    """How the third seed goes: then its share of the spread is in that line of the analysis."""
    greater_is_better: bool
    """Direction of the metric."""

    @property
    def good_heads(self) -> tuple[SeedMean, ...]:
        """Heads better than the luckiest of so many would be by chance, at p <= .05."""
        return tuple(mean for mean in self.head_means if _is_clear(mean) and self._is_good(mean))

    @property
    def bad_heads(self) -> tuple[SeedMean, ...]:
        """Heads worse than the least lucky of so many would be by chance, at p <= .05."""
        return tuple(
            mean for mean in self.head_means if _is_clear(mean) and not self._is_good(mean)
        )

    def _is_good(self, mean: SeedMean) -> bool:
        return ((mean.effect or 0.0) > 0) == self.greater_is_better


@dataclass(frozen=True)
class SeedsAsFactors:
    """The seed grids of a study's recipes."""

    metric: str
    """Name of the metric."""
    greater_is_better: bool
    """Its direction."""
    grids: tuple[SeedGrid, ...]
    """One for each recipe whose seeds vary separately."""

    def records(self) -> list[Record]:
        """Returns one row for each cell of each grid."""
        return [
            {
                "recipe": grid.recipe,
                "head_seed": cell.head,
                "data_seed": cell.data,
                "runs": len(cell.runs),
                "score": cell.score,
                "state": cell.state,
            }
            for grid in self.grids
            for cell in grid.cells
        ]

    def factor_records(self) -> list[Record]:
        """Returns one row for each line of each analysis of variance."""
        return [
            {
                "recipe": grid.recipe,
                "factor": factor.name,
                "degrees": factor.degrees,
                "sum_of_squares": factor.sum_of_squares,
                "mean_square": factor.mean_square,
                "variance": factor.variance,
                "share": factor.share,
                "f": factor.f,
                "p_value": factor.p_value,
                "shuffled_p": factor.shuffled_p,
            }
            for grid in self.grids
            if grid.analysis
            for factor in grid.analysis.factors
        ]

    def mean_records(self) -> list[Record]:
        """Returns one row for each head seed and each data seed, with its mean."""
        return [
            {"recipe": grid.recipe, "factor": factor, **_flat(mean)}
            for grid in self.grids
            for factor, means in (("head", grid.head_means), ("data", grid.data_means))
            for mean in means
        ]


def find(study: Study) -> SeedsAsFactors | None:
    """Returns the seed grids of a study, or None where no recipe's seeds vary separately.

    Example:
        >>> runs = tuple(
        ...     Run("plain", {"head_seed": h, "data_seed": d}, "finished", best_score=s)
        ...     for h, d, s in [(1, 1, 0.5), (1, 2, 0.6), (2, 1, 0.7), (2, 2, 0.81)]
        ... )
        >>> grid, = find(Study("demo", ("plain",), runs, "f1", True)).grids
        >>> [cell.score for cell in grid.cells], round(grid.analysis["head"].share, 2)
        ([0.5, 0.6, 0.7, 0.81], 0.79)
        >>> find(Study("demo", ("plain",), runs[::3], "f1", True)) is None
        True

    Source: Dodge et al. 2020, arXiv 2002.06305, section 4.
    """
    found = (_grid(study, recipe) for recipe in study.recipes)
    grids = tuple(grid for grid in found if grid is not None)
    if not grids:
        return None
    return SeedsAsFactors(study.metric, study.greater_is_better, grids)


def share_seeds(runs: Iterable[Run]) -> bool:
    """Returns whether runs share seeds that vary, so that fewer are independent than are there.

    Example:
        >>> def run(head, data):
        ...     return Run("plain", {"head_seed": head, "data_seed": data}, "finished")
        >>> share_seeds([run(1, 1), run(2, 2)]), share_seeds([run(1, 1), run(1, 2), run(2, 2)])
        (False, True)
    """
    return shared_seeds([run.seeds for run in runs if run.seeds]) is not None


def _grid(study: Study, recipe: str) -> SeedGrid | None:
    runs = [run for run in study.of(recipe) if {"head_seed", "data_seed"} <= run.seeds.keys()]
    together = {(run.seeds["head_seed"], run.seeds["data_seed"]) for run in runs}
    heads, data = (tuple(sorted({pair[place] for pair in together})) for place in (0, 1))
    # With as many pairs as seeds, one seed tells the other: 1-1, 2-2, or 1-1, 1-2, 1-3.
    if min(len(heads), len(data)) < 2 or len(together) <= max(len(heads), len(data)):
        return None
    return SeedGrid(
        recipe=recipe,
        heads=heads,
        data=data,
        cells=tuple(_cell(runs, head, one) for head in heads for one in data),
        analysis=two_way_analysis_of_runs(runs),
        head_means=seed_means_of_runs(runs),
        data_means=seed_means_of_runs(runs, seed="data_seed", blocks="head_seed"),
        head_densities=_densities(runs, "head_seed", heads),
        data_densities=_densities(runs, "data_seed", data),
        dropout=_dropout(runs),
        greater_is_better=study.greater_is_better,
    )


def _cell(runs: Sequence[Run], head: int, data: int) -> Cell:
    mine = tuple(
        run for run in runs if (run.seeds["head_seed"], run.seeds["data_seed"]) == (head, data)
    )
    scores = [score for run in mine if (score := final_score(run)) is not None]
    state: CellState = "scored"
    if not scores:
        stopped = any(run.status == "stopped" for run in mine)
        state = "stopped" if stopped else "without score" if mine else "no run"
    return Cell(head, data, mine, sum(scores) / len(scores) if scores else None, state)


def _densities(runs: Sequence[Run], option: str, seeds: Sequence[int]) -> dict[int, Density]:
    scores = {
        seed: [
            score
            for run in runs
            if run.seeds[option] == seed and (score := final_score(run)) is not None
        ]
        for seed in seeds
    }
    enough = {seed: mine for seed, mine in scores.items() if len(mine) >= FEWEST_FOR_DENSITY}
    own = {seed: one for seed, mine in enough.items() if (one := density(mine, points=2))}
    if not own:
        return {}
    # Some seed with scores close by would else make a needle that dwarfs all others.
    width = statistics.median(one.bandwidth for one in own.values())
    everything = [score for seed in own for score in enough[seed]]
    ends = min(everything) - 3 * width, max(everything) + 3 * width
    smooth = {
        seed: density(enough[seed], low=ends[0], high=ends[1], bandwidth=width) for seed in own
    }
    return {seed: one for seed, one in smooth.items() if one is not None}


def _dropout(runs: Sequence[Run]) -> Dropout:
    """Whether the dropout seed is a function of one of the other two."""
    drawn = [
        (run.seeds.get("seed"), run.seeds["head_seed"], run.seeds["data_seed"]) for run in runs
    ]
    if len({seed for seed, _, _ in drawn}) == 1:
        return "one for all"
    if len({(seed, head) for seed, head, _ in drawn}) == len({head for _, head, _ in drawn}):
        return "as the head"
    if len({(seed, data) for seed, _, data in drawn}) == len({data for _, _, data in drawn}):
        return "as the data"
    return "apart"


def _is_clear(mean: SeedMean) -> bool:
    return mean.p_value is not None and mean.p_value <= LEVEL


def _flat(mean: SeedMean) -> Record:
    low, high = ends(mean.interval)
    values = {key: value for key, value in asdict(mean).items() if key != "interval"}
    return {**values, "low": low, "high": high}
