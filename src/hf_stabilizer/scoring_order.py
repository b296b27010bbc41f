"""In which order are rows scored? In their own, also where training batches are grouped by length.

`train_sampling_strategy="group_by_length"` is about training, but the Trainer gives evaluation and
`predict` the same sampler, which shuffles: outputs come back in an order that nobody knows, and row
by row they stand beside the wrong texts. Rows that are prepared here are sorted by length already.

Source: `Trainer._get_eval_sampler`, transformers 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


@contextmanager
def in_their_own_order(args: TrainingArguments) -> Iterator[None]:
    """Within it the Trainer of these arguments scores rows in the order that they have."""
    strategy = args.train_sampling_strategy
    args.train_sampling_strategy = "random"  # The sampler of scored rows is then sequential.
    try:
        yield
    finally:
        args.train_sampling_strategy = strategy


class ScoringOrderCallback(TrainerCallback):
    """Lets each evaluation of a training score rows in their own order. Added last.

    The sampler of training rows is made before the first of these events and is not touched.

    Args:
        datasets: How many sets of rows the Trainer scores each time.
    """

    def __init__(self, datasets: int = 1) -> None:
        self._datasets, self._scored = datasets, 0
        self._changed = ExitStack()

    # Any below: what the Trainer hands to every callback.

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Before an evaluation at the start."""
        if args.eval_on_start:
            self._change(args)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Before an evaluation that is due."""
        if control.should_evaluate:
            self._change(args)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Likewise."""
        self.on_step_end(args, state, control)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Gives the arguments back what they said, before a checkpoint is written."""
        self._scored += 1
        if self._scored >= self._datasets:
            self._changed.close()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Likewise, should an evaluation have been called off."""
        self._changed.close()

    def _change(self, args: TrainingArguments) -> None:
        self._changed.close()
        self._changed.enter_context(in_their_own_order(args))
        self._scored = 0
