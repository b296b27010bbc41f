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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from hf_stabilizer.argument_checks import LAST_SEED
from hf_stabilizer.configuration import SEEDS, Configuration, load_configuration
from hf_stabilizer.errors import ConfigurationError, StabilizerError, StudyError, check_whole
from hf_stabilizer.records import check_folder, run_name
from hf_stabilizer.run import check, prepare_data
from hf_stabilizer.studies.command_template import is_command
from hf_stabilizer.studies.commands import run_command_study
from hf_stabilizer.studies.course import Course, Job, is_over
from hf_stabilizer.studies.estimate import announce, conclude
from hf_stabilizer.studies.events import EventLog
from hf_stabilizer.studies.executors import LocalWorkers
from hf_stabilizer.studies.full_disk import DiskFullError, is_disk_full
from hf_stabilizer.studies.progress import StudyProgress
from hf_stabilizer.studies.question import define_study, load_recipes
from hf_stabilizer.studies.stopping import Stopping, check_halt, read_stopping
from hf_stabilizer.studies.study import Study, run_folder, write_definition
from hf_stabilizer.tasks import PreparedTask


def run_study(
    config: str | Path | Mapping[str, Any],
    *,
    recipes: Sequence[str] = ("plain",),
    runs: int,
    stop_at: float | None = None,
    keep: int | None = None,
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
    with the same seeds are a pair. Of each recipe the best model by validation is kept.

    With `stop_at=f` and `keep=p` the t = `runs` runs of each recipe are trained to step
    ceil(f * max_steps), with schedules that span the whole training. They are ranked by the best
    validation score so far, ties by seed, collapsed and failed ones last. The best p go on, bit for
    bit as if they had never been halted; the others are recorded as "stopped", each with the one
    checkpoint from which it could go on. That costs t f + p (1 - f) full runs per recipe. `keep`
    equal to `runs` stops none.

    Killed and started again it repeats nothing that was finished, neither first parts nor whole
    runs; what was under way begins anew, from the halt where there was one. A run whose worker dies
    is tried three times. A larger `keep` and more `runs` join what is there.

    Args:
        config: Path of a YAML file, a mapping with the same keys, or a command line of any Trainer
            script with {seed}, {data_seed}, {output_dir} in it, whose `trainer_state.json` is read.
        recipes: Names or YAML files; the first is the baseline of the comparison.
        runs: Runs per recipe, 1 or more; six is the fewest that can show p < .05.
        stop_at: f, fraction of each run's optimizer steps, in (0, 1), with an evaluation at or
            before it; None: all go to the end. Dodge et al. found .2 to .3 good.
        keep: p, runs of each recipe that go on, in [1, runs]; given exactly if `stop_at` is.
        output_dir: Folder of the study; it is made, or it holds the same study from before.
        executor: Where runs execute; None: `LocalWorkers`, one process per GPU or core. From a
            script, call this under `if __name__ == "__main__":`, as those processes import it.
        workers: Number of local processes; only without `executor`.
        first_seed: Seed of the first run.
        retry_failed: Repeat runs that raised; those whose worker died are repeated anyhow.
        overrides: Keys that beat file and recipes; of a command line `metric_for_best_model` alone.
        command: The command line that makes the study again, for the report.
        console: Where progress is shown; None: standard error.

    Returns:
        The study as its folder holds it.

    Raises:
        ConfigurationError: Something cannot be right; before any run, with nothing overwritten.
        DataError: The rows are not as the configuration says; likewise.
        StudyError: The folder holds another study or a damaged record, another process works on
            it, or nothing more can be written there.

    Source: the early stopping is Dodge, Ilharco, Schwartz, Farhadi, Hajishirzi, Smith 2020
    (arXiv:2002.06305), section 5; continuing from checkpoints instead of keeping all runs alive is
    ours.
    """
    if is_command(config):
        return run_command_study(
            str(config),
            recipes=("script",) if tuple(recipes) == ("plain",) else recipes,
            runs=runs,
            output_dir=output_dir,
            metric=_only_metric(overrides or {}),
            executor=executor,
            workers=workers,
            first_seed=first_seed,
            retry_failed=retry_failed,
            stop_at=stop_at,
            keep=keep,
            made_by=command,
            console=console,
        )
    _check_numbers(runs, executor, workers, first_seed)
    stopping = read_stopping(stop_at, keep, runs=runs)
    console = console or Console(stderr=True)
    folder = Path(output_dir)
    configurations = load_recipes(config, recipes, overrides)
    seeds = [dict.fromkeys(SEEDS, first_seed + k) for k in range(runs)]
    base = load_configuration(config, overrides=overrides)
    study = define_study(folder, base, configurations, seeds, command=command, stopping=stopping)
    check_folder(folder, key="output_dir")
    absent = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder):
        try:
            jobs = _jobs(folder, configurations, seeds, stopping)
        except StabilizerError:
            _remove(absent)
            raise
        write_definition(study, folder)
        events = EventLog(folder)
        events.add("opened", runs=runs, stop_at=stop_at, keep=keep)
        _work(
            jobs,
            executor,
            workers,
            stopping=stopping,
            retry_failed=retry_failed,
            events=events,
            console=console,
        )
        events.add("closed")
    study = Study.from_folder(folder)
    if stopping is not None:
        conclude(study, console)
    return study


def _only_metric(overrides: Mapping[str, Any]) -> str | None:
    """The metric that decides; a script has no other option that could be set from here."""
    others = sorted(set(overrides) - {"metric_for_best_model"})
    if others:
        raise ConfigurationError(
            f"overrides holds {others[0]!r}, but a command line sets the options of its script "
            "itself; write it there, or use a YAML configuration"
        )
    metric = overrides.get("metric_for_best_model")
    return None if metric is None else str(metric)


def _check_numbers(
    runs: int, executor: Executor | None, workers: int | None, first_seed: int
) -> None:
    if runs < 1:
        raise ConfigurationError(f"runs must be 1 or more, got {runs!r}")
    if executor is not None and workers is not None:
        raise ConfigurationError("give an executor or a number of workers, not both")
    if workers is not None and workers < 1:
        raise ConfigurationError(f"workers must be 1 or more, got {workers!r}")
    last = LAST_SEED + 1 - runs
    check_whole(first_seed, "in [0, 2^32), and so the last seed", name="first_seed", most=last)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keeps a second study out of the folder, and says so when the disk is full.

    Raises:
        StudyError: Another process works there, or nothing more can be written.
    """
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise StudyError(
            f"another process works on the study in {str(folder)!r}; wait for it, or stop it"
        ) from error
    except OSError as error:
        if is_disk_full(error):
            raise DiskFullError.of(error, folder) from error
        raise


def _remove(absent: Sequence[Path]) -> None:
    """Takes a new study's folder away again, and the empty folders that were made above it."""
    if absent:
        shutil.rmtree(absent[0], ignore_errors=True)
    for path in absent[1:]:
        with contextlib.suppress(OSError):  # Another study has come to lie in it.
            path.rmdir()


def _jobs(
    folder: Path,
    configurations: Mapping[str, Configuration],
    seeds: list[dict[str, int]],
    stopping: Stopping | None,
) -> list[Job]:
    """Prepares the rows once for all, checks that each recipe can run, and lists the runs."""
    rows = {name: _rows(folder, configuration) for name, configuration in configurations.items()}
    for name, configuration in configurations.items():
        prepared = PreparedTask.load_from(rows[name])
        check(configuration, prepared)
        if stopping is not None:
            check_halt(configuration, prepared, stopping)
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


def _work(
    jobs: list[Job],
    executor: Executor | None,
    workers: int | None,
    *,
    stopping: Stopping | None,
    retry_failed: bool,
    events: EventLog,
    console: Console,
) -> None:
    done = sum(is_over(job, retry_failed=retry_failed) for job in jobs)
    if done == len(jobs) and stopping is None:
        return
    # On Ctrl-C what is recorded stays, and what is under way in workers of ours is given up.
    place = LocalWorkers(workers) if executor is None else contextlib.nullcontext(executor)
    with place as pool:
        if stopping is not None:
            announce(jobs, pool, stopping, is_new=not events.has_any("started"), console=console)
        progress = StudyProgress(len(jobs), done, console=console)
        course = Course(
            pool, progress=progress, events=events, stopping=stopping, retry_failed=retry_failed
        )
        with progress.shown():
            course.go(jobs)
