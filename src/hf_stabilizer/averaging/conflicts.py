"""What can averaging not be combined with?"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from hf_stabilizer import sockets
from hf_stabilizer.errors import ConfigurationError


def refuse_conflicts(name: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Raises where the mean would not be what is evaluated and saved.

    Args:
        name: The callback that asks, for the message.
        model: The model that is trained, unwrapped.
        optimizer: The Trainer's optimizer.

    Raises:
        ConfigurationError: Schedule-free optimizers, DeepSpeed ZeRO-3, FSDP 1.
    """
    if sockets.has_modes_of_its_own(optimizer):
        inner = type(getattr(optimizer, "optimizer", optimizer)).__name__
        raise ConfigurationError(
            f"{name} cannot be combined with {inner}, which averages weights for evaluation "
            "itself; use another optim, or leave the averaging to it"
        )
    uses_zero3: Callable[[], bool] = is_deepspeed_zero3_enabled
    if uses_zero3():
        raise ConfigurationError(
            f"{name} cannot be combined with DeepSpeed ZeRO-3, whose saved model would not be the "
            "average; use ZeRO-2, FSDP2 or no sharding"
        )
    if any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules()):
        raise ConfigurationError(
            f"{name} cannot be combined with FSDP version 1, which flattens the parameters; set "
            "version: 2 in fsdp_config"
        )


def warn_of_batch_norm(model: nn.Module) -> None:
    """Warns that statistics of activations are not averaged with the weights."""
    if any(isinstance(m, _BatchNorm) and m.track_running_stats for m in model.modules()):
        warnings.warn(
            "batch norm's running statistics are those of the raw weights, not of their mean; "
            "call torch.optim.swa_utils.update_bn with your data after training",
            stacklevel=3,
        )
