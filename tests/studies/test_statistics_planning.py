"""Start many, stop early: costs by hand, and plans against studies simulated one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hf_stabilizer.errors import ConfigurationError, DataError
from hf_stabilizer.records import Run
from hf_stabilizer.studies.statistics import (
    Curves,
    StudySettings,
    cost,
    curves_of,
    early_ranks,
    expected_validation_performance,
    plan_over_budgets,
    plan_study,
    settings_for_budget,
    spent,
)
from hf_stabilizer.studies.statistics.simulation import simulate
from tests import reference


def run(*scores, steps=None, **more):
    curve = tuple((5 * k, {"f1": s}) for k, s in enumerate(scores, 1))
    known = [s for s in scores if math.isfinite(s)]
    values = {"best_score": max(known, default=None), "steps": steps or 5 * len(scores), **more}
    status = values.pop("status", "finished")
    return Run(values.pop("recipe", "plain"), {}, status, "", curve, "f1", **values)


def curves(n=15, *, seed=0, noise=0.03, greater_is_better=True):
    rng = np.random.default_rng(seed)
    final = rng.normal(0.7, 0.05, size=n)
    early = final[:, None] - 0.1 + noise * rng.normal(size=(n, 2)) * [2.0, 1.0]
    sign = 1 if greater_is_better else -1
    return Curves((0.2, 0.5), sign * early, sign * final, sign * final, greater_is_better)


# --- cost


def test_the_papers_example_costs_ten_runs():
    assert settings_for_budget(10) == StudySettings(25, 0.25, 5)
    assert settings_for_budget(10).cost == 10
    assert cost(25, 0.25, 5, steps=100) == 1000
    assert cost(7) == cost(7, 0.3, 7) == 7


@pytest.mark.parametrize("budget", [1, 1.5, 2, 3, 5, 7.3, 10, 31])
@pytest.mark.parametrize("stop_at", [0.1, 0.2, 0.25, 0.3, 0.9])
def test_the_rule_never_overspends_and_leaves_less_than_one_start(budget, stop_at):
    found = settings_for_budget(budget, stop_at=stop_at)
    assert 1 <= found.keep <= found.runs
    assert found.cost <= budget + 1e-9
    assert found.cost + stop_at > budget - 1e-9


def test_what_cannot_be_a_study_is_refused():
    with pytest.raises(ConfigurationError, match=r"stop_at must be in \(0, 1\], got 0"):
        cost(5, 0.0)
    with pytest.raises(
        ConfigurationError, match=r"keep must be a whole number of runs in \[1, 5\]"
    ):
        cost(5, 0.5, 6)
    with pytest.raises(ConfigurationError, match="budget must be a number of full runs"):
        settings_for_budget(0.5)
    with pytest.raises(ConfigurationError, match=r"stop_at must be in \(0, 1\), got 1"):
        settings_for_budget(5, stop_at=1)


def test_what_was_spent_counts_the_runs_that_were_cut():
    runs = [run(steps=40, seconds=8.0)] * 2 + [run(steps=10, seconds=2.0, status="stopped")] * 6
    found = spent(runs)
    assert (found.steps, found.seconds, found.full_runs) == (140, 28.0, 3.5)
    assert found.full_runs == cost(8, 0.25, 2)
    assert found.saved == 1 - 140 / 320
    assert spent([]).saved == 0.0


# --- curves


def test_curves_hold_the_best_so_far_and_know_no_future():
    found = curves_of([run(0.5, 0.4, 0.7, 0.6), run(0.1, 0.3, 0.2, 0.9)])
    assert found.fractions == (0.25, 0.5, 0.75)
    assert found.so_far.tolist() == [[0.5, 0.5, 0.7], [0.1, 0.3, 0.3]]
    assert found.final.tolist() == [0.7, 0.9]


def test_a_fraction_ends_at_the_step_where_a_study_would_stop():
    # 0.3 of 20 steps is step 6: the evaluation at step 5 is seen, that at 10 is not.
    found = curves_of([run(0.5, 0.8, 0.7, 0.6)], fractions=[0.3, 0.1])
    assert found.fractions == (0.1, 0.3)
    assert np.isnan(found.so_far[0, 0])
    assert found.so_far[0, 1] == 0.5


def test_smaller_may_be_better_and_failed_runs_stay_in():
    runs = [
        run(0.5, 0.4, 0.6, 0.5, greater_is_better=False),
        run(0.9, math.nan, status="failed", greater_is_better=False),
        run(steps=3, status="failed"),
        run(0.3, status="stopped", greater_is_better=False),
    ]
    found = curves_of(runs)
    assert found.so_far[0].tolist() == [0.5, 0.4, 0.4]
    assert found.so_far[1].tolist() == [0.9, 0.9, 0.9]
    assert np.isnan(found.so_far[2]).all()
    assert np.isnan(found.final[2])
    assert (found.left_out, found.without_score, found.greater_is_better) == (1, 1, False)


def test_many_evaluations_are_thinned_and_too_few_refused():
    assert len(curves_of([run(*np.linspace(0, 1, 90))]).fractions) == 20
    with pytest.raises(DataError, match="none of the 2 runs was evaluated before its end"):
        curves_of([run(0.5), run(0.6)])
    with pytest.raises(DataError, match="got those of plain, swa"):
        curves_of([run(0.1, 0.2), run(0.1, 0.2, recipe="swa")])
    with pytest.raises(ConfigurationError, match=r"fractions must be in \(0, 1\), got 1.5"):
        curves_of([run(0.1, 0.2)], fractions=[1.5])


# --- plans


def test_plain_runs_give_the_expected_validation_performance():
    some = curves()
    for budget in (1, 3, 6):
        found = plan_study(some, budget, simulations=4000).plain
        wanted = expected_validation_performance(some.final.tolist())[budget - 1]
        assert found.expected == pytest.approx(wanted, abs=0.002)
        assert (found.gain, found.error_reduction, found.interval) == (0.0, 0.0, (0.0, 0.0))


@pytest.mark.parametrize(("t", "f", "p"), [(10, 0.2, 2), (6, 0.5, 4), (25, 0.5, 1)])
def test_an_option_gives_what_studies_drawn_one_by_one_give(t, f, p):
    some = curves(noise=0.05)
    some = Curves(**{**vars(some), "result": some.final - np.linspace(0, 0.1, 15)})  # on test
    early = some.so_far[:, some.fractions.index(f)]
    rng = np.random.default_rng(8)
    drawn = [
        reference.study_that_stops_early(early, some.final, some.result, t, p, rng)
        for _ in range(4000)
    ]
    found, _ = simulate(some, [StudySettings(t, f, p)], 4000, 2, seed=1)
    assert found[0] == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / math.sqrt(4000))


def test_runs_that_tie_early_are_kept_by_lot():
    final = np.array([0.1, 0.2, 0.3, 0.4])
    some = Curves((0.5,), np.zeros((4, 1)), final, final, True)
    found, _ = simulate(some, [StudySettings(50, 0.5, 1)], 4000, 2, seed=0)
    assert found[0] == pytest.approx(final.mean(), abs=0.04)


def test_a_perfect_foresight_is_worth_stopping_for_and_none_is_not():
    final = curves(30).final
    seen = plan_study(Curves((0.25,), final[:, None] - 0.1, final, final, True), 4)
    assert seen.recommended.settings.stop_at == 0.25
    assert seen.recommended.settings.runs == 13  # one kept: (4 - .75) / .25
    assert seen.is_sure
    assert seen.recommended.best_share > 0.4
    noise = np.random.default_rng(1).normal(size=(30, 1))
    blind = plan_study(Curves((0.25,), noise, final, final, True), 4)
    assert blind.recommended.gain < 0.2 * seen.recommended.gain


def test_the_error_reduction_is_the_papers():
    found = plan_study(curves(), 5)
    best, plain = found.recommended, found.plain
    assert best.error_reduction == pytest.approx(
        (best.expected - plain.expected) / (1 - plain.expected)
    )
    percent = curves()
    percent = Curves(
        percent.fractions, 100 * percent.so_far, 100 * percent.final, 100 * percent.result, True
    )
    scaled = plan_study(percent, 5, perfect=100)
    assert scaled.recommended.error_reduction == pytest.approx(best.error_reduction)
    with pytest.raises(DataError, match=r"perfect must not be beaten by a score, got 1\.0"):
        plan_study(percent, 5)


def test_directions_mirror_each_other():
    up, down = plan_study(curves(), 4), plan_study(curves(greater_is_better=False), 4, perfect=-1)
    assert down.recommended.settings == up.recommended.settings
    assert down.recommended.expected == pytest.approx(-up.recommended.expected)
    assert down.recommended.error_reduction == pytest.approx(up.recommended.error_reduction)


def test_every_option_stays_within_the_budget_and_the_best_stands_first():
    found = plan_study(curves(), 6.5)
    assert all(o.cost <= 6.5 + 1e-9 and o.settings.keep <= o.settings.runs for o in found.options)
    gains = [option.gain for option in found.options]
    assert gains == sorted(gains, reverse=True)
    assert found.recommended is found.options[0]
    assert found.plain.settings == StudySettings(6, 1.0, 6)


def test_the_same_seed_gives_the_same_plan():
    assert plan_study(curves(), 4, seed=3) == plan_study(curves(), 4, seed=3)


def test_equal_runs_gain_nothing_and_are_run_to_the_end():
    same = Curves((0.5,), np.full((4, 1), 0.5), np.full(4, 0.6), np.full(4, 0.6), True)
    found = plan_study(same, 3)
    assert found.recommended is found.plain
    assert found.plain.expected == pytest.approx(0.6)
    perfect = Curves((0.5,), np.full((4, 1), 0.5), np.ones(4), np.ones(4), True)
    assert plan_study(perfect, 3).recommended.error_reduction is None


def test_runs_that_raised_lose_and_count_as_the_worst():
    runs = [run(0.2 + k / 50, 0.5 + k / 50) for k in range(6)] + [run(steps=2, status="failed")] * 6
    found = plan_study(runs, 2)
    assert found.runs == 12
    half_lost = expected_validation_performance([0.5 + k / 50 for k in range(6)] + [0.5] * 6)
    assert found.plain.expected == pytest.approx(half_lost[1], abs=0.003)
    assert found.recommended.gain > 0.01  # stopping early weeds them out


def test_the_test_score_may_be_what_counts():
    runs = [run(0.2 + k / 50, 0.5 + k / 50, test_score=0.9 - k / 50) for k in range(8)]
    found = plan_study(runs, 3, on_test=True)
    assert found.recommended.gain == 0.0  # what validation prefers is worse on test
    assert found.plain.expected < 0.83


def test_budgets_are_planned_one_by_one():
    some = curves()
    found = plan_over_budgets(some, (2, 4))
    assert found == (plan_study(some, 2), plan_study(some, 4))


def test_too_little_to_plan_from_is_refused():
    with pytest.raises(DataError, match="needs 3 whole runs with a score or more, got 2"):
        plan_study([run(0.1, 0.2), run(0.2, 0.3), run(steps=1, status="failed")], 4)
    with pytest.raises(ConfigurationError, match="budget must be a number of full runs"):
        plan_study(curves(), 0)
    with pytest.raises(ConfigurationError, match="fractions and on_test belong to curves_of"):
        plan_study(curves(), 3, on_test=True)


# --- early ranks


def test_rank_correlations_are_scipys():
    some = curves(noise=0.05)
    for rank, column in zip(early_ranks(some), some.so_far.T, strict=True):
        assert rank.spearman == pytest.approx(stats.spearmanr(column, some.final).statistic)
        assert rank.kendall == pytest.approx(stats.kendalltau(column, some.final).statistic)
        assert rank.interval.low < rank.spearman < rank.interval.high


def test_ties_and_lost_runs_have_ranks_too():
    so_far = np.array([[0.5], [0.5], [0.7], [np.nan], [np.nan]])
    final = np.array([0.6, 0.6, 0.8, 0.7, np.nan])
    (rank,) = early_ranks(Curves((0.5,), so_far, final, final, True))
    ranked = [[3.5, 3.5, 5, 1.5, 1.5], [2.5, 2.5, 5, 4, 1]]
    assert rank.spearman == pytest.approx(np.corrcoef(ranked)[0, 1])
    assert rank.kendall == pytest.approx(stats.kendalltau(*ranked).statistic)


def test_where_all_tie_there_is_no_correlation():
    final = np.array([0.1, 0.2, 0.3])
    (rank,) = early_ranks(Curves((0.5,), np.zeros((3, 1)), final, final, True))
    assert (rank.spearman, rank.kendall, rank.interval) == (None, None, None)


def test_smaller_may_be_better_for_ranks():
    down = curves(greater_is_better=False)
    assert [r.spearman for r in early_ranks(down)] == [r.spearman for r in early_ranks(curves())]
