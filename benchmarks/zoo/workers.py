"""How are many classes judged so that one that hangs or dies does not stop the rest?

Each worker is a process of its own with one thread of torch; it is handed one class at a time. A
class that takes too long or kills its worker gets a verdict that says so, and a new worker goes on.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from .targets import Target
from .verdicts import METHODS, Verdict, judge

SECONDS_PER_CLASS = 600.0  # the start of its worker among them, on a machine however busy
_CONTEXT = multiprocessing.get_context("spawn")


class Worker:
    """A process that judges one class after the other."""

    def __init__(self) -> None:
        self.pipe, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def judge(self, target: Target, limit: float) -> Verdict | str:
        """Returns the verdict, or why there is none; the worker is then of no more use."""
        self.pipe.send(target)
        if not self.pipe.poll(limit):
            return f"no verdict within {limit:.0f} s"
        try:
            verdict: Verdict = self.pipe.recv()
        except EOFError:
            return "the process died"
        return verdict

    def stop(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def judge_all(
    targets: Sequence[Target], *, jobs: int, limit: float = SECONDS_PER_CLASS
) -> Iterator[Verdict]:
    """Yields a verdict for every class, in the order in which they are ready."""
    waiting: SimpleQueue[Target] = SimpleQueue()
    ready: SimpleQueue[Verdict] = SimpleQueue()
    for target in targets:
        waiting.put(target)
    for _ in range(min(jobs, len(targets))):
        Thread(target=_keep_busy, args=(waiting, ready, limit), daemon=True).start()
    for _ in targets:
        yield ready.get()


def _keep_busy(waiting: Any, ready: Any, limit: float) -> None:
    """Has one worker after the other judge what waits."""
    worker = None
    while True:
        try:
            target = waiting.get_nowait()
        except Empty:
            break
        worker = worker or Worker()
        verdict = worker.judge(target, limit)
        if isinstance(verdict, str):
            worker.stop()
            worker, verdict = None, _lost(target, verdict)
        ready.put(verdict)
    if worker is not None:
        worker.stop()


def _lost(target: Target, reason: str) -> Verdict:
    """Returns what is said of a class whose verdict was lost: somebody has to look at it."""
    verdict = Verdict(target.name, target.family, target.config_type)
    for method in METHODS:
        ours = method in ("layer_map", "reinitialize")
        setattr(verdict, method, "wrong" if ours else "unbuildable")
        verdict.reasons[method] = [reason]
    return verdict


def _serve(pipe: Connection) -> None:
    import torch

    torch.set_num_threads(1)
    os.environ["HF_HUB_OFFLINE"] = "1"
    while True:
        try:
            target = pipe.recv()
        except EOFError:
            return
        try:
            verdict = judge(target)
        except Exception as error:  # a mistake of the judge must not pass as a good verdict
            verdict = _lost(target, f"the judge raised {type(error).__name__}: {error}")
        pipe.send(verdict)
