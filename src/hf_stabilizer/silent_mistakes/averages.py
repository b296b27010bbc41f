"""What in the averaging goes wrong in silence? Means of too little, checkpoints of too few."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainingArguments
from transformers.trainer_utils import SaveStrategy

from hf_stabilizer.averaging import (
    AVERAGING_FILE,
    AveragingCallback,
    EMACallback,
    SWACallback,
)
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.freezing import GradualUnfreezingCallback
from hf_stabilizer.silent_mistakes.finding import Finding
from hf_stabilizer.silent_mistakes.plan import Plan
from hf_stabilizer.steps import resolve_step

FEW_AVERAGES = 5
FIRST_SHARE = 0.1
"""Share of an EMA that its first weights may keep to the end of the run."""


def average_begins_too_late(plan: Plan) -> Finding | None:
    """Says what the callback itself would say when training begins."""
    for callback in _averagings(plan):
        try:
            resolve_step(callback.start, plan.steps or 0, name="averaging_start")
        except ConfigurationError as error:
            message, _, remedy = str(error).partition("; ")
            return Finding("average-begins-too-late", "error", message, remedy)
    return None


def two_averagings(plan: Plan) -> Finding | None:
    """One optimizer has one mean."""
    found = [type(c).__name__ for c in plan.callbacks if isinstance(c, AveragingCallback)]
    if len(found) < 2:
        return None
    return Finding(
        "two-averagings",
        "error",
        f"one averaging per run, and the callbacks hold {' and '.join(found)}",
        "remove one of the two",
    )


def averaging_refused(plan: Plan) -> Finding | None:
    """What the saved model would not be the average of, as far as the arguments tell."""
    args = plan.args
    if not plan.has_callback(AveragingCallback):
        return None
    optim = getattr(args.optim, "value", args.optim)
    fsdp = args.fsdp_config if args.fsdp and isinstance(args.fsdp_config, dict) else {}
    reason, remedy = "", ""
    if str(optim).startswith("schedule_free"):
        reason = f"optim={optim!r}, which averages weights for evaluation itself"
        remedy = "set averaging='none', or another optim"
    elif str(fsdp.get("version", fsdp.get("fsdp_version", 2))) == "1":
        reason, remedy = "FSDP version 1, which flattens the parameters", "use version 2"
    elif _zero_stage(args) == 3:
        reason = "DeepSpeed ZeRO-3, whose saved model would not be the average"
        remedy = "use ZeRO-2, FSDP2 or no sharding"
    if not reason:
        return None
    return Finding(
        "averaging-refused", "error", f"averaging cannot be combined with {reason}", remedy
    )


def _zero_stage(args: TrainingArguments) -> int:
    config = getattr(getattr(args, "deepspeed_plugin", None), "deepspeed_config", None) or {}
    stage: int = config.get("zero_optimization", {}).get("stage", 0)
    return stage


def two_owners_of_the_rate(plan: Plan) -> Finding | None:
    """An SWA rate blends with a schedule that is known, and with no other callback's rate."""
    if not any(isinstance(c, SWACallback) and c.learning_rate for c in plan.callbacks):
        return None
    kind = getattr(plan.args.lr_scheduler_type, "value", plan.args.lr_scheduler_type)
    other = ""
    if kind in ("reduce_lr_on_plateau", "greedy"):
        other = f"lr_scheduler_type={kind!r}, which follows a metric,"
    elif any(isinstance(c, GradualUnfreezingCallback) and c.warmup_steps for c in plan.callbacks):
        other = "the warm-up of gradually unfrozen layers"
    if not other:
        return None
    return Finding(
        "two-owners-of-the-rate",
        "error",
        f"an SWA learning rate and {other} would both set the rate",
        "leave swa_learning_rate out, or the other one",
    )


def short_swa(plan: Plan) -> Finding | None:
    """A mean of few weights is hardly a mean."""
    for callback in _averagings(plan, SWACallback):
        count = _updates(plan, callback)
        if count == 0:
            continue
        start = _start(plan, callback)
        count += ((plan.steps or 0) - start) % callback.every > 0  # the last step is added
        if count < FEW_AVERAGES:
            return Finding(
                "short-swa",
                "warning",
                f"averaging from step {start} of {plan.steps}, every {callback.every}, takes the "
                f"mean of {count} weights",
                "lower averaging_start or averaging_every, or train longer",
            )
    return None


def unreached_decay(plan: Plan) -> Finding | None:
    """With `warmup` the decay is (1 + t) / (10 + t) until it comes to its own value."""
    for callback in _averagings(plan, EMACallback):
        last = _updates(plan, callback) - 1
        if last < 1 or not callback.warmup:
            continue
        reached = callback.decay_at(last)
        if reached < callback.decay:
            return Finding(
                "unreached-decay",
                "warning",
                f"ema_decay={callback.decay:g} is never reached: after {last} updates the warm-up "
                f"stands at {reached:.3f}, so ema_decay decides nothing",
                f"set ema_decay to {_reachable(last):g}, or train longer",
            )
    return None


def stuck_average(plan: Plan) -> Finding | None:
    """Without `warmup` a slow mean stays with the weights that it began with."""
    for callback in _averagings(plan, EMACallback):
        last = _updates(plan, callback) - 1
        if last < 0 or callback.warmup:
            continue
        share = callback.decay**last
        if share > FIRST_SHARE:
            return Finding(
                "stuck-average",
                "warning",
                f"with ema_decay={callback.decay:g} and {last} updates the mean still holds "
                f"{share:.0%} of the weights that it began with",
                "lower ema_decay, set ema_warmup=True, or train longer",
            )
    return None


def one_checkpoint(plan: Plan) -> Finding | None:
    """The only checkpoint may be the one that a kill left half written."""
    args = plan.args
    if args.save_total_limit != 1 or SaveStrategy(args.save_strategy) == SaveStrategy.NO:
        return None
    if args.save_only_model or not plan.has_callback(AveragingCallback):
        return None
    return Finding(
        "one-checkpoint",
        "warning",
        "save_total_limit=1 with averaging: a run that is killed while it saves may leave no "
        "whole checkpoint to resume from",
        "set save_total_limit=2",
    )


def average_left_behind(plan: Plan) -> Finding | None:
    """A checkpoint of an averaged run shows the mean; without its callback that is all there is."""
    checkpoint = plan.args.resume_from_checkpoint
    if not isinstance(checkpoint, str) or plan.has_callback(AveragingCallback):
        return None
    if not Path(checkpoint, AVERAGING_FILE).is_file():
        return None
    return Finding(
        "average-left-behind",
        "warning",
        f"{checkpoint} was averaged and this run is not: it would go on from the mean, and not "
        "from the weights that were trained",
        "set the averaging that the run was started with",
    )


def _averagings(plan: Plan, kind: type[Any] = AveragingCallback) -> list[Any]:
    """The averaging callbacks of a kind, in a run whose steps are known."""
    return [c for c in plan.callbacks if isinstance(c, kind) and plan.steps is not None]


def _start(plan: Plan, callback: AveragingCallback) -> int:
    return max(1, resolve_step(callback.start, plan.steps or 0))


def _updates(plan: Plan, callback: AveragingCallback) -> int:
    """How often the mean is updated on the grid; 0 where it does not begin."""
    try:
        start = _start(plan, callback)
    except ConfigurationError:
        return 0
    return ((plan.steps or 0) - start) // callback.every + 1


def _reachable(updates: int) -> float:
    """A decay that is reached after half of the updates, in two digits."""
    half = max(1, updates // 2)
    return round((1 + half) / (10 + half), 2)
