"""Every formula by hand, against the oracle, against scipy, and against published numbers."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from hf_stabilizer.errors import StudyError
from hf_stabilizer.records import Run
from hf_stabilizer.studies.comparison import compare, comparisons
from hf_stabilizer.studies.early_stopping.choosing import Ranked
from hf_stabilizer.studies.page.facts import facts_of
from hf_stabilizer.studies.statistics import (
    Interval,
    bootstrap_interval,
    expected_validation_performance,
    holm,
    pairs_needed,
    sample_std,
    sign_flip_interval,
    sign_flip_p_value,
    smallest_p_value,
    spread_p_value,
    summary_rows,
    wilson_interval,
)
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.verdict import verdict
from tests import reference

# Darwin's maize, crossed minus self-fertilised, in eighths of an inch (Fisher 1935, section 17).
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


def run(recipe="plain", seed=1, score=0.5, status="finished", **more):
    seeds = {"head_seed": seed, "data_seed": seed, "seed": seed}
    return Run(recipe, seeds, status, best_score=score, metric="f1", **more)


def scores_of(n, *, seed=0):
    return np.random.default_rng(seed).normal(0.7, 0.1, size=n).tolist()


# --- single recipes


def test_the_sample_std_divides_by_one_less():
    assert sample_std([0.0, 0.0, 3.0]) == pytest.approx(math.sqrt(3))
    assert sample_std(scores_of(9)) == pytest.approx(reference.sample_std(scores_of(9)))
    assert sample_std([0.4]) is None


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals_are_those_of_newcombe_1998_table_1(count, total, low, high):
    assert wilson_interval(count, total) == pytest.approx((low, high), abs=6e-5)


@pytest.mark.parametrize(("count", "total"), [(0, 6), (2, 6), (6, 6), (17, 50)])
def test_wilson_intervals_equal_the_oracle_and_scipy(count, total):
    ours = wilson_interval(count, total)
    theirs = stats.binomtest(count, total).proportion_ci(method="wilson")
    assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert ours == pytest.approx(reference.wilson_interval(count, total), abs=1e-9)


def test_without_runs_any_share_may_fail():
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_the_bootstrap_interval_is_the_oracles_on_many_resamples():
    scores = scores_of(12, seed=3)
    drawn = np.random.default_rng(5).choice(scores, size=(200_000, len(scores))).mean(axis=1)
    wanted = reference.bca_interval(scores, drawn)
    assert bootstrap_interval(scores) == pytest.approx(wanted, abs=0.003)


def test_the_bootstrap_interval_is_the_same_each_time_and_in_any_order():
    scores = scores_of(7)
    assert bootstrap_interval(scores) == bootstrap_interval(scores[::-1])


@pytest.mark.parametrize("scores", [[], [0.5], [0.5, 0.6]])
def test_fewer_than_three_scores_bound_no_mean(scores):
    assert bootstrap_interval(scores) is None


def test_equal_scores_give_a_point():
    assert bootstrap_interval([0.5] * 4) == Interval(0.5, 0.5)


@pytest.mark.parametrize("greater_is_better", [True, False])
def test_expected_performance_is_the_mean_over_all_draws(greater_is_better):
    scores = [0.2, 0.9, 0.5, 0.5]
    found = expected_validation_performance(scores, greater_is_better=greater_is_better)
    wanted = [reference.expected_best(scores, k, greater_is_better) for k in range(1, 5)]
    assert found == pytest.approx(wanted)
    assert expected_validation_performance([]) == []


# --- pairs


def test_darwins_maize_gives_fishers_1726_of_32768():
    # Fisher 1935, section 21: 863 of 32,768 sums reach 314 on one side.
    assert sign_flip_p_value(DARWIN) == 1726 / 32768


@pytest.mark.parametrize("n", range(2, 11))
def test_exact_p_values_equal_the_oracle_and_scipy(n):
    differences = (np.random.default_rng(n).normal(0.3, 1, size=n)).tolist()
    ours = sign_flip_p_value(differences)
    assert ours == pytest.approx(reference.sign_flip_p_value(differences))
    theirs = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert ours == pytest.approx(theirs.pvalue)


@pytest.mark.parametrize(
    "differences", [[0.1, 0.1, -0.2], [0.0, 0.0], [0.3, -0.1, -0.1, -0.1], [0.1, 0.0, 0.2]]
)
def test_ties_that_rounding_hides_are_ties(differences):
    assert sign_flip_p_value(differences) == reference.sign_flip_p_value(differences)


def test_direction_does_not_change_a_p_value():
    assert sign_flip_p_value(DARWIN) == sign_flip_p_value([-d for d in DARWIN])


def test_five_pairs_cannot_reach_the_level_and_six_can():
    assert sign_flip_p_value([1.0] * 5) == smallest_p_value(5) == 0.0625
    assert sign_flip_p_value([1.0] * 6) == smallest_p_value(6) == 0.03125
    assert [pairs_needed(comparisons=m) for m in (1, 2, 3, 4, 10)] == [6, 7, 7, 8, 9]
    assert sign_flip_p_value([]) is None


def test_the_interval_of_six_pairs_reaches_from_the_smallest_to_the_largest():
    assert sign_flip_interval([0.3, 0.1, 0.6, 0.2, 0.5, 0.4]) == (0.1, 0.6)
    assert sign_flip_interval([1.0] * 5) is None


@pytest.mark.parametrize("n", [6, 8, 11])
def test_the_interval_holds_the_means_that_the_test_does_not_reject(n):
    differences = np.random.default_rng(n).normal(0.3, 1, size=n).tolist()
    low, high = sign_flip_interval(differences)
    hair = 1e-6
    for inside in (low + hair, high - hair, (low + high) / 2):
        assert reference.sign_flip_p_value(differences, inside) > 0.05
    for outside in (low - hair, high + hair):
        assert reference.sign_flip_p_value(differences, outside) <= 0.05


def test_drawn_signs_come_close_to_all_signs(monkeypatch):
    exact = sign_flip_p_value(DARWIN), sign_flip_interval(DARWIN)
    monkeypatch.setattr("hf_stabilizer.studies.statistics.pairs.EXACT_UP_TO", 10)
    assert sign_flip_p_value(DARWIN) == pytest.approx(exact[0], abs=0.006)
    assert sign_flip_interval(DARWIN) == pytest.approx(exact[1], abs=0.6)
    assert sign_flip_p_value(DARWIN) == sign_flip_p_value(DARWIN)


def test_many_clear_pairs_reach_the_smallest_p_that_a_sample_can_tell():
    assert sign_flip_p_value([0.1 + k / 1000 for k in range(100)]) == pytest.approx(2 / 20_000)


@pytest.mark.parametrize("n", [2, 5, 6, 9])
def test_spreads_are_compared_as_the_oracle_does(n):
    plain, other = scores_of(n, seed=n), [0.8 + 0.01 * x for x in scores_of(n, seed=n + 1)]
    wanted = reference.spread_p_value(plain, other)
    assert spread_p_value(plain, other) == pytest.approx(wanted)
    assert spread_p_value(other, plain) == pytest.approx(wanted)


def test_a_shift_is_no_change_of_spread():
    plain = scores_of(8)
    assert spread_p_value(plain, [x + 0.3 for x in plain]) > 0.2
    assert spread_p_value([0.5], [0.7]) is None


def test_single_collapsed_runs_do_not_pass_for_a_difference_in_spread():
    draw, studies, n = np.random.default_rng(0), 400, 8
    ours = classic = 0
    for _ in range(studies):
        a, b = draw.normal(size=(2, n)) - 8 * (draw.random((2, n)) < 0.15)
        ours += spread_p_value(a.tolist(), b.tolist()) <= 0.05
        r = np.corrcoef(a + b, a - b)[0, 1]  # the Pitman-Morgan test
        classic += 2 * stats.t.sf(abs(r) * math.sqrt((n - 2) / (1 - r * r)), n - 2) <= 0.05
    assert ours / studies < 0.09
    assert classic / studies > 0.25


def test_holm_gives_the_textbook_values():
    # R 4: p.adjust(c(.01, .02, .03, .04, .05), "holm")
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    drawn = np.random.default_rng(0).random(7).tolist()
    assert holm(drawn) == pytest.approx(reference.holm(drawn))


# --- runs


def test_a_collapsed_run_keeps_its_score_and_a_run_without_one_is_counted():
    runs = [
        run(seed=1, score=0.8, seconds=10),
        run(seed=2, score=0.2, status="failed", seconds=10),
        run(seed=3, score=None, status="failed", seconds=1),
        run(seed=4, score=math.nan, status="failed", seconds=3),
    ]
    (row,) = summary_rows(runs, ["plain"])
    assert (row.runs, row.scored, row.failed, row.failed_rate) == (4, 2, 3, 0.75)
    assert (row.mean, row.median, row.worst, row.best) == (0.5, 0.5, 0.2, 0.8)
    assert row.std == pytest.approx(math.sqrt(0.18))
    assert row.failed_interval == wilson_interval(3, 4)
    assert row.seconds == 6.0


def test_a_run_stopped_early_has_no_final_score():
    (row,) = summary_rows([run(seed=1), run(seed=2, score=0.9, status="stopped")], ["plain"])
    assert (row.mean, row.scored, row.stopped, row.failed) == (0.5, 1, 1, 0)


def test_the_worst_rmse_is_the_largest():
    runs = [run(seed=s, score=x, greater_is_better=False) for s, x in enumerate((0.6, 0.4, 0.5))]
    (row,) = summary_rows(runs, ["plain"])
    assert (row.worst, row.best, row.median) == (0.6, 0.4, 0.5)


def test_the_test_score_counts_where_there_is_one():
    (row,) = summary_rows([run(score=0.9, test_score=0.7)], ["plain"])
    assert row.mean == 0.7


def test_a_recipe_without_runs_has_a_row():
    (row,) = summary_rows([], ["plain"])
    assert (row.runs, row.mean, row.interval, row.failed_interval) == (0, None, None, (0, 1))


def test_pairs_meet_by_seeds_and_incomplete_ones_are_counted():
    runs = [run("plain", s, 0.5) for s in (1, 2, 3, 4)]
    runs += [run("swa", s, 0.6) for s in (3, 2)]
    runs += [run("swa", 1, None, "failed"), run("swa", 9, 0.1)]
    found = compare(runs, "plain", "swa")
    assert [dict(pair.seeds)["seed"] for pair in found.pairs] == [2, 3]
    assert found.mean_difference == pytest.approx(0.1)
    assert found.dropped == 3  # seeds 1 (failed), 4 (never made) and 9 (no baseline)
    assert (found.superiority, found.interval, found.p_value) == (1.0, None, 0.5)


def test_ties_are_half_a_win_and_gain_follows_the_direction():
    better = [run("plain", s, 0.5, greater_is_better=False) for s in (1, 2)]
    better += [run("swa", s, x, greater_is_better=False) for s, x in ((1, 0.5), (2, 0.3))]
    found = compare(better, "plain", "swa")
    assert found.superiority == 0.75
    assert found.mean_difference == pytest.approx(-0.1)
    assert found.gain == pytest.approx(0.1)


def test_several_recipes_are_corrected_together():
    runs = [run("plain", s, 0.5 + s / 100) for s in range(8)]
    runs += [run("swa", s, 0.7 + s / 50) for s in range(8)]
    runs += [run("ema", s, 0.5 + (s * s % 7) / 100) for s in range(8)]
    alone = [compare(runs, "plain", name) for name in ("swa", "ema")]
    both = comparisons(runs, ["plain", "swa", "ema"])
    assert [c.p_value for c in both] == pytest.approx(reference.holm([c.p_value for c in alone]))
    assert [c.spread_p for c in both] == pytest.approx(reference.holm([c.spread_p for c in alone]))
    assert [c.smallest_p for c in both] == [2 * smallest_p_value(8)] * 2


def test_a_run_that_failed_before_its_metric_was_known_does_not_turn_the_direction():
    runs = [run("plain", s, 0.6, greater_is_better=False) for s in (1, 2)]
    runs += [run("swa", s, 0.5, greater_is_better=False) for s in (1, 2)]
    runs += [Run("swa", {"head_seed": 3, "data_seed": 3, "seed": 3}, "failed")]
    assert compare(runs, "plain", "swa").gain == pytest.approx(0.1)
    assert summary_rows(runs, ["swa"])[0].best == 0.5


def test_two_runs_with_the_same_seeds_cannot_be_paired():
    with pytest.raises(StudyError, match="recipe 'plain' has two runs with the seeds"):
        compare([run(), run()], "plain", "swa")


def test_no_pair_is_no_error():
    found = compare([run("plain", 1), run("swa", 2, None, "failed")], "plain", "swa")
    assert (found.pairs, found.mean_difference, found.gain, found.p_value) == ((), None, None, None)


def test_statistics_and_report_import_no_torch():
    code = (
        "import sys, hf_stabilizer.studies.page.report, hf_stabilizer.studies.statistics;"
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


def test_a_run_that_was_stopped_is_no_success_of_the_failed_run_rate():
    runs = [run(seed=s, status="failed") for s in (1, 2)]
    runs += [run(seed=s) for s in (3, 4)]
    runs += [run(seed=s, status="stopped") for s in range(5, 11)]
    (row,) = summary_rows(runs, ["plain"])
    assert (row.runs, row.ended, row.stopped, row.failed, row.failed_rate) == (10, 4, 6, 2, 0.5)
    assert row.failed_interval == wilson_interval(2, 4)


def test_a_run_that_had_collapsed_when_it_was_stopped_is_counted_by_itself():
    at_the_halt = run(seed=2, status="stopped", reason="collapsed: one answer to all", steps=9)
    stopped = Ranked(Path("a"), at_the_halt, 2, False).stopped(runs=2, keep=1)
    (row,) = summary_rows([run(seed=1), stopped], ["plain"])
    assert (row.failed, row.failed_rate, row.lost_when_stopped) == (0, 0.0, 1)
    told = verdict(Study("demo", ("plain",), (run(seed=1), stopped), "f1", True))
    assert "collapsed when they were stopped: 1 of 1 with plain" in told


def test_the_verdict_names_how_many_runs_the_failed_ones_are_of():
    runs = [run(seed=1, status="failed"), run(seed=2)]
    runs += [run(seed=s, status="stopped") for s in (3, 4, 5)]
    told = verdict(Study("demo", ("plain",), tuple(runs), "f1", True))
    assert told.endswith("; failed runs: 1 of the 2 not stopped with plain.")
    (lost,) = facts_of_failures(runs)
    assert (lost.answer, lost.note) == ("1 of 2", "plain 1, 3 stopped early do not count")


def facts_of_failures(runs):
    study = Study("demo", ("plain",), tuple(runs), "f1", True)
    facts = facts_of(study, study.summary(), [])
    return [fact for fact in facts if fact.question == "Failed runs"]
