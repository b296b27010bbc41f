"""Which sentence comes next? Pairs of sentences, half of them true, half of them drawn.

    label 0    (a sentence, the one that follows it in its document)
    label 1    (a sentence, any sentence of another document)

The labels are BERT's own. Source: Devlin, Chang, Lee, Toutanova 2019 (arXiv:1810.04805), section
3.1; their segments hold several sentences, here each is one. Imports neither torch nor
transformers.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from hf_stabilizer.errors import DataError

_END = re.compile(
    r"""(?<=[.!?])\s+|(?<=[.!?]["')\]”’])\s+|(?<=[。！？])\s*(?=\S)|\s*\n\s*\n\s*"""  # noqa: RUF001
)
_TRIES = 20  # draws of another sentence, should it be equal to the true one


@dataclass(frozen=True)
class SentencePair:
    """Two sentences, and whether the second was drawn from another document."""

    first: str
    """The sentence that is followed."""
    second: str
    """What follows it, or not."""
    is_drawn: int
    """1 for a drawn sentence, 0 for the true next one."""


def split_sentences(text: str) -> list[str]:
    r"""Splits at white space behind `.`, `!` or `?`, closing quotes included, and at blank lines.

    No list of abbreviations: "Dr. No" becomes two.

    Example:
        >>> split_sentences('It rained. "Stop!" he cried.\n\nNo one did')
        ['It rained.', '"Stop!"', 'he cried.', 'No one did']
    """
    return [part.strip() for part in _END.split(text) if part and part.strip()]


def sentence_pairs(documents: Sequence[Sequence[str]], *, seed: int) -> list[SentencePair]:
    """Returns every pair of neighbouring sentences, the second one of exactly half replaced.

    Of an odd number of pairs one is left out.

    Args:
        documents: Texts of each document; sentences of one text are followed by those of the next.
        seed: Decides which pairs are replaced, and by what.

    Raises:
        DataError: There are fewer than two documents, or fewer than two neighbouring pairs.

    Example:
        >>> pairs = sentence_pairs([["Hi. Yo. Hey."], ["One. Two. Three."]], seed=0)
        >>> len(pairs), sum(pair.is_drawn for pair in pairs)
        (4, 2)
    """
    split = [[part for text in texts for part in split_sentences(text)] for texts in documents]
    split = [sentences for sentences in split if sentences]
    places = [(d, s) for d, sentences in enumerate(split) for s in range(len(sentences) - 1)]
    if len(split) < 2 or len(places) < 2:
        raise DataError(
            f"next-sentence prediction needs two documents and two pairs of sentences, and the "
            f"text holds {len(split)} and {len(places)}; give rows of several sentences, or set "
            "objective: mlm"
        )
    draw = random.Random(seed)
    if len(places) % 2:
        places.pop(draw.randrange(len(places)))
    replaced = set(draw.sample(range(len(places)), len(places) // 2))
    pairs = []
    for place, (document, sentence) in enumerate(places):
        first, second = split[document][sentence : sentence + 2]
        is_drawn = place in replaced
        if is_drawn:
            second = _other(split, document, second, draw)
        pairs.append(SentencePair(first, second, int(is_drawn)))
    return pairs


def _other(split: Sequence[Sequence[str]], document: int, true: str, draw: random.Random) -> str:
    """A sentence of another document, and not the true one once more, as far as there is one."""
    found = true
    for _ in range(_TRIES):
        other = draw.randrange(len(split) - 1)
        found = draw.choice(split[other + (other >= document)])
        if found != true:
            break
    return found
