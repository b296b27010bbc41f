"""What in the optimizer and its schedule goes wrong in silence? Steps, rates, clipping, scaling."""

from __future__ import annotations

import inspect
from typing import Any

import torch
import transformers
from packaging.version import Version
from torch import nn
from transformers import Trainer, TrainingArguments

from hf_stabilizer.divergence import DivergenceGuardCallback
from hf_stabilizer.silent_mistakes.finding import Finding
from hf_stabilizer.silent_mistakes.plan import Plan

FEW_STEPS = 200
"""The fewest optimizer steps with which Zhang et al. 2021 trained small sets."""
USUAL_BATCH = 16
"""Rows per step of the recipes that we ship: Mosbach et al. 2021, and our own studies."""


def few_steps(plan: Plan) -> Finding | None:
    """Small data needs several hundred steps, however few the epochs look."""
    if plan.steps is None or plan.steps >= FEW_STEPS or _only_fits(plan):
        return None
    return Finding(
        "few-steps",
        "warning",
        f"the run has {plan.steps} optimizer steps; small data needs several hundred (Zhang et "
        "al. 2021: 200 to 3,200 for 1,000 rows; Mosbach et al. 2021: 20 epochs)",
        f"raise num_train_epochs, or set max_steps to {FEW_STEPS} or more",
    )


def no_step(plan: Plan) -> Finding | None:
    """The Trainer ends at once, with a line in its log, and keeps the untrained model."""
    args, rows = plan.args, plan.rows
    per_batch = args.train_batch_size * plan.processes
    is_dropped = rows is not None and args.dataloader_drop_last and rows.count < per_batch
    if rows is None or (rows.count and not is_dropped):
        return None
    return Finding(
        "no-batch",
        "error",
        f"{rows.count} rows make no batch of {per_batch} with dataloader_drop_last="
        f"{args.dataloader_drop_last}: not one step would be taken",
        "lower per_device_train_batch_size, or set dataloader_drop_last=False",
    )


def warmup_beyond_run(plan: Plan) -> Finding | None:
    """The rate never reaches its peak."""
    if plan.steps is None:
        return None
    warmup = plan.args.get_warmup_steps(plan.steps)
    if warmup < plan.steps:
        return None
    return Finding(
        "warmup-beyond-run",
        "warning",
        f"warmup_steps={plan.args.warmup_steps:g} means {warmup} optimizer steps and the run has "
        f"{plan.steps}, so the rate never comes to {plan.args.learning_rate:g}",
        "set warmup_steps=0.1, a share of the run",
    )


def no_warmup(plan: Plan) -> Finding | None:
    """The first steps, whose second moments rest on few gradients, are taken at the full rate."""
    kind = _value(plan.args.lr_scheduler_type)
    unscheduled = kind in ("constant", "reduce_lr_on_plateau", "greedy")
    if _only_fits(plan) or plan.args.warmup_steps or unscheduled:
        return None
    return Finding(
        "no-warmup",
        "note",
        f"warmup_steps={plan.args.warmup_steps:g}: the first steps are taken at the full rate",
        "set warmup_steps=0.1, a share of the run (Mosbach et al. 2021)",
    )


def no_bias_correction(plan: Plan) -> Finding | None:
    """Moments that begin at 0 and are not corrected make the first steps far too large.

    torch's AdamW always corrects, Adafactor's decay grows from 0 with the step, Lion, SGD and
    Adagrad keep no such mean; RMSprop does and never corrects.
    """
    kind, kwargs = _optimizer(plan.args)
    given = [name for name in ("correct_bias", "bias_correction") if kwargs.get(name) is False]
    named = [name for name in ("correct_bias", "bias_correction") if _says_no(plan.args, name)]
    is_rmsprop = "RMSprop" in getattr(kind, "__name__", "")
    if not (given or named or is_rmsprop):
        return None
    option = f"{(given or named)[0]}=False" if given or named else "which never corrects"
    return Finding(
        "no-bias-correction",
        "warning",
        f"optim={_value(plan.args.optim)!r}, {option}: the first steps are far too large; without "
        "bias correction 48 % of 50 runs on RTE failed (Zhang et al. 2021)",
        "set optim='adamw_torch'",
    )


def _optimizer(args: TrainingArguments) -> tuple[Any, dict[str, Any]]:  # Any: of any package
    try:
        return Trainer.get_optimizer_cls_and_kwargs(args)
    except Exception:  # a package that is absent, or a text in optim_args that it cannot read
        return None, {}


def _says_no(args: TrainingArguments, name: str) -> bool:
    texts = (args.optim_args or "").replace(" ", "").lower().split(",")
    return any(text in (f"{name}=false", f"{name}=0") for text in texts)


def optimizer_missing(plan: Plan) -> Finding | None:
    """The Trainer asks for the optimizer's package when training begins, and for its numbers."""
    remedy = "install what it needs, or set optim='adamw_torch'"
    try:
        kind, kwargs = Trainer.get_optimizer_cls_and_kwargs(plan.args)
        if getattr(kind, "__module__", "").startswith("torch.optim"):
            remedy = "mend adam_beta1, adam_beta2, adam_epsilon or optim_args"
            kind([nn.Parameter(torch.zeros(1))], **kwargs)
    except Exception as error:  # ImportError, or ValueError with advice inside
        return Finding(
            "optimizer-missing",
            "error",
            f"optim={_value(plan.args.optim)!r} cannot be made: {error}".rstrip("."),
            remedy,
        )
    return None


def no_clipping(plan: Plan) -> Finding | None:
    """One large gradient can undo a run."""
    if plan.args.max_grad_norm is not None and plan.args.max_grad_norm > 0:
        return None
    return Finding(
        "no-clipping",
        "warning",
        f"max_grad_norm={plan.args.max_grad_norm}: gradients are not clipped, which made scores "
        "worse in our studies of small data",
        "set max_grad_norm=1.0",
    )


