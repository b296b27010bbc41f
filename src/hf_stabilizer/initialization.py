"""How would the architecture itself draw these parameters, had no checkpoint brought them?

transformers 5 marks what a checkpoint brought with `_is_hf_initialized` and its initialisers leave
that alone; calling them after `from_pretrained` changes nothing, without a word. So the marks are
set the other way round for a moment: the chosen parameters are new, all else is not. Then
`initialize_weights` does what it does for weights missing from a checkpoint, with the model's own
rules for every sub-model, those that a parent applies to its children (GPT-2's residual
projections) included.

That it happened is proved, not assumed: the chosen parameters are NaN before, and must hold no
NaN afterwards; all else must be equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.initialization import guard_torch_init_functions

from hf_stabilizer.errors import ConfigurationError, ReinitializationError
from hf_stabilizer.random_state import seeded

LOADED = "_is_hf_initialized"


@torch.no_grad()
def initialize_parameters(model: nn.Module, names: Collection[str], *, seed: int) -> None:
    """Draws the named parameters anew, in place, and proves that it did so and nothing else.

    The numbers are drawn on the CPU, so they are the same on every device. The global random
    state (python, numpy, torch) is afterwards what it was. On an error the model is as before.
    Costs a copy of the model's weights for the time it takes.

    Args:
        model: A transformers model, or a module that contains one.
        names: Names from `model.named_parameters()`.
        seed: Decides the numbers; in [0, 2^63).

    Raises:
        ConfigurationError: A parameter has no values of its own here, or no floating-point ones.
        ReinitializationError: The architecture's initialisation left a part of a chosen
            parameter out, or touched another one.
    """
    chosen = {name: p for name, p in model.named_parameters() if name in set(names)}
    _check_values(chosen)
    others = _tensors_but(model, chosen)
    copies = {name: tensor.clone() for name, tensor in others.items()}
    try:
        drawn = _draw(model, chosen, seed)
        _prove(drawn, others, copies, allowed=_buffers_beside(model, chosen))
    except Exception:
        for name, tensor in others.items():
            tensor.copy_(copies[name])
        raise
    for name, values in drawn.items():
        chosen[name].copy_(values)


def was_loaded(parameter: Tensor) -> bool:
    """Whether `from_pretrained` took the parameter from a checkpoint.

    The mark survives a change of dtype or device and `resize_token_embeddings`, not a deep copy.
    """
    return bool(getattr(parameter, LOADED, False))


def _check_values(chosen: Mapping[str, nn.Parameter]) -> None:
    for name, parameter in chosen.items():
        if parameter.is_meta or not parameter.numel():
            raise ConfigurationError(
                f"{name} has no values here (it lies on the meta device or is partitioned over "
                "processes); initialise the model after loading it and before sharding it"
            )
        if not parameter.is_floating_point():
            raise ConfigurationError(
                f"{name} is quantised ({parameter.dtype}) and cannot be drawn anew; load the "
                "model without quantisation"
            )


def _draw(model: nn.Module, chosen: Mapping[str, nn.Parameter], seed: int) -> dict[str, Tensor]:
    """Returns new values for the chosen parameters, which keep their own."""
    stored = {name: parameter.data for name, parameter in chosen.items()}
    try:
        for parameter in chosen.values():
            parameter.data = torch.full_like(parameter, torch.nan, device="cpu")
        with seeded(seed):
            _run_initializers(model, chosen)
        return {name: parameter.data for name, parameter in chosen.items()}
    finally:
        for name, parameter in chosen.items():
            parameter.data = stored[name]


def _run_initializers(model: nn.Module, chosen: Mapping[str, nn.Parameter]) -> None:
    with _only_new(model, chosen):
        for part in _outermost_models(model):
            part.initialize_weights()
    # A part of the user's own, or a layer that the architecture leaves as its class made it.
    blank = {name: p for name, p in chosen.items() if p.isnan().any()}
    with _only_new(model, blank), guard_torch_init_functions():
        for path in sorted({name.rpartition(".")[0] for name in blank}):
            reset = getattr(model.get_submodule(path), "reset_parameters", None)
            if reset is not None:
                reset()


def _outermost_models(module: nn.Module) -> list[PreTrainedModel]:
    if isinstance(module, PreTrainedModel):
        return [module]
    return [model for child in module.children() for model in _outermost_models(child)]


@contextmanager
def _only_new(model: nn.Module, chosen: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Marks everything as loaded except the chosen parameters and the modules on the way to them.

    The mark on a module spares the visit; the mark on a tensor guards it during a visit.
    """
    beside = _buffers_beside(model, chosen)
    new = {id(parameter) for parameter in chosen.values()}
    new |= {id(buffer) for name, buffer in model.named_buffers() if name in beside}
    new |= {id(model.get_submodule(path)) for name in chosen for path in _ancestors(name)}
    holders = [*model.modules(), *model.parameters(), *model.buffers()]
    marks = [vars(holder).get(LOADED) for holder in holders]
    try:
        for holder in holders:
            setattr(holder, LOADED, id(holder) not in new)
        yield
    finally:
        for holder, mark in zip(holders, marks, strict=True):
            if mark is None:
                delattr(holder, LOADED)
            else:
                setattr(holder, LOADED, mark)


def _ancestors(name: str) -> Iterator[str]:
    """Yields the paths of all modules that contain the named tensor, the model's "" included."""
    while name:
        name = name.rpartition(".")[0]
        yield name


def _buffers_beside(model: nn.Module, chosen: Collection[str]) -> set[str]:
    """Names of the buffers that share a module with a chosen parameter (a batch norm's means)."""
    owners = {name.rpartition(".")[0] for name in chosen}
    return {name for name, _ in model.named_buffers() if name.rpartition(".")[0] in owners}


def _tensors_but(model: nn.Module, chosen: Collection[str]) -> dict[str, Tensor]:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: t.data for name, t in tensors.items() if name not in chosen and not t.is_meta}


def _prove(
    drawn: Mapping[str, Tensor],
    others: Mapping[str, Tensor],
    copies: Mapping[str, Tensor],
    *,
    allowed: Collection[str],
) -> None:
    unreached = [name for name, values in drawn.items() if values.isnan().any()]
    if unreached:
        raise ReinitializationError(
            f"the architecture's own initialisation does not reach {_listed(unreached)}; the "
            "model was left as it was: choose other layers, or give the module that holds "
            "them a reset_parameters() method"
        )
    touched = [n for n in others if n not in allowed and not _same_bits(others[n], copies[n])]
    if touched:
        raise ReinitializationError(
            f"the architecture's own initialisation also changed {_listed(touched)}, which was "
            "not chosen; the model was left as it was: its _init_weights must respect "
            f"{LOADED}, as transformers.initialization does"
        )


def _same_bits(first: Tensor, second: Tensor) -> bool:
    """Bitwise, as a NaN does not equal itself."""
    raw = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (first, second)]
    return torch.equal(*raw)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
