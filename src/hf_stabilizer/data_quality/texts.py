"""Are there texts to read, and are they of a length that is read? Empty and over-long ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from hf_stabilizer.data_quality.report import EXAMPLES, DataFinding, RowExample, cut, where
from hf_stabilizer.data_quality.rows import ReadRows, Source

WORDS = 512
"""Words above which a text is called over-long where no tokenizer counts its tokens: one word
is one token at least, and few encoders read more."""


def find_empty(split: str, rows: ReadRows, columns: Sequence[str]) -> Iterator[DataFinding]:
    """Yields rows without text, and rows without label."""
    empty = [place for place, text in enumerate(rows.texts) if not text]
    if empty:
        condition = " and ".join(f"{column}.str.strip().str.len() > 0" for column in columns)
        yield _finding(
            "empty-texts", split, rows, empty,
            message=f"{len(empty)} of {len(rows.texts)} rows {_verb(empty, 'has', 'have')} no text "
            "in one of the columns",
            remedy="`hf-stabilizer data clean FILE --drop-empty`, or the configuration key "
            f'filter: "{condition}"',
        )  # fmt: skip
    missing = [place for place, label in enumerate(rows.labels or ()) if label is None]
    if missing:
        yield _finding(
            "missing-labels", split, rows, missing,
            message=f"{len(missing)} of {len(rows.texts)} rows {_verb(missing, 'has', 'have')} no "
            "label",
            remedy="give them one, remove them with a filter such as LABEL.notna(), or use them "
            "as unlabelled_file",
        )  # fmt: skip


def measure(source: Source) -> tuple[dict[str, dict[str, float]], dict[str, list[int]]]:
    """Returns quantiles of the lengths by unit, and the length of each text by split.

    The lengths by split are in tokens where a model is named, in words otherwise.
    """
    texts = [text for rows in source.parts.values() for text in rows.texts]
    words = [len(text.split()) for text in texts]
    units = {"characters": [len(text) for text in texts], "words": words}
    if source.model is not None:
        units["tokens"] = _tokens(texts, source.model)
    found = iter(units.get("tokens", words))
    by_split = {split: [next(found) for _ in rows.texts] for split, rows in source.parts.items()}
    return {unit: _quantiles(counts) for unit, counts in units.items()}, by_split


def find_over_long(
    split: str, rows: ReadRows, lengths: Sequence[int], *, limit: int, unit: str
) -> Iterator[DataFinding]:
    """Yields rows that are cut before a model reads them, or would be."""
    long = [place for place, length in enumerate(lengths) if length > limit]
    if long:
        unread = sum(lengths[place] - limit for place in long) / max(1, sum(lengths))
        yield _finding(
            "over-long-texts", split, rows, long,
            message=f"{len(long)} of {len(rows.texts)} rows {_verb(long, 'is', 'are')} longer than "
            f"{limit} {unit}; "
            f"{unread:.1%} of all {unit} are beyond it",
            remedy="set max_length, up to what the model can take, or cut the texts where it "
            "matters least",
            notes=[f"{lengths[place]} {unit}" for place in long],
        )  # fmt: skip


def _verb(places: Sequence[int], one: str, many: str) -> str:
    return one if len(places) == 1 else many


def longest(model: str, max_length: int | None) -> int:
    """Returns how many tokens of a row are kept."""
    from hf_stabilizer.models import LONGEST, load_tokenizer

    most = int(load_tokenizer(_resolved(model)).model_max_length)
    return min(most, max_length or LONGEST)


def _tokens(texts: Sequence[str], model: str) -> list[int]:
    from hf_stabilizer.models import load_tokenizer

    tokenizer = load_tokenizer(_resolved(model))
    pieces = tokenizer(list(texts), verbose=False)["input_ids"] if texts else []
    return [len(row) for row in pieces]


def _resolved(model: str) -> str:
    from hf_stabilizer.data import resolve_location

    return resolve_location(model)


def _quantiles(counts: Sequence[int]) -> dict[str, float]:
    if not counts:
        return {"median": 0.0, "95 %": 0.0, "largest": 0.0}
    median, most = np.percentile(counts, [50, 95])
    return {"median": float(median), "95 %": float(most), "largest": float(max(counts))}


def _finding(
    kind: str,
    split: str,
    rows: ReadRows,
    places: Sequence[int],
    *,
    message: str,
    remedy: str,
    notes: Sequence[str] = (),
) -> DataFinding:
    return DataFinding(
        kind=kind,
        split=split,
        count=len(places),
        message=message,
        remedy=remedy,
        rows=tuple(rows.numbers[place] for place in places),
        examples=tuple(
            RowExample(
                (where(split, rows.numbers[place]),),
                cut(rows.texts[place]) or "(no text)",
                notes[at] if notes else "",
            )
            for at, place in enumerate(places[:EXAMPLES])
        ),
    )


def labels_of(
    parts: Mapping[str, ReadRows], choices: Sequence[str] = ()
) -> dict[str, dict[str, int]]:
    """Returns how many rows each class has, per split; of `choices` how many are right."""
    counts: dict[str, dict[str, int]] = {}
    for split, rows in parts.items():
        counts[split] = {}
        for label in rows.labels or ():
            for name in label if isinstance(label, list) else [label]:
                if name is not None:
                    told = choices[name] if choices else str(name)
                    counts[split][told] = counts[split].get(told, 0) + 1
        counts[split] = dict(sorted(counts[split].items()))
    return counts