def small_batch(plan: Plan) -> Finding | None:
    """Published rates belong to batches of 16 rows and more."""
    args = plan.args
    size = args.train_batch_size * args.gradient_accumulation_steps * plan.processes
    scaled = plan.options and plan.options.base_batch_size
    if size >= USUAL_BATCH or scaled or _only_fits(plan):
        return None
    return Finding(
        "small-batch",
        "note",
        f"a step sees {size} rows; published rates are for {USUAL_BATCH} or more, and a batch of "
        "8 at the rate of 16 made scores worse in our studies",
        f"raise per_device_train_batch_size, or set base_batch_size to the batch that "
        f"learning_rate={args.learning_rate:g} was tuned for, so that it is scaled",
    )


def smoothed_labels(plan: Plan) -> Finding | None:
    """Label smoothing needs class ids, and pulls a fitted head away from where it was fitted."""
    factor = plan.args.label_smoothing_factor
    if not factor:
        return None
    rows = plan.rows
    if plan.classifies and rows and rows.labels is not None and rows.labels.is_floating_point():
        return Finding(
            "smoothed-labels",
            "error",
            f"label_smoothing_factor={factor:g} needs class ids, and the labels are "
            f"{str(rows.labels.dtype).removeprefix('torch.')}",
            "leave label_smoothing_factor out",
        )
    if plan.options and plan.options.fit_head:
        return Finding(
            "smoothed-labels",
            "warning",
            f"label_smoothing_factor={factor:g} together with fit_head made scores worse in our "
            "studies",
            "leave one of the two out",
        )
    return None


def loss_scaled_by_processes(plan: Plan) -> Finding | None:
    """The Trainer multiplies the loss by the processes, for a model that divides by all tokens.

    Every model that takes `**kwargs` counts as one; those that answer once for a row do not divide.
    """
    args, model = plan.args, plan.model
    if plan.processes == 1 or not args.average_tokens_across_devices:
        return None
    if not _takes_anything(model) or not _answers_per_row(model):
        return None
    return Finding(
        "loss-scaled-by-processes",
        "warning",
        f"average_tokens_across_devices=True multiplies the loss by {plan.processes} processes, "
        f"for {type(model).__name__} does not use num_items_in_batch",
        "set average_tokens_across_devices=False",
    )


def accumulated_losses(plan: Plan) -> Finding | None:
    """The losses of accumulated batches are to be divided once; the Trainer takes two ways wrong.

    It leaves the division to every model that takes `**kwargs`, and those that answer once for a
    row do not divide. Before transformers 5.5.4 accelerate divided every loss once more.
    """
    batches, model = plan.args.gradient_accumulation_steps, plan.model
    if batches == 1:
        return None
    left_to_model = getattr(model, "accepts_loss_kwargs", _takes_anything(model))
    undivided = left_to_model and _answers_per_row(model)
    if _accelerate_divides() and not undivided:
        return Finding(
            "loss-divided-twice",
            "warning",
            f"gradient_accumulation_steps={batches} divides the loss twice in transformers "
            f"{transformers.__version__}: gradients are {batches} times too small for every "
            "optimizer that looks at their size, and for max_grad_norm",
            "use transformers 5.5.4 or newer, or gradient_accumulation_steps=1 with larger batches",
        )
    if undivided and not _accelerate_divides():
        return Finding(
            "loss-summed-over-batches",
            "warning",
            f"gradient_accumulation_steps={batches} adds up the losses of {batches} batches "
            f"undivided, for {type(model).__name__} does not use num_items_in_batch: gradients are "
            f"{batches} times as large, and max_grad_norm cuts them as much earlier",
            "set model.accepts_loss_kwargs=False before the Trainer is made, or "
            "gradient_accumulation_steps=1 with larger batches",
        )
    return None


def _accelerate_divides() -> bool:
    return Version(transformers.__version__) < Version("5.5.4")


def _takes_anything(model: nn.Module) -> bool:
    names = inspect.signature(model.forward).parameters.values()
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in names)


def _answers_per_row(model: nn.Module) -> bool:
    kinds = ("SequenceClassification", "ImageClassification", "MultipleChoice")
    return type(model).__name__.endswith(kinds)


def hidden_nan(plan: Plan) -> Finding | None:
    """A training loss of NaN is logged as the mean of the others; the validation loss is not."""
    if not plan.args.logging_nan_inf_filter or plan.evaluations is None or plan.evaluations:
        return None
    if plan.has_callback(DivergenceGuardCallback):
        return None
    return Finding(
        "hidden-nan",
        "note",
        "logging_nan_inf_filter=True leaves NaN out of the logged loss, and no evaluation would "
        "show that the weights are lost",
        "set logging_nan_inf_filter=False, or eval_strategy='epoch'",
    )


def idle_rate(plan: Plan) -> Finding | None:
    """A rate of 0 trains nothing and says nothing."""
    if plan.args.learning_rate or _only_fits(plan):
        return None
    return Finding(
        "idle-rate",
        "warning",
        f"learning_rate={plan.args.learning_rate:g}: no step changes a weight",
        "set learning_rate, 2e-5 for a model of BERT's size",
    )


def _only_fits(plan: Plan) -> bool:
    """Whether nothing is meant to be trained: a frozen body, a fitted head, a rate of 0."""
    options = plan.options
    is_meant = options is not None and options.freeze_body and options.fit_head
    return is_meant and not plan.args.learning_rate


def _value(choice: Any) -> Any:  # Any: an enum of transformers, or its value
    """The value of transformers' enums, whose `str()` is the name of the member."""
    return getattr(choice, "value", choice)
