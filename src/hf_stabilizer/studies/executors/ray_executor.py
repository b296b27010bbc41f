"""How does a study run on a Ray cluster? Each call is a task of Ray, told apart from lost workers.

    submit(fn) -> task with one CPU, and one GPU where the cluster has GPUs
                  yields "begun", then the result     so that it is known which are under way

Ray retries nothing (`max_retries=0`): a task whose worker or node is lost becomes a
`WorkerDiedError`, and the study tries the run again, as with every executor.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from hf_stabilizer.errors import StudyError, first_line
from hf_stabilizer.studies.executors.elsewhere import DistantFuture, call_alone
from hf_stabilizer.studies.executors.local_workers import WorkerDiedError, default_workers

P = ParamSpec("P")
T = TypeVar("T")

_STORE = 128 * 2**20  # bytes of shared memory on this machine: what crosses is a few kilobytes


class RayExecutor(Executor):
    """Runs tasks on a Ray cluster, one to a CPU, or one to a GPU where the cluster has any.

    On CPUs Ray keeps its processes for later tasks, so that imports are paid once; a process that
    had a GPU ends with its task, which frees all of its memory.

    Args:
        address: Address of a running cluster, e.g. "auto" or "ray://HOST:10001"; None: that of
            RAY_ADDRESS, or a cluster on this machine, which ends with this object. A connection
            that this program has to Ray already is used, and left open.
        workers: CPUs of a cluster on this machine, 1 or more; None: as `LocalWorkers`.
    """

    def __init__(self, *, address: str | None = None, workers: int | None = None):
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            _connect(address or os.environ.get("RAY_ADDRESS"), workers)
        resources = ray.cluster_resources()
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
        self.workers = max(1, min(gpus, cpus) if gpus else cpus)
        """Runs at a time, as the cluster is now."""
        self._task: Any = ray.remote(  # Any: a function of Ray's, with `remote`
            num_cpus=1,
            num_gpus=1 if gpus else 0,
            max_retries=0,
            num_returns="streaming",
            scheduling_strategy="SPREAD",
        )(_begin_and_call)
        self._pending: dict[Any, DistantFuture[Any]] = {}  # Any: Ray's generators of results
        self._change = threading.Condition()
        self._is_closed = False
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queues a call; what crosses goes by cloudpickle."""
        if self._is_closed:
            raise RuntimeError("cannot submit after shutdown")
        items = self._task.remote(fn, args, kwargs)
        future: DistantFuture[T] = DistantFuture(lambda: self._drop(items))
        with self._change:
            self._pending[items] = future
            self._change.notify()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Lets queued tasks end, or cancels those that have not begun."""
        self._is_closed = True
        if cancel_futures:
            for future in list(self._pending.values()):
                future.cancel()
        with self._change:
            self._change.notify()
        if wait:
            self._watcher.join()
        if self._is_ours:
            ray.shutdown()

    def kill(self) -> None:
        """Ends the tasks under way at once, with their processes."""
        for items in list(self._pending):
            ray.cancel(items, force=True)
        self.shutdown(cancel_futures=True)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Ends with the block: in order, or at once if an exception ends it."""
        if kind is None:
            self.shutdown()
        else:
            self.kill()

    def _drop(self, items: Any) -> None:
        ray.cancel(items)
        with self._change:
            self._pending.pop(items, None)

    def _watch(self) -> None:
        """Hands on what comes back, until all is there."""
        while True:
            with self._change:
                self._change.wait_for(lambda: self._pending or self._is_closed)
                waiting = list(self._pending)
            if not waiting:
                return
            ready, _ = ray.wait(waiting, timeout=0.2, fetch_local=False)
            for items in ready:
                self._take(items)

    def _take(self, items: Any) -> None:
        """Takes the next of the two things that a task yields."""
        future = self._pending.get(items)
        if future is None:
            return
        if not future.running() and not future.done():
            item = _next(items)
            if item == ("begun", None):
                future.begin()
                return
            future.end(lambda: _unpacked(item))
        else:
            future.end(lambda: _unpacked(_next(items)))
        with self._change:
            self._pending.pop(items, None)


def _begin_and_call(
    function: Callable[..., T], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[tuple[str, T | None]]:
    yield "begun", None
    yield "done", call_alone(function, args, kwargs)


def _next(items: Any) -> tuple[str, Any]:
    """The next item, or ("raised", error)."""
    try:
        item: tuple[str, Any] = ray.get(next(items))
    except Exception as error:
        return "raised", error
    return item


def _unpacked(item: tuple[str, Any]) -> Any:  # Any: what the call returned
    kind, value = item
    if kind == "done":
        return value
    if isinstance(value, RayTaskError) and isinstance(value.cause, Exception):
        raise value.cause  # what the call itself raised
    if isinstance(value, RayError | StopIteration):
        raise WorkerDiedError(
            f"Ray lost the worker of this run ({type(value).__name__}: {first_line(value)})"
        ) from value
    raise value


def _connect(address: str | None, workers: int | None) -> None:
    """Connects to a cluster, or starts one on this machine.

    Raises:
        StudyError: There is none at this address.
    """
    options: dict[str, Any] = {"address": address, "log_to_driver": False}  # Any: Ray's options
    if address in (None, "local"):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options |= {"address": "local", "num_cpus": workers or default_workers()}
        options |= {"include_dashboard": False, "object_store_memory": _STORE}
    try:
        ray.init(**options, logging_level=logging.ERROR)
    except Exception as error:
        # A try at ray://... that failed leaves Ray in its client mode, in which none starts here.
        ray.util.disconnect()
        where = "on this machine" if address is None else f"at {address!r}"
        raise StudyError(f"no Ray cluster {where}: {first_line(error)}") from error
