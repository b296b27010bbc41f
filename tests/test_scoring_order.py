"""Rows are scored in their own order, also where training batches are grouped by length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from packaging.version import Version
from torch import nn

from hf_stabilizer import train
from hf_stabilizer.configuration import load_configuration
from hf_stabilizer.predictions import read_predictions
from hf_stabilizer.run import prepare_data
from hf_stabilizer.scoring_order import ScoringOrderCallback, in_their_own_order
from tests.tiny import same_weights, tiny_bert, training_arguments

SEEDED = Version(transformers.__version__) >= Version("5.16")
GROUPED = {"train_sampling_strategy": "group_by_length"}


# Rows of one to twenty-four tokens.
ROWS = [
    {"input_ids": torch.full((row + 1,), 5 + row), "labels": torch.tensor(row % 2)}
    for row in range(24)
]


def collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    ids = nn.utils.rnn.pad_sequence([row["input_ids"] for row in rows], batch_first=True)
    return {
        "input_ids": ids,
        "attention_mask": (ids > 0).long(),
        "labels": torch.stack([row["labels"] for row in rows]),
    }


def grouped(folder: Path, *, rows: Any = None, **options: Any) -> transformers.Trainer:
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    args = training_arguments(folder, **GROUPED, **options)
    return transformers.Trainer(
        tiny_bert(**still), args, data_collator=collate, train_dataset=ROWS,
        eval_dataset=rows or ROWS, compute_metrics=lambda prediction: {"seen": 1.0},
    )  # fmt: skip


def is_in_order(labels: Any) -> bool:
    return bool(np.array_equal(labels, np.arange(24) % 2))


def test_the_trainer_scores_in_another_order(tmp_path: Path) -> None:
    """The fact behind it, and the remedy."""
    trainer = grouped(tmp_path)
    assert not is_in_order(trainer.predict(ROWS).label_ids)
    with in_their_own_order(trainer.args):
        assert is_in_order(trainer.predict(ROWS).label_ids)
    assert trainer.args.train_sampling_strategy == "group_by_length"


@pytest.mark.parametrize("sets", [1, 2])
def test_every_evaluation_is_in_order_and_training_is_not_touched(
    tmp_path: Path, sets: int
) -> None:
    looks: list[bool] = []

    def listen(trainer: transformers.Trainer) -> transformers.Trainer:
        trainer.compute_metrics = lambda prediction: (  # type: ignore[assignment]
            looks.append(is_in_order(prediction.label_ids)) or {"seen": 1.0}
        )
        return trainer

    rows = {"one": ROWS, "two": ROWS} if sets == 2 else ROWS
    options: dict[str, Any] = {
        "rows": rows, "num_train_epochs": 1, "eval_strategy": "steps", "eval_steps": 1,
        "eval_on_start": True, "save_strategy": "steps", "save_steps": 1,
    }  # fmt: skip
    plain = listen(grouped(tmp_path / "a", **options))
    plain.train()
    assert not all(looks)
    looks.clear()
    ours = grouped(tmp_path / "b", **options)
    listen(ours).add_callback(ScoringOrderCallback(sets))
    ours.train()
    assert len(looks) == 4 * sets
    assert all(looks)
    # Older ones draw the order of scored rows from the numbers that training rows are drawn by.
    assert same_weights(plain.model, ours.model) or not SEEDED
    assert ours.args.train_sampling_strategy == "group_by_length"
    written = torch.load(tmp_path / "b" / "checkpoint-1" / "training_args.bin", weights_only=False)
    assert written.train_sampling_strategy == "group_by_length"


def test_a_run_keeps_predictions_beside_their_rows(config: dict[str, Any]) -> None:
    import pandas as pd

    rows = pd.read_csv(config["train_file"])
    rows["text"] = [f"{text} {'the ' * (row % 4)}".strip() for row, text in enumerate(rows["text"])]
    rows.to_csv(config["train_file"], index=False)
    train({**config, **GROUPED})
    prepared = prepare_data(load_configuration(config))
    kept = read_predictions(Path(config["output_dir"]))
    assert kept is not None
    assert prepared.test is not None
    np.testing.assert_array_equal(kept.validation_labels, prepared.validation["labels"])
    np.testing.assert_array_equal(kept.test_labels, prepared.test["labels"])
