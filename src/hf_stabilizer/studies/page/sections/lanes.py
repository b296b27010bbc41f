"""How do some means with their intervals stand side by side? One lane for each, marks upon it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from hf_stabilizer.studies.page.charts import colour, short
from hf_stabilizer.studies.page.charts.runs import cross
from hf_stabilizer.studies.page.svg import Scale, drawing, element, scale_over, text, vertical_grid
from hf_stabilizer.studies.statistics import Interval

WIDTH = 640.0
LANE = 56.0
LIFTS = (0.0, -7.0, 7.0, -3.5, 3.5)


@dataclass(frozen=True)
class Mark:
    """One number on a lane, such as the difference of one pair."""

    value: float
    """Where it stands."""
    title: str
    """What is said when it is hovered."""
    key: str = ""
    """Keys of the runs behind it (`charts.run_key`)."""
    kind: str = ""
    """One more class: "gain" filled, "loss" hollow, "failed" a cross."""


@dataclass(frozen=True)
class Lane:
    """A mean with its interval, and the numbers behind it."""

    name: str
    """What it is about, at the left above the lane."""
    note: str
    """The numbers in words, at the right."""
    place: int
    """Place of its recipe in the study, for its colour."""
    mean: float | None
    """Where the bar across the lane stands."""
    interval: Interval | None
    """The band behind it."""
    title: str
    """What is said when mean or band are hovered."""
    marks: tuple[Mark, ...] = ()
    """Single numbers."""


def lanes_chart(
    name: str, lanes: Sequence[Lane], *, title: str, axis: str, zero: float | None = None
) -> Markup:
    """Draws lanes below one another over one scale.

    Args:
        name: Name of the drawing, unique in the page.
        lanes: The lanes from top to bottom.
        title: What the drawing shows.
        axis: What is counted, below the scale.
        zero: Where a line goes through all lanes, such as that of no difference; None: nowhere.
    """
    values = [value for lane in lanes for value in _values(lane)]
    x = scale_over([*values, *([] if zero is None else [zero])], 16, WIDTH - 16)
    height = LANE * len(lanes) + 56
    bottom = height - 46
    parts = [*vertical_grid(x, 6, bottom)]
    if zero is not None and x.holds(zero):
        parts.append(element("line", cls="zero", x1=x(zero), x2=x(zero), y1=6.0, y2=bottom))
    for place, lane in enumerate(lanes):
        parts.extend(_lane(lane, x, place * LANE))
    parts.append(text(axis, WIDTH / 2, height - 4, cls="axis middle"))
    about = "; ".join(f"{lane.name}: {lane.note}" for lane in lanes)
    return drawing(f"lanes-{name}", WIDTH, height, title, about, parts)


def _values(lane: Lane) -> list[float]:
    found = [mark.value for mark in lane.marks]
    found += [] if lane.mean is None else [lane.mean]
    return [*found, *(lane.interval or ())]


def _lane(lane: Lane, x: Scale, top: float) -> Iterator[Markup]:
    middle = top + 40
    if lane.interval:
        low, high = x(lane.interval.low), x(lane.interval.high)
        name = element("title", lane.title)
        wide = max(high - low, 1.0)
        yield element(
            "rect", name, cls="interval", x=low, y=middle - 9, width=wide, height=18, rx=2
        )
    marks = list(_marks(lane, x, middle))
    yield element("g", *marks, cls=f"{colour(lane.place)}{' many' if len(marks) > 40 else ''}")
    if lane.mean is not None and x.holds(lane.mean):
        at, name = x(lane.mean), element("title", lane.title)
        yield element("line", name, cls="mean", x1=at, x2=at, y1=middle - 12, y2=middle + 12)
    yield text(short(lane.name, 34), 16, top + 22, cls="name")
    yield text(lane.note, WIDTH - 16, top + 22, cls="note end")


def _marks(lane: Lane, x: Scale, middle: float) -> Iterator[Markup]:
    size, before, lift = (4.0 if len(lane.marks) <= 40 else 3.0), float("-inf"), 0
    for mark in sorted(lane.marks, key=lambda mark: mark.value):
        at = x(mark.value)
        lift = (lift + 1) % len(LIFTS) if at - before < 2 * size else 0
        before = at
        up = middle + LIFTS[lift]
        if mark.kind == "failed":
            shape = cross(at, up, size)
        elif x.holds(mark.value):
            shape = element("circle", cx=at, cy=up, r=size)
        else:
            shape = pointer(at, up, size if mark.value > x.high else -size)
        attributes = {"data_run": mark.key} if mark.key else {}
        cls = f"mark {mark.kind}".strip()
        yield element("g", element("title", mark.title), shape, cls=cls, **attributes)


def pointer(x: float, y: float, size: float) -> Markup:
    """Returns a triangle that points out of the scale: right, or left for a negative size."""
    corners = ((x + size, y), (x - size, y - size), (x - size, y + size))
    return element("polygon", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in corners))
