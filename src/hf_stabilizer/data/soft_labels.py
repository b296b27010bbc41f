"""What does a teacher think of this row? Probabilities of the classes in place of one label."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hf_stabilizer.data.columns import require_columns
from hf_stabilizer.data.division import Part
from hf_stabilizer.errors import ConfigurationError, DataError

# Any in this module: cells of the user's table.
TOLERANCE = 1e-3
"""How far from 1 the probabilities of a row may sum up: they come rounded out of files."""


def read_soft_labels(
    part: Part, column: str, label_names: Sequence[str] | None, *, task: str, origin: str
) -> list[list[float]]:
    """Returns the probabilities of every training row; one without any is sure of its own label.

    Args:
        part: The training rows with their labels.
        column: Column of lists of numbers, or of lists written as JSON.
        label_names: Names of the classes in the order of their ids; None: they are no classes.
        task: The task, for the message.
        origin: Where the rows come from, for the message.

    Raises:
        ConfigurationError: The task has no classes.
        DataError: The column is absent, a row has several labels, or a cell is not one
            probability per class.

    Example:
        >>> import pandas as pd
        >>> rows = Part(pd.DataFrame({"p": ["[0.75, 0.25]", None]}), ["neg", "pos"])
        >>> read_soft_labels(
        ...     rows, "p", ("neg", "pos"), task="text-classification", origin="rows.csv")
        [[0.75, 0.25], [0.0, 1.0]]
    """
    if label_names is None:
        raise ConfigurationError(
            f"soft_label_column={column!r} gives probabilities of classes, and task={task!r} has "
            "none; leave it out, or set task: text-classification"
        )
    if isinstance(part.labels[0], list):
        raise DataError(
            f"soft_label_column {column!r} is for rows with one label each, and those of {origin} "
            "have several; leave it out"
        )
    require_columns(part.frame, [column], key="soft_label_column", origin=origin)
    return [
        _probabilities(cell, label_names, f"row {row + 1} of {origin}", column)
        if _is_given(cell)
        else [float(name == part.labels[row]) for name in label_names]
        for row, cell in enumerate(part.frame[column].tolist())
    ]


def _is_given(cell: Any) -> bool:
    """Whether a cell is not empty, as None and NaN are."""
    return cell is not None and not (isinstance(cell, float) and math.isnan(cell))


def _probabilities(cell: Any, names: Sequence[str], row: str, column: str) -> list[float]:
    try:
        found = np.asarray(json.loads(cell) if isinstance(cell, str) else cell, dtype=float)
    except (TypeError, ValueError):
        found = np.zeros(0)
    # Written so that NaN is refused, too.
    if found.shape != (len(names),) or not (found.min() >= 0 and abs(found.sum() - 1) <= TOLERANCE):
        raise DataError(
            f"soft_label_column {column!r} holds {cell!r} in {row}; it must be a list of "
            f"{len(names)} probabilities that sum to 1, one for each of {', '.join(names)}"
        )
    return [float(value) for value in found]
