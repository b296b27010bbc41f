"""What lies at a URL, and what of it on this machine? Files, brought to and fro."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import fsspec
from huggingface_hub.constants import HF_HOME

from hf_stabilizer.errors import ConfigurationError, StudyError, first_line
from hf_stabilizer.studies.early_stopping.choosing import HALTED

RUNS = "runs"
TOKEN = ".token"
_RECORDS = ("run.json", HALTED)
_UNSHARED = (".lock", TOKEN, "progress.json")


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
        for name in sorted(names, key=is_record):
            self._files.makedirs(str(PurePosixPath(self._at(name)).parent), exist_ok=True)
            if weights_folder(name) or name.startswith("data/"):
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
        for name in sorted(names, key=lambda name: not is_record(name)):
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


def is_record(name: str) -> bool:
    """Whether a file says how a run went, so that it must be the last to come and first to go."""
    return PurePosixPath(name).name in _RECORDS


def is_below(name: str, folder: str) -> bool:
    """Whether a path is a folder's own or lies in it; "" is the folder of all."""
    return not folder or name == folder or name.startswith(f"{folder}/")


def weights_folder(name: str) -> str | None:
    """Returns the folder of weights that a file is in: RUNS/RECIPE/SEEDS/model, or a checkpoint."""
    parts = PurePosixPath(name).parts
    return "/".join(parts[:4]) if parts[0] == RUNS and len(parts) > 4 else None


@contextlib.contextmanager
def explained(url: str) -> Iterator[None]:
    """Turns whatever a file system raises within a block into one sentence.

    Raises:
        StudyError: Something within the block raised.
    """
    try:
        yield
    except StudyError:
        raise
    except Exception as error:
        raise StudyError(
            f"{url!r} cannot be read or written ({type(error).__name__}: {first_line(error)}); "
            "start the study again when it can: it repeats nothing that was finished"
        ) from error
