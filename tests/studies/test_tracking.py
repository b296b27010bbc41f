"""Runs of a study in trackers: named, grouped, ended, and gone on with."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainerCallback

from hf_stabilizer import StabilizerArguments, prepare_model, run_study, stabilize
from hf_stabilizer.procedure import open_procedure
from hf_stabilizer.studies.commands.command_study import run_command_study
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.tracker_names import TrackerNames
from hf_stabilizer.studies.tracking import NOTE, tracked
from tests.tiny import Rows, tiny_bert

SEEDS = ["head1-data1-dropout1", "head2-data2-dropout2"]


TRACKERS = {"WANDB", "MLFLOW", "COMET", "CLEARML", "SWANLAB", "TENSORBOARD", "TRACKIO"}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of whoever runs the tests tells a tracker anything."""
    for name in told():
        monkeypatch.delenv(name)


def told() -> dict[str, str]:
    return {n: value for n, value in os.environ.items() if n.split("_")[0] in TRACKERS}


@pytest.fixture
def short(config: dict[str, Any]) -> dict[str, Any]:
    del config["output_dir"], config["evaluations_per_epoch"]
    every = {"logging_steps": 1, "eval_strategy": "steps", "eval_steps": 2}
    return {**config, **every, "max_steps": 4, "save_strategy": "no"}


def study(config: Any, folder: Path, **options: Any) -> Study:
    return run_study(config, output_dir=folder, executor="in-process", **{"runs": 2, **options})


def run_at(folder: Path) -> Path:
    path = folder / "sst2" / "runs" / "plain" / "seed3"
    path.mkdir(parents=True, exist_ok=True)
    return path


# --- names


def test_what_was_set_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run_at(tmp_path)
    monkeypatch.setenv("WANDB_RUN_GROUP", "mine")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "7")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "logs")
    ours = TrackerNames.of(path).environment()
    assert {"WANDB_RUN_GROUP", "MLFLOW_EXPERIMENT_NAME"}.isdisjoint(ours)
    assert ours["SWANLAB_PROJECT"] == ours["CLEARML_PROJECT"] == "sst2"
    assert ours["TENSORBOARD_LOGGING_DIR"] == str(Path("logs/sst2/plain/seed3"))


def test_a_model_that_wandb_saves_has_a_name_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_LOG_MODEL", "end")
    assert TrackerNames.of(run_at(tmp_path)).name == "plain.seed3"


def test_what_goes_on_has_the_name_and_the_key_of_before(tmp_path: Path) -> None:
    path = run_at(tmp_path)
    keys = []
    for goes_on in (False, True, False):
        with tracked(path, {}, goes_on=goes_on):
            keys.append(os.environ["WANDB_RUN_ID"])
            note = {"name": "other", "key": keys[-1], "mlflow": "id7"}
            (path / NOTE).write_text(json.dumps(note))
    assert keys[0] == keys[1] != keys[2]
    with tracked(path, {}, goes_on=True) as tracking:
        assert (tracking.labels["run_name"], os.environ["MLFLOW_RUN_ID"]) == ("other", "id7")
    with tracked(path, {}):
        assert "MLFLOW_RUN_ID" not in os.environ


def test_a_damaged_note_is_a_new_beginning(tmp_path: Path) -> None:
    path = run_at(tmp_path)
    (path / NOTE).write_text("{")
    with tracked(path, {}, goes_on=True) as tracking:
        assert tracking.labels["run_name"] == "plain/seed3"


def test_trackio_stays_on_this_machine_unless_told(tmp_path: Path) -> None:
    path = run_at(tmp_path)
    with tracked(path, {}) as tracking:
        assert tracking.labels == {
            "run_name": "plain/seed3",
            "project": "sst2",
            "trackio_space_id": None,
        }
    with tracked(path, {"trackio_space_id": "me/space"}) as tracking:
        assert "trackio_space_id" not in tracking.labels


def test_only_the_variables_of_this_time_are_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "logs")
    seen = []
    with contextlib.suppress(ZeroDivisionError), tracked(run_at(tmp_path), {}):
        seen.append(os.environ["TENSORBOARD_LOGGING_DIR"])
        raise ZeroDivisionError
    assert seen == [str(Path("logs/sst2/plain/seed3"))]
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == "logs"


