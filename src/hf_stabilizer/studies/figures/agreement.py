"""Do runs with other seeds give the same answers row by row? How many rows, and how far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_stabilizer.studies.figures.canvas import (
    NothingToDrawError,
    colour,
    empty_figure,
    label_lowest,
    name_of,
    tidy,
)
from hf_stabilizer.studies.findings.row_agreement import RecipeAgreement, find
from hf_stabilizer.studies.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_agreement(study: Study) -> Figure:
    """Draws a histogram of the rows by how far the runs of a recipe agree on them.

    For classes by the share of runs that give a row's usual answer, for numbers by the standard
    deviation of the runs on a row. Needs the predictions that a study keeps in its folder.

    Raises:
        NothingToDrawError: No recipe has the predictions of two runs.
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> plot_agreement(Study("demo", ("plain",), (), "f1", True))
        Traceback (most recent call last):
        ...
        hf_stabilizer.studies.figures.canvas.NothingToDrawError: no recipe of the study has kept ...
    """
    found = find(study)
    if found is None:
        raise NothingToDrawError("no recipe of the study has kept the predictions of two runs")
    columns = min(3, len(found.recipes))
    rows = -(-len(found.recipes) // columns)
    figure = empty_figure(
        height=1.3 + 2.2 * rows,
        title="How far seeds agree, row by row",
        caption=_caption(found.recipes, found.part),
    )
    panels = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    for axes, one in zip(panels, found.recipes, strict=False):
        _histogram(axes, one, colour(study.recipes.index(one.recipe)))
    panels[0].set_ylabel(f"{found.part} rows")
    for axes in panels[len(found.recipes) :]:
        axes.set_axis_off()
    has_classes = any(one.classes for one in found.recipes)
    axis = "share of runs with the usual answer" if has_classes else "std of the runs on a row"
    label_lowest(panels[: len(found.recipes)], columns, axis)
    return figure


def _caption(recipes: tuple[RecipeAgreement, ...], part: str) -> str:
    parts = []
    for one in recipes:
        words = f"{one.recipe}: {one.runs} runs on {one.rows} {part} rows"
        if one.classes:
            words += f", all agree on {100 * one.classes.unanimous:.1f} %"
        elif one.numbers and one.numbers.correlation is not None:
            words += f", correlation of two runs {one.numbers.correlation:.3f}"
        parts.append(words)
    return f"{'; '.join(parts)}."


def _histogram(axes: Axes, one: RecipeAgreement, shade: str) -> None:
    lows, highs, counts = zip(*one.histogram, strict=True)
    widths = [high - low or 0.1 for low, high in zip(lows, highs, strict=True)]
    axes.bar(lows, counts, width=widths, align="edge", color=shade, edgecolor="white")
    tidy(axes, grid="y")
    axes.set_title(f"{name_of(one.recipe, 24)}, n = {one.runs}", loc="left", fontsize=9)
