"""What does `--sweep KEY=V1,V2` mean? The values, of a number of layers also `all` of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.recipes import load_recipe, read_value
from hf_stabilizer.studies.sweeps.sweeping import sweep

if TYPE_CHECKING:
    from hf_stabilizer.configuration import Configuration

# Any in this module: whatever YAML can say.
COUNTS_OF_LAYERS = ("transfer_layers", "reinit_layers", "freeze_layers")
"""Options that count blocks, of which `all` values are known."""
WHOLE = "plain"
"""The recipe in which the whole checkpoint is kept."""


def read_sweeps(
    texts: Sequence[str],
    *,
    recipes: Sequence[str] = (),
    config: Any = None,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Mapping[str, Any]]:
    """Returns the recipes of a study: those named first, then one for each value of each sweep.

    Args:
        texts: Such as "transfer_layers=0,2,4,6", "learning_rate=1e-5,2e-5", "reinit_layers=all".
        recipes: Names or YAML files of recipes that come first.
        config: The configuration's path or mapping, whose model `all` asks for its blocks.
        overrides: Keys that beat it.

    Raises:
        ConfigurationError: A text that is no sweep, a value that the key does not allow, `all` of
            an option that counts no layers, beside other values or without a configuration, or a
            recipe that is named twice.

    Example:
        >>> list(read_sweeps(["reinit_layers=0,2"], recipes=["plain"]))
        ['plain', 'reinit_layers=0', 'reinit_layers=2']
    """
    found: dict[str, Mapping[str, Any]] = {}
    for name in recipes:
        recipe = load_recipe(name)
        if recipe.name in found:
            raise ConfigurationError(f"the recipe {recipe.name!r} is named twice")
        found[recipe.name] = recipe.settings
    for text in texts:
        key, values = _read(text)
        if values == ["all"]:
            whole, values = _every_value(key, config, overrides)
            found = found or ({WHOLE: {}} if whole else {})
        else:
            values = _allowed(key, values, text)
        for name, settings in sweep(key, values).items():
            if name in found:
                raise ConfigurationError(f"{name} is swept twice; give each value once")
            found[name] = settings
    return found


def _read(text: str) -> tuple[str, list[Any]]:
    key, equals, words = text.partition("=")
    key = key.strip().replace("-", "_")
    values = read_value(f"[{words}]")
    if not equals or not key.isidentifier() or not isinstance(values, list) or not values:
        raise ConfigurationError(
            f"a sweep is KEY=VALUE,VALUE,..., got {text!r}; for instance reinit_layers=0,1,2"
        )
    return key, values


def _allowed(key: str, values: Sequence[Any], text: str) -> list[Any]:
    """Returns the values as the key has them.

    Raises:
        ConfigurationError: The key is unknown or does not allow one; or `all` is beside others.
    """
    if key in COUNTS_OF_LAYERS and "all" in values:
        others = ", ".join(str(value) for value in values if value != "all")
        raise ConfigurationError(
            f"the sweep {text!r}: all is every number of blocks already; give all by itself, or "
            f"numbers such as {others if others.strip('al, ') else '0, 1, 2'}"
        )
    from hf_stabilizer.configuration import check_value

    checked = [check_value(key, value) for value in values]
    # Recipes are named after what was written: 0 for a number, one word for a list of it.
    return [
        value if new == value or isinstance(new, list) else new
        for value, new in zip(values, checked, strict=True)
    ]


def _every_value(
    key: str, config: Any, overrides: Mapping[str, Any] | None
) -> tuple[bool, list[int]]:
    """Returns whether the whole checkpoint is more than its blocks, and the numbers of blocks.

    The one that leaves the model as it is comes first, for it is the baseline.
    """
    if key not in COUNTS_OF_LAYERS:
        raise ConfigurationError(
            f"{key}=all is not known: only {', '.join(COUNTS_OF_LAYERS)} count layers; "
            "name the values"
        )
    if not isinstance(config, (str, Path, Mapping)):
        raise ConfigurationError(
            f"{key}=all asks a configuration for its model, and there is none here; "
            "name the values, e.g. 0,1,2"
        )
    from hf_stabilizer.configuration import load_configuration

    blocks, has_pooler = _blocks(load_configuration(config, overrides=overrides))
    counts = list(range(blocks + 1))
    if key != "transfer_layers":
        return False, counts
    return has_pooler, counts if has_pooler else [blocks, *counts[:-1]]


def _blocks(configuration: Configuration) -> tuple[int, bool]:
    """Number of blocks, and whether the checkpoint's body has a pooler that would start anew."""
    from hf_stabilizer.arguments import find_layers
    from hf_stabilizer.layer_view import skeleton

    model, args = skeleton(configuration), configuration.arguments(output_dir="unused")
    layers = find_layers(model, args)
    inside = f"{model.base_model_prefix}."
    kept = args.reinit_pooler is None and any(path.startswith(inside) for path in layers.pooler)
    return layers.num_layers, kept