# --- a run that its tracker leaves open


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Stands in for the package: `run` is what is open, `ended` how runs were ended."""
    module = ModuleType("wandb")
    vars(module).update(run=None, ended=[])

    def finish(exit_code: int) -> None:
        vars(module)["ended"].append((vars(module)["run"], exit_code))
        vars(module)["run"] = None

    vars(module).update(finish=finish, teardown=lambda: None)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_what_was_left_open_is_ended_as_it_went(tmp_path: Path, wandb: Any) -> None:
    path = run_at(tmp_path)
    with tracked(path, {}):
        wandb.run = "good"
    with contextlib.suppress(ZeroDivisionError), tracked(path, {}):
        wandb.run = "bad"
        raise ZeroDivisionError
    assert (wandb.ended, wandb.run) == ([("good", 0), ("bad", 1)], None)


def test_somebody_s_own_run_stays_open(tmp_path: Path, wandb: Any) -> None:
    wandb.run = "theirs"
    with tracked(run_at(tmp_path), {}):
        pass
    assert (wandb.ended, wandb.run) == ([], "theirs")


def test_a_tracker_that_cannot_end_fails_no_run(
    tmp_path: Path, wandb: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def finish(exit_code: int) -> None:
        raise ConnectionError(f"no network, code {exit_code}")

    wandb.finish = finish
    with tracked(run_at(tmp_path), {}):
        wandb.run = "mine"
    assert "wandb could not end its run: no network, code 0" in caplog.text


# --- whole studies


class Opening(TrainerCallback):
    """Does as the callback of wandb does: it opens a run unless one is open."""

    def __init__(self, wandb: Any, heard: list[Any]):
        self.wandb, self.heard = wandb, heard

    def on_train_begin(self, args: Any, *_: Any, **__: Any) -> None:
        if self.wandb.run is None:
            self.wandb.run = args.run_name, os.environ["WANDB_RUN_ID"]
        self.heard.append((*self.wandb.run, os.environ["WANDB_RUN_GROUP"], args.project))


def test_one_process_many_runs(tmp_path: Path, wandb: Any) -> None:
    pytest.importorskip("tensorboard")  # whoever reports nowhere has nothing to go on with
    heard: list[Any] = []

    def build(args: StabilizerArguments) -> Trainer:
        rows = Rows(16)
        return Trainer(
            model=prepare_model(tiny_bert(), args, train_dataset=rows),
            args=args,
            train_dataset=rows,
            eval_dataset=rows,
            **stabilize(args, [Opening(wandb, heard)]),
        )

    options = {"max_steps": 4, "eval_strategy": "steps", "eval_steps": 2, "use_cpu": True}
    reported = {**options, "save_strategy": "no", "report_to": "tensorboard"}
    found = study(build, tmp_path / "mine", stop_at=0.5, keep=1, overrides=reported)
    first, second, third = heard
    assert [first[0], second[0]] == [f"plain/{seeds}" for seeds in SEEDS]
    assert first[1] != second[1]
    assert third in (first, second)  # what goes on is the same run
    assert {entry[2:] for entry in heard} == {("mine", "mine")}
    assert told() == {}
    assert wandb.ended == [(entry[:2], 0) for entry in heard]
    assert {"run_name", "project"}.isdisjoint(found.runs[0].configuration)


def test_tensorboard_names_runs_by_their_folders(short: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    folder = tmp_path / "s"
    found = study({**short, "report_to": "tensorboard"}, folder, stop_at=0.5, keep=1)
    assert [run.status for run in found.runs].count("stopped") == 1
    seen = EventMultiplexer().AddRunsFromDirectory(str(folder / "runs"))
    seen.Reload()
    assert sorted(seen.Runs()) == [str(Path("plain", seeds)) for seeds in SEEDS]
    for run in found.runs:
        points = [event.step for event in seen.Scalars(f"plain/{run.name}", "eval/accuracy")]
        assert points == ([2] if run.status == "stopped" else [2, 4])
    note = json.loads((folder / "runs" / "plain" / SEEDS[0] / NOTE).read_text())
    assert note["name"] == f"plain/{SEEDS[0]}"


def test_a_tracker_changes_no_number(short: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with_one = study({**short, "report_to": "tensorboard"}, tmp_path / "a", runs=1)
    without = study(short, tmp_path / "b", runs=1)
    assert with_one.runs[0].evaluations == without.runs[0].evaluations


@pytest.fixture
def trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package itself, with a folder of this test's own."""
    module = pytest.importorskip("trackio", reason="pip install trackio")
    for name, loaded in list(sys.modules.items()):
        if name.split(".")[0] == "trackio" and hasattr(loaded, "TRACKIO_DIR"):
            monkeypatch.setattr(loaded, "TRACKIO_DIR", tmp_path / "trackio")
    return module


