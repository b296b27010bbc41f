"""Means of several models' answers: by hand, beside each member, refused where they cannot be."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hf_stabilizer import ensemble, predict, pseudo_label, run_study
from hf_stabilizer.cli import main
from hf_stabilizer.configuration import load_configuration
from hf_stabilizer.data import load_splits
from hf_stabilizer.data_quality import check_rows, clean_rows
from hf_stabilizer.ensembling.combining import combine, probabilities
from hf_stabilizer.ensembling.judging import Judge, judge_of, paired_interval
from hf_stabilizer.ensembling.predicted import prediction_columns
from hf_stabilizer.ensembling.weights import cross_fitted, fit_weights, mean_loss
from hf_stabilizer.errors import ConfigurationError, DataError, StudyError
from hf_stabilizer.folds.record import CrossValidation, FoldScore
from hf_stabilizer.prediction import predict_rows
from hf_stabilizer.predictions import Predictions, write_predictions
from hf_stabilizer.procedure import open_procedure, read_procedure
from hf_stabilizer.records import Run, write_run
from hf_stabilizer.studies.study import Study, run_folder, write_definition

from .reference import best_weight_of_two, best_weights_of_numbers, mean_rank
from .tiny import write_member

SINGLE, MULTI = "single_label_classification", "multi_label_classification"
NUMBER, CHOICE = "regression", "multiple-choice"
LOG3 = math.log(3)


def logits(rows: int, classes: int, seed: int, members: int = 3) -> Any:
    draw = np.random.default_rng(seed)
    return draw.normal(size=(members, rows, classes)).astype(np.float32) * 2


# Each combination, by hand -----------------------------------------------------------------------


def test_mean_of_probabilities_by_hand() -> None:
    # softmax(log 3, 0) = (3/4, 1/4) and softmax(0, 0) = (1/2, 1/2): mean (5/8, 3/8).
    outputs = np.array([[[LOG3, 0.0]], [[0.0, 0.0]]])
    np.testing.assert_allclose(combine(outputs, SINGLE), [[0.625, 0.375]])
    np.testing.assert_allclose(combine(outputs, CHOICE), [[0.625, 0.375]])
    # sigmoid(log 3) = 3/4, sigmoid(0) = 1/2; each label by itself.
    np.testing.assert_allclose(combine(outputs, MULTI), [[0.625, 0.5]])
    np.testing.assert_allclose(combine(np.array([[[1.0]], [[4.0]]]), NUMBER), [[2.5]])


def test_mean_of_logits_by_hand() -> None:
    # The mean of (2 log 3, 0) and (0, 0) is (log 3, 0): (3/4, 1/4).
    outputs = np.array([[[2 * LOG3, 0.0]], [[0.0, 0.0]]])
    np.testing.assert_allclose(combine(outputs, SINGLE, how="mean_logit"), [[0.75, 0.25]])
    np.testing.assert_allclose(combine(outputs, MULTI, how="mean_logit"), [[0.75, 0.5]])


def test_weighted_by_hand() -> None:
    outputs = np.array([[[LOG3, 0.0]], [[0.0, 0.0]]])
    # 3/4 of (3/4, 1/4) and 1/4 of (1/2, 1/2): (11/16, 5/16).
    found = combine(outputs, SINGLE, how="weighted", weights=[3, 1])
    np.testing.assert_allclose(found, [[0.6875, 0.3125]])
    one_sided = combine(outputs, SINGLE, how="weighted", weights=[1, 0])
    np.testing.assert_array_equal(one_sided, probabilities(outputs[0], SINGLE))


def test_mean_of_ranks_by_hand_and_by_counting() -> None:
    # Class 0 of member 1 grows with the rows: ranks 0, 1/2, 1; of member 2 it is tied, then least.
    first = [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]
    second = [[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]
    found = combine(np.array([first, second]), SINGLE, how="rank_mean")
    np.testing.assert_allclose(found[:, 0], [(0 + 0.75) / 2, (0.5 + 0.75) / 2, (1 + 0) / 2])
    np.testing.assert_allclose(found[:, 1], 1 - found[:, 0])
    outputs = logits(7, 3, seed=1)
    np.testing.assert_allclose(
        combine(outputs, SINGLE, how="rank_mean"), mean_rank(outputs.astype(float).tolist())
    )


def test_ranks_of_choices_are_those_within_a_row() -> None:
    found = combine(np.array([[[5.0, 1.0, 3.0]], [[-9.0, -8.0, -7.0]]]), CHOICE, how="rank_mean")
    np.testing.assert_allclose(found, [[(1 + 0) / 2, (0 + 0.5) / 2, (0.5 + 1) / 2]])


@pytest.mark.parametrize("how", ["mean_probability", "mean_logit", "weighted"])
@pytest.mark.parametrize("kind", [SINGLE, MULTI, NUMBER, CHOICE])
def test_one_member_is_itself_bit_for_bit(kind: Any, how: str) -> None:
    outputs = logits(9, 1 if kind == NUMBER else 4, seed=2, members=1)
    weights = [0.3] if how == "weighted" else None
    found = combine(outputs, kind, how=how, weights=weights)
    np.testing.assert_array_equal(found, probabilities(outputs[0], kind))


def test_what_cannot_be_combined_is_told() -> None:
    outputs = logits(3, 2, seed=3)
    with pytest.raises(ConfigurationError, match="rank_mean' does not fit several labels"):
        combine(outputs, MULTI, how="rank_mean")
    with pytest.raises(ConfigurationError, match="weights belong to combine='weighted'"):
        combine(outputs, SINGLE, weights=[1, 1, 1])
    with pytest.raises(ConfigurationError, match="weights belong to combine='weighted'"):
        combine(outputs, SINGLE, how="weighted")
    for wrong in ([1, 1], [1, -1, 1], [1, math.nan, 1]):
        with pytest.raises(ConfigurationError, match="weights must be 3 numbers from 0 up"):
            combine(outputs, SINGLE, how="weighted", weights=wrong)
    with pytest.raises(ConfigurationError, match="weights are all 0"):
        combine(outputs, SINGLE, how="weighted", weights=[0, 0, 0])
    for metric, kind in (("nll", SINGLE), ("rmse", NUMBER)):
        with pytest.raises(ConfigurationError, match="gives ranks, which"):
            judge_of(metric, kind, combine="rank_mean")  # type: ignore[arg-type]


# Fitted weights ----------------------------------------------------------------------------------


def test_two_weights_are_those_of_a_fine_grid() -> None:
    draw = np.random.default_rng(4)
    labels = draw.integers(0, 2, 40)
    chances = probabilities(logits(40, 2, seed=5, members=2), SINGLE)
    right = chances[:, np.arange(40), labels]
    weights = fit_weights(chances, labels, SINGLE)
    assert weights[0] == pytest.approx(best_weight_of_two(*right.tolist()), abs=2e-3)


@pytest.mark.parametrize("kind", [SINGLE, MULTI, NUMBER])
def test_weights_lose_no_more_than_equal_ones_or_any_member(kind: Any) -> None:
    draw = np.random.default_rng(6)
    classes = 1 if kind == NUMBER else 3
    chances = probabilities(logits(60, classes, seed=7, members=4), kind)
    labels = {
        SINGLE: draw.integers(0, 3, 60),
        MULTI: draw.integers(0, 2, (60, 3)).astype(float),
        NUMBER: chances[1, :, 0] + 0.1 * draw.normal(size=60),
    }[kind]
    weights = fit_weights(chances, labels, kind)
    assert weights.sum() == pytest.approx(1.0)
    assert (weights >= 0).all()
    least = mean_loss(np.tensordot(weights, chances, axes=1), labels, kind)
    for other in (np.full(4, 0.25), *np.eye(4)):
        mixed = np.tensordot(other, chances, axes=1)
        assert least <= mean_loss(mixed, labels, kind) + 1e-9
    if kind == NUMBER:
        assert weights[1] > 0.95
    np.testing.assert_array_equal(fit_weights(chances[:1], labels, kind), [1.0])


@pytest.mark.parametrize(("unit", "origin"), [(1.0, 0.0), (1e6, 0.0), (1e-5, 0.0), (1.0, 1e6)])
def test_weights_of_numbers_do_not_depend_on_their_unit(unit: float, origin: float) -> None:
    draw = np.random.default_rng(10)
    labels = draw.normal(size=80)
    members = labels + np.array([[0.1], [0.2], [3.0]]) * draw.normal(size=(3, 80))
    chances = (origin + unit * members)[:, :, None]
    weights = fit_weights(chances, origin + unit * labels, NUMBER)
    assert weights == pytest.approx(best_weights_of_numbers((members - labels).tolist()), abs=5e-3)
    assert weights[0] > weights[1] > weights[2]
    perfect = fit_weights(np.stack([labels, labels + 1.0])[:, :, None], labels, NUMBER)
    assert perfect == pytest.approx([1.0, 0.0], abs=1e-6)
    same = np.stack([labels, labels])[:, :, None]
    np.testing.assert_array_equal(fit_weights(same, labels, NUMBER), [0.5, 0.5])


def test_no_row_has_a_part_in_the_weights_that_judge_it() -> None:
    chances = probabilities(logits(30, 2, seed=8), SINGLE)
    labels, folds = np.random.default_rng(9).integers(0, 2, 30), [row % 3 for row in range(30)]
    before = cross_fitted(chances, labels, SINGLE, folds)
    for row in range(30):
        turned = labels.copy()
        turned[row] = 1 - turned[row]
        after = cross_fitted(chances, turned, SINGLE, folds)
        np.testing.assert_array_equal(after[row], before[row])


# Judging -----------------------------------------------------------------------------------------


def test_the_interval_is_of_the_same_rows_on_both_sides() -> None:
    judge = judge_of("accuracy", SINGLE)
    labels = np.arange(40) % 2
    right = np.eye(2)[labels]
    wrong = right.copy()
    wrong[:10] = 1 - wrong[:10]
    assert judge(right, labels) - judge(wrong, labels) == 0.25
    interval = paired_interval(right, wrong, labels, judge)
    assert interval is not None
    # Ten of forty rows differ: Binomial(40, 1/4) / 40, whose middle 95 % is 5..16 of 40.
    assert interval.low == pytest.approx(5 / 40, abs=1.1 / 40)
    assert interval.high == pytest.approx(16 / 40, abs=1.1 / 40)
    assert paired_interval(right[:2], wrong[:2], labels[:2], judge) is None


@pytest.mark.parametrize("metric", ["accuracy", "map@2", "top_2", "mse", "mae", "rmse"])
def test_the_fast_interval_is_the_plain_one(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hf_stabilizer.ensembling.judging.RESAMPLES", 50)
    kind: Any = NUMBER if metric in ("mse", "mae", "rmse") else SINGLE
    labels = np.random.default_rng(12).integers(0, 3, 30)
    sides = probabilities(logits(30, 1 if kind == NUMBER else 3, seed=13, members=2), kind)
    judge = judge_of(metric, kind)
    assert judge.by_row is not None
    fast = paired_interval(*sides, labels, judge)
    assert fast == pytest.approx(paired_interval(*sides, labels, Judge(judge.whole)))


def test_several_labels_count_over_a_half() -> None:
    judge = judge_of("f1_micro", MULTI)
    labels = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert judge(np.array([[1.0, 0.0], [0.4, 0.6]]), labels) == 1.0
    assert judge(np.array([[0.5, 0.0], [0.4, 0.6]]), labels) == pytest.approx(2 / 3)


# Ensembles of runs -------------------------------------------------------------------------------


def write_record(
    folder: Path, outputs: Any, labels: Any, config: dict[str, Any], **values: Any
) -> Path:
    """Writes what a run leaves but for its model: its record and what it predicted."""
    configuration = load_configuration({**config, "output_dir": str(folder), **values})
    validation = Predictions().with_part("validation", outputs[::2], labels[::2])
    folder.mkdir(parents=True)
    write_predictions(validation.with_part("test", outputs, labels), folder)
    greater = configuration.values["greater_is_better"]
    run = Run(
        recipe="plain",
        seeds={"head_seed": 1, "data_seed": 1, "seed": int(folder.name[-1])},
        status="finished",
        metric=configuration.metric,
        greater_is_better=greater,
        best_score=0.5 + int(folder.name[-1]) / 100,
        configuration=configuration.recorded,
    )
    write_run(run, folder / "run.json")
    return folder


@pytest.fixture
def three(config: dict[str, Any], tmp_path: Path) -> list[Path]:
    labels = np.random.default_rng(11).integers(0, 2, 60)
    outputs = logits(60, 2, seed=10)
    outputs[:, np.arange(60), labels] += 1.0
    return [
        write_record(tmp_path / f"run{place}", outputs[place], labels, config) for place in range(3)
    ]


def test_answers_of_runs_are_combined_without_their_models(three: list[Path]) -> None:
    found = ensemble(three)
    outputs = np.stack([np.load(run / "predictions.npz")["test"] for run in three])
    labels = np.load(three[0] / "predictions.npz")["test_labels"]
    mean = probabilities(outputs, SINGLE).mean(axis=0)
    assert found.part == "test"
    assert found.score == np.mean(mean.argmax(1) == labels)
    alone = [np.mean(one.argmax(1) == labels) for one in outputs]
    assert [member.score for member in found.members] == alone
    assert found.best is not None
    assert found.best.score == max(alone)
    assert found.chosen is not None
    assert found.chosen.name == str(three[2])
    assert found.difference == found.score - max(alone)
    assert [member.weight for member in found.members] == [1 / 3] * 3
    np.testing.assert_array_equal(found.predictions["probability_1"], mean[:, 1])
    assert f"accuracy of the ensemble of 3 on 60 test rows is {found.score:.3f}" in found.verdict
    assert "95 % interval over rows" in found.verdict


def test_an_ensemble_of_one_is_its_member(three: list[Path]) -> None:
    found = ensemble(three[:1], metric="nll")
    assert found.score == found.members[0].score
    assert (found.difference, found.interval) == (0.0, (0.0, 0.0))
    assert "an ensemble of one is its member" in found.verdict


def test_validation_rows_are_said_to_be_too_kind(three: list[Path]) -> None:
    found = ensemble(three, part="validation")
    assert len(found.predictions) == 30
    assert any("the validation rows chose" in note for note in found.notes)


def test_a_study_speaks_with_its_finished_runs(three: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "study"
    seeds = [{"head_seed": 1, "data_seed": 1, "seed": place} for place in range(3)]
    study = Study("study", ("plain",), (), "accuracy", True, tuple(seeds))
    write_definition(study, folder)
    for place, run in enumerate(three):
        target = run_folder(folder, "plain", f"head1-data1-dropout{place}")
        shutil.copytree(run, target)
    record = json.loads((target / "run.json").read_text())
    (target / "run.json").write_text(json.dumps({**record, "status": "failed", "reason": "x"}))
    found = ensemble(folder)
    np.testing.assert_array_equal(
        found.predictions["probability_0"], ensemble(three[:2]).predictions["probability_0"]
    )
    assert found.notes[0] == "1 of 3 runs of 'study' were stopped or failed and are left out"
    assert ensemble(Study.from_folder(folder)).score == found.score
    with pytest.raises(ConfigurationError, match="recipes must be one of plain, got 'plan'"):
        ensemble(folder, recipes=["plan"])


def test_multiple_choice_as_the_mean_of_three_runs(config: dict[str, Any], tmp_path: Path) -> None:
    values = {"task": "multiple-choice", "metrics": ["map@3"], "choice_columns": list("ABCDE")}
    # By hand: the right choice E is second for two runs and first for one; the mean puts it first.
    outputs = np.log(
        [
            [[0.5, 0.1, 0.05, 0.05, 0.3]] * 3,
            [[0.1, 0.5, 0.05, 0.05, 0.3]] * 3,
            [[0.1, 0.1, 0.1, 0.1, 0.6]] * 3,
        ]
    )
    labels = np.full(3, 4)
    runs = [
        write_record(tmp_path / f"run{place}", outputs[place], labels, config, **values)
        for place in range(3)
    ]
    found = ensemble(runs)
    assert (found.metric, found.score) == ("map_at_3", 1.0)
    assert [member.score for member in found.members] == [0.5, 0.5, 1.0]
    assert found.predictions["prediction"].tolist() == ["E"] * 3
    assert found.predictions["ranking"][0].split()[0] == "E"
    np.testing.assert_allclose(found.predictions["probability_E"], 0.4)


def test_regression_is_the_mean_of_numbers(config: dict[str, Any], tmp_path: Path) -> None:
    values = {"task": "text-regression"}
    labels = np.array([1.0, 2.0, 3.0, 4.0])
    runs = [
        write_record(tmp_path / f"run{place}", (labels + shift)[:, None], labels, config, **values)
        for place, shift in enumerate((-1.0, 2.0))
    ]
    found = ensemble(runs)
    assert (found.metric, found.greater_is_better, found.score) == ("rmse", False, 0.5)
    assert found.difference == -0.5
    assert "a clear gain" in found.verdict
    np.testing.assert_array_equal(found.predictions["prediction"], labels + 0.5)


def test_members_that_do_not_go_together_are_named(
    three: list[Path], config: dict[str, Any], tmp_path: Path
) -> None:
    labels = np.load(three[0] / "predictions.npz")["test_labels"]
    wide = write_record(tmp_path / "run7", logits(60, 3, seed=1)[0], labels, config)
    with pytest.raises(ConfigurationError, match=r"has a head of 2 outputs and .*run7' one of"):
        ensemble([three[0], wide])
    other = write_record(tmp_path / "run8", logits(60, 2, seed=1)[0], 1 - labels, config)
    with pytest.raises(ConfigurationError, match=r"run0' and .*run8' were scored on other rows"):
        ensemble([three[0], other])
    task = write_record(
        tmp_path / "run9", np.ones((60, 1)), np.ones(60), config, task="text-regression"
    )
    with pytest.raises(ConfigurationError, match="run9' for text-regression"):
        ensemble([three[0], task])
    split = write_record(tmp_path / "run6", logits(60, 2, seed=1)[0], labels, config, split_seed=3)
    with pytest.raises(ConfigurationError, match="they differ in split_seed"):
        ensemble([three[0], split])
    lost = write_record(tmp_path / "run5", np.full((60, 2), np.nan), labels, config)
    with pytest.raises(ConfigurationError, match="run5' put out what is no number: it diverged"):
        ensemble([three[0], lost])
    with pytest.raises(ConfigurationError, match="run0' is named twice"):
        ensemble([three[0], three[0]])
    with pytest.raises(ConfigurationError, match="weights are fitted on out-of-fold rows alone"):
        ensemble(three, combine="weighted")
    with pytest.raises(ConfigurationError, match="kept neither weights nor predictions"):
        ensemble(three, file=config["train_file"])


def test_other_tokenizers_need_the_order_of_rows(
    three: list[Path], config: dict[str, Any], tmp_path: Path
) -> None:
    labels = np.load(three[0] / "predictions.npz")["test_labels"]
    other = write_record(tmp_path / "run4", logits(60, 2, seed=1)[0], labels, config, max_length=7)
    with pytest.raises(ConfigurationError, match="kept neither weights nor predictions"):
        ensemble([three[0], other])


def test_the_folder_holds_one_ensemble(three: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "ensemble"
    found = ensemble(three, output_dir=folder)
    record = read_procedure(folder)
    assert record is not None
    assert record.outcome["score"] == found.score
    kept = pd.read_parquet(folder / "predictions.parquet")
    np.testing.assert_array_equal(kept["probability_0"], found.predictions["probability_0"])
    assert ensemble(three, output_dir=folder).score == found.score
    with pytest.raises(StudyError, match="combine is 'mean_probability' there"):
        ensemble(three, combine="mean_logit", output_dir=folder)


# Members that are asked --------------------------------------------------------------------------


@pytest.fixture
def two(config: dict[str, Any], tmp_path: Path) -> list[Path]:
    return [
        Path(write_member(tmp_path / f"member{head}", config, head=head, noise=0.3, path=head))
        for head in range(2)
    ]


def test_models_are_asked_about_the_rows_of_their_runs(two: list[Path], tmp_path: Path) -> None:
    said: list[str] = []
    found = ensemble(two, output_dir=tmp_path / "out", tell=said.append)
    assert (found.part, len(found.predictions), len(said)) == ("test", 24, 2)
    assert set(found.predictions["label"]) <= {"fresh", "rotten"}
    for member in two:  # what was said is kept: nobody is asked again
        shutil.copytree(member, member.with_name(f"{member.name}-copy"))
        (member / "model" / "model.safetensors").write_bytes(b"")
    again = ensemble(two, output_dir=tmp_path / "out", tell=said.append)
    assert (again.score, len(said)) == (found.score, 2)


def test_a_file_judges_where_it_has_labels(two: list[Path], rows_file: Path) -> None:
    found = ensemble(two, file=rows_file)
    table = pd.read_csv(rows_file)
    mean = np.mean([probabilities(predict_rows(one, table), SINGLE) for one in two], axis=0)
    np.testing.assert_allclose(found.predictions["probability_rotten"], mean[:, 1], atol=1e-12)
    words = np.array(["fresh", "rotten"])[mean.argmax(1)]
    assert found.score == np.mean(words == table["label"])
    bare = ensemble(two, rows=table[["text"]])
    assert bare.score is None
    assert bare.verdict == "The rows of the file have no labels, so nothing was judged."
    with pytest.raises(DataError, match="labels that the members do not know: fine"):
        ensemble(two, rows=table.assign(label=["fine", *table["label"][1:]]))


def test_a_file_is_read_as_the_runs_read_theirs(
    config: dict[str, Any], rows_file: Path, tmp_path: Path
) -> None:
    table = pd.read_csv(rows_file).rename(columns={"label": "stars"})
    # A column that is called as labels often are, and is none: the run says which one is.
    table["label"] = "fine"
    file = tmp_path / "rows.csv"
    table.to_csv(file, sep=";", index=False)
    keys = {"train_file": str(file), "reader_options": {"sep": ";"}, "label_column": "stars"}
    member = write_member(tmp_path / "member", {**config, **keys}, noise=0.3)
    found = ensemble(member, file=file)
    assert found.score == ensemble(member, rows=table, label_column="stars").score is not None
    assert found.predictions["label"].tolist() == table["stars"].tolist()
    bare = ensemble(member, rows=table.drop(columns="stars"))
    assert bare.score is None


NO_TABLE = r"must be a Dataset, a DataFrame or the path of a file, got a list; texts by themselves"
IN_MEMORY = r"must be a Dataset or a DataFrame, got a list; texts by themselves make one"


def test_texts_by_themselves_are_no_table(two: list[Path]) -> None:
    texts: Any = ["a good film"]
    for asked, message in (
        (lambda: predict(two, texts), f"rows {NO_TABLE}"),
        (lambda: pseudo_label(two, texts), f"unlabelled {NO_TABLE}"),
        (lambda: check_rows(texts), f"rows {NO_TABLE}"),
        (lambda: clean_rows(texts), f"frame {IN_MEMORY}"),
        (lambda: ensemble(two, rows=texts), f"rows {IN_MEMORY}"),
        (lambda: predict_rows(two[0], texts), f"rows {IN_MEMORY}"),
    ):
        with pytest.raises(DataError, match=message):
            asked()


def test_models_with_other_classes_are_named(
    two: list[Path], config: dict[str, Any], tmp_path: Path
) -> None:
    swapped = write_member(tmp_path / "swapped", config, id2label={0: "rotten", 1: "fresh"})
    with pytest.raises(ConfigurationError, match=r"classes fresh, rotten and .* rotten, fresh"):
        ensemble([two[0], swapped])
    number = write_member(
        tmp_path / "number", {**config, "task": "text-regression"}, id2label={0: "x"},
        problem_type="regression",
    )  # fmt: skip
    with pytest.raises(ConfigurationError, match="for text-regression"):
        ensemble([two[0], number])


def test_a_study_whose_recipes_read_rows_in_another_order(
    config: dict[str, Any], tmp_path: Path
) -> None:
    del config["output_dir"]
    study = run_study(
        {**config, "learning_rate": 3e-3},
        recipes={"long": {}, "short": {"max_length": 6}},
        runs=1,
        executor="in-process",
        output_dir=tmp_path / "study",
    )
    found = ensemble(study)
    configuration = load_configuration(config)
    rows = load_splits(configuration.data, task="text-classification").test
    assert rows is not None
    folders = [run_folder(tmp_path / "study", run.recipe, run.name) for run in study.runs]
    asked = np.mean([probabilities(predict_rows(one, rows), SINGLE) for one in folders], axis=0)
    kept = found.predictions[["probability_fresh", "probability_rotten"]]
    np.testing.assert_allclose(kept, asked, atol=1e-6)
    assert found.predictions["label"].tolist() == rows["label"][:]


# Cross-validations -------------------------------------------------------------------------------


def write_folds(
    folder: Path, chances: Any, labels: Any, *, test: int = 0, choose_on: str = "nothing"
) -> Path:
    """Writes what a cross-validation in three folds leaves; the last rows are those of a test."""
    words = np.array(["fresh", "rotten"])
    table = pd.DataFrame(
        {
            "row": range(len(labels)),
            "fold": [f"fold{row % 3 + 1}" for row in range(len(labels))],
            "label": words[labels],
            "prediction": words[chances.argmax(1)],
            **{f"probability_{name}": chances[:, c] for c, name in enumerate(words)},
        }
    )
    pool = table[: len(table) - test]
    fold = FoldScore("fold1", 1, 2, {"accuracy": 0.5}, {})
    record = CrossValidation(
        "accuracy", True, choose_on, (fold, fold), {"accuracy": 0.5}, {}, folder=folder
    )
    settings = {"task": "text-classification"}
    open_procedure(folder, "cross-validate", settings).ended(folder, **record.to_records())
    pool.to_parquet(folder / "out_of_fold.parquet")
    if test:
        rest = table[-test:].drop(columns="fold")
        rest.to_parquet(folder / "test_predictions.parquet")
    return folder


@pytest.fixture
def answers() -> tuple[Any, Any]:
    """Probabilities of two models for ninety rows, the first the better one, and the labels."""
    labels = np.random.default_rng(21).integers(0, 2, 90)
    outputs = logits(90, 2, seed=20, members=2)
    outputs[0, np.arange(90), labels] += 3.0
    return probabilities(outputs, SINGLE), labels


def test_weights_come_from_out_of_fold_rows_and_test_rows_judge(
    answers: Any, tmp_path: Path
) -> None:
    chances, labels = answers
    folds = [
        write_folds(tmp_path / name, one, labels, test=30)
        for name, one in zip("ab", chances, strict=True)
    ]
    found = ensemble(folds, combine="weighted", output_dir=tmp_path / "both")
    weights = fit_weights(chances[:, :60], labels[:60], SINGLE)
    assert [member.weight for member in found.members] == pytest.approx(weights.tolist(), abs=1e-6)
    assert (found.part, len(found.predictions)) == ("test", 30)
    mixed = np.tensordot(weights, chances[:, 60:], axes=1)
    np.testing.assert_allclose(found.predictions["probability_rotten"], mixed[:, 1], atol=1e-6)
    # No label of a test row has a part in them.
    turned = [*labels[:60], *(1 - labels[60:])]
    others = [
        write_folds(tmp_path / f"{name}2", one, np.array(turned), test=30)
        for name, one in zip("ab", chances, strict=True)
    ]
    again = ensemble(others, combine="weighted")
    assert [m.weight for m in again.members] == [m.weight for m in found.members]


def test_without_test_rows_each_fold_is_judged_by_the_others(answers: Any, tmp_path: Path) -> None:
    chances, labels = answers
    folds = [
        write_folds(tmp_path / name, one, labels) for name, one in zip("ab", chances, strict=True)
    ]
    found = ensemble(folds, combine="weighted")
    expected = cross_fitted(chances, labels, SINGLE, [row % 3 for row in range(90)])
    np.testing.assert_allclose(found.predictions["probability_fresh"], expected[:, 0], atol=1e-6)
    assert found.part == "out-of-fold"
    assert found.notes[0].startswith("each out-of-fold row is judged by weights that were fitted")
    plain = ensemble(folds)
    mean = chances.mean(axis=0)
    np.testing.assert_allclose(plain.predictions["probability_fresh"], mean[:, 0])


def test_folds_that_cannot_fit_weights_are_refused(answers: Any, tmp_path: Path) -> None:
    chances, labels = answers
    good = write_folds(tmp_path / "good", chances[0], labels)
    chosen = write_folds(tmp_path / "chosen", chances[1], labels, choose_on="fold")
    with pytest.raises(ConfigurationError, match="the rows of each fold chose its weights, so"):
        ensemble([good, chosen], combine="weighted")
    assert any("is too good" in note for note in ensemble([good, chosen]).notes)
    other = write_folds(tmp_path / "other", chances[1], labels[::-1])
    with pytest.raises(ConfigurationError, match="are not over the same rows in the same folds"):
        ensemble([good, other], combine="weighted")
    with pytest.raises(ConfigurationError, match="judged on their test predictions or out-of-fold"):
        ensemble([good], file="rows.csv")
    with pytest.raises(ConfigurationError, match="is no cross-validation and others are"):
        ensemble([good, tmp_path])


def other_classes(folder: Path) -> None:
    for path in folder.glob("*.parquet"):
        table = pd.read_parquet(path)
        table.rename(columns={"probability_fresh": "probability_dull"}).to_parquet(path)


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ("good classes", "", "members of an ensemble have the same, in one order"),
        ("good run0", "", "is no cross-validation and others are"),
        ("good other", "", "are not over the same rows in the same folds"),
        ("good chosen", "--combine weighted", "the rows of each fold chose its weights"),
        ("good good2 good", "", "'good' is named twice; name each member once"),
        ("good good2", "--weights 1 2 3", "weights must be 2 numbers from 0 up"),
        ("good", "--metric rmse", "metric 'rmse' does not fit"),
        ("good", "--part validation", "name no file, no rows and no part"),
        ("run0 run1", "--combine weighted", "weights are fitted on out-of-fold rows alone"),
        ("run0 run1", "--weights 1", "weights must be 2 numbers from 0 up"),
        ("run0 run1", "--metric rmse", "metric 'rmse' does not fit"),
        ("run0 run1", "--part train", "part must be one of"),
        ("run0 run1", "--batch-size 0", "batch_size must be a whole number"),
        ("run0 run1", "--output-dir run2", "no ensemble; name a new or an empty folder"),
    ],
)
def test_the_dry_run_refuses_what_the_run_refuses(
    names: str,
    options: str,
    message: str,
    answers: Any,
    three: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chances, labels = answers
    for name in ("good", "good2", "classes"):
        write_folds(tmp_path / name, chances[0], labels)
    other_classes(tmp_path / "classes")
    write_folds(tmp_path / "other", chances[1], labels[::-1])
    write_folds(tmp_path / "chosen", chances[1], labels, choose_on="fold")
    assert three[0] == tmp_path / "run0"
    monkeypatch.chdir(tmp_path)
    words = ["ensemble", *names.split(), "--output-dir", "out", *options.split()]
    for more in ([], ["--dry-run"]):
        with pytest.raises(SystemExit) as raised:
            main([*words, *more])
        assert raised.value.code == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_dry_run_counts_what_would_be_combined(
    answers: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chances, labels = answers
    folds = [write_folds(tmp_path / name, chances[0], labels, test=30) for name in "ab"]
    main(["ensemble", *map(str, folds), "--dry-run"])
    told = capsys.readouterr().out
    assert "2 cross-validation(s) would be combined by mean_probability" in told
    assert "no model would be loaded: all answers for 30 test rows exist" in told


# predict -----------------------------------------------------------------------------------------


def test_predict_writes_beside_the_rows(two: list[Path], tmp_path: Path) -> None:
    rows = pd.DataFrame({"id": [7, 8, 9], "text": ["good film", "bad", "the cast was warm"]})
    rows.to_csv(tmp_path / "rows.csv", index=False)
    found = predict(two[0], tmp_path / "rows.csv", output=tmp_path / "out.parquet")
    assert list(found.columns) == [
        "id", "text", "prediction", "probability_fresh", "probability_rotten",
    ]  # fmt: skip
    expected = probabilities(predict_rows(two[0], rows), SINGLE)
    np.testing.assert_array_equal(found[["probability_fresh", "probability_rotten"]], expected)
    assert (
        found["prediction"].tolist() == np.array(["fresh", "rotten"])[expected.argmax(1)].tolist()
    )
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet"), found)
    assert not (tmp_path / "out.parquet.parts").exists()
    several = predict(two, rows)
    both = [probabilities(predict_rows(one, rows), SINGLE)[:, 0] for one in two]
    np.testing.assert_array_equal(several["probability_fresh"], np.mean(both, axis=0))


def test_predict_goes_on_where_it_was_killed(
    two: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import contextmanager

    from hf_stabilizer.ensembling import request

    monkeypatch.setattr(request, "CHUNK", 4)
    rows = pd.DataFrame({"text": ["good film", "bad", "warm cast", "grim", "fine tone"] * 2})
    whole = predict(two, rows)
    target, done = tmp_path / "out.csv", []

    @contextmanager
    def dies(total: int) -> Any:
        def advance(number: int) -> None:
            done.append(number)
            if len(done) == 4:  # the first model is through, the second has begun
                raise KeyboardInterrupt

        yield advance

    with pytest.raises(KeyboardInterrupt):
        predict(two, rows, output=target, progress=dies)
    assert not target.exists()
    parts = sorted(tmp_path.glob("out.csv.parts/*/*.npy"))
    assert [part.parent.name for part in parts] == ["member1"] * 3 + ["member2"]
    times = {part: part.stat().st_mtime_ns for part in parts}
    with pytest.raises(StudyError, match="combine is 'mean_probability' there"):
        predict(two, rows, output=target, combine="mean_logit")
    with pytest.raises(StudyError, match="rows is '10-"):
        predict(two, rows[:8], output=target)
    assert {part: part.stat().st_mtime_ns for part in parts} == times
    monkeypatch.setattr("hf_stabilizer.prediction.loaded", _only(two[1]))
    found = predict(two, rows, output=target)
    pd.testing.assert_frame_equal(found, whole)
    assert target.exists()


def _only(member: Path) -> Any:
    """Loads that member and no other: the others have said all."""
    from hf_stabilizer import prediction

    load = prediction.loaded

    def loaded(asked: Any) -> Any:
        assert asked.folder == member
        return load(asked)

    return loaded


def test_predict_takes_an_ensemble_for_its_members(two: list[Path], tmp_path: Path) -> None:
    rows = pd.DataFrame({"text": ["good film", "bad"]})
    ensemble(two, combine="weighted", weights=[3, 1], output_dir=tmp_path / "both")
    found = predict(tmp_path / "both", rows)
    plain = predict(two, rows, combine="weighted", weights=[3, 1])
    pd.testing.assert_frame_equal(found, plain)
    with pytest.raises(ConfigurationError, match="says itself how its members are combined"):
        predict(tmp_path / "both", rows, combine="mean_logit")


def test_predict_refuses_before_any_work(
    two: list[Path], three: list[Path], tmp_path: Path
) -> None:
    rows = pd.DataFrame({"text": ["good"], "prediction": ["mine"]})
    with pytest.raises(DataError, match="have a column 'prediction' already"):
        predict(two, rows)
    with pytest.raises(ConfigurationError, match="run0' kept no weights"):
        predict(three, rows)
    (tmp_path / "out.csv").write_text("")
    with pytest.raises(ConfigurationError, match="exists already; name another file"):
        predict(two, rows, output=tmp_path / "out.csv")
    with pytest.raises(DataError, match="there are no rows"):
        predict(two, rows[:0])


def test_ranks_of_folds_cannot_be_asked_for(answers: Any, tmp_path: Path) -> None:
    chances, labels = answers
    folds = [write_folds(tmp_path / "a", chances[0], labels)]
    ensemble(folds, combine="rank_mean", output_dir=tmp_path / "both")
    with pytest.raises(ConfigurationError, match="takes the rank_mean of them, each a mean itself"):
        predict(tmp_path / "both", pd.DataFrame({"text": ["good"]}))


def test_each_member_reads_its_own_column(
    config: dict[str, Any], two: list[Path], tmp_path: Path
) -> None:
    values = {**config, "text_columns": ["title"]}
    other = Path(write_member(tmp_path / "titles", values, head=2, noise=0.3, path=2))
    rows = pd.DataFrame({"title": ["good film", "bad"], "text": ["a grim cast", "the warm tone"]})
    alone = [predict_rows(member, rows) for member in (two[0], other)]
    expected = np.mean(probabilities(np.stack(alone), SINGLE), axis=0)
    names = ["probability_fresh", "probability_rotten"]
    np.testing.assert_array_equal(predict([two[0], other], rows)[names], expected)
    labelled = rows.assign(label=["fresh", "rotten"])
    found = ensemble([two[0], other], rows=labelled).predictions
    np.testing.assert_array_equal(found[names], expected)


def test_a_row_without_text_is_told_before_any_model_is_asked(
    two: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hf_stabilizer.ensembling import request

    monkeypatch.setattr(request, "CHUNK", 2)
    rows = pd.DataFrame({"text": ["good film", "bad", "grim", " "]})
    with pytest.raises(DataError, match=r"1 of 4 rows have no text .* row 4"):
        predict(two, rows, output=tmp_path / "out.csv")
    assert not (tmp_path / "out.csv.parts").exists()


def test_several_labels_are_lists(tmp_path: Path) -> None:
    found = prediction_columns(np.array([[0.9, 0.6], [0.2, 0.5]]), MULTI, ["joy", "fear"])
    assert found["prediction"].tolist() == [["joy", "fear"], []]
    assert list(found.columns) == ["prediction", "probability_joy", "probability_fear"]


def test_tasks_without_a_row_of_numbers_are_named(two: list[Path]) -> None:
    path = two[1] / "configuration.yaml"
    text = path.read_text()
    assert "task: text-classification" in text
    path.write_text(text.replace("task: text-classification", "task: token-classification"))
    with pytest.raises(ConfigurationError, match="is for token-classification, whose outputs are"):
        ensemble(two[1], rows=pd.DataFrame({"text": ["good"], "label": ["fresh"]}))
    with pytest.raises(ConfigurationError, match="was trained for token-classification"):
        predict_rows(two[1], pd.DataFrame({"text": ["good"]}))


# The command line --------------------------------------------------------------------------------


def test_the_commands(
    two: list[Path], three: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "new.csv"
    pd.DataFrame({"text": ["good film", "bad"]}).to_csv(rows, index=False)
    words = ["predict", *map(str, two), str(rows), "--output", str(tmp_path / "new.parquet")]
    main([*words, "--dry-run"])
    assert "2 model(s) would be asked about 2 rows" in capsys.readouterr().out
    assert not (tmp_path / "new.parquet").exists()
    main(words)
    assert "new.parquet: 2 rows" in capsys.readouterr().out
    assert len(pd.read_parquet(tmp_path / "new.parquet")) == 2

    words = ["ensemble", *map(str, three), "--output_dir", str(tmp_path / "all")]
    main([*words, "--dry-run"])
    assert "no model would be loaded: all answers for 60 test rows exist" in capsys.readouterr().out
    assert not (tmp_path / "all").exists()
    main(words)
    shown = capsys.readouterr().out
    assert "mean_probability" in shown
    assert "by validation" in shown
    assert "accuracy of the ensemble of 3 on 60 test rows" in shown.replace("\n", " ")
    with pytest.raises(SystemExit):
        main([*words, "--combine", "mean_logits"])
    assert "did you mean mean_logit?" in capsys.readouterr().err
