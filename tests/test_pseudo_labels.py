"""Which rows get which label? By hand, against a slow oracle, and what is refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import transformers

from hf_stabilizer import ConfigurationError, DataError, pseudo_label
from hf_stabilizer.prediction import predict_rows
from hf_stabilizer.pseudo_labels.held_out import Guarded, sieve, texts_of
from hf_stabilizer.pseudo_labels.judgement import judge, sharpened
from hf_stabilizer.pseudo_labels.labelled_rows import label_rows
from hf_stabilizer.pseudo_labels.options import Kind, LabellingOptions, check_rate
from hf_stabilizer.pseudo_labels.provenance import check_names, joined, labels_of
from hf_stabilizer.pseudo_labels.selection import (
    refuse_missing,
    refuse_none,
    sampled_rows,
    select,
)
from hf_stabilizer.pseudo_labels.teachers import read_teachers
from tests import reference

NAMES = ("fresh", "rotten")


def logits(*probabilities: Any) -> Any:
    """Outputs whose softmax is these probabilities."""
    return np.log(np.array(probabilities))


# --- what teachers make of rows -----------------------------------------------------------------


def test_probabilities_are_averaged_not_outputs() -> None:
    # By hand: (0.9 + 0.5) / 2 = 0.7; the mean of the outputs would give 0.75.
    judged = judge(logits([[0.9, 0.1]], [[0.5, 0.5]]), "classes")
    assert judged.mean == pytest.approx(np.array([[0.7, 0.3]]))
    assert judged.sureness == pytest.approx([0.7])


def test_teachers_agree_where_all_predict_the_same() -> None:
    outputs = logits([[0.9, 0.1], [0.6, 0.4]], [[0.6, 0.4], [0.1, 0.9]])
    assert judge(outputs, "classes").agreed.tolist() == [True, False]


def test_of_several_labels_the_least_sure_decides() -> None:
    # By hand: sigmoid(ln 9) = 0.9, sigmoid(-ln 4) = 0.2, so sure of yes by 0.9, of no by 0.8.
    judged = judge(np.array([[[np.log(9.0), -np.log(4.0)]]]), "labels")
    assert judged.sureness == pytest.approx([0.8])
    assert labels_of(judged, np.array([0]), NAMES) == [["fresh"]]


def test_several_labels_agree_as_sets() -> None:
    outputs = np.array([[[1.0, 1.0], [1.0, -1.0]], [[2.0, 0.5], [1.0, 1.0]]])
    assert judge(outputs, "labels").agreed.tolist() == [True, False]


def test_of_numbers_the_spread_takes_the_place_of_confidence() -> None:
    # By hand: 1 and 3 lie one from their mean 2.
    judged = judge(np.array([[[1.0], [5.0]], [[3.0], [5.0]]]), "number")
    assert judged.mean[:, 0].tolist() == [2.0, 5.0]
    assert judged.sureness.tolist() == [1.0, 0.0]
    assert labels_of(judged, np.array([0]), None) == [2.0]


def test_a_choice_is_its_index() -> None:
    judged = judge(logits([[0.2, 0.5, 0.3]]), "choices")
    assert labels_of(judged, np.array([0]), None) == [1]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["classes", "labels", "number"])
def test_the_oracle_selects_the_same_rows(seed: int, kind: Kind) -> None:
    draw = np.random.default_rng(seed)
    outputs = draw.normal(size=(3, 40, 1 if kind == "number" else 3))
    rules: dict[str, Any] = {"max_spread": 0.8} if kind == "number" else {"threshold": 0.5}
    if kind == "classes":
        rules |= {"top_k": 4, "agreement": bool(seed % 2)}
    judged = judge(outputs, kind)
    options = LabellingOptions(**rules)
    expected = reference.pseudo_labels(outputs.tolist(), kind, **rules)
    kept = select(judged, options)
    names = ("a", "b", "c")
    found = dict(zip(kept.tolist(), labels_of(judged, kept, names), strict=True))
    if kind == "number":
        assert found.keys() == expected.keys()
        assert list(found.values()) == pytest.approx(list(expected.values()))
    else:
        named = {
            row: names[its] if kind == "classes" else [names[one] for one in its]
            for row, its in expected.items()
        }
        assert found == named
    assert found


def test_soft_labels_at_temperature_one_are_the_mean_itself() -> None:
    mean = np.array([[0.7, 0.3]])
    assert sharpened(mean, 1.0) is mean


def test_soft_labels_by_hand() -> None:
    # By hand, T = 1/2: 0.7^2 / (0.7^2 + 0.3^2) = 0.49 / 0.58.
    assert sharpened(np.array([[0.7, 0.3]]), 0.5)[0, 0] == pytest.approx(0.49 / 0.58)
    # T = 2: sqrt(0.64) / (sqrt(0.64) + sqrt(0.36)) = 0.8 / 1.4.
    assert sharpened(np.array([[0.64, 0.36]]), 2.0)[0, 0] == pytest.approx(0.8 / 1.4)


def test_an_impossible_class_stays_impossible() -> None:
    assert sharpened(np.array([[1.0, 0.0]]), 0.01).tolist() == [[1.0, 0.0]]


# --- which rows are kept ------------------------------------------------------------------------


def chosen(outputs: Any, **rules: Any) -> list[int]:
    found: list[int] = select(judge(outputs, "classes"), LabellingOptions(**rules), NAMES).tolist()
    return found


ROWS = logits([[0.96, 0.04], [0.9, 0.1], [0.2, 0.8], [0.45, 0.55], [0.97, 0.03]])


def test_the_default_threshold_is_095_and_counts_itself() -> None:
    assert chosen(ROWS) == [0, 4]
    # 0.75 is a binary number and comes out of softmax as itself.
    assert chosen(np.array([[[np.log(3.0), 0.0]]]), threshold=0.75) == [0]


def test_top_k_takes_the_surest_of_each_class_in_place_of_the_default_threshold() -> None:
    assert chosen(ROWS, top_k=1) == [2, 4]
    assert chosen(ROWS, top_k=2) == [0, 2, 3, 4]


def test_rules_that_are_said_are_all_in_force() -> None:
    assert chosen(ROWS, top_k=2, threshold=0.7) == [0, 2, 4]
    assert chosen(ROWS, top_k=2, threshold=None) == [0, 2, 3, 4]


def test_agreement_alone_takes_the_place_of_the_default_threshold() -> None:
    outputs = logits([[0.6, 0.4], [0.9, 0.1]], [[0.6, 0.4], [0.4, 0.6]])
    assert chosen(outputs, agreement=True) == [0]
    assert chosen(outputs, agreement=True, threshold=0.95) == []


def test_each_class_may_have_its_own_threshold() -> None:
    assert chosen(ROWS, threshold={"fresh": 0.97, "rotten": 0.5}) == [2, 3, 4]


def test_of_equally_sure_rows_the_first_is_taken() -> None:
    assert chosen(logits([[0.8, 0.2]] * 3), top_k=2) == [0, 1]


def test_the_surest_numbers_are_those_with_the_smallest_spread() -> None:
    judged = judge(np.array([[[1.0], [2.0], [9.0]], [[3.0], [2.5], [9.1]]]), "number")
    assert select(judged, LabellingOptions(top_k=2)).tolist() == [1, 2]
    assert select(judged, LabellingOptions(max_spread=0.1)).tolist() == [2]


def test_a_larger_share_contains_a_smaller_one() -> None:
    shares = [set(sampled_rows(97, rate, seed=3)) for rate in (0.01, 0.1, 0.5, 0.99, 1.0)]
    assert [len(share) for share in shares] == [1, 10, 48, 96, 97]
    assert all(small <= large for small, large in pairwise(shares))


def test_another_seed_draws_another_share() -> None:
    assert sampled_rows(50, 0.3, seed=0) == sampled_rows(50, 0.3, seed=0)
    assert sampled_rows(50, 0.3, seed=0) != sampled_rows(50, 0.3, seed=1)


# --- what is kept out ---------------------------------------------------------------------------


def test_near_duplicates_of_held_out_rows_are_counted_and_kept_out() -> None:
    held = ("The plot is thin and the cast is cold.",)
    texts = ["the plot is thin, and the cast is cold", "a warm and very good score", "Good film."]
    sieved = sieve(texts, Guarded(held, ("good film",)), similarity=0.8)
    assert (sieved.places, sieved.near_held_out, sieved.labelled) == ((1,), 1, 1)


def test_two_columns_are_compared_together() -> None:
    frame = pd.DataFrame({"a": ["good", "bad"], "b": ["film", "film"]})
    assert texts_of(frame, ["a", "b"]) == ["good film", "bad film"]


# --- what is refused ----------------------------------------------------------------------------


def test_a_threshold_that_keeps_nothing_tells_the_confidences() -> None:
    judged = judge(ROWS, "classes")
    options = LabellingOptions(threshold=0.99)
    with pytest.raises(DataError, match=r"keeps none of 5 .* at least 0\.550, .* 0\.970 at most"):
        refuse_none(judged, select(judged, options), options)


def test_a_class_that_is_never_predicted_is_refused_unless_allowed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    judged = judge(logits([[0.9, 0.1], [0.8, 0.2]]), "classes")
    with pytest.raises(DataError, match=r"never predict 'rotten' .* fresh 2, rotten 0"):
        refuse_missing(judged, LabellingOptions(), NAMES)
    refuse_missing(judged, LabellingOptions(allow_missing_classes=True), NAMES)
    assert "never predict 'rotten'" in caplog.text


def test_a_class_that_is_predicted_and_not_kept_is_told(
    teachers: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    mean = mean_of(teachers)
    classes = mean.argmax(axis=1)
    best = [float(mean[classes == one].max()) for one in (0, 1)]
    # The surest row of one class passes, and no row of the other.
    threshold = (max(best) + min(best)) / 2
    missing = NAMES[int(np.argmin(best))]
    with pytest.raises(DataError, match=f"has the class {missing!r} .* set top_k"):
        pseudo_label(teachers, UNLABELLED, threshold=threshold)
    found = pseudo_label(teachers, UNLABELLED, threshold=threshold, allow_missing_classes=True)
    assert len(found)
    assert f"no pseudo-labelled row has the class {missing!r}" in caplog.text


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        ({"threshold": 1.01}, r"threshold must be a probability in \(0, 1\], got 1.01"),
        ({"threshold": {"fresh": 0}}, r"threshold must be a probability in \(0, 1\], got 0"),
        ({"top_k": 0}, r"top_k must be a whole number of rows from 1 up, got 0"),
        ({"temperature": 0, "soft": True}, r"temperature must be above 0, got 0"),
        ({"temperature": 2.0}, r"temperature=2.0 does nothing without soft labels"),
        ({"similarity": 0}, r"similarity must be in \(0, 1\], got 0"),
        ({"max_spread": -1}, r"max_spread must be 0 or more, got -1"),
        ({"soft": "yes"}, r"soft must be True or False, got 'yes'"),
    ],
)
def test_values_that_cannot_be_right(rules: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        LabellingOptions(**rules)


@pytest.mark.parametrize(
    ("kind", "teachers", "rules", "sentence"),
    [
        ("classes", 1, {"agreement": True}, "agreement needs two teachers or more, got 1"),
        ("classes", 2, {"max_spread": 0.1}, "max_spread=0.1 is for numbers"),
        ("classes", 1, {"threshold": {"rotte": 0.9}}, "did you mean rotten"),
        ("classes", 1, {"threshold": {"rotten": 0.9}}, "leaves out fresh"),
        ("labels", 1, {"top_k": 3}, "top_k=3 counts rows by their one class"),
        ("labels", 1, {"soft": True}, "soft labels are for rows with one class each"),
        ("choices", 1, {"soft": True}, "soft labels are for rows with one class each"),
        ("number", 2, {}, "for numbers set max_spread"),
        ("number", 1, {"max_spread": 0.1}, "need two teachers or more, got 1"),
        ("number", 2, {"threshold": 0.9}, "threshold is for classes"),
        ("number", 2, {"soft": True}, "soft is for classes"),
    ],
)
def test_rules_that_do_not_fit_the_teachers(
    kind: Kind, teachers: int, rules: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        LabellingOptions(**rules).check(kind, teachers=teachers, label_names=NAMES)


@pytest.mark.parametrize("rate", [0, -0.1, 1.5, True, "all"])
def test_a_share_is_above_zero_and_at_most_one(rate: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"sampling_rate must be in \(0, 1\]"):
        check_rate(rate)


def test_a_slip_in_a_rule_is_told() -> None:
    with pytest.raises(ConfigurationError, match="did you mean threshold"):
        LabellingOptions.of({"treshold": 0.9})


def test_a_column_that_is_read_cannot_be_called_as_one_that_is_added() -> None:
    with pytest.raises(DataError, match="have a column 'round' that is read"):
        check_names(["text", "round"])


# --- with models --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def teachers(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models with heads, which no run left behind: what they learnt is not known."""
    import torch

    folders = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            model_folder, id2label=dict(enumerate(NAMES)), label2id={"fresh": 0, "rotten": 1}
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
        batch = tokenizer(UNLABELLED["text"].tolist(), return_tensors="pt", padding=True)
        with torch.no_grad():
            model.classifier.weight *= 40
            # So that each class is the likeliest of some rows.
            model.classifier.bias.copy_(-model.eval()(**batch).logits.median(0).values)
        folder = tmp_path_factory.mktemp("teachers") / f"teacher{seed}"
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        folders.append(folder)
    return folders


