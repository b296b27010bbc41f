"""Tokenised rows, and models that load anywhere: tiny real models, no downloads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import transformers
from safetensors.torch import load_file

from hf_stabilizer.data import DataArguments, Splits, load_splits
from hf_stabilizer.data.labels import TASKS as DATA_TASKS
from hf_stabilizer.errors import ConfigurationError, DataError
from hf_stabilizer.metrics import build_compute_metrics, metric_names
from hf_stabilizer.models import load_model, load_tokenizer
from hf_stabilizer.tasks import TASKS, PreparedTask, prepare_task
from tests.tiny import SIZES, tiny_bert, tiny_tokenizer, training_arguments

GOOD, BAD = "the film was very good", "the film was bad"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A body without a head, stored in bfloat16, with its tokenizer."""
    folder = str(tmp_path_factory.mktemp("model"))
    tiny_bert(initializer_range=0.2).bert.to(torch.bfloat16).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def splits_of(folder: Path, rows: dict[str, list[Any]], task: str, **options: Any) -> Splits:
    path = folder / "rows.json"
    pd.DataFrame(rows).to_json(path, orient="records")
    return load_splits(DataArguments(train_file=str(path), **options), task=task)


def classes(folder: Path) -> Splits:
    rows = {"text": [GOOD, BAD] * 10, "label": ["fresh", "rotten"] * 10}
    return splits_of(folder, rows, "text-classification")


def test_rooms_agree_on_the_tasks() -> None:
    assert TASKS == DATA_TASKS
    assert all(metric_names(task) for task in TASKS)


