"""What if words are left out? Random deletion, each word with the same chance."""

from __future__ import annotations

import random
from dataclasses import dataclass

from hf_stabilizer.augmentation.technique import Rated, words_of


@dataclass(frozen=True)
class DeleteWords(Rated):
    """Deletes each word of a text with the probability `rate`; one at least is left.

    Source: Wei and Zou, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text
    Classification Tasks", 2019 (arXiv:1901.11196), random deletion.

    Example:
        >>> DeleteWords(rate=0.5)(["a good film it is"], [""], [random.Random(1)])
        ['good film']
    """

    rate: float = 0.1
    """Chance of each word, in [0, 1]; 0 leaves texts as they are."""

    name = "delete"

    def changed(self, text: str, partner: str, draw: random.Random) -> str:
        """Returns the shorter text."""
        words = words_of(text)
        if not text.strip():
            return text
        kept = [word for word in words if draw.random() >= self.rate]
        if len(kept) == len(words):
            return text
        return ("".join(kept) or draw.choice(words)).strip()
