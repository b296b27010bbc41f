"""How much too good is the best of k runs when validation rows chose it?"""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.findings.chosen_by_validation import (
    ChosenByValidation,
    ChosenOfRecipe,
    find,
)
from hf_stabilizer.studies.findings.seed_factors import share_seeds
from hf_stabilizer.studies.page.section import Section
from hf_stabilizer.studies.page.sections.lines import Line, few_counts, lines_chart
from hf_stabilizer.studies.page.sections.markup import (
    Cell,
    between,
    figure,
    narrow_where_shared,
    number,
    panels,
    remark,
    table,
    words,
)
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.verdict import study_decimals

HEADS = (
    "Recipe",
    "Runs",
    "Mean, validation",
    "Mean, test",
    "Best, validation",
    "The same run, test",
    "Gain that is not real",
    "95 % interval",
)


def section(study: Study) -> Section | None:
    """Returns validation and test score of the run chosen among k, recipe by recipe."""
    found = find(study)
    if found is None:
        return None
    decimals = study_decimals(study)
    places = {recipe: place for place, recipe in enumerate(study.recipes)}
    figures = [_figure(one, found.metric, places[one.recipe], decimals) for one in found.recipes]
    rows = [_row(one, decimals) for one in found.recipes]
    return Section(
        anchor="chosen",
        title="What choosing on validation is worth",
        lead=words(_lead(found)),
        body=Markup("").join(
            [
                panels(figures),
                table("Chosen by validation", HEADS, rows),
                *_remarks(found, decimals),
                *narrow_where_shared(
                    any(share_seeds(study.of(one.recipe)) for one in found.recipes),
                    "the intervals",
                ),
            ]
        ),
        records=tuple(found.records()),
    )


def _lead(found: ChosenByValidation) -> str:
    sure = [
        one.recipe
        for one in found.recipes
        if (interval := one.optimism.intervals[-1]) and interval.low > 0
    ]
    told = f"for {', '.join(sure)} the gap is clear" if sure else "here no gap is clear"
    return (
        f"Of k runs the one with the best validation {found.metric} is chosen. Its validation "
        "score was picked for being good, its test score was not: where the lines part as k "
        f"grows, part of the gain was luck ({told}, by 95 % intervals over resampled runs)."
    )


def _figure(one: ChosenOfRecipe, metric: str, place: int, decimals: int) -> Markup:
    found = one.optimism
    lines = [
        _line("validation", one.recipe, found.validation, place, decimals, dash=0),
        _line("test", one.recipe, found.test, place, decimals, dash=1),
    ]
    ends = [formats.number(values[-1], decimals) for values in (found.validation, found.test)]
    chart = lines_chart(
        f"chosen-{place}",
        lines,
        title=f"{metric} of the run of {one.recipe} that validation chooses among k",
        about=f"of {found.runs} runs the chosen one has {ends[0]} on validation, {ends[1]} on test",
        axis="runs to choose from",
        counts=True,
    )
    return figure(chart, title=one.recipe)


def _line(
    name: str, recipe: str, values: tuple[float, ...], place: int, decimals: int, *, dash: int
) -> Line:
    points = tuple((float(k), value) for k, value in enumerate(values, 1))
    marks = tuple(
        (
            float(k),
            values[k - 1],
            words(f"{recipe}, chosen of {k}: {formats.number(values[k - 1], decimals)} on {name}"),
        )
        for k in few_counts(len(values))
    )
    return Line(name=name, points=points, place=place, dash=dash, marks=marks)


def _row(one: ChosenOfRecipe, decimals: int) -> list[Cell]:
    found = one.optimism
    return [
        one.recipe,
        (str(found.runs), float(found.runs)),
        number(found.validation[0], decimals),
        number(found.test[0], decimals),
        number(found.validation[-1], decimals),
        number(found.test[-1], decimals),
        number(found.optimism[-1], decimals, signed=True),
        between(found.intervals[-1], decimals, signed=True),
    ]


def _remarks(found: ChosenByValidation, decimals: int) -> Iterator[Markup]:
    yield remark(
        "Gain that is not real: what choosing the best of all runs seemed to bring on validation, "
        "less what it brings on test rows; positive is too good, in either direction of the "
        "metric. Report the test score of the chosen run, or the mean of all."
    )
    within = [
        f"{one.recipe} {formats.number(one.optimism.within_run, decimals, signed=True)}"
        for one in found.recipes
        if one.optimism.within_run is not None
    ]
    yield remark(
        "Validation less test score of a single run, on average, positive is too good: "
        f"{', '.join(within)}. Its best look was chosen there, and those rows may be easier, or "
        "harder."
    )
    left = [(one.recipe, one.optimism.left_out) for one in found.recipes]
    if told := ", ".join(f"{count} of {recipe}" for recipe, count in left if count):
        yield remark(f"Runs left out, stopped early or without one of the two scores: {told}.")