def test_importing_tasks_data_and_metrics_is_light() -> None:
    code = (
        "import sys, hf_stabilizer.tasks, hf_stabilizer.data, hf_stabilizer.metrics as m;"
        "m.default_metrics('text-regression');"
        "print([n for n in ('torch', 'transformers', 'evaluate', 'sklearn') if n in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


def test_rows_by_hand(tmp_path: Path) -> None:
    rows = {"text": ["good film", "bad"] * 5, "label": ["fresh", "rotten"] * 5}
    splits = splits_of(tmp_path, rows, "text-classification")
    prepared = prepare_task("text-classification", splits, tiny_tokenizer())
    ids = tiny_tokenizer().get_vocab()
    expected = {
        "fresh": [2, ids["good"], ids["film"], 3],
        "rotten": [2, ids["bad"], 3],
    }
    for row in prepared.train:
        assert row["input_ids"] == expected[("fresh", "rotten")[row["labels"]]]
    assert set(prepared.train.column_names) == {
        "input_ids",
        "token_type_ids",
        "attention_mask",
        "labels",
    }
    assert (prepared.num_labels, prepared.label_names) == (2, ("fresh", "rotten"))
    assert prepared.problem_type == "single_label_classification"


def test_evaluation_rows_come_longest_first_and_training_rows_in_order(tmp_path: Path) -> None:
    texts = ["good " * (1 + place % 5) for place in range(40)]
    splits = splits_of(tmp_path, {"text": texts, "label": [0, 1] * 20}, "text-classification")
    prepared = prepare_task("text-classification", splits, tiny_tokenizer())
    lengths = [len(ids) for ids in prepared.validation["input_ids"]]
    assert lengths == sorted(lengths, reverse=True)
    assert len(set(lengths)) > 1
    assert [len(ids) - 2 for ids in prepared.train["input_ids"]] == [
        len(text.split()) for text in splits.train["text"]
    ]


def test_a_pair_loses_the_longer_text_first(tmp_path: Path) -> None:
    rows = {"sentence1": ["good " * 20] * 10, "sentence2": ["bad film"] * 10, "label": [0, 1] * 5}
    splits = splits_of(tmp_path, rows, "text-classification")
    prepared = prepare_task("text-classification", splits, tiny_tokenizer(), max_length=10)
    vocabulary = tiny_tokenizer().get_vocab()
    good, bad, film = (vocabulary[word] for word in ("good", "bad", "film"))
    assert prepared.train[0]["input_ids"] == [2, *[good] * 5, 3, bad, film, 3]
    assert prepared.train[0]["token_type_ids"] == [0] * 7 + [1] * 3


@pytest.mark.parametrize("columns", [["prompt"], ["context", "prompt"]])
def test_choices_by_hand(tmp_path: Path, columns: list[str]) -> None:
    count = 10
    rows = {"context": ["the news"] * count, "prompt": ["what film"] * count}
    rows |= {"A": ["good"] * count, "B": ["bad"] * count, "answer": ["A", "B"] * 5}
    splits = splits_of(tmp_path, rows, "multiple-choice", text_columns=columns)
    prepared = prepare_task("multiple-choice", splits, tiny_tokenizer())
    decode = tiny_tokenizer().decode
    asked = "[CLS] what film [SEP] {} [SEP]"
    if len(columns) == 2:
        asked = "[CLS] the news [SEP] what film {} [SEP]"
    row = prepared.train[0]
    assert [decode(ids) for ids in row["input_ids"]] == [asked.format("good"), asked.format("bad")]
    assert prepared.num_labels == 2
    assert prepared.problem_type is None
    batch = prepared.data_collator([prepared.train[place] for place in range(3)])
    assert batch["input_ids"].shape == (3, 2, len(row["input_ids"][0]))


def test_several_labels_become_one_float_per_class(tmp_path: Path) -> None:
    rows = {"text": [GOOD, BAD, GOOD, BAD] * 5, "label": [["b", "a"], [], ["c"], ["a"]] * 5}
    splits = splits_of(tmp_path, rows, "text-classification")
    prepared = prepare_task("text-classification", splits, tiny_tokenizer())
    assert prepared.problem_type == "multi_label_classification"
    assert prepared.label_names == ("a", "b", "c")
    seen = {tuple(row) for row in prepared.train["labels"]}
    assert seen == {(1.0, 1.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)}
    batch = prepared.data_collator([prepared.train[place] for place in range(3)])
    assert batch["labels"].dtype == torch.float32
    assert batch["labels"].shape == (3, 3)


TASK_ROWS: list[tuple[str, dict[str, list[Any]], str]] = [
    ("text-classification", {"text": [GOOD, BAD] * 12, "label": ["pos", "neg"] * 12}, "f1_macro"),
    (
        "text-classification",
        {"text": [GOOD, BAD] * 12, "label": [["pos", "film"], ["film"]] * 12},
        "f1_micro",
    ),
    ("text-regression", {"text": [GOOD, BAD] * 12, "label": [1.5, -0.5] * 12}, "rmse"),
    (
        "multiple-choice",
        {
            "prompt": [GOOD, BAD] * 12,
            "A": ["good"] * 24,
            "B": ["bad"] * 24,
            "answer": ["A", "B"] * 12,
        },
        "map@2",
    ),
]


@pytest.mark.parametrize(("task", "rows", "metric"), TASK_ROWS)
def test_the_real_trainer_learns_each_task(
    tmp_path: Path, checkpoint: str, task: str, rows: dict[str, list[Any]], metric: str
) -> None:
    tokenizer = load_tokenizer(checkpoint)
    prepared = prepare_task(task, splits_of(tmp_path, rows, task, test_size=4), tokenizer)
    torch.manual_seed(0)
    model = load_model(prepared, checkpoint)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    trainer = transformers.Trainer(
        model=model,
        args=training_arguments(tmp_path / "out", num_train_epochs=25, learning_rate=5e-3),
        train_dataset=prepared.train,
        eval_dataset=prepared.validation,
        data_collator=prepared.data_collator,
        compute_metrics=build_compute_metrics([metric], prepared.problem_type),
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before / 2
    assert prepared.test is not None
    assert trainer.predict(prepared.test).predictions.shape[0] == 4


def test_a_saved_model_works_in_a_pipeline_with_readable_labels(
    tmp_path: Path, checkpoint: str
) -> None:
    prepared = prepare_task("text-classification", classes(tmp_path), load_tokenizer(checkpoint))
    load_model(prepared, checkpoint).save_pretrained(tmp_path / "saved")
    prepared.tokenizer.save_pretrained(tmp_path / "saved")
    pipeline = transformers.pipeline("text-classification", str(tmp_path / "saved"), device="cpu")
    answers = pipeline([GOOD, BAD], top_k=None)
    assert {answer["label"] for row in answers for answer in row} == {"fresh", "rotten"}
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert again.config.label2id == {"fresh": 0, "rotten": 1}
    assert again.config.problem_type == "single_label_classification"


def test_saved_task_comes_back_equal(tmp_path: Path, checkpoint: str) -> None:
    prepared = prepare_task("text-classification", classes(tmp_path), load_tokenizer(checkpoint))
    prepared.save_to(tmp_path / "prepared")
    again = PreparedTask.load_from(tmp_path / "prepared")
    for name in ("task", "num_labels", "label_names", "problem_type", "test"):
        assert getattr(again, name) == getattr(prepared, name)
    assert again.train.to_dict() == prepared.train.to_dict()
    assert again.validation.to_dict() == prepared.validation.to_dict()
    rows = [prepared.train[place] for place in range(4)]
    for name, values in prepared.data_collator(rows).items():
        assert torch.equal(values, again.data_collator(rows)[name])


def test_an_unfinished_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no prepared task .*; prepare it again"):
        PreparedTask.load_from(tmp_path)


def test_a_decoder_without_padding_token_pads_with_its_end_of_text_token(tmp_path: Path) -> None:
    config = transformers.GPT2Config(
        vocab_size=64,
        n_positions=24,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=3,
        eos_token_id=3,
    )
    transformers.GPT2Model(config).save_pretrained(tmp_path)
    limits = {"model_max_length": int(1e30), "pad_token": None, "eos_token": "[SEP]"}
    tiny_tokenizer(**limits).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path))
    assert tokenizer.pad_token == "[SEP]"
    assert tokenizer.model_max_length == 24
    rows = {"text": ["good " * 50, BAD] * 10, "label": ["a", "b"] * 10}
    (tmp_path / "data").mkdir()
    splits = splits_of(tmp_path / "data", rows, "text-classification")
    prepared = prepare_task("text-classification", splits, tokenizer)
    assert max(len(ids) for ids in prepared.train["input_ids"]) == 24
    model = load_model(prepared, str(tmp_path)).eval()
    assert model.config.pad_token_id == 3
    batch = prepared.data_collator([prepared.train[place] for place in range(2)])
    alone = prepared.data_collator([prepared.train[1]])
    batch.pop("token_type_ids", None), alone.pop("token_type_ids", None)
    torch.testing.assert_close(model(**batch).logits[1:], model(**alone).logits)


