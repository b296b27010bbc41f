"""How does a study run on a Dask cluster? Each call is a task of Dask, begun once and no more.

    submit(fn) -> client.submit(...), pure=False, with {"GPU": 1} where workers declare GPUs

Dask by itself begins a task again whose worker was lost, four times in all, and knows nothing of
what lies in the run's folder then. Here a second beginning is a `WorkerDiedError` at once, and the
study tries the run again, as with every executor.

`Client.get_executor` is not used: its future never ends when a worker dies between the end of
a call and the fetching of its result (distributed 2026.8).
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future
from typing import Any, ParamSpec, TypeVar

from distributed import Client, Event, KilledWorker, LocalCluster, get_client, get_worker
from distributed import Future as DaskFuture

from hf_stabilizer.errors import ConfigurationError, StudyError, first_line
from hf_stabilizer.studies.executors.elsewhere import DistantFuture, call_alone
from hf_stabilizer.studies.executors.local_workers import (
    WorkerDiedError,
    default_workers,
    visible_devices,
)
from hf_stabilizer.studies.main_guard import UnguardedScriptError

P = ParamSpec("P")
T = TypeVar("T")

_TOPIC = "hf_stabilizer-begun"


class DaskExecutor(Executor):
    """Runs tasks on a Dask cluster, one at a time in each worker process.

    Args:
        address: Address of a running scheduler, e.g. "tcp://HOST:8786"; None: a cluster of worker
            processes on this machine, which ends with this object. The workers of a running one
            have one thread each; on GPUs, one GPU and `--resources "GPU=1"`, as dask-cuda has it.
        workers: Processes of a cluster on this machine, 1 or more; None: as `LocalWorkers`.

    Raises:
        ConfigurationError: A worker has more than one thread.
        StudyError: There is no cluster at this address.
    """

    def __init__(self, *, address: str | None = None, workers: int | None = None):
        self._cluster = _local_cluster(workers) if address is None else None
        self._devices = visible_devices() if address is None else []
        self._client = _connect(address if self._cluster is None else self._cluster)
        try:
            self._resources, self.workers = self._look_at_workers()
        except ConfigurationError:
            self._end()
            raise
        self._pending: dict[str, tuple[DistantFuture[Any], DaskFuture[Any]]] = {}
        self._lock = threading.Lock()
        self._is_closed = False
        self._client.subscribe_topic(_TOPIC, self._hear)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queues a call; what crosses goes by cloudpickle."""
        if self._is_closed:
            raise RuntimeError("cannot submit after shutdown")
        token = uuid.uuid4().hex
        task = self._client.submit(
            _begin_and_call,
            *(token, fn, args, kwargs, self._devices),
            key=f"hf_stabilizer-{token}",
            pure=False,
            resources=self._resources,
        )
        future: DistantFuture[T] = DistantFuture(task.cancel)
        with self._lock:
            self._pending[token] = future, task
        task.add_done_callback(lambda _: self._take(token))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Lets queued tasks end, or cancels those that have not begun."""
        self._is_closed = True
        pending = [future for future, _ in list(self._pending.values())]
        for future in pending if cancel_futures else ():
            future.cancel()
        for future in pending if wait else ():
            if not future.cancelled():
                future.exception()
        self._end()

    def kill(self) -> None:
        """Ends the cluster on this machine at once, or gives up what runs on another."""
        self._client.cancel([task for _, task in list(self._pending.values())], force=True)
        self.shutdown(wait=False, cancel_futures=True)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Ends with the block: in order, or at once if an exception ends it."""
        if kind is None:
            self.shutdown()
        else:
            self.kill()

    def _hear(self, event: tuple[float, str]) -> None:
        if event[1] in self._pending:
            self._pending[event[1]][0].begin()

    def _take(self, token: str) -> None:
        future, task = self._pending[token]
        future.end(lambda: _outcome(task))
        with self._lock:
            self._pending.pop(token)
        if not self._is_closed:
            Event(token, client=self._client).clear()

    def _look_at_workers(self) -> tuple[dict[str, int] | None, int]:
        """What a run asks for, and how many can run at a time."""
        workers: dict[str, tuple[int, dict[str, float]]] = self._client.run(_facts)
        for address, (threads, _) in workers.items():
            if threads > 1:
                raise ConfigurationError(
                    f"the Dask worker at {address} has {threads} threads, and a worker process "
                    "trains one run at a time; start the workers with --nthreads 1, and as many "
                    "of them (--nworkers) as runs shall be trained side by side"
                )
        with_gpu = [address for address, (_, has) in workers.items() if has.get("GPU")]
        return ({"GPU": 1} if with_gpu else None), len(with_gpu or workers) or 1

    def _end(self) -> None:
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def _begin_and_call(
    token: str,
    function: Callable[..., T],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    devices: Sequence[str],
) -> T:
    begun = Event(token, client=get_client())
    if begun.is_set():
        raise WorkerDiedError("Dask lost the worker of this run")
    begun.set()
    worker = get_worker()
    worker.log_event(_TOPIC, token)
    # The workers of a cluster on this machine are numbered, also one that takes a dead one's place.
    device = {"CUDA_VISIBLE_DEVICES": devices[worker.name % len(devices)]} if devices else {}
    return call_alone(function, args, kwargs, environment=device)


def _facts(dask_worker: Any) -> tuple[int, dict[str, float]]:  # Any: Dask's worker
    return dask_worker.state.nthreads, dict(dask_worker.state.total_resources)


def _outcome(task: DaskFuture[Any]) -> Any:  # Any: what the call returned
    try:
        return task.result()
    except (KilledWorker, CancelledError) as error:
        raise WorkerDiedError(f"Dask lost the run ({first_line(error)})") from error


def _local_cluster(workers: int | None) -> LocalCluster:
    try:
        return LocalCluster(
            n_workers=workers or default_workers(),
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",  # any free port: the usual one may be taken
            silence_logs=logging.CRITICAL,
            memory_limit=0,  # Dask would pause or kill a worker by its own reckoning
        )
    except RuntimeError as error:
        raise UnguardedScriptError(
            f"no worker process of Dask came up on this machine ({first_line(error)}); they import "
            'the script that starts them: put what it does under `if __name__ == "__main__":`'
        ) from error


def _connect(where: str | LocalCluster | None) -> Client:
    try:
        return Client(where, timeout="30s")
    except (OSError, ValueError) as error:
        raise StudyError(f"no Dask scheduler at {where!r}: {first_line(error)}") from error
