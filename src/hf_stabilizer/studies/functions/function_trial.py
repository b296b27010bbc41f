"""What does people's function make? A Trainer that is built once before a study, to be looked at.

It is told by it what decides: the metric that is named, or the first that `compute_metrics`
returns for a few rows, or the loss.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import Trainer, set_seed
from transformers.trainer_callback import PrinterCallback

from hf_stabilizer.arguments import (
    StabilizerArguments,
    drop_needless_head_seed,
    find_layers,
    offer_head_seed,
    skip_fitting,
)
from hf_stabilizer.configuration import Configuration
from hf_stabilizer.errors import ConfigurationError, LayerDiscoveryError
from hf_stabilizer.evaluation import EvaluationsPerEpochCallback
from hf_stabilizer.run import ON_TRIAL, heed
from hf_stabilizer.silent_mistakes import Finding, preflight
from hf_stabilizer.studies.by_itself import by_itself
from hf_stabilizer.studies.functions.deciding import Decision, decide
from hf_stabilizer.studies.functions.plugged_in import (
    check_arguments_used,
    check_can_be_scored,
    check_plugged_in,
    own_callbacks,
    trainer_and_test,
)
from hf_stabilizer.studies.functions.trainer_function import TrainerSource, call
from hf_stabilizer.studies.quiet import quietly


@dataclass(frozen=True)
class Trial:
    """What is known of a function's runs once it was called."""

    args: StabilizerArguments
    """The arguments, as the function left them."""
    task: str | None
    """The task that the model's class tells, where it is one that recipes know."""
    decision: Decision
    """Which metric decides."""
    rows: int | None
    """Training rows; None where they have no number."""
    times: tuple[int, ...]
    """`times` of each `EvaluationsPerEpochCallback`."""
    findings: tuple[Finding, ...]
    """What `preflight` finds."""


def try_out(configuration: Configuration, function: TrainerSource) -> Trial:
    """Builds a Trainer in a folder that is removed, and looks at it.

    Raises:
        ConfigurationError: The function raises, or what it returns cannot be studied.
    """
    with by_itself(), quietly(), TemporaryDirectory() as folder:
        args = arguments_of(configuration.with_values(**ON_TRIAL), Path(folder))
        skip_fitting(args)
        handed = args.metric_for_best_model
        if "greater_is_better" not in configuration.given:
            args.greater_is_better = None  # so that it is seen where the function sets it
        trainer, test = build(args, function)
        check_can_be_scored(trainer, function.name)
        decision = decide(trainer, test, configuration, handed=handed, name=function.name)
        findings = _look(trainer, args)
        heed(findings, quiet=True)
        trainer.create_optimizer()
        callbacks = trainer.callback_handler.callbacks
        return Trial(
            args=args,
            task=task_of(trainer.model),
            decision=decision,
            rows=row_count(trainer.train_dataset),
            times=tuple(c.times for c in callbacks if isinstance(c, EvaluationsPerEpochCallback)),
            findings=tuple(findings),
        )


def arguments_of(configuration: Configuration, folder: Path) -> StabilizerArguments:
    """Returns the arguments that a function is handed for a run."""
    args = configuration.arguments(output_dir=str(folder), disable_tqdm=True)
    if args.device.type == "cpu":
        args.dataloader_pin_memory = False  # nothing to pin for; torch would warn of it
    offer_head_seed(args)
    return args


def build(args: StabilizerArguments, function: TrainerSource) -> tuple[Trainer, Any]:
    """Calls the function and checks what it returns; the test rows are None if it returns none.

    The random state is set from `head_seed` before, so that new parameters are that seed's also
    where `prepare_model` is not called.

    Raises:
        ConfigurationError: It raised, or what it returned is not of this run.
    """
    set_seed(args.seed if args.head_seed is None else args.head_seed)
    trainer, test = trainer_and_test(call(function, args), function.name)  # Any: rows of any kind
    check_arguments_used(trainer, args, function.name)
    check_plugged_in(trainer, args, function.name)
    trainer.remove_callback(PrinterCallback)
    return trainer, test


def task_of(model: Any) -> str | None:  # Any: whatever a Trainer trains
    """Returns the task that a model's class tells, None if recipes know none such.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> config = BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1,
        ...     num_attention_heads=1, intermediate_size=4, num_labels=1)
        >>> task_of(BertForSequenceClassification(config))
        'text-regression'
    """
    model = model.get_base_model() if hasattr(model, "get_base_model") else model  # PEFT
    kind = type(model).__name__
    if kind.endswith("ForMultipleChoice"):
        return "multiple-choice"
    if not kind.endswith("ForSequenceClassification"):
        return None
    problem = model.config.problem_type
    is_number = problem == "regression" or (problem is None and model.config.num_labels == 1)
    return "text-regression" if is_number else "text-classification"


def _look(trainer: Trainer, args: StabilizerArguments) -> list[Finding]:
    assert trainer.model is not None  # it was built
    if args.head_seed is not None:
        # Layers that cannot be told are a finding only where an option needs them.
        with contextlib.suppress(LayerDiscoveryError, ConfigurationError):
            drop_needless_head_seed(trainer.model, args, find_layers(trainer.model, args))
    return preflight(
        trainer.model,
        args if trainer.args is args else trainer.args,
        trainer.train_dataset,
        eval_dataset=trainer.eval_dataset,
        callbacks=own_callbacks(trainer, args),
    )


def row_count(rows: Any) -> int | None:  # Any: a data set of any kind
    """Returns the number of rows; None for a stream."""
    try:
        return len(rows)
    except TypeError:
        return None
