"""What do calls have in common that another engine executes, on this machine or on others?

A future that tells the engine when it is given up, and a process that is set up as a local worker
is. Imports no torch.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Any, TypeVar

T = TypeVar("T")

_alone = threading.Lock()


class DistantFuture(Future[T]):
    """The result of a call that is made elsewhere.

    Args:
        give_up: Called once if it is cancelled before it has begun.
    """

    def __init__(self, give_up: Callable[[], object] = lambda: None):
        super().__init__()
        self._give_up = give_up

    def cancel(self) -> bool:
        """Gives the call up unless it has begun."""
        was_done = self.done()
        is_cancelled = super().cancel()
        if is_cancelled and not was_done:
            self.set_running_or_notify_cancel()
            self._give_up()
        return is_cancelled

    def begin(self) -> None:
        """Marks the call as under way; a second time, or when it is cancelled, nothing happens."""
        if not self.running() and not self.done():
            self.set_running_or_notify_cancel()

    def end(self, take: Callable[[], T]) -> None:
        """Takes over what `take` returns or raises; what was cancelled stays so."""
        self.begin()
        with contextlib.suppress(InvalidStateError):
            try:
                result = take()
            except BaseException as error:  # whatever it was belongs to whoever waits
                self.set_exception(error)
            else:
                self.set_result(result)


def call_alone(
    function: Callable[..., T],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    environment: Mapping[str, str] | None = None,
) -> T:
    """Calls a function as a local worker does: with one thread, and no other run beside it.

    Two runs in one process would share its random numbers.

    Args:
        function: Function to call.
        args: Its arguments by position.
        kwargs: Its arguments by name.
        environment: More variables of the environment, e.g. the device.
    """
    with _alone:
        os.environ.update({**one_thread(), **(environment or {})})
        import torch  # after the variables, which it reads once

        torch.set_num_threads(1)
        return function(*args, **kwargs)


def one_thread() -> dict[str, str]:
    """Returns the variables of the environment that keep a worker to its share of the cores."""
    return {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",  # the tokenizer warns about every later fork otherwise
    }
