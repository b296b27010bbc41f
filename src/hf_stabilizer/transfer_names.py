"""Which parameter of one model is the same as which of another, whatever head each wears?

    source  bert.encoder.layer.0.attention.self.query.weight     (block 1, its own name there)
    target  model.bert.encoder.layer.0.attention.self.query.weight

In a block a parameter is known by the block's depth and its name within the block; outside by its
name behind the path of the body, which is what the two paths to the first block do not share. What
lies outside the body of either model has no counterpart. Wrappers' parts of names are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

from torch import nn

from hf_stabilizer.errors import ConfigurationError, check_whole
from hf_stabilizer.layers import LayerMap

WRAPPERS = {"_orig_mod", "base_layer", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"}
"""Parts of names that torch.compile, adapters and sharding put in."""

_Key = tuple[int, int, str]


@dataclass(frozen=True)
class Pairing:
    """What is to be copied, and what has no counterpart."""

    pairs: Mapping[str, str]
    """Name in the target -> name in the source; a tied weight once."""
    left: tuple[str, ...]
    """Parameters of the target, embeddings and chosen blocks, that the source does not bring."""
    unused: tuple[str, ...]
    """Parameters of the source, likewise, that the target has no place for."""


@dataclass(frozen=True)
class Side:
    """One of the two models, as names are read from it."""

    layers: LayerMap
    """Its depths."""
    aliases: Mapping[str, tuple[str, ...]]
    """Parameter -> all its names: a tied weight has more than one."""
    body: str = ""
    """What every name in its body begins with."""

    @classmethod
    def of(cls, model: nn.Module, layers: LayerMap) -> Side:
        """Collects the names of a model."""
        first = {id(p): name for name, p in model.named_parameters()}
        found: dict[str, list[str]] = {name: [] for name in first.values()}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            found[first[id(parameter)]].append(name)
        return cls(layers, {name: tuple(names) for name, names in found.items()})

    def keys(self, name: str) -> Iterator[_Key]:
        """Yields that by which a parameter is known in either model; nothing outside the body."""
        depth = self.layers.depth_of(name)
        for alias in map(_plain, self.aliases[name]):
            for place, block in enumerate(self.layers.blocks.get(depth, ())):
                if alias.startswith(f"{_plain(block)}."):
                    yield depth, place, alias.removeprefix(f"{_plain(block)}.")
                    break
            else:
                if alias.startswith(self.body):
                    yield -1, 0, alias.removeprefix(self.body)

    def in_body(self, name: str) -> bool:
        """Whether a parameter belongs to the embeddings or to a block."""
        return self.layers.depth_of(name) <= self.layers.num_layers

    def wanted(self, num_layers: int | None) -> list[str]:
        """The parameters of embeddings and lowest blocks; None: the head's but the classifier's."""
        last = self.layers.num_layers + 1 if num_layers is None else num_layers
        inside = f"{self.layers.classifier}."
        return [
            name
            for depth in range(last + 1)
            for name in self.layers.names(depth)
            if self.in_body(name)
            or not any(alias.startswith(inside) for alias in self.aliases[name])
        ]


def pair_names(
    source: Side, target: Side, num_layers: int | None, *, absent: Set[str] = frozenset()
) -> Pairing:
    """Pairs the parameters of embeddings and lowest blocks, the whole body's for None.

    Args:
        source: What is copied from.
        target: What is copied into.
        num_layers: Number of lowest blocks, at most as many as either model has.
        absent: Parameters of the source that its checkpoint does not hold.

    Raises:
        ConfigurationError: The number is out of range, or the models are not built alike.
    """
    _check_number(source.layers, target.layers, num_layers)
    source, target = _with_bodies(source, target)
    # An encoder by itself has its final norm above the blocks, one with a decoder below them.
    is_all = num_layers == source.layers.num_layers
    known = {
        key: name
        for name in source.wanted(None if is_all else num_layers)
        if absent.isdisjoint(source.aliases[name])
        for key in source.keys(name)
    }
    wanted = target.wanted(num_layers)
    pairs = {
        name: known[key]
        for name in wanted
        for key in [next((key for key in target.keys(name) if key in known), None)]
        if key is not None
    }
    taken = set(pairs.values())
    found = Pairing(
        pairs,
        tuple(name for name in wanted if name not in pairs and target.in_body(name)),
        tuple(n for n in dict.fromkeys(known.values()) if n not in taken and source.in_body(n)),
    )
    _check_alike(found, target.layers, num_layers)
    _check_adapters(found)
    return found


def _check_number(source: LayerMap, target: LayerMap, num_layers: int | None) -> None:
    there, here = source.num_layers, target.num_layers
    if num_layers is None:
        if there != here:
            raise ConfigurationError(
                f"the source has {there} blocks and the target {here}, so its whole body does not "
                f"fit; name how many of the lowest blocks to take, e.g. num_layers="
                f"{min(there, here)}"
            )
        return
    most = min(there, here)
    allowed = f"in [0, {most}], the blocks that both models have (source {there}, target {here})"
    check_whole(num_layers, allowed, name="num_layers", most=most)


def _with_bodies(source: Side, target: Side) -> tuple[Side, Side]:
    """Finds the two paths of the bodies: the first block's, without what they end in alike."""
    first = [_plain(side.layers.blocks[1][0]).split(".") for side in (source, target)]
    same = 0
    while same < min(map(len, first)) and first[0][-1 - same] == first[1][-1 - same]:
        same += 1
    bodies = ["".join(f"{part}." for part in parts[: len(parts) - same]) for parts in first]
    return (
        Side(source.layers, source.aliases, bodies[0]),
        Side(target.layers, target.aliases, bodies[1]),
    )


def _check_alike(found: Pairing, layers: LayerMap, num_layers: int | None) -> None:
    if not found.pairs:
        raise ConfigurationError(
            "nothing was transferred: no parameter of the source has a counterpart in the target; "
            "both must be of one architecture"
        )
    filled = {layers.depth_of(name) for name in found.pairs}
    last = layers.num_layers if num_layers is None else num_layers
    empty = [layers.label(depth) for depth in range(last + 1) if depth not in filled]
    if empty:
        example = next(name for name in found.left if layers.label(layers.depth_of(name)) in empty)
        raise ConfigurationError(
            f"the source has nothing for {', '.join(empty)} of the target ({example!r} has no "
            "counterpart), so the two are not built alike; transfer between models of one "
            "architecture"
        )


def _check_adapters(found: Pairing) -> None:
    """Refuses weights without what adapters have learnt beside them."""
    adapted = {name.partition(".base_layer.")[0] for name in found.pairs.values()}
    left = [n for n in found.unused if any(n.startswith(f"{owner}.") for owner in adapted)]
    if left:
        raise ConfigurationError(
            f"the source learnt in adapters, which the target has no place for ({left[0]!r} and "
            f"{len(left) - 1} more), so only what it began with would be copied; call its "
            "merge_and_unload() first"
        )


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)
