"""How can a model run without its values? On a twin that has its code, and tensors on meta.

The meta device computes shapes alone, so a pass costs the same whatever the width. Where the code
asks for a value all the same, it is told that nothing is set and that every mask is whole. A block
that still cannot run is passed over; one that is built and fed like an earlier one gives out what
that one gave, for the inside of blocks is known from their structure.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental import _config
from transformers.utils import logging

_SILENT = 100  # above every level of logging

# Any, here: a forward pass takes and gives anything, and so do the functions of torch.


def twin_of(module: nn.Module, twins: dict[int, Any]) -> Any:
    """Returns a module that shares code and settings with `module`, but no tensor and no hook.

    Compiled and data-parallel modules are replaced by what they wrap, so that nothing is compiled
    or sent.

    Args:
        module: Module to copy; it stays as it is.
        twins: Filled with the twin of every module and tensor, by the identity of the original.
    """
    if id(module) in twins:
        return twins[id(module)]
    wrapped = module._modules.get("_orig_mod")
    if isinstance(module, nn.parallel.DistributedDataParallel):
        wrapped = module.module
    if wrapped is not None:
        return twins.setdefault(id(module), twin_of(wrapped, twins))
    twin = twins[id(module)] = object.__new__(type(module))
    own = {k: copy.copy(v) if type(v) in (dict, list) else v for k, v in module.__dict__.items()}
    own.pop("forward", None)  # accelerate's wrapper, which is bound to the original
    twin.__dict__ = {**own, **nn.Module().__dict__, "training": False}
    for kind in ("_parameters", "_buffers"):
        tensors = getattr(module, kind).items()
        getattr(twin, kind).update({k: _without_values(t, twins) for k, t in tensors})
    children = module._modules.items()
    twin._modules.update({k: m if m is None else twin_of(m, twins) for k, m in children})
    return twin


def _without_values(tensor: Any, twins: dict[int, Any]) -> Any:
    if tensor is not None and id(tensor) not in twins:
        empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
        parameter = isinstance(tensor, nn.Parameter)
        twins[id(tensor)] = nn.Parameter(empty, requires_grad=False) if parameter else empty
    return tensor if tensor is None else twins[id(tensor)]


@contextlib.contextmanager
def without_values() -> Iterator[None]:
    """Lets tensors be made without values, and boolean masks without values select everything.

    The state of the random number generators stays as it was. What a model has to say about its
    inputs is not said: these are not the user's.
    """
    verbosity = logging.get_verbosity()
    with (
        contextlib.ExitStack() as stack,
        warnings.catch_warnings(),
        torch.no_grad(),
        torch.random.fork_rng(devices=[]),
        _config.patch(meta_nonzero_assume_all_nonzero=True),  # type: ignore[attr-defined]
        torch.device("meta"),
    ):
        stack.callback(logging.set_verbosity, verbosity)
        logging.set_verbosity(_SILENT)
        warnings.simplefilter("ignore")
        yield


class Rehearsal:
    """Runs each kind of block once."""

    def __init__(self) -> None:
        self._given: dict[object, Any] = {}
        self._last: dict[type[nn.Module], Any] = {}

    def shorten(self, block: nn.Module) -> None:
        """Has `block`, a twin, give out what an equal one gave.

        One that cannot run gives what the last of its class gave, or else its own first input.
        """
        forward = block.forward
        built = type(block), tuple((n, p.shape) for n, p in block.named_parameters())

        def run(*args: Any, **kwargs: Any) -> Any:
            key = (built, _described((args, kwargs)))
            if key not in self._given:
                try:
                    self._given[key] = self._last[type(block)] = forward(*args, **kwargs)
                except Exception:  # a step that needs values, a kernel that knows no meta device
                    first = next(tensors_in((args, kwargs)))
                    self._given[key] = self._last.get(type(block), first)
            return _afresh(self._given[key])

        block.forward = run


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


def _described(value: Any) -> object:
    """Returns what a block is fed, as something that can be compared: shapes and kinds."""
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype
    if isinstance(value, tuple | list):
        return tuple(_described(item) for item in value)
    if isinstance(value, Mapping):
        return tuple((key, _described(item)) for key, item in value.items())
    return value if isinstance(value, bool | str | type(None)) else type(value)


def _afresh(value: Any) -> Any:
    """Returns the same nest with new tensors, so that each can carry a mark of its own."""
    if isinstance(value, Tensor):
        return torch.empty_like(value)
    if type(value) in (tuple, list):
        return type(value)(_afresh(item) for item in value)
    return value


def answer(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls a function of torch; answers in its place where it would need values."""
    instead = _ANSWERS.get(func)
    if instead and args and isinstance(args[0], Tensor) and args[0].is_meta:
        return instead(args[0])
    if func is Tensor.__getitem__:
        args = (args[0], _whole_slices(args[1]))
    return func(*args, **kwargs)


def _whole_slices(index: Any) -> Any:
    """Replaces slices between bounds that only values would give."""
    if isinstance(index, tuple):
        return tuple(_whole_slices(item) for item in index)
    if isinstance(index, slice) and isinstance(index.start, Tensor) | isinstance(
        index.stop, Tensor
    ):
        return slice(None)
    return index


def _zero(tensor: Tensor) -> Any:
    return torch.zeros((), dtype=tensor.dtype, device="cpu").item()


def _zeros(tensor: Tensor) -> Any:
    return torch.zeros(tensor.shape, dtype=tensor.dtype, device="cpu").tolist()


_ANSWERS: dict[Any, Callable[[Tensor], Any]] = {
    Tensor.item: _zero,
    Tensor.tolist: _zeros,
    Tensor.__bool__: lambda tensor: bool(_zero(tensor)),
    Tensor.__int__: lambda tensor: int(_zero(tensor)),
    Tensor.__index__: lambda tensor: int(_zero(tensor)),
    Tensor.__float__: lambda tensor: float(_zero(tensor)),
    Tensor.__contains__: lambda tensor: False,
    torch.clamp: torch.empty_like,  # DeBERTa bounds it by a tensor
    torch.unique_consecutive: lambda tensor: tensor[:1],  # BART counts the ends of its sentences
}
