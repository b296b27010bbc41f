"""What a trained model puts out for any rows: the Trainer's own numbers, in the rows' order."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from hf_stabilizer import train
from hf_stabilizer.data import load_splits
from hf_stabilizer.errors import ConfigurationError, DataError
from hf_stabilizer.prediction import predict_rows, read_member, read_names
from hf_stabilizer.predictions import read_predictions
from hf_stabilizer.run import prepare_data

from .tiny import write_member

TEXTS = ["the good film", "a bad plot was very bad", "fine", "grim cast", "the tone is not good"]


@pytest.fixture
def member(config: dict[str, Any], tmp_path: Path) -> Path:
    return Path(write_member(tmp_path / "member", config))


def test_it_is_what_the_run_predicted_bit_for_bit(config: dict[str, Any]) -> None:
    train({**config, "max_steps": 2, "save_strategy": "no", "load_best_model_at_end": False})
    folder = Path(config["output_dir"])
    member = read_member(folder)
    assert member.configuration is not None
    splits = load_splits(member.configuration.data, task=member.task)
    prepared, kept = prepare_data(member.configuration), read_predictions(folder)
    assert kept is not None
    assert splits.test is not None
    for rows, places, theirs in (
        (splits.validation, prepared.validation_rows, kept.validation),
        (splits.test, prepared.test_rows, kept.test),
    ):
        assert places is not None
        assert theirs is not None
        ours = predict_rows(folder, rows)
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours[list(places)], theirs)


def test_rows_come_back_in_their_own_order(member: Path) -> None:
    rows = pd.DataFrame({"text": TEXTS, "more": range(len(TEXTS))})
    together = predict_rows(member, rows)
    for place in range(len(TEXTS)):
        alone = predict_rows(member, rows.iloc[[place]])
        np.testing.assert_allclose(together[place], alone[0], atol=1e-6)
    backwards = predict_rows(member, rows[::-1])
    np.testing.assert_allclose(backwards[::-1], together, atol=1e-6)
    np.testing.assert_allclose(predict_rows(member, rows, batch_size=2), together, atol=1e-6)


def test_a_data_set_is_read_as_a_table_is(member: Path) -> None:
    from datasets import Dataset

    table = pd.DataFrame({"text": TEXTS})
    rows = Dataset.from_dict({"text": TEXTS})
    np.testing.assert_array_equal(predict_rows(member, rows), predict_rows(member, table))


def test_a_checkpoint_and_a_model_by_itself_are_members(member: Path, tmp_path: Path) -> None:
    rows = pd.DataFrame({"text": TEXTS})
    shutil.copytree(member / "model", member / "checkpoint-4")
    (member / "checkpoint-4" / "tokenizer_config.json").unlink()  # its run has it
    shutil.copytree(member / "model", tmp_path / "alone")
    found = predict_rows(member, rows)
    np.testing.assert_array_equal(predict_rows(member / "checkpoint-4", rows), found)
    np.testing.assert_array_equal(predict_rows(tmp_path / "alone", rows), found)
    assert read_member(member / "checkpoint-4").configuration is not None
    assert read_member(tmp_path / "alone").task == "text-classification"
    assert read_names(member) == ("fresh", "rotten")


def test_no_random_number_is_drawn(member: Path) -> None:
    before = torch.get_rng_state()
    predict_rows(member, pd.DataFrame({"text": TEXTS}))
    assert torch.equal(before, torch.get_rng_state())


def test_regression_and_choices(config: dict[str, Any], tmp_path: Path) -> None:
    number = write_member(
        tmp_path / "number", {**config, "task": "text-regression"}, id2label={0: "x"},
        problem_type="regression",
    )  # fmt: skip
    assert predict_rows(number, pd.DataFrame({"text": TEXTS})).shape == (5, 1)
    choice = write_member(
        tmp_path / "choice",
        {**config, "task": "multiple-choice", "choice_columns": ["A", "B", "C"]},
        architecture="BertForMultipleChoice",
    )
    rows = pd.DataFrame({"prompt": TEXTS, "A": TEXTS, "B": TEXTS[::-1], "C": ["good"] * 5})
    found = predict_rows(choice, rows)
    assert found.shape == (5, 3)
    swapped = predict_rows(choice, rows, choice_columns=["B", "A", "C"])
    np.testing.assert_allclose(swapped, found[:, [1, 0, 2]], atol=1e-6)


def test_bad_rows_are_told_before_any_pass(member: Path) -> None:
    with pytest.raises(DataError, match=r"1 of 2 rows have no text in column 'text'.* row 2"):
        predict_rows(member, pd.DataFrame({"text": ["good", " "]}))
    with pytest.raises(DataError, match="there are no rows to predict"):
        predict_rows(member, pd.DataFrame({"text": []}))
    with pytest.raises(DataError, match="has no column 'body'"):
        predict_rows(member, pd.DataFrame({"text": TEXTS}), text_columns=["body"])
    with pytest.raises(ConfigurationError, match="batch_size must be a whole number"):
        predict_rows(member, pd.DataFrame({"text": TEXTS}), batch_size=0)


def test_what_is_no_member_is_told(member: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no folder"):
        read_member(tmp_path / "nowhere")
    shutil.rmtree(member / "model")
    with pytest.raises(ConfigurationError, match="holds no model; name a run's folder"):
        read_member(member)
    (member / "run.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="a study keeps the best model of each recipe"):
        read_member(member)
