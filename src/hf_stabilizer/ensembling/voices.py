"""Which rows are the members asked about, and who has answered already?

nothing named    the test rows of the members' runs, else their validation rows
part             the one of them that is named
file, rows       other rows, with labels or without
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_stabilizer.ensembling.candidates import Candidate, scored_rows
from hf_stabilizer.ensembling.combining import Array
from hf_stabilizer.ensembling.gathering import (
    Answers,
    ask,
    from_records,
    label_array,
    read_members,
)
from hf_stabilizer.errors import ConfigurationError, DataError
from hf_stabilizer.metrics import default_metrics

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

    from hf_stabilizer.data import Splits
    from hf_stabilizer.prediction import Member

# Any in this module: labels of whatever kind the task has, values of settings.


@dataclass(frozen=True)
class Rows:
    """Which rows are asked about."""

    file: str | Path | None = None
    """A file of them."""
    rows: Dataset | pd.DataFrame | None = None
    """The rows themselves."""
    part: str | None = None
    """ "test" or "validation" rows of the members' runs; None: test rows where there are any."""
    label_column: str | None = None
    """Column of the right answers of a file, or of rows."""

    def __post_init__(self) -> None:
        named = [name for name in ("file", "rows", "part") if getattr(self, name) is not None]
        if len(named) > 1:
            raise ConfigurationError(
                f"{' and '.join(named)} all say which rows are asked about; name one of them"
            )

    @property
    def is_of_runs(self) -> bool:
        """Whether they are rows that the members' runs scored."""
        return self.file is None and self.rows is None

    @property
    def settings(self) -> dict[str, Any]:
        """What decides which rows they are, in plain values."""
        from hf_stabilizer.ensembling.fingerprints import of_rows

        return {
            "part": self.part,
            "file": None if self.file is None else str(self.file),
            "rows": None if self.is_of_runs else of_rows(self.table()),
            "label_column": self.label_column,
        }

    def table(self) -> pd.DataFrame:
        """Returns the rows of the file, or those that were handed in.

        Raises:
            DataError: The file cannot be read.
        """
        import pandas as pd

        if self.file is not None:
            from hf_stabilizer.data.reading import read_file

            return read_file(str(self.file), key="file").frame
        assert self.rows is not None
        if isinstance(self.rows, pd.DataFrame):
            return self.rows
        found = self.rows.to_pandas()
        assert isinstance(found, pd.DataFrame)
        return found


def configured_metric(candidates: Sequence[Candidate]) -> str:
    """Returns the metric that decided in the first run, or that of its task."""
    for candidate in candidates:
        if candidate.run is not None and candidate.run.metric:
            return candidate.run.metric
    from hf_stabilizer.prediction import read_member

    member = read_member(candidates[0].folder)
    said = None if member.configuration is None else member.configuration.metric
    return said or default_metrics(member.task)[0]


def known_answers(candidates: Sequence[Candidate], asked: Rows) -> Answers | None:
    """Returns what the members' runs have answered already, None if one must be asked.

    Raises:
        ConfigurationError: Members do not go together, or one must be asked and cannot be.
    """
    known = from_records(candidates, asked.part) if asked.is_of_runs else None
    if known is None:
        for candidate in candidates:
            if not candidate.has_weights:
                raise ConfigurationError(
                    f"{candidate.name!r} kept neither weights nor predictions of those rows, so it "
                    "cannot be asked; a study keeps the best model of each recipe unless it is "
                    "told otherwise (--keep-models), so judge on rows that the runs scored"
                )
        read_members(candidates)
    return known


