"""Which recipes make a sweep? One for each value of one setting, over the same seeds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from hf_stabilizer.errors import ConfigurationError, check_kind
from hf_stabilizer.recipes import load_recipe

# Any in this module: whatever YAML can say.
LONGEST = 60
"""Letters of a value that go into a recipe's name, which is that of a folder."""


def sweep(
    key: str, values: Iterable[Any], *, base: str | Mapping[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """Returns one recipe for each value of a configuration key, for `run_study(recipes=...)`.

    The study pairs them by seed; its report draws the score against the setting. The first value
    is the baseline of the comparisons, unless other recipes come before it:
    `recipes={"plain": {}, **sweep(...)}`.

    Args:
        key: Any configuration key, e.g. "transfer_layers", "reinit_layers", "learning_rate".
        values: Its values, each once; None where the key allows null.
        base: What all of them set besides: the name of a recipe or a YAML file, or settings.

    Returns:
        Names, such as "reinit_layers=2", with their settings, in the order of the values.

    Raises:
        ConfigurationError: No values, or one that stands there twice; no such recipe. The study
            itself refuses an unknown key and values out of range.

    Example:
        >>> sweep("reinit_layers", [0, 2], base={"averaging": "swa"})
        {'reinit_layers=0': {'averaging': 'swa', 'reinit_layers': 0},
        'reinit_layers=2': {'averaging': 'swa', 'reinit_layers': 2}}
    """
    check_kind(key, str, "a configuration key", name="key")
    check_kind(base, (str, Mapping), "a recipe's name or settings", name="base")
    if not isinstance(values, Iterable):
        raise ConfigurationError(
            f"the sweep of {key} must have a list of values, got {values!r}; write [{values!r}]"
        )
    values = [values] if isinstance(values, str) else list(values)
    if not values:
        raise ConfigurationError(f"the sweep of {key} has no values; give one or more")
    recipes: dict[str, dict[str, Any]] = {}
    for place, value in enumerate(values):
        if any(type(other) is type(value) and other == value for other in values[:place]):
            raise ConfigurationError(
                f"the value {value!r} stands twice in the sweep of {key}; give each value once"
            )
        name = f"{key}={_word(value)}"
        name = f"{name}-{place + 1}" if name in recipes else name
        recipes[name] = {**_without(_settings(base), key), key: value}
    return recipes


def _settings(base: str | Mapping[str, Any] | None) -> Mapping[str, Any]:
    if isinstance(base, str):
        return load_recipe(base).settings
    return base or {}


def _without(settings: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The settings without a key, which would beat the swept value where it holds for a task."""
    kept = {name: value for name, value in settings.items() if name != key}
    if isinstance(kept.get("tasks"), Mapping):
        kept["tasks"] = {task: _without(own, key) for task, own in kept["tasks"].items()}
    return kept


def _word(value: Any) -> str:
    """A value as part of a folder's name."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return re.sub(r"[^\w.+-]+", "-", text)[-LONGEST:] or "-"
