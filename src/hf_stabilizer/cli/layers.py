"""What is a model like before it is trained? `hf-stabilizer layers`, `plot-lr` and `probe`."""

from __future__ import annotations

import argparse
from pathlib import Path

from hf_stabilizer.cli.parsing import AddCommand
from hf_stabilizer.cli.speaking import begin, speak_plainly


def add(command: AddCommand) -> None:
    """Adds `layers`, `plot-lr` and `probe`."""
    layers = command("layers", _layers, "Show each layer of a model, its rate and its fate.")
    layers.add_argument("model", help="Hub id, folder, pkg://package/path, or a YAML configuration")
    layers.add_argument("--recipe", help="recipe whose rates are shown")
    layers.add_argument("--parameters", action="store_true", help="a line for every parameter")
    layers.add_argument("--json", action="store_true", help="for machines")

    plot = command("plot-lr", _plot_lr, "Draw every layer's rate over the steps; trains nothing.")
    plot.add_argument("config", help="YAML file")
    plot.add_argument("--recipe", help="recipe, by name or as a YAML file")
    plot.add_argument("--steps", type=int, help="optimizer steps (default: from the rows)")
    plot.add_argument("--output", default="learning_rates.png", help="PNG; a CSV goes beside it")

    text = "Score every layer of a model, as its checkpoint is, with linear probes; trains nothing."
    probe = command("probe", _probe, text)
    probe.add_argument("config", help="YAML file")
    probe.add_argument("--max-examples", type=int, default=2000, help="at most (default: 2000)")
    probe.add_argument("--json", action="store_true", help="for machines")
    probe.add_argument("--output", help="CSV file to write")
    probe.add_argument("--plot", help="picture to write: PNG, PDF or SVG")


def _layers(args: argparse.Namespace) -> None:
    from hf_stabilizer.layer_view import show_layers

    show_layers(
        args.model,
        recipe=args.recipe,
        overrides=args.overrides,
        parameters=args.parameters,
        as_json=args.json,
    )


def _plot_lr(args: argparse.Namespace) -> None:
    from hf_stabilizer.layer_view import write_learning_rates

    for path in write_learning_rates(
        args.config,
        recipe=args.recipe,
        overrides=args.overrides,
        steps=args.steps,
        output=Path(args.output),
    ):
        print(path)


def _probe(args: argparse.Namespace) -> None:
    begin(args.config)
    from hf_stabilizer.probe_view import show_probe

    speak_plainly()
    show_probe(
        args.config,
        overrides=args.overrides,
        max_examples=args.max_examples,
        as_json=args.json,
        output=Path(args.output) if args.output else None,
        plot=Path(args.plot) if args.plot else None,
    )
