"""Which text is learnt from? The task's own, each text once, and none of the rows that judge.

    unlabelled rows ─┐
    training rows  ──┼── each text once ── nothing near a validation or test row ──┬── learnt from
    (validation, test rows: only if said)                                          └── held out

A text counts as near another when their character shingles agree by `NEAR` or more
(`data.near_duplicates`), or when it holds the other, of `WORDS` words or more, word for word; in
training rows as well: what a model has learnt to fill in, it knows.
Imports neither torch nor transformers.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_stabilizer.data.near_duplicates import near_duplicates, normalized
from hf_stabilizer.data.splits import Splits
from hf_stabilizer.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

NEAR = 0.8
"""Similarity from which a text counts as that of a validation or test row."""

WORDS = 5
"""Words from which a text is told to be a part of another; fewer occur by chance."""

Document = tuple[str, ...]


@dataclass(frozen=True)
class Corpus:
    """The texts of the task; a document is what stands in one row, column by column."""

    train: tuple[Document, ...]
    """Documents that are learnt from."""
    held_out: tuple[Document, ...]
    """Documents on which perplexity is measured."""
    counts: Mapping[str, int]
    """How many texts there were of each kind, and how many were left out for which reason."""

    @property
    def train_texts(self) -> list[str]:
        """The texts that are learnt from, one after the other."""
        return [text for document in self.train for text in document]

    @property
    def held_out_texts(self) -> list[str]:
        """The texts on which perplexity is measured."""
        return [text for document in self.held_out for text in document]


def collect_texts(
    splits: Splits, *, include_validation: bool, include_test: bool, held_out: float, seed: int
) -> Corpus:
    """Gathers the texts of a task, and divides them.

    Labels are not looked at. Of two texts that are equal once normalised the first is kept.

    Args:
        splits: What `load_splits` returned.
        include_validation: Whether texts of validation rows are learnt from.
        include_test: The same for test rows.
        held_out: Share of the documents to hold out, in (0, 1); at least one is.
        seed: Decides which.

    Raises:
        DataError: Nothing is left to learn from, or one document alone.
    """
    sources = {"unlabelled": splits.unlabelled, "training": splits.train}
    guards: dict[str, list[str]] = {}
    for name, rows, included in (
        ("validation", splits.validation, include_validation),
        ("test", splits.test, include_test),
    ):
        if included:
            sources[name] = rows
        elif rows is not None:
            guards[name] = [text for one in _documents(rows, splits) for text in one]
    documents: list[Document] = []
    counts: dict[str, int] = {}
    for name, rows in sources.items():
        if rows is not None:
            found = _documents(rows, splits)
            counts[f"{name} texts"] = sum(map(len, found))
            documents += found
    documents, counts["repeated"] = _without_repeats(documents)
    for name, texts in guards.items():
        documents, counts[f"near a {name} text"] = _without_near(documents, texts)
    return _divided(documents, counts, held_out, seed)


def _documents(rows: Dataset, splits: Splits) -> list[Document]:
    columns = [rows[name] for name in (*splits.text_columns, *splits.choice_columns)]
    cells = zip(*columns, strict=True)
    return [tuple(text for text in map(_as_text, row) if text.strip()) for row in cells]


def _as_text(cell: object) -> str:
    """Words of a row that is tokenised already, as for token classification, are joined."""
    return " ".join(map(str, cell)) if isinstance(cell, (list, tuple)) else str(cell)


def _without_repeats(documents: Sequence[Document]) -> tuple[list[Document], int]:
    known: set[str] = set()
    kept, repeats = [], 0
    for document in documents:
        texts = []
        for text in document:
            key = normalized(text)
            repeats += key in known
            texts += [] if key in known else [text]
            known.add(key)
        kept.append(tuple(texts))
    return [document for document in kept if document], repeats


def _without_near(
    documents: Sequence[Document], guarded: Sequence[str]
) -> tuple[list[Document], int]:
    """Leaves out what is equal to a guarded text, near one, or holds one."""
    equal = {normalized(text) for text in guarded}
    texts = list(dict.fromkeys(text for document in documents for text in document))
    dropped = {text for text in texts if normalized(text) in equal}
    others = [text for text in texts if text not in dropped]
    pairs = near_duplicates(others, sorted(equal), threshold=NEAR)
    dropped |= {others[place] for place, _, _ in pairs} | _holding(others, equal)
    kept = [tuple(text for text in document if text not in dropped) for document in documents]
    return [document for document in kept if document], len(dropped)


def _holding(texts: Sequence[str], guarded: set[str]) -> set[str]:
    """Returns the texts in which a guarded one, normalised, stands word for word."""
    beginnings: dict[tuple[str, ...], list[list[str]]] = {}
    for words in (text.split() for text in guarded):
        if len(words) >= WORDS:
            beginnings.setdefault(tuple(words[:WORDS]), []).append(words)

    def holds(text: str) -> bool:
        words = normalized(text).split()
        return any(
            words[at : at + len(other)] == other
            for at in range(len(words) - WORDS + 1)
            for other in beginnings.get(tuple(words[at : at + WORDS]), ())
        )

    return {text for text in texts if holds(text)}


def _divided(
    documents: Sequence[Document], counts: dict[str, int], held_out: float, seed: int
) -> Corpus:
    if len(documents) < 2:
        told = ", ".join(f"{number} {what}" for what, number in counts.items())
        raise DataError(
            f"{len(documents) or 'no'} row of text is left to pre-train on ({told}); name an "
            "unlabelled_file with the task's own text"
        )
    number = min(max(1, round(held_out * len(documents))), len(documents) - 1)
    chosen = set(random.Random(seed).sample(range(len(documents)), number))
    train = tuple(one for place, one in enumerate(documents) if place not in chosen)
    apart = tuple(documents[place] for place in sorted(chosen))
    counts["learnt from"] = sum(map(len, train))
    counts["held out"] = sum(map(len, apart))
    return Corpus(train, apart, counts)
