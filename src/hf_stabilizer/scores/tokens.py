"""How surprised is a language model by each token, and how sure when it writes?

    logits (rows, tokens, vocabulary) --token_losses--> (rows, tokens) --perplexity--> one number

perplexity = exp of the mean loss over all tokens with a label. It is the mean over tokens, not over
batches or rows, so it depends neither on the batch size nor on how long the rows are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hf_stabilizer.errors import DataError
from hf_stabilizer.scores.score import Array

if TYPE_CHECKING:
    import torch

IGNORED = -100
"""What stands in the place of a token without a label, and of padding; no loss is below 0."""


def token_losses(
    logits: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor, *, shift: bool
) -> torch.Tensor:
    """Returns the cross-entropy of every token, for `preprocess_logits_for_metrics`.

    So evaluation keeps one number per token instead of one per word of the vocabulary.

    Args:
        logits: Shape (rows, tokens, vocabulary); of a tuple the first, as models return more.
        labels: Ids of tokens, -100 where there is none. Shape (rows, tokens).
        shift: True for a causal model, whose outputs at a token foretell the next one.

    Returns:
        Losses in nats, float32, -100 where there is no label. Shape (rows, tokens), or with
        `shift` (rows, tokens - 1).

    Example:
        >>> import torch
        >>> token_losses(torch.zeros(1, 3, 4), torch.tensor([[0, 1, -100]]), shift=True)
        tensor([[   1.3863, -100.0000]])
    """
    import torch
    from torch.nn.functional import cross_entropy

    whole = logits[0] if isinstance(logits, tuple) else logits
    if shift:
        whole, labels = whole[:, :-1], labels[:, 1:]
    # Row by row: a copy of all logits in float32 is what does not fit.
    rows = [
        cross_entropy(row.float(), row_labels, reduction="none", ignore_index=IGNORED)
        for row, row_labels in zip(whole, labels, strict=True)
    ]
    return torch.stack(rows).masked_fill(labels == IGNORED, IGNORED)


def perplexity(losses: Iterable[Sequence[float] | Array], references: object = None) -> float:
    """Returns exp of the mean loss per token; infinite if a loss is no number.

    Args:
        losses: One loss per token, -100 where there is none. Shape (rows, tokens); rows may differ
            in length.
        references: Not needed.

    Raises:
        DataError: No token has a loss.

    Example:
        >>> perplexity([[np.log(2.0), np.log(8.0)], [-100, np.log(4.0)]])
        4.0
    """
    flat = np.concatenate([np.asarray(row, dtype=np.float64).ravel() for row in losses])
    # Not "from 0 up": a loss that is no number is one of a model that is lost.
    labelled = flat[flat != IGNORED]
    if not len(labelled):
        raise DataError(
            "there is no perplexity: no token of the evaluated rows has a label; give more rows, "
            "or for masked-lm mask more"
        )
    if np.isnan(labelled).any():
        return float("inf")
    with np.errstate(over="ignore"):
        return float(np.exp(labelled.mean()))


def mean_token_entropy(
    scores: torch.Tensor | Sequence[torch.Tensor], mask: torch.Tensor | None = None
) -> float:
    """Returns the mean entropy of the distributions from which tokens were chosen, in nats.

    0: the model was certain of every token; ln of the vocabulary: it guessed.

    Args:
        scores: Logits. Shape (rows, tokens, vocabulary); or what `generate(...,
            return_dict_in_generate=True, output_logits=True).logits` holds, one tensor of shape
            (rows, vocabulary) for each new token. `scores` in the place of `logits` are those
            after top-k and the like.
        mask: 1 or True for each token that counts. Shape (rows, tokens). None: all; the tokens
            that `generate` appends after the end of a text should not.

    Raises:
        DataError: The mask leaves no token.

    Example:
        >>> import torch
        >>> certain, guess = torch.tensor([[0.0, -torch.inf]]), torch.zeros(1, 2)
        >>> round(mean_token_entropy([certain, guess]), 4)  # (0 + ln 2) / 2
        0.3466
    """
    import torch

    steps = scores.unbind(1) if isinstance(scores, torch.Tensor) else scores
    entropies = torch.stack([_entropy(step) for step in steps], dim=1)  # (rows, tokens)
    chosen = entropies if mask is None else entropies[mask.to(torch.bool)]
    if not chosen.numel():
        raise DataError("there is no mean entropy: the mask leaves no token")
    return float(chosen.mean())


def _entropy(logits: torch.Tensor) -> torch.Tensor:
    """Returns -sum p ln p over the last dimension, in float64; words that cannot come add 0."""
    logs = logits.double().log_softmax(-1)
    return -(logs.exp() * logs.masked_fill(logs.isneginf(), 0.0)).sum(-1)


def mean_length(tokens: Sequence[Sequence[int]], references: object = None) -> float:
    """Returns the mean number of tokens per text."""
    return sum(map(len, tokens)) / max(len(tokens), 1)
