"""What does `hf-stabilizer study` do? Recipes over the same seeds, and a report."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_stabilizer.cli.parsing import AddCommand, InPlaceOf
from hf_stabilizer.cli.speaking import begin, show_notes, speak_plainly, without_secrets
from hf_stabilizer.cli.study_options import (
    add_study_options,
    check_options,
    engine_options,
    grid_options,
    show_rehearsal,
    study_options,
)
from hf_stabilizer.errors import ConfigurationError

if TYPE_CHECKING:
    from hf_stabilizer.studies.study import Study


def add(command: AddCommand) -> None:
    """Adds `study`."""
    study = command("study", _study, "Run recipes over the same seeds, and report on them.")
    config = study.add_argument("config", help="YAML file; none with --trainer or --command")
    study.add_argument(
        "--trainer", metavar="FILE.py:FUNCTION", action=InPlaceOf, other=config,
        help="instead: a function from StabilizerArguments to a Trainer; --key value sets its "
        "arguments",
    )  # fmt: skip
    study.add_argument(
        "--command", dest="template", metavar="TEMPLATE", action=InPlaceOf, other=config,
        help="instead: the command line of any Trainer script, with {seed}, {data_seed}, "
        "{output_dir}, ...; no early stopping there",
    )  # fmt: skip
    study.add_argument(
        "--metric-for-best-model", dest="decides", metavar="METRIC",
        help="the metric that decides (default: the configuration's, or the script's own)",
    )  # fmt: skip
    study.add_argument(
        "--recipes", nargs="+", metavar="RECIPE",
        help="the first is the baseline (default: plain stabilised; with --command: none)",
    )  # fmt: skip
    study.add_argument(
        "--sweep", action="append", default=[], metavar="KEY=V1,V2",
        help="one recipe for each value of a key, e.g. transfer_layers=0,2,4 or reinit_layers=all "
        "(every number of blocks); may be given again; the report draws the score against it",
    )  # fmt: skip
    add_study_options(study, runs="6", folder="the file's, or results/NAME-OF-FILE")


def _study(args: argparse.Namespace) -> None:
    check_options(args)
    if args.template is not None:
        _study_of_command(args)
        return
    if args.decides is not None:
        args.overrides["metric_for_best_model"] = args.decides
    begin(args.config if args.trainer is None else None)
    from rich.console import Console

    from hf_stabilizer.studies.schedule import run_study
    from hf_stabilizer.studies.table import print_study

    speak_plainly()
    subject, folder = read_subject(args)
    if args.dry_run:
        _dry_run(args, subject, folder)
        return
    study = run_study(
        subject,
        recipes=_recipes(args, subject),
        output_dir=folder,
        **study_options(args),
        console=Console(stderr=True),
    )
    page = keep_report(study, folder)
    print_study(study, Console())
    print(f"\nReport: {page}")


def _dry_run(args: argparse.Namespace, subject: Any, folder: str | Path) -> None:
    from hf_stabilizer.studies.rehearsal import rehearse_study

    recipes, options = _recipes(args, subject), study_options(args)
    show_rehearsal(
        args, lambda: rehearse_study(subject, recipes=recipes, output_dir=folder, **options)
    )


def _recipes(
    args: argparse.Namespace, subject: Any
) -> Sequence[str] | Mapping[str, Mapping[str, Any]]:
    """Returns the recipes that were named, and those of the sweeps behind them."""
    if not args.sweep:
        return args.recipes or ["plain", "stabilised"]
    from hf_stabilizer.studies.sweeps.reading import read_sweeps

    config = None if args.trainer is not None else Path(subject)
    return read_sweeps(
        args.sweep, recipes=args.recipes or (), config=config, overrides=args.overrides
    )


def keep_report(study: Study, output_dir: str | Path) -> Path:
    """Writes the report into the study's folder, and to its URL where it lies at one."""
    from hf_stabilizer.studies.executors.remote import send_file
    from hf_stabilizer.studies.page.report import write_report

    page = write_report(study, (study.folder or Path(output_dir)) / "report.html")
    send_file(output_dir, page)
    return page


