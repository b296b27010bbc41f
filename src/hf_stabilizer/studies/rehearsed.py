"""What would a study do, and what would it cost? The record of its dry run.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hf_stabilizer.studies.statistics import cost as full_runs

if TYPE_CHECKING:
    from hf_stabilizer.dry_run import Cost
    from hf_stabilizer.silent_mistakes import Finding


@dataclass(frozen=True)
class RehearsedRecipe:
    """What each run of a recipe would do."""

    name: str
    """Name of the recipe."""
    settings: Mapping[str, Any] = field(default_factory=dict)  # Any: whatever YAML can say
    """What it lays over the configuration; None takes a key away."""
    findings: tuple[Finding, ...] = ()
    """What would fail or go wrong in silence."""
    steps: int = 0
    """Optimizer steps; 0 where they are not known."""
    evaluations: int = 0
    """Evaluations on the validation rows, as far as they are known beforehand."""
    stop_step: int | None = None
    """Optimizer step at which runs are halted; None: none is, or it is not known."""
    cost: Cost | None = None
    """What a whole run takes on this machine; None where it is not known, or the run would fail."""
    command: str = ""
    """Of a command line: that of the first run."""

    @property
    def would_fail(self) -> bool:
        """Whether a finding is an error."""
        return any(finding.severity == "error" for finding in self.findings)


@dataclass(frozen=True)
class RehearsedStudy:
    """What a study would do."""

    output_dir: str
    """Folder of the study, or its URL; nothing is written there."""
    metric: str
    """Name of the metric that decides; empty where the runs themselves will name it."""
    greater_is_better: bool
    """Whether a larger value of it is the better one."""
    recipes: tuple[RehearsedRecipe, ...]
    """The first is the baseline."""
    seeds: tuple[Mapping[str, int], ...]
    """Seeds of the runs of each recipe."""
    there: int = 0
    """Runs that are over in the folder already, and would not be repeated."""
    stop_at: float | None = None
    """f: fraction of the steps at which runs are halted; None: all go to the end."""
    keep: int | None = None
    """p: runs of each recipe that go on from there."""
    filled_in: tuple[str, ...] = ()
    """What was set as nothing was said of it: "keep=4"."""
    executor: str = "local"
    """What executes the runs, in a word."""
    workers: int | None = None
    """Runs that are trained side by side; None where only the cluster knows."""
    rows: int = 0
    """Bytes of the tokenised rows."""
    keep_models: bool = False
    """Whether the model of every run is kept."""

    @property
    def runs(self) -> int:
        """Runs in all, those that are there already among them."""
        return len(self.seeds) * len(self.recipes)

    @property
    def full_runs(self) -> float:
        """Cost of each recipe in full runs: t f + p (1 - f), or t where none is stopped."""
        if self.stop_at is None or self.keep is None:
            return float(len(self.seeds))
        return full_runs(len(self.seeds), self.stop_at, self.keep)

    @property
    def seconds(self) -> float | None:
        """Wall-clock time of all runs on workers like this machine; None where it is not known."""
        costs = self._costs()
        if costs is None:
            return None
        return sum(one.seconds for one in costs) * self.full_runs / (self.workers or 1)

    @property
    def disk(self) -> int | None:
        """Bytes that lie on disk at the most; None where that is not known."""
        costs = self._costs()
        if costs is None:
            return None
        runs, at_once = len(self.seeds), self.workers or 1
        if self.stop_at is not None:
            return self.rows + sum(disk_of_halted(one, runs, at_once) for one in costs)
        kept = sum(one.weights * (runs if self.keep_models else 1) for one in costs)
        return self.rows + kept + at_once * max(one.disk for one in costs)

    @property
    def would_fail(self) -> bool:
        """Whether runs would fail."""
        return any(recipe.would_fail for recipe in self.recipes)

    def _costs(self) -> Sequence[Cost] | None:
        found = [recipe.cost for recipe in self.recipes if recipe.cost is not None]
        return found if found and len(found) == len(self.recipes) else None


def disk_of_halted(found: Cost, runs: int, workers: int) -> int:
    """Returns bytes at the most of a recipe whose runs are halted.

    Each run has its checkpoint and its best weights, and so have those that are under way.
    """
    best = found.weights + 2 * found.averaging
    halted = best + found.optimizer
    return runs * (halted + best) + workers * 2 * best + found.weights
