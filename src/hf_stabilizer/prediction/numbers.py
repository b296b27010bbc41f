"""Which numbers does a model put out for each row? Raw outputs, in the order of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from hf_stabilizer.errors import check_whole
from hf_stabilizer.member import Member, read_member
from hf_stabilizer.prediction.batches import asking, batches
from hf_stabilizer.prediction.loading import loaded
from hf_stabilizer.prediction.tokenising import tokenise

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel

    from hf_stabilizer.tasks import PreparedTask


def predict_rows(
    member: str | Path | Member,
    rows: Dataset | pd.DataFrame,
    *,
    batch_size: int = 32,
    text_columns: Sequence[str] | None = None,
    choice_columns: Sequence[str] | None = None,
) -> npt.NDArray[np.float32]:
    """Returns what a trained model puts out for rows, in evaluation mode, on the GPU if there is.

    With the batch size of the run's evaluations these are the numbers that the Trainer predicts
    for the same rows, to the last bit; with another one they differ by rounding. Rows need no
    label. No random number is drawn.

    Args:
        member: A run's folder, a checkpoint inside it, a model's folder; or what `read_member`
            returned.
        rows: The rows; columns that are not read are let be.
        batch_size: Rows per forward pass.
        text_columns: The column of the text, or two; None: as the run read them, else guessed
            from the usual names.
        choice_columns: The same for the choices of multiple-choice.

    Returns:
        Logits of shape [rows, classes] or [rows, choices]; for regression numbers [rows, 1].

    Raises:
        ConfigurationError: The folder holds no model, or one whose task has no such outputs.
        DataError: A column is missing, or a row has no text.
    """
    check_whole(batch_size, "of rows from 1 up", name="batch_size", least=1)
    member = member if isinstance(member, Member) else read_member(member)
    with loaded(member) as model:
        prepared = tokenise(member, rows, text_columns=text_columns, choice_columns=choice_columns)
        return outputs_of(model, prepared, member, batch_size=batch_size)


def outputs_of(
    model: PreTrainedModel, prepared: PreparedTask, member: Member, *, batch_size: int
) -> npt.NDArray[np.float32]:
    """Returns the outputs of a model for the `validation` rows of a task, in their first order.

    Args:
        model: In evaluation mode.
        prepared: What `tokenise` returned.
        member: Whose precision is used.
        batch_size: Rows per forward pass, the longest rows first.
    """
    places: list[int] = []
    parts: list[npt.NDArray[np.float32]] = []
    with asking(model, member):
        for batch in batches(model, prepared, batch_size=batch_size):
            places += batch.places
            parts.append(model(**batch.inputs).logits.float().cpu().numpy())
    found = np.concatenate(parts)
    outputs = np.empty_like(found)
    outputs[places] = found
    return outputs
