"""What a run predicted row by row: kept for the weights that stay, without another pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_stabilizer import run_study, train
from hf_stabilizer.errors import StudyError
from hf_stabilizer.predictions import LARGEST, Predictions, read_predictions, write_predictions


def predict(folder: Path, config: dict[str, Any]) -> Predictions:
    """The slow way: loads the model that was kept and predicts again."""
    from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments

    from hf_stabilizer.configuration import load_configuration
    from hf_stabilizer.run import prepare_data

    prepared = prepare_data(load_configuration(config))
    scorer = Trainer(
        AutoModelForSequenceClassification.from_pretrained(folder / "model"),
        TrainingArguments(str(folder), use_cpu=True, report_to="none", disable_tqdm=True),
        data_collator=prepared.data_collator,
    )
    validation = scorer.predict(prepared.validation)
    assert prepared.test is not None
    test = scorer.predict(prepared.test)
    return Predictions(
        validation.predictions, test.predictions, validation.label_ids, test.label_ids
    )


def assert_equal(first: Predictions | None, second: Predictions) -> None:
    assert first is not None
    for name, value in vars(second).items():
        kept = getattr(first, name)
        assert kept.shape == value.shape
        np.testing.assert_allclose(kept, value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("recipe", ["plain", "stabilised"])
def test_they_are_those_of_the_model_that_was_kept(config: dict[str, Any], recipe: str) -> None:
    run = train(config, recipe=recipe, learning_rate=0.05)
    folder = Path(config["output_dir"])
    scores = [metrics["accuracy"] for _, metrics in run.evaluations]
    assert scores[-1] != run.best_score or len(set(scores)) < len(scores)  # the last is not chosen
    assert_equal(read_predictions(folder), predict(folder, config))


def test_they_are_the_last_where_nothing_is_chosen(config: dict[str, Any]) -> None:
    values = {**config, "load_best_model_at_end": False, "learning_rate": 0.05}
    train(values)
    folder = Path(config["output_dir"])
    assert_equal(read_predictions(folder), predict(folder, config))


def test_a_run_that_was_halted_goes_on_with_them(config: dict[str, Any], tmp_path: Path) -> None:
    config.pop("output_dir")
    whole = run_study(config, runs=2, output_dir=tmp_path / "whole", workers=1)
    early = run_study(config, runs=2, stop_at=0.5, keep=1, output_dir=tmp_path / "early", workers=1)
    finished = next(run for run in early.runs if run.status == "finished")
    same = next(run for run in whole.runs if run.seeds == finished.seeds)
    ours, theirs = early.predictions(finished), whole.predictions(same)
    assert ours is not None
    assert theirs is not None
    for name, value in vars(theirs).items():
        np.testing.assert_array_equal(getattr(ours, name), value)


def test_what_is_too_large_or_no_array_is_left_out(tmp_path: Path) -> None:
    large = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (LARGEST, 1), (0, 0))
    nothing = Predictions().with_part("test", large, np.zeros(1))
    assert nothing == Predictions()
    write_predictions(nothing, tmp_path)
    assert read_predictions(tmp_path) is None
    first = Predictions().with_part("test", (np.ones((2, 2)), np.zeros(3)), None)
    assert first.test is not None
    assert first.test.dtype == np.float32
    assert first.test_labels is None


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "predictions.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(StudyError, match=r"predictions\.npz' cannot be read .* repeat that run"):
        read_predictions(tmp_path)
