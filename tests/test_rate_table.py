"""The table against the rates that a real Trainer uses, and the picture of it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from transformers import Trainer, TrainerCallback

from hf_stabilizer import (
    ConfigurationError,
    GradualUnfreezingCallback,
    HeadFirstCallback,
    LayerMap,
    MissingDependencyError,
    StabilizerArguments,
    SWACallback,
    cosine_rates,
    layered_optimizer,
    layerwise_decay,
)
from hf_stabilizer.rate_table import LayerRate, learning_rate_table, plot_learning_rates
from tests import reference
from tests.tiny import TRAINING, Rows, same_weights, tiny_bert, training_arguments

LAYERS = ["embeddings", "layer_01", "layer_02", "layer_03", "head"]


class UsedRates(TrainerCallback):
    """Writes down every group's rate just before it moves anything, 0 if it moves nothing."""

    def __init__(self):
        self.records = []

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        groups = kwargs["optimizer"].param_groups
        moving = [g for g in groups if any(p.grad is not None for p in g["params"])]
        rates = {group["name"]: group["lr"] for group in moving}
        step = state.global_step + 1
        self.records += [LayerRate(step, layer, rates.get(layer, 0.0)) for layer in LAYERS]


def used_rates(args, *, model=None, callbacks=(), **options):
    """Trains eight steps and returns what the optimizer really used."""
    used = UsedRates()
    trainer = Trainer(
        model=model or tiny_bert(),
        args=args,
        train_dataset=Rows(),
        callbacks=[*callbacks, used],
        optimizer_cls_and_kwargs=layered_optimizer(args, **options),
    )
    trainer.train()
    return used.records


