"""How are the predictions of the chosen weights kept without predicting again?

The Trainer hands the outputs of every evaluation to `compute_metrics` and forgets them. This keeps
those of the evaluation that it would choose: the best so far where the best weights are loaded at
the end, else the last one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import (
    EvalPrediction,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import PredictionOutput

from hf_stabilizer.predictions import Predictions, read_predictions, write_predictions

ComputeMetrics = Callable[[EvalPrediction], dict[str, float]]


class PredictionRecorder(TrainerCallback):
    """Writes the outputs of the chosen weights into `predictions.npz` in the run's folder.

    It costs no pass over the rows. Where `batch_eval_metrics` or the absence of `compute_metrics`
    lets the Trainer drop the outputs, there is nothing to write for the validation rows.

    Args:
        folder: Folder of the run. A run that goes on from a checkpoint goes on with the file.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._heard: EvalPrediction | None = None
        self._keeps_best = False

    def listen_to(self, trainer: Trainer) -> None:
        """Joins a Trainer: as one of its callbacks, and between it and its `compute_metrics`."""
        trainer.add_callback(self)
        if trainer.compute_metrics is not None and not trainer.args.batch_eval_metrics:
            trainer.compute_metrics = self._hearing(trainer.compute_metrics)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:  # Any: what the Trainer hands to every callback
        """Notes whether the best weights count; a study that halts a run takes that back later."""
        self._keeps_best = args.load_best_model_at_end

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Writes the outputs down if these weights are the ones to keep so far."""
        heard, self._heard = self._heard, None
        if heard is None or not state.is_world_process_zero:
            return
        if not self._keeps_best or _is_best(args, state, kwargs["metrics"]):
            self._write("validation", heard.predictions, heard.label_ids)

    def add_test(self, output: PredictionOutput) -> None:
        """Writes the outputs on the test rows beside those on the validation rows."""
        self._write("test", output.predictions, output.label_ids)

    def _write(self, part: str, outputs: object, labels: object) -> None:
        there = read_predictions(self._folder) or Predictions()
        write_predictions(there.with_part(part, outputs, labels), self._folder)

    def _hearing(self, compute_metrics: ComputeMetrics) -> ComputeMetrics:
        def hear(prediction: EvalPrediction) -> dict[str, float]:
            self._heard = prediction
            return compute_metrics(prediction)

        return hear


def _is_best(args: TrainingArguments, state: TrainerState, metrics: Mapping[str, float]) -> bool:
    """Whether the Trainer, which decides after this event, will find these weights the best."""
    name = args.metric_for_best_model or "loss"
    score = metrics.get(name if name.startswith("eval_") else f"eval_{name}")
    if score is None:
        return False
    if args.greater_is_better:
        return score > (-math.inf if state.best_metric is None else state.best_metric)
    return score < (math.inf if state.best_metric is None else state.best_metric)
