"""What can be done from the shell? `hf-stabilizer COMMAND ...`, one module per command.

Imports nothing heavy until a command needs it: `--help` answers at once. What a command prints as
its result goes to standard output, progress and errors to standard error. Bad input is one
sentence and exit code 2.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from hf_stabilizer import __version__
from hf_stabilizer.cli import (
    ablate,
    compare,
    cross_validate,
    data,
    ensemble,
    init,
    layers,
    plan_study,
    predict,
    pretrain,
    pseudo_label,
    report,
    seeds,
    study,
    train,
)
from hf_stabilizer.cli.parsing import EPILOG, Parser, own_options, read_overrides
from hf_stabilizer.errors import StabilizerError, first_line

COMMANDS = (
    train,
    study,
    plan_study,
    ablate,
    cross_validate,
    pretrain,
    pseudo_label,
    ensemble,
    predict,
    report,
    compare,
    data,
    seeds,
    layers,
    init,
)
"""Modules that add the commands, in the order of `--help`."""
_LONG = ("study", "ablate", "pretrain", "pseudo-label", "cross-validate", "predict", "ensemble")
RESUMABLE = tuple([name] for name in (*_LONG, "data"))
"""First words of the commands that go on where they were interrupted."""


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
        args.overrides = read_overrides(rest, own_options(parser, args.command))
        args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # Who read our output has seen enough, as in `... | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except StabilizerError as error:
        print(f"hf-stabilizer: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:  # a file or folder that no check foresaw
        print(f"hf-stabilizer: error: {_plainly(error)}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        again = "; the same command goes on from there" if words[:1] in RESUMABLE else ""
        print(f"\nhf-stabilizer: interrupted; what is recorded stays{again}", file=sys.stderr)
        raise SystemExit(130) from None


def _plainly(error: OSError) -> str:
    """What the system refused, and of which file."""
    if error.filename is None or error.strerror is None:
        return first_line(error)
    return f"{str(error.filename)!r}: {error.strerror}; name another file or folder"


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    parser = Parser(
        prog="hf-stabilizer",
        description="Stable fine-tuning with the stock Hugging Face Trainer, proven over seeds.",
        epilog=EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"hf-stabilizer {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], None], text: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name, help=text, description=text, epilog=EPILOG, allow_abbrev=False
        )
        added.set_defaults(run=run)
        return added

    for module in COMMANDS:
        module.add(command)
    return parser
