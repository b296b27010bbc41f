from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import CallbackHandler

from hf_stabilizer.averaging import SWACallback
from hf_stabilizer.divergence import DivergenceGuardCallback
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.evaluation import EvaluationsPerEpochCallback
from hf_stabilizer.freezing import freeze_layers
from hf_stabilizer.layer_statistics import LayerStatisticsCallback
from hf_stabilizer.layers import LayerMap
from hf_stabilizer.learning_rates import layerwise_decay
from hf_stabilizer.optimizers import layered_optimizer
from tests import reference
from tests.tiny import Rows, same_weights, tiny_bert, training_arguments

LAYERS = ("embeddings", "layer_01", "layer_02", "layer_03", "head")
KINDS = ("lr", "grad_norm", "update_ratio")
EVERYTHING = {f"{kind}/{layer}" for kind in KINDS for layer in LAYERS}


class Spy(TrainerCallback):
    """Copies rates, gradients and weights at every step."""

    def __init__(self) -> None:
        self.steps: dict[int, dict[str, Any]] = {}

    def on_pre_optimizer_step(self, args, state, control, model, optimizer, **kwargs):
        rate_of = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
        layer_map = LayerMap.from_model(model)
        self.now: dict[str, Any] = {"before": {}, "clipped": {}, "rates": {}}
        for name, p in model.named_parameters():
            layer = layer_map.label(layer_map.depth_of(name))
            if p.grad is not None:
                self.now["before"].setdefault(layer, []).append(p.detach().float().numpy().copy())
                self.now["clipped"].setdefault(layer, []).append(p.grad.float().numpy().copy())
                self.now["rates"][layer] = rate_of[id(p)]

    def on_optimizer_step(self, args, state, control, model, **kwargs):
        layer_map, after = LayerMap.from_model(model), {}
        for name, p in model.named_parameters():
            if p.grad is not None:
                layer = layer_map.label(layer_map.depth_of(name))
                after.setdefault(layer, []).append(p.detach().float().numpy().copy())
        self.steps[state.global_step + 1] = {**self.now, "after": after}


class Tracker(TrainerCallback):
    """What a tracker is sent."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def on_log(self, args, state, control, logs, **kwargs):
        self.lines.append({**logs, "step": state.global_step})


class StopAt(TrainerCallback):
    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step == self.step


def train(
    folder, *callbacks: TrainerCallback, model: Any = None, resume: bool | None = None, **options
) -> Trainer:
    socket = options.pop("socket", None)
    trainer = Trainer(
        model or tiny_bert(),
        training_arguments(folder, **{"logging_steps": 2, **options}),
        train_dataset=Rows(32),
        eval_dataset=Rows(16, seed=1),
        callbacks=list(callbacks),
        optimizer_cls_and_kwargs=socket,
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def lines(trainer: Trainer) -> dict[int, dict[str, float]]:
    """Optimizer step -> the Trainer's line of training."""
    return {line["step"]: line for line in trainer.state.log_history if "loss" in line}


def ours(line: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in line.items() if "/" in name}


# ---- what


@pytest.mark.parametrize("max_grad_norm", [0.0, 0.3, 1e3])
def test_every_number_as_worked_out_from_copies(tmp_path, max_grad_norm):
    spy = Spy()
    args = training_arguments(tmp_path)
    trainer = train(
        tmp_path,
        spy,
        LayerStatisticsCallback(),
        max_grad_norm=max_grad_norm,
        socket=layered_optimizer(args, layerwise_decay(0.5), head_learning_rate=3e-3),
    )
    for step, line in lines(trainer).items():
        expected = reference.layer_statistics(**spy.steps[step], logged_norm=line["grad_norm"])
        assert ours(line).keys() == EVERYTHING
        assert ours(line) == pytest.approx(expected, rel=1e-4)
        assert line["learning_rate"] == line["lr/layer_03"]
        assert line["lr/layer_02"] == pytest.approx(line["lr/layer_03"] / 2)
    assert sorted(lines(trainer)) == [2, 4, 6, 8]


