"""What do two rows of one label say together? Their texts one behind the other, or half of each."""

from __future__ import annotations

import random
from dataclasses import dataclass

from hf_stabilizer.augmentation.technique import Rated, words_of
from hf_stabilizer.errors import check_choice

HOW = ("append", "halves")


@dataclass(frozen=True)
class MixRows(Rated):
    """Joins the text of a row with that of another row of the same label.

    Labels stay what they are, as both have one; a text whose label no other row has stays as it is.
    Numbers count as the same label where they are equal. Mixing embeddings (mixup) is not this.

    Example:
        >>> mix = MixRows(rate=1.0, how="halves")
        >>> mix(["a good film it is"], ["one of the best"], [random.Random(1)])
        ['a good the best']
    """

    rate: float = 1.0
    """Chance that a text is mixed, in [0, 1]; 0 leaves texts as they are."""
    how: str = "append"
    """"append": one behind the other. "halves": the first half of the words of one and the second
    half of those of the other, which keeps the length."""

    name = "mix"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.how, HOW, name="how")

    def changed(self, text: str, partner: str, draw: random.Random) -> str:
        """Returns the mixed text."""
        if draw.random() >= self.rate or text == partner:
            return text
        if self.how == "append":
            return f"{text} {partner}"
        mine, its = words_of(text), words_of(partner)
        first = "".join(mine[: len(mine) // 2]).rstrip()
        return f"{first} {''.join(its[len(its) // 2 :]).rstrip()}".strip()
