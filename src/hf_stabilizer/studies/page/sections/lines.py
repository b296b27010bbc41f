"""How does a number grow with another? Lines with their bands, named at their ends."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from hf_stabilizer.studies.page.charts import colour, short
from hf_stabilizer.studies.page.svg import (
    Scale,
    drawing,
    element,
    horizontal_grid,
    round_ticks,
    scale_over,
    text,
)

WIDTH, HEIGHT = 360.0, 240.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 104.0, 12.0, 44.0
LOGARITHMIC_FROM = 25
"""Largest value from which an axis that counts from 1 is logarithmic: the first few matter most."""
LONGEST = 13
"""Letters of a name at the end of a line."""
GAP = 13.0
"""Pixels between the names at the ends of lines."""


@dataclass(frozen=True)
class Line:
    """One line."""

    name: str
    """What stands at its end; nothing where it is empty."""
    points: tuple[tuple[float, float], ...]
    """(x, y) from left to right."""
    place: int
    """Place of its recipe in the study, for its colour."""
    dash: int = 0
    """0 is solid, 1 to 3 are broken in other ways, so that colour never stands alone."""
    band: tuple[tuple[float, float, float], ...] = ()
    """(x, low, high): the interval around it."""
    marks: tuple[tuple[float, float, str], ...] = ()
    """(x, y, what is said when it is hovered)."""


def lines_chart(
    name: str,
    lines: Sequence[Line],
    *,
    title: str,
    about: str,
    axis: str,
    counts: bool = False,
    y_range: tuple[float, float] | None = None,
) -> Markup:
    """Draws lines over one pair of axes.

    Args:
        name: Name of the drawing, unique in the page.
        lines: The lines, the first one lowest.
        title: What the drawing shows.
        about: The same in a sentence for those who do not see it.
        axis: What the horizontal axis counts.
        counts: Whether x counts things from 1 up: whole ticks, logarithmic from 25 up.
        y_range: Ends of the vertical axis; None: those of lines and bands.
    """
    everything = [x for line in lines for x, _ in line.points]
    low, high = min(everything, default=0.0), max(everything, default=1.0)
    at, ticks = _across(low, high, counts)
    y = _upwards(lines, y_range)
    parts = [*horizontal_grid(y, LEFT, WIDTH - RIGHT), *_ticks(at, ticks)]
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(text(axis, middle, HEIGHT - 6, cls="axis middle"))
    parts.extend(_band(line, at, y) for line in lines if line.band)
    parts.extend(_line(line, at, y) for line in lines)
    parts.extend(_names(lines, y))
    return drawing(f"lines-{name}", WIDTH, HEIGHT, title, about, parts)


def few_counts(most: int) -> list[int]:
    """Returns round counts from 1 up to and with the most.

    Example:
        >>> few_counts(6), few_counts(60)
        ([1, 2, 3, 4, 5, 6], [1, 2, 5, 10, 20, 50, 60])
    """
    if most <= 8:
        return list(range(1, most + 1))
    steps = [m * 10**power for power in range(len(str(most))) for m in (1, 2, 5)]
    return sorted({step for step in steps if step <= most} | {most})


def _across(
    low: float, high: float, counts: bool
) -> tuple[Callable[[float], float], list[tuple[float, str]]]:
    """Position of a value, and the ticks with their words."""
    if counts and high >= LOGARITHMIC_FROM:
        logarithmic = Scale(math.log(low), math.log(high), LEFT, WIDTH - RIGHT)
        ticks = [k for k in few_counts(int(high)) if k in (low, high) or 1.25 * k < high]
        return (lambda x: logarithmic(math.log(x))), [(k, str(k)) for k in ticks]
    plain = Scale(low, high if high > low else low + 1, LEFT, WIDTH - RIGHT)
    if counts:
        step, first = math.ceil(high / 10), math.ceil(low)
        even = [k for k in range(first + step, int(high) + 1) if k % step == 0]
        return plain, [(k, str(k)) for k in (first, *even)]
    return plain, [(tick, f"{tick:g}") for tick in round_ticks(plain.low, plain.high, about=4)]


def _upwards(lines: Sequence[Line], y_range: tuple[float, float] | None) -> Scale:
    if y_range is not None:
        return Scale(*y_range, HEIGHT - BOTTOM, TOP)
    values = [y for line in lines for _, y in line.points]
    values += [end for line in lines for _, *ends in line.band for end in ends]
    return scale_over(values, HEIGHT - BOTTOM, TOP)


def _ticks(at: Callable[[float], float], ticks: Sequence[tuple[float, str]]) -> Iterator[Markup]:
    for value, words in ticks:
        yield text(words, at(value), HEIGHT - 26, cls="tick middle")


def _band(line: Line, at: Callable[[float], float], y: Scale) -> Markup:
    above = [f"{at(x):.1f},{y(high):.1f}" for x, _, high in line.band]
    below = [f"{at(x):.1f},{y(low):.1f}" for x, low, _ in reversed(line.band)]
    return element("polygon", cls=f"band {colour(line.place)}", points=" ".join(above + below))


def _line(line: Line, at: Callable[[float], float], y: Scale) -> Markup:
    corners = " ".join(f"{at(a):.1f},{y(b):.1f}" for a, b in line.points)
    drawn = element("polyline", cls=f"dash{line.dash}", points=corners)
    marks = [
        element("circle", element("title", title), cx=at(a), cy=y(b), r=2.5)
        for a, b, title in line.marks
    ]
    return element("g", drawn, *marks, cls=f"line {colour(line.place)}")


def _names(lines: Sequence[Line], y: Scale) -> Iterator[Markup]:
    """Names beside the ends of the lines, moved apart where they would cover one another."""
    known = [line for line in lines if line.points and line.name]
    names = _apart([line.name for line in known])
    order = sorted(known, key=lambda line: y(line.points[-1][1]))
    wanted = [y(line.points[-1][1]) + 4 for line in order]
    for place in range(1, len(wanted)):
        wanted[place] = max(wanted[place], wanted[place - 1] + GAP)
    over = max(0.0, wanted[-1] - (HEIGHT - BOTTOM + 6)) if wanted else 0.0
    for line, height in zip(order, wanted, strict=True):
        left, up = WIDTH - RIGHT + 7, height - over
        name = text(names[line.name], left + 20, up, cls="line-name")
        corners = f"{left:.1f},{up - 4:.1f} {left + 15:.1f},{up - 4:.1f}"
        sample = element("polyline", cls=f"dash{line.dash}", points=corners)
        yield element("g", sample, name, cls=f"line {colour(line.place)}")


def _apart(names: Sequence[str]) -> dict[str, str]:
    """Names cut so that they fit; those that begin alike by their ends."""
    cut = {name: short(name, LONGEST) for name in names}
    counts = Counter(cut.values())
    end = slice(1 - LONGEST, None)
    return {
        name: word if counts[word] == 1 else f"\N{HORIZONTAL ELLIPSIS}{name[end]}"
        for name, word in cut.items()
    }
