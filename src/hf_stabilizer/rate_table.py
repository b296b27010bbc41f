"""Which rate will each layer have at each step? The whole run's rates, without training.

    rate(step, layer) = rate of the layer's group x factor of the schedule at that step,
                        blended into the SWA rate from the start of the averaging on

The groups are those that the optimizer gets, the factor is read from the schedule that the Trainer
makes: nothing is computed twice in two ways.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import nn
from transformers import TrainingArguments

from hf_stabilizer.averaging.rates import swa_rate, swa_targets
from hf_stabilizer.errors import ConfigurationError, MissingDependencyError
from hf_stabilizer.layers import LayerMap
from hf_stabilizer.learning_rates import Curve, batch_size_factor
from hf_stabilizer.optimizers import curve_from_arguments
from hf_stabilizer.parameter_groups import param_groups
from hf_stabilizer.schedules import create_scheduler
from hf_stabilizer.steps import resolve_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rates: TypeAlias = dict[int, float]
"""Depth -> learning rate."""


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
) -> list[LayerRate]:
    """Computes the rate of every layer at every optimizer step, without training.

    Each rate is the one that the Trainer's optimizer holds while it takes that step: warm-up,
    schedule, layer ratios, `base_batch_size` and, with `averaging="swa"` and a
    `swa_learning_rate`, the averaging phase. A layer whose parameters are all frozen, or that
    `freeze_embeddings` and `freeze_layers` will freeze, has rate 0.

    Args:
        model: The model that will be trained; one on the meta device will do. It is not touched.
        args: `TrainingArguments` or `StabilizerArguments`.
        num_training_steps: Optimizer steps of the whole run, from 1 up.
        curve: `(depth, num_layers) -> multiplier`; None: what `args` say, for plain arguments
            equal rates.
        head_learning_rate: Rate of the head; None: what `args` say.
        overrides: Depths for `LayerMap.from_model`; None: what `args` say.

    Returns:
        Records ordered by step, then from the embeddings up to the head; depths that hold no
        parameter are left out.

    Raises:
        ConfigurationError: A value is out of range, or the schedule cannot be known in advance
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
    frozen = _frozen(args)
    first = {group["depth"]: group["lr"] for group in groups if group["depth"] not in frozen}
    depths = [d for d in range(layer_map.num_layers + 2) if layer_map.names(d)]
    return [
        LayerRate(step, layer_map.label(depth), rates.get(depth, 0.0))
        for step, rates in enumerate(_steps(first, args, num_training_steps), start=1)
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
        return _figure(model)
    if args is None or num_training_steps is None:
        raise ConfigurationError(
            "args and num_training_steps must be given with a model, got "
            f"num_training_steps={num_training_steps!r}; or hand in the records of "
            "learning_rate_table alone"
        )
    return _figure(
        learning_rate_table(
            model,
            args,
            num_training_steps,
            curve=curve,
            head_learning_rate=head_learning_rate,
            overrides=overrides,
        )
    )


def _steps(first: Rates, args: TrainingArguments, num_training_steps: int) -> Iterator[Rates]:
    """The rates of each step in turn: as LambdaLR computes them, then as the SWA rate does."""
    reference = args.learning_rate * batch_size_factor(args)
    # A stand-in with the same default rate, which schedules with an absolute floor read.
    stand_in = torch.optim.SGD([nn.Parameter(torch.empty(0))], lr=reference)
    factor = create_scheduler(stand_in, args, num_training_steps).lr_lambdas[0]
    swa = _swa_options(args, num_training_steps)
    targets = _swa_targets(first, args) if swa else {}
    for step in range(1, num_training_steps + 1):
        rates = {depth: rate * factor(step - 1) for depth, rate in first.items()}
        for depth, target in targets.items():
            rates[depth] = swa_rate(step, scheduled=rates[depth], target=target, **swa)
        yield rates


def _swa_options(args: TrainingArguments, num_training_steps: int) -> dict[str, Any]:
    """When and how the SWA rate comes in; nothing if `args` name none."""
    if getattr(args, "averaging", "none") != "swa" or not getattr(args, "swa_learning_rate", None):
        return {}
    start = getattr(args, "averaging_start", None)
    step = resolve_step(0.75 if start is None else start, num_training_steps)
    options = {"anneal_steps": "swa_anneal_steps", "anneal": "swa_anneal"}
    given = {key: getattr(args, name, None) for key, name in options.items()}
    return {"start": max(1, step), **{k: v for k, v in given.items() if v is not None}}


def _swa_targets(first: Rates, args: Any) -> Rates:  # Any: StabilizerArguments
    target = args.swa_learning_rate * batch_size_factor(args)
    # In the order of the optimizer's groups: the ratios are those to the first.
    targets = swa_targets([*first.values()], target, keep_ratios=args.swa_keep_ratios is not False)
    return dict(zip(first, targets, strict=True))


def _frozen(args: TrainingArguments) -> range:
    """The depths that `prepare_model` freezes."""
    blocks = getattr(args, "freeze_layers", 0)
    return range(0 if getattr(args, "freeze_embeddings", False) else 1, blocks + 1)


def _figure(records: Sequence[LayerRate]) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "plot_learning_rates needs matplotlib, which is not installed; "
            "run: pip install 'hf_stabilizer[plots]'"
        ) from error
    lines = _by_layer(records)
    columns = 1 + (len(lines) - 1) // 20
    figure = Figure(figsize=(6.5 + 1.5 * columns, 4.5), layout="constrained")
    axes = figure.add_subplot()
    _draw(axes, lines)
    axes.legend(
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        fontsize="small",
        frameon=False,
        ncols=columns,
    )
    return figure


def _by_layer(records: Sequence[LayerRate]) -> dict[str, list[tuple[int, float]]]:
    lines: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        lines.setdefault(record.layer, []).append((record.step, record.rate))
    return lines


def _draw(axes: Axes, lines: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    from matplotlib import colormaps

    body = [layer for layer in lines if layer != "head"]
    # The ramp ends before its palest yellow, which is hard to see on white.
    ramp = dict(zip(body, colormaps["viridis"](_spread(len(body), 0.0, 0.88)), strict=True))
    peaks = {layer: max(rate for _, rate in points) for layer, points in lines.items()}
    for layer in reversed([*lines]):  # the head first, so that the legend stands as the model does
        steps, rates = zip(*lines[layer], strict=True)
        axes.plot(
            steps,
            rates,
            label=layer if peaks[layer] > 0 else f"{layer} (frozen)",
            color=ramp.get(layer, "crimson"),
            linestyle="--" if layer == "head" else "-",
            linewidth=1.6,
            zorder=3 if layer == "head" else 2,  # seen even where it equals the top block
        )
    _scale(axes, [peak for peak in peaks.values() if peak > 0])
    axes.set(xlabel="optimizer step", ylabel="learning rate", title="Learning rate of every layer")
    axes.grid(alpha=0.3)


def _scale(axes: Axes, peaks: Sequence[float]) -> None:
    if peaks and max(peaks) / min(peaks) >= 10:
        axes.set_yscale("log")
        axes.set_ylim(bottom=min(peaks) / 10)  # schedules fall to 0, which would take all the room
    else:
        axes.ticklabel_format(axis="y", scilimits=(-3, 3))
        axes.set_ylim(bottom=0)


def _spread(count: int, low: float, high: float) -> list[float]:
    return [low + (high - low) * i / max(1, count - 1) for i in range(count)]
