"""Which numbered lists of composite modules are no stacks of blocks after all?

Structure alone takes them for such. That they run beside one another, or not at all, tells.
"""

from __future__ import annotations

from itertools import pairwise

from hf_stabilizer.layers.flow import Flow
from hf_stabilizer.layers.stacks import Stack, Structure, walk_up, weights_in


def side_lists(structure: Structure, flow: Flow) -> list[str]:
    """Returns the paths of the lists whose elements are no blocks."""
    whole = weights_in(structure.root)
    return [
        stack.path
        for stack in structure.stacks
        if _runs_apart(stack, flow, whole) or _hangs_on(stack, structure, flow)
    ]


def _runs_apart(stack: Stack, flow: Flow, whole: int) -> bool:
    """Whether the elements of a list stand beside one another, so that they are no blocks.

    So do projections of several levels of a picture, or heads that predict several things. A list
    that holds half of the model is none: there the data's way was lost.
    """
    if 2 * sum(weights_in(block) for _, block in stack.blocks) > whole:
        return False
    paths = [path for path in flow.below if path in dict(stack.blocks)]
    return len(paths) > 1 and not any(_is_above(b, a, flow) for a, b in pairwise(paths))


def _hangs_on(stack: Stack, structure: Structure, flow: Flow) -> bool:
    """Whether a list of which no pass has run more than one element is no tower's own stack.

    So it is for what connects towers, and for what a tower did without when the model ran.
    """
    tower = structure.tower_of(stack.path)
    connects = any(tower in walk_up(inner) for inner in structure.towers)
    if flow.whole and connects and not any(path in flow.reached for path, _ in stack.blocks):
        return True
    ran = sum(path in flow.below for path, _ in stack.blocks)
    if ran > 1 or ran == len(stack.blocks):
        return False
    if connects:
        return True
    return flow.whole and tower in {structure.tower_of(path) for path in flow.below}


def _is_above(upper: str, lower: str, flow: Flow) -> bool:
    """Whether data reaches one block from another."""
    waiting, seen = [upper], {upper}
    while waiting:
        for path in flow.below.get(waiting.pop(), ()):
            if path == lower:
                return True
            if path not in seen:
                seen.add(path)
                waiting.append(path)
    return False
