"""Scores by hand, against slow restatements, at their edges, and with no network."""

from __future__ import annotations

import math
import socket
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hf_stabilizer.errors import ConfigurationError, DataError, MissingDependencyError
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
DESCRIBING = ("prediction_entropy", "generated_length")
NEW = [
    *("negative_log_likelihood", "brier_score", "calibration_error", "calibration_error_5"),
    *("prediction_entropy", "seqeval_f1", "seqeval_precision", "seqeval_recall"),
    *("token_accuracy", "perplexity", "bleu", "rouge_1", "rouge_2", "rouge_l"),
    *("meteor_exact_stem", "generated_length"),
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

    for name in [*ALL, *NEW]:
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
        ("ECE", "calibration_error"),
        ("calibration_error_15", "calibration_error"),
        ("ece_10", "calibration_error_10"),
        ("ROUGE-L", "rouge_l"),
        ("rouge1", "rouge_1"),
    ],
)
def test_a_metric_goes_by_several_names(written: str, name: str) -> None:
    assert metric_name(written) == name


def test_names_are_those_of_the_list() -> None:
    assert [metric_name(name) for name in ALL] == ALL
    assert [name for name in ALL if not greater_is_better(name)] == ["rmse", "mse", "mae"]
    assert not greater_is_better("loss")
    assert [name for name in NEW if name not in DESCRIBING and not greater_is_better(name)] == [
        *("negative_log_likelihood", "brier_score", "calibration_error", "calibration_error_5"),
        "perplexity",
    ]
    for task in (
        *("text-classification", "text-regression", "multiple-choice", "token-classification"),
        *("causal-lm", "masked-lm", "seq2seq"),
    ):
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
    with pytest.raises(ConfigurationError, match=r"'acuracy' \(did you mean accuracy"):
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


LOGS = np.log([[0.7, 0.2, 0.1], [0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [0.55, 0.4, 0.05]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("negative_log_likelihood", -math.log(0.7 * 0.25 * 0.8 * 0.55) / 4),
        # Squared distances of each row from its label.
        (
            "brier_score",
            ((0.09 + 0.04 + 0.01) + (0.25 + 0.5625 + 0.0625) + (0.01 + 0.01 + 0.04)
             + (0.2025 + 0.16 + 0.0025)) / 4,
        ),
        # Bins of a fifth: .5 and .55 together, one of two right; .7; .8, all right.
        ("calibration_error_5", (2 * abs(0.5 - 0.525) + 2 * abs(1.0 - 0.75)) / 4),
    ],
)  # fmt: skip
def test_scores_of_probabilities_by_hand(name: str, expected: float) -> None:
    assert score(name, LOGS, [0, 1, 2, 0]) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_probabilities_against_slow_restatements(seed: int) -> None:
    from sklearn.metrics import log_loss

    generator = np.random.default_rng(seed)
    scores, labels = generator.normal(size=(200, 3)) * 3, generator.integers(0, 3, 200)
    probabilities = (np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)).tolist()
    for name, bins in (("calibration_error", 15), ("ece_7", 7), ("ece1", 1)):
        expected = reference.calibration_error(probabilities, labels.tolist(), bins)
        assert score(name, scores, labels) == pytest.approx(expected)
    expected = sum(reference.entropy(row) for row in probabilities) / 200
    assert score("prediction_entropy", scores, labels) == pytest.approx(expected)
    assert score("nll", scores, labels) == pytest.approx(log_loss(labels, probabilities))


def test_probabilities_at_their_edges() -> None:
    sure, guess = [[0.0, -math.inf]], [[3.0, 3.0]]
    assert score("prediction_entropy", sure, [0]) == 0.0
    assert score("prediction_entropy", guess, [0]) == pytest.approx(math.log(2))
    assert score("nll", sure, [1]) == math.inf
    assert score("brier", sure, [0]) == 0.0
    assert score("brier", sure, [1]) == 2.0
    assert score("ece", sure, [0]) == 0.0
    # A model that is lost compares as worst.
    for lost in ([[math.nan, 0.0]], [[math.inf, 0.0]], [[-math.inf, -math.inf]]):
        assert (score("nll", lost, [0]), score("brier", lost, [0])) == (math.inf, 2.0)
        assert score("ece", lost, [0]) == 1.0


