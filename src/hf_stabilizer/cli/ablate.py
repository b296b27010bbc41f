"""What does `hf-stabilizer ablate` do? Each remedy alone, all, all but one, and one table."""

from __future__ import annotations

import argparse

from hf_stabilizer.cli.parsing import AddCommand, InPlaceOf
from hf_stabilizer.cli.speaking import begin, speak_plainly
from hf_stabilizer.cli.study import keep_report, read_subject
from hf_stabilizer.cli.study_options import (
    add_study_options,
    check_options,
    show_rehearsal,
    study_options,
)


def add(command: AddCommand) -> None:
    """Adds `ablate`."""
    text = "Tell which of several remedies helps: each alone, all, and all but one."
    ablate = command("ablate", _ablate, text)
    config = ablate.add_argument("config", help="YAML file; none with --trainer")
    ablate.add_argument(
        "--trainer", metavar="FILE.py:FUNCTION", action=InPlaceOf, other=config,
        help="instead: a function from StabilizerArguments to a Trainer",
    )  # fmt: skip
    ablate.add_argument(
        "--remedies", nargs="+", metavar="REMEDY", required=True,
        help="two or more: a recipe, a YAML file, or NAME:key=value,key=value",
    )  # fmt: skip
    ablate.add_argument(
        "--baseline", metavar="RECIPE", default="plain",
        help="the recipe that lies under every arm (default: plain)",
    )  # fmt: skip
    add_study_options(
        ablate,
        runs="the fewest that can show anything, 8 for two remedies, 9 for three to five",
        folder="the file's, or results/NAME-OF-FILE-ablation",
    )


def _ablate(args: argparse.Namespace) -> None:
    from rich.console import Console

    from hf_stabilizer.studies.ablations.ablation import runs_needed

    check_options(args, runs=runs_needed(len(args.remedies)))
    begin(args.config if args.trainer is None else None)
    from hf_stabilizer.studies.ablations.ablating import ablate, rehearse_ablation
    from hf_stabilizer.studies.ablations.ablation_view import print_ablation

    speak_plainly()
    subject, folder = read_subject(args, ending="-ablation")
    if args.dry_run:
        what = {"remedies": args.remedies, "baseline": args.baseline, "output_dir": folder}
        options = study_options(args)
        show_rehearsal(args, lambda: rehearse_ablation(subject, **what, **options))
        return
    study = ablate(
        subject,
        remedies=args.remedies,
        baseline=args.baseline,
        output_dir=folder,
        console=Console(stderr=True),
        **study_options(args),
    )
    page = keep_report(study, folder)
    print_ablation(study, Console())
    print(f"\nReport: {page}")
