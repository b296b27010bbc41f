"""Which parameters of a model are frozen for a while?

Known by name and by model, not by callback: a run that was broken off has no last event, and
whatever trains the model next must find what it left frozen.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import nn

from hf_stabilizer.errors import ConfigurationError


@dataclass
class _Hold:
    owner: object
    run: object
    names: frozenset[str] = frozenset()


_holds: WeakKeyDictionary[nn.Module, _Hold] = WeakKeyDictionary()


def claim(model: nn.Module, owner: object, *, run: object) -> None:
    """Gives `owner` alone the say over what is frozen, and frees what another run left frozen.

    Args:
        model: The model, as callbacks are handed it.
        owner: The callback that freezes.
        run: What tells one run of the Trainer from the next, its `state`.

    Raises:
        ConfigurationError: Another callback has the say in this run.
    """
    hold = _holds.get(model)
    if hold is not None and hold.run is run and hold.owner is not owner:
        raise ConfigurationError(
            f"one owner of what is frozen per run, got {type(hold.owner).__name__} and "
            f"{type(owner).__name__}; keep one of the two (gradual unfreezing begins with the head "
            "alone, too)"
        )
    freeze_only(model, ())
    _holds[model] = _Hold(owner, run)


def freeze_only(model: nn.Module, names: Iterable[str]) -> None:
    """Freezes these parameters and frees what was held so far and is not among them.

    `requires_grad` says whether a parameter learns; without a gradient no optimizer of torch
    touches it, neither by weight decay nor by momentum.
    """
    names, before = frozenset(names), held(model)
    for name, parameter in model.named_parameters():
        if name in names and name not in before:
            parameter.requires_grad_(False)
            parameter.grad = None
        elif name in before and name not in names:
            parameter.requires_grad_(True)
    if model in _holds:
        _holds[model].names = names


def release(model: nn.Module) -> None:
    """Frees all that is held, and gives up the say over it."""
    freeze_only(model, ())
    _holds.pop(model, None)


def held(model: nn.Module) -> Set[str]:
    """Returns the names of what is frozen for a while."""
    hold = _holds.get(model)
    return hold.names if hold is not None else frozenset()


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Returns by name what learns, a tied weight under the first of its names."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def check_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Raises where freeing would free nothing.

    Raises:
        ConfigurationError: A parameter that learns is not in the optimizer.
    """
    inside = {id(p) for group in optimizer.param_groups for p in group["params"]}
    lost = [name for name, p in trainable(model).items() if id(p) not in inside]
    if lost:
        raise ConfigurationError(
            f"{len(lost)} trainable parameters are not in the optimizer and would never learn, "
            f"such as {lost[0]!r}; make the optimizer (a new Trainer) while all that is to learn "
            "requires grad, or freeze these with freeze_layers"
        )