def test_what_only_describes_cannot_decide() -> None:
    for name in DESCRIBING:
        with pytest.raises(ConfigurationError, match=f"{name}' says nothing of how good a model"):
            greater_is_better(f"eval_{name}")


TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def test_entities_by_hand() -> None:
    true = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-LOC", "B-LOC"]]
    found = [["B-PER", "I-PER", "O", "B-PER"], ["O", "B-LOC", "I-LOC"]]
    # Due: PER 0-2, LOC 3-4, LOC 1-2, LOC 2-3. Found: PER 0-2, PER 3-4, LOC 1-3. Right: the first.
    assert score("seqeval_precision", found, true) == pytest.approx(1 / 3)
    assert score("seqeval_recall", found, true) == pytest.approx(1 / 4)
    assert score("seqeval_f1", found, true) == pytest.approx(2 / 7)
    assert score("token_accuracy", found, true) == pytest.approx(5 / 7)
    assert score("seqeval_f1", [["O"]], [["O"]]) == 0.0


# seqeval says so where there is no entity at all.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize("marks", ["BI", "BIES", "I"])
def test_entities_agree_with_seqeval(marks: str) -> None:
    from seqeval import metrics as seqeval
    from seqeval.metrics.sequence_labeling import get_entities

    from hf_stabilizer.scores.entities import entities

    generator = np.random.default_rng(0)
    tags = ["O", *(f"{mark}-{kind}" for mark in marks for kind in ("PER", "LOC", "B-SIDE"))]
    for _ in range(200):
        lengths = generator.integers(1, 9, 4)
        true, found = ([generator.choice(tags, n).tolist() for n in lengths] for _ in "ab")
        for row in true:
            theirs = [(kind, start, end + 1) for kind, start, end in get_entities(row)]
            assert entities(row) == theirs
        for name in ("f1", "precision", "recall"):
            expected = getattr(seqeval, f"{name}_score")(true, found)
            assert score_of(f"seqeval_{name}", found, true) == pytest.approx(expected)


def score_of(name: str, predictions: Any, references: Any) -> float:
    """Without `evaluate`, which takes its time for every call."""
    from hf_stabilizer.scores import SCORES

    return SCORES[name].compute(predictions, references)


def test_compute_metrics_of_token_classification() -> None:
    classes = np.array([[1, 2, 0, 3, 0], [0, 3, 4, 0, 0]])
    labels = np.array([[-100, 2, 0, 3, -100], [0, 3, 3, -100, -100]])
    prediction: Any = SimpleNamespace(predictions=np.eye(5)[classes], label_ids=labels)
    names = default_metrics("token-classification")
    for kind in ("token-classification",):
        values = build_compute_metrics(names, kind, num_labels=5, label_names=TAGS)(prediction)
    # Due: PER 0-1, LOC 2-3; LOC 1-2, LOC 2-3. Found: PER 0-1, LOC 2-3; LOC 1-3.
    expected = {"seqeval_f1": 4 / 7, "seqeval_precision": 2 / 3, "seqeval_recall": 1 / 2}
    assert values == pytest.approx({**expected, "token_accuracy": 5 / 6})
    prediction.predictions = np.full((2, 5, 5), np.nan)
    assert set(build_compute_metrics(names, kind, label_names=TAGS)(prediction).values()) == {0.0}


