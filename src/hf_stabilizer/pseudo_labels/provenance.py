"""Where does this row come from? The columns that tell a label of a teacher from a true one.

    pseudo_labelled   whether teachers gave the label
    teacher           their folders, joined with " + "; empty for a true label
    confidence        of classes: how sure they were; nothing for a true label
    spread            of numbers: their standard deviation, in place of the confidence
    round             1 for teachers that learnt from true labels alone, 2 for their students, ...
    source_row        place of the row in what was read, from 0

Importing this module imports neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hf_stabilizer.data.columns import refuse_taken
from hf_stabilizer.data.writing import GROUP
from hf_stabilizer.pseudo_labels.judgement import Judgement, sharpened
from hf_stabilizer.pseudo_labels.options import LabellingOptions
from hf_stabilizer.pseudo_labels.selection import Places

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_stabilizer.data import Splits

# Any in this module: labels and cells of the user's table.
PSEUDO_LABELLED = "pseudo_labelled"
TEACHER = "teacher"
CONFIDENCE = "confidence"
SPREAD = "spread"
ROUND = "round"
SOURCE_ROW = "source_row"
PROBABILITIES = "probabilities"
COLUMNS = (PSEUDO_LABELLED, TEACHER, CONFIDENCE, SPREAD, ROUND, SOURCE_ROW, PROBABILITIES)
"""Every column that may be added."""


def check_names(columns: Sequence[str], *, with_groups: bool = False) -> None:
    """Checks that no column that is read is called as one that is added.

    Args:
        columns: Those that are read.
        with_groups: Whether the groups of the rows are written, too.

    Raises:
        DataError: One is.
    """
    added = (*COLUMNS, GROUP) if with_groups else COLUMNS
    refuse_taken(columns, added, by="pseudo-labels")


def labels_of(judged: Judgement, kept: Places, label_names: Sequence[str] | None) -> list[Any]:
    """Returns the labels of the rows in these places, as `load_splits` has them.

    Example:
        >>> import numpy as np
        >>> from hf_stabilizer.pseudo_labels.judgement import judge
        >>> judged = judge(np.array([[[2.0, 0.0], [0.0, 2.0]]]), "classes")
        >>> labels_of(judged, np.array([1]), ("fresh", "rotten"))
        ['rotten']
    """
    if judged.kind == "number":
        return [float(value) for value in judged.mean[kept, 0]]
    if judged.kind == "choices":
        return [int(place) for place in judged.predicted[kept]]
    assert label_names is not None  # classes have names
    if judged.kind == "classes":
        return [label_names[place] for place in judged.predicted[kept]]
    return [
        [name for name, is_one in zip(label_names, row, strict=True) if is_one]
        for row in judged.positive[kept]
    ]


def provenance(
    judged: Judgement, kept: Places, source: Sequence[int], *, teacher: str, round: int
) -> dict[str, list[Any]]:
    """Returns the columns of provenance of the rows in these places.

    Args:
        judged: What the teachers make of the sampled rows.
        kept: Places in them.
        source: Place of each sampled row in what was read.
        teacher: Names of the teachers.
        round: Which round it is, from 1.
    """
    sure = SPREAD if judged.kind == "number" else CONFIDENCE
    return {
        PSEUDO_LABELLED: [True] * len(kept),
        TEACHER: [teacher] * len(kept),
        sure: [float(value) for value in judged.sureness[kept]],
        ROUND: [round] * len(kept),
        SOURCE_ROW: [int(source[place]) for place in kept],
    }


def soft_column(
    judged: Judgement, kept: Places, options: LabellingOptions
) -> dict[str, list[list[float]]]:
    """Returns the column of probabilities, or none for hard labels."""
    if not options.soft:
        return {}
    rows = sharpened(judged.mean[kept], options.temperature)
    return {PROBABILITIES: [[float(value) for value in row] for row in rows]}


def joined(splits: Splits, taught: Dataset) -> Dataset:
    """Returns the training rows with their true labels, then the pseudo-labelled ones.

    With no pseudo-labelled row these are the training rows, and nothing that is learnt from
    changes: provenance stands in columns that no task reads.

    Args:
        splits: The rows of the task.
        taught: What `pseudo_label` returned.
    """
    from datasets import Dataset, concatenate_datasets

    true = splits.train
    count = len(true)
    columns: Mapping[str, list[Any]] = {
        **{name: list(true[name]) for name in true.column_names},
        PSEUDO_LABELLED: [False] * count,
        TEACHER: [""] * count,
        ROUND: [0] * count,
        SOURCE_ROW: list(range(count)),
    }
    if splits.groups is not None:
        columns = {**columns, GROUP: list(splits.groups)}
    own = Dataset.from_dict(dict(columns))
    if not len(taught):
        return own
    soft = splits.soft_label_column
    if soft is not None and PROBABILITIES in taught.column_names:
        taught = taught.rename_column(PROBABILITIES, soft)
    return concatenate_datasets([own, taught.cast(_features(own, taught))])


def _features(own: Dataset, taught: Dataset) -> Any:
    """The types of the rows that are joined on; labels and texts as the true rows have them."""
    from datasets import Features

    known = {name: own.features[name] for name in taught.column_names if name in own.features}
    return Features({**taught.features, **known})
