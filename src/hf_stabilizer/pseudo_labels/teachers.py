"""Who teaches, and what did they learn themselves? Teachers are read, compared and asked.

A teacher that learnt a held-out row passes on what it knows of it with every label it gives, so
one that did is refused. What it learnt is read from its run's configuration; where there is none,
that is said.

Importing this module imports neither torch nor transformers; its functions do.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hf_stabilizer.data.near_duplicates import near_duplicates, normalized
from hf_stabilizer.errors import ConfigurationError, DataError, StabilizerError, first_line
from hf_stabilizer.prediction import Member, predict_rows, read_member
from hf_stabilizer.pseudo_labels.held_out import Guarded, texts_of
from hf_stabilizer.pseudo_labels.options import Kind

if TYPE_CHECKING:
    import pandas as pd

    from hf_stabilizer.data import Splits
    from hf_stabilizer.data.columns import Columns

logger = logging.getLogger(__name__)

KINDS: Mapping[str, Kind] = {
    "text-classification": "classes",
    "text-regression": "number",
    "multiple-choice": "choices",
}
"""Tasks whose rows teachers can label."""


@dataclass(frozen=True)
class Teachers:
    """Models that judge rows together."""

    members: tuple[Member, ...]
    """One or more, all of one task."""
    kind: Kind
    """What they give a row."""
    label_names: tuple[str, ...] | None
    """Names of the classes, in the order of the first teacher unless another is asked for; None but
    for classes."""

    @property
    def names(self) -> list[str]:
        """Their folders."""
        return [member.name for member in self.members]

    def outputs(
        self, rows: pd.DataFrame, columns: Columns, *, batch_size: int
    ) -> npt.NDArray[np.float32]:
        """Returns what each puts out for the rows: [teachers, rows, classes].

        Raises:
            DataError: That of one is not a number.
        """
        found = []
        for member in self.members:
            its = predict_rows(
                member,
                rows,
                batch_size=batch_size,
                text_columns=columns.texts,
                choice_columns=columns.choices or None,
            )
            if np.isnan(its).any():
                raise DataError(
                    f"the teacher {member.name!r} puts out what is not a number, as weights do "
                    "that have diverged; leave it out, or train it with a smaller learning_rate"
                )
            found.append(its[:, self._order(member)])
        return np.stack(found)

    def in_order_of(self, names: Sequence[str] | None) -> Teachers:
        """Returns the same, with the classes in the order that the rows of the students have.

        Probabilities are told apart by their place alone.

        Raises:
            ConfigurationError: The classes are others.
        """
        if self.label_names is None or names is None or self.label_names == tuple(names):
            return self
        if sorted(self.label_names) != sorted(names):
            raise ConfigurationError(
                f"the teacher {self.names[0]!r} knows the classes {', '.join(self.label_names)}, "
                f"and the rows have {', '.join(names)}; a student learns the classes of its "
                "teachers: name other teachers, or train them here"
            )
        return replace(self, label_names=tuple(names))

    def _order(self, member: Member) -> Any:  # Any: whatever indexes an axis
        """Places of the first teacher's classes among those of another."""
        if self.label_names is None or member.label_names is None:
            return slice(None)
        return [member.label_names.index(name) for name in self.label_names]


def read_teachers(folders: str | Path | Sequence[str | Path]) -> Teachers:
    """Reads teachers, and checks that they answer the same question.

    Args:
        folders: Folders of runs, of checkpoints in them, or of models; or one of these.

    Raises:
        ConfigurationError: There is none, one cannot be read, or their tasks or classes differ.

    Example:
        >>> read_teachers([])
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: teachers is empty; name one trained model or more
    """
    named = [folders] if isinstance(folders, str | Path) else list(folders)
    if not named:
        raise ConfigurationError("teachers is empty; name one trained model or more")
    members = tuple(read_member(folder) for folder in named)
    _refuse_twice(members)
    first = members[0]
    if first.task not in KINDS:
        raise ConfigurationError(
            f"teacher {first.name!r} was trained for {first.task}; pseudo-labels are for "
            f"{', '.join(KINDS)}"
        )
    for other in members[1:]:
        _refuse_other(first, other)
    several = first.problem_type == "multi_label_classification"
    kind: Kind = "labels" if several else KINDS[first.task]
    return Teachers(members, kind, first.label_names if kind in ("classes", "labels") else None)


def _refuse_twice(members: Sequence[Member]) -> None:
    seen: set[Path] = set()
    for member in members:
        folder = member.model_folder.resolve()
        if folder in seen:
            raise ConfigurationError(
                f"teacher {member.name!r} is named twice; each has one voice, so name it once"
            )
        seen.add(folder)


def _refuse_other(first: Member, other: Member) -> None:
    for what, ours, theirs in (
        ("task", first.task, other.task),
        ("kind of labels", first.problem_type, other.problem_type),
        ("classes", sorted(first.label_names or ()), sorted(other.label_names or ())),
    ):
        if ours != theirs:
            raise ConfigurationError(
                f"teachers {first.name!r} and {other.name!r} differ in their {what}: {ours} and "
                f"{theirs}; teachers judge together only where these are the same"
            )


