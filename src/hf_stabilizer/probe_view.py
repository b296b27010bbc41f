"""How do the probes of a model look to a person? A table, a picture, a file, and advice."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hf_stabilizer.configuration import Configuration, load_configuration
from hf_stabilizer.data import resolve_location
from hf_stabilizer.errors import ConfigurationError, MissingDependencyError
from hf_stabilizer.models import load_model
from hf_stabilizer.probe_record import LayerProbe, Probe
from hf_stabilizer.probing import probe
from hf_stabilizer.random_state import seeded
from hf_stabilizer.records import check_folder, write_atomically
from hf_stabilizer.run import prepare_data

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


PICTURES = (".png", ".pdf", ".svg")
_COLUMNS = ("layer", "depth", "readout", "score", "standard_error", "spread", "l2", "fold_scores")
# Colours that people with colour blindness tell apart (Okabe, Ito 2008).
_COLOURS = {"first": "#0072B2", "last": "#0072B2", "token": "#0072B2", "mean": "#009E73"}
_POOLER_COLOUR = "#D55E00"


def show_probe(
    config: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    max_examples: int = 2000,
    as_json: bool = False,
    output: Path | None = None,
    plot: Path | None = None,
) -> None:
    """Probes the model of a configuration on its training rows, and prints what was found.

    Args:
        config: YAML file. The model is looked at as its checkpoint is: what the configuration
            would do to it before training is not done.
        overrides: Keys that beat the file's.
        max_examples: See `probe`.
        as_json: Print JSON instead of a table.
        output: A CSV file to write.
        plot: A picture to write: .png, .pdf or .svg.

    Raises:
        ConfigurationError: A path or an option that cannot be right.
    """
    _check_paths(output, plot)
    configuration = load_configuration(config, overrides=overrides)
    found = _probe(configuration, max_examples)
    if output is not None:
        write_atomically(output, _csv(found))
    if plot is not None:
        plot.parent.mkdir(parents=True, exist_ok=True)
        plot_probe(found).savefig(plot, dpi=150, bbox_inches="tight")
    if as_json:
        print(json.dumps(_summary(found), indent=2))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=100)
    name = configuration.model.model_name_or_path
    console.print(_heading(name, found), highlight=False)
    console.print(probe_table(found))
    for sentence in found.recommendation:
        console.print(f"- {sentence}", highlight=False, markup=False)
    for path in filter(None, (output, plot)):
        console.print(str(path), highlight=False, markup=False, soft_wrap=True)


def _check_paths(output: Path | None, plot: Path | None) -> None:
    if plot is not None and plot.suffix.lower() not in PICTURES:
        raise ConfigurationError(f"plot must end in .png, .pdf or .svg, got {str(plot)!r}")
    if output is not None and output.suffix.lower() != ".csv":
        raise ConfigurationError(f"output must end in .csv, got {str(output)!r}")
    for key, path in (("output", output), ("plot", plot)):
        if path is not None:
            check_folder(path.parent, key=key)


def _probe(configuration: Configuration, max_examples: int) -> Probe:
    prepared = prepare_data(configuration)
    with seeded(configuration.values["seed"]):  # for what the checkpoint does not bring
        model = load_model(prepared, resolve_location(configuration.model.model_name_or_path))
    device: Any = configuration.arguments(output_dir="unused").device
    metric = configuration.metric.removeprefix("eval_")
    return probe(
        model.to(device),
        prepared.train,
        data_collator=prepared.data_collator,
        metric=metric if metric in configuration.metrics else configuration.metrics[0],
        groups=prepared.groups,
        max_examples=max_examples,
    )


def _heading(name: str, found: Probe) -> str:
    rows = f"{found.rows:,}" + (
        f" of {found.rows_given:,} training rows, a random sample"
        if found.rows < found.rows_given
        else " training rows"
    )
    tokens = f"{found.examples:,} tokens of " if found.unit == "tokens" else ""
    folds = len(found.baseline_folds)
    return (
        f"{name}: linear probes on {tokens}{rows}, {folds} folds, {found.metric}\n"
        f"baseline, which does not look at the row: {found.baseline:.3f}"
    )


def probe_table(found: Probe) -> Table:
    """Returns a line for each layer and a column for each read-out; the best score stands out."""
    readouts = list(dict.fromkeys(each.readout for each in found.probes))
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("layer")
    for readout in readouts:
        table.add_column(readout, justify="right")
    table.add_column("")
    by_place = {(each.depth, each.readout): each for each in found.probes}
    for depth in sorted({each.depth for each in found.probes}):
        cells = [by_place.get((depth, readout)) for readout in readouts]
        name = next(cell.layer for cell in cells if cell is not None)
        table.add_row(name, *(_cell(cell, found) for cell in cells), _remark(depth, found))
    return table


def _cell(each: LayerProbe | None, found: Probe) -> Text:
    if each is None:
        return Text("")
    style = "bold green" if each == found.best else ""
    if each.readout == "pooler" and found.dead_pooler:
        style = "red"
    return Text(f"{each.score:.3f} ± {each.standard_error:.3f}", style=style)


def _remark(depth: int, found: Probe) -> str:
    remarks = ["best"] if depth == found.best.depth else []
    if found.beats_baseline and depth == found.enough.depth:
        remarks.append("enough")
    if found.pooler is not None and depth == found.pooler.depth and found.dead_pooler:
        remarks.append("dead pooler")
    return ", ".join(remarks)


def _csv(found: Probe) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for record in found.to_records():
        scores = " ".join(f"{score:.6g}" for score in record["fold_scores"])
        writer.writerow({**record, "fold_scores": scores})
    return text.getvalue()


def _summary(found: Probe) -> dict[str, Any]:
    names = ("problem", "metric", "greater_is_better", "unit", "examples", "rows", "rows_given")
    judged = ("baseline", "beats_baseline", "dead_pooler", "pooler_strength", "reinit_layers")
    return {
        **{name: getattr(found, name) for name in (*names, *judged)},
        "probes": found.to_records(),
        "recommendation": found.recommendation,
    }


def plot_probe(found: Probe) -> Figure:
    """Draws the score of every read-out over the layers, with one standard error to each side.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "plot_probe needs matplotlib, which is not installed; "
            "run: pip install 'hf_stabilizer[plots]'"
        ) from error
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    _draw(figure.add_subplot(), found)
    return figure