def test_the_step_of_sgd_on_paper(tmp_path):
    callback = LayerStatisticsCallback()
    spy = Spy()
    options = {"optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0, "logging_steps": 1}
    trainer = train(tmp_path, spy, callback, **options)
    for step, line in lines(trainer).items():
        for layer in LAYERS:  # w' = w - lr g
            weight = sum((w**2).sum() for w in spy.steps[step]["before"][layer]) ** 0.5
            step_length = line[f"lr/{layer}"] * line[f"grad_norm/{layer}"]
            assert line[f"update_ratio/{layer}"] == pytest.approx(step_length / weight, rel=1e-3)


def test_norms_are_those_before_clipping(tmp_path):
    plain = train(tmp_path, LayerStatisticsCallback(), max_grad_norm=0.0, logging_steps=1)
    clipped = train(tmp_path, LayerStatisticsCallback(), max_grad_norm=1e-3, logging_steps=1)
    first, other = lines(plain)[1], lines(clipped)[1]  # the weights are still the same
    for layer in LAYERS:
        name = f"grad_norm/{layer}"
        assert other[name] == pytest.approx(first[name], rel=1e-4)
    norms = [first[f"grad_norm/{layer}"] for layer in LAYERS]
    assert sum(norm**2 for norm in norms) ** 0.5 == pytest.approx(first["grad_norm"], rel=1e-5)


def test_the_rate_under_an_swa_rate_is_the_one_used(tmp_path):
    swa = SWACallback(start=3, learning_rate=7e-4, anneal_steps=0)
    trainer = train(tmp_path, swa, LayerStatisticsCallback(), logging_steps=1)
    for step, line in lines(trainer).items():
        assert line["lr/head"] == line["learning_rate"]
        assert (line["lr/head"] == pytest.approx(7e-4)) == (step >= 3)


# ---- when


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"logging_steps": 3}, [3, 6]),
        ({"logging_steps": 0.5}, [4, 8]),
        ({"logging_steps": 5, "logging_first_step": True}, [1, 5]),
        ({"logging_strategy": "epoch"}, [4, 8]),
        ({"logging_strategy": "epoch", "max_steps": 6}, [4, 6]),
        ({"logging_strategy": "no"}, []),
        (
            {
                "logging_strategy": "epoch",
                "gradient_accumulation_steps": 3,
                "per_device_train_batch_size": 4,
            },
            [3, 6],
        ),
        ({"gradient_accumulation_steps": 2, "logging_steps": 1}, [1, 2, 3, 4]),
    ],
)
def test_each_line_of_the_trainer_has_them_and_no_other_step_is_measured(
    tmp_path, monkeypatch, options, expected
):
    measured, subtract = [], torch._foreach_sub_
    monkeypatch.setattr(
        torch, "_foreach_sub_", lambda *given: (measured.append(1), subtract(*given))
    )
    trainer = train(tmp_path, LayerStatisticsCallback(), optim="adagrad", **options)
    found = lines(trainer)
    assert sorted(found) == expected
    assert all(ours(line).keys() == EVERYTHING for line in found.values())
    assert len(measured) == len(expected)


