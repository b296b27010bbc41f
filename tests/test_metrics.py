"""Scores by hand, against slow restatements, at their edges, and with no network."""

from __future__ import annotations

import math
import socket
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.metrics import (
    build_compute_metrics,
    collapsed,
    default_metrics,
    greater_is_better,
    load_metric,
    metric_name,
    metric_names,
)
from tests import reference

SINGLE, MULTI = "single_label_classification", "multi_label_classification"
ALL = [
    *("accuracy", "f1", "f1_macro", "f1_micro", "matthews_correlation"),
    *("top_2_accuracy", "map_at_3", "rmse", "mse", "mae", "pearson", "spearman"),
]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a metric tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def score(name: str, predictions: Any, references: Any) -> float:
    values = load_metric(name).compute(predictions=predictions, references=references)
    assert list(values) == [metric_name(name)]
    return float(values[metric_name(name)])


@pytest.mark.parametrize(
    ("name", "predictions", "references", "expected"),
    [
        ("accuracy", [0, 1, 1, 0], [0, 1, 0, 1], 0.5),
        ("accuracy", [[1, 0], [1, 1]], [[1, 0], [0, 1]], 0.5),  # All labels of a row or nothing.
        ("f1", [1, 1, 1, 0], [1, 0, 1, 1], 2 / 3),
        # Class 0: precision 1/2, recall 1; class 1: precision 1, recall 1/2; class 2: never right.
        ("f1_macro", [0, 0, 1, 1], [0, 1, 1, 2], (2 / 3 + 1 / 2 + 0) / 3),
        ("f1_micro", [0, 0, 1, 1], [0, 1, 1, 2], 0.5),
        # Of three flags set and three due, two are right.
        ("f1_micro", [[1, 0, 1], [0, 1, 0]], [[1, 0, 0], [0, 1, 1]], 2 / 3),
        # tp 2, tn 1, fp 1, fn 1: (2 - 1) / sqrt(3 * 3 * 2 * 2).
        ("matthews_correlation", [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], 1 / 6),
        ("map_at_3", [[3.0, 2.0, 1.0, 0.0]] * 4, [0, 1, 2, 3], (1 + 1 / 2 + 1 / 3 + 0) / 4),
        ("top_2_accuracy", [[3.0, 2.0, 1.0, 0.0]] * 4, [0, 1, 2, 3], 0.5),
        ("mse", [1.0, 2.0], [1.0, 4.0], 2.0),
        ("rmse", [1.0, 2.0], [1.0, 4.0], math.sqrt(2)),
        ("mae", [1.0, 2.0], [1.0, 4.0], 1.0),
        ("pearson", [1.0, 2.0, 3.0], [2.0, 4.0, 6.0], 1.0),
        ("spearman", [1.0, 2.0, 30.0], [3.0, 2.0, -50.0], -1.0),
    ],
)
def test_by_hand(name: str, predictions: Any, references: Any, expected: float) -> None:
    assert score(name, predictions, references) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_against_slow_restatements(seed: int) -> None:
    generator = np.random.default_rng(seed)
    classes, labels = generator.integers(0, 4, (2, 60))
    assert score("f1_macro", classes, labels) == pytest.approx(reference.f1_macro(classes, labels))
    scores = generator.integers(0, 5, (60, 4)).astype(float)  # Many ties.
    for k in (1, 2, 3):
        expected = reference.map_at_k(scores.tolist(), labels.tolist(), k)
        assert score(f"map@{k}", scores, labels) == pytest.approx(expected)
    numbers, targets = generator.normal(size=(2, 60))
    assert score("pearson", numbers, targets) == pytest.approx(
        reference.pearson(numbers.tolist(), targets.tolist())
    )
    assert score("rmse", numbers, targets) == pytest.approx(
        math.sqrt(sum((a - b) ** 2 for a, b in zip(numbers, targets, strict=True)) / 60)
    )


