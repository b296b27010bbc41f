"""What can be done from the shell? `hf-stabilizer COMMAND ...`.

Imports nothing heavy until a command needs it: `--help` answers at once. What a command prints as
its result goes to standard output, progress and errors to standard error. Bad input is one
sentence and exit code 2.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from hf_stabilizer import __version__
from hf_stabilizer.errors import ConfigurationError, StabilizerError, did_you_mean

EPILOG = """\
Any configuration key can be given as --key value behind the command's own options; flags beat
the recipe, the recipe beats the file. `hf-stabilizer init --keys` lists them.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command and exits: 0 done, 2 bad input, 130 interrupted."""
    # Set before anything heavy is imported: these lines are not for the people who run this.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    words = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    try:
        args, rest = parser.parse_known_args(words)
        args.argv = words
        args.overrides = read_overrides(rest, _own_options(parser, args.command))
        args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # Who read our output has seen enough, as in `... | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except StabilizerError as error:
        print(f"hf-stabilizer: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        again = "; the same command goes on from there" if words[:1] == ["study"] else ""
        print(f"\nhf-stabilizer: interrupted; what is recorded stays{again}", file=sys.stderr)
        raise SystemExit(130) from None


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, as everything here does."""

    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"{message}; see `{self.prog} --help`")


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    parser = _Parser(
        prog="hf-stabilizer",
        description="Stable fine-tuning with the stock Hugging Face Trainer, proven over seeds.",
        epilog=EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"hf-stabilizer {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name, help=text, description=text, epilog=EPILOG, allow_abbrev=False
        )
        added.set_defaults(run=run)
        return added

    train = command("train", _train, "Train one model from a configuration.")
    train.add_argument("config", help="YAML file")
    train.add_argument("--recipe", help="recipe, by name or as a YAML file")
    train.add_argument(
        "--dry-run", "--dry_run", action="store_true",
        help="show findings, layers, schedule and cost; train nothing and write nothing",
    )  # fmt: skip
    train.add_argument("--json", action="store_true", help="with --dry-run: for machines")

    study = command("study", _study, "Run recipes over the same seeds, and report on them.")
    study.add_argument("config", help="YAML file")
    study.add_argument("--recipes", nargs="+", default=["plain", "stabilised"], metavar="RECIPE")
    study.add_argument("--runs", type=int, default=6, help="runs per recipe (default: 6)")
    study.add_argument("--first-seed", type=int, default=1, help="seed of the first run")
    study.add_argument(
        "--output-dir", "--output_dir", help="default: the file's, or results/NAME-OF-FILE"
    )
    study.add_argument("--workers", type=int, help="processes (default: one per GPU or core)")
    study.add_argument("--retry-failed", action="store_true", help="repeat runs that raised")

    report = command("report", _report, "Write the HTML report of a study that lies in a folder.")
    report.add_argument("folder", help="folder of the study")
    report.add_argument("--output", help="HTML file (default: FOLDER/report.html)")

    layers = command("layers", _layers, "Show each layer of a model, its rate and its fate.")
    layers.add_argument("model", help="Hub id, folder, pkg://package/path, or a YAML configuration")
    layers.add_argument("--recipe", help="recipe whose rates are shown")
    layers.add_argument("--parameters", action="store_true", help="a line for every parameter")
    layers.add_argument("--json", action="store_true", help="for machines")

    plot = command("plot-lr", _plot_lr, "Draw every layer's rate over the steps; trains nothing.")
    plot.add_argument("config", help="YAML file")
    plot.add_argument("--recipe", help="recipe, by name or as a YAML file")
    plot.add_argument("--steps", type=int, help="optimizer steps (default: from the rows)")
    plot.add_argument("--output", default="learning_rates.png", help="PNG; a CSV goes beside it")

    text = "Score every layer of a model, as its checkpoint is, with linear probes; trains nothing."
    probe = command("probe", _probe, text)
    probe.add_argument("config", help="YAML file")
    probe.add_argument("--max-examples", type=int, default=2000, help="at most (default: 2000)")
    probe.add_argument("--json", action="store_true", help="for machines")
    probe.add_argument("--output", help="CSV file to write")
    probe.add_argument("--plot", help="picture to write: PNG, PDF or SVG")

    recipes = command("recipes", _recipes, "List the recipes, or show one.")
    recipes.add_argument("name", nargs="?", help="recipe to show")

    init = command("init", _init, "Write a starting configuration with published values.")
    init.add_argument("model", nargs="?", help="model family, Hub id or folder")
    init.add_argument("--task", default="text-classification")
    init.add_argument("--output", default="config.yaml")
    init.add_argument("--keys", action="store_true", help="list every configuration key")

    command("env", _env, "Show versions and hardware, for reports of problems.")
    return parser


