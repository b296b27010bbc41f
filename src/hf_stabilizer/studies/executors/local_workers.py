"""Where do the runs of a study execute? In local processes that live on, one run each at a time.

    LocalWorkers(2)
      ├── slot 1: one process, one thread     imports torch and transformers once,
      └── slot 2: one process, one thread     then takes run after run

It is a `concurrent.futures.Executor`, and so is whatever may stand in its place. Each slot is a
pool of its own: a process that is killed breaks its own slot, which is made anew, and one run.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from typing import Any, ParamSpec, TypeVar

from hf_stabilizer.errors import ConfigurationError, StudyError
from hf_stabilizer.studies.executors.elsewhere import one_thread
from hf_stabilizer.studies.main_guard import UnguardedScriptError, leave_if_imported_by_worker

P = ParamSpec("P")
T = TypeVar("T")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # as <malloc.h> has them


class WorkerDiedError(StudyError):
    """The process of a run ended without an answer: killed, out of memory, or crashed."""


class LocalWorkers(Executor):
    """Runs tasks in worker processes that are started once (spawn, so safe with CUDA).

    Args:
        workers: Number of processes, 1 or more; default: `default_workers()`. Each has one thread:
            sums over more round differently, and a study's numbers must not depend on who ran it.
            More threads than cores' share stall the runs.
    """

    def __init__(self, workers: int | None = None):
        leave_if_imported_by_worker()
        workers = default_workers() if workers is None else workers
        if workers < 1:
            raise ConfigurationError(f"workers must be 1 or more, got {workers!r}")
        devices = visible_devices()
        self._tasks: queue.Queue[_Task | None] = queue.Queue()
        self._stopping = False
        self._slots = [
            _Slot(self._tasks, {**one_thread(), **_device(devices, number)})
            for number in range(workers)
        ]

    @property
    def workers(self) -> int:
        """Number of processes."""
        return len(self._slots)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queues a call; its arguments and result must be picklable."""
        if self._stopping:
            raise RuntimeError("cannot submit after shutdown")
        future: Future[T] = Future()
        self._tasks.put(_Task(future, fn, args, kwargs))
        return future

    def warm_up(self) -> None:
        """Starts every process now, before the first task, and has it import what runs need.

        It returns at once: whoever prepares these runs meanwhile saves the time of the imports. The
        processes see the environment as it is now.
        """
        for slot in self._slots:
            slot.warm_up()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Lets queued tasks end, or cancels those that have not begun; then ends the workers."""
        self._stopping = True
        if cancel_futures:
            self._drain()
        for _ in self._slots:
            self._tasks.put(None)
        if wait:
            for slot in self._slots:
                slot.thread.join()

    def kill(self) -> None:
        """Ends the workers at once; the runs under way are lost."""
        self._stopping = True
        self._drain()
        for slot in self._slots:
            self._tasks.put(None)
            slot.kill()

    def __enter__(self) -> LocalWorkers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Ends with the block: in order, or at once if an exception ends it."""
        if kind is None:
            self.shutdown()
        else:
            self.kill()

    def _drain(self) -> None:
        while True:
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                return
            if task is not None:
                task.future.cancel()


class _Task:
    def __init__(
        self,
        future: Future[Any],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ):
        self.future, self.function, self.args, self.kwargs = future, function, args, kwargs


class _Slot:
    """One process, and the thread that feeds it."""

    def __init__(self, tasks: queue.Queue[_Task | None], environment: dict[str, str]):
        self._tasks, self._environment = tasks, environment
        self._pool: ProcessPoolExecutor | None = None
        self._is_up: Future[None] | None = None
        self._processes: list[BaseProcess] = []
        self._is_killed = False
        self.thread = threading.Thread(target=self._feed, daemon=True)
        self.thread.start()

    def _feed(self) -> None:
        while (task := self._tasks.get()) is not None:
            if task.future.set_running_or_notify_cancel():
                self._run(task)
        if self._pool is not None:
            self._pool.shutdown()

    def warm_up(self) -> None:
        # Not while the thread feeds it: no task has been queued yet. What comes of it shows in
        # the first task: a process that ends over its imports is one that died.
        self._pool = self._new_pool()
        self._pool.submit(_import_what_runs_need)

    def _new_pool(self) -> ProcessPoolExecutor:
        pool = ProcessPoolExecutor(
            max_workers=1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(self._environment,),
        )
        self._is_up = pool.submit(_do_nothing)
        # They are forgotten by a pool that broke, perhaps before the first task.
        self._processes = list((getattr(pool, "_processes", None) or {}).values())
        return pool

    def _run(self, task: _Task) -> None:
        if self._pool is None:
            self._pool = self._new_pool()
            if self._is_killed:  # while the process was being started
                self.kill()
        try:
            result = self._pool.submit(task.function, *task.args, **task.kwargs).result()
        except BrokenProcessPool:
            self._pool.shutdown(wait=False)
            self._pool = None
            task.future.set_exception(self._why())
        except BaseException as error:  # whatever the task raised belongs to its own future
            task.future.set_exception(error)
        else:
            task.future.set_result(result)

    def _why(self) -> StudyError:
        """Why the process ended: it could not even come up, or it was lost at work."""
        if self._is_up is not None and self._is_up.exception() is not None:
            for process in self._processes:
                code = _exit_code(process)
                if code > 0:  # by itself; a signal is a negative one
                    return UnguardedScriptError.of(code)
        return WorkerDiedError(
            "the worker process ended without an answer: killed, or out of memory"
        )

    def kill(self) -> None:
        self._is_killed = True
        processes = getattr(self._pool, "_processes", None) or {}
        for process in list(processes.values()):
            process.kill()


def _exit_code(process: BaseProcess) -> int:
    """The exit code of a process that has ended, 0 if it cannot be told within a minute."""
    limit = time.monotonic() + 60
    # The pool's own thread waits for it, too; whoever comes second learns the code a moment later.
    while process.exitcode is None and time.monotonic() < limit:
        process.join(timeout=0.1)
        time.sleep(0.01)
    return process.exitcode or 0


def default_workers() -> int:
    """Returns one worker per visible GPU, or else one per core."""
    return len(visible_devices()) or _cores()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_devices() -> list[str]:
    """Returns what CUDA_VISIBLE_DEVICES may name: the GPUs that this process may use."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [device for device in named.split(",") if device.strip() not in ("", "-1")]
    import torch  # a study has imported it anyway

    return [str(number) for number in range(torch.cuda.device_count())]


def _device(devices: list[str], number: int) -> dict[str, str]:
    return {"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} if devices else {}


def _start_worker(environment: dict[str, str]) -> None:
    """Sets up a worker before torch is imported in it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(environment)
    _keep_freed_memory()
    from tqdm import tqdm

    # Its own lock is a semaphore of the system, which a worker that is killed would leave behind.
    tqdm.set_lock(threading.RLock())
    import torch

    torch.set_num_threads(1)


def _do_nothing() -> None:
    """Tells by its end that a worker is up."""


def _import_what_runs_need() -> None:
    """Imports it, and spares the collector between two runs what never becomes garbage."""
    import hf_stabilizer.studies.configured_run
    import hf_stabilizer.studies.worker  # noqa: F401

    gc.freeze()


def _keep_freed_memory() -> None:
    """Lets large blocks that are freed stay with the process, where that can be asked for.

    Every step of training on a CPU frees and takes the same large tensors; to give their pages back
    and have them cleared anew costs about a twentieth of its time.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # glibc
            libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
            libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _end_with_parent() -> None:
    """Ends this worker when the parent is gone: nothing writes into a study behind its back."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
