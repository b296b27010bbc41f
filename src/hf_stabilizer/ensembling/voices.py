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

from hf_stabilizer.data.frames import frame_of
from hf_stabilizer.data.row_marks import mark_of_rows
from hf_stabilizer.ensembling.candidates import Candidate, scored_rows
from hf_stabilizer.ensembling.combining import Array
from hf_stabilizer.ensembling.gathering import (
    Answers,
    ask,
    from_records,
    kind_of,
    label_array,
    read_members,
)
from hf_stabilizer.errors import ConfigurationError, DataError
from hf_stabilizer.metrics import default_metrics
from hf_stabilizer.scores import Kind

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
        """What says which rows they are, in plain values."""
        return {
            "part": self.part,
            "file": None if self.file is None else str(self.file),
            "label_column": self.label_column,
        }

    def table(self, member: Member) -> pd.DataFrame:
        """Returns the rows of the file, or those that were handed in.

        Args:
            member: Whose reader options hold for a file of the format that its run read.

        Raises:
            DataError: The file cannot be read, or the rows are no table.
        """
        if self.file is None:
            return frame_of(self.rows, or_file=False)
        from hf_stabilizer.data.reading import read_file

        return read_file(str(self.file), key="file", options=member.reader_options(self.file)).frame


@dataclass(frozen=True)
class Asking:
    """Members and rows that go together, before any member is asked."""

    members: tuple[Member, ...]
    """The models."""
    table: pd.DataFrame
    """The rows."""
    labels: Array | None
    """What is right, as `Answers` has it; None: not known."""
    part: str
    """Which rows they are."""
    text_columns: tuple[str, ...] | None
    """The columns of the text; None: for each model those that its run read."""
    choice_columns: tuple[str, ...] | None
    """Likewise of the choices, whose order is one."""

    @property
    def kind(self) -> Kind:
        """Of the labels."""
        return kind_of(self.members[0])


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


def prepare(candidates: Sequence[Candidate], asked: Rows) -> Answers | Asking:
    """Returns what the members have answered already, else what each of them is to be asked.

    Raises:
        ConfigurationError: Members do not go together, or one must be asked and cannot be.
        DataError: The rows are not as they must be.
    """
    known = known_answers(candidates, asked)
    if known is not None:
        return known
    members = tuple(read_members(candidates))
    if asked.is_of_runs:
        return _of_runs(candidates, members, asked)
    from hf_stabilizer.prediction import checked_cells, columns_of

    table = asked.table(members[0])
    if not len(table):
        raise DataError("there are no rows to judge on")
    # Each member reads the texts that it was trained on; of the choices the order is one.
    choices = columns_of(members[0], table).choices
    for member in members:
        columns = columns_of(member, table, None, choices or None)
        for name in (*columns.texts, *columns.choices):
            checked_cells(member, table, name)
    labels = _labels_in(table, members[0], asked.label_column, choices)
    return Asking(members, table, labels, "file", None, choices or None)


def _of_runs(candidates: Sequence[Candidate], members: tuple[Member, ...], asked: Rows) -> Asking:
    splits = rows_of_runs([candidate.name for candidate in candidates], members)
    part = asked.part or ("validation" if splits.test is None else "test")
    rows = getattr(splits, part)
    if rows is None:
        raise ConfigurationError(
            f"the members' runs have no {part} rows; name part='validation', or a file"
        )
    labels = label_array(rows[splits.label_column][:], members[0])
    columns = splits.text_columns or None, splits.choice_columns or None
    return Asking(members, rows.to_pandas(), labels, part, *columns)


def gather(
    candidates: Sequence[Candidate],
    prepared: Answers | Asking,
    *,
    batch_size: int,
    folder: Path | None,
    tell: Callable[[str], None],
) -> Answers:
    """Returns what all members say about the rows.

    Args:
        candidates: The members.
        prepared: What `prepare` returned.
        batch_size: Rows per forward pass.
        folder: Where the answers of members that are asked are kept; None: nowhere.
        tell: Called with a line before a member is asked.
    """
    if isinstance(prepared, Answers):
        return prepared
    table = prepared.table
    mark = "" if folder is None else mark_of_rows(table)

    def remembered(place: int, ask_it: Callable[[], Array]) -> Array:
        path = None if folder is None else folder / f"member{place + 1}-{mark}.npy"
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
        labels=prepared.labels,
        part=prepared.part,
        batch_size=batch_size,
        text_columns=prepared.text_columns,
        choice_columns=prepared.choice_columns,
        remembered=remembered,
    )


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
    if said is None:
        trained = member.settled.get("label_column")
        usual = (trained,) if trained else ("label", "answer")
        said = next((name for name in usual if name in table.columns), None)
        if said is None:
            return None
    require_columns(table, [said], key="label_column", origin="the file of the rows")
    read = Columns((), choices, said, ())
    labels = read_labels(Table(table, {}, "the file of the rows"), read, task=member.task)
    return label_array(labels, member)
