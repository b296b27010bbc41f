"""Which unlabelled rows are kept, with which label, and how many were not?

    unlabelled --share--> sampled --teachers--> judged --options--> selected --sieve--> Dataset

Which rows are selected does not depend on the held-out rows; their near duplicates are taken out
afterwards, and nothing takes their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hf_stabilizer.data.near_duplicates import normalized
from hf_stabilizer.errors import DataError
from hf_stabilizer.prediction import columns_of
from hf_stabilizer.pseudo_labels.held_out import Guarded, Rows, Sieved, several, sieve, texts_of
from hf_stabilizer.pseudo_labels.judgement import Judgement, judge
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
from hf_stabilizer.pseudo_labels.teachers import (
    Learnt,
    Teachers,
    guarded_by,
    refuse_seen,
    tell_of_near,
    what_was_learnt,
)

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

    @property
    def absent(self) -> list[str]:
        """Classes that no kept row has."""
        return [name for name, count in self.classes.items() if not count]

    def recorded(self) -> dict[str, Any]:
        """Returns the numbers as a record may hold them."""
        return {
            "unlabelled": self.unlabelled,
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
        return (
            f"{len(self.rows)} of {self.sampled} unlabelled rows{of} are pseudo-labelled"
            f"{f' ({shares})' if shares else ''}; {self.selected} were selected, "
            f"{self.sieved.near_held_out} of them left out as near duplicates of held-out rows, "
            f"{self.sieved.labelled} as their true label is known"
        )


def label_rows(
    teachers: Teachers,
    unlabelled: pd.DataFrame,
    options: LabellingOptions,
    *,
    sampling_rate: float = 1.0,
    held_out: Rows | Sequence[Rows] | None = None,
    labelled: Rows | Sequence[Rows] | None = None,
    round: int = 1,
    text_columns: Sequence[str] | None = None,
    choice_columns: Sequence[str] | None = None,
    label_column: str | None = None,
) -> Labelling:
    """Does what `pseudo_label` says, and tells how the rows came to be these."""
    options.check(teachers.kind, teachers=len(teachers.members), label_names=teachers.label_names)
    columns = columns_of(teachers.members[0], unlabelled, text_columns, choice_columns)
    names = (*columns.texts, *columns.choices)
    label = label_column or _label_column(teachers)
    check_names([*names, label])
    guarded = _guarded(teachers, names, held_out, labelled, options.similarity)
    source = sampled_rows(len(unlabelled), sampling_rate, seed=options.seed)
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
        sampled=len(source),
        selected=len(selected),
        sieved=sieved,
        sureness=distribution(judged.sureness),
        classes=_count(labels, judged, teachers.label_names),
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
    """Returns the texts to guard; refuses teachers that learnt rows which judge."""
    true = [text for rows in several(labelled) for text in texts_of(rows, columns)]
    if held_out is not None and not len(several(held_out)):
        return Guarded((), tuple(true))
    learnt = what_was_learnt(teachers)
    if held_out is None:
        guarded = guarded_by(learnt)
        refuse_seen(teachers, learnt, guarded.held_out, [*true, *_in_both(learnt)])
        return Guarded(guarded.held_out, tuple(true) or guarded.labelled)
    judging = [text for rows in several(held_out) for text in texts_of(rows, columns)]
    refuse_seen(teachers, learnt, judging, true)
    tell_of_near(teachers, learnt, judging, true, similarity=similarity)
    return Guarded(tuple(judging), tuple(true))


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