def gather(
    candidates: Sequence[Candidate],
    asked: Rows,
    *,
    batch_size: int,
    folder: Path | None,
    tell: Callable[[str], None],
) -> Answers:
    """Returns what all members say about the rows.

    Args:
        candidates: The members.
        asked: The rows.
        batch_size: Rows per forward pass.
        folder: Where the answers of members that are asked are kept; None: nowhere.
        tell: Called with a line before a member is asked.
    """
    known = known_answers(candidates, asked)
    if known is not None:
        return known
    members = read_members(candidates)
    table, labels, part, columns = _table(candidates, members, asked)

    def remembered(place: int, ask_it: Callable[[], Array]) -> Array:
        path = None if folder is None else folder / f"member{place + 1}.npy"
        if path is not None and path.is_file():
            there: Array = np.load(path, allow_pickle=False)
            return there
        tell(f"asking {candidates[place].name} about {len(table)} rows")
        answer = ask_it()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.tmp")
            with temporary.open("wb") as file:
                np.save(file, answer)
            temporary.replace(path)
        return answer

    return ask(
        candidates,
        table,
        labels=labels,
        part=part,
        batch_size=batch_size,
        text_columns=columns[0] or None,
        choice_columns=columns[1] or None,
        remembered=remembered,
    )


def _table(
    candidates: Sequence[Candidate], members: Sequence[Member], asked: Rows
) -> tuple[pd.DataFrame, Array | None, str, tuple[Sequence[str], Sequence[str]]]:
    """Returns rows, labels, which part they are, and their columns of texts and choices."""
    if not asked.is_of_runs:
        from hf_stabilizer.prediction import columns_of

        table = asked.table()
        columns = columns_of(members[0], table)
        labels = _labels_in(table, members[0], asked.label_column, columns.choices)
        # Each member reads the texts that it was trained on; of the choices the order is one.
        return table, labels, "file", ((), columns.choices)
    splits = rows_of_runs([candidate.name for candidate in candidates], members)
    part = asked.part or ("validation" if splits.test is None else "test")
    rows = getattr(splits, part)
    if rows is None:
        raise ConfigurationError(
            f"the members' runs have no {part} rows; name part='validation', or a file"
        )
    labels = label_array(rows[splits.label_column][:], members[0])
    return rows.to_pandas(), labels, part, (splits.text_columns, splits.choice_columns)


def rows_of_runs(names: Sequence[str], members: Sequence[Member]) -> Splits:
    """Reads the rows of the members' runs, which score the same ones.

    Raises:
        ConfigurationError: A member is of no run, or they score other rows.
    """
    from hf_stabilizer.data import load_splits

    for name, member in zip(names, members, strict=True):
        if member.configuration is None:
            raise ConfigurationError(
                f"{name!r} does not say which rows it was scored on, as it is no run; name a file"
            )
    first = members[0].configuration
    assert first is not None
    ours = scored_rows(dict(first.values))
    for name, member in zip(names, members, strict=True):
        assert member.configuration is not None
        theirs = scored_rows(dict(member.configuration.values))
        if differing := [key for key in ours if ours[key] != theirs.get(key)]:
            raise ConfigurationError(
                f"{names[0]!r} and {name!r} were scored on other rows: they differ in "
                f"{', '.join(differing)}; name a file that all of them are to be judged on"
            )
    return load_splits(first.data, task=members[0].task)


def _labels_in(
    table: pd.DataFrame, member: Member, label_column: str | None, choices: tuple[str, ...]
) -> Array | None:
    """Reads the labels of a table, None if it has no column of them."""
    from hf_stabilizer.data.columns import Columns, require_columns
    from hf_stabilizer.data.labels import read_labels
    from hf_stabilizer.data.reading import Table

    said = label_column
    if said is None and member.configuration is not None:
        said = member.configuration.values.get("label_column")
        said = said if said in table.columns else None
    if said is None:
        said = next((name for name in ("label", "answer") if name in table.columns), None)
        if said is None:
            return None
    require_columns(table, [said], key="label_column", origin="the file of the rows")
    if not len(table):
        raise DataError("there are no rows to judge on")
    read = Columns((), choices, said, ())
    labels = read_labels(Table(table, {}, "the file of the rows"), read, task=member.task)
    return label_array(labels, member)
