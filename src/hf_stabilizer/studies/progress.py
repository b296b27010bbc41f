"""How far is the study? One line for each run under way and one for the whole.

Workers write how far they are into a small file in the run's folder, wherever they execute; the
parent reads it. On a terminal the lines move; elsewhere one line is printed for each run that ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from hf_stabilizer.records import Run

PROGRESS_FILE = "progress.json"


class StudyProgress:
    """Shows the runs under way and counts those that are over."""

    def __init__(self, total: int, done: int, *, console: Console):
        self._console = console
        self._total, self._done = total, done
        self._lines: dict[Path, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._whole = self._progress.add_task("runs", total=total, completed=done, note="")

    def look(self, folders: dict[Path, str]) -> None:
        """Reads how far the runs in these folders (with their titles) are."""
        for folder, title in folders.items():
            state = _read(folder / PROGRESS_FILE)
            if state is None:
                continue
            if folder not in self._lines:
                self._lines[folder] = self._progress.add_task(title, total=None, note="")
            self._progress.update(
                self._lines[folder],
                total=state["max_steps"],
                completed=state["step"],
                note=state["note"],
            )

    def finished(self, folder: Path, run: Run) -> None:
        """Takes a run that is over off the display and prints what came of it."""
        self._done += 1
        self.leave(folder)
        self._progress.update(self._whole, completed=self._done)
        width = len(str(self._total))
        self.say(f"[{self._done:>{width}}/{self._total}] {describe(run)}")

    def leave(self, folder: Path) -> None:
        """Takes a run off the display that is not over: it waits, or is tried again."""
        line = self._lines.pop(folder, None)
        if line is not None:
            self._progress.remove_task(line)

    def reopened(self) -> None:
        """Takes back that a run is over: it goes on after all."""
        self._done -= 1
        self._progress.update(self._whole, completed=self._done)

    def say(self, sentence: str) -> None:
        """Prints a line above those that move."""
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def shown(self) -> Iterator[StudyProgress]:
        """Shows the lines while the block runs."""
        if self._done:
            self.say(f"{self._done} of {self._total} runs are there already")
        with self._progress:
            yield self


def describe(run: Run) -> str:
    """Returns one line about a run that is over.

    Example:
        >>> seeds = {"head_seed": 1, "data_seed": 1, "seed": 1}
        >>> describe(Run("plain", seeds, "finished", metric="accuracy", test_score=.8, seconds=61))
        'plain head1-data1-dropout1: accuracy 0.8000 in 61 s'
    """
    title = f"{run.recipe} {run.name}"
    if run.status == "stopped":
        return f"{title}: stopped, {run.reason}"
    if run.score is None and run.status == "finished":  # its metric is not decided yet
        return f"{title}: over in {run.seconds:.0f} s"
    if run.score is None:
        return f"{title}: failed, {run.reason}"
    text = f"{title}: {run.metric} {run.score:.4f} in {run.seconds:.0f} s"
    return f"{text}, failed: {run.reason}" if run.status == "failed" else text


def write_progress(folder: Path, *, step: int, max_steps: int, note: str) -> None:
    """Writes how far a run is, for whoever looks."""
    path = folder / PROGRESS_FILE
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"step": step, "max_steps": max_steps, "note": note}))
    temporary.replace(path)


def _read(path: Path) -> dict[str, Any] | None:  # Any: numbers and a text
    try:
        state: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):  # not there yet, or gone with its run
        return None
    return state
