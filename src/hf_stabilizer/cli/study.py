"""What does `hf-stabilizer study` do? Recipes over the same seeds, and a report."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from hf_stabilizer.cli.parsing import AddCommand, InPlaceOf, no_overrides
from hf_stabilizer.cli.speaking import show_notes, speak_plainly, without_secrets
from hf_stabilizer.errors import ConfigurationError


def add(command: AddCommand) -> None:
    """Adds `study`."""
    study = command("study", _study, "Run recipes over the same seeds, and report on them.")
    config = study.add_argument("config", help="YAML file; none with --command")
    study.add_argument(
        "--command", dest="template", metavar="TEMPLATE", action=InPlaceOf, other=config,
        help="instead: the command line of any Trainer script, with {seed}, {data_seed}, "
        "{output_dir}, ...; no early stopping there",
    )  # fmt: skip
    study.add_argument(
        "--metric-for-best-model", "--metric_for_best_model", dest="decides", metavar="METRIC",
        help="the metric that decides (default: the configuration's, or the script's own)",
    )  # fmt: skip
    study.add_argument(
        "--recipes", nargs="+", metavar="RECIPE",
        help="the first is the baseline (default: plain stabilised; with --command: none)",
    )  # fmt: skip
    study.add_argument("--runs", type=int, help="runs per recipe (default: 6)")
    study.add_argument(
        "--stop-at", "--stop_at", type=float, metavar="F",
        help="stop all but the best runs at this fraction of their steps, in (0, 1); with --keep",
    )  # fmt: skip
    study.add_argument("--keep", type=int, metavar="P", help="runs per recipe that go on there")
    study.add_argument(
        "--budget", type=float, metavar="B",
        help="full runs per recipe to spend; sets --runs and --keep (and --stop-at: 0.25)",
    )  # fmt: skip
    study.add_argument("--first-seed", type=int, default=1, help="seed of the first run")
    study.add_argument(
        "--output-dir", "--output_dir", help="default: the file's, or results/NAME-OF-FILE"
    )
    study.add_argument("--workers", type=int, help="processes (default: one per GPU or core)")
    study.add_argument("--retry-failed", action="store_true", help="repeat runs that raised")


def _study(args: argparse.Namespace) -> None:
    if args.template is not None:
        _study_of_command(args)
        return
    if args.decides is not None:
        args.overrides["metric_for_best_model"] = args.decides
    from rich.console import Console

    from hf_stabilizer.recipes import read_yaml
    from hf_stabilizer.studies.report import write_report
    from hf_stabilizer.studies.schedule import run_study
    from hf_stabilizer.studies.table import print_study

    speak_plainly()
    named = args.output_dir or read_yaml(Path(args.config)).get("output_dir")
    folder = Path(named or Path("results") / Path(args.config).stem)
    errors = Console(stderr=True)
    errors.print("Checking the configuration, the rows and the model ...", highlight=False)
    study = run_study(
        args.config,
        recipes=args.recipes or ["plain", "stabilised"],
        **how_many(args),
        output_dir=folder,
        workers=args.workers,
        first_seed=args.first_seed,
        retry_failed=args.retry_failed,
        overrides=args.overrides,
        command=shlex.join(["hf-stabilizer", *without_secrets(args.argv)]),
        console=errors,
    )
    page = write_report(study, folder / "report.html")
    print_study(study, Console())
    print(f"\nReport: {page}")


def _study_of_command(args: argparse.Namespace) -> None:
    if args.config is not None:
        raise ConfigurationError(f"give --command or the file {args.config!r}, not both")
    if args.output_dir is None:
        raise ConfigurationError("--command needs --output-dir, the folder of the study")
    no_overrides(args)
    from rich.console import Console

    from hf_stabilizer.studies.commands import RECIPE, run_command_study
    from hf_stabilizer.studies.report import write_report
    from hf_stabilizer.studies.table import print_study

    show_notes()
    errors = Console(stderr=True)
    note = "A study of a command: every run goes to its end, there is no early stopping."
    errors.print(note, highlight=False)
    study = run_command_study(
        args.template,
        recipes=args.recipes or [RECIPE],
        **how_many(args),
        output_dir=args.output_dir,
        metric=args.decides,
        workers=args.workers,
        first_seed=args.first_seed,
        retry_failed=args.retry_failed,
        made_by=shlex.join(["hf-stabilizer", *without_secrets(args.argv)]),
        console=errors,
    )
    page = write_report(study, Path(args.output_dir) / "report.html")
    print_study(study, Console())
    print(f"\nReport: {page}")


def how_many(args: argparse.Namespace) -> dict[str, Any]:
    """Runs, fraction and runs that go on: as given, or what a budget buys."""
    if args.budget is None:
        runs = 6 if args.runs is None else args.runs
        return {"runs": runs, "stop_at": args.stop_at, "keep": args.keep}
    for name in ("runs", "keep"):
        if (value := getattr(args, name)) is not None:
            raise ConfigurationError(
                f"--budget {args.budget:g} says how many runs there are, and --{name} {value} says "
                "so too; leave one of the two out"
            )
    from hf_stabilizer.studies.statistics import settings_for_budget

    stop_at = 0.25 if args.stop_at is None else args.stop_at
    bought = settings_for_budget(args.budget, stop_at=stop_at)
    return {"runs": bought.runs, "stop_at": bought.stop_at, "keep": bought.keep}
