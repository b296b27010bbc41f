"""How many runs, stopped where, how many go on: by hand, as asked, and as a study does it."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hf_stabilizer import run_study
from hf_stabilizer.cli import main
from hf_stabilizer.errors import ConfigurationError, StudyError
from hf_stabilizer.studies.early_stopping.stopping import Extent, Stopping, read_extent
from hf_stabilizer.studies.events import read_events
from hf_stabilizer.studies.statistics import runs_to_keep, settings_for_budget
from hf_stabilizer.studies.study import Study
from tests.conftest import tiny_study


@pytest.mark.parametrize(
    ("asked", "extent", "filled_in"),
    [
        ({}, Extent(6, None), ()),
        ({"runs": 4}, Extent(4, None), ()),
        ({"runs": 20, "stop_at": 0.2, "keep": 5}, Extent(20, Stopping(0.2, 5)), ()),
        # p = t f / (1 + f): 20 / 5, 25 / 5, 6 / 5, 30 x .2 / 1.2, 2 / 5
        ({"runs": 20, "stop_at": 0.25}, Extent(20, Stopping(0.25, 4)), ("keep=4",)),
        ({"runs": 25, "stop_at": 0.25}, Extent(25, Stopping(0.25, 5)), ("keep=5",)),
        ({"stop_at": 0.25}, Extent(6, Stopping(0.25, 1)), ("keep=1",)),
        ({"runs": 30, "stop_at": 0.2}, Extent(30, Stopping(0.2, 5)), ("keep=5",)),
        ({"runs": 2, "stop_at": 0.25}, Extent(2, Stopping(0.25, 1)), ("keep=1",)),
        ({"runs": 20, "keep": 5}, Extent(20, Stopping(0.25, 5)), ("stop_at=0.25",)),
        # p = 10 / 2, t = (10 - 5 x .75) / .25; with f = .5: (10 - 5 x .5) / .5
        (
            {"budget": 10},
            Extent(25, Stopping(0.25, 5)),
            ("runs=25", "keep=5", "stop_at=0.25"),
        ),
        (
            {"budget": 10, "stop_at": 0.5},
            Extent(15, Stopping(0.5, 5)),
            ("runs=15", "keep=5"),
        ),
    ],
    ids=str,
)
def test_what_is_left_open_follows_from_the_rule(
    asked: dict[str, Any], extent: Extent, filled_in: tuple[str, ...]
) -> None:
    found = read_extent(**asked)
    assert found == extent
    assert (found.stopping.filled_in if found.stopping else ()) == filled_in


@pytest.mark.parametrize("stop_at", [0.1, 0.2, 0.25, 0.3, 0.5])
@pytest.mark.parametrize("budget", [2, 4, 10, 20, 50])
def test_the_runs_kept_are_those_of_the_budget_that_starts_as_many(
    budget: int, stop_at: float
) -> None:
    bought = settings_for_budget(budget, stop_at=stop_at)
    # t is rounded down, by less than one run, so p comes back to less than half a run.
    assert runs_to_keep(bought.runs, stop_at) == bought.keep


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"runs": 0}, "runs must be a whole number of runs per recipe from 1 up, got 0"),
        ({"runs": 5, "keep": 6}, r"keep must be a whole number of runs in \[1, 5\]"),
        ({"runs": 5, "stop_at": True}, r"stop_at must be a fraction .* got True"),
        ({"runs": 5, "budget": 3}, "a budget of 3 says how many runs there are, and runs 5"),
        ({"keep": 5, "budget": 3.5}, "a budget of 3.5 says how many .* and keep 5 says so too"),
        ({"budget": 0.5}, "budget must be a number of full runs, 1 or more, got 0.5"),
        ({"budget": 5, "stop_at": 1}, r"stop_at must be a fraction .* got 1; "),
    ],
    ids=str,
)
def test_what_cannot_be_asked(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_extent(**asked)


# ---- in a study


@pytest.fixture(scope="module")
def tiny(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Four steps in two epochs; nothing says when to evaluate."""
    return tiny_study(model_folder, tmp_path_factory.mktemp("rows"), rows=32, num_train_epochs=2)


