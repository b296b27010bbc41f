"""What would this study do, and what would it cost? Everything but the runs; nothing is written.

A few batches of each recipe are trained on, with a model that is thrown away: how long a run takes
can be measured and not known.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from hf_stabilizer.configuration import Configuration
from hf_stabilizer.records import check_folder, run_name
from hf_stabilizer.steps import resolve_step
from hf_stabilizer.studies.commands.command_rehearsal import rehearse_command_study
from hf_stabilizer.studies.commands.command_template import is_command
from hf_stabilizer.studies.course import is_over
from hf_stabilizer.studies.early_stopping.stopping import Stopping, read_extent
from hf_stabilizer.studies.executors.in_process import is_here
from hf_stabilizer.studies.executors.local_workers import default_workers
from hf_stabilizer.studies.executors.place import Engine, check_path
from hf_stabilizer.studies.executors.remote import is_url
from hf_stabilizer.studies.question import (
    check_settings,
    define_study,
    load_recipes,
    look_often,
)
from hf_stabilizer.studies.rehearsed import RehearsedRecipe, RehearsedStudy
from hf_stabilizer.studies.schedule import names_for_command, only_metric
from hf_stabilizer.studies.seeds.seed_grid import SeedGrid, plan_seeds
from hf_stabilizer.studies.study import Study, run_folder
from hf_stabilizer.studies.subject import Asked, Subject, open_subject

# Any in this module: whatever YAML can say.


def rehearse_study(
    config: Asked,
    *,
    recipes: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("plain",),
    runs: int | None = None,
    stop_at: float | None = None,
    keep: int | None = None,
    budget: float | None = None,
    output_dir: str | Path,
    executor: Executor | str | None = None,
    workers: int | None = None,
    address: str | None = None,
    launcher: str | None = None,
    first_seed: int = 1,
    head_seeds: int | Sequence[int] | None = None,
    data_seeds: int | Sequence[int] | None = None,
    dropout_seeds: int | Sequence[int] | None = None,
    retry_failed: bool = False,
    keep_models: bool = False,
    overrides: Mapping[str, Any] | None = None,
    ablation: Mapping[str, Any] | None = None,
    command: str = "",
) -> RehearsedStudy:
    """Says what `run_study` with the same arguments would do and cost, without doing it.

    No executor is opened: time is that of a run in this process, with one thread as in a worker.
    What lies at a URL is not looked into. Of a command line nothing is run.

    Args:
        config: As in `run_study`, like all that follow.
        recipes: Names or YAML files, or a mapping from names to settings.
        runs: Runs per recipe.
        stop_at: Fraction at which runs are halted.
        keep: Runs of each recipe that go on.
        budget: Full runs per recipe to spend.
        output_dir: Folder of the study; what it holds already is not repeated.
        executor: Where runs would execute.
        workers: Number of processes on this machine.
        address: Address of a running cluster.
        launcher: Command line under which each run would be trained.
        first_seed: Seed of the first run.
        head_seeds: Seeds of the new parameters.
        data_seeds: Seeds of the order of the data.
        dropout_seeds: Seeds of dropout.
        retry_failed: Repeat runs that raised.
        keep_models: Keep the model of every run.
        overrides: Keys that beat file and recipes.
        ablation: Which recipes are the arms of an ablation.
        command: The command line that makes the study again; nothing follows from it.

    Raises:
        StabilizerError: What `run_study` would raise before its first run.
    """
    grid: SeedGrid = {
        "head_seeds": head_seeds,
        "data_seeds": data_seeds,
        "dropout_seeds": dropout_seeds,
    }
    check_settings(
        overrides=overrides,
        ablation=ablation,
        retry_failed=retry_failed,
        keep_models=keep_models,
        command=command,
    )
    extent = read_extent(
        runs=runs, stop_at=stop_at, keep=keep, budget=budget, first_seed=first_seed, grid=grid
    )
    engine = Engine(executor, workers, address, launcher)
    engine.check()
    check_path(output_dir)
    if is_command(config):
        return rehearse_command_study(
            str(config),
            recipes=names_for_command(recipes),
            runs=extent.runs,
            output_dir=output_dir,
            metric=only_metric(overrides or {}),
            workers=workers,
            executor=_named(engine),
            first_seed=first_seed,
            **grid,
            retry_failed=retry_failed,
            stop_at=extent.stopping.stop_at if extent.stopping else None,
        )
    subject, stopping = open_subject(config), extent.stopping
    if not is_here(executor):
        subject.check_portable()
    configurations = load_recipes(subject.load, recipes, overrides)
    seeds = plan_seeds(runs=extent.runs, first_seed=first_seed, **grid)
    base = subject.load(overrides=overrides)
    if stopping is not None:
        base, configurations, stopping = look_often(base, configurations, stopping)
    # At a URL nothing is looked into: a study of that name that is nowhere stands for it.
    folder = Path("nowhere") / Path(output_dir).name if is_url(output_dir) else Path(output_dir)
    study = define_study(
        folder, base, configurations, seeds, command=command, stopping=stopping, ablation=ablation
    )
    check_folder(folder, key="output_dir")
    cells = [run_folder(folder, name, run_name(s)) for name in configurations for s in seeds]
    found, rows = _rehearse(subject, configurations, study, stopping, one_thread=launcher is None)
    return RehearsedStudy(
        output_dir=str(output_dir),
        metric=study.metric,
        greater_is_better=study.greater_is_better,
        recipes=found,
        seeds=tuple(seeds),
        there=sum(is_over(cell, retry_failed=retry_failed) for cell in cells),
        stop_at=stopping.stop_at if stopping else None,
        keep=stopping.keep if stopping else None,
        filled_in=stopping.filled_in if stopping else (),
        executor=_named(engine),
        workers=_side_by_side(engine, len(cells)),
        rows=rows,
        keep_models=keep_models,
    )


def _rehearse(
    subject: Subject,
    configurations: Mapping[str, Configuration],
    study: Study,
    stopping: Stopping | None,
    *,
    one_thread: bool,
) -> tuple[tuple[RehearsedRecipe, ...], int]:
    """Rehearses a run of each recipe; returns them and the bytes of the rows."""
    found = []
    with TemporaryDirectory() as folder, _threads(1 if one_thread else torch.get_num_threads()):
        for name, configuration in configurations.items():
            run = subject.rehearse(configuration, Path(folder), stopping)
            halt = None
            if stopping is not None and run.steps:
                halt = resolve_step(stopping.stop_at, run.steps, name="stop_at")
            found.append(
                RehearsedRecipe(
                    name,
                    settings=study.recipe_settings[name],
                    findings=run.findings,
                    steps=run.steps,
                    evaluations=len(run.evaluations),
                    stop_step=halt,
                    cost=run.cost,
                )
            )
        rows = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return tuple(found), rows


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Lets torch use as many threads for the time of a block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _named(engine: Engine) -> str:
    """What executes the runs, in a word."""
    if engine.launcher is not None:
        return engine.launcher
    if isinstance(engine.executor, Executor):
        return type(engine.executor).__name__
    return engine.executor or "local"


def _side_by_side(engine: Engine, runs: int) -> int | None:
    """How many runs are trained at a time; None where only the cluster knows."""
    if engine.launcher is not None or engine.executor == "in-process":
        return 1
    if isinstance(engine.executor, Executor):
        known = getattr(engine.executor, "workers", 1 if is_here(engine.executor) else None)
        return known if isinstance(known, int) else None
    if engine.address is not None:
        return None
    return min(engine.workers or default_workers(), runs)
