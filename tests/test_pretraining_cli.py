"""`hf-stabilizer pretrain`: what it prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from hf_stabilizer.cli import main
from tests.pretraining_models import configuration, save_model

KEYS = ["--learning_rate", "5e-3", "--num-train-epochs", "2", "--per-device-train-batch-size", "8"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration of the fine-tuning, in a file."""
    model = save_model("bert", tmp_path / "bert", head="none")
    config = {**configuration(model, tmp_path), "learning_rate": 2e-5}
    YAML(typ="safe", pure=True).dump(config, tmp_path / "mine.yaml")
    return tmp_path / "mine.yaml"


def run(*words: str) -> None:
    main(["pretrain", *words])


def test_a_dry_run_counts_and_writes_nothing(file: Path, capsys: Any) -> None:
    files = set(file.parent.rglob("*"))
    run(str(file), "--dry-run", "--json", *KEYS)
    plan = json.loads(capsys.readouterr().out)
    assert (plan["objective"], plan["packing"], plan["max_length"]) == ("mlm", True, 16)
    assert plan["steps"] == 2 * plan["steps_per_epoch"]
    assert plan["seconds_per_run"] > 0
    run(str(file), "--dry-run", "--no-packing", "--runs", "0", *KEYS)
    shown = " ".join(capsys.readouterr().out.split())
    assert "Objective: masked language modelling." in shown
    assert "48 unlabelled texts, 8 training texts, 0 repeated, 0 near a validation text" in shown
    assert "padded rows of at most 16 tokens" in shown
    assert "Control: none." in shown
    assert set(file.parent.rglob("*")) == files


def test_a_dry_run_of_a_hand_over_tells_what_the_hand_over_does(file: Path, capsys: Any) -> None:
    source = save_model("bert", file.parent / "other", head="none")
    files = set(file.parent.rglob("*"))
    words = [str(file), "--from-run", str(source), "--output-dir", str(file.parent / "out")]
    run(*words, "--dry-run", "--json", "--runs", "2")
    plan = json.loads(capsys.readouterr().out)
    assert plan["source"] == str(source)
    assert plan["new"] == ["classifier.bias", "classifier.weight"]
    assert min(plan["steps"], plan["seconds_plain"], plan["seconds_handed"]) > 0
    run(*words, "--dry-run", "--runs", "0")
    shown = " ".join(capsys.readouterr().out.split())
    assert f"{len(plan['body'])} tensors of the body arrive" in shown
    assert "New: classifier.bias, classifier.weight." in shown
    assert "Control: none." in shown
    assert set(file.parent.rglob("*")) == files
    run(*words, "--runs", "0")
    record = json.loads((file.parent / "out" / "pretraining.json").read_text("utf-8"))
    assert (record["body"], record["new"]) == (len(plan["body"]), plan["new"])
    written = sum(path.stat().st_size for path in (file.parent / "out" / "model").rglob("*"))
    assert plan["size"] == written


def test_a_pre_training_is_told_and_recorded(file: Path, capsys: Any) -> None:
    folder = file.parent / "out"
    words = [str(file), "--output-dir", str(folder), "--whole_word_masking", "--runs", "0", *KEYS]
    run(*words)
    shown = " ".join(capsys.readouterr().out.split())
    assert "Perplexity on held-out text: " in shown
    assert "Hand-over: 39 tensors of the body arrive in the task's model bit for bit, 2 of" in shown
    assert "--runs 6 makes them" in shown
    settings = json.loads((folder / "procedure.json").read_text("utf-8"))["settings"]
    assert settings["options"]["whole_word_masking"] is True
    assert settings["training"]["learning_rate"] == 5e-3
    assert settings["configuration"]["learning_rate"] == 2e-5
    made = (folder / "model" / "model.safetensors").stat().st_mtime_ns
    run(*words)
    assert (folder / "model" / "model.safetensors").stat().st_mtime_ns == made


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--objective", "clm"], "objective='clm' is causal language modelling, and bert"),
        (["--lerning-rate", "1"], "unknown configuration key 'lerning_rate' (did you mean"),
        (["--hold-out", "0.2"], "unknown option '--hold-out' (did you mean --held-out"),
        (["--json"], "--json shows a dry run to machines; add --dry-run"),
        (["--from-run", "./x", "--dry-run"], "the source './x': there is no such folder"),
        (["--from-run", "./x"], "the source './x': there is no such folder"),
        (["--from-run", "x", "--dry-run", "--packing"], "from_run takes a body that is trained"),
        (["--from-run", "x", "--dry-run", "--learning-rate", "1"], "learning_rate says how to pre"),
        (["--fit-head"], "fit_head cannot be set for pre-training"),
    ],
)
def test_bad_input_is_one_sentence(file: Path, capsys: Any, words: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as stop:
        run(str(file), "--output-dir", str(file.parent / "out"), "--runs", "0", *words)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (file.parent / "out").exists()
