"""How does the score depend on one setting? Every run over its value, the mean with its band."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from hf_stabilizer.records import Run
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.findings.swept_settings import (
    Sweep,
    Sweeps,
    SweptValue,
    correction_words,
    find,
    words,
)
from hf_stabilizer.studies.page.charts import run_key, run_text
from hf_stabilizer.studies.page.charts.runs import cross
from hf_stabilizer.studies.page.section import Section
from hf_stabilizer.studies.page.sections.lanes import pointer
from hf_stabilizer.studies.page.sections.markup import (
    Cell,
    between,
    figure,
    number,
    remark,
    sorted_by_p,
    table,
)
from hf_stabilizer.studies.page.sections.markup import words as dressed
from hf_stabilizer.studies.page.sections.sweep_axis import ValueAxis
from hf_stabilizer.studies.page.svg import (
    Scale,
    drawing,
    element,
    horizontal_grid,
    scale_over,
    text,
)
from hf_stabilizer.studies.statistics import final_score
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.verdict import study_decimals

WIDTH, HEIGHT = 640.0, 330.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 16.0, 30.0, 56.0
COLOUR = "c1"
"""One colour for all values: they are one line."""
HEADS = (
    *("Value", "Runs", "Mean", "95 % interval", "Std", "Worst", "Failed"),
    *("Minus the best", "p", "Against the best"),
)


def section(study: Study) -> Section | None:
    """Returns the score over each setting that was swept, with a table."""
    found = find(study)
    if found is None:
        return None
    decimals = study_decimals(study)
    parts: list[Markup] = []
    for place, one in enumerate(found.sweeps):
        title = f"{found.metric} against {one.key}" if len(found.sweeps) > 1 else ""
        chart = _chart(f"sweep-{place}", one, found, decimals)
        parts += [
            figure(chart, title=title, caption=_caption(one)),
            table(
                f"{one.key}, value by value", HEADS, [_row(one, v, decimals) for v in one.values]
            ),
            *_remarks(one),
        ]
    names = ", ".join(one.key for one in found.sweeps)
    return Section(
        anchor="sweeps",
        title=f"Score against {names}",
        lead=dressed(" ".join(words(one) for one in found.sweeps)),
        body=Markup("").join(parts),
        records=tuple(found.records()),
    )


def _caption(one: Sweep) -> str:
    unset = ""
    if one.unset is not None:
        unset = f" The dashed line is the mean of {one.unset.recipe}, which does not set it."
    return (
        "A dot is a run, a cross a failed one, the line goes through the means, the band is their "
        f"95 % interval, the ring marks the best mean.{unset} The best of several means is a "
        "little too good to be true: only new seeds, or test rows, tell by how much."
    )


def _chart(name: str, one: Sweep, found: Sweeps, decimals: int) -> Markup:
    x = ValueAxis.over([value.value for value in one.values], LEFT + 26, WIDTH - RIGHT - 26)
    y = scale_over(_scores(one), HEIGHT - BOTTOM, TOP)
    parts = [*horizontal_grid(y, LEFT, WIDTH - RIGHT)]
    for at, label in x.ticks:
        parts.append(text(label, at, HEIGHT - BOTTOM + 18, cls="tick middle"))
    parts += [*_unset(one, y, decimals), *_means(one, x, y, decimals)]
    parts += [_dots(value, x(value.value), y, decimals) for value in one.values]
    parts += _best(one, x, y, decimals)
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(text(one.key, middle, HEIGHT - BOTTOM + 38, cls="axis middle"))
    better = "higher" if found.greater_is_better else "lower"
    parts.append(text(f"{found.metric}, {better} is better", 0.0, 12.0, cls="axis"))
    about = "; ".join(
        f"{one.key} {value.value:g}: mean {formats.number(value.summary.mean, decimals)}, "
        f"{value.summary.runs} runs"
        for value in one.values
    )
    return drawing(name, WIDTH, HEIGHT, f"{found.metric} against {one.key}", about, parts)


def _scores(one: Sweep) -> list[float]:
    found = [s for value in one.values for run in value.runs if (s := final_score(run)) is not None]
    found += [end for value in one.values for end in value.summary.interval or ()]
    return found + ([one.unset.mean] if one.unset and one.unset.mean is not None else [])


def _unset(one: Sweep, y: Scale, decimals: int) -> Iterator[Markup]:
    """The line of the recipe that leaves the setting out."""
    if one.unset is None or one.unset.mean is None or not y.holds(one.unset.mean):
        return
    at = y(one.unset.mean)
    words_ = f"{one.unset.recipe}: mean {formats.number(one.unset.mean, decimals)}"
    line = element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, cls="zero")
    yield element("g", element("title", dressed(words_)), line)
    if one.unset_label_is_left:
        yield text(dressed(words_), LEFT + 4, at - 5, cls="note")
    else:
        yield text(dressed(words_), WIDTH - RIGHT, at - 5, cls="note end")


def _means(one: Sweep, x: ValueAxis, y: Scale, decimals: int) -> Iterator[Markup]:
    """The band, the line, and a point for each mean."""
    known = [value for value in one.values if value.summary.mean is not None]
    banded = [(x(v.value), v.summary.interval) for v in known if v.summary.interval]
    if len(banded) > 1:
        above = [f"{at:.1f},{y(interval.high):.1f}" for at, interval in banded]
        below = [f"{at:.1f},{y(interval.low):.1f}" for at, interval in reversed(banded)]
        yield element("polygon", cls=f"band {COLOUR}", points=" ".join(above + below))
    points = [(v, x(v.value), y(v.summary.mean or 0.0)) for v in known]
    line = element("polyline", points=" ".join(f"{a:.1f},{b:.1f}" for _, a, b in points))
    marks = [
        element("circle", element("title", _title(one, v, decimals)), cx=a, cy=b, r=4.0)
        for v, a, b in points
    ]
    yield element("g", line, *marks, cls=f"line {COLOUR}")


def _title(one: Sweep, value: SweptValue, decimals: int) -> str:
    row = value.summary
    sure = f", 95 % interval {between(row.interval, decimals)}" if row.interval else ""
    return dressed(f"{one.key} {value.value:g}: mean {formats.number(row.mean, decimals)}{sure}")


def _best(one: Sweep, x: ValueAxis, y: Scale, decimals: int) -> list[Markup]:
    mean = one.best.summary.mean
    if mean is None or not y.holds(mean):
        return []
    at = x(one.best.value)
    label = f"best mean {formats.number(mean, decimals)}"
    ring = element("circle", cx=at, cy=y(mean), r=8.0, cls="ring")
    up = min(y(s) for s in _near(one, y)) - 10
    # Half of the label as wide as on a narrow screen must stay inside.
    half = 6.0 * len(label)
    side = " end" if at + half > WIDTH else "" if at < half else " middle"
    beside = at + {" end": 9.0, "": -9.0, " middle": 0.0}[side]
    return [
        element("g", element("title", _title(one, one.best, decimals)), ring),
        text(dressed(label), beside, max(up, TOP - 4), cls=f"name{side}"),
    ]


def _near(one: Sweep, y: Scale) -> list[float]:
    """What the label of the best value must stand above."""
    scores = [s for run in one.best.runs if (s := final_score(run)) is not None and y.holds(s)]
    return [*scores, one.best.summary.mean or 0.0, *(one.best.summary.interval or ())]


def _dots(value: SweptValue, x: float, y: Scale, decimals: int) -> Markup:
    """One mark for each run with a score; those that would cover one another stand aside."""
    size = 3.5 if len(value.runs) <= 40 else 2.5
    marks, taken = [], list[tuple[float, float]]()
    known = [(score, run) for run in value.runs if (score := final_score(run)) is not None]
    for score, run in sorted(known, key=lambda pair: pair[0]):
        aside = _free_place(y(score), taken, 2 * size + 0.5)
        taken.append((aside, y(score)))
        marks.append(_mark(run, score, x + aside, y, size, decimals))
    return element("g", *marks, cls=COLOUR)


def _free_place(height: float, taken: list[tuple[float, float]], gap: float) -> float:
    """The smallest shift to a side that touches no earlier mark; the line's own point is free."""
    for step in range(1, 6):
        for side in (1.0, -1.0):
            aside = side * (step + 0.4) * gap
            near = (abs(a - aside) < gap and abs(b - height) < gap for a, b in taken)
            if not any(near):
                return aside
    return gap * 1.4


