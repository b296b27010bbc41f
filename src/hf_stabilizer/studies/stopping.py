"""How does a study stop early? At a fraction of training, and so that some of the runs go on.

    cost per recipe in full runs = t f + p (1 - f)        Dodge et al. 2020, section 5

t runs are trained to the fraction f of their steps, the best p of them to the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from hf_stabilizer.arguments import stabilize
from hf_stabilizer.configuration import Configuration
from hf_stabilizer.errors import ConfigurationError, check_whole
from hf_stabilizer.evaluation import EvaluationsPerEpochCallback
from hf_stabilizer.silent_mistakes.timetable import LONGEST, planned_steps, timetable
from hf_stabilizer.steps import resolve_step
from hf_stabilizer.tasks import PreparedTask


@dataclass(frozen=True)
class Stopping:
    """Where runs are halted, and how many go on."""

    stop_at: float
    """f: fraction of each run's optimizer steps, in (0, 1)."""
    keep: int
    """p: runs of each recipe that go on to the end."""


def read_stopping(stop_at: float | None, keep: int | None, *, runs: int) -> Stopping | None:
    """Returns how the study stops early, None if it does not.

    Raises:
        ConfigurationError: One is given without the other, or is out of range.

    Example:
        >>> read_stopping(0.25, 5, runs=20)
        Stopping(stop_at=0.25, keep=5)
    """
    if stop_at is None and keep is None:
        return None
    if stop_at is None or keep is None:
        raise ConfigurationError(
            f"stop_at and keep belong together, got stop_at={stop_at!r} and keep={keep!r}; give "
            "both, or none to run all to the end"
        )
    is_number = isinstance(stop_at, int | float) and not isinstance(stop_at, bool)
    if not is_number or not 0 < stop_at < 1:
        raise ConfigurationError(
            f"stop_at must be a fraction of the run in (0, 1), got {stop_at!r}; 0.2 to 0.3 is good"
        )
    check_whole(keep, f"of runs in [1, {runs}], the runs started", name="keep", least=1, most=runs)
    return Stopping(float(stop_at), int(keep))


def check_halt(configuration: Configuration, prepared: PreparedTask, stopping: Stopping) -> None:
    """Checks that a run can be halted there and ranked by what is known by then.

    Raises:
        ConfigurationError: No step comes after the halt, or no evaluation before it.
    """
    trial = {"use_cpu": True, "fp16": False, "tf32": None}  # asks for no GPU
    with TemporaryDirectory() as folder:
        args = configuration.arguments(output_dir=str(Path(folder)), **trial)
        callbacks = stabilize(args)["callbacks"]
    steps, per_epoch = planned_steps(args, len(prepared.train))
    assert steps is not None and per_epoch is not None  # noqa: PT018  # rows have a number
    halt = resolve_step(stopping.stop_at, steps, name="stop_at")
    if halt >= steps:
        raise ConfigurationError(
            f"stop_at={stopping.stop_at!r} is step {halt} of the {steps} steps of recipe "
            f"{configuration.recipe!r}: nothing is left to stop; set a smaller stop_at"
        )
    times = [c.times for c in callbacks if isinstance(c, EvaluationsPerEpochCallback)]
    seen = timetable(args, min(steps, LONGEST), per_epoch, times).evaluations
    if not any(0 < step <= halt for step in seen):
        first = next((step for step in seen if step), steps)
        raise ConfigurationError(
            f"stop_at={stopping.stop_at!r} is step {halt} of the {steps} steps of recipe "
            f"{configuration.recipe!r}, and the first evaluation comes at step {first}: there is "
            f"nothing to rank by; set evaluations_per_epoch to {math.ceil(per_epoch / halt)} or "
            f"more, or stop_at to {math.ceil(100 * first / steps) / 100} or more"
        )
