"""How is one run carried out? Trained, scored; what validation chose is kept and recorded."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_stabilizer.configuration import Configuration, load_configuration
from hf_stabilizer.errors import ConfigurationError, StabilizerError
from hf_stabilizer.output_folder import free_folder, resumed
from hf_stabilizer.prediction_recorder import PredictionRecorder
from hf_stabilizer.records import Run, write_run
from hf_stabilizer.run.building import build_trainer, prepare_data
from hf_stabilizer.run.part import WHOLE, Part
from hf_stabilizer.run.recalling import recall
from hf_stabilizer.run.writing import record_failure, record_of, write_configuration
from hf_stabilizer.scoring_order import ScoringOrderCallback, in_their_own_order
from hf_stabilizer.tasks import PreparedTask


def train(
    config: str | Path | Mapping[str, Any],
    *,
    recipe: str | None = None,
    callbacks: Iterable[TrainerCallback] = (),
    **overrides: Any,
) -> Run:
    """Trains one model from a configuration, keeps what validation chose, and records the run.

    What would go wrong in silence is logged before the first step (see `preflight`); what would
    fail is an error then. A run that was cut off goes on from the newest whole checkpoint in its
    output folder when it is started again with the same configuration, and begins anew where
    there is none.

    Args:
        config: Path of a YAML file, or a mapping with the same keys; `output_dir` among them.
        recipe: Name of a recipe that ships, or a YAML file of one's own, laid over it.
        callbacks: More callbacks for the Trainer.
        **overrides: Single keys that beat both.

    Returns:
        The record; it is also in `OUTPUT_DIR/run.json`, the model in `OUTPUT_DIR/model`.

    Raises:
        ConfigurationError: Something in the configuration cannot be right, or the output folder
            holds a run already.
        DataError: The rows are not as the configuration says.
    """
    callbacks = _checked(callbacks)
    configuration = load_configuration(config, recipe=recipe, overrides=overrides)
    folder = free_folder(configuration)
    configuration = resumed(configuration, folder)
    prepared = prepare_data(configuration)
    try:
        return execute(configuration, folder, prepared, callbacks=callbacks)
    except StabilizerError:  # Told before the first step, or recorded by `execute`.
        raise
    except Exception as error:
        record_failure(configuration, folder, error)
        raise


def _checked(callbacks: object) -> list[TrainerCallback]:
    """Returns callbacks as a list.

    Raises:
        ConfigurationError: They are something else.
    """
    if not isinstance(callbacks, Iterable):
        raise ConfigurationError(f"callbacks must be a list of TrainerCallbacks, got {callbacks!r}")
    found: list[TrainerCallback] = list(callbacks)
    for callback in found:
        kind = callback if isinstance(callback, type) else type(callback)
        if not issubclass(kind, TrainerCallback):
            raise ConfigurationError(f"callbacks must be TrainerCallbacks, got {callback!r}")
    return found


def execute(
    configuration: Configuration,
    folder: Path,
    prepared: PreparedTask,
    *,
    callbacks: Iterable[TrainerCallback] = (),
    quiet: bool = False,
    part: Part = WHOLE,
) -> Run:
    """Runs once, in this process, and writes the record; an exception is left to the caller.

    A run that was halted on the way is "stopped": it is neither scored nor written down, for it
    is not over.
    """
    start = time.perf_counter() - part.seconds
    fitted = part.fitted(configuration)
    trainer = build_trainer(fitted, folder, prepared, callbacks=callbacks, quiet=quiet)
    return carry_out(
        trainer,
        configuration,
        folder,
        test=prepared.test,
        start=start,
        part=part,
        settled=_settled(prepared, trainer),
    )


def carry_out(
    trainer: Trainer,
    configuration: Configuration,
    folder: Path,
    *,
    test: Any,  # Any: whatever the Trainer takes as a dataset
    start: float,
    part: Part,
    settled: Mapping[str, Any] = MappingProxyType({}),
) -> Run:
    """Trains what was built, scores it, keeps what validation chose and writes the record.

    Args:
        trainer: Ready to train; its arguments name the checkpoint to resume from, if any.
        configuration: Says which metric decides, and what to record.
        folder: Folder of the run.
        test: Rows to score once with the weights that validation chose; None: there are none.
        start: When the run began, by `time.perf_counter`, parts before counted.
        part: Which part of the run it is.
        settled: What the rows have settled, to write beside the configuration: see `_settled`.
    """
    first_step = _FirstStepCallback()
    trainer.add_callback(first_step)
    recorder = PredictionRecorder(folder)
    recorder.listen_to(trainer)
    rows = trainer.eval_dataset
    trainer.add_callback(ScoringOrderCallback(len(rows) if isinstance(rows, dict) else 1))
    for callback in part.last:
        trainer.add_callback(callback)
    if isinstance(checkpoint := trainer.args.resume_from_checkpoint, str):
        recall(trainer.callback_handler.callbacks, checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    write_configuration(configuration, folder, settled=settled)
    try:
        trainer.train(resume_from_checkpoint=trainer.args.resume_from_checkpoint)
    except Exception as error:
        # Before the first step it is bad input, later a run that went wrong, as a guard's error.
        if first_step.was_begun and trainer.is_world_process_zero():
            record_failure(configuration, folder, error, trainer.state)
        raise
    run = record_of(configuration, trainer.state)
    if part.is_halted():
        return replace(run, status="stopped", seconds=time.perf_counter() - start)
    test_score = _score_test(trainer, test, configuration, recorder)
    if trainer.is_world_process_zero():
        _keep_model(trainer, folder, configuration)
    run = replace(
        run,
        test_score=test_score,
        seconds=time.perf_counter() - start,
        checkpoint="model",
    )
    if trainer.is_world_process_zero():
        write_run(run, folder / "run.json")
    return run


def _settled(prepared: PreparedTask, trainer: Trainer) -> dict[str, Any]:
    """Returns what predictions need and no file says else: columns, and the length of texts."""
    longest = getattr(trainer.args, "generation_max_length", None)
    return {**prepared.settled, **({"generation_max_length": longest} if longest else {})}


def _score_test(
    trainer: Trainer,
    test: Any,  # Any: whatever the Trainer takes as a dataset
    configuration: Configuration,
    recorder: PredictionRecorder,
) -> float | None:
    """Scores the test rows, once, with the weights that the model holds after training."""
    if test is None:
        return None
    with in_their_own_order(trainer.args):
        output = trainer.predict(test, metric_key_prefix="test")
    if trainer.is_world_process_zero():
        recorder.add_test(output)
    return float((output.metrics or {})[f"test_{configuration.metric}"])


class _FirstStepCallback(TrainerCallback):
    """Tells what is refused when training begins from what goes wrong later."""

    was_begun = False

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:  # Any: what the Trainer hands to every callback
        self.was_begun = True


def _keep_model(trainer: Trainer, folder: Path, configuration: Configuration) -> None:
    """Saves what the model holds now, in the place of checkpoints that only served to choose it."""
    trainer.save_model(str(folder / "model"))
    drop_needless_checkpoints(configuration, folder)


def drop_needless_checkpoints(configuration: Configuration, folder: Path) -> None:
    """Removes checkpoints from which nothing can go on: they only served to choose the weights."""
    values = configuration.values
    if values.get("save_strategy") == "best" and values.get("save_only_model"):
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint, ignore_errors=True)
