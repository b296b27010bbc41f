"""How are divided rows handed to another run? As files, and the keys that read them back.

    Splits --write_splits--> train.parquet, validation.parquet, test.parquet + configuration keys

A procedure that changes training rows must not change which rows choose and judge: with the
divided rows as files there is nothing left to divide.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_stabilizer.data.columns import refuse_taken
from hf_stabilizer.data.splits import Splits

if TYPE_CHECKING:
    from datasets import Dataset

# Any in this module: values of configuration keys.
_SETTLED = (
    *("dataset_name", "dataset_config_name", "filter", "reader_options", "validation_size"),
    *("test_size", "max_train_rows", "max_validation_rows", "max_test_rows"),
)
"""Keys that have done their work once the rows are divided."""
GROUP = "_group"
"""Column of the written training rows that holds their group."""


def write_splits(
    splits: Splits, folder: str | Path, *, train: Dataset | None = None
) -> dict[str, Any]:
    """Writes the rows of a task as Parquet files, and returns the keys that read them back.

    Args:
        splits: What `load_splits` returned.
        folder: Folder for the files; it is made.
        train: Other training rows with at least the columns of `splits.train`; None: those of
            `splits`. More columns are kept in the file, for provenance.

    Returns:
        Configuration keys to lay over the configuration that the rows were read with; keys that
        must no longer act are None.

    Raises:
        DataError: The rows have groups, and a column of theirs is called `GROUP`.

    Example:
        >>> import pandas as pd, tempfile
        >>> from hf_stabilizer.data import DataArguments, load_splits
        >>> folder = Path(tempfile.mkdtemp())
        >>> rows = {"text": ["good film", "bad film"] * 5, "label": ["pos", "neg"] * 5}
        >>> pd.DataFrame(rows).to_csv(folder / "rows.csv")
        >>> arguments = DataArguments(train_file=str(folder / "rows.csv"), validation_size=4)
        >>> splits = load_splits(arguments, task="text-classification")
        >>> keys = write_splits(splits, folder)
        >>> again = load_splits(DataArguments(**keys), task="text-classification")
        >>> again.train.to_dict() == splits.train.to_dict(), again.label_names
        (True, ('neg', 'pos'))
    """
    check_group_name(splits)
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    keys: dict[str, Any] = dict.fromkeys(_SETTLED)
    rows = splits.train if train is None else train
    if splits.groups is not None and train is None:
        rows = rows.add_column(GROUP, list(splits.groups))
    parts = {"train": rows, "validation": splits.validation, "test": splits.test}
    for part, its_rows in (*parts.items(), ("unlabelled", splits.unlabelled)):
        keys[f"{part}_file"] = None
        if its_rows is not None:
            path = folder / f"{part}.parquet"
            write_parquet(spelled_out(its_rows, splits), path)
            keys[f"{part}_file"] = str(path)
    return {
        **keys,
        "text_columns": list(splits.text_columns),
        "choice_columns": list(splits.choice_columns) or None,
        "label_column": splits.label_column,
        "label_names": None if splits.label_names is None else list(splits.label_names),
        "group_column": GROUP if GROUP in rows.column_names else None,
    }


def check_group_name(splits: Splits) -> None:
    """Checks that the column of the groups can be written beside those of the rows.

    Raises:
        DataError: One of these has its name already.
    """
    if splits.groups is not None:
        refuse_taken(splits.train.column_names, (GROUP,), by="groups that are written")


def write_parquet(rows: Dataset, path: Path) -> None:
    """Writes rows as a Parquet file, whole or not at all: another start may be reading it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    rows.to_parquet(str(temporary))
    temporary.replace(path)


def spelled_out(rows: Dataset, splits: Splits) -> Dataset:
    """Returns rows as a file should hold them: the right choice by its column's name.

    Its index would be read as the name of another column where they are called 1, 2, 3.
    """
    label = splits.label_column
    if not splits.choice_columns or label is None:
        return rows
    names = [splits.choice_columns[place] for place in rows[label]]
    return rows.remove_columns(label).add_column(label, names).select_columns(rows.column_names)
