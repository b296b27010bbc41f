"""How does a plan look on a terminal? The advice, and three small tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.plans.study_plan import StudyPlan, advice, cautions, flags, percent
from hf_stabilizer.studies.statistics import EarlyRank, Interval, Option

MOST_RANKS = 10
"""Fractions whose ranking is shown; the page shows all."""


def print_plan(found: StudyPlan, console: Console) -> None:
    """Prints the advice, its cautions, and what it was chosen from."""
    console.print()
    console.print(Text(advice(found)))
    for caution in cautions(found):
        console.print(Padding(Text(f"Caution: {caution}"), (0, 0, 0, 2)))
    console.print(
        Padding(
            Text(f"hf-stabilizer study CONFIG {flags(found.plan.recommended.settings)}"),
            (1, 0, 1, 2),
        )
    )
    console.print(_options(found))
    console.print(_budgets(found))
    console.print(_ranks(found))


def option_rows(found: StudyPlan) -> Iterator[tuple[str, Option]]:
    """Yields the options that are told apart: the best, that of the rule, and none stopped."""
    yield "best", found.plan.recommended
    if found.plan.dodge is not None:
        yield "dodge", found.plan.dodge
    yield "plain", found.plan.plain


def between(interval: Interval | None, decimals: int, *, signed: bool = False) -> str:
    """Returns an interval in words, a dash where there is none."""
    if interval is None:
        return formats.NOTHING
    return " to ".join(formats.number(end, decimals, signed=signed) for end in interval)


def shown_gain(option: Option, found: StudyPlan) -> tuple[float, Interval]:
    """Returns the change of the score and its interval, in units of the metric."""
    if found.greater_is_better:
        return option.gain, option.interval
    return -option.gain, Interval(-option.interval.high, -option.interval.low)


def _options(found: StudyPlan) -> Table:
    decimals = found.decimals
    counted = "test" if found.on_test else "validation"
    title = (
        f"{found.metric} on {counted} rows of the run that is chosen in the end, simulated from "
        f"{found.plan.runs} runs of {found.recipe}\n"
        "t runs go to the fraction f of their steps, the best p of them to the end"
    )
    heads = ("", "t", "f", "p", "expected (95 %)", "gain (95 %)")
    table = _table(title, heads)
    for name, option in option_rows(found):
        gain, interval = shown_gain(option, found)
        is_plain = option is found.plan.plain
        table.add_row(
            name,
            *_settings(option),
            f"{formats.number(option.expected, decimals)} "
            f"({between(option.expected_interval, decimals)})",
            ""
            if is_plain
            else f"{formats.number(gain, decimals, signed=True)} "
            f"({between(interval, decimals, signed=True)})",
        )
    return table


def _budgets(found: StudyPlan) -> Table:
    heads = ("B", "t", "f", "p", "expected", "plain", "error less (95 %)")
    table = _table("The best for other budgets of B full runs", heads)
    for plan in found.over_budgets:
        best = plan.recommended
        ends = best.error_interval
        table.add_row(
            f"{plan.budget:g}",
            *_settings(best),
            formats.number(best.expected, found.decimals),
            formats.number(plan.plain.expected, found.decimals),
            f"{percent(best.error_reduction)} ({' to '.join(map(percent, ends))})"
            if ends
            else formats.NOTHING,
        )
    return table


def _ranks(found: StudyPlan) -> Table:
    heads = ("fraction", "Spearman", "95 % interval", "Kendall")
    table = _table("Ranking of the runs at a fraction of training against that at the end", heads)
    for rank in _thinned(found.ranks):
        table.add_row(
            f"{rank.fraction:.3g}",
            formats.number(rank.spearman, 2),
            between(rank.interval, 2),
            formats.number(rank.kendall, 2),
        )
    return table


def _thinned(ranks: Sequence[EarlyRank]) -> list[EarlyRank]:
    every = -(-len(ranks) // MOST_RANKS)
    return list(ranks[::every])


def _settings(option: Option) -> tuple[str, str, str]:
    settings = option.settings
    if settings.stop_at == 1:
        return str(settings.runs), formats.NOTHING, formats.NOTHING
    return str(settings.runs), f"{settings.stop_at:.3g}", str(settings.keep)


def _table(title: str, heads: Sequence[str]) -> Table:
    table = Table(
        title=title,
        box=SIMPLE_HEAD,
        title_justify="left",
        title_style="",
        padding=(0, 1),
        pad_edge=False,
    )
    for place, name in enumerate(heads):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    return table
