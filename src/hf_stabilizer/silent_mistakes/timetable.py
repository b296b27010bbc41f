"""At which optimizer steps will this run evaluate and save? The Trainer's own callback is asked.

The run is walked through step by step without a model: `DefaultFlowCallback`, which decides in the
Trainer, and `EvaluationsPerEpochCallback` see each step's number and say what they want there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import DefaultFlowCallback

from hf_stabilizer.evaluation import EvaluationsPerEpochCallback

LONGEST = 50_000
"""Optimizer steps beyond which a run is not walked through: it would take seconds."""


@dataclass(frozen=True)
class Timetable:
    """The optimizer steps, counted from 1, after which something is asked for."""

    evaluations: tuple[int, ...]
    """Steps with an evaluation; 0 is before the first step."""
    saves: tuple[int, ...]
    """Steps with a checkpoint; with `save_strategy="best"` none is known beforehand."""


def planned_steps(args: TrainingArguments, rows: int | None) -> tuple[int | None, int | None]:
    """Returns the optimizer steps of the run and of one epoch, as the Trainer counts them.

    Each is None where it cannot be told: rows without a number, and no `max_steps`.
    """
    fixed = args.max_steps if args.max_steps > 0 else None
    if rows is None:
        return fixed, fixed
    per_batch = args.train_batch_size * args.world_size
    batches = rows // per_batch if args.dataloader_drop_last else math.ceil(rows / per_batch)
    per_epoch = max(1, math.ceil(batches / args.gradient_accumulation_steps))
    return fixed or math.ceil(args.num_train_epochs * per_epoch), per_epoch


def timetable(
    args: TrainingArguments, steps: int, steps_per_epoch: int, times: Sequence[int] = ()
) -> Timetable:
    """Walks through the steps of a run and returns those with an evaluation or a checkpoint.

    Args:
        args: Say when to evaluate and save.
        steps: Optimizer steps of the run.
        steps_per_epoch: Optimizer steps of one epoch.
        times: `times` of each `EvaluationsPerEpochCallback` of the run.

    Raises:
        ConfigurationError: The best model may be one that no checkpoint holds.
    """
    state = TrainerState(max_steps=steps)
    state.compute_steps(args, steps)
    flow = DefaultFlowCallback()
    ours = [_begun(count, args, state, steps_per_epoch) for count in times]
    evaluations = [0] if args.eval_on_start else []
    saves = []
    for step in range(1, steps + 1):
        state.global_step, state.epoch = step, step / steps_per_epoch
        events = ["on_step_end"]
        events += ["on_epoch_end"] if step % steps_per_epoch == 0 or step == steps else []
        for event in events:
            control = TrainerControl()
            for callback in (flow, *ours):
                getattr(callback, event)(args, state, control)
            evaluations += [step] if control.should_evaluate else []
            saves += [step] if control.should_save else []
    return Timetable(tuple(dict.fromkeys(evaluations)), tuple(dict.fromkeys(saves)))


def _begun(
    times: int, args: TrainingArguments, state: TrainerState, steps_per_epoch: int
) -> EvaluationsPerEpochCallback:
    """A callback of the same kind that believes a run to begin, over an optimizer of nothing."""
    callback = EvaluationsPerEpochCallback(times)
    optimizer = torch.optim.SGD([nn.Parameter(torch.empty(0))], lr=0.1)
    loader = range(steps_per_epoch * args.gradient_accumulation_steps)
    callback.on_train_begin(
        args, state, TrainerControl(), optimizer=optimizer, train_dataloader=loader
    )
    return callback
