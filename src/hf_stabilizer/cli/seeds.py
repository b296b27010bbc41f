"""What does `hf-stabilizer seeds` do? How much head, data order and both decide, and good heads."""

from __future__ import annotations

import argparse
from pathlib import Path

from hf_stabilizer.cli.parsing import AddCommand, no_overrides
from hf_stabilizer.cli.speaking import show_notes


def add(command: AddCommand) -> None:
    """Adds `seeds`."""
    text = "Tell how much of the spread comes from the head, the data order and both; trains none."
    seeds = command("seeds", _seeds, text)
    seeds.epilog = None
    seeds.add_argument(
        "folders", nargs="+", metavar="RUNS",
        help="folder of a study, or of runs of any Trainer; several: one for each data set, whose "
        "ranks of the same heads are compared",
    )  # fmt: skip
    seeds.add_argument("--recipes", nargs="+", metavar="RECIPE", help="these alone (default: all)")
    seeds.add_argument("--metric", help="the one that decides (default: as the runs name it)")
    seeds.add_argument(
        "--greater-is-better", action=argparse.BooleanOptionalAction,
        help="direction of the metric",
    )  # fmt: skip
    seeds.add_argument("--output", metavar="FILE", help="the numbers: a .json or .csv file")
    seeds.add_argument("--plot", metavar="FILE", help="a picture to write: PNG, PDF or SVG")


def _seeds(args: argparse.Namespace) -> None:
    no_overrides(args)
    from hf_stabilizer.studies.seeds.seed_view import show_seeds

    show_notes()
    show_seeds(
        args.folders,
        metric=args.metric,
        greater_is_better=args.greater_is_better,
        recipes=args.recipes,
        output=Path(args.output) if args.output else None,
        plot=Path(args.plot) if args.plot else None,
    )
