"""Which depth does the evidence give each parameter, and which parameters stay in doubt?

Inside a block it is the depth of the block; but a table of embeddings in the first block of a
stack alone is shared by the others (T5), so 0. Outside the blocks the forward pass decides: what
feeds a block has the depth of the last block behind the data that it meets, 0 for embeddings, the
encoder's last depth for the encoder's final norm; what feeds none, or another tower, is head. Of
what no pass has used its place decides (`idle`), or it stays in doubt.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from torch import nn

from hf_stabilizer.layers.flow import Flow
from hf_stabilizer.layers.idle import depth_of_idle, guess
from hf_stabilizer.layers.ladder import Ladder
from hf_stabilizer.layers.passes import look
from hf_stabilizer.layers.side_lists import side_lists
from hf_stabilizer.layers.stacks import Structure


@dataclass
class Draft:
    """The map as far as it is known."""

    structure: Structure
    flow: Flow
    ladder: Ladder
    depths: dict[str, int] = field(default_factory=dict)
    """Parameter -> depth, where it is known."""
    doubts: dict[str, int] = field(default_factory=dict)
    """Parameter -> the depth that is guessed, where it is not known."""

    @property
    def num_layers(self) -> int:
        """N, as far as it is known."""
        return self.ladder.num_layers

    @property
    def notes(self) -> tuple[str, ...]:
        """What the table does not show: blocks that run more than once, and what is assumed."""
        calls = self.flow.calls
        shared = (
            f"{path} is one block that runs {calls[path]} times: its weights are shared, so it "
            "counts as one depth"
            for path in self.structure.blocks
            if calls[path] > 1
        )
        assumed = (
            f"no forward pass went all through {tower}: what none reached stands as it is "
            "registered; check it, and correct it with overrides"
            for tower in self.flow.assumed
        )
        return *shared, *assumed


def discover(root: nn.Module) -> Draft:
    """Collects the evidence and gives each parameter a depth, or a guess where it is in doubt."""
    structure = Structure.of(root)
    flow = look(structure)
    others = side_lists(structure, flow)
    if others:
        structure = structure.without(others)
        flow = look(structure)
    draft = Draft(structure, flow, Ladder.of(structure, flow))
    for name in structure.parameters:
        depth = _inside_blocks(draft, name)
        if depth is None:
            depth = _by_use(draft, name)
        if depth is not None:
            draft.depths[name] = depth
    _join_limbs(draft)
    unused = [name for name in structure.parameters if name not in draft.depths]
    settled = {
        name: depth_of_idle(name, structure, flow, draft.ladder, draft.depths) for name in unused
    }
    for name, depth in settled.items():
        if depth is None:
            draft.doubts[name] = guess(name, structure, draft.ladder)
        else:
            draft.depths[name] = depth
    return draft


def _inside_blocks(draft: Draft, name: str) -> int | None:
    """The depth of the block around a parameter; 0 for a table that its siblings share."""
    structure = draft.structure
    block = structure.block_of(name)
    if block is None:
        return _beside_blocks(draft, name)
    depth = draft.ladder.depths.get(block)
    if depth is None or name not in structure.tables:
        return depth
    siblings = next(stack for stack in structure.stacks if block in dict(stack.blocks))
    relative = name.removeprefix(f"{block}.")
    holders = [path for path, _ in siblings.blocks if f"{path}.{relative}" in structure.parameters]
    return 0 if holders == [siblings.blocks[0][0]] else depth


def _beside_blocks(draft: Draft, name: str) -> int | None:
    """The depth of the k-th element of a list that runs in turns with the k-th block."""
    block = draft.structure.twin_block(name)
    depth = draft.ladder.depths.get(block) if block else None
    if depth is None:
        return None
    met = {draft.ladder.depth_behind(front) for front in draft.flow.fronts.get(name, ())}
    return depth if met and met <= {depth - 1, depth} else None


def _by_use(draft: Draft, name: str) -> int | None:
    """The depth that the data's way gives a parameter outside the blocks."""
    structure, flow, ladder = draft.structure, draft.flow, draft.ladder
    if structure.block_of(name) is not None or not ladder.complete:
        return None
    fronts, users = flow.fronts.get(name, set()), flow.users.get(name, set())
    met = {ladder.depth_behind(front) for front in fronts}
    fed = flow.feeds.get(name, set())
    if users:
        return _by_users(draft, name, users)
    if not fed:
        after = bool(met) and 0 not in met
        beside = bool(met) and not structure.in_body(name)
        return ladder.num_layers + 1 if after or beside else None
    if 0 in met:
        return 0
    if not any(ladder.stands_on(path, front) for path in fed for front in fronts):
        # A connector, which feeds another tower; or a prompt that stands beside what one gives.
        prompt = structure.limb(name) == name and structure.tower_of(name) in structure.towers
        return 0 if prompt else ladder.num_layers + 1 if met else None
    shared = len(met) > 1 and structure.parameters[name].dim() > 1
    return 0 if shared else max(met)


def _by_users(draft: Draft, name: str, users: set[str]) -> int:
    """The depth of a parameter that is handed to blocks: 0, unless it belongs to one of them."""
    structure = draft.structure
    own = structure.twin_block(name)
    firsts = {stack.blocks[0][0] for stack in structure.stacks}
    if len(users) == 1 and (own in users or not users <= firsts):
        return draft.ladder.depths[next(iter(users))]
    return 0


def _join_limbs(draft: Draft) -> None:
    """Gives what is one module beside the blocks one depth: the last at which it is used.

    So for a convolution whose norm closes the residual one block above (DeBERTa v2). Modules with
    tables of embeddings are left as they are: a table tied to the output is used last, too.
    """
    limbs: dict[str, list[str]] = defaultdict(list)
    for name in draft.depths:
        if draft.structure.block_of(name) is None and not draft.structure.twin_block(name):
            limbs[draft.structure.piece(name)].append(name)
    for path, names in limbs.items():
        depths = {draft.depths[name] for name in names}
        tables = any(name in draft.structure.tables for name in names)
        if len(depths) > 1 and not tables and path not in draft.structure.parameters:
            draft.depths.update(dict.fromkeys(names, max(depths)))
