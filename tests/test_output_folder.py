"""A run that was cut off goes on from its newest whole checkpoint; a failed one is recorded."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from hf_stabilizer import ConfigurationError, DivergenceGuardCallback, train
from hf_stabilizer.errors import StabilizerError
from hf_stabilizer.records import read_run

# Checkpoints that can be resumed from, every four of the sixteen steps.
SAVED: dict[str, Any] = {"save_strategy": "steps", "save_steps": 4, "save_only_model": False}


class CutOffCallback(transformers.TrainerCallback):
    """Ends the process's work at a step, as a signal does."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


class PoisonCallback(transformers.TrainerCallback):
    """Makes the weights NaN after a step."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        if state.global_step == self.step:
            with torch.no_grad():
                next(model.parameters()).fill_(torch.nan)


def cut_off(config: dict[str, Any], step: int = 10) -> Path:
    with pytest.raises(KeyboardInterrupt):
        train(config, callbacks=[CutOffCallback(step)])
    folder = Path(config["output_dir"])
    assert not (folder / "run.json").exists()
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def test_the_same_configuration_goes_on_and_ends_where_a_straight_run_ends(
    config: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config |= {**SAVED, "averaging": "swa", "averaging_start": 0.5}
    straight = train({**config, "output_dir": str(tmp_path / "straight")})
    folder = cut_off(config)
    shutil.copytree(folder / "checkpoint-8", folder / "checkpoint-12")  # one that is not whole
    (folder / "checkpoint-12" / "optimizer.pt").unlink()
    with caplog.at_level(logging.INFO, logger="hf_stabilizer"):
        run = train(config)
    assert f"goes on from {folder / 'checkpoint-8'}" in caplog.text
    assert (run.status, run.steps) == ("finished", 16)
    assert run.test_score == straight.test_score
    ours, theirs = weights(folder), weights(tmp_path / "straight")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_without_a_whole_checkpoint_it_begins_anew(
    config: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By default checkpoints hold the model alone, which is not enough to go on from."""
    straight = train({**config, "output_dir": str(tmp_path / "straight")})
    folder = cut_off(config)
    assert list(folder.glob("checkpoint-*"))
    with caplog.at_level(logging.INFO, logger="hf_stabilizer"):
        run = train(config)
    assert "the run begins anew" in caplog.text
    assert run.evaluations == straight.evaluations
    assert run.test_score == straight.test_score


def test_a_model_of_an_old_checkpoint_goes_on_whole(config: dict[str, Any], tmp_path: Path) -> None:
    """Its file says LayerNorm.gamma, under which the Trainer would not find the norms again."""
    path = tmp_path / "old" / "model.safetensors"
    shutil.copytree(config["model_name_or_path"], path.parent)
    tensors = {
        k.replace("LayerNorm.weight", "LayerNorm.gamma"): t for k, t in load_file(path).items()
    }
    save_file(tensors, path, metadata={"format": "pt"})
    config |= {**SAVED, "model_name_or_path": str(path.parent)}
    straight = train({**config, "output_dir": str(tmp_path / "straight")})
    cut_off(config)
    assert train(config).evaluations == straight.evaluations
    ours, theirs = weights(Path(config["output_dir"])), weights(tmp_path / "straight")
    assert "bert.embeddings.LayerNorm.weight" in ours
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_what_another_configuration_trained_is_refused(config: dict[str, Any]) -> None:
    folder = cut_off({**config, **SAVED})
    with pytest.raises(ConfigurationError, match=r"learning_rate 0\.001 -> 0\.002") as refusal:
        train({**config, **SAVED, "learning_rate": 2e-3})
    assert "set resume_from_checkpoint" in str(refusal.value)
    assert (folder / "checkpoint-8" / "optimizer.pt").exists()


@pytest.mark.parametrize("action", ["raise", "stop"])
def test_a_run_that_diverges_is_recorded_as_failed(config: dict[str, Any], action: str) -> None:
    callbacks = [PoisonCallback(6), DivergenceGuardCallback(action)]  # type: ignore[arg-type]
    if action == "raise":
        with pytest.raises(StabilizerError, match="optimizer step 7"):
            train(config, callbacks=callbacks)
    else:
        with pytest.warns(UserWarning, match="optimizer step 7|has collapsed"):
            train(config, callbacks=callbacks)
    run = read_run(Path(config["output_dir"]) / "run.json")
    assert run.status == "failed"
    assert "optimizer step 7" in run.reason
    assert run.evaluations[0][0] == 4
    assert run.best_score is not None


def test_what_is_refused_when_training_begins_is_no_run(config: dict[str, Any]) -> None:
    class RefusingCallback(transformers.TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            raise ConfigurationError("no")

    with pytest.raises(ConfigurationError, match="no"):
        train(config, callbacks=[RefusingCallback()])
    assert not (Path(config["output_dir"]) / "run.json").exists()
    assert train(config).status == "finished"