def test_perplexity_by_hand_and_over_batches() -> None:
    torch = pytest.importorskip("torch")
    from hf_stabilizer.scores import token_losses

    torch.manual_seed(0)
    logits = torch.randn(3, 4, 7)
    labels = torch.tensor([[-100, 1, 2, 3], [-100, -100, 6, -100], [0, 0, -100, 5]])
    for shift in (True, False):
        losses = token_losses((logits, "more"), labels, shift=shift)
        expected = reference.token_cross_entropies(logits.tolist(), labels.tolist(), shift)
        torch.testing.assert_close(losses, torch.tensor(expected))
        flat = [loss for row in expected for loss in row if loss != -100]
        prediction: Any = SimpleNamespace(predictions=losses.numpy(), label_ids=labels.numpy())
        for kind in ("language-model", "causal-lm", "masked-lm"):
            values = build_compute_metrics(["perplexity"], kind)(prediction)
            assert values == pytest.approx({"perplexity": math.exp(sum(flat) / len(flat))})
    half = token_losses(logits.bfloat16(), labels, shift=False)
    assert half.dtype == torch.float32
    assert (half == -100).sum() == (labels == -100).sum()


def test_a_uniform_model_is_as_perplexed_as_its_vocabulary_is_large() -> None:
    assert score_of("perplexity", [[math.log(50)] * 3, [-100, math.log(50)]], None) == (
        pytest.approx(50)
    )
    assert score_of("perplexity", [[1.0, math.nan]], None) == math.inf
    assert score_of("perplexity", [[1e6]], None) == math.inf
    with pytest.raises(DataError, match="no token of the evaluated rows has a label"):
        score_of("perplexity", [[-100.0]], None)
    whole: Any = SimpleNamespace(predictions=np.zeros((1, 2, 3)), label_ids=np.zeros((1, 2)))
    with pytest.raises(
        ConfigurationError, match=r"got predictions of shape \(1, 2, 3\); use token_l"
    ):
        build_compute_metrics(["perplexity"], "causal-lm")(whole)


def test_entropy_of_generated_tokens_by_hand() -> None:
    torch = pytest.importorskip("torch")
    from hf_stabilizer.scores import mean_token_entropy

    steps = [
        torch.log(torch.tensor([[0.5, 0.5], [0.9, 0.1]])),
        torch.tensor([[0.0, -math.inf]] * 2),
    ]
    first, second = reference.entropy([0.5, 0.5]), reference.entropy([0.9, 0.1])
    assert mean_token_entropy(steps) == pytest.approx((first + second) / 4)
    mask = torch.tensor([[1, 0], [1, 1]])
    assert mean_token_entropy(steps, mask) == pytest.approx((first + second) / 3)
    whole = torch.stack(steps, dim=1)  # (rows, tokens, vocabulary)
    assert mean_token_entropy(whole, mask.bool()) == pytest.approx((first + second) / 3)
    with pytest.raises(DataError, match="the mask leaves no token"):
        mean_token_entropy(steps, torch.zeros(2, 2))


def test_texts_against_their_libraries_own_examples() -> None:
    # Of words, pairs, triples and fours 5/6, 3/5, 2/4 and 1/3 are right, and the length is.
    text, true = "the cat sat on a mat", "the cat sat on the mat"
    expected = 100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** (1 / 4)
    assert score("bleu", [text], [true]) == pytest.approx(expected)
    # Of the corpus, not the mean over rows: the counts of both rows are added up.
    expected = 100 * (11 / 12 * 8 / 10 * 6 / 8 * 4 / 6) ** (1 / 4)
    assert score("bleu", [text, true], [true, true]) == pytest.approx(expected)
    # README of rouge_score: precision 3/4, recall 3/5... of words.
    text, true = (
        "The quick brown dog jumps on the log.",
        "The quick brown fox jumps over the lazy dog",
    )
    # Eight words against nine, six in common; the longest common subsequence has five.
    assert score("rouge_1", [text], [true]) == pytest.approx(2 * 6 / (8 + 9))
    assert score("rouge_l", [text], [true]) == pytest.approx(2 * 5 / (8 + 9))
    assert score("rouge_2", [text], [true]) == pytest.approx(2 * 2 / (7 + 8))


