"""Which rows train, which choose, which judge? The one call that turns arguments into rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from hf_stabilizer.data.arguments import DataArguments
from hf_stabilizer.data.columns import (
    SOURCE,
    SOURCE_ROW,
    Columns,
    choose_columns,
    refuse_taken,
    require_columns,
)
from hf_stabilizer.data.division import (
    SPLITS,
    Part,
    divide,
    divided,
    made_of_others,
    take_subsets,
)
from hf_stabilizer.data.labels import (
    TASKS,
    missing_labels,
    order_of_labels,
    read_labels,
)
from hf_stabilizer.data.reading import Table, read_dataset, read_file, select_rows
from hf_stabilizer.data.soft_labels import read_soft_labels
from hf_stabilizer.data.texts import clean_texts
from hf_stabilizer.errors import ConfigurationError, DataError, check_choice

if TYPE_CHECKING:
    from datasets import Dataset

# Any in this module: cells of the user's table.
_VALIDATION_NAMES = ("validation", "valid", "val", "dev", "validation_matched")


@dataclass(frozen=True)
class Splits:
    """The rows of a task, divided; every cell checked."""

    train: Dataset
    """Rows to learn from."""
    validation: Dataset
    """Rows that choose between models."""
    test: Dataset | None
    """Rows that judge the chosen model once; None if there are none."""
    unlabelled: Dataset | None
    """Rows of `unlabelled_file`, without labels; None if there is none."""
    text_columns: tuple[str, ...]
    """One column of text, or two that form a pair."""
    choice_columns: tuple[str, ...]
    """The columns of the answers; empty but for multiple-choice."""
    label_column: str | None
    """The column of the labels: class names, lists of them (several classes, or a tag per token),
    numbers, indices of choices, or texts to write; None where the text alone is learnt from."""
    label_names: tuple[str, ...] | None
    """Names of the classes or tags, in the order of their ids; None where labels are no classes."""
    multi_label: bool
    """Whether a row holds a list of classes."""
    groups: tuple[str, ...] | None
    """The group of each training row, by `group_column`; None without one."""
    notes: tuple[str, ...]
    """What was guessed, made or left aside, a sentence each."""
    soft_label_column: str | None = None
    """The column of the training rows that holds a list of probabilities, one per name in
    `label_names`; None without one."""
    cautions: tuple[str, ...] = ()
    """Those of the notes that tell why scores may be too good."""


def load_splits(
    arguments: DataArguments, *, task: str, keep: Sequence[str] = (), pooled: bool = False
) -> Splits:
    """Reads, filters, checks and divides the rows.

    The test rows are taken first, then the validation rows, then subsets. Each draw keeps the
    shares of the labels (of several labels in a row, that of its rarest; for numbers it is plainly
    random), or with `group_column` takes whole groups. All depends on `split_seed` alone.

    Args:
        arguments: See `DataArguments`.
        task: One of `hf_stabilizer.tasks.TASKS`.
        keep: More columns to leave in the rows of the splits, and in the unlabelled ones, that
            have them; `SOURCE` and `SOURCE_ROW` among them tell where each row was read.
        pooled: Draw no validation rows, and put those that are given behind the training rows, to
            be divided otherwise; `validation` is empty.

    Raises:
        ConfigurationError: Options clash, or no rows are named.
        DataError: Something about a file, column, label or split is not as it must be.

    Example:
        >>> import pandas as pd, pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "reviews.csv")
        ...     rows = {"text": ["good film", "bad film"] * 5, "label": ["pos", "neg"] * 5}
        ...     pd.DataFrame(rows).to_csv(path)
        ...     arguments = DataArguments(train_file=str(path))
        ...     splits = load_splits(arguments, task="text-classification")
        >>> len(splits.train), len(splits.validation), splits.label_names
        (8, 2, ('neg', 'pos'))
    """
    check_choice(task, TASKS, name="task")
    tables, notes = read_tables(arguments, numbered=SOURCE_ROW in keep)
    columns = choose_columns(tables["train"].frame, arguments, task=task)
    notes += columns.notes
    if SOURCE_ROW in keep:
        more = (columns.label, arguments.soft_label_column, arguments.group_column)
        read = (*columns.texts, *columns.choices, *(name for name in more if name is not None))
        refuse_taken(read, (SOURCE, SOURCE_ROW), by="places of rows")
    _drop_unlabelled_test(tables, columns, arguments, notes)
    if "test" in tables:
        _require_test_labels(tables["test"], columns)
    parts = {name: _read_part(table, columns, task) for name, table in tables.items()}
    cautions: list[str] = []
    if pooled or divided(parts, arguments):
        grouped = arguments.group_column is not None
        cautions = made_of_others(parts["train"].frame, grouped=grouped)
    notes += divide(parts, arguments, task=task, wanted=("test",) if pooled else SPLITS)
    label_names = None
    if columns.label is not None:
        _check_kinds(parts, columns.label)
    if pooled and "validation" in parts:
        parts["train"] = parts["train"].followed_by(parts.pop("validation"))
    if columns.label is not None and task in ("text-classification", "token-classification"):
        are_tags = task == "token-classification"
        label_names = _name_labels(
            parts, tables["train"], columns.label, notes, arguments, are_tags=are_tags
        )
    _note_repeats(parts, columns, notes)
    take_subsets(parts, arguments, task=task)
    train = _dataset(parts["train"], columns, keep)
    soft = arguments.soft_label_column
    if soft is not None:
        origin = tables["train"].origin
        probabilities = read_soft_labels(
            parts["train"], soft, label_names, task=task, origin=origin
        )
        train = train.add_column(soft, probabilities)
    return Splits(
        train=train,
        validation=_dataset(parts.get("validation", parts["train"].take([])), columns, keep),
        test=_dataset(parts["test"], columns, keep) if "test" in parts else None,
        unlabelled=_read_unlabelled(arguments, columns, task, keep),
        text_columns=columns.texts,
        choice_columns=columns.choices,
        label_column=columns.label,
        label_names=label_names,
        multi_label=task == "text-classification" and isinstance(parts["train"].labels[0], list),
        groups=_groups(parts["train"], arguments.group_column),
        notes=(*cautions, *notes),
        soft_label_column=soft,
        cautions=tuple(cautions),
    )


def _groups(part: Part, column: str | None) -> tuple[str, ...] | None:
    known = column is not None and column in part.frame.columns
    return tuple(map(str, part.frame[column])) if known else None


def read_tables(
    arguments: DataArguments, *, numbered: bool = False
) -> tuple[dict[str, Table], list[str]]:
    """Reads the rows of each split as they are, filtered, and says what was left aside.

    Args:
        arguments: Where they are.
        numbered: Add the columns `SOURCE` and `SOURCE_ROW`.
    """
    notes: list[str] = []
    if arguments.dataset_name is not None:
        tables = _pick_splits(arguments, notes)
    elif arguments.train_file is not None:
        tables = {
            part: read_file(file, key=f"{part}_file", options=arguments.reader_options)
            for part in ("train", "validation", "test")
            if (file := getattr(arguments, f"{part}_file")) is not None
        }
    else:
        raise ConfigurationError("no training rows are named; set train_file or dataset_name")
    if numbered:
        for part, table in tables.items():
            table.frame[SOURCE] = part
            table.frame[SOURCE_ROW] = range(len(table.frame))
    if arguments.filter is not None:
        tables = {part: select_rows(table, arguments.filter) for part, table in tables.items()}
    return tables, notes


def _pick_splits(arguments: DataArguments, notes: list[str]) -> dict[str, Table]:
    name = str(arguments.dataset_name)
    found = read_dataset(name, arguments.dataset_config_name)
    if "train" not in found:
        raise DataError(f"dataset_name {name!r} has no split train; it has {', '.join(found)}")
    picked = {"train": found["train"]}
    validation = next((part for part in _VALIDATION_NAMES if part in found), None)
    if validation is not None:
        picked["validation"] = found[validation]
    if "test" in found:
        picked["test"] = found["test"]
    ignored = sorted(set(found) - {"train", "test", validation})
    if ignored:
        notes.append(f"splits of {name} that are not used: {', '.join(ignored)}")
    for part in ("validation", "test"):
        if part in picked and getattr(arguments, f"{part}_size") is not None:
            raise ConfigurationError(
                f"{part}_size takes {part} rows from the training rows, but dataset_name={name!r} "
                f"has a split {part} of its own; remove it, or set max_{part}_rows"
            )
    return picked


def _drop_unlabelled_test(
    tables: dict[str, Table], columns: Columns, arguments: DataArguments, notes: list[str]
) -> None:
    """Leaves aside a test split whose labels are withheld, as those of GLUE are."""
    if arguments.dataset_name is None or "test" not in tables or columns.label is None:
        return
    frame = tables["test"].frame
    if columns.label in frame.columns:
        cells = frame[columns.label]
        withheld = missing_labels(tables["test"], columns.label).all() or (
            pd.api.types.is_numeric_dtype(cells) and (cells == -1).all()
        )
        if not withheld:
            return
    del tables["test"]
    notes.append(f"the test split of {arguments.dataset_name} has no labels and is not used")


def _require_test_labels(table: Table, columns: Columns) -> None:
    needed = () if columns.label is None else (columns.label,)
    try:
        require_columns(table.frame, needed, key="label_column", origin=table.origin)
    except DataError as error:
        raise DataError(
            f"{error}; test rows are scored, so they need labels: leave a file without them out, "
            "and ask the models afterwards with `hf-stabilizer predict`"
        ) from error


def _read_part(table: Table, columns: Columns, task: str) -> Part:
    for key, needed in (
        ("text_columns", columns.texts),
        ("choice_columns", columns.choices),
        ("label_column", () if columns.label is None else (columns.label,)),
    ):
        require_columns(table.frame, needed, key=key, origin=table.origin)
    if not len(table.frame):
        raise DataError(f"{table.origin} holds no rows")
    frame = clean_texts(table, columns, task=task)
    return Part(frame, read_labels(replace(table, frame=frame), columns, task=task))


def _check_kinds(parts: dict[str, Part], column: str) -> None:
    kinds = {part: isinstance(rows.labels[0], list) for part, rows in parts.items()}
    for part, kind in kinds.items():
        if kind != kinds["train"]:
            raise DataError(
                f"column {column!r} holds lists in one of train and {part} and single labels in "
                "the other; write them alike"
            )


def _name_labels(
    parts: dict[str, Part],
    table: Table,
    column: str,
    notes: list[str],
    arguments: DataArguments,
    *,
    are_tags: bool,
) -> tuple[str, ...]:
    """Names the classes: those that are said, or those of the training rows; no row has others."""
    occurring = {part: _occurring(rows.labels) for part, rows in parts.items()}
    if arguments.label_names is not None:
        return _said_labels(arguments.label_names, occurring, column)
    declared = table.class_names.get(column)
    # Which tags a few texts show is chance: all that are declared are kept.
    shown = set(declared) if are_tags and declared else occurring["train"]
    names = order_of_labels(shown, declared)
    if len(names) < 2:
        raise DataError(
            f"the training rows hold the label {', '.join(names) or 'of no class'} only in column "
            f"{column!r}; a classifier needs two or more"
        )
    for part in [part for part in parts if part != "train"]:
        unknown = sorted(occurring[part] - set(names))
        if unknown:
            raise DataError(
                f"the {part} rows hold labels in column {column!r} that no training row has: "
                f"{', '.join(map(repr, unknown))}; the training rows have {', '.join(names)}, and "
                "label_names can name more"
            )
        absent = [name for name in names if name not in occurring[part]]
        if absent:
            notes.append(f"{part} has no row with label {', '.join(absent)}")
    return names


def _said_labels(
    said: Sequence[str], occurring: dict[str, set[str]], column: str
) -> tuple[str, ...]:
    for part, names in occurring.items():
        unknown = sorted(names - set(said))
        if unknown:
            raise DataError(
                f"the {part} rows hold labels in column {column!r} that label_names leaves out: "
                f"{', '.join(map(repr, unknown))}; label_names has {', '.join(map(repr, said))}"
            )
    return tuple(said)


def _occurring(labels: Sequence[Any]) -> set[str]:
    return {name for row in labels for name in (row if isinstance(row, list) else [row])}


def _note_repeats(parts: dict[str, Part], columns: Columns, notes: list[str]) -> None:
    keys = [*columns.texts, *columns.choices]
    known = set(parts["train"].frame[keys].itertuples(index=False, name=None))
    for part in [part for part in parts if part != "train"]:
        rows = parts[part].frame[keys].itertuples(index=False, name=None)
        repeats = sum(row in known for row in rows)
        if repeats:
            notes.append(f"{repeats} of the {part} rows have a text that is in a training row too")


def _read_unlabelled(
    arguments: DataArguments, columns: Columns, task: str, keep: Sequence[str]
) -> Dataset | None:
    if arguments.unlabelled_file is None:
        return None
    options = arguments.reader_options
    table = read_file(arguments.unlabelled_file, key="unlabelled_file", options=options)
    needed = (*columns.texts, *columns.choices)
    require_columns(table.frame, needed, key="unlabelled_file", origin=table.origin)
    return _dataset(Part(clean_texts(table, columns, task=task), []), columns, keep)


def _dataset(part: Part, columns: Columns, keep: Sequence[str] = ()) -> Dataset:
    from datasets import Dataset

    more = [name for name in keep if name in part.frame.columns and name != columns.label]
    texts = {name: part.frame[name].tolist() for name in (*columns.texts, *columns.choices)}
    texts |= {name: _cells(part.frame[name]) for name in more if name not in texts}
    if columns.label is not None and part.labels:
        texts[columns.label] = part.labels
    return Dataset.from_dict(texts)


def _cells(column: pd.Series[Any]) -> list[Any]:
    """Returns the cells of any column as a table of one type can hold them: empty ones as None."""
    if pd.api.types.is_numeric_dtype(column):
        return column.tolist()
    cells = [
        None if is_empty else cell for cell, is_empty in zip(column, column.isna(), strict=True)
    ]
    if len({type(cell) for cell in cells if cell is not None}) < 2:
        return cells
    return [None if cell is None else str(cell) for cell in cells]
