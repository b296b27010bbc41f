"""Folds of rows: every row in one, labels shared out, groups whole; by hand and at random."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_stabilizer.data.folding import assign_folds, folds_by_column
from hf_stabilizer.errors import ConfigurationError, DataError

CLASSES, NUMBERS = "text-classification", "text-regression"
few = settings(max_examples=60, deadline=None)


@st.composite
def labelled(draw: st.DrawFn) -> tuple[list[str], int]:
    """Labels, of which one at least has a row for each fold."""
    folds = draw(st.integers(2, 6))
    labels = ["a"] * folds + draw(st.lists(st.sampled_from("abcde"), max_size=40))
    return draw(st.permutations(labels)), folds


@few
@given(labelled(), st.integers(0, 9))
def test_every_row_lies_in_one_fold_and_labels_are_shared_out(
    rows: tuple[list[str], int], seed: int
) -> None:
    labels, folds = rows
    found = assign_folds(labels, folds, seed=seed, task=CLASSES)
    assert len(found) == len(labels)
    assert set(found) == set(range(folds))
    for label in set(labels):
        counts = Counter(f for f, name in zip(found, labels, strict=True) if name == label)
        each = [counts[fold] for fold in range(folds)]
        assert max(each) - min(each) <= 1
    sizes = Counter(found).values()
    assert max(sizes) - min(sizes) <= 1
    assert found == assign_folds(labels, folds, seed=seed, task=CLASSES)


@few
@given(labelled(), st.data())
def test_groups_are_never_split(rows: tuple[list[str], int], data: st.DataObject) -> None:
    labels, folds = rows
    names = [f"g{n}" for n in range(folds)]
    groups = data.draw(st.permutations(names + ["g0"] * (len(labels) - folds)))
    more = st.lists(
        st.sampled_from([*names, "h", "i", "j"]), min_size=len(labels), max_size=len(labels)
    )
    groups = [
        other if group == "g0" and place else group
        for place, (group, other) in enumerate(zip(groups, data.draw(more), strict=True))
    ]
    if len(set(groups)) < folds:
        return
    found = assign_folds(labels, folds, groups=groups, task=CLASSES)
    assert set(found) == set(range(folds))
    assert len(set(zip(found, groups, strict=True))) == len(set(groups))


@few
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=60), st.integers(2, 6))
def test_numbers_are_divided_evenly(labels: list[float], folds: int) -> None:
    if len(labels) < folds:
        return
    sizes = Counter(assign_folds(labels, folds, task=NUMBERS))
    assert set(sizes) == set(range(folds))
    assert max(sizes.values()) - min(sizes.values()) <= 1


def test_each_fold_has_small_and_large_numbers() -> None:
    """By hand: 20 numbers in 2 folds make ten bins of two, of which each fold has one."""
    found = assign_folds([float(n) for n in range(20)], 2, task=NUMBERS)
    assert all(found[n] != found[n + 1] for n in range(0, 20, 2))


def test_of_several_labels_the_rarest_is_shared_out() -> None:
    labels = [["a", "b"], ["a"], ["a"], ["a", "b"], ["a"], ["a"]]
    found = assign_folds(labels, 2, task=CLASSES)
    assert found[0] != found[3]


def test_another_seed_makes_other_folds() -> None:
    labels = ["a", "b"] * 20
    found = [assign_folds(labels, 4, seed=seed, task=CLASSES) for seed in (0, 1)]
    assert found[0] != found[1]


def test_a_rare_label_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="hf_stabilizer"):
        found = assign_folds(["a"] * 6 + ["b"], 3, task=CLASSES)
    assert len(found) == 7
    assert "fewer rows than the 3 folds" in caplog.text
    assert "'b' (1 rows)" in caplog.text


@pytest.mark.parametrize(
    ("labels", "folds", "options", "message"),
    [
        (["a"] * 4, 1, {}, "folds must be a whole number from 2 up, got 1"),
        (["a"] * 4, 2.0, {}, "folds must be a whole number from 2 up, got 2.0"),
        (["a"] * 4, 2, {"seed": -1}, "seed must be a whole number in"),
        (["a"] * 4, 5, {}, "4 rows cannot be divided into 5 folds"),
        (["a"] * 4, 3, {"groups": [1, 1, 2, 2]}, "2 groups cannot be divided into 3 folds"),
        (["a", "a", "b", "b"], 3, {}, "no label has 3 rows or more"),
    ],
)
def test_what_cannot_be_divided_is_refused(
    labels: list[str], folds: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((ConfigurationError, DataError), match=message):
        assign_folds(labels, folds, task=CLASSES, **options)


def test_a_column_names_the_folds() -> None:
    assert folds_by_column(["b", "a", "b"], column="f") == ([1, 0, 1], ["a", "b"])
    # An empty cell elsewhere makes pandas read 10 as 10.0; names become those of folders.
    assert folds_by_column([10.0, 9.0, 10.0], column="f")[1] == ["9", "10"]
    assert folds_by_column(["x/y", ".z"], column="f")[1] == ["z", "x_y"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", None], "1 of 2 rows have no fold in column 'f'"),
        ([1, 1], "column 'f' holds '1' in every row, and one fold is none"),
        (["a b", "a/b"], "would both name the fold 'a_b'"),
    ],
)
def test_a_column_that_names_no_folds_is_refused(values: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        folds_by_column(values, column="f")