UNLABELLED = pd.DataFrame(
    {
        "text": ["good good film", "bad bad plot", "the cast was warm", "cold and grim", "a scene"],
        "label": ["?"] * 5,
    }
)


def mean_of(teachers: list[Path]) -> Any:
    """The mean of the probabilities, row by row, by transformers alone."""
    import torch

    every = []
    for folder in teachers:
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        with torch.no_grad():
            rows = [
                model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0].numpy()
                for text in UNLABELLED["text"]
            ]
        every.append(rows)
    return np.mean(every, axis=0)


def test_the_rows_come_back_labelled_with_their_provenance(teachers: list[Path]) -> None:
    mean = mean_of(teachers)
    found = pseudo_label(
        teachers, UNLABELLED, threshold=None, soft=True, allow_missing_classes=True
    ).to_pandas()
    assert found["text"].tolist() == UNLABELLED["text"].tolist()
    assert found["label"].tolist() == [NAMES[place] for place in mean.argmax(axis=1)]
    assert np.stack(found["probabilities"]) == pytest.approx(mean, abs=1e-6)
    assert found["confidence"].to_numpy() == pytest.approx(mean.max(axis=1), abs=1e-6)
    assert found["pseudo_labelled"].all()
    assert set(found["round"]) == {1}
    assert found["source_row"].tolist() == [0, 1, 2, 3, 4]
    assert set(found["teacher"]) == {f"{teachers[0]} + {teachers[1]}"}


