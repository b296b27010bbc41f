"""Where do the final scores of each recipe pile up?

A mean and a spread do not tell a recipe that is always a little off from one that is good but for
a run in five; a density does.
"""

from __future__ import annotations

from dataclasses import dataclass

from hf_stabilizer.records import Run
from hf_stabilizer.studies.findings.finding import Record
from hf_stabilizer.studies.page.svg import scale_over
from hf_stabilizer.studies.statistics import Density, density, final_score
from hf_stabilizer.studies.study import Study

FEWEST_FOR_DENSITY = 3


@dataclass(frozen=True)
class RecipeDensity:
    """The final scores of one recipe and their density."""

    recipe: str
    """Name of the recipe."""
    runs: tuple[Run, ...]
    """Its runs with a final score, the failed ones with a score among them."""
    left_out: int
    """Its runs without a final score: stopped early, or failed."""
    density: Density | None
    """Density over the ends that all recipes share; None for fewer than three scores, or where
    all are equal."""

    @property
    def scores(self) -> tuple[float, ...]:
        """Final scores in the order of `runs`."""
        return tuple(score for run in self.runs if (score := final_score(run)) is not None)


@dataclass(frozen=True)
class ScoreDensities:
    """Densities of the final scores, recipe by recipe, over the same ends."""

    metric: str
    """Name of the metric."""
    greater_is_better: bool
    """Its direction."""
    low: float
    """Where the densities begin."""
    high: float
    """Where they end; scores beyond, as diverged runs leave them, are in no picture but counted."""
    recipes: tuple[RecipeDensity, ...]
    """One entry for each recipe with a score."""

    def records(self) -> list[Record]:
        """Returns one row for each point of each density."""
        return [
            {
                "recipe": one.recipe,
                "score": x,
                "density": y,
                "bandwidth": one.density.bandwidth,
                "runs": len(one.runs),
                "left_out": one.left_out,
            }
            for one in self.recipes
            if one.density
            for x, y in zip(one.density.x, one.density.y, strict=True)
        ]


def find(study: Study) -> ScoreDensities | None:
    """Returns the densities, or None where no recipe has three scores that differ.

    Example:
        >>> runs = tuple(
        ...     Run("plain", {"seed": k}, "finished", best_score=s)
        ...     for k, s in enumerate([0.70, 0.71, 0.73, 0.72, 0.30])
        ... )
        >>> found, = find(Study("demo", ("plain",), runs, "f1", True)).recipes
        >>> len(found.density.x), found.left_out
        (121, 0)
    """
    runs = {recipe: _scored(study.of(recipe)) for recipe in study.recipes}
    scores = {recipe: [final_score(run) or 0.0 for run in mine] for recipe, mine in runs.items()}
    ends = _ends([score for mine in scores.values() for score in mine], scores)
    recipes = tuple(
        RecipeDensity(
            recipe=recipe,
            runs=mine,
            left_out=len(study.of(recipe)) - len(mine),
            density=density(scores[recipe], low=ends[0], high=ends[1])
            if len(mine) >= FEWEST_FOR_DENSITY
            else None,
        )
        for recipe, mine in runs.items()
        if mine
    )
    if not any(one.density for one in recipes):
        return None
    return ScoreDensities(study.metric, study.greater_is_better, *ends, recipes)


def _scored(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    return tuple(run for run in runs if final_score(run) is not None)


def _ends(everything: list[float], scores: dict[str, list[float]]) -> tuple[float, float]:
    """Ends that hold all scores but those of diverged runs, and three bandwidths around them."""
    scale = scale_over(everything, 0.0, 1.0)
    smooth = [found for mine in scores.values() if (found := density(mine, points=2))]
    room = max((3 * min(one.bandwidth, (scale.high - scale.low) / 8) for one in smooth), default=0)
    return scale.low - room, scale.high + room
