"""Do runs with other seeds give the same answers, and on which rows do they not?"""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.findings.row_agreement import (
    FlippingRow,
    RecipeAgreement,
    RowAgreement,
    find,
)
from hf_stabilizer.studies.page.charts import colour
from hf_stabilizer.studies.page.section import Section
from hf_stabilizer.studies.page.sections.markup import (
    Cell,
    figure,
    folded,
    number,
    panels,
    percent,
    remark,
    table,
    words,
)
from hf_stabilizer.studies.page.svg import (
    Scale,
    drawing,
    element,
    horizontal_grid,
    round_ticks,
    text,
    tick_words,
)
from hf_stabilizer.studies.study import Study

CLASS_HEADS = (
    "Recipe",
    "Runs",
    "Rows",
    "All agree",
    "Two agree",
    "Fleiss' kappa",
    "Cohen's kappa",
    "A run is right",
    "The vote is right",
)
NUMBER_HEADS = ("Recipe", "Runs", "Rows", "Correlation of two", "Std on a row", "Share of variance")
FLIPPING_HEADS = ("Row", "Usual answer by", "Answers", "Right class", "Right runs")
SPREAD_HEADS = ("Row", "Std", "Mean", "Lowest", "Highest", "Right")
WIDTH, HEIGHT = 360.0, 200.0


def section(study: Study) -> Section | None:
    """Returns how far the runs of each recipe agree row by row, and the rows that flip."""
    found = find(study)
    if found is None:
        return None
    places = {recipe: place for place, recipe in enumerate(study.recipes)}
    figures = [_figure(one, places[one.recipe]) for one in found.recipes]
    classes = [_class_row(one) for one in found.recipes if one.classes]
    numbers = [_number_row(one) for one in found.recipes if one.numbers]
    tables = [table("Agreement of classes", CLASS_HEADS, classes)] if classes else []
    tables += [table("Agreement of numbers", NUMBER_HEADS, numbers)] if numbers else []
    return Section(
        anchor="agreement",
        title="Do seeds agree row by row?",
        lead=words(_lead(found)),
        body=Markup("").join([panels(figures), *tables, *_remarks(found), *_rows(found)]),
        records=tuple(found.records()),
    )


def _lead(found: RowAgreement) -> str:
    parts = []
    for one in found.recipes:
        if one.classes:
            parts.append(f"{one.recipe} on {100 * one.classes.unanimous:.1f} %")
    if parts:
        return (
            f"Share of {found.part} rows on which all runs give one answer: {', '.join(parts)}. "
            "Runs of equal scores may err on other rows; on those that flip, a single run's "
            "answer is its seed's. More runs find more rows to differ on, so compare recipes with "
            "equal numbers of runs, or by the agreement of two."
        )
    return (
        f"How far the numbers lie apart that runs with other seeds predict for the same "
        f"{found.part} rows, and for which rows most."
    )


def _figure(one: RecipeAgreement, place: int) -> Markup:
    is_classes = one.classes is not None
    axis = "share of runs with the usual answer" if is_classes else "std of the runs on a row"
    edges = [low for low, _, _ in one.histogram] + [one.histogram[-1][1]]
    x = Scale(edges[0], edges[-1] if edges[-1] > edges[0] else edges[0] + 1, 52, WIDTH - 12)
    y = Scale(0, 1.05 * max(count for _, _, count in one.histogram), HEIGHT - 44, 18)
    parts = [*horizontal_grid(y, x.start, x.end), text("rows", 46, 8, cls="axis end")]
    parts += [_bar(low, high, count, x, y, is_classes) for low, high, count in one.histogram]
    ticks = round_ticks(x.low, x.high, about=4)
    for tick, written in zip(ticks, tick_words(ticks), strict=True):
        parts.append(text(written, x(tick), HEIGHT - 26, cls="tick middle"))
    parts.append(text(axis, (x.start + x.end) / 2, HEIGHT - 6, cls="axis middle"))
    end = "rightmost" if is_classes else "leftmost"
    about = f"{one.rows} rows; the {end} bar holds those on which the runs agree most"
    title = f"rows of {one.recipe} by how far {one.runs} runs agree"
    bars = [element("g", *parts, cls=colour(place))]
    drawn = drawing(f"histogram-{place}", WIDTH, HEIGHT, title, about, bars)
    return figure(drawn, title=one.recipe)