def test_labels_in_the_unlabelled_rows_are_not_read(teachers: list[Path]) -> None:
    other = UNLABELLED.assign(label=["fresh"] * 5)
    options: dict[str, Any] = {"threshold": None, "allow_missing_classes": True}
    plain = pseudo_label(teachers, UNLABELLED, **options)
    assert plain.to_dict() == pseudo_label(teachers, other, **options).to_dict()


def test_what_a_teacher_learnt_may_not_be_known_and_that_is_said(
    teachers: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    pseudo_label(teachers[0], UNLABELLED, threshold=None, allow_missing_classes=True)
    assert "cannot be known" in caplog.text


def test_held_out_rows_and_known_rows_are_left_out(teachers: list[Path]) -> None:
    held = pd.DataFrame({"text": ["Good, good FILM"]})
    known = pd.DataFrame({"text": ["a scene"]})
    found = label_rows(
        read_teachers(teachers),
        UNLABELLED,
        LabellingOptions(threshold=None, allow_missing_classes=True),
        held_out=held,
        labelled=known,
    )
    assert found.rows["source_row"][:] == [1, 2, 3]
    assert (found.sieved.near_held_out, found.sieved.labelled, found.selected) == (1, 1, 5)
    assert str(found).startswith("3 of 5 unlabelled rows are pseudo-labelled (fresh ")


def test_nothing_takes_the_place_of_a_row_that_is_left_out(teachers: list[Path]) -> None:
    rules: dict[str, Any] = {"top_k": 2, "allow_missing_classes": True}
    plain = pseudo_label(teachers, UNLABELLED, held_out=[], **rules).to_pandas()
    gone = plain["text"].iloc[0]
    held = pd.DataFrame({"text": [gone]})
    assert len(plain) > 1
    found = pseudo_label(teachers, UNLABELLED, held_out=held, **rules).to_pandas()
    pd.testing.assert_frame_equal(found, plain.iloc[1:].reset_index(drop=True))


def test_a_file_and_a_dataset_are_rows_too(teachers: list[Path], tmp_path: Path) -> None:
    from datasets import Dataset

    UNLABELLED.to_csv(tmp_path / "rows.csv", index=False)
    rules: dict[str, Any] = {"threshold": None, "allow_missing_classes": True}
    frame, file, dataset = (
        pseudo_label(teachers, rows, **rules).to_dict()
        for rows in (UNLABELLED, tmp_path / "rows.csv", Dataset.from_pandas(UNLABELLED))
    )
    assert frame == file == dataset


@pytest.mark.parametrize("unlabelled", [None, pd.DataFrame({"text": []})])
def test_no_unlabelled_text_is_refused(teachers: list[Path], unlabelled: Any) -> None:
    with pytest.raises(DataError, match="there is no unlabelled text"):
        pseudo_label(teachers, unlabelled)


def test_teachers_with_other_classes_are_refused(teachers: list[Path], tmp_path: Path) -> None:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        teachers[0], id2label={0: "good", 1: "rotten"}, label2id={"good": 0, "rotten": 1}
    )
    model.save_pretrained(tmp_path / "other")
    with pytest.raises(ConfigurationError, match="differ in their classes"):
        pseudo_label([teachers[0], tmp_path / "other"], UNLABELLED)


