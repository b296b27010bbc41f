"""What does `hf-stabilizer data clean` do? Applies what is chosen, and writes what it did."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_stabilizer.cli.parsing import AddCommand
from hf_stabilizer.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from hf_stabilizer.data_quality import Cleaned

SWITCHES = {
    "html": "remove tags, comments and scripts, and resolve entities",
    "unicode": "mend wrongly decoded text, remove invisible characters, unify (NFC)",
    "whitespace": "make each run of white space one space",
    "lowercase": "make all letters small",
    "drop-empty": "drop rows without text",
    "drop-conflicts": "drop all rows whose texts stand there with different labels",
    "drop-duplicates": "of rows with one label and one text keep the first",
}

_EPILOG = """\
What the rows are can be given as --key value behind these options: --text-columns,
--choice-columns, --label-column, --task and --reader-options.
"""


def add(command: AddCommand) -> None:
    """Adds `data clean`."""
    clean = command("clean", _clean, "Clean the texts and rows of a file, as far as is chosen.")
    clean.epilog = _EPILOG
    clean.add_argument("file", metavar="FILE", help="rows: CSV, TSV, JSON, JSON lines or Parquet")
    clean.add_argument(
        "--output", metavar="CLEAN",
        help="file to write, .parquet, .csv or .jsonl; beside it CLEAN.json says what was done",
    )  # fmt: skip
    for name, text in SWITCHES.items():
        clean.add_argument(f"--{name}", action="store_true", help=text)
    clean.add_argument(
        "--drop-leaks", nargs="+", metavar="FILE",
        help="drop rows whose texts are in these files of validation or test rows",
    )  # fmt: skip
    clean.add_argument(
        "--similarity", type=float, default=1.0, metavar="S",
        help="least similarity of duplicates and leaks (default: 1, the same text but for case, "
        "white space and punctuation)",
    )  # fmt: skip
    clean.add_argument(
        "--drop-rows", nargs="+", type=int, default=[], metavar="N",
        help="drop these rows, counted from 1 below the header",
    )  # fmt: skip
    clean.add_argument(
        "--stop-words", nargs="*", metavar="WORD",
        help="remove these words (none given: English ones); advised against for transformers",
    )  # fmt: skip
    clean.add_argument(
        "--stem", nargs="?", const="english", metavar="LANGUAGE",
        help="replace words by their stems; advised against for transformers",
    )  # fmt: skip
    clean.add_argument("--dry-run", action="store_true", help="show what would be done")


def _clean(args: argparse.Namespace) -> None:
    from hf_stabilizer.data.reading import read_file
    from hf_stabilizer.data_quality import clean_rows

    output = _output(args)
    keys = dict(args.overrides)
    options = keys.pop("reader_options", None)
    table = read_file(args.file, key="FILE", options=options)
    cleaned = clean_rows(
        table.frame,
        **{name.replace("-", "_"): getattr(args, name.replace("-", "_")) for name in SWITCHES},
        stop_words=False if args.stop_words is None else (args.stop_words or True),
        stem=args.stem or False,
        drop_rows=args.drop_rows,
        drop_leaks=None
        if args.drop_leaks is None
        else _other_texts(args.drop_leaks, options, keys),
        similarity=args.similarity,
        **keys,
    )
    for note in cleaned.notes:
        print(f"note: {note}", file=sys.stderr)
    _print(cleaned)
    if args.dry_run:
        print("Nothing was written.")
    elif output is not None:
        _write(_as_they_stood(cleaned, args.file, output, options), output, args)


def _as_they_stood(
    cleaned: Cleaned, file: str, output: Path, options: dict[str, Any] | None
) -> Cleaned:
    """Puts back the cells that reading a CSV file has made numbers of: 007 is not to become 7."""
    from pandas.api.types import is_numeric_dtype

    from hf_stabilizer.data.reading import read_file

    numbers = [str(name) for name in cleaned.frame if is_numeric_dtype(cleaned.frame[name])]
    read_as = {".csv", ".tsv"} & {suffix.lower() for suffix in Path(file).suffixes}
    if not numbers or not read_as or output.suffix != ".csv" or "dtype" in (options or {}):
        return cleaned
    cells = read_file(file, key="FILE", options={**(options or {}), "dtype": str}).frame
    gone = {number - 1 for step in cleaned.steps if step.dropped for number in step.rows}
    left = cells.drop(index=sorted(gone)).reset_index(drop=True)
    return replace(cleaned, frame=cleaned.frame.assign(**{name: left[name] for name in numbers}))


def _output(args: argparse.Namespace) -> Path | None:
    """Returns the file to write.

    Raises:
        ConfigurationError: None is named, or it cannot be written, or is the one that is read.
    """
    from hf_stabilizer.records import check_file, check_spares

    if args.output is None:
        if args.dry_run:
            return None
        raise ConfigurationError("name the file to write with --output, or add --dry-run")
    path = Path(args.output)
    if path.suffix not in _WRITERS:
        raise ConfigurationError(
            f"--output must end in one of {', '.join(_WRITERS)}, got {args.output!r}"
        )
    check_file(path, key="--output", example="clean.parquet")
    check_spares(path, [args.file, *(args.drop_leaks or [])], key="--output")
    _check_record(path.with_suffix(".json"), args)
    return path


def _check_record(beside: Path, args: argparse.Namespace) -> None:
    """Raises ConfigurationError if the record would take the place of something else."""
    if not beside.exists():
        return
    try:
        there = json.loads(beside.read_text(encoding="utf-8"))
        is_record = isinstance(there, dict) and {"file", "rows_before", "steps"} <= there.keys()
    except (OSError, ValueError):
        is_record = False
    if not is_record:
        raise ConfigurationError(
            f"beside --output {args.output!r} the record of what was done would overwrite "
            f"{str(beside)!r}, which is none; name another file"
        )


def _other_texts(files: list[str], options: Any, keys: dict[str, Any]) -> list[str]:
    from hf_stabilizer.data.reading import read_file
    from hf_stabilizer.data_quality.rows import read_source

    texts: list[str] = []
    for file in files:
        frame = read_file(file, key="--drop-leaks", options=options).frame
        # Rows of a test file often have no labels, and need none.
        its = {key: name for key, name in keys.items() if key != "label_column" or name in frame}
        read = read_source(frame, plain_labels=True, **its)
        texts += read.parts["rows"].texts
    return texts


def _print(cleaned: Cleaned) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("step", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("example")
    for step in cleaned.steps:
        done = f"{len(step.rows)} {'dropped' if step.dropped else 'changed'}"
        example = ""
        if step.examples:
            before, after = step.examples[0]
            example = before if step.dropped else f"{before!r} -> {after!r}"
        table.add_row(step.name, done, Text(example))
    console = Console()
    console = console if console.is_terminal else Console(width=120)
    if cleaned.steps:
        console.print(table)
    print(f"{len(cleaned.frame)} of {cleaned.rows_before} rows are left")


def _write(cleaned: Cleaned, path: Path, args: argparse.Namespace) -> None:
    from hf_stabilizer.records import versions, write_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp{path.suffix}")
    try:
        _WRITERS[path.suffix](cleaned.frame, temporary)
    except (ValueError, TypeError, OSError) as error:
        temporary.unlink(missing_ok=True)
        raise DataError(f"--output {str(path)!r} cannot be written: {error}") from error
    temporary.replace(path)
    record = {
        "file": args.file,
        "command": ["hf-stabilizer", *args.argv],
        **cleaned.to_record(),
        "versions": versions(),
    }
    beside = path.with_suffix(".json")
    write_atomically(beside, json.dumps(record, indent=2, ensure_ascii=False))
    print(f"rows: {path}\nrecord: {beside}")


_WRITERS: dict[str, Any] = {  # Any: pandas' writers share no type
    ".parquet": lambda frame, path: frame.to_parquet(path, index=False),
    ".csv": lambda frame, path: frame.to_csv(path, index=False),
    ".jsonl": lambda frame, path: frame.to_json(
        path, orient="records", lines=True, force_ascii=False
    ),
}
