"""In which fold does each row lie? Parts of about equal size that keep the shares of the labels.

    classes       scikit-learn's StratifiedKFold over the label; of several labels, the rarest
    numbers       the same over ten bins of equally many rows, by the size of the label
    with groups   StratifiedGroupKFold: whole groups, the shares of the labels as near as they allow
    by a column   one fold for each value that stands there

Imports neither torch nor transformers.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from hf_stabilizer.data.labels import strata_of
from hf_stabilizer.errors import LAST_SEED, DataError, check_whole

logger = logging.getLogger(__name__)

# Any in this module: labels of whatever kind the task has, and cells of the user's table.
BINS = 10
"""Strata of labels that are numbers, at most."""


def assign_folds(
    labels: Sequence[Any],
    folds: int,
    *,
    groups: Sequence[Any] | None = None,
    seed: int = 0,
    task: str,
) -> list[int]:
    """Returns the fold of each row, counted from 0; every row lies in exactly one.

    Without groups, of each label (or bin of numbers) two folds hold numbers of rows that differ by
    at most one, and so do the folds as wholes. Of several labels in a row, its rarest counts.
    Labels with fewer rows than folds are absent from some folds, which is logged as a warning.

    Args:
        labels: The label of each row, as `load_splits` gives it: a class, a list of classes, a
            number, the index of a choice.
        folds: Number of folds, from 2 to the number of rows, or of groups.
        groups: The group of each row; rows of one group lie in one fold.
        seed: Seed of the assignment, in [0, 2^32).
        task: "text-regression" makes bins of the labels; any other takes them as classes.

    Raises:
        ConfigurationError: `folds` or `seed` is out of range.
        DataError: There are fewer rows or groups than folds, or no label has a row for each fold.

    Example:
        >>> labels = ["a", "a", "a", "b", "b", "b"]
        >>> folds = assign_folds(labels, 3, task="text-classification")
        >>> sorted(zip(folds, labels))
        [(0, 'a'), (0, 'b'), (1, 'a'), (1, 'b'), (2, 'a'), (2, 'b')]
        >>> films = ["x", "x", "y", "y", "z", "z"]
        >>> folds = assign_folds(labels, 3, groups=films, task="text-classification")
        >>> len(set(zip(folds, films)))
        3
    """
    check_whole(folds, "from 2 up", name="folds", least=2)
    check_whole(seed, "in [0, 2^32)", name="seed", most=LAST_SEED)
    if len(labels) < folds:
        raise DataError(f"{len(labels)} rows cannot be divided into {folds} folds; ask for fewer")
    strata = _strata(labels, folds, task=task)
    if groups is None:
        return _stratified(strata, folds, seed)
    names = [str(group) for group in groups]
    if len(set(names)) < folds:
        raise DataError(
            f"{len(set(names))} groups cannot be divided into {folds} folds, as each lies in one; "
            "ask for fewer folds, or leave out the groups"
        )
    return _grouped(strata, names, folds, seed)


def folds_by_column(values: Sequence[Any], *, column: str) -> tuple[list[int], list[str]]:
    """Returns the fold of each row, one fold per value of a column, and the names of the folds.

    The folds are in the order of the values, whole numbers by size. A value becomes a name in
    which each character that a folder should not have is "_".

    Args:
        values: The cells of the column.
        column: Its name, for messages.

    Raises:
        DataError: A cell is empty, all are the same, or two values would have one name.

    Example:
        >>> folds_by_column([10, 9, 10], column="year")
        ([1, 0, 1], ['9', '10'])
    """
    cells = pd.Series(list(values))
    if cells.isna().any():
        raise DataError(
            f"{int(cells.isna().sum())} of {len(cells)} rows have no fold in column {column!r}; "
            "fill it in, or remove those rows with filter"
        )
    words = [_word(cell) for cell in values]
    distinct = sorted(set(words), key=lambda word: (not _is_whole(word), _size(word), word))
    if len(distinct) < 2:
        raise DataError(
            f"column {column!r} holds {distinct[0]!r} in every row, and one fold is none; name "
            "another fold_column, or leave it out"
        )
    names = [re.sub(r"[^\w+.-]", "_", word).lstrip(".") or "_" for word in distinct]
    if len(set(names)) < len(names):
        twice = next(name for name, times in Counter(names).items() if times > 1)
        raise DataError(
            f"two values of column {column!r} would both name the fold {twice!r}; let them differ "
            "in letters or digits"
        )
    places = {word: place for place, word in enumerate(distinct)}
    return [places[word] for word in words], names


def _word(cell: Any) -> str:
    # An empty cell elsewhere in a column of whole numbers makes pandas read 1 as 1.0.
    is_whole = isinstance(cell, float) and cell.is_integer()
    return str(int(cell)) if is_whole else str(cell).strip()


def _is_whole(word: str) -> bool:
    return re.fullmatch(r"-?\d+", word) is not None


def _size(word: str) -> int:
    return int(word) if _is_whole(word) else 0


def _strata(labels: Sequence[Any], folds: int, *, task: str) -> list[str]:
    """Returns what the folds are balanced over.

    Raises:
        DataError: There is no stratum with a row for each fold.
    """
    if task == "text-regression":
        # Each bin has a row for each fold, but for labels that are often the same.
        bins = max(1, min(BINS, len(labels) // folds))
        ranks = pd.Series(np.asarray(labels, dtype=float)).rank(method="min")
        return [str(b) for b in pd.qcut(ranks, bins, labels=False, duplicates="drop")]
    strata = strata_of(labels, task=task)
    counts = Counter(strata)
    if max(counts.values()) < folds:
        raise DataError(
            f"no label has {folds} rows or more, so {folds} folds cannot keep the shares of the "
            f"labels; ask for {max(2, max(counts.values()))} folds or fewer"
        )
    rare = sorted(name for name, count in counts.items() if count < folds)
    if rare:
        shown = ", ".join(f"{name or 'none'!r} ({counts[name]} rows)" for name in rare[:5])
        logger.warning(
            f"labels with fewer rows than the {folds} folds are absent from some of them: {shown}"
            f"{' and others' if rare[5:] else ''}"
        )
    return strata


def _stratified(strata: Sequence[str], folds: int, seed: int) -> list[int]:
    from sklearn.model_selection import StratifiedKFold

    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return _places(splitter, np.asarray(strata), None)


def _grouped(strata: Sequence[str], groups: Sequence[str], folds: int, seed: int) -> list[int]:
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    found = _places(splitter, np.asarray(strata), np.asarray(groups))
    if len(set(found)) == folds:
        return found
    # Labels before rows: a fold may be left empty where groups are few. By size alone none is.
    return _places(GroupKFold(folds), np.asarray(strata), np.asarray(groups))


def _places(splitter: Any, strata: Any, groups: Any) -> list[int]:
    """Returns the fold of each row; Any: scikit-learn has no types."""
    found = np.full(len(strata), -1)
    with warnings.catch_warnings():  # of rare labels: said before
        warnings.filterwarnings("ignore", "The least populated class")
        for fold, (_, held_out) in enumerate(splitter.split(strata, strata, groups)):
            found[held_out] = fold
    return [int(fold) for fold in found]
