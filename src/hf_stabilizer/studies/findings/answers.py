"""What did each run answer on each row? Classes or numbers, out of the predictions that are kept.

outputs [rows]                                 numbers
outputs [rows, 1]                              numbers
outputs [rows, classes], labels [rows]         the class with the largest output
outputs and labels [rows, labels], 0 or 1      the labels with an output above 0
outputs [rows, tokens, classes]                the class of each token that counts
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hf_stabilizer.errors import StudyError
from hf_stabilizer.predictions import Predictions
from hf_stabilizer.records import Run
from hf_stabilizer.studies.study import Study

Array = npt.NDArray[Any]
Part = Literal["test", "validation"]
NO_LABEL = -100
"""What the Trainer labels tokens with that do not count."""


@dataclass(frozen=True)
class Answers:
    """What the runs of one recipe answered."""

    runs: tuple[Run, ...]
    """The runs, in order."""
    values: Array
    """(runs, rows), or (runs, rows, labels)."""
    labels: Array | None
    """(rows,) or (rows, labels)."""
    are_numbers: bool
    """Numbers rather than classes."""


def predictions_of(study: Study, recipe: str) -> list[tuple[Run, Predictions]]:
    """Returns the runs of a recipe that are over, with what they predicted, as far as it is kept.

    Example:
        >>> predictions_of(Study("demo", ("plain",), (), "f1", True), "plain")
        []
    """
    found = []
    for run in study.of(recipe):
        if run.status == "stopped":
            continue
        try:
            kept = study.predictions(run)
        except StudyError:  # an unreadable file costs one run here, not the whole report
            continue
        if kept is not None:
            found.append((run, kept))
    return found


def same_rows(loaded: Sequence[tuple[Run, Predictions]], part: Part) -> Answers | None:
    """Returns the answers of the runs that were asked the same rows, None for fewer than two.

    A run with other rows or labels than the most is left out, as is one whose outputs are no
    finite numbers, or of a shape that is none of those above.

    Args:
        loaded: Runs of one recipe with their predictions.
        part: "test" or "validation".

    Example:
        >>> def kept(*rows):
        ...     return Predictions(test=np.array(rows), test_labels=np.array([0, 1]))
        >>> runs = [Run("plain", {"seed": seed}, "finished") for seed in (1, 2, 3)]
        >>> said = [kept([2.0, 1.0], [0.0, 1.0]), kept([0.0, 1.0], [0.0, 1.0]),
        ...     kept([2.0, np.nan], [0.0, 1.0])]
        >>> found = same_rows(list(zip(runs, said)), "test")
        >>> len(found.runs), found.values.tolist()
        (2, [[0, 1], [1, 1]])
    """
    read = [
        (run, *one)
        for run, kept in loaded
        if (one := _one_run(getattr(kept, part), getattr(kept, f"{part}_labels")))
    ]
    if not read:
        return None
    keys = [_key(values, labels, are_numbers) for _, values, labels, are_numbers in read]
    usual, count = Counter(keys).most_common(1)[0]
    if count < 2:
        return None
    same = [one for one, key in zip(read, keys, strict=True) if key == usual]
    _, _, labels, are_numbers = same[0]
    values = np.stack([values for _, values, _, _ in same])
    return Answers(tuple(run for run, *_ in same), values, labels, are_numbers)


def _one_run(
    outputs: Array | None, labels: Array | None
) -> tuple[Array, Array | None, bool] | None:
    """(answers, labels, whether they are numbers); None for outputs that are neither."""
    if outputs is None or outputs.ndim not in (1, 2, 3) or not len(outputs):
        return None
    if not np.isfinite(outputs).all():
        return None
    if outputs.ndim == 3:  # classes of tokens
        if labels is None or labels.shape != outputs.shape[:2]:
            return None
        return np.where(labels == NO_LABEL, NO_LABEL, outputs.argmax(axis=2)), labels, False
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        flat = None if labels is None or labels.size != len(outputs) else labels.reshape(-1)
        return outputs.reshape(-1).astype(float), flat, True
    if labels is not None and labels.shape == outputs.shape:  # several labels to a row
        is_classes = bool(np.isin(labels, (0, 1)).all())
        return ((outputs > 0).astype(int), labels.astype(int), False) if is_classes else None
    return outputs.argmax(axis=1), labels, False


def _key(values: Array, labels: Array | None, are_numbers: bool) -> tuple[object, ...]:
    return values.shape, are_numbers, None if labels is None else labels.tobytes()