def _place(named: str | Path) -> str | Path:
    from hf_stabilizer.studies.executors.remote import is_url

    return named if is_url(named) else Path(named)


def read_subject(args: argparse.Namespace, *, ending: str = "") -> tuple[Any, str | Path]:
    """Returns what is studied, a YAML file or a function, and the folder or its URL.

    Args:
        args: With `config`, `trainer` and `output_dir`.
        ending: Behind the name of the file where it names the folder.
    """
    if args.trainer is None:
        from hf_stabilizer.recipes import read_yaml

        named = args.output_dir or read_yaml(Path(args.config)).get("output_dir")
        return args.config, _place(named or Path("results") / (Path(args.config).stem + ending))
    if args.config is not None:
        raise ConfigurationError(
            f"give --trainer or the file {args.config!r}, not both; --trainer comes before "
            "configuration keys such as --learning_rate"
        )
    from hf_stabilizer.studies.functions.trainer_file import read_trainer_file

    function = read_trainer_file(args.trainer)
    stem = Path(function.file).stem
    return function, _place(args.output_dir or Path("results") / (stem + ending))


def _study_of_command(args: argparse.Namespace) -> None:
    if args.trainer is not None:
        raise ConfigurationError("give --command or --trainer, not both")
    if args.config is not None:
        raise ConfigurationError(f"give --command or the file {args.config!r}, not both")
    if args.sweep:
        raise ConfigurationError(
            "--sweep sets options, but a command line sets those of its script itself; put "
            "{recipe} into the command, and name its values with --recipes"
        )
    if args.output_dir is None:
        raise ConfigurationError("--command needs --output-dir, the folder of the study")
    if args.overrides:
        key = next(iter(args.overrides))
        raise ConfigurationError(
            f"a study of a command takes no --{key}, as the command sets the options of its script "
            "itself; write it into the command"
        )
    from rich.console import Console

    from hf_stabilizer.studies.commands.command_question import RECIPE
    from hf_stabilizer.studies.commands.command_study import run_command_study
    from hf_stabilizer.studies.early_stopping.stopping import read_extent
    from hf_stabilizer.studies.executors.place import Engine, open_for_command
    from hf_stabilizer.studies.page.report import write_report
    from hf_stabilizer.studies.table import print_study

    show_notes()
    if args.dry_run:
        _dry_run_of_command(args)
        return
    grid = grid_options(args)
    extent = read_extent(
        runs=args.runs,
        stop_at=args.stop_at,
        keep=args.keep,
        budget=args.budget,
        first_seed=args.first_seed,
        grid=grid,
    )
    errors = Console(stderr=True)
    note = "A study of a command: every run goes to its end, there is no early stopping."
    errors.print(note, highlight=False)
    engine = Engine(**engine_options(args))
    with open_for_command(args.output_dir, engine) as options:
        study = run_command_study(
            args.template,
            recipes=args.recipes or [RECIPE],
            runs=extent.runs,
            stop_at=extent.stopping.stop_at if extent.stopping else None,
            output_dir=args.output_dir,
            metric=args.decides,
            **options,
            first_seed=args.first_seed,
            **grid,
            retry_failed=args.retry_failed,
            made_by=shlex.join(["hf-stabilizer", *without_secrets(args.argv)]),
            console=errors,
        )
    page = write_report(study, Path(args.output_dir) / "report.html")
    print_study(study, Console())
    print(f"\nReport: {page}")


def _dry_run_of_command(args: argparse.Namespace) -> None:
    from hf_stabilizer.studies.rehearsal import rehearse_study

    options = study_options(args)
    options["overrides"] = {} if args.decides is None else {"metric_for_best_model": args.decides}
    recipes, folder = args.recipes or ["plain"], args.output_dir  # none is that of the script
    show_rehearsal(
        args, lambda: rehearse_study(args.template, recipes=recipes, output_dir=folder, **options)
    )
