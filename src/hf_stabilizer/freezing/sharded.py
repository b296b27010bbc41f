"""How can a sharded run resume while some of its layers have no moments yet?

torch loads the optimizer of an FSDP2 run strictly: what requires grad must have a state in the
checkpoint, and what has not learned yet has none. Adam's first state is all zeros, and zeros that
are laid in beforehand change nothing.
"""

from __future__ import annotations

import warnings

import torch
from torch import nn
from transformers import TrainingArguments
from transformers.trainer_utils import SaveStrategy


def is_sharded(model: nn.Module) -> bool:
    """Whether each process holds a part of the parameters only, as under FSDP2."""
    return any(hasattr(parameter, "full_tensor") for parameter in model.parameters())


def warn_of_resuming(name: str, args: TrainingArguments, optimizer: torch.optim.Optimizer) -> None:
    """Warns where a checkpoint that is written while layers are frozen could not be loaded."""
    if args.save_strategy != SaveStrategy.NO and not _begins_with_zeros(optimizer):
        warnings.warn(
            f"under FSDP2 torch cannot load the optimizer of a checkpoint that {name} writes while "
            "layers are frozen, unless it is Adam or AdamW; use optim='adamw_torch', or save after "
            "everything has been freed",
            stacklevel=3,
        )


@torch.no_grad()
def lay_in_states(optimizer: torch.optim.Optimizer) -> None:
    """Gives each parameter without a state the zeros that Adam would begin with."""
    if not _begins_with_zeros(optimizer):
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for like in [p for p in parameters if optimizer.state.get(p)][:1]:
        for p in [p for p in parameters if not optimizer.state.get(p)]:
            optimizer.state[p] = {
                key: torch.zeros_like(p if value.shape == like.shape else value)
                for key, value in optimizer.state[like].items()
            }


def _begins_with_zeros(optimizer: torch.optim.Optimizer) -> bool:
    inner = getattr(optimizer, "optimizer", optimizer)  # accelerate's wrapper
    return isinstance(inner, torch.optim.Adam | torch.optim.AdamW)
