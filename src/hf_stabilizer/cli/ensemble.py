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
    console.print(_table_of_ensemble(found))
    console.print(found.verdict, highlight=False, markup=False, soft_wrap=True)
    for note in found.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    print(f"Predictions: {args.output_dir}/predictions.parquet")


def _plan(args: argparse.Namespace, combine: str) -> None:
    from hf_stabilizer.ensembling.candidates import find_candidates
    from hf_stabilizer.ensembling.ensembles import plan_ensemble
    from hf_stabilizer.ensembling.out_of_fold import is_folds
    from hf_stabilizer.ensembling.voices import Rows

    if any(is_folds(run) for run in args.runs):
        print(f"{len(args.runs)} cross-validation(s) would be combined by {combine}; no model is")
        print("asked: their out-of-fold and test predictions are read.")
        return
    asked = Rows(args.file, None, args.part, args.label_column)
    plan = plan_ensemble(find_candidates(args.runs, recipes=args.recipes), asked)
    print(f"{len(plan['members'])} member(s) would be combined by {combine}:")
    for name in plan["members"]:
        print(f"  {name}")
    if plan["asked_anew"]:
        print("each model would be loaded and asked about the rows, one at a time")
    else:
        print(f"no model would be loaded: all answers for {plan['rows']} {plan['part']} rows exist")
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
        plan = plan_soup(args.runs, recipes=args.recipes)
        print(f"a {args.soup} soup of {len(plan['members'])} models would be made:")
        for name in plan["members"]:
            print(f"  {name}")
        passes, rows = plan["passes"][args.soup], plan["validation_rows"]
        most = "at most " if args.soup == "greedy" else ""
        print(f"{most}{passes} passes over {rows} validation rows for {plan['metric']}, then two")
        print(f"over {plan['test_rows']} test rows")
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
    console.print(_table_of_soup(found))
    console.print(found.verdict, highlight=False, markup=False, soft_wrap=True)
    print(f"Model: {args.output_dir}")


def _table_of_ensemble(found: Ensemble) -> Table:
    from rich.table import Table

    from hf_stabilizer.ensembling.ensemble_record import WHICH
    from hf_stabilizer.studies import formats

    scores = [one.score for one in found.members if one.score is not None]
    decimals = formats.decimals_for(scores)
    title = f"{found.metric} on {len(found.predictions)} {WHICH[found.part]}"
    table = Table(title=title, title_justify="left", title_style="")
    for name in ("member", "score", "validation", "weight", ""):
        is_word = name in ("member", "")
        table.add_column(
            name, justify="left" if is_word else "right", no_wrap=name != "member", overflow="fold"
        )
    for name, one in zip(_short([one.name for one in found.members]), found.members, strict=True):
        marks = [
            word
            for word, other in (("best here", found.best), ("by validation", found.chosen))
            if other is one
        ]
        table.add_row(
            name,
            formats.number(one.score, decimals),
            formats.number(one.validation_score, decimals),
            formats.number(one.weight, 3),
            ", ".join(marks),
        )
    table.add_section()
    table.add_row(found.combine, formats.number(found.score, decimals), formats.NOTHING, "", "")
    return table


def _table_of_soup(found: Soup) -> Table:
    from rich.table import Table

    from hf_stabilizer.studies import formats

    decimals = formats.decimals_for([one.score for one in found.members])
    title = f"{found.metric}, best first by validation"
    table = Table(title=title, title_justify="left", title_style="")
    for name in ("model", "validation", "test", "in the soup"):
        table.add_column(name, justify="right" if name in ("validation", "test") else "left")
    names = _short([one.name for one in found.members])
    for place, one in enumerate(found.members):
        test = found.best_test_score if place == 0 else None
        table.add_row(
            names[place],
            formats.number(one.score, decimals),
            formats.number(test, decimals),
            "yes" if one.is_in else "no",
        )
    table.add_section()
    table.add_row(
        f"{found.kind} soup",
        formats.number(found.score, decimals),
        formats.number(found.test_score, decimals),
        "",
    )
    return table


def _short(names: list[str]) -> list[str]:
    """Leaves out the folder that all names begin with."""
    if len(names) < 2 or any(os.sep not in name for name in names):
        return names
    shared = os.path.commonpath(names)
    return [os.path.relpath(name, shared) for name in names]


def _tell(line: str) -> None:
    print(line, file=sys.stderr)
