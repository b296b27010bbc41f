"""How does a report of the rows look on a terminal? One table, and examples below it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hf_stabilizer.data_quality.report import DataReport


def print_report(report: DataReport, console: Console) -> None:
    """Prints what was found: a line for each finding, then its examples and remedy."""
    rows = ", ".join(f"{count} {split}" for split, count in report.rows.items())
    console.print(Text(f"{report.source}: {rows.replace(' rows', '')} rows"))
    for unit, lengths in report.lengths.items():
        said = ", ".join(f"{name} {value:g}" for name, value in lengths.items())
        console.print(Text(f"  {unit}: {said}", style="dim"))
    for split, classes in report.labels.items():
        said = ", ".join(f"{name} {count}" for name, count in list(classes.items())[:8])
        more = f", and {len(classes) - 8} more" if len(classes) > 8 else ""
        if classes:
            console.print(Text(f"  classes in {split}: {said}{more}", style="dim"))
    if report.findings:
        console.print()
        console.print(_table(report))
        _print_examples(report, console)
    else:
        console.print(Text("\nNothing was found.", style="green"))
    for note in report.notes:
        console.print(Text(f"note: {note}", style="dim"))


def _table(report: DataReport) -> Table:
    table = Table()
    table.add_column("finding", no_wrap=True)
    table.add_column("where", no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("what it is")
    for finding in report.findings:
        table.add_row(
            Text(finding.kind), Text(finding.split), str(finding.count), Text(finding.message)
        )
    return table


def _print_examples(report: DataReport, console: Console) -> None:
    for finding in report.findings:
        console.print()
        console.print(Text(f"{finding.kind} in {finding.split}", style="bold"))
        for example in finding.examples:
            where = ", ".join(example.rows)
            note = f" ({example.note})" if example.note else ""
            said = f"  {where}{': ' if where else ''}{example.text}{note}"
            console.print(Text(said), soft_wrap=True)
        console.print(Text(f"  remedy: {finding.remedy}", style="cyan"), soft_wrap=True)
