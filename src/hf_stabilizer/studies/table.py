"""How does a study look on a terminal? The verdict and one line for each recipe."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.verdict import scored_rows, study_decimals, verdict


def print_study(study: Study, console: Console) -> None:
    """Prints the verdict and a table with mean, std, worst and failed runs per recipe."""
    decimals = study_decimals(study)
    direction = "greater" if study.greater_is_better else "smaller"
    title = f"{study.metric} on {scored_rows(study)} rows, {direction} is better"
    table = Table(title=title, title_justify="left", title_style="")
    for name in ("recipe", "runs", "mean", "std", "median", "worst", "failed", "time per run"):
        table.add_column(name, justify="left" if name == "recipe" else "right", no_wrap=True)
    for row in study.summary():
        scores = [row.mean, row.std, row.median, row.worst]
        table.add_row(
            row.recipe,
            str(row.runs),
            *(formats.number(score, decimals) for score in scores),
            str(row.failed),
            formats.duration(row.seconds) if row.seconds else formats.NOTHING,
        )
    console.print()
    console.print(table)
    console.print(Padding(Text(verdict(study)), (1, 0, 0, 0)))
