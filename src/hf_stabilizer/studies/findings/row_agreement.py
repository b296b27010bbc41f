"""Do runs with other seeds give the same answers row by row, and which rows does the seed decide?

From the predictions that a study keeps of each run: on the test rows where every run has them,
else on the validation rows.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_stabilizer.studies.findings.answers import Answers, Array, Part, predictions_of, same_rows
from hf_stabilizer.studies.findings.finding import Record
from hf_stabilizer.studies.statistics import (
    Agreement,
    ValueAgreement,
    row_agreement,
    seed_agreement,
    value_agreement,
)
from hf_stabilizer.studies.study import Study

MOST_ROWS = 20
"""Rows that are named, those that flip most first."""
MOST_ANSWERS = 4


@dataclass(frozen=True)
class FlippingRow:
    """A row that the seed decides."""

    row: int
    """Its index among the rows of its split, from 0 up."""
    share: float
    """Share of runs that give its most frequent answer, in (0, 1]."""
    answers: tuple[tuple[int, int], ...]
    """(class, runs that give it), the most frequent first, at most four; empty where an answer is
    several labels."""
    label: int | None
    """The right class, where it is known and one."""
    right: float | None
    """Share of runs that are right, where that is known."""


@dataclass(frozen=True)
class SpreadRow:
    """A row for which runs predict numbers far apart."""

    row: int
    """Its index among the rows of its split, from 0 up."""
    std: float
    """Standard deviation of the runs' predictions, in units of the target."""
    mean: float
    """Their mean."""
    low: float
    """The smallest."""
    high: float
    """The largest."""
    label: float | None
    """The right number, where it is known."""


@dataclass(frozen=True)
class RecipeAgreement:
    """How alike the answers of one recipe's runs are."""

    recipe: str
    """Name of the recipe."""
    failed: int
    """Failed runs among those compared: a collapsed model answers, too."""
    left_out: int
    """Runs without predictions on these rows, or whose predictions are no numbers."""
    classes: Agreement | None
    """For classes; None for numbers."""
    numbers: ValueAgreement | None
    """For numbers; None for classes."""
    histogram: tuple[tuple[float, float, int], ...]
    """(from, to, rows): for classes by the share of runs that give a row's most frequent answer,
    for numbers by the standard deviation of the runs on a row. Neighbours touch, each bar holds
    its upper end, and the first one its lower end, too."""
    flipping: tuple[FlippingRow, ...]
    """Rows on which runs disagree, the most divided first, at most 20."""
    spread: tuple[SpreadRow, ...]
    """For numbers: rows on which runs lie farthest apart, at most 20."""
    mean_right: float | None
    """Mean share of rows on which a run is right; None for numbers and without labels."""
    vote_right: float | None
    """Share of rows on which the most frequent answer of all runs is right, a tie counted as the
    chance to draw the right one."""

    @property
    def runs(self) -> int:
        """Number of runs compared."""
        found = self.classes or self.numbers
        return found.runs if found else 0

    @property
    def rows(self) -> int:
        """Number of rows that each of them answered."""
        found = self.classes or self.numbers
        return found.rows if found else 0


@dataclass(frozen=True)
class RowAgreement:
    """Agreement between seeds, recipe by recipe."""

    part: Part
    """The rows: "test" or "validation"."""
    recipes: tuple[RecipeAgreement, ...]
    """One entry for each recipe with predictions of two runs or more."""

    def records(self) -> list[Record]:
        """Returns one row for each recipe."""
        return [_record(one, self.part) for one in self.recipes]

    def row_records(self) -> list[Record]:
        """Returns one row for each data row that is named."""
        flips = [
            {
                "recipe": one.recipe,
                "row": row.row,
                "agreement": row.share,
                "label": row.label,
                "right": row.right,
                "answers": "; ".join(f"{answer}: {count}" for answer, count in row.answers),
            }
            for one in self.recipes
            for row in one.flipping
        ]
        spreads = [
            {
                "recipe": one.recipe,
                "row": row.row,
                "std": row.std,
                "mean": row.mean,
                "lowest": row.low,
                "highest": row.high,
                "label": row.label,
            }
            for one in self.recipes
            for row in one.spread
        ]
        return flips or spreads


def find(study: Study) -> RowAgreement | None:
    """Returns the agreement, or None where no recipe has the predictions of two runs.

    Needs a study with a folder (`Study.from_folder`, or what `run_study` returns). Runs stopped
    early are left out; failed ones count where their model answered. A run whose rows or labels
    are others than those of the most runs is left out and counted.

    Example:
        >>> find(Study("demo", ("plain",), (), "f1", True)) is None
        True

    Source: Fleiss 1971; Cohen 1960 (`seed_agreement`).
    """
    loaded = {recipe: predictions_of(study, recipe) for recipe in study.recipes}
    known = [kept for mine in loaded.values() for _, kept in mine]
    if not known:
        return None
    part: Part = "test" if all(kept.test is not None for kept in known) else "validation"
    found = []
    for recipe, mine in loaded.items():
        answers = same_rows(mine, part)
        if answers is not None:
            counted = sum(run.status != "stopped" for run in study.of(recipe))
            found.append(_of_recipe(recipe, answers, counted - len(answers.runs)))
    return RowAgreement(part, tuple(found)) if found else None


