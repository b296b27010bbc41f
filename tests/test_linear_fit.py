"""The fits against values worked out on paper, and against the slow optimum of the oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier

from hf_stabilizer.linear_fit import FOLDS, assign_folds, cross_validate_l2, fit_layer
from hf_stabilizer.linear_problems import PROBLEMS, Task
from tests import reference

ROWS, FEATURES = 40, 5


def example(problem, outputs, seed=0):
    """Noisy rows of a true layer, so that the optimum is finite and not at zero."""
    random = np.random.default_rng(seed)
    shape = (ROWS, 3, FEATURES) if problem == "multiple_choice" else (ROWS, FEATURES)
    inputs = random.normal(1.0, 1.0, shape)
    scores = 2 * inputs @ random.normal(size=(FEATURES, outputs)) + random.normal(size=outputs)
    noisy = scores + random.gumbel(size=scores.shape)
    targets = {
        "single_label_classification": lambda: noisy.argmax(axis=-1),
        "multiple_choice": lambda: noisy[..., 0].argmax(axis=-1),
        "multi_label_classification": lambda: (noisy > noisy.mean()).astype(float),
        "regression": lambda: noisy,
    }[problem]()
    return inputs, targets


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize(
    ("problem", "outputs"),
    [
        ("single_label_classification", 2),
        ("single_label_classification", 3),
        ("multi_label_classification", 3),
        ("regression", 1),
        ("regression", 2),
        ("multiple_choice", 1),
    ],
)
@pytest.mark.parametrize("l2", [0.01, 0.5])
def test_equals_the_slow_optimum_of_the_stated_objective(problem, outputs, has_bias, l2):
    inputs, targets = example(problem, outputs)
    layer, used = fit_layer(problem, inputs, targets, l2, Task(outputs, has_bias))
    weight, bias = reference.linear_optimum(problem, inputs, targets, l2, outputs, has_bias)
    assert used == l2
    np.testing.assert_allclose(layer.weight, weight, atol=1e-5)
    if problem == "single_label_classification":  # only differences of its biases mean anything
        np.testing.assert_allclose(layer.bias - layer.bias[0], bias - bias[0], atol=1e-5)
    else:
        np.testing.assert_allclose(layer.bias, bias, atol=1e-5)
    assert has_bias or not layer.bias.any()


def test_ridge_by_hand():
    """x = -1, 1 and y = 1, 5: slope = mean(x (y - 3)) / (mean(x^2) + l2) = 2 / (1 + 1)."""
    layer, _ = fit_layer(
        "regression", np.array([[-1.0], [1.0]]), np.array([[1.0], [5.0]]), 1.0, Task(1, True)
    )
    np.testing.assert_allclose(layer.weight, [[1.0]])
    np.testing.assert_allclose(layer.bias, [3.0])


def test_two_classes_by_hand():
    """x = -1, 1 of classes 0, 1, rows -w/2 and w/2: log(1 + e^-w) + l2 w^2 / 4 is least where
    sigmoid(-w) = l2 w / 2, so l2 = 2 sigmoid(-1) gives w = 1."""
    l2 = 2 / (1 + math.e)
    layer, _ = fit_layer(
        "single_label_classification",
        np.array([[-1.0], [1.0]]),
        np.array([0, 1]),
        l2,
        Task(2, True),
    )
    np.testing.assert_allclose(layer.weight, [[-0.5], [0.5]], atol=1e-7)
    np.testing.assert_allclose(layer.bias, [0.0, 0.0], atol=1e-7)


def test_two_choices_by_hand():
    """Choices x = 0 and 1, the second right: log(1 + e^-w) + l2 w^2 / 2 is least where
    sigmoid(-w) = l2 w, so l2 = sigmoid(-1) gives w = 1."""
    inputs, targets = np.array([[[0.0], [1.0]], [[5.0], [6.0]]]), np.array([1, 1])
    layer, _ = fit_layer("multiple_choice", inputs, targets, 1 / (1 + math.e), Task(1, True))
    np.testing.assert_allclose(layer.weight, [[1.0]], atol=1e-7)
    assert layer.bias.item() == 0.0


def test_two_labels_by_hand():
    """x = -1, 1; label 0 is 0, 1 and label 1 never there. The mean is over two labels, so for
    label 0 sigmoid(-w) / 2 = l2 w, and l2 = sigmoid(-1) / 2 gives w = 1."""
    inputs, targets = np.array([[-1.0], [1.0]]), np.array([[0.0, 0.0], [1.0, 0.0]])
    l2 = 0.5 / (1 + math.e)
    layer, _ = fit_layer("multi_label_classification", inputs, targets, l2, Task(2, True))
    np.testing.assert_allclose(layer.weight, [[1.0], [0.0]], atol=1e-7)
    np.testing.assert_allclose(layer.bias, [0.0, math.log(0.5 / 2.5)], atol=1e-7)


@pytest.mark.parametrize("features", [FEATURES, 3 * ROWS], ids=["many rows", "many features"])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_agrees_with_scikit_learn(features, offset):
    random = np.random.default_rng(3)
    inputs = random.normal(size=(ROWS, features)) + offset
    scores = (inputs - offset) @ random.normal(size=(features, 3))
    classes = (scores + random.gumbel(size=scores.shape)).argmax(axis=1)
    flags, l2 = (scores > 0).astype(float), 0.05
    options = {"tol": 1e-10, "max_iter": 100_000}

    softmax = LogisticRegression(C=1 / (l2 * ROWS), **options).fit(inputs - offset, classes)
    layer, _ = fit_layer("single_label_classification", inputs, classes, l2, Task(3, True))
    np.testing.assert_allclose(layer.weight, softmax.coef_, atol=1e-6)

    # The mean over three labels leaves each a third of its loss.
    one = LogisticRegression(C=1 / (3 * l2 * ROWS), **options)
    several = OneVsRestClassifier(one).fit(inputs - offset, flags)
    layer, _ = fit_layer("multi_label_classification", inputs, flags, l2, Task(3, True))
    theirs = np.vstack([each.coef_ for each in several.estimators_])
    np.testing.assert_allclose(layer.weight, theirs, atol=1e-6)

    ridge = Ridge(alpha=3 * l2 * ROWS).fit(inputs, scores)
    layer, _ = fit_layer("regression", inputs, scores, l2, Task(3, True))
    np.testing.assert_allclose(layer.weight, ridge.coef_, atol=1e-7)
    np.testing.assert_allclose(layer.bias, ridge.intercept_, atol=1e-4)


@pytest.mark.parametrize("present", [(0, 1, 3), (1, 4)])
def test_a_class_that_does_not_occur_is_never_the_first_choice(present):
    inputs, targets = example("single_label_classification", len(present))
    targets = np.array(present)[targets]
    layer, _ = fit_layer("single_label_classification", inputs, targets, 0.1, Task(5, True))
    absent = [k for k in range(5) if k not in present]
    assert not layer.weight[absent].any()
    assert np.isfinite(layer.bias).all()
    anywhere = np.random.default_rng(1).normal(scale=50, size=(1000, FEATURES))
    assert set(layer(anywhere).argmax(axis=1)) <= set(present)


def test_a_label_that_never_varies_gets_its_smoothed_log_odds():
    inputs, targets = example("multi_label_classification", 3)
    targets[:, 1] = 0.0
    layer, _ = fit_layer("multi_label_classification", inputs, targets, 0.1, Task(3, True))
    assert not layer.weight[1].any()
    assert layer.bias[1] == pytest.approx(math.log(0.5 / (ROWS + 0.5)))


def test_folds_spread_each_class_evenly_and_need_no_seed():
    targets = np.array([0] * 20 + [1] * 7 + [2])
    folds = assign_folds(targets)
    for label in (0, 1, 2):
        counts = np.bincount(folds[targets == label], minlength=FOLDS)
        assert counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(folds, assign_folds(targets))


@pytest.mark.parametrize("problem", sorted(PROBLEMS))
def test_cross_validation_shrinks_noise_and_keeps_what_is_there(problem):
    outputs = {"single_label_classification": 3, "multi_label_classification": 2}.get(problem, 1)
    inputs, targets = example(problem, outputs)
    task = Task(outputs, True)
    noise = np.random.default_rng(2).normal(size=inputs.shape)
    layer, l2 = fit_layer(problem, inputs, targets, None, task)
    _, l2_of_noise = fit_layer(problem, noise, targets, None, task)
    assert l2_of_noise > 2 * l2
    again, l2_again = fit_layer(problem, inputs, targets, None, task)
    assert l2_again == l2
    np.testing.assert_array_equal(layer.weight, again.weight)


def test_cross_validation_copes_with_classes_rarer_than_folds_and_dead_inputs():
    inputs, _ = example("single_label_classification", 3)
    targets = np.array([0] * (ROWS - 3) + [1, 1, 2])
    layer, _ = fit_layer("single_label_classification", inputs, targets, None, Task(3, True))
    assert np.isfinite(layer.weight).all()
    two = fit_layer(
        "single_label_classification", inputs[:2], np.array([0, 1]), None, Task(2, True)
    )
    assert np.isfinite(two[0].weight).all()
    dead, _ = fit_layer(
        "single_label_classification", np.ones_like(inputs), targets, None, Task(3, True)
    )
    np.testing.assert_allclose(dead.weight, 0.0, atol=1e-6)


def test_groups_stay_whole_and_spread_their_rarest_class():
    targets = np.tile([0, 0, 0, 1], 25)  # twenty-five texts of four tokens
    targets[[3, 7, 11, 15, 19]] = 2  # five of them hold the rarest class
    groups = np.repeat(np.arange(25)[::-1], 4)
    folds = assign_folds(targets, groups)
    for group in range(25):
        assert len(set(folds[groups == group])) == 1
    assert sorted(folds[targets == 2]) == [0, 1, 2, 3, 4]
    assert np.bincount(folds).tolist() == [20] * FOLDS


def test_groups_of_numbers_are_dealt_by_their_mean():
    targets = np.array([[5.0], [5.0], [1.0], [1.0], [3.0], [3.0]])
    folds = assign_folds(targets, np.array([4, 4, 9, 9, 2, 2]))
    assert folds.tolist() == [2, 2, 0, 0, 1, 1]


def test_what_is_kept_whole_cannot_be_learnt_by_heart():
    """Ten texts of eight equal tokens with a tag at random: only another text's tags can tell."""
    random = np.random.default_rng(4)
    groups = np.repeat(np.arange(10), 8)
    inputs = random.normal(size=(10, 20))[groups] + random.normal(scale=0.01, size=(80, 20))
    targets, task = (np.arange(10) % 2)[groups], Task(2, True)
    problem = "single_label_classification"
    _, by_token = fit_layer(problem, inputs, targets, None, task)
    _, by_text = fit_layer(problem, inputs, targets, None, task, groups=groups)
    assert by_text > 100 * by_token


@pytest.mark.parametrize("problem", sorted(PROBLEMS))
def test_held_out_outputs_are_those_of_a_layer_that_did_not_see_the_row(problem):
    outputs = {"single_label_classification": 3, "multi_label_classification": 2}.get(problem, 1)
    inputs, targets = example(problem, outputs)
    task, folds = Task(outputs, True), assign_folds(targets)
    found = cross_validate_l2(problem, inputs, targets, task, folds)
    for fold in range(FOLDS):
        out = folds == fold
        layer, _ = fit_layer(problem, inputs[~out], targets[~out], found.l2, task)
        theirs = layer(inputs[out])
        if problem in ("single_label_classification", "multiple_choice"):
            # Of a softmax only differences mean anything.
            axis = 1
            theirs = theirs - theirs.mean(axis=axis, keepdims=True)
            ours = found.outputs[out] - found.outputs[out].mean(axis=axis, keepdims=True)
        else:
            ours = found.outputs[out]
        np.testing.assert_allclose(ours, theirs, atol=0.02 * np.abs(theirs).max())
