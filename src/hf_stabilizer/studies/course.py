"""What is done with each run, and what comes after it? A study from its first run to its last.

    all to the end        every run that is not over is trained
    stopping early        first parts of a recipe -> ranked -> the best go on, the rest is stopped

What is over, halted or open is told by the files in a run's folder, so that a study that was
killed anywhere goes on with what is missing. A run whose worker died is tried again.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence, Set
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from hf_stabilizer.configuration import Configuration
from hf_stabilizer.errors import StudyError, first_line
from hf_stabilizer.records import Run, read_run, write_run
from hf_stabilizer.run import record_failure
from hf_stabilizer.studies.early_stopping.choosing import HALTED, Ranked, at_the_halt, choose
from hf_stabilizer.studies.early_stopping.halting import forget_halt, set_back
from hf_stabilizer.studies.early_stopping.stopping import Stopping
from hf_stabilizer.studies.events import EventLog
from hf_stabilizer.studies.executors.in_process import InProcess
from hf_stabilizer.studies.executors.local_workers import WorkerDiedError
from hf_stabilizer.studies.full_disk import DiskFullError
from hf_stabilizer.studies.main_guard import UnguardedScriptError
from hf_stabilizer.studies.progress import PROGRESS_FILE, StudyProgress
from hf_stabilizer.studies.trainable import Trainable
from hf_stabilizer.studies.worker import run_first_part, run_once, run_rest

ATTEMPTS = 3
"""How often a part of a run is begun in one start of a study whose workers die."""


class Job(NamedTuple):
    """One run that is to be there in the end."""

    trainable: Trainable
    folder: Path

    @property
    def configuration(self) -> Configuration:
        """What the run does."""
        return self.trainable.configuration

    @property
    def recipe(self) -> str:
        """Name of the recipe."""
        return self.configuration.recipe

    @property
    def title(self) -> str:
        """Recipe and seeds, for people."""
        return f"{self.recipe} {self.folder.name}"

    @property
    def arguments(self) -> tuple[Trainable, str]:
        """What a worker is handed; people's functions may work from a folder of their own."""
        return self.trainable, str(self.folder.absolute())


class _Task(NamedTuple):
    job: Job
    event: str
    function: Callable[..., Run]
    arguments: tuple[Any, ...]  # Any: plain values


def is_over(folder: Path, *, retry_failed: bool = False) -> bool:
    """Whether nothing is left to be done for a run, but perhaps to continue a stopped one."""
    record = folder / "run.json"
    if not record.exists():
        return False
    run = read_run(record)
    was_lost = run.reason.startswith(WorkerDiedError.__name__)
    # A model that collapsed or diverged is what came of it, and would come again.
    has_raised = not run.reason.startswith(("collapsed:", "diverged:"))
    return run.status != "failed" or not (was_lost or (retry_failed and has_raised))


def settle(jobs: Sequence[Job], events: EventLog, *, keep_models: bool) -> None:
    """Does what a killed study left undone between the record of a run and the event of its end.

    Args:
        jobs: Runs, over or not.
        events: Of the study; runs that it does not know to have started are left alone.
        keep_models: Keep the model of every run, not only that of each recipe's best one.
    """
    for job in jobs:
        known = (job.recipe, job.folder.name)
        if not is_over(job.folder) or not events.has("started", *known):
            continue
        run = read_run(job.folder / "run.json")
        if run.status == "stopped" or events.has(run.status, *known):
            continue
        _settle_model(job, events, keep_models=keep_models)
        events.add(run.status, *known, **_facts(run))


