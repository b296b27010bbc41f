"""By how much do recipes differ under the same seeds? Every pair, the mean and its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.comparison import Comparison
from hf_stabilizer.studies.figures.canvas import NothingToDrawError, better_side, empty_figure
from hf_stabilizer.studies.figures.lanes import Kind, Lane, draw_lanes, height_of
from hf_stabilizer.studies.findings import ablation_effects, paired_differences
from hf_stabilizer.studies.page.charts import short
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.verdict import outcome, study_decimals

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST = 34
"""Letters of the baseline's name below the axes."""
MARKS = (
    "A dot is a pair of runs with the same seeds, filled where it is better, hollow where it is "
    "worse; the bar is the mean, the band its 95 % interval before correction."
)


def plot_paired_differences(study: Study) -> Figure:
    """Draws the difference of each recipe from the baseline, pair by pair, with its 95 % interval.

    p-values are those of the verdict: exact, and corrected by Holm's method.

    Raises:
        NothingToDrawError: There is one recipe, or no score to compare.
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> from hf_stabilizer import Run
        >>> runs = tuple(
        ...     Run(recipe, {"seed": s}, "finished", best_score=score + s / 100)
        ...     for recipe, score in [("plain", 0.5), ("swa", 0.6)] for s in range(6)
        ... )
        >>> figure = plot_paired_differences(Study("demo", ("plain", "swa"), runs, "f1", True))
        >>> figure.axes[0].get_xlabel()
        'f1 minus that of plain, higher is better'
    """
    found = paired_differences.find(study)
    if found is None:
        raise NothingToDrawError("the study has no two recipes with scores to compare")
    decimals = study_decimals(study)
    lanes = [
        _lane(name, one.comparison, study.recipes.index(name), decimals)
        for one in found.candidates
        for name in [one.comparison.candidate]
    ]
    figure = empty_figure(
        height=height_of(len(lanes)),
        title=f"Difference in {found.metric} from {found.baseline}",
        caption=MARKS + _unpaired(found),
    )
    against = f"{found.metric} minus that of {short(found.baseline, LONGEST)}"
    axis = better_side(against, found.greater_is_better)
    draw_lanes(figure.add_subplot(), lanes, axis=axis, zero=0.0)
    return figure


def plot_ablation(study: Study) -> Figure:
    """Draws what each remedy changes, alone and on top of the others, with its 95 % interval.

    Raises:
        NothingToDrawError: The study is no ablation, or no two arms can be compared yet.
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> plot_ablation(Study("demo", ("plain",), (), "f1", True))
        Traceback (most recent call last):
        ...
        hf_stabilizer.studies.figures.canvas.NothingToDrawError: the study is no ablation with ...
    """
    found = ablation_effects.find(study)
    if found is None:
        raise NothingToDrawError("the study is no ablation with arms to compare")
    decimals = study_decimals(study)
    places = {recipe: place for place, recipe in enumerate(study.recipes)}
    whole = found.ablation.together
    lanes = [_lane("all together", whole.alone, places[whole.alone.candidate], decimals)]
    for row in found.ablation.rows:
        place = places[row.alone.candidate]  # both lanes of a remedy have its colour
        lanes.append(_lane(f"{row.remedy}, alone", row.alone, place, decimals))
        if row.added is not None:
            lanes.append(_lane(f"{row.remedy}, on top", row.added, place, decimals))
    words = "Alone: against the baseline; on top: all remedies against all but this one. "
    figure = empty_figure(
        height=height_of(len(lanes)),
        title=f"What each remedy changes in {found.metric}",
        caption=words + MARKS,
    )
    axis = better_side(f"change in {found.metric}", found.greater_is_better)
    draw_lanes(figure.add_subplot(), lanes, axis=axis, zero=0.0)
    return figure


def _unpaired(found: paired_differences.PairedDifferences) -> str:
    if not any(one.comparison.unpaired for one in found.candidates):
        return ""
    return " Recipes that share no seeds with the baseline have no dots: their runs are no pairs."


def _lane(name: str, found: Comparison, place: int, decimals: int) -> Lane:
    mean = formats.number(found.mean_difference, decimals, signed=True)
    claim = outcome(found)
    return Lane(
        name=name,
        note=f"n = {found.held}, {mean}, {formats.p_value(found.p_value)}, {claim}",
        place=place,
        marks=[(pair.difference, _kind(pair.difference, found)) for pair in found.pairs],
        mean=found.mean_difference,
        interval=found.interval,
    )


def _kind(difference: float, found: Comparison) -> Kind:
    return "full" if (difference > 0) == found.greater_is_better and difference else "hollow"
