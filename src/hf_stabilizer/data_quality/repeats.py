"""Which rows say the same? Duplicates, conflicting labels, and leaks between splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from hf_stabilizer.data.near_duplicates import near_duplicates, normalized
from hf_stabilizer.data_quality.report import EXAMPLES, DataFinding, RowExample, cut, where
from hf_stabilizer.data_quality.rows import ReadRows

# Any in this module: labels of whatever kind the task has.


def groups_of_equals(texts: Sequence[str]) -> list[list[int]]:
    """Returns the places of texts that are equal once normalised, two or more; empty ones never.

    Example:
        >>> groups_of_equals(["Good!", "bad", "good", "", ""])
        [[0, 2]]
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, text in enumerate(texts):
        if text.strip():
            places[normalized(text)].append(place)
    return [group for group in places.values() if len(group) > 1]


def same_label(one: Any, other: Any) -> bool:
    """Whether two labels are one; the order of several in a row does not count."""
    return bool(label_key(one) == label_key(other))


def label_key(label: Any) -> Any:
    """Returns what only the same label has, to look it up by.

    Example:
        >>> label_key(["b", "a"]), label_key(1)
        (('a', 'b'), 1)
    """
    if isinstance(label, list | tuple):
        return tuple(sorted(label))
    return label if isinstance(label, Hashable) else repr(label)


def find_repeats(split: str, rows: ReadRows, *, threshold: float) -> Iterator[DataFinding]:
    """Yields duplicates, near duplicates and conflicting labels within one split."""
    equals = groups_of_equals(rows.texts)
    if equals:
        yield _duplicates(split, rows, equals)
    pairs = _near(rows.texts, threshold)
    if pairs:
        yield _near_duplicates(split, rows, pairs, threshold)
    conflicts = [group for group in equals if rows.labels and _differ(rows.labels, group)]
    if conflicts:
        yield _conflicts(split, rows, conflicts)


def _duplicates(split: str, rows: ReadRows, equals: list[list[int]]) -> DataFinding:
    repeats = sorted(place for group in equals for place in group[1:])
    return DataFinding(
        kind="duplicates",
        split=split,
        count=len(repeats),
        message=f"{_rows(len(repeats), 'repeat')} an earlier text, but for case, white space and "
        "punctuation",
        remedy="`hf-stabilizer data clean FILE --drop-duplicates` keeps the first of each",
        rows=_numbers(rows, repeats),
        examples=tuple(_example(split, rows, group) for group in equals[:EXAMPLES]),
    )


def _near_duplicates(
    split: str, rows: ReadRows, pairs: list[tuple[int, int, float]], threshold: float
) -> DataFinding:
    later = sorted({j for _, j, _ in pairs})
    shown = sorted(pairs, key=lambda pair: -pair[2])[:EXAMPLES]
    return DataFinding(
        kind="near-duplicates",
        split=split,
        count=len(later),
        message=f"{_rows(len(later), 'are', 'is')} nearly an earlier one (similarity {threshold:g} "
        "or more)",
        remedy=f"`hf-stabilizer data clean FILE --drop-duplicates --similarity {threshold:g}` "
        "keeps the first of those with one label",
        rows=_numbers(rows, later),
        examples=tuple(_example(split, rows, [i, j], f"{s:.2f} alike") for i, j, s in shown),
    )


def _conflicts(split: str, rows: ReadRows, groups: list[list[int]]) -> DataFinding:
    places = sorted(place for group in groups for place in group)
    labels = rows.labels or ()
    return DataFinding(
        kind="conflicting-labels",
        split=split,
        count=len(groups),
        message=f"{len(groups)} {'text stands' if len(groups) == 1 else 'texts stand'} there with "
        f"different labels, in {len(places)} rows",
        remedy="`hf-stabilizer data clean FILE --drop-conflicts` removes all of their rows; or "
        "settle each label by hand",
        rows=_numbers(rows, places),
        examples=tuple(
            _example(split, rows, group, " / ".join(str(labels[place]) for place in group[:4]))
            for group in groups[:EXAMPLES]
        ),
    )


