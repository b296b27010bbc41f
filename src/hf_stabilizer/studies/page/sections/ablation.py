"""Which remedy helps, alone and among the others? The arms of an ablation as a table."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.ablations.ablation import runs_needed
from hf_stabilizer.studies.comparison import Comparison
from hf_stabilizer.studies.findings.ablation_effects import AblationEffects, find
from hf_stabilizer.studies.findings.ablation_effects import words as effect_words
from hf_stabilizer.studies.page.charts import key_of, seeds_text
from hf_stabilizer.studies.page.section import Section
from hf_stabilizer.studies.page.sections.lanes import Lane, Mark, lanes_chart
from hf_stabilizer.studies.page.sections.markup import (
    Cell,
    between,
    direction,
    figure,
    number,
    remark,
    sorted_by_p,
    table,
    words,
)
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.verdict import LEVEL, outcome, study_decimals

HEADS = (
    "Remedy",
    "Alone",
    "Change",
    "95 % interval",
    "p",
    "Without it",
    "Adds",
    "95 % interval",
    "p",
)


def section(study: Study) -> Section | None:
    """Returns the table of an ablation and its two comparisons for each remedy on one scale."""
    found = find(study)
    if found is None:
        return None
    decimals = study_decimals(study)
    axis = direction(f"change in {found.metric}", found.greater_is_better)
    title = f"change in {found.metric} by each remedy, alone and on top of the others"
    lanes = list(_lanes(found, study, decimals))
    chart = lanes_chart("ablation", lanes, title=title, axis=axis, zero=0.0)
    return Section(
        anchor="ablation",
        title="What each remedy does",
        lead=words(_lead(found, decimals)),
        body=Markup("").join(
            [
                figure(chart, caption=_caption()),
                table("Ablation", HEADS, _rows(found, decimals)),
                *_remarks(found),
            ]
        ),
        records=tuple(found.records()),
    )


def _lead(found: AblationEffects, decimals: int) -> str:
    whole = found.ablation.together.alone
    change = formats.number(whole.mean_difference, decimals, signed=True)
    claimed = {"better": "better", "worse": "worse", "open": "no claim"}[outcome(whole)]
    return (
        f"All remedies together change {found.metric} by {change} against {whole.baseline} "
        f"({formats.p_value(whole.p_value)}, {claimed}). Every p-value here is corrected by Holm's "
        f"method for all {found.ablation.comparisons} comparisons of the table."
    )


def _caption() -> str:
    return (
        "Alone: the remedy against the baseline. On top: all remedies against all but this one. A "
        "dot is a pair of runs with the same seeds, filled where the remedy was better, hollow "
        "where it was worse; the bar is the mean, the band its 95 % interval before correction."
    )


def _lanes(found: AblationEffects, study: Study, decimals: int) -> Iterator[Lane]:
    places = {recipe: place for place, recipe in enumerate(study.recipes)}
    whole = found.ablation.together
    yield _lane("all together", whole.alone, places.get(whole.remedy, 0), decimals)
    for row in found.ablation.rows:
        place = places.get(row.alone.candidate, 0)  # both lanes of a remedy have its colour
        yield _lane(f"{row.remedy}, alone", row.alone, place, decimals)
        if row.added is not None:
            yield _lane(f"{row.remedy}, on top", row.added, place, decimals)


def _lane(name: str, found: Comparison, place: int, decimals: int) -> Lane:
    mean = formats.number(found.mean_difference, decimals, signed=True)
    sure = formats.p_value(found.p_value)
    marks = []
    for pair in found.pairs:
        gain = pair.difference if found.greater_is_better else -pair.difference
        change = formats.number(pair.difference, decimals, signed=True)
        marks.append(
            Mark(
                value=pair.difference,
                title=words(f"{name}, {seeds_text(pair.seeds)}: {change}"),
                key=f"{key_of(found.baseline, dict(pair.seeds))} "
                f"{key_of(found.candidate, dict(pair.seeds))}",
                kind="gain" if gain > 0 else "loss" if gain < 0 else "tie",
            )
        )
    return Lane(
        name=name,
        note=words(f"{mean}, {sure}"),
        place=place,
        mean=found.mean_difference,
        interval=found.interval,
        title=words(
            f"{name}: {found.candidate} minus {found.baseline} {mean}, "
            f"95 % interval {between(found.interval, decimals, signed=True)}"
        ),
        marks=tuple(marks),
    )


def _rows(found: AblationEffects, decimals: int) -> Iterator[list[Cell]]:
    for row in (*found.ablation.rows, found.ablation.together):
        yield [
            row.remedy if row.added else f"{row.remedy} (all together)",
            number(row.alone_arm.mean, decimals),
            *_compared(row.alone, decimals),
            number(row.without_arm.mean, decimals) if row.without_arm else formats.NOTHING,
            *_compared(row.added, decimals),
        ]
    baseline = found.ablation.baseline
    blank: list[Cell] = [formats.NOTHING] * (len(HEADS) - 2)
    yield [f"{baseline.recipe} (the baseline)", number(baseline.mean, decimals), *blank]


def _compared(found: Comparison | None, decimals: int) -> list[Cell]:
    if found is None:
        return [formats.NOTHING] * 3
    return [
        number(found.mean_difference, decimals, signed=True),
        between(found.interval, decimals, signed=True),
        sorted_by_p(found.p_value),
    ]


def _remarks(found: AblationEffects) -> Iterator[Markup]:
    yield remark(
        "; ".join(f"{row.remedy}: {effect_words(row)}" for row in found.ablation.rows) + "."
    )
    if found.ablation.smallest_p > LEVEL:
        needed = runs_needed(len(found.ablation.rows))
        yield remark(
            f"With so few runs no comparison can reach p <= {LEVEL} after correction, whatever it "
            f"shows; {needed} runs of each arm can."
        )
    yield remark(
        "Alone and Without it are the means of these arms. A remedy that helps alone and adds "
        "nothing does what the others do already; one that only adds to the others needs them. No "
        "claim is no proof of no effect: see the intervals."
    )
