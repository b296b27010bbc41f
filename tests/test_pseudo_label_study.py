"""The whole procedure: teachers, labels, students and their control, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from hf_stabilizer import DataError, run_pseudo_labels
from hf_stabilizer.pseudo_labels.running import PseudoLabelOutcome
from tests.conftest import make_rows, write_rows

pytestmark = pytest.mark.filterwarnings("ignore:the run has collapsed:UserWarning")


def write_unlabelled(path: Path, count: int = 60, seed: int = 5) -> Path:
    texts = [text for text, _ in make_rows(count, seed)]
    pd.DataFrame({"text": texts}).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def keys(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Thirty-two labelled rows, twenty-four that judge, and unlabelled ones."""
    folder = tmp_path_factory.mktemp("rows")
    return {
        "model_name_or_path": str(model_folder),
        "train_file": str(write_rows(folder / "rows.csv", count=56)),
        "validation_size": 24,
        "unlabelled_file": str(write_unlabelled(folder / "unlabelled.csv")),
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 8,
        "num_train_epochs": 5,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }


def run(keys: dict[str, Any], folder: Path, **options: Any) -> PseudoLabelOutcome:
    asked = {"teachers": 2, "runs": 1, "threshold": 0.6, "executor": "in-process", **options}
    return run_pseudo_labels(keys, output_dir=folder, console=Console(quiet=True), **asked)


@pytest.fixture(scope="module")
def done(keys: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> PseudoLabelOutcome:
    return run(keys, tmp_path_factory.mktemp("done"), sampling_rate=[0.3, 1.0])


def test_each_rate_is_an_arm_beside_the_control(done: PseudoLabelOutcome) -> None:
    assert done.study.recipes == ("control", "rate-0.3", "rate-1")
    assert [run.status for run in done.study.runs] == ["finished"] * 3
