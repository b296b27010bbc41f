"""Did this optimizer step leave the weights as they were?

    on_pre_optimizer_step    whoever empties the gradients says so      mark_skipped
    on_optimizer_step        whoever follows the weights asks           was_skipped

A GradScaler skips steps that overflow. Accelerate tells of those, but not where the optimizer is
fused (the default of transformers 5): such a one is stepped all the same, and skips inside. There
the scale tells, which an overflow lowers. `was_skipped` knows of all three.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch


@dataclass(frozen=True)
class _Look:
    """What a GradScaler was found to have done in one step."""

    run: object
    step: int
    scale: float
    has_skipped: bool


_marked: WeakKeyDictionary[torch.optim.Optimizer, tuple[object, int]] = WeakKeyDictionary()
_looks: WeakKeyDictionary[torch.optim.Optimizer, _Look] = WeakKeyDictionary()


def mark_skipped(optimizer: torch.optim.Optimizer, *, run: object, step: int) -> None:
    """Says that an optimizer step will change no weight.

    Args:
        optimizer: The Trainer's optimizer, as callbacks are handed it.
        run: What tells one run of the Trainer from the next, its `state`.
        step: The step, from 1 up: `state.global_step + 1` before the Trainer has counted it.
    """
    _marked[optimizer] = (run, step)


def was_skipped(optimizer: torch.optim.Optimizer, *, run: object, step: int) -> bool:
    """Whether an optimizer step changed no weight: a GradScaler's overflow, or one so marked.

    To be asked in `on_optimizer_step` of every step: by the scale before it is known how the one
    of this step came about.

    Args:
        optimizer: The Trainer's optimizer, as callbacks are handed it.
        run: The Trainer's `state`.
        step: The step, from 1 up: `state.global_step + 1` in `on_optimizer_step`.

    Example:
        >>> sgd, run = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1), object()
        >>> mark_skipped(sgd, run=run, step=3)
        >>> [was_skipped(sgd, run=run, step=step) for step in (2, 3, 4)]
        [False, True, False]
    """
    # Set by accelerate when the GradScaler found an overflow.
    if getattr(optimizer, "step_was_skipped", False):
        return True
    marked_run, marked_step = _marked.get(optimizer, (None, 0))
    return (marked_run is run and marked_step == step) or _has_skipped_inside(optimizer, run, step)


def _has_skipped_inside(optimizer: torch.optim.Optimizer, run: object, step: int) -> bool:
    scaler = getattr(optimizer, "scaler", None)
    inner = getattr(optimizer, "optimizer", optimizer)
    if scaler is None or not getattr(inner, "_step_supports_amp_scaling", False):
        return False
    last = _looks.get(optimizer)
    if last is not None and last.run is run and last.step == step:
        return last.has_skipped  # several may ask
    state = scaler.state_dict()
    scale, good_steps = state.get("scale", 1.0), state.get("_growth_tracker", 1)
    # The count of good steps starts anew after an overflow, and when the scale has grown.
    has_grown = last is not None and last.run is run and scale > last.scale
    look = _Look(run, step, scale, has_skipped=good_steps == 0 and not has_grown)
    _looks[optimizer] = look
    return look.has_skipped