def _of_recipe(recipe: str, answers: Answers, left_out: int) -> RecipeAgreement:
    failed = sum(run.status == "failed" for run in answers.runs)
    if answers.are_numbers:
        return _numbers(recipe, answers, failed, left_out)
    shares = row_agreement(answers.values)
    right = None if answers.labels is None else _right(answers.values, answers.labels)
    return RecipeAgreement(
        recipe=recipe,
        failed=failed,
        left_out=left_out,
        classes=seed_agreement(answers.values),
        numbers=None,
        histogram=_tenths(shares),
        flipping=_flipping(answers, shares, right),
        spread=(),
        mean_right=None if right is None else float(right.mean()),
        vote_right=None if answers.labels is None else _vote(answers.values, answers.labels),
    )


def _numbers(recipe: str, answers: Answers, failed: int, left_out: int) -> RecipeAgreement:
    values = answers.values
    spreads = values.std(axis=0, ddof=1)  # (rows,)
    order = np.argsort(-spreads, kind="stable")[:MOST_ROWS]
    rows = tuple(
        SpreadRow(
            row=int(row),
            std=float(spreads[row]),
            mean=float(values[:, row].mean()),
            low=float(values[:, row].min()),
            high=float(values[:, row].max()),
            label=None if answers.labels is None else float(answers.labels[row]),
        )
        for row in order
        if spreads[row] > 0
    )
    return RecipeAgreement(
        recipe=recipe,
        failed=failed,
        left_out=left_out,
        classes=None,
        numbers=value_agreement(values),
        histogram=_histogram(spreads, 0.0, float(spreads.max()), 12),
        flipping=(),
        spread=rows,
        mean_right=None,
        vote_right=None,
    )


def _right(values: Array, labels: Array) -> npt.NDArray[np.bool_]:
    """Whether each run is right on each row, all labels of it: (runs, rows)."""
    same = values == labels[None]
    right: npt.NDArray[np.bool_] = same if same.ndim == 2 else same.all(axis=2)
    return right


def _vote(values: Array, labels: Array) -> float:
    found = []
    for row in range(values.shape[1]):
        votes = Counter(_hashable(answer) for answer in values[:, row])
        most = max(votes.values())
        winners = [answer for answer, count in votes.items() if count == most]
        found.append((_hashable(labels[row]) in winners) / len(winners))
    return float(np.mean(found))


def _hashable(answer: Any) -> Any:  # Any: a number, or the labels of a row
    return tuple(answer.tolist()) if np.ndim(answer) else int(answer)


def _flipping(
    answers: Answers, shares: npt.NDArray[np.float64], right: npt.NDArray[np.bool_] | None
) -> tuple[FlippingRow, ...]:
    order = np.argsort(shares, kind="stable")[:MOST_ROWS]
    single = answers.values.ndim == 2
    found = []
    for row in order[shares[order] < 1]:
        votes = Counter(answers.values[:, row].tolist()) if single else Counter[int]()
        ranked = sorted(votes.items(), key=lambda vote: (-vote[1], vote[0]))[:MOST_ANSWERS]
        label = int(answers.labels[row]) if single and answers.labels is not None else None
        share_right = None if right is None else float(right[:, row].mean())
        found.append(FlippingRow(int(row), float(shares[row]), tuple(ranked), label, share_right))
    return tuple(found)


def _tenths(shares: npt.NDArray[np.float64]) -> tuple[tuple[float, float, int], ...]:
    """Shares in tenths, from one half or below to one."""
    lowest = min(5, math.floor(10 * float(shares.min()) - 1e-9))
    return _histogram(shares, lowest / 10, 1.0, 10 - lowest)


def _histogram(
    values: npt.NDArray[np.float64], low: float, high: float, bars: int
) -> tuple[tuple[float, float, int], ...]:
    """Rows in bars of one width, each with its upper end."""
    if not low < high:
        return ((low, high, len(values)),)
    edges = np.linspace(low, high, bars + 1)
    # Shares such as 7/10 and the edges carry rounding of their own.
    places = np.searchsorted(edges[1:-1], values - 1e-9, side="left")
    counts = np.bincount(places, minlength=bars)
    return tuple(
        (float(a), float(b), int(count))
        for a, b, count in zip(edges[:-1], edges[1:], counts, strict=True)
    )


def _record(one: RecipeAgreement, part: Part) -> Record:
    record: Record = {
        "recipe": one.recipe,
        "part": part,
        "runs": one.runs,
        "rows": one.rows,
        "failed": one.failed,
        "left_out": one.left_out,
    }
    if one.classes:
        record |= {
            "unanimous": one.classes.unanimous,
            "pairwise": one.classes.pairwise,
            "fleiss_kappa": one.classes.fleiss_kappa,
            "cohen_kappa": one.classes.cohen_kappa,
            "mean_right": one.mean_right,
            "vote_right": one.vote_right,
        }
    if one.numbers:
        record |= {
            "correlation": one.numbers.correlation,
            "spread": one.numbers.spread,
            "relative_spread": one.numbers.relative_spread,
        }
    return record
