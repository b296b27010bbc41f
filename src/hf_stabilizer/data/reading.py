"""What is in this file? From a location to a table, or to the splits of a data set."""

from __future__ import annotations

import codecs
import json
import os
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hf_stabilizer.errors import DataError, did_you_mean, first_line
from hf_stabilizer.locations import resolve_location

# Any in this module: options for, and cells of, whatever table the user brings.
_COMPRESSIONS = (".gz", ".bz2", ".xz", ".zip")
# Methods of a column that a filter may call: those that look at values and change nothing.
_LOOKING = (
    *("str", "len", "lower", "upper", "strip", "contains", "startswith", "endswith", "match"),
    *("fullmatch", "count", "isin", "isna", "notna", "between", "abs", "duplicated"),
)


@dataclass(frozen=True)
class Table:
    """Rows as they were read."""

    frame: pd.DataFrame
    """The rows."""
    class_names: Mapping[str, tuple[str, ...]]
    """Names of the classes of each column whose numbers stand for names (`ClassLabel`)."""
    origin: str
    """What an error message calls it, e.g. "train_file 'reviews.csv'"."""


def read_file(location: str, *, key: str, options: Mapping[str, Any] | None = None) -> Table:
    """Reads one file, or one folder written by `Dataset.save_to_disk`.

    In CSV only an empty cell is missing: texts such as "null" and "NA" stay texts.

    Args:
        location: See `resolve_location`.
        key: The configuration key, for messages.
        options: Keyword arguments for the pandas reader.

    Raises:
        DataError: It does not exist, cannot be read, or holds no rows.
    """
    path, origin = Path(resolve_location(location)), f"{key} {location!r}"
    if not path.exists():
        near = os.listdir(path.parent) if path.parent.is_dir() else []
        raise DataError(f"{origin} does not exist{did_you_mean(path.name, near)}")
    if path.is_dir():
        table = _read_folder(path, origin)
    else:
        table = Table(_read_with_pandas(path, origin, options or {}), {}, origin)
    if not len(table.frame):
        raise DataError(f"{origin} holds no rows")
    return table


