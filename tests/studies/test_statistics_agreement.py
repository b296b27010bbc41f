"""Agreement row by row: published tables, scikit-learn, and edges."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from hf_stabilizer.errors import DataError
from hf_stabilizer.studies.statistics import row_agreement, seed_agreement, value_agreement
from tests import reference

# How many of 14 raters gave each of 5 answers to each of 10 rows; kappa .210 (the worked example
# of the article "Fleiss' kappa", Wikipedia).
COUNTS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]


def test_fleiss_kappa_is_that_of_the_published_table():
    answers = np.array([np.repeat(np.arange(5), row) for row in COUNTS]).T  # (raters, rows)
    found = seed_agreement(answers)
    assert found.fleiss_kappa == pytest.approx(0.210, abs=5e-4)
    assert found.pairwise == pytest.approx(0.378, abs=5e-4)
    assert found.unanimous == 0.1


def test_cohens_kappa_is_that_of_his_two_by_two_table():
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: agreement .7, chance .5, kappa .4.
    first, second = [1] * 25 + [0] * 25, [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    found = seed_agreement([first, second])
    assert (found.pairwise, found.cohen_kappa) == pytest.approx((0.7, 0.4))


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_random_answers_agree_with_the_oracle_and_scikit_learn(classes):
    answers = np.random.default_rng(classes).integers(0, classes, size=(5, 40))
    answers[1] = answers[0]  # two runs that are the same
    found = seed_agreement(answers)
    assert (found.pairwise, found.fleiss_kappa) == pytest.approx(
        reference.fleiss_kappa(answers.tolist())
    )
    kappas = [cohen_kappa_score(a, b) for a, b in itertools.combinations(answers, 2)]
    assert found.cohen_kappa == pytest.approx(np.mean(kappas))
    assert found.matrix[0][1] == found.matrix[2][2] == 1.0
    assert found.unanimous == np.mean([len(set(column)) == 1 for column in answers.T])


def test_rows_that_the_seed_decides_stand_out():
    assert row_agreement([[0, 1], [0, 0], [0, 1], [0, 2]]).tolist() == [1.0, 0.5]


def test_names_and_several_labels_are_answers_too():
    assert seed_agreement([["a", "b"], ["a", "c"]]).pairwise == 0.5
    labels = np.array([[[1, 0], [0, 1]], [[1, 0], [1, 1]]])  # (runs, rows, labels)
    assert seed_agreement(labels).pairwise == 0.5


def test_runs_that_say_one_thing_agree_and_have_no_kappa():
    found = seed_agreement(np.zeros((3, 4), dtype=int))
    assert (found.pairwise, found.unanimous) == (1.0, 1.0)
    assert found.fleiss_kappa is found.cohen_kappa is None


def test_regression_runs_agree_by_their_numbers():
    values = np.random.default_rng(0).normal(size=(4, 30)) * 0.1 + np.arange(30)
    found = value_agreement(values)
    pairs = [np.corrcoef(a, b)[0, 1] for a, b in itertools.combinations(values, 2)]
    assert found.correlation == pytest.approx(np.mean(pairs))
    assert found.spread == pytest.approx(np.mean([np.std(c, ddof=1) for c in values.T]))
    assert 0 < found.relative_spread < 0.01
    same = value_agreement([[1.0, 2.0]] * 2)
    assert (same.spread, same.relative_spread) == (0.0, 0.0)
    assert same.correlation == pytest.approx(1)
    assert value_agreement([[1.0, 1.0], [1.0, 2.0]]).correlation is None
    assert value_agreement([[1.0], [1.0]]).relative_spread is None


@pytest.mark.parametrize("bad", [[[0, 1]], [0, 1], np.zeros((2, 0)), np.zeros((2, 1, 1, 1))])
def test_other_shapes_are_refused(bad):
    with pytest.raises(DataError, match=r"shape \(runs, rows\) with two runs or more"):
        seed_agreement(bad)


def test_predictions_that_are_no_numbers_are_refused():
    with pytest.raises(DataError, match="must not hold nan"):
        seed_agreement([[0.0, np.nan], [0.0, 1.0]])
    with pytest.raises(DataError, match="must be finite numbers"):
        value_agreement([[0.0, np.inf], [0.0, 1.0]])
