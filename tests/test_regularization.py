"""L1 and L2 by hand, against torch's own, switched off, frozen, skipped, averaged and resumed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import Trainer, TrainerCallback

from hf_stabilizer import (
    EMACallback,
    L1Callback,
    L2Callback,
    LayerStatisticsCallback,
    StabilizerArguments,
    prepare_model,
    stabilize,
)
from hf_stabilizer.errors import ConfigurationError, ResumeError
from hf_stabilizer.learning_rates import layerwise_decay
from hf_stabilizer.parameter_groups import param_groups
from hf_stabilizer.skipped_steps import mark_skipped
from tests import reference
from tests.tiny import TRAINING, Rows, same_weights, tiny_bert, training_arguments

STEPS = {"max_steps": 4, "weight_decay": 0.0}


def trained(folder: Path, *callbacks: TrainerCallback, **options: Any) -> nn.Module:
    model = tiny_bert()
    args = training_arguments(folder, **{**STEPS, **options})
    Trainer(model, args, train_dataset=Rows(), callbacks=list(callbacks)).train()
    return model


def with_options(folder: Path, **options: Any) -> nn.Module:
    args = StabilizerArguments(str(folder), **{**TRAINING, **STEPS, **options})
    model = prepare_model(tiny_bert(), args)
    Trainer(model, args, train_dataset=Rows(), **stabilize(args)).train()
    return model


class Steps(TrainerCallback):
    """Keeps the classifier's weight from before and after each step, its gradient and its rate."""

    def __init__(self) -> None:
        self.before: list[torch.Tensor] = []
        self.after: list[torch.Tensor] = []

    def on_step_begin(self, *args: Any, model: nn.Module, **kwargs: Any) -> None:
        self.before.append(model.classifier.weight.detach().clone())

    def on_step_end(self, *args: Any, model: nn.Module, **kwargs: Any) -> None:
        self.after.append(model.classifier.weight.detach().clone())


def test_strength_zero_is_the_plain_trainer(tmp_path: Path) -> None:
    plain = trained(tmp_path)
    assert same_weights(plain, trained(tmp_path, L1Callback(0), L2Callback(0.0)))
    assert same_weights(plain, with_options(tmp_path, l1=0, l2=0))