def logged(trackio: Any, project: str) -> dict[str, list[int]]:
    """The steps of evaluations by the name of the run."""
    from trackio.sqlite_storage import SQLiteStorage

    return {
        run.name: [
            line["train/global_step"]
            for line in SQLiteStorage.get_logs(project, run.name)
            if "eval/accuracy" in line
        ]
        for run in trackio.Api().runs(project)
    }


def test_trackio(
    trackio: Any, short: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reported = {**short, "report_to": "trackio"}
    found = study(reported, tmp_path / "sst2", stop_at=0.5, keep=1)
    assert all(run.evaluations for run in found.runs), [run.reason for run in found.runs]
    full = next(run for run in found.runs if run.status != "stopped")
    seen = logged(trackio, "sst2")
    assert seen == {f"plain/{run.name}": [2, 4] if run == full else [2] for run in found.runs}
    assert trackio.context_vars.current_run.get() is None
    assert "trackio" not in capsys.readouterr().out.lower()
    # Begun anew, it is another run.
    for path in (tmp_path / "sst2" / "runs").glob("*/*/run.json"):
        path.unlink()
        (path.parent / "halted.json").unlink()
    study(reported, tmp_path / "sst2", stop_at=0.5, keep=1)
    assert set(logged(trackio, "sst2")) == {*seen, *(f"{name} (2)" for name in seen)}


def test_trackio_in_a_project_that_was_chosen(
    trackio: Any, short: dict[str, Any], tmp_path: Path
) -> None:
    study({**short, "report_to": "trackio", "project": "all"}, tmp_path / "sst2", runs=1)
    assert set(logged(trackio, "all")) == {f"sst2/plain/{SEEDS[0]}"}


# --- command lines


def test_a_script_is_told_in_its_environment(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    names = ["WANDB_RUN_GROUP", "WANDB_NAME", "MLFLOW_EXPERIMENT_NAME", "TENSORBOARD_LOGGING_DIR"]
    script.write_text(
        "import json, os, pathlib, sys\n"
        "folder = pathlib.Path(sys.argv[2])\n"
        "folder.mkdir(parents=True)\n"
        f"told = [os.environ.get(name) for name in {names}]\n"
        "log = [{'step': 1, 'eval_f1': 0.5}]\n"
        "state = {'global_step': 1, 'max_steps': 1, 'log_history': log}\n"
        "(folder / 'trainer_state.json').write_text(json.dumps(state))\n"
        "print(json.dumps(told))\n"
    )
    command = f"'{sys.executable}' '{script}' {{seed}} {{output_dir}}"
    folder = tmp_path / "mine"
    run_command_study(command, runs=2, output_dir=folder, metric="f1", workers=1)
    for seed in (1, 2):
        run = folder / "runs" / "script" / f"seed{seed}"
        told = json.loads((run / "log.txt").read_text())
        assert told == ["mine", f"script/seed{seed}", "mine", str(run)]


def test_nothing_is_loaded_for_nobody(tmp_path: Path) -> None:
    before = set(sys.modules)
    with tracked(run_at(tmp_path), {"report_to": ["none"]}):
        torch.zeros(1)
    assert not {name.split(".")[0] for name in set(sys.modules) - before} & {"trackio", "wandb"}


@pytest.mark.parametrize(
    ("kind", "within", "group"),
    [
        ("pseudo-label", "study", "labels-study"),
        ("pseudo-label", "teachers/round-1", "labels-teachers-round-1"),
        ("data augment", "study", "labels-study"),
        ("pretrain", "study", "labels-study"),
        ("pretrain", ".", "labels"),  # the pre-training itself
        ("cross-validate", "study", "labels"),
    ],
)
def test_studies_of_a_procedure_are_told_apart(
    kind: str, within: str, group: str, tmp_path: Path
) -> None:
    open_procedure(tmp_path / "labels", kind, {})
    names = TrackerNames.of(tmp_path / "labels" / within / "runs" / "control" / "seed3")
    assert (names.group, names.project, names.name) == (group, group, "control/seed3")


def test_a_damaged_record_of_a_procedure_stops_no_run(tmp_path: Path) -> None:
    (tmp_path / "cv").mkdir()
    (tmp_path / "cv" / "procedure.json").write_text("{")
    names = TrackerNames.of(tmp_path / "cv" / "study" / "runs" / "fold1" / "seed3")
    assert names.group == "cv-study"
