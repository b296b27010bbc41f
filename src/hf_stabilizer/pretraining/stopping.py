"""When is it enough? After `patience` looks at the held-out text without a better perplexity.

transformers' EarlyStoppingCallback, which by itself forgets what it has counted when a run goes on
from a checkpoint: here the count is taken from the evaluations that the Trainer's state holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from transformers import EarlyStoppingCallback, TrainerControl, TrainerState, TrainingArguments

KEY = "eval_perplexity"
# Any in this module: lines of a log, and what the Trainer hands to every callback.


class PerplexityStoppingCallback(EarlyStoppingCallback):
    """Stops as EarlyStoppingCallback does, and goes on counting where a checkpoint was saved."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Counts the looks before the checkpoint."""
        super().on_train_begin(args, state, control, **kwargs)  # type: ignore[no-untyped-call]
        self.early_stopping_patience_counter = looks_in_vain(state.log_history)


def looks_in_vain(history: Iterable[Mapping[str, Any]]) -> int:
    """Returns how many evaluations there were since the last one that was better than all before.

    Example:
        >>> looks_in_vain({"eval_perplexity": value} for value in (9.0, 7.0, 7.5, 7.0))
        2
    """
    best, count = float("inf"), 0
    for line in history:
        if KEY in line:
            count = 0 if line[KEY] < best else count + 1
            best = min(best, line[KEY])
    return count