def _bar(low: float, high: float, count: int, x: Scale, y: Scale, is_classes: bool) -> Markup:
    left = x(low) if high > low else x.start
    right = x(high) if high > low else x.end
    unit = "share" if is_classes else "std"
    name = f"{unit} {formats.number(low, 3)} to {formats.number(high, 3)}: {count} rows"
    return element(
        "rect",
        element("title", name),
        cls="bar",
        x=left + 1,
        y=y(count),
        width=max(right - left - 2, 1.0),
        height=y.start - y(count),
    )


def _class_row(one: RecipeAgreement) -> list[Cell]:
    found = one.classes
    assert found is not None  # asked for where there are classes only
    return [
        one.recipe,
        (str(one.runs), float(one.runs)),
        (str(one.rows), float(one.rows)),
        _exact_percent(found.unanimous),
        _exact_percent(found.pairwise),
        number(found.fleiss_kappa, 3),
        number(found.cohen_kappa, 3),
        _exact_percent(one.mean_right),
        _exact_percent(one.vote_right),
    ]


def _number_row(one: RecipeAgreement) -> list[Cell]:
    found = one.numbers
    assert found is not None  # asked for where there are numbers only
    return [
        one.recipe,
        (str(one.runs), float(one.runs)),
        (str(one.rows), float(one.rows)),
        number(found.correlation, 3),
        number(found.spread, formats.decimals_for([found.spread])),
        percent(found.relative_spread),
    ]


def _exact_percent(share: float | None) -> Cell:
    return (formats.NOTHING if share is None else f"{100 * share:.1f} %"), share


def _remarks(found: RowAgreement) -> Iterator[Markup]:
    if any(one.classes for one in found.recipes):
        yield remark(
            "Kappa is agreement beyond what chance gives: 1 is the same answers, 0 is chance. The "
            "vote is the most frequent answer of all runs; where it is right more often than a "
            "run, an ensemble of these seeds helps."
        )
    if any(one.numbers for one in found.recipes):
        yield remark(
            "Share of variance: how much of the variance of all predictions is between runs on "
            "the same row; the rest is between rows, as it should be."
        )
    failed = [f"{one.failed} of {one.runs} of {one.recipe}" for one in found.recipes if one.failed]
    if failed:
        yield remark(f"Failed runs among those compared: {', '.join(failed)}.")
    left = [f"{one.left_out} of {one.recipe}" for one in found.recipes if one.left_out]
    if left:
        yield remark(
            f"Runs left out, for no predictions are kept, they are no numbers, or their rows are "
            f"others: {', '.join(left)}."
        )


def _rows(found: RowAgreement) -> Iterator[Markup]:
    for one in found.recipes:
        if one.flipping:
            inside = table(
                f"Rows that flip with {one.recipe}",
                FLIPPING_HEADS,
                [_flipping_row(row, one.runs) for row in one.flipping],
            )
            yield folded(f"{one.recipe}: rows that flip most, counted from 0", inside)
        if one.spread:
            decimals = formats.decimals_for(row.mean for row in one.spread)
            lines: list[list[Cell]] = [
                [
                    (str(row.row), float(row.row)),
                    *(
                        number(value, decimals)
                        for value in (row.std, row.mean, row.low, row.high, row.label)
                    ),
                ]
                for row in one.spread
            ]
            inside = table(f"Rows that {one.recipe} is least sure of", SPREAD_HEADS, lines)
            yield folded(f"{one.recipe}: rows on which runs differ most, counted from 0", inside)


def _flipping_row(row: FlippingRow, runs: int) -> list[Cell]:
    answers = ", ".join(f"{answer} ({count})" for answer, count in row.answers)
    return [
        (str(row.row), float(row.row)),
        (f"{round(row.share * runs)} of {runs}", row.share),
        answers or formats.NOTHING,
        formats.NOTHING if row.label is None else (str(row.label), float(row.label)),
        percent(row.right),
    ]
