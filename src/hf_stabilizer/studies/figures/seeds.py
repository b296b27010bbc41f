"""Which seed makes the scores differ? The grid of head and data seeds, and the share of each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.figures.canvas import (
    GRID,
    INK,
    SOFT,
    NothingToDrawError,
    colour,
    empty_figure,
    label,
    limits,
    name_of,
    tidy,
)
from hf_stabilizer.studies.findings.seed_factors import SeedGrid, find
from hf_stabilizer.studies.page.sections.heat import seed_labels
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.verdict import study_decimals

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FACTORS = {"head": "head seed", "data": "data order", "head x data": "both together"}
SYMBOLS = {"stopped": "o", "without score": "x", "no run": "_"}
MOST_LETTERS = 60
"""Letters for which there is room below the cells."""
MOST_WRITTEN = 10
"""Seeds on a side up to which each cell tells its score."""


def plot_seed_grid(study: Study) -> Figure:
    """Draws the score of each head seed under each data seed, and the share of variance of both.

    One row for each recipe whose seeds vary separately. Darker is better; a stroke is a cell
    without a run, a ring one of a run stopped early, a cross one without a score.

    Raises:
        NothingToDrawError: Head and data seed do not vary separately.
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> from hf_stabilizer import Run
        >>> runs = tuple(
        ...     Run("plain", {"head_seed": h, "data_seed": d}, "finished", best_score=s)
        ...     for h, d, s in [(1, 1, 0.5), (1, 2, 0.6), (2, 1, 0.7), (2, 2, 0.81)]
        ... )
        >>> figure = plot_seed_grid(Study("demo", ("plain",), runs, "f1", True))
        >>> figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()
        ('data seed', 'head seed')

    Source: Dodge et al. 2020, arXiv 2002.06305, section 4.
    """
    found = find(study)
    if found is None:
        raise NothingToDrawError(
            "head and data seeds of the study do not vary separately; run it with "
            "--head-seeds and --data-seeds"
        )
    runs = sum(len(cell.runs) for grid in found.grids for cell in grid.cells)
    tall = [1.0 + min(5.0, 0.36 * len(grid.heads)) for grid in found.grids]
    figure = empty_figure(
        height=1.3 + sum(tall),
        width=9.0,
        title=f"{found.metric} by head seed and data seed",
        caption=(
            f"{formats.counted(runs, 'run')}, darker is better. Shares of the variance are rough, "
            "for seeds are few; p by shuffling where the grid allows it, else that of F."
            + _symbols(found.grids)
        ),
    )
    scores = [cell.score for grid in found.grids for cell in grid.cells if cell.score is not None]
    rows = figure.subplots(
        len(found.grids), 2, squeeze=False, width_ratios=(1.8, 1), height_ratios=tall
    )
    for grid, (cells, shares) in zip(found.grids, rows, strict=True):
        _cells(cells, grid, study_decimals(study), limits(scores))
        _shares(shares, grid, colour(study.recipes.index(grid.recipe)))
    return figure


def _symbols(grids: tuple[SeedGrid, ...]) -> str:
    if all(cell.score is not None for grid in grids for cell in grid.cells):
        return ""
    return " Stroke: no run; ring: stopped early; cross: no score."


def _cells(axes: Axes, grid: SeedGrid, decimals: int, ends: tuple[float, float]) -> None:
    shape = len(grid.heads), len(grid.data)
    values = np.array([np.nan if c.score is None else c.score for c in grid.cells]).reshape(shape)
    ramp = "cividis_r" if grid.greater_is_better else "cividis"
    low, high = ends
    image = axes.imshow(values, aspect="auto", cmap=ramp, vmin=low, vmax=high)
    assert axes.figure is not None
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.9)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=SOFT, length=0)
    tidy(axes, grid="none")
    heads, data = ([*seed_labels(seeds).values()] for seeds in (grid.heads, grid.data))
    every = math.ceil(len(data) * (1 + max(map(len, data))) / MOST_LETTERS)
    axes.set_xticks(range(0, len(data), every), data[::every])
    axes.set_yticks(range(len(heads)), heads)
    axes.set(xlabel="data seed", ylabel="head seed")
    axes.set_title(name_of(grid.recipe), loc="left", fontsize=9)
    is_written = max(shape) <= MOST_WRITTEN
    for place, cell in enumerate(grid.cells):
        row, column = divmod(place, shape[1])
        if cell.score is None:
            axes.plot(column, row, marker=SYMBOLS[cell.state], color=SOFT, markerfacecolor="none")
        elif is_written:
            dark = (cell.score - low) / (high - low) > 0.5
            ink = "white" if dark == grid.greater_is_better else INK
            written = formats.number(cell.score, decimals)
            axes.text(column, row, written, ha="center", va="center", fontsize=8, color=ink)


def _shares(axes: Axes, grid: SeedGrid, shade: str) -> None:
    if grid.analysis is None:
        axes.set_axis_off()
        axes.text(0, 0.5, "too few scores to tell\nhead and data apart", fontsize=9, color=SOFT)
        return
    factors = grid.analysis.factors
    names = [FACTORS.get(factor.name, factor.name) for factor in factors]
    bars = axes.barh(names, [100 * factor.share for factor in factors], color=shade, height=0.6)
    sure = [f.p_value if f.shuffled_p is None else f.shuffled_p for f in factors]
    notes = [
        f"{100 * factor.share:.0f} %" + ("" if p is None else f", {formats.p_value(p)}")
        for factor, p in zip(factors, sure, strict=True)
    ]
    axes.bar_label(bars, [label(note) for note in notes], padding=4, fontsize=8, color=INK)
    tidy(axes, grid="x")
    axes.invert_yaxis()
    axes.set(xlim=(0, 150), xlabel="share of the variance in %")
    axes.set_xticks([0, 50, 100])
    axes.set_title(f"n = {grid.analysis.runs} runs", loc="left", fontsize=9)
    axes.axvline(0, color=GRID)