@pytest.mark.parametrize(
    "schedule",
    [
        {"warmup_steps": 0.25},
        {"lr_scheduler_type": "cosine", "warmup_steps": 3},
        {"lr_scheduler_type": "constant"},
        {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": 1e-4}},
        {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": {"num_decay_steps": 3}},
    ],
)
def test_the_rates_are_those_that_the_trainer_uses(schedule, tmp_path):
    args = training_arguments(tmp_path, **schedule)
    options = {"curve": layerwise_decay(0.7), "head_learning_rate": 2e-3}
    assert learning_rate_table(tiny_bert(), args, 8, **options) == used_rates(args, **options)


def test_by_hand(tmp_path):
    args = training_arguments(tmp_path, learning_rate=1.0, warmup_steps=2)
    table = learning_rate_table(tiny_bert(), args, 6, curve=layerwise_decay(0.5))
    first = {"embeddings": 0.125, "layer_01": 0.25, "layer_02": 0.5, "layer_03": 1, "head": 1}
    assert [(r.step, r.layer) for r in table] == [(s, n) for s in range(1, 7) for n in LAYERS]
    assert [r.rate for r in table] == pytest.approx(
        [first[r.layer] * reference.linear_schedule(r.step, 2, 6) for r in table]
    )


def test_plain_arguments_mean_equal_rates(tmp_path):
    table = learning_rate_table(tiny_bert(), training_arguments(tmp_path), 4)
    assert [r.rate for r in table[:5]] == [1e-3] * 5


def test_options_of_the_arguments_are_read(tmp_path):
    args = training_arguments(tmp_path)
    vars(args).update(layer_lr="llrd", layer_lr_decay=0.5, head_learning_rate=2e-3)
    vars(args).update(layer_overrides={"bert.pooler.*": 3}, base_batch_size=16)
    table = learning_rate_table(tiny_bert(), args, 8)
    assert {r.layer: r.rate for r in table[:5]} == {
        "embeddings": 1.25e-4 / 2,
        "layer_01": 2.5e-4 / 2,
        "layer_02": 5e-4 / 2,
        "layer_03": 1e-3 / 2,
        "head": 2e-3 / 2,
    }
    assert table == used_rates(args)


def test_frozen_layers_have_rate_zero(tmp_path):
    args, model = training_arguments(tmp_path), tiny_bert()
    model.bert.embeddings.requires_grad_(False)
    model.bert.encoder.layer[1].requires_grad_(False)
    curve = cosine_rates(0.2)
    table = learning_rate_table(model, args, 8, curve=curve)
    assert {r.layer for r in table if r.rate == 0} == {"embeddings", "layer_02"}
    assert table == used_rates(args, model=model, curve=curve)


@pytest.mark.parametrize(
    ("options", "frozen"),
    [
        ({"freeze_embeddings": True, "freeze_layers": 0}, {"embeddings"}),
        ({"freeze_embeddings": False, "freeze_layers": 2}, {"layer_01", "layer_02"}),
        ({"freeze_embeddings": True, "freeze_layers": 1}, {"embeddings", "layer_01"}),
    ],
)
def test_layers_that_will_be_frozen_have_rate_zero(options, frozen, tmp_path):
    args = training_arguments(tmp_path)
    vars(args).update(options)
    assert {r.layer for r in learning_rate_table(tiny_bert(), args, 2) if r.rate == 0} == frozen


def stabilizer_arguments(folder, **options):
    return StabilizerArguments(str(folder), **{**TRAINING, **options})


def assert_equal_rates(table, used):
    assert [(r.step, r.layer) for r in table] == [(r.step, r.layer) for r in used]
    assert [r.rate for r in table] == pytest.approx([r.rate for r in used], rel=1e-12)


@pytest.mark.parametrize("keep_ratios", [True, False])
@pytest.mark.parametrize("anneal", ["linear", "cosine"])
def test_the_averaging_phase_is_the_one_of_the_callback(keep_ratios, anneal, tmp_path):
    swa = {"swa_anneal_steps": 3, "swa_anneal": anneal, "swa_keep_ratios": keep_ratios}
    swa |= {"averaging": "swa", "averaging_start": 0.5, "swa_learning_rate": 1e-4}
    callback = SWACallback(
        start=0.5, learning_rate=1e-4, anneal_steps=3, anneal=anneal, keep_ratios=keep_ratios
    )
    args, curve = training_arguments(tmp_path, learning_rate=2e-3), layerwise_decay(0.7)
    used = used_rates(args, callbacks=[callback], curve=curve)
    table = learning_rate_table(tiny_bert(), args, 8, curve=curve, callbacks=[callback])
    assert_equal_rates(table, used)
    assert table[-3].rate == pytest.approx(1e-4 * (0.7 if keep_ratios else 1.0))
    args = stabilizer_arguments(tmp_path, learning_rate=2e-3, **swa)
    assert learning_rate_table(tiny_bert(), args, 8, curve=curve) == table


def test_defaults_of_the_averaging_phase(tmp_path):
    args = stabilizer_arguments(
        tmp_path,
        learning_rate=2e-3,
        lr_scheduler_type="constant",
        averaging="swa",
        swa_learning_rate=1e-3,
    )
    top = [r.rate for r in learning_rate_table(tiny_bert(), args, 40) if r.layer == "layer_03"]
    # It starts at step 30 and takes 10 steps.
    assert top[:30] == [2e-3] * 30
    assert top[30:] == pytest.approx([2e-3 - 1e-4 * k for k in range(1, 11)])


@pytest.mark.parametrize(
    "callback",
    [
        HeadFirstCallback(3),
        GradualUnfreezingCallback(0.75),
        GradualUnfreezingCallback(4, blocks_per_stage=2),
        GradualUnfreezingCallback(4, warmup_steps=3),
        GradualUnfreezingCallback(8),
    ],
)
def test_the_stages_of_freezing_are_those_of_the_callback(callback, tmp_path):
    args, curve = training_arguments(tmp_path, warmup_steps=2), layerwise_decay(0.7)
    used = used_rates(args, callbacks=[callback], curve=curve)
    table = learning_rate_table(tiny_bert(), args, 8, curve=curve, callbacks=[callback])
    assert_equal_rates(table, used)
    assert [r.layer for r in table[:5] if r.rate > 0] == []  # warm-up begins at 0
    [axes] = plot_learning_rates(tiny_bert(), args, 8, curve=curve, callbacks=[callback]).axes
    [embeddings] = [line for line in axes.get_lines() if "embeddings" in line.get_label()]
    assert list(embeddings.get_ydata()) == [r.rate for r in table if r.layer == "embeddings"]


def test_by_hand_a_warm_up_within_the_schedule(tmp_path):
    # S = 4, D = 4: layer_03 is freed in step 2, warms up over 2 steps; linear: 1 - (step - 1) / 4
    callback = GradualUnfreezingCallback(4, warmup_steps=2)
    args = training_arguments(tmp_path, learning_rate=1.0)
    table = learning_rate_table(tiny_bert(), args, 4, callbacks=[callback])
    assert [r.rate for r in table if r.layer == "layer_03"] == [0, 0.75 / 2, 0.5, 0.25]
    assert [r.rate for r in table if r.layer == "layer_01"] == [0, 0, 0, 0.25 / 2]


def test_freezing_and_an_averaging_rate_together(tmp_path):
    callbacks = [HeadFirstCallback(6), SWACallback(start=4, learning_rate=1e-4, anneal_steps=2)]
    args, curve = training_arguments(tmp_path), layerwise_decay(0.7)
    used = used_rates(args, callbacks=callbacks, curve=curve)
    table = learning_rate_table(tiny_bert(), args, 8, curve=curve, callbacks=callbacks)
    assert_equal_rates(table, used)


def test_depths_of_freezing_that_are_not_those_of_the_rates(tmp_path):
    callback = HeadFirstCallback(1, overrides={"bert.encoder.layer.2.*": "head"})
    table = learning_rate_table(tiny_bert(), training_arguments(tmp_path), 2, callbacks=[callback])
    assert {r.layer for r in table[:5] if r.rate > 0} == {"layer_03", "head"}


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([HeadFirstCallback(2), GradualUnfreezingCallback(2)], "HeadFirstCallback and Gradual"),
        ([SWACallback(), SWACallback()], "SWACallback and SWACallback want the same"),
        ([HeadFirstCallback(9)], "duration must lie within the run's 8 optimizer steps, got 9"),
        (
            [SWACallback(learning_rate=1e-4), GradualUnfreezingCallback(2, warmup_steps=2)],
            "both want to own the learning rate",
        ),
    ],
)
def test_what_the_run_would_refuse_has_no_table(callbacks, message, tmp_path):
    with pytest.raises(ConfigurationError, match=message):
        learning_rate_table(tiny_bert(), training_arguments(tmp_path), 8, callbacks=callbacks)


