"""How is a study that is defined worked off? Everything is made ready, then its runs are trained.

    for each seed: for each recipe: one run          pairs end together, so that a study that is
                                                     cut short can still be compared

Local workers import what runs need while this process makes the rows and recipes ready.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from hf_stabilizer.configuration import Configuration
from hf_stabilizer.errors import StabilizerError
from hf_stabilizer.records import check_folder, run_name
from hf_stabilizer.studies.course import Course, Job, is_over, settle
from hf_stabilizer.studies.early_stopping.estimate import announced
from hf_stabilizer.studies.early_stopping.stopping import Stopping
from hf_stabilizer.studies.events import EventLog
from hf_stabilizer.studies.executors.place import Place
from hf_stabilizer.studies.full_disk import DiskFullError, is_disk_full
from hf_stabilizer.studies.lock import alone
from hf_stabilizer.studies.progress import StudyProgress
from hf_stabilizer.studies.study import Study, run_folder, write_definition
from hf_stabilizer.studies.subject import Subject, prepare_all
from hf_stabilizer.studies.trainable import Trainable


def work_through(
    study: Study,
    configurations: Mapping[str, Configuration],
    seeds: list[dict[str, int]],
    *,
    subject: Subject,
    place: Place,
    stopping: Stopping | None = None,
    retry_failed: bool = False,
    keep_models: bool = False,
    console: Console,
) -> Study:
    """Trains what is open of a study that is defined, and returns it as its folder holds it.

    Args:
        study: What is asked for, joined with what the folder holds.
        configurations: What each recipe comes to, for those that are asked for now.
        seeds: Of their runs.
        subject: Makes them ready.
        place: The folder, and what executes the runs.
        stopping: Where runs are halted; None: all go to the end.
        retry_failed: Repeat runs that raised.
        keep_models: Keep the model of every run, not only that of each recipe's best one.
        console: Where progress is shown.

    Raises:
        StabilizerError: A recipe cannot run; then a folder that was made for it is removed.
    """
    folder = place.folder
    check_folder(folder, key="output_dir")
    absent = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_alone_in(folder))
        runs = [
            run_folder(folder, name, run_name(seed)) for seed in seeds for name in configurations
        ]
        side_by_side = _most_at_a_time(runs, stopping, retry_failed=retry_failed)
        stack.enter_context(place.warmed_up(side_by_side))
        try:
            trainables = prepare_all(subject, configurations, folder, stopping)
        except StabilizerError:
            _remove(absent)
            raise
        write_definition(study, folder)
        events = EventLog(folder, then=place.push)
        events.add("opened", runs=len(seeds), stop_at=study.stop_at, keep=study.keep)
        _work(
            _jobs(folder, trainables, seeds),
            place,
            stopping=stopping,
            retry_failed=retry_failed,
            keep_models=keep_models,
            events=events,
            console=console,
        )
        events.add("closed")
    return Study.from_folder(folder)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keeps a second study out of the folder, and says so when the disk is full.

    Raises:
        StudyError: Another process works there, or nothing more can be written.
    """
    try:
        with alone(folder / ".lock", str(folder)):
            yield
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


def _most_at_a_time(runs: Sequence[Path], stopping: Stopping | None, *, retry_failed: bool) -> int:
    """How many runs, by their folders, may be trained side by side."""
    left = sum(not is_over(run, retry_failed=retry_failed) for run in runs)
    return len(runs) if left and stopping is not None else left  # stopped ones may go on


def _jobs(
    folder: Path, trainables: Mapping[str, Trainable], seeds: list[dict[str, int]]
) -> list[Job]:
    """Lists the runs, pairs side by side."""
    return [
        Job(trainable.with_seeds(seed), run_folder(folder, name, run_name(seed)))
        for seed in seeds
        for name, trainable in trainables.items()
    ]


def _work(
    jobs: list[Job],
    place: Place,
    *,
    stopping: Stopping | None,
    retry_failed: bool,
    keep_models: bool,
    events: EventLog,
    console: Console,
) -> None:
    settle(jobs, events, keep_models=keep_models)
    done = sum(is_over(job.folder, retry_failed=retry_failed) for job in jobs)
    if done == len(jobs) and stopping is None:
        return
    # On Ctrl-C what is recorded stays, and what is under way in workers of ours is given up.
    with place.open() as pool, contextlib.ExitStack() as stack:
        if stopping is not None:
            is_new = not events.has_any("started")
            stack.enter_context(announced(jobs, pool, stopping, is_new=is_new, console=console))
        progress = StudyProgress(len(jobs), done, console=console)
        course = Course(
            pool,
            progress=progress,
            events=events,
            stopping=stopping,
            retry_failed=retry_failed,
            keep_models=keep_models,
        )
        with progress.shown():
            course.go(jobs)