def test_l2_is_the_weight_decay_of_sgd(tmp_path: Path) -> None:
    """torch's SGD adds weight_decay times the weight to the gradient, too, after clipping."""
    sgd = {"optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.5}
    theirs = trained(tmp_path, **{**sgd, "weight_decay": 0.3})
    assert same_weights(theirs, trained(tmp_path, L2Callback(0.3), **sgd))
    assert same_weights(theirs, with_options(tmp_path, l2=0.3, **sgd))
    assert not same_weights(theirs, trained(tmp_path, **sgd))


def test_l2_is_not_the_decoupled_decay_of_adamw(tmp_path: Path) -> None:
    ours = trained(tmp_path, L2Callback(0.1))
    assert not same_weights(ours, trained(tmp_path, weight_decay=0.1))
    assert not same_weights(ours, trained(tmp_path))


def test_l1_by_hand(tmp_path: Path) -> None:
    """Without momentum or schedule: w - rate g, then the threshold rate x strength = 0.01."""
    sgd = {"optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant", "max_steps": 1}
    path, plain = Steps(), Steps()
    model = trained(tmp_path, L1Callback(0.1), path, **sgd)
    bare = trained(tmp_path, plain, **sgd)
    expected = reference.soft_threshold(plain.after[0].flatten().tolist(), 0.01)
    assert model.classifier.weight.flatten().tolist() == pytest.approx(expected, abs=1e-7)
    zeros = [value == 0 for value in expected]
    assert any(zeros)
    assert not all(zeros)
    # Biases and norms are no part of it.
    assert torch.equal(model.classifier.bias, bare.classifier.bias)
    norm = "bert.encoder.layer.0.output.LayerNorm.weight"
    assert torch.equal(model.get_parameter(norm), bare.get_parameter(norm))


def test_l1_follows_the_rate_of_each_group_and_of_the_schedule(tmp_path: Path) -> None:
    """With gradients of zero only the threshold acts: linear schedule 1, 3/4, 1/2, 1/4."""

    class NoGradient(TrainerCallback):
        def on_pre_optimizer_step(self, *args: Any, model: nn.Module, **kwargs: Any) -> None:
            for parameter in model.parameters():
                parameter.grad.zero_()

    rate, strength = 1e-3, 2.0
    options = {"optim": "sgd", "learning_rate": rate, "layer_lr": "llrd", "layer_lr_decay": 0.5}
    args = StabilizerArguments(str(tmp_path), **{**TRAINING, **STEPS, **options, "l1": strength})
    start, model = tiny_bert(), tiny_bert()
    Trainer(model, args, train_dataset=Rows(), **stabilize(args, [NoGradient()])).train()
    for name, factor in (("0", 0.25), ("2", 1.0)):
        full = f"bert.encoder.layer.{name}.output.dense.weight"
        expected = start.get_parameter(full).flatten().tolist()
        for part in (1, 3 / 4, 1 / 2, 1 / 4):
            expected = reference.soft_threshold(expected, rate * factor * part * strength)
        found = model.get_parameter(full).flatten().tolist()
        assert found == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("callback", [L1Callback(50.0), L2Callback(50.0)])
def test_frozen_weights_stay(tmp_path: Path, callback: TrainerCallback) -> None:
    model, start = tiny_bert(), tiny_bert()
    args = training_arguments(tmp_path, **STEPS)
    model.bert.encoder.layer[0].requires_grad_(False)
    Trainer(model, args, train_dataset=Rows(), callbacks=[callback]).train()
    assert same_weights(model.bert.encoder.layer[0], start.bert.encoder.layer[0])
    assert not same_weights(model.bert.encoder.layer[1], start.bert.encoder.layer[1])


def test_layers_that_are_frozen_for_a_while_stay_for_that_while(tmp_path: Path) -> None:
    start = tiny_bert()
    model = with_options(tmp_path, l1=50.0, l2=1.0, head_first=4)
    assert same_weights(model.bert.encoder, start.bert.encoder)
    assert not torch.equal(model.classifier.weight, start.classifier.weight)


@pytest.mark.parametrize("empties", [True, False])
def test_a_skipped_step_moves_nothing(tmp_path: Path, empties: bool) -> None:
    class Skip(TrainerCallback):
        """As the guard does, or a GradScaler that found an overflow."""

        def on_pre_optimizer_step(
            self, args: Any, state: Any, control: Any, *, model: nn.Module, **kwargs: Any
        ) -> None:
            for parameter in model.parameters():
                parameter.grad = None if empties else torch.zeros_like(parameter)
            mark_skipped(kwargs["optimizer"], run=state, step=state.global_step + 1)

    model = trained(tmp_path, L1Callback(50.0), L2Callback(1.0), Skip(), optim="sgd")
    assert same_weights(model, tiny_bert())


@pytest.mark.parametrize("is_first", [True, False])
def test_averages_and_statistics_see_the_weights_after_the_threshold(
    tmp_path: Path, is_first: bool
) -> None:
    """A moving mean of decay 0 is the last weights themselves."""
    l1, mean = L1Callback(5.0), EMACallback(decay=0.0)
    order = [l1, mean] if is_first else [mean, l1]
    averaged = trained(tmp_path, *order, LayerStatisticsCallback(), logging_steps=1)
    assert same_weights(averaged, trained(tmp_path, L1Callback(5.0)))


@pytest.mark.parametrize("option", ["l1", "l2"])
def test_resuming_is_exact_and_another_strength_is_refused(tmp_path: Path, option: str) -> None:
    options = {**TRAINING, **STEPS, "save_strategy": "steps", "save_steps": 2, option: 0.5}

    def run(folder: str, resume: Path | None = None, **more: Any) -> nn.Module:
        args = StabilizerArguments(str(tmp_path / folder), **{**options, **more})
        model = tiny_bert()
        trainer = Trainer(model, args, train_dataset=Rows(), **stabilize(args))
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
        return model

    straight = run("straight")
    checkpoint = tmp_path / "straight" / "checkpoint-2"
    assert same_weights(straight, run("resumed", checkpoint))
    with pytest.raises(ResumeError, match=r"strength 0\.5 -> 0\.25"):
        run("other", checkpoint, **{option: 0.25})


def test_the_share_of_zeros_is_logged(tmp_path: Path) -> None:
    args = StabilizerArguments(
        str(tmp_path), **{**TRAINING, **STEPS, "l1": 1e4, "logging_steps": 4},
        log_layer_statistics=True,
    )  # fmt: skip
    trainer = Trainer(tiny_bert(), args, train_dataset=Rows(), **stabilize(args))
    trainer.train()
    (line,) = [line for line in trainer.state.log_history if "loss" in line]
    assert line["l1/zeros"] > 0.99
    assert "update_ratio/head" in line


def test_weight_decay_by_depth(tmp_path: Path) -> None:
    args = StabilizerArguments(
        str(tmp_path), weight_decay=0.1, layer_weight_decay_multipliers=[1.0, 0.5, 0.0],
        head_weight_decay=0.3, **TRAINING,
    )  # fmt: skip
    groups = param_groups(tiny_bert(), args, layerwise_decay(1.0))
    found = {group["name"]: group["weight_decay"] for group in groups}
    assert found == {
        "embeddings": 0.1,
        "layer_01": 0.1,
        "layer_02": 0.05,
        "layer_03": 0.0,
        "head": 0.3,
        **dict.fromkeys([name for name in found if name.endswith("_no_decay")], 0.0),
    }


def test_equal_decays_are_the_plain_trainer_and_others_are_not(tmp_path: Path) -> None:
    plain = trained(tmp_path, weight_decay=0.1)
    decays = {"weight_decay": 0.1, "layer_weight_decay_multipliers": [1.0]}
    assert same_weights(plain, with_options(tmp_path, **decays))
    assert same_weights(plain, with_options(tmp_path, weight_decay=0.1, head_weight_decay=0.1))
    other = with_options(tmp_path, weight_decay=0.1, head_weight_decay=5.0)
    assert not torch.equal(plain.classifier.weight, other.classifier.weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l2": -1}, "l2 must be a finite number from 0 up, got -1; 0 is off"),
        ({"l1": float("nan")}, "l1 must be a finite number from 0 up, got nan"),
        ({"l1": "a lot"}, "l1 must be a number from 0 up, got 'a lot'"),
        ({"head_weight_decay": -0.1}, "head_weight_decay must be a finite number from 0 up, got"),
        (
            {"layer_weight_decay_multipliers": [-1.0], "weight_decay": 0.1},
            r"layer_weight_decay_multipliers must be from 0 up, got -1\.0",
        ),
        (
            {"layer_weight_decay_multipliers": [1.0, 0.0]},
            "has no effect with weight_decay=0; set weight_decay",
        ),
        ({"dropout": 1.0}, r"dropout must be a number in \[0, 1\), got 1\.0"),
    ],
)
def test_values_that_cannot_be_meant(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        StabilizerArguments(str(tmp_path), **options)


def test_conflicts_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="the option l1 and the callback L1Callback"):
        stabilize(StabilizerArguments(str(tmp_path), l1=0.1), [L1Callback(0.1)])
    model = tiny_bert()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))
    args = training_arguments(tmp_path, **STEPS)
    with pytest.raises(ConfigurationError, match=r"L2Callback\(strength=1\) has nothing to act on"):
        Trainer(model, args, train_dataset=Rows(), callbacks=[L2Callback(1)]).train()
    args.optim = "galore_adamw_layerwise"  # steps as soon as a gradient is there
    state = Trainer(tiny_bert(), training_arguments(tmp_path), train_dataset=Rows()).state
    with pytest.raises(
        ConfigurationError, match="L1Callback cannot be combined with optim='galore_ad"
    ):
        L1Callback(1.0).on_train_begin(args, state, None, model=model, optimizer=None)
    args = StabilizerArguments(str(tmp_path), **{**TRAINING, **STEPS})
    stabilize(args)
    args.l2 = 0.1  # as by a hyperparameter search
    with pytest.raises(ConfigurationError, match=r"l2=0\.1 came too late"):
        args.get_warmup_steps(4)


