"""Which forward passes show every block at work?

The model itself is run first, with what it demands, then with more. Where blocks stay idle (the
vision tower of a model that was given text alone), the pre-trained models inside it are run by
themselves. A pass that ends in an error counts only where no other has reached a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from torch import nn

from hf_stabilizer.layers.flow import Flow, Stage
from hf_stabilizer.layers.inputs import Arguments, choices
from hf_stabilizer.layers.stacks import Structure


def look(structure: Structure) -> Flow:
    """Returns what the passes showed that it took to see all blocks, or as many as possible."""
    stage = Stage(
        structure.root,
        blocks=structure.blocks,
        linears=structure.linears,
        names={parameter: name for name, parameter in structure.parameters.items()},
    )
    seen, broken = Flow(whole=False), list[Flow]()
    for path, module in _runnable(structure):
        inside = {b for b in structure.blocks if not path or b.startswith(f"{path}.")}
        for forms in choices(module):
            if inside <= seen.below.keys():
                break
            flow = _first_that_ends_well(stage, module, forms, broken)
            if flow and flow.below.keys() - seen.below.keys():
                seen.add(flow)
            if flow and module is structure.root:
                seen.whole = True
                seen.reached |= flow.below.keys()
    if seen.whole:
        _look_at_idle_parts(structure, stage, seen)
    _add_broken(structure, seen, broken)
    if seen.whole or structure.root.forward.__name__ == "_forward_unimplemented":
        _assume_idle_towers(structure, seen)
    return seen


def _runnable(structure: Structure) -> list[tuple[str, nn.Module]]:
    """Returns the root and the pre-trained models in it, those outside first."""
    return list({"": structure.root, **structure.models, **structure.bodies}.items())


def _first_that_ends_well(
    stage: Stage, module: nn.Module, forms: Iterator[Arguments], broken: list[Flow]
) -> Flow | None:
    """Returns the first pass that raises nothing; adds those that do to `broken`."""
    for arguments in forms:
        flow = stage.watch(module, arguments)
        if flow.failure is None:
            return flow
        broken.append(flow)
    return None


def _look_at_idle_parts(structure: Structure, stage: Stage, seen: Flow) -> None:
    """Runs the model with other inputs, too, where it has parts outside the blocks that are idle.

    So a projection of patches (Fuyu) is met, which text alone does without; be it in a pass that
    ends early, for pictures that stand at no place of the text.
    """
    idle = {name for name in structure.parameters if structure.block_of(name) is None}
    for forms in islice(choices(structure.root), 1, 3):
        idle -= seen.first_use.keys()
        if not idle:
            return
        broken: list[Flow] = []
        flow = _first_that_ends_well(stage, structure.root, forms, broken)
        if flow and flow.first_use.keys() & idle:
            seen.add(flow)
        for early in broken:
            for name in idle & early.fronts.keys():
                seen.glimpses[name] |= early.fronts[name]


def _add_broken(structure: Structure, seen: Flow, broken: list[Flow]) -> None:
    """Adds passes that ended early where they have reached blocks that no other has.

    A note tells of the towers beside a model that has run; otherwise the whole counts as cut.
    """
    for flow in sorted(broken, key=lambda flow: -len(flow.below)):
        new = flow.below.keys() - seen.below.keys()
        if new and seen.whole:
            seen.assumed += sorted({structure.tower_of(path) for path in new})
            flow.failure = None
        if new:
            seen.add(flow)
    if broken and structure.blocks.keys() - seen.below.keys():
        seen.obstacle = max(broken, key=lambda flow: flow.uses).failure


def _assume_idle_towers(structure: Structure, seen: Flow) -> None:
    """Lets the blocks of a tower that no pass reached stand on one another as registered.

    Only where the model has run without them: they serve another kind of input. A note says so.
    """
    ran = {structure.tower_of(path) for path in seen.below}
    for tower in sorted(structure.towers - ran):
        blocks = [path for path in structure.blocks if structure.tower_of(path) == tower]
        seen.assumed.append(tower)
        for lower, path in zip(["", *blocks], blocks, strict=False):
            seen.below[path] = frozenset([lower] if lower else [])
            seen.beside[path] = frozenset()
