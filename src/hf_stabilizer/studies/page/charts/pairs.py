"""How do two recipes fare under the same seeds? One line for each pair of runs."""

from __future__ import annotations

from markupsafe import Markup

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.comparison import Comparison, Pair
from hf_stabilizer.studies.page.charts.runs import colour, key_of, seeds_text, short
from hf_stabilizer.studies.page.svg import (
    Scale,
    drawing,
    element,
    horizontal_grid,
    scale_over,
    text,
)

LEFT, RIGHT = 76.0, 300.0
"""Where the baseline's scores stand, and the candidate's."""


def pairs_chart(comparison: Comparison, *, metric: str, place: int) -> Markup:
    """Draws one line per pair of runs, from the baseline's score to the candidate's."""
    width, height = 360.0, 250.0
    values = [s for pair in comparison.pairs for s in (pair.baseline, pair.candidate)]
    decimals = formats.decimals_for(values)
    y = scale_over(values, height - 34, 12)
    parts = [*horizontal_grid(y, LEFT - 16, RIGHT + 16)]
    parts += [_pair(pair, comparison, y, decimals, place) for pair in comparison.pairs]
    if len(comparison.pairs) > 40:
        parts = [element("g", *parts, cls="many")]
    parts.append(text(short(comparison.baseline, 18), LEFT, height - 8, cls="name middle"))
    parts.append(text(short(comparison.candidate, 18), RIGHT, height - 8, cls="name middle"))
    title = f"{metric} by seeds: {comparison.baseline} and {comparison.candidate}"
    pairs = "pair" if len(comparison.pairs) == 1 else "pairs"
    about = f"{len(comparison.pairs)} {pairs} of runs with the same seeds, one line each"
    return drawing(f"pairs-{place}", width, height, title, about, parts)


def _pair(pair: Pair, comparison: Comparison, y: Scale, decimals: int, place: int) -> Markup:
    gain = pair.difference if comparison.greater_is_better else -pair.difference
    kind = "gain" if gain > 0 else "loss" if gain < 0 else "tie"
    before, after = y(pair.baseline), y(pair.candidate)
    name = (
        f"{seeds_text(pair.seeds)}: {comparison.baseline} "
        f"{formats.number(pair.baseline, decimals)}, {comparison.candidate} "
        f"{formats.number(pair.candidate, decimals)} "
        f"({formats.number(pair.difference, decimals, signed=True)})"
    )
    recipes = (comparison.baseline, comparison.candidate)
    return element(
        "g",
        element("title", name),
        element("line", x1=LEFT, y1=before, x2=RIGHT, y2=after),
        element("circle", cls="c0", cx=LEFT, cy=before, r=4),
        element("circle", cls=colour(place), cx=RIGHT, cy=after, r=4),
        cls=f"pair {kind}",
        data_run=" ".join(key_of(recipe, dict(pair.seeds)) for recipe in recipes),
    )