def test_a_scaled_gradient_gets_a_scaled_pull() -> None:
    """Under fp16 gradients stay scaled until clipping undoes it; without clipping nobody does."""
    from types import SimpleNamespace

    parameter = nn.Parameter(torch.tensor([2.0]))
    parameter.grad = torch.tensor([8.0])
    optimizer: Any = torch.optim.SGD([parameter], lr=0.1)
    optimizer.scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    for max_grad_norm, expected in ((1.0, 8 + 0.5 * 2), (0.0, 9 + 16 * 0.5 * 2)):
        callback = L2Callback(0.5)
        callback._weights = [parameter]
        args: Any = SimpleNamespace(max_grad_norm=max_grad_norm)
        callback.on_pre_optimizer_step(args, None, None, optimizer=optimizer)
        assert parameter.grad.item() == expected


def test_smoothed_labels_by_hand(tmp_path: Path) -> None:
    """Label smoothing is transformers' own: (1 - e) of the loss, e of the mean over classes."""
    args = StabilizerArguments(str(tmp_path), **TRAINING, label_smoothing_factor=0.3)
    model = tiny_bert().eval()
    trainer = Trainer(model, args, train_dataset=Rows(), **stabilize(args))
    batch = {name: value[None] for name, value in Rows()[0].items()}
    with torch.no_grad():
        logs = model(**batch).logits.log_softmax(-1)[0].tolist()
        found = trainer.compute_loss(model, dict(batch)).item()
    label = int(batch["labels"])
    assert found == pytest.approx(0.7 * -logs[label] + 0.3 * -sum(logs) / 2)