def _draw(axes: Axes, found: Probe) -> None:
    lines = dict.fromkeys(each.readout for each in found.probes if each.readout != "pooler")
    for readout in lines:
        points = [each for each in found.probes if each.readout == readout]
        depths = [each.depth for each in points]
        scores = [each.score for each in points]
        low = [each.score - each.standard_error for each in points]
        high = [each.score + each.standard_error for each in points]
        colour = _COLOURS[readout]
        axes.plot(depths, scores, marker="o", markersize=4, color=colour, label=readout)
        axes.fill_between(depths, low, high, color=colour, alpha=0.15, linewidth=0)
    if (pooler := found.pooler) is not None:
        axes.errorbar(
            [pooler.depth + 0.12],  # beside the other points of its layer
            [pooler.score],
            yerr=[pooler.standard_error],
            fmt="D",
            capsize=3,
            color=_POOLER_COLOUR,
            label="pooler (dead)" if found.dead_pooler else "pooler",
        )
    axes.axhline(found.baseline, color="grey", linestyle="--", linewidth=1.2, label="baseline")
    names = {each.depth: each.layer for each in found.probes}
    axes.set_xticks(list(names), list(names.values()), rotation=45, ha="right")
    better = "higher is better" if found.greater_is_better else "lower is better"
    axes.set(
        ylabel=f"{found.metric} ({better})",
        title=f"What a linear classifier reads from each layer ({found.examples:,} {found.unit})",
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
