"""Who sets the learning rate of this step, if not the schedule? One callback at a time.

    on_step_begin       apply(rates)    the groups hold our rates, and the Trainer will log them
    on_optimizer_step   lift()          the groups hold the schedule's again

The schedule never sees the other rates, so that it may be one that computes its next rate from the
last, and a checkpoint holds its rates alone. Two callbacks that set rates would each undo the
other's, and neither would know what was used: the second one is refused.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch

from hf_stabilizer.errors import ConfigurationError

# optimizer -> (the run that it steps in, who sets its rates there)
_owners: WeakKeyDictionary[torch.optim.Optimizer, tuple[object, str]] = WeakKeyDictionary()


class RateOverride:
    """Other rates than the scheduled ones, for the length of one optimizer step.

    Args:
        optimizer: The Trainer's optimizer, as callbacks are handed it.
        scheduler: Its schedule, as callbacks are handed it.
        owner: What asks for the rates, with the option that made it ask; for the messages.
        run: What tells one run of the Trainer from the next, its `state`.

    Raises:
        ConfigurationError: Another callback sets the rates of this run already.

    Example:
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
        >>> override = RateOverride(optimizer, schedule, owner="a warm-up", run=object())
        >>> override.apply([0.5])
        >>> schedule.get_last_lr(), override.scheduled
        ([0.5], [0.5])
        >>> override.lift()
        >>> override.scheduled
        [1.0]
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        scheduler: Any,  # Any: duck-typed
        *,
        owner: str,
        run: object,
    ):
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._owner = owner
        self._applied: list[tuple[float, float]] = []  # (scheduled, ours) of each group
        self._claim(run)

    def _claim(self, run: object) -> None:
        inner = getattr(self._optimizer, "optimizer", self._optimizer)  # accelerate's wrapper
        other_run, other = _owners.get(inner, (None, self._owner))
        if other_run is run and other != self._owner:
            raise ConfigurationError(
                f"one owner of the learning rate per run, got {other} and {self._owner}; leave one "
                "of the two out, and the schedule's rates stand in its place"
            )
        _owners[inner] = (run, self._owner)

    @property
    def base_rates(self) -> list[float]:
        """The groups' rates before the schedule.

        Raises:
            ConfigurationError: The schedule follows a metric, and may change rates at any time.
        """
        if not hasattr(self._scheduler, "base_lrs"):
            raise ConfigurationError(
                f"{self._owner} needs a schedule that is a function of the step, got "
                f"{type(self._scheduler).__name__}; use another lr_scheduler_type, or leave it out"
            )
        return list(self._scheduler.base_lrs)

    @property
    def scheduled(self) -> list[float]:
        """What the groups hold: between steps, what the schedule gives for the next one."""
        return [group["lr"] for group in self._optimizer.param_groups]

    def apply(self, rates: list[float]) -> None:
        """Puts `rates` into the groups, and into what the Trainer logs."""
        self._applied = list(zip(self.scheduled, rates, strict=True))
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        # The Trainer logs `scheduler.get_last_lr()`, read after the step; no schedule computes
        # with it, and its next step writes it anew.
        self._scheduler._last_lr = list(rates)

    def lift(self) -> None:
        """Puts the schedule's own rates back, unless a new schedule has set others since."""
        for group, (scheduled, ours) in zip(
            self._optimizer.param_groups, self._applied, strict=False
        ):
            if group["lr"] == ours:
                group["lr"] = scheduled
        self._applied = []
