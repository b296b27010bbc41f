"""How is a mean kept that forgets the early path? Exponential moving averages."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from hf_stabilizer.averaging.lifecycle import AveragingCallback
from hf_stabilizer.averaging.weights import Update
from hf_stabilizer.checkpoint_notes import Settings
from hf_stabilizer.errors import ConfigurationError, check_switch


class EMACallback(AveragingCallback):
    """Averages the weights that training passes through, recent ones with more weight.

        mean_0 = w_start                                          the first update copies
        mean_t = d_t mean_(t-1) + (1 - d_t) w_(start + t every)   t = 1, 2, ...
        d_t    = min(decay, (1 + t) / (10 + t))                   with `warmup`, else decay

    w_s are the weights after optimizer step s. The mean covers about every / (1 - decay) steps;
    `decay=0` leaves the plain Trainer's weights. No last step is added to the grid.

    For the rest as `SWACallback`: evaluations and predictions measure the mean, checkpoints hold
    it, resuming is bit-exact, the raw path is that of a run without averaging. Cannot be combined
    with a second averaging, schedule-free optimizers, DeepSpeed ZeRO-3 and FSDP 1.

    Args:
        decay: The share of the old mean that an update keeps, in [0, 1).
        start: First step of the grid: a share of the run in [0, 1), or from 1 up an optimizer
            step; 0 means 1.
        every: Optimizer steps between two updates, from 1 up.
        warmup: Start with a smaller decay, so that a short run is not stuck at its first weights.

    Raises:
        ConfigurationError: A value out of its range, here or in `on_train_begin`.
        ResumeError: In `on_train_begin`: the checkpoint was averaged with other settings, or its
            `averaging.safetensors` is missing though averaging had begun.

    Example:
        >>> from hf_stabilizer import EMACallback
        >>> [round(EMACallback(decay=0.9).decay_at(t), 3) for t in (1, 9, 1000)]
        [0.182, 0.526, 0.9]

    Source: Polyak and Juditsky 1992, Acceleration of Stochastic Approximation by Averaging;
    the warm-up is that of tf.train.ExponentialMovingAverage (`num_updates`).
    """

    def __init__(self, decay: float = 0.999, start: float = 0, every: int = 1, warmup: bool = True):
        super().__init__(start=start, every=every)
        is_number = isinstance(decay, int | float) and not isinstance(decay, bool)
        if not is_number or not 0 <= decay < 1:
            raise ConfigurationError(
                f"decay must be in [0, 1), got {decay!r}; 0 keeps nothing of the old mean"
            )
        check_switch(warmup, name="warmup")
        self.decay = decay
        self.warmup = warmup

    def decay_at(self, update: int) -> float:
        """Returns the share of the old mean that the t-th update after the first keeps."""
        return min(self.decay, (1 + update) / (10 + update)) if self.warmup else self.decay

    def _update(self) -> Update:
        ema_multi_avg_fn: Callable[[float], Update] = get_ema_multi_avg_fn

        def update(means: list[torch.Tensor], current: list[torch.Tensor], count: int) -> None:
            # After `count` updates, the first of which copied, this is number t = count.
            ema_multi_avg_fn(self.decay_at(count))(means, current, count)

        return update

    def _settings(self) -> Settings:
        return {"decay": self.decay, "warmup": self.warmup}
