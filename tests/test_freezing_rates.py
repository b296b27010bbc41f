"""The warm-up of each freed stage: its rate in every step, and who else may set rates."""

from __future__ import annotations

import pytest
import torch
from transformers import Trainer, TrainerCallback

from hf_stabilizer import (
    ConfigurationError,
    GradualUnfreezingCallback,
    SWACallback,
    layered_optimizer,
    layerwise_decay,
)
from hf_stabilizer.freezing.stages import rate_factor
from hf_stabilizer.rate_override import RateOverride
from tests import reference
from tests.tiny import Rows, same_weights, tiny_bert, training_arguments

FIRST_STEPS = {"head": 1, "layer_03": 2, "layer_02": 3, "layer_01": 4, "embeddings": 5}


class UsedRates(TrainerCallback):
    """Writes down each layer's rate just before it is used, and what is logged."""

    def __init__(self):
        self.used: dict[int, dict[str, float]] = {}
        self.logged: dict[int, float] = {}

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
        self.used[state.global_step + 1] = rates

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "learning_rate" in logs:
            self.logged[state.global_step] = logs["learning_rate"]


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step == self.step


def train(folder, *callbacks, resume=None, decay=0.5, **options):
    args = training_arguments(folder, logging_steps=1, **options)
    trainer = Trainer(
        tiny_bert(),
        args,
        train_dataset=Rows(),
        callbacks=list(callbacks),
        optimizer_cls_and_kwargs=layered_optimizer(args, layerwise_decay(decay)),
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def test_by_hand_a_third_more_with_every_step():
    # freed in step 4, W = 3
    factors = [rate_factor(step, first_step=4, warmup_steps=3) for step in range(1, 9)]
    assert factors == [0, 0, 0, 1 / 3, 2 / 3, 1, 1, 1]


@pytest.mark.parametrize("first_step", [1, 2, 5])
@pytest.mark.parametrize("warmup_steps", [0, 1, 2, 7])
def test_the_factor_is_that_of_the_formula(first_step, warmup_steps):
    for step in range(1, 20):
        factor = rate_factor(step, first_step=first_step, warmup_steps=warmup_steps)
        assert factor == reference.stage_warmup(step, first_step, warmup_steps)


@pytest.mark.parametrize("schedule", ["linear", "constant", "cosine"])
def test_the_rate_of_each_layer_and_step_is_used_and_logged(tmp_path, schedule):
    rates = UsedRates()
    callback = GradualUnfreezingCallback(4, warmup_steps=3)
    trainer = train(tmp_path, rates, callback, lr_scheduler_type=schedule)
    factor = trainer.lr_scheduler.lr_lambdas[0]
    first = {"head": 1e-3, "layer_03": 1e-3, "layer_02": 5e-4, "layer_01": 2.5e-4}
    first["embeddings"] = 1.25e-4
    for step, used in rates.used.items():
        for group, rate in used.items():
            layer = group.removesuffix("_no_decay")
            warm = reference.stage_warmup(step, FIRST_STEPS[layer], 3)
            assert rate == pytest.approx(first[layer] * factor(step - 1) * warm, rel=1e-12)
        assert rates.logged[step] == used["layer_03"]
    assert len(rates.used) == 8
    assert rates.used[1]["layer_03"] == 0


def test_the_schedule_has_its_rates_back_after_each_step(tmp_path):
    after = []

    class AfterStep(TrainerCallback):
        def on_step_end(self, args, state, control, optimizer=None, **kwargs):
            after.append([group["lr"] for group in optimizer.param_groups])

    plain = []
    callback = GradualUnfreezingCallback(4, warmup_steps=3)
    train(tmp_path, AfterStep(), callback)
    after, plain = plain, after
    train(tmp_path, AfterStep())
    assert after == plain


@pytest.mark.parametrize(
    "callback",
    [GradualUnfreezingCallback(0, warmup_steps=5), GradualUnfreezingCallback(4, warmup_steps=1)],
)
def test_nothing_freed_or_one_step_of_warmup_changes_no_rate(tmp_path, callback):
    without = GradualUnfreezingCallback(callback.duration)
    assert same_weights(train(tmp_path, callback).model, train(tmp_path, without).model)


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_stopping_within_a_stage_and_resuming_equals_never_stopping(tmp_path, stop):
    def callback():
        return GradualUnfreezingCallback(5, warmup_steps=3)

    straight = train(tmp_path / "a", callback(), weight_decay=0.1)
    saves = {"save_strategy": "steps", "save_steps": stop, "weight_decay": 0.1}
    train(tmp_path / "b", callback(), StopAt(stop), **saves)
    rates, checkpoint = UsedRates(), str(tmp_path / "b" / f"checkpoint-{stop}")
    resumed = train(tmp_path / "b", rates, callback(), resume=checkpoint, **saves)
    assert min(rates.used) == stop + 1
    assert same_weights(straight.model, resumed.model)


def test_rates_of_a_step_that_broke_off_are_not_left_behind(tmp_path):
    class BreaksOff(TrainerCallback):
        is_on = True

        def on_pre_optimizer_step(self, args, state, control, **kwargs):
            if self.is_on:
                self.is_on = False
                raise RuntimeError("CUDA out of memory.")

    rates = UsedRates()
    callback = GradualUnfreezingCallback(4, warmup_steps=2)
    trainer = train(tmp_path, BreaksOff(), rates, callback, auto_find_batch_size=True, max_steps=8)
    straight = UsedRates()
    options = {"per_device_train_batch_size": trainer._train_batch_size, "max_steps": 8}
    train(tmp_path, straight, GradualUnfreezingCallback(4, warmup_steps=2), **options)
    assert rates.used == straight.used


def test_layers_that_share_a_group_cannot_warm_up_one_by_one(tmp_path):
    trainer = Trainer(
        tiny_bert(),
        training_arguments(tmp_path),
        train_dataset=Rows(),
        callbacks=[GradualUnfreezingCallback(4, warmup_steps=2)],
    )
    with pytest.raises(ConfigurationError, match="group 0 of the optimizer is freed in steps 1, 2"):
        trainer.train()


def test_a_schedule_that_follows_a_metric_is_refused(tmp_path):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    override = RateOverride(optimizer, schedule, owner="a warm-up", run=object())
    with pytest.raises(ConfigurationError, match="a warm-up needs a schedule that is a function"):
        _ = override.base_rates


@pytest.mark.parametrize("swa_is_first", [True, False])
def test_two_owners_of_the_rate_are_a_conflict(tmp_path, swa_is_first):
    callbacks = [SWACallback(learning_rate=1e-4), GradualUnfreezingCallback(4, warmup_steps=2)]
    message = r"one owner of the learning rate per run, got .* and .*; leave one of the two out"
    with pytest.raises(ConfigurationError, match=message) as error:
        train(tmp_path, *(callbacks if swa_is_first else callbacks[::-1]))
    assert "SWACallback" in str(error.value)
    assert "GradualUnfreezingCallback(warmup_steps=...)" in str(error.value)


@pytest.mark.parametrize(
    ("swa", "warmup_steps"), [(SWACallback(learning_rate=1e-4), 0), (SWACallback(), 2)]
)
def test_one_owner_of_the_rate_beside_averaging_or_freezing_is_none(tmp_path, swa, warmup_steps):
    train(tmp_path, swa, GradualUnfreezingCallback(4, warmup_steps=warmup_steps))


def test_another_run_may_have_another_owner():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    first, second = object(), object()
    RateOverride(optimizer, None, owner="one", run=first)
    RateOverride(optimizer, None, owner="one", run=first)  # set up twice
    with pytest.raises(ConfigurationError, match="got one and other"):
        RateOverride(optimizer, None, owner="other", run=first)
    RateOverride(optimizer, None, owner="other", run=second)
