"""The curves against published rates, by hand, and against the oracle."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from hf_stabilizer import (
    ConfigurationError,
    cosine_rates,
    grouped_rates,
    layerwise_decay,
    scale_learning_rate,
)
from tests import reference


def rates(curve, num_layers):
    return [curve(depth, num_layers) for depth in range(num_layers + 1)]


def test_commonlit_llrd_to_the_last_digit():
    curve = layerwise_decay(0.9)
    published = {12: "3.500e-06", 11: "3.150e-06", 1: "1.098e-06", 0: "9.885e-07"}
    assert {k: f"{3.5e-6 * curve(k, 12):.3e}" for k in published} == published


def test_commonlit_groups_to_the_last_digit():
    curve = grouped_rates([1e-6 / 3.5e-6, 1.75e-6 / 3.5e-6, 1.0])
    computed = [f"{3.5e-6 * rate:.2e}" for rate in rates(curve, 12)]
    assert computed == ["1.00e-06"] * 5 + ["1.75e-06"] * 4 + ["3.50e-06"] * 4


def test_ulmfit_divides_by_2_6_per_layer():
    curve = layerwise_decay(1 / 2.6)
    assert [f"{0.01 * rate:.6f}" for rate in rates(curve, 3)] == [
        "0.000569",
        "0.001479",
        "0.003846",
        "0.010000",
    ]


@pytest.mark.parametrize(
    ("num_layers", "sizes"),
    [(12, [4, 4, 4]), (14, [4, 5, 5]), (13, [4, 4, 5]), (3, [1, 1, 1]), (24, [8, 8, 8])],
)
def test_groups_are_even_and_the_remainder_goes_up(num_layers, sizes):
    multipliers = [0.25, 0.5, 1.0]
    expected = [m for m, size in zip(multipliers, sizes, strict=True) for _ in range(size)]
    assert rates(grouped_rates(multipliers), num_layers) == [0.25, *expected]


def test_groups_need_not_end_at_one():
    assert rates(grouped_rates([2.0, 0.5]), 2) == [2.0, 2.0, 0.5]


def test_cosine_by_hand():
    # (1 - cos(pi k / 4)) / 2 for k = 0..4 is 0, .1464466, .5, .8535534, 1.
    assert rates(cosine_rates(0.0), 4) == pytest.approx([0, 0.1464466, 0.5, 0.8535534, 1])
    assert rates(cosine_rates(0.2), 2) == pytest.approx([0.2, 0.6, 1.0])


@pytest.mark.parametrize("num_layers", [1, 2, 5, 12, 47])
def test_curves_equal_the_oracle(num_layers):
    depths = range(num_layers + 1)
    for decay in (0.05, 0.8, 1 / 2.6, 1.0):
        expected = [reference.layerwise_multiplier(k, num_layers, decay) for k in depths]
        assert rates(layerwise_decay(decay), num_layers) == pytest.approx(expected, rel=1e-12)
    for lowest in (0.0, 0.1, 1.0):
        expected = [reference.cosine_multiplier(k, num_layers, lowest) for k in depths]
        assert rates(cosine_rates(lowest), num_layers) == pytest.approx(expected, rel=1e-12)
    for count in range(1, num_layers + 1):
        multipliers = [float(i + 1) for i in range(count)]
        expected = [reference.grouped_multiplier(k, num_layers, multipliers) for k in depths]
        assert rates(grouped_rates(multipliers), num_layers) == expected


@pytest.mark.parametrize("curve", [layerwise_decay(1.0), grouped_rates([1.0]), cosine_rates(1.0)])
def test_the_neutral_curves_are_exactly_one(curve):
    assert all(rate == 1.0 for n in (1, 3, 12, 100) for rate in rates(curve, n))


@pytest.mark.parametrize("curve", [layerwise_decay(0.7), cosine_rates(0.3)])
def test_the_top_block_has_exactly_the_arguments_rate(curve):
    assert all(curve(n, n) == 1.0 for n in range(1, 100))


@pytest.mark.parametrize(
    "curve", [layerwise_decay(0.7), grouped_rates([0.5, 1]), cosine_rates(0.3)]
)
def test_curves_travel_to_worker_processes(curve):
    for other in (copy.deepcopy(curve), pickle.loads(pickle.dumps(curve))):
        assert rates(other, 5) == rates(curve, 5)


def test_numbers_of_numpy_become_plain_floats():
    curves = (
        layerwise_decay(np.float32(0.5)),
        grouped_rates(np.array([0.5, 1.0])),
        cosine_rates(np.float64(0.5)),
    )
    assert {type(curve(1, 2)) for curve in curves} == {float}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layerwise_decay(1.2), r"^decay must be in \(0, 1\], got 1.2; use 1.0 for equal"),
        (lambda: layerwise_decay(0), r"decay must be in \(0, 1\], got 0.0"),
        (lambda: layerwise_decay(float("nan")), "decay must be a finite number, got nan"),
        (lambda: layerwise_decay("0.9"), "decay must be a finite number, got '0.9'"),
        (lambda: layerwise_decay(True), "decay must be a finite number, got True"),
        (lambda: grouped_rates([]), r"multipliers must be a list .* got \[\]"),
        (lambda: grouped_rates(0.5), "multipliers must be a list .* got 0.5"),
        (lambda: grouped_rates("0.5"), "multipliers must be a list .* got '0.5'"),
        (lambda: grouped_rates([1.0, "x"]), "multipliers must be a finite number, got 'x'"),
        (lambda: grouped_rates([0.0, 1.0]), "multipliers must be above 0, got 0.0"),
        (lambda: cosine_rates(-0.1), r"lowest must be in \[0, 1\], got -0.1"),
        (lambda: cosine_rates(None), "lowest must be a finite number, got None"),
        (lambda: layerwise_decay(0.9)(13, 12), r"depth must be in 0..12, got 13; the head"),
        (lambda: cosine_rates(0.9)(-1, 12), r"depth must be in 0..12, got -1"),
        (lambda: cosine_rates(0.9)(0, 0), "num_layers must be at least 1, got 0"),
        (
            lambda: grouped_rates([0.1, 0.5, 1.0])(0, 2),
            "3 multipliers need at least as many blocks, and the model has 2; give at most 2",
        ),
    ],
)
def test_values_out_of_range_are_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_scaling_by_hand():
    # Osmulski: 1e-4 at 256 rows, trained with 45.
    assert scale_learning_rate(1e-4, batch_size=45, base_batch_size=256) == 1e-4 * (45 / 256)
    assert scale_learning_rate(
        2e-5, batch_size=4, base_batch_size=16, rule="sqrt"
    ) == pytest.approx(1e-5)


@pytest.mark.parametrize("rule", ["linear", "sqrt"])
def test_equal_batch_sizes_change_nothing(rule):
    for rows in range(1, 200):
        rate = scale_learning_rate(3.3e-5, batch_size=rows, base_batch_size=rows, rule=rule)
        assert rate == 3.3e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1 up, got 0"),
        ({"batch_size": 1.5}, "batch_size must be a whole number from 1 up, got 1.5"),
        ({"base_batch_size": -8}, "base_batch_size must be a whole number from 1 up, got -8"),
        ({"rule": "cubic"}, "rule must be 'linear' or 'sqrt', got 'cubic'"),
    ],
)
def test_scaling_refuses(options, message):
    values = {"learning_rate": 1e-4, "batch_size": 8, "base_batch_size": 8, **options}
    with pytest.raises(ConfigurationError, match=message):
        scale_learning_rate(values.pop("learning_rate"), **values)
