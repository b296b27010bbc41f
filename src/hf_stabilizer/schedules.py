"""Which factor scales every rate at this step? The schedule, the same for all layers.

    rate(step, layer) = first rate of the layer x factor(step)

No schedule of our own: transformers' make one function of the step and apply it to every group,
and those that do not are refused here. The slanted triangular schedule of Howard and Ruder 2018
(arXiv 1801.06146, section 3.2) is their `warmup_stable_decay` without the stable part:

    lr_scheduler_type="warmup_stable_decay", warmup_steps=0.1,
    lr_scheduler_kwargs={"num_stable_steps": 0, "decay_type": "linear", "min_lr_ratio": 1 / 32}
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainingArguments, get_scheduler

from hf_stabilizer.errors import ConfigurationError, check_whole
from hf_stabilizer.learning_rates import batch_size_factor


def create_scheduler(
    optimizer: Optimizer, args: TrainingArguments, num_training_steps: int
) -> LambdaLR:
    """Makes the schedule that `args` describe, the same factor for every group.

    It is transformers' own, as the Trainer would make it: warm-up from `args.warmup_steps`, shape
    from `args.lr_scheduler_type` and `lr_scheduler_kwargs`. Each group's rate at a step is its own
    first rate times one common factor, so the ratios between layers never change; an absolute
    floor (`min_lr`, `lr_end`) is the top block's, the others end at it times their ratio.

    `warmup_stable_decay` may be told `num_stable_steps` without `num_decay_steps`: it then decays
    over all that is left of the run (`complete_schedule`).

    Args:
        optimizer: An optimizer whose groups already have their rates.
        args: Describe the schedule.
        num_training_steps: Optimizer steps of the whole run, from 1 up.

    Returns:
        The schedule, the second half of `Trainer(optimizers=(optimizer, scheduler))`.

    Raises:
        ConfigurationError: The schedule changes each group's rate on its own (ReduceLROnPlateau,
            greedy), or does not take the arguments given in `lr_scheduler_kwargs`.

    Example:
        >>> import tempfile, torch
        >>> args = TrainingArguments(tempfile.gettempdir(), warmup_steps=2)
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> create_scheduler(optimizer, args, 10).get_last_lr()  # the first step of the warm-up
        [0.0]
    """
    if isinstance(num_training_steps, bool) or num_training_steps < 1:
        raise ConfigurationError(
            f"num_training_steps must be from 1 up, got {num_training_steps!r}; give the optimizer "
            "steps of the whole run"
        )
    kwargs = complete_schedule(args, num_training_steps)
    try:
        schedule = get_scheduler(
            args.lr_scheduler_type,
            optimizer,
            num_warmup_steps=args.get_warmup_steps(num_training_steps),
            num_training_steps=num_training_steps,
            scheduler_specific_kwargs=kwargs if isinstance(kwargs, dict) else None,
        )
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ConfigurationError(
            f"lr_scheduler_type={_value(args.lr_scheduler_type)!r} cannot be made with "
            f"lr_scheduler_kwargs={args.lr_scheduler_kwargs!r}: {error}"
        ) from error
    if not isinstance(schedule, LambdaLR) or len({id(f) for f in schedule.lr_lambdas}) > 1:
        raise ConfigurationError(
            f"lr_scheduler_type={_value(args.lr_scheduler_type)!r} changes each rate on its own, "
            "which breaks the ratios between layers; choose a schedule known in advance, such "
            "as 'linear' or 'cosine'"
        )
    return schedule


class _Completed(dict[str, Any]):
    """Arguments of a schedule that know which ones they were worked out from.

    So that they can stand in `args` and be worked out again for a run of another length.
    """

    given: dict[str, Any]


def complete_schedule(args: TrainingArguments, num_training_steps: int) -> Any:
    """Returns `args.lr_scheduler_kwargs` with what follows from the length of the run.

    transformers' `warmup_stable_decay` wants `num_decay_steps`, a number that no recipe can know;
    where `num_stable_steps` is given instead, the decay takes what is left: T - warm-up - stable.
    All else is returned as it is. What was completed may be put back into `args`: completing it
    again begins from what was given.

    Raises:
        ConfigurationError: `num_stable_steps` is no whole number from 0 up.

    Example:
        >>> import tempfile
        >>> args = TrainingArguments(tempfile.gettempdir(), warmup_steps=0.1,
        ...     lr_scheduler_type="warmup_stable_decay",
        ...     lr_scheduler_kwargs={"num_stable_steps": 0, "decay_type": "linear"})
        >>> complete_schedule(args, 50)
        {'decay_type': 'linear', 'num_decay_steps': 45}
    """
    kwargs = getattr(args.lr_scheduler_kwargs, "given", args.lr_scheduler_kwargs)
    if _value(args.lr_scheduler_type) != "warmup_stable_decay" or not isinstance(kwargs, dict):
        return kwargs
    stable, decay = (kwargs.get(name) for name in ("num_stable_steps", "num_decay_steps"))
    if stable is None or decay is not None:
        return kwargs
    check_whole(stable, "of optimizer steps from 0 up", name="num_stable_steps")
    # Not by way of `args`, whose own method may be what asks.
    warmup = TrainingArguments.get_warmup_steps(args, num_training_steps)
    rest = num_training_steps - warmup - stable
    # transformers works the stable steps out again, and warns where it is told them, too.
    told = {name: value for name, value in kwargs.items() if name != "num_stable_steps"}
    completed = _Completed({**told, "num_decay_steps": max(0, rest)})
    completed.given = kwargs
    return completed


def check_schedule(args: TrainingArguments) -> None:
    """Makes the schedule once, over two groups of nothing, and asks whether ratios are kept."""
    groups = [{"params": [nn.Parameter(torch.empty(0))]} for _ in range(2)]
    probe = torch.optim.SGD(groups, lr=args.learning_rate * batch_size_factor(args))
    with warnings.catch_warnings():
        # Whatever there is to say is said when the real one is made.
        warnings.simplefilter("ignore")
        create_scheduler(probe, args, args.max_steps if args.max_steps > 0 else 1000)


def _value(choice: Any) -> Any:  # Any: an enum of transformers, or its value
    """The value of transformers' enums, whose `str()` is the name of the member."""
    return getattr(choice, "value", choice)
