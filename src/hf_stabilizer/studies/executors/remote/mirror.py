"""Where does a study work whose folder is a URL? In a mirror; what it changes goes to the URL."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from hf_stabilizer.studies.executors.remote.folder import (
    TOKEN,
    RemoteFolder,
    explained,
    is_below,
    is_record,
    is_url,
    weights_folder,
)
from hf_stabilizer.studies.lock import alone


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
        with self._lock, explained(self.url):
            there = self._remote.listing(inside)
            weights = {name: top for name in there if (top := weights_folder(name))}
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
        with self._lock, explained(self.url):
            now = self._stamps("")
            gone = [name for name in self._sent if name not in now and not self._is_away(name)]
            self._remote.remove([name for name in gone if is_record(name)])
            self._drop_weights()
            changed = [n for n, s in now.items() if self._sent.get(n) != s and not self._is_away(n)]
            self._remote.send(changed)
            self._remote.remove(gone)
            for name in gone:
                del self._sent[name]
            self._sent.update({name: now[name] for name in changed})

    def leave_token(self, token: str) -> None:
        """Leaves a text at the URL for workers to find."""
        with self._lock, explained(self.url):
            self._remote.write(TOKEN, token)

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
        for name in [name for name in self._sent if is_below(name, inside)]:
            del self._sent[name]
        for top in [top for top in self._weights if is_below(top, inside)]:
            del self._weights[top]
            shutil.rmtree(self.folder / top, ignore_errors=True)

    def _is_away(self, name: str) -> bool:
        return any(is_below(name, run) for run in self._away)

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


def send_file(output_dir: str | Path, path: Path) -> None:
    """Brings one more file of a study's mirror, such as its report, to the URL, if it has one.

    Args:
        output_dir: The study's URL; a folder has no mirror, and nothing happens.
        path: File at the top of the mirror.
    """
    if is_url(output_dir):
        with explained(str(output_dir)):
            RemoteFolder(str(output_dir), role="study").send([path.name])
