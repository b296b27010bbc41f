"""In which order do the blocks stand on one another?

What each block stands on was observed. A block's depth is counted from the top: N, less the blocks
on the longest way from it upwards. So blocks on top of one another have the depths 1..N, a decoder
stands on its encoder, and towers side by side are aligned at the top. A tower that reads pictures
or sound and hands its vectors to one that reads text stands beside it, not below, unless the two
are an encoder and a decoder. Lists whose elements take turns (attention, feed-forward, attention,
..) share their rungs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from hf_stabilizer.layers.flow import Flow, Front
from hf_stabilizer.layers.stacks import Stack, Structure

TEXT = frozenset({"input_ids", "inputs_embeds", "decoder_input_ids", "decoder_inputs_embeds"})
"""Names under which models take text."""

Below = Mapping[str, Front]
"""Block -> the blocks that it stands on."""


@dataclass(frozen=True)
class Ladder:
    """The depth of every block."""

    num_layers: int
    """N, as far as it is known."""
    depths: dict[str, int]
    """Path of a block -> its depth; empty if the blocks form no ladder."""
    guesses: dict[str, int]
    """Path of a block -> its depth if the stacks stood on one another as registered."""
    below: Below
    """Block -> the blocks that it stands on, towers beside it left out."""
    reason: str = ""
    """Why the blocks form no ladder, in a sentence; empty if they do."""

    @classmethod
    def of(cls, structure: Structure, flow: Flow) -> Ladder:
        """Orders the blocks by what was observed."""
        guesses = {path: i for i, path in enumerate(structure.blocks, start=1)}
        reason = _flaw(structure, flow)
        if reason:
            return cls(len(guesses), {}, guesses, {}, reason)
        below = _standing(structure, flow)
        try:
            depths = _from_the_top(below, _rungs(structure, below))
        except CycleError as error:
            reason = f"blocks feed one another in a circle: {_some(error.args[1])}"
            return cls(len(guesses), {}, guesses, {}, reason)
        reason = _disorder(structure, depths)
        if reason:
            return cls(max(depths.values()), {}, depths, below, reason)
        return cls(max(depths.values()), depths, guesses, below)

    @property
    def complete(self) -> bool:
        """Whether every block has its depth."""
        return not self.reason

    @property
    def blocks(self) -> dict[int, tuple[str, ...]]:
        """Depth -> paths of the blocks there, from the input upwards."""
        rungs: dict[int, list[str]] = defaultdict(list)
        for path, depth in (self.depths or self.guesses).items():
            rungs[depth].append(path)
        return {depth: tuple(rungs[depth]) for depth in sorted(rungs)}

    def depth_behind(self, front: Front) -> int:
        """Returns the depth of the last block behind some data, 0 for none."""
        return max((self.depths[path] for path in front), default=0)

    def stands_on(self, path: str, front: Front) -> bool:
        """Whether a block takes in data with this front as its tower's own."""
        return bool(self.below[path] & front)


def _flaw(structure: Structure, flow: Flow) -> str:
    """Returns in a sentence why the order of the blocks cannot be told; nothing if it can."""
    if not structure.stacks:
        return "the model has no stack of blocks (a numbered list of composite modules)"
    idle = [path for path in structure.blocks if path not in flow.below]
    if idle:
        return f"the forward pass could not be followed through {_some(idle)}" + (
            f" ({type(flow.obstacle).__name__}: {flow.obstacle})"
            if flow.obstacle
            else ", never run"
        )
    if not flow.feeds:
        return "no parameter was seen to act on the input of the first block"
    return ""


def _standing(structure: Structure, flow: Flow) -> Below:
    """Returns what each block stands on, less what only feeds its tower from beside it."""
    return {
        path: frozenset(b for b in below if not _is_beside(structure, flow, b, path))
        for path, below in flow.below.items()
    }


def _is_beside(structure: Structure, flow: Flow, giver: str, taker: str) -> bool:
    """Whether a block of another tower feeds this one as pictures or sound feed a text model.

    In an encoder-decoder the decoder stands on the encoder; it is one by its configuration, or
    because every block of the decoder takes in the encoder's vectors beside its own stream.
    """
    giving, taking = structure.tower_of(giver), structure.tower_of(taker)
    if giving == taking or not _reads_text(structure, flow, taking):
        return False
    if _reads_text(structure, flow, giving) or structure.is_encoder_decoder(giving, taking):
        return False
    stack = next(stack for stack in structure.stacks if taker in dict(stack.blocks))
    return not all(giver in flow.beside[path] for path, _ in stack.blocks)


def _reads_text(structure: Structure, flow: Flow, tower: str) -> bool:
    """Whether text reaches a tower through no other block."""
    return any(
        inputs & TEXT for path, inputs in flow.reads.items() if structure.tower_of(path) == tower
    )


def _rungs(structure: Structure, below: Below) -> dict[str, str]:
    """Returns block -> the block that stands for its rung: lists that take turns share rungs."""
    rungs = {path: path for path in below}
    heights = _from_the_top(below, rungs)
    for stacks in _side_by_side(structure):
        rows = list(zip(*([path for path, _ in stack.blocks] for stack in stacks), strict=True))
        reached = [[heights[path] for path in row] for row in rows]
        if all(max(low) < min(high) for low, high in pairwise(reached)):
            rungs.update({path: row[0] for row in rows for path in row})
    return rungs


def _from_the_top(below: Below, rungs: Mapping[str, str]) -> dict[str, int]:
    """Returns the depth of each block, N less the rungs on the longest way upwards.

    Raises:
        CycleError: The blocks stand on one another in a circle.
    """
    above: dict[str, set[str]] = {rung: set() for rung in rungs.values()}
    for path, lower in below.items():
        for giver in lower:
            if rungs[giver] != rungs[path]:
                above[rungs[giver]].add(rungs[path])
    heights: dict[str, int] = {}
    for rung in TopologicalSorter(above).static_order():  # what lies above a rung comes first
        heights[rung] = 1 + max((heights[upper] for upper in above[rung]), default=0)
    top = max(heights.values())
    return {path: top + 1 - heights[rungs[path]] for path in below}


def _side_by_side(structure: Structure) -> list[list[Stack]]:
    """Returns the groups of equally long stacks that hang on one module."""
    groups: dict[tuple[str, int], list[Stack]] = defaultdict(list)
    for stack in structure.stacks:
        groups[stack.path.rpartition(".")[0], len(stack.blocks)].append(stack)
    return [group for group in groups.values() if len(group) > 1 and len(group[0].blocks) > 1]


def _disorder(structure: Structure, depths: Mapping[str, int]) -> str:
    """Returns in a sentence what contradicts the order of registration; nothing if all is well."""
    for stack in structure.stacks:
        paths = [path for path, _ in stack.blocks]
        if len(paths) > 1 and len({depths[path] for path in paths}) == 1:
            return f"{_some(paths)} run side by side: no data was seen to pass from one to the next"
        run = sorted(paths, key=lambda path: depths[path])
        if [depths[path] for path in paths] != sorted(depths[path] for path in paths):
            return (
                f"the blocks of {stack.path!r} run in another order than they are registered: "
                f"{_some([path.rpartition('.')[2] for path in run])}"
            )
    return ""


def _some(paths: list[str]) -> str:
    return ", ".join(map(repr, paths[:3])) + (
        f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    )
