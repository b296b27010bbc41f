r"""How are weights fitted without a row that any member learnt from? On out-of-fold predictions.

    cross-validation A  --out_of_fold.parquet-->  \
    cross-validation B  --out_of_fold.parquet-->   fit_weights --> weights --> test predictions
    (identical rows in identical folds)

Every prediction there is of a model that did not learn from that row. Where the rows of a fold
chose its weights, too, that is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hf_stabilizer.ensembling.combining import Array, checked_weights, probabilities
from hf_stabilizer.ensembling.gathering import Answers
from hf_stabilizer.ensembling.judging import judge_of
from hf_stabilizer.ensembling.weights import cross_fitted, fit_weights
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.folds.record import KIND as FOLDS_KIND
from hf_stabilizer.folds.record import OUT_OF_FOLD, TEST_PREDICTIONS, CrossValidation
from hf_stabilizer.procedure import open_procedure, read_procedure
from hf_stabilizer.scores import CHOICE, MULTI, NUMBER, SINGLE, Kind

if TYPE_CHECKING:
    from hf_stabilizer.ensembling.ensemble_record import Ensemble
    from hf_stabilizer.ensembling.question import Question
    from hf_stabilizer.ensembling.voices import Rows

# Any in this module: labels of whatever kind the task has, values of settings.
_PREFIX = "probability_"
_SMALLEST = 1e-30


def is_folds(named: object) -> bool:
    """Whether this is the folder of a cross-validation."""
    if not isinstance(named, (str, Path)):
        return isinstance(named, CrossValidation)
    record = read_procedure(named)
    return record is not None and record.kind == FOLDS_KIND


@dataclass(frozen=True)
class ReadyFolds:
    """Cross-validations that go together."""

    names: tuple[str, ...]
    """Their folders."""
    answers: Answers
    """What they say about the rows that judge."""
    weights: list[float] | None
    """Of each, given or fitted; None: none."""
    together: Array | None
    """What all say of each row, where that is not one combination of the answers."""
    scores: tuple[float | None, ...]
    """Out-of-fold scores."""
    metric: str
    """Name of the score."""
    notes: tuple[str, ...]
    """What to keep in mind."""
    settings: Mapping[str, Any]
    """Everything that decides what comes of it."""


def ready_folds(question: Question) -> ReadyFolds:
    """Reads cross-validations and sees that they go together; writes nothing.

    The test predictions judge where all have them, else the out-of-fold rows; fitted weights judge
    those only by weights that were fitted without their fold.

    Raises:
        ConfigurationError: They are not over the same folds, or not of one task; rows of a fold
            chose its weights, and weights are to be fitted; other rows are named; or the metric
            does not fit.
        StudyError: One is not over.
    """
    asked = question.rows
    if not asked.is_of_runs or asked.part == "validation":
        raise ConfigurationError(
            "cross-validations are judged on their test predictions or out-of-fold rows; name no "
            "file, no rows and no part, or part='test'"
        )
    if strangers := [str(one) for one in question.named if not is_folds(one)]:
        raise ConfigurationError(
            f"{strangers[0]!r} is no cross-validation and others are; name one kind"
        )
    found = [
        one if isinstance(one, CrossValidation) else CrossValidation.from_folder(str(one))
        for one in question.named
    ]
    names = [str(cv.folder) for cv in found]
    places = [str(Path(name).resolve()) for name in names]
    for name, place in zip(names, places, strict=True):
        if places.count(place) > 1:
            raise ConfigurationError(f"{name!r} is named twice; name each member once")
    out = _answers(found, names, OUT_OF_FOLD, "out-of-fold")
    metric = question.metric or found[0].metric
    judge_of(metric, out.kind, combine=question.combine)
    weights, notes = _weights(found, out, question), _notes(found)
    answers, together = _to_judge(found, names, out, asked), None
    if answers is out and question.combine == "weighted" and question.weights is None:
        assert out.labels is not None
        assert out.folds is not None
        together = cross_fitted(probabilities(out.outputs, out.kind), out.labels, out.kind,
                                out.folds)  # fmt: skip
        notes.append("each out-of-fold row is judged by weights that were fitted without its fold")
    return ReadyFolds(
        names=tuple(names),
        answers=answers,
        weights=weights,
        together=together,
        scores=tuple(cv.pooled.get(metric) for cv in found),
        metric=metric,
        notes=tuple(notes),
        settings={**question.settings, "members": places},
    )


def ensemble_of_folds(question: Question, folder: Path | None) -> Ensemble:
    """Combines cross-validations of several configurations over the same folds.

    Raises:
        ConfigurationError: As in `ready_folds`.
        StudyError: One is not over, or the folder holds something else.
    """
    from hf_stabilizer.ensembling.ensembles import judged, write
    from hf_stabilizer.ensembling.question import KIND

    ready = ready_folds(question)
    procedure = None if folder is None else open_procedure(folder, KIND, ready.settings)
    result = judged(
        ready.answers,
        ready.scores,
        combine=question.combine,
        weights=ready.weights,
        metric=ready.metric,
        notes=ready.notes,
        folder=folder,
        together=ready.together,
    )
    if procedure is not None:
        write(result, procedure)
    return result


def _weights(
    found: Sequence[CrossValidation], out: Answers, question: Question
) -> list[float] | None:
    if question.weights is not None:
        checked_weights(question.weights, len(found))
        return list(question.weights)
    if question.combine != "weighted":
        return None
    if chosen := [cv for cv in found if cv.choose_on == "fold"]:
        raise ConfigurationError(
            f"in {str(chosen[0].folder)!r} the rows of each fold chose its weights, so they cannot "
            "fit the weights of an ensemble; cross-validate with choose_on nothing or inner"
        )
    assert out.labels is not None
    fitted = fit_weights(probabilities(out.outputs, out.kind), out.labels, out.kind)
    return [float(weight) for weight in fitted]


def _notes(found: Sequence[CrossValidation]) -> list[str]:
    return [
        f"in {str(cv.folder)!r} the rows of each fold chose its weights, so its out-of-fold score "
        "is too good"
        for cv in found
        if cv.choose_on == "fold"
    ]


def _to_judge(
    found: Sequence[CrossValidation], names: Sequence[str], out: Answers, asked: Rows
) -> Answers:
    have = [(Path(name) / TEST_PREDICTIONS).is_file() for name in names]
    if all(have):
        return _answers(found, names, TEST_PREDICTIONS, "test")
    if asked.part == "test":
        raise ConfigurationError(
            f"{names[have.index(False)]!r} has no test predictions; leave part out"
        )
    return out


def _answers(
    found: Sequence[CrossValidation], names: Sequence[str], file: str, part: str
) -> Answers:
    tables = [pd.read_parquet(Path(name) / file) for name in names]
    first = tables[0]
    keys = [key for key in ("source", "row", "fold", "label") if key in first.columns]
    columns = [name for name in first.columns if str(name).startswith(_PREFIX)]
    for name, table in zip(names, tables, strict=True):
        theirs = [column for column in table.columns if str(column).startswith(_PREFIX)]
        if theirs != columns:
            raise ConfigurationError(
                f"{names[0]!r} has the classes {_classes(columns)} and {name!r} "
                f"{_classes(theirs)}; members of an ensemble have the same, in one order"
            )
        if table[keys].astype(str).to_numpy().tolist() != (
            first[keys].astype(str).to_numpy().tolist()
        ):
            raise ConfigurationError(
                f"{names[0]!r} and {name!r} are not over the same rows in the same folds; "
                "cross-validate both with the same rows, folds and split_seed"
            )
    kind = _kind(found[0], first, columns)
    classes = tuple(column.removeprefix(_PREFIX) for column in columns)
    return Answers(
        names=tuple(names),
        outputs=np.stack([_outputs(table, columns, kind) for table in tables]),
        labels=_labels(first, classes, kind),
        kind=kind,
        label_names=classes or None,
        part=part,
        folds=tuple(pd.factorize(first["fold"])[0].tolist()) if "fold" in first else None,
    )


def _classes(columns: Sequence[str]) -> str:
    return ", ".join(column.removeprefix(_PREFIX) for column in columns) or "none"


def _kind(cv: CrossValidation, table: pd.DataFrame, columns: Sequence[str]) -> Kind:
    if not columns:
        return NUMBER
    assert cv.folder is not None
    record = read_procedure(cv.folder)
    if record is not None and record.settings.get("task") == "multiple-choice":
        return CHOICE
    return SINGLE if isinstance(table["label"].iloc[0], str) else MULTI


def _outputs(table: pd.DataFrame, columns: Sequence[str], kind: Kind) -> Array:
    """Returns outputs that come to the probabilities of a table."""
    if kind == NUMBER:
        return table[["prediction"]].to_numpy(np.float64)
    found = table[list(columns)].to_numpy(np.float64)
    logs: Array = np.log(np.clip(found, _SMALLEST, None))
    if kind == MULTI:
        logs = logs - np.log(np.clip(1 - found, _SMALLEST, None))
    return logs


def _labels(table: pd.DataFrame, classes: Sequence[str], kind: Kind) -> Array:
    if kind == NUMBER:
        return table["label"].to_numpy(np.float64)
    if kind == MULTI:
        return np.array([[float(name in row) for name in classes] for row in table["label"]])
    places = {name: place for place, name in enumerate(classes)}
    return np.array([places[str(name)] for name in table["label"]])
