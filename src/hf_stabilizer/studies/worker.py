"""What does a worker do with one run of a study? Train it, tell how far it is, record what came.

Everything that crosses the border between processes is plain: paths, a configuration, a record.
"""

from __future__ import annotations

import functools
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import transformers
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_stabilizer.configuration import Configuration
from hf_stabilizer.outcome import read_evaluations
from hf_stabilizer.records import Run
from hf_stabilizer.run import execute, record_failure
from hf_stabilizer.studies.progress import PROGRESS_FILE, write_progress
from hf_stabilizer.tasks import PreparedTask


def run_once(configuration: Configuration, folder: str, data: str) -> Run:
    """Trains one run of a study in this process; a failure is a record, not an exception."""
    _be_quiet()
    path = Path(folder)
    try:
        callbacks = [_ProgressCallback(path, configuration.metric)]
        return execute(configuration, path, _rows(data), callbacks=callbacks, quiet=True)
    except Exception as error:
        return record_failure(configuration, path, error)
    finally:
        (path / PROGRESS_FILE).unlink(missing_ok=True)


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


def _be_quiet() -> None:
    """Leaves a worker's output to the study's own lines; warnings go to the log, not the screen."""
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.captureWarnings(True)
    warnings.simplefilter("default")
