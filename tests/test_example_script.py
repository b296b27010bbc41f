"""The text-classification example of transformers, as it is, in a study of its command line.

It is not part of this package. To run this, get `examples/pytorch/text-classification` of
https://github.com/huggingface/transformers at the tag of the installed version, and name the
folder in TRANSFORMERS_EXAMPLES.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import sys
from pathlib import Path

import pytest

from hf_stabilizer.cli import main
from hf_stabilizer.studies.study import Study
from tests.conftest import make_rows

SCRIPT = Path(os.environ.get("TRANSFORMERS_EXAMPLES", ""), "run_classification.py")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not SCRIPT.is_file(),
        reason="set TRANSFORMERS_EXAMPLES to a folder with run_classification.py, which is in "
        "examples/pytorch/text-classification of github.com/huggingface/transformers",
    ),
]

# `evaluate.load("accuracy")` takes this one from the working directory, instead of the Hub's.
METRIC = """
import datasets
import evaluate


class Accuracy(evaluate.Metric):
    def _info(self):
        kinds = {"predictions": datasets.Value("int32"), "references": datasets.Value("int32")}
        return evaluate.MetricInfo(
            description="The share of right answers.",
            citation="",
            inputs_description="",
            features=datasets.Features(kinds),
        )

    def _compute(self, predictions, references):
        right = sum(p == r for p, r in zip(predictions, references))
        return {"accuracy": right / len(references)}
"""


def write_sentences(path: Path, count: int, seed: int) -> Path:
    """Writes rows as the script expects them: these names, and labels that are numbers."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sentence", "label"])
        rows = make_rows(count, seed)
        writer.writerows((text, int(label == "fresh")) for text, label in rows)
    return path


def test_the_example_script_as_it_is(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("evaluate")
    (tmp_path / "accuracy").mkdir()
    (tmp_path / "accuracy" / "accuracy.py").write_text(METRIC)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    train = write_sentences(tmp_path / "train.csv", 64, seed=1)
    others = write_sentences(tmp_path / "others.csv", 24, seed=2)
    command = (
        f"{shlex.quote(sys.executable)} {shlex.quote(str(SCRIPT.absolute()))} "
        f"--model_name_or_path {model_folder} --train_file {train} --validation_file {others} "
        f"--test_file {others} --do_train --do_eval --do_predict --max_seq_length 16 "
        "--seed {seed} --data_seed {data_seed} --output_dir {output_dir} --eval_strategy epoch "
        "--num_train_epochs 2 --learning_rate 1e-3 --use_cpu --report_to none"
    )
    words = ["study", "--command", command, "--runs", "2", "--output-dir", "study"]
    main([*words, "--metric-for-best-model", "accuracy"])
    found = Study.from_folder("study")
    assert (found.metric, found.configuration["learning_rate"]) == ("accuracy", 1e-3)
    for seed, run in enumerate(found.runs, 1):
        assert (run.status, run.reason, run.steps) == ("finished", "", 16)
        assert dict(run.seeds) == {"data_seed": seed, "seed": seed}
        assert [step for step, _ in run.evaluations] == [8, 16]
        output = Path("study", "runs", "script", run.name, "output")
        results = json.loads((output / "eval_results.json").read_text())
        assert run.last_score == results["eval_accuracy"] == run.evaluations[-1][1]["accuracy"]
        assert run.test_score is None  # it predicts the test rows, and takes their labels away
        lines = (output / "predict_results.txt").read_text().splitlines()
        assert len(lines) == 1 + 24
    assert "accuracy" in Path("study", "report.html").read_text(encoding="utf-8")
