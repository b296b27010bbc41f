"""How do a model's layers look to a person? Depth by depth, with rates and what becomes of each."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from hf_stabilizer.argument_depths import fresh_blocks, frozen_depths, pooler_choice
from hf_stabilizer.arguments import StabilizerArguments, check_blocks, find_layers
from hf_stabilizer.configuration import Configuration, load_configuration
from hf_stabilizer.data import resolve_location
from hf_stabilizer.errors import ConfigurationError, first_line
from hf_stabilizer.layers import LayerMap
from hf_stabilizer.models import auto_class
from hf_stabilizer.optimizers import curve_from_arguments
from hf_stabilizer.parameter_groups import param_groups
from hf_stabilizer.rate_table import learning_rate_table, plot_learning_rates
from hf_stabilizer.records import check_folder
from hf_stabilizer.run import prepare_data
from hf_stabilizer.silent_mistakes.timetable import planned_steps

PICTURES = (".png", ".pdf", ".svg")


@dataclass(frozen=True)
class LayerRow:
    """One depth of a model, as a configuration treats it."""

    depth: int
    """0 for the embeddings, 1..N for the blocks, N+1 for the head."""
    label: str
    """Name of the depth, e.g. "layer_03"."""
    parameters: int
    """Numbers in it, tied ones counted once."""
    share: float
    """Its share of all parameters, in [0, 1]."""
    rate: float | None
    """Its peak learning rate; None where it is frozen."""
    weight_decay: float | None
    """Weight decay of those of its parameters that decay, biases and norms do not; None where it is
    frozen."""
    fate: str
    """What becomes of it before training: "re-initialised", "transferred", "frozen", "classifier
    fitted", ""."""
    blocks: tuple[str, ...]
    """Paths of the modules that form the block there; none for embeddings and head."""
    names: tuple[str, ...]
    """Names of its parameters."""


def layer_rows(
    model: nn.Module, args: StabilizerArguments, layers: LayerMap | None = None
) -> list[LayerRow]:
    """Returns one row for each depth of a model, from the embeddings to the head."""
    layers = layers or find_layers(model, args)
    check_blocks(args, layers.num_layers)
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    groups = param_groups(
        model,
        args,
        curve_from_arguments(args),
        head_learning_rate=args.head_learning_rate,
        layer_map=layers,
    )
    rates = {group["depth"]: group["lr"] for group in groups}
    decays: dict[int, float] = {}
    for group in groups:  # one that decays and one that does not
        decays[group["depth"]] = max(group["weight_decay"], decays.get(group["depth"], 0.0))
    total = sum(sizes.values())
    rows = []
    for depth in range(layers.num_layers + 2):
        names = tuple(name for name in layers.names(depth) if name in sizes)
        fate = _fate(depth, layers.num_layers, args)
        count = sum(sizes[name] for name in names)
        is_frozen = fate.endswith("frozen")
        rows.append(
            LayerRow(
                depth=depth,
                label=layers.label(depth),
                parameters=count,
                share=count / total,
                rate=None if is_frozen else rates.get(depth),
                weight_decay=None if is_frozen else decays.get(depth),
                fate=fate,
                blocks=layers.blocks.get(depth, ()),
                names=names,
            )
        )
    return rows


def show_layers(
    model: str,
    *,
    recipe: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    parameters: bool = False,
    as_json: bool = False,
) -> None:
    """Prints the layers of a model, or of the model that a YAML configuration names."""
    is_file = model.endswith((".yaml", ".yml"))
    config: Any = Path(model) if is_file else {"model_name_or_path": model}
    configuration = load_configuration(config, recipe=recipe, overrides=overrides)
    built = skeleton(configuration, own_class=not is_file and "task" not in (overrides or {}))
    args = configuration.arguments(output_dir="unused")
    layers = find_layers(built, args)
    rows = layer_rows(built, args, layers)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a file or a pipe has room for whole names
    total = sum(row.parameters for row in rows)
    console.print(f"{type(built).__name__}: {len(rows) - 2} blocks, {total:,} parameters")
    console.print(_table(rows, parameters, plain_decay=float(args.weight_decay)))
    for note in layers.notes:
        console.print(note, highlight=False)


