"""Who teaches? Models that answer the same question are read, compared and asked.

Importing this module imports neither torch nor transformers; its functions do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hf_stabilizer.errors import ConfigurationError, DataError
from hf_stabilizer.prediction import Member, predict_rows, read_member
from hf_stabilizer.pseudo_labels.options import Kind

if TYPE_CHECKING:
    import pandas as pd

    from hf_stabilizer.data.columns import Columns

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
