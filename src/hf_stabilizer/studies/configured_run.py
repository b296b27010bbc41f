"""How is a configuration trained in a study? On rows that were tokenised once for all its runs."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import TrainerCallback

from hf_stabilizer.configuration import Configuration
from hf_stabilizer.dry_run import Cost, DryRun, rehearse_on
from hf_stabilizer.records import Run
from hf_stabilizer.run import Part, execute
from hf_stabilizer.tasks import PreparedTask


@dataclass(frozen=True)
class ConfiguredRun:
    """A run of a YAML configuration."""

    configuration: Configuration
    """What it does."""
    data: str
    """Folder of its tokenised rows."""

    def with_seeds(self, seeds: dict[str, int]) -> ConfiguredRun:
        """Returns the same with other seeds."""
        return replace(self, configuration=self.configuration.with_values(**seeds))

    def execute(self, folder: Path, *, callbacks: Iterable[TrainerCallback], part: Part) -> Run:
        """Trains a part of the run in this process; an exception is left to the caller."""
        rows = _rows(self.data)
        return execute(self.configuration, folder, rows, callbacks=callbacks, quiet=True, part=part)

    def probe(self) -> Cost | None:
        """Trains and evaluates a few batches of a model that is thrown away; None: it would fail.

        Raises:
            StabilizerError: It cannot be built.
        """
        return self.rehearse().cost

    def rehearse(self) -> DryRun:
        """Does that, and tells all that a run would do.

        Raises:
            StabilizerError: It cannot be built.
        """
        return rehearse_on(_rows(self.data), self.configuration)


@functools.lru_cache(maxsize=4)
def _rows(folder: str) -> PreparedTask:
    """Rows tokenised once for the whole study, opened once in each worker."""
    return PreparedTask.load_from(Path(folder))
