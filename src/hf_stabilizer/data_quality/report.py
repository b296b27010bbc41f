"""What was found in the rows? One record for each kind of finding, and all of them together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

SHOWN = 100
"""Characters of a text that an example shows."""
EXAMPLES = 5
"""Examples of a finding at most; the numbers of all its rows are kept."""

ALONE = "rows"
"""What the rows of a file are called that is no split of a configuration."""
KINDS = (
    *("empty-texts", "missing-labels", "over-long-texts", "duplicates", "near-duplicates"),
    *("conflicting-labels", "leaks", "near-leaks", "rare-classes", "label-balance"),
    "mislabelled",
)
"""What is looked for, in the order of a report."""


@dataclass(frozen=True)
class RowExample:
    """Rows that show what is meant."""

    rows: tuple[str, ...]
    """Split and number of each, e.g. "train 17", or "row 17" of a file alone; numbers count from 1
    below the header."""
    text: str
    """The text of the first, cut short."""
    note: str = ""
    """What else counts, e.g. the labels."""


@dataclass(frozen=True)
class DataFinding:
    """One thing that is wrong, or may be."""

    kind: str
    """Which of `KINDS`."""
    split: str
    """Where: "train", or two splits as in "train, test"."""
    count: int
    """How many rows, or classes, are concerned."""
    message: str
    """What it is, in one sentence."""
    remedy: str
    """What can be done: an option of `data clean`, or a configuration key."""
    rows: tuple[int, ...] = ()
    """Numbers of all rows concerned, in the first split named, from 1 below the header."""
    examples: tuple[RowExample, ...] = ()
    """A few of them."""


@dataclass(frozen=True)
class DataReport:
    """All that was found in some rows: findings, the most harmful first, and how many rows."""

    source: str
    """What was looked at."""
    rows: Mapping[str, int]
    """Number of rows of each split."""
    lengths: Mapping[str, Mapping[str, float]]
    """Per unit (characters, words, and tokens where a tokenizer is known) the median, the 95th
    percentile and the largest length of all texts."""
    labels: Mapping[str, Mapping[str, int]]
    """Rows of each class, per split; empty where labels are no classes."""
    findings: tuple[DataFinding, ...]
    """What was found, in the order of `KINDS`."""
    notes: tuple[str, ...] = ()
    """What was guessed, and what was not looked for and why."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def to_json(self) -> str:
        """Returns the report as indented JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)


def cut(text: str) -> str:
    r"""Returns the beginning of a text, on one line.

    Example:
        >>> cut("a  b\nc"), len(cut("x" * 500))
        ('a b c', 100)
    """
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[: SHOWN - 3] + "..."


def cut_at_change(before: str, after: str) -> tuple[str, str]:
    r"""Returns where a text begins to differ, before and after, and what stands around it.

    Example:
        >>> cut_at_change("a <b>bold</b> move", "a bold move")
        ('a <b>bold</b> move', 'a bold move')
        >>> [len(part) for part in cut_at_change("x" * 500 + " y", "x" * 500 + "\n")]
        [38, 37]
    """
    pairs = enumerate(zip(before, after, strict=False))
    same = next((at for at, (one, other) in pairs if one != other), min(len(before), len(after)))
    begin = max(0, same - SHOWN // 3)
    return _excerpt(before, begin), _excerpt(after, begin)


def _excerpt(text: str, begin: int) -> str:
    end = begin + SHOWN
    return f"{'...' if begin else ''}{text[begin:end]}{'...' if end < len(text) else ''}"


def where(split: str, number: int) -> str:
    """Returns how a row is called.

    Example:
        >>> where("test", 3), where("rows", 3)
        ('test 3', 'row 3')
    """
    return f"{'row' if split == ALONE else split} {number}"
