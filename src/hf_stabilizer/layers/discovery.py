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

from torch import nn
from transformers import PreTrainedModel

from hf_stabilizer.layers.flow import Flow, observe
from hf_stabilizer.layers.inputs import attempts
from hf_stabilizer.layers.ladder import Ladder
from hf_stabilizer.layers.stacks import Structure, walk_up


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
        """What the table does not show: blocks that run more than once in a pass."""
        calls = self.flow.calls
        return tuple(
            f"{path} is one block that runs {calls[path]} times: its weights are shared, so it "
            "counts as one depth"
            for path in self.structure.blocks
            if calls[path] > 1
        )


def discover(root: nn.Module) -> Draft:
    """Collects the evidence and gives each parameter a depth, or a guess where it is in doubt."""
    structure = Structure.of(root)
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


def look(structure: Structure) -> Flow:
    """Observes forward passes until one shows every block; returns the one that showed most."""
    flows = [Flow()]
    if not structure.stacks:
        return flows[0]
    names = {parameter: name for name, parameter in structure.parameters.items()}
    for module in _runnable(structure):
        for arguments in attempts(module):
            flow = observe(
                module,
                arguments,
                blocks=structure.blocks,
                linears=structure.linears,
                names=names,
            )
            flow.whole = module is structure.root
            flows.append(flow)
            if flow.failure is None and len(flow.depths) == len(structure.blocks):
                return flow
    return max(flows, key=lambda flow: (len(flow.depths), flow is not flows[0], not flow.failure))


def _runnable(structure: Structure) -> list[nn.Module]:
    """Returns the root and, should it not run, the pre-trained models and bodies in it."""
    inside = [module for module in structure.root.modules() if isinstance(module, PreTrainedModel)]
    return list(dict.fromkeys([structure.root, *inside[:1], *structure.bodies.values()]))


def _inside_blocks(draft: Draft, name: str) -> int | None:
    """The depth of the block around a parameter; 0 for a table that its siblings share."""
    structure = draft.structure
    block = structure.block_of(name)
    if block is None:
        return _beside_blocks(draft, name)
    depth = draft.ladder.depths.get(block)
    if depth is None or not isinstance(structure.owner(name), nn.Embedding):
        return depth
    siblings = next(stack for stack in structure.stacks if block in dict(stack.blocks))
    relative = name.removeprefix(f"{block}.")
    holders = [path for path, _ in siblings.blocks if f"{path}.{relative}" in structure.parameters]
    return 0 if holders == [siblings.blocks[0][0]] else depth


def _beside_blocks(draft: Draft, name: str) -> int | None:
    """The depth of the k-th element of a list that runs in turns with the k-th block."""
    block = draft.structure.twin_block(name)
    depth = draft.ladder.depths.get(block) if block else None
    met = {draft.ladder.level_to_depth(level) for level in draft.flow.levels.get(name, ())}
    return depth if depth is not None and met and met <= {depth - 1, depth} else None


def _by_use(draft: Draft, name: str) -> int | None:
    """The depth that the data's way gives a parameter outside the blocks."""
    flow, ladder = draft.flow, draft.ladder
    if draft.structure.block_of(name) is not None or not ladder.complete:
        return None
    levels = {ladder.level_to_depth(level) for level in flow.levels.get(name, ())}
    users = flow.users.get(name, set())
    if name not in flow.feeders:
        at_the_top = levels == {ladder.num_layers} or not draft.structure.in_body(name)
        return ladder.num_layers + 1 if levels and at_the_top else None
    if users:
        return _by_users(draft, name, users)
    if 0 in levels:
        return 0
    return levels.pop() if len(levels) == 1 else None


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
            limbs[draft.structure.limb(name)].append(name)
    for path, names in limbs.items():
        depths = {draft.depths[name] for name in names}
        tables = any(isinstance(draft.structure.owner(name), nn.Embedding) for name in names)
        if len(depths) > 1 and not tables and path not in draft.structure.parameters:
            draft.depths.update(dict.fromkeys(names, max(depths)))


def _unused(draft: Draft, name: str) -> int | None:
    """The depth of a parameter that the pass did not use, where its place alone decides."""
    structure, ladder = draft.structure, draft.ladder
    if structure.block_of(name) is not None or not ladder.complete:
        return None
    limb = structure.limb(name)
    within = [n for n in structure.parameters if n != name and n.startswith(f"{limb}.")]
    neighbours = {draft.depths[n] for n in within if n in draft.depths}
    if len(neighbours) == 1:
        return neighbours.pop()
    cut_short = draft.flow.failure is not None and structure.in_body(name)
    if name in draft.flow.first_use or cut_short:
        return None
    looked_up = isinstance(structure.owner(name), nn.Embedding)
    if structure.in_body(name):
        learned_vector = limb == name and structure.parameters[name].dim() > 0
        return 0 if looked_up or learned_vector else None
    after = list(structure.parameters).index(name) > max(
        i for i, n in enumerate(structure.parameters) if structure.block_of(n)
    )
    free = limb == name or looked_up
    return ladder.num_layers + 1 if (after or draft.flow.whole) and not free else None


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
