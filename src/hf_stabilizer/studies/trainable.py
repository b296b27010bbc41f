"""What can be trained as a run of a study? Whatever knows its configuration and how to run it.

    ConfiguredRun    a YAML configuration and its tokenised rows
    FunctionRun      a function of people's own, from arguments to a Trainer

It is plain enough to be pickled: a worker is handed one, and a folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from transformers import TrainerCallback

from hf_stabilizer.configuration import Configuration
from hf_stabilizer.records import Run
from hf_stabilizer.run import Part

if TYPE_CHECKING:
    from hf_stabilizer.dry_run import Cost


class Trainable(Protocol):
    """One run that can be begun, in whichever process."""

    @property
    def configuration(self) -> Configuration:
        """What the run does and records: recipe, seeds, the metric that decides."""
        ...

    def with_seeds(self, seeds: dict[str, int]) -> Trainable:
        """Returns the same with other seeds."""
        ...

    def execute(self, folder: Path, *, callbacks: Iterable[TrainerCallback], part: Part) -> Run:
        """Trains a part of the run in this process; an exception is left to the caller."""
        ...

    def probe(self) -> Cost | None:
        """Trains and evaluates a few batches of a model that is thrown away; None: it would fail.

        Raises:
            StabilizerError: It cannot be built.
        """
        ...
