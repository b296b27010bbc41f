"""What the seeds of finished studies decide: sentences, files, the picture, refusals."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_stabilizer.cli import main
from hf_stabilizer.errors import ConfigurationError, StudyError
from hf_stabilizer.records import Run, write_run
from hf_stabilizer.studies.seeds.seed_effects import labels_of, seed_effects
from hf_stabilizer.studies.seeds.seed_grid import plan_seeds
from hf_stabilizer.studies.seeds.seed_view import show_seeds
from hf_stabilizer.studies.seeds.seed_words import sentences
from hf_stabilizer.studies.statistics import rank_agreement_of_runs, two_way_analysis_of_runs
from hf_stabilizer.studies.study import Study, run_folder, write_definition

GRID: dict[str, Any] = {"runs": None, "head_seeds": 6, "data_seeds": 5}


def made(
    folder: Path, *, seed: int = 1, labels: int = 2, model: str = "bert", head: float = 0.03,
    recipes: tuple[str, ...] = ("plain",), **options: Any,
) -> Path:  # fmt: skip
    """Writes a study whose heads are as good or bad in every one of these."""
    seeds = plan_seeds(**(options or GRID))
    heads = head * np.random.default_rng(0).normal(size=100)
    rng = np.random.default_rng(seed)
    orders = 0.01 * rng.normal(size=100)
    settings = {"model_name_or_path": model}
    study = Study(folder.name, recipes, (), "f1", True, tuple(seeds), configuration=settings)
    write_definition(study, folder)
    for recipe in recipes:
        for one in seeds:
            score = 0.8 + heads[one["head_seed"]] + orders[one["data_seed"]] + 0.005 * rng.normal()
            looks = ((4, {"f1": float(score)}),)
            run = Run(recipe, one, "finished", "", looks, "f1", best_score=float(score))
            write_run(run, run_folder(folder, recipe, run.name) / "run.json")
    task = folder / "data" / "abc" / "task.json"
    task.parent.mkdir(parents=True)
    task.write_text(json.dumps({"task": "text-classification", "num_labels": labels}))
    return folder


def test_the_screen_tells_where_the_spread_is_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(tmp_path / "mrpc")
    main(["seeds", str(folder)])
    text = capsys.readouterr().out
    assert "mrpc, recipe plain: 30 runs in 6 head x 5 data seeds; f1, greater is better" in text
    analysis = two_way_analysis_of_runs(Study.from_folder(folder).runs)
    assert analysis is not None
    share = f"{100 * analysis['head'].share:.0f} %"
    assert f"- The head makes a difference: {share} of the variance (p < 0.001)." in text
    assert "both together, and chance" in text
    assert "head seeds differ clearly from the others, as the luckiest of 6 would have to" in text


def test_numbers_and_picture_are_written(tmp_path: Path) -> None:
    folder = made(tmp_path / "mrpc")
    outputs = [tmp_path / "new" / name for name in ("a.json", "a.csv")]
    picture = tmp_path / "new" / "a.svg"
    main(["seeds", str(folder), "--output", str(outputs[0]), "--plot", str(picture)])
    main(["seeds", str(folder), "--output", str(outputs[1])])
    story = json.loads(outputs[0].read_text())
    (effect,) = story["effects"]
    assert effect["varied"] == {"head": 6, "data": 5}
    assert [factor["name"] for factor in effect["factors"]] == ["head", "data", "rest"]
    assert sum(factor["share"] for factor in effect["factors"]) == pytest.approx(1)
    assert len(effect["seeds"]) == 11
    rows = list(csv.DictReader(outputs[1].read_text().splitlines()))
    assert [row["table"] for row in rows] == ["factor"] * 3 + ["seed"] * 11
    assert float(rows[3]["mean"]) == effect["seeds"][0]["mean"]
    drawn = picture.read_text()
    assert "<svg" in drawn
    assert drawn.count("<image") == 1 + 1  # the grid and its colour bar


def test_heads_over_two_data_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [made(tmp_path / name, seed=k) for k, name in enumerate(("mrpc", "rte"))]
    story = show_seeds(folders)
    runs = {folder.name: Study.from_folder(folder).runs for folder in folders}
    assert story.agreements["plain"] == rank_agreement_of_runs(runs)
    text = " ".join(capsys.readouterr().out.split())
    assert "plain: the heads that are good on mrpc are good on rte, too: rank correlation" in text
    assert "with 6 heads; the best over all:" in text


def test_heads_that_do_nothing_claim_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [made(tmp_path / name, seed=k, head=0.0) for k, name in enumerate(("a", "b"))]
    show_seeds(folders)
    text = " ".join(capsys.readouterr().out.split())
    assert "That the head makes a difference cannot be claimed (p = " in text
    assert "No head seed is clearly better or worse than the others" in text
    assert "that the heads that are good on a are good on b, too, cannot be claimed:" in text


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"runs": 6}, "The head, data and dropout seed vary together, so what each does cannot"),
        ({"runs": 1}, "There is one run, so nothing can be said of its seeds; run a grid: "),
        (
            {"runs": None, "head_seeds": 4},
            "Only the head seed varies, so its own part of the spread cannot be told from chance",
        ),
        (
            {"runs": 4, "head_seeds": 3, "data_seeds": 3},
            "The grid has too many holes to tell head and data apart",
        ),
    ],
)
def test_what_cannot_be_told_is_said(
    tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    (found,) = seed_effects(Study.from_folder(made(tmp_path / "s", **options)))
    assert sentences(found)[0].startswith(sentence)
    assert found.analysis is None


def test_dropout_as_a_third_seed_is_in_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three = {"runs": None, "head_seeds": 3, "data_seeds": 3, "dropout_seeds": 2}
    (found,) = seed_effects(Study.from_folder(made(tmp_path / "s", **three)))
    assert found.analysis is not None
    assert [f.name for f in found.analysis.factors] == ["head", "data", "head x data", "rest"]
    show_seeds([tmp_path / "s"])
    assert "dropout, and chance" in capsys.readouterr().out


def test_runs_of_any_trainer_whose_names_tell_their_seeds(tmp_path: Path) -> None:
    for head in (1, 2, 3):
        for data in (1, 2, 3):
            log = [{"step": 4, "eval_f1": 0.5 + head / 10 + data / 100 + head * data / 1000}]
            folder = tmp_path / "runs" / f"plain-data-seed-{data}-seed-{head}"
            folder.mkdir(parents=True)
            state = {"global_step": 4, "max_steps": 4, "log_history": log}
            (folder / "trainer_state.json").write_text(json.dumps(state))
    (found,) = show_seeds([tmp_path / "runs"], metric="f1").effects
    assert found.varied == {"seed": 3, "data_seed": 3}
    assert found.words["seed"] == "seed"  # in a script it is the head's, and dropout's
    assert [mean.seed for mean in found.heads] == [3, 2, 1]


def test_labels_are_read_from_where_they_stand(tmp_path: Path) -> None:
    study = Study("s", ("plain",), (), "f1", True)
    assert labels_of(study, tmp_path) is None
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"architectures": ["BertForSequenceClassification"]}')
    assert labels_of(study, tmp_path) == 2
    (model / "config.json").write_text('{"id2label": {"0": "a", "1": "b", "2": "c"}}')
    assert labels_of(study, tmp_path) == 3
    assert labels_of(study, made(tmp_path / "own", labels=5)) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": 3}, r"not the same number of labels \(a 2, b 3\), so one head seed draws diff"),
        ({"model": "roberta"}, r"not the same model \(a bert, b roberta\)"),
        (
            {"runs": None, "head_seeds": [91, 92], "data_seeds": 3},
            r"no head seed in common with recipe 'plain' \(a \[1, 2, 3, 4, 5, 6\] and b \[91, 92\]",
        ),
        ({"recipes": ("swa",)}, "the studies a and b share no recipe"),
    ],
)
def test_refusal_heads_that_are_not_the_same(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folders = [made(tmp_path / "a"), made(tmp_path / "b", **change)]
    with pytest.raises(StudyError, match=message):
        show_seeds(folders)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": Path("a.txt")}, "output must end in .json or .csv, got 'a.txt'"),
        ({"plot": Path("a.gif")}, "plot must end in .png, .pdf or .svg, got 'a.gif'"),
        ({"recipes": ["swa"]}, "no study has a recipe 'swa'; there are plain"),
    ],
)
def test_refusal_of_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        show_seeds([made(tmp_path / "a")], **options)


def test_refusal_a_folder_named_twice_and_a_picture_of_nothing(tmp_path: Path) -> None:
    folder = made(tmp_path / "a", runs=3)
    with pytest.raises(ConfigurationError, match="is named twice"):
        show_seeds([folder, folder, folder])
    with pytest.raises(StudyError, match="there is no grid of seeds to draw"):
        show_seeds([folder], plot=tmp_path / "a.png")


def test_the_one_seed_of_a_script_is_called_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (1, 2, 3):
        folder = tmp_path / f"plain-seed-{seed}"
        folder.mkdir()
        log = [{"step": 9, "eval_f1": seed / 10}]
        state = {"global_step": 9, "max_steps": 9, "log_history": log}
        (folder / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    show_seeds([tmp_path], metric="f1")
    assert "recipe plain: 3 runs in 3 seeds; f1" in " ".join(capsys.readouterr().out.split())
