"""What does a model write for each row? Texts, generated as its run's evaluations generate them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from hf_stabilizer.data.columns import Columns
from hf_stabilizer.member import Member
from hf_stabilizer.prediction.batches import asking, batches
from hf_stabilizer.prediction.tokenising import tokenised

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def texts_of(
    model: PreTrainedModel,
    member: Member,
    frame: pd.DataFrame,
    columns: Columns,
    *,
    batch_size: int,
) -> npt.NDArray[np.str_]:
    """Returns the text that a model writes for each row, in the order of the rows.

    With the batch size of the run's evaluations they are the texts that these scored. What is
    drawn, where the generation samples, is drawn from the run's seed, and other draws are left as
    they were.

    Args:
        model: An encoder-decoder, in evaluation mode.
        member: What it is; says how long texts may get and with how many beams.
        frame: The rows.
        columns: Which of them are read.
        batch_size: Rows that are written at a time, the longest rows first.

    Returns:
        Texts, without special tokens, and without white space around them. Shape [rows].
    """
    from hf_stabilizer.random_state import seeded

    prepared = tokenised(member, frame, columns, labels=[" "] * len(frame))
    texts = [""] * len(frame)
    with seeded(member.seed), asking(model, member):
        for batch in batches(model, prepared, batch_size=batch_size):
            ids = model.generate(**batch.inputs, **member.generation)  # type: ignore[operator]
            written = prepared.tokenizer.batch_decode(ids.cpu().tolist(), skip_special_tokens=True)
            for place, text in zip(batch.places, written, strict=True):
                texts[place] = text.strip()
    return np.asarray(texts, dtype=np.str_)
