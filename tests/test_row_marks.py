"""One mark for the same rows, whatever holds them; another for any others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from datasets import Dataset

from hf_stabilizer.data.reading import read_file
from hf_stabilizer.data.row_marks import mark_of_rows

ROWS: dict[str, list[Any]] = {"text": ["good", "bad", "née"], "label": [1, 0, 1]}
MANY = [float(place) for place in range(2000)]  # so many are written short by numpy


def test_files_and_tables_of_the_same_rows_have_one_mark(tmp_path: Path) -> None:
    table = pd.DataFrame(ROWS)
    table.to_csv(tmp_path / "rows.csv", index=False)
    table.to_parquet(tmp_path / "rows.parquet")
    table.to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    files = [
        read_file(str(tmp_path / name), key="file").frame
        for name in ("rows.csv", "rows.parquet", "rows.jsonl")
    ]
    moved = table.set_index(pd.Index([7, 8, 9]))
    marks = {mark_of_rows(rows) for rows in (table, moved, Dataset.from_dict(ROWS), *files)}
    (mark,) = marks
    assert re.fullmatch(r"3-[0-9a-f]{16}", mark)


@pytest.mark.parametrize(
    "other",
    [
        {**ROWS, "text": ["good", "bad", "nee"]},
        {**ROWS, "label": [1, 1, 0]},
        {"text": ROWS["text"], "target": ROWS["label"]},
        {"label": ROWS["label"], "text": ROWS["text"]},
        {name: cells[::-1] for name, cells in ROWS.items()},
        {name: cells[:2] for name, cells in ROWS.items()},
        {**ROWS, "more": ["", "", ""]},
    ],
)
def test_other_rows_have_another_mark(other: dict[str, list[Any]]) -> None:
    assert mark_of_rows(pd.DataFrame(other)) != mark_of_rows(pd.DataFrame(ROWS))


def test_cells_that_are_lists_count_to_the_last_number() -> None:
    changed = [*MANY[:1000], 0.5, *MANY[1001:]]
    nearly = [1e-12, *MANY[1:]]
    marks = [mark_of_rows(Dataset.from_dict({"p": [row]})) for row in (MANY, changed, nearly)]
    assert len(set(marks)) == 3
    assert marks[0] == mark_of_rows(pd.DataFrame({"p": [MANY]}))
    assert marks[0] == mark_of_rows(Dataset.from_dict({"p": [MANY]}).to_pandas())


def test_the_division_counts() -> None:
    table = pd.DataFrame(ROWS)
    divisions = [
        (table,),
        (table[:1], table[1:]),
        (table[:2], table[2:]),
        (table[1:], table[:1]),
        (table, None),
        (None, table),
        (table, table[:0]),
    ]
    marks = [mark_of_rows(*tables) for tables in divisions]
    assert len(set(marks)) == len(divisions)
    assert all(mark.startswith("3-") for mark in marks)
