"""What did each member say about the same rows? From what runs have predicted, or by asking again.

    predictions.npz of every run, rows in one order    no model is loaded, no torch is imported
    weights of every member                            each is loaded and asked, one at a time

Members that cannot speak together are refused before any is asked: another task, other classes,
another head, other rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hf_stabilizer.ensembling.candidates import Candidate, order_of_rows, scored_rows
from hf_stabilizer.ensembling.combining import Array
from hf_stabilizer.errors import ConfigurationError, DataError
from hf_stabilizer.predictions import Predictions, read_predictions
from hf_stabilizer.scores import CHOICE, MULTI, NUMBER, SINGLE, Kind

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

    from hf_stabilizer.prediction import Member

# Any in this module: labels of whatever kind the task has.
PARTS = ("test", "validation")
_TASKS = ("text-classification", "text-regression", "multiple-choice")
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Answers:
    """What all members say about the same rows, and what is right."""

    names: tuple[str, ...]
    """Of the members."""
    outputs: Array
    """As the models put them out, [members, rows, classes]."""
    labels: Array | None
    """Class ids [rows], flags [rows, classes] or numbers [rows]; None where they are not known."""
    kind: Kind
    """Of the labels."""
    label_names: tuple[str, ...] | None
    """Of the classes or choices; None where there are none, or nobody says."""
    part: str
    """Which rows they are: "test", "validation", "file" or "out-of-fold"."""
    folds: tuple[int, ...] | None = None
    """The fold of each row, of out-of-fold rows."""


def from_records(candidates: Sequence[Candidate], part: str | None) -> Answers | None:
    """Returns what the runs have predicted, None where that does not do.

    It does where each has a `predictions.npz` with that part, for the same rows, and their order
    is one or is known.

    Args:
        candidates: The members.
        part: "test" or "validation"; None: the first of them that every run has.

    Raises:
        ConfigurationError: The members do not go together.
    """
    if any(candidate.run is None for candidate in candidates):
        return None
    kept = [read_predictions(candidate.folder) for candidate in candidates]
    if any(one is None for one in kept):
        return None
    known = cast("list[Predictions]", kept)
    parts = [part] if part else [p for p in PARTS if all(getattr(k, p) is not None for k in known)]
    if not parts or any(getattr(k, parts[0]) is None for k in known):
        return None
    chosen = parts[0]
    outputs = [getattr(one, chosen) for one in known]
    labels = [getattr(one, f"{chosen}_labels") for one in known]
    _check_tasks(candidates)
    _check_heads(candidates, [array.shape[1:] for array in outputs])
    _check_rows(candidates)
    if any(one is None for one in labels):
        return None
    in_order = _in_one_order(candidates, chosen, outputs, labels)
    if in_order is None:
        return None
    stacked, right = in_order
    return Answers(
        names=tuple(candidate.name for candidate in candidates),
        outputs=stacked,
        labels=right,
        kind=_kind(_task(candidates[0]), right),
        label_names=_said_names(candidates),
        part=chosen,
    )


def _in_one_order(
    candidates: Sequence[Candidate], part: str, outputs: list[Array], labels: list[Array]
) -> tuple[Array, Array] | None:
    """Stacks the outputs of the same rows; None where the order of one is not known.

    Rows are predicted longest first: the same tokenizer, cut alike, puts them in the same order.
    """
    orders = [_reading(candidate) for candidate in candidates]
    if any(order != orders[0] for order in orders):
        places = [order_of_rows(candidate, part) for candidate in candidates]
        if any(place is None for place in places):
            return None
        found = [cast("list[int]", place) for place in places]
        outputs = [_put_back(a, p) for a, p in zip(outputs, found, strict=True)]
        labels = [_put_back(a, p) for a, p in zip(labels, found, strict=True)]
    for candidate, right in zip(candidates, labels, strict=True):
        if not np.array_equal(right, labels[0]):
            raise ConfigurationError(
                f"{candidates[0].name!r} and {candidate.name!r} were scored on other rows, or on "
                "the same with other labels; members must have answered for the same rows"
            )
    return np.stack(outputs), labels[0]


def _put_back(array: Array, places: Sequence[int]) -> Array:
    there = np.empty_like(array)
    there[list(places)] = array
    return there


def _reading(candidate: Candidate) -> tuple[Any, ...]:
    values = candidate.run.configuration if candidate.run is not None else {}
    return values.get("model_name_or_path"), values.get("max_length")


def _check_tasks(candidates: Sequence[Candidate]) -> None:
    first = candidates[0]
    for other in candidates:
        if _task(other) != _task(first):
            raise ConfigurationError(
                f"{first.name!r} is for {_task(first)} and {other.name!r} for {_task(other)}; "
                "members of an ensemble have one task"
            )
    if _task(first) not in _TASKS:
        raise ConfigurationError(
            f"{first.name!r} is for {_task(first)}, whose outputs are no row of numbers for each "
            f"row; ensembles are of {', '.join(_TASKS)}"
        )


def _check_rows(candidates: Sequence[Candidate]) -> None:
    first = candidates[0]
    for other in candidates[1:]:
        ours, theirs = _rows_of(first), _rows_of(other)
        differing = [key for key in ours if ours[key] != theirs.get(key, ours[key])]
        if ours.keys() != theirs.keys():
            differing.append("train_file")
        if differing:
            raise ConfigurationError(
                f"{first.name!r} and {other.name!r} were scored on other rows: they differ in "
                f"{', '.join(differing)}; name a file that all of them are to be judged on"
            )


def _rows_of(candidate: Candidate) -> dict[str, Any]:
    assert candidate.run is not None
    return scored_rows(dict(candidate.run.configuration))


def _check_heads(candidates: Sequence[Candidate], shapes: Sequence[tuple[int, ...]]) -> None:
    for candidate, shape in zip(candidates, shapes, strict=True):
        if shape != shapes[0] or len(shape) != 1:
            raise ConfigurationError(
                f"{candidates[0].name!r} has a head of {_width(shapes[0])} outputs and "
                f"{candidate.name!r} one of {_width(shape)}; members of an ensemble have the same"
            )


def _width(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "no"


def _task(candidate: Candidate) -> str:
    if candidate.run is None:
        return "text-classification"
    return str(candidate.run.configuration.get("task") or "text-classification")


def _kind(task: str, labels: Array) -> Kind:
    if task == "text-classification":
        return MULTI if labels.ndim == 2 else SINGLE
    return NUMBER if task == "text-regression" else CHOICE


def _said_names(candidates: Sequence[Candidate]) -> tuple[str, ...] | None:
    """The classes as one kept model or configuration names them; all members agree, or it says so.

    Raises:
        ConfigurationError: Two members name their classes otherwise.
    """
    from hf_stabilizer.prediction import read_names

    said: tuple[str, tuple[str, ...]] | None = None
    for candidate in candidates:
        assert candidate.run is not None
        values = candidate.run.configuration
        names = values.get("label_names") or values.get("choice_columns")
        if _task(candidate) == "text-classification":
            names = read_names(candidate.folder) or names
        if names is None:
            continue
        if said is not None and tuple(names) != said[1]:
            _refuse_names(said[0], said[1], candidate.name, tuple(names))
        said = said or (candidate.name, tuple(names))
    return None if said is None else said[1]


def _refuse_names(
    first: str, ours: Sequence[str] | None, second: str, theirs: Sequence[str] | None
) -> None:
    raise ConfigurationError(
        f"{first!r} has the classes {', '.join(ours or ('none',))} and {second!r} "
        f"{', '.join(theirs or ('none',))}; members of an ensemble have the same, in one order"
    )


def read_members(
    candidates: Sequence[Candidate], *, tasks: Sequence[str] | None = None
) -> list[Member]:
    """Reads the members whose weights are asked, and sees that they go together.

    Args:
        candidates: The members.
        tasks: What they may be for; None: the tasks with a row of numbers for each row.

    Raises:
        ConfigurationError: One has no weights, another task, other classes or another head.
    """
    from hf_stabilizer.prediction import TASKS, read_member

    members = [read_member(candidate.folder) for candidate in candidates]
    first = members[0]
    for candidate, member in zip(candidates, members, strict=True):
        if member.task not in (tasks or TASKS):
            raise ConfigurationError(
                f"{candidate.name!r} is for {member.task}, whose outputs are no row of numbers for "
                f"each row; use {', '.join(TASKS)}"
            )
        if (member.task, member.problem_type) != (first.task, first.problem_type):
            raise ConfigurationError(
                f"{candidates[0].name!r} is for {first.task} ({first.problem_type}) and "
                f"{candidate.name!r} for {member.task} ({member.problem_type}); members of an "
                "ensemble have one task"
            )
        if member.label_names != first.label_names:
            _refuse_names(candidates[0].name, first.label_names, candidate.name, member.label_names)
    return members


def ask(
    candidates: Sequence[Candidate],
    rows: Dataset | pd.DataFrame,
    *,
    labels: Array | None,
    part: str,
    batch_size: int = 32,
    text_columns: Sequence[str] | None = None,
    choice_columns: Sequence[str] | None = None,
    remembered: Callable[[int, Callable[[], Array]], Array] | None = None,
) -> Answers:
    """Loads each member in turn and asks it about the rows.

    Args:
        candidates: The members.
        rows: The rows.
        labels: What is right, as `Answers` has it; None: not known.
        part: Which rows they are.
        batch_size: Rows per forward pass.
        text_columns: As in `predict_rows`.
        choice_columns: Likewise.
        remembered: From the place of a member and what asks it, to what it says; may know it from
            before.

    Raises:
        ConfigurationError: The members do not go together.
        DataError: A column is missing, or a row has no text.
    """
    from hf_stabilizer.prediction import predict_rows

    members = read_members(candidates)
    parts = []
    for place, member in enumerate(members):

        def asked(member: Member = member) -> Array:
            return predict_rows(
                member,
                rows,
                batch_size=batch_size,
                text_columns=text_columns,
                choice_columns=choice_columns,
            )

        parts.append(asked() if remembered is None else remembered(place, asked))
    _check_heads(candidates, [array.shape[1:] for array in parts])
    return Answers(
        names=tuple(candidate.name for candidate in candidates),
        outputs=np.stack(parts),
        labels=labels,
        kind=kind_of(members[0]),
        label_names=members[0].label_names or tuple(choice_columns or ()) or None,
        part=part,
    )


def kind_of(member: Member) -> Kind:
    """Returns the kind of label that a member was trained on."""
    return member.problem_type or CHOICE


def label_array(labels: Sequence[Any], member: Member) -> Array:
    """Returns labels as scores take them, in the order of a member's classes.

    Args:
        labels: As `load_splits` gives them: class names, lists of them, numbers, or indices.
        member: Whose classes they are.

    Raises:
        DataError: A row has a class that the member does not know.
    """
    if member.label_names is None:
        return np.asarray(labels)
    places = {name: place for place, name in enumerate(member.label_names)}
    unknown = {n for row in labels for n in (row if isinstance(row, list) else [row])} - set(places)
    if unknown:
        raise DataError(
            f"the rows hold labels that the members do not know: {', '.join(sorted(unknown))}; "
            f"they know {', '.join(places)}"
        )
    if kind_of(member) == MULTI:
        return np.asarray([[float(name in row) for name in places] for row in labels])
    return np.asarray([places[name] for name in labels])


def without_lost(answers: Answers) -> Answers:
    """Checks that every member has said numbers.

    Raises:
        ConfigurationError: One has not: it diverged.
    """
    for name, outputs in zip(answers.names, answers.outputs, strict=True):
        if not np.isfinite(outputs).all():
            raise ConfigurationError(
                f"{name!r} put out what is no number: it diverged; leave it out of the members"
            )
    return replace(answers, outputs=np.asarray(answers.outputs, dtype=np.float32))
