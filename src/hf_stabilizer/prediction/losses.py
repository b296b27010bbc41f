"""How surprised is a causal model by each row? The mean loss of its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from hf_stabilizer.data.columns import Columns
from hf_stabilizer.member import Member
from hf_stabilizer.prediction.batches import asking, batches
from hf_stabilizer.prediction.tokenising import tokenised
from hf_stabilizer.scores import token_losses
from hf_stabilizer.tasks.encoders import NO_LABEL

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def losses_of(
    model: PreTrainedModel,
    member: Member,
    frame: pd.DataFrame,
    columns: Columns,
    *,
    batch_size: int,
) -> npt.NDArray[np.float64]:
    """Returns the mean loss of each row's tokens in nats, and how many they are.

    The first token of a row is not foretold, so it has no loss; tokens beyond those that a row may
    have are not read. Weighted with the number of tokens the rows' mean is that whose exponential
    evaluations call perplexity.

    Args:
        model: A causal language model, in evaluation mode.
        member: What it is.
        frame: The rows.
        columns: Which of them holds the text.
        batch_size: Rows per forward pass, the longest rows first.

    Returns:
        Shape [rows, 2]: mean loss, number of tokens; NaN and 0 for a row of a single token.
    """
    prepared = tokenised(member, frame, columns, labels=None)
    outputs = np.full((len(frame), 2), (np.nan, 0.0))
    with asking(model, member):
        for batch in batches(model, prepared, batch_size=batch_size):
            assert batch.labels is not None  # what prepares this task makes them
            found = token_losses(model(**batch.inputs).logits, batch.labels, shift=True)
            for place, row in zip(batch.places, found.cpu().numpy(), strict=True):
                losses = row[row != NO_LABEL].astype(np.float64)
                if len(losses):
                    outputs[place] = losses.mean(), len(losses)
    return outputs
