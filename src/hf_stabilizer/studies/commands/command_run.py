"""How does one run of somebody's script end? Started, watched, and told by its exit code.

Everything that crosses the border is plain, so that any executor can run it anywhere.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hf_stabilizer.studies.commands import leash

LOG = "log.txt"
_TAIL = 4000  # bytes of the log that may hold the reason
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

_running: set[subprocess.Popen[bytes]] = set()
_lock = threading.Lock()


class Ended(NamedTuple):
    """How a program ended."""

    code: int
    """Its exit code; 128 + n where signal n ended it."""
    reason: str
    """Exit code and last lines; empty where the code is 0."""
    seconds: float
    """Wall-clock time in seconds."""


def run_command(
    words: Sequence[str], folder: str, environment: Mapping[str, str] | None = None
) -> Ended:
    """Runs a program to its end with one thread, its output in `FOLDER/log.txt`.

    Args:
        words: The command line.
        folder: Folder of the run; it is made.
        environment: More variables of the environment.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    one_thread = {**dict.fromkeys(_ONE_THREAD, "1"), "TOKENIZERS_PARALLELISM": "false"}
    start = time.perf_counter()
    with (path / LOG).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-I", str(Path(leash.__file__)), *words],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {}), **one_thread},
            start_new_session=True,  # Ctrl-C is the study's to answer
        )
        with _lock:
            _running.add(process)
        try:
            code = process.wait()
        finally:
            with _lock:
                _running.discard(process)
            _let_go(process)
    code = code if code >= 0 else 128 - code
    return Ended(code, _reason(code, path / LOG), time.perf_counter() - start)


def end_all() -> None:
    """Ends every program that this process runs."""
    with _lock:
        for process in _running:
            _let_go(process)


def _let_go(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _reason(code: int, log: Path) -> str:
    if code == 0:
        return ""
    how = f"exit code {code}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(code - 128).name if code > 128 else ""
        how = f"ended by {name}" if name else how
        how += " (killed, or out of memory)" if name == "SIGKILL" else ""
    return f"{how}: {last_lines(log)}"


def last_lines(log: Path, *, count: int = 3, length: int = 400) -> str:
    r"""Returns the last lines of a file that say anything, as one line.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        ...     _ = file.write("Traceback:\n  at 3\n\nValueError: no rows\n")
        ...     file.flush()
        ...     last_lines(Path(file.name), count=2)
        'at 3 / ValueError: no rows'
    """
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - _TAIL))
        text = file.read().decode("utf-8", errors="replace")
    lines = [line for part in re.split(r"[\r\n]+", text) if (line := " ".join(part.split()))]
    return (" / ".join(lines[-count:]) or "it printed nothing")[-length:]
