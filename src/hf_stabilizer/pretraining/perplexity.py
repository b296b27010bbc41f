"""How surprised is the model by a text? The exponential of its mean loss per predicted token.

    perplexity = exp( - 1/n  sum over the n predicted tokens  log p(token) )

A model that takes every token of the vocabulary for equally likely has the perplexity of its size,
one that knows the text has 1. The mean is over tokens; the Trainer's `eval_loss` is one over
batches. Under masked language modelling n counts the chosen tokens alone, so that it compares
models on the same masks, and is no likelihood of the text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction

from hf_stabilizer.pretraining.masking import IGNORED

# Any in this module: one array, or a tuple of several, as the Trainer hands them over.


def reduce_logits(objective: str) -> Callable[[Any, Any], Any]:
    """Returns a function for `preprocess_logits_for_metrics`: the loss per token stands for logits.

    So an evaluation keeps (rows, length) numbers instead of (rows, length, vocabulary).
    """
    is_causal = objective == "clm"

    def reduce(logits: Any, labels: Any) -> Any:
        tokens = labels[0] if isinstance(labels, (tuple, list)) else labels
        scores = logits[0] if isinstance(logits, (tuple, list)) else logits
        losses = token_losses(scores, tokens, is_causal=is_causal)
        return (losses, logits[1]) if objective == "mlm+nsp" else losses

    return reduce


def token_losses(logits: torch.Tensor, labels: torch.Tensor, *, is_causal: bool) -> torch.Tensor:
    """Returns the loss of each token in nats, 0 where nothing is predicted.

    Args:
        logits: (rows, length, vocabulary).
        labels: (rows, length); -100 where nothing is predicted.
        is_causal: Whether the logits at a place predict the token behind it.

    Example:
        >>> losses = token_losses(torch.zeros(1, 2, 8), torch.tensor([[3, -100]]), is_causal=False)
        >>> [round(value, 4) for value in losses[0].tolist()]  # ln 8
        [2.0794, 0.0]
    """
    if is_causal:
        rest = token_losses(logits[:, :-1], labels[:, 1:], is_causal=False)
        return torch.cat([rest.new_zeros(len(rest), 1), rest], dim=1)
    scores = logits.float().flatten(0, 1)  # (rows * length, vocabulary)
    losses = torch.nn.functional.cross_entropy(
        scores, labels.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return losses.view(labels.shape)


def perplexity_metrics(objective: str) -> Callable[[EvalPrediction], dict[str, float]]:
    """Returns a function for `compute_metrics`, over what `reduce_logits` left.

    Its metrics are `perplexity`, `cross_entropy` (nats per predicted token) and, for sentence
    pairs, `next_sentence_accuracy`.
    """

    def compute(output: EvalPrediction) -> dict[str, float]:
        is_pair = objective == "mlm+nsp"
        predictions: Any = output.predictions
        label_ids: Any = output.label_ids
        losses = predictions[0] if is_pair else predictions
        labels = label_ids[0] if is_pair else label_ids
        told = labels != IGNORED
        if objective == "clm":
            told[:, 0] = False  # no token stands before the first
        mean = float(losses[told].astype(np.float64).mean())
        metrics = {"perplexity": float(np.exp(mean)), "cross_entropy": mean}
        if is_pair:
            right = predictions[1].argmax(-1) == label_ids[1]
            metrics["next_sentence_accuracy"] = float(right.mean())
        return metrics

    return compute
