"""How does a grid of seeds look? One cell for each head and data seed, coloured by its score."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from markupsafe import Markup

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.findings.seed_factors import Cell, SeedGrid
from hf_stabilizer.studies.page.charts import run_key, which_run
from hf_stabilizer.studies.page.svg import Scale, drawing, element, text

SHADES = 6
"""Number of shades, h0 (the worst) to h5 (the best), that the style sheet defines."""
WIDTH = 640.0
LEFT, TOP, RIGHT = 56.0, 40.0, 60.0
WRITTEN_FROM = 34.0
"""Width of a cell in which its score can be written."""
LONGEST_SEED = 5
"""Digits of a seed for which there is room beside the grid."""
LETTER, NARROW_LETTER = 6.5, 12.5
"""Width of a digit, and that on a narrow screen."""


def seed_labels(seeds: Iterable[int]) -> dict[int, str]:
    """Returns what seeds are called where there is little room: long ones by their last digits.

    Example:
        >>> seed_labels([1, 42]), seed_labels([7, 4294967289, 4294967290])
        ({1: '1', 42: '42'}, {7: '7', 4294967289: '\u2026289', 4294967290: '\u2026290'})
    """
    full = {seed: str(seed) for seed in seeds}
    for kept in range(3, LONGEST_SEED):
        cut = {s: w if len(w) <= LONGEST_SEED else f"\u2026{w[-kept:]}" for s, w in full.items()}
        if len(set(cut.values())) == len(full):
            return cut
    return full


def heat_map(
    grid: SeedGrid, *, name: str, metric: str, decimals: int, within: Sequence[float]
) -> Markup:
    """Draws the grid of one recipe: a row for each head, a column for each data seed.

    Args:
        grid: The grid.
        name: Name of the drawing, unique in the page.
        metric: Name of the metric.
        decimals: Decimals of a score.
        within: Scores of all grids, so that shades compare between recipes.
    """
    side = min(52.0, (WIDTH - LEFT - RIGHT) / len(grid.data))
    tall = max(14.0, min(30.0, side * 0.62))
    height = TOP + tall * len(grid.heads) + 52
    scale = _shades(within)
    parts = [text("data seed", LEFT, 12, cls="axis"), text("head", 4, TOP - 8, cls="axis")]
    parts += _columns(grid, side)
    heads = seed_labels(grid.heads)
    for row, head in enumerate(grid.heads):
        top = TOP + row * tall
        parts.append(text(heads[head], LEFT - 8, top + tall / 2 + 4, cls="tick end"))
        cells = [cell for cell in grid.cells if cell.head == head]
        for column, cell in enumerate(cells):
            at = (LEFT + column * side, top, side, tall)
            parts.append(_cell(cell, at, scale, grid, decimals))
        parts.append(
            _mean_of_row(grid, head, LEFT + side * len(grid.data), top + tall / 2 + 4, decimals)
        )
    parts += _means_of_columns(grid, side, TOP + tall * len(grid.heads) + 14, decimals)
    parts.extend(_key(scale, grid.greater_is_better, height - 12, decimals))
    about = f"{len(grid.heads)} head by {len(grid.data)} data seeds, the stronger the better"
    title = f"{metric} of {grid.recipe} by head seed and data seed"
    return drawing(f"heat-{name}", WIDTH, height, title, about, parts)


def _columns(grid: SeedGrid, side: float) -> list[Markup]:
    labels = seed_labels(grid.data)
    longest = max(map(len, labels.values()))
    fewest = 1 if side >= 20 else 2 if side >= 11 else 5
    every = max(fewest, math.ceil((LETTER * longest + 3) / side))
    narrow = every * math.ceil((NARROW_LETTER * longest + 3) / (every * side))
    found = [
        text(
            labels[seed],
            LEFT + (place + 0.5) * side,
            TOP - 8,
            cls="tick middle" if place % narrow == 0 else "tick middle spare",
        )
        for place, seed in enumerate(grid.data)
        if place % every == 0
    ]
    return [*found, text("mean", LEFT + side * len(grid.data) + 8, TOP - 8, cls="axis")]


def _shades(scores: Sequence[float]) -> Scale:
    """The scale of the shades: the whiskers of a box plot, so that lost runs leave room."""
    low, high = min(scores, default=0.0), max(scores, default=1.0)
    first, third = (float(q) for q in np.quantile([low, high, *scores], (0.25, 0.75)))
    reach = 1.5 * (third - first)
    low, high = max(low, first - reach), min(high, third + reach)
    return Scale(low, high, 0.0, 1.0) if low < high else Scale(low - 0.5, low + 0.5, 0.0, 1.0)


def _means_of_columns(grid: SeedGrid, side: float, y: float, decimals: int) -> list[Markup]:
    if side < WRITTEN_FROM:
        return []
    means = {mean.seed: formats.number(mean.mean, decimals) for mean in grid.data_means}
    found = [
        text(means.get(seed, formats.NOTHING), LEFT + (place + 0.5) * side, y, cls="tick middle")
        for place, seed in enumerate(grid.data)
    ]
    return [text("mean", LEFT - 8, y, cls="axis end"), *found]


def _mean_of_row(grid: SeedGrid, head: int, x: float, y: float, decimals: int) -> Markup:
    means = {mean.seed: mean.mean for mean in grid.head_means}
    return text(formats.number(means.get(head), decimals), x + 8, y, cls="tick")


def _cell(
    cell: Cell,
    at: tuple[float, float, float, float],
    scale: Scale,
    grid: SeedGrid,
    decimals: int,
) -> Markup:
    x, y, width, height = at
    box = {"x": x + 0.5, "y": y + 0.5, "width": width - 1, "height": height - 1}
    name = element("title", _title(cell, grid.recipe, decimals))
    keys = " ".join(run_key(run) for run in cell.runs)
    link = {"data_run": keys} if keys else {}
    parts = [name, element("rect", cls=_shade(cell, scale, grid.greater_is_better), **box)]
    if cell.score is None:
        parts.append(_hatching(cell, x, y, width, height))
    elif width >= WRITTEN_FROM and height >= 16:
        written = formats.number(cell.score, decimals)
        parts.append(text(written, x + width / 2, y + height / 2 + 4, cls="cell-score middle"))
    if any(run.status == "failed" for run in cell.runs):
        parts.append(_corner(x + width - 1, y + 1))
    return element("g", *parts, cls="cell", **link)


def _shade(cell: Cell, scale: Scale, greater_is_better: bool) -> str:
    if cell.score is None:
        return "none"
    at = scale(cell.score)
    share = at if greater_is_better else 1 - at
    return f"h{min(SHADES - 1, int(share * SHADES))}"


def _hatching(cell: Cell, x: float, y: float, width: float, height: float) -> Markup:
    """Lines across a cell without a score: one way where there is no run, both where it is lost."""
    down = f"M{x + 2:.1f} {y + 2:.1f}L{x + width - 2:.1f} {y + height - 2:.1f}"
    up = f"M{x + 2:.1f} {y + height - 2:.1f}L{x + width - 2:.1f} {y + 2:.1f}"
    path = {"no run": up, "stopped": up, "without score": down + up}[cell.state]
    cls = {"no run": "hatch", "stopped": "hatch dashed", "without score": "hatch lost"}[cell.state]
    return element("path", cls=cls, d=path)


def _corner(x: float, y: float) -> Markup:
    """The mark of a failed run that left a score."""
    return element(
        "polygon", cls="lost", points=f"{x - 8:.1f},{y:.1f} {x:.1f},{y:.1f} {x:.1f},{y + 8:.1f}"
    )


def _title(cell: Cell, recipe: str, decimals: int) -> str:
    where = f"{recipe}, head seed {cell.head}, data seed {cell.data}"
    failed = sum(run.status == "failed" for run in cell.runs)
    lost = f", {'failed' if len(cell.runs) == 1 else f'{failed} failed'}" if failed else ""
    if cell.score is None:
        state = "stopped early" if cell.state == "stopped" else cell.state
        return f"{where}: {state}{lost}"
    score = formats.number(cell.score, decimals)
    if len(cell.runs) == 1:
        return f"{recipe}, {which_run(cell.runs[0])}: {score}{lost}"
    return f"{where}: mean of {len(cell.runs)} runs {score}{lost}"


def _key(scale: Scale, greater_is_better: bool, y: float, decimals: int) -> Iterator[Markup]:
    """The shades from worst to best, with the scores at their ends."""
    ends = (scale.low, scale.high) if greater_is_better else (scale.high, scale.low)
    worst, best = (formats.number(end, decimals) for end in ends)
    yield text(f"{worst} and worse", LEFT + 86, y + 4, cls="tick end")
    for shade in range(SHADES):
        x = LEFT + 92 + shade * 18.0
        yield element("rect", cls=f"h{shade}", x=x, y=y - 6, width=17, height=12)
    yield text(f"{best} and better", LEFT + 98 + SHADES * 18.0, y + 4, cls="tick")
