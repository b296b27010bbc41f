"""Who calls the callbacks, and in which order?

Callbacks are not handed the Trainer. Its CallbackHandler, which calls them one after the other, is
found among the callers; the list that it goes through is public. By default transformers' own
come first, then trackers, then those that the user gave.
"""

from __future__ import annotations

import sys
from types import FrameType

from transformers import TrainerCallback
from transformers.trainer_callback import CallbackHandler


def call_first(callback: TrainerCallback) -> bool:
    """Puts `callback` before all others, from the next event on, and tells whether it could.

    To be called from within an event. What it adds to the logs in `on_log` reaches the trackers.
    """
    return _reorder(callback, is_first=True)


def call_last(callback: TrainerCallback) -> bool:
    """Puts `callback` after all others, from the next event on, and tells whether it could.

    To be called from within an event. It sees what the others did to the gradients.
    """
    return _reorder(callback, is_first=False)


def calling_handler() -> CallbackHandler | None:
    """Returns the handler among the callers of this function, None if there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, CallbackHandler):
            return caller
        frame = frame.f_back
    return None


def _reorder(callback: TrainerCallback, *, is_first: bool) -> bool:
    handler = calling_handler()
    if handler is None:
        return False
    others = [other for other in handler.callbacks if other is not callback]
    # A new list: the handler is going through the old one.
    handler.callbacks = [callback, *others] if is_first else [*others, callback]
    return True
