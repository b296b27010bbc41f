"""What will a study that stops early cost, and what has it cost? In full runs, time and disk.

    full runs per recipe = t f + p (1 - f)

Time and sizes come from a short probe in a worker, as the runs themselves execute there.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future

from rich.console import Console

from hf_stabilizer.dry_run import Cost
from hf_stabilizer.errors import first_line
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.course import Job
from hf_stabilizer.studies.early_stopping.stopping import Stopping, says_rule
from hf_stabilizer.studies.rehearsed import disk_of_halted
from hf_stabilizer.studies.statistics import cost, spent
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.trainable import Trainable
from hf_stabilizer.studies.worker import probe


@contextlib.contextmanager
def announced(
    jobs: Sequence[Job], pool: Executor, stopping: Stopping, *, is_new: bool, console: Console
) -> Iterator[None]:
    """Says before the first run what the study will cost; a new one is probed.

    The probes stand before the runs in the queue of the pool, and the block that hands over the
    runs is entered at once: no worker waits for the probe of another. What they found is said when
    the last of them is over, unless the block has ended.
    """
    recipes = {job.recipe: job.trainable for job in jobs}
    runs = len(jobs) // len(recipes)
    _say(describe_plan(len(recipes), runs, stopping), console)
    if not is_new:
        yield
        return
    workers = getattr(pool, "workers", 1)

    def tell(costs: Sequence[Cost]) -> None:
        _say(describe_probe(costs, runs, stopping, workers=workers), console)

    def regret(error: Exception) -> None:  # an estimate that fails is no reason not to run
        _say(f"The probe failed: {first_line(error)}", console)

    probes = _Probes(pool, tuple(recipes.values()), tell, regret)
    try:
        yield
    finally:
        probes.give_up()


class _Probes:
    """Probes every recipe in a pool, and hands over what was found once all are over."""

    def __init__(
        self,
        pool: Executor,
        trainables: Sequence[Trainable],
        tell: Callable[[Sequence[Cost]], None],
        regret: Callable[[Exception], None],
    ):
        self._tell, self._regret = tell, regret
        self._lock = threading.Lock()
        self._left = len(trainables)
        self._futures: list[Future[Cost | None]] = []
        try:
            self._futures += [pool.submit(probe, trainable) for trainable in trainables]
        except Exception as error:  # the runs will say it, too
            self._left = 0
            regret(error)
        for future in self._futures:
            future.add_done_callback(self._take)

    def give_up(self) -> None:
        with self._lock:
            self._left = 0
        for future in self._futures:
            future.cancel()

    def _take(self, _: Future[Cost | None]) -> None:
        """Comes once for each probe, from whichever thread."""
        with self._lock:
            self._left -= 1
            if self._left != 0:
                return
        try:
            found = [future.result() for future in self._futures]
        except Exception as error:
            self._regret(error)
        else:
            self._tell([cost for cost in found if cost is not None])


def conclude(study: Study, console: Console) -> None:
    """Says after the last run what the study has cost."""
    _say(describe_spent(study), console)


def _say(sentence: str, console: Console) -> None:
    console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def describe_plan(recipes: int, runs: int, stopping: Stopping) -> str:
    """Returns a sentence about what was asked for.

    Example:
        >>> describe_plan(1, 20, Stopping(0.25, 5))
        'Plan: 20 runs to 0.25 of their steps, the best 5 to the end: 8.75 full runs, not 20.'
        >>> describe_plan(1, 20, Stopping(0.25, 4, ("keep=4",)))[-33:]
        'Set by the rule of dodge: keep=4.'
    """
    each = "" if recipes == 1 else f" per recipe ({recipes} recipes)"
    full = cost(runs, stopping.stop_at, stopping.keep)
    said = (
        f"Plan: {runs} runs to {stopping.stop_at:g} of their steps, the best {stopping.keep} to "
        f"the end: {full:.4g} full runs{each}, not {runs}."
    )
    return f"{said}{says_rule(stopping.filled_in)}"


def describe_probe(costs: Sequence[Cost], runs: int, stopping: Stopping, *, workers: int) -> str:
    """Returns a sentence about time and disk.

    Args:
        costs: What a whole run of each recipe takes.
        runs: Runs per recipe.
        stopping: Where and how many are stopped.
        workers: Runs that are trained side by side.
    """
    full = cost(runs, stopping.stop_at, stopping.keep)
    seconds = sum(found.seconds for found in costs) * full / workers
    disk = sum(disk_of_halted(found, runs, workers) for found in costs)
    return (
        f"Probe: about {formats.duration(seconds)} in all with {workers} at a time, loading and "
        f"saving not counted; up to {formats.gigabytes(disk)} on disk."
    )


def describe_spent(study: Study) -> str:
    """Returns a sentence about what the runs have cost, the stopped and failed ones included."""
    parts = []
    for recipe in study.recipes:
        if runs := study.of(recipe):
            used = spent(runs, stop_at=study.stop_at)
            parts.append(f"{recipe} {used.full_runs:.4g} full runs, not {len(runs)}")
    work = formats.duration(sum(run.seconds for run in study.runs))
    return f"Cost: {'; '.join(parts)}; {work} of work."
