"""What would a pre-training do, and what would it cost? Everything but the training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hf_stabilizer.configuration import load_configuration
from hf_stabilizer.control_study import check_runs
from hf_stabilizer.dry_run import Cost, DryRun, measure_cost, rehearse_run
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.pretraining.options import PretrainingOptions, training_values
from hf_stabilizer.pretraining.preparing import prepare
from hf_stabilizer.pretraining.running import RUNS, fine_tuning
from hf_stabilizer.pretraining.training import build_pretrainer
from hf_stabilizer.silent_mistakes.timetable import planned_steps, timetable

# Any in this module: whatever YAML can say.


@dataclass(frozen=True)
class PretrainingPlan:
    """What a further pre-training would do."""

    objective: str
    """"mlm", "clm" or "mlm+nsp"."""
    texts: Mapping[str, int]
    """Texts of each kind, and how many are left out for which reason."""
    rows: int
    """Rows of the language model to learn from."""
    held_out_rows: int
    """Rows on which perplexity is measured."""
    tokens: int
    """Tokens in the rows to learn from, special ones included."""
    max_length: int
    """Tokens of a row at the most."""
    packing: bool
    """Whether rows are packed."""
    steps_per_epoch: int
    """Optimizer steps of one epoch."""
    steps: int
    """Optimizer steps, unless it ends early."""
    cost: Cost
    """What it takes on this machine, measured on a few batches."""
    runs: int
    """Pairs of control runs."""
    seconds_per_run: float
    """Of one control run, measured likewise; 0 without them."""
    notes: tuple[str, ...]
    """What is worth knowing, a sentence each."""


def plan_pretraining(
    config: str | Path | Mapping[str, Any],
    *,
    training: Mapping[str, Any] | None = None,
    runs: int = RUNS,
    recipe: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    **options: Any,
) -> PretrainingPlan:
    """Says what `further_pretrain` with the same arguments would do and cost; writes nothing.

    Args:
        config: Path of a YAML file, or a mapping with the same keys.
        training: Training keys of the pre-training.
        runs: Pairs of control runs; 0: none.
        recipe: Name of a recipe, or a YAML file, laid over the configuration.
        overrides: Single keys of the configuration that beat both.
        **options: Fields of `PretrainingOptions`.

    Raises:
        ConfigurationError: Options, model and tokenizer do not fit.
        DataError: There is no text, or too little.
    """
    check_runs(runs)
    configuration = load_configuration(config, recipe=recipe, overrides=overrides)
    chosen = PretrainingOptions(**options)
    work = prepare(configuration, chosen, training_values(configuration, training))
    with TemporaryDirectory() as folder:  # the Trainer makes its output folder at once
        labels = {"report_to": "none", "disable_tqdm": True}
        trainer = build_pretrainer(work, chosen, Path(folder), labels=labels)
        steps, per_epoch = planned_steps(trainer.args, len(work.train))
        assert steps is not None  # the rows have a number
        assert per_epoch is not None
        callbacks = trainer.callback_handler.callbacks
        cost = measure_cost(trainer, callbacks, timetable(trainer.args, steps, per_epoch), steps)
    run = rehearse_control(fine_tuning(configuration)) if runs else None
    return PretrainingPlan(
        objective=work.objective,
        texts=dict(work.corpus.counts),
        rows=len(work.train),
        held_out_rows=len(work.held_out),
        tokens=work.tokens,
        max_length=work.max_length,
        packing=work.packing,
        steps_per_epoch=per_epoch,
        steps=steps,
        cost=cost,
        runs=runs,
        seconds_per_run=run.cost.seconds if run is not None and run.cost is not None else 0.0,
        notes=work.notes,
    )


def rehearse_control(keys: Mapping[str, Any]) -> DryRun:
    """Returns what a control run with these keys would do and cost.

    Raises:
        ConfigurationError: It would fail.
    """
    run = rehearse_run(keys)
    if run.cost is None:
        raise ConfigurationError(next(str(one) for one in run.findings if one.severity == "error"))
    return run
