"""What pairs of seeds can show: superiority, several recipes at once, how many more it takes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hf_stabilizer.errors import ConfigurationError, DataError
from hf_stabilizer.records import Run
from hf_stabilizer.studies.comparison import compare, comparisons
from hf_stabilizer.studies.statistics import (
    bootstrap_interval,
    density,
    holm,
    interquartile_range,
    max_t_p_values,
    median_absolute_deviation,
    permutation_interval,
    permutation_p_value,
    probability_of_superiority,
    sample_std,
    seeds_needed,
    sign_flip_interval,
    sign_flip_p_value,
    significance_words,
    spread_p_value,
    summary_rows,
    superiority_of_unpaired,
    wilson_interval,
)
from tests import reference


def differences(recipes, n, *, seed=0, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1, size=(recipes, n)).tolist()


# --- spread and intervals


def test_robust_spreads_equal_scipys_and_ignore_a_lost_run():
    scores = np.random.default_rng(0).normal(0.7, 0.1, size=13).tolist()
    assert median_absolute_deviation(scores) == pytest.approx(
        stats.median_abs_deviation(scores, scale="normal")
    )
    assert median_absolute_deviation(scores, scaled=False) == pytest.approx(
        stats.median_abs_deviation(scores)
    )
    assert interquartile_range(scores) == pytest.approx(stats.iqr(scores))
    lost = [*sorted(scores)[1:], -50.0]
    assert median_absolute_deviation(lost) < 2 * median_absolute_deviation(scores)
    assert median_absolute_deviation([0.5]) is interquartile_range([0.5]) is None


def test_a_summary_has_them():
    runs = [Run("plain", {"seed": s}, "finished", best_score=x) for s, x in enumerate((1, 2, 4))]
    (row,) = summary_rows(runs, ["plain"])
    assert (row.iqr, row.mad) == (1.5, pytest.approx(1.4826, abs=1e-4))


def test_the_bootstrap_interval_of_a_std_is_scipys():
    scores = np.random.default_rng(3).normal(0.7, 0.1, size=15)
    wanted = stats.bootstrap(
        (scores,),
        lambda x, axis: np.std(x, axis=axis, ddof=1),
        n_resamples=50_000,
        random_state=np.random.default_rng(77),
    ).confidence_interval
    found = bootstrap_interval(scores.tolist(), statistic="std")
    assert found == pytest.approx((wanted.low, wanted.high), abs=0.004)


def test_ties_that_leave_bca_undefined_still_have_an_interval():
    low, high = bootstrap_interval([0.0, 0.0, 1.0, 1.0], statistic="std")  # equal when one is left
    assert (low, high) == (0.0, pytest.approx(math.sqrt(1 / 3)))
    assert bootstrap_interval([0.5] * 4, statistic="std") == (0.0, 0.0)
    with pytest.raises(ConfigurationError, match="did you mean mean"):
        bootstrap_interval([0.5] * 4, statistic="meen")


def test_densities_are_scipys_with_the_same_bandwidth_and_have_area_one():
    scores = np.random.default_rng(4).normal(0.7, 0.1, size=30)
    found = density(scores)
    theirs = stats.gaussian_kde(scores, bw_method=found.bandwidth / scores.std(ddof=1))
    assert found.y == pytest.approx(theirs(found.x))
    assert sum(found.y) * (found.x[1] - found.x[0]) == pytest.approx(1, abs=0.01)
    wanted = 0.9 * min(scores.std(ddof=1), stats.iqr(scores) / 1.34) * 30**-0.2
    assert found.bandwidth == pytest.approx(wanted)


def test_densities_of_one_drawing_share_their_ends():
    found = density([0.1, 0.1, 0.1, 0.1, 0.9], low=0.0, high=1.0, points=5)
    assert found.x == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert found.bandwidth > 0  # the quartiles are equal, the scores are not
    assert density([0.5]) is None
    with pytest.raises(ConfigurationError, match="low must lie below high"):
        density([0.1, 0.2], low=1.0, high=0.0)
    with pytest.raises(ConfigurationError, match="bandwidth must be positive, got 0"):
        density([0.1, 0.2], bandwidth=0)


# --- pairs


@pytest.mark.parametrize(("greater", "share"), [(True, 0.625), (False, 0.375)])
def test_ties_are_half_a_win(greater, share):
    found = probability_of_superiority([1, 1, 1, 1], [2, 1, 0, 3], greater_is_better=greater)
    assert found.share == share
    assert found.interval == wilson_interval(4 * share, 4)
    assert found.wins + found.ties + found.losses == 4


def test_superiority_is_the_pairwise_form_of_mann_whitneys():
    first, second = differences(2, 9, seed=5)
    pairs = [(b > a) + (b == a) / 2 for a, b in zip(first, second, strict=True)]
    assert probability_of_superiority(first, second).share == pytest.approx(np.mean(pairs))
    assert probability_of_superiority([], []) is None
    with pytest.raises(DataError, match="equally long"):
        probability_of_superiority([1.0], [])


def test_words_say_when_the_number_of_seeds_is_too_small():
    assert "one pair cannot reach p <= 0.05" in significance_words([0.3])
    assert "no pair cannot" not in significance_words([0.3] * 5)
    assert significance_words([0.1] * 6, comparisons=3).endswith("whatever they show; 7 can")
    assert significance_words([0.1] * 20, comparisons=3) == ""
    assert "2 without a difference" in significance_words([0, 0, 1, 1, 1, 1, 1])


@pytest.mark.parametrize("extra", [0, 1, 2, 3])
def test_words_are_silent_exactly_when_the_level_can_be_reached(extra):
    pairs = [0.1] * 5 + [0.0] * extra
    assert significance_words(pairs)
    assert sign_flip_p_value(pairs) > 0.05
    assert not significance_words([*pairs, 0.1])
    assert sign_flip_p_value([*pairs, 0.1]) <= 0.05


def test_a_comparison_carries_words_and_intervals():
    runs = [Run("plain", {"seed": s}, "finished", best_score=0.5) for s in range(6)]
    runs += [Run(r, {"seed": s}, "finished", best_score=0.6) for r in "ab" for s in range(6)]
    alone = compare(runs, "plain", "a")
    assert alone.words == ""
    assert alone.superiority_interval == wilson_interval(6, 6)
    assert alone.differences == pytest.approx([0.1] * 6)
    both = comparisons(runs, ["plain", "a", "b"])
    assert [c.words[-5:] for c in both] == ["7 can"] * 2
    nothing = compare([], "plain", "a")
    assert (nothing.superiority, nothing.superiority_interval) == (None, None)


# --- several recipes


@pytest.mark.parametrize("n", [2, 5, 7])
def test_max_t_equals_the_oracle(n):
    rows = differences(3, n, seed=n, shift=0.4)
    assert max_t_p_values(rows) == pytest.approx(reference.max_t_p_values(rows))


def test_max_t_of_one_recipe_is_its_own_test():
    (row,) = differences(1, 8, shift=0.7)
    assert max_t_p_values([row]) == pytest.approx([sign_flip_p_value(row)])


def test_six_pairs_are_enough_for_many_recipes_where_holm_needs_more():
    rows = [[0.1, 0.2, 0.1, 0.3, 0.2, 0.1], *differences(3, 6, seed=1)]
    assert max_t_p_values(rows)[0] == 0.03125
    assert holm([sign_flip_p_value(row) for row in rows])[0] > 0.05


def test_a_missing_pair_is_left_out_and_edges_have_answers():
    row, other = [0.1, 0.2, math.nan, 0.3, 0.2, 0.1, 0.4], differences(1, 7, seed=8)[0]
    full = [x for x in row if not math.isnan(x)]
    assert max_t_p_values([row])[0] == pytest.approx(sign_flip_p_value(full))
    assert max_t_p_values([[0.0] * 7, other])[0] == 1.0
    assert max_t_p_values([]) == []
    assert max_t_p_values([[]]) == [1.0]
    with pytest.raises(DataError, match=r"rows of lengths \[1, 2\]"):
        max_t_p_values([[0.1], [0.1, 0.2]])


def test_drawn_signs_come_close_to_all_of_them(monkeypatch):
    rows = differences(2, 12, seed=2, shift=0.6)
    exact = max_t_p_values(rows)
    monkeypatch.setattr("hf_stabilizer.studies.statistics.pairs.EXACT_UP_TO", 10)
    assert max_t_p_values(rows) == pytest.approx(exact, abs=0.01)


def test_lost_runs_of_the_baseline_do_not_pass_for_better_recipes():
    draw, studies, claims = np.random.default_rng(0), 300, 0
    for _ in range(studies):
        scores = draw.normal(size=(4, 8)) - 8 * (draw.random((4, 8)) < 0.15)
        claims += min(max_t_p_values((scores[1:] - scores[0]).tolist())) <= 0.05
    assert claims / studies < 0.08


# --- how many more


def test_many_normal_pairs_need_about_what_students_test_needs():
    # Half a standard deviation, two-sided .05, power .8: 34 pairs (Cohen 1988, table 2.4.1).
    shape = stats.norm.ppf((np.arange(50) + 0.5) / 50)
    found = seeds_needed(((shape - shape.mean()) / shape.std(ddof=1)).tolist(), effect=0.5)
    assert 28 <= found.needed <= 40
    assert found.more == 0
    assert found.power_now > 0.9


def test_equal_differences_need_only_what_the_test_can_tell():
    found = seeds_needed([0.1] * 4)
    assert (found.needed, found.more, found.power_now) == (6, 2, 0.0)
    assert seeds_needed([0.1] * 4, comparisons=4).needed == 8


def test_the_power_is_that_of_the_test_itself():
    seen = [0.02, -0.01, 0.03, 0.01, 0.0, 0.02, 0.01]
    found = seeds_needed(seen)
    shape = (np.array(seen) - np.mean(seen)) * math.sqrt(7 / 6) + np.mean(seen)
    draws = np.random.default_rng(5).choice(shape, size=(600, 7)).tolist()
    power = np.mean([sign_flip_p_value(study) <= 0.05 for study in draws])
    assert found.power_now == pytest.approx(power, abs=0.08)


def test_larger_effects_need_fewer_and_none_needs_more_than_any():
    seen = [0.02, -0.05, 0.03, 0.01, -0.04, 0.02]
    needed = [seeds_needed(seen, effect=e).needed for e in (0.02, 0.04)]
    assert needed[0] > needed[1] >= 6
    mirrored = seeds_needed([-d for d in seen], effect=-0.02)
    assert mirrored.needed == needed[0]
    assert seeds_needed(seen, effect=0.0).needed is None
    assert seeds_needed(seen, effect=0.001, most=50).needed is None
    assert seeds_needed([0.1, 0.2]) is None
    with pytest.raises(ConfigurationError, match=r"power must be in \(0, 1\), got 1"):
        seeds_needed(seen, power=1)


# --- what is no number


@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
def test_what_is_no_number_never_becomes_a_p_value(bad):
    scores, others = [0.1, bad, 0.2, 0.4], [0.5, 0.6, 0.7, 0.8]
    asked = [
        lambda: sign_flip_p_value(scores),
        lambda: sign_flip_interval(scores),
        lambda: spread_p_value(others, scores),
        lambda: permutation_p_value(scores, others),
        lambda: permutation_interval(others, scores),
        lambda: superiority_of_unpaired(scores, others),
        lambda: bootstrap_interval(scores),
        lambda: sample_std(scores),
        lambda: median_absolute_deviation(scores),
        lambda: interquartile_range(scores),
    ]
    for ask in asked:
        with pytest.raises(DataError, match=r"must be finite numbers, got .* at place 1"):
            ask()


def test_shares_and_p_values_that_cannot_be_are_refused():
    for p in (-0.1, 1.1, math.nan):
        with pytest.raises(DataError, match=r"p_values must be in \[0, 1\], got"):
            holm([0.01, p])
    for count, total in ((-1, 5), (6, 5), (math.nan, 5), (2, -1)):
        with pytest.raises(DataError, match=r"count must be in \[0, total\]"):
            wilson_interval(count, total)
    for ask in (bootstrap_interval, sign_flip_interval):
        for confidence in (0, 1, 1.5, math.nan):
            with pytest.raises(ConfigurationError, match=r"confidence must be in \(0, 1\)"):
                ask([0.1, 0.2, 0.3], confidence=confidence)
