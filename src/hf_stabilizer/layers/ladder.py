"""In which order do the blocks stand on one another?

Each block's depth was observed. They form a ladder when every depth 1..N has one block, or one
element of each of several lists that take turns (attention, feed-forward, attention, ..).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

from transformers import PreTrainedModel

from hf_stabilizer.layers.flow import Flow
from hf_stabilizer.layers.stacks import Stack, Structure, walk_up


@dataclass(frozen=True)
class Ladder:
    """The depth of every block."""

    num_layers: int
    """N, as far as it is known."""
    depths: dict[str, int]
    """Path of a block -> its depth; empty if the blocks form no ladder."""
    guesses: dict[str, int]
    """Path of a block -> its depth if the stacks stood on one another as registered."""
    levels: dict[int, int]
    """Level in the pass -> depth; the two differ where lists take turns."""
    reason: str = ""
    """Why the blocks form no ladder, in a sentence; empty if they do."""

    @classmethod
    def of(cls, structure: Structure, flow: Flow) -> Ladder:
        """Orders the blocks by what was observed."""
        guesses = {path: i for i, path in enumerate(structure.blocks, start=1)}
        levels = _levels(structure, flow)
        depths = {path: levels[level] for path, level in flow.depths.items()}
        reason = _flaw(structure, flow, depths)
        if reason:
            return cls(len(guesses), {}, guesses, {}, reason)
        return cls(max(depths.values()), depths, guesses, levels)

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

    def level_to_depth(self, level: int) -> int:
        """Returns the depth of the last block behind data of this level."""
        return self.levels.get(level, level)


def _levels(structure: Structure, flow: Flow) -> dict[int, int]:
    """Returns level -> depth: elements of lists that take turns stand on one rung."""
    rungs = {path: path for path in structure.blocks}
    for stacks in _side_by_side(structure):
        rows = list(zip(*([path for path, _ in stack.blocks] for stack in stacks), strict=True))
        reached = [[flow.depths.get(path, 0) for path in row] for row in rows]
        if all(max(low) < min(high) for low, high in pairwise(reached)):
            rungs.update({path: row[0] for row in rows for path in row})
    depths: dict[int, int] = {0: 0}
    depth, last = 0, ""
    for path, level in sorted(flow.depths.items(), key=lambda item: item[1]):
        depth += rungs[path] != last and level not in depths
        last = rungs[path]
        depths[level] = depth
    return depths


def _side_by_side(structure: Structure) -> list[list[Stack]]:
    """Returns the groups of equally long stacks that hang on one module."""
    groups: dict[tuple[str, int], list[Stack]] = defaultdict(list)
    for stack in structure.stacks:
        groups[stack.path.rpartition(".")[0], len(stack.blocks)].append(stack)
    return [group for group in groups.values() if len(group) > 1 and len(group[0].blocks) > 1]


def _flaw(structure: Structure, flow: Flow, depths: dict[str, int]) -> str:
    """Returns in a sentence why the blocks form no ladder; nothing if they do."""
    if not structure.stacks:
        return "the model has no stack of blocks (a numbered list of composite modules)"
    idle = [path for path in structure.blocks if path not in flow.depths]
    if idle:
        return f"the forward pass could not be followed through {_some(idle)}" + (
            f" ({type(flow.failure).__name__}: {flow.failure})" if flow.failure else ", never run"
        )
    towers = [path for path, body in structure.bodies.items() if _holds_block(structure, path)]
    if len(towers) > 1:
        return f"{_some(towers)} are bodies side by side"
    levels = defaultdict(list)
    for path, level in flow.depths.items():
        levels[level].append(path)
    rivals = next((paths for paths in levels.values() if len(paths) > 1), None)
    if rivals:
        return f"{_some(rivals)} run side by side, on the same input"
    if _crosses_senses(structure):
        return "one stack reads pictures or sound and another stands on it"
    if not flow.feeders:
        return "no parameter was seen to act on the input of the first block"
    return ""


def _crosses_senses(structure: Structure) -> bool:
    """Whether a tower that reads pictures or sound feeds a stack of another kind.

    Unless an encoder-decoder joins them, such towers are aligned at the top, not stacked.
    """
    kinds = {type(block) for block in structure.blocks.values()}
    models = [body for body in structure.bodies.values() if isinstance(body, PreTrainedModel)]
    return len(kinds) > 1 and any(
        body.main_input_name != "input_ids"
        and not getattr(body.config, "is_encoder_decoder", False)
        for body in models
    )


def _holds_block(structure: Structure, path: str) -> bool:
    return any(path in (block, *walk_up(block)) for block in structure.blocks)


def _some(paths: list[str]) -> str:
    return ", ".join(map(repr, paths[:3])) + (
        f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    )
