r"""How fast does this depth learn? Curves from depth to multiplier, and the rate for a batch size.

A curve is any function `(depth, num_layers) -> multiplier` for depth 0 (the embeddings) to N (the
top block):

    layerwise_decay(0.9)          grouped_rates([.3, .5, 1])     cosine_rates(0.1)

    1  |              .-'         1  |           ____            1  |            __.-
       |         .-'                 |      ____|                   |         .-'
       |    .-'                      | ____|                        |      .-'
       |.-'                          |                              | __.-'
       +----------------             +----------------              +----------------
        0     depth     N             0     depth     N              0     depth     N

A block learns at `args.learning_rate` times its multiplier. The head (depth N+1) has a rate of its
own. Nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Literal, TypeAlias

from hf_stabilizer.errors import ConfigurationError

if TYPE_CHECKING:
    from transformers import TrainingArguments

Curve: TypeAlias = Callable[[int, int], float]
"""`(depth, num_layers) -> multiplier`, asked for depth 0..num_layers."""


def layerwise_decay(decay: float) -> Curve:
    """Makes each layer learn `decay` times as fast as the one above it (LLRD).

    Depth k of N gets `decay ** (N - k)`: the top block 1, the embeddings `decay ** N`. `decay=1` is
    the plain Trainer.

    Args:
        decay: Ratio of the rates of neighbouring layers, in (0, 1]. Published values are 0.95 and
            0.9 for BERT-like encoders, 1/2.6 for ULMFiT.

    Returns:
        The curve, for `param_groups` or `layered_optimizer`.

    Raises:
        ConfigurationError: `decay` is not in (0, 1].

    Example:
        >>> curve = layerwise_decay(0.5)
        >>> [curve(depth, 3) for depth in range(4)]
        [0.125, 0.25, 0.5, 1.0]

    Source:
        Howard and Ruder 2018, section 3.2 (discriminative fine-tuning), arXiv 1801.06146; Zhang et
        al. 2021, section 3, arXiv 2006.05987, who found no smaller spread from it alone.
    """
    decay = _number("decay", decay)
    if not 0 < decay <= 1:
        raise ConfigurationError(
            f"decay must be in (0, 1], got {decay!r}; use 1.0 for equal learning rates"
        )
    return partial(_layerwise_decay, decay=decay)


def grouped_rates(multipliers: Sequence[float]) -> Curve:
    """Cuts the blocks into even sets, from the input upwards, each with one multiplier.

    The remainder goes one each to the upper sets (14 blocks in 3 sets: 4, 5, 5); the embeddings
    share the first multiplier. `[1.0]` is the plain Trainer. The last multiplier need not be 1: a
    block's rate is always `args.learning_rate` times its own multiplier.

    Args:
        multipliers: One positive number per set, lowest set first; at most as many as blocks.

    Returns:
        The curve; it raises `ConfigurationError` for a model with fewer blocks than multipliers.

    Raises:
        ConfigurationError: There is no multiplier, or one is not a finite number above 0.

    Example:
        >>> curve = grouped_rates([0.25, 0.5, 1.0])
        >>> [curve(depth, 4) for depth in range(5)]
        [0.25, 0.25, 0.5, 1.0, 1.0]

    Source:
        Peggy Chang, "Advanced techniques for fine-tuning transformers", Towards Data Science 2021
        (1e-6, 1.75e-6 and 3.5e-6 for the lower, middle and upper four blocks of RoBERTa-base).
    """
    numbers = _numbers("multipliers", multipliers)
    if min(numbers) <= 0:
        raise ConfigurationError(
            f"multipliers must be above 0, got {min(numbers)!r}; freeze layers with freeze_layers"
        )
    return partial(_grouped_rates, multipliers=numbers)


def grouped_decays(multipliers: Sequence[float]) -> Curve:
    """Cuts the blocks as `grouped_rates` does; here a multiplier may be 0, which freezes nothing.

    Raises:
        ConfigurationError: There is no multiplier, or one is not a finite number from 0 up.

    Example:
        >>> curve = grouped_decays([1.0, 0.0])
        >>> [curve(depth, 2) for depth in range(3)]
        [1.0, 1.0, 0.0]
    """
    numbers = _numbers("multipliers", multipliers)
    if min(numbers) < 0:
        raise ConfigurationError(f"multipliers must be from 0 up, got {min(numbers)!r}")
    return partial(_grouped_rates, multipliers=numbers)


def cosine_rates(lowest: float) -> Curve:
    """Raises the rate from the embeddings to the top block along half a cosine.

    Depth k of N gets `lowest + (1 - lowest) (1 - cos(pi k / N)) / 2`: the embeddings `lowest`, the
    top block 1. `lowest=1` is the plain Trainer; `lowest=0` does not move the embeddings.

    Args:
        lowest: Multiplier of the embeddings, in [0, 1].

    Returns:
        The curve, for `param_groups` or `layered_optimizer`.

    Raises:
        ConfigurationError: `lowest` is not in [0, 1].

    Example:
        >>> curve = cosine_rates(0.2)
        >>> [round(curve(depth, 2), 6) for depth in range(3)]
        [0.2, 0.6, 1.0]

    Source:
        The idea is Radek Osmulski's (Kaggle science exam, 2023); his formula is unpublished, this
        one is ours.
    """
    lowest = _number("lowest", lowest)
    if not 0 <= lowest <= 1:
        raise ConfigurationError(
            f"lowest must be in [0, 1], got {lowest!r}; use 1.0 for equal learning rates"
        )
    return partial(_cosine_rates, lowest=lowest)


def scale_learning_rate(
    learning_rate: float,
    *,
    batch_size: int,
    base_batch_size: int,
    rule: Literal["linear", "sqrt"] = "linear",
) -> float:
    """Scales a learning rate that was found at one batch size to another.

    `linear`: rate x batch_size / base_batch_size. `sqrt`: rate x sqrt(batch_size /
    base_batch_size), the rule that the analysis of Adam suggests. Equal sizes give the rate back
    to the last bit.

    Args:
        learning_rate: The rate at `base_batch_size`, above 0.
        batch_size: Rows per optimizer step: per device x devices x accumulation steps.
        base_batch_size: Rows per optimizer step for which `learning_rate` was found.
        rule: "linear" or "sqrt".

    Returns:
        The rate for `batch_size`.

    Raises:
        ConfigurationError: A value is not a positive number, or the rule is unknown.

    Example:
        >>> scale_learning_rate(1e-4, batch_size=64, base_batch_size=256)
        2.5e-05
        >>> scale_learning_rate(1e-4, batch_size=64, base_batch_size=256, rule="sqrt")
        5e-05

    Source:
        Goyal et al. 2017, section 2.1, arXiv 1706.02677 (linear); Malladi et al. 2022,
        arXiv 2205.10287 (square root, for Adam).
    """
    if _number("learning_rate", learning_rate) <= 0:
        raise ConfigurationError(f"learning_rate must be above 0, got {learning_rate!r}")
    for name, rows in {"batch_size": batch_size, "base_batch_size": base_batch_size}.items():
        if not _number(name, rows).is_integer() or rows < 1:
            raise ConfigurationError(f"{name} must be a whole number from 1 up, got {rows!r}")
    ratio = batch_size / base_batch_size
    if rule == "linear":
        return float(learning_rate * ratio)
    if rule == "sqrt":
        return float(learning_rate * math.sqrt(ratio))
    raise ConfigurationError(f"rule must be 'linear' or 'sqrt', got {rule!r}")


def batch_size_factor(args: TrainingArguments) -> float:
    """Returns what every rate is multiplied by: 1, or batch size / `args.base_batch_size`.

    The batch size counts rows per optimizer step: per device x devices x accumulation steps.
    """
    base = getattr(args, "base_batch_size", None)
    if base is None:
        return 1.0
    rows = args.train_batch_size * args.world_size * args.gradient_accumulation_steps
    return scale_learning_rate(1.0, batch_size=rows, base_batch_size=base)


# The three curves are module-level functions with their option bound by `partial`, so that they can
# be copied, pickled to a worker process and compared.


def _layerwise_decay(depth: int, num_layers: int, *, decay: float) -> float:
    _check_depth(depth, num_layers)
    return decay ** (num_layers - depth)


def _grouped_rates(depth: int, num_layers: int, *, multipliers: tuple[float, ...]) -> float:
    _check_depth(depth, num_layers)
    if num_layers < len(multipliers):
        raise ConfigurationError(
            f"{len(multipliers)} multipliers need at least as many blocks, and the model has "
            f"{num_layers}; give at most {num_layers}"
        )
    size, remainder = divmod(num_layers, len(multipliers))
    end = 0
    for index, multiplier in enumerate(multipliers):
        end += size + (index >= len(multipliers) - remainder)
        if depth <= end:
            return multiplier
    raise AssertionError("the sets hold all blocks")


def _cosine_rates(depth: int, num_layers: int, *, lowest: float) -> float:
    _check_depth(depth, num_layers)
    return lowest + (1 - lowest) * (1 - math.cos(math.pi * depth / num_layers)) / 2


def _check_depth(depth: int, num_layers: int) -> None:
    if num_layers < 1:
        raise ConfigurationError(f"num_layers must be at least 1, got {num_layers!r}")
    if not 0 <= depth <= num_layers:
        raise ConfigurationError(
            f"depth must be in 0..{num_layers}, got {depth!r}; the head has a rate of its own"
        )


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ConfigurationError(f"{name} must be a finite number, got {value!r}")
    return float(value)


def _numbers(name: str, values: object) -> tuple[float, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable) or not (numbers := [*values]):
        raise ConfigurationError(
            f"{name} must be a list with one number per set of blocks, got {values!r}; "
            "use [1.0] for equal learning rates"
        )
    return tuple(_number(name, value) for value in numbers)
