"""Can every run be halted at that fraction, and be ranked by what is known by then?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import TrainingArguments

from hf_stabilizer.arguments import stabilize
from hf_stabilizer.configuration import Configuration
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.evaluation import EvaluationsPerEpochCallback
from hf_stabilizer.silent_mistakes.timetable import LONGEST, planned_steps, timetable
from hf_stabilizer.steps import resolve_step
from hf_stabilizer.studies.early_stopping.stopping import Stopping
from hf_stabilizer.tasks import PreparedTask


def check_halt(configuration: Configuration, prepared: PreparedTask, stopping: Stopping) -> None:
    """Checks that a run can be halted there and ranked by what is known by then.

    Raises:
        ConfigurationError: No step comes after the halt, or no evaluation before it.
    """
    trial = {"use_cpu": True, "fp16": False, "tf32": None}  # asks for no GPU
    with TemporaryDirectory() as folder:
        args = configuration.arguments(output_dir=str(Path(folder)), **trial)
        callbacks = stabilize(args)["callbacks"]
    times = [c.times for c in callbacks if isinstance(c, EvaluationsPerEpochCallback)]
    check_halt_in(configuration.recipe, args, times, len(prepared.train), stopping)


def check_halt_in(
    recipe: str,
    args: TrainingArguments,
    times: Sequence[int],
    rows: int | None,
    stopping: Stopping,
) -> None:
    """Does the same for arguments.

    Args:
        recipe: Name of the recipe, for messages.
        args: Say how long a run is, and when it is evaluated.
        times: `times` of each `EvaluationsPerEpochCallback` of the run.
        rows: Training rows; None for a stream, of which `max_steps` alone is known.
        stopping: Where runs are halted.

    Raises:
        ConfigurationError: No step comes after the halt, or no evaluation before it.
    """
    steps, per_epoch = planned_steps(args, rows)
    if steps is None:
        return  # the Trainer itself asks for `max_steps`
    per_epoch = None if rows is None else per_epoch
    halt = resolve_step(stopping.stop_at, steps, name="stop_at")
    if halt >= steps:
        raise ConfigurationError(
            f"stop_at={stopping.stop_at!r} is step {halt} of the {steps} steps of recipe "
            f"{recipe!r}: nothing is left to stop; set a smaller stop_at"
        )
    if per_epoch is None:  # rows without a number: when they are evaluated is not known
        return
    seen = timetable(args, min(steps, LONGEST), per_epoch, times).evaluations
    if not any(0 < step <= halt for step in seen):
        first = next((step for step in seen if step), steps)
        raise ConfigurationError(
            f"stop_at={stopping.stop_at!r} is step {halt} of the {steps} steps of recipe "
            f"{recipe!r}, and the first evaluation comes at step {first}: there is "
            f"nothing to rank by; set evaluations_per_epoch to {math.ceil(per_epoch / halt)} or "
            f"more, or stop_at to {math.ceil(100 * first / steps) / 100} or more"
        )
