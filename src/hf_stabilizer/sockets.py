"""How does a callback hear of what the Trainer has no event for?

    optimizer.eval()     at the start of every evaluation and prediction loop   -> before_evaluation
    optimizer.train()    before every forward pass of training                  -> before_training
    optimizer.step()     before the weights change                              -> before_training
    model.state_dict()   when the model is about to be written                  -> before_state_dict

The Trainer calls the first two for the sake of schedule-free optimizers (`evaluation_loop` and
`training_step` in its trainer.py, since transformers 4.45), and accelerate's wrapper hands them on
to the optimizer that it wraps, so that methods given to that one are heard of whoever asked for
the evaluation. The others are public hooks of torch. Several listeners share one optimizer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle


class ModeListener(Protocol):
    """What is told that the Trainer turns to evaluation, or back to training."""

    def before_evaluation(self) -> None:
        """An evaluation or prediction loop begins."""

    def before_training(self) -> None:
        """A forward pass of training begins, or an optimizer step."""


class _ModeSocket:
    """The `train` and `eval` of one optimizer, for as long as something listens."""

    def __init__(self, optimizer: Any, run: object):  # Any: whatever accelerate wrapped
        self.run = run
        self.listeners: list[ModeListener] = []
        self._optimizer = optimizer
        self._own = {name: getattr(optimizer, name, _nothing) for name in ("train", "eval")}
        # What stood on the object itself, before its class, is put back there by `unplug`.
        self._replaced = {
            name: vars(optimizer)[name] for name in self._own if name in vars(optimizer)
        }
        optimizer.train, optimizer.eval = self.train, self.eval
        # A callback may evaluate by hand when the gradients are there and the step is not.
        register = getattr(optimizer, "register_step_pre_hook", None)
        self._hook = None if register is None else register(self._before_step)

    def train(self) -> None:
        self._own["train"]()
        self._before_step()

    def _before_step(self, *_: object) -> None:
        for listener in self.listeners:
            listener.before_training()

    def eval(self) -> None:
        self._own["eval"]()
        for listener in self.listeners:
            listener.before_evaluation()

    def unplug(self) -> None:
        if self._hook is not None:
            self._hook.remove()
        del self._optimizer.train, self._optimizer.eval
        vars(self._optimizer).update(self._replaced)


def connect(optimizer: torch.optim.Optimizer, listener: ModeListener, *, run: object) -> None:
    """Lets `listener` hear of each turn to evaluation and back.

    Args:
        optimizer: The Trainer's optimizer, as callbacks are handed it.
        listener: Told after the optimizer's own `train` and `eval`, if it has any.
        run: What tells one run of the Trainer from the next, its `state`. Listeners of another
            run, which ended in an exception and so never hung up, are dropped.
    """
    socket = _socket_of(optimizer)
    if socket is not None and socket.run is not run:
        socket.unplug()
        socket = None
    socket = socket or _ModeSocket(_inner(optimizer), run)
    if listener not in socket.listeners:
        socket.listeners.append(listener)


def disconnect(optimizer: torch.optim.Optimizer, listener: ModeListener) -> None:
    """Lets `listener` hear no more; the last one leaves the optimizer as it was."""
    socket = _socket_of(optimizer)
    if socket is None or listener not in socket.listeners:
        return
    socket.listeners.remove(listener)
    if not socket.listeners:
        socket.unplug()


def listeners(optimizer: torch.optim.Optimizer, *, run: object) -> tuple[ModeListener, ...]:
    """Returns who listens in this run."""
    socket = _socket_of(optimizer)
    return tuple(socket.listeners) if socket is not None and socket.run is run else ()


def has_modes_of_its_own(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer swaps weights for evaluation itself, as schedule-free ones do."""
    inner = _inner(optimizer)
    layers = (inner, getattr(inner, "optimizer", None))  # DeepSpeed wraps once more
    return any(callable(getattr(type(layer), "eval", None)) for layer in layers)


def _inner(optimizer: torch.optim.Optimizer) -> Any:  # Any: whatever accelerate wrapped
    return getattr(optimizer, "optimizer", optimizer)


def _socket_of(optimizer: torch.optim.Optimizer) -> _ModeSocket | None:
    socket = getattr(vars(_inner(optimizer)).get("eval"), "__self__", None)
    return socket if isinstance(socket, _ModeSocket) else None


class _BeforeStateDict:
    """The hook on a model; a copy of the model, or one that was pickled, carries an idle one."""

    def __init__(self, listener: Callable[[], None]):
        self._listener = listener

    def __call__(self, module: nn.Module, prefix: str, keep_vars: bool) -> None:
        self._listener()

    def __reduce__(self) -> tuple[Any, ...]:  # Any: the protocol of pickle
        return (_BeforeStateDict, (_nothing,))


_state_dict_hooks: WeakKeyDictionary[nn.Module, RemovableHandle] = WeakKeyDictionary()


def before_state_dict(model: nn.Module, listener: Callable[[], None]) -> RemovableHandle:
    """Calls `listener` before each `model.state_dict()`, and an earlier listener no more."""
    if model in _state_dict_hooks:
        _state_dict_hooks.pop(model).remove()
    register: Callable[[_BeforeStateDict], RemovableHandle] = model.register_state_dict_pre_hook
    handle = register(_BeforeStateDict(listener))
    _state_dict_hooks[model] = handle
    return handle


def _nothing() -> None:
    pass
