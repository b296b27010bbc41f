"""Which rows are looked at? Files and configurations read leniently: what is wrong stays in.

`load_splits` refuses an empty text or a missing label; here they are what is looked for, so rows
keep their numbers and the bad ones are told apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pandas as pd
from pydantic import TypeAdapter, ValidationError

from hf_stabilizer.data.arguments import DataArguments
from hf_stabilizer.data.columns import (
    SOURCE,
    SOURCE_ROW,
    Columns,
    choose_columns,
    require_columns,
)
from hf_stabilizer.data.division import Part, divide
from hf_stabilizer.data.frames import frame_of
from hf_stabilizer.data.labels import missing_labels, read_labels
from hf_stabilizer.data.reading import Table, select_rows
from hf_stabilizer.data.splits import read_tables
from hf_stabilizer.data_quality.report import ALONE
from hf_stabilizer.errors import ConfigurationError, DataError, check_choice, did_you_mean
from hf_stabilizer.recipes import read_yaml

# Any in this module: cells of the user's table, and whatever YAML can say.
TASKS = ("text-classification", "text-regression", "multiple-choice")
"""Tasks whose rows have one label each."""
_MORE = {"task": "text-classification", "model_name_or_path": None, "max_length": None}


@dataclass(frozen=True)
class ReadRows:
    """One split, every row kept."""

    numbers: tuple[int, ...]
    """The number of each row in its file."""
    texts: tuple[str, ...]
    """All texts and choices of each row, joined; "" where one of them is missing."""
    labels: tuple[Any, ...] | None
    """The label of each row as its task has it, None where it is missing; None without labels."""


@dataclass(frozen=True)
class Source:
    """What is looked at."""

    name: str
    """What a report calls it."""
    task: str
    """The task."""
    parts: Mapping[str, ReadRows]
    """The splits; of a file alone it is "rows"."""
    columns: Columns
    """The columns that count."""
    model: str | None
    """The model whose tokenizer counts tokens, if one is named."""
    max_length: int | None
    """Tokens that are kept of a row, if it is said."""


def read_source(
    source: str | Path | pd.DataFrame, *, plain_labels: bool = False, **keys: Any
) -> Source:
    """Reads a frame, a file of rows, or all splits of a YAML configuration.

    Args:
        source: The rows, or where they are.
        plain_labels: Take the cells of the label column as they are, whatever the task needs.
        **keys: Configuration keys about rows, `task`, `model_name_or_path` and `max_length`; they
            beat the file's.

    Raises:
        ConfigurationError: A key is unknown or of the wrong type.
        DataError: A file cannot be read, or a column cannot be told.
    """
    if not isinstance(source, (str, Path)):
        name, values, only = "the rows", dict(keys), True
        tables = {"train": Table(frame_of(source).reset_index(drop=True), {}, "the table")}
    else:
        is_config = str(source).endswith((".yaml", ".yml"))
        file = read_yaml(Path(source)) if is_config else {"train_file": str(source)}
        name, values, only = str(source), {**_known(file), **keys}, not is_config
        tables = {}
    arguments, more = _arguments(values)
    check_choice(more["task"], TASKS, name="task")
    if not tables:
        tables, _ = read_tables(arguments, numbered=True)
    else:
        frame = tables["train"].frame
        frame[SOURCE], frame[SOURCE_ROW] = "train", range(len(frame))
        if arguments.filter is not None:
            tables["train"] = select_rows(tables["train"], arguments.filter)
    columns = _columns(tables["train"], arguments, more["task"], said="task" in values)
    parts = {
        part: _read(table, columns, "plain" if plain_labels else more["task"])
        for part, table in tables.items()
    }
    if not only:
        parts = _divided(parts, tables, arguments, more["task"])
    if only:
        parts = {ALONE: parts["train"]}
    return Source(
        name=name,
        task=more["task"],
        parts=parts,
        columns=columns,
        model=more["model_name_or_path"],
        max_length=more["max_length"],
    )


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a configuration that count here; the others are the Trainer's."""
    names = {field.name for field in fields(DataArguments)} | set(_MORE)
    return {key: value for key, value in values.items() if key in names}


def _arguments(values: Mapping[str, Any]) -> tuple[DataArguments, dict[str, Any]]:
    types = get_type_hints(DataArguments)
    more, checked = dict(_MORE), {}
    for key, value in values.items():
        if key in more:
            more[key] = value
        elif key not in types:
            raise ConfigurationError(
                f"unknown key {key!r}{did_you_mean(key, [*types, *more])}; rows are described by "
                f"{', '.join([*types, *more])}"
            )
        else:
            checked[key] = _typed(key, value, types[key])
    return DataArguments(**checked), more


