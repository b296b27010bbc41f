"""Where does each value of a setting stand on an axis, and which of them are written below it?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hf_stabilizer.studies.page.svg import Scale

LOGARITHMIC_FROM = 10.0
"""Ratio of the largest to the smallest value from which an axis of positive values is so."""
MOST_TICKS = 14


@dataclass(frozen=True)
class ValueAxis:
    """An axis on which every value that was tried has its place."""

    values: tuple[float, ...]
    """The values, sorted."""
    scale: Scale
    """Positions of the values, or of their logarithms."""
    is_logarithmic: bool
    """Whether equal ratios are equally far apart."""

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float) -> ValueAxis:
        """Returns an axis from the smallest to the largest value.

        Example:
            >>> ValueAxis.over([0, 2, 4], 0, 100)(2)
            50.0
            >>> round(ValueAxis.over([1e-5, 1e-4, 1e-3], 0, 100)(1e-4), 6)
            50.0
        """
        known = tuple(sorted(float(value) for value in values))
        low, high = known[0], known[-1]
        is_logarithmic = low > 0 and high / low >= LOGARITHMIC_FROM
        if is_logarithmic:
            low, high = math.log(low), math.log(high)
        if low == high:
            low, high = low - 0.5, high + 0.5
        return cls(known, Scale(low, high, start, end), is_logarithmic)

    def __call__(self, value: float) -> float:
        """Returns the position of a value."""
        return self.scale(math.log(value) if self.is_logarithmic else value)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """(position, words) of the values, of many each so many-th and the last.

        Example:
            >>> [words for _, words in ValueAxis.over([0, 2, 4], 0, 100).ticks]
            ['0', '2', '4']
        """
        step = -(-len(self.values) // MOST_TICKS)
        last = self.values[-1]
        shown = [v for v in self.values[::step] if v == last or self(last) - self(v) > 12]
        return [(self(value), f"{value:g}") for value in dict.fromkeys([*shown, last])]