def read_overrides(tokens: Sequence[str], own: Sequence[str] = ()) -> dict[str, Any]:
    """Reads `--key value` pairs that no command claims as its own.

    Values are read as YAML; several values make a list; a key without a value is true.

    Raises:
        ConfigurationError: A value without a key, or an option of another command.

    Example:
        >>> read_overrides(["--learning-rate", "1e-4", "--metrics", "mae", "rmse", "--bf16"])
        {'learning_rate': 0.0001, 'metrics': ['mae', 'rmse'], 'bf16': True}
    """
    given: dict[str, list[str]] = {}
    key = None
    for token in tokens:
        if token.startswith("--"):
            name, equals, value = token[2:].partition("=")
            if close := did_you_mean(token.partition("=")[0], own):
                # A slip in a command's own option must not become a configuration key.
                raise ConfigurationError(f"unknown option {token!r}{close}")
            key = name.replace("-", "_")
            given[key] = [value] if equals else []
        elif re.match("-[A-Za-z]", token):
            raise ConfigurationError(f"unknown option {token!r}; options begin with --")
        elif key is None:
            raise ConfigurationError(f"{token!r} belongs to no option; write --key value")
        else:
            given[key].append(token)
    return {key: _read_values(values) for key, values in given.items()}


def _read_values(values: list[str]) -> Any:  # Any: whatever YAML can say
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    def read(text: str) -> Any:
        try:
            return YAML(typ="safe", pure=True).load(text)
        except YAMLError:
            return text

    if not values:
        return True
    return read(values[0]) if len(values) == 1 else [read(value) for value in values]


