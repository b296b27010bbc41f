"""The best of k runs: every choice enumerated, curves thinned by hand, validation against test."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hf_stabilizer.errors import ConfigurationError, DataError
from hf_stabilizer.records import Run
from hf_stabilizer.studies.statistics import (
    expected_best,
    expected_best_by_looks,
    expected_validation_performance,
    optimism,
    optimism_of_runs,
    steps_in_epoch,
    thinned_score,
)
from tests import reference

SCORES = [0.2, 0.9, 0.5, 0.5, 0.1]


def run(*scores, every=5, **more):
    curve = tuple((every * k, {"f1": s, "loss": 1.0}) for k, s in enumerate(scores, 1))
    return Run("plain", {}, more.pop("status", "finished"), evaluations=curve, metric="f1", **more)


@pytest.mark.parametrize("greater_is_better", [True, False])
def test_without_replacement_it_is_the_mean_over_every_set(greater_is_better):
    found = expected_validation_performance(
        SCORES, greater_is_better=greater_is_better, estimator="unbiased"
    )
    wanted = [
        reference.expected_best_without_replacement(SCORES, k, greater_is_better)
        for k in range(1, 6)
    ]
    assert found == pytest.approx(wanted)


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_both_begin_at_the_mean_and_many_runs_stay_finite(estimator):
    scores = np.random.default_rng(0).normal(size=700).tolist()
    found = expected_validation_performance(scores, estimator=estimator)
    assert found[0] == pytest.approx(np.mean(scores))
    assert np.isfinite(found).all()
    assert (np.diff(found) > -1e-12).all()


def test_the_unbiased_one_is_right_on_average_and_the_papers_is_low():
    # The best of 5 uniform numbers is 5/6 on average; 6 are drawn each time.
    drawn = np.random.default_rng(1).random((3000, 6))
    both = {
        name: np.mean([expected_validation_performance(x, estimator=name)[4] for x in drawn])
        for name in ("unbiased", "biased")
    }
    assert both["unbiased"] == pytest.approx(5 / 6, abs=0.008)
    assert both["biased"] < 5 / 6 - 0.03


def test_the_spread_is_that_of_the_best_over_all_draws():
    found = expected_best(SCORES, estimator="biased")
    squares = reference.expected_best([s * s for s in SCORES], 2)
    assert found.std[1] == pytest.approx(math.sqrt(squares - found.expected[1] ** 2))
    assert expected_best([0.7] * 4).std == (0.0,) * 4


def test_the_interval_of_the_first_is_the_percentile_bootstrap_of_the_mean():
    found = expected_best(SCORES, seed=3)
    means = np.random.default_rng(9).choice(SCORES, size=(100_000, 5)).mean(axis=1)
    assert found.intervals[0] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.02)
    assert all(i.low <= x <= i.high for i, x in zip(found.intervals, found.expected, strict=True))


def test_few_runs_have_an_expectation_and_no_interval():
    assert expected_best([]).expected == ()
    assert expected_best([0.4, 0.6]).intervals == (None, None)
    assert expected_best([0.5]).expected == (0.5,)


def test_what_is_no_number_is_refused():
    with pytest.raises(DataError, match="must be finite numbers, got nan at place 1"):
        expected_validation_performance([0.5, math.nan])
    with pytest.raises(ConfigurationError, match="estimator must be one of biased, unbiased"):
        expected_validation_performance([0.5], estimator="unbaised")


# --- looks


def test_curves_are_thinned_to_the_last_of_each_epoch_and_of_the_run():
    one = run(0.1, 0.9, 0.3, 0.5, 0.8, 0.4)  # steps 5..30, epochs of 10
    assert thinned_score(one) == 0.9
    assert thinned_score(one, "epoch", steps_per_epoch=10) == 0.9  # .9, .5, .4
    assert thinned_score(one, "epoch", steps_per_epoch=15) == 0.4  # .3, .4
    assert thinned_score(one, "run") == 0.4


def test_a_ragged_epoch_counts_as_one_and_smaller_may_be_better():
    one = run(0.5, 0.2, 0.4, greater_is_better=False)
    assert thinned_score(one, "epoch", steps_per_epoch=12.5) == 0.2  # steps 10 and 15
    assert thinned_score(one, "run") == 0.4


def test_an_evaluation_that_is_no_number_was_never_made():
    assert thinned_score(run(0.5, math.nan), "run") == 0.5
    assert thinned_score(run(math.nan)) is None
    assert thinned_score(run()) is None


def test_steps_per_epoch_come_from_the_runs_or_are_asked_for():
    known = run(0.5, steps=30, configuration={"num_train_epochs": 3})
    assert steps_in_epoch([run(0.5), known]) == 10
    assert steps_in_epoch([run(0.5, steps=30, configuration={"max_steps": 30})]) is None
    with pytest.raises(ConfigurationError, match="steps_per_epoch must be a positive number"):
        thinned_score(known, "epoch")


def test_more_looks_are_never_worse_and_the_same_runs_are_behind_each_curve():
    draw = np.random.default_rng(0)
    runs = [run(*draw.random(6), steps=30) for _ in range(8)]
    runs += [run(status="failed"), run(0.99, status="stopped")]
    found = expected_best_by_looks(runs, steps_per_epoch=10)
    assert [best.runs for best in found.values()] == [8, 8, 8]
    assert {best.left_out for best in found.values()} == {2}
    for k in range(8):
        assert found["all"].expected[k] >= found["epoch"].expected[k] >= found["run"].expected[k]
    assert list(expected_best_by_looks(runs)) == ["all", "run"]  # no epochs are known


# --- optimism


@pytest.mark.parametrize("greater_is_better", [True, False])
def test_the_chosen_run_is_that_of_every_set_enumerated(greater_is_better):
    validation, test = [0.7, 0.9, 0.8, 0.9, 0.6], [0.6, 0.8, 0.7, 0.5, 0.9]  # two tie
    found = optimism(validation, test, greater_is_better=greater_is_better)
    sign = 1 if greater_is_better else -1
    for k in range(1, 6):
        seen, new = reference.chosen_by_validation(validation, test, k, greater_is_better)
        assert (found.validation[k - 1], found.test[k - 1]) == pytest.approx((seen, new))
        wanted = sign * ((seen - np.mean(validation)) - (new - np.mean(test)))
        assert found.optimism[k - 1] == pytest.approx(wanted)


def test_scores_that_agree_are_not_too_good_and_noise_is_all_too_good():
    scores = np.random.default_rng(2).normal(size=12)
    assert optimism(scores, scores - 0.1).optimism == pytest.approx([0.0] * 12)
    found = optimism(scores, [0.5] * 12)
    assert found.optimism[-1] == pytest.approx(scores.max() - scores.mean())
    assert found.intervals[5].low > 0
    assert found.within_run == pytest.approx(scores.mean() - 0.5)


def test_runs_without_a_test_score_are_left_out_and_counted():
    runs = [run(best_score=s, test_score=t) for s, t in ((0.8, 0.7), (0.9, None), (None, 0.4))]
    runs.append(run(best_score=0.9, test_score=0.9, status="stopped"))
    found = optimism_of_runs(runs)
    assert (found.runs, found.left_out, found.optimism, found.intervals) == (1, 3, (0.0,), (None,))
    assert optimism_of_runs([run(best_score=0.5)]) is None
    with pytest.raises(DataError, match="validation and test must be equally long, got 2 and 1"):
        optimism([0.5, 0.6], [0.5])
