"""Probabilities in place of labels: read, trained by the Trainer's own socket, never scored by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import transformers

from hf_stabilizer import train
from hf_stabilizer.configuration import load_configuration
from hf_stabilizer.data import DataArguments, load_splits
from hf_stabilizer.errors import ConfigurationError, DataError
from hf_stabilizer.run import build_trainer, prepare_data
from hf_stabilizer.tasks import PreparedTask
from hf_stabilizer.tasks.losses import soft_cross_entropy


def write_soft(config: dict[str, Any], folder: Path, cells: Any = None) -> dict[str, Any]:
    """The rows of a configuration with a column of probabilities, as Parquet."""
    rows = pd.read_csv(config["train_file"])
    certain = [[float(label == name) for name in ("fresh", "rotten")] for label in rows["label"]]
    rows["soft"] = certain if cells is None else cells(certain)
    rows.to_parquet(folder / "soft.parquet")
    return {**config, "train_file": str(folder / "soft.parquet"), "soft_label_column": "soft"}


def softened(certain: list[list[float]]) -> list[Any]:
    """Four in five rows with a doubt, the others without probabilities."""
    return [
        [0.8 * p + 0.1 for p in row] if place % 5 else None for place, row in enumerate(certain)
    ]


def test_the_loss_by_hand() -> None:
    logits = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    probabilities = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    log = logits.log_softmax(-1)
    rows = [-(0.25 * log[0, 0] + 0.75 * log[0, 1]), -log[1, 0]]
    torch.testing.assert_close(soft_cross_entropy((logits,), probabilities), sum(rows) / 2)
    # Four probabilities are two rows; of eight there is another batch to come.
    torch.testing.assert_close(
        soft_cross_entropy({"logits": logits}, probabilities, torch.tensor(8)), sum(rows) / 4
    )
    shares = torch.tensor([[4], [4]])
    torch.testing.assert_close(
        soft_cross_entropy({"logits": logits}, probabilities, shares), sum(rows) / 4
    )


def test_class_ids_have_the_ordinary_loss() -> None:
    logits, ids = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.arange(5) % 3
    ordinary = torch.nn.functional.cross_entropy(logits, ids)
    torch.testing.assert_close(soft_cross_entropy((logits,), ids), ordinary)
    torch.testing.assert_close(soft_cross_entropy((logits,), ids, torch.tensor(5)), ordinary)
    certain = torch.nn.functional.one_hot(ids, 3).float()
    torch.testing.assert_close(soft_cross_entropy((logits,), certain), ordinary)


def test_certain_probabilities_train_as_their_labels_do(
    config: dict[str, Any], tmp_path: Path
) -> None:
    # Plain gradient descent: AdamW makes whole steps of rounding where gradients are nearly zero.
    config |= {"optim": "sgd", "learning_rate": 0.1, "disable_tqdm": True}
    plain = train(config, max_steps=6, output_dir=str(tmp_path / "plain"))
    soft = train(write_soft(config, tmp_path), max_steps=6, output_dir=str(tmp_path / "soft"))
    for (_, expected), (_, found) in zip(plain.evaluations, soft.evaluations, strict=True):
        assert found == pytest.approx(expected, rel=1e-4)
    state = [
        transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / name / "model")
        for name in ("plain", "soft")
    ]
    for first, second in zip(*(model.parameters() for model in state), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-3, atol=2e-5)


def test_the_trainer_counts_each_probability(config: dict[str, Any], tmp_path: Path) -> None:
    """What `soft_cross_entropy` makes rows of again: eight rows in each of three batches."""
    configuration = load_configuration(write_soft(config, tmp_path))
    prepared = prepare_data(configuration)
    trainer = build_trainer(configuration, tmp_path / "x", prepared, quiet=True)
    assert trainer.compute_loss_func is soft_cross_entropy
    batches = iter(trainer.get_train_dataloader())
    _, items = trainer.get_batch_samples(batches, 3, trainer.args.device)
    assert items == 3 * 8 * 2


def test_doubts_change_the_training_and_reach_the_trainer(
    config: dict[str, Any], tmp_path: Path
) -> None:
    values = write_soft(config, tmp_path, softened)
    prepared = prepare_data(load_configuration(values))
    assert prepared.soft_labels
    labels = prepared.train["labels"]
    assert {tuple(round(p, 6) for p in row) for row in labels} == {
        (0.9, 0.1), (0.1, 0.9), (1.0, 0.0), (0.0, 1.0),
    }  # fmt: skip
    assert set(prepared.validation["labels"]) == set(prepared.test["labels"]) == {0, 1}  # type: ignore[index]
    assert prepared.decided_train["labels"] == [int(row[1] > row[0]) for row in labels]
    trainer = build_trainer(load_configuration(values), tmp_path / "x", prepared, quiet=True)
    loss = trainer.evaluate()["eval_loss"]
    logits = torch.from_numpy(trainer.predict(prepared.validation).predictions)
    ids = torch.tensor(prepared.validation["labels"])
    assert loss == pytest.approx(float(torch.nn.functional.cross_entropy(logits, ids)), rel=1e-5)
    assert (
        train(values, output_dir=str(tmp_path / "a")).evaluations
        != train(config, output_dir=str(tmp_path / "b")).evaluations
    )


def test_the_head_is_fitted_to_the_most_probable_class(
    config: dict[str, Any], tmp_path: Path
) -> None:
    heads = []
    for values in (config, write_soft(config, tmp_path, softened)):
        configuration = load_configuration({**values, "fit_head": True})
        prepared = prepare_data(configuration)
        trainer = build_trainer(configuration, tmp_path / "x", prepared, quiet=True)
        heads.append(trainer.model.classifier.weight)  # type: ignore[union-attr]
    assert torch.equal(*heads)


def test_saved_rows_keep_their_probabilities_and_places(
    config: dict[str, Any], tmp_path: Path
) -> None:
    values = write_soft(config, tmp_path, softened)
    prepared = prepare_data(load_configuration(values))
    prepared.save_to(tmp_path / "saved")
    again = PreparedTask.load_from(tmp_path / "saved")
    assert again.train.to_dict() == prepared.train.to_dict()
    assert again.soft_labels
    assert again.validation_rows == prepared.validation_rows
    assert again.test_rows == prepared.test_rows
    splits = load_splits(load_configuration(values).data, task="text-classification")
    names = prepared.label_names or ()
    assert prepared.validation_rows is not None
    for place, row in enumerate(prepared.validation_rows):
        text = prepared.tokenizer(splits.validation[row]["text"])["input_ids"]
        assert prepared.validation[place]["input_ids"] == text
        assert names[prepared.validation[place]["labels"]] == splits.validation[row]["label"]
    record = json.loads((tmp_path / "saved" / "task.json").read_text())
    for key in ("validation_rows", "test_rows", "soft_labels"):
        del record[key]  # as an older version wrote it
    (tmp_path / "saved" / "task.json").write_text(json.dumps(record))
    old = PreparedTask.load_from(tmp_path / "saved")
    assert (old.validation_rows, old.test_rows, old.soft_labels) == (None, None, False)


def test_only_training_rows_keep_the_column(config: dict[str, Any], tmp_path: Path) -> None:
    arguments = load_configuration(write_soft(config, tmp_path, softened)).data
    splits = load_splits(arguments, task="text-classification")
    assert "soft" in splits.train.column_names
    assert "soft" not in splits.validation.column_names
    assert splits.soft_label_column == "soft"


def test_lists_in_a_csv_are_json(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rows = {"text": ["a", "b"] * 6, "label": [0, 1] * 6, "p": ["[0.6, 0.4]", ""] * 6}
    pd.DataFrame(rows).to_csv(path)
    arguments = DataArguments(train_file=str(path), soft_label_column="p", validation_size=2)
    splits = load_splits(arguments, task="text-classification")
    found = {row["label"]: row["p"] for row in splits.train}
    assert found == {"0": [0.6, 0.4], "1": [0.0, 1.0]}


def test_refusals(config: dict[str, Any], tmp_path: Path) -> None:
    def refused(cell: Any, message: str, **keys: Any) -> None:
        values = write_soft(config, tmp_path, lambda rows: [cell, *rows[1:]])
        with pytest.raises((DataError, ConfigurationError), match=message):
            prepare_data(load_configuration({**values, "validation_size": 1, **keys}))

    refused([0.5, 0.4], r"holds .*0\.4.* in row 1 of .*list of 2 probabilities that sum to 1")
    refused([0.5, 0.3, 0.2], "one for each of fresh, rotten")
    refused([1.5, -0.5], "2 probabilities")
    refused([float("nan"), 1.0], "2 probabilities")
    refused([1.0, 0.0], "no column 'sofd' .did you mean soft", soft_label_column="sofd")
    refused([1.0, 0.0], "label_smoothing_factor=0.1 and soft_label_column='soft'",
            label_smoothing_factor=0.1)  # fmt: skip


def test_a_task_without_classes_has_no_probabilities(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    rows = {"text": ["a", "b"] * 6, "label": [0.5, 1.5] * 6, "p": [[1.0]] * 12}
    pd.DataFrame(rows).to_json(path, orient="records")
    arguments = DataArguments(train_file=str(path), soft_label_column="p")
    with pytest.raises(ConfigurationError, match="task='text-regression' has none"):
        load_splits(arguments, task="text-regression")
    rows |= {"label": [["x"], ["y"]] * 6}
    pd.DataFrame(rows).to_json(path, orient="records")
    with pytest.raises(DataError, match="rows with one label each"):
        load_splits(arguments, task="text-classification")
