"""What a run would do and cost, without a step of it and without a file."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import transformers
from rich.console import Console
from ruamel.yaml import YAML

from hf_stabilizer import ConfigurationError, train
from hf_stabilizer.cli import main
from hf_stabilizer.dry_run import DryRun, rehearse_run
from hf_stabilizer.dry_run_view import _duration, _size, print_dry_run

# Sixteen optimizer steps, eight in an epoch.
SAVED: dict[str, Any] = {"save_strategy": "steps", "save_steps": 5, "save_only_model": False}


def shown(dry_run: DryRun) -> str:
    console = Console(width=160, record=True, quiet=True)
    print_dry_run(dry_run, console)
    return console.export_text()


def test_it_says_what_the_run_then_does(config: dict[str, Any]) -> None:
    changes = {"layer_lr": "llrd", "averaging": "swa", "warmup_steps": 0.25, **SAVED}
    dry_run = rehearse_run(config, **changes)
    run = train({**config, **changes})
    assert not dry_run.would_fail
    assert dry_run.steps == run.steps == 16
    assert dry_run.evaluations == tuple(step for step, _ in run.evaluations) == (4, 8, 12, 16)
    assert dry_run.saves == (5, 10, 15, 16)
    assert [row.rate for row in dry_run.layers] == pytest.approx([8.1e-4, 9e-4, 1e-3, 1e-3])
    assert dry_run.schedule == (
        "Steps: 16, 8 per epoch, 8 rows in each.",
        "Rate of the top block: 0.001 at its peak, rising over the first 4 steps, then linear.",
        "Averaging: equal weights, every step from step 12 on.",
        "Evaluations: 4, after steps 4, 8, 12, 16.",
        "Checkpoints: 4, after steps 5, 10, 15, 16.",
    )


def test_what_a_checkpoint_weighs(config: dict[str, Any]) -> None:
    """Against the files of a real run; headers and small files are not counted."""
    changes = {"averaging": "swa", "averaging_start": 2, **SAVED}
    cost = rehearse_run(config, **changes).cost
    assert cost is not None
    train({**config, **changes})
    checkpoint = Path(config["output_dir"]) / "checkpoint-16"
    names = ("model.safetensors", "optimizer.pt", "averaging.safetensors")
    real = sum((checkpoint / name).stat().st_size for name in names)
    headers = 60_000  # of a tiny model they are as large as its numbers
    assert cost.checkpoint <= real <= cost.checkpoint + headers
    assert cost.disk == 4 * cost.checkpoint + cost.weights


def test_memory_by_hand(config: dict[str, Any]) -> None:
    """Adam keeps two numbers for each weight and one step per tensor, an average one number."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        config["model_name_or_path"]
    )
    numbers = sum(p.numel() for p in model.parameters())
    cost = rehearse_run(config, averaging="ema").cost
    assert cost is not None
    assert cost.averaging == 4 * numbers
    assert cost.optimizer == 8 * numbers + 4 * len([*model.parameters()])
    assert 4 * numbers <= cost.weights <= 4 * numbers + 1000  # the position ids beside them
    assert 0 < cost.seconds_per_step < cost.seconds
    # Checkpoints for choosing alone: no optimizer; two at once, and the model that is kept.
    assert cost.checkpoint == cost.weights + 2 * cost.averaging
    assert cost.disk == 2 * cost.checkpoint + cost.weights


def test_freezing_in_words(config: dict[str, Any]) -> None:
    dry_run = rehearse_run(config, freeze_embeddings=True, freeze_layers=1)
    assert "Frozen for the whole run: embeddings, layer_01." in dry_run.schedule
    assert [row.rate for row in dry_run.layers] == [None, None, 1e-3, 1e-3]


