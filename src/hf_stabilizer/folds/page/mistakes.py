"""About which rows are the models most wrong? Those, with their texts, the worst first.

classes    wrong, and sure of it: the least probability for the right one
several    the largest sum over labels of |probability - truth|
numbers    the largest |prediction - label|
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hf_stabilizer.folds.page.answers import Answers, in_words, shortened
from hf_stabilizer.studies.page.section import Section
from hf_stabilizer.studies.page.sections.markup import Cell, table
from hf_stabilizer.studies.page.svg import element

# Any in this module: numbers and texts.
MOST_ROWS = 20
LONGEST = 240
"""Letters of a text that are shown."""
STYLE = (
    ".told td:last-child { text-align: left; white-space: normal; min-width: 22rem; "
    "overflow-wrap: anywhere; } .told th:last-child { text-align: left; }"
    # Where there is no room for columns, what is long stands below the rest.
    "@media screen and (max-width: 40rem) { .told thead { display: none; } "
    ".told tr { display: flex; flex-wrap: wrap; gap: 0 1rem; padding: .5rem 0; "
    "border-bottom: 1px solid var(--line); } .told tr > * { border: 0; padding: 0; min-width: 0; } "
    ".told td:last-child { flex: 1 0 100%; min-width: 0; } }"
)
ARROW = "\N{RIGHTWARDS ARROW}"


def mistakes_section(answers: Answers) -> Section | None:
    """Returns the rows that the models are most wrong about; None where none is wrong."""
    size = wrongness(answers)
    order = np.argsort(-size, kind="stable")
    worst = [int(place) for place in order[:MOST_ROWS] if size[place] > 0]
    if not worst:
        return None
    heads = ["Row", "Fold", f"Label {ARROW} prediction", _measure(answers), "Where", "Text"]
    rows = [_row(answers, place, float(size[place])) for place in worst]
    return Section(
        anchor="mistakes",
        title="Most wrong",
        lead="Wrong labels are often among these rows, and rows that no model of this size can "
        "tell. hf-stabilizer data check looks for the former with such predictions."
        if answers.kind == "classes"
        else "",
        body=element("div", table("Rows that are most wrong", heads, rows), cls="told"),
        records=tuple(_record(answers, place) for place in worst),
    )


def wrongness(answers: Answers) -> npt.NDArray[np.float64]:
    """Returns how wrong each row is, from 0, which is right. Shape (rows,)."""
    if answers.kind == "numbers":
        return np.nan_to_num(np.abs(answers.residuals))
    distance = np.abs(answers.probabilities - answers.truth)
    if answers.kind == "several":
        missed = answers.rows["label"].map(set) != answers.rows["prediction"].map(set)
        return np.where(missed, distance.sum(axis=1), 0.0)
    of_label = (distance * answers.truth).sum(axis=1)  # 1 minus its probability
    is_wrong = answers.rows["label"].astype(str) != answers.rows["prediction"].astype(str)
    return np.where(is_wrong, of_label, 0.0)


def _measure(answers: Answers) -> str:
    names = {"numbers": "Residual", "several": "Distance", "classes": "P(label)"}
    return names[answers.kind]


def _shown(answers: Answers, place: int, size: float) -> Cell:
    if answers.kind == "numbers":
        residual = float(answers.residuals[place])
        return f"{residual:+.4g}", residual
    value = size if answers.kind == "several" else 1 - size
    return f"{value:.3f}", value


def _row(answers: Answers, place: int, size: float) -> list[Cell]:
    row = answers.rows.iloc[place]
    return [
        (str(row["row"]), float(row["row"])),
        str(row["fold"]),
        f"{in_words(row['label'])} {ARROW} {in_words(row['prediction'])}",
        _shown(answers, place, size),
        f"{row['source']}, {row['source_row']}",
        shortened(str(row["text"]), LONGEST),
    ]


def _record(answers: Answers, place: int) -> dict[str, Any]:
    row = answers.rows.iloc[place]
    about = {key: row[key] for key in ("row", "source", "source_row", "fold")}
    said = {key: in_words(row[key]) for key in ("label", "prediction")}
    return {**about, **said, "text": shortened(str(row["text"]), LONGEST)}
