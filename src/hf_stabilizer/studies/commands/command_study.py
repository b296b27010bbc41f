"""How is any Trainer script studied over seeds? Its command line is run once for each of them.

    OUTPUT_DIR/study.json                      what was asked
    OUTPUT_DIR/runs/RECIPE/SEEDS/output/       what the script is given as {output_dir}
    OUTPUT_DIR/runs/RECIPE/SEEDS/log.txt       what it printed
    OUTPUT_DIR/runs/RECIPE/SEEDS/run.json      the record, read from the Trainer's own files

A script cannot be halted and continued from outside without trusting how it resumes, so there is
no early stopping: every run goes to its end. Imports no torch.
"""

from __future__ import annotations

import functools
import shlex
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.records import Run, read_run, versions, write_run
from hf_stabilizer.studies.commands.command_question import (
    OUTPUT,
    RECIPE,
    RECORD,
    CommandJob,
    ask,
    checked_workers,
    refuse_stopping,
)
from hf_stabilizer.studies.commands.command_run import Ended, end_all, run_command
from hf_stabilizer.studies.lock import alone
from hf_stabilizer.studies.past_runs.past_run import rescored, to_run
from hf_stabilizer.studies.past_runs.reading import deciding_metric
from hf_stabilizer.studies.past_runs.run_settings import shared_settings
from hf_stabilizer.studies.past_runs.trainer_folder import (
    TrainerFolder,
    is_run,
    read_trainer_folder,
)
from hf_stabilizer.studies.progress import StudyProgress
from hf_stabilizer.studies.seeds.seed_grid import SeedGrid
from hf_stabilizer.studies.study import (
    Study,
    write_definition,
)
from hf_stabilizer.studies.tracker_names import TrackerNames


def run_command_study(
    command: str,
    *,
    recipes: Sequence[str] = (RECIPE,),
    runs: int | None = None,
    output_dir: str | Path,
    metric: str | None = None,
    greater_is_better: bool | None = None,
    executor: Executor | None = None,
    workers: int | None = None,
    first_seed: int = 1,
    head_seeds: int | Sequence[int] | None = None,
    data_seeds: int | Sequence[int] | None = None,
    dropout_seeds: int | Sequence[int] | None = None,
    retry_failed: bool = False,
    stop_at: float | None = None,
    keep: int | None = None,
    made_by: str = "",
    console: Console | None = None,
) -> Study:
    """Runs a Trainer script with every recipe and the same seeds, and records every run.

    Run k has the seed `first_seed + k - 1` in every placeholder for a seed, or those of the k-th
    cell of a grid of seeds, where the command has a placeholder for each seed that is varied. Each
    run is a process of its own with one thread (`OMP_NUM_THREADS=1`), started without a shell; what
    it prints goes to `log.txt` in the run's folder. Its scores are read from what the Trainer
    leaves in {output_dir}, as `read_runs` does. A run failed if its exit code is not 0, and its
    last lines are the reason. If this process dies, its runs are killed with it. Started again it
    repeats nothing that ended; a run that was cut off or killed begins anew. There is no early
    stopping, and nothing of what the script writes is deleted.

    Args:
        command: The command line, with {output_dir}, at least one of {seed}, {data_seed} and
            {head_seed}, and {recipe} where there are several.
        recipes: What {recipe} stands for, one after the other; the first is the baseline.
        runs: Runs per recipe, 1 or more; None with a grid of seeds: all of it.
        output_dir: Folder of the study; it is made, or it holds the same study from before.
        metric: The metric that decides; None: the script's own `metric_for_best_model`.
        greater_is_better: Its direction; None: as its name and the script have it.
        executor: Where runs execute; None: as many threads here as `workers`.
        workers: Runs at a time, 1 or more; None: two. All see the same devices.
        first_seed: Seed of the first run, in [0, 2^32).
        head_seeds: Values of {head_seed}: how many, from `first_seed` on, or which (`plan_seeds`).
        data_seeds: Values of {data_seed}; likewise.
        dropout_seeds: Values of {seed}; likewise. In most scripts it draws the head, too.
        retry_failed: Repeat runs whose exit code was not 0.
        stop_at: Refused, as is `keep`.
        keep: Refused.
        made_by: The command line that makes the study again, for the report.
        console: Where progress is shown; None: standard error.

    Raises:
        ConfigurationError: Something cannot be right, before any run; or, after all runs, no run
            says which metric decides. Started again with `metric`, nothing is repeated.
        StudyError: The folder holds something else, or another process works on it.
    """
    refuse_stopping(stop_at, keep)
    grid: SeedGrid = {
        "head_seeds": head_seeds,
        "data_seeds": data_seeds,
        "dropout_seeds": dropout_seeds,
    }
    if executor is not None and workers is not None:
        raise ConfigurationError("give an executor or a number of workers, not both")
    workers = checked_workers(workers)
    asked, jobs = ask(command, recipes, Path(output_dir), runs, first_seed, grid, made_by)
    folder = Path(output_dir).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder / ".lock", str(folder)):
        write_definition(asked, folder)
        if metric is None and asked.metric:
            metric = asked.metric
            if greater_is_better is None:
                greater_is_better = asked.greater_is_better
        todo = [job for job in jobs if not job.is_over(retry_failed)]
        shown = StudyProgress(
            len(jobs), len(jobs) - len(todo), console=console or Console(stderr=True)
        )
        scoring = functools.partial(_decided, metric=metric, greater=greater_is_better)
        _work(todo, executor, workers, shown, scoring)
        return _settled(asked, folder, metric, greater_is_better)


