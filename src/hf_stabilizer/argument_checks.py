"""Can these arguments be meant? Every field of ours is checked at the door."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import TYPE_CHECKING

from hf_stabilizer.argument_callbacks import (
    averaging_callbacks,
    freezing_callbacks,
    penalty_callbacks,
)
from hf_stabilizer.errors import (
    LAST_SEED,
    ConfigurationError,
    check_choice,
    check_switch,
    check_whole,
)
from hf_stabilizer.optimizers import curve_from_arguments
from hf_stabilizer.parameter_groups import decays_from_arguments
from hf_stabilizer.steps import check_step

if TYPE_CHECKING:
    from hf_stabilizer.arguments import StabilizerArguments

CHOICES: Mapping[str, tuple[str, ...]] = {
    "layer_lr": ("uniform", "llrd", "grouped", "cosine"),
    "reinit_pooler": ("true", "false", "identity", "auto"),
    "averaging": ("none", "swa", "ema"),
    "swa_anneal": ("linear", "cosine"),
    "divergence_guard": ("off", "warn", "stop", "raise"),
}

SWITCHES = (
    "freeze_embeddings",
    "freeze_body",
    "fit_head",
    "ema_warmup",
    "swa_keep_ratios",
    "isolate_evaluations",
    "log_layer_statistics",
)


# option: (the option that it belongs to, the values of that one under which it means something)
OWNERS: Mapping[str, tuple[str, tuple[object, ...]]] = {
    "layer_lr_decay": ("layer_lr", ("llrd",)),
    "layer_lr_multipliers": ("layer_lr", ("grouped",)),
    "layer_lr_lowest": ("layer_lr", ("cosine",)),
    "fit_head_scale": ("fit_head", (True,)),
    "averaging_start": ("averaging", ("swa", "ema")),
    "averaging_every": ("averaging", ("swa", "ema")),
    "ema_decay": ("averaging", ("ema",)),
    "ema_warmup": ("averaging", ("ema",)),
    "swa_learning_rate": ("averaging", ("swa",)),
    "swa_anneal_steps": ("averaging", ("swa",)),
    "swa_anneal": ("averaging", ("swa",)),
    "swa_keep_ratios": ("averaging", ("swa",)),
}


def check_arguments(args: StabilizerArguments) -> None:
    """Checks choices, owners and ranges, in this order.

    Raises:
        ConfigurationError: A value is out of its range or choices, or has no owner.
    """
    _check_choices(args)
    _check_owners(args)
    _check_ranges(args)


@contextmanager
def _named(**options: str) -> Iterator[None]:
    """Has an error, which begins with the technique's argument, name the option instead."""
    try:
        yield
    except ConfigurationError as error:
        argument, _, rest = str(error).partition(" ")
        if argument not in options:
            raise
        raise ConfigurationError(f"{options[argument]} {rest}") from error


def _check_choices(args: StabilizerArguments) -> None:
    for name, allowed in CHOICES.items():
        # None is a value only where it means the technique's own default.
        if getattr(args, name) != args.__dataclass_fields__[name].default:
            check_choice(getattr(args, name), allowed, name=name)


def _check_owners(args: StabilizerArguments) -> None:
    for name, (owner, values) in OWNERS.items():
        value, owned = getattr(args, name), getattr(args, owner)
        if value is not None and owned not in values:
            way_out = " or ".join(repr(v) for v in values)
            raise ConfigurationError(
                f"{name}={value!r} has no effect with {owner}={owned!r}; "
                f"set {owner} to {way_out}, or leave {name} out"
            )
    if args.layer_lr == "grouped" and args.layer_lr_multipliers is None:
        raise ConfigurationError(
            "layer_lr='grouped' needs layer_lr_multipliers, got None; "
            "give one multiplier per set of blocks, e.g. [0.3, 0.5, 1.0]"
        )
    for name in ("blocks_per_stage", "stage_warmup_steps"):
        if getattr(args, name) is not None and not args.gradual_unfreezing:
            raise ConfigurationError(
                f"{name}={getattr(args, name)!r} has no effect with gradual_unfreezing=0; "
                f"set gradual_unfreezing, or leave {name} out"
            )
    for name in ("swa_anneal_steps", "swa_anneal", "swa_keep_ratios"):
        if getattr(args, name) is not None and args.swa_learning_rate is None:
            raise ConfigurationError(
                f"{name}={getattr(args, name)!r} has no effect without swa_learning_rate; "
                f"set swa_learning_rate, or leave {name} out"
            )


