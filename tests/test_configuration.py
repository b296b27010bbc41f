"""File, recipe and flags become one checked mapping, or one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_stabilizer.configuration import check_value, describe_keys, known_keys, load_configuration
from hf_stabilizer.errors import ConfigurationError

BASE = {"model_name_or_path": "some-model"}


def test_flags_beat_the_recipe_and_the_recipe_beats_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("model_name_or_path: m\nlearning_rate: 1e-3\nadam_epsilon: 1e-8\n")
    loaded = load_configuration(path, recipe="mosbach", overrides={"adam_epsilon": 1e-7})
    assert loaded.values["learning_rate"] == 2e-5
    assert loaded.values["adam_epsilon"] == 1e-7
    assert loaded.recipe == "mosbach"


def test_what_a_run_sets_by_itself() -> None:
    values = load_configuration({**BASE, "task": "text-regression", "seed": 5}).values
    assert values["metric_for_best_model"] == "rmse"
    assert values["greater_is_better"] is False
    assert values["save_strategy"] == "best"
    assert values["evaluations_per_epoch"] == 1
    assert (values["head_seed"], values["data_seed"]) == (5, 5)


def test_an_evaluation_strategy_of_ones_own_is_left_alone() -> None:
    values = load_configuration({**BASE, "eval_strategy": "steps", "eval_steps": 5}).values
    assert "evaluations_per_epoch" not in values


def test_the_resolved_values_read_back_as_the_same_configuration() -> None:
    first = load_configuration(BASE, recipe="stabilised")
    assert load_configuration(dict(first.values)).values == first.values


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("text_columns", "text", ["text"]),
        ("reinit_pooler", True, "true"),
        ("learning_rate", 1, 1.0),
        ("learning_rate", "1e-5", 1e-5),
        ("max_length", None, None),
        ("layer_overrides", {"a.*": "head"}, {"a.*": "head"}),
        ("warmup_steps", 0.1, 0.1),
    ],
)
def test_values_in_the_type_of_their_key(key: str, value: Any, expected: Any) -> None:
    assert check_value(key, value) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"learning_rat": 1},
            "unknown configuration key 'learning_rat' .did you mean learning_rate",
        ),
        ({"layer_lr_decy": 1}, "did you mean layer_lr_decay"),
        ({"learning_rate": "fast"}, "learning_rate must be a number, got 'fast'"),
        ({"max_length": True}, "max_length must be a whole number or null, got True"),
        ({"num_train_epochs": 0}, "num_train_epochs must be above 0, got 0"),
        ({"metrics": ["accuracy", "acuracy"]}, "acuracy"),
        ({"metric_for_best_model": "f1_macro", "metrics": "accuracy"}, "not among metrics"),
        ({"task": "text-clasification"}, "text-clasification"),
        ({"lr_scheduler_type": "liner"}, "liner"),
        ({"layer_lr": "llrd", "layer_lr_decay": 2.0}, "layer_lr_decay must be"),
        ({"learning_rate": -1.0}, "learning_rate must be"),
        ({"model_name_or_path": ""}, "model_name_or_path is missing"),
        ({"seed": -1}, r"seed must be a whole number in \[0, 2\^32\), got -1"),
        ({"head_seed": 2**32}, "head_seed must be a whole number"),
        ({"max_steps": 0}, "max_steps must be 1 or more, or -1 for whole epochs, got 0"),
        ({"task": ["a", "b"]}, "task must be a text, got"),
    ],
    ids=str,
)
def test_refusals(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_configuration({**BASE, **values})


def test_refusals_of_the_trainer_are_one_line() -> None:
    values = {"save_strategy": "epoch", "load_best_model_at_end": True}
    with pytest.raises(ConfigurationError, match="requires the save and eval") as info:
        load_configuration({**BASE, **values})
    assert "\n" not in str(info.value)


def test_a_recipe_over_a_task_that_is_none() -> None:
    with pytest.raises(ConfigurationError, match="task must be a text, got"):
        load_configuration({**BASE, "task": ["a", "b"]}, recipe="stabilised")


def test_a_missing_file_is_one_sentence() -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read 'nowhere.yaml': No such file"):
        load_configuration("nowhere.yaml")


def test_every_key_has_a_line() -> None:
    lines = describe_keys().splitlines()
    assert {line.split()[0] for line in lines} == set(known_keys())
