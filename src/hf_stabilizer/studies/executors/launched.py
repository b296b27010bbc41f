"""How is a run trained by several processes? Each part of it is a launched command of its own.

    accelerate launch --num_processes 2 -m hf_stabilizer.studies.executors.launched TASK

TASK holds a call, pickled. Every rank makes it, as under `accelerate launch -m hf_stabilizer
train`; rank 0 alone touches the run's folder (`ranks.py`), and its result is written beside TASK.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import shlex
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ParamSpec, TypeVar

from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.records import Run, write_run
from hf_stabilizer.studies.commands.command_run import end_all, run_command
from hf_stabilizer.studies.executors.local_workers import WorkerDiedError
from hf_stabilizer.studies.executors.ranks import FAILED

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)


class LaunchingExecutor(Executor):
    """Makes each call in processes of a launcher, one call at a time, on this machine.

    Args:
        launcher: Command line to which `-m MODULE FILE` is added, e.g. "accelerate launch
            --num_processes 2" or "torchrun --standalone --nproc_per_node 2". Its processes see
            all devices, and have one thread each. It starts them on this machine alone.

    Raises:
        ConfigurationError: There is no such program.
    """

    workers = 1

    def __init__(self, launcher: str):
        self._words = launcher_words(launcher)
        self._pool = ThreadPoolExecutor(1)
        self._is_noted = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queues a call; its arguments and result must be picklable."""
        return self._pool.submit(self._launch, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Lets queued calls end, or cancels those that have not begun."""
        self._pool.shutdown(wait, cancel_futures=cancel_futures)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Ends with the block: in order, or at once if an exception ends it."""
        if kind is not None:
            end_all()
        self.shutdown(cancel_futures=kind is not None)

    def _launch(self, function: Callable[..., T], args: tuple[Any, ...], kwargs: Any) -> T:
        with TemporaryDirectory(prefix="hf_stabilizer-") as folder:
            task = Path(folder) / "task"
            task.write_bytes(pickle.dumps((function, args, kwargs)))
            ended = run_command([*self._words, "-m", __name__, str(task)], folder)
            path = _result_path(task)
            if not path.exists():
                raise WorkerDiedError(f"the launcher ended without a result: {ended.reason}")
            processes, result, error = pickle.loads(path.read_bytes())
        self._note(processes)
        if error is not None:
            raise error
        if isinstance(result, Run) and result.status == "failed" and processes > 1:
            # A rank that failed of another's failure may have written over its record.
            write_run(result, Path(args[1]) / "run.json")
        answer: T = result
        return answer

    def _note(self, processes: int) -> None:
        if processes == 1 and not self._is_noted:
            self._is_noted = True
            logger.warning(
                "the launcher `%s` starts one process for a run; on CPUs, accelerate launch needs "
                "--multi_gpu to start more",
                shlex.join(self._words),
            )


def launcher_words(launcher: str) -> list[str]:
    """Returns a launcher's command line as words, the program as a path.

    Raises:
        ConfigurationError: It is empty, or there is no such program.

    Example:
        >>> launcher_words("accelrate launch")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: launcher 'accelrate launch' cannot be started:
        there is no program 'accelrate'; give e.g. "accelerate launch --num_processes 2"
    """
    if not isinstance(launcher, str):
        raise ConfigurationError(
            f"launcher must be a command line in one text, got {launcher!r}; give e.g. "
            '"accelerate launch --num_processes 2"'
        )
    try:
        words = shlex.split(launcher)
    except ValueError as error:
        raise ConfigurationError(f"launcher {launcher!r} cannot be read: {error}") from error
    name = words[0] if words else ""
    beside_python = str(Path(sys.executable).parent)
    program = shutil.which(name, path=beside_python) or shutil.which(name)
    if not name or program is None:
        raise ConfigurationError(
            f"launcher {launcher!r} cannot be started: there is no program {name!r}; give e.g. "
            '"accelerate launch --num_processes 2"'
        )
    return [program, *words[1:]]


def main(path: str) -> None:
    """Makes the call of a task file in this process, one of those that a launcher has started."""
    task = Path(path)
    os.environ[FAILED] = f"{path}.failed"
    function, args, kwargs = pickle.loads(task.read_bytes())
    result = error = None
    try:
        _join(args)
        result = function(*args, **kwargs)
    except Exception as raised:
        error = raised
    rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    is_failed = error is not None or (isinstance(result, Run) and result.status == "failed")
    if rank == 0 or is_failed:
        _write_result(task, (processes, result, error))
    sys.stdout.flush()
    sys.stderr.flush()
    # Not by way of destructors: once in a dozen runs gloo's waits for ever, holding Python's lock,
    # for a thread of its own that wants this lock (torch 2.13). A code other than 0 has the
    # launcher end the ranks that still wait for this one.
    os._exit(int(is_failed))


def _join(args: tuple[Any, ...]) -> None:
    """Joins the ranks as the run's own arguments have it, before its folder is touched."""
    configuration = getattr(args[0], "configuration", None) if args else None
    if configuration is not None:
        with TemporaryDirectory() as folder:
            assert configuration.arguments(output_dir=folder).device is not None


def _write_result(task: Path, outcome: tuple[int, Any, Exception | None]) -> None:
    """Writes what came of it, unless another rank has."""
    own = task.with_name(f"result-{os.getpid()}")
    own.write_bytes(pickle.dumps(outcome))
    with contextlib.suppress(FileExistsError):
        os.link(own, _result_path(task))


def _result_path(task: Path) -> Path:
    return task.with_name("result")


if __name__ == "__main__":
    main(sys.argv[1])
