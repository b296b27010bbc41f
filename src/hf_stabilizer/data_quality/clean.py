"""How are rows made fit to learn from? What is chosen is done, in a fixed order, and written down.

    drop_rows
    texts      html, once -> unicode -> whitespace -> lowercase -> stop_words -> stem
    rows       drop_empty -> drop_conflicts -> drop_duplicates -> drop_leaks

Cleaning the result once more with the same options changes nothing (`drop_rows` left out), but
that `html` finds what entities have stood for: "&amp;lt;" is "&lt;", then "<".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from hf_stabilizer.data.frames import frame_of
from hf_stabilizer.data.near_duplicates import near_duplicates, normalized
from hf_stabilizer.data_quality.markup import without_html
from hf_stabilizer.data_quality.repeats import groups_of_equals, label_key, same_label
from hf_stabilizer.data_quality.report import EXAMPLES, cut, cut_at_change
from hf_stabilizer.data_quality.rows import ReadRows, Source, read_source
from hf_stabilizer.data_quality.text_steps import (
    TextStep,
    stem_step,
    stop_word_step,
    until_settled,
    with_single_spaces,
    with_sound_unicode,
)
from hf_stabilizer.errors import ConfigurationError, DataError, check_choice

# Any in this module: labels, and values of configuration keys.
KEYS = ("text_columns", "choice_columns", "label_column", "task")
"""Configuration keys that say which columns count."""
ADVICE = (
    "{what} takes away what a pre-trained transformer reads: it has learnt whole sentences, "
    "inflections and small words among them; it is meant for models that count words"
)


@dataclass(frozen=True)
class CleaningStep:
    """What one step did."""

    name: str
    """The option."""
    rows: tuple[int, ...]
    """Numbers of the rows that it changed or dropped, counted from 1 in the rows given."""
    dropped: bool
    """Whether it dropped them."""
    examples: tuple[tuple[str, str], ...]
    """Texts before and after, from where they differ; after is "" where a row was dropped."""


@dataclass(frozen=True)
class Cleaned:
    """The rows, and how they came about."""

    frame: pd.DataFrame
    """The rows that are left, all columns, in their order, numbered anew."""
    rows_before: int
    """Rows that there were."""
    steps: tuple[CleaningStep, ...]
    """What was done, in order; a step that found nothing to do stands there without rows."""
    notes: tuple[str, ...]
    """What was guessed, and what is advised against."""

    def to_record(self) -> dict[str, Any]:
        """Returns what was done in plain values, without the rows themselves."""
        return {
            "rows_before": self.rows_before,
            "rows_after": len(self.frame),
            "steps": [
                {
                    "step": step.name,
                    ("rows_dropped" if step.dropped else "rows_changed"): len(step.rows),
                    "rows": list(step.rows),
                    "examples": [
                        {"before": before, "after": after} for before, after in step.examples
                    ],
                }
                for step in self.steps
            ],
            "notes": list(self.notes),
        }


def clean_rows(
    frame: pd.DataFrame,
    *,
    html: bool = False,
    unicode: bool = False,
    whitespace: bool = False,
    lowercase: bool = False,
    stop_words: bool | Sequence[str] = False,
    stem: bool | str = False,
    drop_rows: Sequence[int] = (),
    drop_empty: bool = False,
    drop_conflicts: bool = False,
    drop_duplicates: bool = False,
    drop_leaks: Sequence[str] | None = None,
    similarity: float = 1.0,
    **keys: Any,
) -> Cleaned:
    """Applies the chosen steps to the texts and rows of a table; with none chosen it is a copy.

    Args:
        frame: The rows.
        html: Remove tags of HTML elements, comments, scripts and styles; resolve entities once.
        unicode: Mend wrongly decoded text, remove invisible characters, unify (NFC).
        whitespace: Make each run of white space, line breaks among them, one space.
        lowercase: Make all letters small.
        stop_words: Remove these words, True: English ones without negations. Advised against
            for transformers.
        stem: Replace words by their Snowball stems, in this language; True: English. Advised
            against for transformers.
        drop_rows: Numbers of rows to drop, from 1 in `frame`.
        drop_empty: Drop rows of which a text or choice is empty.
        drop_conflicts: Drop all rows whose texts stand there with different labels.
        drop_duplicates: Of rows with one label and one text, keep the first.
        drop_leaks: Texts of other splits; drop rows that say the same (of a pair or of choices,
            joined by line breaks, as `joined_texts` does).
        similarity: Least similarity of duplicates and leaks, in (0, 1]; 1: texts that are equal
            but for case, white space and punctuation.
        **keys: `text_columns`, `choice_columns`, `label_column`, `task`; guessed where not given.

    Raises:
        ConfigurationError: A value is out of range.
        DataError: A column cannot be told, labels are needed and there are none, or no row is left.
        MissingDependencyError: A step needs a package of the extra `data`.

    Example:
        >>> rows = pd.DataFrame({"text": ["<b>Good</b>", "good", " "], "label": ["x", "x", "y"]})
        >>> cleaned = clean_rows(rows, html=True, drop_empty=True, drop_duplicates=True)
        >>> cleaned.frame["text"].tolist(), [(step.name, step.rows) for step in cleaned.steps]
        (['Good'], [('html', (1,)), ('drop_empty', (3,)), ('drop_duplicates', (2,))])
    """
    if not 0 < similarity <= 1:
        raise ConfigurationError(f"similarity must be in (0, 1], got {similarity!r}")
    for key in keys:
        check_choice(key, KEYS, name="a key of clean_rows")
    frame = frame_of(frame, name="frame", or_file=False)
    read = read_source(frame, plain_labels=True, **keys)
    steps = _text_steps(html, unicode, whitespace, lowercase, stop_words, stem)
    work = _Work(frame.reset_index(drop=True), read, _unknown(drop_rows, len(frame)))
    work.change(steps)
    droppers: list[tuple[str, bool, Callable[[ReadRows], Sequence[int]]]] = [
        ("drop_empty", drop_empty, lambda rows: _places(text == "" for text in rows.texts)),
        ("drop_conflicts", drop_conflicts, _in_conflict),
        ("drop_duplicates", drop_duplicates, lambda rows: _repeated(rows, similarity)),
        (
            "drop_leaks",
            drop_leaks is not None,
            lambda rows: _leaking(rows, list(drop_leaks or ()), similarity),
        ),
    ]
    for name, chosen, find in droppers:
        if chosen:
            work.drop(name, find)
    advised = [name for name, chosen in (("stop_words", stop_words), ("stem", stem)) if chosen]
    notes = [*read.columns.notes, *(ADVICE.format(what=name) for name in advised)]
    return Cleaned(work.result(), len(frame), tuple(work.steps), tuple(notes))


class _Work:
    """The rows between steps."""

    def __init__(self, frame: pd.DataFrame, read: Source, drop_rows: Sequence[int]):
        self.frame, self.read = frame.copy(), read
        self.columns = [*read.columns.texts, *read.columns.choices]
        for column in self.columns:  # A category takes no text that is none of its own.
            if isinstance(self.frame[column].dtype, pd.CategoricalDtype):
                self.frame[column] = self.frame[column].astype(object)
        self.left = list(range(len(frame)))  # Places of the rows that are left.
        self.steps: list[CleaningStep] = []
        if drop_rows:
            self.drop("drop_rows", lambda _: [number - 1 for number in drop_rows])

    def change(self, steps: dict[str, TextStep]) -> None:
        """Applies the steps one after the other, all but `html` again until nothing changes."""
        changed: dict[str, dict[int, tuple[str, str]]] = {name: {} for name in steps}
        for column in self.columns:
            for place in self.left:
                cell = self.frame.at[place, column]
                if isinstance(cell, str):
                    self.frame.at[place, column] = _noting(cell, steps, place, changed)
        self.steps += [
            CleaningStep(
                name,
                tuple(place + 1 for place in sorted(found)),
                dropped=False,
                examples=tuple(found[place] for place in sorted(found)[:EXAMPLES]),
            )
            for name, found in changed.items()
        ]

    def drop(self, name: str, find: Callable[[ReadRows], Sequence[int]]) -> None:
        """Drops the rows that `find` names by their places among those that are left."""
        rows = self._rows()
        found = sorted(find(rows))
        gone = {self.left[place] for place in found}
        self.steps.append(
            CleaningStep(
                name,
                tuple(self.left[place] + 1 for place in found),
                dropped=True,
                examples=tuple((cut(rows.texts[place]), "") for place in found[:EXAMPLES]),
            )
        )
        self.left = [place for place in self.left if place not in gone]

    def _rows(self) -> ReadRows:
        from hf_stabilizer.data_quality.rows import joined_texts

        labels = self.read.parts["rows"].labels
        return ReadRows(
            numbers=tuple(place + 1 for place in self.left),
            texts=joined_texts(self.frame.iloc[self.left], self.columns),
            labels=None if labels is None else tuple(labels[place] for place in self.left),
        )

    def result(self) -> pd.DataFrame:
        """Returns the rows that are left."""
        if not self.left:
            last = next(step.name for step in reversed(self.steps) if step.rows)
            raise DataError(f"no row is left after {last}; choose less")
        return self.frame.iloc[self.left].reset_index(drop=True)


def _noting(
    text: str,
    steps: dict[str, TextStep],
    place: int,
    changed: dict[str, dict[int, tuple[str, str]]],
) -> str:
    def noted(name: str) -> TextStep:
        def apply(before: str) -> str:
            after = steps[name](before)
            if after != before:
                changed[name].setdefault(place, cut_at_change(before, after))
            return after

        return apply

    text = noted("html")(text) if "html" in steps else text
    return until_settled([noted(name) for name in steps if name != "html"])(text)


def _text_steps(
    html: bool,
    unicode: bool,
    whitespace: bool,
    lowercase: bool,
    stop_words: bool | Sequence[str],
    stem: bool | str,
) -> dict[str, TextStep]:
    steps: dict[str, TextStep] = {}
    if html:
        steps["html"] = without_html
    if unicode:
        with_sound_unicode("")  # Said at once if ftfy is not there.
        steps["unicode"] = with_sound_unicode
    if whitespace:
        steps["whitespace"] = with_single_spaces
    if lowercase:
        steps["lowercase"] = str.lower
    if stop_words is not False:
        steps["stop_words"] = stop_word_step(stop_words)
    if stem:
        steps["stem"] = stem_step("english" if stem is True else stem)
    return steps


def _unknown(numbers: Sequence[int], rows: int) -> Sequence[int]:
    """Returns the numbers if all of them are there."""
    for number in numbers:
        if not 1 <= number <= rows:
            raise ConfigurationError(
                f"drop_rows must name rows from 1 to {rows}, got {number!r}; they are counted "
                "below the header"
            )
    return sorted(set(numbers))


def _places(chosen: Any) -> list[int]:
    return [place for place, is_chosen in enumerate(chosen) if is_chosen]


def _labels(rows: ReadRows, option: str) -> Sequence[Any]:
    if rows.labels is None:
        raise DataError(f"{option} needs labels, and there are none; set label_column")
    return rows.labels


def _in_conflict(rows: ReadRows) -> list[int]:
    labels = _labels(rows, "drop_conflicts")
    found = []
    for group in groups_of_equals(rows.texts):
        said = [labels[place] for place in group if labels[place] is not None]
        if any(not same_label(said[0], other) for other in said[1:]):
            found += group
    return found


def _repeated(rows: ReadRows, similarity: float) -> list[int]:
    """Rows that repeat one that is kept, so that a second time finds none."""
    labels = rows.labels or (None,) * len(rows.texts)
    first: dict[tuple[str, Any], int] = {}
    there = [place for place, text in enumerate(rows.texts) if text.strip()]
    for place in there:
        first.setdefault((normalized(rows.texts[place]), label_key(labels[place])), place)
    # Thousands of rows that say "ok" are left out first: they would make millions of pairs.
    left = sorted(first.values())
    gone = set(there) - set(left)
    pairs = [] if similarity == 1 else _near([rows.texts[place] for place in left], similarity)
    for i, j in sorted(pairs, key=lambda pair: (pair[1], pair[0])):
        if left[i] not in gone and same_label(labels[left[i]], labels[left[j]]):
            gone.add(left[j])
    return sorted(gone)


def _near(texts: Sequence[str], similarity: float) -> list[tuple[int, int]]:
    return [(i, j) for i, j, _ in near_duplicates(texts, threshold=similarity)]


def _leaking(rows: ReadRows, others: list[str], similarity: float) -> list[int]:
    """Rows that say what another split says; empty texts say nothing."""
    if similarity == 1:  # Equal once normalised, not merely of the same shingles.
        known = {normalized(text) for text in others} - {""}
        return [place for place, text in enumerate(rows.texts) if normalized(text) in known]
    them = list(dict.fromkeys(text for text in others if text.strip()))
    found = near_duplicates(rows.texts, them, threshold=similarity)
    return sorted({place for place, _, _ in found if rows.texts[place].strip()})
