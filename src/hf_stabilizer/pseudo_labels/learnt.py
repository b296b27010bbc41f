"""What did the teachers learn themselves? No more than the students may know.

A teacher that learnt a held-out row passes on what it knows of it with every label it gives, so
one that did is refused. What it learnt is read from its run's configuration; where there is none,
that is said.

Importing this module imports neither torch nor transformers; its functions do.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_stabilizer.data.near_duplicates import near_duplicates, normalized
from hf_stabilizer.errors import DataError, StabilizerError, first_line
from hf_stabilizer.prediction import Member
from hf_stabilizer.pseudo_labels.groups import HeldOutGroups
from hf_stabilizer.pseudo_labels.held_out import Guarded, texts_of
from hf_stabilizer.pseudo_labels.teachers import Teachers

if TYPE_CHECKING:
    from hf_stabilizer.data import Splits

logger = logging.getLogger(__name__)


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
    groups: HeldOutGroups | None = None
    """Groups of its validation and test rows; None without `group_column`."""


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
    column = configuration.data.group_column
    groups = None if column is None else HeldOutGroups.of(column, judging)
    return Learnt(_plain(train), tuple(held_out), tuple(train), _plain(chose), groups)


def _splits(member: Member) -> Splits | None:
    from hf_stabilizer.data import load_splits

    assert member.configuration is not None  # asked before
    arguments = member.configuration.data
    keep = () if arguments.group_column is None else (arguments.group_column,)
    try:
        return load_splits(arguments, task=member.task, keep=keep)
    except (StabilizerError, OSError) as error:
        _warn(member, first_line(error))
        return None


def _warn(member: Member, reason: str) -> None:
    logger.warning(
        f"what the teacher {member.name!r} learnt cannot be known ({reason}); make sure that it "
        "never saw the rows that students are scored on"
    )


def guarded_by(learnt: Sequence[Learnt | None]) -> Guarded:
    """Returns the held-out and the labelled rows of the teachers' own configurations.

    Of groups the column of the first teacher that has one counts.
    """
    known = [its for its in learnt if its is not None]
    held_out = dict.fromkeys(text for its in known for text in its.held_out)
    labelled = dict.fromkeys(text for its in known for text in its.labelled)
    return Guarded(tuple(held_out), tuple(labelled), _joined([its.groups for its in known]))


def group_column_of(learnt: Sequence[Learnt | None]) -> str | None:
    """Returns by which column the teachers' runs keep groups together, None if by none."""
    known = [its.groups for its in learnt if its is not None and its.groups is not None]
    return known[0].column if known else None


def _joined(groups: Sequence[HeldOutGroups | None]) -> HeldOutGroups | None:
    known = [its for its in groups if its is not None]
    if not known:
        return None
    same = [its for its in known if its.column == known[0].column]
    names = frozenset().union(*(its.names for its in same))
    return HeldOutGroups(known[0].column, names, max(its.nameless for its in same))


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
