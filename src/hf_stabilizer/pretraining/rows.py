"""What does the model read? Rows of tokens, packed or one text each; nothing is cut off.

    packed    text SEP text SEP text ...   cut every n tokens     CLS [ n tokens ] SEP
    padded    each text                    cut every n tokens     CLS [ n or fewer ] SEP

n is `max_length` less the special tokens that the tokenizer puts around a text. A decoder, whose
tokenizer puts none behind it, learns the end of each text: its end-of-text token is SEP, also
behind the last one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_stabilizer.errors import DataError
from hf_stabilizer.pretraining.sentences import SentencePair

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

# Any in this module: cells of a row of tokens.
_BATCH = 1000  # texts that are tokenised at once
NO_WORD = -1
"""The word of a token that is none: it is never masked."""


@dataclass(frozen=True)
class Frame:
    """The special tokens around and between texts, by their ids."""

    before: tuple[int, ...]
    """Before a row, e.g. [CLS]."""
    after: tuple[int, ...]
    """Behind a row, e.g. [SEP]."""
    between: tuple[int, ...]
    """Behind each text of a stream but the last, and the last too if `after` is empty."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Frame:
        """Asks the tokenizer what it puts around a text."""
        bare = list(tokenizer("a", add_special_tokens=False)["input_ids"])
        whole = list(tokenizer("a")["input_ids"])
        start = next(
            place
            for place in range(len(whole) - len(bare) + 1)
            if whole[place : place + len(bare)] == bare
        )
        mark = tokenizer.sep_token_id
        mark = tokenizer.eos_token_id if mark is None else mark
        between = () if mark is None else (int(mark),)
        return cls(tuple(whole[:start]), tuple(whole[start + len(bare) :]), between)

    @property
    def size(self) -> int:
        """Tokens of a row that are no text."""
        return len(self.before) + len(self.after)


@dataclass(frozen=True)
class Encoded:
    """One text as tokens."""

    ids: list[int]
    """Ids of the tokens, without special ones."""
    words: list[int]
    """For each token the number of its word in the text."""


def encode_texts(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, whole_words: bool
) -> list[Encoded]:
    """Tokenises texts of any length.

    Args:
        texts: The texts.
        tokenizer: A fast one where words are wanted.
        whole_words: Whether tokens are told by word; else each is one by itself.
    """
    encoded = []
    for start in range(0, len(texts), _BATCH):
        batch = tokenizer(
            list(texts[start : start + _BATCH]), add_special_tokens=False, verbose=False
        )
        for place, ids in enumerate(batch["input_ids"]):
            words = batch.word_ids(place) if whole_words else range(len(ids))
            encoded.append(Encoded(list(ids), [NO_WORD if w is None else w for w in words]))
    return encoded


def make_rows(
    encoded: Sequence[Encoded], frame: Frame, *, max_length: int, packing: bool
) -> list[dict[str, list[int]]]:
    """Returns the rows of a language model: `input_ids`, and `words` with -1 for special tokens.

    The words of each row are counted from 0: masks draw a number for each of them, which must not
    be all words of the texts. A row with one token or with special ones alone teaches nothing and
    is left out.

    Example:
        >>> frame = Frame(before=(1,), after=(2,), between=(2,))
        >>> texts = [Encoded([7, 8, 9], [0, 0, 1]), Encoded([5], [0])]
        >>> [row["input_ids"] for row in make_rows(texts, frame, max_length=5, packing=True)]
        [[1, 7, 8, 9, 2], [1, 2, 5, 2]]
        >>> [row["input_ids"] for row in make_rows(texts, frame, max_length=4, packing=False)]
        [[1, 7, 8, 2], [1, 9, 2], [1, 5, 2]]
    """
    streams = [_stream(encoded, frame)] if packing else [_stream([one], frame) for one in encoded]
    room = max_length - frame.size
    rows = []
    for ids, words in streams:
        for start in range(0, len(ids), room):
            part = slice(start, start + room)
            row = {
                "input_ids": [*frame.before, *ids[part], *frame.after],
                "words": [
                    *([NO_WORD] * len(frame.before)),
                    *_from_zero(words[part]),
                    *([NO_WORD] * len(frame.after)),
                ],
            }
            if len(row["input_ids"]) > 1 and max(row["words"]) > NO_WORD:
                rows.append(row)
    return rows


def _from_zero(words: Sequence[int]) -> list[int]:
    """Counts the words of a row from its own first one on."""
    first = min((word for word in words if word > NO_WORD), default=0)
    return [NO_WORD if word == NO_WORD else word - first for word in words]


def _stream(encoded: Sequence[Encoded], frame: Frame) -> tuple[list[int], list[int]]:
    """Joins texts; the words of each are counted on from those before."""
    ids: list[int] = []
    words: list[int] = []
    seen = 0
    for one in encoded:
        if ids and frame.after:
            ids += frame.between
            words += [NO_WORD] * len(frame.between)
        ids += one.ids
        words += [NO_WORD if word == NO_WORD else seen + word for word in one.words]
        seen += max(one.words, default=-1) + 1
        if not frame.after:
            ids += frame.between
            words += [NO_WORD] * len(frame.between)
    return ids, words


def make_pair_rows(
    pairs: Sequence[SentencePair],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    whole_words: bool,
) -> list[dict[str, Any]]:
    """Returns the rows of next-sentence prediction: two segments, the longer one cut first.

    Beside the columns of `make_rows` they hold `token_type_ids` and `next_sentence_label`, 1 where
    the second sentence was drawn.
    """
    rows = []
    for start in range(0, len(pairs), _BATCH):
        some = pairs[start : start + _BATCH]
        batch = tokenizer(
            [pair.first for pair in some],
            [pair.second for pair in some],
            truncation=True,
            max_length=max_length,
            return_token_type_ids=True,
            return_special_tokens_mask=True,
        )
        for place, pair in enumerate(some):
            kinds = batch["token_type_ids"][place]
            special = batch["special_tokens_mask"][place]
            words = batch.word_ids(place) if whole_words else list(range(len(kinds)))
            rows.append(
                {
                    "input_ids": list(batch["input_ids"][place]),
                    "words": list(_pair_words(words, special, kinds)),
                    "token_type_ids": list(kinds),
                    "next_sentence_label": pair.is_drawn,
                }
            )
    return rows


def _pair_words(
    words: Sequence[int | None], special: Sequence[int], kinds: Sequence[int]
) -> Iterator[int]:
    """Words of the second sentence, which are counted from 0 again, get numbers of their own."""
    most = max((word for word in words if word is not None), default=0) + 1
    for word, mark, kind in zip(words, special, kinds, strict=True):
        yield NO_WORD if mark or word is None else word + most * kind


def as_dataset(rows: Sequence[dict[str, Any]]) -> Dataset:
    """Returns the rows as a data set that knows the place of each.

    Raises:
        DataError: There are none.
    """
    from datasets import Dataset

    if not rows:
        raise DataError(
            "no row of two tokens or more can be made of the text; give more text, or a smaller "
            "max_length"
        )
    return Dataset.from_list([{**row, "row": place} for place, row in enumerate(rows)])
