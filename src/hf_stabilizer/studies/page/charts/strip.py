"""How do the scores of all runs lie, recipe by recipe? One lane each, one mark for each run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from markupsafe import Markup

from hf_stabilizer.records import Run
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.page.charts.runs import (
    colour,
    cross,
    run_key,
    run_text,
    score_of,
    scores_of,
    short,
)
from hf_stabilizer.studies.page.svg import Scale, drawing, element, scale_over, text, vertical_grid
from hf_stabilizer.studies.statistics import RecipeSummary


def strip_chart(
    runs: Sequence[Run], rows: Sequence[RecipeSummary], *, metric: str, greater_is_better: bool
) -> Markup:
    """Draws one lane per recipe with one mark per run, the mean and its interval.

    Runs without a score stand in a column of their own at the worse end.
    """
    width, lane, decimals = 640.0, 88.0, formats.decimals_for(scores_of(runs))
    gutter = 104.0 if any(score_of(run) is None for run in runs) else 0.0
    left, right = (gutter, 0.0) if greater_is_better else (0.0, gutter)
    x = scale_over(scores_of(runs), 16 + left, width - 16 - right)
    height = lane * len(rows) + 64
    parts: list[Markup] = [*vertical_grid(x, 8, height - 52)]
    if gutter:
        edge = x.start - 8 if greater_is_better else x.end + 8
        column = (edge - 52) if greater_is_better else (edge + 52)
        parts.append(element("line", cls="edge", x1=edge, x2=edge, y1=8, y2=height - 52))
        parts.append(text("no score", column, height - 32, cls="tick middle"))
    else:
        column = 0.0
    for place, row in enumerate(rows):
        mine = [run for run in runs if run.recipe == row.recipe]
        parts.extend(_lane(row, mine, x, place * lane, decimals))
        parts.append(_marks(mine, x, place * lane + 58, column, decimals, place))
    direction = "higher is better \N{RIGHTWARDS ARROW}"
    if not greater_is_better:
        direction = "\N{LEFTWARDS ARROW} lower is better"
    parts.append(text(f"{metric}, {direction}", width / 2, height - 4, cls="axis middle"))
    about = "; ".join(_describe(row, decimals) for row in rows)
    return drawing("strip", width, height, f"{metric} of every run by recipe", about, parts)


def _lane(
    row: RecipeSummary, runs: Sequence[Run], x: Scale, top: float, decimals: int
) -> Iterator[Markup]:
    note = [element("tspan", f"mean {formats.number(row.mean, decimals)}")]
    if row.std is not None:
        spread = f" \N{MIDDLE DOT} std {formats.number(row.std, decimals)}"
        note.append(element("tspan", spread, cls="spare"))  # not shown where room is short
    if row.failed:
        note.append(element("tspan", f" \N{MIDDLE DOT} {row.failed} of {row.ended} failed"))
    if beyond := sum(not x.holds(score) for score in scores_of(runs)):
        note.append(element("tspan", f" \N{MIDDLE DOT} {beyond} beyond the scale"))
    yield text(short(row.recipe, 22), 16, top + 24, cls="name")
    yield element("text", *note, cls="note end", x=624, y=top + 24)
    if row.interval and all(x.holds(end) for end in row.interval):
        low, high = x(row.interval.low), x(row.interval.high)
        name = (
            f"{row.recipe}: 95 % bootstrap interval of the mean "
            f"{formats.number(row.interval.low, decimals)} to "
            f"{formats.number(row.interval.high, decimals)}"
        )
        yield element(
            "rect",
            element("title", name),
            cls="interval",
            x=low,
            y=top + 34,
            width=max(high - low, 1),
            height=48,
            rx=2,
        )
    if row.mean is not None and x.holds(row.mean):
        at = x(row.mean)
        name = element("title", f"{row.recipe}: mean {formats.number(row.mean, decimals)}")
        yield element("line", name, cls="mean", x1=at, x2=at, y1=top + 34, y2=top + 82)


def _marks(
    runs: Sequence[Run], x: Scale, middle: float, column: float, decimals: int, place: int
) -> Markup:
    """One mark for each run; those that would cover one another move up and down."""
    size = 4.5 if len(runs) <= 40 else 3.0
    marks, taken = [], list[tuple[float, float]]()
    for run in sorted(runs, key=lambda r: (score_of(r) is None, score_of(r) or 0.0)):
        score = score_of(run)
        at = column if score is None else x(score)
        lift = _free_place(at, taken, 2 * size + 0.5)
        taken.append((at, lift))
        name = element("title", run_text(run, decimals))
        if run.status == "failed":
            shape = cross(at, middle + lift, size)
        elif score is not None and not x.holds(score):
            shape = _arrow(at, middle + lift, size if score > x.high else -size)
        else:
            shape = element("circle", cx=at, cy=middle + lift, r=size)
        marks.append(element("g", name, shape, cls=f"run {run.status}", data_run=run_key(run)))
    return element("g", *marks, cls=colour(place))


def _free_place(at: float, taken: Sequence[tuple[float, float]], gap: float) -> float:
    """The smallest shift from the lane's middle that touches no earlier mark, within the lane."""
    near = [(x, lift) for x, lift in taken if abs(x - at) < gap]
    lifts = sorted((side * k * gap / 2 for k in range(8) for side in (1, -1)), key=abs)
    inside = [lift for lift in lifts if abs(lift) <= 20]
    for lift in inside:
        if all(math.hypot(x - at, other - lift) >= gap for x, other in near):
            return lift
    return inside[len(taken) % len(inside)]


def _arrow(x: float, y: float, size: float) -> Markup:
    """A triangle that points right, or left for a negative size."""
    outline = f"{x + size:.1f},{y:.1f} {x - size:.1f},{y - size:.1f} {x - size:.1f},{y + size:.1f}"
    return element("polygon", points=outline)


def _describe(row: RecipeSummary, decimals: int) -> str:
    runs = formats.counted(row.runs, "run")
    return (
        f"{row.recipe}: {runs}, mean {formats.number(row.mean, decimals)}, "
        f"worst {formats.number(row.worst, decimals)}, {row.failed} failed"
    )
