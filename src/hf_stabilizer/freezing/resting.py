"""Which modules are kept in evaluation mode while they are frozen?

A frozen layer still drops activations at random, and a frozen batch norm still takes up the
statistics of each batch, as long as it is in training mode.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from torch import nn


def resting_modules(model: nn.Module, held: Set[str]) -> list[nn.Module]:
    """Returns the largest modules in which nothing learns and something is held.

    A module without parameters, such as the dropout between GPT-2's embeddings and its blocks,
    rests when what has parameters rests before it and after it, in the order of registration.

    Args:
        model: The model, after the parameters were frozen.
        held: Names of the parameters that are frozen for a while; what is frozen for good rests
            with what is around it.

    Example:
        >>> model = nn.Sequential(nn.Linear(1, 1), nn.Dropout(), nn.LayerNorm(1), nn.Linear(1, 1))
        >>> _ = model[0].requires_grad_(False), model[2].requires_grad_(False)
        >>> held = {name for name, p in model.named_parameters() if not p.requires_grad}
        >>> [type(module).__name__ for module in resting_modules(model, held)]
        ['Linear', 'LayerNorm', 'Dropout']
    """
    ids = {id(p) for name, p in model.named_parameters() if name in held}
    whole = [*_at_rest(model, ids)]
    inside = {id(module) for top in whole for module in top.modules()}
    leaves = [module for module in model.modules() if not any(True for _ in module.children())]
    rests = [id(leaf) in inside if _has_parameters(leaf) else None for leaf in leaves]
    for place, leaf in enumerate(leaves):
        if rests[place] is None and id(leaf) not in inside:
            before = next((rest for rest in rests[place::-1] if rest is not None), False)
            after = next((rest for rest in rests[place:] if rest is not None), False)
            whole += [leaf] if before and after else []
    return whole


def _at_rest(module: nn.Module, held: Set[int]) -> Iterator[nn.Module]:
    parameters = [*module.parameters()]
    learns = any(p.requires_grad for p in parameters)
    if not learns and any(id(p) in held for p in parameters):
        yield module
        return
    for child in module.children():
        yield from _at_rest(child, held)


def _has_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())
