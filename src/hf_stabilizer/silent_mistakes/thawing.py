"""What in freezing for a while goes wrong? What the callbacks would refuse when training begins."""

from __future__ import annotations

from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.freezing import FreezingCallback
from hf_stabilizer.freezing.conflicts import refuse_conflicts
from hf_stabilizer.silent_mistakes.finding import Finding
from hf_stabilizer.silent_mistakes.plan import Plan


def two_freezings(plan: Plan) -> Finding | None:
    """Two callbacks that freeze and free would undo each other's work."""
    found = [type(c).__name__ for c in plan.callbacks if isinstance(c, FreezingCallback)]
    if len(found) < 2:
        return None
    return Finding(
        "two-freezings",
        "error",
        f"one way of freezing for a while per run, and the callbacks hold {' and '.join(found)}",
        "remove one of the two",
    )


def thaws_beyond_run(plan: Plan) -> Finding | None:
    """Layers that wait for a step that never comes."""
    for callback in _freezings(plan):
        try:
            callback.first_steps(plan.layers.num_layers if plan.layers else 1, plan.steps or 1)
        except ConfigurationError as error:
            message, _, remedy = str(error).partition("; ")
            return Finding("thaws-beyond-run", "error", message, remedy)
    return None


def freezing_refused(plan: Plan) -> Finding | None:
    """DeepSpeed, FSDP 1, DDP that expects every gradient, re-entrant checkpointing."""
    for callback in _freezings(plan):
        try:
            refuse_conflicts(type(callback).__name__, plan.args, plan.model)
        except ConfigurationError as error:
            message, _, remedy = str(error).rpartition("; ")
            return Finding("freezing-refused", "error", message, remedy)
    return None


def _freezings(plan: Plan) -> list[FreezingCallback]:
    if plan.steps is None:
        return []
    return [c for c in plan.callbacks if isinstance(c, FreezingCallback)]
