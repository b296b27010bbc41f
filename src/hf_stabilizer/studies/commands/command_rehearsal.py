"""What would a study of a command line do? Its lines as they would be run, and how many of them.

Imports no torch.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from hf_stabilizer.studies.commands.command_question import (
    RECIPE,
    ask,
    checked_workers,
    refuse_stopping,
)
from hf_stabilizer.studies.rehearsed import RehearsedRecipe, RehearsedStudy
from hf_stabilizer.studies.seeds.seed_grid import SeedGrid


def rehearse_command_study(
    command: str,
    *,
    recipes: Sequence[str] = (RECIPE,),
    runs: int | None = None,
    output_dir: str | Path,
    metric: str | None = None,
    workers: int | None = None,
    executor: str = "local",
    first_seed: int = 1,
    head_seeds: int | Sequence[int] | None = None,
    data_seeds: int | Sequence[int] | None = None,
    dropout_seeds: int | Sequence[int] | None = None,
    retry_failed: bool = False,
    stop_at: float | None = None,
) -> RehearsedStudy:
    """Says what `run_command_study` with the same arguments would do; nothing is run or written.

    What a run takes is not known before the script has run, so time and disk are left open.

    Raises:
        ConfigurationError: What `run_command_study` would raise before its first run.
        StudyError: The folder holds something else.
    """
    refuse_stopping(stop_at, None)
    grid: SeedGrid = {
        "head_seeds": head_seeds,
        "data_seeds": data_seeds,
        "dropout_seeds": dropout_seeds,
    }
    side_by_side = checked_workers(workers)
    asked, jobs = ask(command, recipes, Path(output_dir), runs, first_seed, grid, "")
    first = {job.recipe: shlex.join(job.words) for job in reversed(jobs)}
    return RehearsedStudy(
        output_dir=str(output_dir),
        metric=metric or asked.metric,
        greater_is_better=asked.greater_is_better,
        recipes=tuple(RehearsedRecipe(name, command=first[name]) for name in asked.recipes),
        seeds=tuple(job.seeds for job in jobs if job.recipe == asked.recipes[0]),
        there=sum(job.is_over(retry_failed) for job in jobs),
        executor=executor,
        workers=side_by_side if executor == "local" else None,
    )
