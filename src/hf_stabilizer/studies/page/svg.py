"""How is a drawing written as SVG? Scales, axes and elements, escaped once and for all."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from markupsafe import Markup, escape

LONGEST_TICK = 7
"""Letters of a number beside an axis for which there is room."""


@dataclass(frozen=True)
class Scale:
    """A straight line from values to positions in the drawing."""

    low: float
    """Smallest value shown."""
    high: float
    """Largest value shown; more than `low`."""
    start: float
    """Position of `low`."""
    end: float
    """Position of `high`."""

    def __call__(self, value: float) -> float:
        """Returns the position of a value; of one beyond the scale, that of the nearer end."""
        inside = min(max(value, self.low), self.high)
        return self.start + (inside - self.low) / (self.high - self.low) * (self.end - self.start)

    def holds(self, value: float) -> bool:
        """Returns whether the value lies on the scale."""
        return self.low <= value <= self.high

    @property
    def ticks(self) -> list[float]:
        """Round values inside the scale."""
        return round_ticks(self.low, self.high)


def round_ticks(low: float, high: float, *, about: int = 5) -> list[float]:
    """Returns round values between two ends, about as many as wanted.

    Example:
        >>> round_ticks(0.31, 0.88)
        [0.4, 0.5, 0.6, 0.7, 0.8]
        >>> round_ticks(0, 48, about=4)
        [0.0, 10.0, 20.0, 30.0, 40.0]
    """
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((m * power for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(math.log(s / rough)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{k * step:.12g}") for k in range(first, last + 1)]


def scale_over(values: Iterable[float], start: float, end: float) -> Scale:
    """Returns a scale that holds the values with a little room; also for one value or none.

    A value farther than ten interquartile ranges from the middle half, as a diverged run leaves
    it, would press all others into one spot: it is left beyond the scale.

    Example:
        >>> scale_over([0.50, 0.51, 0.52, 0.53, 4000.0], 0, 100).high < 1
        True
    """
    known = list(values) or [0.0, 1.0]
    first, third = (float(q) for q in np.quantile(known, (0.25, 0.75)))
    reach = 10 * (third - first) or math.inf
    near = [value for value in known if first - reach <= value <= third + reach]
    low, high = min(near), max(near)
    if high - low <= 1e-12 * max(abs(low), abs(high)):  # what rounding makes is no spread
        low = high
    room = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return Scale(low - room, high + room, start, end)


def tick_words(ticks: Sequence[float]) -> list[str]:
    """Returns ticks as they are written, with as many decimals as tell all of them exactly.

    Where that would be longer than there is room for, they are written with powers of ten.

    Example:
        >>> tick_words([0.5, 0.75, 1.0]), tick_words([0.0, 2e-10]), tick_words([98e7, 1e9, 102e7])
        (['0.50', '0.75', '1.00'], ['0', '2e-10'], ['9.8e8', '1e9', '1.02e9'])
    """
    decimals = max((_decimals(tick) for tick in ticks), default=0)
    plain = [f"{tick:.{decimals}f}" for tick in ticks]
    if all(len(word.lstrip("-")) <= LONGEST_TICK for word in plain):
        return plain
    return [re.sub(r"e([+-])0*", lambda sign: f"e{sign[1].strip('+')}", _short(t)) for t in ticks]


def _decimals(tick: float) -> int:
    exponent = Decimal(f"{tick:.12g}").normalize().as_tuple().exponent
    return max(0, -int(exponent))


def _short(tick: float) -> str:
    """With powers of ten and no more digits than the tick has."""
    if tick == 0:
        return "0"
    digits = next(n for n in range(13) if math.isclose(float(f"{tick:.{n}e}"), tick, rel_tol=1e-9))
    return f"{tick:.{digits}e}"


def vertical_grid(x: Scale, top: float, bottom: float) -> Iterator[Markup]:
    """Yields a line and a number for each tick of a scale that runs to the right."""
    for tick, written in zip(x.ticks, tick_words(x.ticks), strict=True):
        yield element("line", cls="grid", x1=x(tick), x2=x(tick), y1=top, y2=bottom)
        yield text(written, x(tick), bottom + 20, cls="tick middle")


def horizontal_grid(y: Scale, left: float, right: float) -> Iterator[Markup]:
    """Yields a line and a number for each tick of a scale that runs upwards."""
    for tick, written in zip(y.ticks, tick_words(y.ticks), strict=True):
        yield element("line", cls="grid", x1=left, x2=right, y1=y(tick), y2=y(tick))
        yield text(written, left - 6, y(tick) + 4, cls="tick end")


def text(content: str, x: float, y: float, *, cls: str) -> Markup:
    """Returns a line of text; a number gets a true minus sign."""
    written = content
    if re.fullmatch(r"-?[\d.]+(e-?\d+)?", content):
        written = content.replace("-", "\N{MINUS SIGN}")
    return element("text", written, cls=cls, x=x, y=y)


def drawing(
    name: str, width: float, height: float, title: str, about: str, parts: Iterable[Markup]
) -> Markup:
    """Returns a whole drawing that scales with the page, with a title and a description."""
    head = [element("title", title, id=f"{name}-title"), element("desc", about, id=f"{name}-desc")]
    return element(
        "svg",
        *head,
        *parts,
        cls=f"chart {name.partition('-')[0]}",
        data_name=name,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
    )


def element(name: str, *content: str, cls: str = "", **attributes: str | float) -> Markup:
    """Returns one element; text and values are escaped, markup inside it is not escaped twice.

    Example:
        >>> print(element("text", "a < b", cls="tick", x=1.0))
        <text x="1.0" class="tick">a &lt; b</text>
    """
    if cls:
        attributes["class"] = cls
    written = Markup("").join(
        Markup(' {}="{}"').format(
            key.replace("_", "-"), f"{value:.1f}" if isinstance(value, float) else value
        )
        for key, value in attributes.items()
    )
    inside = Markup("").join(escape(part) for part in content)
    return Markup("<{0}{1}>{2}</{0}>").format(name, written, inside)
