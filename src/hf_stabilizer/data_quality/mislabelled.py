"""Which labels may be wrong? Confident learning over predictions that never saw their row.

A row is a candidate where the predictions say another class than its label, and more surely so
than they are of that class on average over the rows that bear it.

Source: Northcutt, Jiang, Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
2021 (arXiv:1911.00068), through the package cleanlab.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hf_stabilizer.data_quality.report import EXAMPLES, DataFinding, RowExample, cut, where
from hf_stabilizer.data_quality.rows import ReadRows
from hf_stabilizer.errors import DataError, MissingDependencyError, first_line

# Any in this module: cells of the user's table.
Probabilities = npt.NDArray[np.float64]
FOLDS = 5
"""Folds of the built-in baseline."""
BASELINE = "TF-IDF and logistic regression, cross-validated in this check"
_PREFIX = "probability_"


def find_mislabelled(
    split: str, rows: ReadRows, *, out_of_fold: Path | None
) -> tuple[list[DataFinding], str]:
    """Returns the finding, if there is one, and a note that says whose predictions were used.

    Args:
        split: Name of the rows.
        rows: Training rows with one class each.
        out_of_fold: The file of `cross-validate`; None: a quick baseline predicts.

    Raises:
        DataError: The file holds other rows.
        MissingDependencyError: cleanlab is not installed.
    """
    places = _usable(rows)
    if len({rows.labels[place] for place in places}) < 2:  # type: ignore[index]
        return [], "mislabelled rows were not looked for: two classes with two rows are needed"
    if out_of_fold is None:
        names, probabilities = _baseline(rows, places)
        whose = BASELINE
    else:
        names, places, probabilities = _read(out_of_fold, rows)
        whose = f"the out-of-fold predictions of {out_of_fold.name}"
    labels = np.array([names.index(str((rows.labels or ())[place])) for place in places])
    suspects = _label_issues(labels, probabilities)
    note = f"mislabelled rows were looked for with {whose}"
    if not len(suspects):
        return [], note
    return [_finding(split, rows, places, suspects, names, probabilities, whose)], note


def _usable(rows: ReadRows) -> list[int]:
    """Rows with a text and a class that has two rows at least."""
    labels = rows.labels or ()
    places = [p for p, label in enumerate(labels) if label is not None and rows.texts[p]]
    frequency = Counter(labels[place] for place in places)
    return [place for place in places if frequency[labels[place]] > 1]


def _baseline(rows: ReadRows, places: Sequence[int]) -> tuple[list[str], Probabilities]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    labels = np.array([str((rows.labels or ())[place]) for place in places])
    texts = np.array([rows.texts[place] for place in places], dtype=object)
    folds = min(FOLDS, *Counter(labels.tolist()).values())
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+"),
        LogisticRegression(C=10.0, max_iter=1000),
    )
    divided = StratifiedKFold(folds, shuffle=True, random_state=0)
    predicted = cross_val_predict(model, texts, labels, cv=divided, method="predict_proba")
    return sorted(set(labels.tolist())), np.asarray(predicted, dtype=np.float64)


def _read(path: Path, rows: ReadRows) -> tuple[list[str], list[int], Probabilities]:
    """Reads the probabilities, and finds the place of each in these rows."""
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(f"out_of_fold {str(path)!r} cannot be read: {first_line(error)}") from error
    names = [name.removeprefix(_PREFIX) for name in table.columns if name.startswith(_PREFIX)]
    if not names or not {"row", "label"} <= set(table.columns):
        raise DataError(
            f"out_of_fold {str(path)!r} must have the columns row, label and {_PREFIX}NAME for "
            f"each class, as `hf-stabilizer cross-validate` writes them; it has "
            f"{', '.join(map(str, table.columns))}"
        )
    if "source" in table.columns:  # Rows of the validation file were in the folds, too.
        table = table[table["source"] == "train"]
    numbers = table["source_row" if "source_row" in table.columns else "row"]
    at = {number: place for place, number in enumerate(rows.numbers)}
    found = [(at.get(int(number) + 1), line) for line, number in enumerate(numbers)]
    known = [(place, line) for place, line in found if place is not None]
    _check_labels(path, rows, table["label"].tolist(), known, names)
    lines = [line for _, line in known]
    probabilities = table[[_PREFIX + name for name in names]].to_numpy(dtype=np.float64)[lines]
    return names, [place for place, _ in known], probabilities


def _check_labels(
    path: Path, rows: ReadRows, said: list[Any], known: list[tuple[int, int]], names: list[str]
) -> None:
    labels = rows.labels or ()
    for place, line in known:
        ours = labels[place]
        # A class is written by its name or by its id.
        theirs = said[line]
        named = names[int(theirs)] if str(theirs) not in names and _is_id(theirs, names) else theirs
        if str(ours) != str(named):
            raise DataError(
                f"out_of_fold {str(path)!r} is of other rows: row {rows.numbers[place]} has the "
                f"label {ours!r} here and {named!r} there"
            )
    if not known:
        raise DataError(f"out_of_fold {str(path)!r} has none of these rows")


def _is_id(value: Any, names: Sequence[str]) -> bool:
    return isinstance(value, int | np.integer) and 0 <= int(value) < len(names)


def _label_issues(labels: npt.NDArray[np.int64], probabilities: Probabilities) -> list[int]:
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise MissingDependencyError(
            "mislabelled rows are found with cleanlab, which is not installed; run: pip install "
            "'hf_stabilizer[data]'"
        ) from error
    found = find_label_issues(
        labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1
    )
    return [int(place) for place in found]


def _finding(
    split: str,
    rows: ReadRows,
    places: Sequence[int],
    suspects: Sequence[int],
    names: Sequence[str],
    probabilities: Probabilities,
    whose: str,
) -> DataFinding:
    examples = []
    for suspect in suspects[:EXAMPLES]:
        best = int(np.argmax(probabilities[suspect]))
        label = (rows.labels or ())[places[suspect]]
        note = f"{label!s}, but {names[best]} at {probabilities[suspect, best]:.0%}"
        row = where(split, rows.numbers[places[suspect]])
        examples.append(RowExample((row,), cut(rows.texts[places[suspect]]), note))
    return DataFinding(
        kind="mislabelled",
        split=split,
        count=len(suspects),
        message=f"{len(suspects)} of {len(places)} labels may be wrong, by {whose}; the likeliest "
        "come first",
        remedy="look at each: correct the label, or remove the row with `hf-stabilizer data clean "
        "FILE --drop-rows NUMBER ...`; rows that a model finds hard are not wrong for that",
        rows=tuple(rows.numbers[places[suspect]] for suspect in suspects),
        examples=tuple(examples),
    )
