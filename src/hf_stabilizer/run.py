"""What is one run? A configuration, rows and three seeds in; a model and a record out.

OUTPUT_DIR/configuration.yaml    what was run, resolved
OUTPUT_DIR/model/                the weights that validation chose, and the tokenizer
OUTPUT_DIR/run.json              the record
OUTPUT_DIR/traceback.txt         where it failed, if it did
"""

from __future__ import annotations

import io
import logging
import shutil
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ruamel.yaml import YAML
from transformers import EvalPrediction, PreTrainedModel, Trainer, TrainerCallback, set_seed
from transformers.trainer_callback import PrinterCallback

from hf_stabilizer.arguments import (
    StabilizerArguments,
    find_layers,
    prepare_model,
    stabilize,
)
from hf_stabilizer.configuration import SEEDS, Configuration, load_configuration
from hf_stabilizer.data import load_splits, resolve_location
from hf_stabilizer.errors import ConfigurationError, StabilizerError, first_line
from hf_stabilizer.metrics import build_compute_metrics
from hf_stabilizer.models import load_model, load_tokenizer
from hf_stabilizer.outcome import Outcome
from hf_stabilizer.records import Run, check_folder, versions, write_atomically, write_run
from hf_stabilizer.reinitialization import has_new_parameters
from hf_stabilizer.tasks import PreparedTask, prepare_task

logger = logging.getLogger(__name__)


def train(
    config: str | Path | Mapping[str, Any],
    *,
    recipe: str | None = None,
    callbacks: Iterable[TrainerCallback] = (),
    **overrides: Any,
) -> Run:
    """Trains one model from a configuration, keeps what validation chose, and records the run.

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
    configuration = load_configuration(config, recipe=recipe, overrides=overrides)
    folder = _free_folder(configuration)
    prepared = prepare_data(configuration)
    try:
        return execute(configuration, folder, prepared, callbacks=callbacks)
    except StabilizerError:  # Something in the input, told before the first step.
        raise
    except Exception as error:
        record_failure(configuration, folder, error)
        raise


def prepare_data(configuration: Configuration) -> PreparedTask:
    """Reads, splits and tokenises the rows that a configuration names."""
    model = configuration.model
    splits = load_splits(configuration.data, task=model.task)
    for note in splits.notes:
        logger.info(note)
    tokenizer = load_tokenizer(resolve_location(model.model_name_or_path))
    return prepare_task(model.task, splits, tokenizer, max_length=model.max_length)


def check(configuration: Configuration, prepared: PreparedTask) -> None:
    """Builds everything that a run needs and trains nothing, so that errors come before a study.

    Raises:
        StabilizerError: The model, its layers and the options do not go together.
    """
    # On the CPU, so that this process takes nothing of a GPU from the workers.
    on_cpu = {"use_cpu": True, "fp16": False, "tf32": None, "fit_head": False}
    trial = configuration.with_values(**on_cpu, fit_head_scale=None)
    with TemporaryDirectory() as folder:
        build_trainer(trial, Path(folder), prepared, quiet=True).create_optimizer()


def execute(
    configuration: Configuration,
    folder: Path,
    prepared: PreparedTask,
    *,
    callbacks: Iterable[TrainerCallback] = (),
    quiet: bool = False,
) -> Run:
    """Runs once, in this process, and writes the record; an exception is left to the caller."""
    start = time.perf_counter()
    trainer = build_trainer(configuration, folder, prepared, callbacks=callbacks, quiet=quiet)
    folder.mkdir(parents=True, exist_ok=True)
    write_configuration(configuration, folder)
    trainer.train(resume_from_checkpoint=trainer.args.resume_from_checkpoint)
    test_score = _score_test(trainer, prepared, configuration)
    if trainer.is_world_process_zero():
        _keep_model(trainer, folder, configuration)
    outcome = Outcome.of(
        trainer.state.log_history,
        metric=configuration.metric,
        greater_is_better=configuration.values["greater_is_better"],
    )
    run = replace(
        _record(configuration),
        status=outcome.status,
        reason=outcome.reason,
        evaluations=outcome.evaluations,
        best_score=outcome.best_score,
        last_score=outcome.last_score,
        test_score=test_score,
        seconds=time.perf_counter() - start,
        steps=trainer.state.global_step,
        checkpoint="model",
    )
    if trainer.is_world_process_zero():
        write_run(run, folder / "run.json")
    return run


def build_trainer(
    configuration: Configuration,
    folder: Path,
    prepared: PreparedTask,
    *,
    callbacks: Iterable[TrainerCallback] = (),
    quiet: bool = False,
) -> Trainer:
    """Returns the stock Trainer of a run, ready to train."""
    args = configuration.arguments(
        output_dir=str(folder), **({"disable_tqdm": True} if quiet else {})
    )
    if args.device.type == "cpu":
        args.dataloader_pin_memory = False  # nothing to pin for; torch would warn of it
    model = _model(configuration, prepared)
    _seed_new_parameters_only(args, model)
    # Where the pass over the rows that `fit_head` makes is fast.
    model.to(args.device)  # type: ignore[arg-type]  # as transformers decorates `to`
    prepare_model(model, args, train_dataset=prepared.train, data_collator=prepared.data_collator)
    options = stabilize(args, callbacks)
    compute_metrics = _metrics(configuration, prepared)
    try:
        trainer = Trainer(
            model=model,
            args=args,
            train_dataset=prepared.train,
            eval_dataset=prepared.validation,
            data_collator=prepared.data_collator,
            processing_class=prepared.tokenizer,
            compute_metrics=compute_metrics,
            **options,
        )
    except StabilizerError:
        raise
    except (ValueError, ImportError, RuntimeError) as error:
        reason = first_line(error)
        raise ConfigurationError(f"the Trainer refuses this configuration: {reason}") from error
    if quiet:
        trainer.remove_callback(PrinterCallback)
    return trainer


def record_failure(configuration: Configuration, folder: Path, error: BaseException) -> Run:
    """Writes and returns the record of a run that raised."""
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
    run = replace(_record(configuration), status="failed", reason=reason)
    text = "".join(traceback.format_exception(error))
    write_atomically(folder / "traceback.txt", text)
    write_run(run, folder / "run.json")
    return run


def write_configuration(configuration: Configuration, folder: Path) -> None:
    """Writes the resolved configuration so that `train` can read it again."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    text = io.StringIO()
    yaml.dump(
        {**configuration.recorded, "recipe": configuration.recipe, "versions": versions()}, text
    )
    write_atomically(folder / "configuration.yaml", text.getvalue())


