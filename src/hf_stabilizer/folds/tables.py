"""How are rows with their folds and predictions written down? One line for each row of the pool."""

from __future__ import annotations

from typing import Any

import pandas as pd

from hf_stabilizer.data.columns import SOURCE, SOURCE_ROW
from hf_stabilizer.folds.outputs import Array, Kind
from hf_stabilizer.folds.planning import FoldPlan

# Any in this module: labels of whatever kind the task has.


def folds_table(plan: FoldPlan) -> pd.DataFrame:
    """Returns which row of the pool lies in which fold: where it was read, label and texts.

    A text column that is called as one of the others, "source" for instance, is "text_source".
    """
    pool = plan.pool
    texts = [*pool.splits.text_columns, *pool.splits.choice_columns]
    columns = {
        **_places(plan),
        "label": [_word(plan, row) for row in range(len(plan.places))],
    }
    # A text column may be called as one of these; under that name each table has the same.
    own = {name: f"text_{name}" if name in columns else name for name in texts}
    return pd.DataFrame({**columns, **{own[name]: pool.rows[name] for name in texts}})


def out_of_fold_table(plan: FoldPlan, kind: Kind, probabilities: Array) -> pd.DataFrame:
    """Returns what was said about each row of the pool. Probabilities of shape (rows, classes)."""
    return pd.DataFrame({**_places(plan), **answer_columns(kind, probabilities, plan.pool.labels)})


def _places(plan: FoldPlan) -> dict[str, Any]:
    """The columns that tell which row it is."""
    return {
        "row": range(len(plan.places)),
        "source": list(plan.pool.rows[SOURCE]),
        "source_row": list(plan.pool.rows[SOURCE_ROW]),
        "fold": [plan.names[place] for place in plan.places],
    }


def _word(plan: FoldPlan, row: int) -> Any:
    label = plan.pool.labels[row]
    return label if isinstance(label, list | float) else plan.label_words(row)[0]


def answer_columns(kind: Kind, probabilities: Array, labels: list[Any]) -> dict[str, Any]:
    """Returns the columns of label, prediction, and a probability per class or choice."""
    is_choice = kind.problem_type is None
    columns: dict[str, Any] = {
        "label": [kind.names[label] for label in labels] if is_choice else labels,
        "prediction": kind.answers(probabilities),
    }
    if kind.names:
        columns |= {
            f"probability_{name}": probabilities[:, place] for place, name in enumerate(kind.names)
        }
    return columns
