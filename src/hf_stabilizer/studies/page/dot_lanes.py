"""How do scores lie, one lane for each of a few things? A dot for a score, a line for their mean.

fold1
      .  . |.
fold2
   .  | ..
----+-----+----

Names stand above their lanes, so that they have room where the page is narrow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from hf_stabilizer.studies.page.charts import short
from hf_stabilizer.studies.page.svg import Scale, drawing, element, text, vertical_grid

WIDTH, LANE, LEFT, RIGHT = 640.0, 48.0, 16.0, 16.0
TOP, WITH_LEVEL, BOTTOM = 6.0, 30.0, 52.0
LONGEST = 28
"""Letters of a lane's name that are written."""


@dataclass(frozen=True)
class Lane:
    """What lies in one lane."""

    name: str
    """Stands above it."""
    dots: tuple[tuple[float, str], ...]
    """Each score, and what the pointer is told of it."""
    mean: float
    """Where the line stands."""
    colour: str = "c1"
    """Class of its colour, "c0" to "c5"."""


def dot_lanes(
    name: str,
    lanes: Sequence[Lane],
    x: Scale,
    *,
    title: str,
    about: str,
    axis: str,
    level: tuple[float, str] | None = None,
) -> Markup:
    """Draws the lanes from above down.

    Args:
        name: Name of the drawing, unique in the page.
        lanes: The lanes.
        x: From scores to places between `LEFT` and `WIDTH - RIGHT`.
        title: What is drawn.
        about: The same in numbers, for those who do not see it.
        axis: Stands below the scale.
        level: A score that all are held against, and its name.
    """
    top = TOP if level is None else WITH_LEVEL
    height = top + LANE * len(lanes) + BOTTOM
    parts = list(vertical_grid(x, top, height - BOTTOM))
    if level is not None:
        at = x(level[0])
        parts.append(element("line", cls="zero", x1=at, x2=at, y1=top - 6, y2=height - BOTTOM))
        parts.append(text(level[1], at, top - 12, cls="note middle"))
    for place, lane in enumerate(lanes):
        parts += _lane(lane, x, top + LANE * place)
    parts.append(text(axis, WIDTH / 2, height - 2, cls="axis middle"))
    return drawing(f"strip-{name}", WIDTH, height, title, about, parts)


def _lane(lane: Lane, x: Scale, top: float) -> Iterator[Markup]:
    y = top + 32
    yield text(short(lane.name, LONGEST), 0.0, top + 17, cls="name")
    dots = [
        element("circle", element("title", words), cx=x(score), cy=y, r=4.5)
        for score, words in lane.dots
    ]
    mean = element("line", cls="mean", x1=x(lane.mean), x2=x(lane.mean), y1=y - 11, y2=y + 11)
    yield element("g", *dots, mean, cls=lane.colour)