def test_a_line_that_nobody_foresaw_is_left_as_it_is(tmp_path):
    class LogsAtThree(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_log |= state.global_step == 3

    found = lines(train(tmp_path, LogsAtThree(), LayerStatisticsCallback(), logging_steps=4))
    assert {step: bool(ours(line)) for step, line in found.items()} == {3: False, 4: True, 8: True}


@pytest.mark.parametrize("is_first", [True, False])
def test_trackers_get_the_trainers_own_line_with_all_in_it(tmp_path, is_first):
    tracker, callback = Tracker(), LayerStatisticsCallback()
    callbacks = [tracker, callback] if is_first else [callback, tracker]
    trainer = train(tmp_path, *callbacks, EvaluationsPerEpochCallback(1))
    assert tracker.lines == trainer.state.log_history
    assert len([line for line in tracker.lines if "lr/head" in line]) == 4
    assert all("loss" in line for line in tracker.lines if "lr/head" in line)


def test_tensorboard_shows_them(tmp_path):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    train(tmp_path, LayerStatisticsCallback(), report_to="tensorboard")
    (events,) = tmp_path.rglob("events.out.tfevents.*")
    shown = event_accumulator.EventAccumulator(str(events))
    shown.Reload()
    assert {f"train/{name}" for name in EVERYTHING} <= set(shown.Tags()["scalars"])


def test_a_second_training_logs_no_line_twice(tmp_path):
    trainer = train(tmp_path, LayerStatisticsCallback())
    trainer.train()
    assert sorted(lines(trainer)) == [2, 4, 6, 8]
    kinds = [type(callback) for callback in trainer.callback_handler.callbacks]
    assert kinds.count(LayerStatisticsCallback) == 1


# ---- of what


def test_frozen_layers_have_rate_zero_and_no_gradient(tmp_path):
    model = freeze_layers(tiny_bert(), num_layers=1)
    line = lines(train(tmp_path, LayerStatisticsCallback(), model=model))[4]
    for layer in ("embeddings", "layer_01"):
        assert line[f"lr/{layer}"] == line[f"update_ratio/{layer}"] == 0
        assert f"grad_norm/{layer}" not in line
    assert line["lr/layer_02"] == line["learning_rate"] > 0
    assert line["update_ratio/layer_02"] > 0


def test_layers_that_are_frozen_for_a_while(tmp_path):
    class FrozenAtFirst(TrainerCallback):
        def on_step_begin(self, args, state, control, model, **kwargs):
            model.bert.encoder.requires_grad_(state.global_step >= 3)

    found = lines(train(tmp_path, FrozenAtFirst(), LayerStatisticsCallback()))
    assert found[2]["lr/layer_01"] == found[2]["update_ratio/layer_01"] == 0
    assert "grad_norm/layer_01" not in found[2]
    assert min(found[4][f"{kind}/layer_01"] for kind in KINDS) > 0


# peft 0.21 asks transformers 5.23 for a property under its old name
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_of_a_peft_model_the_adapters(tmp_path):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"])
    model = peft.get_peft_model(tiny_bert(), config)
    line = lines(train(tmp_path, LayerStatisticsCallback(), model=model, learning_rate=0.1))[4]
    assert line["lr/embeddings"] == 0
    lora = [p for n, p in model.named_parameters() if "layer.0." in n and "lora" in n]
    size = sum(float((p.detach() ** 2).sum()) for p in lora) ** 0.5
    # A step of Adam is about as long as the rate, in each of 2 (16 + 16) numbers.
    assert 0.05 < line["update_ratio/layer_01"] * size / (line["lr/layer_01"] * 8) < 3


def test_weights_in_half_precision(tmp_path):
    model = tiny_bert().to(torch.bfloat16)
    spy = Spy()
    trainer = train(tmp_path, spy, LayerStatisticsCallback(), model=model, max_grad_norm=0.0)
    for step, line in lines(trainer).items():
        total = sum((g**2).sum() for gs in spy.steps[step]["clipped"].values() for g in gs) ** 0.5
        expected = reference.layer_statistics(**spy.steps[step], logged_norm=total)
        assert ours(line) == pytest.approx(expected, rel=1e-2)


def test_layers_whose_weights_are_zero_have_no_ratio(tmp_path):
    model = tiny_bert()
    for parameter in model.bert.encoder.layer[0].parameters():
        torch.nn.init.zeros_(parameter)
    line = lines(train(tmp_path, LayerStatisticsCallback(), model=model, logging_steps=1))[1]
    assert "update_ratio/layer_01" not in line
    assert line["lr/layer_01"] > 0


def test_a_step_that_the_guard_skipped_is_told_as_it_was(tmp_path):
    class Poisons(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
            if state.global_step == 3:
                model.classifier.weight.grad[0, 0] = torch.nan

    callbacks = [Poisons(), DivergenceGuardCallback("warn"), LayerStatisticsCallback()]
    with pytest.warns(UserWarning, match="at optimizer step 4"):
        trainer = train(tmp_path, *callbacks)
    line = lines(trainer)[4]
    assert all(line[f"update_ratio/{layer}"] == 0 for layer in LAYERS)
    assert sorted(lines(trainer)) == [2, 4, 6, 8]


# ---- without a trace


@pytest.mark.parametrize("options", [{}, {"bf16": True}, {"gradient_accumulation_steps": 2}])
def test_weights_and_all_other_logs_are_those_of_a_run_without(tmp_path, options):
    plain = train(tmp_path, **options)
    logged = train(tmp_path, LayerStatisticsCallback(), logging_steps=1, **options)
    assert same_weights(plain.model, logged.model)
    again = train(tmp_path, LayerStatisticsCallback(), **options)
    for line, other in zip(plain.state.log_history, again.state.log_history, strict=True):
        kept = {name: value for name, value in other.items() if name not in ours(other)}
        if "train_runtime" not in line:
            assert line == kept
            assert list(kept) == list(line)


def test_resuming_logs_the_same_numbers(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 3}
    straight = train(tmp_path / "a", LayerStatisticsCallback(), **options)
    train(tmp_path / "b", LayerStatisticsCallback(), StopAt(3), **options)
    resumed = train(tmp_path / "b", LayerStatisticsCallback(), resume=True, **options)
    assert same_weights(straight.model, resumed.model)
    assert lines(straight).keys() == lines(resumed).keys()
    for step in (6, 8):
        assert ours(lines(straight)[step]) == ours(lines(resumed)[step])


# ---- refusal, and the facts relied on


def test_steps_inside_the_backward_pass_are_refused(tmp_path):
    args = training_arguments(tmp_path, optim="lomo")
    callback = LayerStatisticsCallback()
    with pytest.raises(ConfigurationError, match="cannot be combined with optim='lomo'"):
        callback.on_train_begin(args, None, None)
    args = training_arguments(tmp_path)
    args.deepspeed_plugin = object()  # as `deepspeed=` leaves one there
    with pytest.raises(ConfigurationError, match="cannot be combined with DeepSpeed"):
        callback.on_train_begin(args, None, None)


def test_a_trainer_with_a_handler_of_its_own_is_refused(tmp_path):
    args = training_arguments(tmp_path)
    with pytest.raises(ConfigurationError, match="stock Trainer's CallbackHandler"):
        LayerStatisticsCallback().on_train_begin(args, None, None)


def test_the_handler_goes_on_with_the_list_that_it_began_with(tmp_path):
    class PutsItselfFirst(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            handler.callbacks = [self, *(c for c in handler.callbacks if c is not self)]

    began: list[str] = []

    class Begins(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            began.append("after")

    handler = CallbackHandler([PutsItselfFirst(), Begins()], *[None] * 4)
    trainer = train(tmp_path, Begins())
    handler.on_train_begin(trainer.args, trainer.state, trainer.control)
    assert began == ["after", "after"]
