"""Which arms does an ablation have? From named remedies: each alone, all, all but one.

    baseline | each remedy | all | all but each          1 + k + 1 + k arms; with two remedies
                                                         "all but one" is the other one alone

A remedy is a named set of settings. Each arm is the baseline's settings with those of its remedies
laid over them, which must not contradict one another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hf_stabilizer.configuration import check_value
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.recipes import Recipe, load_recipe, read_value

ALL = "all"
BUT = "all-but-"

Settings = Mapping[str, Any]  # Any: whatever YAML can say


@dataclass(frozen=True)
class Arms:
    """The recipes of an ablation, and what each of them is."""

    recipes: Mapping[str, Settings]
    """Name of each arm -> its settings, the baseline first."""
    ablation: Mapping[str, Any]
    """As in `Study.ablation`."""


def read_remedies(
    remedies: Iterable[str] | Mapping[str, Settings], *, task: str | None
) -> dict[str, dict[str, Any]]:
    """Returns the settings of each remedy, for one task, checked one by one.

    Args:
        remedies: Names of recipes, YAML files, or `NAME:key=value,key=value`; or a mapping from
            names to settings.
        task: The task, as recipes may set different things for different tasks; None: what they
            set for all.

    Raises:
        ConfigurationError: There are fewer than two, one is named twice, is unknown, or sets
            nothing for the task.

    Example:
        >>> read_remedies(["swa:averaging=swa", "slow:learning_rate=1e-5"], task="text-regression")
        {'swa': {'averaging': 'swa'}, 'slow': {'learning_rate': 1e-05}}
    """
    found: dict[str, dict[str, Any]] = {}
    for remedy in _given(remedies):
        if remedy.name in found:
            raise ConfigurationError(f"the remedy {remedy.name!r} is named twice")
        settings = remedy.for_task(task)
        if not settings:
            raise ConfigurationError(
                f"remedy {remedy.name!r} sets nothing{f' for {task}' if task else ''}; leave it out"
            )
        for key, value in settings.items():
            check_value(key, value)
        found[remedy.name] = settings
    if len(found) < 2:
        raise ConfigurationError(
            f"an ablation needs two remedies or more, got {len(found)}; one recipe is held against "
            "another by `hf-stabilizer study CONFIG --recipes plain RECIPE`"
        )
    return found


def arms_of(baseline: str, underneath: Settings, remedies: Mapping[str, Settings]) -> Arms:
    """Returns the arms: the baseline, each remedy alone, all, and all but each.

    Args:
        baseline: Name of the arm without any remedy.
        underneath: Its settings; they are in every arm, and a remedy beats them.
        remedies: Settings of two remedies or more.

    Raises:
        ConfigurationError: Two remedies set one key differently, or a name is taken.

    Example:
        >>> three = {"a": {"warmup_steps": 2}, "b": {"averaging": "swa"}, "c": {"fit_head": True}}
        >>> arms = arms_of("plain", {}, three)
        >>> list(arms.recipes)
        ['plain', 'a', 'b', 'c', 'all', 'all-but-a', 'all-but-b', 'all-but-c']
        >>> arms.recipes["all-but-a"]
        {'averaging': 'swa', 'fit_head': True}
        >>> arms_of("plain", {}, {"a": three["a"], "b": three["b"]}).ablation["remedies"]
        {'a': {'alone': 'a', 'without': 'b'}, 'b': {'alone': 'b', 'without': 'a'}}
    """
    _check_names(baseline, remedies)
    _check_joinable(remedies)
    names = list(remedies)

    def joined(chosen: Sequence[str]) -> dict[str, Any]:
        return {**underneath, **{k: v for name in chosen for k, v in remedies[name].items()}}

    recipes = {baseline: dict(underneath), **{name: joined([name]) for name in names}}
    recipes[ALL] = joined(names)
    shown = {}
    for name in names:
        others = [other for other in names if other != name]
        without = others[0] if len(others) == 1 else f"{BUT}{name}"
        recipes.setdefault(without, joined(others))
        shown[name] = {"alone": name, "without": without}
    return Arms(recipes, {"baseline": baseline, "all": ALL, "remedies": shown})


def _given(remedies: Iterable[str] | Mapping[str, Settings]) -> list[Recipe]:
    if isinstance(remedies, str) or not isinstance(remedies, Iterable):
        raise ConfigurationError(f"remedies must be a list or a mapping, got {remedies!r}")
    if not isinstance(remedies, Mapping):
        return [_read(text) for text in remedies]
    for name, settings in remedies.items():
        if not isinstance(settings, Mapping):
            raise ConfigurationError(
                f"remedy {name!r} must be a mapping of configuration keys, got {settings!r}"
            )
    return [Recipe(name, settings, "") for name, settings in remedies.items()]


def _read(text: object) -> Recipe:
    """A recipe's name or file, or `NAME:key=value,key=value`."""
    if not isinstance(text, str):  # a path; what else it may be, `load_recipe` refuses
        return load_recipe(text)  # type: ignore[arg-type]  # which says so
    name, colon, rest = text.partition(":")
    if not colon or text.endswith((".yaml", ".yml")) or "=" not in rest:
        return load_recipe(text)
    # A comma parts settings only where another key follows: values may be lists.
    settings = {}
    for part in re.split(r",(?=\s*[A-Za-z][\w-]*=)", rest):
        key, equals, value = part.partition("=")
        if not (name and key.strip() and equals):
            raise ConfigurationError(
                f"a remedy must be a recipe, a YAML file or NAME:key=value,key=value, got {text!r}"
            )
        settings[key.strip().replace("-", "_")] = read_value(value)
    return Recipe(name, settings, "")


def _check_names(baseline: str, remedies: Iterable[str]) -> None:
    for name in remedies:
        if name in (baseline, ALL) or name.startswith(BUT):
            raise ConfigurationError(
                f"a remedy cannot be named {name!r}, which is another arm's name; give it its own "
                "with NAME:key=value or in a file NAME.yaml"
            )


def _check_joinable(remedies: Mapping[str, Settings]) -> None:
    owner: dict[str, str] = {}
    for name, settings in remedies.items():
        for key, value in settings.items():
            first = owner.setdefault(key, name)
            if check_value(key, remedies[first][key]) != check_value(key, value):
                raise ConfigurationError(
                    f"remedies {first!r} and {name!r} cannot be joined: {first} sets {key} to "
                    f"{remedies[first][key]!r} and {name} to {value!r}; set it in one of them, or "
                    "in the configuration"
                )
