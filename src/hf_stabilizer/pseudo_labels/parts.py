"""On which rows does everything run? As configured, or once for each fold.

    no folds    one part: training, validation and test rows as the configuration divides them
    K folds     K parts: the labelled rows but those of fold k; those of fold k, which judge

With folds all labelled rows but the test rows are folded, as `cross_validate` does it; the rows of
a fold score the last weights, and choose none. The test rows are let be.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hf_stabilizer.data import Splits, load_splits, write_splits
from hf_stabilizer.data.row_marks import mark_of_rows
from hf_stabilizer.folds.files import parts_of
from hf_stabilizer.folds.planning import FoldPlan, plan_folds
from hf_stabilizer.pseudo_labels.groups import HeldOutGroups
from hf_stabilizer.pseudo_labels.held_out import Rows
from hf_stabilizer.pseudo_labels.question import Question
from hf_stabilizer.pseudo_labels.usable import Usable, usable_rows
from hf_stabilizer.records import write_atomically

if TYPE_CHECKING:
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
    groups: HeldOutGroups | None = None
    """Groups of the rows that judge: no row of them may be pseudo-labelled; None where rows have
    none."""

    @property
    def held_out(self) -> list[Dataset]:
        """The rows that judge: nothing like them may be pseudo-labelled."""
        rows = (self.splits.validation, self.splits.test, self.test)
        return [some for some in rows if some is not None]

    def usable(self, unlabelled: pd.DataFrame) -> Usable:
        """Returns which unlabelled rows may be labelled for its students."""
        columns = (*self.splits.text_columns, *self.splits.choice_columns)
        return usable_rows(unlabelled, columns, self.groups)

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
        column = configuration.data.group_column
        keep = () if column is None else (column,)
        splits = load_splits(configuration.data, task=configuration.model.task, keep=keep)
        _tell(splits.notes)
        judging = [rows for rows in (splits.validation, splits.test) if rows is not None]
        groups = None if column is None else HeldOutGroups.of(column, judging)
        return [Part("", _bare(splits), {}, groups=groups)]
    plan = plan_folds(question.given, folds=question.folds)
    _tell((*plan.cautions, *plan.notes))
    return [_fold(plan, fold) for fold in range(len(plan.names))]


def _bare(splits: Splits) -> Splits:
    """Returns the same with texts, choices and labels alone, but for the unlabelled rows."""
    read = (*splits.text_columns, *splits.choice_columns, splits.label_column)
    named = [*read, splits.soft_label_column]

    def only_named(rows: Dataset) -> Dataset:
        return rows.select_columns([name for name in named if name in rows.column_names])

    return replace(
        splits,
        train=only_named(splits.train),
        validation=only_named(splits.validation),
        test=None if splits.test is None else only_named(splits.test),
    )


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
    return Part(plan.names[fold], splits, keys, pool.splits.test, _groups_of(plan, inside))


def _groups_of(plan: FoldPlan, inside: Sequence[int]) -> HeldOutGroups | None:
    column, groups = plan.configuration.data.group_column, plan.pool.groups
    if column is None or groups is None:
        return None
    judging: list[Rows] = [pd.DataFrame({column: [groups[row] for row in inside]})]
    if plan.pool.splits.test is not None:
        judging.append(plan.pool.splits.test)
    return HeldOutGroups.of(column, judging)


def fingerprint(parts: Sequence[Part], unlabelled: pd.DataFrame) -> str:
    """Returns a short text that other rows, or the same in another order, do not have.

    What was written of the rows is read by some stages and not by others, so that a procedure that
    went on with changed files would hold students against a control on other rows.
    """
    tables: list[Rows] = [unlabelled]
    for part in parts:
        judging = () if part.groups is None else sorted(part.groups.names)
        groups = [pd.DataFrame({"group": its}) for its in (part.splits.groups or (), judging)]
        tables += [part.splits.train, *part.held_out, *groups]
    return mark_of_rows(*tables)


def cautions_of(parts: Sequence[Part], unlabelled: pd.DataFrame) -> list[str]:
    """Returns why rows of groups that judge may be pseudo-labelled, each sentence once."""
    found = [part.groups.cautions(unlabelled) for part in parts if part.groups is not None]
    return list(dict.fromkeys(caution for each in found for caution in each))


def written(part: Part, folder: Path) -> Part:
    """Writes the rows of a part where they are not, and returns it with the keys to them."""
    record = folder / "keys.json"
    if not record.is_file():
        keys = write_splits(replace(part.splits, unlabelled=None), folder)
        write_atomically(record, json.dumps(keys, indent=2))
    keys = json.loads(record.read_text(encoding="utf-8"))
    return replace(part, keys={**part.keys, **keys})
