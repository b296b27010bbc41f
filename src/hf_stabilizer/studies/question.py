"""What does a study ask, and is it what its folder asks already?

One configuration, one overlay per recipe, and the seeds. A folder that holds a study may be asked
for more seeds or more recipes of the same question; every other question is refused, and nothing
in it is touched.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from hf_stabilizer.configuration import SECRETS, SEEDS, Configuration, load_configuration
from hf_stabilizer.errors import ConfigurationError, StudyError, check_kind, check_switch
from hf_stabilizer.recipes import Recipe, check_listed, load_recipe
from hf_stabilizer.records import versions
from hf_stabilizer.studies.early_stopping.stopping import LOOKS, Stopping, says_when
from hf_stabilizer.studies.own_files import movable
from hf_stabilizer.studies.seeds.seed_grid import said
from hf_stabilizer.studies.study import DEFINITION, Study, read_definition

logger = logging.getLogger(__name__)

# Where a study lies and how it is shown does not change what its runs compute.
NOT_COMPARED = (
    "output_dir",
    "report_to",
    "run_name",
    "project",
    "trackio_space_id",
    "logging_steps",
    "disable_tqdm",
    *SECRETS,
    *SEEDS,
)


def load_recipes(
    config: str | Path | Mapping[str, Any] | Callable[..., Configuration],
    recipes: Sequence[str] | Mapping[str, Mapping[str, Any]],
    overrides: Mapping[str, Any] | None,
    *,
    comparable: bool = True,
) -> dict[str, Configuration]:
    """Returns one checked configuration per recipe, all of them about the same scores.

    Args:
        config: Path of a YAML file, or a mapping with the same keys; or what reads a recipe.
        recipes: Names or YAML files; or a mapping from the name of each to its settings.
        overrides: Keys that beat both.
        comparable: Whether all have to score the same rows.

    Raises:
        ConfigurationError: A recipe is named twice or asks for other rows, another task or metric;
            or the configuration pins a seed, which a study sets itself.
    """
    check_kind(overrides, Mapping, "a mapping from keys to values", name="overrides")
    load = config if callable(config) else partial(load_configuration, config)
    found: dict[str, Configuration] = {}
    for recipe in _overlays(recipes):
        configuration = load(recipe=recipe, overrides=overrides)
        if configuration.recipe in found:
            raise ConfigurationError(f"the recipe {configuration.recipe!r} is named twice")
        found[configuration.recipe] = configuration
    if not found:
        raise ConfigurationError("recipes is empty; name one or more, e.g. plain stabilised")
    for configuration in found.values():
        if pinned := sorted(configuration.given & set(SEEDS)):
            raise ConfigurationError(
                f"a study sets the seeds itself, and the configuration gives {', '.join(pinned)}; "
                "leave that out, and name the first seed of the study instead"
            )
    _check_one_question(found, comparable=comparable)
    _note_equals(list(found.values()))
    return found


def check_settings(
    *,
    overrides: object,
    ablation: object,
    retry_failed: object,
    keep_models: object,
    command: object,
) -> None:
    """Raises ConfigurationError if an option of a study is not of its kind.

    Args:
        overrides: A mapping of keys.
        ablation: A mapping, as in `Study.ablation`.
        retry_failed: A switch.
        keep_models: A switch.
        command: A text.
    """
    keys = "a mapping from configuration keys to values"
    check_kind(overrides, Mapping, keys, name="overrides")
    check_kind(ablation, Mapping, "a mapping, as `ablate` gives it", name="ablation")
    check_switch(retry_failed, name="retry_failed")
    check_switch(keep_models, name="keep_models")
    check_kind(command, str, "a command line in one text", name="command")


def _overlays(
    recipes: Sequence[str] | Mapping[str, Mapping[str, Any]],
) -> list[Recipe]:
    check_listed(recipes)
    if not isinstance(recipes, Mapping):
        return [load_recipe(name) for name in recipes]
    for name, settings in recipes.items():
        # The name becomes that of a folder.
        if not isinstance(name, str) or not re.fullmatch(r"[\w+-][\w.+=-]*", name):
            raise ConfigurationError(
                "a recipe's name must be of letters, digits, '.', '+', '-', '=' and '_', got "
                f"{name!r}"
            )
        if not isinstance(settings, Mapping):
            raise ConfigurationError(
                f"recipe {name!r} must be a mapping of configuration keys, got {settings!r}; a "
                "recipe that ships, or a file, is named in a list"
            )
    return [Recipe(name, settings, "") for name, settings in recipes.items()]


def look_often(
    base: Configuration, configurations: Mapping[str, Configuration], stopping: Stopping
) -> tuple[Configuration, dict[str, Configuration], Stopping]:
    """Sets ten evaluations per epoch in each configuration that does not say when to evaluate.

    Runs that are ranked early need many looks (Dodge et al. 2020, section 5). Where an epoch has
    fewer steps, each of them is evaluated.

    Returns:
        The three, with what was set in `Stopping.filled_in`.
    """

    def often(one: Configuration) -> Configuration:
        return one if says_when(one.given) else one.with_values(evaluations_per_epoch=LOOKS)

    silent = [name for name, one in configurations.items() if not says_when(one.given)]
    if silent:
        of = "" if len(silent) == len(configurations) else f" for {', '.join(silent)}"
        said = (*stopping.filled_in, f"evaluations_per_epoch={LOOKS}{of}")
        stopping = replace(stopping, filled_in=said)
    return often(base), {name: often(one) for name, one in configurations.items()}, stopping


def _note_equals(configurations: Sequence[Configuration]) -> None:
    for place, other in enumerate(configurations):
        for first in configurations[:place]:
            if other.values == first.values:
                logger.warning(
                    f"recipe {other.recipe} sets nothing here that {first.recipe} does not: "
                    "their runs will be equal"
                )
                break


def _check_one_question(configurations: Mapping[str, Configuration], *, comparable: bool) -> None:
    """Scores are comparable only on the same task, metric and rows to be scored.

    Training rows may differ, where they have no part in which rows are scored.
    """
    first = next(iter(configurations.values()))
    for name, other in configurations.items():
        for what, ours, theirs in (
            ("task", first.model.task, other.model.task),
            ("metric", first.metric, other.metric),
            ("rows", comparable and _scored_rows(first), comparable and _scored_rows(other)),
        ):
            if ours != theirs:
                raise ConfigurationError(
                    f"recipe {name!r} has another {what} than {first.recipe!r}, so their scores "
                    f"cannot be compared; set it in the configuration, for all"
                )


def _scored_rows(configuration: Configuration) -> dict[str, Any]:
    """The keys about rows that decide which rows are scored."""
    data = configuration.data
    keys = asdict(data)
    for key in ("max_train_rows", "unlabelled_file", "soft_label_column"):
        keys.pop(key, None)
    if data.validation_file is not None and data.test_size is None:
        del keys["train_file"]
    return keys


def define_study(
    folder: Path,
    base: Configuration,
    configurations: Mapping[str, Configuration],
    seeds: Sequence[Mapping[str, int]],
    *,
    command: str,
    stopping: Stopping | None = None,
    ablation: Mapping[str, Any] | None = None,
    comparable: bool = True,
) -> Study:
    """Returns the study that is asked for, joined with what the folder holds of it.

    Raises:
        StudyError: The folder holds another study, or other files.
    """
    first = next(iter(configurations.values()))
    asked = Study(
        name=folder.resolve().name,
        recipes=tuple(configurations),
        runs=(),
        metric=first.metric,
        greater_is_better=first.values["greater_is_better"],
        seeds=tuple(seeds),
        configuration=_compared(base.values, folder),
        recipe_settings={name: _overlay(base, c, folder) for name, c in configurations.items()},
        stop_at=stopping.stop_at if stopping else None,
        keep=stopping.keep if stopping else None,
        command=command or _call(list(configurations), seeds, stopping),
        versions=versions(),
        ablation=ablation,
        comparable=comparable,
    )
    return _joined(asked, folder) if (folder / DEFINITION).exists() else _fresh(asked, folder)


def _call(recipes: list[str], seeds: Sequence[Mapping[str, int]], stopping: Stopping | None) -> str:
    early = f", stop_at={stopping.stop_at}, keep={stopping.keep}" if stopping else ""
    return f"run_study(..., recipes={recipes}, {said(seeds)}{early})"


def _overlay(base: Configuration, other: Configuration, folder: Path) -> dict[str, Any]:
    ours, theirs = _compared(base.values, folder), _compared(other.values, folder)
    changed = {k: v for k, v in theirs.items() if k not in ours or ours[k] != v}
    return {**changed, **{k: None for k in ours if k not in theirs}}


def _compared(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dict(values), default=str))
    kept = {key: value for key, value in plain.items() if key not in NOT_COMPARED}
    return movable(kept, folder)


def _fresh(asked: Study, folder: Path) -> Study:
    if folder.exists() and not folder.is_dir():
        raise StudyError(f"{str(folder)!r} is a file; name a folder")
    # A name that begins with a dot is our lock, or what a write that was cut off has left.
    names = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
    strangers = [name for name in names if name != "data" and not name.startswith(".")]
    if strangers:
        raise StudyError(
            f"{str(folder)!r} holds other files ({', '.join(sorted(strangers)[:3])}) and no study; "
            "name a new or an empty folder"
        )
    return asked


def _joined(asked: Study, folder: Path) -> Study:
    there = read_definition(folder)
    _check_same_source(there, asked, folder)
    # What was asked for comes first: settings may differ as a consequence.
    differences = _other_halts(there, asked) + _other_arms(there, asked)
    if there.comparable != asked.comparable:
        differences.append("its recipes were to score " + _which_rows(there.comparable))
    differences += _differences("configuration", there.configuration, asked.configuration)
    for name in set(there.recipes) & set(asked.recipes):
        differences += _differences(
            f"recipe {name}", there.recipe_settings.get(name, {}), asked.recipe_settings[name]
        )
    if differences:
        raise StudyError(
            f"{str(folder)!r} holds another study: {'; '.join(differences[:4])}; "
            "name another output folder, or remove that one"
        )
    new = [name for name in asked.recipes if name not in there.recipes]
    return replace(
        asked,
        recipes=(*there.recipes, *new),
        seeds=(*there.seeds, *(s for s in asked.seeds if s not in there.seeds)),
        recipe_settings={**there.recipe_settings, **asked.recipe_settings},
        ablation=asked.ablation or there.ablation,
    )


def _which_rows(comparable: bool) -> str:
    return "the same rows" if comparable else "rows of their own"


def _check_same_source(there: Study, asked: Study, folder: Path) -> None:
    """Refuses a function of people's own that is another by now."""
    name, source = (asked.configuration.get(key) for key in ("trainer", "trainer_source"))
    was = there.configuration.get("trainer_source")
    if name and name == there.configuration.get("trainer") and source != was:
        raise StudyError(
            f"the source of {name} has changed since the study in {str(folder)!r} was started; "
            "name another output folder, or take the change back; if it changes nothing that a "
            f"run computes, write {source!r} in place of {was!r} into its {DEFINITION}"
        )