class Course:
    """Hands the runs of a study to an executor and takes what comes back.

    Args:
        pool: Trains the runs.
        progress: Shows how far they are.
        events: Keeps what happened.
        stopping: Where runs are halted; None: all go to the end.
        retry_failed: Repeat runs that raised.
        keep_models: Keep the model of every run, not only that of each recipe's best one.
    """

    def __init__(
        self,
        pool: Executor,
        *,
        progress: StudyProgress,
        events: EventLog,
        stopping: Stopping | None = None,
        retry_failed: bool = False,
        keep_models: bool = False,
    ):
        self._keep_models = keep_models
        self._pool, self._progress, self._events = pool, progress, events
        self._stopping, self._retry_failed = stopping, retry_failed
        self._pending: dict[Future[Run], _Task] = {}
        self._begun: set[Future[Run]] = set()
        self._attempts: Counter[tuple[Path, str]] = Counter()
        self._jobs: list[Job] = []
        self._is_open = False

    def go(self, jobs: Sequence[Job]) -> None:
        """Works until every run is over.

        Raises:
            DiskFullError: Nothing more can be written.
            UnguardedScriptError: Worker processes cannot import the script that started them.
        """
        self._jobs = list(jobs)
        try:
            for job in jobs:
                self._open(job)
                self._take_what_is_done()
            self._is_open = True
            for recipe in dict.fromkeys(job.recipe for job in jobs):
                self._choose(recipe)
            while self._pending:
                self._look()
        finally:
            for future in self._pending:
                future.cancel()

    def _open(self, job: Job) -> None:
        """Begins a run that has not got as far as a halt, and clears what is left of one."""
        if is_over(job.folder, retry_failed=self._retry_failed):
            if read_run(job.folder / "run.json").status != "stopped":
                # A worker may have been killed before it did so itself.
                forget_halt(job.folder)
                (job.folder / PROGRESS_FILE).unlink(missing_ok=True)
            return
        if self._stopping is not None and (job.folder / HALTED).exists():
            for name in ("run.json", "traceback.txt"):
                (job.folder / name).unlink(missing_ok=True)
            return
        if self._stopping is None:
            self._submit(_Task(job, "started", run_once, job.arguments))
        else:
            arguments = (*job.arguments, self._stopping.stop_at)
            self._submit(_Task(job, "started", run_first_part, arguments))

    def _submit(self, task: _Task) -> None:
        if task.event == "started":  # what a run that was cut off left behind
            shutil.rmtree(task.job.folder, ignore_errors=True)
        self._attempts[task.job.folder, task.event] += 1
        is_here = isinstance(self._pool, InProcess)
        if is_here:  # it is over when `submit` returns
            self._note(task.event, task.job)
        try:
            future = self._pool.submit(task.function, *task.arguments)
        except StudyError:
            raise
        except RuntimeError as error:  # BrokenExecutor, or after its shutdown
            raise StudyError(
                f"the executor takes no more runs ({first_line(error)}); start the study again: it "
                "repeats nothing that was finished"
            ) from error
        self._pending[future] = task
        if is_here:
            self._begun.add(future)

    def _take_what_is_done(self) -> None:
        for future in [future for future in self._pending if future.done()]:
            self._begin(future)
            self._begun.discard(future)
            self._take(future, self._pending.pop(future))

    def _begin(self, future: Future[Run]) -> None:
        if future not in self._begun:
            self._begun.add(future)
            self._note(self._pending[future].event, self._pending[future].job)

    def _look(self) -> None:
        wait(self._pending, timeout=0.5, return_when=FIRST_COMPLETED)
        self._progress.look({task.job.folder: task.job.title for task in self._pending.values()})
        for future in [future for future in self._pending if future.running()]:
            self._begin(future)
        self._take_what_is_done()

    def _take(self, future: Future[Run], task: _Task) -> None:
        try:
            run = future.result()
        except (DiskFullError, UnguardedScriptError):
            raise
        except Exception as error:  # the executor lost the run
            left = _left_behind(task)
            if left is None and self._attempts[task.job.folder, task.event] < ATTEMPTS:
                self._try_again(task, error)
                return
            run = left or record_failure(task.job.configuration, task.job.folder, error)
        if run.status == "stopped":
            self._progress.leave(task.job.folder)
            self._progress.say(_halted_line(run))
            self._note("halted", task.job, **_facts(run))
        else:
            self._finish(task.job, run)
        self._choose(task.job.recipe)

    def _try_again(self, task: _Task, error: BaseException) -> None:
        reason = f"{type(error).__name__}: {error}"
        self._note("lost", task.job, reason=reason)
        self._progress.leave(task.job.folder)
        self._progress.say(f"{task.job.title}: its worker was lost, it is tried again ({reason})")
        self._submit(task)

    def _finish(self, job: Job, run: Run) -> None:
        _settle_model(job, self._events, keep_models=self._keep_models)
        self._note(run.status, job, **_facts(run))
        self._progress.finished(job.folder, run)

    def _choose(self, recipe: str) -> None:
        """Ranks the runs of a recipe once all of them have got to the halt."""
        if not self._is_open:
            return
        jobs = {job.folder: job for job in self._jobs if job.recipe == recipe}
        is_waiting = any(task.job.recipe == recipe for task in self._pending.values())
        if self._stopping is None or is_waiting:
            return
        runs = {folder: run for folder in jobs if (run := at_the_halt(folder)) is not None}
        for ranked in choose(runs, keep=self._stopping.keep):
            if (ranked.folder / HALTED).exists():
                self._decide(ranked, jobs[ranked.folder], runs=len(runs))

    def _decide(self, ranked: Ranked, job: Job, *, runs: int) -> None:
        assert self._stopping is not None
        path = job.folder / "run.json"
        there = read_run(path) if path.exists() else None
        if there is not None and there.status != "stopped":
            return
        if ranked.is_chosen:
            if there is not None:
                path.unlink()
                self._progress.reopened()
            if not self._events.has("chosen", job.recipe, job.folder.name):
                self._note("chosen", job, rank=ranked.rank, of=runs, **_facts(ranked.run))
            self._submit(_Task(job, "resumed", run_rest, job.arguments))
            return
        stopped = ranked.stopped(runs=runs, keep=self._stopping.keep)
        if there != stopped:
            set_back(job.folder)
            write_run(stopped, path)
        if not self._events.has("stopped", job.recipe, job.folder.name):
            self._note("stopped", job, rank=ranked.rank, of=runs, **_facts(stopped))
        if there is None:
            self._progress.finished(job.folder, stopped)

    def _note(self, event: str, job: Job, **details: Any) -> None:
        self._events.add(event, job.recipe, job.folder.name, **details)


