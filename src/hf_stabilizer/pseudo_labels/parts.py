"""On which rows does everything run? As configured, or once for each fold.

    no folds    one part: training, validation and test rows as the configuration divides them
    K folds     K parts: the labelled rows but those of fold k; those of fold k, which judge

With folds all labelled rows but the test rows are folded, as `cross_validate` does it; the rows of
a fold score the last weights, and choose none. The test rows are let be.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_stabilizer.data import Splits, load_splits, write_splits
from hf_stabilizer.folds.files import parts_of
from hf_stabilizer.folds.planning import FoldPlan, plan_folds
from hf_stabilizer.pseudo_labels.question import Question
from hf_stabilizer.records import write_atomically

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

logger = logging.getLogger(__name__)

# Any in this module: values of configuration keys.
LAST_WEIGHTS: Mapping[str, Any] = {"save_strategy": "no", "load_best_model_at_end": False}
"""Lets no row choose between weights."""


@dataclass(frozen=True)
class Part:
    """Rows that learn and rows that judge them."""

    name: str
    """"" without folds, else fold1, fold2, ..."""
    splits: Splits
    """The rows."""
    keys: dict[str, Any]
    """Configuration keys that read them back once they are written, and those of every run."""
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
    if question.folds is None:
        splits = load_splits(configuration.data, task=configuration.model.task)
        _tell(splits.notes)
        return [Part("", splits, {})]
    plan = plan_folds(question.given, folds=question.folds)
    _tell((*plan.cautions, *plan.notes))
    return [_fold(plan, fold) for fold in range(len(plan.names))]


def _tell(notes: Sequence[str]) -> None:
    for note in notes:
        logger.info(note)


def _fold(plan: FoldPlan, fold: int) -> Part:
    outside, _, inside = parts_of(plan, fold)
    pool, rows, groups = plan.pool, plan.pool.splits.train, plan.pool.groups
    splits = replace(
        pool.splits,
        train=rows.select(outside),
        validation=rows.select(inside),
        test=None,
        groups=None if groups is None else tuple(str(groups[row]) for row in outside),
    )
    looks = plan.configuration.values.get("evaluations_per_epoch") or 1
    keys = {**LAST_WEIGHTS, "evaluations_per_epoch": looks}
    return Part(plan.names[fold], splits, keys, pool.splits.test)


def fingerprint(parts: Sequence[Part], unlabelled: pd.DataFrame) -> str:
    """Returns a short text that other rows, or the same in another order, do not have.

    What was written of the rows is read by some stages and not by others, so that a procedure that
    went on with changed files would hold students against a control on other rows.
    """
    rows = [[its.to_dict() for its in (part.splits.train, *part.held_out)] for part in parts]
    said = [rows, [part.splits.groups for part in parts], unlabelled.to_dict("list")]
    return hashlib.sha256(json.dumps(said, default=str).encode()).hexdigest()[:16]


def written(part: Part, folder: Path) -> Part:
    """Writes the rows of a part where they are not, and returns it with the keys to them."""
    record = folder / "keys.json"
    if not record.is_file():
        keys = write_splits(replace(part.splits, unlabelled=None), folder)
        write_atomically(record, json.dumps(keys, indent=2))
    keys = json.loads(record.read_text(encoding="utf-8"))
    return replace(part, keys={**part.keys, **keys})
