"""What is a technique of augmentation? A function from texts to texts, with its own random draws.

    class DeleteWords(Rated):     its settings are its fields, `rate` among them
        def changed(...)          one text, its partner and its draws -> the changed text
        def __call__(...)         in its place, where a model works on many texts at once

Each text gets a generator that is seeded by (seed, technique, copy, row, column) alone, so what
becomes of it depends neither on its neighbours, nor on batches, nor on processes.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from hf_stabilizer.errors import ConfigurationError

# Any in this module: settings in plain values.
_PIECES = re.compile(r"\s*\S+\s*|\s+")


@runtime_checkable
class Technique(Protocol):
    """Changes texts of training rows."""

    @property
    def name(self) -> str:
        """What `augmented_by` says, e.g. "delete"."""

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what it does, in plain values."""

    @property
    def is_slow(self) -> bool:
        """Whether a model works, so that what is done is worth keeping on disk."""

    def __call__(
        self, texts: Sequence[str], partners: Sequence[str], draws: Sequence[random.Random]
    ) -> list[str]:
        """Returns the changed texts.

        Args:
            texts: Texts of one column.
            partners: For each text that of another row with the same label, or the same text
                where there is none.
            draws: For each text its random numbers.
        """


@dataclass(frozen=True)
class Rated:
    """What the techniques here share: a rate that is checked, settings, and texts one by one.

    A subclass is a frozen dataclass that names itself and has a field `rate`, in [0, 1]; 0 leaves
    texts as they are.

    Raises:
        ConfigurationError: The rate is no probability.

    Example:
        >>> @dataclass(frozen=True)
        ... class Shout(Rated):
        ...     rate: float = 1.0
        ...     name = "shout"
        ...     def changed(self, text, partner, draw):
        ...         return text.upper() if draw.random() < self.rate else text
        >>> Shout()(["good"], [""], [random.Random(0)]), Shout().settings
        (['GOOD'], {'method': 'shout', 'rate': 1.0})
    """

    name: ClassVar[str]
    is_slow: ClassVar[bool] = False
    rewrites: ClassVar[bool] = False
    """Whether a model writes whole texts anew: rows that come back as they were are not added."""

    def __post_init__(self) -> None:
        check_rate(self.settings["rate"])

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what it does."""
        return {"method": self.name, **asdict(self)}

    def __call__(
        self, texts: Sequence[str], partners: Sequence[str], draws: Sequence[random.Random]
    ) -> list[str]:
        """Returns the changed texts."""
        return [
            self.changed(text, partner, draw)
            for text, partner, draw in zip(texts, partners, draws, strict=True)
        ]

    def changed(self, text: str, partner: str, draw: random.Random) -> str:
        """Returns one text changed; not called where `__call__` works on many texts at once."""
        raise NotImplementedError(f"{type(self).__name__} must define changed or __call__")


def change_chosen(
    texts: Sequence[str],
    draws: Sequence[random.Random],
    rate: float,
    write: Callable[[list[str], Sequence[random.Random]], list[str]],
) -> list[str]:
    """Has each text written anew with the probability `rate`; where nothing is written it stays.

    Example:
        >>> draws = [random.Random(0), random.Random(1)]
        >>> change_chosen(["a", "b"], draws, 0.5, lambda some, _: [one * 2 for one in some])
        ['a', 'bb']
    """
    chosen = [at for at, draw in enumerate(draws) if draw.random() < rate]
    written = write([texts[at] for at in chosen], [draws[at] for at in chosen])
    new = {at: text for at, text in zip(chosen, written, strict=True) if text}
    return [new.get(at, text) for at, text in enumerate(texts)]


def draw_of(*parts: object) -> random.Random:
    """Returns random numbers that depend on these parts alone.

    Example:
        >>> draw_of(0, "delete", 1).random() == draw_of(0, "delete", 1).random()
        True
    """
    return random.Random("/".join(map(str, parts)))


def check_rate(rate: float) -> None:
    """Raises ConfigurationError unless the rate is a probability."""
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
        raise ConfigurationError(f"rate must be in [0, 1], got {rate!r}")


def words_of(text: str) -> list[str]:
    """Returns the words, each with the white space behind it, and the first with that before it.

    Joined they are the text.

    Example:
        >>> words_of("a good  film")
        ['a ', 'good  ', 'film']
    """
    return _PIECES.findall(text)
