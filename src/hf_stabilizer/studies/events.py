"""What has happened in a study, and when? A line of JSON for each event, only ever appended.

    opened closed                          the study was started, or started again; it ended
    started halted resumed finished failed    a run; "lost": its worker died, it is tried again
    chosen stopped                         goes on after the halt, or does not
    kept                                   its model stays, whatever the others come to

    {"time": 1732233600.0, "event": "halted", "recipe": "plain", "run": "head1-...", "step": 12}

Imports no torch.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EVENTS = "events.jsonl"


@dataclass(frozen=True)
class Event:
    """One thing that happened."""

    time: float
    """Seconds since 1970, UTC."""
    event: str
    """What happened, one word."""
    recipe: str = ""
    """Recipe of the run; empty where it is about the study."""
    run: str = ""
    """Name of the run's folder; likewise."""
    details: Mapping[str, Any] = field(default_factory=dict)  # Any: numbers and texts
    """What else is known: step, score, rank, seconds, reason."""


class EventLog:
    """Appends to the file of events; one process does so at a time.

    Args:
        folder: Folder of the study.
        then: Called after each event.
    """

    def __init__(self, folder: Path, *, then: Callable[[], None] = lambda: None):
        self._path, self._then = folder / EVENTS, then
        self.seen = {(e.event, e.recipe, e.run) for e in read_events(folder)}
        """What has happened to which recipe's run, now or in an earlier start."""

    def add(self, event: str, recipe: str = "", run: str = "", **details: Any) -> None:
        """Appends an event, on disk when this returns."""
        line = {"time": round(time.time(), 3), "event": event}
        line |= {"recipe": recipe, "run": run} if recipe else {}
        text = json.dumps({**line, **details}, default=str) + "\n"
        with self._path.open("a+b") as file:
            # A process that was killed may have left half a line.
            file.write(_newline(file.tell(), self._path) + text.encode())
            file.flush()
            os.fsync(file.fileno())
        self.seen.add((event, recipe, run))
        self._then()

    def has(self, event: str, recipe: str, run: str) -> bool:
        """Whether it has happened to that run, now or in an earlier start."""
        return (event, recipe, run) in self.seen

    def has_any(self, event: str) -> bool:
        """Whether it has happened to any run."""
        return any(event == name for name, _, _ in self.seen)


def read_events(folder: str | Path) -> list[Event]:
    """Returns the events of a study in their order; half lines of a killed process are left out.

    Example:
        >>> read_events("no-such-folder")
        []
    """
    try:
        lines = (Path(folder) / EVENTS).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [event for line in lines if (event := _parsed(line)) is not None]


def _newline(end: int, path: Path) -> bytes:
    if end == 0:
        return b""
    with path.open("rb") as file:
        file.seek(end - 1)
        return b"" if file.read(1) == b"\n" else b"\n"


def _parsed(line: str) -> Event | None:
    try:
        values = dict(json.loads(line))
        known = {name: values.pop(name) for name in ("time", "event", "recipe", "run")
                 if name in values}  # fmt: skip
        return Event(**known, details=values)
    except (ValueError, TypeError):
        return None
