"""Which training rows come of it? Each row once more for each technique and copy, by `Dataset.map`.

    train rows --technique, copy--> changed rows --kept out if near a validation or test row-->
    originals + changed rows, with `augmented_by` and `source_row`

Only `train` is ever read to be changed, and only `train` is replaced: the other splits of the
result are the very objects that were handed in.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_stabilizer.augmentation.keeping import (
    held_out_texts,
    judge,
    note_of,
    nothing_changed,
    writes_anew,
)
from hf_stabilizer.augmentation.mixing import MixRows
from hf_stabilizer.augmentation.technique import Technique, draw_of
from hf_stabilizer.data.near_duplicates import check_threshold
from hf_stabilizer.data.splits import Splits
from hf_stabilizer.errors import LAST_SEED, ConfigurationError, DataError, check_whole
from hf_stabilizer.records import write_atomically

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

# Any in this module: cells of the rows.
AUGMENTED_BY, SOURCE_ROW = "augmented_by", "source_row"
"""Columns of provenance: the name of the technique (None: the row is as it was read), and the
place of the row it was made of among the training rows, from 0."""
CHUNK = 256
"""Rows that a technique changes at once, and that are kept on disk together."""


def augment(
    splits: Splits,
    techniques: Sequence[Technique],
    *,
    copies: int = 1,
    seed: int = 0,
    keep_originals: bool = True,
    threshold: float = 0.8,
    folder: str | Path | None = None,
) -> Splits:
    """Adds changed copies of the training rows; labels, soft labels and groups are kept.

    Each technique gives `copies` rows of each training row, changed in every text column (the
    question of multiple-choice, not its choices). What becomes of a row depends on the seed, the
    technique, the number of the copy and its place alone. Rows that came out nearly like a
    validation or test row are left out, unless they are their source row unchanged. With rate 0
    the copies are equal to their sources, letter by letter. But where a model writes texts anew
    (`BackTranslate`, `Summarize`), rows that come back as they were, but for case, white space and
    punctuation, would be mere repetition: they are not added, and counted in the notes.

    Args:
        splits: What `load_splits` returned.
        techniques: One or more.
        copies: Rows that each technique makes of each training row, 1 or more.
        seed: Seed of all draws, in [0, 2^32).
        keep_originals: Whether the training rows themselves stay, first and in their order.
        threshold: Similarity from which a row is nearly like another, in (0, 1]
            (`near_duplicates`).
        folder: Where what models write is kept from chunk to chunk, so that a second start repeats
            none of it; None: nowhere.

    Returns:
        Splits whose `train` has the columns `augmented_by` and `source_row` as well; `validation`,
        `test` and `unlabelled` are the same objects.

    Raises:
        ConfigurationError: A value is out of range, or a technique does not fit the rows.
        DataError: No row is left, or a technique that writes texts anew has changed none.

    Example:
        >>> import pandas as pd, tempfile
        >>> from hf_stabilizer.augmentation import DeleteWords
        >>> from hf_stabilizer.data import DataArguments, load_splits
        >>> folder = Path(tempfile.mkdtemp())
        >>> rows = {"text": ["one good film", "a bad plot"] * 5, "label": ["pos", "neg"] * 5}
        >>> pd.DataFrame(rows).to_csv(folder / "rows.csv")
        >>> arguments = DataArguments(train_file=str(folder / "rows.csv"), validation_size=4)
        >>> splits = load_splits(arguments, task="text-classification")
        >>> more = augment(splits, [DeleteWords(rate=0.4)], copies=2, threshold=1.0)
        >>> more.validation is splits.validation, more.train["augmented_by"][-1]
        (True, 'delete')
    """
    check_augmentation(splits, techniques, copies=copies, seed=seed, threshold=threshold)
    held_out = held_out_texts(splits)
    parts, notes = [], []
    if keep_originals:
        parts.append(_with_provenance(splits.train, None, list(range(len(splits.train)))))
    for technique in techniques:
        same = 0
        for copy in range(1, copies + 1):
            changed = _changed(splits, technique, copy, seed, folder)
            found = judge(splits, changed, held_out, technique, threshold=threshold)
            part = _with_provenance(changed, technique.name, list(range(len(changed))))
            parts.append(part.select(found.kept))
            notes.append(note_of(technique, copy, found))
            same += found.unchanged
        if writes_anew(technique) and same == copies * len(splits.train):
            raise nothing_changed(technique, len(splits.train))
    return _joined(splits, parts, notes)


def check_augmentation(
    splits: Splits, techniques: Sequence[Technique], *, copies: int, seed: int, threshold: float
) -> None:
    """Raises ConfigurationError if `augment` would not take these; before anything is written."""
    check_whole(copies, "1 or more", name="copies", least=1)
    check_whole(seed, "in [0, 2^32)", name="seed", most=LAST_SEED)
    check_threshold(threshold)
    _check_techniques(techniques)
    _check_fit(splits, techniques)


def _check_techniques(techniques: Sequence[Technique]) -> None:
    if not techniques:
        raise ConfigurationError("techniques is empty; name one or more, e.g. DeleteWords(0.1)")
    told = [technique.settings for technique in techniques]
    for technique in techniques:
        if told.count(technique.settings) > 1:
            raise ConfigurationError(
                f"techniques names {technique.name} twice with the same settings, which would give "
                "the same rows twice; for more rows set copies"
            )


def _check_fit(splits: Splits, techniques: Sequence[Technique]) -> None:
    for column in splits.text_columns:
        if not isinstance(splits.train[0][column], str):
            raise ConfigurationError(
                f"column {column!r} holds {type(splits.train[0][column]).__name__}s; only rows of "
                "plain texts can be augmented"
            )
    mixes = any(isinstance(one, MixRows) for one in techniques)
    if splits.label_column is None and mixes:
        raise ConfigurationError("mix joins rows of one label, and there are no labels")
    if splits.choice_columns and mixes:
        raise ConfigurationError(
            "mix joins rows of one label, and the label of multiple-choice is the place of the "
            "answer among its own choices; leave mix out"
        )
    for column in (AUGMENTED_BY, SOURCE_ROW):
        if column in splits.train.column_names:
            raise ConfigurationError(
                f"the training rows have a column {column!r} already; augment the rows they come "
                "from, or rename it"
            )


@dataclass(frozen=True)
class RowMap:
    """Changes the texts of a batch, for `Dataset.map(..., batched=True, with_indices=True)`.

    Example:
        >>> from datasets import Dataset
        >>> from hf_stabilizer.augmentation import SwapWords
        >>> rows = Dataset.from_dict({"text": ["a b"], "label": [0]})
        >>> change = RowMap(SwapWords(rate=1.0), rows, ("text",), "label")
        >>> rows.map(change, batched=True, with_indices=True)["text"][:]
        ['b a']
    """

    technique: Technique
    """What changes them."""
    rows: Dataset
    """All rows, where partners are looked for."""
    columns: tuple[str, ...]
    """Columns of text."""
    label: str | None
    """The column of labels; None where there are none."""
    copy: int = 1
    """Number of the copy, which the draws depend on."""
    seed: int = 0
    """Seed of the draws."""
    folder: Path | None = None
    """Where chunks are kept; None: nowhere."""

    def __call__(self, batch: dict[str, list[Any]], places: list[int]) -> dict[str, list[str]]:
        """Returns the changed columns."""
        kept = None if self.folder is None else self._file(batch, places)
        if kept is not None and kept.exists():
            found: dict[str, list[str]] = json.loads(kept.read_text(encoding="utf-8"))
            return found
        partners = self._partners(places)
        changed = {
            column: self.technique(
                batch[column],
                [self._texts(column)[partner] for partner in partners],
                [self._draw(place, column) for place in places],
            )
            for column in self.columns
        }
        if kept is not None:
            write_atomically(kept, json.dumps(changed, ensure_ascii=False))
            logger.info(f"{self.technique.name}: {places[-1] + 1} of {len(self.rows)} rows")
        return changed

    def _file(self, batch: Mapping[str, Sequence[Any]], places: Sequence[int]) -> Path:
        """Returns where a chunk is kept; other texts, seeds or settings have other files."""
        assert self.folder is not None
        told = [self.technique.settings, self.seed, *(batch[column] for column in self.columns)]
        mark = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]
        return self.folder / f"{self.technique.name}-{self.copy}-{places[0]}-{mark}.json"

    def _draw(self, place: int, what: str) -> Any:
        return draw_of(self.seed, self.technique.name, self.copy, place, what)

    def _partners(self, places: Sequence[int]) -> list[int]:
        """Places of other rows with the same label; the row itself where there is none."""
        if not isinstance(self.technique, MixRows):
            return list(places)
        assert self.label is not None
        labels = list(self.rows[self.label])
        by_label: dict[str, list[int]] = defaultdict(list)
        for place, label in enumerate(labels):
            by_label[json.dumps(label)].append(place)
        partners = []
        for place in places:
            others = [other for other in by_label[json.dumps(labels[place])] if other != place]
            partners.append(self._draw(place, "partner").choice(others) if others else place)
        return partners

    def _texts(self, column: str) -> Any:
        return self.rows[column]


def _changed(
    splits: Splits, technique: Technique, copy: int, seed: int, folder: str | Path | None
) -> Dataset:
    where = Path(folder) if folder is not None and technique.is_slow else None
    change = RowMap(
        technique, splits.train, splits.text_columns, splits.label_column, copy, seed, where
    )
    return splits.train.map(
        change,
        batched=True,
        batch_size=CHUNK,
        with_indices=True,
        # Nothing may come out of a cache of other rows, and no model is to be pickled for a name.
        load_from_cache_file=False,
        new_fingerprint=f"augmented-{draw_of(technique.settings, copy, seed).getrandbits(64):x}",
        desc=technique.name,
    )


def _with_provenance(rows: Dataset, name: str | None, sources: list[int]) -> Dataset:
    from datasets import Features, Value

    features = Features(
        {**rows.features, AUGMENTED_BY: Value("string"), SOURCE_ROW: Value("int64")}
    )
    named = rows.add_column(AUGMENTED_BY, [name] * len(rows))
    return named.add_column(SOURCE_ROW, sources).cast(features)


def _joined(splits: Splits, parts: Sequence[Dataset], notes: Sequence[str]) -> Splits:
    from datasets import concatenate_datasets

    train = concatenate_datasets(list(parts))
    if not len(train):
        raise DataError(
            "no training row is left: all came out nearly like a validation or test row; keep the "
            "originals, or raise threshold"
        )
    groups = splits.groups
    if groups is not None:
        groups = tuple(groups[place] for place in train[SOURCE_ROW])
    return replace(splits, train=train, groups=groups, notes=(*splits.notes, *notes))