def test_ranking_metrics_agree_with_scikit_learn() -> None:
    from sklearn.metrics import label_ranking_average_precision_score, top_k_accuracy_score

    generator = np.random.default_rng(0)
    scores, labels = generator.normal(size=(50, 5)), generator.integers(0, 5, 50)
    assert score("map@5", scores, labels) == pytest.approx(
        label_ranking_average_precision_score(np.eye(5)[labels], scores)
    )
    assert score("top2", scores, labels) == pytest.approx(top_k_accuracy_score(labels, scores, k=2))


def test_a_tie_counts_against_the_right_choice() -> None:
    assert score("map@3", [[1.0, 1.0, 0.0]], [0]) == pytest.approx(1 / 2)
    assert score("top_1_accuracy", [[0.0, 0.0]], [0]) == 0.0
    assert score("map@2", [[math.nan, math.nan]], [0]) == 0.5  # Rank 2 of 2.


@pytest.mark.parametrize("name", ["pearson", "spearman", "matthews_correlation"])
def test_constant_predictions_have_no_correlation(name: str) -> None:
    assert score(name, [1, 1, 1], [0, 1, 2]) == 0.0
    assert score(name, [0, 1, 2], [1, 1, 1]) == 0.0


def test_predictions_that_are_not_finite_compare_as_worst() -> None:
    numbers, targets = [1.0, math.nan], [1.0, 2.0]
    assert score("rmse", numbers, targets) == score("mae", numbers, targets) == math.inf
    assert score("spearman", numbers, targets) == 0.0


def test_a_class_that_is_neither_there_nor_predicted_is_left_out_of_the_mean() -> None:
    assert score("f1_macro", [0, 1, 0], [0, 1, 0]) == 1.0
    assert score("f1_macro", [0, 2, 0], [0, 1, 0]) == pytest.approx(1 / 3)


def test_they_are_evaluate_modules() -> None:
    import evaluate

    for name in ALL:
        metric = load_metric(name)
        assert isinstance(metric, evaluate.Metric)
        assert metric.name == name
    accuracy = load_metric("accuracy")
    accuracy.add_batch(predictions=[1, 0], references=[1, 1])
    accuracy.add(prediction=1, reference=1)
    assert accuracy.compute()["accuracy"] == pytest.approx(2 / 3)
    both = evaluate.combine([load_metric("accuracy"), load_metric("f1")])
    assert set(both.compute(predictions=[1, 0], references=[1, 1])) == {"accuracy", "f1"}


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("MAP@3", "map_at_3"),
        ("map_at_10", "map_at_10"),
        ("map3", "map_at_3"),
        ("top-5", "top_5_accuracy"),
        ("top_3_accuracy", "top_3_accuracy"),
        ("MCC", "matthews_correlation"),
        ("macro F1", "f1_macro"),
        ("RMSE", "rmse"),
        ("spearmanr", "spearman"),
    ],
)
def test_a_metric_goes_by_several_names(written: str, name: str) -> None:
    assert metric_name(written) == name


def test_names_are_those_of_the_list() -> None:
    assert [metric_name(name) for name in ALL] == ALL
    assert [name for name in ALL if not greater_is_better(name)] == ["rmse", "mse", "mae"]
    assert not greater_is_better("loss")
    for task in ("text-classification", "text-regression", "multiple-choice"):
        fitting = metric_names(task)
        defaults = [name.replace("_3", "_K") for name in default_metrics(task)]
        assert set(defaults) <= set(fitting)


def test_defaults_fit_one_label_per_row_and_several() -> None:
    for problem_type in (SINGLE, MULTI):
        build_compute_metrics(default_metrics("text-classification"), problem_type)


