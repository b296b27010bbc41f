"""Which unlabelled rows are kept, with which label, and how many were not?

    unlabelled --usable--> --share--> sampled --teachers--> judged --options--> selected
                                                                  --sieve--> Dataset

Rows of groups that judge, and texts that stood before, are left out first. Beyond that, which rows
are selected does not depend on the held-out rows; their near duplicates are taken out afterwards,
and nothing takes their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hf_stabilizer.data.near_duplicates import normalized
from hf_stabilizer.errors import DataError
from hf_stabilizer.prediction import columns_of
from hf_stabilizer.pseudo_labels.groups import HeldOutGroups
from hf_stabilizer.pseudo_labels.held_out import Guarded, Rows, Sieved, several, sieve, texts_of
from hf_stabilizer.pseudo_labels.judgement import Judgement, judge
from hf_stabilizer.pseudo_labels.learnt import (
    Learnt,
    group_column_of,
    guarded_by,
    refuse_seen,
    tell_of_near,
    what_was_learnt,
)
from hf_stabilizer.pseudo_labels.options import LabellingOptions
from hf_stabilizer.pseudo_labels.provenance import (
    check_names,
    labels_of,
    provenance,
    soft_column,
)
from hf_stabilizer.pseudo_labels.selection import (
    Places,
    distribution,
    refuse_missing,
    refuse_none,
    sampled_rows,
    select,
)
from hf_stabilizer.pseudo_labels.teachers import Teachers
from hf_stabilizer.pseudo_labels.usable import Usable, usable_rows

if TYPE_CHECKING:
    from datasets import Dataset

# Any in this module: cells of the user's table.


@dataclass(frozen=True)
class Labelling:
    """Pseudo-labelled rows, and how they came to be these."""

    rows: Dataset
    """The rows that are kept."""
    unlabelled: int
    """Rows that were read."""
    usable: Usable
    """Which of them may be labelled, and how many may not."""
    sampled: int
    """Rows that the teachers judged."""
    selected: int
    """Rows that the options kept."""
    sieved: Sieved
    """What was taken out of these."""
    sureness: str
    """The distribution of confidences, or of spreads, in words."""
    classes: dict[str, int] = field(default_factory=dict)
    """Rows kept of each class."""
    cautions: tuple[str, ...] = ()
    """Why rows of groups that judge may be among them all the same, a sentence each."""

    @property
    def absent(self) -> list[str]:
        """Classes that no kept row has."""
        return [name for name, count in self.classes.items() if not count]

    def recorded(self) -> dict[str, Any]:
        """Returns the numbers as a record may hold them."""
        return {
            "unlabelled": self.unlabelled,
            "of_held_out_groups": self.usable.of_groups,
            "repeated": self.usable.repeated,
            "sampled": self.sampled,
            "selected": self.selected,
            "near_held_out": self.sieved.near_held_out,
            "labelled_already": self.sieved.labelled,
            "kept": len(self.rows),
            "sureness": self.sureness,
            "classes": self.classes,
        }

    def __str__(self) -> str:
        """Says in one sentence how many rows were kept, and why not the others."""
        of = "" if self.sampled == self.unlabelled else f" (of {self.unlabelled})"
        shares = ", ".join(f"{name} {count}" for name, count in self.classes.items())
        before = str(self.usable)
        return (
            f"{len(self.rows)} of {self.sampled} unlabelled rows{of} are pseudo-labelled"
            f"{f' ({shares})' if shares else ''}; {self.selected} were selected, "
            f"{self.sieved.near_held_out} of them left out as near duplicates of held-out rows, "
            f"{self.sieved.labelled} as their true label is known"
            f"{f'; before that, {before}' if before else ''}"
        )


def label_rows(
    teachers: Teachers,
    unlabelled: pd.DataFrame,
    options: LabellingOptions,
    *,
    sampling_rate: float = 1.0,
    held_out: Rows | Sequence[Rows] | None = None,
    labelled: Rows | Sequence[Rows] | None = None,
    groups: HeldOutGroups | None = None,
    round: int = 1,
    text_columns: Sequence[str] | None = None,
    choice_columns: Sequence[str] | None = None,
    label_column: str | None = None,
) -> Labelling:
    """Does what `pseudo_label` says, and tells how the rows came to be these.

    Args:
        teachers: Who is asked.
        unlabelled: The rows.
        options: Which rows are kept, and how they are labelled.
        sampling_rate: As in `pseudo_label`; so are those that are not named here.
        held_out: Likewise.
        labelled: Likewise.
        groups: Groups of the rows that judge; None: those of `held_out`, by the column that the
            teachers' runs name.
        round: Likewise.
        text_columns: Likewise.
        choice_columns: The columns of the choices, of a row that has any.
        label_column: Likewise.
    """
    options.check(teachers.kind, teachers=len(teachers.members), label_names=teachers.label_names)
    columns = columns_of(teachers.members[0], unlabelled, text_columns, choice_columns)
    names = (*columns.texts, *columns.choices)
    label = label_column or _label_column(teachers)
    check_names([*names, label])
    guarded = _guarded(teachers, names, held_out, labelled, options.similarity)
    groups = groups or guarded.groups
    usable = usable_rows(unlabelled, names, groups)
    drawn = sampled_rows(len(usable.places), sampling_rate, seed=options.seed)
    source = [usable.places[place] for place in drawn]
    rows = unlabelled.iloc[source].reset_index(drop=True)
    judged = judge(teachers.outputs(rows, columns, batch_size=options.batch_size), teachers.kind)
    selected = _selected(judged, options, teachers)
    sieved = sieve(texts_of(rows.iloc[selected], names), guarded, similarity=options.similarity)
    kept = _left(selected, sieved)
    labels = labels_of(judged, kept, teachers.label_names)
    table = {
        **{name: rows[name].iloc[kept].astype(str).tolist() for name in names},
        label: labels,
        **soft_column(judged, kept, options),
        **provenance(judged, kept, source, teacher=" + ".join(teachers.names), round=round),
    }
    return Labelling(
        rows=_dataset(table),
        unlabelled=len(unlabelled),
        usable=usable,
        sampled=len(source),
        selected=len(selected),
        sieved=sieved,
        sureness=distribution(judged.sureness),
        classes=_count(labels, judged, teachers.label_names),
        cautions=() if groups is None else tuple(groups.cautions(unlabelled)),
    )


def refuse_one_sided(found: Labelling, options: LabellingOptions) -> None:
    """Checks that students would be shown every class.

    Raises:
        DataError: No kept row has one of the classes, and that is not allowed.
    """
    if found.absent and not options.allow_missing_classes:
        raise DataError(
            f"no pseudo-labelled row has the class {', '.join(map(repr, found.absent))} (kept: "
            f"{', '.join(f'{name} {count}' for name, count in found.classes.items())}), which "
            "would pull students towards the others; set top_k, which keeps the surest rows of "
            "every class, lower the threshold, or set allow_missing_classes"
        )


def _selected(judged: Judgement, options: LabellingOptions, teachers: Teachers) -> Places:
    refuse_missing(judged, options, teachers.label_names)
    selected = select(judged, options, teachers.label_names)
    refuse_none(judged, selected, options)
    return selected


def _left(selected: Places, sieved: Sieved) -> Places:
    """Places of the selected rows that are left.

    Raises:
        DataError: None is.
    """
    if not sieved.places:
        raise DataError(
            f"all {len(selected)} selected rows are left out: {sieved.near_held_out} are near "
            f"duplicates of held-out rows, and of {sieved.labelled} the true label is known; give "
            "other unlabelled rows"
        )
    kept: Places = selected[np.array(sieved.places, dtype=np.int64)]
    return kept


def _guarded(
    teachers: Teachers,
    columns: Sequence[str],
    held_out: Rows | Sequence[Rows] | None,
    labelled: Rows | Sequence[Rows] | None,
    similarity: float,
) -> Guarded:
    """Returns what to guard; refuses teachers that learnt rows which judge."""
    true = [text for rows in several(labelled) for text in texts_of(rows, columns)]
    if held_out is not None and not len(several(held_out)):
        return Guarded((), tuple(true))
    learnt = what_was_learnt(teachers)
    if held_out is None:
        guarded = guarded_by(learnt)
        refuse_seen(teachers, learnt, guarded.held_out, [*true, *_in_both(learnt)])
        return replace(guarded, labelled=tuple(true) or guarded.labelled)
    judging = [text for rows in several(held_out) for text in texts_of(rows, columns)]
    refuse_seen(teachers, learnt, judging, true)
    tell_of_near(teachers, learnt, judging, true, similarity=similarity)
    column = group_column_of(learnt)
    groups = None if column is None else HeldOutGroups.of(column, several(held_out))
    return Guarded(tuple(judging), tuple(true), groups)


def _in_both(learnt: Sequence[Learnt | None]) -> list[str]:
    """Texts that stand on both sides of one teacher's own wall, which tell nothing."""
    known = [its for its in learnt if its is not None]
    return [text for its in known for text in its.held_out if normalized(text) in its.train]


def _label_column(teachers: Teachers) -> str:
    """The column of the labels is called as the first run has it, else "label"."""
    run = teachers.members[0].configuration
    named = None if run is None else run.values.get("label_column")
    return str(named or "label")


def _dataset(table: dict[str, list[Any]]) -> Dataset:
    from datasets import Dataset

    return Dataset.from_dict(table)


def _count(
    labels: list[Any], judged: Judgement, label_names: Sequence[str] | None
) -> dict[str, int]:
    if label_names is None:
        return {}
    if judged.kind == "labels":
        labels = [name for row in labels for name in row]
    return {name: labels.count(name) for name in label_names}
