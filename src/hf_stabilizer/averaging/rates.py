"""How fast does the path move while it is averaged? The SWA rate.

Step start + k uses  (1 - a) scheduled + a target,  a = min(1, k / anneal_steps)  ("linear")
                                                    a = (1 - cos(pi a)) / 2       ("cosine")

Izmailov et al. 2018, Averaging Weights Leads to Wider Optima and Better Generalization, section
3.2 (arXiv:1803.05407), and torch.optim.swa_utils.SWALR for the annealing. Unlike SWALR it blends
with the schedule that goes on below, and is a pure function of the step: resuming needs no state.
"""

from __future__ import annotations

import math
from typing import Literal

from hf_stabilizer.errors import ConfigurationError

Anneal = Literal["linear", "cosine"]


def swa_rate(
    step: int,
    *,
    start: int,
    scheduled: float,
    target: float,
    anneal_steps: int = 10,
    anneal: Anneal = "linear",
) -> float:
    """Returns the learning rate of one optimizer step under an SWA rate.

    Args:
        step: The optimizer step, from 1 up.
        start: The step from which the rate moves; before it the rate is the schedule's.
        scheduled: What the schedule gives for this step.
        target: The SWA rate, reached at step start + anneal_steps.
        anneal_steps: Optimizer steps from the one rate to the other; 0 jumps at `start`.
        anneal: Whether the way there is a line or half a cosine.

    Example:
        >>> def rate(step):
        ...     return swa_rate(step, start=6, scheduled=1.0, target=0.0, anneal_steps=4)
        >>> [rate(step) for step in (5, 6, 7, 10, 20)]
        [1.0, 1.0, 0.75, 0.0, 0.0]
    """
    if step < start:
        return scheduled
    share = min(1.0, (step - start) / anneal_steps) if anneal_steps else 1.0
    if anneal == "cosine":
        share = (1 - math.cos(math.pi * share)) / 2
    return (1 - share) * scheduled + share * target


def swa_targets(base_rates: list[float], learning_rate: float, *, keep_ratios: bool) -> list[float]:
    """Returns the SWA rate of each parameter group.

    Args:
        base_rates: The groups' rates before the schedule, the top block's first.
        learning_rate: The SWA rate of the first group.
        keep_ratios: Whether each group keeps its ratio to the first, or all get the same rate.

    Raises:
        ConfigurationError: Ratios to a first group whose rate is 0.

    Example:
        >>> swa_targets([1e-4, 5e-5], 1e-5, keep_ratios=True)
        [1e-05, 5e-06]
        >>> swa_targets([1e-4, 5e-5], 1e-5, keep_ratios=False)
        [1e-05, 1e-05]
    """
    if not keep_ratios:
        return [learning_rate] * len(base_rates)
    if base_rates[0] == 0:
        raise ConfigurationError(
            "keep_ratios needs a first parameter group whose learning rate is above 0, got "
            f"{base_rates[0]!r}; put the top block's group first, or set keep_ratios=False"
        )
    return [learning_rate * (rate / base_rates[0]) for rate in base_rates]
