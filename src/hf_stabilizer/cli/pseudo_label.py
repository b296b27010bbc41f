"""What does `hf-stabilizer pseudo-label` do? Labels for unlabelled rows, and whether they help."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from hf_stabilizer.cli.parsing import AddCommand
from hf_stabilizer.cli.speaking import begin, speak_plainly, without_secrets
from hf_stabilizer.cli.study_options import add_engine_options


def add(command: AddCommand) -> None:
    """Adds `pseudo-label`."""
    text = "Label unlabelled rows with trained models, and tell whether students gain by it."
    parser = command("pseudo-label", _pseudo_label, text)
    parser.add_argument("config", help="YAML file that names an unlabelled_file")
    parser.add_argument("--recipe", help="recipe for all runs, by name or as a YAML file")
    parser.add_argument(
        "--teachers", nargs="+", default=["3"], metavar="N|FOLDER",
        help="how many to train, or folders of trained models (default: 3)",
    )  # fmt: skip
    _add_rules(parser)
    parser.add_argument(
        "--sampling-rate", nargs="+", type=float, default=[1.0], metavar="R",
        help="share of the unlabelled rows that is used, in (0, 1]; several: the curve of the "
        "validation score (default: 1)",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=1, help="students become the next teachers")
    parser.add_argument(
        "--folds", type=int, metavar="K",
        help="fold the labelled rows; each fold has teachers that never saw its validation rows",
    )  # fmt: skip
    parser.add_argument(
        "--equal", default="steps", metavar="steps|epochs",
        help="what control and students have in common (default: steps); with epochs a control "
        "as long as the students is run, too",
    )  # fmt: skip
    _add_study(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="show stages and cost; train and write nothing"
    )


def _add_rules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threshold", type=_threshold, metavar="P",
        help="least confidence, in (0, 1], or none (default: 0.95, unless one of the next three "
        "is given)",
    )  # fmt: skip
    parser.add_argument("--top-k", type=int, metavar="K", help="the K surest of each class")
    parser.add_argument("--agreement", action="store_true", help="all teachers predict the same")
    parser.add_argument(
        "--max-spread", type=float, metavar="S",
        help="numbers: largest standard deviation of the teachers, in units of the label",
    )  # fmt: skip
    parser.add_argument("--soft", action="store_true", help="learn probabilities, not one class")
    parser.add_argument(
        "--temperature", type=float, default=1.0, metavar="T",
        help="with --soft: p^(1/T); below 1 is sharper (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--similarity", type=float, default=0.8, metavar="S",
        help="rows this similar to a validation or test row, or more, are kept out (default: 0.8)",
    )  # fmt: skip
    parser.add_argument(
        "--allow-missing-classes", action="store_true",
        help="go on where a class is never predicted, or in no row that is kept",
    )  # fmt: skip


def _add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runs", type=int, help="runs per arm (default: the fewest that can show p < .05: 6, with "
        "two or three sampling rates 7)",
    )  # fmt: skip
    parser.add_argument("--first-seed", type=int, default=1, help="seed of the first run")
    parser.add_argument("--output-dir", help="default: the file's, or results/NAME-pseudo-label")
    add_engine_options(parser)


def _threshold(text: str) -> float | str:
    return "none" if text.lower() == "none" else float(text)


def _options(args: argparse.Namespace) -> dict[str, Any]:  # Any: one type for each option
    """Returns what `run_pseudo_labels` and `plan_pseudo_labels` share."""
    names = ("top_k", "agreement", "max_spread", "soft", "temperature", "similarity")
    options = {name: getattr(args, name) for name in (*names, "allow_missing_classes")}
    if args.threshold is not None:
        options["threshold"] = None if args.threshold == "none" else args.threshold
    count = args.teachers[0]
    is_number = len(args.teachers) == 1 and count.lstrip("-").isdigit()
    return {
        **options,
        "recipe": args.recipe,
        "teachers": int(count) if is_number else args.teachers,
        "sampling_rate": args.sampling_rate,
        "rounds": args.rounds,
        "folds": args.folds,
        "equal": args.equal,
        "runs": args.runs,
        "first_seed": args.first_seed,
        "overrides": args.overrides,
    }


def _pseudo_label(args: argparse.Namespace) -> None:
    begin(args.config)
    from rich.console import Console

    if args.dry_run:
        from hf_stabilizer.pseudo_labels.planning import plan_pseudo_labels, print_plan

        speak_plainly()
        print_plan(plan_pseudo_labels(args.config, **_options(args)), Console())
        return
    from hf_stabilizer.pseudo_labels.running import run_pseudo_labels
    from hf_stabilizer.studies.table import print_study

    speak_plainly()
    found = run_pseudo_labels(
        args.config,
        output_dir=_folder(args),
        **_options(args),
        executor=args.executor,
        workers=args.workers,
        address=args.address,
        launcher=args.launcher,
        retry_failed=args.retry_failed,
        command=shlex.join(["hf-stabilizer", *without_secrets(args.argv)]),
        console=Console(stderr=True),
    )
    print_study(found.study, Console())
    print()
    for arm, told in found.labels.items():
        print(f"{arm}: {told['sentence']}.")
    print(f"\n{found.conclusion}")
    for path in found.files:
        print(f"Curve: {path}")
    print(f"Report: {found.report}")


def _folder(args: argparse.Namespace) -> Path:
    from hf_stabilizer.recipes import read_yaml

    config = Path(args.config)
    named = args.output_dir or read_yaml(config).get("output_dir")
    return Path(named or Path("results") / f"{config.stem}-pseudo-label")
