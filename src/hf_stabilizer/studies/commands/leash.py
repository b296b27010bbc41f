"""How does a program end when the one that started it is gone? This stands between the two.

    study  --- pipe --->  leash  --->  program, in a process group of its own

The study holds the other end of the leash's standard input. However the study dies, kill -9
included, the pipe closes, and the whole group is killed; on Linux also what it has started in
sessions of their own, as torchrun does its ranks: they would go on without their launcher, and
answer the next one on the same port. Run as a file, on the standard library alone:
`python -I leash.py PROGRAM ARGUMENT ...`. The exit code is the program's, 128 + n for signal n, and
127 where there is no such program.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # as <sys/prctl.h> has it
_SECONDS = 10.0  # a process that the kernel holds fast is not waited for any longer


def main(words: Sequence[str]) -> int:
    """Runs a program until it ends, or until standard input does."""
    _become_heir()
    try:
        program = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(f"{words[0]} cannot be started: {error.strerror}", file=sys.stderr)
        return 127
    threading.Thread(target=_end_with_parent, args=(program.pid,), daemon=True).start()
    code = program.wait()
    _kill(program.pid)  # what it may have left behind: workers that load data, for instance
    if code < 0:  # it could not end its own
        _kill_heirlooms(program.pid)
    return code if code >= 0 else 128 - code


def _end_with_parent(group: int) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    _kill(group)
    _kill_heirlooms(group)
    os._exit(128 + signal.SIGKILL)


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _become_heir() -> None:
    """Has this process be the parent of what its descendants leave behind, where that can be."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _kill_heirlooms(program: int) -> None:
    """Kills what has come to this process, and what comes to it by that, until nothing is left.

    The program itself is waited for elsewhere.
    """
    limit = time.monotonic() + _SECONDS
    while (left := {*_children()} - {program}) and time.monotonic() < limit:
        for child in left:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, os.WNOHANG)
        time.sleep(0.01)


def _children() -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/stat"):  # there is none but on Linux
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                yield int(path.parent.name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