def _typed(key: str, value: Any, wanted: Any) -> Any:
    is_list = any(getattr(one, "__origin__", one) is list for one in get_args(wanted))
    try:
        value = [value] if is_list and isinstance(value, str) else value
        return TypeAdapter(wanted).validate_python(value)
    except ValidationError as error:
        raise ConfigurationError(
            f"{key} cannot be {value!r}: {error.errors()[0]['msg']}"
        ) from error


def _columns(table: Table, arguments: DataArguments, task: str, *, said: bool) -> Columns:
    """The columns; a file without labels has an empty name for theirs."""
    frame = table.frame.drop(columns=[SOURCE, SOURCE_ROW])
    try:
        columns = choose_columns(frame, arguments, task=task)
    except DataError as error:
        unlabelled = replace(arguments, label_column="")
        try:
            if arguments.label_column is not None:
                raise
            return choose_columns(frame.assign(**{"": ""}), unlabelled, task=task)
        except DataError:
            more = "" if said else f"; if these are no rows for {task}, name the task with task"
            raise DataError(f"{error}{more}") from None
    if columns.label is not None:
        require_columns(frame, [columns.label], key="label_column", origin=table.origin)
    return columns


def _divided(
    whole: dict[str, ReadRows],
    tables: Mapping[str, Table],
    arguments: DataArguments,
    task: str,
) -> dict[str, ReadRows]:
    """Returns the splits as `train` would make them, where they are not given."""
    # Rows that cannot be trained on are no part of the draw, as with `load_splits`.
    sound = {part: _sound(tables[part], rows) for part, rows in whole.items()}
    divide(sound, arguments, task=task)
    side = {
        number: part
        for part in sound.keys() - whole.keys()
        for number in sound[part].frame[SOURCE_ROW].tolist()
    }
    train = whole.pop("train")
    places = [side.get(number - 1, "train") for number in train.numbers]
    whole |= {part: _taken(train, places, part) for part in sound if part not in whole}
    return {part: whole[part] for part in ("train", "validation", "test") if part in whole}


def _sound(table: Table, rows: ReadRows) -> Part:
    labels = rows.labels or (None,) * len(rows.texts)
    places = [
        place for place, label in enumerate(labels) if label is not None and rows.texts[place]
    ]
    return Part(table.frame.iloc[places], [labels[place] for place in places])


def _taken(rows: ReadRows, places: list[str], part: str) -> ReadRows:
    chosen = [row for row, its_part in enumerate(places) if its_part == part]
    return ReadRows(
        numbers=tuple(rows.numbers[row] for row in chosen),
        texts=tuple(rows.texts[row] for row in chosen),
        labels=None if rows.labels is None else tuple(rows.labels[row] for row in chosen),
    )


def _read(table: Table, columns: Columns, task: str) -> ReadRows:
    for key, needed in (("text_columns", columns.texts), ("choice_columns", columns.choices)):
        require_columns(table.frame, needed, key=key, origin=table.origin)
    return ReadRows(
        numbers=tuple(int(place) + 1 for place in table.frame[SOURCE_ROW]),
        texts=joined_texts(table.frame, [*columns.texts, *columns.choices]),
        labels=_labels(table, columns, task),
    )


def joined_texts(frame: pd.DataFrame, columns: list[str]) -> tuple[str, ...]:
    r"""Returns the texts of each row, a line for each column; "" where one has nothing to read.

    Raises:
        DataError: A cell is a list.

    Example:
        >>> joined_texts(pd.DataFrame({"a": ["x", None], "b": ["y", "z"]}), ["a", "b"])
        ('x\ny', '')
    """
    for one in columns:
        if any(pd.api.types.is_list_like(cell) for cell in frame[one]):
            raise DataError(
                f"column {one!r} holds lists or mappings; name a column of texts in text_columns"
            )
    cells = [["" if pd.isna(cell) else str(cell) for cell in frame[one]] for one in columns]
    return tuple(
        "\n".join(row) if all(cell.strip() for cell in row) else ""
        for row in zip(*cells, strict=True)
    )


def _plain(cell: Any) -> Any:
    """A list of labels is a list, also where its file hands it over as an array."""
    return cell.tolist() if isinstance(cell, np.ndarray) else cell


def _labels(table: Table, columns: Columns, task: str) -> tuple[Any, ...] | None:
    if columns.label is None or columns.label not in table.frame.columns:
        return None
    missing = missing_labels(table, columns.label).to_numpy()
    if missing.all():
        return None
    if task == "plain":
        cells = table.frame[columns.label].tolist()
        return tuple(
            None if gone else _plain(cell) for cell, gone in zip(cells, missing, strict=True)
        )
    there = replace(table, frame=table.frame[~missing])
    found = iter(read_labels(there, columns, task=task))
    return tuple(None if absent else next(found) for absent in missing)
