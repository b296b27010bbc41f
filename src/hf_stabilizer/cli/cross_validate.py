"""What does `hf-stabilizer cross-validate` do? A model per fold, scored where it did not learn."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from hf_stabilizer.cli.parsing import AddCommand
from hf_stabilizer.cli.speaking import begin, speak_plainly, without_secrets
from hf_stabilizer.cli.study_options import add_engine_options


def add(command: AddCommand) -> None:
    """Adds `cross-validate`."""
    text = "Train one model per fold, and score every row by models that did not learn from it."
    folds = command("cross-validate", _cross_validate, text)
    folds.add_argument("config", help="YAML file")
    folds.add_argument("--recipe", help="recipe, by name or as a YAML file")
    folds.add_argument("--folds", type=int, metavar="K", help="number of folds (default: 5)")
    folds.add_argument(
        "--fold-column", metavar="COLUMN", help="instead: one fold for each value of this column"
    )
    folds.add_argument(
        "--stratify", action=argparse.BooleanOptionalAction, default=True,
        help="keep the shares of the labels in every fold (default: yes)",
    )  # fmt: skip
    folds.add_argument(
        "--choose-on", choices=("nothing", "inner", "fold"), default="nothing",
        help="what chooses the weights of a fold: nothing, the last are kept (default); rows taken "
        "from its training rows; or its own rows, which makes all scores optimistic",
    )  # fmt: skip
    folds.add_argument(
        "--inner-size", type=float, default=0.1, metavar="SHARE",
        help="share of the training rows that chooses with --choose-on inner (default: 0.1)",
    )  # fmt: skip
    folds.add_argument(
        "--runs", type=int, default=1, metavar="S", help="runs per fold (default: 1)"
    )
    folds.add_argument("--first-seed", type=int, default=1, help="seed of the first run")
    folds.add_argument("--output-dir", help="default: the file's, or results/NAME-OF-FILE-folds")
    folds.add_argument("--keep-models", action="store_true", help="keep the model of every run")
    add_engine_options(folds)
    folds.add_argument(
        "--dry-run", action="store_true",
        help="show the folds and what they would cost; train nothing and write nothing",
    )  # fmt: skip
    folds.add_argument("--json", action="store_true", help="print all of it as JSON")


def _division(args: argparse.Namespace) -> dict[str, Any]:  # Any: one type for each option
    names = ("folds", "fold_column", "stratify", "choose_on", "inner_size", "runs", "recipe")
    return {**{name: getattr(args, name) for name in names}, "overrides": args.overrides}


def _cross_validate(args: argparse.Namespace) -> None:
    begin(args.config)
    if args.dry_run:
        _dry_run(args)
        return
    import json

    from rich.console import Console

    from hf_stabilizer.folds import cross_validate
    from hf_stabilizer.folds.view import print_cross_validation
    from hf_stabilizer.recipes import read_yaml

    speak_plainly()
    named = args.output_dir or read_yaml(Path(args.config)).get("output_dir")
    folder = Path(named or Path("results") / f"{Path(args.config).stem}-folds")
    engine = ("executor", "workers", "address", "launcher", "retry_failed", "keep_models")
    found = cross_validate(
        args.config,
        output_dir=folder,
        first_seed=args.first_seed,
        **_division(args),
        **{name: getattr(args, name) for name in engine},
        command=shlex.join(["hf-stabilizer", *without_secrets(args.argv)]),
        console=Console(stderr=True),
    )
    if args.json:
        print(json.dumps(found.to_records(), indent=2))
        return
    print_cross_validation(found, Console())
    print(f"\nReport: {folder / 'report.html'}")
    print(f"Out-of-fold predictions: {folder / 'out_of_fold.parquet'}")
    print(f"Scores: {folder / 'procedure.json'}")


def _dry_run(args: argparse.Namespace) -> None:
    import contextlib
    import json
    import sys

    from rich.console import Console

    from hf_stabilizer.folds.cost import fold_cost
    from hf_stabilizer.folds.planning import plan_folds
    from hf_stabilizer.folds.view import print_fold_plan

    speak_plainly()
    with contextlib.redirect_stdout(sys.stderr):
        plan = plan_folds(args.config, **_division(args))
        cost = fold_cost(plan)
    if args.json:
        print(json.dumps({**plan.to_records(), "cost": cost}, indent=2))
    else:
        print_fold_plan(plan, Console(), cost)
