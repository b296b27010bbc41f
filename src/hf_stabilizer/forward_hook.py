"""How does a callback see what the model takes and gives? A torch hook that outlives no run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

# Any in this module: what a model takes and gives.

Listener = Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any], None]
"""Is told module, arguments by position and by name, and output."""

_hooks: WeakKeyDictionary[nn.Module, RemovableHandle] = WeakKeyDictionary()


def hear_outputs(model: nn.Module, listener: Listener, *, is_compiled: bool) -> RemovableHandle:
    """Tells `listener` of each forward pass, and the listener of an earlier run no more.

    Args:
        model: The model that is trained, unwrapped.
        listener: Called after each forward pass.
        is_compiled: Whether the model is to be compiled; what is heard is then heard outside of
            the compiled graph.
    """
    if model in _hooks:
        _hooks.pop(model).remove()
    hook: Any = _Hook(listener)
    if is_compiled:
        hook = torch.compiler.disable(partial(hook))  # type: ignore[no-untyped-call]
    handle = model.register_forward_hook(hook, with_kwargs=True)
    _hooks[model] = handle
    return handle


class _Hook:
    """The hook on a model; a copy of the model, or one that was pickled, carries an idle one."""

    def __init__(self, listener: Listener):
        self._listener = listener

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        self._listener(module, args, kwargs, output)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_Hook, (_ignore,))


def _ignore(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    pass
