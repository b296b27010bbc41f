"""Recipes: one copy, one loader, and the published numbers in them."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hf_stabilizer.configuration import load_configuration
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.recipes import load_recipe, read_yaml, recipe_folder, recipe_names

ROOT = Path(__file__).parents[1]


def test_the_promised_recipes_are_there() -> None:
    promised = {"plain", "llrd-commonlit", "grouped-llrd-commonlit", "zhang-reinit", "mosbach"}
    assert promised | {"stabilised"} <= set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_names_its_source_and_is_valid(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.summary.endswith(".")
    assert name == "plain" or "Source:" in recipe.comment
    for task in ("text-classification", "text-regression", "multiple-choice"):
        load_configuration({"model_name_or_path": "x", "task": task}, recipe=name)


def test_plain_sets_nothing() -> None:
    assert load_recipe("plain").for_task("text-classification") == {}


def test_stabilised_holds_for_classification_alone() -> None:
    recipe = load_recipe("stabilised")
    assert recipe.for_task("text-classification")["fit_head"] is True
    assert recipe.for_task("text-regression") == {}


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("# Mine.\n# Source: me.\nlearning_rate: 1e-5\n")
    recipe = load_recipe(str(path))
    assert (recipe.name, recipe.summary) == ("mine", "Mine.")
    assert recipe.for_task(None) == {"learning_rate": 1e-5}


def test_a_misspelt_task_is_not_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("tasks:\n  text-clasification:\n    fit_head: true\n")
    with pytest.raises(ConfigurationError, match="did you mean text-classification"):
        load_recipe(str(path))


def test_a_misspelt_name_gets_a_hint() -> None:
    with pytest.raises(ConfigurationError, match=r"recipe .stabilized. \(did you mean stabilised"):
        load_recipe("stabilized")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "not valid YAML"),
        ("a: 1\na: 2", r"not valid YAML: found duplicate key .* in line 2$"),
        ("- 1", "must hold `key: value` lines"),
    ],
)
def test_yaml_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        read_yaml(path)


def test_yaml_words_and_numbers_are_what_they_look_like(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text("eval_strategy: no\nlearning_rate: 1e-5\nbf16: true\n")
    assert read_yaml(path) == {"eval_strategy": "no", "learning_rate": 1e-5, "bf16": True}


def test_an_editable_install_reads_the_one_copy() -> None:
    assert recipe_folder() == ROOT / "configs" / "recipes"


@pytest.mark.slow
def test_the_wheel_carries_recipes_and_families_and_finds_them(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert "hf_stabilizer/recipes/stabilised.yaml" in names
    assert "hf_stabilizer/families/bert.yaml" in names
    assert "hf_stabilizer/py.typed" in names
    for name in (
        "page/report.html.j2",
        "page/report.css",
        "page/report.js",
        "plans/plan_page.html.j2",
    ):
        assert f"hf_stabilizer/studies/{name}" in names
    code = (
        "from hf_stabilizer.recipes import recipe_folder, recipe_names;"
        "print(recipe_folder(), *recipe_names())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
    )
    folder, *found = done.stdout.split()
    assert folder == str(tmp_path / "site" / "hf_stabilizer" / "recipes")
    assert found == recipe_names()


def test_dodge_looks_ten_times_per_epoch() -> None:
    assert load_recipe("dodge").for_task(None) == {"evaluations_per_epoch": 10}
