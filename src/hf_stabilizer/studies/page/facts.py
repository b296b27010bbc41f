"""Which few numbers stand large under the verdict of the report?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.comparison import Comparison
from hf_stabilizer.studies.statistics import RecipeSummary, cost, spent
from hf_stabilizer.studies.verdict import focus, study_decimals, times

if TYPE_CHECKING:
    from hf_stabilizer.studies.study import Study

ARROW = " \N{RIGHTWARDS ARROW} "
TIMES = "\N{MULTIPLICATION SIGN}"
FORMULA = "t f + p (1 \N{MINUS SIGN} f)".replace(" ", "\N{NO-BREAK SPACE}")


@dataclass(frozen=True)
class Fact:
    """One of the few numbers that stand large under the verdict."""

    question: str
    """What it answers."""
    answer: str
    """The number."""
    note: str
    """What stands behind it."""


def facts_of(
    study: Study, rows: Sequence[RecipeSummary], found: Sequence[Comparison]
) -> list[Fact]:
    """Returns by how much, how sure, how steady, how many failed and at which cost.

    Args:
        study: The study.
        rows: The summaries of its recipes.
        found: The comparisons of its recipes with the first; empty where there is only one.
    """
    decimals = study_decimals(study)
    failed = sum(row.failed for row in rows)
    ended = sum(row.ended for row in rows)
    tail = [Fact("Failed runs", f"{failed} of {ended}", _failed_note(rows))]
    saved = early_stopping_fact(study)
    tail += [saved] if saved else []
    seconds = {row.recipe: row.seconds for row in rows}
    total = formats.duration(sum(run.seconds for run in study.runs))
    if not found:
        alone = rows if len(rows) == 1 else ()
        return [*_facts_of_one(alone, study.metric, decimals), *tail, Fact("Cost", total, "in all")]
    chosen = focus(found)
    before, after = seconds[chosen.baseline], seconds[chosen.candidate]
    ratio = f"{times(after / before)} {TIMES}" if before and after else "-"
    note = f"{formats.duration(before)}{ARROW}{formats.duration(after)} a run"
    price = Fact("At which cost", ratio, f"{note}, {total} in all")
    return [*_facts_of_pair(chosen, study.metric, decimals), *tail, price]


def early_stopping_fact(study: Study) -> Fact | None:
    """Returns what stopping early has saved, None for a study that ran all to the end.

    Example:
        >>> from hf_stabilizer import Run, Study
        >>> runs = [Run("a", {"seed": 1}, "finished", steps=40)]
        >>> runs += [Run("a", {"seed": seed}, "stopped", steps=10) for seed in (2, 3, 4)]
        >>> study = Study("demo", ("a",), tuple(runs), "f1", True, stop_at=0.25, keep=1)
        >>> fact = early_stopping_fact(study)
        >>> fact.answer
        '56 %'
        >>> fact.note.partition(";")[0]
        'of the steps: 1.75 full runs paid, not 4'
    """
    if study.stop_at is None or study.keep is None or not study.runs:
        return None
    of_each = (study.of(recipe) for recipe in study.recipes)
    used = [spent(runs, stop_at=study.stop_at) for runs in of_each if runs]
    paid, asked = sum(one.full_runs for one in used), len(study.runs)
    started = len(study.seeds) or max(len(study.of(recipe)) for recipe in study.recipes)
    each = " a recipe" if len(study.recipes) > 1 else ""
    kept = min(study.keep, started)
    plan = (
        f"{FORMULA} = {started} {TIMES} {study.stop_at:g} + {kept} {TIMES} "
        f"{1 - study.stop_at:.4g} = {cost(started, study.stop_at, kept):.4g}{each}"
    ).replace(f" {TIMES} ", f"\N{NO-BREAK SPACE}{TIMES}\N{NO-BREAK SPACE}")
    return Fact(
        "Saved by stopping early",
        f"{100 * (1 - paid / asked):.0f} %",
        f"of the steps: {paid:.4g} full runs paid, not {asked}; by plan {plan}",
    )


def _facts_of_one(rows: Sequence[RecipeSummary], metric: str, decimals: int) -> list[Fact]:
    return [
        fact
        for row in rows
        for fact in (
            Fact(
                "Mean",
                formats.number(row.mean, decimals),
                f"{metric}, {formats.counted(row.scored, 'run')}",
            ),
            Fact("Spread", formats.number(row.std, decimals), "standard deviation"),
            Fact("Worst run", formats.number(row.worst, decimals), metric),
        )
    ]


def _facts_of_pair(chosen: Comparison, metric: str, decimals: int) -> list[Fact]:
    ends = [formats.number(end, decimals, signed=True) for end in chosen.interval or ()]
    sure = f"95 % interval {' to '.join(ends)}" if ends else _no_interval(chosen)
    spread = [formats.number(s, decimals) for s in (chosen.baseline_std, chosen.candidate_std)]
    return [
        Fact(
            "By how much",
            formats.number(chosen.mean_difference, decimals, signed=True),
            f"{metric}, {chosen.baseline}{ARROW}{chosen.candidate}",
        ),
        Fact("How sure", formats.p_value(chosen.p_value), f"{sure}, {chosen.held}"),
        Fact(
            "Spread",
            ARROW.join(spread) if chosen.candidate_std is not None else formats.NOTHING,
            "standard deviation"
            + (f", {formats.p_value(chosen.spread_p)}" if chosen.spread_p is not None else ""),
        ),
    ]


def _no_interval(chosen: Comparison) -> str:
    if chosen.unpaired:
        return "no 95 % interval: too few runs"
    return f"no 95 % interval: under six {'pairs' if chosen.grid is None else 'independent units'}"


def _failed_note(rows: Sequence[RecipeSummary]) -> str:
    counts = [f"{row.recipe} {row.failed}" for row in rows if row.failed]
    stopped, lost = sum(row.stopped for row in rows), sum(row.lost_when_stopped for row in rows)
    if not stopped:
        none = "every run ended well" if any(row.runs for row in rows) else "no run is over"
        return ", ".join(counts) or none
    had = f", {lost} of them collapsed by then" if lost else ""
    counts = counts or ["every run that went on ended well"]
    return ", ".join([*counts, f"{stopped} stopped early do not count{had}"])