def _score_test(
    trainer: Trainer, prepared: PreparedTask, configuration: Configuration
) -> float | None:
    """Scores the test rows, once, with the weights that the model holds after training."""
    if prepared.test is None:
        return None
    metrics = trainer.predict(prepared.test, metric_key_prefix="test").metrics or {}
    return float(metrics[f"test_{configuration.metric}"])


def _record(configuration: Configuration) -> Run:
    return Run(
        recipe=configuration.recipe,
        seeds={name: configuration.values[name] for name in SEEDS},
        status="finished",
        metric=configuration.metric,
        greater_is_better=configuration.values["greater_is_better"],
        versions=versions(),
        configuration=configuration.recorded,
    )


def _model(configuration: Configuration, prepared: PreparedTask) -> PreTrainedModel:
    set_seed(configuration.values["seed"])
    return load_model(prepared, resolve_location(configuration.model.model_name_or_path))


def _metrics(
    configuration: Configuration, prepared: PreparedTask
) -> Callable[[EvalPrediction], dict[str, float]]:
    return build_compute_metrics(
        configuration.metrics, prepared.problem_type, num_labels=prepared.num_labels
    )


def _seed_new_parameters_only(args: StabilizerArguments, model: PreTrainedModel) -> None:
    """Takes `head_seed` back where the checkpoint brought its head: there is nothing to draw."""
    if not has_new_parameters(model, layer_map=find_layers(model, args)):
        logger.info("the checkpoint brings a trained head, which is kept: head_seed draws nothing")
        args.head_seed = None


def _keep_model(trainer: Trainer, folder: Path, configuration: Configuration) -> None:
    """Saves what the model holds now, and removes checkpoints that only served to choose it."""
    trainer.save_model(str(folder / "model"))
    values = configuration.values
    if values.get("save_strategy") == "best" and values.get("save_only_model"):
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)


def _free_folder(configuration: Configuration) -> Path:
    if not configuration.values.get("output_dir"):
        raise ConfigurationError("output_dir is missing; name the folder for model and record")
    folder = Path(configuration.values["output_dir"])
    check_folder(folder, key="output_dir")
    checkpoint = configuration.values.get("resume_from_checkpoint")
    if checkpoint and not Path(checkpoint).is_dir():
        raise ConfigurationError(
            f"resume_from_checkpoint {checkpoint!r} is no folder; name a checkpoint, for instance "
            f"{str(folder / 'checkpoint-100')!r}"
        )
    for name, what in (("run.json", "a run"), ("study.json", "a study")):
        if (folder / name).exists():
            raise ConfigurationError(
                f"output_dir {str(folder)!r} holds {what} already; "
                "name another folder, or remove it"
            )
    if not checkpoint and any(folder.glob("checkpoint-*")):
        raise ConfigurationError(
            f"output_dir {str(folder)!r} holds checkpoints of a run that was cut off; set "
            "resume_from_checkpoint to one of them, name another folder, or remove it"
        )
    return folder
