"""How are probabilities written down? As the columns that people read.

task                  columns
text-classification   prediction: the class         probability_<class> for each class
several labels      prediction: a list of those with a probability over 1/2; the same
multiple-choice       prediction: the choice        ranking: all, best first, and the same
text-regression       prediction: the number
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from hf_stabilizer.ensembling.combining import Array
from hf_stabilizer.errors import DataError
from hf_stabilizer.scores import CHOICE, MULTI, NUMBER, Kind

# Any in this module: cells of a table.
PREDICTION = "prediction"
RANKING = "ranking"


def prediction_columns(found: Array, kind: Kind, label_names: Sequence[str] | None) -> pd.DataFrame:
    """Returns what is predicted for each row, as columns.

    Args:
        found: Probabilities (or mean ranks) of shape [rows, classes]; numbers for regression.
        kind: Kind of label.
        label_names: Names of the classes or choices; None: their numbers.

    Example:
        >>> found = np.array([[0.25, 0.75], [0.5, 0.5]])
        >>> prediction_columns(found, "multiple-choice", ["A", "B"]).to_dict("list")
        {'prediction': ['B', 'A'], 'ranking': ['B A', 'A B'], 'probability_A': [0.25, 0.5],
        'probability_B': [0.75, 0.5]}
        >>> prediction_columns(np.array([[1.5]]), "regression", None).to_dict("list")
        {'prediction': [1.5]}
    """
    if kind == NUMBER:
        return pd.DataFrame({PREDICTION: found[:, 0]})
    names = [str(name) for name in label_names or range(found.shape[1])]
    columns: dict[str, Any] = {}
    if kind == MULTI:
        columns[PREDICTION] = [[names[c] for c in np.flatnonzero(row > 0.5)] for row in found]
    else:
        columns[PREDICTION] = [names[place] for place in found.argmax(axis=1)]
    if kind == CHOICE:
        orders = np.argsort(-found, axis=1, kind="stable")  # ties: the first choice, as argmax
        columns[RANKING] = [" ".join(names[place] for place in order) for order in orders]
    for place, name in enumerate(names):
        columns[f"probability_{name}"] = found[:, place]
    return pd.DataFrame(columns)


def beside(rows: pd.DataFrame, predicted: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with the predicted columns behind their own.

    Raises:
        DataError: The rows have a column of such a name already.
    """
    if double := [str(name) for name in rows.columns if name in set(predicted.columns)]:
        raise DataError(
            f"the rows have a column {double[0]!r} already, which predictions would be written "
            "into; rename it"
        )
    return pd.concat([rows.reset_index(drop=True), predicted], axis=1)


def with_lists_spelled(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns rows for a CSV file: lists written as JSON, which is how they are read from one.

    Example:
        >>> rows = pd.DataFrame({"tags": [["O", None]], "words": [np.array(["a", "b"])], "id": [1]})
        >>> with_lists_spelled(rows).to_dict("list")
        {'tags': ['["O", null]'], 'words': ['["a", "b"]'], 'id': [1]}
    """
    found = rows.copy(deep=False)
    for name in [name for name in rows.columns if rows[name].dtype.kind == "O"]:
        found[name] = [_spelled(cell) for cell in rows[name]]
    return found


def _spelled(cell: Any) -> Any:
    plain = cell.tolist() if isinstance(cell, np.ndarray) else cell
    return json.dumps(plain, ensure_ascii=False) if isinstance(plain, list | tuple) else plain
