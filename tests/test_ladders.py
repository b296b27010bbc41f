"""Do the benchmarks of studies work, on tiny settings, and does the page say what they found?"""

from __future__ import annotations

import csv
import json
import math
import random
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import early_stopping  # noqa: E402
import ladders  # noqa: E402
import measured_tables  # noqa: E402
import study_speed  # noqa: E402

from hf_stabilizer.records import Run  # noqa: E402
from hf_stabilizer.studies.study import Study  # noqa: E402

TINY: dict[str, Any] = {
    "max_length": 16,
    "max_train_rows": 16,
    "max_validation_rows": 8,
    "max_test_rows": 8,
    "max_steps": 4,
    "per_device_train_batch_size": 4,
    "bf16": False,
}


def write(path: Path, head: list[str], rows: list[list[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])


def write_parts(folder: Path, label: Any) -> Path:
    """Three files of texts with the label that the function gives."""
    draw = random.Random(0)
    folder.mkdir()
    for part in ("train", "validation", "test"):
        rows = [[" ".join(draw.choices(("good", "bad", "film"), k=4)), label(k)] for k in range(24)]
        write(folder / f"{part}.csv", ["text", "label"], rows)
    return folder


def curve(seed: int, *scores: float, test: float | None = None) -> Run:
    """A whole run of 20 steps with its scores at equal distances."""
    seeds = dict.fromkeys(("head_seed", "data_seed", "seed"), seed)
    steps = [20 * (k + 1) // len(scores) for k in range(len(scores))]
    looks = tuple((step, {"accuracy": s}) for step, s in zip(steps, scores, strict=True))
    best, last = max(scores), scores[-1]
    more = {"best_score": best, "last_score": last, "test_score": test, "seconds": 10.0}
    return Run("plain", seeds, "finished", "", looks, "accuracy", steps=20, **more)


@pytest.fixture(scope="module")
def climbed(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The ladder of three steps whose units are means, as small as it can be."""
    folder = tmp_path_factory.mktemp("ladder")
    head = ["id", "prompt", *"ABCDE", "answer"]
    rows = [
        [k, "good film", *["bad", "good", "film", "plot", "cast"], "ABCDE"[k % 5]]
        for k in range(40)
    ]
    for file in ladders.LADDERS["science-exam"].files.values():
        write(folder / file, head, rows)
    overrides = {**TINY, "model_name_or_path": str(model_folder), "validation_size": 8}
    with ThreadPoolExecutor(max_workers=1) as executor:
        return ladders.run_ladder(
            "science-exam", folder, folder / "out", runs=4, executor=executor, overrides=overrides
        )


def test_a_ladder_is_one_study_of_all_its_steps(climbed: Study) -> None:
    assert climbed.recipes == ("plain", "frozen-embeddings", "cosine-rates")
    assert climbed.recipe_settings["cosine-rates"]["layer_lr"] == "cosine"
    found = ladders.judge(Study.from_folder(climbed.folder), unit=2)
    assert json.loads(json.dumps(found)) == found
    assert [len(found[key]) for key in ("runs", "single runs", "units")] == [12, 3, 3]
    assert {row["n"] for row in found["units"]} == {2}


def test_a_unit_is_the_score_of_mean_probabilities(climbed: Study) -> None:
    runs = climbed.of("plain")[:2]
    logits = [climbed.predictions(run).test for run in runs]
    mean = sum(np.exp(one) / np.exp(one).sum(axis=1, keepdims=True) for one in logits) / 2
    labels = climbed.predictions(runs[0]).test_labels
    right = mean[np.arange(len(labels)), labels]
    ranks = [sum(row >= mine) for row, mine in zip(mean, right, strict=True)]
    by_hand = sum(1 / rank if rank <= 3 else 0 for rank in ranks) / len(ranks)
    assert ladders.score_of_mean(climbed, runs) == pytest.approx(by_hand)
    assert ladders.means_of_runs(climbed, 2)[0].test_score == pytest.approx(by_hand)


@pytest.mark.parametrize("step", ladders.LADDERS["commonlit"].steps)
def test_each_step_of_the_article_adds_to_the_one_before(step: str) -> None:
    from hf_stabilizer.recipes import load_recipe

    steps = ladders.LADDERS["commonlit"].steps
    own = load_recipe(str(BENCHMARKS / "configs" / "commonlit" / f"{step}.yaml")).settings
    place = steps.index(step)
    if place < 2:  # the second takes the place of the first
        assert own["layer_lr"] == ("llrd", "grouped")[place]
        return
    before = load_recipe(str(BENCHMARKS / "configs" / "commonlit" / f"{steps[place - 1]}.yaml"))
    assert before.settings.items() < own.items()


def test_differences_are_paired_step_by_step() -> None:
    scores = {"plain": [1, 2, 3, 4, 5, 6], "a": [2, 3, 4, 5, 6, 7], "b": [2, 3, 4, 5, 6, 5]}
    runs = [
        Run(name, {"seed": k}, "finished", test_score=float(score))
        for name, values in scores.items()
        for k, score in enumerate(values)
    ]
    _, a, b = ladders.climb(runs, list(scores))
    assert a["against the first"]["mean difference"] == 1
    assert a["against the first"]["p"] == 2 / 64
    assert a["against the first"]["p by Holm"] == 4 / 64
    assert b["against the step before"]["mean difference"] == pytest.approx(-1 / 3)
    assert b["against the first"]["mean difference"] == pytest.approx(2 / 3)


def test_a_replay_keeps_the_best_so_far_and_chooses_among_them() -> None:
    runs = [
        curve(1, 0.5, 0.6, 0.7, 0.8, test=0.79),
        curve(2, 0.6, 0.6, 0.6, 0.6, test=0.61),
        curve(3, 0.4, 0.5, 0.9, 0.9, test=0.91),
    ]
    found = early_stopping.replay(runs, stop_at=0.25, keep=2)
    assert [run.status for run in found] == ["finished", "finished", "stopped"]
    assert [run.steps for run in found] == [20, 20, 5]
    assert found[2].best_score == 0.4
    judged = early_stopping.judge(runs, stop_at=0.25, keep=2, rows=100)
    assert judged["best of the full study"] == 0.9
    assert judged["best found"] == 0.8
    assert judged["full runs"] == 2.25
    assert judged["share of the steps"] == 0.75
    mean, std = (
        2.3 / 3,
        math.sqrt(((0.8 - 2.3 / 3) ** 2 + (0.6 - 2.3 / 3) ** 2 + (0.9 - 2.3 / 3) ** 2) / 2),
    )
    assert judged["in standard errors of the mean"] == pytest.approx(0.1 / (std / math.sqrt(3)))
    assert judged["in standard errors of one score"] == pytest.approx(
        0.1 / math.sqrt(mean * (1 - mean) / 100)
    )


def test_a_replay_is_what_the_study_does(model_folder: Path, tmp_path: Path) -> None:
    data = write_parts(tmp_path / "rows", lambda k: k % 2)
    overrides = {**TINY, "model_name_or_path": str(model_folder), "max_steps": 10}
    values: dict[str, Any] = {"recipes": ["plain"], "runs": 4, "overrides": overrides}
    real = {"stop_at": 0.5, "keep": 2}
    with ThreadPoolExecutor(max_workers=1) as executor:
        values["executor"] = executor
        full = early_stopping.train(data, tmp_path / "full", **values)
        early = early_stopping.train(data, tmp_path / "early", **values, **real)
    bits = early_stopping.compare_bits(full, early)
    checks = [value for run in bits["runs"] for key, value in run.items() if key != "run"]
    assert checks == [True] * 6
    assert bits["the same runs went on as in the replay"]
    found = early_stopping.results(full, rows=early_stopping.rows_of(full))
    there = early_stopping.study_of(json.loads(json.dumps(found)))
    assert [replace(run, configuration={}) for run in full.runs] == list(there.runs)
    pages = early_stopping.report(found, tmp_path / "pages")
    assert "stopped" in pages[1].read_text(encoding="utf-8")


def test_speed_is_runs_over_seconds() -> None:
    turns = [
        {"kind": "loop", "runs": 1, "seconds": 50.0},
        {"kind": "loop", "runs": 1, "seconds": 70.0},
        {"kind": "study", "runs": 8, "seconds": 160.0},
    ]
    found = study_speed.rates(turns)
    assert found == {"runs per hour": {"loop": 60.0, "study": 180.0}, "to loop": {"study": 3.0}}


def test_script_and_study_train_alike() -> None:
    """What the study's configuration says, the script says, too."""
    from hf_stabilizer.recipes import read_yaml

    script = study_speed.SCRIPT.read_text(encoding="utf-8")
    said = read_yaml(study_speed.CONFIG)
    keys = ["learning_rate", "per_device_train_batch_size", "num_train_epochs", "max_length"]
    keys += ["eval_strategy", "eval_steps", "eval_delay", "logging_steps", "use_cpu"]
    for key in keys:
        match = re.search(rf"\b{key}=([^,)\s]+)", script)
        assert match is not None, key
        assert json.loads(match[1].replace("True", "true")) == said[key]


BOTH = [measured_tables.PAGE, measured_tables.PROCEDURES]


@pytest.mark.parametrize("path", BOTH, ids=lambda path: path.name)
def test_the_pages_say_what_the_files_hold(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert measured_tables.MARKS.findall(page)
    assert measured_tables.filled(page) == page


@pytest.mark.parametrize("path", BOTH, ids=lambda path: path.name)
def test_the_pages_have_no_number_of_a_result_outside_their_tables(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    text = measured_tables.MARKS.sub("", page)
    assert not re.findall(r"(?<![\d.])[+-]0\.\d+|\bp [=<] 0", text)
