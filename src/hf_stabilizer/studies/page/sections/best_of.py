"""How good is the best of so many runs, and what is looking more often worth?"""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.findings.best_of_runs import BestOfRecipe, BestOfRuns, find
from hf_stabilizer.studies.page.section import Section
from hf_stabilizer.studies.page.sections.lines import Line, few_counts, lines_chart
from hf_stabilizer.studies.page.sections.markup import (
    Cell,
    between,
    figure,
    folded,
    narrow_where_shared,
    panels,
    remark,
    table,
    words,
)
from hf_stabilizer.studies.statistics import BestOf
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.verdict import study_decimals

MOST_PANELS = 4
"""Panels of single recipes that stand open; more are folded."""
MOST_BANDS = 4
"""Lines up to which each has its band; more would cover one another."""
MOST_ROWS = 12
"""Lines of the table that stand open."""
LOOKS = {"all": "every look", "epoch": "one an epoch", "run": "the last only"}


def section(study: Study) -> Section | None:
    """Returns the expected best of k runs: recipes together, then the looks of each."""
    found = find(study)
    if found is None:
        return None
    decimals = study_decimals(study)
    places = {recipe: place for place, recipe in enumerate(study.recipes)}
    looks = [
        _of_looks(one, found.metric, places[one.recipe], decimals)
        for one in found.recipes
        if one.has_many_looks
    ]
    together = _of_recipes(found, places, decimals)
    return Section(
        anchor="best-of",
        title="The best of so many runs",
        lead=words(_lead(found)),
        body=Markup("").join(
            [*_laid_out(together, looks), _table(found, decimals), *_remarks(found, decimals)]
        ),
        records=tuple(found.records()),
    )


def _lead(found: BestOfRuns) -> str:
    best = "highest" if found.greater_is_better else "lowest"
    return (
        f"Whoever trains k runs and keeps the one with the {best} validation {found.metric} gets "
        "this score on average; a recipe may win with one run and lose with ten. Bands are 95 % "
        "intervals over resampled runs: they are too narrow from half of the runs on, for no "
        "resample holds a better run than was seen."
    )


def _laid_out(together: Markup, looks: list[Markup]) -> list[Markup]:
    if len(looks) <= MOST_PANELS:
        return [panels([together, *looks])]
    summary = f"What looking more often is worth, for each of {len(looks)} recipes"
    return [panels([together]), folded(summary, panels(looks))]


def _of_recipes(found: BestOfRuns, places: dict[str, int], decimals: int) -> Markup:
    has_bands = len(found.recipes) <= MOST_BANDS
    lines = [
        _line(
            one.recipe,
            "",
            one.every_look,
            places[one.recipe],
            decimals,
            dash=n % 4,
            has_band=has_bands,
        )
        for n, one in enumerate(found.recipes)
    ]
    chart = lines_chart(
        "best-of",
        lines,
        title=f"expected best validation {found.metric} of k runs, by recipe",
        about="; ".join(_about(one, decimals) for one in found.recipes),
        axis="number of runs",
        counts=True,
    )
    return figure(chart, title="Every evaluation" if len(lines) == 1 else "All recipes")


def _of_looks(one: BestOfRecipe, metric: str, place: int, decimals: int) -> Markup:
    lines = [
        _line(one.recipe, LOOKS[looks], best, place, decimals, dash=dash, has_band=dash == 0)
        for dash, (looks, best) in enumerate(one.by_looks)
    ]
    chart = lines_chart(
        f"looks-{place}",
        lines,
        title=f"expected best validation {metric} of k runs of {one.recipe}, by evaluations used",
        about=_about(one, decimals),
        axis="number of runs",
        counts=True,
    )
    return figure(chart, title=f"{one.recipe}: looking more often")


def _line(
    recipe: str, looks: str, best: BestOf, place: int, decimals: int, *, dash: int, has_band: bool
) -> Line:
    """The line of a recipe, or of one of its habits of looking."""
    intervals = [(k, one) for k, one in enumerate(best.intervals, 1) if one]
    what = f"{recipe}, {looks}" if looks else recipe
    return Line(
        name=looks or recipe,
        points=tuple((float(k), value) for k, value in enumerate(best.expected, 1)),
        place=place,
        dash=dash,
        band=tuple((float(k), one.low, one.high) for k, one in intervals) if has_band else (),
        marks=tuple(
            (float(k), best.expected[k - 1], words(_title(what, best, k, decimals)))
            for k in few_counts(best.runs)
        ),
    )


def _title(what: str, best: BestOf, k: int, decimals: int) -> str:
    value = formats.number(best.expected[k - 1], decimals)
    interval = best.intervals[k - 1]
    sure = f", 95 % interval {between(interval, decimals)}" if interval else ""
    return f"{what}: best of {formats.counted(k, 'run')} {value}{sure}"


def _about(one: BestOfRecipe, decimals: int) -> str:
    first, last = one.every_look.expected[0], one.every_look.expected[-1]
    return (
        f"{one.recipe}: {formats.number(first, decimals)} with one run, "
        f"{formats.number(last, decimals)} with {one.every_look.runs}"
    )


def _table(found: BestOfRuns, decimals: int) -> Markup:
    counts = few_counts(max(one.every_look.runs for one in found.recipes))
    heads = ["Recipe", "Looks", *(formats.counted(k, "run") for k in counts), "Time a run"]
    rows = list(_rows(found, counts, decimals))
    inside = table("Expected best of k runs", heads, rows)
    return inside if len(rows) <= MOST_ROWS else folded(f"All of it in {len(rows)} lines", inside)


def _rows(found: BestOfRuns, counts: list[int], decimals: int) -> Iterator[list[Cell]]:
    for one in found.recipes:
        for looks, best in one.by_looks if one.has_many_looks else one.by_looks[:1]:
            values: list[Cell] = [
                _expected(best, k, decimals) if k <= best.runs else formats.NOTHING for k in counts
            ]
            time = "-" if one.seconds is None else formats.duration(one.seconds)
            yield [one.recipe, LOOKS[looks], *values, (time, one.seconds)]


def _expected(best: BestOf, k: int, decimals: int) -> Cell:
    return formats.number(best.expected[k - 1], decimals), best.expected[k - 1]


def _remarks(found: BestOfRuns, decimals: int) -> Iterator[Markup]:
    worth = [
        f"{one.recipe} {formats.number(one.worth_of_looking, decimals, signed=True)}"
        for one in found.recipes
        if one.has_many_looks and one.worth_of_looking is not None
    ]
    if worth:
        yield remark(
            "Keeping the best of all evaluations instead of the last changes the validation score "
            f"of a run, on average: {', '.join(worth)}. Part of that is the luck of the best of "
            "several looks, which test rows do not give back."
        )
    chosen = [one.recipe for one in found.recipes if one.stopped]
    if chosen:
        yield remark(
            f"Runs of {', '.join(chosen)} were stopped early and are not in it. Those that went on "
            "were chosen by their scores on the way, so they are better than runs at random."
        )
    left = [(one.recipe, one.every_look.left_out - one.stopped) for one in found.recipes]
    if told := ", ".join(f"{count} of {recipe}" for recipe, count in left if count):
        yield remark(f"Runs left out, without a validation score: {told}.")
    yield from narrow_where_shared(any(one.shares_seeds for one in found.recipes), "the bands")
