"""Which part of a run is trained? The whole of it, or from one checkpoint on to where it halts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from transformers import TrainerCallback

from hf_stabilizer.configuration import Configuration


@dataclass(frozen=True)
class Part:
    """Which part of a run is trained; the whole of it unless told otherwise."""

    resume_from: Path | None = None
    """Whole checkpoint that it goes on from."""
    seconds: float = 0.0
    """Wall-clock seconds of the parts before."""
    is_halted: Callable[[], bool] = bool
    """Tells after training whether a callback halted it on the way, to go on another time."""
    last: tuple[TrainerCallback, ...] = ()
    """Callbacks that come after all others."""
    labels: Mapping[str, str | None] = field(default_factory=dict)
    """Options that tell trackers of it, such as `run_name`. They are not recorded."""

    def fitted(self, configuration: Configuration) -> Configuration:
        """Adds the labels; leaves out what the checkpoint brings anyhow and takes time."""
        configuration = configuration.with_values(**self.labels)
        if self.resume_from is None:
            return configuration
        return configuration.with_values(
            resume_from_checkpoint=str(self.resume_from), fit_head=False, fit_head_scale=None
        )


WHOLE = Part()
"""All of a run, from its first step to its last."""
