"""How does a worker get at a run that lies at a URL? It brings it along, and back at the end."""

from __future__ import annotations

import dataclasses
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias, TypeVar

from filelock import FileLock

from hf_stabilizer.errors import StudyError, first_line
from hf_stabilizer.records import read_run
from hf_stabilizer.studies.early_stopping.choosing import HALTED
from hf_stabilizer.studies.executors.elsewhere import DistantFuture
from hf_stabilizer.studies.executors.local_workers import WorkerDiedError
from hf_stabilizer.studies.executors.remote.folder import (
    RUNS,
    TOKEN,
    RemoteFolder,
    is_record,
    weights_folder,
)
from hf_stabilizer.studies.executors.remote.mirror import StudyMirror

P = ParamSpec("P")
T = TypeVar("T")


class CarryingExecutor(Executor):
    """Hands calls on to another executor, which bring their run's folder along from the URL.

    Args:
        pool: Executor that makes the calls; it is left open.
        mirror: The study's mirror; arguments that are paths in it become the worker's.
    """

    def __init__(self, pool: Executor, mirror: StudyMirror):
        self._pool, self._mirror = pool, mirror
        self.workers: int = getattr(pool, "workers", 1)
        """Runs at a time."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queues a call."""
        assert not kwargs  # what a study hands to its workers is by position
        paths = _paths_in(args, self._mirror.folder)
        run = next((name for name in paths.values() if name.startswith(f"{RUNS}/")), None)
        if run is not None:
            self._mirror.hand_over(run)
        inner = self._pool.submit(_carried, self._mirror.url, paths, fn, args)
        future: _Following[T] = _Following(inner)
        inner.add_done_callback(lambda _: self._take(inner, future, run))
        return future

    def _take(self, inner: Future[T], future: _Following[T], run: str | None) -> None:
        if inner.cancelled():
            future.give_up()
            return

        def outcome() -> T:
            if run is not None:
                self._mirror.take_back(run)
            return inner.result()

        future.end(outcome)


def check_reachable(pool: Executor, mirror: StudyMirror) -> None:
    """Has a file at the URL read where the runs will execute.

    Raises:
        StudyError: They cannot read it.
    """
    token = secrets.token_hex(16)
    mirror.leave_token(token)
    try:
        answer = pool.submit(read_remote_token, mirror.url).result()
    except Exception as error:
        answer = f"{type(error).__name__}: {first_line(error)}"
    if answer != token:
        raise StudyError(
            f"the workers do not see what this process writes to {mirror.url!r} ({answer}); they "
            "need the same packages and credentials, and memory:// is within one process only"
        )


def read_remote_token(url: str) -> str:
    """Returns the token that a study has left at its URL, in a worker."""
    return RemoteFolder(url, role="worker").read(TOKEN)


class _Following(DistantFuture[T]):
    """A future that is under way, and given up, when another one is."""

    def __init__(self, inner: Future[T]):
        super().__init__()
        self._inner = inner

    def running(self) -> bool:
        return super().running() or (not self.done() and self._inner.running())

    def cancel(self) -> bool:
        return self._inner.cancel()

    def give_up(self) -> None:
        super().cancel()


Spot: TypeAlias = tuple[int, str]
"""Place of an argument, and the field of it that is meant, "" for the argument itself."""


def _paths_in(args: Sequence[Any], folder: Path) -> dict[Spot, str]:
    """Returns, by spot, the paths below a folder among arguments and their fields."""
    spots: dict[Spot, object] = {(place, ""): value for place, value in enumerate(args)}
    for place, value in enumerate(args):
        if dataclasses.is_dataclass(value):
            spots |= {(place, f.name): getattr(value, f.name) for f in dataclasses.fields(value)}
    return {
        spot: Path(value).relative_to(folder).as_posix()
        for spot, value in spots.items()
        if isinstance(value, str) and Path(value).is_relative_to(folder)
    }


def _with_paths(args: Sequence[Any], paths: Mapping[Spot, str], mirror: Path) -> list[Any]:
    local = list(args)
    for (place, field), name in paths.items():
        path = str(mirror / name)
        local[place] = dataclasses.replace(local[place], **{field: path}) if field else path
    return local


def _carried(
    url: str, paths: Mapping[Spot, str], function: Callable[..., T], args: Sequence[Any]
) -> T:
    """Calls a function in a worker, between bringing its files from the URL and back.

    Raises:
        WorkerDiedError: They could not be brought; the study tries again.
    """
    remote = RemoteFolder(url, role="worker")
    run = next((name for name in paths.values() if name.startswith(f"{RUNS}/")), None)
    try:
        for name in paths.values():
            if name == run:
                _bring_run(remote, name)
            else:
                _bring_once(remote, name)
    except Exception as error:
        raise WorkerDiedError(f"nothing came from {url!r}: {first_line(error)}") from error
    local = _with_paths(args, paths, remote.mirror)
    try:
        result = function(*local)
        if run is not None:
            _send_run(remote, run)
        return result
    finally:
        if run is not None:
            shutil.rmtree(remote.mirror / run, ignore_errors=True)


def _bring_run(remote: RemoteFolder, run: str) -> None:
    """Brings what a run goes on from: of a halted one the checkpoint that it was left with."""
    shutil.rmtree(remote.mirror / run, ignore_errors=True)
    there = list(remote.listing(run))
    record = f"{run}/{HALTED}"
    if record in there:
        remote.fetch([record])
        kept = read_run(remote.mirror / record).checkpoint
        # What a worker that was cut off has sent besides is none of this run's.
        there = [n for n in there if weights_folder(n) in (None, f"{run}/{kept}")]
    remote.fetch(there)


def _bring_once(remote: RemoteFolder, name: str) -> None:
    """Brings rows that never change, once for all workers of this machine."""
    path = remote.mirror / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")):
        there = remote.listing(name)
        remote.fetch([n for n, size in there.items() if _size(remote.mirror / n) != size])


def _send_run(remote: RemoteFolder, run: str) -> None:
    try:
        before, now = remote.listing(run), list(remote.local_files(run))
        gone = [name for name in before if name not in now]
        remote.remove([name for name in gone if is_record(name)])
        remote.send(now)
        remote.remove(gone)
    except Exception as error:
        raise WorkerDiedError(
            f"its folder could not be brought to {remote.url!r}: {first_line(error)}"
        ) from error


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
