"""How does a synthesis look on a terminal? What was kept, why not more, and how varied it is."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hf_stabilizer.synthesis.synthesizing import Synthesis, SynthesisPlan


def print_synthesis(done: Synthesis, console: Console) -> None:
    """Prints the counts, the measures beside those of real rows, and where the rows lie."""
    left = ", ".join(f"{reason}: {count}" for reason, count in sorted(done.reasons.items()))
    said = f"{done.kept} rows kept of {done.asked} candidates"
    console.print(f"{said} ({left})" if left else said, markup=False, highlight=False)
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
