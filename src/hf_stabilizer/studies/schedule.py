"""Which runs, in which order, and what if some are there already? A study from first to last run.

    for each seed: for each recipe: one run          pairs end together, so that a study that is
                                                     cut short can still be compared

The folder is the truth: a run that is recorded there is not repeated. A second start asks the
same question or is refused; it may ask for more seeds or more recipes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout
from rich.console import Console

from hf_stabilizer.arguments import LAST_SEED
from hf_stabilizer.configuration import SEEDS, Configuration, load_configuration
from hf_stabilizer.errors import ConfigurationError, StabilizerError, StudyError, check_whole
from hf_stabilizer.records import Run, check_folder, read_run, run_name, write_run
from hf_stabilizer.run import check, prepare_data, record_failure
from hf_stabilizer.studies.executors import LocalWorkers, WorkerDiedError
from hf_stabilizer.studies.progress import StudyProgress
from hf_stabilizer.studies.question import define_study, load_recipes
from hf_stabilizer.studies.study import Study, run_folder, write_definition
from hf_stabilizer.studies.worker import run_once
from hf_stabilizer.tasks import PreparedTask


class Job(NamedTuple):
    """One run that is to be there in the end."""

    configuration: Configuration
    folder: Path
    data: Path


def run_study(
    config: str | Path | Mapping[str, Any],
    *,
    recipes: Sequence[str] = ("plain",),
    runs: int,
    output_dir: str | Path,
    executor: Executor | None = None,
    workers: int | None = None,
    first_seed: int = 1,
    retry_failed: bool = False,
    overrides: Mapping[str, Any] | None = None,
    command: str = "",
    console: Console | None = None,
) -> Study:
    """Runs every recipe with the same seeds and records every run, the failed ones too.

    Run k of a recipe has head, data and dropout seed `first_seed + k - 1`; runs of two recipes
    with the same seeds are a pair. Killed and started again it repeats nothing that was finished;
    a run that was under way begins anew. Of each recipe the best model by validation is kept.

    Args:
        config: Path of a YAML file, or a mapping with the same keys.
        recipes: Names or YAML files; the first is the baseline of the comparison.
        runs: Runs per recipe, 1 or more; six is the fewest that can show p < .05.
        output_dir: Folder of the study; it is made, or it holds the same study from before.
        executor: Where runs execute; None: `LocalWorkers`, one process per GPU or core. From a
            script, call this under `if __name__ == "__main__":`, as those processes import it.
        workers: Number of local processes; only without `executor`.
        first_seed: Seed of the first run.
        retry_failed: Repeat runs that raised; those whose worker died are repeated anyhow.
        overrides: Keys that beat file and recipes.
        command: The command line that makes the study again, for the report.
        console: Where progress is shown; None: standard error.

    Returns:
        The study as its folder holds it.

    Raises:
        ConfigurationError: Something cannot be right; before any run, with nothing overwritten.
        DataError: The rows are not as the configuration says; likewise.
        StudyError: The folder holds another study, or another process works on it.
    """
    if runs < 1:
        raise ConfigurationError(f"runs must be 1 or more, got {runs!r}")
    if executor is not None and workers is not None:
        raise ConfigurationError("give an executor or a number of workers, not both")
    if workers is not None and workers < 1:
        raise ConfigurationError(f"workers must be 1 or more, got {workers!r}")
    last = LAST_SEED + 1 - runs
    check_whole(first_seed, "in [0, 2^32), and so the last seed", name="first_seed", most=last)
    console = console or Console(stderr=True)
    folder = Path(output_dir)
    configurations = load_recipes(config, recipes, overrides)
    seeds = [dict.fromkeys(SEEDS, first_seed + k) for k in range(runs)]
    base = load_configuration(config, overrides=overrides)
    study = define_study(folder, base, configurations, seeds, command=command)
    check_folder(folder, key="output_dir")
    absent = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            try:
                jobs = _jobs(folder, configurations, seeds)
            except StabilizerError:
                _remove(absent)
                raise
            write_definition(study, folder)
            _work(_open(jobs, retry_failed), len(jobs), executor, workers, console)
    except Timeout as error:
        raise StudyError(
            f"another process works on the study in {str(folder)!r}; wait for it, or stop it"
        ) from error
    return Study.from_folder(folder)


def _remove(absent: Sequence[Path]) -> None:
    """Takes a new study's folder away again, and the empty folders that were made above it."""
    if absent:
        shutil.rmtree(absent[0], ignore_errors=True)
    for path in absent[1:]:
        with contextlib.suppress(OSError):  # Another study has come to lie in it.
            path.rmdir()


