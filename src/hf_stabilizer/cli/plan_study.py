"""What does `hf-stabilizer plan-study` do? From finished runs: which t, f and p for a budget?"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from hf_stabilizer.cli.parsing import AddCommand, no_overrides
from hf_stabilizer.cli.speaking import show_notes, without_secrets


def add(command: AddCommand) -> None:
    """Adds `plan-study`."""
    text = "Tell from finished runs how many to start, when to stop and how many to continue."
    plan = command("plan-study", _plan_study, text)
    plan.epilog = None
    plan.add_argument(
        "folders", nargs="+", metavar="RUNS", help="folder of a study, of runs, or above them"
    )
    plan.add_argument(
        "--budget", type=float, required=True, metavar="B", help="full runs per recipe to spend"
    )
    plan.add_argument(
        "--recipe", metavar="NAME", help="whose runs, where there are several (default: the first)"
    )
    plan.add_argument("--metric", help="the one that decides (default: as the runs name it)")
    plan.add_argument(
        "--greater-is-better", action=argparse.BooleanOptionalAction,
        help="direction of the metric",
    )  # fmt: skip
    plan.add_argument(
        "--on-test", action="store_true",
        help="choose by validation, but count the test score",
    )  # fmt: skip
    plan.add_argument(
        "--perfect", type=float, metavar="SCORE",
        help="the score without error (default: 1 where greater is better, else 0)",
    )  # fmt: skip
    plan.add_argument("--output", help="HTML file (default: plan.html, in the folder if it is one)")
    plan.add_argument(
        "--json", action="store_true", help="print all of it as JSON; a page only with --output"
    )


def _plan_study(args: argparse.Namespace) -> None:
    no_overrides(args)
    import json

    from rich.console import Console

    from hf_stabilizer.records import check_file
    from hf_stabilizer.studies.past_runs.reading import read_runs
    from hf_stabilizer.studies.plans.plan_page import write_plan
    from hf_stabilizer.studies.plans.plan_view import print_plan
    from hf_stabilizer.studies.plans.study_plan import plan_from

    show_notes()
    alone = Path(args.folders[0]) if len(args.folders) == 1 else Path()
    output = Path(args.output or alone / "plan.html")
    study = read_runs(args.folders, metric=args.metric, greater_is_better=args.greater_is_better)
    check_file(output, key="output", example="plan.html")
    found = plan_from(
        study, args.budget, recipe=args.recipe, on_test=args.on_test, perfect=args.perfect
    )
    if args.json:
        print(json.dumps(found.to_records(), indent=2))
    else:
        print_plan(found, Console())
    if args.output or not args.json:
        command = shlex.join(["hf-stabilizer", *without_secrets(args.argv)])
        page = write_plan(found, output, name=study.name, command=command)
        if not args.json:
            print(f"\nPage: {page}")
