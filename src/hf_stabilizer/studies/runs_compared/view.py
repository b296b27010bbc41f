"""How do compared runs look on a terminal? What differs, beside the score, and one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

from rich.console import Console

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.fitted_table import EDGE, fitted_table
from hf_stabilizer.studies.runs_compared.comparing import DEFAULT, NAMES, Effect, RunComparison

WIDEST = 28
COLUMNS = 5
"""Settings that stand in columns of their own; more are told in one."""
SCORES = 30
"""Characters that the columns of the scores take."""


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


def shown_apart(values: Sequence[str]) -> list[str]:
    """Returns values short enough for a column, and none alike that are not.

    Example:
        >>> shown_apart(["a/rows/fold1/train.csv", "b/rows/fold1/train.csv", "a/rows/x.csv"])
        ['a/rows/fold1/train.csv', 'b/rows/fold1/train.csv', 'a/rows/x.csv']
        >>> shown_apart(["a/rows/fold1/train.csv", "a/rows/fold2/train.csv"])
        ['fold1/train.csv', 'fold2/train.csv']
    """
    short = [shown(value) for value in values]
    return short if len(set(short)) == len(set(values)) else list(values)


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


def values_of(effects: Sequence[Effect]) -> list[str]:
    """Returns the values of a factor, each in one text, and none alike."""
    texts = [value_of(one.value) for one in effects]
    if len(set(texts)) == len(texts):
        return texts
    columns = [shown_apart(column) for column in zip(*(one.value for one in effects), strict=True)]
    return [", ".join(row) for row in zip(*columns, strict=True)]


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
    rows = _words(found)
    if len(found.differing) <= COLUMNS:
        return list(found.differing), rows
    return [*names, "settings"], [
        [*_named(found, row), settings_text(found.differing, row)] for row in rows
    ]


def _words(found: RunComparison) -> list[list[str]]:
    """Returns for each group the value of each differing setting, in short."""
    columns = [shown_apart(c) for c in zip(*(g.values for g in found.groups), strict=True)]
    return [[column[place] for column in columns] for place in range(len(found.groups))]


def _named(found: RunComparison, row: Sequence[str]) -> list[str]:
    """Returns those values that are names of what was done."""
    return [text for name, text in zip(found.differing, row, strict=True) if name in NAMES]


def _print_groups(found: RunComparison, decimals: int, console: Console) -> None:
    direction = "greater" if found.greater_is_better else "smaller"
    title = f"{len(found.runs)} runs by {found.metric}, {direction} is better; {found.scored_on}"
    heads, rows = heads_and_cells(found)
    legend = _legend(found) if _is_crowded(heads, rows, console.width) else []
    if legend:
        heads = ["group", *(name for name in heads if name in NAMES)]
        numbered = enumerate(_words(found), start=1)
        rows = [[str(place), *_named(found, row)] for place, row in numbered]
    scored = [
        [
            *cells,
            str(len(group.runs)),
            formats.number(group.mean, decimals),
            formats.number(group.std, decimals),
        ]
        for group, cells in zip(found.groups, rows, strict=True)
    ]
    columns = [*heads, "runs", "mean", "std"]
    console.print(fitted_table(title, columns, scored, width=console.width, names=heads))
    for line in legend:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _is_crowded(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> bool:
    """Whether settings would be folded where they can be told below instead."""
    columns = [[head, *(row[place] for row in rows)] for place, head in enumerate(heads)]
    needed = sum(max(map(len, column)) + EDGE for column in columns)
    return needed + SCORES > width and any(head not in NAMES for head in heads)


def _legend(found: RunComparison) -> list[str]:
    """Returns what most runs have set, and for each group where it differs, a line each."""
    rows = _words(found)
    each = [row for row, group in zip(rows, found.groups, strict=True) for _ in group.runs]
    usual = [Counter(column).most_common(1)[0][0] for column in zip(*each, strict=True)]
    most = settings_text(found.differing, usual) or "all as by default"
    lines = [f"all, unless said otherwise: {most}"]
    for place, row in enumerate(rows, start=1):
        told = [
            f"{name}={text}"
            for name, text, common in zip(found.differing, row, usual, strict=True)
            if text != common and name not in NAMES
        ]
        lines += [f"group {place}: {', '.join(told)}"] if told else []
    return lines


def _print_effects(effects: Sequence[Effect], decimals: int, console: Console) -> None:
    title = (
        f"{name_of(effects[0].factor)} against the score; matched: beside runs with "
        f"{values_of(effects)[0]}"
    )
    heads = ("value", "runs", "mean", "matched", "p")
    rows = []
    for one, value in zip(effects, values_of(effects), strict=True):
        matched = formats.NOTHING
        if one.mean_difference is not None:
            change = formats.number(one.mean_difference, decimals, signed=True)
            matched = f"{change} over {len(one.differences)}"
        p = formats.p_value(one.p_value).removeprefix("p = ")
        mean = formats.number(one.mean, decimals)
        rows.append([value, str(len(one.scores)), mean, matched, p])
    console.print()
    console.print(fitted_table(title, heads, rows, width=console.width, names=heads[:1]))
