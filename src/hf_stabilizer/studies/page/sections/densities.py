"""Where do the scores of each recipe pile up? One density below the other, with every run."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.findings.score_densities import (
    RecipeDensity,
    ScoreDensities,
    find,
)
from hf_stabilizer.studies.page.charts import colour, run_key, run_text, short
from hf_stabilizer.studies.page.section import Section
from hf_stabilizer.studies.page.sections.lanes import pointer
from hf_stabilizer.studies.page.sections.markup import direction, figure, remark, words
from hf_stabilizer.studies.page.svg import Scale, drawing, element, text, vertical_grid
from hf_stabilizer.studies.statistics import Density, final_score
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.verdict import study_decimals

WIDTH, LANE, HILL = 640.0, 96.0, 52.0


def section(study: Study) -> Section | None:
    """Returns the densities of all recipes over one scale, and every run as a tick below."""
    found = find(study)
    if found is None:
        return None
    chart = _chart(found, study, study_decimals(study))
    caption = (
        "The hill is a smooth density (Gaussian kernel, Silverman's width) of equal area in each "
        "lane. The ticks below are the runs, those of failed runs red and longer, a triangle one "
        "beyond the scale. Smoothing reaches beyond what scores can be; only the runs are data."
    )
    return Section(
        anchor="densities",
        title="Where the scores pile up",
        lead=words(
            "Final scores by recipe. Two hills tell of runs that fail now and then, which a mean "
            "and a standard deviation hide; below some 20 runs the shape is a hint, no more."
        ),
        body=Markup("").join([figure(chart, caption=caption), *_remarks(found)]),
        records=tuple(found.records()),
    )


def outline(density: Density, x: Scale, base: float, per_unit: float) -> str:
    """Returns the corners of a density's hill, from its foot at the left to that at the right.

    Args:
        density: The density.
        x: The scale of the scores.
        base: Where density 0 stands.
        per_unit: Pixels for one unit of density.
    """
    points = zip(density.x, density.y, strict=True)
    corners = [f"{x(at):.1f},{base - y * per_unit:.1f}" for at, y in points]
    first, last = f"{x(density.x[0]):.1f}", f"{x(density.x[-1]):.1f}"
    return " ".join([f"{first},{base:.1f}", *corners, f"{last},{base:.1f}"])


def _chart(found: ScoreDensities, study: Study, decimals: int) -> Markup:
    x = Scale(found.low, found.high, 16, WIDTH - 16)
    height = LANE * len(found.recipes) + 48
    highest = max(max(one.density.y) for one in found.recipes if one.density)
    parts = [*vertical_grid(x, 6, height - 42)]
    for place, one in enumerate(found.recipes):
        colour_of = colour(study.recipes.index(one.recipe))
        parts.append(
            element("g", *_lane(one, x, place * LANE, HILL / highest, decimals), cls=colour_of)
        )
    axis = direction(found.metric, found.greater_is_better)
    parts.append(text(axis, WIDTH / 2, height - 2, cls="axis middle"))
    about = "; ".join(f"{one.recipe}: {len(one.runs)} runs" for one in found.recipes)
    title = f"density of {found.metric} by recipe"
    return drawing("ridge-densities", WIDTH, height, title, about, parts)


def _lane(
    one: RecipeDensity, x: Scale, top: float, per_unit: float, decimals: int
) -> Iterator[Markup]:
    base = top + 24 + HILL
    if one.density:
        width = formats.number(one.density.bandwidth, decimals + 1)
        name = element("title", f"{one.recipe}: density of {len(one.runs)} runs, width {width}")
        yield element("polygon", name, cls="hill", points=outline(one.density, x, base, per_unit))
    yield element("line", cls="grid", x1=x.start, x2=x.end, y1=base, y2=base)
    for run in one.runs:
        score = final_score(run)
        if score is None:
            continue
        reach = 14.0 if run.status == "failed" else 9.0
        if x.holds(score):
            tick = element("line", x1=x(score), x2=x(score), y1=base + 2, y2=base + 2 + reach)
        else:
            tick = pointer(x(score), base + 8, 5.0 if score > x.high else -5.0)
        name = element("title", words(run_text(run, decimals)))
        yield element("g", name, tick, cls=f"tick-run {run.status}", data_run=run_key(run))
    yield text(short(one.recipe, 34), 16, top + 20, cls="name")
    yield text(_note(one, x), WIDTH - 16, top + 20, cls="note end")


def _note(one: RecipeDensity, x: Scale) -> str:
    beyond = sum(not x.holds(score) for score in one.scores)
    note = formats.counted(len(one.runs), "run")
    note += "" if one.density else ", too few or all alike for a hill"
    return f"{note}, {beyond} beyond the scale" if beyond else note


def _remarks(found: ScoreDensities) -> Iterator[Markup]:
    left = [f"{one.left_out} of {one.recipe}" for one in found.recipes if one.left_out]
    if left:
        told = ", ".join(left)
        yield remark(f"Runs without a final score, stopped early or failed, in no density: {told}.")
