"""What in the model itself goes wrong in silence? Dtypes, frozen weights, head, pooler, dropout."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hf_stabilizer.argument_depths import draws_layers, frozen_depths, pooler_choice
from hf_stabilizer.averaging import EMACallback, SWACallback
from hf_stabilizer.dead_pooler import WEAKEST, pooler_strength
from hf_stabilizer.freezing import FreezingCallback
from hf_stabilizer.initialization import was_loaded
from hf_stabilizer.learning_rates import batch_size_factor
from hf_stabilizer.reinitialization import has_new_parameters
from hf_stabilizer.silent_mistakes.finding import Finding
from hf_stabilizer.silent_mistakes.plan import Plan

HALF = (torch.bfloat16, torch.float16)


def nothing_trainable(plan: Plan) -> Finding | None:
    """An optimizer needs a parameter."""
    if any(parameter.requires_grad for parameter in plan.parameters.values()):
        return None
    return Finding(
        "nothing-trainable",
        "error",
        f"all {len(plan.parameters)} parameters of the model are frozen",
        "set requires_grad of what is to learn to True",
    )


def frozen_before_optimizer(plan: Plan) -> Finding | None:
    """What is frozen when the optimizer is made is not in it: thawing it later trains nothing."""
    frozen = [n for n, p in plan.parameters.items() if not p.requires_grad and not _meant(plan, n)]
    has_adapters = hasattr(plan.model, "peft_config")
    if not frozen or len(frozen) == len(plan.parameters) or has_adapters:
        return None
    return Finding(
        "frozen-before-optimizer",
        "warning" if plan.has_callback(FreezingCallback) else "note",
        f"{len(frozen)} of {len(plan.parameters)} parameters ({frozen[0]}, ...) are frozen before "
        "the optimizer is made, so it never holds them and thawing them later trains nothing",
        "leave it so if they are to stay frozen; else freeze in a callback once training began",
    )


def _meant(plan: Plan, name: str) -> bool:
    """Whether an option freezes the parameter."""
    options, layers = plan.options, plan.layers
    if options is None or layers is None:
        return False
    return layers.depth_of(name) in frozen_depths(options, layers.num_layers)


def half_precision(plan: Plan) -> Finding | None:
    """Numbers near w in bfloat16 are w / 128 apart: a step of half of that or less is lost."""
    half = [p for p in _with_values(plan) if p.requires_grad and p.dtype in HALF]
    if not half:
        return None
    dtype = str(Counter(p.dtype for p in half).most_common(1)[0][0]).removeprefix("torch.")
    if plan.args.fp16 and dtype == "float16":
        return Finding(
            "half-precision-weights",
            "error",
            "trainable weights are float16 and fp16=True, whose gradient scaler refuses them",
            "load the model with dtype=torch.float32",
        )
    typical = _rms(max(half, key=torch.numel))
    apart = typical * torch.finfo(getattr(torch, dtype)).eps
    rate = plan.args.learning_rate * batch_size_factor(plan.args)
    if rate >= apart:
        return None
    return Finding(
        "half-precision-weights",
        "warning",
        f"{len(half)} trainable parameters are {dtype}, where numbers near a typical weight of "
        f"{typical:.2g} are {apart:.1g} apart: at a rate of {rate:.2g} most steps round to nothing",
        "load the model with dtype=torch.float32, and set bf16=True for speed",
    )


def unseeded_head(plan: Plan) -> Finding | None:
    """`seed` is set by the Trainer, after the model was built."""
    options, layers = plan.options, plan.layers
    if layers is None or not _has_new_head(plan) or (options and options.head_seed is not None):
        return None
    if options and options.fit_head:
        return None
    return Finding(
        "unseeded-head",
        "note",
        f"the head was drawn when the model was built, which seed={plan.args.seed} does not decide",
        "set head_seed, or call set_seed before from_pretrained",
    )


def trained_head(plan: Plan) -> Finding | None:
    """A head that the checkpoint brought has nothing to draw, and is lost where one is fitted."""
    options, layers = plan.options, plan.layers
    if layers is None or options is None or not _from_checkpoint(plan):
        return None
    if has_new_parameters(plan.model, layer_map=layers):
        return None
    if options.head_seed is not None and not draws_layers(options):
        return Finding(
            "trained-head",
            "error",
            f"head_seed={options.head_seed} has nothing to decide: the checkpoint brings a "
            "trained head",
            "leave head_seed out, or load the body's checkpoint to start with a new head",
        )
    if options.fit_head:
        return Finding(
            "trained-head",
            "warning",
            "fit_head=True replaces the trained head that the checkpoint brings",
            "leave fit_head out to go on from that head",
        )
    return None


def dead_pooler(plan: Plan) -> Finding | None:
    """A pooler that weight decay wore away shows the head next to nothing.

    Only one that a checkpoint brought: what was drawn a moment ago is as strong as it should be.
    """
    if plan.layers is None or _replaces_pooler(plan) or not _has_loaded_pooler(plan):
        return None
    strength = pooler_strength(plan.model, layer_map=plan.layers)
    if strength is None or strength >= WEAKEST:
        return None
    return Finding(
        "dead-pooler",
        "warning",
        f"the checkpoint's pooler is nearly dead: its weights are {strength:.2f} times as large as "
        "freshly drawn ones, so the head sees little of what differs between texts",
        "set reinit_pooler='identity' (or true); `hf-stabilizer probe` measures what that gives",
    )


def _has_loaded_pooler(plan: Plan) -> bool:
    names = plan.layers.names_in(plan.layers.pooler) if plan.layers else ()
    return any(was_loaded(plan.parameters[name]) for name in names if name in plan.parameters)


def _replaces_pooler(plan: Plan) -> bool:
    options = plan.options
    if options is None:
        return False
    return pooler_choice(options) != "false"


def batch_norm_averaged(plan: Plan) -> Finding | None:
    """Running statistics are those of the raw weights."""
    norms = [m for m in plan.model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms or not plan.has_callback(SWACallback, EMACallback):
        return None
    return Finding(
        "batch-norm-averaged",
        "warning",
        f"the running statistics of {len(norms)} batch norms belong to the raw weights, not to "
        "their mean, which is evaluated and kept",
        "call torch.optim.swa_utils.update_bn with your data after training, or leave averaging "
        "out",
    )


def no_dropout(plan: Plan) -> Finding | None:
    """Where the architecture has dropout by default and this model has none."""
    usual = _dropouts(_default_config(plan.config))
    here, chosen = _dropouts(plan.config), plan.options.dropout if plan.options else None
    if chosen is not None:
        here = {"dropout": chosen}
    if not any(usual.values()) or not here or any(here.values()):
        return None
    name, rate = next((name, rate) for name, rate in usual.items() if rate)
    return Finding(
        "no-dropout",
        "note",
        f"dropout is 0 everywhere, where {type(plan.config).__name__} has {name}={rate} by "
        "default; without it scores fell in our studies of small data",
        f"load the model with {name}={rate}" if chosen is None else "leave dropout out",
    )


def _dropouts(config: Any) -> dict[str, float]:
    values = vars(config) if config is not None else {}
    names = [n for n in values if n.endswith(("dropout", "dropout_prob", "pdrop", "dropout_rate"))]
    return {n: values[n] for n in names if isinstance(values[n], int | float)}


def _default_config(config: Any) -> Any:
    try:
        return None if config is None else type(config)()
    except Exception:  # a configuration class that needs arguments has no defaults to compare
        return None


def _has_new_head(plan: Plan) -> bool:
    """Whether `from_pretrained` loaded the body and had to draw the head, or a part of it."""
    return _from_checkpoint(plan) and has_new_parameters(plan.model, layer_map=plan.layers)


def _from_checkpoint(plan: Plan) -> bool:
    return any(was_loaded(parameter) for parameter in plan.parameters.values())


def _with_values(plan: Plan) -> list[nn.Parameter]:
    return [p for p in plan.parameters.values() if p.numel() and not p.is_meta]


def _rms(tensor: Tensor) -> float:
    return float(tensor.detach().float().pow(2).mean().sqrt())
