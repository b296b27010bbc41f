"""What does `hf-stabilizer pretrain` do? Further pre-training on the task's own text."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_stabilizer.cli.parsing import AddCommand
from hf_stabilizer.cli.speaking import begin, speak_plainly
from hf_stabilizer.errors import ConfigurationError

if TYPE_CHECKING:
    from hf_stabilizer.pretraining import HandOverPlan, PretrainingPlan

_EPILOG = """\
--key value behind these options: keys of task, model, rows, machine and trackers go to the
configuration; training keys, such as --learning-rate or --num-train-epochs, to the pre-training
alone. The fine-tuning of the control runs is what the file and --recipe say.
"""
_OURS = (
    *("objective", "mlm_probability", "whole_word_masking", "packing", "max_length", "held_out"),
    *("patience", "include_validation_text", "include_test_text"),
)


def add(command: AddCommand) -> None:
    """Adds `pretrain`."""
    parser = command(
        "pretrain", _pretrain, "Pre-train a model further on the task's own text, with its control."
    )
    parser.epilog = _EPILOG
    parser.add_argument("config", help="YAML file: task, model, rows, and the fine-tuning")
    parser.add_argument("--recipe", help="recipe of the fine-tuning, by name or as a YAML file")
    parser.add_argument(
        "--output-dir", help="default: the file's, or results/NAME-OF-FILE-pretrain"
    )
    parser.add_argument(
        "--objective", help="mlm, clm or mlm+nsp (default: as the model was pre-trained)"
    )
    parser.add_argument(
        "--mlm-probability", type=float, metavar="P", help="share of tokens to mask (default: 0.15)"
    )
    parser.add_argument(
        "--whole-word-masking", action="store_true", help="mask the pieces of a word together"
    )
    parser.add_argument(
        "--packing", action=argparse.BooleanOptionalAction, default=None,
        help="join texts into rows of equal length (default: yes, but for mlm+nsp)",
    )  # fmt: skip
    parser.add_argument(
        "--max-length", type=int, metavar="N",
        help="tokens of a row (default: the configuration's, or 128)",
    )  # fmt: skip
    parser.add_argument(
        "--held-out", type=float, default=0.1, metavar="F",
        help="share of the text for perplexity (default: 0.1)",
    )  # fmt: skip
    parser.add_argument(
        "--patience", type=int, default=3, metavar="N",
        help="evaluations without a better perplexity before it ends (default: 3)",
    )  # fmt: skip
    for part in ("validation", "test"):
        parser.add_argument(
            f"--include-{part}-text", action="store_true",
            help=f"learn from the texts of the {part} rows, too; it is recorded",
        )  # fmt: skip
    parser.add_argument(
        "--from-run", metavar="FOLDER",
        help="instead: take the body of a run or model that was trained on another task",
    )  # fmt: skip
    parser.add_argument(
        "--runs", type=int, default=6, metavar="N",
        help="control runs from each of both checkpoints, 2 or more, 0 for none (default: 6)",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, help="processes of the control runs")
    parser.add_argument(
        "--dry-run", action="store_true",
        help="show text, rows, steps and cost, or what a run would hand over; write nothing",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="with --dry-run: for machines")


def _pretrain(args: argparse.Namespace) -> None:
    if args.json and not args.dry_run:
        raise ConfigurationError("--json shows a dry run to machines; add --dry-run")
    begin(args.config)
    speak_plainly()
    overrides, training = _divided(args.overrides)
    options = {name: getattr(args, name) for name in _OURS}
    options |= {"overrides": overrides, "training": training, "recipe": args.recipe}
    if args.dry_run:
        _dry_run(args, options)
        return
    from rich.console import Console

    from hf_stabilizer.pretraining import further_pretrain
    from hf_stabilizer.pretraining.view import describe_record
    from hf_stabilizer.recipes import read_yaml
    from hf_stabilizer.studies.table import print_study

    stem = Path(args.config).stem
    named = args.output_dir or read_yaml(Path(args.config)).get("output_dir")
    folder = Path(named or Path("results") / f"{stem}-pretrain")
    with contextlib.redirect_stdout(sys.stderr):  # the Trainer prints its progress
        record = further_pretrain(
            args.config,
            output_dir=folder,
            from_run=args.from_run,
            runs=args.runs,
            workers=args.workers,
            console=Console(stderr=True),
            **options,
        )
    console = Console()
    for sentence in describe_record(record):
        console.print(sentence, highlight=False, markup=False)
    if record.study is None:
        print("No control runs were made; --runs 6 makes them, from what is there.")
    else:
        print_study(record.study, console)
        print(f"\nReport: {folder / 'study' / 'report.html'}")
    print(f"model: {record.model}\nrecord: {folder / 'procedure.json'}")


def _divided(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what belongs to the configuration, and what to the pre-training alone."""
    from dataclasses import fields

    from hf_stabilizer.arguments import StabilizerArguments
    from hf_stabilizer.configuration import known_keys
    from hf_stabilizer.data import DataArguments
    from hf_stabilizer.pretraining.options import MACHINE

    theirs = {field.name for field in fields(StabilizerArguments)}
    theirs -= {*MACHINE, *(field.name for field in fields(DataArguments))}
    theirs &= set(known_keys())
    training = {key: value for key, value in given.items() if key in theirs}
    return {key: value for key, value in given.items() if key not in training}, training


def _dry_run(args: argparse.Namespace, options: dict[str, Any]) -> None:
    import dataclasses
    import json

    from rich.console import Console

    with contextlib.redirect_stdout(sys.stderr):
        plan, sentences = _plan(args, options)
    if args.json:
        print(json.dumps(dataclasses.asdict(plan), indent=2))
        return
    console = Console()
    for sentence in sentences:
        console.print(sentence, highlight=False, markup=False)


def _plan(
    args: argparse.Namespace, options: dict[str, Any]
) -> tuple[PretrainingPlan | HandOverPlan, Iterable[str]]:
    """Returns what would be done, and the same in sentences."""
    from hf_stabilizer.pretraining import plan_hand_over, plan_pretraining
    from hf_stabilizer.pretraining.options import PretrainingOptions
    from hf_stabilizer.pretraining.running import check_alone
    from hf_stabilizer.pretraining.view import describe_hand_over, describe_plan

    if args.from_run is None:
        plan = plan_pretraining(args.config, runs=args.runs, **options)
        return plan, describe_plan(plan)
    given = {name: options[name] for name in _OURS}
    check_alone(PretrainingOptions(**given), options["training"])
    shared = {name: options[name] for name in ("recipe", "overrides")}
    taken = plan_hand_over(args.config, args.from_run, runs=args.runs, **shared)
    return taken, describe_hand_over(taken)
