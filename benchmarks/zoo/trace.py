"""What does one real forward pass show? Which blocks has the data passed when it meets a parameter?

Everything runs with real numbers on the CPU. A tensor that was made from the inputs is *data*, and
carries the set of elements of numbered lists (candidates for blocks) that it has passed, on
whatever way, and of the parameters that have shaped it. A parameter *meets* data in the first
operation that combines them; a parameter that is first combined with constants alone (a table of
positions looked up with `arange`) waits in what was made of it until that meets data.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Passed = frozenset[str]
NOTHING: Passed = frozenset()

NO_USE = {
    "__get__",
    "__set__",
    "size",
    "dim",
    "stride",
    "numel",
    "is_floating_point",
    "type",
    "get_device",
}
"""Questions about a tensor that are no use of its values."""


@dataclass(frozen=True)
class Meeting:
    """A parameter met data."""

    passed: Passed
    """Elements that the data had passed, and marks of parameters that had shaped it."""
    inside: str | None
    """The outermost element of a list that was running, if any."""


@dataclass
class Trace:
    """What the forward passes of one model showed."""

    order: dict[str, int] = field(default_factory=dict)
    """Element -> when it first ran."""
    took: dict[str, Passed] = field(default_factory=dict)
    """Element -> what the data that it took in at its first run had passed."""
    mainly: dict[str, Passed] = field(default_factory=dict)
    """The same for its first tensor alone, so that cross-attention can be told."""
    meetings: dict[str, set[Meeting]] = field(default_factory=lambda: defaultdict(set))
    """Parameter -> its meetings with data."""
    failures: list[str] = field(default_factory=list)
    """Why passes ended early."""
    whole: bool = False
    """Whether a pass through the whole model ended well."""


class Recorder(TorchFunctionMode):
    """Follows data through every torch function and every module."""

    def __init__(self, model: nn.Module, elements: Mapping[str, nn.Module], trace: Trace):
        super().__init__()
        self.names = {id(p): name for name, p in model.named_parameters()}
        self.trace = trace
        self.running: list[str] = []
        self.hooks: list[Any] = []
        paths = {id(module): path for path, module in reversed(list(elements.items()))}
        for module in model.modules():
            self._watch(module, paths.get(id(module)))

    def _watch(self, module: nn.Module, element: str | None) -> None:
        def before(_: nn.Module, args: Any, kwargs: Any) -> None:
            if element is not None:
                self.running.append(element)
                if element not in self.trace.order:
                    self.trace.order[element] = len(self.trace.order)
                    self.trace.took[element] = passed_by((args, kwargs)) or NOTHING
                    first = next(tensors_in((args, kwargs)), None)
                    self.trace.mainly[element] = passed_by(first) or NOTHING

        def after(_: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
            passed = passed_by((args, kwargs))
            if element is not None:
                self.running.remove(element)
                passed = (passed or NOTHING) | {element}
            if passed is not None:
                stamp(out, passed)

        self.hooks.append(module.register_forward_pre_hook(before, with_kwargs=True))
        self.hooks.append(module.register_forward_hook(after, with_kwargs=True))

    def close(self) -> None:
        """Takes the hooks off again."""
        for hook in self.hooks:
            hook.remove()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in NO_USE:
            return out
        passed, waiting = passed_by((args, kwargs)), self._waiting((args, kwargs))
        if passed is not None:
            inside = self.running[0] if self.running else None
            for name in waiting:
                self.trace.meetings[name].add(Meeting(passed, inside))
            passed |= {shaped_by(name) for name in waiting}
            stamp(args[0] if func is Tensor.__setitem__ else out, passed)
        elif waiting:
            for tensor in tensors_in(args[0] if func is Tensor.__setitem__ else out):
                tensor._waiting = waiting | getattr(tensor, "_waiting", NOTHING)
        return out

    def _waiting(self, values: Any) -> frozenset[str]:
        found: set[str] = set()
        for tensor in tensors_in(values):
            found |= getattr(tensor, "_waiting", NOTHING)
            if id(tensor) in self.names:
                found.add(self.names[id(tensor)])
        return frozenset(found)


def elements_of(model: nn.Module) -> dict[str, nn.Module]:
    """Returns path -> module for every element with weights of a numbered list."""
    found = {}
    for path, module in model.named_modules():
        children = list(module.named_children())
        if children and all(name.isdigit() for name, _ in children):
            for name, child in children:
                if next(child.parameters(), None) is not None:
                    found[f"{path}.{name}" if path else name] = child
    return found


def is_composite(module: nn.Module) -> bool:
    """Whether a module is made of others, of which two at least hold a weight matrix."""
    leaves = [m for m in module.modules() if next(m.children(), None) is None and m is not module]
    return sum(any(p.dim() >= 2 for p in leaf.parameters()) for leaf in leaves) >= 2


def run(
    model: nn.Module,
    inputs: Mapping[str, Any],
    elements: Mapping[str, nn.Module],
    trace: Trace,
    root: nn.Module,
) -> Exception | None:
    """Runs a module of `root` once, adds to the trace, and returns what it raised."""
    recorder = Recorder(root, elements, trace)
    for tensor in tensors_in(inputs):
        tensor._passed = NOTHING
    try:
        with torch.no_grad(), warnings.catch_warnings(), recorder:
            warnings.simplefilter("ignore")
            model(**inputs)
    except Exception as error:
        return error
    finally:
        recorder.close()
        clear(root)
    return None


def shaped_by(name: str) -> str:
    """Returns the mark of data that a parameter has shaped."""
    return f"={name}"


def clear(model: nn.Module) -> None:
    """Takes the marks off parameters and buffers, which outlive the pass."""
    for tensor in (*model.parameters(), *model.buffers()):
        for mark in ("_passed", "_waiting"):
            tensor.__dict__.pop(mark, None)


def passed_by(values: Any) -> Passed | None:
    """Returns what the data among some values has passed; None if there is no data."""
    marks = [t._passed for t in tensors_in(values) if hasattr(t, "_passed")]
    return NOTHING.union(*marks) if marks else None


def stamp(values: Any, passed: Passed) -> None:
    """Marks all tensors among some values as data."""
    for tensor in tensors_in(values):
        if not isinstance(tensor, nn.Parameter):
            tensor._passed = passed | getattr(tensor, "_passed", NOTHING)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yields the tensors in a nest of tuples, lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
