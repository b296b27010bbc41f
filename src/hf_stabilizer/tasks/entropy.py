"""How sure is a model of the texts that it writes? The mean entropy of its tokens, as a metric.

The Trainer hands over the ids that were generated, not the distributions that they came from. So
the model reads its own text once more: in one pass over it stand the same distributions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hf_stabilizer.scores import mean_token_entropy
from hf_stabilizer.tasks.encoders import NO_LABEL

if TYPE_CHECKING:
    from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase

ComputeMetrics = Callable[["EvalPrediction"], dict[str, float]]
Ids = npt.NDArray[Any]  # Any: integers of whatever width
NAME = "mean_token_entropy"


def with_token_entropy(
    compute_metrics: ComputeMetrics,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int,
    max_length: int | None = None,
) -> ComputeMetrics:
    """Returns the function with one more metric, "mean_token_entropy", in nats.

    The mean is over all tokens of all generated texts, their ends included: 0 for a model that is
    certain, ln of the vocabulary for one that guesses. With beams it is that of the text that won.

    Args:
        compute_metrics: For `Trainer(compute_metrics=...)`.
        model: An encoder-decoder, as it is when metrics are computed.
        tokenizer: Names padding and end.
        batch_size: Rows per forward pass.
        max_length: Tokens of a generated text at most, the one that starts it included, after
            which all is padding; None: there is none behind.
    """

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        inputs = np.asarray(prediction.inputs)
        written = np.asarray(prediction.predictions)[:, :max_length]
        values = compute_metrics(prediction)
        parts = [
            _entropy(model, tokenizer, inputs[start:end], written[start:end])
            for start in range(0, len(inputs), batch_size)
            for end in [start + batch_size]
        ]
        tokens = sum(count for _, count in parts)
        values[NAME] = sum(mean * count for mean, count in parts) / max(tokens, 1)
        return values

    return compute


def _entropy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, inputs: Ids, written: Ids
) -> tuple[float, int]:
    """Returns the mean over the tokens of a batch, and their number."""
    import torch

    pad = tokenizer.pad_token_id
    mask = written_tokens(written[:, 1:], end=tokenizer.eos_token_id)
    if not mask.any():
        return 0.0, 0
    is_text = (inputs != NO_LABEL) & (inputs != pad)
    given = {
        "input_ids": np.where(is_text, inputs, pad),
        "attention_mask": is_text.astype(np.int64),
        # The token that starts a text is given, not chosen.
        "decoder_input_ids": np.where(written == NO_LABEL, pad, written)[:, :-1],
    }
    with torch.no_grad():
        batch = {name: torch.from_numpy(ids).to(model.device) for name, ids in given.items()}
        logits = model(**batch).logits  # (rows, tokens, vocabulary)
    mean = mean_token_entropy(logits, torch.from_numpy(mask).to(logits.device))
    return mean, int(mask.sum())


def written_tokens(ids: Ids, *, end: int | None) -> npt.NDArray[np.bool_]:
    """Tells which tokens a model chose: all up to the end of a text.

    A text without an end goes to the last column: nothing else stops a generation. There a model
    may have chosen even the padding token.

    Args:
        ids: Generated tokens without the one that starts a text, -100 where other batches went
            further. Shape (rows, tokens).
        end: The token that ends a text; None: there is none.

    Example:
        >>> written_tokens(np.array([[7, 3, 0, 0], [7, 0, 9, -100]]), end=3).astype(int)
        array([[1, 1, 0, 0],
               [1, 1, 1, 0]])
    """
    ends = np.zeros_like(ids, dtype=bool) if end is None else ids == end
    written: npt.NDArray[np.bool_] = (np.cumsum(ends, axis=1) - ends == 0) & (ids != NO_LABEL)
    return written
