"""How is a number written so that its digits mean something?

Plain ASCII, for terminals, verdicts and reports alike; `typographic` dresses it for pages.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable

NOTHING = "-"
"""Stands for a number that there is none of."""


def decimals_for(scores: Iterable[float]) -> int:
    """Returns how many decimals tell scores apart, by their typical size.

    Example:
        >>> decimals_for([0.764, 0.613]), decimals_for([37.21]), decimals_for([0.0042])
        (3, 2, 5)
    """
    sizes = [abs(score) for score in scores]
    typical = statistics.median(sizes) if sizes else 0.0  # one diverged run must not decide
    if typical == 0 or 0.1 <= typical < 10:
        return 3
    return min(9, max(0, (3 if typical >= 10 else 2) - math.floor(math.log10(typical))))


def number(value: float | None, decimals: int, *, signed: bool = False) -> str:
    """Returns a score with fixed decimals, on demand with its sign.

    Example:
        >>> number(0.4867, 3), number(0.4867, 3, signed=True), number(math.nan, 3)
        ('0.487', '+0.487', '-')
        >>> number(-0.0001, 3, signed=True)
        '0.000'
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    rounded = round(value, decimals) + 0.0  # minus zero becomes zero
    return f"{rounded:{'+' if signed and rounded else ''}.{decimals}f}"


def p_value(p: float | None) -> str:
    """Returns a p-value with its relation.

    Example:
        >>> p_value(0.03125), p_value(0.4), p_value(0.00003), p_value(None)
        ('p = 0.031', 'p = 0.40', 'p < 0.001', '-')
    """
    if p is None:
        return NOTHING
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def duration(seconds: float) -> str:
    """Returns a time in the unit that people would choose.

    Example:
        >>> duration(4.23), duration(41.2), duration(754), duration(9000)
        ('4.2 s', '41 s', '12 min 34 s', '2 h 30 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def typographic(text: str) -> str:
    """Returns text with true minus signs, dashes for absent numbers and unbroken units.

    Example:
        >>> typographic("-0.5") == "\N{MINUS SIGN}0.5", typographic("-") == "\N{EN DASH}"
        (True, True)
    """
    if text == NOTHING:
        return "\N{EN DASH}"
    text = re.sub(r"(?<![\w-])-(?=\d)", "\N{MINUS SIGN}", text)
    text = re.sub(r"\bp ([=<]) (?=\d)", "p\N{NO-BREAK SPACE}\\1\N{NO-BREAK SPACE}", text)
    return re.sub(r"(?<=\d) (?=(%|s|h|min)\b|%)", "\N{NO-BREAK SPACE}", text)
