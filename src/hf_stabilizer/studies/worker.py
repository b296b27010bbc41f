"""What does a worker do with one run of a study? Train it, tell how far it is, record what came.

    run_once          the whole of it
    run_first_part    up to the fraction at which bad runs are stopped
    run_rest          from there to the end

Everything that crosses the border between processes is plain: paths, a configuration, a record.
"""

from __future__ import annotations

import functools
import logging
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import transformers
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_stabilizer.configuration import Configuration
from hf_stabilizer.outcome import read_evaluations
from hf_stabilizer.records import Run, read_run, write_run
from hf_stabilizer.run import Part, execute, record_failure
from hf_stabilizer.studies.choosing import HALTED
from hf_stabilizer.studies.full_disk import DiskFullError, is_disk_full
from hf_stabilizer.studies.halting import HaltCallback, forget_halt, reopen, seal
from hf_stabilizer.studies.progress import PROGRESS_FILE, write_progress
from hf_stabilizer.tasks import PreparedTask

logger = logging.getLogger(__name__)


def run_once(configuration: Configuration, folder: str, data: str) -> Run:
    """Trains one run of a study in this process; a failure is a record, not an exception."""
    path = Path(folder)

    def whole() -> Run:
        callbacks = [_ProgressCallback(path, configuration.metric)]
        return execute(configuration, path, _rows(data), callbacks=callbacks, quiet=True)

    return _recorded(whole, configuration, path)


def run_first_part(configuration: Configuration, folder: str, data: str, stop_at: float) -> Run:
    """Trains one run to a fraction of its steps and leaves what it takes to go on.

    Its record is "stopped" and stands in `halted.json`; a run that ended before, because it
    failed, has its record in `run.json` as any other.
    """
    path = Path(folder)

    def first_part() -> Run:
        halt = HaltCallback(stop_at)
        callbacks = [halt, _ProgressCallback(path, configuration.metric)]
        part = Part(is_halted=lambda: halt.is_halted)
        run = execute(configuration, path, _rows(data), callbacks=callbacks, quiet=True, part=part)
        if run.status != "stopped":
            return run
        run = replace(run, checkpoint=seal(path).name)
        write_run(run, path / HALTED)
        return run

    return _recorded(first_part, configuration, path)


def run_rest(configuration: Configuration, folder: str, data: str) -> Run:
    """Goes on with a run that was halted; one whose checkpoint was damaged begins anew."""
    path = Path(folder)

    def rest() -> Run:
        checkpoint = reopen(path)
        if checkpoint is None:
            logger.warning("no whole checkpoint is left in %s: the run begins anew", path)
            part = Part()
        else:
            part = Part(resume_from=checkpoint, seconds=read_run(path / HALTED).seconds)
        callbacks = [_ProgressCallback(path, configuration.metric)]
        run = execute(configuration, path, _rows(data), callbacks=callbacks, quiet=True, part=part)
        forget_halt(path)
        return run

    return _recorded(rest, configuration, path)


def _recorded(train: Callable[[], Run], configuration: Configuration, path: Path) -> Run:
    """What came of it; an exception becomes the record of a failed run.

    Raises:
        DiskFullError: Nothing more can be written. That is no failure of this run.
    """
    be_quiet()
    try:
        return train()
    except Exception as error:
        if is_disk_full(error):
            _make_room(path)
            raise DiskFullError.of(error, path) from error
        return record_failure(configuration, path, error)
    finally:
        (path / PROGRESS_FILE).unlink(missing_ok=True)


def _make_room(path: Path) -> None:
    """Leaves what a halted run goes on from, and nothing of what could not be written."""
    if (path / HALTED).exists():
        (path / "run.json").unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


@functools.lru_cache(maxsize=4)
def _rows(folder: str) -> PreparedTask:
    """Rows tokenised once for the whole study, opened once in each worker."""
    return PreparedTask.load_from(Path(folder))


class _ProgressCallback(TrainerCallback):
    """Writes the step and the best score so far into the run's folder."""

    def __init__(self, folder: Path, metric: str):
        self._folder, self._metric = folder, metric

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:  # Any: what the Trainer hands to every callback
        evaluations = read_evaluations(state.log_history[-3:])
        scores = [m[self._metric] for _, m in evaluations if self._metric in m]
        note = f"{self._metric} {scores[-1]:.3f}" if scores else ""
        write_progress(self._folder, step=state.global_step, max_steps=state.max_steps, note=note)


def be_quiet() -> None:
    """Leaves a worker's output to the study's own lines; warnings go to the log, not the screen."""
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.captureWarnings(True)
    warnings.simplefilter("default")
