"""What does a model put out for each word? The outputs at the first sub-token of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from hf_stabilizer.data.columns import Columns
from hf_stabilizer.member import Member
from hf_stabilizer.prediction.batches import asking, batches
from hf_stabilizer.prediction.columns import checked_words
from hf_stabilizer.prediction.tokenising import tokenised
from hf_stabilizer.tasks.encoders import NO_LABEL

if TYPE_CHECKING:
    from transformers import PreTrainedModel

UNREAD = -np.inf
"""The outputs for a word that the model has not read; of one that diverged they are NaN."""


def words_of(
    model: PreTrainedModel,
    member: Member,
    frame: pd.DataFrame,
    columns: Columns,
    *,
    batch_size: int,
) -> npt.NDArray[np.float32]:
    """Returns the outputs for all words of all rows, one row's words after the other's.

    Args:
        model: In evaluation mode.
        member: What it is.
        frame: The rows.
        columns: Which of them holds the words.
        batch_size: Rows per forward pass, the longest rows first.

    Returns:
        Logits of shape [words, tags]; `UNREAD` for a word beyond the tokens that a row may have,
        and for one that the tokenizer makes nothing of.
    """
    (column,) = columns.texts
    lengths = [len(words) for words in checked_words(frame, column)]
    starts = np.cumsum([0, *lengths])
    # Each word is labelled with its own place, so that the labels tell which sub-token begins it.
    names = [str(place) for place in range(max(lengths))]
    labels = [names[:length] for length in lengths]
    prepared = tokenised(member, frame, columns, labels=labels, label_names=names)
    outputs = np.full((starts[-1], len(member.label_names or ())), UNREAD, np.float32)
    with asking(model, member):
        for batch in batches(model, prepared, batch_size=batch_size):
            assert batch.labels is not None  # what prepares this task makes them
            logits = model(**batch.inputs).logits.float().cpu().numpy()  # (rows, tokens, tags)
            marks = batch.labels.cpu().numpy()
            for place, row, words in zip(batch.places, logits, marks, strict=True):
                begins = words != NO_LABEL
                outputs[starts[place] + words[begins]] = row[begins]
    return outputs
