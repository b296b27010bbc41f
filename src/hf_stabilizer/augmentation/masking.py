"""What if tokens are hidden? The mask of the model in their place, as in its pre-training."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from hf_stabilizer.augmentation.technique import Rated
from hf_stabilizer.augmentation.tokens import masking_tokenizer, windows_of, with_spans_replaced


@dataclass(frozen=True)
class MaskTokens(Rated):
    """Writes the tokenizer's mask in place of each token with the probability `rate`.

    The text holds the mask as a word, e.g. "[MASK]", which the same tokenizer reads as its mask
    token. Only of use to models that were trained with a mask, and with their own tokenizer.

    Raises:
        ConfigurationError: The rate is out of range, or the tokenizer has no mask.
    """

    model: str
    """A Hub id, a folder or `pkg://package/path`: whose tokenizer cuts the texts."""
    rate: float = 0.1
    """Chance of each token, in [0, 1]; 0 leaves texts as they are."""

    name = "mask"

    def __post_init__(self) -> None:
        super().__post_init__()
        masking_tokenizer(self.model)

    def __call__(
        self, texts: Sequence[str], partners: Sequence[str], draws: Sequence[random.Random]
    ) -> list[str]:
        """Returns the texts with masks."""
        tokenizer = masking_tokenizer(self.model)
        changes: list[list[tuple[int, int, str]]] = [[] for _ in texts]
        for window in windows_of(texts, tokenizer):
            for start, end in window.spans:
                if end > start and draws[window.text].random() < self.rate:
                    changes[window.text].append((start, end, str(tokenizer.mask_token)))
        return [with_spans_replaced(text, mine) for text, mine in zip(texts, changes, strict=True)]
