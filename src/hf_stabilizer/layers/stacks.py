"""Which modules are the blocks? Found by structure alone: numbered lists of composite modules.

A *stack* is a numbered container whose elements are all blocks; a *block* is a module made of
other modules that holds at least two weight matrices. The outermost stacks under the body count;
lists inside a block (experts, sub-layers) belong to their block. Stages, i.e. elements of
different width that consist of stacks of their own (Swin), give way to the stacks in them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import nn
from transformers import PreTrainedModel

_MATRICES_PER_BLOCK = 2
"""The thinnest blocks (FNet) hold two; a stem, a convolution with its norm, holds one.

Where there are no such lists, those with one (MobileNet) are taken."""


@dataclass(frozen=True)
class Stack:
    """A numbered list of blocks."""

    path: str
    """Path of the container from the root."""
    blocks: tuple[tuple[str, nn.Module], ...]
    """(path, module) of each block, in the order of registration."""


def find_bodies(root: nn.Module) -> dict[str, nn.Module]:
    """Returns path and module of each outermost pre-trained body; the root itself if none is.

    The body of `BertForSequenceClassification` is its `bert`: stacks beside it are head.
    """
    bodies: dict[str, nn.Module] = {}
    owners: list[str] = []
    for path, module in root.named_modules():
        inside = any(not owner or path.startswith(f"{owner}.") for owner in owners)
        if not inside and isinstance(module, PreTrainedModel):
            owners.append(path)
            bodies[_path_of(module.base_model, path, module)] = module.base_model
    return bodies or {"": root}


def find_stacks(
    body: nn.Module, path: str = "", *, matrices: int = _MATRICES_PER_BLOCK
) -> list[Stack]:
    """Returns the outermost stacks under a module, in the order of registration.

    Args:
        body: Module to look into.
        path: Its path.
        matrices: Modules with a matrix that an element must have to be a block.
    """
    blocks = _blocks_in(body, matrices)
    if blocks:
        inner = [find_stacks(block, _join(path, name), matrices=matrices) for name, block in blocks]
        if _are_stages([block for _, block in blocks], inner):
            return [stack for stacks in inner for stack in stacks]
        return [Stack(path, tuple((_join(path, name), block) for name, block in blocks))]
    children = ((name, child) for name, child in body.named_children())
    return [
        stack
        for name, child in children
        for stack in find_stacks(child, _join(path, name), matrices=matrices)
    ]


def _blocks_in(container: nn.Module, matrices: int) -> list[tuple[str, nn.Module]]:
    """Returns the elements of a numbered container if every one with weights is a block."""
    children = list(container.named_children())
    if not children or not _is_numbered(container):
        return []
    if next(container.parameters(recurse=False), None) is not None:
        return []
    weighty = [
        (name, child) for name, child in children if next(child.parameters(), None) is not None
    ]
    return weighty if all(_is_block(child, matrices) for _, child in weighty) else []


def _is_block(module: nn.Module, matrices: int) -> bool:
    """Whether a module is made of other modules, so many of which multiply by a matrix."""
    multiplying = (
        _has_matrix(part, recurse=False)
        and not any(_has_matrix(child, recurse=True) for child in part.children())
        for part in module.modules()
    )
    return next(module.children(), None) is not None and sum(multiplying) >= matrices


def _has_matrix(module: nn.Module, *, recurse: bool) -> bool:
    return any(parameter.dim() >= 2 for parameter in module.parameters(recurse=recurse))


def _is_numbered(container: nn.Module) -> bool:
    return all(name.isdigit() for name, _ in container.named_children())


def _are_stages(blocks: Sequence[nn.Module], inner: Sequence[Sequence[Stack]]) -> bool:
    """Whether elements of a list are groups of blocks rather than blocks themselves.

    So it is where the elements are alike in nothing but being lists, or where one group stands
    alone or differs in width from the next, and its inner stacks hold most of its weights. A group
    that stands alone is made of modules of one class: the sub-layers of one T5 block are not.
    """
    if not all(inner):
        return False
    if all(isinstance(block, nn.ModuleList | nn.Sequential) for block in blocks):
        return True
    if _like_built(blocks) if len(blocks) > 1 else _are_mixed(inner[0]):
        return False
    return all(
        2 * sum(weights_in(module) for stack in stacks for _, module in stack.blocks)
        > weights_in(block)
        for block, stacks in zip(blocks, inner, strict=True)
    )


def _like_built(blocks: Sequence[nn.Module]) -> bool:
    """Whether parameters of the same name have the same shape in all of these modules."""
    shapes: dict[str, object] = {}
    return all(
        shapes.setdefault(name, parameter.shape) == parameter.shape
        for block in blocks
        for name, parameter in block.named_parameters()
    )


def _are_mixed(stacks: Sequence[Stack]) -> bool:
    """Whether a list holds modules of several classes."""
    return any(len({type(block) for _, block in stack.blocks}) > 1 for stack in stacks)


def weights_in(module: nn.Module) -> int:
    """Returns how many numbers a module holds."""
    return sum(parameter.numel() for parameter in module.parameters())


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _path_of(body: nn.Module, path: str, owner: nn.Module) -> str:
    inner = next(name for name, module in owner.named_modules() if module is body)
    return _join(path, inner) if inner else path


def walk_up(path: str) -> Iterator[str]:
    """Yields the paths of the modules around a parameter or module, innermost first, root last."""
    while path:
        path = path.rpartition(".")[0]
        yield path


@dataclass(frozen=True)
class Structure:
    """What the tree of modules shows before anything has run."""

    root: nn.Module
    bodies: dict[str, nn.Module]
    """Path -> outermost pre-trained bodies, or the root itself."""
    stacks: tuple[Stack, ...]
    """The stacks of blocks in them."""

    @classmethod
    def of(cls, root: nn.Module) -> Structure:
        """Returns the structure of a module."""
        bodies = find_bodies(root)
        for matrices in (_MATRICES_PER_BLOCK, 1):
            found = [find_stacks(body, path, matrices=matrices) for path, body in bodies.items()]
            stacks = tuple(stack for stacks in found for stack in stacks)
            if stacks:
                break
        return cls(root, bodies, stacks)

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Parameters by name, a tied one once, in the order of registration."""
        return dict(self.root.named_parameters())

    @cached_property
    def tables(self) -> frozenset[str]:
        """Parameters that an embedding looks up, be it under another name (a tied output)."""
        looked_up = {
            id(parameter)
            for module in self.root.modules()
            if isinstance(module, nn.Embedding)
            for parameter in module.parameters(recurse=False)
        }
        return frozenset(name for name, p in self.parameters.items() if id(p) in looked_up)

    @cached_property
    def blocks(self) -> dict[str, nn.Module]:
        """Path -> block."""
        return {path: block for stack in self.stacks for path, block in stack.blocks}

    @cached_property
    def spine(self) -> frozenset[str]:
        """Paths of the modules that hold blocks."""
        return frozenset(["", *(above for path in self.blocks for above in walk_up(path))])

    @cached_property
    def linears(self) -> dict[str, nn.Module]:
        """Path -> leaf module with a weight matrix that is no embedding, outside the blocks."""
        return {
            path: module
            for path, module in self.root.named_modules()
            if self._is_linear(module) and self.block_of(path) is None
        }

    def without(self, paths: Collection[str]) -> Structure:
        """Returns the same structure less the stacks at these paths."""
        kept = tuple(stack for stack in self.stacks if stack.path not in paths)
        return Structure(self.root, self.bodies, kept)

    @cached_property
    def models(self) -> dict[str, PreTrainedModel]:
        """Path -> pre-trained model, those inside others too."""
        every = self.root.named_modules()
        return {path: module for path, module in every if isinstance(module, PreTrainedModel)}

    def tower_of(self, path: str) -> str:
        """Returns the path of the tower that a module or parameter belongs to.

        A tower is what one kind of configuration describes: the text and the vision model in a
        CLIP. The root, where no pre-trained model is around it.
        """
        around = [above for above in (path, *walk_up(path)) if above in self.models]
        kinds = [type(self.models[above].config) for above in around]
        same = [above for above, kind in zip(around, kinds, strict=True) if kind is kinds[0]]
        return same[-1] if same else ""

    @cached_property
    def towers(self) -> frozenset[str]:
        """Paths of the towers that hold blocks."""
        return frozenset(self.tower_of(path) for path in self.blocks)

    def is_encoder_decoder(self, *towers: str) -> bool:
        """Whether the smallest pre-trained model around these towers is an encoder-decoder."""
        shared = [
            path
            for path in self.models
            if all(path in (tower, *walk_up(tower)) for tower in towers)
        ]
        around = max(shared, key=len, default=None)
        return around is not None and bool(
            getattr(self.models[around].config, "is_encoder_decoder", False)
        )

    def block_of(self, path: str) -> str | None:
        """Returns the path of the block around a module or parameter, if there is one."""
        return next((above for above in (path, *walk_up(path)) if above in self.blocks), None)

    def in_body(self, name: str) -> bool:
        """Whether a parameter lies in a pre-trained body."""
        return any(above in self.bodies for above in walk_up(name))

    def limb(self, name: str) -> str:
        """Returns the path of the largest module around a parameter that holds no block.

        The parameter's own name where it hangs directly on a module that does.
        """
        parts = [name, *(above for above in walk_up(name) if above not in self.spine)]
        return parts[-1]

    def piece(self, name: str) -> str:
        """Returns the limb around a parameter, or its element where the limb is a numbered list."""
        limb = self.limb(name)
        rest = name.removeprefix(f"{limb}.").split(".") if limb != name else []
        while rest and rest[0].isdigit() and _is_numbered(self.root.get_submodule(limb)):
            limb = f"{limb}.{rest.pop(0)}"
        return limb

    def twin_block(self, name: str) -> str | None:
        """Returns the block that a parameter goes with by its number.

        Its module is the k-th of a list beside a stack of the same length (the norms of XLM).
        """
        for above in walk_up(name):
            container, _, number = above.rpartition(".")
            for stack in self.stacks:
                beside = container.rpartition(".")[0] == stack.path.rpartition(".")[0]
                if number.isdigit() and beside and container != stack.path:
                    same = {path.rpartition(".")[2]: path for path, _ in stack.blocks}
                    siblings = dict(self.root.get_submodule(container).named_children())
                    if siblings.keys() == same.keys():
                        return same[number]
        return None

    @staticmethod
    def _is_linear(module: nn.Module) -> bool:
        weight = getattr(module, "weight", None)
        leaf = next(module.children(), None) is None
        return (
            leaf
            and isinstance(weight, nn.Parameter)
            and weight.dim() == 2
            and not isinstance(module, nn.Embedding)
        )
