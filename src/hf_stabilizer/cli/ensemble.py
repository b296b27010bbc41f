"""What does `hf-stabilizer ensemble` do? The mean of several models, or one model of their mean."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from hf_stabilizer.cli.parsing import AddCommand, no_overrides
from hf_stabilizer.cli.predict import COMBINATIONS, add_combine
from hf_stabilizer.errors import ConfigurationError, check_choice

if TYPE_CHECKING:
    from rich.table import Table

    from hf_stabilizer.ensembling import Ensemble, Soup


def add(command: AddCommand) -> None:
    """Adds `ensemble`."""
    ensemble = command(
        "ensemble", _ensemble, "Combine several models, beside the best of them on the same rows."
    )
    ensemble.epilog = None
    ensemble.add_argument(
        "runs", nargs="+", metavar="RUN",
        help="folders of runs, of a study, of checkpoints or models, or of cross-validations",
    )  # fmt: skip
    add_combine(ensemble)
    ensemble.add_argument(
        "--soup", metavar="KIND", help="average the weights instead: greedy or uniform"
    )
    ensemble.add_argument(
        "--recipes", nargs="+", metavar="RECIPE", help="of a study the runs of these alone"
    )
    ensemble.add_argument("--part", metavar="PART", help="rows that judge: test or validation")
    ensemble.add_argument("--file", metavar="FILE", help="rows that judge, instead")
    ensemble.add_argument("--label-column", metavar="NAME", help="their column of right answers")
    ensemble.add_argument("--metric", metavar="NAME", help="the score (default: that of the runs)")
    ensemble.add_argument("--batch-size", type=int, default=32, help="rows per forward pass")
    ensemble.add_argument("--output-dir", metavar="OUT", help="folder for what comes of it")
    ensemble.add_argument(
        "--dry-run", action="store_true", help="say what would be done, and write nothing"
    )


def _ensemble(args: argparse.Namespace) -> None:
    no_overrides(args)
    if args.output_dir is None and not args.dry_run:
        raise ConfigurationError("--output-dir is missing; name a folder for what comes of it")
    if args.soup is not None:
        _soup(args)
        return
    combine = args.combine or ("weighted" if args.weights else COMBINATIONS[0])
    check_choice(combine, COMBINATIONS, name="--combine")
    if args.dry_run:
        _plan(args, combine)
        return
    from rich.console import Console

    from hf_stabilizer.ensembling import ensemble

    found = ensemble(
        args.runs,
        combine=combine,
        weights=args.weights,
        recipes=args.recipes,
        part=args.part,
        file=args.file,
        label_column=args.label_column,
        metric=args.metric,
        batch_size=args.batch_size,
        output_dir=args.output_dir,
        tell=_tell,
    )
    console = Console()
    console.print(_table_of_ensemble(found, console.width))
    console.print(found.verdict, highlight=False, markup=False, soft_wrap=True)
    for note in found.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    print(f"Predictions: {args.output_dir}/predictions.parquet")


def _plan(args: argparse.Namespace, combine: str) -> None:
    from hf_stabilizer.ensembling.ensemble_record import WHICH
    from hf_stabilizer.ensembling.question import plan_ensemble, question_of
    from hf_stabilizer.ensembling.voices import Rows

    question = question_of(
        args.runs,
        combine=combine,
        weights=args.weights,
        recipes=args.recipes,
        rows=Rows(args.file, None, args.part, args.label_column),
        metric=args.metric,
        batch_size=args.batch_size,
    )
    plan = plan_ensemble(question, args.output_dir)
    count, rows = len(plan["members"]), f"{plan['rows']} {WHICH[plan['part']]}"
    what = "cross-validation(s)" if plan["folds"] else "member(s)"
    print(f"{count} {what} would be combined by {combine}:")
    for name in plan["members"]:
        print(f"  {name}")
    if plan["asked_anew"]:
        print(f"each model would be loaded and asked about {rows}, one at a time")
    else:
        print(f"no model would be loaded: all answers for {rows} exist")
    for note in plan["notes"]:
        print(f"note: {note}")


def _soup(args: argparse.Namespace) -> None:
    check_choice(args.soup, ("greedy", "uniform"), name="--soup")
    for option in ("combine", "weights", "part", "file", "label_column", "metric"):
        if getattr(args, option) is not None:
            raise ConfigurationError(
                f"--{option.replace('_', '-')} is not for --soup, which is chosen on the "
                "validation rows of its runs and judged on their test rows; leave it out"
            )
    from hf_stabilizer.ensembling import greedy_soup, uniform_soup
    from hf_stabilizer.ensembling.soups import plan_soup

    if args.dry_run:
        plan = plan_soup(
            args.runs,
            kind=args.soup,
            output_dir=args.output_dir,
            recipes=args.recipes,
            batch_size=args.batch_size,
        )
        print(f"a {args.soup} soup of {len(plan['members'])} models would be made:")
        for name in plan["members"]:
            print(f"  {name}")
        passes, rows = plan["passes"], plan["validation_rows"]
        most = "at most " if args.soup == "greedy" else ""
        print(f"{most}{passes} passes over {rows} validation rows for {plan['metric']}, then two")
        print(f"over {plan['test_rows']} test rows")
        for note in plan["notes"]:
            print(f"note: {note}")
        return
    from rich.console import Console

    make = greedy_soup if args.soup == "greedy" else uniform_soup
    found = make(
        args.runs,
        output_dir=args.output_dir,
        recipes=args.recipes,
        batch_size=args.batch_size,
        tell=_tell,
    )
    console = Console()
    console.print(_table_of_soup(found, console.width))
    console.print(found.verdict, highlight=False, markup=False, soft_wrap=True)
    for note in found.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    print(f"Model: {args.output_dir}")


def _table_of_ensemble(found: Ensemble, width: int) -> Table:
    from hf_stabilizer.ensembling.ensemble_record import WHICH
    from hf_stabilizer.studies import formats
    from hf_stabilizer.studies.fitted_table import fitted_table

    number = formats.number
    scores = [one.score for one in found.members if one.score is not None]
    decimals = formats.decimals_to_tell(found.difference, formats.decimals_for(scores))
    rows = []
    for name, one in zip(_short([one.name for one in found.members]), found.members, strict=True):
        marks = [
            word
            for word, other in (("best here", found.best), ("by validation", found.chosen))
            if other is one
        ]
        scored = [number(score, decimals) for score in (one.score, one.validation_score)]
        rows.append([name, *scored, number(one.weight, 3), ", ".join(marks)])
    rows.append([found.combine, number(found.score, decimals), formats.NOTHING, "", ""])
    return fitted_table(
        f"{found.metric} on {len(found.predictions)} {WHICH[found.part]}",
        ("member", "score", "validation", "weight", ""),
        rows,
        width=width,
        names=("member", ""),
        spare=("weight",),
        sections=[len(rows) - 2],
    )


def _table_of_soup(found: Soup, width: int) -> Table:
    from hf_stabilizer.studies import formats
    from hf_stabilizer.studies.fitted_table import fitted_table

    number = formats.number
    decimals = formats.decimals_for([one.score for one in found.members])
    decimals = formats.decimals_to_tell(found.difference, decimals)
    rows = []
    names = _short([one.name for one in found.members])
    for place, one in enumerate(found.members):
        test = found.best_test_score if place == 0 else None
        is_in = "yes" if one.is_in else "no"
        rows.append([names[place], number(one.score, decimals), number(test, decimals), is_in])
    whole = [number(score, decimals) for score in (found.score, found.test_score)]
    rows.append([f"{found.kind} soup", *whole, ""])
    return fitted_table(
        f"{found.metric}, best first by validation",
        ("model", "validation", "test", "in the soup"),
        rows,
        width=width,
        names=("model", "in the soup"),
        sections=[len(rows) - 2],
    )


def _short(names: list[str]) -> list[str]:
    """Leaves out the folder that all names begin with."""
    if len(names) < 2 or any(os.sep not in name for name in names):
        return names
    shared = os.path.commonpath(names)
    return [os.path.relpath(name, shared) for name in names]


def _tell(line: str) -> None:
    print(line, file=sys.stderr)