def test_teachers_may_have_their_classes_in_another_order(
    teachers: list[Path], tmp_path: Path
) -> None:
    import torch

    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        teachers[0], id2label={0: "rotten", 1: "fresh"}, label2id={"rotten": 0, "fresh": 1}
    )
    with torch.no_grad():
        model.classifier.weight.copy_(model.classifier.weight.flip(0))
        model.classifier.bias.copy_(model.classifier.bias.flip(0))
    model.save_pretrained(tmp_path / "turned")
    transformers.AutoTokenizer.from_pretrained(teachers[0]).save_pretrained(tmp_path / "turned")
    rules: dict[str, Any] = {"threshold": None, "allow_missing_classes": True}
    alone = pseudo_label(teachers[0], UNLABELLED, **rules).to_pandas()
    both = pseudo_label([teachers[0], tmp_path / "turned"], UNLABELLED, **rules).to_pandas()
    assert both["label"].tolist() == alone["label"].tolist()
    assert both["confidence"].to_numpy() == pytest.approx(alone["confidence"].to_numpy())


def test_a_teacher_has_one_voice(teachers: list[Path]) -> None:
    with pytest.raises(ConfigurationError, match="named twice"):
        pseudo_label([teachers[0], teachers[0]], UNLABELLED)


# --- true and pseudo-labelled rows together -----------------------------------------------------


