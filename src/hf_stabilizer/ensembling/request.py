"""Who is asked about which rows, and can they answer? Checked before any model is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_stabilizer.data.frames import frame_of
from hf_stabilizer.data.row_marks import mark_of_rows
from hf_stabilizer.ensembling.candidates import Candidate, Named, find_candidates
from hf_stabilizer.ensembling.combining import COMBINATIONS, checked_weights
from hf_stabilizer.ensembling.fingerprints import of_weights
from hf_stabilizer.ensembling.gathering import read_members
from hf_stabilizer.ensembling.manners import Manner, manner_of
from hf_stabilizer.ensembling.predicted import beside
from hf_stabilizer.errors import ConfigurationError, DataError, check_choice, check_whole
from hf_stabilizer.procedure import Procedure, read_procedure
from hf_stabilizer.studies.study import Study
from hf_stabilizer.tasks import TASKS

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

    from hf_stabilizer.data.columns import Columns
    from hf_stabilizer.prediction import Member

# Any in this module: values of settings.
CHUNK = 1_024
"""Rows that are asked about before what was said is written down."""


@dataclass(frozen=True)
class Request:
    """Who is asked about what, checked."""

    members: tuple[Member, ...]
    """The models."""
    names: tuple[str, ...]
    """What people call them."""
    table: pd.DataFrame
    """The rows."""
    columns: tuple[Columns, ...]
    """Which of their columns each model reads; the choices are those of the first."""
    combine: str
    """How several models are combined."""
    weights: tuple[float, ...] | None
    """With "weighted"."""
    batch_size: int
    """Rows per forward pass."""

    @property
    def manner(self) -> Manner:
        """How models of their task are asked."""
        return manner_of(self.members[0].task)

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """Of the classes or choices; None for numbers."""
        return self.members[0].label_names or self.columns[0].choices or None

    @property
    def read(self) -> tuple[str, ...]:
        """All columns that are read, each once."""
        texts = [name for columns in self.columns for name in columns.texts]
        return tuple(dict.fromkeys([*texts, *self.columns[0].choices]))

    @property
    def chunks(self) -> list[range]:
        """The rows of each chunk."""
        rows = len(self.table)
        return [range(start, min(start + CHUNK, rows)) for start in range(0, rows, CHUNK)]

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides what comes of it, in plain values."""
        return {
            "members": [str(member.folder.resolve()) for member in self.members],
            "member_weights": [of_weights(member.model_folder) for member in self.members],
            "rows": mark_of_rows(self.table),
            "text_columns": [list(columns.texts) for columns in self.columns],
            "choice_columns": list(self.columns[0].choices),
            "combine": self.combine,
            "weights": None if self.weights is None else list(self.weights),
            "generation": [member.generation for member in self.members],
            "batch_size": self.batch_size,
            "chunk": CHUNK,
        }

    def to_records(self) -> dict[str, Any]:
        """Returns what would be done, in plain values."""
        return {
            "members": list(self.names),
            "rows": len(self.table),
            "columns": list(self.read),
            "labels": None if self.label_names is None else list(self.label_names),
            "written": list(sampled(self).columns),
            "combine": self.combine,
            "forward_passes": len(self.members)
            * sum(-(-len(chunk) // self.batch_size) for chunk in self.chunks),
        }


def prepare_request(
    runs: Named | Iterable[Named],
    rows: str | Path | Dataset | pd.DataFrame,
    *,
    combine: str = "mean_probability",
    weights: Sequence[float] | None = None,
    batch_size: int = 32,
    text_columns: Sequence[str] | None = None,
    choice_columns: Sequence[str] | None = None,
    reader_options: Mapping[str, Any] | None = None,
) -> Request:
    """Reads members and rows and sees that they go together; no model is loaded.

    Raises:
        ConfigurationError: They do not.
        DataError: A column is missing, or there are no rows.
    """
    from hf_stabilizer.prediction import columns_of

    check_choice(combine, COMBINATIONS, name="combine")
    check_whole(batch_size, "of rows from 1 up", name="batch_size", least=1)
    runs, combine, weights = _expanded(runs, combine, weights)
    candidates = find_candidates(runs).candidates
    _check_weights(candidates)
    members = read_members(candidates, tasks=TASKS)
    manner_of(members[0].task)
    if weights is not None:
        checked_weights(weights, len(members))
    table = _table(rows, members[0], reader_options)
    first = columns_of(members[0], table, text_columns, choice_columns)
    # Models that read other columns may speak together; of the choices the order is one.
    choices = first.choices or None
    others = [columns_of(member, table, text_columns, choices) for member in members[1:]]
    request = Request(
        members=tuple(members),
        names=tuple(candidate.name for candidate in candidates),
        table=table,
        columns=(first, *others),
        combine=combine,
        weights=None if weights is None else tuple(weights),
        batch_size=batch_size,
    )
    _try_out(request)
    return request


def _expanded(
    runs: Named | Iterable[Named], combine: str, weights: Sequence[float] | None
) -> tuple[Any, str, Sequence[float] | None]:
    """Puts the members and weights of an ensemble, and the models of folds, in their place."""
    named = [runs] if isinstance(runs, (str, Path)) or not isinstance(runs, Iterable) else [*runs]
    named = [model for one in named for model in _models_of_folds(one)]
    one = named[0] if len(named) == 1 and isinstance(named[0], (str, Path)) else None
    record = None if one is None else read_procedure(one)
    if record is None or record.kind != "ensemble":
        return named, combine, weights
    if weights is not None or combine not in ("mean_probability", record.settings["combine"]):
        raise ConfigurationError(
            f"{str(one)!r} is an ensemble and says itself how its members are combined; leave "
            "combine and weights out"
        )
    from hf_stabilizer.ensembling.out_of_fold import is_folds

    if any(is_folds(member) for member in record.settings["members"]):
        return _blend_of_folds(str(one), record)
    return record.settings["members"], record.settings["combine"], record.settings["weights"]


def _blend_of_folds(named: str, record: Procedure) -> tuple[list[Named], str, list[float]]:
    """Shares the weight of each cross-validation among its models, whose mean it is.

        sum_j w_j mean_k p_jk = sum_jk (w_j / n_j) p_jk

    Raises:
        ConfigurationError: It is no mean of probabilities, so the two differ; or it is not over.
    """
    how, members = record.settings["combine"], record.outcome.get("members", ())
    if how not in ("mean_probability", "weighted") or not members:
        reason = f"takes the {how} of them, each a mean itself" if members else "is not finished"
        raise ConfigurationError(
            f"{named!r} is an ensemble of cross-validations and {reason}, so their models cannot "
            "be asked for it; name the folders of runs, or one cross-validation"
        )
    models, weights = list[Named](), list[float]()
    for folder, member in zip(record.settings["members"], members, strict=True):
        own = _models_of_folds(folder) if member["weight"] else []
        models += own
        weights += [member["weight"] / len(own)] * len(own)
    return models, "weighted", weights


def _models_of_folds(one: Named) -> list[Named]:
    """Puts the models that a cross-validation kept, at least one of each fold, in its place."""
    from hf_stabilizer.ensembling.out_of_fold import is_folds

    if isinstance(one, Study) or not is_folds(one):
        return [one]
    from hf_stabilizer.folds.record import CrossValidation
    from hf_stabilizer.studies.members import folder_of

    study = CrossValidation.from_folder(one).study
    models: list[Named] = []
    for fold in study.recipes:
        folders = [folder_of(study, run) for run in study.of(fold)]
        models += [run for run in folders if (run / "model").is_dir()] or folders[:1]
    return models


def _check_weights(candidates: Sequence[Candidate]) -> None:
    if bare := [one.name for one in candidates if not one.has_weights]:
        raise ConfigurationError(
            f"{bare[0]!r} kept no weights, so it cannot be asked: a study keeps the best model of "
            "each recipe unless it is told otherwise (--keep-models); name runs that kept theirs"
        )


def _table(
    rows: str | Path | Dataset | pd.DataFrame,
    member: Member,
    reader_options: Mapping[str, Any] | None,
) -> pd.DataFrame:
    from hf_stabilizer.data.reading import read_file

    if isinstance(rows, (str, Path)):
        options = member.reader_options(rows) if reader_options is None else reader_options
        table = read_file(str(rows), key="file", options=options).frame
    else:
        table = frame_of(rows)
    if not len(table):
        raise DataError("there are no rows to predict; hand in one or more")
    return table


def _try_out(request: Request) -> None:
    """Refuses before any work what could not be asked, combined or written after it."""
    from hf_stabilizer.prediction import checked_cells

    for column in request.read:
        checked_cells(request.members[0], request.table, column)
    request.manner.check(request)
    beside(request.table.head(1), sampled(request))


def sampled(request: Request) -> pd.DataFrame:
    """Returns the columns that would be written, for the first row, with made-up answers."""
    one = replace(request, table=request.table.head(1))
    return one.manner.write(one, one.manner.sample(one))
