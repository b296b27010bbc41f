"""Fixtures that several test files use: a tiny pre-trained model on disk, and files of rows."""

from __future__ import annotations

import csv
import gc
import logging
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# What whoever runs the tests has set for their terminal, their network or their CI is not meant for
# us: the width and colours of tables, questions to 127.0.0.1 by way of a proxy, a cluster of Ray's.
# Where CI is set, transformers hands its warnings on to the root of all loggers.
for _name in (
    *("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "CI"),
    *("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "http_proxy", "https_proxy"),
    *("RAY_ADDRESS", "TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY"),
):
    os.environ.pop(_name, None)

WORDS = [
    *("good", "fine", "great", "nice", "warm"),  # told of fresh
    *("bad", "poor", "cold", "grim", "weak"),  # told of rotten
    *("film", "plot", "cast", "scene", "tone", "score", "the", "a", "is", "was", "very", "not"),
]


def pytest_configure() -> None:
    """Has hypothesis draw the same examples every time, on a machine however slow."""
    from hypothesis import HealthCheck, settings

    slow = [HealthCheck.too_slow]
    settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=slow)
    settings.load_profile("same")


def pytest_collection_finish() -> None:
    """Spares the collections that accelerate asks for a walk over all that was imported."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Takes back what a command sets, which has a process to itself outside of the tests."""
    notes, environment = logging.getLogger("hf_stabilizer"), dict(os.environ)
    handlers, level = notes.handlers, notes.level
    yield
    notes.handlers = handlers
    notes.setLevel(level)
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    if (words := sys.modules.get("transformers.utils.logging")) is not None:
        words.enable_progress_bar()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT without a head, with its WordPiece tokenizer, as `save_pretrained` writes it.

    It is trained for a second on texts like those of `write_rows`, so that few steps teach it.
    """
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    tokenizer = transformers.BertTokenizerFast(vocab={t: i for i, t in enumerate(tokens)})
    tokenizer.model_max_length = 32
    config = transformers.BertConfig(
        vocab_size=len(tokens),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=32,
    )
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for seed in range(15):
        texts, labels = zip(*make_rows(16, seed), strict=True)
        batch = tokenizer(list(texts), return_tensors="pt", padding=True)
        loss = model(**batch, labels=torch.tensor([label == "rotten" for label in labels]).long())
        loss.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.bert.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_rows(count: int, seed: int) -> list[tuple[str, str]]:
    """Returns (text, label) pairs; a word that stands thrice in a text tells its label."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        label = draw.choice(["fresh", "rotten"])
        told = draw.choice(WORDS[:5] if label == "fresh" else WORDS[5:10])
        words = [*draw.choices(WORDS[10:], k=2), told, told, told]
        draw.shuffle(words)
        rows.append((" ".join(words), label))
    return rows


def write_rows(path: Path, count: int = 112, seed: int = 0) -> Path:
    """Writes a CSV of such rows, with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(make_rows(count, seed))
    return path


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.csv")


@pytest.fixture
def config(model_folder: Path, rows_file: Path, tmp_path: Path) -> dict[str, Any]:
    """A configuration of a run that takes a second or two: sixteen optimizer steps."""
    return {
        "model_name_or_path": str(model_folder),
        "train_file": str(rows_file),
        "validation_size": 24,
        "test_size": 24,
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 8,
        "num_train_epochs": 2,
        "evaluations_per_epoch": 2,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "output_dir": str(tmp_path / "out"),
    }


def tiny_study(model_folder: Path, folder: Path, *, rows: int = 64, **keys: Any) -> dict[str, Any]:
    """A configuration of a tiny model on rows that are written into the folder."""
    return {
        "model_name_or_path": str(model_folder),
        "train_file": str(write_rows(folder / "rows.csv", count=rows)),
        "validation_size": rows // 4,
        "test_size": rows // 4,
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 8,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        **keys,
    }
