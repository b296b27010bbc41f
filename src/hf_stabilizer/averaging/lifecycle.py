"""When is the mean taken, and when does the model show it?

    optimizer step on the grid   the raw weights go into the mean
    evaluation, prediction       the model shows the mean, until training goes on
    checkpoint                   model.safetensors is the mean; the raw weights lie beside it
    end of training              the model keeps the mean, or the best model if one was loaded

Nothing here knows SWA from EMA.
"""

from __future__ import annotations

import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_stabilizer import sockets
from hf_stabilizer.averaging.checkpoints import (
    AVERAGING_FILE,
    check_settings,
    find_average,
    loadable_folders,
    write_average,
    write_config,
    written_folder,
)
from hf_stabilizer.averaging.conflicts import refuse_conflicts, warn_of_batch_norm
from hf_stabilizer.averaging.weights import AveragedWeights, Update, trained_parameters
from hf_stabilizer.checkpoint_notes import Settings, promise_file, take_up_files
from hf_stabilizer.checkpoints import declare_incomplete
from hf_stabilizer.errors import ConfigurationError, ResumeError, check_whole
from hf_stabilizer.skipped_steps import was_skipped
from hf_stabilizer.steps import check_step, resolve_step

# Any in this module: what the Trainer hands to every callback.


class AveragingCallback(TrainerCallback, ABC):
    """One run's averaging; SWA and EMA are short uses of it.

    A use says which steps are on the grid (`start`, `every`), how the mean moves (`_update`),
    whether the last step of the run belongs to the mean though it is off the grid
    (`_adds_last_step`), and which options a resumed run must share (`_settings`).
    """

    _adds_last_step = False

    def __init__(self, *, start: float, every: int):
        check_step(start, name="start")
        check_whole(every, "of optimizer steps from 1 up", name="every", least=1)
        self.start = start
        self.every = every
        self.read_options: Callable[[], Mapping[str, Any]] | None = None
        """Gives the constructor's options anew when a run begins; None: they stay as they are."""
        self._weights: AveragedWeights | None = None
        self._hook: RemovableHandle | None = None
        self._first_step = 1
        self._written_step = 0
        self._is_between_steps = False

    @abstractmethod
    def _update(self) -> Update:
        """Returns how the mean moves."""

    @abstractmethod
    def _settings(self) -> Settings:
        """Returns the options, besides the grid, that a resumed run must share."""

    def _take_options(self) -> None:
        if self.read_options is not None:
            fresh = type(self)(**self.read_options())
            names = inspect.signature(type(self)).parameters
            vars(self).update({name: getattr(fresh, name) for name in names})

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Sets up; may be called again for another attempt at the same run."""
        self._take_options()
        model, optimizer = kwargs["model"], kwargs["optimizer"]
        self._refuse_a_second_averaging(optimizer, state)
        refuse_conflicts(type(self).__name__, model, optimizer)
        warn_of_batch_norm(model)
        self._recover_raw_weights(model, state)
        self._args, self._state, self._control = args, state, control
        self._first_step = max(1, resolve_step(self.start, state.max_steps))
        self._written_step, self._is_between_steps = 0, False
        self._weights = AveragedWeights(model, trained_parameters(model, optimizer), self._update())
        if state.global_step > 0:
            self._restore()
        take_up_files(state)
        sockets.connect(optimizer, self, run=state)
        self._hook = sockets.before_state_dict(model, self._before_state_dict)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leaves the mean in the model, unless a best model was loaded into it."""
        if self._weights is None:
            return
        sockets.disconnect(kwargs["optimizer"], self)
        if self._hook is not None:
            self._hook.remove()
        best = state.best_model_checkpoint if args.load_best_model_at_end else None
        if best is None or not Path(best).exists():  # then the Trainer loaded none
            self._weights.keep_mean(with_current=self._adds_last_step)
        self._weights = None

    def _refuse_a_second_averaging(
        self, optimizer: torch.optim.Optimizer, state: TrainerState
    ) -> None:
        for other in sockets.listeners(optimizer, run=state):
            if isinstance(other, AveragingCallback) and other is not self:
                raise ConfigurationError(
                    f"one averaging per run, got {type(other).__name__} and {type(self).__name__}; "
                    "remove one of the two from the callbacks"
                )

    def _recover_raw_weights(self, model: nn.Module, state: TrainerState) -> None:
        """Takes the mean out of a model that an exception left in the middle of an evaluation."""
        left = self._weights
        if left and left.model is model and state.global_step == 0 and left.shows_mean():
            left.show_raw()

    def _restore(self) -> None:
        weights, step = self._averaged, self._state.global_step
        folders = loadable_folders(self._args, self._state)
        saved, reasons = find_average(folders, weights, step=step)
        if saved is not None:
            check_settings(saved, self._resolved_settings())
            weights.load(
                raw=saved.raw, mean=saved.mean, count=saved.count, is_current=saved.is_current
            )
        elif step >= self._first_step:
            raise ResumeError(
                f"no {AVERAGING_FILE} belongs to the loaded weights of step {step} "
                f"({'; '.join(reasons)}); averaging had begun at step {self._first_step}: set "
                "resume_from_checkpoint in the TrainingArguments to the checkpoint's folder, or "
                "resume from a checkpoint before that step"
            )

    def _resolved_settings(self) -> Settings:
        return {
            "averaging": type(self).__name__,
            "start": self._first_step,
            "every": self.every,
            **self._settings(),
        }

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Training goes on: the next state_dict is of raw weights."""
        self._is_between_steps = False

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes the weights into the mean when the step is on the grid.

        Here, and not at the end of the step, so that an evaluation by hand of a callback that
        stands earlier in the list measures them too.
        """
        weights, step = self._averaged, state.global_step + 1
        if was_skipped(kwargs["optimizer"], run=state, step=step):
            return
        weights.is_current = False
        if step >= self._first_step and (step - self._first_step) % self.every == 0:
            weights.add()

    def before_evaluation(self) -> None:
        """The optimizer's `eval`: the model shows the mean."""
        self._averaged.show_mean(with_current=self._shows_last_step)

    def before_training(self) -> None:
        """The optimizer's `train`: the model shows the raw weights."""
        self._averaged.show_raw()

    @property
    def _shows_last_step(self) -> bool:
        return self._adds_last_step and self._state.global_step >= self._state.max_steps

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A checkpoint may be written from here on."""
        self._is_between_steps, self._control = True, control
        if state.global_step >= self._first_step:
            promise_file(state, AVERAGING_FILE)

    on_epoch_end = on_evaluate = on_step_end

    def _before_state_dict(self) -> None:
        """The Trainer writes a checkpoint: model.safetensors is to hold the mean.

        Only here is it certain that it does, whichever callback asked for it and whether or not an
        evaluation came before; and here neither rotation nor a push to the Hub has seen the folder.
        That the folder is there tells the Trainer's call from that of a callback which looks at
        the weights; under FSDP2 and DeepSpeed the state is gathered before there is a folder.
        """
        if not (self._is_between_steps and self._control.should_save):
            return
        args, state = self._args, self._state
        if args.should_save and not state.is_hyper_param_search:
            declare_incomplete(written_folder(args, state))
        is_gathered_first = args.deepspeed is not None or self._averaged.are_sharded
        is_known = not is_gathered_first and not state.is_hyper_param_search
        folder = written_folder(args, state)
        if is_known and not folder.is_dir():
            return
        self.before_evaluation()
        if is_known:
            self._write(folder)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Writes what could not be written before the folder was there."""
        folder = written_folder(args, state)
        if args.should_save and self._averaged.mean and not self._averaged.is_mean_shown:
            warnings.warn(
                f"the model in {folder} holds the raw weights and not their mean, for this Trainer "
                "wrote it without calling model.state_dict()",
                stacklevel=2,
            )
        self._write(folder)
        if args.should_save and self._averaged.are_sharded:
            write_config(folder, kwargs["model"])

    def _write(self, folder: Path) -> None:
        step = self._state.global_step
        if step < self._first_step or self._written_step == step:
            return
        if not self._args.should_save and not self._averaged.are_sharded:
            return
        write_average(
            folder / AVERAGING_FILE,
            self._averaged,
            step=step,
            shows_current=self._shows_last_step,
            settings=self._resolved_settings(),
            is_writer=self._args.should_save,
        )
        self._written_step = step

    @property
    def _averaged(self) -> AveragedWeights:
        assert self._weights is not None  # on_train_begin comes first
        return self._weights
