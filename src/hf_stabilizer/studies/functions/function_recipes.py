"""What do recipes and options mean for people's function? The arguments that it is handed.

    options of the study  >  recipe  >  what a study sets: evaluations, the best weights kept

Model and data are the function's own, so only the fields of `StabilizerArguments` can be set, and
`task`, which says what part of a recipe holds where the model's class does not tell.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from hf_stabilizer.arguments import StabilizerArguments
from hf_stabilizer.configuration import (
    IGNORED,
    SEEDS,
    Configuration,
    check_numbers,
    check_value,
    training_defaults,
)
from hf_stabilizer.errors import ConfigurationError, check_choice
from hf_stabilizer.recipes import Recipe, load_recipe
from hf_stabilizer.studies.functions.function_trial import Trial, try_out
from hf_stabilizer.studies.functions.trainer_function import TrainerSource
from hf_stabilizer.tasks import TASKS

logger = logging.getLogger(__name__)

# Any in this module: whatever YAML can say.

_FIELDS = frozenset(field.name for field in fields(StabilizerArguments) if field.init)
# Neither changes what was learnt by calling the function once.
_IRRELEVANT = frozenset({*SEEDS, "output_dir", "evaluations_per_epoch"})


class FunctionRecipes:
    """Reads the configurations of a function's runs, as `load_configuration` does for YAML.

    Args:
        function: People's function. It is called once for each recipe that differs.
    """

    def __init__(self, function: TrainerSource):
        self.function = function
        self._trials: dict[str, Trial] = {}
        self._said: set[str] = set()

    def __call__(
        self, *, recipe: str | Recipe | None = None, overrides: Mapping[str, Any] | None = None
    ) -> Configuration:
        """Returns one checked configuration, in which stands which metric decides.

        Raises:
            ConfigurationError: A key that is no field of `StabilizerArguments`, a value of the
                wrong type or out of range, or a function that cannot be studied.
        """
        given = _checked(overrides or {}, "the study")
        if recipe is None:
            return self._decided(given, "plain", task=given.get("task"))
        overlay = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
        task = given.get("task")
        if task is None and overlay.settings.get("tasks"):
            task = self._trial(self._open(given, "plain")).task
        settings = _checked(overlay.for_task(task), f"recipe {overlay.name!r}")
        return self._decided({**settings, **given}, overlay.name, task=task)

    def trial(self, configuration: Configuration) -> Trial:
        """Returns what is known of a configuration's runs: the function is called if need be."""
        return self._trial(configuration)

    def _decided(self, given: dict[str, Any], name: str, *, task: str | None) -> Configuration:
        """Adds which metric decides."""
        configuration = self._open(given, name)
        trial = self._trial(configuration)
        decided: dict[str, Any] = {
            "metric_for_best_model": trial.decision.metric,
            "greater_is_better": trial.decision.greater_is_better,
        }
        if task := task or trial.task:
            decided["task"] = task
        return configuration.with_values(**decided)

    def _open(self, given: dict[str, Any], name: str) -> Configuration:
        """What is known before the function is called."""
        identity = {"trainer": self.function.name, "trainer_source": self.function.source}
        values = {**training_defaults(given), **given, **identity}
        check_numbers(values)
        configuration = Configuration(values, name, frozenset(given))
        configuration.arguments(output_dir="unused")  # so that clashes of options are told at once
        return configuration

    def _trial(self, configuration: Configuration) -> Trial:
        about = {k: v for k, v in configuration.values.items() if k not in _IRRELEVANT}
        key = json.dumps(about, sort_keys=True, default=str)
        if key not in self._trials:
            self._trials[key] = trial = try_out(configuration, self.function)
            why = trial.decision.why
            if why and why not in self._said:
                logger.warning(why)
                self._said.add(why)
        return self._trials[key]


def _checked(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns values in the types that their keys want."""
    checked = {}
    for key, value in values.items():
        if key in IGNORED:
            continue
        checked[key] = check_value(key, value)
        if key == "task":
            check_choice(value, TASKS, name="task")
        elif key not in _FIELDS:
            raise ConfigurationError(
                f"{where} sets {key}={value!r}, which is no field of StabilizerArguments: model, "
                "data and metrics are the function's own; leave it out, and set it there"
            )
    return checked
