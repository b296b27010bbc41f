"""Which mistakes are looked for? The table of all checks, and the one look through all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from torch import nn
from transformers import TrainerCallback, TrainingArguments

from hf_stabilizer.arguments import StabilizerArguments, check_blocks, find_layers, stabilize
from hf_stabilizer.errors import ConfigurationError, LayerDiscoveryError
from hf_stabilizer.evaluation import EvaluationsPerEpochCallback
from hf_stabilizer.layers import LayerMap
from hf_stabilizer.silent_mistakes import (
    averages,
    checkpoint_names,
    labels,
    looking,
    optimization,
    thawing,
    weights,
)
from hf_stabilizer.silent_mistakes.finding import Finding
from hf_stabilizer.silent_mistakes.plan import Plan
from hf_stabilizer.silent_mistakes.rows import look_at
from hf_stabilizer.silent_mistakes.timetable import LONGEST, planned_steps, timetable

Check: TypeAlias = Callable[[Plan], Finding | None]

CHECKS: Sequence[Check] = (
    labels.unreadable_rows,
    labels.no_labels,
    labels.wrong_kind_of_labels,
    labels.labels_not_finite,
    labels.labels_out_of_range,
    labels.unknown_tokens,
    labels.rows_too_long,
    labels.no_padding_token,
    labels.constant_label,
    labels.missing_classes,
    labels.rare_classes,
    weights.nothing_trainable,
    weights.frozen_before_optimizer,
    weights.half_precision,
    weights.trained_head,
    weights.unseeded_head,
    weights.dead_pooler,
    weights.batch_norm_averaged,
    weights.no_dropout,
    optimization.optimizer_missing,
    optimization.no_step,
    optimization.few_steps,
    optimization.idle_rate,
    optimization.warmup_beyond_run,
    optimization.no_warmup,
    optimization.no_bias_correction,
    optimization.no_clipping,
    optimization.small_batch,
    optimization.smoothed_labels,
    optimization.loss_scaled_by_processes,
    optimization.accumulated_losses,
    optimization.hidden_nan,
    thawing.two_freezings,
    thawing.thaws_beyond_run,
    thawing.freezing_refused,
    averages.two_averagings,
    averages.averaging_refused,
    averages.two_owners_of_the_rate,
    averages.average_begins_too_late,
    averages.short_swa,
    averages.unreached_decay,
    averages.stuck_average,
    averages.one_checkpoint,
    averages.average_left_behind,
    checkpoint_names.renamed_weights,
    looking.optimistic_best,
)
_RANK = {"error": 0, "warning": 1, "note": 2}


def preflight(
    model: nn.Module,
    args: TrainingArguments,
    train_dataset: Any = None,  # Any: whatever the Trainer takes as a dataset
    *,
    eval_dataset: Any = None,  # Any: whatever the Trainer takes as a dataset
    callbacks: Iterable[TrainerCallback] = (),
) -> list[Finding]:
    """Lists what would fail or go wrong in silence, before anything is trained.

    Never raises for bad settings: it lists them. The model, the rows and the random state are left
    as they are. Takes less than a second beyond the layer map, and half a second at most for rows
    that must be read one by one.

    Args:
        model: The model, before or after `prepare_model`.
        args: `TrainingArguments`, or `StabilizerArguments` with the remedies of the run.
        train_dataset: Tokenised training rows; None: what concerns rows and steps is left out,
            but for `max_steps`.
        eval_dataset: The validation rows, of which the number alone is read.
        callbacks: Your own callbacks, as handed to `stabilize` or to the Trainer.

    Returns:
        Findings, errors first, then warnings, then notes; each with its remedy. Empty if nothing
        is known to be wrong.

    Example:
        >>> import tempfile
        >>> from transformers import BertConfig, BertForSequenceClassification, TrainingArguments
        >>> model = BertForSequenceClassification(BertConfig(vocab_size=9, hidden_size=4,
        ...     num_hidden_layers=1, num_attention_heads=1, intermediate_size=4)).bfloat16()
        >>> args = TrainingArguments(tempfile.gettempdir(), learning_rate=2e-5, max_steps=40,
        ...     per_device_train_batch_size=16, warmup_steps=0.1, eval_strategy="epoch")
        >>> for finding in preflight(model, args):
        ...     print(finding.severity, finding.code)
        warning half-precision-weights
        warning few-steps

    Source: the traps of the Trainer that are known to act without a word; numbers from Zhang et
    al. 2021 (arXiv:2006.05987), Mosbach et al. 2021 (arXiv:2006.04884) and our own studies.
    """
    findings: list[Finding] = []
    used = tuple(_collect(findings, "clashing-options", _callbacks, args, callbacks) or ())
    layers = _layers(findings, model, args)
    rows = None if train_dataset is None else look_at(train_dataset, args.label_names)
    steps, per_epoch = planned_steps(args, rows.count if rows else None)
    looks = _collect(
        findings, "best-without-checkpoint", _evaluations, args, steps, per_epoch, used
    )
    plan = Plan(
        model=model,
        args=args,
        callbacks=used,
        layers=layers,
        rows=rows,
        steps=steps,
        steps_per_epoch=per_epoch,
        evaluations=looks,
        evaluation_rows=_length(eval_dataset),
        processes=args.world_size,
    )
    findings += [found for check in CHECKS if (found := check(plan)) is not None]
    return sorted(findings, key=lambda finding: _RANK[finding.severity])


def _collect(findings: list[Finding], code: str, ask: Callable[..., Any], *args: Any) -> Any:
    """Returns the answer; what the question raises becomes an error finding, in its own words."""
    try:
        return ask(*args)
    except ConfigurationError as error:
        message, _, remedy = str(error).rpartition("; ")
        findings.append(Finding(code, "error", message or remedy, remedy if message else ""))
    return None


def _callbacks(
    args: TrainingArguments, callbacks: Iterable[TrainerCallback]
) -> list[TrainerCallback]:
    callbacks = list(callbacks)
    if not isinstance(args, StabilizerArguments):
        return callbacks
    used: list[TrainerCallback] = stabilize(args, callbacks)["callbacks"]
    return used


def _layers(findings: list[Finding], model: nn.Module, args: TrainingArguments) -> LayerMap | None:
    """The layers; where they cannot be told that is a finding only if an option needs them."""
    own = args if isinstance(args, StabilizerArguments) else None
    try:
        layers = LayerMap.from_model(model) if own is None else find_layers(model, own)
    except (LayerDiscoveryError, ConfigurationError) as error:
        if own is not None and _needs_layers(own):
            findings.append(Finding("unknown-layers", "error", str(error), ""))
        return None
    if own is not None:
        _collect(findings, "clashing-options", check_blocks, own, layers.num_layers)
    return layers


def _needs_layers(args: StabilizerArguments) -> bool:
    return bool(
        args.layer_lr != "uniform"
        or args.layer_overrides
        or args.head_learning_rate
        or args.layer_weight_decay_multipliers is not None
        or args.head_weight_decay is not None
        or args.reinit_layers
        or args.freeze_layers
        or args.freeze_embeddings
        or args.freeze_body
        or args.transfer_from is not None
        or args.transfer_layers is not None
        or args.fit_head
        or args.reinit_pooler not in (None, "false")
    )


def _evaluations(
    args: TrainingArguments,
    steps: int | None,
    per_epoch: int | None,
    callbacks: Iterable[TrainerCallback],
) -> tuple[int, ...] | None:
    if steps is None or per_epoch is None or steps > LONGEST:
        return None
    times = [c.times for c in callbacks if isinstance(c, EvaluationsPerEpochCallback)]
    return timetable(args, steps, per_epoch, times).evaluations


def _length(dataset: Any) -> int | None:
    try:
        return None if dataset is None else len(dataset)
    except TypeError:
        return None
