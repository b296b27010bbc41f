"""Which of these rows train, which choose, which judge? Draws what is not given, seeded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from hf_stabilizer.data.arguments import DataArguments
from hf_stabilizer.data.columns import quoted, require_columns
from hf_stabilizer.data.labels import strata_of
from hf_stabilizer.data.splitting import grouped_sample, stratified_sample
from hf_stabilizer.errors import DataError

# Any in this module: labels of whatever kind the task has.
_DEFAULT_VALIDATION = (0.2, 1000)  # A fifth, but more rows than this make few scores more certain.
# One stream of random numbers per purpose, so that no draw depends on another's options.
_SPLIT_STREAMS = {"test": 1, "validation": 2}
# Columns that procedures write -> what rows they tell of, and the filter that leaves these out.
_MADE = {
    "augmented_by": ("are changed copies of others", "augmented_by.isna()"),
    "pseudo_labelled": ("have labels of models that learnt others", "pseudo_labelled == False"),
    "synthetic": ("were written by a model that was shown others", "synthetic == False"),
}
SPLITS = ("test", "validation")
"""What is taken from the training rows, in this order."""
_SUBSET_STREAMS = {"train": 3, "validation": 4, "test": 5}


@dataclass(frozen=True)
class Part:
    """The rows of one split with their labels."""

    frame: pd.DataFrame
    """The rows, texts cleaned."""
    labels: list[Any]
    """The label of each row, as `read_labels` returns it."""

    def take(self, places: Sequence[int]) -> Part:
        """Returns the rows in these places."""
        rows = list(places)
        return Part(self.frame.iloc[rows], [self.labels[row] for row in rows])

    def followed_by(self, other: Part) -> Part:
        """Returns these rows and then the others."""
        first, second = self.frame.copy(), other.frame.copy()
        for name in set(first.columns) & set(second.columns):
            if pd.api.types.is_numeric_dtype(first[name]) != pd.api.types.is_numeric_dtype(
                second[name]
            ):  # 1, 2 in one file and "a1", "2" in the other are names in both.
                for frame in (first, second):
                    frame[name] = frame[name].astype(object).map(str, na_action="ignore")
        frame = pd.concat([first, second], ignore_index=True)
        return Part(frame, [*self.labels, *other.labels])

    def without(self, places: Sequence[int]) -> Part:
        """Returns all rows but those in these places, in their order."""
        left_out = set(places)
        return self.take([row for row in range(len(self.labels)) if row not in left_out])


def divide(
    parts: dict[str, Part],
    arguments: DataArguments,
    *,
    task: str,
    wanted: Sequence[str] = SPLITS,
) -> list[str]:
    """Takes test and validation rows from the training rows, where they are not given.

    Args:
        parts: The rows of each split by its name; changed in place.
        arguments: Sizes, group and seed.
        task: Decides over what the splits are balanced.
        wanted: The splits that are to be there, test rows where a size is given.

    Returns:
        A sentence for each split that was made.

    Raises:
        DataError: There are too few rows, or no groups to divide.
    """
    notes = []
    total = len(parts["train"].labels)
    for part in divided(parts, arguments, wanted):
        size = getattr(arguments, f"{part}_size")
        fraction, most = _DEFAULT_VALIDATION
        rows = min(max(1, round(fraction * total)), most) if size is None else _rows(size, total)
        places = _draw(parts["train"], rows, arguments, task=task, part=part)
        parts[part], parts["train"] = parts["train"].take(places), parts["train"].without(places)
        whole = f", whole groups of {arguments.group_column}" if arguments.group_column else ""
        notes.append(
            f"{part}: {len(places)} of {total} rows taken from the training rows{whole} "
            f"(split_seed {arguments.split_seed})"
        )
    return notes


def divided(
    parts: Mapping[str, Part], arguments: DataArguments, wanted: Sequence[str] = SPLITS
) -> list[str]:
    """Returns which of the wanted splits are to be taken from the training rows."""
    return [
        part
        for part in wanted
        if part not in parts and (part != "test" or arguments.test_size is not None)
    ]


def made_of_others(frame: pd.DataFrame, *, grouped: bool) -> list[str]:
    """Says, for each kind, how many rows were made of others, so that neither can judge the other.

    Args:
        frame: Rows from which those that judge are drawn.
        grouped: Whether rows of one group stay together, as changed copies do with their source.

    Example:
        >>> rows = pd.DataFrame({"augmented_by": [None, "delete"], "synthetic": [False, False]})
        >>> [said[:52] for said in made_of_others(rows, grouped=False)]
        ['1 of 2 training rows are changed copies of others (c']
    """
    found = []
    for column, (what, remedy) in _MADE.items():
        if column not in frame.columns or (grouped and column == "augmented_by"):
            continue
        count = sum(
            not pd.isna(cell) and str(cell) not in ("", "False", "0") for cell in frame[column]
        )
        if count:
            found.append(
                f"{count} of {len(frame)} training rows {what} (column {column!r}), and those that "
                "judge are drawn from them all, so that scores may be too good; leave them out, "
                f'with filter: "{remedy}", or name a file of rows that judge'
            )
    return found


def _rows(size: float, total: int) -> int:
    return max(1, round(size * total)) if size < 1 else int(size)


def _draw(pool: Part, rows: int, arguments: DataArguments, *, task: str, part: str) -> list[int]:
    strata = strata_of(pool.labels, task=task)
    seed = [arguments.split_seed, _SPLIT_STREAMS[part]]
    if rows > len(strata) - len(set(strata)):
        raise DataError(
            f"{rows} {part} rows cannot be taken from {len(strata)} training rows with a row per "
            f"label left to learn from; set a smaller {part}_size, or give a {part}_file"
        )
    if arguments.group_column is None:
        return stratified_sample(strata, rows, seed=seed, leave_one=True)
    return grouped_sample(_groups(pool.frame, arguments.group_column), strata, rows, seed=seed)


def _groups(frame: pd.DataFrame, column: str) -> list[str]:
    require_columns(frame, [column], key="group_column", origin="the training file")
    nameless = int(frame[column].isna().sum())
    if nameless:
        raise DataError(
            f"{nameless} of {len(frame)} training rows have no group in column {column!r}; remove "
            f'them, for instance with filter: "{quoted(column)}.notna()"'
        )
    groups = frame[column].astype(str).tolist()
    if len(set(groups)) < 2:
        raise DataError(
            f"group_column {column!r} holds one group only, which cannot be divided; leave it out, "
            "or give a validation_file"
        )
    return groups


def take_subsets(parts: dict[str, Part], arguments: DataArguments, *, task: str) -> None:
    """Leaves as many rows of each split as are wanted at most, in place."""
    for part, rows in parts.items():
        most = getattr(arguments, f"max_{part}_rows")
        if most is not None and most < len(rows.labels):
            seed = [arguments.split_seed, _SUBSET_STREAMS[part]]
            parts[part] = rows.take(
                stratified_sample(strata_of(rows.labels, task=task), most, seed=seed)
            )
