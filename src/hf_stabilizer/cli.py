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


class _InPlaceOf(argparse.Action):
    """An option that makes a positional argument needless; `nargs="?"` would take it by chance."""

    def __init__(self, *args: Any, other: argparse.Action, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._other = other

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:  # Any: as argparse has it
        setattr(namespace, self.dest, values)
        self._other.required = False


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
    config = study.add_argument("config", help="YAML file; none with --command")
    study.add_argument(
        "--command", dest="template", metavar="TEMPLATE", action=_InPlaceOf, other=config,
        help="instead: the command line of any Trainer script, with {seed}, {data_seed}, "
        "{output_dir}, ...; no early stopping there",
    )  # fmt: skip
    study.add_argument(
        "--metric-for-best-model", "--metric_for_best_model", dest="decides", metavar="METRIC",
        help="the metric that decides (default: the configuration's, or the script's own)",
    )  # fmt: skip
    study.add_argument(
        "--recipes", nargs="+", metavar="RECIPE",
        help="the first is the baseline (default: plain stabilised; with --command: none)",
    )  # fmt: skip
    study.add_argument("--runs", type=int, help="runs per recipe (default: 6)")
    study.add_argument(
        "--stop-at", "--stop_at", type=float, metavar="F",
        help="stop all but the best runs at this fraction of their steps, in (0, 1); with --keep",
    )  # fmt: skip
    study.add_argument("--keep", type=int, metavar="P", help="runs per recipe that go on there")
    study.add_argument(
        "--budget", type=float, metavar="B",
        help="full runs per recipe to spend; sets --runs and --keep (and --stop-at: 0.25)",
    )  # fmt: skip
    study.add_argument("--first-seed", type=int, default=1, help="seed of the first run")
    study.add_argument(
        "--output-dir", "--output_dir", help="default: the file's, or results/NAME-OF-FILE"
    )
    study.add_argument("--workers", type=int, help="processes (default: one per GPU or core)")
    study.add_argument("--retry-failed", action="store_true", help="repeat runs that raised")

    text = "Write the HTML report of a study, or of runs of any Trainer that exist already."
    report = command("report", _report, text)
    report.add_argument(
        "folders", nargs="+", metavar="RUNS", help="folder of a study, of runs, or above them"
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
    import transformers

    transformers.utils.logging.disable_progress_bar()
    _show_notes()


def _show_notes() -> None:
    """Shows our own notes on standard error."""
    import logging

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
    if args.template is not None:
        _study_of_command(args)
        return
    if args.decides is not None:
        args.overrides["metric_for_best_model"] = args.decides
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
        recipes=args.recipes or ["plain", "stabilised"],
        **_how_many(args),
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


def _study_of_command(args: argparse.Namespace) -> None:
    if args.config is not None:
        raise ConfigurationError(f"give --command or the file {args.config!r}, not both")
    if args.output_dir is None:
        raise ConfigurationError("--command needs --output-dir, the folder of the study")
    _no_overrides(args)
    from rich.console import Console

    from hf_stabilizer.studies.commands import RECIPE, run_command_study
    from hf_stabilizer.studies.report import write_report
    from hf_stabilizer.studies.table import print_study

    _show_notes()
    errors = Console(stderr=True)
    note = "A study of a command: every run goes to its end, there is no early stopping."
    errors.print(note, highlight=False)
    study = run_command_study(
        args.template,
        recipes=args.recipes or [RECIPE],
        **_how_many(args),
        output_dir=args.output_dir,
        metric=args.decides,
        workers=args.workers,
        first_seed=args.first_seed,
        retry_failed=args.retry_failed,
        made_by=shlex.join(["hf-stabilizer", *_without_secrets(args.argv)]),
        console=errors,
    )
    page = write_report(study, Path(args.output_dir) / "report.html")
    print_study(study, Console())
    print(f"\nReport: {page}")


def _how_many(args: argparse.Namespace) -> dict[str, Any]:
    """Runs, fraction and runs that go on: as given, or what a budget buys."""
    if args.budget is None:
        runs = 6 if args.runs is None else args.runs
        return {"runs": runs, "stop_at": args.stop_at, "keep": args.keep}
    for name in ("runs", "keep"):
        if (value := getattr(args, name)) is not None:
            raise ConfigurationError(
                f"--budget {args.budget:g} says how many runs there are, and --{name} {value} says "
                "so too; leave one of the two out"
            )
    from hf_stabilizer.studies.statistics import settings_for_budget

    stop_at = 0.25 if args.stop_at is None else args.stop_at
    bought = settings_for_budget(args.budget, stop_at=stop_at)
    return {"runs": bought.runs, "stop_at": bought.stop_at, "keep": bought.keep}


def _without_secrets(words: Sequence[str]) -> list[str]:
    """Hides the value of a token: the command stands in the report."""
    hidden = [re.sub("^(--hub[-_]token=).*", r"\1...", word) for word in words]
    for place, word in enumerate(hidden[:-1]):
        if word.replace("-", "_") == "__hub_token":
            hidden[place + 1] = "..."
    return hidden


def _report(args: argparse.Namespace) -> None:
    _no_overrides(args)
    import dataclasses

    from rich.console import Console

    from hf_stabilizer.records import check_folder
    from hf_stabilizer.studies.reading import read_runs
    from hf_stabilizer.studies.report import write_report
    from hf_stabilizer.studies.table import print_study

    _show_notes()
    study = read_runs(
        args.folders,
        metric=args.metric,
        greater_is_better=args.greater_is_better,
        recipe=dict(map(_glob_and_name, args.recipe)),
    )
    if not study.command:
        study = dataclasses.replace(study, command=shlex.join(["hf-stabilizer", *args.argv]))
    alone = Path(args.folders[0]) if len(args.folders) == 1 else Path()
    output = Path(args.output or alone / "report.html")
    check_folder(output.parent, key="output")
    page = write_report(study, output)
    print_study(study, Console())
    print(f"\nReport: {page}")


def _glob_and_name(text: str) -> tuple[str, str]:
    glob, equals, name = text.rpartition("=")
    if not (equals and glob and name):
        raise ConfigurationError(f"--recipe must be GLOB=NAME, such as '*llrd*=llrd', got {text!r}")
    return glob, name


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
