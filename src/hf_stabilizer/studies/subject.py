"""What is studied? A configuration or people's function: read, checked, and made ready to train."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from hf_stabilizer.configuration import Configuration, load_configuration
from hf_stabilizer.dry_run import DryRun
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.recipes import Recipe
from hf_stabilizer.run import LEVELS, check, prepare_data
from hf_stabilizer.silent_mistakes import Finding
from hf_stabilizer.studies.by_itself import by_itself
from hf_stabilizer.studies.configured_run import ConfiguredRun
from hf_stabilizer.studies.early_stopping.halt_check import check_halt, check_halt_in
from hf_stabilizer.studies.early_stopping.stopping import Stopping
from hf_stabilizer.studies.functions.function_recipes import FunctionRecipes
from hf_stabilizer.studies.functions.function_run import FunctionRun
from hf_stabilizer.studies.functions.trainer_file import TrainerFile
from hf_stabilizer.studies.functions.trainer_function import TrainerFunction, TrainerSource
from hf_stabilizer.studies.trainable import Trainable
from hf_stabilizer.tasks import PreparedTask

logger = logging.getLogger(__name__)

# Any in this module: whatever YAML can say, and what people's functions take and return.
Asked: TypeAlias = "str | Path | Mapping[str, Any] | Callable[[Any], Any]"


class Subject(Protocol):
    """What the runs of a study are runs of."""

    def load(
        self, *, recipe: str | Recipe | None = None, overrides: Mapping[str, Any] | None = None
    ) -> Configuration:
        """Returns what a recipe comes to, checked.

        Raises:
            ConfigurationError: Something in it cannot be right.
        """
        ...

    def check_portable(self) -> None:
        """Raises ConfigurationError if what is studied cannot be sent to other processes."""
        ...

    def prepare(
        self, configuration: Configuration, folder: Path, stopping: Stopping | None
    ) -> tuple[Trainable, Sequence[Finding]]:
        """Makes ready what a recipe needs in the study's folder, and checks that it can run.

        Raises:
            StabilizerError: It cannot.
        """
        ...

    def rehearse(
        self, configuration: Configuration, folder: Path, stopping: Stopping | None
    ) -> DryRun:
        """Says what a run of a recipe would do and cost, measured on a few batches.

        Args:
            configuration: What the recipe comes to.
            folder: Takes what has to be made ready; one that is removed afterwards.
            stopping: Where runs would be halted.

        Raises:
            StabilizerError: It cannot be built, or not be halted there.
        """
        ...


def open_subject(asked: Asked) -> Subject:
    """Returns what is studied: a function, or a configuration.

    Raises:
        ConfigurationError: It is neither.
    """
    if not (callable(asked) or isinstance(asked, str | Path | Mapping | TrainerFile)):
        raise ConfigurationError(
            "config must be the path of a YAML file, a mapping with the same keys, or a function "
            f"from StabilizerArguments to a Trainer, got {asked!r}"
        )
    if isinstance(asked, TrainerFile):
        return FunctionSubject(asked)
    return FunctionSubject(TrainerFunction(asked)) if callable(asked) else ConfigSubject(asked)


def prepare_all(
    subject: Subject,
    configurations: Mapping[str, Configuration],
    folder: Path,
    stopping: Stopping | None,
) -> dict[str, Trainable]:
    """Makes every recipe ready, and says once what `preflight` finds in it.

    Raises:
        StabilizerError: A recipe cannot run.
    """
    found: dict[Finding, list[str]] = {}
    trainables = {}
    for name, configuration in configurations.items():
        with by_itself():
            trainables[name], findings = subject.prepare(configuration, folder, stopping)
        for finding in findings:
            found.setdefault(finding, []).append(name)
    for finding, names in found.items():
        logger.log(LEVELS[finding.severity], "%s: %s", ", ".join(names), finding)
    return trainables


class ConfigSubject:
    """A YAML configuration; its rows are tokenised once, into the study's folder."""

    def __init__(self, config: str | Path | Mapping[str, Any]):
        self._config = config

    def load(
        self, *, recipe: str | Recipe | None = None, overrides: Mapping[str, Any] | None = None
    ) -> Configuration:
        """Returns what a recipe comes to, checked."""
        return load_configuration(self._config, recipe=recipe, overrides=overrides)

    def check_portable(self) -> None:
        """A configuration always can be sent."""

    def prepare(
        self, configuration: Configuration, folder: Path, stopping: Stopping | None
    ) -> tuple[ConfiguredRun, Sequence[Finding]]:
        """Tokenises the rows where that was not done, and builds everything once."""
        rows = _rows(folder, configuration)
        prepared = PreparedTask.load_from(rows)
        findings = check(configuration, prepared)
        if stopping is not None:
            check_halt(configuration, prepared, stopping)
        return ConfiguredRun(configuration, str(rows)), findings

    def rehearse(
        self, configuration: Configuration, folder: Path, stopping: Stopping | None
    ) -> DryRun:
        """Says what a run would do, with all that would go wrong."""
        rows = _rows(folder, configuration)
        found = ConfiguredRun(configuration, str(rows)).rehearse()
        if stopping is not None and not found.would_fail:
            check_halt(configuration, PreparedTask.load_from(rows), stopping)
        return found


class FunctionSubject:
    """A function of people's own, which brings model and data itself."""

    def __init__(self, function: TrainerSource):
        self.function = function
        self._recipes = FunctionRecipes(function)

    def load(
        self, *, recipe: str | Recipe | None = None, overrides: Mapping[str, Any] | None = None
    ) -> Configuration:
        """Returns what a recipe comes to, checked by calling the function."""
        return self._recipes(recipe=recipe, overrides=overrides)

    def check_portable(self) -> None:
        """Raises ConfigurationError if the function refers to what cannot leave this process."""
        if isinstance(self.function, TrainerFunction):
            self.function.packed()

    def prepare(
        self, configuration: Configuration, folder: Path, stopping: Stopping | None
    ) -> tuple[FunctionRun, Sequence[Finding]]:
        """Checks that it can be halted; all else was seen when the function was called."""
        trial = self._recipes.trial(configuration)
        if stopping is not None:
            # What was left out of the trial's key is as the study has it now.
            often = configuration.values.get("evaluations_per_epoch", 0)
            trial.args.evaluations_per_epoch = often
            times = [often] if often else list(trial.times)
            check_halt_in(configuration.recipe, trial.args, times, trial.rows, stopping)
        return FunctionRun(configuration, self.function), trial.findings

    def rehearse(
        self, configuration: Configuration, folder: Path, stopping: Stopping | None
    ) -> DryRun:
        """Says what a run would do; what would fail was an error when the function was called."""
        run, findings = self.prepare(configuration, folder, stopping)
        return replace(run.rehearse(), findings=tuple(findings))


def rows_folder(folder: Path, configuration: Configuration) -> Path:
    """Returns where the tokenised rows of a configuration lie in the folder of a study."""
    model = configuration.model
    said = {**asdict(configuration.data), **asdict(model), "metrics": None}
    key = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:12]
    return folder / "data" / key


def _rows(folder: Path, configuration: Configuration) -> Path:
    """Returns where the tokenised rows lie; a study keeps the rows that it began with."""
    path = rows_folder(folder, configuration)
    if not PreparedTask.is_saved_in(path):
        shutil.rmtree(path, ignore_errors=True)
        prepare_data(configuration).save_to(path)
    return path
