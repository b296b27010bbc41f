"""What labels do teachers give to unlabelled rows, and which of them are kept?

    unlabelled --share--> sampled --teachers--> judged --options--> selected --sieve--> Dataset

Which rows are selected does not depend on the held-out rows; their near duplicates are taken out
afterwards, and nothing takes their place.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import pandas as pd

from hf_stabilizer.data.reading import read_file
from hf_stabilizer.errors import DataError
from hf_stabilizer.prediction import columns_of
from hf_stabilizer.pseudo_labels.held_out import Guarded, Rows, Sieved, several, sieve, texts_of
from hf_stabilizer.pseudo_labels.judgement import Judgement, judge
from hf_stabilizer.pseudo_labels.options import (
    THRESHOLD,
    LabellingOptions,
    Threshold,
    check_rate,
)
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
    read_teachers,
    refuse_seen,
    what_was_learnt,
)

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

# Any in this module: cells of the user's table.
Unlabelled: TypeAlias = "Rows | str | Path | None"


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


def pseudo_label(
    teachers: str | Path | Sequence[str | Path],
    unlabelled: Unlabelled,
    *,
    threshold: Threshold = THRESHOLD,
    sampling_rate: float = 1.0,
    top_k: int | None = None,
    agreement: bool = False,
    max_spread: float | None = None,
    soft: bool = False,
    temperature: float = 1.0,
    held_out: Rows | Sequence[Rows] | None = None,
    labelled: Rows | Sequence[Rows] | None = None,
    similarity: float = 0.8,
    allow_missing_classes: bool = False,
    round: int = 1,
    seed: int = 0,
    batch_size: int = 32,
    text_columns: Sequence[str] | None = None,
    label_column: str | None = None,
) -> Dataset:
    """Labels unlabelled rows by what trained models think of them, where they are sure enough.

    The teachers' probabilities are averaged, P = mean of softmax(outputs), and a row is given its
    likeliest class where max P >= `threshold`. Rows with any number of classes: P by sigmoid, and
    every label must be sure, min over labels of max(P, 1 - P) >= `threshold`. Numbers: the mean,
    where the standard deviation of the teachers is at most `max_spread`. All rules that are given
    are in force; `top_k` or `agreement` alone take the place of the default threshold.

    To score students fairly, no teacher may have learnt a row that they are scored on, and no
    pseudo-labelled row may be like one. With `held_out` those rows are named; without it they are
    the validation and test rows of the teachers' own configurations. With folds call this once for
    each fold, with teachers that learnt its training rows and `held_out` its validation rows, as
    `run_pseudo_labels` does.

    Args:
        teachers: Folders of runs (or of models, or checkpoints), one or more.
        unlabelled: The rows: a `Dataset`, a `DataFrame`, or the location of a file. Labels in them
            are not read.
        threshold: Least confidence, in (0, 1]; a mapping from each class to its own; None: none.
        sampling_rate: Share of the unlabelled rows that is used, in (0, 1], drawn with `seed`; a
            larger share contains a smaller one.
        top_k: At most so many rows of each predicted class, the surest; of numbers and choices in
            all.
        agreement: Keep only rows on which all teachers agree; needs two.
        max_spread: Numbers only: largest standard deviation of the teachers, in units of the label.
        soft: Give probabilities, too, in the column `probabilities`: set `soft_label_column` to it.
        temperature: T > 0: soft labels are P^(1/T) made to sum to 1; below 1 they are sharper.
        held_out: Rows that students are scored on, as one table or several; an empty list: none.
        labelled: Rows that students learn with true labels; a pseudo-label of such a text is left
            out. None: the teachers' training rows, if `held_out` is None, too.
        similarity: A row this similar to a held-out row, or more, is kept out (`near_duplicates`).
        allow_missing_classes: Go on, with a warning, where a class is never predicted.
        round: What the column `round` says; 2 for teachers that are students themselves.
        seed: Seed of the share.
        batch_size: Rows per forward pass.
        text_columns: The column of the text, or two; None: as the first teacher's run has it.
        label_column: Name of the column of labels; None: as the first teacher's run names
            it, else "label".

    Returns:
        The kept rows in their order: texts, label, and the columns of provenance
        `pseudo_labelled`, `teacher`, `confidence` (numbers: `spread`), `round`, `source_row`.

    Raises:
        ConfigurationError: An option cannot be right, or the teachers differ in task or classes.
        DataError: There is no unlabelled row, a teacher learnt held-out rows, a class is never
            predicted, or nothing is kept; the message has the distribution of confidences.

    Cannot be combined with tasks whose rows have no one answer: token-classification, causal-lm,
    masked-lm, seq2seq. Soft labels need one class per row.

    Example:
        >>> pseudo_label([], "reviews.csv")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: teachers is empty; name one trained model or more

    Source: Lee 2013, "Pseudo-Label"; the threshold of 0.95 is that of FixMatch (Sohn et al. 2020,
    arXiv:2001.07685). Rules beyond the threshold, and what is kept out, are ours.
    """
    options = LabellingOptions(
        threshold=threshold,
        top_k=top_k,
        agreement=agreement,
        max_spread=max_spread,
        soft=soft,
        temperature=temperature,
        similarity=similarity,
        allow_missing_classes=allow_missing_classes,
        seed=seed,
        batch_size=batch_size,
    )
    found = label_rows(
        read_teachers(teachers),
        read_unlabelled(unlabelled),
        options,
        sampling_rate=check_rate(sampling_rate),
        held_out=held_out,
        labelled=labelled,
        round=round,
        text_columns=text_columns,
        label_column=label_column,
    )
    logger.info(str(found))
    return found.rows


def read_unlabelled(unlabelled: Unlabelled) -> pd.DataFrame:
    """Returns the unlabelled rows as a table.

    Raises:
        DataError: There are none.
    """
    if unlabelled is None:
        raise DataError(
            "there is no unlabelled text: unlabelled_file is missing; name a file with the text "
            "columns of the task"
        )
    if isinstance(unlabelled, str | Path):
        frame = read_file(str(unlabelled), key="unlabelled_file").frame
    elif isinstance(unlabelled, pd.DataFrame):
        frame = unlabelled
    else:
        frame = cast(pd.DataFrame, unlabelled.to_pandas())
    if not len(frame):
        raise DataError("there is no unlabelled text: unlabelled_file holds no rows")
    return frame.reset_index(drop=True)


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
    guarded = _guarded(teachers, names, held_out, labelled)
    source = sampled_rows(len(unlabelled), sampling_rate, seed=options.seed)
    rows = unlabelled.iloc[source].reset_index(drop=True)
    outputs = teachers.outputs(rows, columns, batch_size=options.batch_size)
    judged = judge(outputs, teachers.kind)
    refuse_missing(judged, options, teachers.label_names)
    selected = select(judged, options, teachers.label_names)
    refuse_none(judged, selected, options)
    texts = texts_of(rows.iloc[selected], names)
    sieved = sieve(texts, guarded, similarity=options.similarity)
    kept: Places = selected[np.array(sieved.places, dtype=np.int64)]
    if not len(kept):
        raise DataError(
            f"all {len(selected)} selected rows are left out: {sieved.near_held_out} are near "
            f"duplicates of held-out rows, and of {sieved.labelled} the true label is known; give "
            "other unlabelled rows"
        )
    labels = labels_of(judged, kept, teachers.label_names)
    told = provenance(judged, kept, source, teacher=" + ".join(teachers.names), round=round)
    table = {
        **{name: rows[name].iloc[kept].astype(str).tolist() for name in names},
        label: labels,
        **soft_column(judged, kept, options),
        **told,
    }
    classes = _count(labels, judged, teachers.label_names)
    if absent := [name for name, count in classes.items() if not count]:
        logger.warning(
            f"no pseudo-labelled row has the class {', '.join(map(repr, absent))}, so students see "
            "it relatively less often; top_k keeps the surest rows of every class"
        )
    return Labelling(
        rows=_dataset(table),
        unlabelled=len(unlabelled),
        sampled=len(source),
        selected=len(selected),
        sieved=sieved,
        sureness=distribution(judged.sureness),
        classes=classes,
    )


def _guarded(
    teachers: Teachers,
    columns: Sequence[str],
    held_out: Rows | Sequence[Rows] | None,
    labelled: Rows | Sequence[Rows] | None,
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
    return Guarded(tuple(judging), tuple(true))


def _in_both(learnt: Sequence[Learnt | None]) -> list[str]:
    """Texts that stand on both sides of one teacher's own wall, which tell nothing."""
    from hf_stabilizer.data.near_duplicates import normalized

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
