"""What does `hf-stabilizer train` do? One run from a configuration, or a rehearsal of it."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path

from hf_stabilizer.cli.parsing import AddCommand
from hf_stabilizer.cli.speaking import begin, speak_plainly
from hf_stabilizer.errors import ConfigurationError


def add(command: AddCommand) -> None:
    """Adds `train`."""
    train = command("train", _train, "Train one model from a configuration.")
    train.add_argument("config", help="YAML file")
    train.add_argument("--recipe", help="recipe, by name or as a YAML file")
    train.add_argument(
        "--dry-run", action="store_true",
        help="show findings, layers, schedule and cost; train nothing and write nothing",
    )  # fmt: skip
    train.add_argument("--json", action="store_true", help="with --dry-run: for machines")


def _train(args: argparse.Namespace) -> None:
    if args.json and not args.dry_run:
        raise ConfigurationError("--json shows a dry run to machines; add --dry-run")
    begin(args.config)
    if args.dry_run:
        _dry_run(args)
        return
    from hf_stabilizer.recipes import read_yaml
    from hf_stabilizer.run import train
    from hf_stabilizer.studies.progress import describe

    speak_plainly()
    config = read_yaml(Path(args.config))
    config.setdefault("output_dir", str(Path("outputs") / Path(args.config).stem))
    config.setdefault("disable_tqdm", not sys.stderr.isatty())
    with contextlib.redirect_stdout(sys.stderr):  # the Trainer prints its progress
        run = train(config, recipe=args.recipe, **args.overrides)
    if int(os.environ.get("RANK", "0")) == 0:
        folder = Path(run.configuration["output_dir"])
        print(describe(run))
        print(f"model: {folder / 'model'}\nrecord: {folder / 'run.json'}")


def _dry_run(args: argparse.Namespace) -> None:
    import dataclasses
    import json

    from rich.console import Console

    from hf_stabilizer.dry_run import rehearse_run
    from hf_stabilizer.dry_run_view import print_dry_run

    speak_plainly()
    with contextlib.redirect_stdout(sys.stderr):
        dry_run = rehearse_run(Path(args.config), recipe=args.recipe, **args.overrides)
    if args.json:
        print(json.dumps(dataclasses.asdict(dry_run), indent=2))
    else:
        console = Console()
        print_dry_run(dry_run, console if console.is_terminal else Console(width=160))
    if dry_run.would_fail:
        raise ConfigurationError("the run would fail; see the findings")
