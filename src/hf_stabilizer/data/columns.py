"""Which column is the text, which the choices, which the label? What is said, or a sure guess."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from hf_stabilizer.data.arguments import DataArguments
from hf_stabilizer.errors import DataError, did_you_mean

SOURCE, SOURCE_ROW = "_source", "_source_row"
"""Columns that tell where a row was read: in which split, and in which place there, from 0."""
# Usual names, most telling first. A pair comes before its halves: "question" beside "sentence"
# means that the model is to read both.
_PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
    ("text1", "text2"),
    ("text_a", "text_b"),
)
_TEXTS = (
    *((name,) for name in ("text", "sentence", "review", "content", "comment", "document")),
    *((name,) for name in ("excerpt", "tweet", "message", "body", "article", "abstract")),
)
_QUESTIONS = (
    *(("context", "question"), ("context", "prompt"), ("article", "question"), ("sent1", "sent2")),
    *((name,) for name in ("prompt", "question", "premise", "context", "text")),
)
_TOKENS = tuple((name,) for name in ("tokens", "words"))
_SOURCES = (
    *(("context", "question"), ("question", "context"), ("source",), ("src",), ("input",)),
    *((name,) for name in ("article", "document", "dialogue", "question", "prompt")),
)
_LABELS = {
    "text-classification": ("label labels target category class sentiment topic stars rating y"),
    "text-regression": ("label labels target score similarity_score rating value y"),
    "multiple-choice": ("label labels answer correct answerkey answer_key correct_answer target"),
    "token-classification": ("ner_tags tags labels label ner pos_tags upos xpos chunk_tags"),
    "seq2seq": ("target summary highlights answer output translation response tgt label"),
}
TEXT_ALONE = ("causal-lm", "masked-lm")
"""Tasks whose rows need no label."""
ONE_TEXT = ("token-classification", *TEXT_ALONE)
"""Tasks that take one column of text, not two."""
_USUAL = {
    "multiple-choice": _QUESTIONS,
    "token-classification": _TOKENS,
    "seq2seq": (*_SOURCES, *_TEXTS),
    **dict.fromkeys(TEXT_ALONE, _TEXTS),
}
_CHOICE = re.compile(r"(?P<stem>.*?)[ _-]?(?P<place>[a-z]|\d)")
_LONG = 20  # Characters: a column of shorter strings is as likely a name or a key as a text.


@dataclass(frozen=True)
class Columns:
    """The columns that count."""

    texts: tuple[str, ...]
    """One column of text, or two that form a pair."""
    choices: tuple[str, ...]
    """The columns of the answers; empty but for multiple-choice."""
    label: str | None
    """The column of the right answer, tags or target; None where the text alone is learnt from."""
    notes: tuple[str, ...]
    """One sentence for each guess."""


def choose_columns(frame: pd.DataFrame, arguments: DataArguments, *, task: str) -> Columns:
    """Settles the columns: those that are named, and guesses for those that are not.

    Raises:
        DataError: A guess is not sure, or one column has two parts to play.
    """
    names, notes = [str(name) for name in frame.columns], []
    group = arguments.group_column
    choices: tuple[str, ...] = ()
    if task == "multiple-choice":
        choices = tuple(arguments.choice_columns or _guess_choices(names))
        if not arguments.choice_columns:
            notes.append(f"choice_columns were guessed: {', '.join(choices)}")
    label = arguments.label_column
    if task in TEXT_ALONE:
        _refuse_label(label, task)
    elif label is None:
        label = _guess_label([name for name in names if name not in (*choices, group)], task)
        notes.append(f"label_column was guessed: {label}")
    texts = tuple(arguments.text_columns or ())
    if not texts:
        rest = frame[[name for name in names if name not in (*choices, label, group)]]
        texts = _guess_texts(rest, names, task)
        notes.append(f"text_columns were guessed: {', '.join(texts)}")
    if len(texts) > 1 and task in ONE_TEXT:
        raise DataError(
            f"text_columns must name one column for {task}, got {', '.join(map(repr, texts))}"
        )
    _refuse_double([*texts, *choices, *([] if label is None else [label])])
    return Columns(texts, choices, label, tuple(notes))


def require_columns(frame: pd.DataFrame, needed: Iterable[str], *, key: str, origin: str) -> None:
    """Checks that the columns are there.

    Raises:
        DataError: One is not; the message lists those that the file has.
    """
    names = [str(name) for name in frame.columns if name not in (SOURCE, SOURCE_ROW)]
    for column in needed:
        if column not in names:
            raise DataError(
                f"{key}: {origin} has no column {column!r}{did_you_mean(column, names)}; "
                f"its columns are {', '.join(names)}"
            )


def refuse_taken(columns: Iterable[str], added: Iterable[str], *, by: str) -> None:
    """Checks that no column that is read is called as one that is added.

    Args:
        columns: The columns that are read.
        added: Names of the columns that are added.
        by: What adds them, in the plural, for the message.

    Raises:
        DataError: One is.

    Example:
        >>> refuse_taken(["text", "fold"], ["fold"], by="folds")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.DataError: the rows have a column 'fold' that is read, and folds add
        one of that name; rename it
    """
    taken = set(added)
    for name in columns:
        if name in taken:
            raise DataError(
                f"the rows have a column {name!r} that is read, and {by} add one of that name; "
                "rename it"
            )


def quoted(column: str) -> str:
    """Returns a column's name as a filter has to spell it.

    Example:
        >>> quoted("text"), quoted("my text")
        ('text', '`my text`')
    """
    return column if column.isidentifier() else f"`{column}`"


def _refuse_label(label: str | None, task: str) -> None:
    if label is not None:
        raise DataError(
            f"label_column={label!r} has no effect: {task} learns from the text alone; leave it out"
        )


def _guess_texts(rest: pd.DataFrame, names: Sequence[str], task: str) -> tuple[str, ...]:
    found = {str(name).lower(): str(name) for name in rest.columns}
    for guess in _USUAL.get(task, (*_PAIRS, *_TEXTS)):
        if all(name in found for name in guess):
            return tuple(found[name] for name in guess)
    strings = [name for name in found.values() if pd.api.types.is_string_dtype(rest[name])]
    long = [name for name in strings if rest[name].str.len().median() >= _LONG]
    if len(long) == 1:
        return (long[0],)
    raise DataError(
        "the column of the text cannot be guessed; set text_columns to one or two of "
        f"{', '.join(names)}"
    )


def _guess_label(names: Sequence[str], task: str) -> str:
    found = {name.lower(): name for name in names}
    for guess in _LABELS[task].split():
        if guess in found:
            return found[guess]
    raise DataError(
        f"the column of the label cannot be guessed; set label_column to one of {', '.join(names)}"
    )


def _guess_choices(names: Sequence[str]) -> tuple[str, ...]:
    """Finds the columns that differ in a letter from a, or a digit from 0 or 1, upwards."""
    families: dict[str, dict[str, str]] = {}
    for name in names:
        if match := _CHOICE.fullmatch(name.lower()):
            families.setdefault(match["stem"], {})[match["place"]] = name
    whole = []
    for family in families.values():
        places = "".join(sorted(family))
        for alphabet in (string.ascii_lowercase, string.digits, string.digits[1:]):
            if len(places) > 1 and alphabet.startswith(places):
                whole.append(tuple(family[place] for place in places))
                break
    if len(whole) == 1:
        return whole[0]
    preferred = [family for family in whole if not family[0].lower().startswith(("sent", "text"))]
    if len(preferred) == 1:
        return preferred[0]
    raise DataError(
        "the columns of the choices cannot be guessed; set choice_columns to some of "
        f"{', '.join(names)}"
    )


def _refuse_double(columns: Sequence[str]) -> None:
    for column in columns:
        if columns.count(column) > 1:
            raise DataError(
                f"column {column!r} cannot be used twice: text_columns, choice_columns and "
                "label_column must differ"
            )
