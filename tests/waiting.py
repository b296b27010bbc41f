"""Waiting for other processes: for what they do, never for a time that they might need."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def until(condition: Callable[[], object], seconds: float = 400) -> None:
    """Waits for it; only a test that fails waits as long as that."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"waited for {seconds} seconds"
        time.sleep(0.02)


def is_alive(process: int) -> bool:
    """Whether a process has not ended; Linux only."""
    try:
        return _stat(process)[0] != "Z"
    except OSError:
        return False


def workers_of(parent: int) -> list[int]:
    """The processes under this one that train, the tracker of resources is none; Linux only."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            is_below = _stat(int(path.name))[1] == str(parent)
            if is_below and "spawn_main" in (path / "cmdline").read_text():
                found.append(int(path.name))
        except OSError:  # it has ended
            continue
    return found


def _stat(process: int) -> list[str]:
    """State, parent and so on, which stand behind the name of the program."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
