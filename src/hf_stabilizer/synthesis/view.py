"""How does a synthesis look on a terminal? What was kept, why not more, and how varied it is."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hf_stabilizer.synthesis.synthesizing import Synthesis, SynthesisPlan

_SHOWN = 3  # Reasons of refusals that are told.


def print_synthesis(done: Synthesis, console: Console) -> None:
    """Prints the counts, the measures beside those of real rows, and where the rows lie."""
    left = ", ".join(f"{reason}: {count}" for reason, count in sorted(done.reasons.items()))
    said = f"{done.kept} rows kept of {done.asked} candidates"
    console.print(f"{said} ({left})" if left else said, markup=False, highlight=False)
    for line in _refusals(done):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    quality = done.quality
    table = Table(title="written rows beside real ones", title_justify="left", title_style="")
    for name in ("", "real", "written"):
        table.add_column(name, justify="right" if name else "left")
    table.add_row(
        "different word pairs", f"{quality.real_distinct:.2f}", f"{quality.written_distinct:.2f}"
    )
    table.add_row("words per row", f"{quality.real_words:.1f}", f"{quality.written_words:.1f}")
    for label, share in quality.real_shares.items():
        written = quality.written_shares[label]
        table.add_row(escape(f"share of {label}"), f"{share:.2f}", f"{written:.2f}")
    console.print(table)
    console.print(f"recipes: {done.control}, {done.recipe}", markup=False, soft_wrap=True)


def _refusals(done: Synthesis) -> Iterator[str]:
    often = sorted(done.refusals.items(), key=lambda one: -one[1])
    for why, count in often[:_SHOWN]:
        yield f"  {count} refused: {why}"
    if done.refusals:
        others = len(often) - _SHOWN
        more = f"{others} more reasons stand in {done.folder / 'candidates.jsonl'}; "
        yield f"  {more if others > 0 else ''}--retry-refused asks these questions again"


def print_plan(plan: SynthesisPlan, console: Console) -> None:
    """Prints what would be asked, the first question word for word."""
    console.print(
        f"{plan.rows} rows from {plan.train_rows} training rows: at most {plan.most_questions} "
        "questions; nothing is asked or written. The first one:",
        markup=False,
        highlight=False,
    )
    for message in plan.first.messages:
        console.print(f"\n[{message['role']}]\n{message['content']}", markup=False, highlight=False)