def find_leaks(parts: Mapping[str, ReadRows], *, threshold: float) -> Iterator[DataFinding]:
    """Yields texts that stand in two splits, the same or nearly so."""
    order = [name for name in ("train", "validation", "test") if name in parts]
    for one, other in combinations(order, 2):
        first, second = parts[one], parts[other]
        pairs = [
            (i, j, similarity)
            for i, j, similarity in near_duplicates(first.texts, second.texts, threshold=threshold)
            if first.texts[i] and second.texts[j]
        ]
        equal = [
            (i, j, s)
            for i, j, s in pairs
            if normalized(first.texts[i]) == normalized(second.texts[j])
        ]
        known = {j for _, j, _ in equal}
        near = [pair for pair in pairs if pair[1] not in known]
        for kind, found in (("leaks", equal), ("near-leaks", near)):
            if found:
                yield _leak(kind, (one, other), (first, second), found, threshold)


def _leak(
    kind: str,
    names: tuple[str, str],
    rows: tuple[ReadRows, ReadRows],
    pairs: list[tuple[int, int, float]],
    threshold: float,
) -> DataFinding:
    (one, other), (first, second) = names, rows
    leaked = sorted({j for _, j, _ in pairs})
    how = "a text" if kind == "leaks" else f"nearly a text (similarity {threshold:g} or more)"
    more = "" if kind == "leaks" else f" --similarity {threshold:g}"
    shown = sorted(pairs, key=lambda pair: (-pair[2], pair[:2]))[:EXAMPLES]
    return DataFinding(
        kind=kind,
        split=f"{one}, {other}",
        count=len(leaked),
        message=f"{how} that is in {one}, too, in {len(leaked)} of {len(second.texts)} {other} "
        "rows",
        remedy=f"with one file each: `hf-stabilizer data clean {one.upper()} --drop-leaks "
        f"{other.upper()}{more}`; where one file is divided, --drop-duplicates{more}, or a "
        "group_column that keeps them on one side",
        rows=tuple(sorted({first.numbers[i] for i, _, _ in pairs})),
        examples=tuple(
            RowExample(
                (where(one, first.numbers[i]), where(other, second.numbers[j])),
                cut(second.texts[j]),
                f"{similarity:.2f} alike",
            )
            for i, j, similarity in shown
        ),
    )


def _near(texts: Sequence[str], threshold: float) -> list[tuple[int, int, float]]:
    """Pairs of a row and a later one of another, similar text: every later row is in one.

    Each text is compared once: thousands of rows that say "ok" would make millions of pairs.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, text in enumerate(texts):
        if text:
            places[normalized(text)].append(place)
    groups = list(places.values())
    found = near_duplicates([texts[group[0]] for group in groups], threshold=threshold)
    pairs = []
    for one, other, similarity in found:  # In the order of their first rows.
        first, second = groups[one][0], groups[other][0]
        pairs += [(first, place, similarity) for place in groups[other]]
        pairs += [(second, place, similarity) for place in groups[one] if place > second]
    return sorted(pairs)


def _differ(labels: Sequence[Any], group: list[int]) -> bool:
    said = [labels[place] for place in group if labels[place] is not None]
    return any(not same_label(said[0], other) for other in said[1:])


def _rows(count: int, many: str, one: str | None = None) -> str:
    """Returns so many rows, and their verb."""
    return f"1 row {one or many + 's'}" if count == 1 else f"{count} rows {many}"


def _numbers(rows: ReadRows, places: Sequence[int]) -> tuple[int, ...]:
    return tuple(rows.numbers[place] for place in places)


def _example(split: str, rows: ReadRows, places: Sequence[int], note: str = "") -> RowExample:
    named = tuple(where(split, rows.numbers[place]) for place in places[:4])
    return RowExample(named, cut(rows.texts[places[0]]), note)
