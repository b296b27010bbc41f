"""What is wrong with these rows? All that can be told before a model learns from them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from hf_stabilizer.data.near_duplicates import check_threshold
from hf_stabilizer.data_quality.balance import find_imbalance, find_rare
from hf_stabilizer.data_quality.mislabelled import find_mislabelled
from hf_stabilizer.data_quality.repeats import find_leaks, find_repeats
from hf_stabilizer.data_quality.report import KINDS, DataFinding, DataReport
from hf_stabilizer.data_quality.rows import Source, read_source
from hf_stabilizer.data_quality.texts import (
    WORDS,
    find_empty,
    find_over_long,
    labels_of,
    longest,
    measure,
)
from hf_stabilizer.errors import MissingDependencyError, check_choice, check_whole

# Any in this module: values of configuration keys.
NO_LABELS = (
    "no labels were found, so the texts alone were looked at; if there are some, name their column "
    "with label_column"
)


def check_rows(
    source: str | Path | pd.DataFrame,
    *,
    threshold: float = 0.8,
    rare: int = 10,
    out_of_fold: str | Path | None = None,
    ignore: Collection[str] = (),
    **keys: Any,
) -> DataReport:
    """Looks for what makes rows unfit to learn from, and says what can be done about each.

    Duplicates (equal but for case, white space and punctuation) and near duplicates, texts with
    different labels, texts that stand in two splits, empty and over-long texts, missing labels,
    rare classes, splits with other shares of the classes, and labels that may be wrong. Nothing
    is changed.

    Args:
        source: A frame, a Dataset, a file of rows (CSV, TSV, JSON, JSON lines, Parquet), or a YAML
            configuration, of which all splits are looked at as `train` would make them, before
            `max_train_rows` and its fellows leave rows out.
        threshold: Least similarity of near duplicates, in (0, 1] (`near_duplicates`).
        rare: A class with fewer rows is rare, 1 or more.
        out_of_fold: Predictions for the training rows, as `cross-validate` writes them to
            `out_of_fold.parquet`; None: a quick baseline is cross-validated here.
        ignore: Kinds of findings that are not looked for.
        **keys: Configuration keys about rows (`text_columns`, `label_column`, `filter`, ...),
            `task`, and `model_name_or_path`, whose tokenizer then counts tokens, with
            `max_length`; they beat those of the file.

    Raises:
        ConfigurationError: A value is out of range, or a key unknown.
        DataError: Rows cannot be read, or a column cannot be told.
        MissingDependencyError: `out_of_fold` is given and cleanlab is not installed.

    Example:
        >>> texts = ["Good film", "good film!", "bad", ""]
        >>> rows = pd.DataFrame({"text": texts, "label": list("abbb")})
        >>> for finding in check_rows(rows, ignore=["rare-classes", "mislabelled"]).findings:
        ...     print(finding.kind, finding.rows)
        empty-texts (4,)
        duplicates (2,)
        conflicting-labels (1, 2)
    """
    check_threshold(threshold)
    check_whole(rare, "1 or more", name="rare", least=1)
    for kind in ignore:
        check_choice(kind, KINDS, name="ignore")
    read = read_source(source, **keys)
    notes = list(read.columns.notes)
    if all(rows.labels is None for rows in read.parts.values()):
        notes.append(NO_LABELS)
    lengths, by_split = measure(read)
    counts = labels_of(read.parts, read.columns.choices) if read.task != "text-regression" else {}
    found = [
        *_within(read, by_split, threshold),
        *find_leaks(read.parts, threshold=threshold),
        # The place of the right choice is no class that is learnt.
        *([] if read.columns.choices else find_rare(_labelled(counts), least=rare)),
        *find_imbalance(_labelled(counts)),
    ]
    if "mislabelled" not in ignore:
        more, note = _mislabelled(read, None if out_of_fold is None else Path(out_of_fold))
        found += more
        notes.append(note)
    wanted = [finding for finding in found if finding.kind not in ignore]
    return DataReport(
        source=read.name,
        rows={split: len(rows.texts) for split, rows in read.parts.items()},
        lengths=lengths,
        labels=counts,
        findings=tuple(sorted(wanted, key=lambda finding: KINDS.index(finding.kind))),
        notes=tuple(notes),
    )


def _labelled(counts: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    return {split: classes for split, classes in counts.items() if classes}


def _within(read: Source, lengths: dict[str, list[int]], threshold: float) -> Iterator[DataFinding]:
    limit, unit = WORDS, "words"
    if read.model is not None:
        limit, unit = longest(read.model, read.max_length), "tokens"
    columns = [*read.columns.texts, *read.columns.choices]
    for split, rows in read.parts.items():
        yield from find_empty(split, rows, columns)
        yield from find_over_long(split, rows, lengths[split], limit=limit, unit=unit)
        yield from find_repeats(split, rows, threshold=threshold)


def _mislabelled(read: Source, out_of_fold: Path | None) -> tuple[list[DataFinding], str]:
    split, rows = next(iter(read.parts.items()))
    labels = [label for label in rows.labels or () if label is not None]
    untold = "mislabelled rows were not looked for"
    if not labels:
        return [], f"{untold}, as there are no labels"
    if read.task != "text-classification" or isinstance(labels[0], list):
        return [], f"{untold}: that needs one class for each row"
    try:
        return find_mislabelled(split, rows, out_of_fold=out_of_fold)
    except MissingDependencyError as error:
        if out_of_fold is not None:
            raise
        return [], f"{untold}: {error}"
