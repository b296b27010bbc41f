"""How does a program end when the one that started it is gone? This stands between the two.

    study  --- pipe --->  leash  --->  program, in a process group of its own

The study holds the other end of the leash's standard input. However the study dies, kill -9
included, the pipe closes, and the whole group is killed. Run as a file, on the standard library
alone: `python -I leash.py PROGRAM ARGUMENT ...`. The exit code is the program's, 128 + n for
signal n, and 127 where there is no such program.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence


def main(words: Sequence[str]) -> int:
    """Runs a program until it ends, or until standard input does."""
    try:
        program = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(f"{words[0]} cannot be started: {error.strerror}", file=sys.stderr)
        return 127
    threading.Thread(target=_end_with_parent, args=(program.pid,), daemon=True).start()
    code = program.wait()
    _kill(program.pid)  # what it may have left behind: workers that load data, for instance
    return code if code >= 0 else 128 - code


def _end_with_parent(group: int) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    _kill(group)
    os._exit(128 + signal.SIGKILL)


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