def _check_ranges(args: StabilizerArguments) -> None:
    for name in ("reinit_layers", "freeze_layers", "evaluations_per_epoch"):
        check_whole(getattr(args, name), "from 0 up", name=name)
    for name in ("head_seed", "data_seed", "seed"):
        if getattr(args, name) is not None:
            check_whole(getattr(args, name), "in [0, 2^32)", name=name, most=LAST_SEED)
    for name in ("head_learning_rate", "swa_learning_rate", "fit_head_scale", "base_batch_size"):
        value = getattr(args, name)
        if value is not None and not (_is_finite(value) and value > 0):
            raise ConfigurationError(f"{name} must be a finite number above 0, got {value!r}")
    if not (_is_finite(args.learning_rate) and args.learning_rate >= 0):
        raise ConfigurationError(
            f"learning_rate must be a finite number from 0 up, got {args.learning_rate!r}"
        )
    _check_switches(args)
    _check_layers(args)
    # Built once here so that a value out of range is told before anything is loaded.
    curve_from_arguments(args)
    _check_freezing(args)
    _check_penalties(args)
    with _named(
        start="averaging_start",
        every="averaging_every",
        decay="ema_decay",
        anneal_steps="swa_anneal_steps",
    ):
        averaging_callbacks(args)
    if isinstance(args.layer_overrides, str):
        raise ConfigurationError(
            f"layer_overrides must map globs to depths, got {args.layer_overrides!r}; write JSON "
            'such as \'{"*.adapter.*": "head"}\''
        )


def _check_layers(args: StabilizerArguments) -> None:
    """Refuses options that say twice, or against one another, what becomes of a block."""
    if args.transfer_layers is not None:
        check_whole(args.transfer_layers, "from 0 up", name="transfer_layers")
        if args.transfer_from is None and args.reinit_layers:
            raise ConfigurationError(
                f"transfer_layers={args.transfer_layers!r} and "
                f"reinit_layers={args.reinit_layers!r} both say which blocks start anew; leave one "
                "out (or set transfer_from, if the lowest blocks are to come from another model)"
            )
    if args.transfer_from is not None and not str(args.transfer_from).strip():
        raise ConfigurationError("transfer_from is empty; name a model, or leave transfer_from out")
    for name in ("freeze_embeddings", "freeze_layers"):
        if args.freeze_body is True and getattr(args, name):
            raise ConfigurationError(
                f"freeze_body=True freezes embeddings and all blocks, so {name}="
                f"{getattr(args, name)!r} says nothing more; leave one of the two out"
            )


def _check_penalties(args: StabilizerArguments) -> None:
    for name in ("l1", "l2"):
        with _named(strength=name):
            penalty_callbacks(args, only=name)
    decays_from_arguments(args)
    head, multipliers = args.head_weight_decay, args.layer_weight_decay_multipliers
    if head is not None and not (_is_finite(head) and head >= 0):
        raise ConfigurationError(
            f"head_weight_decay must be a finite number from 0 up, got {head!r}"
        )
    if multipliers is not None and not args.weight_decay:
        raise ConfigurationError(
            f"layer_weight_decay_multipliers={multipliers!r} has no effect with weight_decay=0; "
            "set weight_decay, or leave layer_weight_decay_multipliers out"
        )
    if args.dropout is not None and not (_is_finite(args.dropout) and 0 <= args.dropout < 1):
        raise ConfigurationError(
            f"dropout must be a number in [0, 1), got {args.dropout!r}; leave it out for what the "
            "checkpoint says"
        )


def _check_freezing(args: StabilizerArguments) -> None:
    for name in ("head_first", "gradual_unfreezing"):
        check_step(getattr(args, name), name=name)
    freezing_callbacks(args)


def _check_switches(args: StabilizerArguments) -> None:
    """Refuses texts: "no", which YAML 1.2 does not read as False, would turn an option on."""
    for name in SWITCHES:
        value = getattr(args, name)
        if value is not None:
            check_switch(value, name=name)


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(value)
