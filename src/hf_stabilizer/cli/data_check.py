"""What does `hf-stabilizer data check` do? Says what is wrong with rows, and what to do."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hf_stabilizer.cli.parsing import AddCommand

_EPILOG = """\
Keys about rows (--text-columns, --label-column, --filter, ...), --task, and --model-name-or-path,
whose tokenizer then counts tokens, with --max-length, can be given as --key value behind these
options; they beat those of the file.
"""


def add(command: AddCommand) -> None:
    """Adds `data check`."""
    check = command("check", _check, "Look for what makes rows unfit to learn from.")
    check.epilog = _EPILOG
    check.add_argument(
        "source", metavar="FILE_OR_CONFIG",
        help="rows (CSV, TSV, JSON, JSON lines, Parquet), or a YAML configuration: all its splits",
    )  # fmt: skip
    check.add_argument(
        "--similarity", type=float, default=0.8, metavar="S",
        help="least similarity of near duplicates, in (0, 1] (default: 0.8)",
    )  # fmt: skip
    check.add_argument(
        "--rare", type=int, default=10, metavar="N",
        help="a class with fewer rows is rare (default: 10)",
    )  # fmt: skip
    check.add_argument(
        "--out-of-fold", metavar="FILE",
        help="out_of_fold.parquet of `cross-validate`, to find wrong labels by (default: a quick "
        "baseline)",
    )  # fmt: skip
    check.add_argument(
        "--ignore", nargs="+", default=[], metavar="KIND", help="kinds of findings to leave out"
    )
    check.add_argument(
        "--strict", action="store_true", help="exit code 1 if anything is found, for CI"
    )
    check.add_argument("--json", action="store_true", help="print the report for machines")
    check.add_argument("--output", metavar="REPORT.json", help="write the report into a file, too")


def _check(args: argparse.Namespace) -> None:
    from rich.console import Console

    from hf_stabilizer.data.near_duplicates import check_threshold
    from hf_stabilizer.data_quality import check_rows
    from hf_stabilizer.data_quality.view import print_report
    from hf_stabilizer.records import check_file, check_spares, write_atomically

    check_threshold(args.similarity, name="--similarity")
    if args.output is not None:
        output = Path(args.output)
        check_file(output, key="--output", example="report.json")
        check_spares(output, [args.source, args.out_of_fold], key="--output")
    report = check_rows(
        args.source,
        threshold=args.similarity,
        rare=args.rare,
        out_of_fold=args.out_of_fold,
        ignore=args.ignore,
        **args.overrides,
    )
    if args.output is not None:
        write_atomically(Path(args.output), report.to_json())
    if args.json:
        print(report.to_json())
    else:
        console = Console()
        print_report(report, console if console.is_terminal else Console(width=120))
    if args.strict and not report.is_clean:
        sys.stdout.flush()
        raise SystemExit(1)
