"""Findings against numbers worked out on paper, slow references, and the statistics themselves."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest

from hf_stabilizer.predictions import Predictions, write_predictions
from hf_stabilizer.records import Run
from hf_stabilizer.studies import statistics
from hf_stabilizer.studies.early_stopping.choosing import choose
from hf_stabilizer.studies.findings import (
    FINDINGS,
    ablation_effects,
    best_of_runs,
    chosen_by_validation,
    early_stopping,
    find_all,
    paired_differences,
    row_agreement,
    score_densities,
    seed_factors,
)
from hf_stabilizer.studies.study import Study, run_folder
from tests import reference

ROWS = 4


def one_run(recipe="plain", head=1, data=None, score=0.5, status="finished", **more):
    data = head if data is None else data
    values = {
        "seeds": {"head_seed": head, "data_seed": data, "seed": data},
        "metric": "f1",
        "best_score": score,
        "seconds": 10.0,
        "steps": 40,
    }
    return Run(recipe, status=status, **{**values, **more})


def make_study(runs, **more):
    recipes = tuple(dict.fromkeys(run.recipe for run in runs))
    values = {"metric": "f1", "greater_is_better": True}
    return Study("demo", recipes, tuple(runs), **{**values, **more})


def curve(*scores, every=10):
    return tuple((every * k, {"f1": score}) for k, score in enumerate(scores, 1))


def grid_runs(scores, recipe="plain", **more):
    """Runs of head seeds (rows) and data seeds (columns); None: no run there."""
    return [
        one_run(recipe, head, data, score, **more)
        for head, row in enumerate(scores, 1)
        for data, score in enumerate(row, 1)
        if score is not None
    ]


# --- all of them


def rich_study(folder=None, *, greater_is_better=True):
    """A study in which every question but that of an ablation has an answer."""
    rng = np.random.default_rng(0)
    runs = []
    for recipe, bonus in (("plain", 0.0), ("swa", 0.05)):
        for head in range(1, 5):
            for data in range(1, 5):
                end = 0.6 + bonus + 0.02 * head + float(rng.normal(0, 0.01))
                values = (end - 0.2, end - 0.1 + float(rng.normal(0, 0.01)), end, end - 0.01)
                if not greater_is_better:
                    values = tuple(1 - value for value in values)
                best = max(values) if greater_is_better else min(values)
                run = one_run(
                    recipe,
                    head,
                    data,
                    best,
                    evaluations=curve(*values),
                    last_score=values[-1],
                    test_score=best + float(rng.normal(0, 0.01)),
                    greater_is_better=greater_is_better,
                    configuration={"num_train_epochs": 2},
                )
                runs.append(run)
    study = make_study(runs, greater_is_better=greater_is_better, folder=folder)
    if folder is not None:
        for run in runs:
            keep(study, run, rng.normal(size=(ROWS, 2)), [0, 1, 0, 1])
    return study


def keep(study, run, outputs, labels, part="test"):
    place = run_folder(study.folder, run.recipe, run.name)
    place.mkdir(parents=True, exist_ok=True)
    kept = Predictions().with_part(part, np.asarray(outputs), np.asarray(labels))
    write_predictions(kept, place)


def test_every_finding_gives_flat_rows_that_pandas_takes(tmp_path):
    import pandas as pd

    found = find_all(rich_study(tmp_path))
    assert set(found) == set(FINDINGS) - {"ablation_effects", "swept_settings"}
    for name, finding in found.items():
        records = finding.records()
        assert records, name
        assert len({tuple(record) for record in records}) == 1, name
        kinds = (str, int, float, type(None))
        assert all(isinstance(v, kinds) for r in records for v in r.values()), name
        assert pd.DataFrame(records).shape == (len(records), len(records[0])), name


@pytest.mark.parametrize("name", FINDINGS)
def test_where_nothing_can_be_said_there_is_no_finding(name):
    assert FINDINGS[name](Study("demo", ("plain",), (), "f1", True)) is None
    assert FINDINGS[name](make_study([one_run()])) is None
    lost = [one_run(head=k, score=None, status="failed") for k in range(3)]
    assert FINDINGS[name](make_study(lost)) is None


# --- seeds as factors


def test_a_grid_has_a_cell_for_every_pair_of_seeds_and_says_why_one_is_empty():
    runs = grid_runs([[0.70, 0.72, None], [0.80, 0.83, 0.81], [0.60, 0.61, 0.65]])
    runs[3] = dataclasses.replace(runs[3], status="stopped")
    runs[4] = dataclasses.replace(runs[4], status="failed", best_score=None)
    (grid,) = seed_factors.find(make_study(runs)).grids
    assert (grid.heads, grid.data) == ((1, 2, 3), (1, 2, 3))
    assert [cell.state for cell in grid.cells] == [
        *("scored", "scored", "no run"),
        *("scored", "stopped", "without score"),
        *("scored", "scored", "scored"),
    ]
    assert [cell.score for cell in grid.cells][-3:] == [0.60, 0.61, 0.65]


def test_the_shares_are_those_of_the_slow_analysis():
    scores = [[0.70, 0.72, 0.74], [0.80, 0.83, 0.83], [0.60, 0.61, 0.65]]
    found = seed_factors.find(make_study(grid_runs(scores)))
    flat = [(s, h, d) for h, row in enumerate(scores) for d, s in enumerate(row)]
    slow = reference.two_way(*zip(*flat, strict=True))
    lines = {record["factor"]: record for record in found.factor_records()}
    for name in ("head", "data"):
        squares, degrees, variance = slow[name]
        assert lines[name]["sum_of_squares"] == pytest.approx(squares)
        assert lines[name]["degrees"] == degrees
        assert lines[name]["variance"] == pytest.approx(variance)
    assert sum(record["share"] for record in lines.values()) == pytest.approx(1)


def test_seeds_that_vary_together_make_no_grid():
    together = [one_run(head=k, score=0.5 + k / 10) for k in range(1, 5)]
    nested = [one_run(head=1, data=d, score=0.5 + d / 10) for d in range(1, 5)]
    assert seed_factors.find(make_study(together)) is None
    assert seed_factors.find(make_study(nested)) is None


def test_several_dropout_seeds_share_a_cell():
    runs = [
        Run("plain", {"head_seed": h, "data_seed": d, "seed": s}, "finished", best_score=s / 10)
        for h in (1, 2)
        for d in (1, 2)
        for s in (1, 2, 3)
    ]
    (grid,) = seed_factors.find(make_study(runs)).grids
    assert [len(cell.runs) for cell in grid.cells] == [3, 3, 3, 3]
    assert [cell.score for cell in grid.cells] == pytest.approx([0.2] * 4)
    assert grid.dropout == "apart"


@pytest.mark.parametrize(
    ("dropout", "words"),
    [
        (lambda h, d: 0, "one for all"),
        (lambda h, d: h, "as the head"),
        (lambda h, d: 7 - d, "as the data"),
        (lambda h, d: 10 * h + d, "apart"),
    ],
)
def test_it_is_told_with_what_the_dropout_seed_goes(dropout, words):
    runs = [
        Run(
            "plain",
            {"head_seed": h, "data_seed": d, "seed": dropout(h, d)},
            "finished",
            best_score=h + d / 10,
        )
        for h in (1, 2, 3)
        for d in (1, 2, 3)
    ]
    assert seed_factors.find(make_study(runs)).grids[0].dropout == words


@pytest.mark.parametrize("greater_is_better", [True, False])
def test_a_head_that_is_good_whatever_the_data_order_is_found(greater_is_better):
    rng = np.random.default_rng(1)
    sign = 1 if greater_is_better else -1
    scores = [
        [0.7 + sign * (0.1 * (head == 2)) + float(rng.normal(0, 0.005)) for _ in range(8)]
        for head in range(6)
    ]
    runs = grid_runs(scores, greater_is_better=greater_is_better)
    (grid,) = seed_factors.find(make_study(runs, greater_is_better=greater_is_better)).grids
    assert [mean.seed for mean in grid.good_heads] == [3]
    assert grid.bad_heads == ()
    assert grid.head_means == statistics.seed_means_of_runs(runs)


def test_densities_of_seeds_have_one_width_and_the_same_ends():
    scores = [[0.70, 0.72, 0.74, 0.71], [0.80, 0.83, 0.83, 0.90], [0.6, 0.6, 0.6, 0.6]]
    (grid,) = seed_factors.find(make_study(grid_runs(scores))).grids
    assert set(grid.head_densities) == {1, 2}  # the third has nothing to smooth
    one, other = grid.head_densities.values()
    assert one.bandwidth == other.bandwidth
    assert one.x == other.x


# --- the best of k runs


@pytest.mark.parametrize("greater_is_better", [True, False])
def test_the_expected_best_is_that_of_all_choices(greater_is_better):
    study = rich_study(greater_is_better=greater_is_better)
    plain, _ = best_of_runs.find(study).recipes
    scores = [run.best_score for run in study.of("plain")]
    for k in (1, 2, 3):
        slow = reference.expected_best_without_replacement(scores, k, greater_is_better)
        assert plain.every_look.expected[k - 1] == pytest.approx(slow)
    assert plain.every_look.expected[-1] == (max if greater_is_better else min)(scores)


def test_looks_are_all_one_per_epoch_and_the_last():
    runs = [
        one_run(head=1, evaluations=curve(0.5, 0.7, 0.9, 0.6)),
        one_run(head=2, evaluations=curve(0.4, 0.6, 0.5, 0.6)),
    ]
    runs = [dataclasses.replace(r, configuration={"num_train_epochs": 2}) for r in runs]
    (found,) = best_of_runs.find(make_study(runs)).recipes
    means = {looks: best.expected[0] for looks, best in found.by_looks}
    # All: .9 and .6; at the ends of two epochs: (.7, .6) and (.6, .6); at the last: .6 and .6.
    assert means == pytest.approx({"all": 0.75, "epoch": 0.65, "run": 0.6})
    assert found.worth_of_looking == pytest.approx(0.15)
    assert found.has_many_looks
    assert (found.seconds, found.stopped, found.shares_seeds) == (10.0, 0, False)


def test_budget_in_seconds_counts_whole_runs():
    runs = [one_run(head=k, evaluations=curve(k / 10), seconds=10.0 * k) for k in (1, 2, 3)]
    runs.append(one_run(head=4, evaluations=curve(0.9), status="stopped", seconds=1.0))
    found = best_of_runs.find(make_study(runs))
    rows = [row for row in found.records() if row["looks"] == "all"]
    assert [row["seconds"] for row in rows] == [20.0, 40.0, 60.0]
    assert {row["left_out"] for row in rows} == {1}
    assert found.recipes[0].stopped == 1
    assert not found.recipes[0].has_many_looks


def test_runs_on_a_grid_are_said_to_share_seeds():
    scores = [[0.1, 0.2], [0.3, 0.4]]
    runs = [dataclasses.replace(r, evaluations=curve(r.best_score)) for r in grid_runs(scores)]
    assert best_of_runs.find(make_study(runs)).recipes[0].shares_seeds


# --- densities


def test_densities_stand_over_the_same_ends_and_have_an_area_of_one():
    runs = [one_run(head=k, score=0.7 + k / 100) for k in range(8)]
    runs += [one_run("swa", k, score=0.8 + k / 200) for k in range(8)]
    found = score_densities.find(make_study(runs))
    plain, swa = (one.density for one in found.recipes)
    assert plain.x == swa.x
    assert (plain.x[0], plain.x[-1]) == (found.low, found.high)
    for one in (plain, swa):
        assert sum(one.y) * (one.x[1] - one.x[0]) == pytest.approx(1, abs=0.02)


def test_a_diverged_run_does_not_press_the_others_together():
    runs = [one_run(head=k, score=0.7 + k / 100) for k in range(8)]
    runs.append(one_run(head=99, score=4000.0, status="failed"))
    found = score_densities.find(make_study(runs))
    assert found.high < 2
    assert 4000.0 in found.recipes[0].scores


def test_runs_without_a_final_score_are_counted():
    runs = [one_run(head=k, score=k / 10) for k in range(4)]
    runs.append(one_run(head=5, score=0.9, status="stopped"))
    runs.append(one_run(head=6, score=None, status="failed"))
    (found,) = score_densities.find(make_study(runs)).recipes
    assert (len(found.runs), found.left_out) == (4, 2)


# --- paired differences


def test_differences_are_those_of_the_comparison_with_what_a_claim_needs():
    rng = np.random.default_rng(3)
    runs = [one_run(head=k, score=0.5) for k in range(6)]
    gains = [0.02, -0.01, 0.03, 0.01, 0.0, 0.02]
    runs += [one_run("swa", k, score=0.5 + gain) for k, gain in enumerate(gains)]
    runs += [one_run("ema", k, score=0.9 + float(rng.normal(0, 0.01))) for k in range(6)]
    found = paired_differences.find(make_study(runs))
    swa, ema = found.candidates
    assert swa.comparison.mean_difference == pytest.approx(0.07 / 6)
    assert swa.comparison.among == 2
    assert swa.needed == statistics.seeds_needed(
        swa.comparison.differences, comparisons=2, most=paired_differences.MOST_PAIRS
    )
    assert re.fullmatch(r"about \d+", swa.needed_words)
    assert [one.max_t_p for one in (swa, ema)] == statistics.max_t_p_values(
        [swa.comparison.differences, ema.comparison.differences]
    )
    assert len(found.pair_records()) == 12
    assert found.records()[0]["superiority"] == pytest.approx(4.5 / 6)


def test_a_claim_that_stands_needs_no_more_seeds_and_a_smaller_loss_is_better():
    runs = [one_run(head=k, score=0.6 + k / 100, greater_is_better=False) for k in range(6)]
    runs += [one_run("swa", k, score=0.5 + k / 90, greater_is_better=False) for k in range(6)]
    (one,) = paired_differences.find(make_study(runs, greater_is_better=False)).candidates
    assert one.outcome == "better"
    assert one.comparison.mean_difference < 0
    assert one.needed_words == "none"


def test_a_difference_of_nothing_needs_more_seeds_than_anyone_has():
    runs = [one_run(head=k, score=0.5) for k in range(4)]
    runs += [one_run("swa", k, score=0.5 + (-1) ** k / 10) for k in range(4)]
    (one,) = paired_differences.find(make_study(runs)).candidates
    assert one.needed_words == f"more than {paired_differences.MOST_PAIRS - 4}"
    assert "cannot reach p <= 0.05" in one.comparison.words


def test_on_a_grid_of_seeds_units_count_and_not_cells():
    scores = [[0.5 + (h + d) / 100 for d in range(4)] for h in range(4)]
    better = [[score + 0.1 for score in row] for row in scores]
    study = make_study([*grid_runs(scores), *grid_runs(better, "swa")])
    (one,) = paired_differences.find(study).candidates
    assert len(one.comparison.pairs) == 16
    assert one.needed.pairs == len(one.comparison.units) == 4
    assert one.max_t_p is None


# --- ablation


def ablation_study(means, arms):
    runs = [
        one_run(recipe, seed, score=mean + seed / 100)
        for recipe, mean in means.items()
        for seed in range(1, 10)
    ]
    asked = {"baseline": "plain", "all": "all", "remedies": arms}
    return make_study(runs, ablation=asked)


ARMS = {
    "swa": {"alone": "swa", "without": "no swa"},
    "llrd": {"alone": "llrd", "without": "no llrd"},
}


def test_an_ablation_tells_alone_from_on_top():
    means = {"plain": 0.5, "swa": 0.6, "llrd": 0.5, "no swa": 0.5, "no llrd": 0.65, "all": 0.65}
    found = ablation_effects.find(ablation_study(means, ARMS))
    rows = {(row["remedy"], row["what"]): row for row in found.records()}
    assert rows["swa", "alone against baseline"]["mean_difference"] == pytest.approx(0.1)
    assert rows["swa", "all against all but it"]["mean_difference"] == pytest.approx(0.15)
    assert rows["llrd", "all against all but it"]["mean_difference"] == 0
    assert rows["all", "all against baseline"]["mean_difference"] == pytest.approx(0.15)
    # Nine pairs that agree have p = 2 / 2^9; Holm's method multiplies the smallest of five by 5.
    assert rows["swa", "alone against baseline"]["p_value"] == pytest.approx(5 * 2 / 2**9)
    words = [ablation_effects.words(row) for row in found.ablation.rows]
    assert words == ["helps alone and adds to the others", "no effect can be claimed"]
    assert [arm["recipe"] for arm in found.arm_records()] == [
        *("plain", "swa", "llrd", "no swa", "no llrd", "all"),
    ]


def test_words_for_a_remedy_that_the_others_make_needless_and_for_one_that_harms():
    means = {"plain": 0.5, "swa": 0.6, "llrd": 0.4, "no swa": 0.6, "no llrd": 0.7, "all": 0.6}
    found = ablation_effects.find(ablation_study(means, ARMS))
    assert [ablation_effects.words(row) for row in found.ablation.rows] == [
        "helps alone; what it adds to the others is open",
        "harms alone and takes from the others",
    ]


def test_an_ablation_under_way_has_no_finding():
    study = ablation_study({"plain": 0.5, "swa": 0.6}, {})
    recipes = ("plain", "swa", "llrd", "no swa", "no llrd", "all")
    asked = {**study.ablation, "remedies": ARMS}
    early = dataclasses.replace(study, recipes=recipes, runs=study.runs[:1], ablation=asked)
    assert ablation_effects.find(early) is None


# --- agreement


def predicted(folder, answers, labels=(0, 1, 1, 0), recipe="plain", **more):
    """A study of one recipe whose runs answer with these classes."""
    runs = [one_run(recipe, head, **more) for head in range(1, len(answers) + 1)]
    study = make_study(runs, folder=folder)
    for run, row in zip(runs, answers, strict=True):
        keep(study, run, np.eye(2)[list(row)], labels)
    return study


def test_agreement_is_that_of_the_kept_predictions(tmp_path):
    answers = [[0, 1, 1, 0], [0, 1, 0, 0], [0, 1, 1, 1]]
    found = row_agreement.find(predicted(tmp_path, answers))
    (one,) = found.recipes
    assert found.part == "test"
    assert one.classes == statistics.seed_agreement(answers)
    assert (one.classes.unanimous, one.classes.pairwise) == (0.5, pytest.approx(2 / 3))
    # Right: 4, 3 and 3 of 4 rows; the vote is right on all.
    assert one.mean_right == pytest.approx(10 / 12)
    assert one.vote_right == 1.0
    assert [row.row for row in one.flipping] == [2, 3]
    assert one.flipping[0].answers == ((1, 2), (0, 1))
    assert (one.flipping[0].label, one.flipping[0].right) == (1, pytest.approx(2 / 3))
    assert [(low, high, count) for low, high, count in one.histogram if count] == [
        (pytest.approx(0.6), pytest.approx(0.7), 2),
        (pytest.approx(0.9), pytest.approx(1.0), 2),
    ]
    assert sum(count for _, _, count in one.histogram) == 4


def test_a_vote_that_ties_is_right_half_the_time(tmp_path):
    (one,) = row_agreement.find(predicted(tmp_path, [[0, 1, 1, 0], [1, 1, 1, 0]])).recipes
    assert one.vote_right == pytest.approx(3.5 / 4)


def test_runs_with_other_rows_or_without_numbers_are_left_out(tmp_path):
    study = predicted(tmp_path, [[0, 1, 1, 0]] * 6)
    keep(study, study.runs[0], np.eye(2), [0, 1])
    keep(study, study.runs[1], np.full((4, 2), np.nan), (0, 1, 1, 0))
    keep(study, study.runs[2], np.eye(2)[[0, 1, 1, 0]], (1, 1, 1, 1))
    (run_folder(tmp_path, "plain", study.runs[3].name) / "predictions.npz").write_bytes(b"half")
    (one,) = row_agreement.find(study).recipes
    assert (one.runs, one.left_out) == (2, 4)


def test_failed_runs_answer_too_and_are_counted(tmp_path):
    study = predicted(tmp_path, [[0, 1, 1, 0]] * 3)
    runs = (*study.runs[:2], dataclasses.replace(study.runs[2], status="failed"))
    (one,) = row_agreement.find(dataclasses.replace(study, runs=runs)).recipes
    assert (one.runs, one.failed) == (3, 1)


def test_stopped_runs_are_no_part_of_it(tmp_path):
    study = predicted(tmp_path, [[0, 1, 1, 0]] * 3)
    runs = (*study.runs[:2], dataclasses.replace(study.runs[2], status="stopped"))
    (one,) = row_agreement.find(dataclasses.replace(study, runs=runs)).recipes
    assert (one.runs, one.left_out) == (2, 0)


def test_without_test_rows_validation_rows_are_compared(tmp_path):
    runs = [one_run(head=k) for k in (1, 2)]
    study = make_study(runs, folder=tmp_path)
    for run in runs:
        keep(study, run, np.eye(2), [0, 1], part="validation")
    assert row_agreement.find(study).part == "validation"


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_numbers_are_compared_as_numbers(tmp_path, shape):
    values = [[0.0, 1.0, 2.0], [0.0, 1.0, 2.5]]
    runs = [one_run(head=k) for k in (1, 2)]
    study = make_study(runs, folder=tmp_path)
    for run, row in zip(runs, values, strict=True):
        keep(study, run, np.array(row, dtype=np.float32).reshape(shape), [0.0, 1.0, 2.0])
    (one,) = row_agreement.find(study).recipes
    assert one.numbers == statistics.value_agreement(values)
    (row,) = one.spread
    assert (row.row, row.low, row.high, row.label) == (2, 2.0, 2.5, 2.0)
    assert row.std == pytest.approx(math.sqrt(0.125))
    assert row_agreement.find(study).row_records()[0]["row"] == 2


def test_several_labels_agree_if_all_do(tmp_path):
    outputs = [[[1.0, -1.0], [2.0, 2.0]], [[1.0, -1.0], [2.0, -2.0]]]
    runs = [one_run(head=k) for k in (1, 2)]
    study = make_study(runs, folder=tmp_path)
    for run, rows in zip(runs, outputs, strict=True):
        keep(study, run, rows, [[1.0, 0.0], [1.0, 1.0]])
    (one,) = row_agreement.find(study).recipes
    assert (one.classes.unanimous, one.mean_right) == (0.5, 0.75)
    assert one.flipping[0].answers == ()


def test_tokens_that_do_not_count_are_not_compared(tmp_path):
    runs = [one_run(head=k) for k in (1, 2)]
    study = make_study(runs, folder=tmp_path)
    for run, last in zip(runs, (0, 1), strict=True):
        keep(study, run, np.eye(2)[[[0, 1, last], [1, 1, 1]]], [[0, 1, -100], [1, 0, 1]])
    (one,) = row_agreement.find(study).recipes
    assert (one.classes.unanimous, one.mean_right) == (1.0, 0.5)


# --- early stopping


def stopped_study(scores, *, halt, keep_best, greater_is_better=True):
    """Runs as a study leaves them: ranked by `choose` at the halt, the others stopped."""
    better = max if greater_is_better else min
    whole = [
        one_run(
            head=head,
            score=better(row),
            evaluations=curve(*row),
            greater_is_better=greater_is_better,
        )
        for head, row in enumerate(scores, 1)
    ]
    then = {}
    for place, run in enumerate(whole):
        seen = run.evaluations[: halt // 10]
        so_far = better(metrics["f1"] for _, metrics in seen)
        at = dataclasses.replace(run, evaluations=seen, best_score=so_far, steps=halt)
        then[Path(str(place))] = dataclasses.replace(at, status="stopped", seconds=2.5)
    runs = [
        whole[int(str(one.folder))]
        if one.is_chosen
        else one.stopped(runs=len(whole), keep=keep_best)
        for one in choose(then, keep=keep_best)
    ]
    return make_study(
        sorted(runs, key=lambda run: run.seeds["head_seed"]),
        stop_at=halt / 40,
        keep=keep_best,
        greater_is_better=greater_is_better,
    )


SCORES = [
    (0.30, 0.4, 0.5, 0.6),
    (0.50, 0.5, 0.5, 0.7),
    (0.10, 0.9, 0.9, 0.9),
    (0.40, 0.4, 0.6, 0.8),
    (0.20, 0.2, 0.2, 0.2),
]


@pytest.mark.parametrize("greater_is_better", [True, False])
def test_ranks_at_the_stop_are_those_that_the_study_wrote_down(greater_is_better):
    study = stopped_study(SCORES, halt=10, keep_best=2, greater_is_better=greater_is_better)
    (found,) = early_stopping.find(study).stopped
    written = {
        run.seeds["head_seed"]: int(re.match(r"rank (\d+) of 5", run.reason)[1])
        for run in study.runs
        if run.status == "stopped"
    }
    ranks = {one.run.seeds["head_seed"]: one.rank for one in found.ranked}
    assert {seed: ranks[seed] for seed in written} == written
    assert sorted(ranks.values()) == [1, 2, 3, 4, 5]
    assert [one.fate for one in found.ranked] == ["went on"] * 2 + ["stopped"] * 3
    assert found.margin == pytest.approx(0.1)


def test_cost_and_saving_by_hand():
    (found,) = early_stopping.find(stopped_study(SCORES, halt=10, keep_best=2)).stopped
    # Five to a quarter, two of them on: 5/4 + 2 * 3/4 full runs; 110 of 200 steps.
    assert found.asked == found.spent.full_runs == 2.75
    assert (found.stop_step, found.whole_steps, found.spent.steps) == (10, 40, 110)
    assert found.saved_runs == 2.25
    assert found.spent.seconds == 27.5
    assert found.saved_seconds == pytest.approx(22.5)
    assert [one.final for one in found.ranked[:2]] == [0.7, 0.8]


def test_a_run_that_failed_before_the_stop_is_told_apart_and_ranks_last():
    study = stopped_study(SCORES, halt=10, keep_best=2)
    lost = one_run(head=6, score=None, status="failed", reason="CUDA error", steps=3)
    later = one_run(head=7, score=0.95, status="failed", evaluations=curve(0.95), steps=20)
    found = early_stopping.find(dataclasses.replace(study, runs=(*study.runs, lost, later), keep=3))
    fates = {one.run.seeds["head_seed"]: one.fate for one in found.stopped[0].ranked}
    assert (fates[6], fates[7]) == ("failed before", "went on")
    assert found.stopped[0].ranked[-1].run is lost


def test_what_a_stopped_run_had_against_it_counts_in_its_rank():
    study = stopped_study(SCORES, halt=10, keep_best=2)
    best = dataclasses.replace(
        study.runs[0],
        evaluations=curve(0.99),
        reason="rank 5 of 5 at step 10 with f1 0.99; the best 2 went on; collapsed",
    )
    (found,) = early_stopping.find(dataclasses.replace(study, runs=(best, *study.runs[1:]))).stopped
    assert found.ranked[-1].run is best


def test_a_study_without_stops_is_asked_what_its_ranking_foretold():
    runs = [
        one_run(head=k, score=max(row), evaluations=curve(*row)) for k, row in enumerate(SCORES)
    ]
    (found,) = early_stopping.find(make_study(runs)).rankings
    assert found.ranks == statistics.early_ranks(runs)
    assert [rank.fraction for rank in found.ranks] == [0.25, 0.5, 0.75]
    # The third run is the best at the end; it was the last at first, and led from then on.
    assert found.keep_for_best == (5, 1, 1)
    assert found.costs == pytest.approx((1.0, 0.5 + 0.5 / 5, 0.75 + 0.25 / 5))


def test_where_smaller_is_better_the_smallest_is_to_be_kept():
    runs = [
        one_run(head=k, score=min(row), evaluations=curve(*row), greater_is_better=False)
        for k, row in enumerate(SCORES)
    ]
    (found,) = early_stopping.find(make_study(runs, greater_is_better=False)).rankings
    assert found.keep_for_best == (1, 1, 1)  # .1 is the best at once and stays so


def test_runs_with_one_evaluation_at_the_end_tell_nothing():
    runs = [one_run(head=k, evaluations=((40, {"f1": k / 10}),)) for k in range(5)]
    assert early_stopping.find(make_study(runs)) is None


# --- chosen by validation


def test_optimism_is_that_of_the_runs_with_both_scores():
    scores = [(0.70, 0.70), (0.80, 0.75), (0.90, 0.72), (0.95, None)]
    runs = [one_run(head=k, score=v, test_score=t) for k, (v, t) in enumerate(scores)]
    found = chosen_by_validation.find(make_study(runs))
    (one,) = found.recipes
    assert one.optimism == statistics.optimism_of_runs(runs)
    assert one.optimism.left_out == 1
    assert one.validation_gain == pytest.approx(0.1)
    assert one.test_gain == pytest.approx(0.72 - 2.17 / 3)
    assert found.records()[-1]["optimism"] == pytest.approx(0.1 - (0.72 - 2.17 / 3))


def test_too_good_is_positive_where_smaller_is_better():
    scores = [(0.3, 0.3), (0.2, 0.3), (0.1, 0.3)]
    runs = [
        one_run(head=k, score=v, test_score=t, greater_is_better=False)
        for k, (v, t) in enumerate(scores)
    ]
    (one,) = chosen_by_validation.find(make_study(runs, greater_is_better=False)).recipes
    assert one.optimism.optimism[-1] == pytest.approx(0.1)
    assert one.validation_gain == pytest.approx(-0.1)
