"""What if everything is to happen here? An executor that runs each task when it is handed over.

For notebooks, debuggers, and machines with one device that processes cannot share, such as MPS.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class InProcess(Executor):
    """Runs each task in the thread that submits it, before `submit` returns.

    Nothing is pickled. An exception belongs to the task's future, as elsewhere; Ctrl-C ends both
    the task and what waits for it.

    Example:
        >>> with InProcess() as executor:
        ...     executor.submit(max, 1, 2).result()
        2
    """

    def __init__(self) -> None:
        self._is_over = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Runs the call and returns its outcome."""
        if self._is_over:
            raise RuntimeError("cannot submit after shutdown")
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more tasks; none is under way."""
        self._is_over = True


def is_here(executor: object) -> bool:
    """Whether an executor, or what its name stands for, runs tasks in this process.

    Example:
        >>> is_here("in-process"), is_here(InProcess()), is_here(None)
        (True, True, False)
    """
    return executor == "in-process" or isinstance(executor, InProcess | ThreadPoolExecutor)
