"""What had people's callbacks counted when a run was cut off? They are told when it goes on.

The Trainer writes the state of those that have one (`ExportableState`, such as the patience of
`EarlyStoppingCallback`) into each checkpoint, and reads it only where
`restore_callback_states_from_checkpoint` asks for it; then it puts new objects in their places.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

# Any in this module: what callbacks note about themselves, as JSON.


def recall(callbacks: Sequence[TrainerCallback], checkpoint: str | Path) -> None:
    """Sets what each callback had counted at a checkpoint; one that it does not know is left alone.

    Args:
        callbacks: Those of a Trainer that is to go on from there.
        checkpoint: Folder that the Trainer wrote.
    """
    noted = _noted(Path(checkpoint) / "trainer_state.json")
    own = [callback for callback in callbacks if isinstance(callback, ExportableState)]
    left = Counter(type(callback).__name__ for callback in own)
    for callback in own:
        name = type(callback).__name__
        # Of several of a kind each checkpoint has added to the notes of those before.
        if left[name] <= len(noted.get(name, ())):
            note = noted[name][-left[name]]
            for attribute, value in note.get("attributes", {}).items():
                setattr(callback, attribute, value)
        left[name] -= 1


def _noted(state: Path) -> dict[str, list[Mapping[str, Any]]]:
    """Notes by the name of the callback's class; none where there is no such file."""
    try:
        found = json.loads(state.read_text(encoding="utf-8")).get("stateful_callbacks") or {}
    except OSError:  # the Trainer says it better
        return {}
    return {name: notes if isinstance(notes, list) else [notes] for name, notes in found.items()}