def test_true_rows_come_first_and_say_so(config: dict[str, Any], teachers: list[Path]) -> None:
    from hf_stabilizer.data import DataArguments, load_splits

    arguments = DataArguments(train_file=config["train_file"], validation_size=24)
    splits = load_splits(arguments, task="text-classification")
    taught = pseudo_label(
        teachers, UNLABELLED, threshold=None, soft=True, allow_missing_classes=True
    )
    rows = joined(splits, taught).to_pandas()
    count = len(splits.train)
    assert rows["text"].tolist()[:count] == splits.train["text"][:]
    assert rows["label"].tolist()[:count] == splits.train["label"][:]
    assert rows["pseudo_labelled"].tolist() == [False] * count + [True] * 5
    assert rows["source_row"].tolist() == [*range(count), *range(5)]
    assert rows["teacher"].iloc[0] == ""
    assert rows["probabilities"].iloc[0] is None


def test_without_a_pseudo_labelled_row_nothing_that_is_learnt_changes(
    config: dict[str, Any], teachers: list[Path], tmp_path: Path
) -> None:
    from hf_stabilizer.data import DataArguments, load_splits, write_splits

    task = "text-classification"
    arguments = DataArguments(train_file=config["train_file"], validation_size=24)
    splits = load_splits(arguments, task=task)
    taught = pseudo_label(teachers, UNLABELLED, threshold=None, allow_missing_classes=True)
    none = joined(splits, taught.select([]))
    plain = load_splits(DataArguments(**write_splits(splits, tmp_path / "plain")), task=task)
    again = write_splits(splits, tmp_path / "joined", train=none)
    read = load_splits(DataArguments(**again), task=task)
    assert read.train.to_dict() == plain.train.to_dict() == splits.train.to_dict()
    assert read.validation.to_dict() == plain.validation.to_dict()