def _other_halts(there: Study, asked: Study) -> list[str]:
    """What cannot be taken back: another fraction, fewer runs to rank, fewer that went on."""
    if asked.stop_at != there.stop_at:
        return [f"stop_at was {there.stop_at!r} and is now {asked.stop_at!r}"]
    if asked.stop_at is None:
        return []
    found = []
    if (asked.keep or 0) < (there.keep or 0):
        found.append(f"keep was {there.keep!r} and is now {asked.keep!r}; it can only grow")
    if missing := [seeds for seeds in there.seeds if seeds not in asked.seeds]:
        found.append(
            f"runs was {len(there.seeds)} and the seeds of {len(missing)} of them are not asked "
            "for now; runs can only be added"
        )
    return found


def _other_arms(there: Study, asked: Study) -> list[str]:
    """Why the arms of an ablation cannot join what is there."""
    if asked.ablation is None:
        return []
    found = []
    if there.ablation and there.ablation != asked.ablation:
        found.append("its ablation has other remedies")
    if there.recipes[:1] != asked.recipes[:1]:
        found.append(f"its baseline is {', '.join(there.recipes[:1])}, not {asked.recipes[0]}")
    return found


def _differences(where: str, there: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    return [
        f"{where}: {key} was {there.get(key)!r} and is now {asked.get(key)!r}"
        for key in sorted({*there, *asked})
        if there.get(key) != asked.get(key)
    ]