def _mark(run: Run, score: float, x: float, y: Scale, size: float, decimals: int) -> Markup:
    if run.status == "failed":
        shape = cross(x, y(score), size)
    elif y.holds(score):
        shape = element("circle", cx=x, cy=y(score), r=size)
    else:
        shape = pointer(x, y(score), size)
    name = element("title", dressed(run_text(run, decimals)))
    return element("g", name, shape, cls=f"mark {run.status}", data_run=run_key(run))


def _row(one: Sweep, value: SweptValue, decimals: int) -> list[Cell]:
    row, found = value.summary, value.against_best
    outcome = "worse" if value.is_told_apart else "open" if found else "-"
    difference = found.mean_difference if found else None
    return [
        (f"{value.value:g}", value.value),
        (str(row.scored), float(row.scored)),
        number(row.mean, decimals),
        between(row.interval, decimals),
        number(row.std, decimals),
        number(row.worst, decimals),
        (str(row.failed), float(row.failed)),
        number(difference, decimals, signed=True),
        sorted_by_p(value.p_value),
        "best mean" if value is one.best else outcome,
    ]


def _remarks(one: Sweep) -> Iterator[Markup]:
    if len(one.values) > 1:
        yield remark(correction_words(one))
    if any(value.summary.stopped for value in one.values):
        yield remark(
            "Runs were stopped early, and those that went on were chosen by their scores: to "
            "compare values, let all runs go to the end."
        )
