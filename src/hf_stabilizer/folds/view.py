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
from hf_stabilizer.studies.fitted_table import fitted_table

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
    columns = ["fold", "rows", "learnt from", *metrics]
    rows = []
    decimals = {m: formats.decimals_for(fold.scores[m] for fold in found.folds) for m in metrics}

    def line(scores: Scores) -> list[str]:
        return [formats.number(scores[m], decimals[m]) for m in metrics]

    for fold in found.folds:
        rows.append([fold.name, str(fold.rows), str(fold.train_rows), *line(fold.scores)])
    rows.append(["mean", "", "", *line({m: found.mean(m) for m in metrics})])
    rows.append(["std over folds", "", "", *line({m: found.std(m) for m in metrics})])
    total = str(sum(fold.rows for fold in found.folds))
    for seed, scores in found.pooled_by_seed.items():
        if len(found.pooled_by_seed) > 1:
            rows.append([f"pooled, seed {seed}", total, "", *line(scores)])
    several = any(len(fold.by_seed) > 1 for fold in found.folds)
    pooled = "pooled, runs averaged" if several else "pooled"
    rows.append([pooled, total, "", *line(found.pooled)])
    spare = ("learnt from", *(m for m in reversed(metrics) if m != found.metric))
    console.print(_table(title, columns, rows, console, spare=spare, rule=len(found.folds) - 1))
    _print_lines(_sentences(found, decimals[found.metric]), console)


def _sentences(found: CrossValidation, decimals: int) -> list[str]:
    said = (seed_sentence(found, decimals), sentence_on_test_rows(found, decimals))
    return [*filter(None, said), *(f"Note: {note}." for note in found.notes)]


def seed_sentence(found: CrossValidation, decimals: int) -> str:
    """Returns what a single model varies by, empty where there is one seed."""
    seeds = [scores[found.metric] for scores in found.pooled_by_seed.values()]
    if len(seeds) < 2:
        return ""
    spread = formats.number(statistics.stdev(seeds), decimals)
    return (
        f"With one run per fold the pooled {found.metric} is "
        f"{formats.number(statistics.fmean(seeds), decimals)} on average over {len(seeds)} "
        f"seeds, with a standard deviation of {spread}."
    )


def sentence_on_test_rows(found: CrossValidation, decimals: int) -> str:
    """Returns what all models together score on the test rows, empty where there are none."""
    if found.test is None:
        return ""
    single = list(found.test.single.values())
    best = (max if found.greater_is_better else min)(single)
    return (
        f"Test rows ({found.test.rows}): the mean of {len(single)} models scores "
        f"{formats.number(found.test.averaged[found.metric], decimals)} {found.metric}; by "
        f"themselves they score {formats.number(statistics.fmean(single), decimals)} on "
        f"average, the best of them {formats.number(best, decimals)} (known only afterwards)."
    )


def print_fold_plan(plan: FoldPlan, console: Console, cost: Mapping[str, Any] | None) -> None:
    """Prints how the rows would be divided, and what the runs would cost."""
    records = plan.to_records()
    sizes = plan.sizes
    labels = list(dict.fromkeys(name for size in sizes for name in size.labels))[:8]
    groups = [] if plan.pool.groups is None else ["groups"]
    title = f"{records['rows']} rows in {len(sizes)} folds; {CHOSEN[plan.choose_on]}"
    columns = ["fold", "rows", "training rows", *groups, *labels]
    rows = []
    for size in sizes:
        shares = [_share(size.labels.get(name, 0), size.rows) for name in labels]
        held = [str(size.groups)] if groups else []
        rows.append([size.name, str(size.rows), str(size.train_rows), *held, *shares])
    console.print(_table(title, columns, rows, console, spare=labels[::-1]))
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


def _table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    console: Console,
    *,
    spare: Sequence[str],
    rule: int = -1,
) -> Table:
    return fitted_table(
        title,
        columns,
        rows,
        width=console.width,
        names=columns[:1],
        spare=spare,
        sections=[rule],
    )


def _print_lines(lines: Sequence[str], console: Console) -> None:
    for line in lines:
        console.print(Padding(Text(line), (1 if line is lines[0] else 0, 0, 0, 0)))
