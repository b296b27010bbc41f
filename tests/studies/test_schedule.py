"""Whole studies of tiny runs: recorded, paired, started again, refused."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from hf_stabilizer import run_study, train
from hf_stabilizer.errors import ConfigurationError, DataError, StudyError
from hf_stabilizer.records import Run, read_run, write_atomically, write_run
from hf_stabilizer.studies.course import is_over
from hf_stabilizer.studies.events import read_events
from hf_stabilizer.studies.question import load_recipes
from hf_stabilizer.studies.study import Study, write_definition
from tests.waiting import is_alive, until, workers_of

PAIR = ["plain", "stabilised"]


class InOrder(ThreadPoolExecutor):
    """One thread in this process: the runs of a study without the start of workers."""

    def __init__(self) -> None:
        super().__init__(max_workers=1)


def study(config: dict[str, Any], folder: Path, **options: Any) -> Study:
    values: dict[str, Any] = {"recipes": PAIR, "runs": 2, "output_dir": folder, **options}
    with InOrder() as executor:
        return run_study(config, executor=executor, **values)


@pytest.fixture
def short(config: dict[str, Any]) -> dict[str, Any]:
    del config["output_dir"]
    return {**config, "max_steps": 3}


def changed_at(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in sorted(folder.glob("runs/*/*/run.json"))}


def test_every_recipe_runs_with_the_same_seeds(short: dict[str, Any], tmp_path: Path) -> None:
    found = study(short, tmp_path / "s")
    assert [(run.recipe, run.seeds["seed"]) for run in found.runs] == [
        ("plain", 1), ("plain", 2), ("stabilised", 1), ("stabilised", 2),
    ]  # fmt: skip
    assert {run.status for run in found.runs} <= {"finished", "failed"}
    assert all(run.score is not None for run in found.runs)
    assert found.recipe_settings["plain"] == {}
    assert found.recipe_settings["stabilised"]["fit_head"] is True
    assert len(found.summary()) == 2
    assert len(found.to_records()) == 4
    assert Study.from_folder(tmp_path / "s") == found


def test_a_run_of_a_study_equals_the_same_run_alone(short: dict[str, Any], tmp_path: Path) -> None:
    found = study(short, tmp_path / "s", runs=1)
    alone = train(short, recipe="stabilised", output_dir=str(tmp_path / "alone"))
    assert found.of("stabilised")[0].evaluations == alone.evaluations


def test_one_model_is_kept_for_each_recipe(short: dict[str, Any], tmp_path: Path) -> None:
    study(short, tmp_path / "s")
    for recipe in PAIR:
        models = list((tmp_path / "s" / "runs" / recipe).glob("*/model"))
        assert len(models) == 1
        records = (tmp_path / "s" / "runs" / recipe).glob("*/run.json")
        kept = [path.parent for path in records if read_run(path).checkpoint]
        assert kept == [models[0].parent]


def test_started_again_it_repeats_nothing(short: dict[str, Any], tmp_path: Path) -> None:
    study(short, tmp_path / "s")
    before = changed_at(tmp_path / "s")
    study(short, tmp_path / "s")
    assert changed_at(tmp_path / "s") == before


def test_more_seeds_and_recipes_join_what_is_there(short: dict[str, Any], tmp_path: Path) -> None:
    first = study(short, tmp_path / "s", recipes=["plain"], runs=1)
    more = study(short, tmp_path / "s", recipes=["stabilised", "plain"], runs=2)
    assert more.recipes == ("plain", "stabilised")
    assert len(more.runs) == 4
    assert more.of("plain")[0] == replace(first.runs[0], checkpoint=more.of("plain")[0].checkpoint)


def test_a_lost_run_is_repeated_and_a_failed_one_on_demand(
    short: dict[str, Any], tmp_path: Path
) -> None:
    found = study(short, tmp_path / "s", recipes=["plain"])
    records = [tmp_path / "s" / "runs" / "plain" / run.name / "run.json" for run in found.runs]
    for run, record, reason in zip(
        found.runs, records, ("WorkerDiedError: killed", "ValueError: x"), strict=True
    ):
        broken = replace(run, status="failed", reason=reason, best_score=None, test_score=None)
        write_run(broken, record)
    lost, failed = study(short, tmp_path / "s", recipes=["plain"]).runs
    assert lost.score == found.runs[0].score
    assert (failed.score, failed.reason) == (None, "ValueError: x")
    again = study(short, tmp_path / "s", recipes=["plain"], retry_failed=True)
    assert [run.score for run in again.runs] == [run.score for run in found.runs]


@pytest.mark.parametrize(
    ("reason", "is_repeated"),
    [
        ("RuntimeError: CUDA out of memory", True),
        ("collapsed: at the last evaluation it answers the same for every row", False),
        ("diverged: the validation loss at step 9 is nan", False),
    ],
)
def test_a_run_that_raised_is_repeated_on_demand_though_it_was_evaluated(
    tmp_path: Path, reason: str, is_repeated: bool
) -> None:
    run = Run("plain", {"seed": 1}, "failed", reason, ((4, {"accuracy": 0.5}),), best_score=0.5)
    write_run(run, tmp_path / "run.json")
    assert is_over(tmp_path)
    assert is_over(tmp_path, retry_failed=True) is not is_repeated


def test_models_that_were_kept_on_purpose_stay(short: dict[str, Any], tmp_path: Path) -> None:
    folder, one = tmp_path / "s", {"recipes": ["plain"]}
    study(short, folder, **one, keep_models=True)
    found = study(short, folder, **one, runs=4)
    kept = [run.checkpoint for run in found.runs]
    assert kept[:2] == ["model"] * 2
    best = max(found.runs, key=lambda run: run.best_score or 0.0)
    assert kept[2:] == ["model" if run is best else None for run in found.runs[2:]]
    there = [(folder / "runs/plain" / run.name / "model").is_dir() for run in found.runs]
    assert there == [checkpoint == "model" for checkpoint in kept]


def test_a_write_that_was_cut_off_is_no_stranger(short: dict[str, Any], tmp_path: Path) -> None:
    """A kill between a file and its name leaves the file under another."""
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / ".study.json.7.tmp").write_text("{")
    assert len(study(short, folder, recipes=["plain"], runs=1).runs) == 1


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "study.json", "\udc80")
    assert not list(tmp_path.iterdir())


def test_failed_runs_are_recorded_and_the_others_go_on(
    short: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import Trainer

    step = Trainer.training_step

    def sometimes(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        if self.args.data_seed == 1:
            raise RuntimeError("out of memory")
        return step(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", sometimes)
    found = study(short, tmp_path / "s", recipes=["plain"])
    assert found.runs[0].status == "failed"
    assert found.runs[0].reason == "RuntimeError: out of memory"
    assert found.runs[1].score is not None
    assert found.summary()[0].failed >= 1


def test_a_study_of_an_earlier_version_goes_on(short: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "s"
    before = study(short, folder, recipes=["plain"], runs=1)
    path = folder / "study.json"
    text = json.loads(path.read_text())
    for name in ("ablation", "stop_at", "keep"):  # it did not know of them
        del text[name]
    path.write_text(json.dumps(text))
    assert Study.from_folder(folder) == before
    assert study(short, folder, recipes=["plain"], runs=1) == before


@pytest.mark.parametrize(
    ("name", "value"), [("recipes", None), ("seeds", 3), ("recipe_settings", [])]
)
def test_a_damaged_definition_is_named(tmp_path: Path, name: str, value: Any) -> None:
    write_definition(Study("s", ("plain",), (), "f1", True), tmp_path)
    path = tmp_path / "study.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(StudyError, match=f"not the definition of a study: {name} is"):
        Study.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 5e-4}, "learning_rate was 0.001 and is now 0.0005"),
        ({"max_train_rows": 20}, "max_train_rows was None and is now 20"),
    ],
)
def test_refusal_the_folder_holds_another_study(
    short: dict[str, Any], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    study(short, tmp_path / "s", recipes=["plain"], runs=1)
    before = changed_at(tmp_path / "s")
    with pytest.raises(StudyError, match=f"holds another study: .*{message}"):
        study({**short, **change}, tmp_path / "s", recipes=["plain"], runs=1)
    assert changed_at(tmp_path / "s") == before


def test_refusal_a_folder_with_other_files(short: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    with pytest.raises(StudyError, match="holds other files"):
        study(short, tmp_path / "notes")
    assert [p.name for p in (tmp_path / "notes").iterdir()] == ["thesis.txt"]


def test_refusal_another_process_is_at_work(short: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    with (
        FileLock(tmp_path / "s" / ".lock"),
        pytest.raises(StudyError, match="another process works"),
    ):
        study(short, tmp_path / "s")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runs": 0}, "runs must be a whole number of runs per recipe from 1 up, got 0"),
        ({"first_seed": 2**32 - 1}, "first_seed must be a whole number"),
        ({"recipes": []}, "recipes is empty"),
        ({"recipes": "plain"}, "recipes must be a list or a mapping, got 'plain'"),
        ({"recipes": ["plain", "plain"]}, "named twice"),
        ({"recipes": ["plain", "stabilzed"]}, "did you mean stabilised"),
        ({"workers": 2}, "an executor or a number of workers"),
        ({"overrides": {"reinit_layers": 9}}, "9"),
        ({"overrides": [("reinit_layers", 1)]}, "overrides must be a mapping from configuration"),
        ({"recipes": {"odd": {3: 4}}}, "unknown configuration key 3"),
        ({"launcher": 3}, "launcher must be a command line in one text, got 3"),
        ({"address": ["tcp://a"]}, "address must be that of a cluster, in one text"),
        ({"retry_failed": "no"}, "retry_failed must be True or False, got 'no'"),
        ({"keep_models": "no"}, "keep_models must be True or False, got 'no'"),
        ({"ablation": 3}, "ablation must be a mapping"),
        ({"command": 3}, "command must be a command line"),
        ({"console": 3}, "console must be a Console"),
        ({"overrides": {"report_to": "no-such-tracker"}}, "no-such-tracker"),
        ({"overrides": {"head_seed": 3}}, "a study sets the seeds itself.*head_seed"),
        ({"overrides": {"optim": "galore_adamw", "layer_lr": "llrd"}}, "galore"),
    ],
    ids=str,
)
def test_refusals_come_before_any_run(
    short: dict[str, Any], tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        study(short, tmp_path / "s", **options)
    assert not (tmp_path / "s").exists()


def test_refusal_a_recipe_with_another_metric(short: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text("metrics: f1_macro\n")
    with pytest.raises(ConfigurationError, match="another metric than 'plain'"):
        study(short, tmp_path / "s", recipes=["plain", str(path)])


def test_after_an_error_in_the_rows_the_folder_can_be_used(
    short: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(DataError):
        study({**short, "label_column": "lable"}, tmp_path / "s", runs=1)
    study(short, tmp_path / "s", recipes=["plain"], runs=1)


def test_reading_a_folder_that_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="holds no study"):
        Study.from_folder(tmp_path)
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(StudyError, match="cannot be read"):
        Study.from_folder(tmp_path)
    (tmp_path / "study.json").write_text("[1]")
    with pytest.raises(StudyError, match="holds no mapping"):
        Study.from_folder(tmp_path)
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(StudyError, match="lacks"):
        Study.from_folder(tmp_path)


def test_a_corrupt_record_is_named(short: dict[str, Any], tmp_path: Path) -> None:
    found = study(short, tmp_path / "s", recipes=["plain"], runs=1)
    record = tmp_path / "s" / "runs" / "plain" / found.runs[0].name / "run.json"
    for text in ("{", "[]"):
        record.write_text(text)
        with pytest.raises(StudyError, match=r"run.json is not the record of a run .* delete it"):
            study(short, tmp_path / "s", recipes=["plain"], runs=1)


def test_recipes_that_come_to_the_same_are_noted(
    short: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "same.yaml"
    path.write_text("# The same.\n")
    load_recipes(short, ["plain", str(path), "mosbach"], None)
    assert [record.getMessage() for record in caplog.records] == [
        "recipe same sets nothing here that plain does not: their runs will be equal"
    ]


def test_what_preflight_finds_is_said_once_for_all_runs(
    short: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="hf_stabilizer"):
        study(short, tmp_path / "s")
    said = [record.getMessage() for record in caplog.records]
    few = [line for line in said if "the run has 3 optimizer steps" in line]
    assert len(few) == 1
    assert few[0].startswith("plain, stabilised: ")


def test_a_record_survives_the_way_through_json() -> None:
    seeds = {"head_seed": 1, "data_seed": 2, "seed": 3}
    run = Run("plain", seeds, "finished", evaluations=((5, {"accuracy": 0.5}),), best_score=0.5)
    assert Run.from_json(run.to_json()) == run
    extended = json.dumps({**json.loads(run.to_json()), "later": 1})
    assert Run.from_json(extended) == run


def test_what_a_killed_study_left_undone_is_done_by_the_next_start(
    short: dict[str, Any], tmp_path: Path
) -> None:
    """Killed when all runs were recorded, but before one model was kept and the ends were noted."""
    folder, events = tmp_path / "s", tmp_path / "s" / "events.jsonl"
    study(short, folder, keep_models=True)
    models = folder / "runs" / "plain"
    assert len(list(models.glob("*/model"))) == 2
    study(short, folder)  # nothing is open, and nothing is taken away from a study that ended
    assert len(list(models.glob("*/model"))) == 2
    lines = events.read_text().splitlines(keepends=True)
    ends = ('"finished"', '"failed"')
    undone = (*ends, '"kept"')  # what `keep_models` has kept on purpose would stay
    events.write_text("".join(line for line in lines if not any(word in line for word in undone)))
    again = study(short, folder)
    assert len(list(models.glob("*/model"))) == 1
    assert sorted(str(run.checkpoint) for run in again.of("plain")) == ["None", "model"]
    ended = [(one.recipe, one.run) for one in read_events(folder) if f'"{one.event}"' in ends]
    assert sorted(ended) == sorted((run.recipe, run.name) for run in again.runs)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_study_that_is_killed_goes_on_where_it_stopped(
    short: dict[str, Any], tmp_path: Path
) -> None:
    """In real worker processes: SIGKILL to the parent, then the same command again."""
    from ruamel.yaml import YAML

    path = tmp_path / "c.yaml"
    YAML(typ="safe", pure=True).dump({**short, "max_steps": 16}, path)
    command = [
        sys.executable, "-m", "hf_stabilizer", "study", str(path), "--recipes", *PAIR,
        "--runs", "3", "--workers", "1", "--output-dir", str(tmp_path / "s"),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: len(changed_at(tmp_path / "s")) >= 2)
    workers = workers_of(process.pid)
    process.kill()
    process.wait()
    until(lambda: not any(map(is_alive, workers)))  # they end with it
    before = changed_at(tmp_path / "s")
    assert 2 <= len(before) < 6
    done = subprocess.run(command, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    after = changed_at(tmp_path / "s")
    assert len(after) == 6
    # All but the runs whose model gave way to a better one are untouched.
    kept = [p for p in before if after[p] == before[p]]
    assert len(kept) >= len(before) - 2
    assert (tmp_path / "s" / "report.html").exists()
    calm = study({**short, "max_steps": 16}, tmp_path / "calm", runs=3)
    scores = [run.evaluations for run in Study.from_folder(tmp_path / "s").runs]
    assert scores == [run.evaluations for run in calm.runs]
