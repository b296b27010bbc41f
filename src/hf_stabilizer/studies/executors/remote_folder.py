"""Where does a study lie whose folder is a URL? At the URL; every machine works in a mirror of it.

    s3://BUCKET/NAME    the truth: study.json, events.jsonl, data/, runs/RECIPE/SEEDS/...
         ^     |
    push |     | pull
         |     v
    mirror of the study    all but the weights: a run's folder holds empty `model/`, `checkpoint-N/`
    mirror of a worker     the rows, and the run that it works on, whole, until it is over

What is written when: the study writes what it has changed after every event, a worker writes its
run's folder once its part of the run is over, each time with `run.json` and `halted.json` last. So
what is at the URL can be gone on with at any time, from any machine; a part of a run that was cut
off begins anew. The weights stay at the URL.

URLs are those of fsspec: s3://, gs://, az://, sftp://, ..., each with its own package, which brings
the credentials along. Two studies on one URL are told from one another on one machine only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path, PurePosixPath
from typing import Any, ParamSpec, TypeAlias, TypeVar

import fsspec
from filelock import FileLock
from huggingface_hub.constants import HF_HOME

from hf_stabilizer.errors import ConfigurationError, StudyError, first_line
from hf_stabilizer.records import read_run
from hf_stabilizer.studies.early_stopping.choosing import HALTED
from hf_stabilizer.studies.executors.elsewhere import DistantFuture
from hf_stabilizer.studies.executors.local_workers import WorkerDiedError
from hf_stabilizer.studies.lock import alone

P = ParamSpec("P")
T = TypeVar("T")

RUNS = "runs"
_RECORDS = ("run.json", HALTED)
_TOKEN = ".token"
_UNSHARED = (".lock", _TOKEN, "progress.json")


def is_url(path: str | Path) -> bool:
    """Whether a path is a URL that fsspec is to open.

    Example:
        >>> is_url("s3://bucket/study"), is_url("results/study"), is_url("C:/study")
        (True, False, False)
    """
    return isinstance(path, str) and "://" in path


class RemoteFolder:
    """A folder at a URL, and files of it on this machine.

    Args:
        url: URL that fsspec opens, e.g. "s3://BUCKET/NAME".
        role: Whose mirror this is, "study" or "worker"; each has its own.

    Raises:
        ConfigurationError: There is no file system for such a URL.
    """

    def __init__(self, url: str, *, role: str):
        self.url = url.rstrip("/")
        try:
            # An instance of its own: what is written in a transaction is no other thread's.
            self._files, root = fsspec.core.url_to_fs(self.url, skip_instance_cache=True)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(
                f"output_dir {url!r} cannot be opened: {first_line(error)}"
            ) from error
        self._root = root.rstrip("/")
        key = hashlib.sha256(self.url.encode()).hexdigest()[:12]
        self.mirror = Path(HF_HOME) / "hf_stabilizer" / role / key / PurePosixPath(self._root).name
        """Folder on this machine."""

    def listing(self, inside: str = "") -> dict[str, int]:
        """Returns the files at the URL with their sizes in bytes, by path below it."""
        self._files.invalidate_cache()
        top = self._at(inside) if inside else self._root
        found = self._files.find(top, detail=True)
        return {
            PurePosixPath(path).relative_to(self._root).as_posix(): int(facts["size"] or 0)
            for path, facts in found.items()
        }

    def fetch(self, names: Sequence[str]) -> None:
        """Brings files to the mirror."""
        for name in names:
            target = self.mirror / name
            target.parent.mkdir(parents=True, exist_ok=True)
            self._files.get_file(self._at(name), str(target))

    def send(self, names: Sequence[str]) -> None:
        """Brings files to the URL, records last, so that a record is never there alone."""
        for name in sorted(names, key=_is_record):
            self._files.makedirs(str(PurePosixPath(self._at(name)).parent), exist_ok=True)
            if _weights_folder(name) or name.startswith("data/"):
                self._files.put_file(str(self.mirror / name), self._at(name))
            else:  # whole or not at all
                with self._files.transaction, self._files.open(self._at(name), "wb") as file:
                    file.write((self.mirror / name).read_bytes())

    def read(self, name: str) -> str:
        """Returns a small text at the URL."""
        text: bytes = self._files.cat_file(self._at(name))
        return text.decode("utf-8")

    def write(self, name: str, text: str) -> None:
        """Writes a small text at the URL."""
        self._files.makedirs(self._root, exist_ok=True)
        self._files.pipe_file(self._at(name), text.encode("utf-8"))

    def remove(self, names: Sequence[str]) -> None:
        """Removes files at the URL, records first."""
        for name in sorted(names, key=lambda name: not _is_record(name)):
            with contextlib.suppress(FileNotFoundError):
                self._files.rm_file(self._at(name))

    def local_files(self, inside: str = "") -> dict[str, Path]:
        """Returns the files of the mirror that belong to the study, by path below it."""
        return {
            path.relative_to(self.mirror).as_posix(): path
            for path in sorted((self.mirror / inside).rglob("*"))
            if path.is_file() and path.name not in _UNSHARED and path.suffix != ".tmp"
        }

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if self._root else name


class StudyMirror:
    """The mirror in which a study works; what it changes is brought to the URL.

    Args:
        url: URL of the study's folder.
    """

    def __init__(self, url: str):
        self._remote = RemoteFolder(url, role="study")
        self._sent: dict[str, tuple[int, int]] = {}
        self._weights: dict[str, set[str]] = {}
        self._away: set[str] = set()
        self._lock = threading.RLock()

    @property
    def folder(self) -> Path:
        """The mirror."""
        return self._remote.mirror

    @property
    def url(self) -> str:
        """The URL."""
        return self._remote.url

    def pull(self, inside: str = "") -> None:
        """Makes the mirror, or a folder of it, equal to what is at the URL, but for the weights."""
        with self._lock, _explained(self.url):
            there = self._remote.listing(inside)
            weights = {name: top for name in there if (top := _weights_folder(name))}
            for name in self._remote.local_files(inside):
                is_same = name.startswith("data/") and name in there
                if not is_same:
                    (self.folder / name).unlink()
            wanted = [name for name in there if name not in weights]
            self._remote.fetch([n for n in wanted if not (self.folder / n).is_file()])
            self._forget(inside)
            for name, top in weights.items():
                (self.folder / top).mkdir(parents=True, exist_ok=True)
                self._weights.setdefault(top, set()).add(name)
            self._sent.update(self._stamps(inside))

    def push(self) -> None:
        """Brings what has changed in the mirror to the URL; runs that workers hold are theirs.

        Raises:
            StudyError: The URL cannot be written to.
        """
        with self._lock, _explained(self.url):
            now = self._stamps("")
            gone = [name for name in self._sent if name not in now and not self._is_away(name)]
            self._remote.remove([name for name in gone if _is_record(name)])
            self._drop_weights()
            changed = [n for n, s in now.items() if self._sent.get(n) != s and not self._is_away(n)]
            self._remote.send(changed)
            self._remote.remove(gone)
            for name in gone:
                del self._sent[name]
            self._sent.update({name: now[name] for name in changed})

    def leave_token(self, token: str) -> None:
        """Leaves a text at the URL for workers to find."""
        with self._lock, _explained(self.url):
            self._remote.write(_TOKEN, token)

    def hand_over(self, run: str) -> None:
        """Leaves a run's folder to a worker: what is at the URL is its own to change."""
        self.push()
        with self._lock:
            self._away.add(run)

    def take_back(self, run: str) -> None:
        """Takes over what a worker has left of a run."""
        self.pull(run)
        with self._lock:
            self._away.discard(run)

    def _drop_weights(self) -> None:
        """Removes weights at the URL whose folder the study has removed."""
        for top in [t for t in self._weights if not (self.folder / t).is_dir()]:
            if not self._is_away(top):
                self._remote.remove(sorted(self._weights.pop(top)))

    def _forget(self, inside: str) -> None:
        for name in [name for name in self._sent if _is_below(name, inside)]:
            del self._sent[name]
        for top in [top for top in self._weights if _is_below(top, inside)]:
            del self._weights[top]
            shutil.rmtree(self.folder / top, ignore_errors=True)

    def _is_away(self, name: str) -> bool:
        return any(_is_below(name, run) for run in self._away)

    def _stamps(self, inside: str) -> dict[str, tuple[int, int]]:
        found = {}
        for name, path in self._remote.local_files(inside).items():
            facts = path.stat()
            found[name] = facts.st_size, facts.st_mtime_ns
        return found


