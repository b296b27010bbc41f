"""How do some means with their intervals stand side by side? One lane each, marks upon it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hf_stabilizer.studies.figures.canvas import (
    ALARM,
    INK,
    SOFT,
    colour,
    label,
    limits,
    name_of,
    tidy,
)
from hf_stabilizer.studies.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Any in this module: what matplotlib takes by name.
Kind = Literal["full", "hollow", "failed"]
LANE = 0.72
"""Inches of one lane."""
LIFTS = (0.0, 0.11, -0.11, 0.055, -0.055)
BAND = 0.42
BEHIND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1}


@dataclass(frozen=True)
class Lane:
    """A mean with its interval, and the numbers behind it."""

    name: str
    """What it is about."""
    note: str
    """The numbers in words."""
    place: int
    """Place of its recipe in the study, for its colour."""
    marks: Sequence[tuple[float, Kind]]
    """Each number, and how it is drawn."""
    mean: float | None = None
    """Where the bar across the lane stands."""
    interval: Interval | None = None
    """The band behind it."""


def height_of(lanes: int) -> float:
    """Returns the height in inches of a figure with so many lanes, words around them included."""
    return 1.75 + LANE * lanes


def draw_lanes(axes: Axes, lanes: Sequence[Lane], *, axis: str, zero: float | None = None) -> None:
    """Draws lanes below one another over one scale.

    Args:
        axes: Where.
        lanes: From top to bottom.
        axis: What the scale counts.
        zero: Where a line goes through all lanes, such as that of no difference; None: nowhere.
    """
    values = [value for lane in lanes for value in _values(lane)]
    ends = limits([*values, *([] if zero is None else [zero])])
    tidy(axes, grid="x")
    axes.set(xlim=ends, ylim=(len(lanes) - 0.42, -0.62), xlabel=axis)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    if zero is not None:
        axes.axvline(zero, color=SOFT, linewidth=1)
    for row, lane in enumerate(lanes):
        _lane(axes, lane, row, ends)


def _values(lane: Lane) -> list[float]:
    """What the scale spans: the marks, between which mean and interval lie."""
    found = [value for value, _ in lane.marks]
    return found or [*([] if lane.mean is None else [lane.mean]), *(lane.interval or ())]


def _lane(axes: Axes, lane: Lane, row: int, ends: tuple[float, float]) -> None:
    shade = colour(lane.place)
    if lane.interval:
        low, high = lane.interval
        axes.broken_barh(
            [(low, high - low)], (row - BAND / 2, BAND), color=shade, alpha=0.2, linewidth=0
        )
    size = 26.0 if len(lane.marks) <= 40 else 12.0
    for value, kind, lift in _lifted(lane.marks, ends):
        _mark(axes, (value, row + lift), kind, shade, ends, size)
    if lane.mean is not None and ends[0] <= lane.mean <= ends[1]:
        axes.vlines(lane.mean, row - BAND / 2, row + BAND / 2, color=INK, linewidth=1.8, zorder=4)
    across = axes.get_yaxis_transform()
    style: dict[str, Any] = {"transform": across, "va": "center", "fontsize": 9, "bbox": BEHIND}
    axes.text(0.0, row - 0.4, name_of(lane.name), color=INK, fontweight="bold", **style)
    axes.text(1.0, row - 0.4, label(lane.note), color=SOFT, ha="right", **style)


def _lifted(
    marks: Sequence[tuple[float, Kind]], ends: tuple[float, float]
) -> list[tuple[float, Kind, float]]:
    """Marks that would cover one another move up and down in turn."""
    gap, before, turn = 0.012 * (ends[1] - ends[0]), float("-inf"), 0
    found = []
    for value, kind in sorted(marks):
        turn = (turn + 1) % len(LIFTS) if value - before < gap else 0
        before = value
        found.append((value, kind, LIFTS[turn]))
    return found


def _mark(
    axes: Axes,
    place: tuple[float, float],
    kind: Kind,
    shade: str,
    ends: tuple[float, float],
    size: float,
) -> None:
    """One mark; beyond the scale an arrow at its end."""
    style: dict[str, Any] = {"s": size, "zorder": 3}
    match kind:
        case "full":
            style |= {"color": shade, "alpha": 0.85, "edgecolors": "white", "linewidths": 0.5}
        case "hollow":
            style |= {"facecolors": "white", "edgecolors": shade, "linewidths": 1.1}
        case "failed":
            style |= {"color": ALARM, "marker": "x", "linewidths": 1.6}
    value, (low, high) = place[0], ends
    if not low <= value <= high:
        # Half of a mark on the edge would be cut off.
        style |= {"marker": "<" if value < low else ">", "clip_on": False}
    axes.scatter(min(max(value, low), high), place[1], **style)
