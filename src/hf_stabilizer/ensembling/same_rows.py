"""Were these models scored on the rows that choose between them now? Their own predictions tell.

    RUN/predictions.npz    the labels of the validation rows that a run was scored on

Configurations that name one file do not say that it held the same rows each time. A model that was
chosen by other rows, or learnt some of these, is favoured by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hf_stabilizer.ensembling.combining import Array
from hf_stabilizer.ensembling.origins import run_of
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.prediction import Member
from hf_stabilizer.predictions import read_predictions

# Any in this module: values of configuration keys.
_ORDER = ("model_name_or_path", "max_length")


def check_scored_rows(
    names: Sequence[str], members: Sequence[Member], labels: Array, places: Sequence[int]
) -> None:
    """Checks that the members' runs were scored on these validation rows, as far as they tell.

    Labels are compared row by row; of runs that read rows otherwise than the first, which then
    puts them in another order, as a whole. A run that kept no predictions tells nothing, and a text
    that was changed under the same label, without another place in the order, is not seen.

    Args:
        names: What people call the members.
        members: The models, of runs or of checkpoints in them.
        labels: Of the rows as they are now, in their order.
        places: In which order the first member's run is scored on them.

    Raises:
        ConfigurationError: One was scored on others; the message names it.
    """
    kept = [_labels_of(member) for member in members]

    def ordered(member: Member) -> bool:
        return _order(member) == _order(members[0])

    now = np.asarray(labels, dtype=np.float32)
    then = {
        name: _alike(theirs, now, places if ordered(member) else None)
        for name, member, theirs in zip(names, members, kept, strict=True)
        if theirs is not None
    }
    others = [name for name, is_alike in then.items() if not is_alike]
    if not others:
        return
    if len(others) < len(then):
        same = next(name for name, is_alike in then.items() if is_alike)
        raise ConfigurationError(
            f"{same!r} and {others[0]!r} were scored on other validation rows, though their "
            "configurations name the same: what is in the file has changed; train all members on "
            "the same rows, or leave one out"
        )
    raise ConfigurationError(
        f"{others[0]!r} was scored on other validation rows than those that its configuration "
        "names now: what is in the file has changed; bring back the rows, or train anew"
    )


def _labels_of(member: Member) -> Array | None:
    run = run_of(member)
    kept = None if run is None else read_predictions(run)
    found = None if kept is None else kept.validation_labels
    return None if found is None else np.asarray(found, dtype=np.float32)


def _order(member: Member) -> tuple[Any, ...]:
    """What decides in which order a run is scored on its rows."""
    assert member.configuration is not None  # it was asked which rows it scores
    values = member.configuration.values
    return tuple(values.get(key) for key in _ORDER)


def _alike(then: Array, now: Array, places: Sequence[int] | None) -> bool:
    """Whether labels are the same, in the order of the places or, if that is not known, in any."""
    if then.shape != now.shape:
        return False
    if places is not None:
        return bool(np.array_equal(then, now[list(places)]))
    return sorted(_rows(then)) == sorted(_rows(now))


def _rows(labels: Array) -> list[Any]:
    found: list[Any] = labels.reshape(len(labels), -1).tolist()
    return found
