"""When does a running Trainer freeze, and when does it free again?

    training begins    what is to be frozen is found by name; the optimizer holds all of it
    a step begins      what does not learn in this step requires no grad
    training ends      all that was trainable is trainable again

Nothing here knows one plan of freezing from another.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_stabilizer import sockets
from hf_stabilizer.checkpoint_notes import Settings, hold_to_settings, warn_of_files_left
from hf_stabilizer.errors import ConfigurationError, check_switch
from hf_stabilizer.freezing.conflicts import refuse_conflicts
from hf_stabilizer.freezing.held import (
    check_optimizer,
    claim,
    freeze_only,
    held,
    release,
    trainable,
)
from hf_stabilizer.freezing.resting import resting_modules
from hf_stabilizer.freezing.sharded import is_sharded, lay_in_states, warn_of_resuming
from hf_stabilizer.freezing.stages import FirstSteps
from hf_stabilizer.layers import LayerMap
from hf_stabilizer.steps import check_step, resolve_step

# Any in this module: what the Trainer hands to every callback.


class FreezingCallback(TrainerCallback, ABC):
    """One run's freezing; head first and gradual unfreezing are short uses of it.

    A use says from which step each depth learns (`first_steps`).
    """

    def __init__(
        self,
        duration: float,
        *,
        overrides: Mapping[str, int | str] | None,
        eval_mode: bool,
    ):
        check_step(duration, name="duration")
        check_switch(eval_mode, name="eval_mode")
        self.duration = duration
        self.overrides = overrides
        self.eval_mode = eval_mode
        self.read_options: Callable[[], Mapping[str, Any]] | None = None
        """Gives the constructor's options anew when a run begins; None: they stay as they are."""
        self._first_steps: dict[str, int] = {}  # parameter name -> the first step it learns in
        self._resting: list[nn.Module] = []
        self._is_sharded = False

    @abstractmethod
    def first_steps(self, num_layers: int, max_steps: int) -> FirstSteps:
        """Returns the first optimizer step, from 1 up, in which each depth 0..N + 1 learns.

        Args:
            num_layers: N, the number of blocks of the model.
            max_steps: Optimizer steps of the whole run.

        Raises:
            ConfigurationError: `duration` lies beyond the end of the run.
        """

    def _steps(self, max_steps: int) -> int:
        return resolve_step(self.duration, max_steps, name="duration")

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Sets up; may be called again for another attempt at the same run."""
        self._take_options()
        model, optimizer = kwargs["model"], kwargs["optimizer"]
        self._first_steps, self._resting = {}, []
        hold_to_settings(state, self._settings(state.max_steps), technique=type(self).__name__)
        if self._steps(state.max_steps) == 0:
            return
        claim(model, self, run=state)
        refuse_conflicts(type(self).__name__, args, model)
        check_optimizer(model, optimizer)
        self._first_steps = self._plan(model, state.max_steps)
        self._is_sharded = is_sharded(model)
        if self._is_sharded:
            warn_of_resuming(type(self).__name__, args, optimizer)
        if self.eval_mode:
            sockets.connect(optimizer, self, run=state)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Freezes what does not learn in this step, and frees what does."""
        warn_of_files_left(state)
        if not self._first_steps:
            return
        model, step = kwargs["model"], state.global_step + 1
        frozen = {name for name, first in self._first_steps.items() if step < first}
        if frozen != held(model):
            freeze_only(model, frozen)
            self._resting = resting_modules(model, frozen) if self.eval_mode else []

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Lets a sharded run, which may be saved now, be loaded again."""
        if self._first_steps and self._is_sharded:
            lay_in_states(kwargs["optimizer"])

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leaves all trainable that was."""
        if not self._first_steps:
            return
        sockets.disconnect(kwargs["optimizer"], self)
        release(kwargs["model"])
        for module in self._resting:
            module.train(kwargs["model"].training)
        self._first_steps, self._resting = {}, []

    def before_evaluation(self) -> None:
        """The optimizer's `eval`: every module is in evaluation mode already."""

    def before_training(self) -> None:
        """The optimizer's `train`: just now the Trainer has put all modules in training mode."""
        for module in self._resting:
            module.eval()

    def _take_options(self) -> None:
        if self.read_options is not None:
            fresh = type(self)(**self.read_options())
            names = inspect.signature(type(self)).parameters
            vars(self).update({name: getattr(fresh, name) for name in names})

    def _settings(self, max_steps: int) -> Settings:
        """Returns the options that a resumed run must share; none where nothing is frozen."""
        duration = self._steps(max_steps)
        if duration == 0:
            return {}
        return {
            "duration": duration,
            "overrides": dict(self.overrides or {}),
            "eval_mode": self.eval_mode,
            **self._settings_of_its_own(),
        }

    def _settings_of_its_own(self) -> Settings:
        return {}

    def _plan(self, model: nn.Module, max_steps: int) -> dict[str, int]:
        layer_map = LayerMap.from_model(model, overrides=self.overrides)
        first_steps = self.first_steps(layer_map.num_layers, max_steps)
        plan = {name: first_steps[layer_map.depth_of(name)] for name in trainable(model)}
        if 1 not in plan.values():
            raise ConfigurationError(
                f"{type(self).__name__} begins with the head alone, and the head of "
                f"{type(model).__name__} has no trainable parameter (a tied one counts as "
                'embeddings); say what its head is with overrides={"glob": "head"}, or leave the '
                "callback out"
            )
        return plan

    def _groups_first_steps(
        self, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> list[set[int]]:
        """The first steps of the parameters in each of the optimizer's groups."""
        first = {id(p): self._first_steps[name] for name, p in trainable(model).items()}
        return [
            {first[id(p)] for p in group["params"] if id(p) in first}
            for group in optimizer.param_groups
        ]
