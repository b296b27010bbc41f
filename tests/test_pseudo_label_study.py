"""The whole procedure: teachers, labels, students and their control, on a tiny model."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest
from rich.console import Console
from safetensors.torch import load_file, save_file

from hf_stabilizer import ConfigurationError, DataError, StudyError, pseudo_label, run_pseudo_labels
from hf_stabilizer.cli import main
from hf_stabilizer.configuration import load_configuration
from hf_stabilizer.data import load_splits
from hf_stabilizer.data.near_duplicates import near_duplicates
from hf_stabilizer.pseudo_labels.curve import rate_points
from hf_stabilizer.pseudo_labels.lengths import long_control, student_keys
from hf_stabilizer.pseudo_labels.parts import Part, read_parts, written
from hf_stabilizer.pseudo_labels.planning import plan_pseudo_labels
from hf_stabilizer.pseudo_labels.question import ask
from hf_stabilizer.pseudo_labels.running import PseudoLabelOutcome, open_workshop
from hf_stabilizer.pseudo_labels.scoring import conclude, pooled
from hf_stabilizer.pseudo_labels.stages import Labelled, Workshop, all_rounds
from hf_stabilizer.records import Run, read_run
from hf_stabilizer.studies.study import Study
from tests.conftest import make_rows, write_rows

pytestmark = pytest.mark.filterwarnings("ignore:the run has collapsed:UserWarning")


@pytest.fixture(scope="module")
def keys(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Thirty-two labelled rows, twenty-four that judge, and sixty unlabelled ones."""
    folder = tmp_path_factory.mktemp("rows")
    train = write_rows(folder / "rows.csv", count=56)
    texts = [text for text, _ in make_rows(58, seed=5)]
    known = pd.read_csv(train)["text"]
    # The last two stand among the labelled rows: one learns, one may judge.
    pd.DataFrame({"text": [*texts, known[0], known[1]]}).to_csv(
        folder / "unlabelled.csv", index=False
    )
    return {
        "model_name_or_path": str(model_folder),
        "train_file": str(train),
        "validation_size": 24,
        "unlabelled_file": str(folder / "unlabelled.csv"),
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 8,
        "num_train_epochs": 4,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }


def run(keys: dict[str, Any], folder: Path, **options: Any) -> PseudoLabelOutcome:
    asked = {"teachers": 2, "runs": 1, "threshold": 0.6, "executor": "in-process", **options}
    return run_pseudo_labels(keys, output_dir=folder, console=Console(quiet=True), **asked)


