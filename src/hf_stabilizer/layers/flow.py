"""Through which blocks has the data passed when a parameter meets it?

The model is run once without weights (`rehearsal`), which takes milliseconds whatever its size.
Every tensor carries its *front*: the last blocks behind it, none for what comes from the input.
The front of what a block takes in is what the block stands on; so a decoder that attends to an
encoder stands on it, with no name known.
A parameter outside the blocks is met at the front of the data that it is combined with: none for
an embedding, the last block for a final norm or a classifier. A parameter that meets no data at
first (a table of positions, a logit scale) waits in the tensors computed from it until they do.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hf_stabilizer.layers.rehearsal import (
    Rehearsal,
    answer,
    tensors_in,
    twin_of,
    without_values,
)

# Any: torch's own hooks and modes are typed with it, and a forward pass takes anything.

Front = frozenset[str]
"""Paths of the last blocks behind some data."""


@dataclass(frozen=True)
class Call:
    """One call of a module."""

    when: int
    """Uses of parameters before it."""
    front: Front | None
    """The front of what it took in."""
    sources: frozenset[str]
    """Parameters that had shaped it since the last block."""


@dataclass
class Flow:
    """What one forward pass showed, or several over parts of one model."""

    below: dict[str, Front] = field(default_factory=dict)
    """Path of a block -> the front of what it took in at its first call, in the order of calls."""
    beside: dict[str, Front] = field(default_factory=dict)
    """Path of a block -> the part of it that came beside the block's own stream of data."""
    reads: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Path of a block -> names of the inputs that reached it through no other block."""
    calls: Counter[str] = field(default_factory=Counter)
    """Path of a block -> how often it ran."""
    fronts: dict[str, set[Front]] = field(default_factory=lambda: defaultdict(set))
    """Parameter -> fronts of the data that it met outside the blocks."""
    users: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Parameter -> paths of the blocks inside which it met data."""
    feeds: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Parameter outside the blocks -> paths of the blocks whose input it has shaped."""
    first_use: dict[str, int] = field(default_factory=dict)
    """Parameter -> when it was first used, counted in uses."""
    last_use: dict[str, int] = field(default_factory=dict)
    """Parameter -> when it was last used outside the blocks, counted in uses."""
    linears: dict[str, Call] = field(default_factory=dict)
    """Path of a linear layer that ran outside the blocks -> its last call."""
    uses: int = 0
    """How many uses of parameters were counted."""
    begin: int = 0
    """The count at the begin of the first pass."""
    failure: Exception | None = None
    """Why a pass ended early, if it did."""
    reached: set[str] = field(default_factory=set)
    """Paths of the blocks that a pass of the module handed in has reached."""
    glimpses: dict[str, set[Front]] = field(default_factory=lambda: defaultdict(set))
    """Idle parameter -> fronts of the data that it met in passes that ended early."""
    assumed: list[str] = field(default_factory=list)
    """Towers that no pass has reached, whose blocks are taken to stand as they are registered."""
    obstacle: Exception | None = None
    """What ended a pass that might have shown the blocks that none has shown."""
    whole: bool = True
    """Whether it was the module handed in that ran, not a model inside it."""

    def add(self, part: Flow) -> None:
        """Takes in what a pass over a part of the model showed, as if it had come before."""
        for path in part.below.keys() - self.below.keys():
            self.calls[path] = part.calls[path]
        for own, other in ((self.below, part.below), (self.beside, part.beside)):
            own.update({path: own.get(path, frozenset()) | other[path] for path in other})
        for facts in ("reads", "fronts", "users", "feeds"):
            for key, seen in getattr(part, facts).items():
                getattr(self, facts)[key] |= seen
        self._add_times(part)
        self.failure = self.failure or part.failure

    def _add_times(self, part: Flow) -> None:
        self.begin -= part.uses
        for own, other in (
            (self.first_use, part.first_use),
            (self.last_use, part.last_use),
        ):
            own.update({key: other[key] + self.begin for key in other.keys() - own.keys()})
        for path, call in part.linears.items():
            self.linears.setdefault(path, replace(call, when=call.when + self.begin))


@dataclass(frozen=True)
class _Mark:
    """What is known of a tensor."""

    front: Front | None = None
    """The last blocks behind it; None: it was made of constants and parameters, no data."""
    waiting: tuple[str, ...] = ()
    """Parameters that have met no data yet."""
    sources: frozenset[str] = frozenset()
    """Parameters that have shaped it since the last block."""
    inputs: frozenset[str] = frozenset()
    """Names of the inputs that it comes from, through no block."""


_UNKNOWN = _Mark()


class Stage:
    """A model that stands ready to be watched: its twin, with every block and linear layer wired.

    Args:
        root: The model; neither its weights nor its hooks are touched.
        blocks: Paths and modules of the blocks.
        linears: Paths and modules of the linear layers outside the blocks.
        names: Name of each parameter.
    """

    def __init__(
        self,
        root: nn.Module,
        *,
        blocks: Mapping[str, nn.Module],
        linears: Mapping[str, nn.Module],
        names: Mapping[nn.Parameter, str],
    ):
        twins: dict[int, Any] = {}
        twin_of(root, twins)
        known = {id(twins[id(p)]): name for p, name in names.items() if id(p) in twins}
        self._twins, self._tracer = twins, _Tracer(known)
        for path, block in blocks.items():
            if id(block) in twins:
                self._tracer.watch_block(twins[id(block)], path)
        for path, linear in linears.items():
            if id(linear) in twins:
                self._tracer.watch_linear(twins[id(linear)], path)

    def watch(self, module: nn.Module, inputs: Mapping[str, Any] | Sequence[Any]) -> Flow:
        """Runs a module of the model once and returns what was seen; what it raises is kept.

        Args:
            module: The model, or a part of it.
            inputs: Keyword (mapping) or positional (sequence) arguments for the forward pass.
        """
        flow = self._tracer.begin()
        twin = self._twins[id(module)]
        try:
            with without_values(), self._tracer:
                arguments = self._tracer.as_data(inputs)
                if isinstance(arguments, Mapping):
                    twin(**arguments)
                else:
                    twin(*arguments)
        except Exception as error:  # whatever a stranger's forward raises on the meta device
            flow.failure = error
        return flow


class _Tracer(TorchFunctionMode):
    """Follows fronts through every torch function that is called."""

    def __init__(self, names: Mapping[int, str]):
        super().__init__()
        self.flow = Flow()
        self.names = names
        self.inside: list[str] = []
        self.rehearsal = Rehearsal()

    def begin(self) -> Flow:
        """Returns the empty record of a pass that begins now."""
        self.flow, self.inside = Flow(), []
        return self.flow

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        out = answer(func, args, kwargs)
        if func is Tensor.__setitem__:
            self._stamp(args[0], self._meet((args, kwargs)))
        elif isinstance(out, Tensor | tuple | list):
            self._stamp(out, self._meet((args, kwargs)))
        return out

    def as_data(self, value: Any, name: str = "") -> Any:
        """Returns the arguments marked as input, by the names under which they are handed over."""
        if isinstance(value, Tensor):
            value = value.clone()
            value._flow = _Mark(frozenset(), inputs=frozenset([name]))
            return value
        if isinstance(value, Mapping):
            return {key: self.as_data(item, str(key)) for key, item in value.items()}
        if isinstance(value, tuple | list):
            return [self.as_data(item) for item in value]
        return value

    def watch_block(self, block: nn.Module, path: str) -> None:
        """Has `block` report what it takes in, and stamps what it gives out.

        Its `forward` is wrapped, not hooked: some encoders call that by name (SqueezeBERT).
        """
        self.rehearsal.shorten(block)
        forward = block.forward

        def observed(*args: Any, **kwargs: Any) -> Any:
            self._enter(path, (args, kwargs))
            out = forward(*args, **kwargs)
            self.inside.pop()
            self._stamp(out, _Mark(frozenset([path])))
            return out

        block.forward = observed

    def _enter(self, path: str, arguments: Any) -> None:
        taken = self._join(arguments)
        for name in (*taken.waiting, *taken.sources):
            self.flow.feeds[name].add(path)
        for name in taken.waiting:
            self.flow.users[name].add(path)
        if path not in self.flow.below:
            stream = next((self._mark(t).front for t in tensors_in(arguments)), None)
            self.flow.below[path] = taken.front or frozenset()
            self.flow.beside[path] = self.flow.below[path] - (stream or frozenset())
            self.flow.reads[path] |= taken.inputs
        self.flow.calls[path] += 1
        self.inside.append(path)

    def watch_linear(self, linear: nn.Module, path: str) -> None:
        """Has a linear layer report when it runs outside the blocks."""

        def enter(_: nn.Module, args: Any) -> None:
            if not self.inside:
                taken = self._join(args)
                self.flow.linears[path] = Call(self.flow.uses, taken.front, taken.sources)

        linear.register_forward_pre_hook(enter)

    def _meet(self, arguments: Any) -> _Mark:
        """Lets the parameters among the arguments meet the data among them."""
        mark = self._join(arguments)
        if mark.waiting:
            self.flow.uses += 1
            self._note(mark)
        waits = mark.front is None and not self.inside
        if self.inside:
            return _Mark(mark.front)
        waiting = mark.waiting if waits else ()
        return replace(mark, waiting=waiting, sources=mark.sources | set(mark.waiting))

    def _note(self, mark: _Mark) -> None:
        """Writes down where the waiting parameters have met the data, if they have."""
        for name in mark.waiting:
            self.flow.first_use.setdefault(name, self.flow.uses)
            if self.inside:
                self.flow.users[name].add(self.inside[-1])
                self.flow.feeds[name].add(self.inside[-1])
            else:
                self.flow.last_use[name] = self.flow.uses
                if mark.front is not None:
                    self.flow.fronts[name].add(mark.front)

    def _join(self, arguments: Any) -> _Mark:
        """Returns what is known of all tensors among the arguments together."""
        marks = [self._mark(tensor) for tensor in tensors_in(arguments)]
        fronts = [mark.front for mark in marks if mark.front is not None]
        return _Mark(
            front=frozenset[str]().union(*fronts) if fronts else None,
            waiting=tuple(dict.fromkeys(name for mark in marks for name in mark.waiting)),
            sources=frozenset[str]().union(*(mark.sources for mark in marks)),
            inputs=frozenset[str]().union(*(mark.inputs for mark in marks)),
        )

    def _mark(self, tensor: Tensor) -> _Mark:
        name = self.names.get(id(tensor))
        if name is not None:
            return _Mark(None, (name,))
        mark: _Mark = getattr(tensor, "_flow", _UNKNOWN)
        return mark

    def _stamp(self, value: Any, mark: _Mark) -> None:
        """Marks tensors; whole numbers and masks, which carry no gradient, forget their way."""
        forgetful = _UNKNOWN if mark.front is None else _Mark(frozenset(), inputs=mark.inputs)
        for tensor in tensors_in(value):
            if id(tensor) not in self.names:
                differentiable = tensor.is_floating_point() or tensor.is_complex()
                tensor._flow = mark if differentiable else forgetful  # type: ignore[attr-defined]
