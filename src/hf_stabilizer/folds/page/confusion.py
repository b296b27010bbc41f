"""What is taken for what? Label against prediction: a table of classes, or residuals of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from hf_stabilizer.folds.page.answers import Answers
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.page.section import Section
from hf_stabilizer.studies.page.sections.markup import Cell, figure, percent, remark, table
from hf_stabilizer.studies.page.svg import (
    Scale,
    drawing,
    element,
    horizontal_grid,
    scale_over,
    text,
    vertical_grid,
)

# Any in this module: numbers and texts.
Counts = npt.NDArray[np.int64]
MOST_CLASSES = 20
"""Classes whose table can be read; of more the commonest mistakes are listed."""
MOST_MISTAKES = 30
MOST_POINTS = 3000
NAMED_POINTS = 500
"""Points beyond which none is named when it is pointed at, for the size of the page."""
SHADES = 6
WIDTH, HEIGHT = 640.0, 330.0
LEFT, RIGHT, TOP, BOTTOM = 60.0, 16.0, 26.0, 50.0
STYLE = (
    "table.confusion { width: auto; min-width: min(100%, 30rem); }"
    ".confusion td { text-align: center; padding: .5rem; }"
    ".confusion thead th { text-align: center; padding: .5rem; }"
    ".confusion thead th:first-child { text-align: left; }"
    ".confusion .total { color: var(--soft); }"
    + "".join(
        f".confusion .{name}{n} {{ background: color-mix(in srgb, var(--{colour}) "
        f"{9 * n}%, transparent); }}"
        for name, colour in (("right", "accent"), ("wrong", "alarm"))
        for n in range(SHADES)
    )
    + ".scatter { font-size: 11px; } .scatter circle { opacity: .55; }"
    "@container (max-width: 34rem) { .scatter { font-size: 17px; } }"
    "@container (max-width: 26rem) { .scatter { font-size: 19px; } }"
)


def confusion_section(answers: Answers) -> Section | None:
    """Returns how labels and predictions go together; None where no row was answered."""
    if answers.rows.empty:
        return None
    if answers.kind == "numbers":
        return _residuals(answers)
    return _several(answers) if answers.kind == "several" else _classes(answers)


def counted(answers: Answers) -> Counts:
    """Returns how many rows of each class were taken for which. Shape (label, prediction)."""
    place = {name: k for k, name in enumerate(answers.names)}
    found = np.zeros((len(place), len(place)), dtype=np.int64)
    for label, prediction in zip(answers.rows["label"], answers.rows["prediction"], strict=True):
        found[place[str(label)], place[str(prediction)]] += 1
    return found


def _classes(answers: Answers) -> Section:
    counts = counted(answers)
    wrong = int(counts.sum() - np.trace(counts))
    if len(answers.names) <= MOST_CLASSES:
        body = _matrix(answers.names, counts)
        note = "A row of the table is a label, a column what it was taken for; shade by share."
    else:
        body = _commonest(answers.names, counts)
        note = f"The {MOST_MISTAKES} commonest mistakes between {len(answers.names)} classes."
    return Section(
        anchor="confusion",
        title="What is taken for what",
        lead=f"{wrong} of {int(counts.sum())} out-of-fold rows are wrong. {note}",
        body=body,
        records=tuple(
            {"label": label, "prediction": other, "rows": int(counts[i, j])}
            for i, label in enumerate(answers.names)
            for j, other in enumerate(answers.names)
            if counts[i, j]
        ),
    )


def _matrix(names: Sequence[str], counts: Counts) -> Markup:
    heads = ["Label", *names, "Rows", "Found"]
    rows = [_matrix_row(names, counts, place) for place in range(len(names))]
    taken = counts.sum(axis=0)
    ends = [element("td", str(n), cls="total") for n in (*taken, counts.sum())]
    share = element("td", _share(np.trace(counts), counts.sum()), cls="total")
    rows.append(element("tr", element("th", "taken for it", scope="row"), *ends, share))
    right = [element("td", _share(counts[k, k], taken[k]), cls="total") for k in range(len(names))]
    blank = [element("td", "")] * 2
    rows.append(element("tr", element("th", "of these right", scope="row"), *right, *blank))
    inside = element(
        "table",
        element("thead", element("tr", *(element("th", name, scope="col") for name in heads))),
        element("tbody", *rows),
        cls="confusion",
    )
    label = "Labels against predictions"
    return element("div", inside, cls="scroll", role="region", aria_label=label, tabindex=0)


def _matrix_row(names: Sequence[str], counts: Counts, place: int) -> Markup:
    total = int(counts[place].sum())
    cells = []
    for other, count in enumerate(counts[place]):
        shade = round((SHADES - 1) * count / total) if total else 0
        kind = "right" if other == place else "wrong"
        cells.append(element("td", str(count), cls=f"{kind}{shade}"))
    ends = [str(total), _share(counts[place, place], total)]
    ends_ = [element("td", end, cls="total") for end in ends]
    return element("tr", element("th", names[place], scope="row"), *cells, *ends_)


def _commonest(names: Sequence[str], counts: Counts) -> Markup:
    pairs = [
        (int(counts[i, j]), label, other)
        for i, label in enumerate(names)
        for j, other in enumerate(names)
        if i != j and counts[i, j]
    ]
    sizes = dict(zip(names, counts.sum(axis=1), strict=True))
    rows: list[list[Cell]] = [
        [label, other, (str(count), float(count)), percent(count / sizes[label])]
        for count, label, other in sorted(pairs, key=lambda pair: -pair[0])[:MOST_MISTAKES]
    ]
    return table("The commonest mistakes", ["Label", "Taken for", "Rows", "Of its label"], rows)


def _several(answers: Answers) -> Section:
    truth = answers.truth.astype(bool)
    said = np.array([[name in one for name in answers.names] for one in answers.rows["prediction"]])
    whole = int((truth == said).all(axis=1).sum())
    rows: list[list[Cell]] = []
    for place, name in enumerate(answers.names):
        has, gets = truth[:, place], said[:, place]
        both = int((has & gets).sum())
        numbers = [int(has.sum()), int(gets.sum()), both]
        shares = [both / n if n else None for n in numbers[:2]]
        rows.append([name, *((str(n), float(n)) for n in numbers), *map(percent, shares)])
    heads = ["Label", "Rows with it", "Predicted", "Both", "Found", "Of these right"]
    return Section(
        anchor="confusion",
        title="Label by label",
        lead=f"{whole} of {len(truth)} out-of-fold rows have all of their labels right.",
        body=table("Label by label", heads, rows),
    )


def _residuals(answers: Answers) -> Section:
    labels = np.asarray(answers.rows["label"], dtype=np.float64)
    residuals = answers.residuals
    order = np.argsort(labels, kind="stable")
    shown = order[:: -(-len(order) // MOST_POINTS)]
    x = scale_over(labels.tolist(), LEFT, WIDTH - RIGHT)
    y = scale_over([0.0, *residuals.tolist()], HEIGHT - BOTTOM, TOP)
    decimals = formats.decimals_for(labels.tolist())
    parts = [
        *vertical_grid(x, TOP, HEIGHT - BOTTOM),
        *horizontal_grid(y, LEFT, WIDTH - RIGHT),
        element("line", cls="zero", x1=LEFT, x2=WIDTH - RIGHT, y1=y(0.0), y2=y(0.0)),
        text("prediction minus label", 0.0, 12.0, cls="axis"),
        text("label", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, cls="axis middle"),
        element("g", *_points(answers, labels, residuals, shown, x, y), cls="c1"),
    ]
    about = f"{len(labels)} rows, mean residual {formats.number(residuals.mean(), decimals)}"
    chart = drawing("scatter-residuals", WIDTH, HEIGHT, "Residuals over labels", about, parts)
    few = "" if len(shown) == len(order) else f" {len(shown)} of {len(order)} rows are drawn."
    slope = float(np.polyfit(labels, residuals, 1)[0]) if labels.std() > 0 else 0.0
    return Section(
        anchor="residuals",
        title="Residuals",
        lead=f"Predictions lie {formats.number(residuals.mean(), decimals, signed=True)} beside "
        "their labels on average, with a standard deviation of "
        f"{formats.number(residuals.std(), decimals)}.",
        body=Markup("").join(
            [
                figure(chart, caption=f"A dot is an out-of-fold row.{few}"),
                remark(
                    f"From one label to another that is higher by 1, the residual moves by "
                    f"{formats.number(slope, 2, signed=True)}: 0 is a model that follows labels "
                    "all the way, -1 one that says the same for every row."
                ),
            ]
        ),
    )


def _points(
    answers: Answers,
    labels: npt.NDArray[Any],
    residuals: npt.NDArray[Any],
    shown: npt.NDArray[Any],
    x: Scale,
    y: Scale,
) -> Iterator[Markup]:
    for place in shown:
        title = []
        if len(shown) <= NAMED_POINTS:
            words = f"row {answers.rows['row'].iloc[place]}: label {labels[place]:.4g}"
            title = [
                element("title", f"{words}, prediction {labels[place] + residuals[place]:.4g}")
            ]
        yield element("circle", *title, cx=x(labels[place]), cy=y(residuals[place]), r=3.0)


def _share(part: float, whole: float) -> str:
    return formats.typographic(f"{100 * part / whole:.0f} %" if whole else formats.NOTHING)