def _own_options(parser: argparse.ArgumentParser, command: str) -> list[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            own: argparse.ArgumentParser = action.choices[command]
            return [name for a in own._actions for name in a.option_strings if len(name) > 2]
    return []


def _no_overrides(args: argparse.Namespace) -> None:
    if args.overrides:
        key = next(iter(args.overrides))
        raise ConfigurationError(
            f"`hf-stabilizer {args.command}` takes no --{key}; "
            f"see `hf-stabilizer {args.command} --help`"
        )


def _speak_plainly() -> None:
    """Shows our own notes on standard error, and spares people transformers' small bars."""
    import logging

    import transformers

    transformers.utils.logging.disable_progress_bar()

    class _PlainHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kind = "warning" if record.levelno >= logging.WARNING else "note"
            print(f"{kind}: {record.getMessage()}", file=sys.stderr)

    notes = logging.getLogger("hf_stabilizer")
    notes.handlers = [_PlainHandler()]
    notes.setLevel(logging.INFO)


def _train(args: argparse.Namespace) -> None:
    if args.dry_run:
        _dry_run(args)
        return
    if args.json:
        raise ConfigurationError("--json shows a dry run to machines; add --dry-run")
    from hf_stabilizer.recipes import read_yaml
    from hf_stabilizer.run import train
    from hf_stabilizer.studies.progress import describe

    _speak_plainly()
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

    _speak_plainly()
    with contextlib.redirect_stdout(sys.stderr):
        dry_run = rehearse_run(Path(args.config), recipe=args.recipe, **args.overrides)
    if args.json:
        print(json.dumps(dataclasses.asdict(dry_run), indent=2))
    else:
        console = Console()
        print_dry_run(dry_run, console if console.is_terminal else Console(width=160))
    if dry_run.would_fail:
        raise ConfigurationError("the run would fail; see the findings")


def _study(args: argparse.Namespace) -> None:
    from rich.console import Console

    from hf_stabilizer.recipes import read_yaml
    from hf_stabilizer.studies.report import write_report
    from hf_stabilizer.studies.schedule import run_study
    from hf_stabilizer.studies.table import print_study

    _speak_plainly()
    named = args.output_dir or read_yaml(Path(args.config)).get("output_dir")
    folder = Path(named or Path("results") / Path(args.config).stem)
    errors = Console(stderr=True)
    errors.print("Checking the configuration, the rows and the model ...", highlight=False)
    study = run_study(
        args.config,
        recipes=args.recipes,
        runs=args.runs,
        output_dir=folder,
        workers=args.workers,
        first_seed=args.first_seed,
        retry_failed=args.retry_failed,
        overrides=args.overrides,
        command=shlex.join(["hf-stabilizer", *_without_secrets(args.argv)]),
        console=errors,
    )
    page = write_report(study, folder / "report.html")
    print_study(study, Console())
    print(f"\nReport: {page}")


def _without_secrets(words: Sequence[str]) -> list[str]:
    """Hides the value of a token: the command stands in the report."""
    hidden = [re.sub("^(--hub[-_]token=).*", r"\1...", word) for word in words]
    for place, word in enumerate(hidden[:-1]):
        if word.replace("-", "_") == "__hub_token":
            hidden[place + 1] = "..."
    return hidden


def _report(args: argparse.Namespace) -> None:
    _no_overrides(args)
    from rich.console import Console

    from hf_stabilizer.records import check_folder
    from hf_stabilizer.studies.report import write_report
    from hf_stabilizer.studies.study import Study
    from hf_stabilizer.studies.table import print_study

    study = Study.from_folder(args.folder)
    output = Path(args.output or Path(args.folder) / "report.html")
    check_folder(output.parent, key="output")
    page = write_report(study, output)
    print_study(study, Console())
    print(f"\nReport: {page}")


def _layers(args: argparse.Namespace) -> None:
    from hf_stabilizer.layer_view import show_layers

    show_layers(
        args.model,
        recipe=args.recipe,
        overrides=args.overrides,
        parameters=args.parameters,
        as_json=args.json,
    )


def _plot_lr(args: argparse.Namespace) -> None:
    from hf_stabilizer.layer_view import write_learning_rates

    for path in write_learning_rates(
        args.config,
        recipe=args.recipe,
        overrides=args.overrides,
        steps=args.steps,
        output=Path(args.output),
    ):
        print(path)


def _probe(args: argparse.Namespace) -> None:
    from hf_stabilizer.probe_view import show_probe

    _speak_plainly()
    show_probe(
        args.config,
        overrides=args.overrides,
        max_examples=args.max_examples,
        as_json=args.json,
        output=Path(args.output) if args.output else None,
        plot=Path(args.plot) if args.plot else None,
    )


def _recipes(args: argparse.Namespace) -> None:
    _no_overrides(args)
    from hf_stabilizer.recipes import load_recipe, recipe_folder, recipe_names

    if args.name:
        load_recipe(args.name)
        print((recipe_folder() / f"{args.name}.yaml").read_text(encoding="utf-8"), end="")
        return
    width = max(map(len, recipe_names()))
    for name in recipe_names():
        print(f"{name:<{width}}  {load_recipe(name).summary}")


def _init(args: argparse.Namespace) -> None:
    _no_overrides(args)
    if args.keys:
        from hf_stabilizer.configuration import describe_keys

        print(describe_keys())
        return
    from hf_stabilizer.records import check_folder
    from hf_stabilizer.starting_points import family_names, starting_configuration

    if not args.model:
        raise ConfigurationError(
            f"name a model family ({', '.join(family_names())}), a Hub id or a folder"
        )
    path = Path(args.output)
    if path.exists():
        raise ConfigurationError(f"{str(path)!r} is there already; give another --output")
    check_folder(path.parent, key="output")
    text = starting_configuration(args.model, task=args.task)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(f"{path} is written; look through it, then: hf-stabilizer train {path}")


def _env(args: argparse.Namespace) -> None:
    _no_overrides(args)
    import platform

    import torch

    from hf_stabilizer.records import versions

    for name, found in versions().items():
        print(f"{name:<14} {found}")
    print(f"{'platform':<14} {platform.platform()}")
    print(f"{'cores':<14} {os.cpu_count()}")
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"{'GPUs':<14} {', '.join(devices) or 'none'}")
