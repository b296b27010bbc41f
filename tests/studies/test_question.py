"""Which recipes may be held against one another? Those that are scored on the same rows."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from hf_stabilizer import ConfigurationError
from hf_stabilizer.configuration import load_configuration
from hf_stabilizer.studies.question import load_recipes

FILES = {"train_file": "a.csv", "validation_file": "b.csv", "test_file": "c.csv"}


def load(settings: dict[str, Any], **keys: Any) -> Any:
    values = {"model_name_or_path": "m", **FILES, **keys}
    named = {name: value for name, value in values.items() if value is not None}
    recipes = {"control": {}, "treated": settings}
    return load_recipes(partial(load_configuration, named), recipes, None)


@pytest.mark.parametrize(
    "settings", [{"train_file": "more.csv"}, {"max_train_rows": 9}, {"unlabelled_file": "u.csv"}]
)
def test_training_rows_may_differ(settings: dict[str, Any]) -> None:
    assert list(load(settings)) == ["control", "treated"]


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        ({"validation_file": "other.csv"}, {}),
        ({"test_file": "other.csv"}, {}),
        ({"filter": "x > 1"}, {}),
        ({"train_file": "more.csv"}, {"validation_file": None}),
        ({"train_file": "more.csv"}, {"test_file": None, "test_size": 5}),
        ({"split_seed": 1}, {"validation_file": None}),
    ],
)
def test_rows_that_are_scored_may_not(settings: dict[str, Any], keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="recipe 'treated' has another rows than"):
        load(settings, **keys)
