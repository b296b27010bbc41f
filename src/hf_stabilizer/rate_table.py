"""Which rate will each layer have at each step? The whole run's rates, without training.

    rate(step, layer) = rate of the layer's group x factor of the schedule at that step,
                        blended into the SWA rate from the start of the averaging on,
                        x factor of the layer's own warm-up, 0 while it is frozen

The groups are those that the optimizer gets, the factor is read from the schedule that the Trainer
makes, the phases from the callbacks that it is handed: nothing is computed twice in two ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import torch
from torch import nn
from transformers import TrainerCallback, TrainingArguments

from hf_stabilizer.argument_depths import frozen_depths
from hf_stabilizer.arguments import StabilizerArguments, stabilize
from hf_stabilizer.averaging import SWACallback, swa_rate, swa_targets
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.freezing import FreezingCallback, GradualUnfreezingCallback
from hf_stabilizer.freezing.stages import rate_factor
from hf_stabilizer.layers import LayerMap
from hf_stabilizer.learning_rates import Curve, batch_size_factor
from hf_stabilizer.optimizers import curve_from_arguments
from hf_stabilizer.parameter_groups import param_groups
from hf_stabilizer.rate_figure import draw_rates
from hf_stabilizer.schedules import create_scheduler
from hf_stabilizer.steps import resolve_step

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rates: TypeAlias = dict[int, float]
"""Depth -> learning rate."""

Kind = TypeVar("Kind", bound=TrainerCallback)


@dataclass(frozen=True, slots=True)
class LayerRate:
    """The learning rate of one layer at one optimizer step."""

    step: int
    """The optimizer step, counted from 1, that uses this rate."""
    layer: str
    """Label of the depth: "embeddings", "layer_01", ..., "head"."""
    rate: float
    """The learning rate; 0 for a frozen layer."""


def learning_rate_table(
    model: nn.Module,
    args: TrainingArguments,
    num_training_steps: int,
    *,
    curve: Curve | None = None,
    head_learning_rate: float | None = None,
    overrides: Mapping[str, int | str] | None = None,
    callbacks: Iterable[TrainerCallback] = (),
) -> list[LayerRate]:
    """Computes the rate of every layer at every optimizer step, without training.

    Each rate is the one that the Trainer's optimizer moves the layer with in that step: warm-up,
    schedule, layer ratios, `base_batch_size`, the phase of an SWA learning rate, and the stages of
    head-first training and gradual unfreezing. A layer whose parameters are all frozen then, or
    that `freeze_embeddings` and `freeze_layers` will freeze, has rate 0.

    Args:
        model: The model that will be trained; one on the meta device will do. It is not touched.
        args: `TrainingArguments` or `StabilizerArguments`.
        num_training_steps: Optimizer steps of the whole run, from 1 up.
        curve: `(depth, num_layers) -> multiplier`; None: what `args` say, for plain arguments
            equal rates.
        head_learning_rate: Rate of the head; None: what `args` say.
        overrides: Depths for `LayerMap.from_model`; None: what `args` say.
        callbacks: Callbacks of your own beside those that `args` ask for; of those,
            `SWACallback`, `HeadFirstCallback` and `GradualUnfreezingCallback` change rates.

    Returns:
        Records with the fields `step`, `layer` and `rate`, ordered by step, then from the
        embeddings up to the head; depths that hold no parameter are left out.

    Raises:
        ConfigurationError: A value is out of range, a phase lies beyond the end of the run, two
            callbacks want the same, or the schedule cannot be known in advance
            (ReduceLROnPlateau, greedy).
        LayerDiscoveryError: A parameter has no depth.

    Example:
        >>> import tempfile
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> from hf_stabilizer import layerwise_decay
        >>> model = BertForSequenceClassification(
        ...     BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1,
        ...                num_attention_heads=1, intermediate_size=4))
        >>> args = TrainingArguments(tempfile.gettempdir(), learning_rate=1e-3)
        >>> for r in learning_rate_table(model, args, 2, curve=layerwise_decay(0.5)):
        ...     print(r.step, r.layer, r.rate)
        1 embeddings 0.0005
        1 layer_01 0.001
        1 head 0.001
        2 embeddings 0.00025
        2 layer_01 0.0005
        2 head 0.0005
    """
    if curve is None:
        curve = curve_from_arguments(args)
    if head_learning_rate is None:
        head_learning_rate = getattr(args, "head_learning_rate", None)
    if overrides is None:
        overrides = getattr(args, "layer_overrides", None)
    layer_map = LayerMap.from_model(model, overrides=overrides)
    groups = param_groups(
        model, args, curve, head_learning_rate=head_learning_rate, layer_map=layer_map
    )
    frozen = frozen_depths(args, layer_map.num_layers)
    base = {group["depth"]: group["lr"] for group in groups if group["depth"] not in frozen}
    callbacks = _all_callbacks(args, callbacks)
    swa = _only(SWACallback, callbacks)
    freezing = _only(FreezingCallback, callbacks)  # type: ignore[type-abstract]  # only asked for
    _refuse_two_owners(swa, freezing)
    rates = _scheduled(base, args, num_training_steps)
    rates = _averaged(rates, base, swa, num_training_steps)
    rates = _freed(rates, model, layer_map, freezing, num_training_steps)
    depths = [d for d in range(layer_map.num_layers + 2) if layer_map.names(d)]
    return [
        LayerRate(step, layer_map.label(depth), rates_of_step.get(depth, 0.0))
        for step, rates_of_step in enumerate(rates, start=1)
        for depth in depths
    ]


def plot_learning_rates(
    model: nn.Module | Sequence[LayerRate],
    args: TrainingArguments | None = None,
    num_training_steps: int | None = None,
    *,
    curve: Curve | None = None,
    head_learning_rate: float | None = None,
    overrides: Mapping[str, int | str] | None = None,
    callbacks: Iterable[TrainerCallback] = (),
) -> Figure:
    """Draws the rate of every layer over the steps of a run, without training.

    One line per layer, coloured from the embeddings (dark) to the top block (bright), the head
    dashed. The axis is logarithmic where the layers' rates differ tenfold or more.

    Args:
        model: A model, with `args` and `num_training_steps`; or the records that
            `learning_rate_table` returned, alone.
        args: As for `learning_rate_table`.
        num_training_steps: As for `learning_rate_table`.
        curve: As for `learning_rate_table`.
        head_learning_rate: As for `learning_rate_table`.
        overrides: As for `learning_rate_table`.
        callbacks: As for `learning_rate_table`.

    Returns:
        The matplotlib figure; `figure.savefig("rates.png")` writes it.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        ConfigurationError: As for `learning_rate_table`; a model without `args` and steps.

    Example:
        >>> records = [LayerRate(1, "layer_01", 0.0), LayerRate(2, "layer_01", 1e-3)]
        >>> [line.get_label() for line in plot_learning_rates(records).axes[0].get_lines()]
        ['layer_01']
    """
    if not isinstance(model, nn.Module):
        return draw_rates(model)
    if args is None or num_training_steps is None:
        raise ConfigurationError(
            "args and num_training_steps must be given with a model, got "
            f"num_training_steps={num_training_steps!r}; or hand in the records of "
            "learning_rate_table alone"
        )
    return draw_rates(
        learning_rate_table(
            model,
            args,
            num_training_steps,
            curve=curve,
            head_learning_rate=head_learning_rate,
            overrides=overrides,
            callbacks=callbacks,
        )
    )


def _all_callbacks(
    args: TrainingArguments, callbacks: Iterable[TrainerCallback]
) -> list[TrainerCallback]:
    """Those that are given, and those that the options ask for."""
    if isinstance(args, StabilizerArguments):
        return list(stabilize(args, callbacks)["callbacks"])
    return list(callbacks)


def _only(kind: type[Kind], callbacks: Iterable[TrainerCallback]) -> Kind | None:
    """The callback of this kind, None if there is none."""
    found = [callback for callback in callbacks if isinstance(callback, kind)]
    if len(found) > 1:
        names = " and ".join(type(callback).__name__ for callback in found)
        raise ConfigurationError(f"{names} want the same of one run; keep one of them")
    return found[0] if found else None


def _refuse_two_owners(swa: SWACallback | None, freezing: FreezingCallback | None) -> None:
    """As the run itself would, where both want to set the rates."""
    if swa and swa.learning_rate is not None and _warmup_steps(freezing):
        raise ConfigurationError(
            "SWACallback's learning_rate and the warmup_steps of GradualUnfreezingCallback both "
            "want to own the learning rate; leave one of the two out"
        )


def _warmup_steps(callback: FreezingCallback | None) -> int:
    return callback.warmup_steps if isinstance(callback, GradualUnfreezingCallback) else 0


def _scheduled(base: Rates, args: TrainingArguments, num_training_steps: int) -> Iterator[Rates]:
    """The rates of each step in turn, as LambdaLR computes them."""
    reference = args.learning_rate * batch_size_factor(args)
    # A stand-in with the same default rate, which schedules with an absolute floor read.
    stand_in = torch.optim.SGD([nn.Parameter(torch.empty(0))], lr=reference)
    factor = create_scheduler(stand_in, args, num_training_steps).lr_lambdas[0]
    for step in range(1, num_training_steps + 1):
        yield {depth: rate * factor(step - 1) for depth, rate in base.items()}


def _averaged(
    scheduled: Iterable[Rates], base: Rates, callback: SWACallback | None, num_training_steps: int
) -> Iterator[Rates]:
    """The same, blended into the SWA rates of the callback, if it has any."""
    if callback is None or callback.learning_rate is None:
        yield from scheduled
        return
    start = max(1, resolve_step(callback.start, num_training_steps))
    # In the order of the optimizer's groups: the ratios are those to the first.
    targets = swa_targets(
        [*base.values()], callback.learning_rate, keep_ratios=callback.keep_ratios
    )
    blend = partial(
        swa_rate, start=start, anneal_steps=callback.anneal_steps, anneal=callback.anneal
    )
    for step, rates in enumerate(scheduled, start=1):
        yield {
            depth: blend(step, scheduled=rate, target=target)
            for (depth, rate), target in zip(rates.items(), targets, strict=True)
        }


def _freed(
    rates: Iterable[Rates],
    model: nn.Module,
    layer_map: LayerMap,
    callback: FreezingCallback | None,
    num_training_steps: int,
) -> Iterator[Rates]:
    """The same, but 0 before the step in which the callback frees a layer, and its warm-up."""
    if callback is None:
        yield from rates
        return
    theirs = LayerMap.from_model(model, overrides=callback.overrides)
    of_depth = callback.first_steps(theirs.num_layers, num_training_steps)
    warmup = _warmup_steps(callback)
    first = {  # a layer that is freed in parts has a rate from the first part on
        depth: min((of_depth[theirs.depth_of(name)] for name in layer_map.names(depth)), default=1)
        for depth in range(layer_map.num_layers + 2)
    }
    for step, of_step in enumerate(rates, start=1):
        yield {
            depth: rate * rate_factor(step, first_step=first[depth], warmup_steps=warmup)
            for depth, rate in of_step.items()
        }
