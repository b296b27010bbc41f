"""On which rows does everything run? As configured, or once for each fold.

    no folds    one part: training, validation and test rows as the configuration divides them
    K folds     K parts: the labelled rows but those of fold k; those of fold k, which judge

With folds all labelled rows but the test rows are folded; the test rows are let be.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_stabilizer.data import Splits, load_splits, write_splits
from hf_stabilizer.data.folding import assign_folds
from hf_stabilizer.pseudo_labels.question import Question
from hf_stabilizer.records import write_atomically

if TYPE_CHECKING:
    from datasets import Dataset

# Any in this module: values of configuration keys.


@dataclass(frozen=True)
class Part:
    """Rows that learn and rows that judge them."""

    name: str
    """"" without folds, else fold1, fold2, ..."""
    splits: Splits
    """The rows."""
    keys: dict[str, Any]
    """Configuration keys that read them back; empty as long as nothing is written."""
    test: Dataset | None = None
    """Test rows that are not scored here, and kept out all the same."""

    @property
    def held_out(self) -> list[Dataset]:
        """The rows that judge: nothing like them may be pseudo-labelled."""
        rows = (self.splits.validation, self.splits.test, self.test)
        return [some for some in rows if some is not None]

    def member(self, name: str) -> str:
        """Returns the name of a run of this part."""
        return f"{name}-{self.name}" if self.name else name


def read_parts(question: Question) -> list[Part]:
    """Reads the rows and divides them; writes nothing.

    Raises:
        DataError: The rows are not as the configuration says, or cannot be folded.
    """
    configuration = question.configuration
    task = configuration.model.task
    splits = load_splits(configuration.data, task=task)
    if question.folds is None:
        return [Part("", splits, {})]
    rows, groups = _labelled(splits)
    seed = configuration.data.split_seed
    places = assign_folds(
        list(rows[splits.label_column]), question.folds, groups=groups, seed=seed, task=task
    )
    return [
        Part(f"fold{fold + 1}", _fold(splits, rows, places, fold), {}, splits.test)
        for fold in range(question.folds)
    ]


def _labelled(splits: Splits) -> tuple[Dataset, tuple[str, ...] | None]:
    """All labelled rows but the test rows; with groups only those whose group is known."""
    from datasets import concatenate_datasets

    if splits.groups is not None:
        return splits.train, splits.groups
    return concatenate_datasets([splits.train, splits.validation]), None


def _fold(splits: Splits, rows: Dataset, places: list[int], fold: int) -> Splits:
    inside = [row for row, place in enumerate(places) if place == fold]
    outside = [row for row, place in enumerate(places) if place != fold]
    groups = splits.groups
    return replace(
        splits,
        train=rows.select(outside),
        validation=rows.select(inside),
        test=None,
        groups=None if groups is None else tuple(groups[row] for row in outside),
    )


def write_parts(question: Question, folder: Path) -> list[Part]:
    """Reads the rows, and writes those of each part; a procedure keeps the rows it began with."""
    return [_written(part, folder / "rows" / part.name) for part in read_parts(question)]


def _written(part: Part, folder: Path) -> Part:
    record = folder / "keys.json"
    if not record.is_file():
        keys = write_splits(replace(part.splits, unlabelled=None), folder)
        write_atomically(record, json.dumps(keys, indent=2))
    keys = json.loads(record.read_text(encoding="utf-8"))
    return replace(part, keys=keys)