def study(config: dict[str, Any], folder: Path, **options: Any) -> tuple[Study, str]:
    """A study in this process, and what it said."""
    said = io.StringIO()
    with ThreadPoolExecutor(max_workers=1) as executor:
        found = run_study(
            config,
            output_dir=folder,
            executor=executor,
            console=Console(file=said, width=500),
            **options,
        )
    return found, said.getvalue()


def test_an_early_stopped_study_looks_often_and_says_so(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    asked = {"recipes": {"plain": {}, "twice": {"evaluations_per_epoch": 2}}}
    found, said = study(tiny, tmp_path / "s", runs=2, stop_at=0.5, **asked)
    assert (found.stop_at, found.keep) == (0.5, 1)
    assert "Set by the rule of dodge: keep=1, evaluations_per_epoch=10 for plain." in said
    steps = {
        run.recipe: [step for step, _ in run.evaluations]
        for run in found.runs
        if run.status != "stopped"
    }
    # Two steps in an epoch, fewer than ten: each is evaluated.
    assert steps == {"plain": [1, 2, 3, 4], "twice": [1, 2, 3, 4]}
    assert found.configuration["evaluations_per_epoch"] == 10
    assert found.recipe_settings == {"plain": {}, "twice": {"evaluations_per_epoch": 2}}
    before = len(read_events(tmp_path / "s"))
    again, _ = study(tiny, tmp_path / "s", runs=2, stop_at=0.5, **asked)
    assert again.runs == found.runs
    new = [event.event for event in read_events(tmp_path / "s")[before:]]
    assert "started" not in new, new


def test_what_the_user_says_of_evaluations_stands(tiny: dict[str, Any], tmp_path: Path) -> None:
    config = {**tiny, "evaluations_per_epoch": 1, "max_steps": 4}
    found, said = study(config, tmp_path / "s", runs=2, stop_at=0.5, keep=1)
    assert "Set by the rule" not in said
    assert [step for step, _ in found.runs[0].evaluations][:1] == [2]
    plain, _ = study(tiny, tmp_path / "all", runs=1)
    assert [step for step, _ in plain.runs[0].evaluations] == [2, 4]


def test_a_budget_is_spent(tiny: dict[str, Any], tmp_path: Path) -> None:
    # p = 1, t = (1.5 - 1 x .5) / .5 = 2
    found, said = study(tiny, tmp_path / "s", budget=1.5, stop_at=0.5)
    assert [run.status for run in found.runs].count("stopped") == 1
    assert (len(found.runs), found.keep) == (2, 1)
    assert "Set by the rule of dodge: runs=2, keep=1, evaluations_per_epoch=10." in said


def test_another_halt_is_another_study(tiny: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    found, _ = study(tiny, tmp_path / "s", runs=2, stop_at=0.5)
    with pytest.raises(StudyError, match=r"stop_at was 0.5 and is now 0.25"):
        study(tiny, tmp_path / "s", runs=2, keep=1)
    assert found.keep == 1


def test_the_flags_reach_the_study(
    tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(json.dumps({**tiny, "evaluations_per_epoch": 1}))
    words = ["--output-dir", str(tmp_path / "s"), "--runs", "5", "--stop-at", "0.25"]
    with pytest.raises(SystemExit):
        main(["study", str(tmp_path / "c.yaml"), *words])
    said = capsys.readouterr().err
    # keep = 5 x .25 / 1.25 is taken for granted; the halt is before any evaluation.
    assert "stop_at=0.25 is step 1 of the 4 steps" in said


@pytest.mark.parametrize(
    ("recipes", "message"),
    [
        ({"a/b": {}}, "a recipe's name must be of letters, .* got 'a/b'"),
        ({".": {}}, "got '.'"),
        ({"a": "swa"}, "recipe 'a' must be a mapping of configuration keys, got 'swa'"),
        ({"a": {"averagin": "swa"}}, "unknown configuration key 'averagin' .did you mean"),
        ({}, "recipes is empty"),
    ],
    ids=str,
)
def test_recipes_given_as_settings_are_checked(
    tiny: dict[str, Any], tmp_path: Path, recipes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        study(tiny, tmp_path / "s", runs=1, recipes=recipes)
    assert not (tmp_path / "s").exists()
