"""What is one run? A configuration, rows and three seeds in; a model and a record out.

OUTPUT_DIR/configuration.yaml    what was run, resolved
OUTPUT_DIR/model/                the weights that validation chose, and the tokenizer
OUTPUT_DIR/run.json              the record
OUTPUT_DIR/predictions.npz       what these weights put out for validation and test rows
OUTPUT_DIR/traceback.txt         where it failed, if it did
"""

from __future__ import annotations

import functools
import io
import logging
import shutil
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from ruamel.yaml import YAML
from transformers import (
    EvalPrediction,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_callback import PrinterCallback

from hf_stabilizer.argument_depths import draws_layers
from hf_stabilizer.arguments import (
    StabilizerArguments,
    drop_needless_head_seed,
    find_layers,
    offer_head_seed,
    prepare_model,
    skip_fitting,
    stabilize,
)
from hf_stabilizer.configuration import SEEDS, Configuration, load_configuration
from hf_stabilizer.data import load_splits, resolve_location
from hf_stabilizer.errors import ConfigurationError, StabilizerError, first_line
from hf_stabilizer.metrics import build_compute_metrics
from hf_stabilizer.models import check_vocabulary, load_model, load_tokenizer
from hf_stabilizer.outcome import Outcome
from hf_stabilizer.output_folder import free_folder, resumed
from hf_stabilizer.prediction_recorder import PredictionRecorder
from hf_stabilizer.records import Run, read_run, versions, write_atomically, write_run
from hf_stabilizer.scoring_order import ScoringOrderCallback, in_their_own_order
from hf_stabilizer.silent_mistakes import Finding, preflight
from hf_stabilizer.silent_mistakes.checkpoint_names import keep_names
from hf_stabilizer.tasks import PreparedTask, prepare_task
from hf_stabilizer.tasks.sockets import complete_arguments, make_trainer
from hf_stabilizer.tasks.targets import whole_targets
from hf_stabilizer.transfer_source import check_tokenizer

logger = logging.getLogger(__name__)

LEVELS = {"warning": logging.WARNING, "note": logging.INFO}

# On the CPU, so that this process takes nothing of a GPU from the workers.
ON_TRIAL: Mapping[str, Any] = {"use_cpu": True, "fp16": False, "tf32": None}
"""What is set where everything is built once to see that it can be."""


@dataclass(frozen=True)
class Part:
    """Which part of a run is trained; the whole of it unless told otherwise."""

    resume_from: Path | None = None
    """Whole checkpoint that it goes on from."""
    seconds: float = 0.0
    """Wall-clock seconds of the parts before."""
    is_halted: Callable[[], bool] = bool
    """Tells after training whether a callback halted it on the way, to go on another time."""
    labels: Mapping[str, str | None] = field(default_factory=dict)
    """Options that tell trackers of it, such as `run_name`. They are not recorded."""

    def fitted(self, configuration: Configuration) -> Configuration:
        """Adds the labels; leaves out what the checkpoint brings anyhow and takes time."""
        configuration = configuration.with_values(**self.labels)
        if self.resume_from is None:
            return configuration
        return configuration.with_values(
            resume_from_checkpoint=str(self.resume_from), fit_head=False, fit_head_scale=None
        )


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


def prepare_data(configuration: Configuration) -> PreparedTask:
    """Reads, splits and tokenises the rows that a configuration names."""
    model = configuration.model
    splits = load_splits(configuration.data, task=model.task)
    for note in splits.notes:
        logger.info(note)
    location = resolve_location(model.model_name_or_path)
    tokenizer = load_tokenizer(location, task=model.task)
    check_vocabulary(tokenizer, location)
    return prepare_task(
        model.task,
        splits,
        tokenizer,
        max_length=model.max_length,
        max_target_length=model.max_target_length,
    )


def check(configuration: Configuration, prepared: PreparedTask) -> list[Finding]:
    """Builds everything that a run needs and trains nothing, so that errors come before a study.

    Returns:
        What `preflight` finds, as it stands for each run of this configuration.

    Raises:
        StabilizerError: The model, its layers and the options do not go together.
    """
    with TemporaryDirectory() as folder:
        trial = configuration.with_values(**ON_TRIAL)
        model, args = load_parts(trial, Path(folder), prepared, quiet=True)
        skip_fitting(args)
        findings = preflight(model, args, prepared.train, eval_dataset=prepared.validation)
        heed(findings, quiet=True)
        assemble(model, args, trial, prepared, quiet=True).create_optimizer()
    return findings


def execute(
    configuration: Configuration,
    folder: Path,
    prepared: PreparedTask,
    *,
    callbacks: Iterable[TrainerCallback] = (),
    quiet: bool = False,
    part: Part = Part(),
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
    folder.mkdir(parents=True, exist_ok=True)
    write_configuration(configuration, folder, settled=settled)
    try:
        trainer.train(resume_from_checkpoint=trainer.args.resume_from_checkpoint)
    except Exception as error:
        # Before the first step it is bad input, later a run that went wrong, as a guard's error.
        if first_step.was_begun and trainer.is_world_process_zero():
            record_failure(configuration, folder, error, trainer.state)
        raise
    run = _record(configuration, trainer.state)
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


def build_trainer(
    configuration: Configuration,
    folder: Path,
    prepared: PreparedTask,
    *,
    callbacks: Iterable[TrainerCallback] = (),
    quiet: bool = False,
) -> Trainer:
    """Returns the stock Trainer of a run, ready to train.

    Raises:
        ConfigurationError: `preflight` finds that the run would fail, or the Trainer refuses it.
    """
    callbacks = list(callbacks)
    model, args = load_parts(configuration, folder, prepared, quiet=quiet)
    findings = preflight(
        model, args, prepared.train, eval_dataset=prepared.validation, callbacks=callbacks
    )
    heed(findings, quiet=quiet or args.process_index > 0)
    return assemble(model, args, configuration, prepared, callbacks=callbacks, quiet=quiet)


def load_parts(
    configuration: Configuration, folder: Path, prepared: PreparedTask, *, quiet: bool = False
) -> tuple[PreTrainedModel, StabilizerArguments]:
    """Returns the model of a run as it was loaded, and the arguments of its Trainer."""
    args = configuration.arguments(
        output_dir=str(folder), **({"disable_tqdm": True} if quiet else {})
    )
    if args.device.type == "cpu":
        args.dataloader_pin_memory = False  # nothing to pin for; torch would warn of it
    model = _model(configuration, prepared)
    complete_arguments(args, prepared, model)
    if args.transfer_from is not None:
        check_tokenizer(args.transfer_from, prepared.tokenizer)
    if draws_layers(args):
        offer_head_seed(args)  # They are drawn from it, whether or not the head is.
    else:
        drop_needless_head_seed(model, args, find_layers(model, args))
    return model, args


def heed(findings: Iterable[Finding], *, quiet: bool = False) -> None:
    """Logs what was found, and raises where the run would fail.

    Raises:
        ConfigurationError: One finding or more is an error.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more: see --dry-run)" if errors[1:] else ""
        raise ConfigurationError(f"{errors[0]}{more}")
    for finding in () if quiet else findings:
        logger.log(LEVELS[finding.severity], "%s", finding)


def assemble(
    model: PreTrainedModel,
    args: StabilizerArguments,
    configuration: Configuration,
    prepared: PreparedTask,
    *,
    callbacks: Iterable[TrainerCallback] = (),
    quiet: bool = False,
) -> Trainer:
    """Prepares the model and plugs everything into the stock Trainer."""
    # Where the pass over the rows that `fit_head` makes is fast.
    model.to(args.device)  # type: ignore[arg-type]  # as transformers decorates `to`
    collator = prepared.collator_for(model)
    rows = prepared.decided_train if args.fit_head else None
    prepare_model(model, args, train_dataset=rows, data_collator=collator)
    options = stabilize(args, callbacks)
    compute_metrics = _metrics(configuration, prepared)
    try:
        trainer = make_trainer(
            prepared,
            model,
            args=args,
            train_dataset=prepared.train,
            eval_dataset=prepared.validation,
            data_collator=collator,
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


def record_failure(
    configuration: Configuration,
    folder: Path,
    error: BaseException,
    state: TrainerState | None = None,
) -> Run:
    """Writes and returns the record of a run that raised, with what it had reached by then.

    What `execute` has recorded of the same error stays: it knows the Trainer's state.
    """
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
    path = folder / "run.json"
    if state is None and path.exists() and (there := read_run(path)).reason == reason:
        return there
    run = replace(_record(configuration, state), status="failed", reason=reason)
    text = "".join(traceback.format_exception(error))
    write_atomically(folder / "traceback.txt", text)
    write_run(run, path)
    return run


def write_configuration(
    configuration: Configuration, folder: Path, *, settled: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Writes the resolved configuration so that `train` can read it again.

    Args:
        configuration: What was asked for.
        folder: Folder of the run.
        settled: What was left open and the rows have settled; it stands under a key that is no
            option, so that a run that guesses and one that is told go on alike.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    text = io.StringIO()
    ours = {"recipe": configuration.recipe, "versions": versions()}
    if settled:
        ours["settled"] = dict(settled)
    yaml.dump({**configuration.recorded, **ours}, text)
    write_atomically(folder / "configuration.yaml", text.getvalue())


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


def _record(configuration: Configuration, state: TrainerState | None) -> Run:
    """The record of a run, as far as the Trainer's state tells it."""
    greater_is_better = configuration.values["greater_is_better"]
    history = state.log_history if state else []
    outcome = Outcome.of(
        history,
        metric=configuration.metric,
        greater_is_better=greater_is_better,
    )
    reason = outcome.reason
    return Run(
        recipe=configuration.recipe,
        seeds={name: configuration.values[name] for name in SEEDS},
        status="failed" if reason else "finished",
        reason=reason,
        evaluations=outcome.evaluations,
        metric=configuration.metric,
        greater_is_better=greater_is_better,
        best_score=outcome.best_score,
        last_score=outcome.last_score,
        steps=state.global_step if state else 0,
        versions=versions(),
        configuration=configuration.recorded,
    )


class _FirstStepCallback(TrainerCallback):
    """Tells what is refused when training begins from what goes wrong later."""

    was_begun = False

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:  # Any: what the Trainer hands to every callback
        self.was_begun = True


def _model(configuration: Configuration, prepared: PreparedTask) -> PreTrainedModel:
    set_seed(configuration.values["seed"])
    model = load_model(prepared, resolve_location(configuration.model.model_name_or_path))
    keep_names(model)
    return model


def _metrics(
    configuration: Configuration, prepared: PreparedTask
) -> Callable[[EvalPrediction], dict[str, float]]:
    return build_compute_metrics(
        configuration.metrics,
        prepared.problem_type or prepared.task,
        num_labels=prepared.num_labels,
        label_names=prepared.label_names,
        tokenizer=prepared.tokenizer,
        references=functools.partial(whole_targets, prepared),
    )


def _keep_model(trainer: Trainer, folder: Path, configuration: Configuration) -> None:
    """Saves what the model holds now, and removes checkpoints that only served to choose it."""
    trainer.save_model(str(folder / "model"))
    values = configuration.values
    if values.get("save_strategy") == "best" and values.get("save_only_model"):
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
