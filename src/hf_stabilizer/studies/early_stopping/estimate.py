"""What will a study that stops early cost, and what has it cost? In full runs, time and disk.

    full runs per recipe = t f + p (1 - f)

Time and sizes come from a short probe in a worker, as the runs themselves execute there.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

from rich.console import Console

from hf_stabilizer.dry_run import Cost
from hf_stabilizer.errors import first_line
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.course import Job
from hf_stabilizer.studies.early_stopping.stopping import Stopping
from hf_stabilizer.studies.statistics import cost, spent
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.worker import probe


def announce(
    jobs: Sequence[Job], pool: Executor, stopping: Stopping, *, is_new: bool, console: Console
) -> None:
    """Says before the first run what the study will cost; a new one is probed."""
    recipes = {job.recipe: job.trainable for job in jobs}
    runs = len(jobs) // len(recipes)
    _say(describe_plan(len(recipes), runs, stopping), console)
    if not is_new:
        return
    costs: list[Cost] = []
    try:
        for trainable in recipes.values():
            costs += [found] if (found := pool.submit(probe, trainable).result()) else []
    except Exception as error:  # an estimate that fails is no reason not to run
        _say(f"The probe failed: {first_line(error)}", console)
        return
    workers = getattr(pool, "workers", 1)
    _say(describe_probe(costs, runs, stopping, workers=workers), console)


def conclude(study: Study, console: Console) -> None:
    """Says after the last run what the study has cost."""
    _say(describe_spent(study), console)


def _say(sentence: str, console: Console) -> None:
    console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def describe_plan(recipes: int, runs: int, stopping: Stopping) -> str:
    """Returns a sentence about what was asked for.

    Example:
        >>> describe_plan(1, 20, Stopping(0.25, 5))
        'Plan: 20 runs to 0.25 of their steps, the best 5 to the end: 8.75 full runs, not 20.'
        >>> describe_plan(1, 20, Stopping(0.25, 4, ("keep=4",)))[-33:]
        'Set by the rule of dodge: keep=4.'
    """
    each = "" if recipes == 1 else f" per recipe ({recipes} recipes)"
    full = cost(runs, stopping.stop_at, stopping.keep)
    said = (
        f"Plan: {runs} runs to {stopping.stop_at:g} of their steps, the best {stopping.keep} to "
        f"the end: {full:.4g} full runs{each}, not {runs}."
    )
    if not stopping.filled_in:
        return said
    return f"{said} Set by the rule of dodge: {', '.join(stopping.filled_in)}."


def describe_probe(costs: Sequence[Cost], runs: int, stopping: Stopping, *, workers: int) -> str:
    """Returns a sentence about time and disk.

    Args:
        costs: What a whole run of each recipe takes.
        runs: Runs per recipe.
        stopping: Where and how many are stopped.
        workers: Runs that are trained side by side.
    """
    full = cost(runs, stopping.stop_at, stopping.keep)
    seconds = sum(found.seconds for found in costs) * full / workers
    disk = sum(_disk(found, runs, workers) for found in costs)
    return (
        f"Probe: about {formats.duration(seconds)} in all with {workers} at a time, loading and "
        f"saving not counted; up to {_gigabytes(disk)} on disk."
    )


def _disk(found: Cost, runs: int, workers: int) -> int:
    """Bytes at the most: each run with its checkpoint and its best weights, and those under way."""
    best = found.weights + 2 * found.averaging
    halted = best + found.optimizer
    return runs * (halted + best) + workers * 2 * best + found.weights


def _gigabytes(count: int) -> str:
    if count < 1e9:
        return f"{max(1, round(count / 1e6))} MB"
    return f"{count / 1e9:.3g} GB"


def describe_spent(study: Study) -> str:
    """Returns a sentence about what the runs have cost, the stopped and failed ones included."""
    parts = []
    for recipe in study.recipes:
        if runs := study.of(recipe):
            used = spent(runs)
            parts.append(f"{recipe} {used.full_runs:.4g} full runs, not {len(runs)}")
    work = formats.duration(sum(run.seconds for run in study.runs))
    return f"Cost: {'; '.join(parts)}; {work} of work."
