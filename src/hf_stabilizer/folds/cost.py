"""What would a cross-validation cost? The run of one fold is rehearsed, the others are like it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hf_stabilizer.dry_run import rehearse_run
from hf_stabilizer.folds.files import write_folds
from hf_stabilizer.folds.planning import FoldPlan
from hf_stabilizer.run import heed


def fold_cost(plan: FoldPlan) -> dict[str, Any] | None:  # Any: numbers of different kinds
    """Trains a few batches of the first fold on a model that is thrown away; writes nothing.

    Returns:
        "steps" and "seconds" of a run, "seconds_in_all" of all of them one after the other, and
        the "disk" bytes of a run; None where they cannot be measured.

    Raises:
        ConfigurationError: A run would fail.
    """
    values = plan.configuration.values
    said = {key: values[key] for key in plan.configuration.given if key != "output_dir"}
    with TemporaryDirectory() as folder:
        keys = next(iter(write_folds(plan, Path(folder)).values()))
        dry_run = rehearse_run(said, **keys)
    if dry_run.cost is None:
        heed(dry_run.findings, quiet=True)  # as the runs themselves would
        return None
    runs = plan.runs * len(plan.names)
    return {
        "steps": dry_run.steps,
        "seconds": dry_run.cost.seconds,
        "seconds_in_all": dry_run.cost.seconds * runs,
        "disk": dry_run.cost.disk,
    }
