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
        >>> decimals_for([7.4e-10])
        12
    """
    sizes = [abs(score) for score in scores]
    typical = statistics.median(sizes) if sizes else 0.0  # one diverged run must not decide
    if typical == 0 or 0.1 <= typical < 10:
        return 3
    return min(15, max(0, (3 if typical >= 10 else 2) - math.floor(math.log10(typical))))


def decimals_to_tell(difference: float | None, decimals: int) -> int:
    """Returns how many decimals keep a difference from being written as nothing.

    Args:
        difference: What is told; None: nothing is.
        decimals: Those that do for the scores.

    Example:
        >>> decimals_to_tell(0.02, 3), decimals_to_tell(-0.00031, 3), decimals_to_tell(0.0, 3)
        (3, 4, 3)
    """
    if difference is None or not math.isfinite(difference) or is_tie(difference, decimals):
        return decimals
    if round(difference, decimals):
        return decimals
    return -math.floor(math.log10(abs(difference)))


def is_tie(difference: float, decimals: int = 3) -> bool:
    """Returns whether a difference of scores is none but what rounding makes.

    Args:
        difference: Of two scores.
        decimals: Those in which the scores are written; a tie is below a millionth of the last one.

    Example:
        >>> is_tie(0.1 + 0.2 - 0.3), is_tie(1e-6), is_tie(3e-11, decimals=12)
        (True, False, False)
    """
    return abs(difference) < 10.0 ** -(decimals + 6)


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


def counted(count: int, noun: str) -> str:
    """Returns a number with its noun.

    Example:
        >>> counted(1, "run"), counted(12, "pair")
        ('1 run', '12 pairs')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


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


def gigabytes(count: int) -> str:
    """Returns bytes in words.

    Example:
        >>> gigabytes(12_400_000), gigabytes(2_520_000_000)
        ('12 MB', '2.52 GB')
    """
    if count < 1e9:
        return f"{max(1, round(count / 1e6))} MB"
    return f"{count / 1e9:.3g} GB"


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
