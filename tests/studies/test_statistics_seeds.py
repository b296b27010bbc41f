"""Seeds as factors: a published table, grids with holes, good heads, the same heads elsewhere."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from hf_stabilizer.errors import DataError
from hf_stabilizer.records import Run
from hf_stabilizer.studies.statistics import (
    rank_agreement,
    rank_agreement_of_runs,
    seed_means,
    seed_means_of_runs,
    two_way_analysis,
    two_way_analysis_of_runs,
)
from hf_stabilizer.studies.statistics.good_seeds import _contrasts, _corrected
from hf_stabilizer.studies.statistics.seed_factors import _factors, _levels, _Spaces
from tests import reference

# Failures among 100 soybean seeds, 5 treatments x 5 replications (Snedecor, Cochran 1989, section
# 14.2): sums of squares 83.84, 49.84 and 86.56, F = 20.96 / 5.41 = 3.87 for treatments.
SOYBEANS = [
    [8, 10, 12, 13, 11],
    [2, 6, 7, 11, 5],
    [4, 10, 9, 8, 10],
    [3, 5, 9, 10, 6],
    [9, 7, 5, 5, 3],
]


def grid(scores):
    cells = [(s, h, d) for h, row in enumerate(scores) for d, s in enumerate(row)]
    return tuple(zip(*cells, strict=True))


def holes(seed, *, heads=5, data=6, keep=0.7, repeats=1):
    rng = np.random.default_rng(seed)
    h, d = np.divmod(np.repeat(np.arange(heads * data), repeats), data)
    y = rng.normal(size=heads)[h] + 0.5 * rng.normal(size=data)[d] + rng.normal(size=len(h))
    kept = rng.random(len(h)) < keep
    return y[kept].tolist(), h[kept].tolist(), d[kept].tolist()


def runs_of(scores, heads, data, **more):
    return [
        Run("plain", {"head_seed": h, "data_seed": d}, "finished", best_score=s, **more)
        for s, h, d in zip(scores, heads, data, strict=True)
    ]


# --- two ways


def test_the_table_is_that_of_snedecor_and_cochran():
    found = two_way_analysis(*grid(SOYBEANS))
    assert [round(f.sum_of_squares, 2) for f in found.factors] == [83.84, 49.84, 86.56]
    assert [f.degrees for f in found.factors] == [4, 4, 16]
    assert round(found["head"].f, 2) == 3.87
    assert found["head"].p_value == pytest.approx(stats.f.sf(found["head"].f, 4, 16))
    assert found["head"].p_value == pytest.approx(0.0219, abs=5e-4)
    assert found["rest"].mean_square == pytest.approx(5.41)
    # Method of moments on a full grid: (mean square - rest) / levels of the other factor.
    assert found["head"].variance == pytest.approx((20.96 - 5.41) / 5)
    assert sum(f.share for f in found.factors) == pytest.approx(1)
    assert (found.runs, found.levels, found.cells) == (25, (5, 5), 25)
    with pytest.raises(KeyError, match="head x data"):
        found["head x data"]


def test_heads_that_do_nothing_at_all_are_not_called_sure():
    """A fitted head is the same for every seed; what is left are rounding errors."""
    found = two_way_analysis(*grid([[0.6666666, 0.875, 0.9166666]] * 3))
    assert found["head"].sum_of_squares == found["rest"].sum_of_squares == 0
    assert found["head"].shuffled_p == 1
    assert found["head"].p_value is None
    assert found["data"].share == 1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("repeats", [1, 2])
def test_grids_with_holes_equal_models_fitted_with_and_without_each_factor(seed, repeats):
    runs = holes(seed, repeats=repeats)
    found, wanted = two_way_analysis(*runs), reference.two_way(*runs)
    names = {"head": "head", "data": "data", "both": "head x data", "rest": "rest"}
    assert {f.name for f in found.factors} == {names[name] for name in wanted}
    for name, (squares, degrees, variance) in wanted.items():
        line = found[names[name]]
        assert (line.sum_of_squares, line.estimate) == pytest.approx((squares, variance))
        assert line.degrees == degrees


def test_components_are_right_on_average_on_a_grid_with_holes():
    rng, estimates = np.random.default_rng(0), []
    _, h, d = holes(1, keep=0.6)
    for _ in range(1500):
        y = (
            2.0 * rng.normal(size=5)[h]
            + 1.0 * rng.normal(size=6)[d]
            + 0.5 * rng.normal(size=len(h))
        )
        table = reference.two_way if len(estimates) < 2 else None
        found = _estimates(y, h, d)
        if table:
            assert found == pytest.approx([line[2] for line in table(y.tolist(), h, d).values()])
        estimates.append(found)
    assert np.mean(estimates, axis=0) == pytest.approx([4.0, 1.0, 0.25], rel=0.1)


def _estimates(y, h, d):
    spaces = _Spaces.of(_levels(h), _levels(d))
    return [f.estimate for f in _factors(y - y.mean(), spaces, ("head", "data"))]


def test_shuffling_agrees_with_f_where_scores_are_normal():
    found = two_way_analysis(*grid(SOYBEANS))
    assert found["head"].shuffled_p == pytest.approx(found["head"].p_value, abs=0.02)
    assert found["data"].shuffled_p == pytest.approx(found["data"].p_value, abs=0.03)


def test_shuffling_holds_its_level_where_runs_collapse():
    rng, claims = np.random.default_rng(3), 0
    for _ in range(150):
        scores = rng.normal(size=(4, 5)) - 15 * (rng.random((4, 5)) < 0.15)
        claims += two_way_analysis(*grid(scores.tolist()))["head"].shuffled_p <= 0.05
    assert claims / 150 < 0.1


def test_several_runs_in_a_cell_tell_the_interaction_from_the_rest():
    rng = np.random.default_rng(4)
    cells = rng.normal(size=(6, 6))  # nothing but interaction
    h, d = np.divmod(np.repeat(np.arange(36), 3), 6)
    found = two_way_analysis((cells[h, d] + 0.1 * rng.normal(size=108)).tolist(), h, d)
    assert found["head x data"].share > 0.8
    assert found["head x data"].p_value < 1e-6
    assert found["head"].p_value > 0.01  # held against the interaction, not against the rest


def test_what_cannot_be_told_apart_has_no_answer():
    assert two_way_analysis([0.1, 0.2, 0.3], [1, 2, 3], [1, 2, 3]) is None
    assert two_way_analysis([0.1, 0.2, 0.3], [1, 1, 1], [1, 2, 3]) is None
    assert two_way_analysis([], [], []) is None
    assert two_way_analysis([0.1, 0.2, 0.3], [1, 1, 2], [1, 2, 2]) is None  # no rest


def test_equal_scores_have_no_variance_and_no_test():
    found = two_way_analysis(*grid([[0.5, 0.5], [0.5, 0.5]]))
    assert [f.variance for f in found.factors] == [0.0, 0.0, 0.0]
    assert found["head"].f is found["head"].p_value is None
    assert found["head"].shuffled_p == 1.0


def test_failed_runs_are_counted_and_names_are_the_callers():
    runs = runs_of(*grid(SOYBEANS)) + runs_of([None], [9], [9])
    found = two_way_analysis_of_runs(runs, names=("body", "order"))
    assert (found.runs, found.left_out) == (25, 1)
    assert [f.name for f in found.factors] == ["body", "order", "rest"]
    with pytest.raises(DataError, match="must be finite"):
        two_way_analysis([0.1, float("nan")], [1, 2], [1, 2])


# --- good heads


@pytest.mark.parametrize("seed", range(3))
def test_effects_are_distances_from_the_other_heads_under_the_same_data(seed):
    scores, heads, data = holes(seed)
    for mean in seed_means(scores, heads, data):
        assert mean.effect == pytest.approx(reference.head_effect(scores, heads, data, mean.seed))
        mine = [s for s, h in zip(scores, heads, strict=True) if h == mean.seed]
        assert (mean.mean, mean.runs) == (pytest.approx(np.mean(mine)), len(mine))


def test_a_head_that_is_good_is_found_and_the_others_are_not():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(10, 8))
    scores[7] += 4.0
    best, *others = seed_means(*grid(scores.tolist()))
    assert best.seed == 7
    assert best.p_value == 1 / 2000
    assert min(mean.p_value for mean in others) > 0.05
    assert best.expected < best.mean  # drawn towards the mean of all


def test_the_luckiest_of_many_heads_is_not_called_good():
    rng, studies, claims, uncorrected = np.random.default_rng(1), 300, 0, 0
    heads, data = np.divmod(np.arange(48), 4)
    contrasts = _contrasts(heads, data)
    for _ in range(studies):
        scores = rng.normal(size=48) - 8 * (rng.random(48) < 0.1)
        claims += _corrected(scores, contrasts, heads, data, 0).min() <= 0.05
        means = scores.reshape(12, 4).mean(axis=1)
        z = np.abs(means - means.mean()) / (scores.std() * np.sqrt(11 / 12 / 4))
        uncorrected += z.max() > 1.96
    assert 0 < claims / studies < 0.085
    assert uncorrected / studies > 0.25


def test_what_to_expect_is_the_mean_where_nothing_varies_within_a_head():
    found = seed_means(*grid([[0.7, 0.7], [0.5, 0.5], [0.6, 0.6]]))
    assert [mean.seed for mean in found] == [0, 2, 1]
    assert [mean.expected for mean in found] == pytest.approx([0.7, 0.6, 0.5])


def test_smaller_may_be_better_and_a_head_alone_has_no_effect():
    runs = runs_of([0.5, 0.6, 0.9], [1, 2, 3], [1, 1, 2], greater_is_better=False)
    found = seed_means_of_runs(runs)
    assert [mean.seed for mean in found] == [1, 2, 3]
    assert (found[2].effect, found[2].p_value, found[2].interval) == (None, None, None)
    assert seed_means([], [], []) == ()


# --- the same heads on other data sets


def test_w_is_friedmans_statistic_scaled_and_ties_are_corrected():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 5, size=(4, 9)) / 10  # many ties
    named = {str(k): dict(enumerate(row.tolist())) for k, row in enumerate(scores)}
    found = rank_agreement(named)
    chi2 = stats.friedmanchisquare(*scores.T).statistic
    assert found.kendall_w == pytest.approx(chi2 / (4 * 8))
    for a, b, rho in found.spearman:
        assert rho == pytest.approx(stats.spearmanr(scores[int(a)], scores[int(b)]).statistic)
    pairs = [rho for _, _, rho in found.spearman]
    assert len(pairs) == 6


def test_without_ties_w_is_the_mean_correlation_in_other_units():
    rng = np.random.default_rng(2)
    found = rank_agreement({k: dict(enumerate(rng.random(7).tolist())) for k in "abc"})
    mean = np.mean([rho for _, _, rho in found.spearman])
    assert mean == pytest.approx((3 * found.kendall_w - 1) / 2)


@pytest.mark.parametrize(("m", "n"), [(2, 4), (3, 4), (2, 9)])
def test_p_values_are_the_share_of_all_rankings(m, n):
    rng = np.random.default_rng(m * n)
    ranks = np.stack([rng.permutation(n) for _ in range(m)]).astype(float)
    found = rank_agreement({str(k): dict(enumerate(row.tolist())) for k, row in enumerate(ranks)})
    if n == 4:
        orders = list(itertools.permutations(range(n)))
        every = [
            np.var(ranks[0] + np.sum([np.array(o) for o in chosen], axis=0))
            for chosen in itertools.product(orders, repeat=m - 1)
        ]
        assert found.p_value == np.mean(np.array(every) >= np.var(ranks.sum(axis=0)) - 1e-9)
    else:
        rho = found.spearman[0][2]
        one_sided = stats.spearmanr(ranks[0], ranks[1], alternative="greater").pvalue
        assert found.p_value == pytest.approx(one_sided, abs=0.03)
        assert -1 <= rho <= 1


def test_heads_are_matched_and_those_that_are_missing_counted():
    found = rank_agreement({"a": {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.9}, "b": {3: 3, 2: 2, 1: 1}})
    assert (found.kendall_w, found.dropped, found.seeds) == (1.0, 1, (3, 2, 1))
    assert found.mean_ranks == (1.0, 2.0, 3.0)


def test_directions_may_differ_and_too_little_has_no_answer():
    accuracy, rmse = {1: 0.7, 2: 0.8, 3: 0.9}, {1: 0.5, 2: 0.4, 3: 0.3}
    both = {"accuracy": accuracy, "rmse": rmse}
    assert rank_agreement(both).kendall_w == 0.0
    turned = rank_agreement(both, greater_is_better={"accuracy": True, "rmse": False})
    assert turned.kendall_w == 1.0
    assert rank_agreement({"a": accuracy}) is None
    assert rank_agreement({"a": {1: 0.1, 2: 0.2}, "b": {1: 0.1, 2: 0.2}}) is None
    assert rank_agreement({"a": dict.fromkeys(range(4), 0.5)} | {"b": {}}) is None
    assert rank_agreement(dict.fromkeys("ab", dict.fromkeys(range(4), 0.5))) is None
    one_tied = rank_agreement({"a": dict.fromkeys(range(1, 4), 0.5), "b": accuracy})
    assert one_tied.spearman == (("a", "b", None),)
    with pytest.raises(DataError, match="must be finite numbers"):
        rank_agreement({"a": accuracy, "b": {1: 0.1, 2: float("nan"), 3: 0.3}})


def test_a_hole_in_a_grid_does_not_move_a_head():
    scores = {(h, d): 0.1 * h + d for h in range(4) for d in range(3)}  # data seeds differ a lot
    holed = {key: score for key, score in scores.items() if key != (0, 0)}  # 0 misses the worst
    runs = [
        runs_of(some.values(), [h for h, _ in some], [d for _, d in some])
        for some in (scores, holed)
    ]
    found = rank_agreement_of_runs({"whole": runs[0], "holed": runs[1]})
    assert (found.kendall_w, found.seeds) == (1.0, (3, 2, 1, 0))
