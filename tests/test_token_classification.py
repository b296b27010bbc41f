"""One tag per token: rows in every spelling, labels on first sub-tokens, the plain Trainer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
import transformers

from hf_stabilizer import run_study, train
from hf_stabilizer.configuration import load_configuration
from hf_stabilizer.data import DataArguments, Splits, load_splits
from hf_stabilizer.errors import ConfigurationError, DataError
from hf_stabilizer.models import load_tokenizer
from hf_stabilizer.predictions import read_predictions
from hf_stabilizer.run import prepare_data
from hf_stabilizer.tasks import prepare_task
from tests.tiny import TRAINING, WORDS, same_weights, save_tiny, tiny_tokenizer

TASK = "token-classification"
TAGS = {"good": "B-X", "bad": "B-X", "film": "I-X"}


def tagged(count: int) -> dict[str, list[list[str]]]:
    """Rows of three to eight words, whose tag the word tells."""
    draw = np.random.RandomState(0)
    tokens = [[str(word) for word in draw.choice(WORDS, draw.randint(3, 9))] for _ in range(count)]
    return {"tokens": tokens, "tags": [[TAGS.get(word, "O") for word in row] for row in tokens]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("bert"), "bert")


@pytest.fixture
def config(model: str, tmp_path: Path) -> dict[str, Any]:
    pd.DataFrame(tagged(40)).to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    return {
        "task": TASK,
        "model_name_or_path": model,
        "train_file": str(tmp_path / "rows.jsonl"),
        "validation_size": 10,
        "test_size": 6,
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 8,
        "num_train_epochs": 2,
        "use_cpu": True,
        "disable_tqdm": True,
    }


def splits_of(folder: Path, rows: dict[str, Any], **options: Any) -> Splits:
    path = folder / "rows.parquet"
    pd.DataFrame(rows).to_parquet(path)
    return load_splits(DataArguments(train_file=str(path), **options), task=TASK)


def as_csv(rows: pd.DataFrame, path: Path) -> Path:
    rows.map(json.dumps).to_csv(path.with_suffix(".csv"), index=False)
    return path.with_suffix(".csv")


def as_python(rows: pd.DataFrame, path: Path) -> Path:
    rows.map(repr).to_csv(path.with_suffix(".tsv"), index=False, sep="\t")
    return path.with_suffix(".tsv")


def as_parquet(rows: pd.DataFrame, path: Path) -> Path:
    rows.to_parquet(path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def as_class_ids(rows: pd.DataFrame, path: Path) -> Path:
    names = ["O", "B-X", "I-X"]
    columns = datasets.Features(
        tokens=datasets.Sequence(datasets.Value("string")),
        tags=datasets.Sequence(datasets.ClassLabel(names=names)),
    )
    ids = {**rows, "tags": [[names.index(tag) for tag in row] for row in rows["tags"]]}
    found = datasets.Dataset.from_dict({k: list(v) for k, v in ids.items()}, features=columns)
    found.save_to_disk(str(path))
    return path


@pytest.mark.parametrize("write", [as_csv, as_python, as_parquet, as_class_ids])
def test_rows_are_read_in_every_spelling(
    tmp_path: Path, write: Callable[[pd.DataFrame, Path], Path]
) -> None:
    rows = pd.DataFrame(tagged(20))
    path = write(rows, tmp_path / "rows")
    splits = load_splits(DataArguments(train_file=str(path), validation_size=4), task=TASK)
    declared = write is as_class_ids
    assert splits.label_names == (("O", "B-X", "I-X") if declared else ("B-X", "I-X", "O"))
    assert (splits.text_columns, splits.label_column) == (("tokens",), "tags")
    read = {tuple(row["tokens"]): tuple(row["tags"]) for row in splits.train}
    written = {tuple(t): tuple(g) for t, g in zip(rows["tokens"], rows["tags"], strict=True)}
    assert len(read) == 16
    assert read.items() <= written.items()


def word_pieces() -> transformers.PreTrainedTokenizerBase:
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*marks, "new", "york", "##er", "##s", "is"]
    return transformers.BertTokenizerFast(vocab={piece: i for i, piece in enumerate(pieces)})


def test_the_first_piece_of_a_word_bears_its_tag(tmp_path: Path) -> None:
    rows = {"tokens": [["New", "Yorkers", "is"]] * 6, "tags": [["B-X", "I-X", "O"]] * 6}
    splits = splits_of(tmp_path, rows, validation_size=1)
    row = prepare_task(TASK, splits, word_pieces()).train[0]
    assert row["input_ids"] == [2, 5, 6, 7, 8, 9, 3]  # [CLS] new york ##er ##s is [SEP]
    assert row["labels"] == [-100, 0, 1, -100, -100, 2, -100]
    cut = prepare_task(TASK, splits, word_pieces(), max_length=5).train[0]
    assert cut["labels"] == [-100, 0, 1, -100, -100]  # [CLS] new york ##er [SEP]


def test_padding_has_no_label(tmp_path: Path) -> None:
    splits = splits_of(tmp_path, tagged(20))
    prepared = prepare_task(TASK, splits, tiny_tokenizer())
    batch = prepared.data_collator([prepared.train[place] for place in range(8)])
    assert batch["labels"].shape == batch["input_ids"].shape
    assert set(batch["labels"][batch["attention_mask"] == 0].tolist()) == {-100}
    # Every word of this vocabulary is one token, between [CLS] and [SEP].
    assert (batch["labels"] != -100).sum() == batch["attention_mask"].sum() - 2 * 8


def test_words_of_a_byte_level_tokenizer_begin_with_a_space(tmp_path: Path) -> None:
    letters = {
        letter: place for place, letter in enumerate(["<pad>", "<unk>", "a", "b", "Ġ", "Ġa"])
    }
    tokenizer = transformers.GPT2TokenizerFast(
        vocab=letters, merges=[("Ġ", "a")], pad_token="<pad>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path), task=TASK)
    assert loaded(["a", "a"], is_split_into_words=True)["input_ids"] == [5, 5]


def test_a_run_equals_the_plain_trainer(config: dict[str, Any], tmp_path: Path) -> None:
    run = train(config, output_dir=str(tmp_path / "run"), save_strategy="no", head_seed=1)
    prepared = prepare_data(load_configuration(config))
    names = prepared.label_names or ()
    transformers.set_seed(1)
    plain = transformers.AutoModelForTokenClassification.from_pretrained(
        config["model_name_or_path"], id2label=dict(enumerate(names))
    )
    found = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path / "run" / "model")
    assert found.config.id2label == {0: "B-X", 1: "I-X", 2: "O"}
    from hf_stabilizer.reinitialization import redraw_head

    redraw_head(plain, seed=1)
    arguments = {**TRAINING, "learning_rate": 1e-2, "seed": 1, "data_seed": 1}
    transformers.Trainer(
        plain,
        transformers.TrainingArguments(str(tmp_path / "plain"), **arguments),
        train_dataset=prepared.train,
        data_collator=transformers.DataCollatorForTokenClassification(prepared.tokenizer),
    ).train()
    assert same_weights(plain, found)
    assert list(run.evaluations[-1][1]) == [
        *("loss", "seqeval_f1", "seqeval_precision", "seqeval_recall", "token_accuracy"),
    ]


def test_predictions_and_the_stabilised_options(config: dict[str, Any], tmp_path: Path) -> None:
    options = {"layer_lr": "llrd", "averaging": "ema", "fit_head": True, "reinit_layers": 1}
    run = train({**config, **options}, output_dir=str(tmp_path / "run"))
    assert run.status == "finished"
    assert run.test_score is not None
    found = read_predictions(tmp_path / "run")
    assert found is not None
    assert found.validation is not None
    assert found.validation_labels is not None
    assert found.validation.shape[::2] == (10, 3)
    assert found.validation_labels.shape == found.validation.shape[:2]


@pytest.mark.slow
def test_a_study(config: dict[str, Any], tmp_path: Path) -> None:
    recipes: dict[str, dict[str, Any]] = {"plain": {}, "fitted": {"fit_head": True}}
    study = run_study(config, recipes=recipes, runs=2, output_dir=tmp_path / "study")
    assert [run.status for run in study.runs] == ["finished"] * 4


def refusal(folder: Path, rows: dict[str, Any], message: str, **options: Any) -> None:
    with pytest.raises((DataError, ConfigurationError), match=message):
        splits_of(folder, rows, **options)


def test_refusals(tmp_path: Path) -> None:
    rows = tagged(10)
    refusal(tmp_path, {**rows, "tags": [*rows["tags"][:9], ["O"]]},
            r"row 10 .* has \d tokens in column 'tokens' and 1 tags in column 'tags'")  # fmt: skip
    refusal(tmp_path, rows, "no column 'tag' .did you mean tags", label_column="tag")
    refusal(tmp_path, {"tokens": rows["tokens"]}, "column of the label cannot be guessed")
    refusal(tmp_path, {**rows, "tokens": ["the film"] * 10},
            "holds 'the film' in row 1, which is not a list of tokens")  # fmt: skip
    refusal(
        tmp_path, {**rows, "tokens": [[], *rows["tokens"][1:]]}, "empty list of tokens in row 1"
    )
    refusal(tmp_path, {**rows, "more": rows["tokens"]}, "text_columns must name one column",
            text_columns=["tokens", "more"])  # fmt: skip
    rare = {
        **rows,
        "tags": [["B-Y", *row[1:]] if not i else row for i, row in enumerate(rows["tags"])],
    }
    path = tmp_path / "validation.parquet"
    pd.DataFrame(rare).to_parquet(path)
    refusal(tmp_path, rows, "'B-Y'.*label_names can name more", validation_file=str(path))
    names = ["O", "B-X", "I-X", "B-Y"]
    splits = splits_of(tmp_path, rows, validation_file=str(path), label_names=names)
    assert splits.label_names == tuple(names)


def test_a_slow_tokenizer_is_refused(tmp_path: Path) -> None:
    splits = splits_of(tmp_path, tagged(10))
    slow = transformers.ByT5Tokenizer()
    with pytest.raises(ConfigurationError, match="needs a fast tokenizer"):
        prepare_task(TASK, splits, slow)


def test_entities_need_tags_that_begin_them(config: dict[str, Any], tmp_path: Path) -> None:
    rows = {**tagged(20), "tags": [["N"] * len(row) for row in tagged(20)["tokens"]]}
    rows["tags"][0][0], rows["tags"][1][0] = "V", "V"
    pd.DataFrame(rows).to_json(config["train_file"], orient="records", lines=True)
    values = {**config, "validation_size": 2, "test_size": None, "label_names": ["N", "V"]}
    with pytest.raises(ConfigurationError, match="tags such as O, B-PER"):
        train(values, output_dir=str(tmp_path / "out"))
    run = train(values, output_dir=str(tmp_path / "out"), metrics=["token_accuracy"], max_steps=1)
    assert 0 <= (run.best_score or 0) <= 1
