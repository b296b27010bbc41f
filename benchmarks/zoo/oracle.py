"""Which depths does a real forward pass imply? The judge of a layer map, independent of its code.

Nothing of `hf_stabilizer.layers` is used. The evidence is `trace`: which elements of numbered lists
ran, what each took in, and what the data that met a parameter had passed. The rules:

Blocks. A *stack* is a numbered list under the body (`base_model`) whose elements ran one on top of
the other (each took in what its predecessor gave) and hold at least two weight matrices each; the
outermost such lists count. An element is a stage rather than a block, and gives way to the stacks
in it, if it is a bare list, or if it is chiefly made of such stacks and its width differs from its
siblings'. Experts, which do not feed one another, and stems of single convolutions are no stacks.
  1. Within a stack the depths rise by one from block to block, in the order of execution; all
     parameters of a block have its depth. A table of embeddings that only the first block of a
     stack has may have depth 0. A module that several blocks share may have the depth of any.
  2. A stack that took in what another one gave continues above it, if both lie in one and the same
     pre-trained model (stages, funnels) or it attends to it in an encoder-decoder. The longest such
     chain has N blocks, and the depths of its blocks are 1..N.
  3. Towers (stacks of different pre-trained models otherwise) end at depth N, all of them. A stack
     between two towers (a resampler) may be head instead. Where one tower attends to another or
     lives on its output alone, and no configuration speaks of an encoder-decoder (BLIP, FLAVA), the
     conventions can be read as a chain, too: a map may follow either reading, throughout. A stack
     of the model around a tower (the neck of a depth estimator) may be all head. Where another
     tower taps one midway and again at its end (BridgeTower), neither N nor the ends are judged.

Outside the blocks, by what the data had passed when it met a parameter:
  4. no block, and what it shaped went into one: depth 0. Only the blocks of its own tower and of
     those below it count for a parameter within one; if the data had passed another tower, it may
     be a connector, N + 1.
  5. the last block of a tower: depth N + 1. The last block of a stack on which another one stands:
     N + 1 if what the parameter shaped did not go into the other one; else the depth of that block
     or, between stages, of its successor.
  6. some block k of a stack but not its last: the depth of k or of its successor (down-sampling),
     or N + 1 (a connector that taps a tower midway).
  7. different things at different times: not judged, and neither is a parameter that hangs on a
     module around blocks without a module of its own (a class token). But input embeddings are 0,
     and output embeddings that are not tied to them N + 1.
  8. a table of embeddings may have depth 0 in any case, and the k-th of a list beside a stack of
     the same length the depth of the k-th block.
A parameter that met no data is not judged; of a model that could be run in parts only, nothing but
rule 1 is. Every parameter must have a depth in 0..N + 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from torch import nn

from .evidence import Evidence
from .trace import Passed, shaped_by

Depth = Callable[[str], int]


@dataclass
class Judgement:
    """What the oracle says of one map."""

    wrong: list[str] = field(default_factory=list)
    """A sentence for each rule that does not hold."""
    judged: int = 0
    """Parameters on which a rule had something to say."""
    total: int = 0
    """Parameters of the model."""
    blocks: int = 0
    """Blocks that were seen to run."""


@dataclass
class Oracle(Evidence):
    """Judges the depths of one model."""

    def judge(self, depth_of: Depth, num_layers: int) -> Judgement:
        """Holds a map against the rules, in the reading of rule 3 that it follows best."""
        readings: list[Oracle] = [self]
        if self.open_chains:
            readings.append(replace(self, optional_chains=True))
        necks = [s.path for s in self.stacks if self.is_neck(s)]
        readings += [replace(oracle, necks=frozenset(necks)) for oracle in readings if necks]
        judgements = [oracle._judge(depth_of, num_layers) for oracle in readings]
        return min(judgements, key=lambda judgement: len(judgement.wrong))

    def _judge(self, depth_of: Depth, num_layers: int) -> Judgement:
        names = [name for name, _ in self.model.named_parameters()]
        judgement = Judgement(total=len(names), blocks=sum(len(s.blocks) for s in self.stacks))
        for name in names:
            if not 0 <= depth_of(name) <= num_layers + 1:
                judgement.wrong.append(f"{name} has depth {depth_of(name)}, N is {num_layers}")
        if not self.stacks:
            return judgement
        depths = {b: self._depth_of_block(b, depth_of) for s in self.stacks for b in s.blocks}
        self._judge_blocks(depths, depth_of, judgement)
        if self.saw_all:
            self._judge_ladder(depths, num_layers, judgement)
            for name in names:
                if name not in self.block_of:
                    self._judge_outside(name, depth_of(name), depths, num_layers, judgement)
        return judgement

    def is_total(self, depth_of: Depth, num_layers: int) -> bool:
        """Whether every parameter has a depth in 0..N + 1."""
        names = [name for name, _ in self.model.named_parameters()]
        return all(0 <= depth_of(name) <= num_layers + 1 for name in names)

    def _depth_of_block(self, block: str, depth_of: Depth) -> int:
        """The depth that most parameters of a block have."""
        depths = [depth_of(n) for n, b in self.block_of.items() if b == block]
        return max(set(depths), key=depths.count)

    def _judge_blocks(self, depths: dict[str, int], depth_of: Depth, judgement: Judgement) -> None:
        shared = self.shared
        whole = [stack for stack in self.stacks if self.is_complete(stack)]
        known = {block for stack in whole for block in stack.blocks}
        for stack in whole:
            found = [depths[b] for b in stack.blocks]
            if found != list(range(found[0], found[0] + len(found))):
                judgement.wrong.append(f"blocks {stack.path} have the depths {found}")
        for name, block in self.block_of.items():
            if block not in known:
                continue
            judgement.judged += 1
            allowed = {depths[block], *(depths[b] for b in shared.get(name, ()))}
            if self.is_only_in_first(name, block):
                allowed.add(0)
            if depth_of(name) not in allowed:
                judgement.wrong.append(
                    f"{name} has depth {depth_of(name)}, its block {depths[block]}"
                )

    def _judge_ladder(self, depths: dict[str, int], num_layers: int, judgement: Judgement) -> None:
        wanted = max(self.height(stack) for stack in self.stacks)
        woven = [stack for stack in self.stacks if self.is_woven(stack)]
        if num_layers != wanted and not woven:
            judgement.wrong.append(f"N is {num_layers}, the longest way has {wanted} blocks")
        for stack in self.stacks:
            first, last = depths[stack.blocks[0]], depths[stack.blocks[-1]]
            for lower in self.below[stack.path]:
                if first <= depths[lower.blocks[-1]]:
                    judgement.wrong.append(f"{stack.path} is not above {lower.path}")
            allowed = {num_layers, num_layers + 1} if self.is_between(stack) else {num_layers}
            at_the_top = stack not in woven and not self.is_below_another(stack)
            if at_the_top and last not in allowed:
                judgement.wrong.append(f"{stack.path} ends at {last}, N is {num_layers}")

    def _judge_outside(
        self,
        name: str,
        depth: int,
        depths: Mapping[str, int],
        num_layers: int,
        judgement: Judgement,
    ) -> None:
        allowed = self._embedding(name, num_layers) or self._by_meetings(name, depths, num_layers)
        if allowed:
            judgement.judged += 1
            if depth not in allowed:
                told = " or ".join(map(str, sorted(allowed)))
                judgement.wrong.append(f"{name} has depth {depth}, not {told}")

    def _embedding(self, name: str, num_layers: int) -> set[int]:
        tables = [
            _weight(self.model, get) for get in ("get_input_embeddings", "get_output_embeddings")
        ]
        parameter = self.model.get_parameter(name)
        blocks = {block for stack in self.stacks for block in stack.blocks}
        fresh = any(not blocks & m.passed for m in self.trace.meetings.get(name, ()))
        looked_up = fresh or isinstance(self.owner(name), nn.Embedding)
        if parameter is tables[0] and looked_up:
            return {0}
        return {num_layers + 1} if parameter is tables[1] and not looked_up else set()

    def _by_meetings(self, name: str, depths: Mapping[str, int], num_layers: int) -> set[int]:
        meetings = self.trace.meetings.get(name, set())
        if name.rpartition(".")[0] in self.spine:
            return set()
        within = {self.block_around(m.inside) for m in meetings if m.inside} - {None}
        if len(within) > 1:
            return {0}
        if within or not meetings:
            return set()
        answers = [self._by_passed(name, m.passed, depths, num_layers) for m in meetings]
        common = set.intersection(*answers)
        if not common or len(common) > num_layers + 1:
            return set()
        tables = {0} if isinstance(self.owner(name), nn.Embedding) else set()
        return common | tables | {depths[b] for b in self.twins(name)}

    def _by_passed(
        self, name: str, passed: Passed, depths: Mapping[str, int], num_layers: int
    ) -> set[int]:
        stacks = self.that_count(name)
        reached = [s for s in stacks if passed & set(s.blocks)]
        feeds = any(shaped_by(name) in self.trace.took[b] for s in self.stacks for b in s.blocks)
        anywhere = set(range(num_layers + 2))
        if not reached:
            others = [s for s in self.stacks if passed & set(s.blocks)]
            if others and all(s.blocks[-1] in passed and not self.is_woven(s) for s in others):
                return {0, num_layers + 1}
            return {0} if feeds and not others else anywhere
        ends = [s for s in reached if s.blocks[-1] in passed]
        if any(not self.is_below_another(s) for s in ends) or (ends and not feeds):
            return {num_layers + 1}
        highest = max((b for s in reached for b in s.blocks if b in passed), key=depths.__getitem__)
        end = depths[highest]
        last = next((s for s in ends if s.blocks[-1] == highest), None)
        if last is None:
            return {end, end + 1, num_layers + 1}
        if not name.startswith(f"{last.tower}." if last.tower else ""):
            return {end, end + 1, num_layers + 1}
        return {end, end + 1} if self.is_stage(last) else {end}


def _weight(model: nn.Module, getter: str) -> nn.Parameter | None:
    try:
        return getattr(getattr(model, getter)(), "weight", None)
    except Exception:  # many models have none, and say so in many ways
        return None
