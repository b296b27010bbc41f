"""What does a worker do with one run of a study? Train it, tell how far it is, record what came.

    run_once          the whole of it
    run_first_part    up to the fraction at which bad runs are stopped
    run_rest          from there to the end

Everything that crosses the border between processes is plain: paths, a configuration, a record.
"""

from __future__ import annotations

import gc
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_stabilizer.configuration import Configuration
from hf_stabilizer.dry_run import Cost
from hf_stabilizer.outcome import read_evaluations
from hf_stabilizer.records import Run, read_run, write_run
from hf_stabilizer.run import Part, drop_needless_checkpoints, record_failure
from hf_stabilizer.studies.by_itself import by_itself
from hf_stabilizer.studies.early_stopping.choosing import HALTED
from hf_stabilizer.studies.early_stopping.halting import HaltCallback, forget_halt, reopen, seal
from hf_stabilizer.studies.executors.ranks import first_to_fail, on_first
from hf_stabilizer.studies.full_disk import DiskFullError, is_disk_full
from hf_stabilizer.studies.progress import PROGRESS_FILE, write_progress
from hf_stabilizer.studies.quiet import quietly
from hf_stabilizer.studies.tracking import tracked
from hf_stabilizer.studies.trainable import Trainable

logger = logging.getLogger(__name__)


def run_once(trainable: Trainable, folder: str) -> Run:
    """Trains one run of a study in this process; a failure is a record, not an exception."""
    path = Path(folder)

    def whole() -> Run:
        return _executed(trainable, path, Part())

    return _recorded(whole, trainable.configuration, path)


def run_first_part(trainable: Trainable, folder: str, stop_at: float) -> Run:
    """Trains one run to a fraction of its steps and leaves what it takes to go on.

    Its record is "stopped" and stands in `halted.json`; a run that ended before, because it
    failed, has its record in `run.json` as any other.
    """
    path = Path(folder)

    def first_part() -> Run:
        halt = HaltCallback(stop_at)
        run = _executed(trainable, path, Part(is_halted=lambda: halt.is_halted, last=(halt,)))
        if run.status != "stopped":
            return run
        return on_first(_sealed, run, path)

    return _recorded(first_part, trainable.configuration, path)


def run_rest(trainable: Trainable, folder: str) -> Run:
    """Goes on with a run that was halted; one whose checkpoint was damaged begins anew."""
    path = Path(folder)

    def rest() -> Run:
        checkpoint = on_first(reopen, path)
        if checkpoint is None:
            logger.warning("no whole checkpoint is left in %s: the run begins anew", path)
            part = Part()
        else:
            part = Part(resume_from=checkpoint, seconds=read_run(path / HALTED).seconds)
        run = _executed(trainable, path, part)
        on_first(forget_halt, path)
        return run

    return _recorded(rest, trainable.configuration, path)


def probe(trainable: Trainable) -> Cost | None:
    """Trains and evaluates a few batches on a model that is thrown away; None: it would fail."""
    with by_itself(), quietly():
        return trainable.probe()


def _executed(trainable: Trainable, path: Path, part: Part) -> Run:
    """Trains a part of a run in this process, under its name in every tracker."""
    options = trainable.configuration.values
    with tracked(path, options, goes_on=part.resume_from is not None) as tracking:
        return trainable.execute(
            path,
            callbacks=[_progress(trainable, path), tracking.callback],
            part=replace(part, labels=tracking.labels),
        )


def _recorded(train: Callable[[], Run], configuration: Configuration, path: Path) -> Run:
    """What came of it; an exception becomes the record of a failed run.

    Raises:
        DiskFullError: Nothing more can be written. That is no failure of this run.
    """
    try:
        with by_itself(), quietly():
            return train()
    except Exception as error:
        first_to_fail()
        if is_disk_full(error):
            _make_room(path)
            raise DiskFullError.of(error, path) from error
        run = record_failure(configuration, path, error)
        drop_needless_checkpoints(configuration, path)
        return run
    finally:
        (path / PROGRESS_FILE).unlink(missing_ok=True)
        _free_memory()


def _sealed(run: Run, path: Path) -> Run:
    """Leaves a halted run as it can be gone on with, its record last."""
    run = replace(run, checkpoint=seal(path).name)
    write_run(run, path / HALTED)
    return run


def _free_memory() -> None:
    """Leaves the device to the next run: a Trainer and its model refer to one another."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _make_room(path: Path) -> None:
    """Leaves what a halted run goes on from, and nothing of what could not be written."""
    if (path / HALTED).exists():
        (path / "run.json").unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def _progress(trainable: Trainable, path: Path) -> TrainerCallback:
    return _ProgressCallback(path, trainable.configuration.metric)


class _ProgressCallback(TrainerCallback):
    """Writes the step and the best score so far into the run's folder."""

    def __init__(self, folder: Path, metric: str):
        self._folder, self._metric = folder, metric

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:  # Any: what the Trainer hands to every callback
        if not state.is_world_process_zero:
            return
        evaluations = read_evaluations(state.log_history[-3:])
        scores = [m[self._metric] for _, m in evaluations if self._metric in m]
        note = f"{self._metric} {scores[-1]:.3f}" if scores else ""
        write_progress(self._folder, step=state.global_step, max_steps=state.max_steps, note=note)
