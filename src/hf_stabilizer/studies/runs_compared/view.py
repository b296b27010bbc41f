"""How do compared runs look on a terminal? What differs, beside the score, and one by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.runs_compared.comparing import DEFAULT, NAMES, Effect, RunComparison

WIDEST = 28
COLUMNS = 5
"""Settings that stand in columns of their own; more are told in one."""


def print_comparison(found: RunComparison, console: Console) -> None:
    """Prints a table of all groups, one table per factor, and what was left out."""
    decimals = formats.decimals_for(run.score for run in found.runs)
    _print_groups(found, decimals, console)
    for factor in found.factors:
        _print_effects(found.effects(factor), decimals, console)
    for sentence in found.cautions:
        console.print(f"Note: {sentence}", markup=False, highlight=False, soft_wrap=True)
    for sentence in found.left_out:
        console.print(f"left out: {sentence}", markup=False, highlight=False, soft_wrap=True)


def shown(value: str) -> str:
    """Returns a value short enough for a column: of a path its end.

    Example:
        >>> shown("results/fold-1/train.parquet"), shown("2e-05")
        ('fold-1/train.parquet', '2e-05')
    """
    parts = PurePath(value).parts
    short = "/".join(parts[-2:]) if len(parts) > 2 and not value.startswith(("[", "{")) else value
    return short if len(short) <= WIDEST else f"{short[: WIDEST - 3]}..."


def name_of(factor: Sequence[str]) -> str:
    """Returns the name of a factor."""
    return " + ".join(factor)


def value_of(values: Sequence[str]) -> str:
    """Returns the values of a factor's settings in one text.

    Example:
        >>> value_of(["swa", "0.5"]), value_of(["(default)", "(default)"])
        ('swa, 0.5', '(default)')
    """
    if all(value == DEFAULT for value in values):
        return DEFAULT
    return ", ".join(map(shown, values))


def settings_text(names: Sequence[str], values: Sequence[str]) -> str:
    """Returns what was set, defaults left out.

    Example:
        >>> settings_text(["averaging", "max_steps"], ["swa", "(default)"])
        'averaging=swa'
    """
    told = zip(names, values, strict=True)
    return ", ".join(f"{k}={shown(v)}" for k, v in told if v != DEFAULT and k not in NAMES)


def heads_and_cells(found: RunComparison) -> tuple[list[str], list[list[str]]]:
    """Returns the columns that tell groups apart, and a row for each: few settings as columns."""
    names = [name for name in found.differing if name in NAMES]
    if len(found.differing) <= COLUMNS:
        return list(found.differing), [list(map(shown, group.values)) for group in found.groups]
    rows = []
    for group in found.groups:
        told = dict(zip(found.differing, group.values, strict=True))
        text = settings_text(found.differing, group.values)
        rows.append([*(shown(told[name]) for name in names), text])
    return [*names, "settings"], rows


def _print_groups(found: RunComparison, decimals: int, console: Console) -> None:
    direction = "greater" if found.greater_is_better else "smaller"
    title = f"{len(found.runs)} runs by {found.metric}, {direction} is better"
    table = Table(title=title, title_justify="left", title_style="")
    heads, rows = heads_and_cells(found)
    for name in heads:
        table.add_column(name, overflow="fold")
    for name in ("runs", "mean", "std"):
        table.add_column(name, justify="right", no_wrap=True)
    for group, cells in zip(found.groups, rows, strict=True):
        table.add_row(
            *map(escape, cells),
            str(len(group.runs)),
            formats.number(group.mean, decimals),
            formats.number(group.std, decimals),
        )
    console.print(table)


def _print_effects(effects: Sequence[Effect], decimals: int, console: Console) -> None:
    title = f"{name_of(effects[0].factor)} against the score"
    table = Table(title=title, title_justify="left", title_style="")
    heads = ("value", "runs", "mean", f"matched, against {value_of(effects[0].value)}", "p")
    for name in heads:
        table.add_column(escape(name), justify="left" if name == "value" else "right")
    for one in effects:
        matched = formats.NOTHING
        if one.mean_difference is not None:
            change = formats.number(one.mean_difference, decimals, signed=True)
            matched = f"{change} over {len(one.differences)}"
        p = formats.p_value(one.p_value).removeprefix("p = ")
        value = escape(value_of(one.value))
        table.add_row(value, str(len(one.scores)), formats.number(one.mean, decimals), matched, p)
    console.print()
    console.print(table)
