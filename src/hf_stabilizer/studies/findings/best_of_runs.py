"""How good is the best of k runs, and what is looking more often worth?

The expected best validation score of k runs, k = 1..n, for the same runs looked at with every
evaluation, with one per epoch, and with the last one alone.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from hf_stabilizer.records import Run
from hf_stabilizer.studies.findings.finding import Record, ends
from hf_stabilizer.studies.findings.seed_factors import share_seeds
from hf_stabilizer.studies.statistics import BestOf, expected_best_by_looks
from hf_stabilizer.studies.statistics.looks import Looks
from hf_stabilizer.studies.study import Study

FEWEST_RUNS = 2


@dataclass(frozen=True)
class BestOfRecipe:
    """The expected best of k runs of one recipe, under each habit of looking."""

    recipe: str
    """Name of the recipe."""
    by_looks: tuple[tuple[Looks, BestOf], ...]
    """("all", "epoch" or "run", the expected best), in this order; "epoch" is absent where the
    number of steps in an epoch is not known."""
    seconds: float | None
    """Mean wall-clock seconds of a run that was not stopped early: k runs cost k times that;
    None where the runs do not tell."""
    stopped: int
    """Runs stopped early: then the others were chosen, and the best of k of them is better than
    that of k runs at random."""
    shares_seeds: bool
    """Whether runs share seeds, as on a grid: then the intervals, which take them for independent,
    are too narrow."""

    @property
    def every_look(self) -> BestOf:
        """The expected best with every evaluation, as studies run here have it."""
        return self.by_looks[0][1]

    @property
    def has_many_looks(self) -> bool:
        """Whether the habits differ at all: some run was evaluated more than once."""
        return any(best.expected != self.every_look.expected for _, best in self.by_looks)

    @property
    def worth_of_looking(self) -> float | None:
        """Expected score of one run with all its evaluations, minus that with the last one alone.

        In units of the metric.
        """
        last = dict(self.by_looks).get("run")
        return None if last is None else self.every_look.expected[0] - last.expected[0]


@dataclass(frozen=True)
class BestOfRuns:
    """Expected validation performance over the number of runs."""

    metric: str
    """Name of the metric."""
    greater_is_better: bool
    """Its direction."""
    recipes: tuple[BestOfRecipe, ...]
    """One entry for each recipe with two scored runs or more."""

    def records(self) -> list[Record]:
        """Returns one row for each recipe, habit of looking and number of runs."""
        return [
            {
                "recipe": one.recipe,
                "looks": looks,
                "runs": k,
                "expected_best": best.expected[k - 1],
                "low": ends(best.intervals[k - 1])[0],
                "high": ends(best.intervals[k - 1])[1],
                "std": best.std[k - 1],
                "seconds": None if one.seconds is None else k * one.seconds,
                "of_runs": best.runs,
                "left_out": best.left_out,
            }
            for one in self.recipes
            for looks, best in one.by_looks
            for k in range(1, best.runs + 1)
        ]


def find(study: Study) -> BestOfRuns | None:
    """Returns the expected best of k runs of each recipe, or None where no recipe has two scores.

    Runs that the study stopped early are left out and counted, as are those never evaluated.

    Example:
        >>> def run(*scores):
        ...     curve = tuple((5 * k, {"f1": s}) for k, s in enumerate(scores, 1))
        ...     return Run("plain", {}, "finished", evaluations=curve, metric="f1", steps=10)
        >>> runs = (run(0.5, 0.9), run(0.8, 0.6), run(0.7, 0.7))
        >>> found, = find(Study("demo", ("plain",), runs, "f1", True)).recipes
        >>> [(looks, [round(x, 2) for x in best.expected]) for looks, best in found.by_looks]
        [('all', [0.8, 0.87, 0.9]), ('run', [0.73, 0.83, 0.9])]

    Source: Dodge et al. 2019, arXiv 1909.03004, section 3; Dodge et al. 2020, arXiv 2002.06305,
    section 3.
    """
    found = (_of_recipe(study.of(recipe), recipe) for recipe in study.recipes)
    recipes = tuple(one for one in found if one is not None)
    if not recipes:
        return None
    return BestOfRuns(study.metric, study.greater_is_better, recipes)


def _of_recipe(runs: tuple[Run, ...], recipe: str) -> BestOfRecipe | None:
    by_looks = tuple(expected_best_by_looks(runs).items())
    if not by_looks or by_looks[0][1].runs < FEWEST_RUNS:
        return None
    times = [run.seconds for run in runs if run.status != "stopped" and run.seconds > 0]
    return BestOfRecipe(
        recipe=recipe,
        by_looks=by_looks,
        seconds=statistics.fmean(times) if times else None,
        stopped=sum(run.status == "stopped" for run in runs),
        shares_seeds=share_seeds(runs),
    )
