"""Which of the runs that were halted go on? Those whose best validation score so far is the best.

    rank 1..p     go on to the end        ties: the smaller seeds first
    the rest      stopped                 collapsed and failed runs: last

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hf_stabilizer.records import Run, read_run

HALTED = "halted.json"
"""In a run's folder: the record of its first part."""
WENT_ON = "went on"
"""Ends what is said of a stopped run's rank; what was wrong with it by then comes behind."""


@dataclass(frozen=True)
class Ranked:
    """A run that was trained to the fraction, and its place among the runs of its recipe."""

    folder: Path
    """Folder of the run."""
    run: Run
    """What it had come to by then."""
    rank: int
    """1 is the best."""
    is_chosen: bool
    """Whether it goes on, or has ended before the fraction as one of the best."""

    def stopped(self, *, runs: int, keep: int) -> Run:
        """Returns the record of a run that was not chosen."""
        run = self.run
        score = "no score" if run.best_score is None else f"{run.metric} {run.best_score:.6g}"
        place = f"rank {self.rank} of {runs} at step {run.steps} with {score}"
        reason = f"{place}; the best {keep} {WENT_ON}"
        return replace(run, status="stopped", reason="; ".join(filter(None, [reason, run.reason])))


def choose(runs: Mapping[Path, Run], *, keep: int) -> list[Ranked]:
    """Ranks the runs of one recipe by their best score so far, and chooses the best `keep`.

    A run that failed before the fraction cannot go on: the next one takes its place.

    Example:
        >>> def run(seed, score, reason=""):
        ...     seeds = {"head_seed": seed, "data_seed": seed, "seed": seed}
        ...     return Run("plain", seeds, "stopped", reason, best_score=score, metric="f1")
        >>> runs = {Path("a"): run(1, 0.7), Path("b"): run(2, 0.9), Path("c"): run(3, 0.7),
        ...     Path("d"): run(4, 0.95, "collapsed")}
        >>> [(str(r.folder), r.rank, r.is_chosen) for r in choose(runs, keep=2)]
        [('b', 1, True), ('a', 2, True), ('c', 3, False), ('d', 4, False)]
    """
    order = sorted(runs.items(), key=lambda item: _place(item[1]))
    alive = [folder for folder, run in order if run.status != "failed"][:keep]
    return [
        Ranked(folder, run, rank, folder in alive) for rank, (folder, run) in enumerate(order, 1)
    ]


def lost_when_stopped(run: Run) -> str:
    """Returns why a run that was stopped early was lost by then; empty if it was well, or went on.

    Example:
        >>> seeds = {"head_seed": 1, "data_seed": 1, "seed": 1}
        >>> halted = Run("plain", seeds, "stopped", "collapsed: one answer to all", steps=9)
        >>> lost_when_stopped(Ranked(Path("a"), halted, 4, False).stopped(runs=4, keep=2))
        'collapsed: one answer to all'
    """
    return run.reason.partition(f" {WENT_ON}; ")[2] if run.status == "stopped" else ""


def at_the_halt(folder: Path) -> Run | None:
    """Returns what a run had come to by the fraction, None if it has not got there.

    A run that ended before is its own record.
    """
    for name in (HALTED, "run.json"):
        if (folder / name).exists():
            return read_run(folder / name)
    return None


def _place(run: Run) -> tuple[bool, bool, float, tuple[int, ...]]:
    score = run.best_score
    upwards = 0.0 if score is None else -score if run.greater_is_better else score
    seeds = tuple(run.seeds.get(name, 0) for name in ("head_seed", "data_seed", "seed"))
    return bool(run.reason), score is None, upwards, seeds
