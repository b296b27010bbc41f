"""What does a run train with? Rows, model and arguments, plugged into the stock Trainer.

    configuration --prepare_data--> rows --load_parts--> model and arguments
                                             |
                          preflight: `heed`  +--assemble--> Trainer, ready to train

`check` does all of it once and trains nothing.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import EvalPrediction, PreTrainedModel, Trainer, TrainerCallback, set_seed
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
from hf_stabilizer.configuration import Configuration
from hf_stabilizer.data import load_splits, resolve_location
from hf_stabilizer.errors import ConfigurationError, StabilizerError, first_line
from hf_stabilizer.metrics import build_compute_metrics
from hf_stabilizer.models import check_vocabulary, load_model, load_tokenizer
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
