"""How does a study look on a terminal? The verdict and one line for each recipe."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.fitted_table import fitted_table
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.verdict import scored_rows, study_decimals, verdict

COLUMNS = ("recipe", "runs", "mean", "std", "median", "worst", "failed", "time per run")
SPARE = ("median", "time per run", "worst", "runs")


def print_study(study: Study, console: Console) -> None:
    """Prints the verdict and a table with mean, std, worst and failed runs per recipe."""
    decimals = study_decimals(study)
    direction = "greater" if study.greater_is_better else "smaller"
    title = f"{study.metric} on {scored_rows(study)} rows, {direction} is better"
    rows = [
        [
            row.recipe,
            str(row.runs),
            *(formats.number(s, decimals) for s in (row.mean, row.std, row.median, row.worst)),
            f"{row.failed} of {row.ended}" if row.stopped else str(row.failed),
            formats.duration(row.seconds) if row.seconds else formats.NOTHING,
        ]
        for row in study.summary()
    ]
    console.print()
    console.print(
        fitted_table(title, COLUMNS, rows, width=console.width, names=COLUMNS[:1], spare=SPARE)
    )
    console.print(Padding(Text(verdict(study)), (1, 0, 0, 0)))
