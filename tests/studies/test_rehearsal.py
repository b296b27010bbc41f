"""The dry run of a study: what it says comes true, and it writes nothing."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from hf_stabilizer import run_study
from hf_stabilizer.cli import main
from hf_stabilizer.dry_run import Cost
from hf_stabilizer.errors import ConfigurationError, StudyError
from hf_stabilizer.studies.ablations.ablating import rehearse_ablation
from hf_stabilizer.studies.rehearsal import rehearse_study
from hf_stabilizer.studies.rehearsal_view import describe, print_rehearsal
from hf_stabilizer.studies.rehearsed import RehearsedRecipe, RehearsedStudy
from tests.conftest import tiny_study
from tests.tiny import Rows, tiny_bert

EARLY: dict[str, Any] = {"runs": 3, "stop_at": 0.5, "keep": 1}


@pytest.fixture
def tiny(model_folder: Path, tmp_path: Path) -> dict[str, Any]:
    return tiny_study(model_folder, tmp_path, max_steps=4, eval_strategy="steps", eval_steps=1)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_what_it_says_comes_true(tiny: dict[str, Any], tmp_path: Path) -> None:
    asked: dict[str, Any] = {
        "recipes": {"plain": {}, "decayed": {"weight_decay": 0.1}},
        "output_dir": tmp_path / "s",
        **EARLY,
    }
    before, threads = files(tmp_path), torch.get_num_threads()
    said = rehearse_study(tiny, **asked)
    assert (files(tmp_path), torch.get_num_threads()) == (before, threads)
    with ThreadPoolExecutor(1) as executor:
        done = run_study(tiny, executor=executor, **asked)
    assert tuple(recipe.name for recipe in said.recipes) == done.recipes
    assert {r.name: r.settings for r in said.recipes} == done.recipe_settings
    assert (said.seeds, said.metric) == (done.seeds, done.metric)
    assert said.runs == len(done.runs) == 6
    assert said.full_runs == 3 * 0.5 + 1 * 0.5
    for recipe in said.recipes:
        runs = done.of(recipe.name)
        assert {run.steps for run in runs} == {recipe.steps, recipe.stop_step} == {4, 2}
        assert max(len(run.evaluations) for run in runs) == recipe.evaluations
    again = rehearse_study(tiny, **{**asked, "runs": 4})
    assert (again.there, again.runs) == (6, 8)
    with pytest.raises(StudyError, match=r"holds another study: stop_at was 0\.5"):
        rehearse_study(tiny, **{**asked, "stop_at": 0.25})


def test_what_would_fail_is_shown_for_the_recipe_that_does(
    tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = {"averaging": "swa", "averaging_start": 9}
    said = rehearse_study(tiny, recipes={"plain": {}, "late": late}, output_dir=tmp_path / "s")
    plain, other = said.recipes
    assert (plain.would_fail, other.would_fail, said.would_fail) == (False, True, True)
    assert (said.seconds, said.disk) == (None, None)
    print_rehearsal(said, Console(width=200))
    assert "late: " in capsys.readouterr().out


def test_a_function_is_rehearsed_where_it_is(tmp_path: Path) -> None:
    from transformers import Trainer

    from hf_stabilizer import prepare_model, stabilize

    def build(args: Any) -> Trainer:
        model = prepare_model(tiny_bert(), args, train_dataset=Rows())
        return Trainer(
            model=model,
            args=args,
            train_dataset=Rows(),
            eval_dataset=Rows(16),
            **stabilize(args),
        )

    options = {"use_cpu": True, "max_steps": 8, "dataloader_pin_memory": False}
    said = rehearse_study(
        build, runs=2, executor="in-process", overrides=options, output_dir=tmp_path / "s"
    )
    assert (said.metric, said.recipes[0].steps, said.workers) == ("loss", 8, 1)
    assert said.recipes[0].evaluations == 2
    assert said.seconds is not None
    assert files(tmp_path) == []


def test_an_ablation_says_its_arms(tiny: dict[str, Any], tmp_path: Path) -> None:
    remedies = ["decay:weight_decay=0.1", "swa:averaging=swa,averaging_start=1"]
    said = rehearse_ablation(tiny, remedies=remedies, output_dir=tmp_path / "s")
    assert [recipe.name for recipe in said.recipes] == ["plain", "decay", "swa", "all"]
    assert (len(said.seeds), said.runs) == (8, 32)


def test_a_command_line_is_said_and_not_run(tmp_path: Path) -> None:
    command = "python -c 1/0 {recipe} {seed} {output_dir}"
    said = rehearse_study(command, recipes=["a", "b"], runs=3, output_dir=tmp_path / "s")
    first = tmp_path / "s" / "runs" / "b" / "seed1" / "output"
    assert said.recipes[1].command.endswith(f"-c 1/0 b 1 {first}")
    assert (said.runs, said.seconds, said.workers) == (6, None, 2)
    assert files(tmp_path) == []
    with pytest.raises(ConfigurationError, match="cannot stop runs early"):
        rehearse_study(command, recipes=["a"], runs=3, keep=1, output_dir=tmp_path / "s")


# ---- numbers by hand, and their words


def rehearsed(**options: Any) -> RehearsedStudy:
    cost = Cost(1.0, 100.0, 300, 900, weights=100, optimizer=200, averaging=0)
    recipes = tuple(RehearsedRecipe(name, steps=100, cost=cost) for name in ("a", "b"))
    seeds = tuple({"head_seed": s, "data_seed": s, "seed": s} for s in range(1, 9))
    return RehearsedStudy("out", "f1", True, recipes, seeds, **options)


def test_time_and_disk_by_hand() -> None:
    whole = rehearsed(workers=2, rows=50)
    assert whole.seconds == 2 * 8 * 100 / 2
    # The rows, the model of each recipe, and two runs under way.
    assert whole.disk == 50 + 2 * 100 + 2 * 900
    assert rehearsed(workers=2, keep_models=True).disk == 2 * 8 * 100 + 2 * 900
    early = rehearsed(workers=2, stop_at=0.25, keep=2)
    assert early.full_runs == 8 * 0.25 + 2 * 0.75 == 3.5
    assert early.seconds == 2 * 3.5 * 100 / 2
    assert rehearsed(workers=None).seconds == 2 * 8 * 100  # on a cluster of unknown size


def test_words_by_hand() -> None:
    words = list(describe(rehearsed(workers=2, stop_at=0.25, keep=2, filled_in=("keep=2",))))
    assert "Runs: 2 recipes x 8 seeds = 16; seeds 1 to 8, each for head, data and dropout." in words
    cost = next(sentence for sentence in words if sentence.startswith("Cost"))
    assert "8 x 0.25 + 2 x 0.75 = 3.5 full runs per recipe, not 8; about 5 min 50 s" in cost
    assert "Set by the rule of dodge: keep=2." in " ".join(words)
    assert "6 of them there already and not repeated" in " ".join(describe(rehearsed(there=6)))


# ---- on the command line


def run(*words: str) -> int:
    try:
        main(list(words))
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_on_the_command_line(
    tiny: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(json.dumps(tiny))
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path)
    words = ["study", "c.yaml", "--runs", "4", "--stop-at", "0.25", "--recipes", "plain"]
    assert run(*words, "--dry-run") == 0
    out, err = capsys.readouterr()
    assert "plain sets nothing beside the configuration." in out
    assert "4 x 0.25 + 1 x 0.75 = 1.75 full runs, not 4" in out
    assert err.startswith("Checking the configuration")  # what follows takes seconds
    assert run(*words, "--dry_run", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["full_runs"], found["recipes"][0]["stop_step"]) == (1.75, 1)
    assert found["recipes"][0]["cost"]["weights"] > 0
    assert (
        run(
            "ablate", "c.yaml", "--remedies", "x:weight_decay=0.1", "swa:averaging=swa", "--dry-run"
        )
        == 0
    )
    assert "4 recipes x 8 seeds = 32" in capsys.readouterr().out
    assert files(tmp_path) == before


def test_a_run_that_would_fail_ends_the_dry_run_with_two(
    tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(json.dumps({**tiny, "averaging": "swa", "averaging_start": 9}))
    assert run("study", str(config), "--recipes", "plain", "--dry-run") == 2
    out, err = capsys.readouterr()
    assert "average" in out
    assert "runs would fail; see the findings" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("study", "no.yaml", "--runs", "0"), "runs must be a whole number"),
        (("study", "no.yaml", "--runs", "3", "--keep", "4"), "in [1, 3]"),
        (("study", "no.yaml", "--budget", "0"), "budget must be"),
        (("study", "no.yaml", "--head-seeds", "3", "--runs", "9"), "cells of the grid"),
        (("study", "no.yaml", "--json"), "add --dry-run"),
        (("ablate", "no.yaml", "--remedies", "a", "b", "--keep", "9"), "in [1, 8]"),
        (("study",), "in place of config: --trainer or --command"),
        (("ablate", "--remedies", "a", "b"), "in place of config: --trainer)"),
    ],
)
def test_numbers_that_cannot_be_right_come_first(
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert message in sentence
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"runs": "3"}, "runs must be a whole number of runs per recipe from 1 up, got '3'"),
        ({"runs": 2.0}, "got 2.0"),
        ({"budget": "x"}, "budget must be a number of full runs per recipe, 1 or more, got 'x'"),
        ({"config": 3}, "config must be the path of a YAML file, .* got 3"),
        ({"output_dir": None}, "output_dir must be the path of a folder, or a URL, got None"),
        ({"recipes": "plain"}, r"recipes must be a list .* got 'plain'; write \['plain'\]"),
        ({"recipes": [3]}, "a recipe must be a name, or the path of a YAML file, got 3"),
        (
            {"config": "python x.py {seed} {output_dir}", "recipes": "plain"},
            r"recipes must be a list .* got 'plain'; write \['plain'\]",
        ),
    ],
)
@pytest.mark.parametrize("function", [run_study, rehearse_study])
def test_arguments_of_a_wrong_kind_are_named(
    function: Any, asked: dict[str, Any], message: str, tiny: dict[str, Any], tmp_path: Path
) -> None:
    values = {"config": tiny, "output_dir": tmp_path / "s", "executor": "in-process", **asked}
    if "config" in asked:
        values.pop("executor")
    with pytest.raises(ConfigurationError, match=message):
        function(values.pop("config"), **values)
    assert not (tmp_path / "s").exists()
