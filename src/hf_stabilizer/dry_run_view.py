"""How does a dry run look to a person? Findings, layers, schedule and cost, one under the other."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hf_stabilizer.dry_run import Cost, DryRun
from hf_stabilizer.layer_view import LayerRow
from hf_stabilizer.silent_mistakes import Finding

STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def print_dry_run(dry_run: DryRun, console: Console) -> None:
    """Prints what a run would do; what is not known because it would fail is left out."""
    _print_findings(dry_run.findings, console)
    if dry_run.layers:
        console.print(_layer_table(dry_run.layers))
    for sentence in dry_run.schedule:
        console.print(sentence, highlight=False, markup=False)
    if dry_run.cost is not None:
        for sentence in _cost_sentences(dry_run.cost, dry_run.steps):
            console.print(sentence, highlight=False, markup=False)


def _print_findings(findings: Iterable[Finding], console: Console) -> None:
    findings = list(findings)
    for finding in findings:
        style = STYLES[finding.severity]
        console.print(
            f"[{style}]{finding.severity}[/] {finding.code}: {escape(str(finding))}",
            highlight=False,
        )
    if not findings:
        console.print("Nothing was found that would go wrong.", highlight=False)


def _layer_table(rows: Iterable[LayerRow]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("layer", "parameters", "rate", ""):
        table.add_column(name, justify="left" if name in ("layer", "") else "right")
    for row in rows:
        rate = "-" if row.rate is None else f"{row.rate:.4g}"
        table.add_row(row.label, f"{row.parameters:,}", rate, row.fate)
    return table


def _cost_sentences(cost: Cost, steps: int) -> list[str]:
    averaging = f", averages {_size(cost.averaging)}" if cost.averaging else ""
    return [
        f"Time on this machine: about {_duration(cost.seconds)} "
        f"({steps} steps of {cost.seconds_per_step:.3g} s, and the evaluations).",
        f"Disk: {_size(cost.checkpoint)} for a checkpoint, {_size(cost.disk)} at the most.",
        f"Memory beside activations: weights {_size(cost.weights)}, gradients as much at the most, "
        f"optimizer {_size(cost.optimizer)}{averaging}.",
    ]


def _size(count: int) -> str:
    """Bytes in the largest unit that leaves a number above 1."""
    number, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 1000:
            break
        number, unit = number / 1000, larger
    return f"{number:.3g} {unit}" if number < 1000 else f"{number:.0f} {unit}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
