"""How does a run's table of learning rates look? One line per layer, over the steps.

Coloured from the embeddings (dark) to the top block (bright), the head dashed. The axis is
logarithmic where the layers' rates differ tenfold or more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hf_stabilizer.errors import MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hf_stabilizer.rate_table import LayerRate


def draw_rates(records: Sequence[LayerRate]) -> Figure:
    """Draws the records; `plot_learning_rates` is the door to it.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
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
