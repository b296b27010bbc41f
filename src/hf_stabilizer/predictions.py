"""What did a run predict, row by row? The file beside its record from which seeds are compared.

    RUN/predictions.npz     validation, test                  what the model put out, float32
                            validation_labels, test_labels    what was right

Scores alone do not tell whether two runs err on the same rows, and a mean of several models needs
their outputs. Imports no torch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from hf_stabilizer.errors import StudyError

FILE = "predictions.npz"
LARGEST = 64 * 2**20
"""Outputs that take more bytes than this are not kept: language models score a whole vocabulary."""


@dataclass(frozen=True)
class Predictions:
    """Outputs of one run, in the order of the rows that all runs of its study share.

    The weights are those that validation chose, or the last ones where nothing was chosen.
    """

    validation: npt.NDArray[Any] | None = None
    """Outputs on the validation rows: [rows, classes] logits, or [rows, 1] numbers."""
    test: npt.NDArray[Any] | None = None
    """The same on the test rows; None if there are none."""
    validation_labels: npt.NDArray[Any] | None = None
    """[rows] class ids or numbers, [rows, classes] for several labels each."""
    test_labels: npt.NDArray[Any] | None = None
    """The same for the test rows."""

    def with_part(self, part: str, outputs: object, labels: object) -> Predictions:
        """Returns these with the outputs of "validation" or "test" set.

        Args:
            part: "validation" or "test".
            outputs: What the Trainer predicted; the first array of a tuple counts.
            labels: Its labels, or None.
        """
        found, right = _array(outputs), _array(labels)
        return replace(
            self, **{part: found, f"{part}_labels": right if found is not None else None}
        )


def write_predictions(predictions: Predictions, run_folder: Path) -> None:
    """Writes the file whole or not at all; nothing if there is nothing to write.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> outputs, labels = np.array([[0.5, 2.0]]), np.array([1])
        >>> write_predictions(Predictions().with_part("test", outputs, labels), folder)
        >>> read_predictions(folder).test
        array([[0.5, 2. ]], dtype=float32)
    """
    arrays = {name: value for name, value in vars(predictions).items() if value is not None}
    if not arrays:
        return
    path = run_folder / FILE
    temporary = path.with_name(f".{FILE}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    temporary.replace(path)


def read_predictions(run_folder: Path) -> Predictions | None:
    """Returns what `write_predictions` wrote, None if there is no such file.

    Raises:
        StudyError: The file cannot be read.
    """
    path = run_folder / FILE
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            known = {n: arrays[n] for n in arrays.files if n in Predictions.__dataclass_fields__}
    except (OSError, ValueError, BadZipFile) as error:
        raise StudyError(
            f"{str(path)!r} cannot be read ({error}); remove it, or repeat that run"
        ) from error
    return Predictions(**known)


def _array(values: object) -> npt.NDArray[Any] | None:
    first = values[0] if isinstance(values, tuple) and values else values
    array = None if first is None else np.asarray(first)
    if array is None or array.ndim == 0 or array.dtype == object or array.nbytes > LARGEST:
        return None
    return array.astype(np.float32) if array.dtype.kind == "f" else array
