"""Are these numbers that can be reckoned with? The checks at the doors of the statistics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hf_stabilizer.errors import ConfigurationError, DataError

Floats = npt.NDArray[np.float64]


def finite_scores(scores: Sequence[float] | Floats, *, name: str) -> Floats:
    """Returns scores as an array in one dimension.

    Raises:
        DataError: There is another number of dimensions, or a score is no finite number.

    Example:
        >>> finite_scores([0.5, float("nan")], name="scores")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.DataError: scores must be finite numbers, got nan at place 1; a run
        without a score cannot be averaged, so leave it out and count it
    """
    values = np.asarray(scores, dtype=float)
    if values.ndim != 1:
        raise DataError(f"{name} must be one row of numbers, got an array of shape {values.shape}")
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise DataError(
            f"{name} must be finite numbers, got {float(values[bad[0]])!r} at place {bad[0]}; a "
            "run without a score cannot be averaged, so leave it out and count it"
        )
    return values


def check_share(value: float, *, name: str, upto_one: bool = False) -> None:
    """Raises ConfigurationError unless `value` lies in (0, 1), or in (0, 1].

    Example:
        >>> check_share(1.5, name="stop_at", upto_one=True)
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: stop_at must be in (0, 1], got 1.5
    """
    if not (0 < value < 1 or (upto_one and value == 1)):
        raise ConfigurationError(
            f"{name} must be in (0, 1{']' if upto_one else ')'}, got {value!r}"
        )


def same_length(**arrays: Sequence[object]) -> None:
    """Raises DataError unless all arrays have one length.

    Example:
        >>> same_length(first=[1, 2], second=[1])
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.DataError: first and second must be equally long, got 2 and 1
    """
    lengths = [len(array) for array in arrays.values()]
    if len(set(lengths)) > 1:
        raise DataError(
            f"{' and '.join(arrays)} must be equally long, got {' and '.join(map(str, lengths))}"
        )
