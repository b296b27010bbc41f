"""What does a checkpoint say of the techniques that were at work when it was written?

    promise_file        it is whole only with this file          read by last_complete_checkpoint
    take_up_files       who reads it takes part in the resumed run
    warn_of_files_left  nobody who does takes part
    hold_to_settings    the resumed run is the one that was begun, or it is refused

The notes stand in `trainer_state.json`, among the states of callbacks, where the Trainer writes
what it is handed and reads it back.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from hf_stabilizer.errors import ResumeError

if TYPE_CHECKING:
    from transformers import TrainerState

_NOTES = "hf_stabilizer"
# The runs, by the identity of their state, in which somebody reads the files; kept out of the
# notes, which would take it into checkpoints that others resume from.
_taken_up: WeakValueDictionary[int, TrainerState] = WeakValueDictionary()

Settings = Mapping[str, Any]  # Any: what JSON knows


def promise_file(state: TrainerState, name: str) -> None:
    """Notes that a checkpoint of this step is whole only with a file of this name.

    A callback that writes a file into checkpoints calls this before the Trainer saves. The note
    holds for this step alone, so that a run that is resumed without the callback is not held to it.
    """
    files = promised_files(_states(state), step=state.global_step)
    _note(state, step=state.global_step, files=sorted({*files, name}))


def promised_files(callback_states: object, *, step: int) -> list[str]:
    """Returns the files that a checkpoint of this step was said to hold.

    Args:
        callback_states: The `stateful_callbacks` of a Trainer's state, or of its JSON.
        step: The optimizer step of the checkpoint.
    """
    noted = _noted(callback_states)
    return list(noted.get("files", ())) if noted.get("step") == step else []


def take_up_files(state: TrainerState) -> None:
    """Says that whoever reads the files of a checkpoint takes part in this run."""
    _taken_up[id(state)] = state


def warn_of_files_left(state: TrainerState) -> None:
    """Warns once if no callback has read what the checkpoint that was resumed from promised.

    To be called when a step begins, for then every callback has been set up. The only such file is
    that of the averages: without it the run goes on from their mean.
    """
    files = promised_files(_states(state), step=state.global_step)
    if not files or _taken_up.get(id(state)) is state:
        return
    take_up_files(state)
    warnings.warn(
        f"the checkpoint of step {state.global_step} holds {', '.join(files)}, and no callback of "
        "this run reads it: training goes on from the mean in model.safetensors, and not from the "
        "weights that were trained; add the averaging that the run was started with",
        stacklevel=3,
    )


def hold_to_settings(state: TrainerState, settings: Settings, *, technique: str) -> None:
    """Notes the settings for the checkpoints to come, and refuses others than are noted.

    To be called in `on_train_begin`.

    Args:
        state: The Trainer's state, loaded from a checkpoint where `global_step` is above 0.
        settings: The options, in optimizer steps; none where the technique does nothing.
        technique: The callback, by name.

    Raises:
        ResumeError: The checkpoint was written with other settings; the message names each.
    """
    noted = _noted(_states(state)).get("settings", {})
    saved = noted.get(technique, {}) if state.global_step > 0 else settings
    if changes := differences(saved, settings):
        raise ResumeError(
            f"the checkpoint of step {state.global_step} was written "
            f"{'with another' if saved else 'without'} {technique} ({changes}; steps are optimizer "
            "steps); resume with the settings that it was started with, or train from the beginning"
        )
    _note(state, settings={**noted, technique: dict(settings)})


def differences(before: Settings, now: Settings) -> str:
    """Says which settings changed, and how; nothing if none did.

    Example:
        >>> differences({"start": 2, "every": 1}, {"start": 3, "every": 1})
        'start 2 -> 3'
    """
    return ", ".join(
        f"{name} {before.get(name)!r} -> {now.get(name)!r}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    )


def _noted(callback_states: object) -> dict[str, Any]:  # Any: JSON
    noted = callback_states.get(_NOTES) if isinstance(callback_states, dict) else None
    return noted if isinstance(noted, dict) else {}


def _note(state: TrainerState, **notes: object) -> None:
    states = _states(state)
    states[_NOTES] = {**_noted(states), **notes}


def _states(state: TrainerState) -> dict[str, Any]:
    """The states of the callbacks, which are in a dictionary since the state was made."""
    states: Any = state.stateful_callbacks
    assert isinstance(states, dict)
    return states
