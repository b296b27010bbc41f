"""What is known about a run once it is over? The record that every procedure and report reads.

Imports no torch, so that statistics and reports open at once and run anywhere.
"""

from __future__ import annotations

import errno
import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal

from hf_stabilizer.errors import ConfigurationError, StudyError

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)

Status = Literal["finished", "stopped", "failed"]

DIVERGED = "stability/diverged"
"""In a `log_history`: the step at which the divergence guard ended the run."""

COLLAPSED = "stability/collapsed"
"""In a `log_history`: the step at which the divergence guard called the run collapsed."""

PACKAGES = ("hf_stabilizer", "transformers", "torch", "accelerate", "datasets", "scikit-learn")


@dataclass(frozen=True)
class Run:
    """One training run, finished or not.

    A run is a function of (configuration, head seed, data seed, dropout seed); two runs with the
    same `seeds` under different recipes form a pair.
    """

    recipe: str
    """Name of the recipe, e.g. "plain"."""
    seeds: Mapping[str, int]
    """The three seeds by option name: `head_seed` (new parameters), `data_seed` (order of the
    data), `seed` (dropout)."""
    status: Status
    """"finished"; "stopped" early by the study; "failed": it raised, or its model collapsed."""
    reason: str = ""
    """Why it was stopped or failed, in one sentence; empty when finished."""
    evaluations: tuple[tuple[int, Mapping[str, float]], ...] = ()
    """(optimizer step, metrics by plain name) of each evaluation on the validation rows."""
    metric: str = ""
    """Name of the metric that decides, e.g. "accuracy"."""
    greater_is_better: bool = True
    """Whether a larger value of `metric` is the better one."""
    best_score: float | None = None
    """The best value of `metric` on the validation rows; None if it was never evaluated."""
    last_score: float | None = None
    """The value of `metric` at the last evaluation."""
    test_score: float | None = None
    """`metric` on the test rows, scored once with the weights that validation chose; None without
    test rows."""
    seconds: float = 0.0
    """Wall-clock time of the run in seconds, imports of the worker excluded."""
    steps: int = 0
    """Optimizer steps taken."""
    checkpoint: str | None = None
    """Folder of the model that was kept, relative to the run's own folder where it lies inside."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of the packages that matter."""
    configuration: Mapping[str, Any] = field(default_factory=dict)  # Any: whatever YAML can say
    """The resolved configuration, recipe and seeds included."""

    @property
    def score(self) -> float | None:
        """The honest score: on test rows where there are any, else the best on validation rows."""
        return self.best_score if self.test_score is None else self.test_score

    @property
    def name(self) -> str:
        """Name of the run's folder, made of its seeds: `head1-data1-dropout1`."""
        return run_name(self.seeds)

    def to_json(self) -> str:
        """Returns the record as indented JSON."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, default=str)

    @classmethod
    def from_json(cls, text: str) -> Run:
        """Reads a record back; unknown keys of later versions are left aside."""
        values = {k: v for k, v in json.loads(text).items() if k in cls.__dataclass_fields__}
        values["evaluations"] = tuple((step, metrics) for step, metrics in values["evaluations"])
        return cls(**values)


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that decide what a run computes."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def run_name(seeds: Mapping[str, int]) -> str:
    """Returns the folder name of a run with these seeds; runs of other programs may lack some.

    Example:
        >>> run_name({"head_seed": 1, "data_seed": 2, "seed": 3}), run_name({"seed": 3})
        ('head1-data2-dropout3', 'seed3')
    """
    if set(seeds) == {"seed"}:  # with a script's one seed all is drawn, not dropout alone
        return f"seed{seeds['seed']}"
    words = {"head_seed": "head", "data_seed": "data", "seed": "dropout"}
    return "-".join(f"{words[k]}{seeds[k]}" for k in words if k in seeds) or "seeds-unknown"


def write_run(run: Run, path: Path) -> None:
    """Writes the record so that a reader sees the whole of it or nothing."""
    write_atomically(path, run.to_json())


def read_run(path: Path) -> Run:
    """Reads a record written by `write_run`.

    Raises:
        StudyError: The file is not a run's record.
    """
    try:
        return Run.from_json(path.read_text(encoding="utf-8"))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StudyError(
            f"{path} is not the record of a run ({error}); delete it to repeat that run"
        ) from error


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file by way of a temporary neighbour that is then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:  # a full disk, or Ctrl-C
        temporary.unlink(missing_ok=True)
        raise


def check_file(path: Path, *, key: str, example: str) -> None:
    """Raises ConfigurationError, naming the option, if no file of that name can be written.

    Args:
        path: The file.
        key: The option that names it.
        example: What a file there might be called.
    """
    if path.is_dir():
        raise ConfigurationError(
            f"{key} {str(path)!r} is a folder; name the file to write, such as "
            f"{str(path / example)!r}"
        )
    check_folder(path.parent, key=key)


def check_spares(path: Path, read: Iterable[str | None], *, key: str) -> None:
    """Raises ConfigurationError if writing the file would overwrite one that is read.

    Args:
        path: The file to be written.
        read: Files that are read, as they were named; None: not named.
        key: The option that names the file to be written.
    """
    for name in read:
        if name is not None and path.exists() and Path(name).exists() and path.samefile(name):
            raise ConfigurationError(
                f"{key} {str(path)!r} is the file that is read; name another, so that it stays"
            )


def check_folder(folder: Path, *, key: str) -> None:
    """Raises ConfigurationError, naming the option, if no files can be written into the folder."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise ConfigurationError(
            f"{key} {str(folder)!r} cannot be a folder: {str(nearest)!r} is a file; name another"
        )
    try:
        # What may be written cannot be told otherwise: the root user is allowed what a file system
        # then refuses. On Linux such a file has no name, and leaves no trace.
        with TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # whoever writes says so, with what it lost
            return
        why = "is read-only" if error.errno in READ_ONLY else f"takes no files ({error.strerror})"
        raise ConfigurationError(
            f"{key} {str(folder)!r} cannot be written into: {str(nearest)!r} {why}; name another"
        ) from error
