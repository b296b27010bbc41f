"""How much too good is the best of k runs when validation rows chose it? What test rows say."""

from __future__ import annotations

from dataclasses import dataclass

from hf_stabilizer.studies.findings.finding import Record, ends
from hf_stabilizer.studies.statistics import Optimism, optimism_of_runs
from hf_stabilizer.studies.study import Study

FEWEST_RUNS = 2


@dataclass(frozen=True)
class ChosenOfRecipe:
    """The run that validation chooses among k of one recipe."""

    recipe: str
    """Name of the recipe."""
    optimism: Optimism
    """Its validation and test score, expected, and the gain that new rows do not give back."""

    @property
    def test_gain(self) -> float:
        """What choosing the best of all brings on test rows over one run, in units of the metric.

        Its sign is the metric's: negative is better where smaller is.
        """
        return self.optimism.test[-1] - self.optimism.test[0]

    @property
    def validation_gain(self) -> float:
        """What it seems to bring on validation rows."""
        return self.optimism.validation[-1] - self.optimism.validation[0]


@dataclass(frozen=True)
class ChosenByValidation:
    """Validation-chosen against test, recipe by recipe."""

    metric: str
    """Name of the metric."""
    greater_is_better: bool
    """Its direction."""
    recipes: tuple[ChosenOfRecipe, ...]
    """One entry for each recipe with both scores of two runs or more."""

    def records(self) -> list[Record]:
        """Returns one row for each recipe and number of runs to choose from."""
        return [
            {
                "recipe": one.recipe,
                "runs": k,
                "validation": one.optimism.validation[k - 1],
                "test": one.optimism.test[k - 1],
                "optimism": one.optimism.optimism[k - 1],
                "low": ends(one.optimism.intervals[k - 1])[0],
                "high": ends(one.optimism.intervals[k - 1])[1],
                "within_run": one.optimism.within_run,
                "of_runs": one.optimism.runs,
                "left_out": one.optimism.left_out,
            }
            for one in self.recipes
            for k in range(1, one.optimism.runs + 1)
        ]


def find(study: Study) -> ChosenByValidation | None:
    """Returns the optimism of choosing, or None where fewer than two runs have a test score.

    Example:
        >>> from hf_stabilizer import Run
        >>> runs = tuple(
        ...     Run("plain", {"seed": s}, "finished", best_score=v, test_score=t)
        ...     for s, v, t in [(1, 0.70, 0.70), (2, 0.80, 0.75), (3, 0.90, 0.72)]
        ... )
        >>> one, = find(Study("demo", ("plain",), runs, "f1", True)).recipes
        >>> round(one.validation_gain, 3), round(one.test_gain, 3)
        (0.1, -0.003)
    """
    found = ((recipe, optimism_of_runs(study.of(recipe))) for recipe in study.recipes)
    recipes = tuple(
        ChosenOfRecipe(recipe, one) for recipe, one in found if one and one.runs >= FEWEST_RUNS
    )
    if not recipes:
        return None
    return ChosenByValidation(study.metric, study.greater_is_better, recipes)
