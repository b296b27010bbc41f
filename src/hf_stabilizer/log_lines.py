"""How does a callback put a line into the Trainer's log, so that every tracker sees it?

The Trainer's own `log` appends a line to `state.log_history` and hands it to the `on_log` of each
callback, trackers first. A callback, which is not handed the Trainer, does the same by way of the
CallbackHandler that calls it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import TrainerControl, TrainerState, TrainingArguments

from hf_stabilizer.call_order import calling_handler


def send_line(
    values: Mapping[str, float],
    args: TrainingArguments,
    state: TrainerState,
    control: TrainerControl,
    *,
    step: int | None = None,
    **remarks: str,
) -> None:
    """Logs a line of its own; the Trainer's, if one is due, still comes.

    To be called from within an event of a callback. Where no CallbackHandler is among the callers
    the line is in `state.log_history` alone.

    Args:
        values: What is logged, by name.
        args: The Trainer's arguments, as callbacks are handed them.
        state: The Trainer's state.
        control: The Trainer's control.
        step: The optimizer step that the line is about; None: the last one that was counted.
        **remarks: Sentences that stand in `state.log_history` alone: not every tracker takes text.
    """
    line = dict(values)
    if state.epoch is not None:
        line["epoch"] = state.epoch
    step = state.global_step if step is None else step
    # Typed as numbers alone; the file that it is saved to takes text as well.
    history: list[dict[str, Any]] = state.log_history
    history.append({**line, **remarks, "step": step})
    handler = calling_handler()
    if handler is not None:
        # `on_log` clears the flag, and with it the Trainer's own line.
        should_log = control.should_log
        handler.on_log(args, state, control, line)
        control.should_log = should_log
