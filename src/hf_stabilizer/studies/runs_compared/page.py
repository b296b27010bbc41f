"""How are compared runs shown on one page that needs no network? A table, then charts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from markupsafe import Markup

from hf_stabilizer.records import write_atomically
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.page import report
from hf_stabilizer.studies.page.charts import short
from hf_stabilizer.studies.page.sections.markup import (
    direction,
    figure,
    number,
    remark,
    sorted_by_p,
    table,
    words,
)
from hf_stabilizer.studies.page.svg import Scale, drawing, element, scale_over, text, vertical_grid
from hf_stabilizer.studies.runs_compared.comparing import Effect, RunComparison
from hf_stabilizer.studies.runs_compared.view import heads_and_cells, name_of, value_of

_LONG = ".long td:last-child { min-width: 26rem; text-align: left; white-space: normal; }"
WIDTH, LANE, LEFT = 640.0, 34.0, 190.0


def write_page(found: RunComparison, path: str | os.PathLike[str]) -> Path:
    """Writes the comparison as one self-contained HTML file and returns its path."""
    path = Path(path)
    write_atomically(path, render(found))
    return path


def render(found: RunComparison) -> str:
    """Returns the page as text."""
    decimals = formats.decimals_for(run.score for run in found.runs)
    style = (Path(report.__file__).parent / "report.css").read_text(encoding="utf-8")
    x = scale_over([run.score for run in found.runs], LEFT, WIDTH - 16)
    head = [
        element("p", f"{len(found.runs)} runs, {direction(found.metric, found.greater_is_better)}",
                cls="eyebrow"),
        element("h1", "What differs, and the score", element("span", words(_lead(found)))),
    ]  # fmt: skip
    parts = [element("header", *head), _groups(found, decimals)]
    parts += [_setting(found, found.effects(name), x, decimals) for name in found.factors]
    parts += [remark(f"Note: {sentence}.") for sentence in found.cautions]
    parts += [remark(f"Left out: {sentence}.") for sentence in found.left_out]
    page = Markup(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; img-src data:\">"
        '<link rel="icon" href="data:,"><title>Compared runs</title><style>{}</style></head>'
        "<body>{}</body></html>\n"
    )
    return str(page.format(Markup(style + _LONG), element("main", *parts)))


def _lead(found: RunComparison) -> str:
    if not found.factors:
        return "No setting differs; only seeds do."
    return (
        f"Settings that differ: {'; '.join(map(name_of, found.factors))}. Dots are runs, lines "
        "their means. Means over all runs mix what else differs; each table below a chart compares "
        "runs that are equal in everything else and in their seeds, p uncorrected."
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
    height = LANE * len(effects) + 48
    axis = direction(found.metric, found.greater_is_better)
    parts = [*vertical_grid(x, 6, height - 42), *_lanes(effects, x, decimals)]
    parts.append(text(axis, WIDTH / 2, height - 2, cls="axis middle"))
    about = "; ".join(f"{value_of(one.value)}: {len(one.scores)} runs" for one in effects)
    chart = drawing(
        f"strip-{effects[0].factor[0]}",
        WIDTH,
        height,
        f"{found.metric} against {name}",
        about,
        parts,
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


def _lanes(effects: Sequence[Effect], x: Scale, decimals: int) -> Iterator[Markup]:
    for place, one in enumerate(effects):
        y = 6 + LANE * (place + 0.5)
        yield text(short(value_of(one.value), 24), LEFT - 12, y + 4, cls="name end")
        dots = [
            element("circle", element("title", formats.number(score, decimals)),
                    cx=x(score), cy=y, r=4.5)
            for score in one.scores
        ]  # fmt: skip
        mean = element("line", cls="mean", x1=x(one.mean), x2=x(one.mean), y1=y - 11, y2=y + 11)
        yield element("g", *dots, mean, cls="c0" if place == 0 else f"c{1 + (place - 1) % 5}")
