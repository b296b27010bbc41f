"""What does `hf-stabilizer data augment` do? More training rows, and whether they help."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_stabilizer.cli.parsing import AddCommand
from hf_stabilizer.cli.speaking import speak_plainly, without_secrets
from hf_stabilizer.cli.study_options import add_control_options, engine_options
from hf_stabilizer.errors import LAST_SEED, ConfigurationError, check_whole

if TYPE_CHECKING:
    from rich.console import Console

    from hf_stabilizer.augmentation import Technique

METHODS = ("delete", "swap", "mask", "replace", "back-translate", "summarize", "mix")
# Option -> the methods that heed it, and its default.
_HEEDED: dict[str, tuple[tuple[str, ...], str | int | None]] = {
    "with_model": (("mask", "replace", "back-translate", "summarize"), None),
    "back_model": (("back-translate",), None),
    "prefix": (("back-translate", "summarize"), ""),
    "back_prefix": (("back-translate",), ""),
    "top_k": (("replace",), 10),
    "mix_how": (("mix",), "append"),
}
_ADVICE = "what helps at 0.1 can harm at 0.3"


def add(command: AddCommand) -> None:
    """Adds `data augment`."""
    text = "Add changed copies of training rows, and tell whether models gain by it."
    augment = command("augment", _augment, text)
    augment.add_argument("config", help="YAML file")
    augment.add_argument(
        "--method", nargs="+", choices=METHODS, required=True, metavar="METHOD",
        help=f"one or more of {', '.join(METHODS)}",
    )  # fmt: skip
    augment.add_argument(
        "--rate", type=float, metavar="R",
        help="share of words or tokens (delete, swap, mask, replace; default 0.1) or of rows (the "
        f"others; default 1) that is changed, in [0, 1]; {_ADVICE}",
    )  # fmt: skip
    augment.add_argument(
        "--copies", type=int, default=1, metavar="N",
        help="rows that each method makes of each training row (default: 1)",
    )  # fmt: skip
    augment.add_argument("--augment-seed", type=int, default=0, metavar="N", help="default: 0")
    augment.add_argument(
        "--without-originals", action="store_true", help="train on the changed rows alone"
    )
    augment.add_argument(
        "--similarity", type=float, default=0.8, metavar="S",
        help="new rows this similar to a validation or test row, or more, are left out (default: "
        "0.8)",
    )  # fmt: skip
    _add_models(augment)
    augment.add_argument("--output-dir", help="default: the file's, or results/NAME-augment")
    add_control_options(augment)
    augment.add_argument("--dry-run", action="store_true", help="show examples and cost")


def _add_models(augment: argparse.ArgumentParser) -> None:
    augment.add_argument(
        "--with-model", metavar="MODEL",
        help="mask, replace: a masked language model (default: the configuration's own); "
        "back-translate, summarize: a seq2seq model",
    )  # fmt: skip
    augment.add_argument(
        "--back-model", metavar="MODEL", help="back-translate: the seq2seq model of the way back"
    )
    augment.add_argument(
        "--prefix", default="", help='what T5 wants before each text, e.g. "summarize: "'
    )
    augment.add_argument("--back-prefix", default="", help="the same on the way back")
    augment.add_argument(
        "--top-k", type=int, default=10, metavar="K", help="replace: drawn from the likeliest K"
    )
    augment.add_argument(
        "--mix-how", default="append", choices=("append", "halves"), metavar="append|halves",
        help="mix: one text behind the other, or half of each (default: append)",
    )  # fmt: skip


def _augment(args: argparse.Namespace) -> None:
    from rich.console import Console

    from hf_stabilizer.data.near_duplicates import check_threshold
    from hf_stabilizer.recipes import read_yaml

    _check_used(args)
    check_threshold(args.similarity, name="--similarity")
    check_whole(args.augment_seed, "in [0, 2^32)", name="--augment-seed", most=LAST_SEED)
    speak_plainly()
    values = read_yaml(Path(args.config))
    techniques = _techniques(args, {**values, **args.overrides})
    console = Console()
    console = console if console.is_terminal else Console(width=120)
    if args.dry_run:
        _show_plan(args, techniques, console)
        return
    from hf_stabilizer.augmentation import augment_data
    from hf_stabilizer.studies.table import print_study

    folder = args.output_dir or values.get("output_dir")
    done = augment_data(
        args.config,
        techniques,
        output_dir=folder or Path("results") / f"{Path(args.config).stem}-augment",
        copies=args.copies,
        seed=args.augment_seed,
        keep_originals=not args.without_originals,
        threshold=args.similarity,
        runs=args.runs,
        equal=args.equal,
        overrides=args.overrides,
        console=Console(stderr=True),
        first_seed=args.first_seed,
        retry_failed=args.retry_failed,
        **engine_options(args),
        command=shlex.join(["hf-stabilizer", *without_secrets(args.argv)]),
    )
    for note in done.notes:
        print(f"note: {note}")
    each = ", ".join(f"{name} {count}" for name, count in done.rows.items())
    print(f"{sum(done.rows.values())} training rows: {each}")
    if done.study is not None:
        print_study(done.study, console)
        print(f"\nReport: {done.folder / 'study' / 'report.html'}")
    print(f"recipe: {done.recipe}\ncontrol: {done.control}")


def _check_used(args: argparse.Namespace) -> None:
    """Raises ConfigurationError if an option is given that none of the methods heeds."""
    for option, (methods, default) in _HEEDED.items():
        if getattr(args, option) != default and not {*methods} & {*args.method}:
            raise ConfigurationError(
                f"--{option.replace('_', '-')} has no effect on {', '.join(args.method)}; it is "
                f"for {', '.join(methods)}"
            )


def _show_plan(args: argparse.Namespace, techniques: list[Technique], console: Console) -> None:
    from rich.text import Text

    from hf_stabilizer.augmentation.procedure import plan_augmentation

    plan = plan_augmentation(
        args.config,
        techniques,
        copies=args.copies,
        seed=args.augment_seed,
        keep_originals=not args.without_originals,
        threshold=args.similarity,
        runs=args.runs,
        overrides=args.overrides,
    )
    for note in plan.notes:
        print(f"note: {note}")
    for name, before, after in plan.examples:
        console.print(Text(f"{name}: {before!r}\n  -> {after!r}"))
    most = ", at most" if plan.model_texts else ""
    print(f"{plan.train_rows} training rows would become {plan.total_rows}{most}")
    if plan.model_texts:
        print(f"models would work on {plan.model_texts} texts")
    if plan.runs:
        print(f"{plan.runs} runs would be trained, half of them without")
    print("Nothing was written.")


def _techniques(args: argparse.Namespace, values: Mapping[str, Any]) -> list[Technique]:
    """Returns the techniques that are named.

    Raises:
        ConfigurationError: One needs a model, and none is named, or it is nowhere.
    """
    from hf_stabilizer import augmentation as a
    from hf_stabilizer.locations import check_presence

    rate = {} if args.rate is None else {"rate": args.rate}

    def model(key: str, default: Any = None) -> str:
        given, option = getattr(args, key), f"--{key.replace('_', '-')}"
        if not (given or default):
            raise ConfigurationError(
                f"--method {' '.join(args.method)} needs a model; name it with {option}"
            )
        named = str(given or default)
        check_presence(named, key=option if given else "model_name_or_path")
        return named

    own = values.get("model_name_or_path")
    makers: dict[str, Callable[[], Technique]] = {
        "delete": lambda: a.DeleteWords(**rate),
        "swap": lambda: a.SwapWords(**rate),
        "mask": lambda: a.MaskTokens(model("with_model", own), **rate),
        "replace": lambda: a.ReplaceTokens(model("with_model", own), top_k=args.top_k, **rate),
        "back-translate": lambda: a.BackTranslate(
            model("with_model"),
            model("back_model"),
            prefix=args.prefix,
            back_prefix=args.back_prefix,
            **rate,
        ),
        "summarize": lambda: a.Summarize(model("with_model"), prefix=args.prefix, **rate),
        "mix": lambda: a.MixRows(how=args.mix_how, **rate),
    }
    return [makers[method]() for method in args.method]
