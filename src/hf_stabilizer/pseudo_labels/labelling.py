"""What labels do teachers give to unlabelled rows? The door for people's own scripts.

pseudo_label(teachers, unlabelled, threshold=0.95) -> Dataset
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pandas as pd

from hf_stabilizer.data.frames import frame_of
from hf_stabilizer.data.reading import read_file
from hf_stabilizer.errors import DataError
from hf_stabilizer.pseudo_labels.held_out import Rows
from hf_stabilizer.pseudo_labels.labelled_rows import label_rows, refuse_one_sided
from hf_stabilizer.pseudo_labels.options import (
    THRESHOLD,
    LabellingOptions,
    Threshold,
    check_rate,
)
from hf_stabilizer.pseudo_labels.teachers import read_teachers

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

Unlabelled: TypeAlias = "Rows | str | Path | None"


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
    `run_pseudo_labels` does. Where the teachers' runs have a `group_column`, unlabelled rows of the
    groups of those rows are left out, too, before anything is drawn; both tables need the column,
    and a warning says where one has not.

    A text that stands in several unlabelled rows, once normalised (`near_duplicates`), is labelled
    once, in the first of them.

    Args:
        teachers: Folders of runs (or of models, or checkpoints), one or more.
        unlabelled: The rows: a `Dataset`, a `DataFrame`, or the location of a file. Labels in them
            are not read.
        threshold: Least confidence, in (0, 1]; a mapping from each class to its own; None: none.
        sampling_rate: Share of the unlabelled rows that is used, in (0, 1], drawn with `seed`
            from those that may be; a larger share contains a smaller one.
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
        allow_missing_classes: Go on, with a warning, where a class is never predicted, or no row of
            it is kept.
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
            predicted or kept, or nothing is kept; the message has the distribution of confidences.

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
    refuse_one_sided(found, options)
    logger.info(str(found))
    for caution in found.cautions:
        logger.warning(caution)
    if found.absent:
        logger.warning(
            f"no pseudo-labelled row has the class {', '.join(map(repr, found.absent))}, which "
            "pulls students towards the others; top_k keeps the surest rows of every class"
        )
    return found.rows


def read_unlabelled(unlabelled: Unlabelled) -> pd.DataFrame:
    """Returns the unlabelled rows as a table.

    Raises:
        DataError: There are none, or it is no table.
    """
    if unlabelled is None:
        raise DataError(
            "there is no unlabelled text: unlabelled_file is missing; name a file with the text "
            "columns of the task"
        )
    if isinstance(unlabelled, str | Path):
        frame = read_file(str(unlabelled), key="unlabelled_file").frame
    else:
        frame = frame_of(unlabelled, name="unlabelled")
    if not len(frame):
        raise DataError("there is no unlabelled text: unlabelled_file holds no rows")
    return frame.reset_index(drop=True)
