"""Do two seeds give the same answers? Agreement row by row, beyond what equal scores can show.

    agreement(a, b)  share of rows on which a and b answer the same
    Cohen's kappa    (agreement - chance) / (1 - chance), chance from each run's own answers
    Fleiss' kappa    the same for all runs at once, chance from the answers of all

Runs of equal accuracy may be right on other rows; then an ensemble helps, and a single run's
answers are partly its seed's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hf_stabilizer.errors import DataError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """How alike the answers of several runs are on the same rows."""

    runs: int
    """Number of runs."""
    rows: int
    """Number of rows that each answered."""
    pairwise: float
    """Mean share of rows on which two runs agree, in [0, 1]."""
    unanimous: float
    """Share of rows on which all runs agree, in [0, 1]."""
    fleiss_kappa: float | None
    """Agreement beyond chance over all runs, at most 1; None where all give one answer to all."""
    cohen_kappa: float | None
    """Mean of Cohen's kappa over pairs of runs; None where no pair has one."""
    matrix: tuple[tuple[float, ...], ...]
    """Share of rows on which run i and run j agree."""


@dataclass(frozen=True)
class ValueAgreement:
    """How alike the numbers are that several regression runs predict for the same rows."""

    runs: int
    """Number of runs."""
    rows: int
    """Number of rows."""
    correlation: float | None
    """Mean of Pearson's correlation over pairs of runs; None where a run says one number to all."""
    spread: float
    """Mean over rows of the runs' standard deviation on a row, in units of the target."""
    relative_spread: float | None
    """The variance between runs on a row over the variance of all predictions, in [0, 1]; 0 is
    the same answers; None where all predictions are one number."""


def seed_agreement(predictions: npt.ArrayLike) -> Agreement:
    """Returns how far runs agree on the class of each row.

    Args:
        predictions: Classes, (runs, rows), or (runs, rows, labels) for several labels to a row,
            where two runs agree if all labels do. Two runs or more, one row or more.

    Raises:
        DataError: Another shape, too few runs or rows, or NaN among the predictions.

    Example:
        >>> found = seed_agreement([[0, 1, 1, 0], [0, 1, 0, 0], [0, 1, 1, 1]])
        >>> round(found.pairwise, 3), found.unanimous, round(found.fleiss_kappa, 3)
        (0.667, 0.5, 0.333)

    Source: Fleiss 1971, Measuring Nominal Scale Agreement Among Many Raters; Cohen 1960, A
    Coefficient of Agreement for Nominal Scales.
    """
    codes = _codes(predictions)  # (runs, rows)
    runs, rows = codes.shape
    counts = _counts(codes)  # (rows, classes)
    pairwise = float(((counts**2).sum(axis=1) - runs).mean() / (runs * (runs - 1)))
    shares = counts.sum(axis=0) / (runs * rows)
    same = np.stack([(codes == one).mean(axis=1) for one in codes])  # (runs, runs)
    return Agreement(
        runs=runs,
        rows=rows,
        pairwise=pairwise,
        unanimous=float((counts.max(axis=1) == runs).mean()),
        fleiss_kappa=_kappa(pairwise, float((shares**2).sum())),
        cohen_kappa=_mean_cohen(codes, same),
        matrix=tuple(tuple(row) for row in same.tolist()),
    )


def row_agreement(predictions: npt.ArrayLike) -> Floats:
    """Returns, for each row, the share of runs that give its most frequent answer.

    1 where all agree; the rows with the lowest shares are those that the seed decides.

    Example:
        >>> row_agreement([[0, 1, 1, 0], [0, 1, 0, 0], [0, 1, 1, 1]]).round(2).tolist()
        [1.0, 1.0, 0.67, 0.67]
    """
    codes = _codes(predictions)
    shares: Floats = _counts(codes).max(axis=1) / len(codes)
    return shares


def value_agreement(predictions: npt.ArrayLike) -> ValueAgreement:
    """Returns how far regression runs agree on the number of each row.

    Args:
        predictions: Numbers, (runs, rows); two runs or more, one row or more.

    Raises:
        DataError: Another shape, too few runs or rows, or a prediction that is no finite number.

    Example:
        >>> found = value_agreement([[0.0, 1.0, 2.0], [0.0, 1.0, 2.5]])
        >>> round(found.correlation, 3), round(found.spread, 3)
        (0.993, 0.118)
    """
    values = np.asarray(predictions, dtype=float)
    _check_shape(values, (2,))
    if not np.isfinite(values).all():
        raise DataError("predictions must be finite numbers; leave out the runs that failed")
    total = float(values.var())
    return ValueAgreement(
        runs=values.shape[0],
        rows=values.shape[1],
        correlation=_mean_correlation(values),
        spread=float(values.std(axis=0, ddof=1).mean()),
        relative_spread=float(values.var(axis=0).mean()) / total if total else None,
    )


def _codes(predictions: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Each answer as a whole number from 0 up: (runs, rows)."""
    values = np.asarray(predictions)
    _check_shape(values, (2, 3))
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise DataError("predictions must not hold nan; leave out the runs that failed")
    if values.ndim == 3:
        _, codes = np.unique(values.reshape(-1, values.shape[2]), axis=0, return_inverse=True)
    else:
        _, codes = np.unique(values, return_inverse=True)
    return np.asarray(codes, dtype=np.int64).reshape(values.shape[:2])


def _check_shape(values: npt.NDArray[np.generic], allowed: tuple[int, ...]) -> None:
    if values.ndim not in allowed or values.shape[0] < 2 or values.shape[1] < 1:
        raise DataError(
            "predictions must have the shape (runs, rows) with two runs or more and one row or "
            f"more, got {values.shape}"
        )


def _counts(codes: npt.NDArray[np.int64]) -> Floats:
    """How many runs gave each answer to each row: (rows, classes)."""
    rows = codes.shape[1]
    counts = np.zeros((rows, int(codes.max()) + 1))
    for run in codes:
        counts[np.arange(rows), run] += 1
    return counts


def _kappa(agreement: float, chance: float) -> float | None:
    return None if math.isclose(chance, 1.0) else (agreement - chance) / (1 - chance)


def _mean_cohen(codes: npt.NDArray[np.int64], same: Floats) -> float | None:
    runs, rows = codes.shape
    shares = np.stack([np.bincount(run, minlength=int(codes.max()) + 1) / rows for run in codes])
    chance = shares @ shares.T  # (runs, runs)
    above = np.triu_indices(runs, k=1)
    pairs = zip(same[above].tolist(), chance[above].tolist(), strict=True)
    kappas = [kappa for a, c in pairs if (kappa := _kappa(a, c)) is not None]
    return float(np.mean(kappas)) if kappas else None


def _mean_correlation(values: Floats) -> float | None:
    if values.shape[1] < 2 or (np.ptp(values, axis=1) == 0).any():
        return None
    above = np.triu_indices(len(values), k=1)
    matrix = np.asarray(np.corrcoef(values), dtype=float)
    return float(matrix[above].mean())