def _decided(files: TrainerFolder, *, metric: str | None, greater: bool | None) -> tuple[str, bool]:
    """The metric for one run's record; "" while it is open, which is asked when all are over."""
    try:
        return deciding_metric([files], metric, greater)
    except ConfigurationError:
        return "", True


OPEN_METRIC = (
    "The script does not say which metric decides (metric_for_best_model): it is asked for when "
    "all runs have ended, and no run is repeated when the study is started again with it"
)
Scoring = Callable[[TrainerFolder], tuple[str, bool]]


def _work(
    todo: Sequence[CommandJob],
    executor: Executor | None,
    workers: int,
    shown: StudyProgress,
    scoring: Scoring,
) -> None:
    pool = executor or ThreadPoolExecutor(workers)
    pending: dict[Future[Ended], CommandJob] = {}
    try:
        with shown.shown() as progress:
            is_told = False
            for job in todo:
                shutil.rmtree(job.folder, ignore_errors=True)  # what was cut off left behind
                names = TrackerNames.of(job.folder).environment()
                pending[pool.submit(run_command, job.words, str(job.folder), names)] = job
            for future in as_completed(pending):
                job = pending[future]
                run = _recorded(job, future, scoring)
                write_run(run, job.folder / RECORD)
                progress.finished(job.folder, run)
                if run.status == "finished" and not (run.metric or is_told):
                    is_told = True
                    progress.say(OPEN_METRIC)
    finally:
        for future in pending:
            future.cancel()
        if executor is None:
            end_all()  # of those that still run when this is left by Ctrl-C
            pool.shutdown()


def _recorded(job: CommandJob, future: Future[Ended], scoring: Scoring) -> Run:
    try:
        ended = future.result()
    except Exception as error:  # no place on the disk, or the executor lost the run
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
        return Run(job.recipe, job.seeds, "failed", reason, metric="")
    facts = {"command": shlex.join(job.words), "exit_code": ended.code, "reason": ended.reason}
    run = Run(job.recipe, job.seeds, "finished", seconds=ended.seconds, configuration=facts)
    return _scored(run, job.folder, *scoring(read_trainer_folder(job.folder / OUTPUT)))


def _scored(run: Run, folder: Path, metric: str, greater_is_better: bool) -> Run:
    """Returns a run's record with its scores, from the script's files while they are there."""
    if not is_run(folder / OUTPUT):
        scored = rescored(run, metric=metric, greater_is_better=greater_is_better)
        is_empty = run.configuration.get("exit_code") == 0 and not run.evaluations
    else:
        files = read_trainer_folder(folder / OUTPUT)
        scored = to_run(
            files,
            recipe=run.recipe,
            seeds=run.seeds,
            metric=metric,
            greater_is_better=greater_is_better,
        )
        is_empty = False
    reason = str(run.configuration.get("reason") or "") or run.reason
    if not reason and is_empty:
        reason = "exit code 0, but no trainer_state.json and no results are in {output_dir}"
    if not reason and metric:
        reason = scored.reason
    return replace(
        scored,
        status="failed" if reason else "finished",
        reason=reason,
        seconds=run.seconds,
        versions={**versions(), **scored.versions},
        configuration={**scored.configuration, **run.configuration},
    )


def _settled(
    asked: Study, folder: Path, metric: str | None, greater_is_better: bool | None
) -> Study:
    """Scores all runs by one metric, and writes down which."""
    paths = sorted(folder.glob(f"runs/*/*/{RECORD}"))
    records = {path: read_run(path) for path in paths}
    files = [read_trainer_folder(path.parent / OUTPUT) for path in paths]
    try:
        name, direction = deciding_metric(files, metric, greater_is_better)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{error}. Give it as metric_for_best_model (--metric-for-best-model): started again, "
            "the study repeats nothing that ended"
        ) from error
    runs = {path: _scored(run, path.parent, name, direction) for path, run in records.items()}
    for path, run in runs.items():
        if run != records[path]:
            write_run(run, path)
    common, own = shared_settings(tuple(runs.values()), asked.recipes)
    study = replace(
        asked,
        metric=name,
        greater_is_better=direction,
        configuration={**common, **asked.configuration},
        recipe_settings=own,
    )
    write_definition(study, folder)
    return Study.from_folder(folder)
