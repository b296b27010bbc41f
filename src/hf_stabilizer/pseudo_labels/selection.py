"""Which rows are kept? Those that the options ask for, in the order of the rows.

Thresholds are constants, and ranks are among the unlabelled rows alone: no labelled row has a
part in the choice. Imports no torch.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from hf_stabilizer.errors import DataError
from hf_stabilizer.pseudo_labels.judgement import Floats, Judgement
from hf_stabilizer.pseudo_labels.options import LabellingOptions

logger = logging.getLogger(__name__)

Places = npt.NDArray[np.int64]


def sampled_rows(count: int, rate: float, *, seed: int) -> list[int]:
    """Returns a seeded share of so many rows; that of a larger rate contains that of a smaller.

    Args:
        count: Number of rows.
        rate: Share in (0, 1]; 1 is every row. One row at least is used.
        seed: Whole number in [0, 2^32).

    Example:
        >>> sampled_rows(10, 0.3, seed=0)
        [2, 4, 8]
        >>> set(sampled_rows(10, 0.3, seed=0)) <= set(sampled_rows(10, 0.5, seed=0))
        True
    """
    order = np.random.RandomState(seed).permutation(count)
    return sorted(int(place) for place in order[: max(1, round(rate * count))])


def select(
    judged: Judgement, options: LabellingOptions, label_names: Sequence[str] | None = None
) -> Places:
    """Returns the places of the rows that are kept, in order.

    Args:
        judged: What the teachers make of the rows.
        options: Checked against the teachers already.
        label_names: Names of the classes, for a threshold by class.

    Example:
        >>> from hf_stabilizer.pseudo_labels.judgement import judge
        >>> rows = np.log([[[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]])
        >>> select(judge(rows, "classes"), LabellingOptions(threshold=0.8)).tolist()
        [0, 2]
        >>> select(judge(rows, "classes"), LabellingOptions(top_k=1)).tolist()
        [0, 2]
    """
    kept = np.ones(len(judged.sureness), dtype=bool)
    if judged.kind == "number":
        if options.max_spread is not None:
            kept &= judged.sureness <= options.max_spread
    elif options.least is not None:
        kept &= _passes(judged, options.least, label_names)
    if options.agreement:
        kept &= judged.agreed
    places = np.flatnonzero(kept)
    return places if options.top_k is None else _surest(judged, places, options.top_k)


def _passes(
    judged: Judgement, least: float | Mapping[str, float], label_names: Sequence[str] | None
) -> npt.NDArray[np.bool_]:
    if not isinstance(least, Mapping):
        passed: npt.NDArray[np.bool_] = judged.sureness >= least
        return passed
    assert label_names is not None  # checked with the options
    by_class = np.array([least[name] for name in label_names])  # (classes,)
    if judged.kind == "labels":
        every: npt.NDArray[np.bool_] = np.all(
            np.maximum(judged.mean, 1 - judged.mean) >= by_class, axis=1
        )
        return every
    one: npt.NDArray[np.bool_] = judged.sureness >= by_class[judged.predicted]
    return one


def _surest(judged: Judgement, places: Places, top_k: int) -> Places:
    """The first of equals comes first."""
    doubt: Floats = judged.sureness if judged.kind == "number" else -judged.sureness
    classes = judged.predicted if judged.kind == "classes" else np.zeros_like(judged.predicted)
    found = []
    for one in np.unique(classes[places]):
        rows = places[classes[places] == one]
        found.append(rows[np.argsort(doubt[rows], kind="stable")[:top_k]])
    return np.sort(np.concatenate(found)) if found else places


def refuse_missing(
    judged: Judgement, options: LabellingOptions, label_names: Sequence[str] | None
) -> None:
    """Checks that each class is predicted for a row at least.

    Raises:
        DataError: One is not, and that is not allowed.
    """
    if label_names is None or judged.kind not in ("classes", "labels"):
        return
    if judged.kind == "labels":
        counts = judged.positive.sum(axis=0)
    else:
        counts = np.bincount(judged.predicted, minlength=len(label_names))
    missing = [name for name, count in zip(label_names, counts, strict=True) if not count]
    if not missing:
        return
    shown = ", ".join(f"{name} {count}" for name, count in zip(label_names, counts, strict=True))
    said = (
        f"the teachers never predict {', '.join(map(repr, missing))} for any of "
        f"{len(judged.mean)} unlabelled rows (predicted: {shown})"
    )
    if not options.allow_missing_classes:
        raise DataError(
            f"{said}, so students would unlearn it; use more rows or better teachers, or set "
            "allow_missing_classes"
        )
    logger.warning(said)


def refuse_none(judged: Judgement, kept: Places, options: LabellingOptions) -> None:
    """Checks that a row is kept.

    Raises:
        DataError: None is; the message has the distribution of what was asked for.
    """
    if len(kept):
        return
    what = "spread" if judged.kind == "number" else "confidence"
    asked = {
        "max_spread": options.max_spread,
        "threshold": options.least,
        "agreement": options.agreement or None,
    }
    words = " and ".join(f"{name}={value!r}" for name, value in asked.items() if value is not None)
    agreed = f"; all teachers agree on {int(judged.agreed.sum())}" if options.agreement else ""
    remedy = "raise max_spread" if judged.kind == "number" else "lower the threshold"
    raise DataError(
        f"{words} keeps none of {len(judged.sureness)} unlabelled rows: their {what} is "
        f"{distribution(judged.sureness)}{agreed}; {remedy}, or set top_k instead"
    )


def distribution(values: Floats) -> str:
    """Returns five quantiles in words.

    Example:
        >>> distribution(np.array([0.5, 0.6, 0.7, 0.8, 0.9]))
        'at least 0.500, 0.600 at the first quarter, 0.700 in the middle, 0.800 at the third
        quarter, 0.900 at most'
    """
    low, first, middle, third, high = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    return (
        f"at least {low:.3f}, {first:.3f} at the first quarter, {middle:.3f} in the middle, "
        f"{third:.3f} at the third quarter, {high:.3f} at most"
    )