def format_of(path: Path) -> str:
    """Returns the ending that says how a file is read, in lower case; "" if it has none.

    Example:
        >>> format_of(Path("rows.CSV.gz")), format_of(Path("rows"))
        ('.csv', '')
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compressed = bool(suffixes) and suffixes[-1] in _COMPRESSIONS
    return next(iter(suffixes[-2:-1] if compressed else suffixes[-1:]), "")


def read_dataset(name: str, config_name: str | None) -> dict[str, Table]:
    """Reads the splits of a Hub data set, or of a folder, by their names.

    Raises:
        DataError: It cannot be found or read.
    """
    import datasets

    location, origin = resolve_location(name), f"dataset_name {name!r}"
    try:
        if _is_saved(Path(location)):
            loaded = datasets.load_from_disk(location)
        else:
            loaded = datasets.load_dataset(location, config_name)
    except Exception as error:  # The Hub, the file system and every builder raise their own kinds.
        raise DataError(f"{origin} cannot be loaded: {first_line(error)}") from error
    parts = loaded if isinstance(loaded, dict) else {"train": loaded}
    return {part: _from_dataset(rows, f"{part} of {origin}") for part, rows in parts.items()}


def select_rows(table: Table, expression: str) -> Table:
    """Keeps the rows for which the expression is true.

    Raises:
        DataError: The expression cannot be read, uses what it may not, or keeps no row.

    Example:
        >>> table = Table(pd.DataFrame({"kind": ["plot", "fresh"]}), {}, "train_file 'a.csv'")
        >>> select_rows(table, "kind != 'plot'").frame["kind"].tolist()
        ['fresh']
    """
    _check_expression(expression)
    try:
        kept = table.frame.query(expression, engine="python")
    except Exception as error:  # pandas lets errors of many kinds through.
        columns = ", ".join(map(str, table.frame.columns))
        raise DataError(
            f"filter {expression!r} cannot be applied to {table.origin}: {first_line(error)}; "
            f"its columns are {columns}"
        ) from error
    if not isinstance(kept, pd.DataFrame):
        raise DataError(
            f"filter {expression!r} cannot be applied to {table.origin}: it must be true or false "
            "for each row"
        )
    if not len(kept):
        raise DataError(f"filter {expression!r} keeps none of the rows of {table.origin}")
    return Table(kept.reset_index(drop=True), table.class_names, table.origin)


def _check_expression(expression: str) -> None:
    """Only columns, literals and looking: a data option must not become a way to run code."""
    bare = re.sub(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|`[^`]*`", " ", expression)
    if "@" in bare:
        raise DataError(f"filter {expression!r} may name columns only; remove the @")
    # Python reads letters of other widths and shapes as the plain ones, and so must we.
    for name in re.findall(r"\.\s*([^\W\d]\w*)", unicodedata.normalize("NFKC", bare)):
        if name not in _LOOKING:
            raise DataError(
                f"filter {expression!r} may not use .{name}; allowed are {', '.join(_LOOKING)}"
            )


def _read_with_pandas(path: Path, origin: str, options: Mapping[str, Any]) -> pd.DataFrame:
    suffix = format_of(path)
    if suffix not in _READERS:
        allowed = ", ".join(sorted(_READERS))
        raise DataError(f"{origin} must end in one of {allowed} (and may be compressed)")
    for option in ("chunksize", "iterator"):
        if options.get(option):
            raise DataError(f"{origin} is read as one table; remove {option} from reader_options")
    reader, defaults = _READERS[suffix]
    try:
        frame = reader(path, **{**defaults, **options})
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{origin} is empty") from error
    except UnicodeDecodeError as error:
        wide = error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        raise DataError(
            f"{origin} is not UTF-8, at byte {error.start}; say what it is, for instance "
            f"reader_options: {{encoding: {'utf-16' if wide else 'latin-1'}}}"
        ) from error
    except (ValueError, TypeError, OSError, EOFError) as error:
        raise DataError(
            f"{origin} cannot be read: {first_line(error)}; see reader_options, which are handed "
            f"to pandas.{reader.__name__.lstrip('_')}"
        ) from error
    if reader is pd.read_csv:
        _refuse_wrong_separator(frame, origin)
    frame.columns = frame.columns.map(str)  # Without a header they are numbers.
    return frame


def _refuse_wrong_separator(frame: pd.DataFrame, origin: str) -> None:
    name = str(frame.columns[0])
    found = next((separator for separator in ";\t|," if separator in name), None)
    if len(frame.columns) == 1 and found is not None:
        raise DataError(
            f"{origin} has one column only, {name!r}; if {found!r} stands between columns, set "
            f"reader_options: {{sep: {json.dumps(found)}}}"
        )


def _read_json(path: Path, **options: Any) -> pd.DataFrame:
    """Reads an array of records, or one record per line, which also goes by the name .json."""
    try:
        frame: pd.DataFrame = pd.read_json(path, **options)
    except ValueError:
        frame = pd.read_json(path, **{**options, "lines": True})
    return frame


_CSV = {"keep_default_na": False, "na_values": [""], "low_memory": False}
# Without dtype=False pandas turns texts that look like numbers into numbers.
_JSON = {"dtype": False, "encoding": "utf-8-sig"}  # UTF-8, with a byte order mark or without.
_READERS: dict[str, tuple[Callable[..., pd.DataFrame], dict[str, Any]]] = {
    ".csv": (pd.read_csv, _CSV),
    ".tsv": (pd.read_csv, {**_CSV, "sep": "\t"}),
    ".tab": (pd.read_csv, {**_CSV, "sep": "\t"}),
    ".json": (_read_json, _JSON),
    ".jsonl": (pd.read_json, {**_JSON, "lines": True}),
    ".ndjson": (pd.read_json, {**_JSON, "lines": True}),
    ".parquet": (pd.read_parquet, {}),
}


def _is_saved(path: Path) -> bool:
    return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()


def _read_folder(path: Path, origin: str) -> Table:
    import datasets

    if (path / "dataset_dict.json").is_file() or not _is_saved(path):
        raise DataError(
            f"{origin} is a folder, but not one data set written by Dataset.save_to_disk; a "
            "folder with several splits, or with data files, goes into dataset_name"
        )
    return _from_dataset(datasets.load_from_disk(str(path)), origin)


def _from_dataset(rows: Any, origin: str) -> Table:
    names = {}
    for column, feature in rows.features.items():
        inner = getattr(feature, "feature", feature)  # A list of classes holds their feature.
        if hasattr(inner, "names"):
            names[column] = tuple(inner.names)
    return Table(rows.to_pandas(), names, origin)
