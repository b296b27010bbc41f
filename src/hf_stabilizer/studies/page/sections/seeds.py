"""Which seed makes the scores differ, the head's or the data order's, and is any head good?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from markupsafe import Markup

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.findings.seed_factors import SeedGrid, SeedsAsFactors, find
from hf_stabilizer.studies.page.charts import short
from hf_stabilizer.studies.page.section import Section
from hf_stabilizer.studies.page.sections.heat import heat_map, seed_labels
from hf_stabilizer.studies.page.sections.lines import Line, lines_chart
from hf_stabilizer.studies.page.sections.markup import (
    Cell,
    between,
    figure,
    folded,
    number,
    panels,
    percent,
    remark,
    sorted_by_p,
    table,
    words,
)
from hf_stabilizer.studies.statistics import Density, SeedMean
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.verdict import LEVEL, study_decimals

SHARE_HEADS = ("Source of spread", "Share of variance", "Degrees", "F", "p of F", "p by shuffling")
SEED_HEADS = (
    "Seed",
    "Runs",
    "Mean",
    "95 % interval",
    "Against the others",
    "p, the best of all",
    "To expect of it",
)


def section(study: Study) -> Section | None:
    """Returns heat maps, the analysis of variance, and the hunt for good heads."""
    found = find(study)
    if found is None:
        return None
    decimals = study_decimals(study)
    scores = [cell.score for grid in found.grids for cell in grid.cells if cell.score is not None]
    parts: list[Markup] = []
    for grid in found.grids:
        place = study.recipes.index(grid.recipe)
        title = grid.recipe if len(found.grids) > 1 else ""
        chart = heat_map(
            grid, name=str(place), metric=found.metric, decimals=decimals, within=scores
        )
        parts += [figure(chart, title=title, caption=_caption(grid)), *_numbers(grid, decimals)]
        parts += _densities(grid, place, found.metric)
    return Section(
        anchor="seeds",
        title="Head seeds and data seeds",
        lead=words(_lead(found)),
        body=Markup("").join(parts),
        records=tuple(found.records()),
    )


def _lead(found: SeedsAsFactors) -> str:
    parts = []
    for grid in found.grids:
        if grid.analysis is None:
            parts.append(f"{grid.recipe}: the scores that are there cannot tell the two apart")
            continue
        shares = ", ".join(
            f"{_line_name(factor.name)} {100 * factor.share:.0f} %"
            for factor in grid.analysis.factors
        )
        parts.append(f"{grid.recipe}: {shares}")
    return (
        "Head seeds and data seeds vary separately here, so the spread can be divided. Shares of "
        f"the variance, from few seeds and therefore rough: {'; '.join(parts)}."
    )


def _line_name(name: str) -> str:
    words_of = {"head": "head seed", "data": "data order", "head x data": "both together"}
    return words_of.get(name, "both together and the rest" if name == "rest" else name)


def _caption(grid: SeedGrid) -> str:
    dropout = {
        "one for all": "The dropout seed is the same in all runs.",
        "as the head": "The dropout seed goes with the head seed, so its share is in that of the "
        "head.",
        "as the data": "The dropout seed goes with the data seed, so its share is in that of the "
        "data order.",
        "apart": "The dropout seed varies on its own, so its share is in the rest.",
    }[grid.dropout]
    missing = any(cell.score is None for cell in grid.cells)
    hatched = (
        " A stroke is a cell without a run, a broken one a run stopped early, a cross one without "
        "a score."
        if missing
        else ""
    )
    return f"Seeds stand in their own order; the stronger the colour the better.{hatched} {dropout}"


def _numbers(grid: SeedGrid, decimals: int) -> Iterator[Markup]:
    if grid.analysis:
        rows = [
            [
                _line_name(factor.name)
                if factor.name != "rest" or len(grid.analysis.factors) == 3
                else "rest",
                percent(factor.share),
                (str(factor.degrees), float(factor.degrees)),
                number(factor.f, 1),
                sorted_by_p(factor.p_value),
                sorted_by_p(factor.shuffled_p),
            ]
            for factor in grid.analysis.factors
        ]
        yield table(f"Analysis of variance of {grid.recipe}", SHARE_HEADS, rows)
        if grid.analysis.left_out:
            yield remark(
                f"{grid.analysis.left_out} of {grid.analysis.runs + grid.analysis.left_out} runs "
                "have no final score and are not in it."
            )
    yield remark(_hunt(grid, decimals))
    for what, means in (("head", grid.head_means), ("data", grid.data_means)):
        heads = (f"{what.capitalize()} seed", *SEED_HEADS[1:])
        rows_of = [_seed_row(mean, decimals) for mean in means]
        label = f"Means by {what} seed of {grid.recipe}"
        yield folded(f"{len(means)} {what} seeds in numbers", table(label, heads, rows_of))


def _hunt(grid: SeedGrid, decimals: int) -> str:
    count = len(grid.head_means)
    correction = f"after correction for having looked at {count} heads"
    good, bad = grid.good_heads, grid.bad_heads
    if not good and not bad:
        best = next((mean for mean in grid.head_means if mean.effect is not None), None)
        if best is None:
            return f"{grid.recipe}: no head shares a data seed with another, so none can be judged."
        effect = formats.number(best.effect, decimals, signed=True)
        return (
            f"{grid.recipe}: no head is better or worse than the luckiest of so many would be by "
            f"chance ({correction}). The best so far is head seed {best.seed} with {effect} "
            f"against the others, {formats.p_value(best.p_value)}."
        )
    parts = []
    for means, kind in ((good, "better"), (bad, "worse")):
        if means:
            noun = "head seed" if len(means) == 1 else "head seeds"
            verb = "is" if len(means) == 1 else "are"
            named = short(", ".join(str(mean.seed) for mean in means), 60)
            parts.append(f"{noun} {named} {verb} {kind} than the others")
    return (
        f"{grid.recipe}: {'; '.join(parts)} (p <= {LEVEL} {correction}). The seed, not the method, "
        "is what such a head brings: a mean over many heads is the recipe's score."
    )


def _seed_row(mean: SeedMean, decimals: int) -> list[Cell]:
    return [
        str(mean.seed),
        (str(mean.runs), float(mean.runs)),
        number(mean.mean, decimals),
        between(mean.interval, decimals),
        number(mean.effect, decimals, signed=True),
        sorted_by_p(mean.p_value),
        number(mean.expected, decimals),
    ]


def _densities(grid: SeedGrid, place: int, metric: str) -> Iterator[Markup]:
    figures = []
    both = (
        ("head", grid.head_means, grid.head_densities),
        ("data", grid.data_means, grid.data_densities),
    )
    for what, means, densities in both:
        lines = _density_lines(what, means, densities, place)
        if len(lines) < 2:
            continue
        chart = lines_chart(
            f"{what}-densities-{place}",
            lines,
            title=f"density of {metric} of {grid.recipe} for each {what} seed",
            about=f"{len(lines)} {what} seeds; solid the best, dashed the worst, thin the others",
            axis=metric,
            y_range=(0.0, 1.05 * max(y for line in lines for _, y in line.points)),
        )
        figures.append(figure(chart, title=f"{grid.recipe}: scores by {what} seed"))
    if figures:
        yield panels(figures)
        yield remark(
            "Densities of single seeds rest on few runs each; the best and the worst of many seeds "
            "look far apart by chance, too, so believe the corrected p-values."
        )


def _density_lines(
    what: str, means: tuple[SeedMean, ...], densities: Mapping[int, Density], place: int
) -> list[Line]:
    """The best seed solid and the worst dashed, both named; the others thin and without a name."""
    known = [mean for mean in means if mean.seed in densities]
    labels = seed_labels(densities)
    lines = []
    for rank, mean in enumerate(known):
        found = densities[int(str(mean.seed))]
        is_end = rank in (0, len(known) - 1)
        which = {0: "best", len(known) - 1: "worst"}.get(rank, "")
        points = tuple(zip(found.x, found.y, strict=True))[::2]
        lines.append(
            Line(
                name=f"{labels[int(str(mean.seed))]}, {which}" if is_end else "",
                points=points,
                place=place,
                dash=0 if rank == 0 else 1 if is_end else 4,
                marks=((*max(points, key=lambda point: point[1]), f"{what} seed {mean.seed}"),),
            )
        )
    return lines[1:] + lines[:1]
