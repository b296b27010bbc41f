"""How does a cross-validation look on a terminal? One line per fold, then mean, spread, pooled."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hf_stabilizer.folds.record import CrossValidation, Scores
from hf_stabilizer.studies import formats

if TYPE_CHECKING:
    from hf_stabilizer.folds.planning import FoldPlan

# Any in this module: what a plan says in plain values.
CHOSEN = {
    "nothing": "the last weights, chosen by nothing",
    "inner": "weights chosen on rows taken from the training rows of each fold",
    "fold": "weights chosen on the very rows that score: optimistic",
}


def print_cross_validation(found: CrossValidation, console: Console) -> None:
    """Prints the scores of each fold and of all out-of-fold rows, and what to keep in mind."""
    metrics = list(found.pooled)
    direction = "greater" if found.greater_is_better else "smaller"
    title = f"{found.metric} decides, {direction} is better; {CHOSEN[found.choose_on]}"
    table = _table(title, ["fold", "rows", "learnt from", *metrics])
    decimals = {m: formats.decimals_for(fold.scores[m] for fold in found.folds) for m in metrics}

    def line(scores: Scores) -> list[str]:
        return [formats.number(scores[m], decimals[m]) for m in metrics]

    for fold in found.folds:
        table.add_row(fold.name, str(fold.rows), str(fold.train_rows), *line(fold.scores))
    table.add_section()
    table.add_row("mean", "", "", *line({m: found.mean(m) for m in metrics}))
    table.add_row("std over folds", "", "", *line({m: found.std(m) for m in metrics}))
    total = str(sum(fold.rows for fold in found.folds))
    for seed, scores in found.pooled_by_seed.items():
        if len(found.pooled_by_seed) > 1:
            table.add_row(f"pooled, seed {seed}", total, "", *line(scores))
    several = any(len(fold.by_seed) > 1 for fold in found.folds)
    table.add_row("pooled, runs averaged" if several else "pooled", total, "", *line(found.pooled))
    console.print(table)
    _print_lines(_sentences(found, decimals[found.metric]), console)


def _sentences(found: CrossValidation, decimals: int) -> list[str]:
    sentences = []
    seeds = [scores[found.metric] for scores in found.pooled_by_seed.values()]
    if len(seeds) > 1:
        spread = formats.number(statistics.stdev(seeds), decimals)
        sentences.append(
            f"With one run per fold the pooled {found.metric} is "
            f"{formats.number(statistics.fmean(seeds), decimals)} on average over {len(seeds)} "
            f"seeds, with a standard deviation of {spread}."
        )
    if found.test is not None:
        single = list(found.test.single.values())
        best = (max if found.greater_is_better else min)(single)
        sentences.append(
            f"Test rows ({found.test.rows}): the mean of {len(single)} models scores "
            f"{formats.number(found.test.averaged[found.metric], decimals)} {found.metric}; by "
            f"themselves they score {formats.number(statistics.fmean(single), decimals)} on "
            f"average, the best of them {formats.number(best, decimals)} (known only afterwards)."
        )
    return [*sentences, *(f"Note: {note}." for note in found.notes)]


def print_fold_plan(plan: FoldPlan, console: Console, cost: Mapping[str, Any] | None) -> None:
    """Prints how the rows would be divided, and what the runs would cost."""
    records = plan.to_records()
    sizes = plan.sizes
    labels = list(dict.fromkeys(name for size in sizes for name in size.labels))[:8]
    groups = [] if plan.pool.groups is None else ["groups"]
    title = f"{records['rows']} rows in {len(sizes)} folds; {CHOSEN[plan.choose_on]}"
    table = _table(title, ["fold", "rows", "training rows", *groups, *labels])
    for size in sizes:
        shares = [_share(size.labels.get(name, 0), size.rows) for name in labels]
        held = [str(size.groups)] if groups else []
        table.add_row(size.name, str(size.rows), str(size.train_rows), *held, *shares)
    console.print(table)
    lines = [f"{records['runs']} runs, {plan.runs} for each fold; {records['test_rows']} test rows"]
    if cost is not None:
        lines.append(
            f"{cost['steps']} steps a run, about {formats.duration(cost['seconds'])} a run and "
            f"{formats.duration(cost['seconds'] * records['runs'])} for all, one after the other"
        )
    _print_lines(
        [*(f"{line}." for line in lines), *(f"Note: {n}." for n in (*plan.cautions, *plan.notes))],
        console,
    )


def _share(count: int, rows: int) -> str:
    return f"{count} ({100 * count / rows:.0f} %)"


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="")
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    return table


def _print_lines(lines: Sequence[str], console: Console) -> None:
    for line in lines:
        console.print(Padding(Text(line), (1 if line is lines[0] else 0, 0, 0, 0)))