@contextlib.contextmanager
def open_mirror(url: str) -> Iterator[StudyMirror]:
    """Pulls what is at the URL, and brings the last changes there at the end of the block.

    Raises:
        ConfigurationError: There is no file system for such a URL.
        StudyError: It cannot be read or written, or another process on this machine works there.
    """
    mirror = StudyMirror(url)
    mirror.folder.parent.mkdir(parents=True, exist_ok=True)
    with alone(mirror.folder.with_name("lock"), url):
        mirror.pull()
        try:
            yield mirror
        finally:
            mirror.push()


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


def send_file(output_dir: str | Path, path: Path) -> None:
    """Brings one more file of a study's mirror, such as its report, to the URL, if it has one.

    Args:
        output_dir: The study's URL; a folder has no mirror, and nothing happens.
        path: File at the top of the mirror.
    """
    if is_url(output_dir):
        with _explained(str(output_dir)):
            RemoteFolder(str(output_dir), role="study").send([path.name])


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
    return RemoteFolder(url, role="worker").read(_TOKEN)


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
        there = [n for n in there if _weights_folder(n) in (None, f"{run}/{kept}")]
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
        remote.remove([name for name in gone if _is_record(name)])
        remote.send(now)
        remote.remove(gone)
    except Exception as error:
        raise WorkerDiedError(
            f"its folder could not be brought to {remote.url!r}: {first_line(error)}"
        ) from error


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _is_record(name: str) -> bool:
    return PurePosixPath(name).name in _RECORDS


def _is_below(name: str, folder: str) -> bool:
    return not folder or name == folder or name.startswith(f"{folder}/")


def _weights_folder(name: str) -> str | None:
    """The folder of weights that a file lies in: RUNS/RECIPE/SEEDS/model, or a checkpoint."""
    parts = PurePosixPath(name).parts
    return "/".join(parts[:4]) if parts[0] == RUNS and len(parts) > 4 else None


@contextlib.contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except StudyError:
        raise
    except Exception as error:
        raise StudyError(
            f"{url!r} cannot be read or written ({type(error).__name__}: {first_line(error)}); "
            "start the study again when it can: it repeats nothing that was finished"
        ) from error
