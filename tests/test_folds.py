"""Cross-validation: who learns from which rows, what is said about them, and what it scores."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from safetensors.torch import load_file, save_file

from hf_stabilizer import CrossValidation, cross_validate, ensemble, predict, train
from hf_stabilizer.cli import main
from hf_stabilizer.ensembling.request import prepare_request
from hf_stabilizer.errors import ConfigurationError, DataError, StudyError
from hf_stabilizer.folds import plan_folds
from hf_stabilizer.folds.cost import fold_cost
from hf_stabilizer.folds.files import parts_of, write_folds
from hf_stabilizer.folds.tables import folds_table
from hf_stabilizer.folds.validating import _settings
from hf_stabilizer.prediction import predict_rows
from hf_stabilizer.procedure import open_procedure
from hf_stabilizer.records import write_atomically
from hf_stabilizer.studies.members import folder_of
from hf_stabilizer.studies.tracker_names import TrackerNames
from tests.conftest import make_rows, tiny_study


def quick(model_folder: Path, folder: Path, **keys: Any) -> dict[str, Any]:
    """36 rows in the pool, 12 of them in each of three folds, and 12 test rows."""
    return tiny_study(model_folder, folder, rows=48, max_steps=3, **keys)


def validated(config: dict[str, Any], folder: Path, **options: Any) -> CrossValidation:
    values: dict[str, Any] = {"folds": 3, "executor": "in-process", **options}
    return cross_validate(config, output_dir=folder, **values)


@pytest.fixture(scope="module")
def setting(
    model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    """A configuration, and the folder in which it was cross-validated with two seeds."""
    folder = tmp_path_factory.mktemp("folds")
    config = quick(model_folder, folder)
    validated(config, folder / "cv", runs=2, keep_models=True)
    return config, folder / "cv"


@pytest.fixture(scope="module")
def found(setting: tuple[dict[str, Any], Path]) -> CrossValidation:
    return CrossValidation.from_folder(setting[1])


@pytest.fixture
def config(model_folder: Path, tmp_path: Path) -> dict[str, Any]:
    return quick(model_folder, tmp_path)


def share_right(table: pd.DataFrame) -> float:
    return sum(a == b for a, b in zip(table["label"], table["prediction"], strict=True)) / len(
        table
    )


def test_every_row_is_predicted_once_and_scores_are_those_of_the_table(
    found: CrossValidation,
) -> None:
    table = found.out_of_fold
    assert table["row"].tolist() == list(range(36))
    assert found.pooled["accuracy"] == pytest.approx(share_right(table))
    runs = pd.read_parquet((found.folder or Path()) / "out_of_fold_runs.parquet")
    for seed in (1, 2):
        of_seed = runs[runs["seed"] == seed]
        assert found.pooled_by_seed[str(seed)]["accuracy"] == pytest.approx(share_right(of_seed))
    scores = []
    for fold in found.folds:
        each = [
            share_right(runs[(runs["seed"] == seed) & (runs["fold"] == fold.name)])
            for seed in (1, 2)
        ]
        assert [one["accuracy"] for one in fold.by_seed.values()] == pytest.approx(each)
        assert (fold.rows, fold.train_rows) == (12, 24)
        scores.append(statistics.fmean(each))
    assert found.mean() == pytest.approx(statistics.fmean(scores))
    assert found.std() == pytest.approx(statistics.stdev(scores))


def test_probabilities_are_those_of_the_models_that_did_not_learn_from_a_row(
    found: CrossValidation,
) -> None:
    """Every kept model is asked again about the rows of its fold, in the order of the table."""
    table, rows = (
        found.out_of_fold,
        pd.read_parquet((found.folder or Path()) / "folds.parquet"),
    )
    names = ["probability_fresh", "probability_rotten"]
    for fold in found.folds:
        held_out = rows[rows["fold"] == fold.name]
        means = np.zeros((12, 2))
        for run in found.study.of(fold.name):
            logits = predict_rows(folder_of(found.study, run), held_out).astype(float)
            means += np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) / 2
        kept = table[table["fold"] == fold.name][names].to_numpy()
        np.testing.assert_allclose(kept, means, atol=1e-6)


def test_test_rows_are_predicted_by_the_mean_of_all_models(found: CrossValidation) -> None:
    table = found.test_predictions
    assert found.test is not None
    assert found.test.averaged["accuracy"] == pytest.approx(share_right(table))
    assert len(found.test.single) == 6
    of_runs = {f"{run.recipe}/{run.seeds['seed']}": run.test_score for run in found.study.runs}
    assert dict(found.test.single) == pytest.approx(of_runs)
    rows = pd.read_parquet((found.folder or Path()) / "rows" / "test.parquet")
    assert rows["label"].tolist() == table["label"].tolist()
    first = predict_rows(folder_of(found.study, found.study.runs[0]), rows)
    assert len(first) == len(table)


def test_its_folder_stands_for_its_models_where_a_file_is_predicted(
    setting: tuple[dict[str, Any], Path], found: CrossValidation, tmp_path: Path
) -> None:
    _, folder = setting
    unlabelled = pd.read_parquet(folder / "rows" / "test.parquet").drop(columns="label")
    told = predict(str(folder), unlabelled)
    names = [name for name in found.test_predictions if name.startswith("probability_")]
    assert np.abs(told[names] - found.test_predictions[names]).to_numpy().max() < 1e-6
    shutil.copytree(folder, tmp_path / "cv")
    (lost,) = (tmp_path / "cv").glob("study/runs/fold2/head1-*/model")
    shutil.rmtree(lost)
    assert len(prepare_request(tmp_path / "cv", unlabelled).members) == 5
    for other in (tmp_path / "cv").glob("study/runs/fold2/*/model"):
        shutil.rmtree(other)
    with pytest.raises(ConfigurationError, match=r"fold2.*kept no weights"):
        predict(tmp_path / "cv", unlabelled)


def test_an_ensemble_of_cross_validations_stands_for_all_their_models(
    setting: tuple[dict[str, Any], Path], found: CrossValidation, tmp_path: Path
) -> None:
    _, folder = setting
    other = tmp_path / "cv"
    shutil.copytree(folder, other)
    for path in other.glob("study/runs/*/*/model/model.safetensors"):
        weights = load_file(path)
        save_file({n: w + (n == "classifier.bias") * 2.0 * w.sign() for n, w in weights.items()},
                  path, metadata={"format": "pt"})  # fmt: skip
    shutil.rmtree(next(other.glob("study/runs/fold1/*/model")))  # so that they are not as many
    rows = pd.read_parquet(folder / "rows" / "test.parquet").drop(columns="label")
    ensemble([folder, other], combine="weighted", weights=[3, 1], output_dir=tmp_path / "both")
    told = predict(tmp_path / "both", rows)
    first, second = predict(str(folder), rows), predict(str(other), rows)
    names = [name for name in told if name.startswith("probability_")]
    assert np.abs(first[names] - second[names]).to_numpy().max() > 0.01
    np.testing.assert_allclose(told[names], 0.75 * first[names] + 0.25 * second[names], atol=1e-7)


def test_trackers_know_the_runs_by_the_name_of_the_whole(found: CrossValidation) -> None:
    names = TrackerNames.of(folder_of(found.study, found.study.runs[0]))
    assert (names.group, names.name) == ("cv", "fold1/head1-data1-dropout1")


def test_by_default_the_last_weights_score(found: CrossValidation) -> None:
    for run in found.study.runs:
        fold = next(one for one in found.folds if one.name == run.recipe)
        assert fold.by_seed[str(run.seeds["seed"])]["accuracy"] == run.last_score
        assert run.evaluations[-1][0] == run.steps


def test_a_run_of_a_fold_equals_the_same_run_alone(
    setting: tuple[dict[str, Any], Path], found: CrossValidation, tmp_path: Path
) -> None:
    config, _ = setting
    member = found.study.of("fold2")[0]
    keys = write_folds(plan_folds(config, folds=3), tmp_path / "rows")["fold2"]
    alone = train({**config, **keys, "output_dir": str(tmp_path / "alone")})
    assert alone.evaluations == member.evaluations
    weights = [
        folder / "model" / "model.safetensors"
        for folder in (tmp_path / "alone", folder_of(found.study, member))
    ]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_started_again_it_repeats_nothing_but_what_is_missing(
    setting: tuple[dict[str, Any], Path], found: CrossValidation, tmp_path: Path
) -> None:
    config, folder = setting
    assert validated(config, folder, runs=2, keep_models=True) == found
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    record = json.loads((copy / "procedure.json").read_text())
    write_atomically(copy / "procedure.json", json.dumps({**record, "outcome": {}}))
    with pytest.raises(StudyError, match="holds another cross-validate: runs is 2 there and 1"):
        validated(config, copy)


def test_a_killed_one_goes_on(config: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "cv"
    first = validated(config, folder, folds=2)
    record = json.loads((folder / "procedure.json").read_text())
    write_atomically(folder / "procedure.json", json.dumps({**record, "outcome": {}}))
    shutil.rmtree(folder / "study" / "runs" / "fold2")
    kept = next(folder.glob("study/runs/fold1/*/run.json"))
    before = kept.stat().st_mtime_ns
    assert validated(config, folder, folds=2) == first
    assert kept.stat().st_mtime_ns == before


def test_a_moved_one_is_read_and_goes_on(config: dict[str, Any], tmp_path: Path) -> None:
    first = validated(config, tmp_path / "cv", folds=2)
    folder = tmp_path / "elsewhere" / "moved"
    folder.parent.mkdir()
    shutil.move(tmp_path / "cv", folder)
    assert validated(config, folder, folds=2) == first  # read, as it is over
    record = json.loads((folder / "procedure.json").read_text())
    write_atomically(folder / "procedure.json", json.dumps({**record, "outcome": {}}))
    shutil.rmtree(folder / "study" / "runs" / "fold2")
    kept = next(folder.glob("study/runs/fold1/*/run.json"))
    before = kept.stat().st_mtime_ns
    assert validated(config, folder, folds=2) == first
    assert kept.stat().st_mtime_ns == before
    assert not (tmp_path / "cv").exists()
    settings = json.loads((folder / "study" / "study.json").read_text())["recipe_settings"]
    assert settings["fold1"]["train_file"] == "../rows/fold1/train.parquet"
    assert settings["fold1"]["test_file"] == "../rows/test.parquet"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 2}, "folds is 3 there and 2 here"),
        ({"choose_on": "fold"}, "choose_on is 'nothing' there and 'fold' here"),
        ({"overrides": {"learning_rate": 0.5}}, "learning_rate is 0.001 there and 0.5 here"),
        ({"overrides": {"split_seed": 1}}, "division is .* there"),
    ],
)
def test_other_settings_are_refused(
    setting: tuple[dict[str, Any], Path], options: dict[str, Any], message: str
) -> None:
    config, folder = setting
    with pytest.raises(StudyError, match=message):
        validated(config, folder, **{"runs": 2, **options})


def test_an_inner_choice_keeps_the_fold_out_of_it(config: dict[str, Any], tmp_path: Path) -> None:
    found = validated(config, tmp_path / "cv", folds=2, choose_on="inner", inner_size=0.25)
    for run, fold in zip(found.study.runs, found.folds, strict=True):
        assert run.test_score == fold.scores["accuracy"]
        assert (fold.rows, fold.train_rows) == (18, 14)
    assert found.test is not None  # its rows are asked after training, from the models
    rows = pd.read_parquet(tmp_path / "cv" / "folds.parquet")
    seen = {
        part: pd.read_parquet(tmp_path / "cv" / "rows" / "fold1" / f"{part}.parquet")
        for part in ("train", "validation", "test")
    }
    assert {part: len(one) for part, one in seen.items()} == {
        "train": 14, "validation": 4, "test": 18,
    }  # fmt: skip
    held_out = rows[rows["fold"] == "fold1"]["text"].tolist()
    assert seen["test"]["text"].tolist() == held_out


def test_a_choice_on_the_fold_is_called_optimistic(config: dict[str, Any], tmp_path: Path) -> None:
    found = validated(config, tmp_path / "cv", folds=2, choose_on="fold")
    assert [fold.scores["accuracy"] for fold in found.folds] == [
        run.best_score for run in found.study.runs
    ]
    assert any("optimistic" in note for note in found.notes)


def test_what_cannot_run_leaves_nothing_behind(config: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        validated({**config, "reinit_layers": 99}, tmp_path / "cv")
    assert not (tmp_path / "cv").exists()


def test_a_second_command_takes_nothing_from_the_first(
    config: dict[str, Any], tmp_path: Path
) -> None:
    """The first has written its rows, and has no run yet."""
    folder = tmp_path / "cv"
    plan = plan_folds(config, folds=3)
    open_procedure(folder, "cross-validate", _settings(plan, None, True, 1))
    (folder / "study").mkdir()
    with (
        FileLock(folder / "study" / ".lock"),
        pytest.raises(StudyError, match="another process works on the study"),
    ):
        validated(config, folder)
    assert {path.name for path in folder.iterdir()} >= {"procedure.json", "rows", "study"}


def test_a_fold_whose_runs_all_failed_is_named_and_tried_again(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import Trainer

    step = Trainer.training_step

    def sometimes(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        if "fold2" in str(self.args.output_dir):
            raise RuntimeError("out of memory")
        return step(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", sometimes)
    with pytest.raises(StudyError, match=r"no run of fold2 has predictions \(RuntimeError: out of"):
        validated(config, tmp_path / "cv", folds=2)
    monkeypatch.setattr(Trainer, "training_step", step)
    assert len(validated(config, tmp_path / "cv", folds=2, retry_failed=True).folds) == 2


@pytest.mark.parametrize("kind", ["numbers", "several labels", "choices"])
def test_other_tasks(kind: str, model_folder: Path, tmp_path: Path) -> None:
    rows = pd.DataFrame(make_rows(20, seed=3), columns=["text", "label"])
    keys: dict[str, Any] = {"task": "text-classification"}
    if kind == "numbers":
        rows["label"] = (rows["label"] == "fresh") + rows.index / 100
        keys = {"task": "text-regression", "metrics": ["rmse", "pearson"]}
    elif kind == "several labels":
        rows["label"] = [["x", "y"] if label == "fresh" else ["y"] for label in rows["label"]]
        keys["metrics"] = ["f1_micro"]
    else:
        rows = rows.rename(columns={"text": "prompt"}).assign(A="good film", B="bad film")
        rows["label"] = ["A" if label == "fresh" else "B" for label in rows["label"]]
        keys = {"task": "multiple-choice", "metrics": ["map_at_2"]}
    rows.to_json(tmp_path / "rows.json", orient="records")
    config = quick(model_folder, tmp_path)
    del config["validation_size"], config["test_size"]
    config |= {"train_file": str(tmp_path / "rows.json"), **keys}
    found = validated(config, tmp_path / "cv", folds=2)
    table = found.out_of_fold
    assert len(table) == 20
    part = {"numbers": "Residuals", "several labels": "Label by label"}
    page = (tmp_path / "cv" / "report.html").read_text(encoding="utf-8")
    assert f"<h2>{part.get(kind, 'What is taken for what')}</h2>" in page
    for run, fold in zip(found.study.runs, found.folds, strict=True):
        assert fold.scores[found.metric] == pytest.approx(run.last_score)
    if kind == "numbers":
        errors = [(a - b) ** 2 for a, b in zip(table["label"], table["prediction"], strict=True)]
        assert found.pooled["rmse"] == pytest.approx(statistics.fmean(errors) ** 0.5)
    elif kind == "several labels":
        assert sorted(map(list, table["label"])) == sorted(rows["label"])
        assert {"probability_x", "probability_y"} <= set(table)
    else:
        assert table["label"].tolist() == rows["label"].tolist()
        np.testing.assert_allclose(table["probability_A"] + table["probability_B"], 1)
    with pytest.raises(StudyError, match="there is no test_predictions"):
        _ = found.test_predictions


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    pd.DataFrame(rows).to_csv(path, index=False)
    return str(path)


def six(path: Path, **columns: list[Any]) -> dict[str, Any]:
    """Six rows by hand; nothing of them is trained on, so that the model need not exist."""
    texts = ["good film", "warm plot", "great cast", "bad tone", "grim score", "poor scene"]
    labels = ["fresh"] * 3 + ["rotten"] * 3
    rows = pd.DataFrame({"text": texts, "label": labels, **columns})
    rows.to_csv(path, index=False)
    return {"model_name_or_path": "none", "train_file": str(path)}


def test_six_rows_in_three_folds_by_hand(tmp_path: Path) -> None:
    """Each fold holds out one fresh and one rotten row, and learns from the other four."""
    plan = plan_folds(six(tmp_path / "six.csv"), folds=3)
    assert plan.pool.rows["_source_row"].tolist() == [0, 1, 2, 3, 4, 5]
    assert [dict(size.labels) for size in plan.sizes] == [{"fresh": 1, "rotten": 1}] * 3
    for fold in range(3):
        trains, inner, held_out = parts_of(plan, fold)
        assert (len(trains), inner, len(held_out)) == (4, [], 2)
        assert sorted([*trains, *held_out]) == list(range(6))


@pytest.mark.parametrize("choose_on", ["nothing", "inner", "fold"])
@pytest.mark.parametrize("group", [None, "film"])
def test_no_row_and_no_group_is_on_two_sides(
    choose_on: Any, group: str | None, tmp_path: Path
) -> None:
    rows = [
        {"text": f"{text} {n}", "label": label, "film": f"f{n % 9}"}
        for n, (text, label) in enumerate(make_rows(60, seed=5))
    ]
    config = {"model_name_or_path": "none", "train_file": written(tmp_path / "r.csv", rows)}
    plan = plan_folds({**config, "group_column": group}, folds=4, choose_on=choose_on)
    for fold in range(4):
        parts = [set(part) for part in parts_of(plan, fold)]
        assert sorted(row for part in parts for row in part) == list(range(60))
        assert bool(parts[1]) == (choose_on == "inner")
        if group is not None:
            films = [{rows[row]["film"] for row in part} for part in parts]
            assert not films[0] & films[1]
            assert not films[2] & (films[0] | films[1])


def test_the_pool_is_training_and_validation_rows_at_most_so_many(tmp_path: Path) -> None:
    config = six(tmp_path / "six.csv")
    more = [{"text": f"fine {n}", "label": "fresh"} for n in range(4)]
    config["validation_file"] = written(tmp_path / "v.csv", more)
    config["test_file"] = written(tmp_path / "t.csv", more[:2])
    plan = plan_folds(config, folds=2)
    assert len(plan.places) == 10
    assert plan.pool.rows["_source"].tolist() == ["train"] * 6 + ["validation"] * 4
    assert plan.to_records()["test_rows"] == 2
    assert len(plan_folds({**config, "max_train_rows": 5}, folds=2).places) == 5
    filtered = plan_folds({**config, "filter": "text != 'good film'"}, folds=2)
    assert filtered.pool.rows["_source_row"].tolist() == [1, 2, 3, 4, 5, 0, 1, 2, 3]


def test_groups_named_by_numbers_in_one_file_and_words_in_the_other(tmp_path: Path) -> None:
    config = six(tmp_path / "six.csv", film=[1, 1, 2, 2, 3, 3])
    more = [{"text": f"fine {n}", "label": "fresh", "film": f"x{n}"} for n in range(2)]
    config["validation_file"] = written(tmp_path / "v.csv", more)
    plan = plan_folds({**config, "group_column": "film"}, folds=2)
    assert plan.pool.groups == ["1", "1", "2", "2", "3", "3", "x0", "x1"]


def test_other_test_rows_are_another_cross_validation(tmp_path: Path) -> None:
    """The runs have answered those of then: their answers would be scored by other labels."""
    config = six(tmp_path / "six.csv")
    marks = []
    for label in ("fresh", "rotten"):
        rows = [{"text": "a film", "label": label}, {"text": "a plot", "label": "fresh"}]
        config["test_file"] = written(tmp_path / "t.csv", rows)
        marks.append(_settings(plan_folds(config, folds=2), None, True, 1)["test_rows"])
    assert marks[0] != marks[1]


def test_a_dry_run_says_why_the_runs_would_fail(config: dict[str, Any]) -> None:
    plan = plan_folds({**config, "averaging": "swa", "averaging_start": 50}, folds=2)
    with pytest.raises(ConfigurationError, match="averaging"):
        fold_cost(plan)


def test_a_fold_without_a_rare_class_still_knows_it(tmp_path: Path) -> None:
    config = six(tmp_path / "six.csv", label=["a", "a", "a", "b", "b", "c"])
    plan = plan_folds(config, folds=2)
    keys = write_folds(plan, tmp_path / "rows")
    assert all(one["label_names"] == ["a", "b", "c"] for one in keys.values())


def test_folds_by_a_column(tmp_path: Path) -> None:
    config = six(tmp_path / "six.csv", part=[2, 2, 1, 1, 10, 10])
    plan = plan_folds(config, fold_column="part")
    assert plan.names == ("fold-1", "fold-2", "fold-10")
    assert plan.places == (1, 1, 0, 0, 2, 2)


def test_a_column_that_splits_groups_is_told_of(tmp_path: Path) -> None:
    config = six(tmp_path / "six.csv", part=[1, 2] * 3, film=list("aabbcd"))
    plan = plan_folds({**config, "group_column": "film"}, fold_column="part")
    assert plan.cautions == ("2 groups have rows in several folds, as the fold column says",)


def test_near_duplicates_across_folds_are_told_of(tmp_path: Path) -> None:
    texts = ["a film of rare warmth", "A film of rare warmth!", "dull", "grim", "flat", "long"]
    config = six(tmp_path / "six.csv", text=texts, part=[1, 2, 1, 2, 1, 2])
    plan = plan_folds(config, fold_column="part")
    assert plan.duplicates == 1
    assert "1 pairs of near-duplicate texts lie in two folds" in plan.cautions[0]
    together = six(tmp_path / "t.csv", text=texts, part=[1, 1, 1, 2, 2, 2])
    assert not plan_folds(together, fold_column="part").cautions


def test_rows_that_were_made_of_others_are_told_of(tmp_path: Path) -> None:
    config = six(tmp_path / "six.csv", augmented_by=[None, *["swap"] * 2, *[None] * 3])
    plan = plan_folds(config, folds=2)
    assert plan.cautions[0].startswith("2 of 6 training rows are changed copies of others (column")
    assert plan.cautions[0] not in plan.notes


FOUR = r"fold_column: train_file '.*six.csv' has no column 'flod'; its columns are .*, film, same$"


@pytest.mark.parametrize(
    ("keys", "options", "message"),
    [
        ({}, {"folds": 1}, "folds must be a whole number from 2 up, got 1"),
        ({}, {"folds": 7}, "6 rows cannot be divided into 7 folds"),
        ({"group_column": "film"}, {"folds": 3}, "2 groups cannot be divided into 3 folds"),
        ({}, {"fold_column": "flod"}, FOUR),
        ({"group_column": "flod"}, {}, FOUR.replace("fold_", "group_")),
        ({"group_column": "flod", "test_size": 2}, {}, FOUR.replace("fold_", "group_")),
        ({}, {"fold_column": "same"}, "column 'same' holds '1' in every row"),
        ({}, {"fold_column": "film", "folds": 3}, "makes 2 folds, and folds is 3"),
        ({}, {"choose_on": "test"}, "choose_on must be one of nothing, inner, fold, got 'test'"),
        ({}, {"inner_size": 1}, r"inner_size must be a share of the training rows in \(0, 1\)"),
        ({}, {"runs": 0}, "runs must be a whole number from 1 up, got 0"),
        ({"seed": 3}, {}, "sets the seeds itself, and the configuration gives seed"),
        ({"save_strategy": "no"}, {"choose_on": "fold"}, "the configuration loads none at the end"),
        ({"task": "masked-lm"}, {}, "which have a label for each row; task is 'masked-lm'$"),
        (
            {"task": "token-classification"},
            {},
            "is of text-classification, text-regression, multiple-choice, .*-classification'$",
        ),
    ],
)
def test_what_cannot_be_right_is_refused_before_any_work(
    keys: dict[str, Any], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    config = six(tmp_path / "six.csv", film=list("xxxyyy"), same=[1] * 6) | keys
    with pytest.raises((ConfigurationError, DataError), match=message):
        cross_validate(config, output_dir=tmp_path / "cv", **{"folds": None, **options})
    assert not (tmp_path / "cv").exists()


def test_a_folder_must_be_named_and_local(tmp_path: Path) -> None:
    config = six(tmp_path / "six.csv")
    with pytest.raises(ConfigurationError, match="output_dir is missing"):
        cross_validate(config, folds=3)
    with pytest.raises(ConfigurationError, match="name a folder that all machines see"):
        cross_validate({**config, "output_dir": "s3://bucket/folds"}, folds=3)


def test_the_command(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ruamel.yaml import YAML

    path = tmp_path / "c.yaml"
    YAML(typ="safe", pure=True).dump(config, path)
    words = ["cross-validate", str(path), "--folds", "2", "--output_dir", str(tmp_path / "cv")]
    main([*words, "--dry-run", "--json"])
    plan = json.loads(capsys.readouterr().out)
    assert (plan["rows"], plan["test_rows"], plan["runs"]) == (36, 12, 2)
    assert plan["cost"]["steps"] == 3
    main([*words, "--dry-run"])
    assert "36 rows in 2 folds" in capsys.readouterr().out
    assert not (tmp_path / "cv").exists()

    main([*words, "--executor", "in-process"])
    shown = capsys.readouterr().out
    assert "std over folds" in shown
    assert "Test rows (12): the mean of 2 models" in shown
    page = tmp_path / "cv" / "report.html"
    assert f"Report: {page}" in shown
    text = page.read_text(encoding="utf-8")
    assert "the mean of 2 models scores" in text
    assert "--folds 2" in text  # the command that makes it again
    page.unlink()
    main([*words, "--json"])  # it is over: nothing is trained
    found = json.loads(capsys.readouterr().out)
    assert [fold["name"] for fold in found["folds"]] == ["fold1", "fold2"]
    assert page.read_text(encoding="utf-8") == text
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--runs", "2"])
    assert stopped.value.code == 2
    assert "runs is 1 there and 2 here" in capsys.readouterr().err


# Names that are taken ----------------------------------------------------------------------------


def renamed(file: Path, old: str, new: str) -> pd.DataFrame:
    rows = pd.read_csv(file).rename(columns={old: new})
    rows.to_csv(file, index=False)
    return rows


@pytest.mark.parametrize(
    ("name", "keys"),
    [("_group", {"group_column": "film"}), ("_source", {}), ("_source_row", {})],
)
def test_a_text_column_that_is_called_as_our_own_is_refused_before_any_work(
    tmp_path: Path, name: str, keys: dict[str, Any]
) -> None:
    config = {**six(tmp_path / "rows.csv", film=["x", "y", "z"] * 2), **keys}
    renamed(tmp_path / "rows.csv", "text", name)
    with pytest.raises(DataError, match=f"have a column '{name}' that is read, .* rename it$"):
        cross_validate({**config, "text_columns": [name]}, folds=2, output_dir=tmp_path / "cv")
    assert not (tmp_path / "cv").exists()


@pytest.mark.parametrize("key", ["group_column", "fold_column"])
def test_a_column_of_groups_or_folds_is_not_overwritten(tmp_path: Path, key: str) -> None:
    config = six(tmp_path / "rows.csv", film=["x", "y", "z"] * 2)
    renamed(tmp_path / "rows.csv", "film", "_source")
    asked = {"fold_column": "_source"} if key == "fold_column" else {}
    config |= {} if asked else {"group_column": "_source"}
    with pytest.raises(DataError, match="have a column '_source' that is read"):
        plan_folds(config, **asked)


def test_a_text_column_that_is_called_as_one_of_the_table_stands_beside_it(tmp_path: Path) -> None:
    config = {**six(tmp_path / "rows.csv"), "text_columns": ["source"]}
    rows = renamed(tmp_path / "rows.csv", "text", "source")
    table = folds_table(plan_folds(config, folds=2))
    assert set(table["source"]) == {"train"}
    assert table["text_source"].tolist() == rows["source"].tolist()


@pytest.mark.parametrize("films", [["x", "y", "x", "y", "z", None], [1, "y", 1, "y", "z", None]])
def test_rows_without_a_group_are_counted_whatever_the_others_are_called(
    tmp_path: Path, films: list[Any]
) -> None:
    config = six(tmp_path / "rows.csv")
    rows = pd.read_csv(config["train_file"]).to_dict("records")
    lines = [json.dumps({**row, "film": film}) for row, film in zip(rows, films, strict=True)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    config |= {"train_file": str(tmp_path / "rows.jsonl"), "group_column": "film"}
    with pytest.raises(DataError, match="1 of 6 rows have no group in column 'film'"):
        plan_folds(config, folds=2)
