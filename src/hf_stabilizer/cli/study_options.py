"""Which options does every study have? How many runs, how they stop early, where they execute."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hf_stabilizer.cli.speaking import without_secrets
from hf_stabilizer.errors import ConfigurationError

if TYPE_CHECKING:
    from hf_stabilizer.studies.rehearsed import RehearsedStudy
    from hf_stabilizer.studies.seeds.seed_grid import SeedGrid


def add_study_options(study: argparse.ArgumentParser, *, runs: str, folder: str) -> None:
    """Adds the options that `study` and `ablate` share.

    Args:
        study: The command's own parser.
        runs: How many runs there are by default, in words.
        folder: Where they lie by default, in words.
    """
    study.add_argument("--runs", type=int, help=f"runs per recipe (default: {runs})")
    study.add_argument(
        "--stop-at", type=float, metavar="F",
        help="stop all but the best runs at this fraction of their steps, in (0, 1) "
        "(with --keep: 0.25)",
    )  # fmt: skip
    study.add_argument(
        "--keep", type=int, metavar="P",
        help="runs per recipe that go on there (with --stop-at F of T runs: T F / (1 + F))",
    )  # fmt: skip
    study.add_argument(
        "--budget", type=float, metavar="B",
        help="full runs per recipe to spend; sets --runs and --keep (and --stop-at: 0.25)",
    )  # fmt: skip
    study.add_argument("--first-seed", type=int, default=1, help="seed of the first run")
    add_grid_options(study)
    study.add_argument("--output-dir", help=f"default: {folder}")
    add_engine_options(study)
    study.add_argument(
        "--keep-models", action="store_true",
        help="keep the model of every run, not only of each recipe's best one",
    )  # fmt: skip
    study.add_argument(
        "--dry-run", action="store_true",
        help="show recipes, runs, findings and cost; train nothing and write nothing",
    )  # fmt: skip
    study.add_argument("--json", action="store_true", help="with --dry-run: for machines")


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options about what executes the runs."""
    parser.add_argument("--workers", type=int, help="processes (default: one per GPU or core)")
    parser.add_argument(
        "--executor", metavar="NAME",
        help="where runs execute: local (default), in-process, ray, dask",
    )  # fmt: skip
    parser.add_argument(
        "--address", help="of a running Ray or Dask cluster (default: one on this machine)"
    )
    parser.add_argument(
        "--launcher", metavar="COMMAND",
        help='several processes for each run, e.g. "accelerate launch --num_processes 2"',
    )  # fmt: skip
    parser.add_argument("--retry-failed", action="store_true", help="repeat runs that raised")


def add_control_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a study that tells whether other training rows help."""
    parser.add_argument(
        "--runs", type=int, metavar="S",
        help="runs with and without, 2 or more, compared (default: none)",
    )  # fmt: skip
    parser.add_argument(
        "--equal", default="steps", choices=("steps", "epochs"), metavar="steps|epochs",
        help="what runs with and without have in common (default: steps)",
    )  # fmt: skip
    parser.add_argument("--first-seed", type=int, default=1, help="seed of the first run")
    add_engine_options(parser)


def add_grid_options(study: argparse.ArgumentParser) -> None:
    """Adds the options of a grid of seeds."""
    for what, text in (
        ("head", "vary the new parameters"),
        ("data", "vary the order of the data"),
        ("dropout", "vary dropout"),
    ):
        study.add_argument(
            f"--{what}-seeds", nargs="+", type=int, metavar="N",
            help=f"{text}: how many seeds, or two or more seeds; all combinations are run, or "
            "as many as --runs says",
        )  # fmt: skip


def grid_options(args: argparse.Namespace) -> SeedGrid:
    """Returns the options of a grid as keyword arguments of `run_study`: one number is a count."""

    def factor(values: list[int] | None) -> int | list[int] | None:
        return values[0] if values and len(values) == 1 else values

    return {
        "head_seeds": factor(args.head_seeds),
        "data_seeds": factor(args.data_seeds),
        "dropout_seeds": factor(args.dropout_seeds),
    }


def check_options(args: argparse.Namespace, *, runs: int | None = None) -> None:
    """Raises what is wrong with the options that every study has, before anything is loaded.

    Args:
        args: With the options.
        runs: Runs per recipe where nothing is said of them; None: as `run_study` has it.

    Raises:
        ConfigurationError: A number outside its range, or options that do not belong together.
    """
    from hf_stabilizer.studies.early_stopping.stopping import RUNS, read_extent
    from hf_stabilizer.studies.seeds.seed_grid import plan_seeds

    if args.json and not args.dry_run:
        raise ConfigurationError("--json shows a dry run to machines; add --dry-run")
    grid = grid_options(args)
    extent = read_extent(
        runs=args.runs,
        stop_at=args.stop_at,
        keep=args.keep,
        budget=args.budget,
        usual=runs or RUNS,
        first_seed=args.first_seed,
        grid=grid,
    )
    plan_seeds(runs=extent.runs, first_seed=args.first_seed, **grid)


def show_rehearsal(args: argparse.Namespace, rehearse: Callable[[], RehearsedStudy]) -> None:
    """Prints what a study would do.

    Raises:
        ConfigurationError: Its runs would fail.
    """
    import json

    from rich.console import Console

    from hf_stabilizer.studies.rehearsal_view import print_rehearsal, to_record

    with contextlib.redirect_stdout(sys.stderr):  # what people's function prints
        found = rehearse()
    if args.json:
        print(json.dumps(to_record(found), indent=2, default=str))
    else:
        console = Console()
        print_rehearsal(found, console if console.is_terminal else Console(width=160))
    if found.would_fail:
        raise ConfigurationError("runs would fail; see the findings")


def engine_options(args: argparse.Namespace) -> dict[str, Any]:  # Any: a number or a text
    """Returns the options about what executes the runs as keyword arguments of `run_study`."""
    return {name: getattr(args, name) for name in ("executor", "workers", "address", "launcher")}


def study_options(args: argparse.Namespace) -> dict[str, Any]:  # Any: one type for each option
    """Returns these options as keyword arguments of `run_study`, the folder left out."""
    return {
        "runs": args.runs,
        "stop_at": args.stop_at,
        "keep": args.keep,
        "budget": args.budget,
        **engine_options(args),
        "first_seed": args.first_seed,
        **grid_options(args),
        "retry_failed": args.retry_failed,
        "keep_models": args.keep_models,
        "overrides": args.overrides,
        "command": shlex.join(["hf-stabilizer", *without_secrets(args.argv)]),
    }
