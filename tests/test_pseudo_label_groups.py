"""Rows that may not be pseudo-labelled: those of groups that judge, and a text a second time."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from hf_stabilizer import DataError, pseudo_label, run_pseudo_labels
from hf_stabilizer.data.near_duplicates import normalized
from hf_stabilizer.pseudo_labels.groups import HeldOutGroups, group_name
from hf_stabilizer.pseudo_labels.parts import Part, read_parts, written
from hf_stabilizer.pseudo_labels.planning import plan_pseudo_labels, print_plan
from hf_stabilizer.pseudo_labels.question import ask
from hf_stabilizer.pseudo_labels.running import open_workshop
from hf_stabilizer.pseudo_labels.stages import Workshop, all_rounds, read_unlabelled_rows
from hf_stabilizer.pseudo_labels.usable import usable_rows
from tests.conftest import make_rows
from tests.reference import first_of_each_text

pytestmark = pytest.mark.filterwarnings("ignore:the run has collapsed:UserWarning")
FILMS = [f"film {place}" for place in range(8)]
QUIET = Console(quiet=True)
LOOSE: dict[str, Any] = {"threshold": None, "allow_missing_classes": True}


def rows_of_films(count: int, seed: int) -> pd.DataFrame:
    """Rows as `make_rows` has them, a film for each in turn."""
    table = pd.DataFrame(make_rows(count, seed), columns=["text", "label"])
    return table.assign(film=[FILMS[place % len(FILMS)] for place in range(count)])


@pytest.fixture
def keys(model_folder: Path, tmp_path: Path) -> dict[str, Any]:
    """Forty-eight labelled rows and as many unlabelled ones, six of each film."""
    rows_of_films(48, 0).to_csv(tmp_path / "rows.csv", index=False)
    rows_of_films(48, 5).drop(columns="label").to_csv(tmp_path / "unlabelled.csv", index=False)
    return {
        "model_name_or_path": str(model_folder),
        "train_file": str(tmp_path / "rows.csv"),
        "unlabelled_file": str(tmp_path / "unlabelled.csv"),
        "text_columns": ["text"],
        "group_column": "film",
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 8,
        "max_steps": 6,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }


def without_films(keys: dict[str, Any]) -> None:
    """Takes the column of the groups out of the unlabelled file."""
    file = keys["unlabelled_file"]
    pd.read_csv(file).drop(columns="film").to_csv(file, index=False)


# --- by hand ------------------------------------------------------------------------------------


def test_usable_rows_by_hand() -> None:
    texts = ["a good film", "A good film!", "grim", "grim", "a good film", "warm"]
    rows = pd.DataFrame({"text": texts, "film": ["x", "y", "y", "z", "y", "x"]})
    found = usable_rows(rows, ["text"], HeldOutGroups("film", frozenset("x")))
    # Both rows of x go first: the text of the first of them is that of the second row, too.
    assert (found.places, found.of_groups, found.repeated) == ((1, 2), 2, 2)
    assert str(found) == (
        "4 of 6 were left out, 2 as others of their group judge and 2 as an earlier one has "
        "their text"
    )
    assert str(usable_rows(rows[:1], ["text"])) == ""


@pytest.mark.parametrize("seed", range(3))
def test_each_text_is_taken_once_as_the_oracle_does(seed: int) -> None:
    draw = np.random.default_rng(seed)
    words = ["good", "GOOD", "good.", "bad", "so bad", "so, bad", "\uff27ood", ""]
    texts = [words[place] for place in draw.integers(len(words), size=30)]
    found = usable_rows(pd.DataFrame({"text": texts}), ["text"])
    assert list(found.places) == first_of_each_text([normalized(text) for text in texts])
    assert found.repeated == 30 - len(found.places)


@pytest.mark.parametrize(
    ("here", "there"), [([7, 8], [7.0, None]), ([7, 8], ["007", "x"]), ([" 7", "b"], [7, 9])]
)
def test_a_group_is_the_same_whatever_type_its_column_has(here: Any, there: Any) -> None:
    groups = HeldOutGroups.of("film", [pd.DataFrame({"film": here})])
    assert groups.hold(pd.DataFrame({"film": there})) == [True, False]
    assert group_name("7b") != group_name("7")


def test_rows_of_groups_that_judge_alone_are_refused() -> None:
    rows = pd.DataFrame({"text": ["good", "bad"], "film": ["x", "x"]})
    with pytest.raises(DataError, match=r"all 2 unlabelled rows are of groups .* column 'film'"):
        usable_rows(rows, ["text"], HeldOutGroups("film", frozenset("x")))


# --- no leak ------------------------------------------------------------------------------------


def taught(part: Part, keys: dict[str, Any], folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """What the students of a fold would learn, and what is told of it."""
    question = ask(keys, folds=2, teachers=1, top_k=6, sampling_rate=0.7)
    unlabelled = read_unlabelled_rows(question, read_parts(question)[0])
    part = written(part, folder / "rows")
    engine = {"executor": "in-process"}
    workshop = Workshop(question, folder, (part,), unlabelled, QUIET, engine=engine)
    (labelled,) = all_rounds(workshop).values()
    return pd.read_parquet(labelled.file).drop(columns="teacher"), dict(labelled.told)


def test_rows_of_groups_that_judge_change_nothing_in_their_fold(
    keys: dict[str, Any], tmp_path: Path
) -> None:
    part = read_parts(ask(keys, folds=2))[0]
    assert part.groups is not None
    before, told = taught(part, keys, tmp_path / "before")
    rows = pd.read_csv(keys["unlabelled_file"])
    judging = rows["film"].isin(part.groups.names)
    count = int(judging.sum())
    assert told["of_held_out_groups"] == count > 6
    assert f"{count} as others of their group judge" in told["sentence"]
    labelled = before[before["pseudo_labelled"]]
    assert len(labelled) > 6
    assert not judging[labelled["source_row"]].any()
    # Sure words, and the very texts of rows that may be labelled and of rows that judge.
    others = [*rows["text"][~judging], *part.splits.validation["text"], *["good good good"] * 48]
    rows.loc[judging, "text"] = others[:count]
    rows.to_csv(keys["unlabelled_file"], index=False)
    after, _ = taught(part, keys, tmp_path / "after")
    pd.testing.assert_frame_equal(before, after, check_exact=True)


@pytest.mark.parametrize("folds", [None, 2])
def test_no_student_learns_of_a_group_that_it_is_scored_on(
    keys: dict[str, Any], folds: int | None
) -> None:
    question = ask({**keys, "test_size": 0.2}, folds=folds)
    films = dict(zip(*(rows_of_films(48, 0)[name] for name in ("text", "film")), strict=True))
    for part in read_parts(question):
        judging = {films[text] for rows in part.held_out for text in rows["text"]}
        assert part.groups is not None
        assert part.groups.names == judging
        assert part.splits.validation.column_names == ["text", "label"]
        unlabelled = read_unlabelled_rows(question, part)
        places = part.usable(unlabelled).places
        assert places
        assert not judging & set(unlabelled["film"].iloc[list(places)])


def test_a_plan_counts_rows_of_groups_that_judge(
    keys: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_pseudo_labels(keys, folds=2, teachers=1, runs=2)
    parts = read_parts(ask(keys, folds=2))
    unlabelled = pd.read_csv(keys["unlabelled_file"])
    counts = [part.usable(unlabelled) for part in parts]
    assert next(stage.rows for stage in plan.stages if stage.name == "round 1: labels") == max(
        len(its.places) for its in counts
    )
    for part, its in zip(parts, counts, strict=True):
        assert f"Unlabelled rows for {part.name}: {its}." in plan.notes
    print_plan(plan, Console(width=200))
    assert "as others of their group judge" in capsys.readouterr().out


def test_an_unlabelled_file_without_groups_is_told_of_once_and_recorded(
    keys: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    without_films(keys)
    sentence = "the unlabelled rows have no column 'film'"
    assert any(sentence in note for note in plan_pseudo_labels(keys, folds=2).notes)
    caplog.clear()
    open_workshop(ask(keys, folds=2), tmp_path / "folds", {}, QUIET)
    assert caplog.text.count(sentence) == 1
    found = run_pseudo_labels(
        {**keys, "max_steps": 2},
        output_dir=tmp_path / "out",
        teachers=1,
        runs=2,
        executor="in-process",
        console=QUIET,
        **LOOSE,
    )
    assert caplog.text.count(sentence) == 2
    assert sentence in found.cautions[0]
    record = json.loads((tmp_path / "out" / "procedure.json").read_text(encoding="utf-8"))
    assert record["outcome"]["cautions"] == list(found.cautions)
    assert record["outcome"]["labels"]["pseudo-labelled"]["of_held_out_groups"] == 0


def test_groups_that_are_not_known_are_told_of(
    keys: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = rows_of_films(8, 9).drop(columns="film")
    other.to_csv(tmp_path / "dev.csv", index=False)
    rows = pd.read_csv(keys["unlabelled_file"])
    rows.loc[[3, 4], "film"] = None
    rows.to_csv(keys["unlabelled_file"], index=False)
    keys = {**keys, "validation_file": str(tmp_path / "dev.csv")}
    open_workshop(ask(keys), tmp_path / "out", {}, QUIET)
    assert "8 rows that judge have no group in column 'film'" in caplog.text
    assert "2 of 48 unlabelled rows have no group in column 'film'" in caplog.text


def test_another_group_of_a_row_that_judges_is_another_procedure(
    keys: dict[str, Any], tmp_path: Path
) -> None:
    from hf_stabilizer import StudyError

    other = rows_of_films(8, 9)
    other.to_csv(tmp_path / "dev.csv", index=False)
    keys = {**keys, "validation_file": str(tmp_path / "dev.csv")}
    other.assign(film="film 1").to_csv(tmp_path / "dev.csv", index=False)
    open_workshop(ask(keys), tmp_path / "out", {}, QUIET)
    other.assign(film="film 2").to_csv(tmp_path / "dev.csv", index=False)
    with pytest.raises(StudyError, match="holds another pseudo-label: rows is"):
        open_workshop(ask(keys), tmp_path / "out", {}, QUIET)


def test_a_column_called_as_that_of_the_groups_is_refused_before_anything_is_written(
    keys: dict[str, Any], tmp_path: Path
) -> None:
    for file in ("rows.csv", "unlabelled.csv"):
        pd.read_csv(tmp_path / file).rename(columns={"text": "_group"}).to_csv(
            tmp_path / file, index=False
        )
    keys = {**keys, "text_columns": ["_group"]}
    for folds in (None, 2):
        with pytest.raises(DataError, match=r"have a column '_group' .* rename it"):
            plan_pseudo_labels(keys, folds=folds)
        with pytest.raises(DataError, match=r"have a column '_group' .* rename it"):
            open_workshop(ask(keys, folds=folds), tmp_path / "out", {}, QUIET)
    assert not (tmp_path / "out").exists()


# --- `pseudo_label` by itself ---------------------------------------------------------------------


@pytest.fixture
def teacher(keys: dict[str, Any], tmp_path: Path) -> Path:
    """What a run with groups leaves behind, not trained."""
    from tests.tiny import write_member

    return Path(write_member(tmp_path / "teacher", {**keys, "validation_size": 12}))


def test_groups_of_the_teachers_own_validation_rows_are_left_out(
    keys: dict[str, Any], teacher: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (part,) = read_parts(ask({**keys, "validation_size": 12}))
    assert part.groups is not None
    unlabelled = pd.read_csv(keys["unlabelled_file"])
    free = unlabelled[~unlabelled["film"].isin(part.groups.names)]
    found = pseudo_label(teacher, unlabelled, similarity=1.0, **LOOSE).to_pandas()
    assert set(found["source_row"]) <= set(free.index)
    assert len(found) > 20
    assert "no column 'film'" not in caplog.text
    bare = unlabelled.drop(columns="film")
    more = pseudo_label(teacher, bare, similarity=1.0, **LOOSE).to_pandas()
    assert set(more["source_row"]) - set(free.index)
    assert caplog.text.count("the unlabelled rows have no column 'film'") == 1


def test_groups_of_rows_that_are_named_are_left_out(
    keys: dict[str, Any], teacher: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unlabelled = pd.read_csv(keys["unlabelled_file"])
    held = pd.DataFrame({"text": ["what was the tone of it"], "film": ["film 2"]})
    found = pseudo_label(teacher, unlabelled, held_out=held, **LOOSE).to_pandas()
    assert "film 2" not in set(unlabelled["film"].iloc[found["source_row"]])
    assert len(set(unlabelled["film"].iloc[found["source_row"]])) == 7
    pseudo_label(teacher, unlabelled, held_out=held[["text"]], **LOOSE)
    assert "1 rows that judge have no group in column 'film'" in caplog.text


def test_a_repeated_text_fills_one_place_of_top_k(
    teacher: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [text for text, _ in make_rows(12, seed=3)]
    once = pd.DataFrame({"text": texts})
    rules: dict[str, Any] = {"top_k": 4, "allow_missing_classes": True, "held_out": []}
    plain = pseudo_label(teacher, once, **rules).to_pandas()
    surest = plain.sort_values("confidence")["text"].iloc[-1]
    copies = [surest.upper(), f"{surest}!", surest] * 4
    with caplog.at_level(logging.INFO, logger="hf_stabilizer"):
        found = pseudo_label(teacher, pd.DataFrame({"text": [*texts, *copies]}), **rules)
    pd.testing.assert_frame_equal(found.to_pandas(), plain, check_exact=True)
    assert "12 of 24 were left out, 12 as an earlier one has their text" in caplog.text