def test_it_trains_nothing_and_writes_nothing(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", None)
    there = sorted(tmp_path.rglob("*"))
    rehearse_run(config, recipe="stabilised")
    assert sorted(tmp_path.rglob("*")) == there
    first = train({**config, "output_dir": str(tmp_path / "a")})
    rehearse_run(config)
    second = train({**config, "output_dir": str(tmp_path / "b")})
    assert first.evaluations == second.evaluations


def test_a_run_that_would_fail_is_not_built(config: dict[str, Any]) -> None:
    dry_run = rehearse_run(config, averaging="swa", averaging_start=99)
    assert dry_run.would_fail
    assert dry_run.findings[0].code == "average-begins-too-late"
    assert (dry_run.layers, dry_run.cost) == ((), None)
    with pytest.raises(ConfigurationError, match="averaging_start must lie within the run's 16"):
        train({**config, "averaging": "swa", "averaging_start": 99})
    assert not Path(config["output_dir"]).exists()


def test_several_errors_are_counted(config: dict[str, Any]) -> None:
    wrong = {"averaging": "swa", "averaging_start": 99, "optim": "galore_adamw"}
    with pytest.raises(ConfigurationError, match=r"\(and 1 more: see --dry-run\)$"):
        train({**config, **wrong})


def test_train_logs_what_it_finds(config: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="hf_stabilizer"):
        train(config)
    levels = {record.getMessage()[:12]: record.levelname for record in caplog.records}
    assert levels["the run has "] == "WARNING"
    assert levels["warmup_steps"] == "INFO"


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (90_900_000, "90.9 MB"), (10**13, "10 TB")],
)
def test_sizes_are_read_at_a_glance(count: int, words: str) -> None:
    assert _size(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.123, "0.12 s"), (42, "42 s"), (150, "2 min"), (9000, "2.5 h")]
)
def test_times_are_read_at_a_glance(seconds: float, words: str) -> None:
    assert _duration(seconds) == words


def run(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = 0
    try:
        main(list(words))
    except SystemExit as stop:
        code = int(stop.code or 0)
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.fixture
def config_file(config: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    YAML(typ="safe", pure=True).dump(config, path)
    return path


def test_the_command_shows_everything(
    config_file: Path, config: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run("train", str(config_file), "--dry-run", "--layer_lr", "llrd",
                         capsys=capsys)  # fmt: skip
    assert code == 0, err
    for words in (
        "warning few-steps: the run has 16 optimizer steps",
        "note no-warmup:",
        "layer_02",
        "0.00081",
        "Steps: 16, 8 per epoch",
        "Evaluations: 4, after steps 4, 8, 12, 16.",
        "Checkpoints: at each evaluation that is the best so far; 1 kept.",
        "Time on this machine: about",
        "Disk: ",
        "Memory beside activations: weights",
    ):
        assert words in out
    assert not Path(config["output_dir"]).exists()


def test_the_command_for_machines(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run("train", str(config_file), "--dry_run", "--json", capsys=capsys)
    record = json.loads(out)
    assert code == 0
    assert [finding["code"] for finding in record["findings"]] == [
        "few-steps", "no-warmup", "small-batch", "optimistic-best",
    ]  # fmt: skip
    assert set(record["findings"][0]) == {"code", "severity", "message", "remedy"}
    assert [row["label"] for row in record["layers"]] == [
        "embeddings", "layer_01", "layer_02", "head",
    ]  # fmt: skip
    assert record["evaluations"] == [4, 8, 12, 16]
    assert record["cost"]["seconds"] > 0


def test_the_command_fails_where_the_run_would(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--averaging", "swa", "--averaging_start", "99")
    code, out, err = run("train", str(config_file), "--dry-run", *options, capsys=capsys)
    assert code == 2
    assert "error average-begins-too-late: averaging_start must lie within" in out
    assert err.splitlines()[-1].startswith("hf-stabilizer: error: the run would fail")
    code, out, err = run("train", str(config_file), *options, capsys=capsys)
    assert code == 2
    assert "averaging_start must lie within" in err
    assert out == ""


def test_json_belongs_to_a_dry_run(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run("train", str(config_file), "--json", capsys=capsys)
    assert (code, "add --dry-run" in err) == (2, True)


def test_train_shows_warnings_before_the_first_step(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run("train", str(config_file), "--max_steps", "2", capsys=capsys)
    assert code == 0
    lines = err.splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("warning: the run has 2"))
    assert any(line.startswith("note: warmup_steps=0:") for line in lines)
    assert not any("'loss'" in line or "eval_" in line for line in lines[:place])
    assert "optimizer steps" not in out
