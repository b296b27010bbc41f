"""Which depth does the evidence give each parameter, and which parameters stay in doubt?

Inside a block it is the depth of the block; but a table of embeddings in the first block of a
stack alone is shared by the others (T5), so 0. Outside the blocks the forward pass decides: what
feeds a block has the level of the data that it meets, 0 for embeddings, the encoder's last depth
for the encoder's final norm; what feeds none is head. A parameter that the pass did not use goes
with its neighbours, or stays in doubt.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise

from torch import nn

from hf_stabilizer.layers.flow import Flow
from hf_stabilizer.layers.ladder import Ladder
from hf_stabilizer.layers.passes import look
from hf_stabilizer.layers.stacks import Stack, Structure, walk_up, weights_in


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
    whole = weights_in(root)
    others = [
        s.path
        for s in structure.stacks
        if _runs_apart(s, flow, whole) or _hangs_on(s, structure, flow)
    ]
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
    settled = {name: _unused(draft, name) for name in unused}
    for name, depth in settled.items():
        if depth is None:
            draft.doubts[name] = _guess(draft, name)
        else:
            draft.depths[name] = depth
    return draft


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


def _inside_blocks(draft: Draft, name: str) -> int | None:
    """The depth of the block around a parameter; 0 for a table that its siblings share."""
    structure = draft.structure
    block = structure.block_of(name)
    if block is None:
        return _beside_blocks(draft, name)
    depth = draft.ladder.depths.get(block)
    if depth is None or name not in draft.structure.tables:
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
    flow, ladder = draft.flow, draft.ladder
    structure = draft.structure
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


def _unused(draft: Draft, name: str) -> int | None:
    """The depth of a parameter that no pass used, where its place alone decides."""
    structure, ladder = draft.structure, draft.ladder
    if structure.block_of(name) is not None or not ladder.complete:
        return None
    twin = structure.twin_block(name)
    if twin is not None:
        return ladder.depths[twin]
    limb = structure.limb(name)
    within = [n for n in structure.parameters if n != name and n.startswith(f"{limb}.")]
    neighbours = {draft.depths[n] for n in within if n in draft.depths}
    if len(neighbours) == 1:
        return neighbours.pop()
    if draft.flow.failure is not None:
        return None
    if structure.in_body(name):
        glimpses = draft.flow.glimpses.get(name, set())
        if glimpses and all(not front for front in glimpses):
            return 0
        return ladder.num_layers + 1 if glimpses else _by_registration(draft, name)
    after = list(structure.parameters).index(name) > max(
        i for i, n in enumerate(structure.parameters) if structure.block_of(n)
    )
    free = limb == name or name in draft.structure.tables
    return ladder.num_layers + 1 if (after or draft.flow.whole) and not free else None


def _by_registration(draft: Draft, name: str) -> int:
    """The depth of an idle part of a body: 0 before the blocks of its tower, head after them.

    So for a pooler that the model built on the body does without, or for what serves another kind
    of input. It gets no gradient where no pass uses it. What lies between towers is head.
    """
    structure = draft.structure
    tower, limb = structure.tower_of(name), structure.limb(name)
    if tower not in structure.towers:
        inside = (n for n in structure.parameters if n == name or n.startswith(f"{limb}."))
        return 0 if all(n in draft.structure.tables for n in inside) else draft.num_layers + 1
    if name in draft.structure.tables:
        return 0
    own = [n for n in structure.parameters if structure.tower_of(n) == tower]
    first = next((i for i, n in enumerate(own) if structure.block_of(n)), len(own))
    vector = structure.limb(name) == name and structure.parameters[name].dim() > 0
    return 0 if vector or own.index(name) < first else draft.num_layers + 1


def _guess(draft: Draft, name: str) -> int:
    """The depth that the order of registration suggests."""
    ladder, structure = draft.ladder, draft.structure
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
