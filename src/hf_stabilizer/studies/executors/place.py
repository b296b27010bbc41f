"""Where does a study lie, and where do its runs execute? Folder and executor, brought together.

                     local workers    in process    ray, dask           under a launcher
    folder           as it is         as it is      seen by all         as it is
    URL              carried to and from wherever the runs execute

A study opens its place for as long as it works.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.studies.executors.launched import LaunchingExecutor, launcher_words
from hf_stabilizer.studies.executors.local_workers import LocalWorkers, default_workers
from hf_stabilizer.studies.executors.open_executor import check_executor, open_executor
from hf_stabilizer.studies.executors.remote import (
    CarryingExecutor,
    StudyMirror,
    check_reachable,
    is_url,
    open_mirror,
)
from hf_stabilizer.studies.executors.shared_folder import check_shared
from hf_stabilizer.studies.main_guard import leave_if_imported_by_worker


@dataclass(frozen=True)
class Engine:
    """What executes the runs, as it was asked for."""

    executor: Executor | str | None = None
    """A name that `open_executor` knows, or any executor."""
    workers: int | None = None
    """Processes on this machine."""
    address: str | None = None
    """Address of a running cluster."""
    launcher: str | None = None
    """Command line under which each run is trained by several processes."""

    @property
    def is_local(self) -> bool:
        """Whether runs execute in worker processes of this machine, started for them."""
        return self.launcher is None and self.executor in (None, "local")

    def check(self) -> None:
        """Raises what `open` would raise before it starts anything.

        Raises:
            ConfigurationError: Options that do not belong together, or an unknown name.
            MissingDependencyError: The engine is not installed.
        """
        leave_if_imported_by_worker()
        check_executor(self.executor, workers=self.workers, address=self.address)
        if self.launcher is None:
            return
        launcher_words(self.launcher)
        if self.executor not in (None, "local") or self.workers not in (None, 1):
            raise ConfigurationError(
                f"launcher {self.launcher!r} trains one run at a time, on this machine, with all "
                "of its devices; leave out executor and workers"
            )

    def open(self) -> contextlib.AbstractContextManager[Executor]:
        """Opens it for the time of a block."""
        if self.launcher is not None:
            return LaunchingExecutor(self.launcher)
        return open_executor(self.executor, workers=self.workers, address=self.address)


class Place:
    """The folder of a study on this machine, and the engine that trains its runs.

    Args:
        folder: The folder, or the mirror of what lies at a URL.
        engine: What executes the runs.
        mirror: The mirror; None where the folder is the study's own.
    """

    def __init__(self, folder: Path, engine: Engine, mirror: StudyMirror | None = None):
        self.folder, self.engine, self._mirror = folder, engine, mirror
        self._warm: LocalWorkers | None = None

    @contextlib.contextmanager
    def warmed_up(self, runs: int) -> Iterator[None]:
        """Starts local workers for the time of a block in which their runs are made ready.

        Of the local engine alone; the others are there, or start when `open` asks for them.

        Args:
            runs: Most runs that may be trained side by side; 0: none, and nothing is started.
        """
        if runs < 1 or not self.engine.is_local:
            yield
            return
        with LocalWorkers(min(self.engine.workers or default_workers(), runs)) as pool:
            pool.warm_up()
            self._warm = pool
            try:
                yield
            finally:
                self._warm = None

    def push(self) -> None:
        """Brings to the URL what has changed, if the study lies at one."""
        if self._mirror is not None:
            self._mirror.push()

    @contextlib.contextmanager
    def open(self) -> Iterator[Executor]:
        """Opens the engine, once its workers have been seen to reach the study's folder.

        Raises:
            StudyError: They do not.
        """
        with contextlib.nullcontext(self._warm) if self._warm else self.engine.open() as pool:
            if self._mirror is None:
                check_shared(pool, self.folder)
                yield pool
            else:
                check_reachable(pool, self._mirror)
                yield CarryingExecutor(pool, self._mirror)


def check_path(output_dir: object) -> None:
    """Raises ConfigurationError if this is neither a path nor a URL."""
    is_path = isinstance(output_dir, str | Path) and "\0" not in str(output_dir)
    if not is_path or not str(output_dir).strip():
        raise ConfigurationError(
            f"output_dir must be the path of a folder, or a URL, got {output_dir!r}"
        )


@contextlib.contextmanager
def open_place(output_dir: str | Path, engine: Engine) -> Iterator[Place]:
    """Opens a study's folder: one on this machine as it is, what lies at a URL by its mirror.

    Raises:
        ConfigurationError: The engine's options do not belong together, or the URL is none.
        StudyError: The URL cannot be read.
    """
    engine.check()
    check_path(output_dir)
    if is_url(output_dir):
        with open_mirror(str(output_dir)) as mirror:
            yield Place(mirror.folder, engine, mirror)
        return
    folder = Path(output_dir)
    # Workers on a cluster have a working directory of their own.
    yield Place(folder if engine.executor is None else folder.absolute(), engine)


@contextlib.contextmanager
def open_for_command(output_dir: str | Path, engine: Engine) -> Iterator[dict[str, Any]]:
    """Opens an engine for a study of a command, whose runs are programs; yields its two options.

    Raises:
        ConfigurationError: It is one under which programs of people's own cannot be run.
        StudyError: The workers do not see the folder.
    """
    engine.check()
    if engine.launcher is not None:
        raise ConfigurationError(
            f"launcher {engine.launcher!r}: a command line says itself how it is launched; put the "
            "launcher into it"
        )
    check_path(output_dir)
    if is_url(output_dir):
        raise ConfigurationError(
            f"output_dir {str(output_dir)!r}: a script writes into a folder; name one that all "
            "machines see, or study a YAML configuration or a function"
        )
    if not isinstance(engine.executor, str) or engine.executor == "local":
        executor = engine.executor if isinstance(engine.executor, Executor) else None
        yield {"executor": executor, "workers": engine.workers}
        return
    with engine.open() as pool:
        folder = Path(output_dir).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        check_shared(pool, folder)
        yield {"executor": pool, "workers": None}
