"""How are compared runs shown on one page that needs no network? A table, then charts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from hf_stabilizer.records import write_atomically
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.page.dot_lanes import LEFT, RIGHT, WIDTH, Lane, dot_lanes
from hf_stabilizer.studies.page.sections.markup import (
    direction,
    figure,
    number,
    remark,
    sorted_by_p,
    table,
    words,
)
from hf_stabilizer.studies.page.shell import header, whole_page
from hf_stabilizer.studies.page.svg import Scale, element, scale_over
from hf_stabilizer.studies.runs_compared.comparing import Effect, RunComparison
from hf_stabilizer.studies.runs_compared.view import heads_and_cells, name_of, value_of

_LONG = ".long td:last-child { min-width: 26rem; text-align: left; white-space: normal; }"


def write_page(found: RunComparison, path: str | os.PathLike[str]) -> Path:
    """Writes the comparison as one self-contained HTML file and returns its path."""
    path = Path(path)
    write_atomically(path, render(found))
    return path


def render(found: RunComparison) -> str:
    """Returns the page as text."""
    decimals = formats.decimals_for(run.score for run in found.runs)
    x = scale_over([run.score for run in found.runs], LEFT, WIDTH - RIGHT)
    axis = direction(found.metric, found.greater_is_better)
    eyebrow = f"{len(found.runs)} runs, {axis}; {found.scored_on}"
    parts = [header(eyebrow, "What differs, and the score", words(_lead(found)))]
    parts.append(_groups(found, decimals))
    parts += [_setting(found, found.effects(name), x, decimals) for name in found.factors]
    parts += [remark(f"Note: {sentence}.") for sentence in found.cautions]
    parts += [remark(f"Left out: {sentence}.") for sentence in found.left_out]
    return whole_page("Compared runs", parts, stem="compared", style=_LONG)


def _lead(found: RunComparison) -> str:
    if not found.factors:
        return "No setting differs; only seeds do."
    return (
        f"Settings that differ: {'; '.join(map(name_of, found.factors))}. Dots are runs, lines "
        "their means. Means over all runs mix what else differs; each table below a chart compares "
        "runs that are equal in everything else and in their seeds; p counts seeds, uncorrected."
    )


def _groups(found: RunComparison, decimals: int) -> Markup:
    heads, cells = heads_and_cells(found)
    # What is long comes last, so that the scores are in sight.
    long = heads.pop() if heads[-1:] == ["settings"] else ""
    rows = []
    for group, told in zip(found.groups, cells, strict=True):
        scores = (str(len(group.runs)), number(group.mean, decimals), number(group.std, decimals))
        rows.append((*told[: len(heads)], *scores, *told[len(heads) :]))
    heads = [*heads, "Runs", "Mean", "Std", *([long] if long else [])]
    return element(
        "section",
        element("h2", "Runs of equal settings"),
        table("Groups of runs", heads, rows),
        cls="long" if long else "",
    )


def _setting(found: RunComparison, effects: Sequence[Effect], x: Scale, decimals: int) -> Markup:
    name, first = name_of(effects[0].factor), value_of(effects[0].value)
    chart = dot_lanes(
        effects[0].factor[0],
        [_lane(one, place, decimals) for place, one in enumerate(effects)],
        x,
        title=f"{found.metric} against {name}",
        about="; ".join(f"{value_of(one.value)}: {len(one.scores)} runs" for one in effects),
        axis=direction(found.metric, found.greater_is_better),
    )
    rows = [
        (
            value_of(one.value),
            str(len(one.scores)),
            number(one.mean, decimals),
            number(one.mean_difference, decimals, signed=True),
            str(len(one.differences)),
            sorted_by_p(one.p_value),
        )
        for one in effects
    ]
    heads = ["Value", "Runs", "Mean", f"Against {first}", "Matched runs", "p"]
    return element(
        "section", element("h2", name), figure(chart),
        table(f"{name} against the score", heads, rows),
    )  # fmt: skip


def _lane(one: Effect, place: int, decimals: int) -> Lane:
    return Lane(
        value_of(one.value),
        tuple((score, formats.number(score, decimals)) for score in one.scores),
        one.mean,
        colour="c0" if place == 0 else f"c{1 + (place - 1) % 5}",
    )
