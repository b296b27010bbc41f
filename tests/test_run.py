"""One run, from a configuration to a model that others can load, and its record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_stabilizer import preflight, prepare_model, train
from hf_stabilizer.configuration import load_configuration
from hf_stabilizer.errors import ConfigurationError, DataError
from hf_stabilizer.outcome import Outcome, read_evaluations
from hf_stabilizer.records import read_run
from hf_stabilizer.run import heed, load_parts, prepare_data
from tests.tiny import write_member


def test_a_run_is_recorded_and_its_model_loads_anywhere(config: dict[str, Any]) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    run = train(config, recipe="stabilised")
    folder = Path(config["output_dir"])
    assert run.status == "finished"
    assert run.steps == 16
    assert [step for step, _ in run.evaluations] == [4, 8, 12, 16]
    assert run.best_score == max(metrics["accuracy"] for _, metrics in run.evaluations)
    assert run.test_score is not None
    assert run.versions["transformers"]
    assert read_run(folder / "run.json") == read_run(folder / "run.json")
    assert json.loads((folder / "run.json").read_text())["seeds"] == {
        "head_seed": 1,
        "data_seed": 1,
        "seed": 1,
    }
    assert not list(folder.glob("checkpoint-*"))
    model = AutoModelForSequenceClassification.from_pretrained(folder / "model")
    answer = pipeline(
        "text-classification",
        model=model,
        tokenizer=AutoTokenizer.from_pretrained(folder / "model"),
    )("good film")
    assert answer[0]["label"] in ("fresh", "rotten")


def test_the_kept_weights_are_those_that_validation_chose(config: dict[str, Any]) -> None:
    from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments

    from hf_stabilizer.configuration import load_configuration
    from hf_stabilizer.metrics import build_compute_metrics
    from hf_stabilizer.run import prepare_data

    run = train(config)
    prepared = prepare_data(load_configuration(config))
    scorer = Trainer(
        AutoModelForSequenceClassification.from_pretrained(Path(config["output_dir"]) / "model"),
        TrainingArguments(config["output_dir"], use_cpu=True, report_to="none", disable_tqdm=True),
        eval_dataset=prepared.validation,
        data_collator=prepared.data_collator,
        compute_metrics=build_compute_metrics(["accuracy"], prepared.problem_type),
    )
    assert scorer.evaluate()["eval_accuracy"] == run.best_score


def test_the_same_seeds_give_the_same_run(config: dict[str, Any], tmp_path: Path) -> None:
    first = train(config, output_dir=str(tmp_path / "a"))
    second = train(config, output_dir=str(tmp_path / "b"))
    other = train(config, output_dir=str(tmp_path / "c"), seed=2, head_seed=1, data_seed=1)
    assert first.evaluations == second.evaluations
    assert first.evaluations != other.evaluations


def test_three_seeds_are_kept_apart(config: dict[str, Any], tmp_path: Path) -> None:
    """Without dropout and with one order of the data, the dropout seed decides nothing."""
    from safetensors.torch import load_file

    def weights(name: str, **seeds: int) -> dict[str, torch.Tensor]:
        values = {**config, "output_dir": str(tmp_path / name), "max_steps": 1, **seeds}
        values["learning_rate"] = 0.0
        train(values)
        return load_file(tmp_path / name / "model" / "model.safetensors")

    base = weights("a", head_seed=1, data_seed=1, seed=1)
    same_head = weights("b", head_seed=1, data_seed=2, seed=2)
    other_head = weights("c", head_seed=2, data_seed=1, seed=1)
    assert all(torch.equal(base[k], same_head[k]) for k in base)
    changed = {k for k in base if not torch.equal(base[k], other_head[k])}
    assert changed == {"classifier.weight"}


def test_the_written_configuration_makes_the_same_run_again(
    config: dict[str, Any], tmp_path: Path
) -> None:
    first = train(config, recipe="stabilised")
    again = train(
        Path(config["output_dir"]) / "configuration.yaml", output_dir=str(tmp_path / "again")
    )
    assert again.evaluations == first.evaluations
    assert again.test_score == first.test_score


def test_a_used_folder_is_refused_and_left_alone(config: dict[str, Any]) -> None:
    train(config)
    record = (Path(config["output_dir"]) / "run.json").read_text()
    with pytest.raises(ConfigurationError, match="holds a run already"):
        train(config)
    assert (Path(config["output_dir"]) / "run.json").read_text() == record


def test_checkpoints_of_a_run_that_was_cut_off_are_not_trodden_on(config: dict[str, Any]) -> None:
    (Path(config["output_dir"]) / "checkpoint-4").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="holds checkpoints of a run that was cut off"):
        train(config)


def test_a_run_that_raises_is_recorded(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import Trainer

    def out_of_memory(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Trainer, "training_step", out_of_memory)
    with pytest.raises(RuntimeError, match="out of memory"):
        train(config)
    run = read_run(Path(config["output_dir"]) / "run.json")
    assert (run.status, run.reason) == ("failed", "RuntimeError: out of memory")
    assert "training_step" in (Path(config["output_dir"]) / "traceback.txt").read_text()


def test_a_collapsed_run_is_failed_but_keeps_its_score(config: dict[str, Any]) -> None:
    run = train(config, learning_rate=0.0, max_steps=2)
    assert run.score is not None
    last = run.evaluations[-1][1]
    assert (run.status == "failed") == bool(last["collapsed"])


def test_what_the_history_says_of_divergence() -> None:
    history = [
        {"step": 1, "eval_accuracy": 0.7, "eval_loss": 0.5},
        {"step": 2, "eval_accuracy": 0.5, "eval_loss": float("nan")},
    ]
    outcome = Outcome.of(history, metric="accuracy", greater_is_better=True)
    assert outcome.status == "failed"
    assert "step 2 is nan" in outcome.reason
    assert (outcome.best_score, outcome.last_score) == (0.7, 0.5)


def test_evaluations_are_read_without_timings() -> None:
    history = [
        {"step": 5, "loss": 1.0},
        {"step": 5, "eval_accuracy": 0.5, "eval_runtime": 1.0, "epoch": 1.0},
        {"step": 9, "eval_accuracy": 0.6, "eval_samples_per_second": 3.0},
    ]
    assert read_evaluations(history) == ((5, {"accuracy": 0.5}), (9, {"accuracy": 0.6}))


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"train_file": "nowhere.csv"}, DataError, "nowhere.csv"),
        ({"label_column": "lable"}, DataError, "lable"),
        ({"model_name_or_path": "./no-such-model"}, ConfigurationError, "there is no such folder"),
        ({"output_dir": None}, ConfigurationError, "output_dir"),
        ({"filter": "label == 'x'"}, DataError, "filter"),
        ({"metrics": "rmse"}, ConfigurationError, "does not fit"),
        ({"reinit_layers": 9}, ConfigurationError, r"reinit_layers must be .* \[0, 2\]"),
        ({"freeze_layers": 9}, ConfigurationError, r"freeze_layers must be .* \[0, 2\]"),
        ({"freeze_layers": 1, "reinit_layers": 2}, ConfigurationError, "would never learn"),
        ({"optim": "galore_adamw", "layer_lr": "llrd"}, ConfigurationError, "galore"),
        ({"report_to": "nowhere"}, ConfigurationError, "the Trainer refuses .* nowhere"),
        ({"resume_from_checkpoint": "nowhere"}, ConfigurationError, "'nowhere' is no folder"),
    ],
)
def test_refusals_come_before_anything_is_written(
    config: dict[str, Any], values: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train({**config, **values})
    assert not Path(config["output_dir"]).exists()


@pytest.mark.parametrize("given", [3, None, ["a.yaml"], b"a.yaml"], ids=str)
def test_refusal_what_is_no_configuration(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"config must be the path of a YAML file.* got"):
        train(given)


@pytest.mark.parametrize("callbacks", [3, [3], [str]], ids=str)
def test_refusal_what_are_no_callbacks(config: dict[str, Any], callbacks: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"callbacks must be .*TrainerCallbacks, got"):
        train(config, callbacks=callbacks)
    assert not Path(config["output_dir"]).exists()


def test_a_place_that_cannot_be_a_folder(config: dict[str, Any]) -> None:
    for folder in (config["train_file"], config["train_file"] + "/inside"):
        with pytest.raises(ConfigurationError, match="is a file"):
            train({**config, "output_dir": folder})


def test_a_secret_is_not_written(config: dict[str, Any]) -> None:
    train({**config, "max_steps": 1, "hub_token": "hf_secret"})
    folder = Path(config["output_dir"])
    for name in ("configuration.yaml", "run.json"):
        assert "hf_secret" not in (folder / name).read_text()


def test_layers_over_a_trained_head_are_drawn_from_the_head_seed(
    config: dict[str, Any], tmp_path: Path
) -> None:
    whole = write_member(tmp_path / "whole", config) / "model"
    keys = {**config, "model_name_or_path": str(whole), "reinit_layers": 1, "data_seed": 1}

    def start(head_seed: int, seed: int) -> dict[str, Any]:
        configuration = load_configuration({**keys, "head_seed": head_seed, "seed": seed})
        prepared = prepare_data(configuration)
        model, args = load_parts(configuration, tmp_path / "out", prepared, quiet=True)
        heed(preflight(model, args, prepared.train))
        return {
            name: value.clone() for name, value in prepare_model(model, args).named_parameters()
        }

    first, same, other = start(5, 1), start(5, 2), start(6, 1)
    assert all(first[name].equal(same[name]) for name in first)
    differing = [name for name in first if not first[name].equal(other[name])]
    assert any("layer.1" in name for name in differing)
    assert not any("classifier" in name for name in differing)
