"""Are the written rows as varied and as balanced as the real ones?

    distinct-2 = different pairs of neighbouring words / all such pairs

over equally many rows of both kinds, as the share falls with the number of rows. Source: Li,
Galley, Brockett, Gao, Dolan, "A Diversity-Promoting Objective Function for Neural Conversation
Models", 2016, arXiv 1510.03055.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hf_stabilizer.data.near_duplicates import normalized


@dataclass(frozen=True)
class Quality:
    """Written rows beside real ones."""

    real_distinct: float
    """Share of different word pairs in as many real rows."""
    written_distinct: float
    """The same in the written rows."""
    real_shares: dict[str, float]
    """Share of each label in the real rows."""
    written_shares: dict[str, float]
    """Share of each label in the written rows."""
    real_words: float
    """Mean number of words in a real row."""
    written_words: float
    """The same in the written rows."""


def measure(
    real: Sequence[str], real_labels: Sequence[str], written: Sequence[str],
    written_labels: Sequence[str], *, seed: int = 0,
) -> Quality:  # fmt: skip
    """Returns the measures; of the larger kind a seeded sample serves for the word pairs."""
    rng, count = np.random.RandomState([seed]), min(len(real), len(written))

    def sample(texts: Sequence[str]) -> list[str]:
        return [texts[place] for place in sorted(rng.permutation(len(texts))[:count])]

    return Quality(
        distinct_pairs(sample(real)),
        distinct_pairs(sample(written)),
        _shares(real_labels, {*real_labels, *written_labels}),
        _shares(written_labels, {*real_labels, *written_labels}),
        _words(real),
        _words(written),
    )


def distinct_pairs(texts: Sequence[str]) -> float:
    """Returns the share of different pairs of neighbouring words; 0 where there are none.

    Example:
        >>> distinct_pairs(["a b a b", "a b"])  # ab, ba, ab; ab: two of four
        0.5
    """
    pairs = [pair for text in texts for pair in pairwise(normalized(text).split())]
    return len(set(pairs)) / len(pairs) if pairs else 0.0


def _shares(labels: Sequence[str], every: set[str]) -> dict[str, float]:
    counts = Counter(labels)
    return {name: counts[name] / max(1, len(labels)) for name in sorted(every)}


def _words(texts: Sequence[str]) -> float:
    return float(np.mean([len(text.split()) for text in texts])) if texts else 0.0
