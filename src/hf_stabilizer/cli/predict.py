"""What does `hf-stabilizer predict` do? Labels, tags, texts or losses for the rows of a file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hf_stabilizer.cli.parsing import AddCommand, no_overrides
from hf_stabilizer.cli.speaking import show_notes
from hf_stabilizer.errors import ConfigurationError

if TYPE_CHECKING:
    from hf_stabilizer.ensembling.request import Request

# Any in this module: values that pandas' readers take.
COMBINATIONS = ("mean_probability", "mean_logit", "rank_mean", "weighted")


def add(command: AddCommand) -> None:
    """Adds `predict`."""
    predict = command(
        "predict", _predict, "Write what models predict for the rows of a file, resumably."
    )
    predict.epilog = None
    predict.add_argument(
        "runs", nargs="+", metavar="RUN",
        help="folders of runs, checkpoints, models, soups, of a study, of a cross-validation (the "
        "models of its folds) or of an ensemble; several: their mean",
    )  # fmt: skip
    predict.add_argument("file", metavar="FILE", help="the rows; they need no label")
    predict.add_argument(
        "--output", metavar="OUT", required=True,
        help="file to write: .parquet, .csv or .jsonl; started again it goes on",
    )  # fmt: skip
    add_combine(predict)
    predict.add_argument("--batch-size", type=int, default=32, help="rows per forward pass")
    predict.add_argument(
        "--text-columns", nargs="+", metavar="NAME",
        help="column of the text, or two (default: as the run was trained)",
    )  # fmt: skip
    predict.add_argument(
        "--choice-columns", nargs="+", metavar="NAME", help="columns of the choices, likewise"
    )
    predict.add_argument(
        "--reader-options", metavar="YAML",
        help="for the pandas reader of FILE, such as '{sep: \";\"}' (default: as the run's files)",
    )  # fmt: skip
    predict.add_argument(
        "--dry-run", action="store_true", help="say what would be done, and write nothing"
    )


def add_combine(command: argparse.ArgumentParser) -> None:
    """Adds the options that say how several models are combined."""
    command.add_argument(
        "--combine", metavar="HOW",
        help=f"{', '.join(COMBINATIONS)} (default: {COMBINATIONS[0]})",
    )  # fmt: skip
    command.add_argument(
        "--weights", nargs="+", type=float, metavar="W", help="with weighted: one for each member"
    )


def _predict(args: argparse.Namespace) -> None:
    no_overrides(args)
    show_notes()
    from hf_stabilizer.ensembling.predicting import checked_output, predict
    from hf_stabilizer.ensembling.request import prepare_request

    checked_output(args.output)
    options = {
        "combine": args.combine or ("weighted" if args.weights else COMBINATIONS[0]),
        "weights": args.weights,
        "batch_size": args.batch_size,
        "text_columns": args.text_columns,
        "choice_columns": args.choice_columns,
        "reader_options": _reader_options(args.reader_options),
    }
    if args.batch_size < 1:
        raise ConfigurationError(f"--batch-size must be 1 or more, got {args.batch_size!r}")
    if args.dry_run:
        _show(prepare_request(args.runs, args.file, **options), args.output)
        return
    found = predict(args.runs, args.file, output=args.output, progress=shown, **options)
    print(f"{args.output}: {len(found)} rows")


def _reader_options(text: str | None) -> dict[str, Any] | None:
    from hf_stabilizer.recipes import read_value

    options = None if text is None else read_value(text)
    if options is not None and not isinstance(options, dict):
        raise ConfigurationError(
            f"--reader-options must be a mapping such as '{{sep: \";\"}}', got {text!r}"
        )
    return options


def _show(request: Request, output: str) -> None:
    from hf_stabilizer.ensembling.predicting import parts_of

    record = request.to_records()
    print(f"{len(request.names)} model(s) would be asked about {record['rows']} rows:")
    for name in request.names:
        print(f"  {name}")
    print(f"columns read: {', '.join(record['columns'])}")
    print(f"columns written: {', '.join(record['written'])}")
    print(f"{record['forward_passes']} forward passes, then {output}")
    from pathlib import Path

    if parts_of(Path(output)).is_dir():
        print("it was begun before and would go on")


@contextmanager
def shown(total: int) -> Iterator[Callable[[int], None]]:
    """Shows a bar of rows on a terminal, on standard error; elsewhere nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(file=sys.stderr)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("rows", total=total)
        yield lambda rows: bar.advance(task, rows)
