"""Which rows are divided into folds? Those that train and those that choose, put together.

The test rows stay apart: no fold learns from them or is chosen by them. What the configuration
says about taking validation rows from the training rows has no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hf_stabilizer.configuration import Configuration
from hf_stabilizer.data import DataArguments, Splits, load_splits
from hf_stabilizer.data.columns import SOURCE, SOURCE_ROW, refuse_taken, require_columns
from hf_stabilizer.data.splits import read_tables
from hf_stabilizer.data.writing import GROUP
from hf_stabilizer.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    import pandas as pd

# Any in this module: labels of whatever kind the task has, and cells of the user's table.
TASKS = ("text-classification", "text-regression", "multiple-choice")
"""Tasks with one label, or list of labels, for each row."""


@dataclass(frozen=True)
class Pool:
    """The rows that are divided, and all else that was read with them."""

    splits: Splits
    """`train` holds the pool, in the order of the files; `test` what stays apart."""
    rows: pd.DataFrame
    """The same rows as a table: texts, choices, label, `SOURCE` and `SOURCE_ROW`."""
    labels: list[Any]
    """The label of each row, as `load_splits` gives it."""
    groups: list[Any] | None
    """The group of each row; None without `group_column`."""
    marks: list[Any] | None
    """What the column of the folds holds in each row; None without one."""

    @property
    def texts(self) -> list[str]:
        """Texts and choices of each row, in one."""
        columns = [*self.splits.text_columns, *self.splits.choice_columns]
        return [" ".join(map(str, row)) for row in self.rows[columns].itertuples(index=False)]


def read_pool(configuration: Configuration, *, fold_column: str | None = None) -> Pool:
    """Reads the training and validation rows of a configuration as one, and the test rows.

    At most `max_train_rows` rows are in the pool, a seeded subset with the shares of the labels;
    `max_validation_rows` has no effect.

    Args:
        configuration: Says which rows.
        fold_column: A column that says in which fold each row lies.

    Raises:
        ConfigurationError: The task has no label by row, or its training rows are weighted by
            probabilities.
        DataError: The rows are not as the configuration says, a column is missing, or one that is
            read is called as one that is added.
    """
    arguments, task = configuration.data, configuration.model.task
    if task not in TASKS:  # No close name is meant: the task is one, but not of this kind.
        raise ConfigurationError(
            f"a cross-validation is of {', '.join(TASKS)}, which have a label for each row; "
            f"task is {task!r}"
        )
    if getattr(arguments, "soft_label_column", None) is not None:
        raise ConfigurationError(
            f"soft_label_column {arguments.soft_label_column!r} is of training rows alone, and in "
            "folds every row is scored, too; leave it out"
        )
    group = arguments.group_column
    named = {"group_column": group, "fold_column": fold_column}
    asked = {key: name for key, name in named.items() if name is not None}
    columns = list(asked.values())
    refuse_taken(columns, (SOURCE, SOURCE_ROW), by="places of rows")
    _require(asked, arguments)
    splits = load_splits(arguments, task=task, keep=(*columns, SOURCE, SOURCE_ROW), pooled=True)
    rows, label = splits.train, splits.label_column
    assert label is not None  # these tasks have one
    table = rows.to_pandas()
    read = [*splits.text_columns, *splits.choice_columns, label]
    if group is not None:
        refuse_taken(read, (GROUP,), by="groups that are written")
    return Pool(
        splits=replace(splits, train=rows.select_columns(read), groups=None),
        rows=table[[*read, SOURCE, SOURCE_ROW]],
        labels=list(rows[label][:]),
        groups=None if group is None else _filled(table[group], group),
        marks=None if fold_column is None else table[fold_column].tolist(),
    )


def _require(asked: Mapping[str, str], arguments: DataArguments) -> None:
    """Checks that the training rows have these columns, by the names that their file has.

    What `load_splits` returns has only the columns that it was to keep, and some of its own.
    """
    if not asked:
        return
    table = read_tables(arguments)[0]["train"]
    for key, name in asked.items():
        require_columns(table.frame, [name], key=key, origin=table.origin)


def _filled(cells: pd.Series[Any], column: str) -> list[Any]:
    empty = int(cells.isna().sum())
    if empty:
        raise DataError(
            f"{empty} of {len(cells)} rows have no group in column {column!r}; fill it in, or "
            "remove those rows with filter"
        )
    return cells.astype(str).tolist()
