"""What is a technique of augmentation? A function from texts to texts, with its own random draws.

Each text gets a generator that is seeded by (seed, technique, copy, row, column) alone, so what
becomes of it depends neither on its neighbours, nor on batches, nor on processes.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Sequence
from typing import Any, Protocol, runtime_checkable

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


def check_whole_model(name: str, missing: Collection[str], purpose: str) -> None:
    """Raises ConfigurationError if weights of a model are not in its checkpoint, but random."""
    if missing:
        raise ConfigurationError(
            f"{name!r} cannot {purpose}: its checkpoint lacks {len(missing)} of the weights, "
            f"{sorted(missing)[0]} for instance; name a model that was trained to {purpose}"
        )


def words_of(text: str) -> list[str]:
    """Returns the words, each with the white space behind it, and the first with that before it.

    Joined they are the text.

    Example:
        >>> words_of("a good  film")
        ['a ', 'good  ', 'film']
    """
    return _PIECES.findall(text)
