"""How do kept candidates become training rows? Beside the real ones, each with its provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_stabilizer.data import Splits, write_splits
from hf_stabilizer.data.writing import GROUP, spelled_out, write_parquet
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.synthesis.candidates import Candidate
from hf_stabilizer.synthesis.generators import Generator
from hf_stabilizer.synthesis.prompts import ANSWER

if TYPE_CHECKING:
    from datasets import Dataset

# Any in this module: cells of rows.
PROVENANCE = {
    "synthetic": False,
    "generator": "",
    "licence": "",
    "candidate": -1,
    "shown_rows": "",
    "background_row": -1,
}
"""Column -> what a real row has in it."""


def check_names(columns: Sequence[str]) -> None:
    """Raises ConfigurationError if a column has the name of one that tells of provenance."""
    for name in columns:
        if name in PROVENANCE:
            raise ConfigurationError(
                f"column {name!r} has the name of one that tells where a row comes from "
                f"({', '.join(PROVENANCE)}); rename it"
            )


def text_of(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    """Returns the texts of a row as one."""
    return " ".join(str(row[column]) for column in columns)


def write_rows(
    splits: Splits, kept: Sequence[Candidate], generator: Generator, folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Writes the real rows and, beside them, those with the kept ones; returns the keys of both."""
    from datasets import concatenate_datasets

    keys = write_splits(splits, folder / "data")
    train = splits.train
    if splits.groups is not None:
        train = train.add_column(GROUP, list(splits.groups))
    real = _with_provenance(train)
    written = _dataset_of(splits, kept, generator, real)
    path = (folder / "data" / "synthetic.parquet").resolve()
    write_parquet(spelled_out(concatenate_datasets([real, written]), splits), path)
    return keys, {**keys, "train_file": str(path)}


def _with_provenance(train: Dataset) -> Dataset:
    for name, value in PROVENANCE.items():
        train = train.add_column(name, [value] * len(train))
    return train


def _dataset_of(
    splits: Splits, kept: Sequence[Candidate], generator: Generator, like: Dataset
) -> Dataset:
    from datasets import Dataset

    rows = []
    for one in kept:
        answer: Any = one.row[ANSWER]
        if splits.choice_columns:
            answer = splits.choice_columns.index(answer)
        row: dict[str, Any] = {
            name: one.row[name] for name in (*splits.text_columns, *splits.choice_columns)
        }
        row |= {str(splits.label_column): answer, "synthetic": True}
        row |= {"generator": generator.name, "licence": generator.licence}
        row |= {"candidate": one.number, "shown_rows": json.dumps(list(one.sources))}
        row["background_row"] = -1 if one.background is None else one.background
        row[GROUP] = f"synthetic-{one.number}"
        rows.append({name: row[name] for name in like.column_names})
    return Dataset.from_list(rows, features=like.features)
