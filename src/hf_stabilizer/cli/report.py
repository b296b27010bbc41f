"""What does `hf-stabilizer report` do? The page of a study, a cross-validation, or any runs.

Of studies and runs on demand with figures, a Markdown summary, and the section of a model card.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hf_stabilizer.cli.parsing import AddCommand, no_overrides
from hf_stabilizer.cli.speaking import show_notes
from hf_stabilizer.errors import ConfigurationError, check_choice

if TYPE_CHECKING:
    from hf_stabilizer.studies.study import Study


def add(command: AddCommand) -> None:
    """Adds `report`."""
    text = (
        "Write the HTML report of a study, of a cross-validation, or of runs of any Trainer that "
        "exist already."
    )
    report = command("report", _report, text)
    report.epilog = None
    report.add_argument(
        "folders",
        nargs="+",
        metavar="RUNS",
        help="folder of a study, of a cross-validation, of runs, or above them",
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
    report.add_argument(
        "--figures", metavar="FOLDER", help="also write every figure there, as PNG and SVG"
    )
    report.add_argument(
        "--format", nargs="+", choices=("png", "svg", "pdf"),
        help="of the figures (default: png svg)",
    )  # fmt: skip
    report.add_argument("--markdown", metavar="FILE", help="also write a summary in Markdown")
    report.add_argument(
        "--model-card", metavar="FILE",
        help="also put seeds, mean and spread, and which weights these are, into this model card; "
        "a new one if it is not there",
    )  # fmt: skip
    report.add_argument(
        "--model-card-recipe", metavar="RECIPE",
        help="whose model it is (default: the recipe with the best mean)",
    )  # fmt: skip


def _report(args: argparse.Namespace) -> None:
    no_overrides(args)
    if _is_cross_validation(args):
        _report_folds(args)
        return
    import dataclasses

    from rich.console import Console

    from hf_stabilizer.studies.page.report import write_report
    from hf_stabilizer.studies.past_runs.reading import read_runs
    from hf_stabilizer.studies.table import print_study

    show_notes()
    _check_owners(args)
    study = read_runs(
        args.folders,
        metric=args.metric,
        greater_is_better=args.greater_is_better,
        recipe=dict(map(_glob_and_name, args.recipe)),
    )
    if args.model_card_recipe is not None:
        check_choice(args.model_card_recipe, study.recipes, name="--model-card-recipe")
    if not study.command:
        study = dataclasses.replace(study, command=shlex.join(["hf-stabilizer", *args.argv]))
    alone = Path(args.folders[0]) if len(args.folders) == 1 else Path()
    output = Path(args.output or alone / "report.html")
    _check_paths(args, output)
    more = list(_write_more(study, args))
    page = write_report(study, output)
    print_study(study, Console())
    print(f"\nReport: {page}")
    for line in more:
        print(line)


def _is_cross_validation(args: argparse.Namespace) -> bool:
    """Whether one folder is named, and holds a cross-validation that is over.

    One under way is a study of the folds' runs so far.
    """
    from hf_stabilizer.folds.record import KIND
    from hf_stabilizer.procedure import read_procedure

    record = read_procedure(args.folders[0]) if len(args.folders) == 1 else None
    return record is not None and record.kind == KIND and record.is_over


def _report_folds(args: argparse.Namespace) -> None:
    """Writes the page of a cross-validation, whose metric and files are settled."""
    from rich.console import Console

    from hf_stabilizer.folds import CrossValidation, write_fold_report
    from hf_stabilizer.folds.view import print_cross_validation
    from hf_stabilizer.records import check_file

    (folder,) = args.folders
    for name in ("metric", "greater_is_better", "recipe", "figures", "format", "markdown",
                 "model_card", "model_card_recipe"):  # fmt: skip
        if getattr(args, name) not in (None, []):
            raise ConfigurationError(
                f"--{name.replace('_', '-')} is for studies, and {folder!r} holds a "
                f"cross-validation; leave it out, or name {str(Path(folder) / 'study')!r}, the "
                "runs of its folds"
            )
    output = Path(args.output or Path(folder) / "report.html")
    check_file(output, key="output", example="report.html")
    found = CrossValidation.from_folder(folder)
    page = write_fold_report(found, output)
    print_cross_validation(found, Console())
    print(f"\nReport: {page}")


def _check_owners(args: argparse.Namespace) -> None:
    """Refuses an option about what is not asked for."""
    for option, value, owner, asked in (
        ("--model-card-recipe", args.model_card_recipe, "--model-card FILE", args.model_card),
        ("--format", args.format, "--figures FOLDER", args.figures),
    ):
        if value is not None and asked is None:
            raise ConfigurationError(f"{option} does nothing without {owner}; add it")


def _check_paths(args: argparse.Namespace, output: Path) -> None:
    """Refuses what cannot be written before anything is."""
    from hf_stabilizer.records import check_file, check_folder

    check_file(output, key="output", example="report.html")
    for key, name, example in (
        ("markdown", args.markdown, "summary.md"),
        ("model_card", args.model_card, "README.md"),
    ):
        if name is not None:
            check_file(Path(name), key=key, example=example)
    if args.figures is not None:
        check_folder(Path(args.figures), key="figures")


def _write_more(study: Study, args: argparse.Namespace) -> Iterator[str]:
    """Writes what was asked for beside the page, and tells where it lies.

    The model card first: one that is there may be refused, and then nothing else is written.
    """
    from hf_stabilizer.studies.cards.markdown import write_markdown_summary
    from hf_stabilizer.studies.cards.model_card import write_model_card
    from hf_stabilizer.studies.figures import save_figures

    if args.model_card is not None:
        card = write_model_card(study, args.model_card, recipe=args.model_card_recipe)
        yield f"Model card: {card}"
    if args.figures is not None:
        paths = save_figures(study, args.figures, formats=args.format or ("png", "svg"))
        yield f"Figures: {args.figures} ({len(paths)} files)"
    if args.markdown is not None:
        yield f"Summary: {write_markdown_summary(study, args.markdown)}"


def _glob_and_name(text: str) -> tuple[str, str]:
    glob, equals, name = text.rpartition("=")
    if not (equals and glob and name):
        raise ConfigurationError(f"--recipe must be GLOB=NAME, such as '*llrd*=llrd', got {text!r}")
    return glob, name
