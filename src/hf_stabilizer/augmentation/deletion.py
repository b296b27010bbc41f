"""What if words are left out? Random deletion, each word with the same chance."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hf_stabilizer.augmentation.technique import check_rate, words_of


@dataclass(frozen=True)
class DeleteWords:
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
    is_slow = False

    def __post_init__(self) -> None:
        check_rate(self.rate)

    @property
    def settings(self) -> dict[str, Any]:  # Any: plain values
        """All that decides what it does."""
        return {"method": self.name, **asdict(self)}

    def __call__(
        self, texts: Sequence[str], partners: Sequence[str], draws: Sequence[random.Random]
    ) -> list[str]:
        """Returns the shorter texts."""
        return [self._shorter(text, draw) for text, draw in zip(texts, draws, strict=True)]

    def _shorter(self, text: str, draw: random.Random) -> str:
        words = words_of(text)
        if not text.strip():
            return text
        kept = [word for word in words if draw.random() >= self.rate]
        if len(kept) == len(words):
            return text
        return ("".join(kept) or draw.choice(words)).strip()
