"""What does `hf-stabilizer compare` do? Any finished runs side by side: only what differs."""

from __future__ import annotations

import argparse
from pathlib import Path

from hf_stabilizer.cli.parsing import AddCommand, no_overrides
from hf_stabilizer.cli.speaking import show_notes


def add(command: AddCommand) -> None:
    """Adds `compare`."""
    text = (
        "Compare finished runs of whatever procedures: the settings that differ beside the score, "
        "and the score against each of them."
    )
    compare = command("compare", _compare, text)
    compare.epilog = None
    compare.add_argument(
        "folders", nargs="+", metavar="RUNS", help="folders of runs, or above them"
    )
    compare.add_argument("--metric", help="the one that decides (default: as the runs name it)")
    compare.add_argument(
        "--greater-is-better", action=argparse.BooleanOptionalAction, help="direction of the metric"
    )
    compare.add_argument("--output", metavar="FILE", help="also write a page, FILE.html")
    compare.add_argument("--csv", metavar="FILE", help="also write one line per run")
    compare.add_argument("--json", action="store_true", help="for machines")


def _compare(args: argparse.Namespace) -> None:
    no_overrides(args)
    import json

    from rich.console import Console

    from hf_stabilizer.records import check_file, write_atomically
    from hf_stabilizer.studies.runs_compared.comparing import compare_runs
    from hf_stabilizer.studies.runs_compared.page import write_page
    from hf_stabilizer.studies.runs_compared.view import print_comparison

    show_notes()
    for key, example in (("output", "compare.html"), ("csv", "runs.csv")):
        if (name := getattr(args, key)) is not None:
            check_file(Path(name), key=key, example=example)
    found = compare_runs(args.folders, metric=args.metric, greater_is_better=args.greater_is_better)
    if args.csv is not None:
        import pandas as pd

        write_atomically(Path(args.csv), pd.DataFrame(found.to_records()).to_csv(index=False))
    if args.output is not None:
        write_page(found, args.output)
    if args.json:
        told = {"metric": found.metric, "differing": found.differing, "left_out": found.left_out}
        told |= {"scored_on": found.scored_on, "cautions": found.cautions}
        print(json.dumps({**told, "runs": found.to_records()}, indent=2))
        return
    console = Console()
    print_comparison(found, console if console.is_terminal else Console(width=160))
    for name in (args.output, args.csv):
        if name is not None:
            print(f"written: {name}")
