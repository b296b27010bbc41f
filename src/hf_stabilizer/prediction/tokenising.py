"""What does a trained model take for these rows? The tokens that its training would have made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from hf_stabilizer.data import Splits
from hf_stabilizer.data.columns import Columns
from hf_stabilizer.data.frames import frame_of
from hf_stabilizer.errors import ConfigurationError, DataError
from hf_stabilizer.member import Member
from hf_stabilizer.models import load_tokenizer
from hf_stabilizer.prediction.bars import without_bars
from hf_stabilizer.prediction.columns import NO_LABEL, checked_cells, columns_of
from hf_stabilizer.prediction.loading import tokenizer_folder
from hf_stabilizer.tasks import PreparedTask, prepare_task

if TYPE_CHECKING:
    from datasets import Dataset

# Any in this module: labels of whatever kind the task has.
TASKS: tuple[str, ...] = ("text-classification", "text-regression", "multiple-choice")
"""Tasks whose models put out one row of numbers for each row."""


def tokenise(
    member: Member,
    rows: Dataset | pd.DataFrame,
    *,
    text_columns: Sequence[str] | None = None,
    choice_columns: Sequence[str] | None = None,
) -> PreparedTask:
    """Turns rows into what the model takes, as training did; they are the `validation` rows.

    Raises:
        ConfigurationError: The task has no outputs by row.
        DataError: There are no rows, a column is missing, or a row has no text.
    """
    if member.task not in TASKS:
        raise ConfigurationError(
            f"{member.name!r} was trained for {member.task}, whose outputs are no row of numbers "
            f"for each row, as those of {', '.join(TASKS)} are; `predict` writes down what it says"
        )
    frame = frame_of(rows, or_file=False)
    if not len(frame):
        raise DataError("there are no rows to predict; hand in one or more")
    columns = columns_of(member, frame, text_columns, choice_columns)
    return tokenised(member, frame, columns, labels=[_any_label(member)] * len(frame))


def tokenised(
    member: Member,
    frame: pd.DataFrame,
    columns: Columns,
    *,
    labels: Sequence[Any] | None,
    label_names: Sequence[str] | None = None,
) -> PreparedTask:
    """Does what `tokenise` says, for any task.

    Args:
        member: Whose tokenizer and length.
        frame: The rows.
        columns: Which of them are read.
        labels: One per row, of the right kind; None: the task takes none.
        label_names: Names of the classes in `labels`; None: those of the model.
    """
    from datasets import Dataset
    from datasets.utils import logging

    cells = {
        name: checked_cells(member, frame, name) for name in (*columns.texts, *columns.choices)
    }
    dataset = Dataset.from_dict(cells if labels is None else {**cells, NO_LABEL: list(labels)})
    splits = Splits(
        train=dataset.select([0]),
        validation=dataset,
        test=None,
        unlabelled=None,
        text_columns=columns.texts,
        choice_columns=columns.choices,
        label_column=None if labels is None else NO_LABEL,
        label_names=member.label_names if label_names is None else tuple(label_names),
        multi_label=member.problem_type == "multi_label_classification",
        groups=None,
        notes=(),
    )
    length = None if member.configuration is None else member.configuration.model.max_length
    with without_bars(logging):  # one for each chunk of rows
        tokenizer = load_tokenizer(str(tokenizer_folder(member)), task=member.task)
        return prepare_task(member.task, splits, tokenizer, max_length=length)


def _any_label(member: Member) -> Any:
    """A label of the right kind; nothing reads it."""
    if member.problem_type == "multi_label_classification":
        return []
    if member.label_names is not None:
        return member.label_names[0]
    return 0.0 if member.problem_type == "regression" else 0