def _left_behind(task: _Task) -> Run | None:
    """The record that a worker wrote before it died: it died too late to lose the run."""
    if task.function is run_first_part:
        return at_the_halt(task.job.folder)
    path = task.job.folder / "run.json"
    if not path.exists():
        return None
    forget_halt(task.job.folder)
    return read_run(path)


def _facts(run: Run) -> dict[str, Any]:
    known = {
        "step": run.steps,
        "score": run.score,
        "seconds": round(run.seconds, 3),
        "reason": run.reason,
    }
    return {name: value for name, value in known.items() if value not in ("", None)}


def _halted_line(run: Run) -> str:
    score = "no score" if run.best_score is None else f"{run.metric} {run.best_score:.4f}"
    return f"{run.recipe} {run.name}: {score} at step {run.steps}, waits for the others"


def _settle_model(job: Job, events: EventLog, *, keep_models: bool) -> None:
    """Keeps the model of a run that has ended, or that of the recipe's best run alone.

    What an earlier start has kept on purpose is not for a later one to remove.
    """
    if keep_models:
        events.add("kept", job.recipe, job.folder.name)
        return
    kept = {name for event, recipe, name in events.seen if (event, recipe) == ("kept", job.recipe)}
    _keep_best_model(job.folder.parent, spared=kept)


def _keep_best_model(recipe_folder: Path, *, spared: Set[str]) -> None:
    """Keeps the model of the recipe's best run by validation: one model per recipe on disk."""
    runs = {path.parent: read_run(path) for path in sorted(recipe_folder.glob("*/run.json"))}
    scored = {f: r for f, r in runs.items() if r.checkpoint == "model" and r.best_score is not None}
    if not scored:
        return
    better = max if next(iter(scored.values())).greater_is_better else min
    best = better(scored, key=lambda folder: scored[folder].best_score or 0.0)
    for folder, run in scored.items():
        if folder != best and folder.name not in spared:
            shutil.rmtree(folder / "model", ignore_errors=True)
            write_run(replace(run, checkpoint=None), folder / "run.json")