@pytest.mark.parametrize("task", ["text-classification", "multiple-choice"])
def test_smoothed_labels_train_where_labels_are_classes(
    config: dict[str, Any], tmp_path: Path, task: str
) -> None:
    from hf_stabilizer import train

    if task == "multiple-choice":
        rows = [
            {"text": f"the film {n}", "a": "is good", "b": "was bad", "label": n % 2}
            for n in range(40)
        ]
        config["train_file"] = written(rows, tmp_path)
        config |= {"choice_columns": ["a", "b"], "test_size": 8, "validation_size": 8}
    run = train({**config, "task": task, "max_steps": 2, "label_smoothing_factor": 0.2})
    assert run.status in ("finished", "failed")  # collapsed, perhaps: two steps teach little
    assert run.steps == 2
    assert run.best_score is not None


@pytest.mark.parametrize("task", ["text-regression", "text-classification"])
def test_smoothed_labels_are_refused_for_numbers_and_for_several_labels(
    config: dict[str, Any], tmp_path: Path, task: str
) -> None:
    from hf_stabilizer import train

    labels = [0.5, 1.25] if task == "text-regression" else [["good"], ["good", "long"]]
    rows = [{"text": f"the film was {n}", "label": labels[n % 2]} for n in range(80)]
    config["train_file"] = written(rows, tmp_path)
    with pytest.raises(ConfigurationError, match=r"label_smoothing_factor=0\.2 needs class ids"):
        train({**config, "task": task, "label_smoothing_factor": 0.2})
    assert not (tmp_path / "out" / "model").exists()


def written(rows: list[dict[str, Any]], folder: Path) -> str:
    path = folder / "rows-of-the-task.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def in_two_processes(mode: str, folder: Path) -> dict[str, torch.Tensor]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    script = ["--nproc_per_node", "2", "-m", "tests.penalised_in_two_processes"]
    folder.mkdir()
    finished = subprocess.run(
        [*launcher, *script, mode, str(folder)],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return load_file(folder / "weights.safetensors")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_processes_penalise_as_one_whether_weights_are_sharded_or_not(tmp_path: Path) -> None:
    ddp, fsdp2 = (in_two_processes(mode, tmp_path / mode) for mode in ("ddp", "fsdp2"))
    args = training_arguments(
        tmp_path, optim="sgd", max_steps=4, learning_rate=0.1, max_grad_norm=0.0
    )
    model = tiny_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    penalties = [L1Callback(0.02), L2Callback(0.1)]
    Trainer(model, args, train_dataset=Rows(32), callbacks=penalties).train()
    one = dict(model.named_parameters())
    assert ddp.keys() == fsdp2.keys() == one.keys()
    assert (one["classifier.weight"] == 0).any()
    for name, weight in one.items():
        torch.testing.assert_close(ddp[name], weight.detach(), rtol=0, atol=2e-6)
        torch.testing.assert_close(fsdp2[name], weight.detach(), rtol=0, atol=2e-6)
