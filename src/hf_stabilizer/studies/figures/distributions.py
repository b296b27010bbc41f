"""Where do scores pile up, and how good is the best of so many?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_stabilizer.studies.figures.canvas import (
    ALARM,
    DASHES,
    INK,
    SOFT,
    NothingToDrawError,
    better_side,
    colour,
    empty_figure,
    name_lines,
    name_of,
    tidy,
)
from hf_stabilizer.studies.findings import best_of_runs, chosen_by_validation, score_densities
from hf_stabilizer.studies.findings.best_of_runs import BestOfRecipe
from hf_stabilizer.studies.findings.score_densities import RecipeDensity
from hf_stabilizer.studies.statistics import BestOf, final_score
from hf_stabilizer.studies.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOKS = {"all": "every evaluation", "epoch": "one an epoch", "run": "the last only"}
MOST_BANDS = 4
"""Lines up to which each has its band; more would cover one another."""
MOST_PANELS = 4


def plot_densities(study: Study) -> Figure:
    """Draws where the final scores of each recipe pile up, one hill below the other.

    Gaussian kernel, Silverman's width; hills of equal area, a tick below for each run, red and
    longer for a failed one.

    Raises:
        NothingToDrawError: No recipe has three final scores that differ.
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> from hf_stabilizer import Run
        >>> runs = tuple(
        ...     Run("plain", {"seed": k}, "finished", best_score=s)
        ...     for k, s in enumerate([0.70, 0.71, 0.73])
        ... )
        >>> figure = plot_densities(Study("demo", ("plain",), runs, "f1", True))
        >>> len(figure.axes[0].collections) > 0
        True
    """
    found = score_densities.find(study)
    if found is None:
        raise NothingToDrawError("no recipe of the study has three final scores that differ")
    highest = max(max(one.density.y) for one in found.recipes if one.density)
    caption = "A hill is a smooth density of equal area in each row; the ticks below are the runs"
    if any(run.status == "failed" for one in found.recipes for run in one.runs):
        caption += ", those of failed runs red and longer"
    figure = empty_figure(
        height=1.6 + 0.85 * len(found.recipes),
        title="Where the scores pile up",
        caption=f"{caption}. Only the ticks are data: smoothing reaches beyond what scores can be.",
    )
    axes = figure.add_subplot()
    tidy(axes, grid="x")
    axes.set(
        xlim=(found.low, found.high),
        ylim=(len(found.recipes) - 0.7, -0.78),
        xlabel=better_side(found.metric, found.greater_is_better),
    )
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    for row, one in enumerate(found.recipes):
        _hill(axes, one, row, highest, colour(study.recipes.index(one.recipe)))
    return figure


def _hill(axes: Axes, one: RecipeDensity, row: int, highest: float, shade: str) -> None:
    if one.density:
        top = [row - 0.5 * y / highest for y in one.density.y]
        axes.fill_between(one.density.x, row, top, color=shade, alpha=0.35, linewidth=0)
        axes.plot(one.density.x, top, color=shade, linewidth=1.4)
    axes.axhline(row, color=shade, linewidth=0.8)
    for run in one.runs:
        is_failed = run.status == "failed"
        reach = 0.2 if is_failed else 0.12
        axes.vlines(
            final_score(run) or 0.0, row + 0.03, row + 0.03 + reach,
            color=ALARM if is_failed else shade, linewidth=1.4,
        )  # fmt: skip
    low, high = axes.get_xlim()
    beyond = sum(not low <= score <= high for score in one.scores)
    note = f"n = {len(one.runs)}"
    note += "" if one.density else ", too few or all alike for a hill"
    note += f", {beyond} beyond the scale" if beyond else ""
    note += f", {one.left_out} without a final score" if one.left_out else ""
    across = axes.get_yaxis_transform()
    axes.text(0, row - 0.6, name_of(one.recipe), transform=across, fontsize=9, color=INK,
              fontweight="bold", va="center")  # fmt: skip
    axes.text(1, row - 0.6, note, transform=across, fontsize=9, color=SOFT, ha="right", va="center")


def plot_expected_best(study: Study) -> Figure:
    """Draws the expected validation performance: the best of k runs over k, with its 95 % interval.

    The first panel holds all recipes; further ones show, where there are up to four, what
    keeping the best of all evaluations, of one an epoch, or the last alone is worth.

    Raises:
        NothingToDrawError: No recipe has two runs with a validation score.
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> from hf_stabilizer import Run
        >>> runs = tuple(
        ...     Run("plain", {"seed": k}, "finished", evaluations=((9, {"f1": s}),), metric="f1")
        ...     for k, s in enumerate([0.70, 0.71, 0.73])
        ... )
        >>> axes, = plot_expected_best(Study("demo", ("plain",), runs, "f1", True)).axes
        >>> [round(float(y), 3) for y in axes.lines[0].get_ydata()]
        [0.713, 0.723, 0.73]

    Source: Dodge et al. 2019, arXiv 1909.03004, section 3.
    """
    found = best_of_runs.find(study)
    if found is None:
        raise NothingToDrawError("no recipe of the study has two runs with validation scores")
    looks = [one for one in found.recipes if one.has_many_looks]
    looks = looks if len(looks) <= MOST_PANELS else []
    columns = min(3, 1 + len(looks))
    rows = -(-(1 + len(looks)) // columns)
    figure = empty_figure(
        height=1.4 + (2.6 if looks else 3.2) * rows,
        title=f"Expected best validation {found.metric} of so many runs",
        caption=_caption_of_best(found),
    )
    panels = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    _all_recipes(panels[0], found, study)
    for axes, one in zip(panels[1:], looks, strict=False):
        _looks(axes, one, colour(study.recipes.index(one.recipe)))
    for axes in panels[1 + len(looks) :]:
        axes.set_axis_off()
    panels[0].set_ylabel(better_side(f"expected best {found.metric}", found.greater_is_better))
    return figure


def _caption_of_best(found: best_of_runs.BestOfRuns) -> str:
    counts = ", ".join(f"{one.recipe} {one.every_look.runs}" for one in found.recipes)
    stopped = [one.recipe for one in found.recipes if one.stopped]
    text = f"Runs: {counts}."
    if len(found.recipes) <= MOST_BANDS:
        text += " Bands are 95 % intervals over resampled runs, too narrow from half of them on."
    if stopped:
        text += (
            f" Runs of {', '.join(stopped)} that were stopped early are not in it; those that went "
            "on were chosen, so they are better than runs at random."
        )
    return text


def _all_recipes(axes: Axes, found: best_of_runs.BestOfRuns, study: Study) -> None:
    has_bands = len(found.recipes) <= MOST_BANDS
    for number, one in enumerate(found.recipes):
        shade = colour(study.recipes.index(one.recipe))
        _best_line(axes, one.every_look, name_of(one.recipe, 20), shade, number, has_bands)
    _finish(axes, "all recipes" if len(found.recipes) > 1 else name_of(found.recipes[0].recipe))
    if len(found.recipes) > 1:
        name_lines(axes, len(found.recipes))


def _looks(axes: Axes, one: BestOfRecipe, shade: str) -> None:
    for number, (looks, best) in enumerate(one.by_looks):
        _best_line(axes, best, LOOKS[looks], shade, number, number == 0)
    _finish(axes, f"{name_of(one.recipe, 22)}: looking more often")
    name_lines(axes, len(one.by_looks))


def _best_line(
    axes: Axes, best: BestOf, name: str, shade: str, number: int, has_band: bool
) -> None:
    counts = range(1, best.runs + 1)
    dash = DASHES[number % len(DASHES)]
    axes.plot(counts, best.expected, color=shade, linestyle=dash, linewidth=1.8, label=name)
    known = [(k, one) for k, one in zip(counts, best.intervals, strict=True) if one]
    if has_band and known:
        xs, lows, highs = zip(*((k, one.low, one.high) for k, one in known), strict=True)
        axes.fill_between(xs, lows, highs, color=shade, alpha=0.14, linewidth=0)


def plot_chosen_by_validation(study: Study) -> Figure:
    """Draws validation and test score of the run that validation chooses among k, over k.

    Where the two lines part as k grows, part of the gain was luck.

    Raises:
        NothingToDrawError: Fewer than two runs of each recipe have both scores.
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> from hf_stabilizer import Run
        >>> runs = tuple(
        ...     Run("plain", {"seed": s}, "finished", best_score=v, test_score=t)
        ...     for s, v, t in [(1, 0.70, 0.70), (2, 0.80, 0.75), (3, 0.90, 0.72)]
        ... )
        >>> axes, = plot_chosen_by_validation(Study("demo", ("plain",), runs, "f1", True)).axes
        >>> axes.get_xlabel()
        'runs to choose from'
    """
    found = chosen_by_validation.find(study)
    if found is None:
        raise NothingToDrawError("no recipe has two runs with a validation and a test score")
    columns = min(3, len(found.recipes))
    rows = -(-len(found.recipes) // columns)
    figure = empty_figure(
        height=1.4 + 2.5 * rows,
        title=f"{found.metric} of the run that validation chooses among k",
        caption=(
            "Expected over the runs of each recipe. The validation score was picked for being "
            "good, the test score was not: where the lines part, the gain was luck."
        ),
    )
    panels = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    for axes, one in zip(panels, found.recipes, strict=False):
        shade = colour(study.recipes.index(one.recipe))
        counts = range(1, one.optimism.runs + 1)
        for name, values, dash in (
            ("validation", one.optimism.validation, DASHES[0]),
            ("test", one.optimism.test, DASHES[1]),
        ):
            axes.plot(counts, values, color=shade, linestyle=dash, linewidth=1.8, label=name)
        _finish(axes, f"{name_of(one.recipe, 24)}, n = {one.optimism.runs}")
        axes.set_xlabel("runs to choose from")
        name_lines(axes, 2)
    for axes in panels[len(found.recipes) :]:
        axes.set_axis_off()
    panels[0].set_ylabel(better_side(f"expected {found.metric}", found.greater_is_better))
    return figure


def _finish(axes: Axes, title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    tidy(axes)
    axes.set_title(title, loc="left", fontsize=9)
    axes.set_xlabel("number of runs")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.margins(x=0.02)
