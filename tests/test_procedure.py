"""Does a procedure's folder know what was asked, and refuse what was not?"""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_stabilizer import StudyError
from hf_stabilizer.procedure import FILE, check_procedure, open_procedure, read_procedure


def test_the_same_settings_go_on_and_their_outcome_stays(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    record = open_procedure(folder, "pretrain", {"seed": 1, "path": Path("x"), "pair": (1, 2)})
    assert not record.is_over
    record.ended(folder, score=0.5)
    again = open_procedure(folder, "pretrain", {"seed": 1, "path": Path("x"), "pair": (1, 2)})
    assert again.is_over
    assert again.outcome == {"score": 0.5}
    assert again.versions == record.versions


def test_other_settings_are_named(tmp_path: Path) -> None:
    open_procedure(tmp_path, "pretrain", {"seed": 1})
    with pytest.raises(StudyError, match="seed is 1 there and 2 here; name another output folder"):
        open_procedure(tmp_path, "pretrain", {"seed": 2})
    with pytest.raises(StudyError, match="holds the results of pretrain"):
        open_procedure(tmp_path, "soup", {"seed": 1})


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StudyError, match=r"holds other files \(thesis.txt\) and no pretrain"):
        open_procedure(tmp_path, "pretrain", {})
    assert read_procedure(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_check_refuses_as_the_start_does_and_takes_no_folder(tmp_path: Path) -> None:
    assert check_procedure(tmp_path / "new", "pretrain", {"seed": 1}) is None
    assert not (tmp_path / "new").exists()
    open_procedure(tmp_path, "pretrain", {"seed": 1})
    assert check_procedure(tmp_path, "pretrain", {"seed": 1}) is not None
    with pytest.raises(StudyError, match="seed is 1 there and 2 here"):
        check_procedure(tmp_path, "pretrain", {"seed": 2})


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{")
    with pytest.raises(StudyError, match="is not the record of a procedure"):
        read_procedure(tmp_path)
