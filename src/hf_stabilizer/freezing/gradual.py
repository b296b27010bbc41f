"""What if the layers join in one after the other, from the top downwards?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import TrainerControl, TrainerState, TrainingArguments

from hf_stabilizer.checkpoint_notes import Settings
from hf_stabilizer.errors import ConfigurationError, check_whole
from hf_stabilizer.freezing.lifecycle import FreezingCallback
from hf_stabilizer.freezing.stages import FirstSteps, gradual_unfreezing, rate_factor
from hf_stabilizer.rate_override import RateOverride

# Any in this module: what the Trainer hands to every callback.


class GradualUnfreezingCallback(FreezingCallback):
    """Frees the layers from the top downwards, while training goes on.

        the head       learns from step 1
        stage i        learns from step 1 + floor(i D / S),  i = 1..S
        everything     learns from step D + 1

    D = `duration`. The stages are sets of `blocks_per_stage` blocks from the top downwards (the
    lowest set has what is left), and the embeddings, which are the last one. `duration=0` is the
    plain Trainer. What was frozen before training stays frozen; of a model with adapters only the
    adapters are frozen and freed. Frozen weights do not move by a bit, also under weight decay and
    momentum. The optimizer holds everything from the start; a layer's moments begin with its stage.
    What is frozen follows from the step, so that resuming needs no state. At the end all is
    trainable that was. Under `torch.compile` each stage is compiled anew.

    With `warmup_steps` W > 0 the k-th step (k = 1, 2, ...) in which a freed stage learns uses
    min(1, k / W) of the rate that the schedule gives; what is frozen shows the rate 0, and
    `logs["learning_rate"]` stays the rate that was used. Every stage then needs parameter groups of
    its own, as `layered_optimizer` makes them. Without it rates are left alone, and the Trainer
    logs the schedule's.

    Cannot be combined with `HeadFirstCallback`, DeepSpeed and FSDP 1; `warmup_steps` not with
    another owner of the rate (an SWA learning rate); under DDP not with
    `ddp_find_unused_parameters=False`, which gradient checkpointing means unless it is set.

    Args:
        duration: A share of the run in [0, 1), or from 1 up a number of optimizer steps.
        blocks_per_stage: Blocks that are freed together, from 1 up.
        overrides: Depths for `LayerMap.from_model`; None: as found.
        eval_mode: Keep frozen modules in evaluation mode: no dropout, and batch norm's statistics
            stay; False: only weights are frozen.
        warmup_steps: Optimizer steps over which the rate of a freed stage rises, from 0 up.

    Raises:
        ConfigurationError: A value out of its range, here or in `on_train_begin`; `duration`
            beyond the end of the run; a head in which nothing is trainable.
        LayerDiscoveryError: In `on_train_begin`: a parameter has no depth.
        ResumeError: In `on_train_begin`: the checkpoint was frozen otherwise, or not at all.

    Example:
        >>> from hf_stabilizer import GradualUnfreezingCallback
        >>> callback = GradualUnfreezingCallback(duration=0.8, blocks_per_stage=2)
        >>> callback.first_steps(num_layers=4, max_steps=15)  # S = 3, D = 12
        {0: 13, 1: 9, 2: 9, 3: 5, 4: 5, 5: 1}

    Source: Howard and Ruder 2018, Universal Language Model Fine-tuning for Text Classification,
    section 3.3 (arXiv 1801.06146): one layer more per epoch, and moments and schedule of all layers
    at one time, as here. The warm-up of each stage is ours.
    """

    def __init__(
        self,
        duration: float,
        blocks_per_stage: int = 1,
        *,
        overrides: Mapping[str, int | str] | None = None,
        eval_mode: bool = False,
        warmup_steps: int = 0,
    ):
        super().__init__(duration, overrides=overrides, eval_mode=eval_mode)
        check_whole(blocks_per_stage, "of blocks from 1 up", name="blocks_per_stage", least=1)
        check_whole(warmup_steps, "of optimizer steps from 0 up", name="warmup_steps")
        self.blocks_per_stage = blocks_per_stage
        self.warmup_steps = warmup_steps
        self._override: RateOverride | None = None
        self._group_steps: list[int] = []  # the first step of each group of the optimizer

    def first_steps(self, num_layers: int, max_steps: int) -> FirstSteps:
        """Returns step 1 for the head, and for each depth below it the first step of its stage."""
        return gradual_unfreezing(num_layers, self._steps(max_steps), self.blocks_per_stage)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Sets up, and finds the parameter groups of each stage."""
        self._lift_rates()
        super().on_train_begin(args, state, control, **kwargs)
        if self.warmup_steps == 0 or not self._first_steps:
            return
        optimizer, owner = kwargs["optimizer"], f"{type(self).__name__}(warmup_steps=...)"
        override = RateOverride(optimizer, kwargs["lr_scheduler"], owner=owner, run=state)
        assert override.base_rates  # the schedule has some, or says that it cannot be built upon
        self._group_steps = self._one_step_each(kwargs["model"], optimizer)
        self._override = override

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Frees what learns from this step on, and gives each stage the rate of its warm-up."""
        super().on_step_begin(args, state, control, **kwargs)
        if self._override is None:
            return
        self._override.lift()  # of a step that was begun and broken off
        step, warmup = state.global_step + 1, self.warmup_steps
        self._override.apply(
            [
                rate * rate_factor(step, first_step=first, warmup_steps=warmup)
                for rate, first in zip(self._override.scheduled, self._group_steps, strict=True)
            ]
        )

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Gives the schedule its own rates back."""
        if self._override is not None:
            self._override.lift()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leaves all trainable that was, and the schedule's rates in the optimizer."""
        self._lift_rates()
        super().on_train_end(args, state, control, **kwargs)

    def _settings_of_its_own(self) -> Settings:
        return {
            "blocks_per_stage": int(self.blocks_per_stage),
            "warmup_steps": int(self.warmup_steps),
        }

    def _lift_rates(self) -> None:
        if self._override is not None:
            self._override.lift()
        self._override = None

    def _one_step_each(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> list[int]:
        groups = self._groups_first_steps(model, optimizer)
        for index, (steps, group) in enumerate(zip(groups, optimizer.param_groups, strict=True)):
            if len(steps) > 1:
                raise ConfigurationError(
                    f"warmup_steps={self.warmup_steps!r} needs parameter groups for each stage, "
                    f"and {group.get('name', f'group {index}')} of the optimizer is freed in steps "
                    f"{', '.join(map(str, sorted(steps)))}; hand the Trainer "
                    "optimizer_cls_and_kwargs=layered_optimizer(args, layerwise_decay(1.0)), or "
                    "leave warmup_steps out"
                )
        return [min(steps, default=1) for steps in groups]
