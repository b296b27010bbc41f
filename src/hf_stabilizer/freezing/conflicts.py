"""Under what can parameters not be frozen and freed while a run goes on?"""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel, TrainingArguments
from transformers.training_args import ParallelMode

from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.freezing.sharded import is_sharded


def refuse_conflicts(name: str, args: TrainingArguments, model: nn.Module) -> None:
    """Raises where frozen parameters would move, or freed ones would not learn.

    Args:
        name: The callback that asks, for the message.
        args: How training is spread over processes.
        model: The model that is trained, unwrapped.

    Raises:
        ConfigurationError: DeepSpeed, FSDP 1, DDP that expects a gradient of every parameter in
            every step, or gradient checkpointing that ends where nothing requires grad.
    """
    if getattr(args, "deepspeed_plugin", None) is not None:
        raise ConfigurationError(
            f"{name} cannot be combined with DeepSpeed ZeRO, which lays the parameters together "
            "in one tensor when training begins and would decay the frozen ones; use DDP or FSDP2, "
            "or freeze for the whole run with freeze_layers"
        )
    if any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules()):
        raise ConfigurationError(
            f"{name} cannot be combined with FSDP version 1, which flattens the parameters; set "
            "version: 2 in fsdp_config"
        )
    if _is_cut_off(model):
        # The option's name from transformers 5.23 on, and the one before.
        is_renamed = hasattr(args, "activation_checkpointing_kwargs")
        raise ConfigurationError(
            f"{name} cannot be combined with re-entrant gradient checkpointing of this model: over "
            "frozen embeddings its blocks would get no gradient; set "
            f"{'activation' if is_renamed else 'gradient'}_checkpointing_kwargs="
            '{"use_reentrant": False}'
        )
    if args.parallel_mode == ParallelMode.DISTRIBUTED and not is_sharded(model):
        _refuse_under_ddp(name, args, model)


def _refuse_under_ddp(name: str, args: TrainingArguments, model: nn.Module) -> None:
    finds_unused = args.ddp_find_unused_parameters
    if finds_unused is None:  # as Trainer._build_accelerator_args decides
        finds_unused = not (isinstance(model, PreTrainedModel) and _checkpointing(model))
    if not finds_unused:
        raise ConfigurationError(
            f"{name} needs ddp_find_unused_parameters=True, for frozen parameters get no gradient, "
            f"got {args.ddp_find_unused_parameters!r}"
            + (" with gradient checkpointing, which means False" if _checkpointing(model) else "")
        )
    if getattr(args, "ddp_static_graph", None):
        raise ConfigurationError(
            f"{name} changes which parameters get a gradient, and ddp_static_graph=True says that "
            "they never change; leave it out"
        )
    if args.auto_find_batch_size:
        raise ConfigurationError(
            f"{name} cannot be combined with auto_find_batch_size=True in several processes: a "
            "second attempt would wrap the model while it is frozen, and the processes would "
            "drift apart; set per_device_train_batch_size"
        )


def _is_cut_off(model: nn.Module) -> bool:
    """Whether blocks are checkpointed in the way that needs an input which requires grad.

    transformers sees to that itself where the input is `input_ids`.
    """
    is_reentrant = any(
        # torch takes what is not said for True (2.13).
        getattr(function, "keywords", {}).get("use_reentrant", True)
        for function in _checkpointing(model)
    )
    return is_reentrant and not any(hasattr(m, "_require_grads_hook") for m in model.modules())


def _checkpointing(model: nn.Module) -> list[object]:
    """The functions that checkpoint its modules."""
    return [
        module._gradient_checkpointing_func
        for module in model.modules()
        if getattr(module, "gradient_checkpointing", False)
        and hasattr(module, "_gradient_checkpointing_func")
    ]
