"""The fits against values worked out on paper, and against the slow optimum of the oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hf_stabilizer.linear_fit import FOLDS, PROBLEMS, Task, assign_folds, fit_layer
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