def test_a_head_for_other_classes_is_left_out_with_a_warning(tmp_path: Path) -> None:
    model = tiny_bert(num_labels=5)
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    tokenizer = load_tokenizer(str(tmp_path / "model"))
    prepared = prepare_task("text-classification", classes(tmp_path), tokenizer)
    with pytest.warns(UserWarning, match="head for 5 classes, which is left out"):
        loaded = load_model(prepared, str(tmp_path / "model"))
    assert loaded.classifier.weight.shape == (2, SIZES["hidden_size"])
    stored = load_file(tmp_path / "model" / "model.safetensors")
    name = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(loaded.state_dict()[name], stored[name])


def test_a_checkpoint_that_classified_can_learn_numbers(tmp_path: Path) -> None:
    """Its configuration says so, which from_pretrained refuses beside one label."""
    model = tiny_bert(num_labels=2, problem_type="single_label_classification")
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    rows = {"text": [GOOD, BAD] * 12, "label": [1.5, -0.5] * 12}
    splits = splits_of(tmp_path, rows, "text-regression")
    prepared = prepare_task("text-regression", splits, tiny_tokenizer())
    with pytest.warns(UserWarning, match="head for 2 classes, which is left out"):
        loaded = load_model(prepared, str(tmp_path / "model"))
    assert (loaded.config.problem_type, loaded.config.num_labels) == ("regression", 1)


def test_refusals(tmp_path: Path, checkpoint: str) -> None:
    splits, tokenizer = classes(tmp_path), tiny_tokenizer()
    with pytest.raises(ConfigurationError, match="did you mean text-classification"):
        prepare_task("text-clasification", splits, tokenizer)
    with pytest.raises(ConfigurationError, match="max_length must be 5 tokens or more"):
        prepare_task("text-classification", splits, tokenizer, max_length=2)
    with pytest.raises(ConfigurationError, match=r"no tokenizer can be loaded .*'/no/such/model'"):
        load_tokenizer("/no/such/model")
    tiny_tokenizer(pad_token=None).save_pretrained(tmp_path / "bare")
    with pytest.raises(ConfigurationError, match="neither a padding nor an end-of-text token"):
        load_tokenizer(str(tmp_path / "bare"))
    prepared = prepare_task("text-classification", splits, tokenizer)
    with pytest.raises(ConfigurationError, match="no model for text-classification"):
        load_model(prepared, str(tmp_path / "bare"))
