"""What do all figures of a study share? Their colours, their axes, and the words below them.

Figures are made without pyplot, so none stays open behind the reader's back and none needs a
display. Colour never stands alone: recipes are named where they are drawn, failed runs are
crosses, those stopped early are rings, lines differ in their dashes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from hf_stabilizer.errors import MissingDependencyError, StudyError
from hf_stabilizer.studies.formats import typographic
from hf_stabilizer.studies.page.charts import short
from hf_stabilizer.studies.page.svg import scale_over

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that people with colour blindness tell apart (Okabe, Ito 2008); the baseline is grey.
BASELINE = "#5c6673"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900")
INK, SOFT, GRID, ALARM = "#1b1e23", "#565c66", "#e4e2dc", "#a8321f"
DASHES = ("-", (0, (5, 2)), (0, (1, 1.6)), (0, (6, 2, 1, 2)))
WIDTH = 7.2
"""Inches, as wide as a text column; at 150 dots an inch 1080 pixels."""


class NothingToDrawError(StudyError):
    """A study cannot answer the question of a figure."""


def empty_figure(*, height: float, caption: str, title: str, width: float = WIDTH) -> Figure:
    """Returns a figure with a title above and words below its axes.

    Args:
        height: Inches.
        caption: What is drawn, the number of runs included.
        title: The question or the quantity.
        width: Inches.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "figures of a study need matplotlib, which is not installed; "
            "run: pip install 'hf_stabilizer[plots]'"
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(label(title), x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    words = textwrap.fill(label(caption), round(16.5 * width), break_on_hyphens=False)
    figure.supxlabel(words, x=0.01, ha="left", fontsize=8, color=SOFT, linespacing=1.35)
    return figure


def colour(place: int) -> str:
    """Returns the colour of a recipe by its place in the study; the baseline's is its own.

    Example:
        >>> colour(0), colour(1) == colour(6)
        ('#5c6673', True)
    """
    return BASELINE if place == 0 else COLOURS[(place - 1) % len(COLOURS)]


def label(text: str) -> str:
    r"""Returns text that matplotlib writes as it stands: no formula, no hidden legend entry.

    Example:
        >>> print(label("cost in $, $5"), label("_mine"))
        cost in \$, \$5  _mine
    """
    written = typographic(text).replace("$", r"\$")
    return f" {written}" if written.startswith("_") else written


def name_of(recipe: str, length: int = 34) -> str:
    """Returns a recipe's name, cut where it is long, as a label."""
    return label(short(recipe, length))


def tidy(axes: Axes, *, grid: str = "both") -> None:
    """Takes away what carries no number, and draws a quiet grid behind what does.

    Args:
        axes: Of one figure.
        grid: "x", "y" or "both".
    """
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
    axes.tick_params(colors=SOFT, labelsize=8, length=0)
    axes.xaxis.label.set(color=SOFT, size=9)
    axes.yaxis.label.set(color=SOFT, size=9)
    axes.set_axisbelow(True)
    if grid in ("x", "both"):
        axes.xaxis.grid(True, color=GRID, linewidth=0.8)
    if grid in ("y", "both"):
        axes.yaxis.grid(True, color=GRID, linewidth=0.8)


def name_lines(axes: Axes, lines: int) -> None:
    """Names lines in the axes, or beside them where the names of many would cover the lines."""
    drawn = axes.legend(fontsize=8, frameon=False, handlelength=2.6)
    if lines > 4:
        drawn.set_loc("center left")
        drawn.set_bbox_to_anchor((1.0, 0.5))


def label_lowest(panels: Sequence[Axes], columns: int, axis: str) -> None:
    """Writes ticks and axis below the lowest panel of each column; the panels share that axis.

    Args:
        panels: Those in use, row by row.
        columns: Panels in a row.
        axis: What is counted.
    """
    for axes in panels[-columns:]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel(axis)


def limits(values: Iterable[float]) -> tuple[float, float]:
    """Returns the ends of an axis, those of the report's page: diverged runs lie beyond them."""
    scale = scale_over(values, 0.0, 1.0)
    return scale.low, scale.high


def better_side(metric: str, greater_is_better: bool) -> str:
    """Returns the metric and its better direction, for the label of an axis."""
    return label(f"{metric}, {'higher' if greater_is_better else 'lower'} is better")