def test_meteor_by_hand() -> None:
    # Equal words only: m = 3 of 4 and 3 of 3, two chunks. F = 10PR / (R + 9P).
    precision, recall = 3 / 4, 3 / 3
    mean = precision * recall / (0.9 * precision + 0.1 * recall)
    expected = mean * (1 - 0.5 * (2 / 3) ** 3)
    assert score("meteor_exact_stem", ["the big cat sat"], ["the cat sat"]) == pytest.approx(
        expected
    )
    # The stem of cats is cat; all in one chunk: 1 - 0.5 (1/3)^3.
    expected = 1 - 0.5 / 27
    assert score("meteor_exact_stem", ["The cats sat"], ["the cat sat"]) == pytest.approx(expected)
    # Synonyms are what the last stage would find, and is not there.
    assert score("meteor_exact_stem", ["car"], ["automobile"]) == 0.0
    assert score("meteor_exact_stem", [""], ["a"]) == 0.0


def test_meteor_is_called_by_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from hf_stabilizer.scores import names, texts

    monkeypatch.setattr(names, "has_synonyms", lambda: False)
    assert metric_name("METEOR") == "meteor_exact_stem"
    assert default_metrics("seq2seq") == ["bleu", "rouge_l", "meteor_exact_stem"]
    monkeypatch.setattr(names, "has_synonyms", lambda: True)
    assert metric_name("meteor") == "meteor"
    assert default_metrics("seq2seq")[-1] == "meteor"

    class Thesaurus:
        """WordNet's answers, as nltk reads them: one set of two words."""

        def synsets(self, word: str) -> list[Any]:
            lemmas = [SimpleNamespace(name=lambda: "auto")]
            return [SimpleNamespace(lemmas=lambda: lemmas)] if word == "car" else []

    monkeypatch.setattr(texts, "_wordnet", Thesaurus)
    assert texts.meteor(["car"], ["auto"], with_synonyms=True) == pytest.approx(0.5)


def test_compute_metrics_of_generation() -> None:
    from tests.tiny import tiny_tokenizer

    tokenizer = tiny_tokenizer()

    def ids(text: str, fill: int) -> list[int]:
        found = tokenizer(text)["input_ids"]
        return [*found, *[fill] * (8 - len(found))]

    pad = tokenizer.pad_token_id
    prediction: Any = SimpleNamespace(
        predictions=np.array([ids("the film was good", pad), ids("bad news", -100)]),
        label_ids=np.array([ids("the film was bad", -100), ids("bad news", -100)]),
    )
    asked = ["bleu", "rouge_1", "meteor_exact_stem", "generated_length"]
    values = build_compute_metrics(asked, "seq2seq", tokenizer=tokenizer)(prediction)
    assert list(values) == asked
    assert values["rouge_1"] == pytest.approx((3 / 4 + 1) / 2)
    assert values["generated_length"] == 3.0
    assert 0 < values["bleu"] < 100
    prediction.predictions = np.zeros((2, 8, 17), dtype=np.float32)
    with pytest.raises(ConfigurationError, match="set predict_with_generate=True"):
        build_compute_metrics(["bleu"], "generation", tokenizer=tokenizer)(prediction)


def test_refusals_at_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="'bleu' needs tokenizer="):
        build_compute_metrics(["bleu"], "seq2seq")
    with pytest.raises(ConfigurationError, match="'seqeval_f1' needs label_names"):
        build_compute_metrics(["seqeval_f1"], "token-classification")
    with pytest.raises(ConfigurationError, match="'seqeval_f1' is for tags such as O, B-PER"):
        build_compute_metrics(["seqeval_f1"], "token-classification", label_names=["O", "PER"])
    assert build_compute_metrics(["token_accuracy"], "token-classification")
    with pytest.raises(ConfigurationError, match="'accuracy' does not fit language-model; use one"):
        build_compute_metrics(["accuracy"], "causal-lm")

    from hf_stabilizer.scores import texts

    monkeypatch.setattr(texts, "find_spec", lambda package: None)
    with pytest.raises(MissingDependencyError, match=r"install 'hf_stabilizer\[generation\]'"):
        load_metric("bleu")
    with pytest.raises(MissingDependencyError, match="'rouge_l' needs the package 'rouge-score'"):
        build_compute_metrics(["rouge_l"], "seq2seq", tokenizer=object())  # type: ignore[arg-type]
    texts.has_synonyms.cache_clear()
    assert not texts.has_synonyms()
    texts.has_synonyms.cache_clear()
