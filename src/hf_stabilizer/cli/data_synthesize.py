"""What does `hf-stabilizer data synthesize` do? Training rows by a language model, checked."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_stabilizer.cli.parsing import AddCommand
from hf_stabilizer.cli.speaking import speak_plainly
from hf_stabilizer.cli.study_options import add_control_options, engine_options
from hf_stabilizer.errors import LAST_SEED, ConfigurationError, check_whole

if TYPE_CHECKING:
    import pandas as pd

    from hf_stabilizer.synthesis import Generator


def add(command: AddCommand) -> None:
    """Adds `data synthesize`."""
    text = "Have a language model write training rows, keep those that pass every check."
    synthesize = command("synthesize", _synthesize, text)
    synthesize.add_argument("config", help="YAML file")
    synthesize.add_argument("--rows", type=int, required=True, metavar="N", help="rows to keep")
    _add_generator(synthesize)
    synthesize.add_argument(
        "--examples", type=int, default=4, metavar="N",
        help="training rows that are shown each time (default: 4)",
    )  # fmt: skip
    synthesize.add_argument(
        "--background",
        metavar="FILE",
        help="rows of text to write about (default: train_file)",
    )
    synthesize.add_argument(
        "--background-column", metavar="NAME", help="its column; without it no text is shown"
    )
    synthesize.add_argument(
        "--instruction", default="", metavar="TEXT", help="what the rows are, in your own words"
    )
    synthesize.add_argument(
        "--no-second-pass", action="store_true",
        help="do not ask the generator to judge each row again without its answer",
    )  # fmt: skip
    synthesize.add_argument(
        "--similarity", type=float, default=0.8, metavar="S",
        help="candidates this similar to any row, or more, are thrown away (default: 0.8)",
    )  # fmt: skip
    synthesize.add_argument("--synthesis-seed", type=int, default=0, metavar="N", help="default: 0")
    synthesize.add_argument(
        "--parallel", type=int, default=1, metavar="N", help="questions at a time (default: 1)"
    )
    synthesize.add_argument(
        "--retry-refused", action="store_true",
        help="ask again what the generator refused in an earlier start",
    )  # fmt: skip
    synthesize.add_argument("--output-dir", help="default: results/NAME-synthesize")
    add_control_options(synthesize)
    synthesize.add_argument("--dry-run", action="store_true", help="show the first question")


def _add_generator(synthesize: argparse.ArgumentParser) -> None:
    synthesize.add_argument(
        "--endpoint", metavar="URL",
        help="OpenAI-compatible, e.g. http://localhost:8000/v1; without it --generator is loaded "
        "here",
    )  # fmt: skip
    synthesize.add_argument(
        "--generator", metavar="MODEL", help="name of the model there, or a folder or Hub id"
    )
    synthesize.add_argument(
        "--licence", metavar="TEXT",
        help="terms of its output, for the provenance (default: what its model card says)",
    )  # fmt: skip
    synthesize.add_argument(
        "--key-from", default="OPENAI_API_KEY", metavar="VARIABLE",
        help="environment variable that holds the key (default: OPENAI_API_KEY)",
    )  # fmt: skip
    synthesize.add_argument("--temperature", type=float, default=1.0, metavar="T")
    synthesize.add_argument("--max-tokens", type=int, default=512, metavar="N")
    synthesize.add_argument(
        "--no-structured", action="store_true", help="the endpoint knows no JSON schema"
    )


def _synthesize(args: argparse.Namespace) -> None:
    from rich.console import Console

    from hf_stabilizer.data.near_duplicates import check_threshold
    from hf_stabilizer.recipes import read_yaml
    from hf_stabilizer.synthesis.synthesizing import plan_synthesis, synthesize
    from hf_stabilizer.synthesis.view import print_plan, print_synthesis

    check_threshold(args.similarity, name="--similarity")
    check_whole(args.synthesis_seed, "in [0, 2^32)", name="--synthesis-seed", most=LAST_SEED)
    speak_plainly()
    values = {**read_yaml(Path(args.config)), **args.overrides}
    asking = {
        "examples": args.examples,
        "background": _background(args, values),
        "instruction": args.instruction,
        "seed": args.synthesis_seed,
    }
    console = Console()
    console = console if console.is_terminal else Console(width=120)
    if args.dry_run:
        judged = not args.no_second_pass
        generator = None if args.generator is None else _generator(args)
        plan = plan_synthesis(
            values,
            rows=args.rows,
            generator=generator,
            second_pass=judged,
            runs=args.runs,
            **asking,
        )
        print_plan(plan, console)
        return
    done = synthesize(
        values,
        _generator(args),
        rows=args.rows,
        output_dir=args.output_dir or Path("results") / f"{Path(args.config).stem}-synthesize",
        second_pass=not args.no_second_pass,
        threshold=args.similarity,
        parallel=args.parallel,
        retry_refused=args.retry_refused,
        runs=args.runs,
        equal=args.equal,
        console=Console(stderr=True),
        first_seed=args.first_seed,
        retry_failed=args.retry_failed,
        **engine_options(args),
        **asking,
    )
    print_synthesis(done, console)
    if done.study is not None:
        from hf_stabilizer.studies.table import print_study

        print_study(done.study, console)
        print(f"\nReport: {done.folder / 'study' / 'report.html'}")


def _generator(args: argparse.Namespace) -> Generator:
    from hf_stabilizer.synthesis import EndpointGenerator, LocalGenerator

    if args.generator is None:
        raise ConfigurationError(
            "--generator is missing; name the model of the endpoint, or a causal language model"
        )
    options: dict[str, Any] = {"temperature": args.temperature, "max_tokens": args.max_tokens}
    if args.endpoint is None:
        return LocalGenerator(args.generator, licence=args.licence, **options)
    if args.licence is not None:
        options["licence"] = args.licence
    key = os.environ.get(args.key_from)
    structured = not args.no_structured
    return EndpointGenerator(
        args.endpoint, args.generator, api_key=key, structured=structured, **options
    )


def _background(args: argparse.Namespace, values: dict[str, Any]) -> list[str]:
    """The texts to write about, of a file of their own or a column of the training rows."""
    if args.background_column is None:
        if args.background is not None:
            raise ConfigurationError("--background needs --background-column, the column of text")
        return []
    from hf_stabilizer.data.columns import require_columns
    from hf_stabilizer.data.reading import read_file

    column = args.background_column
    if args.background is None:
        frame, origin = _training_rows(values, column), "the training rows"
    else:
        table = read_file(args.background, key="--background", options=None)
        frame, origin = table.frame, table.origin
    require_columns(frame, [column], key="--background-column", origin=origin)
    texts = frame[column].dropna().astype(str)
    return [text for text in texts.unique() if text.strip()]


def _training_rows(values: dict[str, Any], column: str) -> pd.DataFrame:
    """Those that train: the file may hold validation and test rows, too, which are not shown."""
    from hf_stabilizer.configuration import load_configuration
    from hf_stabilizer.data import load_splits

    configuration = load_configuration(values)
    splits = load_splits(configuration.data, task=configuration.model.task, keep=(column,))
    rows: pd.DataFrame = splits.train.to_pandas()
    return rows