def _jobs(
    folder: Path, configurations: Mapping[str, Configuration], seeds: list[dict[str, int]]
) -> list[Job]:
    """Prepares the rows once for all, checks that each recipe can run, and lists the runs."""
    rows = {name: _rows(folder, configuration) for name, configuration in configurations.items()}
    for name, configuration in configurations.items():
        check(configuration, PreparedTask.load_from(rows[name]))
    return [
        Job(
            configuration.with_values(**seed),
            run_folder(folder, name, run_name(seed)),
            rows[name],
        )
        for seed in seeds
        for name, configuration in configurations.items()
    ]


def _rows(folder: Path, configuration: Configuration) -> Path:
    """Returns where the tokenised rows lie; a study keeps the rows that it began with."""
    model = configuration.model
    said = {**asdict(configuration.data), **asdict(model), "metrics": None}
    key = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:12]
    path = folder / "data" / key
    if not PreparedTask.is_saved_in(path):
        shutil.rmtree(path, ignore_errors=True)
        prepare_data(configuration).save_to(path)
    return path


def _open(jobs: Sequence[Job], retry_failed: bool) -> list[Job]:
    """Returns the jobs that are still to be done."""
    todo = []
    for job in jobs:
        record = job.folder / "run.json"
        if record.exists():
            run = read_run(record)
            lost = run.reason.startswith(WorkerDiedError.__name__)
            if run.status != "failed" or not (lost or (retry_failed and run.score is None)):
                continue
        todo.append(job)
    return todo


def _work(
    jobs: list[Job],
    total: int,
    executor: Executor | None,
    workers: int | None,
    console: Console,
) -> None:
    if not jobs:
        return
    # On Ctrl-C what is recorded stays, and what is under way in workers of ours is given up.
    place = LocalWorkers(workers) if executor is None else contextlib.nullcontext(executor)
    shown = StudyProgress(total, total - len(jobs), console=console).shown()
    with place as pool, shown as progress:
        _collect(jobs, pool, progress)


def _collect(jobs: Sequence[Job], pool: Executor, progress: StudyProgress) -> None:
    pending: dict[Future[Run], Job] = {}
    for job in jobs:
        shutil.rmtree(job.folder, ignore_errors=True)  # what a run that was cut off left behind
        future = pool.submit(run_once, job.configuration, str(job.folder), str(job.data))
        pending[future] = job
    while pending:
        done, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
        progress.look({job.folder: _title(job) for job in pending.values()})
        for future in done:
            job = pending.pop(future)
            run = _result(future, job)
            _keep_best_model(job.folder.parent)
            progress.finished(job.folder, run)


def _title(job: Job) -> str:
    return f"{job.configuration.recipe} {job.folder.name}"


def _result(future: Future[Run], job: Job) -> Run:
    try:
        return future.result()
    except Exception as error:  # the worker died, or the executor lost the run: it is recorded
        return record_failure(job.configuration, job.folder, error)


def _keep_best_model(recipe_folder: Path) -> None:
    """Keeps the model of the recipe's best run by validation: one model per recipe on disk."""
    runs = {path.parent: read_run(path) for path in sorted(recipe_folder.glob("*/run.json"))}
    scored = {f: r for f, r in runs.items() if r.checkpoint and r.best_score is not None}
    if not scored:
        return
    better = max if next(iter(scored.values())).greater_is_better else min
    best = better(scored, key=lambda folder: scored[folder].best_score or 0.0)
    for folder, run in scored.items():
        if folder != best:
            shutil.rmtree(folder / "model", ignore_errors=True)
            write_run(replace(run, checkpoint=None), folder / "run.json")