# --- numbers, choices, several classes ----------------------------------------------------------


def saved(model: Any, model_folder: Path, folder: Path) -> Path:
    import torch

    with torch.no_grad():
        model.classifier.weight *= 40
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(model_folder).save_pretrained(folder)
    return folder


def test_numbers_are_means_with_their_spread(model_folder: Path, tmp_path: Path) -> None:
    import torch

    folders = []
    for seed in (0, 1, 2):
        torch.manual_seed(seed)
        config = transformers.AutoConfig.from_pretrained(model_folder)
        config.problem_type = "regression"
        config.num_labels = 1
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            model_folder, config=config
        )
        folders.append(saved(model, model_folder, tmp_path / f"teacher{seed}"))
    each = np.stack([predict_rows(folder, UNLABELLED)[:, 0] for folder in folders])
    middle = float(np.sort(each.std(axis=0))[2])
    found = pseudo_label(folders, UNLABELLED, max_spread=middle + 1e-6).to_pandas()
    assert len(found) == 3
    places = found["source_row"].to_numpy()
    assert found["label"].to_numpy() == pytest.approx(each.mean(axis=0)[places], abs=1e-5)
    assert found["spread"].to_numpy() == pytest.approx(each.std(axis=0)[places], abs=1e-5)
    with pytest.raises(DataError, match=r"max_spread=0 keeps none .* raise max_spread"):
        pseudo_label(folders, UNLABELLED, max_spread=0)


def test_rows_may_have_several_classes(model_folder: Path, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        model_folder,
        problem_type="multi_label_classification",
        id2label=dict(enumerate(NAMES)),
        label2id={"fresh": 0, "rotten": 1},
    )
    teacher = saved(model, model_folder, tmp_path / "teacher")
    each = 1 / (1 + np.exp(-predict_rows(teacher, UNLABELLED).astype(float)))
    found = pseudo_label(teacher, UNLABELLED, threshold=None, allow_missing_classes=True)
    expected = [[n for n, p in zip(NAMES, row, strict=True) if p > 0.5] for row in each]
    assert found["label"][:] == expected


def test_a_choice_is_labelled_by_its_index(model_folder: Path, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    model = transformers.AutoModelForMultipleChoice.from_pretrained(model_folder)
    teacher = saved(model, model_folder, tmp_path / "teacher")
    rows = pd.DataFrame(
        {"question": ["the film was", "a plot is"], "A": ["good", "bad"], "B": ["warm", "cold"]}
    )
    outputs = predict_rows(teacher, rows)
    found = pseudo_label(teacher, rows, threshold=None).to_pandas()
    assert found["label"].tolist() == outputs.argmax(axis=1).tolist()
    assert found.columns[:3].tolist() == ["question", "A", "B"]
