"""What are the blocks of a model, and which stack of them stands on which? Read off its trace.

The definitions of stack, stage and chain are those of `oracle`, whose rules rest on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from torch import nn
from transformers import PreTrainedModel

from .trace import Trace, elements_of, is_composite


@dataclass(frozen=True)
class Stack:
    """A list whose elements ran one on top of the other."""

    path: str
    blocks: tuple[str, ...]
    """Paths of the elements in the order of execution."""
    tower: str
    """Path of the innermost pre-trained model around it."""


@dataclass
class Evidence:
    """A model and what it showed, in one reading of the conventions."""

    model: nn.Module
    trace: Trace
    optional_chains: bool = False
    """Whether the chains that rule 3 leaves open are taken as chains."""
    necks: frozenset[str] = frozenset()
    """Paths of the stacks that are taken as head."""

    @cached_property
    def body(self) -> str:
        """Path of the body; stacks beside it are head."""
        body = getattr(self.model, "base_model", self.model)
        return next(path for path, module in self.model.named_modules() if module is body)

    @cached_property
    def stacks(self) -> list[Stack]:
        """The stacks that were seen to run, in the order of execution."""
        found = [s for s in self._stacks_under(self.body) if s.path not in self.necks]
        return sorted(found, key=lambda stack: self.trace.order[stack.blocks[0]])

    @cached_property
    def block_of(self) -> dict[str, str]:
        """Parameter name, every one of a tied parameter -> path of the block around it."""
        blocks = [b for stack in self.stacks for b in stack.blocks]
        names = [name for name, _ in self.model.named_parameters(remove_duplicate=False)]
        return {n: b for b in blocks for n in names if n.startswith(f"{b}.")}

    @property
    def below(self) -> dict[str, list[Stack]]:
        """Path of a stack -> the stacks on which it stands (rule 2)."""
        if not self.optional_chains:
            return self._certain
        return {
            path: [*self._certain[path], *self.open_chains.get(path, ())] for path in self._certain
        }

    @cached_property
    def _certain(self) -> dict[str, list[Stack]]:
        return {y.path: [x for x in self._feeders(y) if self._stands_on(y, x)] for y in self.stacks}

    @cached_property
    def open_chains(self) -> dict[str, list[Stack]]:
        """Path of a stack -> those on which rule 3 leaves open whether it stands."""
        open_ = {
            y.path: [
                x for x in self._feeders(y) if x not in self._certain[y.path] and self._may(y, x)
            ]
            for y in self.stacks
        }
        return {path: stacks for path, stacks in open_.items() if stacks}

    @property
    def saw_all(self) -> bool:
        """Whether a pass through the whole model ended well and every block ran."""
        return self.trace.whole and all(map(self.is_complete, self.stacks)) and not self._unseen

    @property
    def _unseen(self) -> list[str]:
        """Elements of the body that look like blocks, and that lie in a list that did not run."""
        around = f"{self.body}." if self.body else ""
        known = {path for s in self.stacks for b in s.blocks for path in (b, *walk_up(b))}
        return [
            path
            for path, module in elements_of(self.model).items()
            if path.startswith(around)
            and path not in self.trace.order
            and is_composite(module)
            and path not in known
            and self.block_around(path) is None
        ]

    def _stacks_under(self, path: str) -> Iterator[Stack]:
        module = self.model.get_submodule(path)
        here = self._stack_at(path, module)
        if here is not None:
            if self._are_stages(here):
                for block in here.blocks:
                    yield from self._stacks_under(block)
            elif here.blocks[0] in self.trace.order:
                yield here
            return
        for name, _ in module.named_children():
            yield from self._stacks_under(join(path, name))

    def _stack_at(self, path: str, module: nn.Module) -> Stack | None:
        names = [name for name, _ in module.named_children()]
        if not names or not all(name.isdigit() for name in names):
            return None
        paths = [join(path, name) for name in names]
        ran = sorted((p for p in paths if p in self.trace.order), key=self.trace.order.__getitem__)
        nested = [p for p in paths if p not in ran and self._is_bare_list(p)]
        if nested and not ran:
            return Stack(path, tuple(nested), self._tower(path))
        modules = [self.model.get_submodule(p) for p in ran]
        if not ran or not all(map(is_composite, modules)) or len({type(m) for m in modules}) > 3:
            return None
        chained = all(a in self.trace.took[b] for a, b in pairwise(ran))
        return Stack(path, tuple(ran), self._tower(path)) if chained else None

    def _is_bare_list(self, path: str) -> bool:
        return isinstance(self.model.get_submodule(path), nn.ModuleList | nn.Sequential)

    def _are_stages(self, stack: Stack) -> bool:
        inner = [list(self._stacks_under(block)) for block in stack.blocks]
        if not all(inner):
            return False
        if all(self._is_bare_list(block) for block in stack.blocks):
            return True
        modules = [self.model.get_submodule(block) for block in stack.blocks]
        alone = len(modules) == 1 and all(self._of_one_class(s) for s in inner[0])
        return (alone or _differ_in_width(modules)) and all(
            2 * sum(self._size(b) for s in stacks for b in s.blocks) > self._size(block)
            for block, stacks in zip(stack.blocks, inner, strict=True)
        )

    def _of_one_class(self, stack: Stack) -> bool:
        return len({type(self.model.get_submodule(b)) for b in stack.blocks}) == 1

    def _size(self, path: str) -> int:
        return sum(p.numel() for p in self.model.get_submodule(path).parameters())

    def _tower(self, path: str) -> str:
        return next(p for p in walk_up(path) if p == "" or self._is_pretrained(p))

    def _is_pretrained(self, path: str) -> bool:
        return isinstance(self.model.get_submodule(path), PreTrainedModel)

    def _feeders(self, upper: Stack) -> list[Stack]:
        """The stacks whose end went into a stack, not by way of another one."""
        found = [
            x
            for x in self.stacks
            if x is not upper
            and any(x.blocks[-1] in self.trace.took[b] for b in upper.blocks)
            and upper.blocks[-1] not in self.trace.took[x.blocks[0]]
        ]
        through = {x.path: {z.path for z in found if self._went_into(x, z)} for x in found}
        return [x for x in found if not through[x.path]]

    def _went_into(self, lower: Stack, upper: Stack) -> bool:
        return lower is not upper and lower.blocks[-1] in self.trace.took[upper.blocks[0]]

    def _stands_on(self, upper: Stack, lower: Stack) -> bool:
        if upper.tower == lower.tower and self._went_into(lower, upper):
            return True
        return self._attends(upper, lower) and self._is_encoder_decoder(upper, lower)

    def _attends(self, upper: Stack, lower: Stack) -> bool:
        """Whether the first block takes in the lower stack's end beside what it changes."""
        first = upper.blocks[0]
        return lower.blocks[-1] in self.trace.took[first] - self.trace.mainly[first]

    def is_woven(self, stack: Stack) -> bool:
        """Whether another tower takes in this one's end, but above its own first block."""
        return any(
            stack.blocks[-1] in self.trace.took[block]
            and stack.blocks[-1] not in self.trace.took[other.blocks[0]]
            for other in self.stacks
            if other.tower != stack.tower
            and other.blocks[-1] not in self.trace.took[stack.blocks[0]]
            for block in other.blocks
        )

    def is_neck(self, stack: Stack) -> bool:
        """Whether a stack stands on towers in a model that has no other stacks of its own."""
        others = [s for s in self.stacks if s.tower != stack.tower]
        alone = all(s.tower.startswith(f"{stack.tower}." if stack.tower else "") for s in others)
        return bool(others) and alone and any(self._went_into(s, stack) for s in others)

    def _may(self, upper: Stack, lower: Stack) -> bool:
        """Whether the conventions leave open that a tower continues above another one."""
        if not self._went_into(lower, upper):
            return False
        tower = self.model.get_submodule(upper.tower)
        own_table = any(isinstance(m, nn.Embedding) for m in tower.modules())
        return self._attends(upper, lower) or not own_table or self._in_one_tower(upper, lower)

    def _in_one_tower(self, upper: Stack, lower: Stack) -> bool:
        """Whether two pre-trained models in sequence are parts of one, with a third beside it."""
        around = self._around(upper, lower)
        return any(around and not f"{s.path}.".startswith(f"{around}.") for s in self.stacks)

    def _around(self, upper: Stack, lower: Stack) -> str:
        """Path of the innermost pre-trained model around two stacks."""
        return next(
            path
            for path in walk_up(upper.path)
            if path == "" or (f"{lower.path}.".startswith(f"{path}.") and self._is_pretrained(path))
        )

    def _is_encoder_decoder(self, upper: Stack, lower: Stack) -> bool:
        model = self.model.get_submodule(self._around(upper, lower))
        return bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))

    def is_complete(self, stack: Stack) -> bool:
        """Whether every block of a list ran."""
        return not [
            name
            for name, module in self.model.get_submodule(stack.path).named_children()
            if next(module.parameters(), None) is not None
            and join(stack.path, name) not in stack.blocks
        ]

    def height(self, stack: Stack) -> int:
        """Returns the number of blocks on the longest way up to the end of a stack."""
        return len(stack.blocks) + max([self.height(x) for x in self.below[stack.path]], default=0)

    def is_below_another(self, stack: Stack) -> bool:
        """Whether another stack stands on this one."""
        return any(stack in lower for lower in self.below.values())

    def is_between(self, stack: Stack) -> bool:
        """Whether a stack took in what one gave and gave it on to another (a resampler)."""
        took = any(
            s.blocks[-1] in self.trace.took[b]
            for b in stack.blocks
            for s in self.stacks
            if s is not stack
        )
        gave = any(
            stack.blocks[-1] in self.trace.took[s.blocks[0]] for s in self.stacks if s is not stack
        )
        return took and gave

    @cached_property
    def shared(self) -> dict[str, list[str]]:
        """Name of a parameter that lies in several blocks -> these blocks."""
        together: dict[int, list[str]] = {}
        for name, parameter in self.model.named_parameters(remove_duplicate=False):
            together.setdefault(id(parameter), []).append(name)
        return {
            name: [self.block_of[n] for n in names if n in self.block_of]
            for names in together.values()
            if len(names) > 1
            for name in names
        }

    def is_only_in_first(self, name: str, block: str) -> bool:
        """Whether a parameter is a table that only the first block of a stack has (T5)."""
        stack = next(s for s in self.stacks if block in s.blocks)
        relative = name.removeprefix(f"{block}.")
        others = [b for b in stack.blocks if f"{b}.{relative}" in self.block_of]
        return isinstance(self.owner(name), nn.Embedding) and others == [stack.blocks[0]]

    @cached_property
    def spine(self) -> set[str]:
        """Paths of the modules around blocks."""
        return {path for s in self.stacks for b in s.blocks for path in walk_up(b)}

    def twins(self, name: str) -> list[str]:
        """The blocks with the same number in stacks beside the list in which a parameter lies."""
        found = []
        for path in walk_up(name):
            container, _, number = path.rpartition(".")
            for s in self.stacks:
                beside = container.rpartition(".")[0] == s.path.rpartition(".")[0]
                if number.isdigit() and beside and container and container != s.path:
                    others = self.model.get_submodule(container)
                    alike = isinstance(others, nn.ModuleList) and len(others) == len(s.blocks)
                    found += [b for b in s.blocks if alike and b == join(s.path, number)]
        return found

    def owner(self, name: str) -> nn.Module:
        """Returns the module that a parameter is an attribute of."""
        return self.model.get_submodule(name.rpartition(".")[0])

    def block_around(self, element: str) -> str | None:
        """Returns the block around an element of a list, or the element if it is one."""
        blocks = {b for s in self.stacks for b in s.blocks}
        return next((p for p in (element, *walk_up(element)) if p in blocks), None)

    def is_stage(self, stack: Stack) -> bool:
        """Whether another stack of the same tower stands on this one, and it is no encoder."""
        return any(
            stack in self.below[s.path]
            and s.tower == stack.tower
            and not self._is_encoder_decoder(s, stack)
            for s in self.stacks
        )

    def that_count(self, name: str) -> list[Stack]:
        """The stacks of the parameter's own tower and those below, or all if it lies in none."""
        tower = self._tower(name)
        found = [s for s in self.stacks if s.tower == tower]
        for stack in found:
            found += [x for x in self.below[stack.path] if x not in found]
        return found or self.stacks


def _differ_in_width(modules: Sequence[nn.Module]) -> bool:
    shapes: dict[str, object] = {}
    return any(
        shapes.setdefault(name, p.shape) != p.shape
        for m in modules
        for name, p in m.named_parameters()
    )


def join(path: str, name: str) -> str:
    """Returns the path of a child."""
    return f"{path}.{name}" if path else name


def walk_up(path: str) -> Iterator[str]:
    """Yields the paths around a path, innermost first, "" last."""
    while path:
        path = path.rpartition(".")[0]
        yield path
