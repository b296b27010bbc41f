"""At which depth is a parameter that no forward pass has used?

It goes with its neighbours, with the data that reached it in a pass that ended early, or stands as
it is registered: before the blocks of its tower, or after them.
"""

from __future__ import annotations

from collections.abc import Mapping

from hf_stabilizer.layers.flow import Flow
from hf_stabilizer.layers.ladder import Ladder
from hf_stabilizer.layers.stacks import Structure, walk_up


def depth_of_idle(
    name: str, structure: Structure, flow: Flow, ladder: Ladder, known: Mapping[str, int]
) -> int | None:
    """Returns the depth of a parameter that no pass used, where its place alone decides.

    Args:
        name: The parameter.
        structure: The model.
        flow: What its passes showed.
        ladder: The depth of every block.
        known: Parameter -> depth, of those that were used.
    """
    if structure.block_of(name) is not None or not ladder.complete:
        return None
    twin = structure.twin_block(name)
    if twin is not None:
        return ladder.depths[twin]
    limb = structure.limb(name)
    within = [n for n in structure.parameters if n != name and n.startswith(f"{limb}.")]
    neighbours = {known[n] for n in within if n in known}
    if len(neighbours) == 1:
        return neighbours.pop()
    if flow.failure is not None:
        return None
    if structure.in_body(name):
        glimpses = flow.glimpses.get(name, set())
        if glimpses and all(not front for front in glimpses):
            return 0
        return (
            ladder.num_layers + 1
            if glimpses
            else _by_registration(name, structure, ladder.num_layers)
        )
    after = list(structure.parameters).index(name) > max(
        i for i, n in enumerate(structure.parameters) if structure.block_of(n)
    )
    free = limb == name or name in structure.tables
    return ladder.num_layers + 1 if (after or flow.whole) and not free else None


def _by_registration(name: str, structure: Structure, num_layers: int) -> int:
    """The depth of an idle part of a body: 0 before the blocks of its tower, head after them.

    So for a pooler that the model built on the body does without, or for what serves another kind
    of input. It gets no gradient where no pass uses it. What lies between towers is head.
    """
    tower, limb = structure.tower_of(name), structure.limb(name)
    if tower not in structure.towers:
        inside = (n for n in structure.parameters if n == name or n.startswith(f"{limb}."))
        return 0 if all(n in structure.tables for n in inside) else num_layers + 1
    if name in structure.tables:
        return 0
    own = [n for n in structure.parameters if structure.tower_of(n) == tower]
    first = next((i for i, n in enumerate(own) if structure.block_of(n)), len(own))
    vector = structure.limb(name) == name and structure.parameters[name].dim() > 0
    return 0 if vector or own.index(name) < first else num_layers + 1


def guess(name: str, structure: Structure, ladder: Ladder) -> int:
    """Returns the depth that the order of registration suggests."""
    block = structure.block_of(name)
    if block is not None:
        return ladder.guesses[block]
    limb = structure.limb(name)
    if not structure.stacks:
        limbs = list(dict.fromkeys(map(structure.limb, structure.parameters)))
        return limbs.index(limb)
    if limb == name and not structure.in_body(name):
        return ladder.num_layers + 1
    body = next((above for above in walk_up(name) if above in structure.bodies), "")
    names = [n for n in structure.parameters if not body or n.startswith(f"{body}.")]
    first = next((i for i, n in enumerate(names) if structure.block_of(n)), 0)
    return 0 if names.index(name) < first else ladder.num_layers + 1
