"""Which optimizer step is meant? The one reading of every `start` and `duration`.

transformers' own convention for `warmup_steps`: a number below 1 is a share of the run, from 1 up
it is a count of optimizer steps.
"""

from __future__ import annotations

import math

from hf_stabilizer.errors import ConfigurationError


def check_step(value: float, *, name: str = "start") -> None:
    """Raises if `value` can mean no step of any run, whatever its length.

    Raises:
        ConfigurationError: Not a number in [0, 1) and not a whole number from 1 up.

    Example:
        >>> check_step(0.75)
        >>> check_step(1.5, name="duration")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: duration must be a share of the run in [0, 1) or a
        whole number of optimizer steps from 1 up, got 1.5
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not (0 <= value < 1 or (value >= 1 and float(value).is_integer())):
        raise ConfigurationError(
            f"{name} must be a share of the run in [0, 1) or a whole number of optimizer steps "
            f"from 1 up, got {value!r}"
        )


def resolve_step(value: float, max_steps: int, *, name: str = "start") -> int:
    """Returns the optimizer step that `value` means in a run of `max_steps` steps.

    Below 1 it is a share of the run, step ceil(value * max_steps) in plain floating point as
    transformers computes it; from 1 up it is the number of the step itself. 0 stays 0.

    Args:
        value: A share in [0, 1), or a whole number of optimizer steps.
        max_steps: Optimizer steps of the whole run.
        name: The option that is being read, for the message.

    Raises:
        ConfigurationError: The value can mean no step (1.5, -1), or one beyond the end of the run.

    Example:
        >>> resolve_step(0.75, 10), resolve_step(3, 10), resolve_step(0, 10)
        (8, 3, 0)
    """
    check_step(value, name=name)
    step = math.ceil(value * max_steps) if value < 1 else int(value)
    if step > max_steps:
        raise ConfigurationError(
            f"{name} must lie within the run's {max_steps} optimizer steps, got {value!r}; use a "
            "smaller number, or a share of the run below 1"
        )
    return step
