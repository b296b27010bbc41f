"""When do we look? Evaluations spread over each epoch, which leave training as it was.

In an epoch of S optimizer steps the evaluations come after steps ceil(j S / times), j = 1..times.
Dodge et al. 2020 (arXiv:2002.06305) look ten times per epoch. Each look draws random numbers; here
they are put back, so that looking changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy, SaveStrategy, has_length

from hf_stabilizer import sockets
from hf_stabilizer.checkpoint_notes import warn_of_files_left
from hf_stabilizer.errors import ConfigurationError, check_whole
from hf_stabilizer.random_state import remember_random_state

# Any in this module: what the Trainer hands to every callback.


class EvaluationsPerEpochCallback(TrainerCallback):
    """Evaluates several times in each epoch, without a trace in the training.

    In an epoch of S optimizer steps, after steps ceil(j S / times) for j = 1..times (after every
    step when times > S), and after the planned last step of the run. An `eval_strategy` of its own
    adds its steps; no step is evaluated twice. `eval_delay` holds back these evaluations as well:
    it counts steps with `eval_strategy="steps"`, else epochs. A training set without a length is
    one epoch of `max_steps`.

    The random number generators (python, numpy, torch, accelerator) are put back after every
    evaluation and prediction, whatever asked for it: the trained weights are, bit for bit, those
    of the same run without evaluations. `times=0` does that alone.

    For early stopping set `eval_strategy="epoch"`, which EarlyStoppingCallback wants to see. Cannot
    be combined with `load_best_model_at_end` where an evaluation has no checkpoint; use
    `save_strategy="best"`.

    Args:
        times: Evaluations in an epoch, from 0 up.

    Raises:
        ConfigurationError: `times` is not a whole number from 0 up; in `on_train_begin`: the best
            model may be one that no checkpoint holds.

    Example:
        >>> from hf_stabilizer import EvaluationsPerEpochCallback
        >>> callback = EvaluationsPerEpochCallback(times=3)
        >>> [step for step in range(1, 21) if callback.is_due(step, steps_per_epoch=10)]
        [4, 7, 10, 14, 17, 20]

    Source: Dodge, Ilharco, Schwartz, Farhadi, Hajishirzi, Smith 2020, Fine-Tuning Pretrained
    Language Models: Weight Initializations, Data Orders, and Early Stopping (arXiv:2002.06305),
    who evaluate ten times per epoch. Putting the random numbers back is ours.
    """

    def __init__(self, times: int):
        check_whole(times, "of evaluations per epoch from 0 up", name="times")
        self.times = times
        self._steps_per_epoch = 1
        self._evaluated_step = 0
        self._restore_rng: Callable[[], None] | None = None

    def is_due(self, step: int, *, steps_per_epoch: int) -> bool:
        """Whether the optimizer step (from 1 up, over all epochs) is one of ceil(j S / times)."""
        in_epoch = (step - 1) % steps_per_epoch + 1
        # Some whole j has s - 1 < j S / times <= s: in whole numbers, for ceil must be exact.
        done, before = in_epoch * self.times, (in_epoch - 1) * self.times
        return done // steps_per_epoch > before // steps_per_epoch

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Counts the steps of an epoch, and begins to hear of evaluations."""
        self._steps_per_epoch = _steps_per_epoch(args, state, kwargs["train_dataloader"])
        self._evaluated_step = 0
        self._restore_rng = None
        self._device = args.device
        self._refuse_a_best_model_without_checkpoint(args, state)
        sockets.connect(kwargs["optimizer"], self, run=state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Hears of evaluations no more."""
        sockets.disconnect(kwargs["optimizer"], self)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tells of averages that a resumed run has lost."""
        warn_of_files_left(state)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Asks for an evaluation where one is due."""
        if self._is_wanted(args, state):
            control.should_evaluate = True
        if control.should_evaluate:
            self._evaluated_step = state.global_step

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Withdraws the strategy's evaluation of a step that was just evaluated."""
        if self._evaluated_step == state.global_step:
            control.should_evaluate = False

    def _is_wanted(self, args: TrainingArguments, state: TrainerState) -> bool:
        step = state.global_step
        passed = step if args.eval_strategy == IntervalStrategy.STEPS else state.epoch or 0
        is_last = self.times > 0 and step >= state.max_steps
        is_due = self.is_due(step, steps_per_epoch=self._steps_per_epoch)
        return (is_last or is_due) and args.eval_delay <= passed

    def _refuse_a_best_model_without_checkpoint(
        self, args: TrainingArguments, state: TrainerState
    ) -> None:
        if not args.load_best_model_at_end or args.save_strategy == SaveStrategy.BEST:
            return
        for step in range(1, state.max_steps + 1):
            is_due = self.is_due(step, steps_per_epoch=self._steps_per_epoch)
            if is_due and not self._is_saved(step, args, state):
                strategy = SaveStrategy(args.save_strategy).value
                raise ConfigurationError(
                    "load_best_model_at_end needs a checkpoint of every evaluation, and there is "
                    f"none of step {step} with save_strategy={strategy!r} and "
                    f'{self.times} evaluations per epoch; set save_strategy="best"'
                )

    def _is_saved(self, step: int, args: TrainingArguments, state: TrainerState) -> bool:
        if step == state.max_steps:
            return args.save_strategy != SaveStrategy.NO
        if args.save_strategy == SaveStrategy.STEPS:
            return state.save_steps > 0 and step % state.save_steps == 0
        return args.save_strategy == SaveStrategy.EPOCH and step % self._steps_per_epoch == 0

    def before_evaluation(self) -> None:
        """The optimizer's `eval`: remembers where the random number generators stand."""
        self._restore_rng = self._restore_rng or remember_random_state(self._device)

    def before_training(self) -> None:
        """The optimizer's `train`: an evaluation that was broken off is forgotten."""
        self._restore_rng = None

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Puts the random number generators back.

        Here, and not when training goes on: by then the next batch has been drawn.
        """
        self._put_rng_back()

    def on_predict(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Any,
        **kwargs: Any,
    ) -> None:
        """Puts the random number generators back."""
        self._put_rng_back()

    def _put_rng_back(self) -> None:
        if self._restore_rng is not None:
            self._restore_rng()
        self._restore_rng = None


def _steps_per_epoch(args: TrainingArguments, state: TrainerState, dataloader: Any) -> int:
    if not has_length(dataloader):
        return max(1, state.max_steps)
    return max(1, math.ceil(len(dataloader) / args.gradient_accumulation_steps))