@pytest.fixture(scope="module")
def done(keys: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> PseudoLabelOutcome:
    """Soft labels, and the curve over two rates."""
    return run(keys, tmp_path_factory.mktemp("done"), sampling_rate=[1.0, 0.3], soft=True)


def test_each_rate_is_an_arm_beside_the_control(done: PseudoLabelOutcome) -> None:
    assert done.study.recipes == ("control", "rate-0.3", "rate-1")
    assert [run.status for run in done.study.runs] == ["finished"] * 3
    assert done.report.is_file()


def test_every_arm_takes_as_many_steps_and_looks_as_the_control(done: PseudoLabelOutcome) -> None:
    # 32 rows in batches of 8 for 4 epochs, with a look after each.
    assert {run.steps for run in done.study.runs} == {16}
    assert {len(run.evaluations) for run in done.study.runs} == {4}


def test_students_learn_true_rows_and_sure_ones_with_provenance(done: PseudoLabelOutcome) -> None:
    rows = pd.read_parquet(done.folder / "labels" / "round-1" / "rate-1.parquet")
    told = done.labels["rate-1"]
    taught = rows[rows["pseudo_labelled"]]
    assert len(rows) - len(taught) == 32
    assert len(taught) == told["kept"] > 20
    assert (taught["confidence"] >= 0.6).all()
    assert taught["teacher"].str.contains("round-1").all()
    for probabilities, label in zip(taught["probabilities"], taught["label"], strict=True):
        assert ("fresh", "rotten")[int(probabilities.argmax())] == label
        assert probabilities.sum() == pytest.approx(1)


def test_a_smaller_rate_uses_some_of_the_rows_of_a_larger(done: PseudoLabelOutcome) -> None:
    folder = done.folder / "labels" / "round-1"
    small, large = (
        set(rows[rows["pseudo_labelled"]]["source_row"])
        for rows in (pd.read_parquet(folder / f"rate-{rate}.parquet") for rate in ("0.3", "1"))
    )
    assert small < large
    assert done.labels["rate-0.3"]["sampled"] == 18


def test_a_separable_task_is_labelled_right(done: PseudoLabelOutcome) -> None:
    truth = dict(make_rows(58, seed=5))
    rows = pd.read_parquet(done.folder / "labels" / "round-1" / "rate-1.parquet")
    taught = rows[rows["pseudo_labelled"]]
    right = [truth[text] == label for text, label in zip(taught.text, taught.label, strict=True)]
    assert sum(right) >= 0.9 * len(right)


def test_no_pseudo_labelled_row_is_like_one_that_judges(done: PseudoLabelOutcome) -> None:
    rows = pd.read_parquet(done.folder / "labels" / "round-1" / "rate-1.parquet")
    judging = pd.read_parquet(done.folder / "rows" / "validation.parquet")["text"]
    taught, true = (rows[rows["pseudo_labelled"] == mark]["text"] for mark in (True, False))
    assert near_duplicates(taught.tolist(), judging.tolist()) == []
    assert not set(taught) & set(true)
    told = done.labels["rate-1"]
    assert told["near_held_out"] + told["labelled_already"] >= 2
    assert told["kept"] + told["near_held_out"] + told["labelled_already"] == told["selected"]


def test_teachers_were_not_scored_and_are_no_twins_of_students(done: PseudoLabelOutcome) -> None:
    records = [read_run(path) for path in done.folder.glob("teachers/round-1/runs/*/*/run.json")]
    assert [len(run.evaluations) for run in records] == [0, 0]
    assert not {run.seeds["seed"] for run in records} & {
        run.seeds["seed"] for run in done.study.runs
    }


def test_the_curve_is_a_table_and_a_picture(done: PseudoLabelOutcome) -> None:
    with (done.folder / "curve.csv").open(encoding="utf-8") as file:
        points = list(csv.DictReader(file))
    assert [float(point["sampling_rate"]) for point in points] == [0, 0.3, 1]
    assert [float(p["pseudo_labelled"]) for p in points[1:]] == [
        done.labels[arm]["kept"] for arm in ("rate-0.3", "rate-1")
    ]
    scores = {run.recipe: run.best_score for run in done.study.runs}
    assert {point["recipe"]: float(point["mean"]) for point in points} == scores
    assert {path.name for path in done.files} == {"curve.csv", "curve.svg", "curve.png"}


def test_the_folder_tells_what_was_done_and_what_came_of_it(done: PseudoLabelOutcome) -> None:
    record = json.loads((done.folder / "procedure.json").read_text(encoding="utf-8"))
    assert record["settings"]["labelling"]["threshold"] == 0.6
    assert record["settings"]["sampling_rate"] == [0.3, 1.0]
    assert record["outcome"]["helped"] is done.helped is False
    assert record["outcome"]["conclusion"] == done.conclusion
    assert record["outcome"]["labels"]["rate-1"]["kept"] == done.labels["rate-1"]["kept"]


def test_a_second_start_repeats_nothing(keys: dict[str, Any], done: PseudoLabelOutcome) -> None:
    files = [*done.folder.rglob("run.json"), *done.folder.rglob("*.parquet")]
    before = {path: path.stat().st_mtime_ns for path in files}
    again = run(keys, done.folder, sampling_rate=[1.0, 0.3], soft=True)
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert again.conclusion == done.conclusion


def test_what_was_cut_off_goes_on_to_the_same_end(
    keys: dict[str, Any], done: PseudoLabelOutcome
) -> None:
    labels = done.folder / "labels" / "round-1" / "rate-1"
    rows = labels.with_suffix(".parquet").read_bytes()
    scores = [(run.recipe, run.evaluations) for run in done.study.runs]
    labels.with_suffix(".json").unlink()  # as if killed before it was written
    shutil.rmtree(done.folder / "study" / "runs" / "rate-1")
    again = run(keys, done.folder, sampling_rate=[1.0, 0.3], soft=True)
    assert labels.with_suffix(".parquet").read_bytes() == rows
    assert [(run.recipe, run.evaluations) for run in again.study.runs] == scores


def test_other_settings_are_refused(keys: dict[str, Any], done: PseudoLabelOutcome) -> None:
    with pytest.raises(StudyError, match=r"holds another pseudo-label: .*rounds is 1 there and 2"):
        run(keys, done.folder, sampling_rate=[1.0, 0.3], soft=True, rounds=2)


def test_teachers_outside_are_guarded_by_their_own_configuration(
    keys: dict[str, Any], done: PseudoLabelOutcome
) -> None:
    (teacher, *_) = sorted(done.folder.glob("teachers/round-1/runs/teacher/*"))
    judging = pd.read_parquet(done.folder / "rows" / "validation.parquet")[["text"]]
    learnt = pd.read_parquet(done.folder / "rows" / "train.parquet")[["text"]]
    with pytest.raises(DataError, match="near duplicates of held-out rows"):
        pseudo_label(teacher, judging, threshold=None)
    with pytest.raises(DataError, match=r"learnt \d+ of \d+ held-out texts"):
        pseudo_label(teacher, judging, threshold=None, held_out=learnt)
    with pytest.raises(DataError, match="of 32 the true label is known"):
        pseudo_label(teacher, learnt, threshold=None, held_out=[], labelled=learnt)


@pytest.fixture
def teacher(done: PseudoLabelOutcome, tmp_path: Path) -> Path:
    """A trained model that does not say what it learnt, for other hands to change."""
    (first, *_) = sorted(done.folder.glob("teachers/round-1/runs/teacher/*"))
    return Path(shutil.copytree(first / "model", tmp_path / "teacher"))


def rename_classes(model: Path, names: tuple[str, str]) -> None:
    """Lets a model call its classes otherwise."""
    said = json.loads((model / "config.json").read_text(encoding="utf-8"))
    said["id2label"] = dict(enumerate(names))
    said["label2id"] = {name: place for place, name in enumerate(names)}
    (model / "config.json").write_text(json.dumps(said), encoding="utf-8")


def test_soft_labels_of_a_teacher_outside_have_the_order_of_the_rows(
    keys: dict[str, Any], teacher: Path, tmp_path: Path
) -> None:
    rename_classes(teacher, ("rotten", "fresh"))
    rules = {"threshold": None, "soft": True, "allow_missing_classes": True}
    found = labelled_by(keys, tmp_path / "out", teachers=str(teacher), **rules)
    rows = pd.read_parquet(found["pseudo-labelled"].file)
    taught = rows[rows["pseudo_labelled"]]
    for probabilities, label in zip(taught["probabilities"], taught["label"], strict=True):
        assert ("fresh", "rotten")[int(probabilities.argmax())] == label


def test_a_teacher_outside_with_other_classes_is_refused_before_anything_is_written(
    keys: dict[str, Any], teacher: Path, tmp_path: Path
) -> None:
    rename_classes(teacher, ("fresh", "stale"))
    sentence = "knows the classes fresh, stale, and the rows have fresh, rotten"
    with pytest.raises(ConfigurationError, match=sentence):
        run(keys, tmp_path / "out", teachers=str(teacher))
    assert not (tmp_path / "out").exists()


def test_a_teacher_that_diverged_is_named(teacher: Path) -> None:
    weights = load_file(teacher / "model.safetensors")
    weights["classifier.bias"].fill_(float("nan"))
    save_file(weights, teacher / "model.safetensors", metadata={"format": "pt"})
    rows = pd.DataFrame({"text": ["a good film"]})
    with pytest.raises(DataError, match=r"teacher' puts out what is not a number"):
        pseudo_label(teacher, rows, **LOOSE)


def test_a_teacher_that_learnt_near_duplicates_of_rows_that_judge_is_named(
    done: PseudoLabelOutcome, caplog: pytest.LogCaptureFixture
) -> None:
    (teacher, *_) = sorted(done.folder.glob("teachers/round-1/runs/teacher/*"))
    learnt = pd.read_parquet(done.folder / "rows" / "train.parquet")[["text"]]
    unlabelled = pd.DataFrame({"text": [text for text, _ in make_rows(4, seed=5)]})
    rules: dict[str, Any] = {"threshold": None, "allow_missing_classes": True}
    judging = learnt.head(3)["text"] + "s"
    near = pd.DataFrame({"text": judging})
    pseudo_label(teacher, unlabelled, held_out=near, labelled=learnt, **rules)
    assert "learnt near duplicates" not in caplog.text
    pseudo_label(teacher, unlabelled, held_out=near, labelled=learnt.tail(5), **rules)
    assert "learnt near duplicates of 3 of 3 held-out texts" in caplog.text


# --- by fold ------------------------------------------------------------------------------------


def teach(part: Part, keys: dict[str, Any], folder: Path) -> pd.DataFrame:
    """The pseudo-labelled rows of one fold."""
    question = ask(keys, folds=2, teachers=1, top_k=12)
    unlabelled = pd.read_csv(keys["unlabelled_file"])
    part = written(part, folder / "rows")
    engine = {"executor": "in-process"}
    workshop = Workshop(question, folder, (part,), unlabelled, Console(quiet=True), engine)
    (labelled,) = all_rounds(workshop).values()
    rows = pd.read_parquet(labelled.file)
    return rows[rows["pseudo_labelled"]].drop(columns="teacher").reset_index(drop=True)


def test_a_validation_row_has_no_part_in_the_labels_of_its_fold(
    keys: dict[str, Any], tmp_path: Path
) -> None:
    (part, other) = read_parts(ask(keys, folds=2))
    rows = part.splits.validation.to_pandas()
    turned = rows["label"].map({"fresh": "rotten", "rotten": "fresh"})
    changed = part.splits.validation.from_dict(
        {"text": [f"what was the tone of scene {row}" for row in rows.index], "label": turned}
    )
    before = teach(part, keys, tmp_path / "before")
    after = teach(
        replace(part, splits=replace(part.splits, validation=changed)), keys, tmp_path / "after"
    )
    gone = set(before["source_row"]) ^ set(after["source_row"])
    texts = pd.read_csv(keys["unlabelled_file"])["text"]
    # Rows like the old validation rows may come back, for they judge no more; all else is equal.
    for row in gone:
        assert near_duplicates([texts[row]], rows["text"].tolist())
    same = after[~after["source_row"].isin(gone)].reset_index(drop=True)
    pd.testing.assert_frame_equal(before, same, check_exact=True)
    assert len(before) > 12
    # The other fold's labels come from a teacher of its own.
    assert not before["confidence"].equals(teach(other, keys, tmp_path / "other")["confidence"])


def test_students_of_folds_are_scored_out_of_fold(keys: dict[str, Any], tmp_path: Path) -> None:
    rules: dict[str, Any] = {"threshold": None, "allow_missing_classes": True}
    found = run({**keys, "max_steps": 4}, tmp_path, folds=2, teachers=1, **rules)
    assert set(found.labels) == {"pseudo-labelled-fold1", "pseudo-labelled-fold2"}
    with (tmp_path / "study" / "fold_scores.csv").open(encoding="utf-8") as file:
        scores = list(csv.DictReader(file))
    assert len(scores) == 4
    for mean in found.study.runs:
        its = [row for row in scores if (row["recipe"], row["run"]) == (mean.recipe, mean.name)]
        assert mean.score == pytest.approx(sum(float(row["score"]) for row in its) / 2)
    assert found.report.is_file()


def test_teachers_in_folders_cannot_be_told_apart_by_fold(keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="with folds each fold needs teachers"):
        ask(keys, folds=2, teachers=["somewhere"])


# --- rounds, and what is compared ---------------------------------------------------------------


def labelled_by(keys: dict[str, Any], folder: Path, **options: Any) -> dict[str, Labelled]:
    """Goes as far as the labels."""
    question = ask(keys, **options)
    workshop = open_workshop(question, folder, {"executor": "in-process"}, Console(quiet=True))
    return {arm: its for (arm, _), its in all_rounds(workshop).items()}


def test_students_of_a_round_teach_the_next(keys: dict[str, Any], tmp_path: Path) -> None:
    labelled_by(keys, tmp_path, rounds=2, teachers=1, threshold=0.6)
    first, second = (
        pd.read_parquet(tmp_path / "labels" / f"round-{number}" / "pseudo-labelled.parquet")
        for number in (1, 2)
    )
    assert set(first["round"]) == {0, 1}
    assert set(second["round"]) == {0, 2}
    (record,) = tmp_path.glob("teachers/round-2/runs/pseudo-labelled/*/run.json")
    learnt = read_run(record).configuration["train_file"]
    assert learnt == str(tmp_path / "labels" / "round-1" / "pseudo-labelled.parquet")


FILE = Path("rows.parquet")
LOOSE: dict[str, Any] = {"threshold": None, "allow_missing_classes": True}


@pytest.mark.parametrize("rows", [33, 50, 91, 320])
def test_students_are_looked_at_where_the_control_is(keys: dict[str, Any], rows: int) -> None:
    # 32 rows in batches of 8: an epoch of 4 steps, a look after each.
    question = ask(keys)
    (part,) = read_parts(question)
    student = student_keys(question, part, FILE, rows)
    assert (student["max_steps"], student["eval_steps"]) == (16, 4)
    assert student["isolate_evaluations"]
    assert long_control(question, part, rows) == {}


def test_looks_that_the_trainer_takes_each_epoch_stay_where_the_control_has_them(
    keys: dict[str, Any],
) -> None:
    every: dict[str, Any] = {"eval_strategy": "epoch", "save_strategy": "epoch"}
    question = ask({**keys, **every})
    (part,) = read_parts(question)
    student = student_keys(question, part, FILE, 320)
    assert (student["max_steps"], student["eval_steps"], student["save_steps"]) == (16, 4, 4)
    assert student["eval_strategy"] == student["save_strategy"] == "steps"


@pytest.mark.parametrize(("rows", "looks"), [(40, 3), (64, 6), (72, 6)])
def test_uneven_looks_are_met_as_nearly_as_they_can(
    keys: dict[str, Any], rows: int, looks: int
) -> None:
    question = ask({**keys, "evaluations_per_epoch": 3})
    (part,) = read_parts(question)
    assert student_keys(question, part, FILE, rows)["evaluations_per_epoch"] == looks


def test_with_equal_epochs_the_control_is_run_as_long_too(keys: dict[str, Any]) -> None:
    question = ask(keys, equal="epochs")
    (part,) = read_parts(question)
    assert "max_steps" not in student_keys(question, part, FILE, 64)
    control = long_control(question, part, 64)["control-as-long"]
    assert (control["max_steps"], control["eval_steps"]) == (32, 8)


def test_a_number_of_steps_that_is_said_stays(keys: dict[str, Any]) -> None:
    for equal in ("steps", "epochs"):
        question = ask({**keys, "max_steps": 5}, equal=equal)
        (part,) = read_parts(question)
        assert "max_steps" not in student_keys(question, part, FILE, 64)
        assert long_control(question, part, 64) == {}


def scored(**recipes: list[float]) -> Study:
    runs = [
        Run(name.replace("_", "-"), {"seed": seed}, "finished", best_score=score)
        for name, scores in recipes.items()
        for seed, score in enumerate(scores)
    ]
    names = tuple(name.replace("_", "-") for name in recipes)
    return Study("demo", names, tuple(runs), "accuracy", True)


LOW, HIGH = [0.50, 0.51, 0.52, 0.50, 0.51, 0.52, 0.50], [0.6, 0.62, 0.63, 0.6, 0.62, 0.63, 0.61]


def test_the_conclusion_says_plainly_whether_it_helped() -> None:
    helped, sentence = conclude(scored(control=LOW, pseudo_labelled=HIGH))
    assert helped
    assert sentence.startswith("Pseudo-labels helped: pseudo-labelled beats control by")
    helped, sentence = conclude(scored(control=HIGH, pseudo_labelled=LOW))
    assert not helped
    assert sentence.startswith("Pseudo-labels did harm: control beats pseudo-labelled by")
    helped, sentence = conclude(scored(control=LOW, pseudo_labelled=LOW[::-1]))
    assert not helped
    assert sentence.startswith("Pseudo-labels did not help, as far as these runs can tell.")


def test_what_fails_in_one_fold_is_shown_and_has_a_score_only_if_each_fold_has_one(
    tmp_path: Path,
) -> None:
    parts = [Part(name, cast("Any", None), {}) for name in ("fold1", "fold2")]  # no row is read
    collapsed, diverged = "collapsed: at the end", "diverged: the validation loss is nan"
    scores = {1: (0.5, ""), 2: (0.25, collapsed), 3: (float("inf"), diverged)}
    runs = [
        Run(f"control-{part.name}", {"seed": seed}, "failed" if why else "finished", why,
            metric="rmse", greater_is_better=False, best_score=score, last_score=score)
        for part in parts
        for seed, (score, why) in scores.items()
        for score, why in [(score, why) if part.name == "fold2" else (0.75, "")]
    ]  # fmt: skip
    seeds = tuple({"seed": seed} for seed in scores)
    trained = Study("demo", ("control-fold1", "control-fold2"), tuple(runs), "rmse", False, seeds)
    found = pooled(trained, ["control"], parts, tmp_path)
    assert [(run.status, run.best_score, run.reason) for run in found.runs] == [
        ("finished", 0.625, ""),
        ("failed", 0.5, f"control-fold2: {collapsed}"),
        ("failed", None, f"control-fold2: {diverged}"),
    ]
    assert rate_points(found, {}, {})[0].mean == 0.5625
    assert found.summary()[0].failed == 2


def test_a_gain_of_longer_training_is_no_gain_of_pseudo_labels() -> None:
    study = scored(control=LOW, control_as_long=HIGH, pseudo_labelled=HIGH)
    helped, sentence = conclude(study)
    assert not helped
    assert sentence.startswith("Pseudo-labels did not help beyond the longer training")
    helped, _ = conclude(scored(control=LOW, control_as_long=LOW, pseudo_labelled=HIGH))
    assert helped


# --- before work starts -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        ({"unlabelled_file": None}, {}, "there is no unlabelled text: unlabelled_file is missing"),
        ({"seed": 3}, {}, "compared over seeds, and the configuration gives seed"),
        ({"task": "causal-lm"}, {}, "task='causal-lm' cannot be pseudo-labelled"),
        ({"label_smoothing_factor": 0.1}, {"soft": True}, "soft=True and label_smoothing_factor="),
        ({"metrics": ["accuracy", "bleu"]}, {}, "metric 'bleu' does not fit"),
        ({}, {"sampling_rate": [0.1, 0]}, r"sampling_rate must be in \(0, 1\], got 0"),
        ({}, {"sampling_rate": []}, "sampling_rate is empty"),
        ({}, {"teachers": 0}, "teachers must be a whole number from 1 up"),
        ({}, {"rounds": 0}, "rounds must be a whole number from 1 up, got 0"),
        ({}, {"folds": 1}, "folds must be a whole number from 2 up, got 1"),
        ({}, {"equal": "step"}, "equal must be one of steps, epochs, got 'step'"),
        ({}, {"teachers": 1, "agreement": True}, "agreement needs two teachers or more"),
        ({}, {"treshold": 0.9}, "unknown option 'treshold' .did you mean threshold"),
        (
            {},
            {"launcher": "torchrun --nproc_per_node 2"},
            "how many steps an epoch .* set max_steps",
        ),
        ({}, {"runs": 0}, "runs must be a whole number of pairs from 1 up, got 0"),
    ],
)
def test_what_cannot_be_right_is_told_before_anything_is_written(
    keys: dict[str, Any],
    tmp_path: Path,
    change: dict[str, Any],
    options: dict[str, Any],
    sentence: str,
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        run({**keys, **change}, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_threshold_that_kept_nothing_costs_no_teacher(
    keys: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"threshold=1\.0 keeps none of 59 .* in the middle"):
        labelled_by(keys, tmp_path, teachers=1, threshold=1.0)
    (teacher,) = tmp_path.glob("teachers/round-1/runs/*/*/run.json")
    before = teacher.stat().st_mtime_ns
    found = labelled_by(keys, tmp_path, teachers=1, threshold=0.6)
    assert teacher.stat().st_mtime_ns == before
    assert found["pseudo-labelled"].told["kept"] > 20


def test_rules_may_change_as_long_as_no_student_was_trained(
    keys: dict[str, Any], tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"teachers": 1, "sampling_rate": [0.02, 1.0]}
    labels = tmp_path / "labels" / "round-1"
    labelled_by(keys, tmp_path, **asked, **LOOSE)
    (teacher,) = tmp_path.glob("teachers/round-1/runs/*/*/run.json")
    before = teacher.stat().st_mtime_ns
    (labels / "rate-1.json").unlink()  # as if the rules had kept nothing for the second arm
    labelled_by(keys, tmp_path, **asked, **LOOSE, soft=True)
    assert teacher.stat().st_mtime_ns == before
    for arm in ("rate-0.02", "rate-1"):
        assert "probabilities" in pd.read_parquet(labels / f"{arm}.parquet").columns
    (tmp_path / "study").mkdir()
    with pytest.raises(StudyError, match=r"labelling\.soft is True there and False here"):
        labelled_by(keys, tmp_path, **asked, **LOOSE)


@pytest.mark.parametrize("key", ["train_file", "unlabelled_file"])
def test_other_rows_in_the_same_files_are_refused(
    keys: dict[str, Any], tmp_path: Path, key: str
) -> None:
    file = tmp_path / "rows.csv"
    rows = pd.read_csv(keys[key])
    rows.to_csv(file, index=False)
    open_workshop(ask({**keys, key: str(file)}), tmp_path / "out", {}, Console(quiet=True))
    open_workshop(ask({**keys, key: str(file)}), tmp_path / "out", {}, Console(quiet=True))
    rows["text"] = rows["text"] + " again"
    rows.to_csv(file, index=False)
    with pytest.raises(StudyError, match="holds another pseudo-label: rows is"):
        open_workshop(ask({**keys, key: str(file)}), tmp_path / "out", {}, Console(quiet=True))


def test_a_plan_says_stages_and_cost_and_writes_nothing(
    keys: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = plan_pseudo_labels(keys, rounds=2, sampling_rate=[0.5, 1.0], teachers=2, runs=3)
    assert [(stage.name, stage.runs, stage.rows) for stage in plan.stages] == [
        ("round 1: teachers", 2, 32),
        ("round 1: labels", 0, 59),  # one of the sixty has the text of another
        ("round 2: students as teachers", 4, 91),
        ("round 2: labels", 0, 59),
        ("control", 3, 32),
        ("rate-0.5", 3, 62),
        ("rate-1", 3, 91),
    ]
    assert plan.seconds > 0
    fixed = plan_pseudo_labels({**keys, "max_steps": 5}, equal="epochs")
    assert [stage.name for stage in fixed.stages][2:] == ["control", "pseudo-labelled"]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def command(
    keys: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    from ruamel.yaml import YAML

    YAML(typ="safe", pure=True).dump(keys, tmp_path / "config.yaml")
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> int:
        try:
            main(["pseudo-label", "config.yaml", *words])
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return call


def test_the_command_does_it_all(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = "--teachers 1 --threshold none --runs 2 --executor in-process --output_dir out"
    assert command(*words.split(), "--allow_missing_classes", "--max_steps", "4") == 0
    shown = capsys.readouterr().out
    assert "59 unlabelled rows (of 60) are pseudo-labelled (fresh " in shown
    assert "1 of 60 were left out, 1 as an earlier one has their text" in shown
    assert "Pseudo-labels did not help, as far as these runs can tell." in shown
    assert (tmp_path / "out" / "study" / "report.html").is_file()


def test_the_command_rehearses(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert command("--dry-run", "--folds", "2", "--runs", "3", "--equal", "epochs") == 0
    shown = capsys.readouterr().out
    for stage in ("round 1: teachers", "round 1: labels", "control-as-long", "pseudo-labelled"):
        assert stage in shown
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_the_command_refuses_in_one_sentence(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--threshold", "95") == 2
    shown = capsys.readouterr().err.strip().splitlines()[-1]
    assert shown.startswith("hf-stabilizer: error: threshold must be a probability in (0, 1], got")


def test_a_study_of_the_written_rows_reads_them_as_they_were(
    keys: dict[str, Any], done: PseudoLabelOutcome
) -> None:
    configuration = load_configuration(keys)
    plain = load_splits(configuration.data, task=configuration.model.task)
    (control, *_) = done.study.of("control")
    read = load_splits(
        load_configuration(
            {k: v for k, v in control.configuration.items() if k not in ("output_dir",)}
        ).data,
        task=configuration.model.task,
    )
    assert read.train.to_dict() == plain.train.to_dict()
    assert read.validation.to_dict() == plain.validation.to_dict()
