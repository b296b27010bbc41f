"""Which whole texts are right for the rows that were evaluated? Found by their labels.

    labels of the evaluated rows, cut at max_target_length --> the targets as the file has them

Labels that are read back as texts end where they were cut: a model that stops there would be scored
as if it had said all. The Trainer hands a metric the labels but not the rows, so the rows are
known by them: the evaluated ones are those of the part whose labels are the same, one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hf_stabilizer.tasks.encoders import NO_LABEL

if TYPE_CHECKING:
    from hf_stabilizer.tasks.prepared import PreparedTask

# Any in this module: integers of whatever width.
logger = logging.getLogger(__name__)


def whole_targets(prepared: PreparedTask, labels: npt.NDArray[Any]) -> Sequence[str] | None:
    """Returns the text that each evaluated row is to become, uncut.

    Args:
        prepared: The task with its rows.
        labels: Ids of the evaluated rows, padded with -100, and behind that with the token that
            pads texts, as the Seq2SeqTrainer does. Shape (rows, tokens).

    Returns:
        One text per row; None if the task writes no texts, and, with a warning, if these are
        neither the validation nor the test rows.

    Example:
        >>> from types import SimpleNamespace as Task
        >>> rows = {"labels": [[5, 6, 3], [7, 3]]}
        >>> task = Task(validation=rows, validation_targets=("a b c", "d"), test=None,
        ...             test_targets=None, tokenizer=Task(pad_token_id=0))
        >>> whole_targets(task, np.array([[5, 6, 3], [7, 3, -100]]))
        ['a b c', 'd']
    """
    parts = (
        (prepared.validation, prepared.validation_targets),
        (prepared.test, prepared.test_targets),
    )
    if all(targets is None for _, targets in parts):
        return None
    pad = prepared.tokenizer.pad_token_id
    for rows, targets in parts:
        if rows is not None and targets is not None and _are(labels, rows["labels"], pad):
            return [targets[place % len(targets)] for place in range(len(labels))]
    logger.warning(
        "the %d rows that were evaluated are neither the validation nor the test rows, so texts "
        "are scored against their labels, which end where max_target_length cut them",
        len(labels),
    )
    return None


def _are(labels: npt.NDArray[Any], rows: Sequence[Sequence[int]], pad: int) -> bool:
    # Of several processes each has as many rows: the Seq2SeqTrainer (transformers 5.23) leaves
    # those in that were repeated from the beginning to make it so.
    return len(labels) >= len(rows) > 0 and all(
        _is(found[found != NO_LABEL], rows[place % len(rows)], pad)
        for place, found in enumerate(labels)
    )


def _is(found: npt.NDArray[Any], row: Sequence[int], pad: int) -> bool:
    return np.array_equal(found[: len(row)], row) and bool(np.all(found[len(row) :] == pad))