def test_it_trains_nothing_and_works_on_the_meta_device(tmp_path):
    args, model = training_arguments(tmp_path), tiny_bert()
    model(**{name: rows[None] for name, rows in Rows()[0].items()}).loss.backward()
    table = learning_rate_table(model, args, 8, curve=layerwise_decay(0.7))
    assert same_weights(model, tiny_bert())
    with torch.device("meta"):
        shadow = tiny_bert()
    assert learning_rate_table(shadow, args, 8, curve=layerwise_decay(0.7)) == table


def test_what_cannot_be_known_in_advance_is_refused(tmp_path):
    args = training_arguments(tmp_path, lr_scheduler_type="greedy", eval_strategy="epoch")
    with pytest.raises(ConfigurationError, match="lr_scheduler_type='greedy' changes each rate"):
        learning_rate_table(tiny_bert(), args, 8)
    with pytest.raises(ConfigurationError, match="num_training_steps must be from 1 up, got 0"):
        learning_rate_table(tiny_bert(), training_arguments(tmp_path), 0)


def test_layers_have_the_labels_of_the_map(tmp_path):
    model = tiny_bert()
    labels = [LayerMap.from_model(model).label(depth) for depth in range(5)]
    table = learning_rate_table(model, training_arguments(tmp_path), 1)
    assert [r.layer for r in table] == labels


def test_the_figure_has_one_line_per_layer_with_its_rates(tmp_path):
    args = training_arguments(tmp_path)
    options = {"curve": layerwise_decay(0.3), "head_learning_rate": 2e-3}
    table = learning_rate_table(tiny_bert(), args, 8, **options)
    [axes] = plot_learning_rates(tiny_bert(), args, 8, **options).axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines) == LAYERS[::-1]
    for layer, line in lines.items():
        points = [(r.step, r.rate) for r in table if r.layer == layer]
        assert [tuple(point) for point in line.get_xydata()] == points
    assert axes.get_yscale() == "log"
    [again] = plot_learning_rates(table).axes
    assert [line.get_label() for line in again.get_lines()] == LAYERS[::-1]


def test_rates_close_together_stand_on_a_linear_axis_and_frozen_layers_are_marked():
    records = [
        LayerRate(step, layer, rate)
        for step in (1, 2)
        for layer, rate in [("embeddings", 0.0), ("layer_01", 5e-4), ("head", 1e-3)]
    ]
    [axes] = plot_learning_rates(records).axes
    assert axes.get_yscale() == "linear"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["head", "layer_01", "embeddings (frozen)"]


def test_a_figure_can_be_written(tmp_path):
    records = [LayerRate(step, "layer_01", 1e-3 / step) for step in range(1, 9)]
    plot_learning_rates(records).savefig(tmp_path / "rates.png")
    assert (tmp_path / "rates.png").stat().st_size > 1000


def test_a_model_needs_arguments_and_steps():
    with pytest.raises(ConfigurationError, match="args and num_training_steps must be given"):
        plot_learning_rates(tiny_bert())


def test_a_missing_matplotlib_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'hf_stabilizer\[plots\]'"):
        plot_learning_rates([LayerRate(1, "head", 1e-3)])


def test_the_curves_cost_no_torch():
    code = "import sys, hf_stabilizer.learning_rates; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