def test_compute_metrics_for_each_kind_of_task() -> None:
    logits = np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
    prediction: Any = SimpleNamespace(predictions=logits, label_ids=np.array([0, 1, 1]))
    values = build_compute_metrics(["acc", "map@2"], SINGLE)(prediction)
    expected = {"accuracy": 2 / 3, "map_at_2": 5 / 6, "collapsed": 1.0}  # The majority has 2/3 too.
    assert values == pytest.approx(expected)
    assert set(build_compute_metrics(["acc"], None)(prediction)) == {"accuracy"}

    flags: Any = SimpleNamespace(
        predictions=logits - 0.5, label_ids=np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    )
    assert build_compute_metrics(["accuracy"], MULTI)(flags) == pytest.approx({"accuracy": 2 / 3})

    numbers: Any = SimpleNamespace(
        predictions=np.array([[1.0], [2.0]], dtype=np.float32), label_ids=np.array([1.0, 4.0])
    )
    assert build_compute_metrics(["MSE"], "regression")(numbers) == {"mse": 2.0}


def test_hidden_states_after_the_logits_are_left_aside() -> None:
    outputs = (np.eye(2), np.zeros((2, 7, 16)))
    prediction: Any = SimpleNamespace(predictions=outputs, label_ids=np.array([0, 1]))
    assert build_compute_metrics(["accuracy"], SINGLE)(prediction)["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("predictions", "labels", "sentence"),
    [
        ([1, 1, 1, 1], [0, 1, 2, 1], "the same class 1 is predicted for all 4 rows"),
        ([0, 1, 0, 1], [0, 0, 1, 1], "accuracy 0.5000 is no better than 0.5000"),
        ([0, 1, 1, 1], [0, 0, 1, 1], ""),
        ([1, 1, 1], [1, 1, 1], ""),  # Nothing can be told from rows of one label.
    ],
)
def test_collapse_by_hand(predictions: list[int], labels: list[int], sentence: str) -> None:
    assert collapsed(predictions, labels).startswith(sentence)
    assert bool(collapsed(predictions, labels)) == bool(sentence)


def test_a_diverged_classifier_has_collapsed() -> None:
    logits = np.full((4, 3), np.nan)
    prediction: Any = SimpleNamespace(predictions=logits, label_ids=np.array([0, 1, 2, 1]))
    values = build_compute_metrics(["accuracy", "f1_macro", "mcc"], SINGLE)(prediction)
    assert values["collapsed"] == 1.0
    # Not class 0, and right wherever that is the answer.
    assert (values["accuracy"], values["f1_macro"]) == (0.0, 0.0)
    assert values["matthews_correlation"] < 0


def test_labels_without_a_number_count_as_wrong() -> None:
    logits = np.array([[2.0, np.nan], [-1.0, np.nan]])
    prediction: Any = SimpleNamespace(predictions=logits, label_ids=np.array([[1, 0], [0, 1]]))
    assert build_compute_metrics(["f1_micro"], MULTI)(prediction)["f1_micro"] == 0.5
    logits[:, 1] = [-1.0, 1.0]
    assert build_compute_metrics(["f1_micro"], MULTI)(prediction)["f1_micro"] == 1.0


def test_refusals() -> None:
    with pytest.raises(ConfigurationError, match="'acuracy'; did you mean accuracy"):
        metric_name("acuracy")
    with pytest.raises(ConfigurationError, match="no metric 'chrf'; known are accuracy, f1,"):
        load_metric("chrf")
    with pytest.raises(ConfigurationError, match="no metric 'map@0'"):
        metric_name("map@0")
    with pytest.raises(ConfigurationError, match="'rmse' does not fit single_label_classification"):
        build_compute_metrics(["rmse"], SINGLE)
    with pytest.raises(
        ConfigurationError, match="does not fit multi_label_classification; use one"
    ):
        build_compute_metrics(["mcc"], MULTI)
    with pytest.raises(ConfigurationError, match="did you mean text-regression"):
        default_metrics("text-regresion")
    with pytest.raises(ConfigurationError, match="'f1' is for two classes"):
        load_metric("f1").compute(predictions=[0, 2], references=[0, 1])
    with pytest.raises(ConfigurationError, match="'f1' is for 2 classes, and there are 8; use one"):
        build_compute_metrics(["f1"], SINGLE, num_labels=8)
    assert build_compute_metrics(["f1", "accuracy"], SINGLE, num_labels=2)
