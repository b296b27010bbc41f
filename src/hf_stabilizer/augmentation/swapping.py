"""What if words stand elsewhere? Random swap: some words change places among themselves."""

from __future__ import annotations

import random
from dataclasses import dataclass

from hf_stabilizer.augmentation.technique import Rated, words_of


@dataclass(frozen=True)
class SwapWords(Rated):
    """Chooses each word with the probability `rate`, and moves the chosen ones round by one.

    Every chosen word stands in the place of another one afterwards; a single chosen one stays.
    EDA swaps two random words n times, so that a word may come back; here the share of moved words
    is the rate.

    Source: Wei and Zou, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text
    Classification Tasks", 2019 (arXiv:1901.11196), random swap.

    Example:
        >>> SwapWords(rate=0.5)(["a good film it is"], [""], [random.Random(1)])
        ['it good film is a']
    """

    rate: float = 0.1
    """Chance of each word, in [0, 1]; 0 leaves texts as they are."""

    name = "swap"

    def changed(self, text: str, partner: str, draw: random.Random) -> str:
        """Returns the text in another order."""
        begins = len(text) - len(text.lstrip())
        pieces = words_of(text[begins:])
        words = [piece.rstrip() for piece in pieces]
        gaps = [piece[len(word) :] for piece, word in zip(pieces, words, strict=True)]
        chosen = [place for place, word in enumerate(words) if word and draw.random() < self.rate]
        draw.shuffle(chosen)
        moved = [words[place] for place in chosen]
        for place, word in zip(chosen[1:] + chosen[:1], moved, strict=True):
            words[place] = word
        return text[:begins] + "".join(word + gap for word, gap in zip(words, gaps, strict=True))