def skeleton(configuration: Configuration, *, own_class: bool = False) -> PreTrainedModel:
    """Builds the model without its weights, on the meta device: it costs no memory.

    Args:
        configuration: What names the model and the task.
        own_class: Whether a model that does not exist for the task is built as the class that
            its checkpoint holds.

    Raises:
        ConfigurationError: There is no such model, or none for the task.
    """
    location = resolve_location(configuration.model.model_name_or_path)
    try:
        config = AutoConfig.from_pretrained(location)
    except (OSError, ValueError, KeyError) as error:
        name = configuration.model.model_name_or_path
        raise ConfigurationError(f"cannot read the model {name!r}: {first_line(error)}") from error
    task = configuration.model.task
    builder = auto_class(task)
    if type(config) not in builder._model_mapping:
        if not own_class:
            raise ConfigurationError(
                f"transformers has no {task} model of type {config.model_type!r}, which "
                f"{configuration.model.model_name_or_path!r} is; choose another task or model"
            )
        builder = AutoModel
    held = getattr(transformers, (config.architectures or [""])[0], None)
    with torch.device("meta"):
        if builder is AutoModel and held is not None:
            return held(config)  # type: ignore[no-any-return] # classes of transformers are looked up by name
        model: PreTrainedModel = builder.from_config(config)
    return model


def write_learning_rates(
    config: str | Path,
    *,
    recipe: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    steps: int | None = None,
    output: Path = Path("learning_rates.png"),
) -> list[Path]:
    """Writes the rate of every layer over the steps as a PNG and a CSV; returns their paths."""
    if steps is not None and steps < 1:
        raise ConfigurationError(f"steps must be 1 or more, got {steps!r}")
    if output.suffix.lower() not in PICTURES:
        raise ConfigurationError(f"output must end in .png, .pdf or .svg, got {str(output)!r}")
    check_folder(output.parent, key="output")
    configuration = load_configuration(config, recipe=recipe, overrides=overrides)
    args = configuration.arguments(output_dir="unused")
    steps = steps or _steps(configuration, args)
    model = skeleton(configuration)
    records = learning_rate_table(model, args, steps)
    output.parent.mkdir(parents=True, exist_ok=True)
    plot_learning_rates(records).savefig(output, dpi=150, bbox_inches="tight")
    table = output.with_suffix(".csv")
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "layer", "rate"])
        writer.writerows((record.step, record.layer, record.rate) for record in records)
    return [output, table]


def _steps(configuration: Configuration, args: StabilizerArguments) -> int:
    """Returns the optimizer steps of a run; the rows are read only where they decide."""
    if args.max_steps > 0:
        return args.max_steps
    steps, _ = planned_steps(args, len(prepare_data(configuration).train))
    assert steps is not None, "rows that have been read have a number"
    return steps


def _fate(depth: int, num_layers: int, args: StabilizerArguments) -> str:
    last = num_layers if args.transfer_layers is None else args.transfer_layers
    is_brought = args.transfer_from is not None and depth <= last
    if depth in frozen_depths(args, num_layers):
        return "transferred, frozen" if is_brought else "frozen"
    if depth > num_layers:
        poolers = {
            "true": "pooler re-initialised",
            "identity": "pooler identity",
            "auto": "pooler identity where it can be",  # only the weights would tell
        }
        parts = [poolers.get(pooler_choice(args), ""), "classifier fitted" if args.fit_head else ""]
        return ", ".join(filter(None, parts))
    if num_layers - fresh_blocks(args, num_layers) < depth:
        return "re-initialised"
    return "transferred" if is_brought else ""


def _table(rows: Sequence[LayerRow], parameters: bool, *, plain_decay: float) -> Table:
    """Returns a line for each depth; with the weight decay where it is not the same for all."""
    differs = any(row.weight_decay not in (None, plain_decay) for row in rows)
    decay = ("weight decay",) if differs else ()
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("depth", "layer", "parameters", "share", "rate", *decay, ""):
        table.add_column(name, justify="left" if name in ("layer", "") else "right")
    table.add_column("modules", no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(
            str(row.depth),
            row.label,
            f"{row.parameters:,}",
            f"{row.share:.1%}",
            _number(row.rate),
            *([_number(row.weight_decay)] if differs else []),
            row.fate,
            ", ".join(row.blocks),
        )
        for name in row.names if parameters else ():
            table.add_row("", f"  {name}")
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
