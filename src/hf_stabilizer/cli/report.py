"""What does `hf-stabilizer report` do? The page of a study, or of runs that exist already."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from hf_stabilizer.cli.parsing import AddCommand, no_overrides
from hf_stabilizer.cli.speaking import show_notes
from hf_stabilizer.errors import ConfigurationError


def add(command: AddCommand) -> None:
    """Adds `report`."""
    text = "Write the HTML report of a study, or of runs of any Trainer that exist already."
    report = command("report", _report, text)
    report.add_argument(
        "folders", nargs="+", metavar="RUNS", help="folder of a study, of runs, or above them"
    )
    report.add_argument("--metric", help="the one that decides (default: as the runs name it)")
    report.add_argument(
        "--greater-is-better", action=argparse.BooleanOptionalAction, help="direction of the metric"
    )
    report.add_argument(
        "--recipe", action="append", metavar="GLOB=NAME", default=[],
        help="runs whose path fits the glob are of this recipe; may be repeated",
    )  # fmt: skip
    report.add_argument(
        "--output", help="HTML file (default: report.html, in the folder if it is one)"
    )


def _report(args: argparse.Namespace) -> None:
    no_overrides(args)
    import dataclasses

    from rich.console import Console

    from hf_stabilizer.records import check_folder
    from hf_stabilizer.studies.reading import read_runs
    from hf_stabilizer.studies.report import write_report
    from hf_stabilizer.studies.table import print_study

    show_notes()
    study = read_runs(
        args.folders,
        metric=args.metric,
        greater_is_better=args.greater_is_better,
        recipe=dict(map(_glob_and_name, args.recipe)),
    )
    if not study.command:
        study = dataclasses.replace(study, command=shlex.join(["hf-stabilizer", *args.argv]))
    alone = Path(args.folders[0]) if len(args.folders) == 1 else Path()
    output = Path(args.output or alone / "report.html")
    check_folder(output.parent, key="output")
    page = write_report(study, output)
    print_study(study, Console())
    print(f"\nReport: {page}")


def _glob_and_name(text: str) -> tuple[str, str]:
    glob, equals, name = text.rpartition("=")
    if not (equals and glob and name):
        raise ConfigurationError(f"--recipe must be GLOB=NAME, such as '*llrd*=llrd', got {text!r}")
    return glob, name
