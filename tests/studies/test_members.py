"""Members of a procedure: trained as a study's runs are, each on its own rows, and not compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_stabilizer import run_study, write_report
from hf_stabilizer.errors import ConfigurationError, StudyError
from hf_stabilizer.studies.ablations.ablation import comparisons_of_study
from hf_stabilizer.studies.members import folder_of, prepared_rows, run_members
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.verdict import verdict
from tests.conftest import write_rows


@pytest.fixture(scope="module")
def short(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("rows")
    return {
        "model_name_or_path": str(model_folder),
        "train_file": str(write_rows(folder / "train.csv", 24)),
        "validation_file": str(write_rows(folder / "validation.csv", 16, seed=1)),
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 8,
        "max_steps": 2,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Two that share neither training nor validation rows."""
    folder = tmp_path_factory.mktemp("members")
    rows = {f"m{n}": write_rows(folder / f"{n}.csv", 12 + n, seed=n) for n in (2, 4)}
    return {name: {"validation_file": str(path)} for name, path in rows.items()}


@pytest.fixture(scope="module")
def found(
    short: dict[str, Any],
    members: dict[str, dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Study:
    folder = tmp_path_factory.mktemp("out") / "s"
    return run_members(short, members, runs=2, output_dir=folder, executor="in-process")


def test_each_member_is_scored_on_its_own_rows(found: Study) -> None:
    assert [(run.recipe, run.seeds["seed"]) for run in found.runs] == [
        ("m2", 1), ("m2", 2), ("m4", 1), ("m4", 2),
    ]  # fmt: skip
    for run in found.runs:
        predictions = found.predictions(run)
        assert predictions is not None
        assert predictions.validation is not None
        assert len(predictions.validation) == {"m2": 14, "m4": 16}[run.recipe]
        places = prepared_rows(found, run).validation_rows
        assert sorted(places or ()) == list(range(len(predictions.validation)))


def test_every_model_is_kept(found: Study) -> None:
    assert all((folder_of(found, run) / "model" / "config.json").exists() for run in found.runs)


def test_nothing_is_claimed_of_one_against_another(found: Study, tmp_path: Path) -> None:
    assert not found.comparable
    assert Study.from_folder(found.folder or Path()) == found
    assert verdict(found).startswith("These are not compared: 2 members, each scored on rows of")
    page = write_report(found, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "These are not compared" in page
    assert "beats" not in page
    assert "can be claimed" not in page
    assert comparisons_of_study(found) == ()


def test_started_again_it_repeats_nothing_and_takes_more_seeds(
    short: dict[str, Any], members: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    folder, options = tmp_path / "s", {"executor": "in-process", "keep_models": False}
    run_members(short, members, output_dir=folder, **options)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/*/predictions.npz")}
    assert len(before) == 2
    more = run_members(short, members, runs=2, output_dir=folder, **options)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(more.runs) == 4
    assert len(list(folder.glob("runs/*/*/model"))) == 2


def test_a_study_is_no_set_of_members(
    found: Study, short: dict[str, Any], members: dict[str, dict[str, Any]]
) -> None:
    with pytest.raises(StudyError, match="its recipes were to score rows of their own"):
        run_study(short, recipes={"m2": {}}, runs=1, output_dir=str(found.folder))
    with pytest.raises(ConfigurationError, match="recipe 'm4' has another rows than 'm2'"):
        run_study(short, recipes=members, runs=1, output_dir=f"{found.folder}-other")


def test_a_study_of_an_earlier_version_is_comparable(found: Study, tmp_path: Path) -> None:
    definition = json.loads((found.folder or Path()).joinpath("study.json").read_text())
    del definition["comparable"]
    (tmp_path / "study.json").write_text(json.dumps(definition))
    assert Study.from_folder(tmp_path).comparable


def test_members_have_one_task(short: dict[str, Any], tmp_path: Path) -> None:
    members = {"a": {}, "b": {"task": "text-regression", "metrics": ["rmse"]}}
    with pytest.raises(ConfigurationError, match="recipe 'b' has another task than 'a'"):
        run_members(short, members, output_dir=tmp_path / "s")
    assert not (tmp_path / "s").exists()