@dataclass(frozen=True)
class Learnt:
    """What a teacher learnt, and what judged it, as normalised texts."""

    train: frozenset[str]
    """Texts that it learnt from."""
    held_out: tuple[str, ...]
    """Texts of its validation and test rows, as they were written."""
    labelled: tuple[str, ...]
    """The first, as they were written."""
    chose: frozenset[str]
    """Texts of the rows that chose its weights; none where the last weights were kept."""


def what_was_learnt(teachers: Teachers) -> list[Learnt | None]:
    """Returns what each teacher learnt; None, and a warning, where that cannot be known."""
    read: dict[str, Splits | None] = {}
    return [_learnt(member, read) for member in teachers.members]


def _learnt(member: Member, read: dict[str, Splits | None]) -> Learnt | None:
    configuration = member.configuration
    if configuration is None:
        _warn(member, "no configuration lies beside it")
        return None
    key = repr(configuration.data)
    if key not in read:
        read[key] = _splits(member)
    splits = read[key]
    if splits is None:
        return None
    columns = (*splits.text_columns, *splits.choice_columns)
    train = texts_of(splits.train, columns)
    judging = [rows for rows in (splits.validation, splits.test) if rows is not None]
    held_out = [text for rows in judging for text in texts_of(rows, columns)]
    chosen = configuration.values.get("load_best_model_at_end")
    chose = texts_of(splits.validation, columns) if chosen else []
    return Learnt(_plain(train), tuple(held_out), tuple(train), _plain(chose))


def _splits(member: Member) -> Splits | None:
    from hf_stabilizer.data import load_splits

    assert member.configuration is not None  # asked before
    try:
        return load_splits(member.configuration.data, task=member.task)
    except (StabilizerError, OSError) as error:
        _warn(member, first_line(error))
        return None


def _warn(member: Member, reason: str) -> None:
    logger.warning(
        f"what the teacher {member.name!r} learnt cannot be known ({reason}); make sure that it "
        "never saw the rows that students are scored on"
    )


def guarded_by(learnt: Sequence[Learnt | None]) -> Guarded:
    """Returns the held-out and the labelled rows of the teachers' own configurations."""
    known = [its for its in learnt if its is not None]
    held_out = dict.fromkeys(text for its in known for text in its.held_out)
    labelled = dict.fromkeys(text for its in known for text in its.labelled)
    return Guarded(tuple(held_out), tuple(labelled))


def refuse_seen(
    teachers: Teachers,
    learnt: Sequence[Learnt | None],
    held_out: Sequence[str],
    labelled: Sequence[str] = (),
) -> None:
    """Checks that no teacher learnt a row that students are scored on.

    A text that stands among the labelled rows of the students, too, is no sign of it: they learn
    it anyhow, with and without pseudo-labels.

    Args:
        teachers: Who was asked.
        learnt: What each of them learnt, as far as it is known.
        held_out: Texts of the rows that students are scored on.
        labelled: Texts of the rows that students learn with their true labels.

    Raises:
        DataError: One did.
    """
    judging = _plain(held_out) - _plain(labelled)
    for member, its in zip(teachers.members, learnt, strict=True):
        if its is None:
            continue
        seen = len(judging & its.train)
        if seen:
            raise DataError(
                f"the teacher {member.name!r} learnt {seen} of {len(judging)} held-out texts, and "
                "would tell students about the rows that they are scored on; use a teacher that "
                "was trained with the same division of the rows, or in `pseudo_label` name as "
                "held_out the rows that students are scored on"
            )
        chosen = len(judging & its.chose)
        if chosen:
            logger.info(
                f"the weights of the teacher {member.name!r} were chosen by {chosen} of "
                f"{len(judging)} held-out texts: scores on these rows will be a little "
                "optimistic; test rows judge"
            )


def tell_of_near(
    teachers: Teachers,
    learnt: Sequence[Learnt | None],
    held_out: Sequence[str],
    labelled: Sequence[str],
    *,
    similarity: float,
) -> None:
    """Warns of teachers that learnt near duplicates of held-out rows, which students do not learn.

    Args:
        teachers: Who was asked.
        learnt: What each of them learnt, as far as it is known.
        held_out: Texts of the rows that students are scored on.
        labelled: Texts of the rows that students learn with their true labels.
        similarity: Least similarity of a near duplicate.
    """
    own, found = _plain(labelled), {}
    for member, its in zip(teachers.members, learnt, strict=True):
        if its is None:
            continue
        if its.train not in found:  # Teachers of one round learnt the same.
            more = [text for text in its.labelled if normalized(text) not in own]
            pairs = near_duplicates(more, held_out, threshold=similarity)
            found[its.train] = len({place for _, place, _ in pairs})
        if found[its.train]:
            logger.warning(
                f"the teacher {member.name!r} learnt near duplicates of {found[its.train]} of "
                f"{len(held_out)} held-out texts, which the students do not learn: scores on these "
                "rows may be too good"
            )


def _plain(texts: Sequence[str]) -> frozenset[str]:
    return frozenset(normalized(text) for text in texts)
