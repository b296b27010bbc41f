from __future__ import annotations

import copy
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from transformers import BertForSequenceClassification, Trainer, TrainerCallback

from hf_stabilizer.averaging import (
    AVERAGING_FILE,
    EMACallback,
    SWACallback,
    conflicts,
    swa_rate,
    swa_targets,
)
from hf_stabilizer.averaging.checkpoints import written_folder
from hf_stabilizer.divergence import DivergenceGuardCallback
from hf_stabilizer.errors import ConfigurationError, ResumeError
from hf_stabilizer.evaluation import EvaluationsPerEpochCallback
from hf_stabilizer.freezing import GradualUnfreezingCallback, HeadFirstCallback
from hf_stabilizer.layer_statistics import LayerStatisticsCallback
from tests import reference
from tests.tiny import Rows, same_weights, tiny_bert, training_arguments


class RawPath(TrainerCallback):
    """Keeps the raw weights after each optimizer step, and the rate that each step used."""

    def __init__(self) -> None:
        self.weights: dict[int, dict[str, np.ndarray]] = {}
        self.rates: dict[int, list[float]] = {}
        self._rates: list[float] = []

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        self._rates = [group["lr"] for group in optimizer.param_groups]

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.rates[state.global_step] = self._rates
        self.weights[state.global_step] = {
            name: p.detach().numpy().copy() for name, p in model.named_parameters()
        }

    def of(self, name: str) -> dict[int, np.ndarray]:
        return {step: weights[name] for step, weights in self.weights.items()}


class StopAt(TrainerCallback):
    """Ends training at a step, as a killed run would after its save."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            control.should_training_stop = True


def train(folder, *callbacks, resume=None, model=None, rows=32, eval_rows=None, **options):
    arguments = training_arguments(folder, **options)
    trainer = Trainer(
        model or tiny_bert(),
        arguments,
        train_dataset=Rows(rows),
        eval_dataset=eval_rows or Rows(16, seed=1),
        callbacks=list(callbacks),
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def assert_close(model: nn.Module, expected: dict[str, np.ndarray]) -> None:
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(parameter.detach().numpy(), expected[name], atol=1e-7, rtol=1e-6)


def mean_of(path: RawPath, **options: Any) -> dict[str, np.ndarray]:
    return {name: reference.swa_mean(path.of(name), **options) for name in path.weights[1]}


def model_of(checkpoint: Path) -> nn.Module:
    return BertForSequenceClassification.from_pretrained(checkpoint)


def saved(checkpoint: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    with safe_open(checkpoint / AVERAGING_FILE, framework="pt") as file:
        metadata = file.metadata()
    facts = {key: json.loads(value) for key, value in metadata.items() if key != "format"}
    return load_file(checkpoint / AVERAGING_FILE), facts


# ---- by hand


@pytest.mark.parametrize(
    ("start", "every"), [(0, 1), (1, 1), (0.75, 1), (3, 2), (0.3, 3), (8, 1), (5, 2)]
)
def test_swa_leaves_the_mean_over_the_grid_and_the_last_step(tmp_path, start, every):
    path = RawPath()
    trainer = train(tmp_path, path, SWACallback(start=start, every=every))
    first = reference.step_meant(start, 8)
    assert_close(trainer.model, mean_of(path, start=first, every=every, with_last=True))


@pytest.mark.parametrize(
    ("decay", "start", "every", "warmup"),
    [(0.9, 0, 1, True), (0.9, 0, 1, False), (0.5, 3, 1, True), (0.99, 0.25, 3, False)],
)
def test_ema_follows_its_formula(tmp_path, decay, start, every, warmup):
    path = RawPath()
    trainer = train(tmp_path, path, EMACallback(decay, start, every, warmup))
    first = reference.step_meant(start, 8)
    expected = {
        name: reference.ema_mean(path.of(name), decay, first, every, warmup)
        for name in path.weights[1]
    }
    assert_close(trainer.model, expected)


def test_two_updates_worked_out_on_paper():
    # t = 1: d = 2/11; t = 2: d = 3/12
    callback = EMACallback(decay=0.9)
    update, mean = callback._update(), [torch.tensor([1.0])]
    update(mean, [torch.tensor([12.0])], 1)
    assert mean[0].item() == pytest.approx(1 * 2 / 11 + 12 * 9 / 11)
    update(mean, [torch.tensor([0.0])], 2)
    assert mean[0].item() == pytest.approx(10 * 3 / 12)


@pytest.mark.parametrize("anneal", ["linear", "cosine"])
@pytest.mark.parametrize("anneal_steps", [0, 1, 4, 100])
def test_swa_rate_is_the_blend(anneal, anneal_steps):
    for step in range(1, 20):
        assert swa_rate(
            step, start=6, scheduled=3.0, target=1.0, anneal_steps=anneal_steps, anneal=anneal
        ) == reference.swa_learning_rate(step, 6, 3.0, 1.0, anneal_steps, anneal)


def layered(model: nn.Module) -> list[dict[str, Any]]:
    top = list(model.classifier.parameters())
    rest = [p for p in model.parameters() if all(p is not q for q in top)]
    return [{"params": top, "lr": 1e-3}, {"params": rest, "lr": 2.5e-4}]


@pytest.mark.parametrize("keep_ratios", [True, False])
@pytest.mark.parametrize("anneal", ["linear", "cosine"])
def test_the_rate_of_each_group_and_step(tmp_path, keep_ratios, anneal):
    class LoggedRates(TrainerCallback):
        seen: dict[int, float] = {}  # noqa: RUF012

        def on_log(self, args, state, control, logs, **kwargs):
            if "learning_rate" in logs:
                self.seen[state.global_step] = logs["learning_rate"]

    model, path, logged = tiny_bert(), RawPath(), LoggedRates()
    optimizer = torch.optim.AdamW(layered(model))
    swa = SWACallback(
        start=4, learning_rate=5e-4, anneal_steps=3, anneal=anneal, keep_ratios=keep_ratios
    )
    trainer = Trainer(
        model,
        training_arguments(tmp_path, logging_steps=1),
        train_dataset=Rows(32),
        optimizers=(optimizer, None),
        callbacks=[path, swa, logged],
    )
    trainer.train()
    for step in range(1, 9):
        scheduled = 1 - (step - 1) / 8  # the default schedule is linear to 0
        for rate, base, target in zip(
            path.rates[step], (1e-3, 2.5e-4), (5e-4, 1.25e-4 if keep_ratios else 5e-4), strict=True
        ):
            expected = reference.swa_learning_rate(step, 4, base * scheduled, target, 3, anneal)
            assert rate == pytest.approx(expected, rel=1e-12)
        assert logged.seen[step] == path.rates[step][0]


def test_a_schedule_that_computes_from_its_last_rate_is_not_disturbed(tmp_path):
    def rates(*callbacks: TrainerCallback) -> dict[int, list[float]]:
        model, path = tiny_bert(), RawPath()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        Trainer(
            model,
            training_arguments(tmp_path),
            train_dataset=Rows(32),
            optimizers=(optimizer, scheduler),
            callbacks=[path, *callbacks],
        ).train()
        return path.rates

    annealed = rates(SWACallback(start=3, learning_rate=1e-4, anneal_steps=4))
    for step in range(1, 9):
        scheduled = 1e-3 * 0.5 ** (step - 1)
        assert annealed[step][0] == pytest.approx(
            reference.swa_learning_rate(step, 3, scheduled, 1e-4, 4, "linear"), rel=1e-9
        )


# ---- neutral and effective


@pytest.mark.parametrize("callback", [SWACallback(start=8), EMACallback(decay=0, warmup=False)])
def test_neutral_settings_leave_the_plain_trainers_weights(tmp_path, callback):
    assert same_weights(train(tmp_path, callback).model, train(tmp_path).model)


@pytest.mark.parametrize("make", [lambda: SWACallback(start=2), lambda: EMACallback(decay=0.9)])
def test_the_raw_path_is_that_of_the_plain_trainer(tmp_path, make):
    plain, averaged = RawPath(), RawPath()
    options = {"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 2}
    before = train(tmp_path / "plain", plain, **options).model
    after = train(tmp_path / "mean", make(), averaged, **options).model
    assert averaged.weights.keys() == plain.weights.keys()
    for step, weights in plain.weights.items():
        assert all((averaged.weights[step][name] == w).all() for name, w in weights.items())
    assert not same_weights(before, after)


def test_nothing_happens_before_start_in_a_run_that_ends_before_it(tmp_path):
    stopped = train(tmp_path / "a", StopAt(3), SWACallback(start=6)).model
    assert same_weights(stopped, train(tmp_path / "b", StopAt(3)).model)


def test_optimizer_and_model_are_left_as_they_were_found(tmp_path):
    trainer = train(tmp_path, SWACallback())
    inner = trainer.optimizer.optimizer
    assert "train" not in vars(inner)
    assert "eval" not in vars(inner)
    assert not trainer.model._state_dict_pre_hooks


# ---- evaluations and checkpoints


class Evaluated(TrainerCallback):
    """Keeps the loss of each evaluation by step."""

    def __init__(self) -> None:
        self.losses: dict[int, float] = {}

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        self.losses[state.global_step] = metrics["eval_loss"]


def loss_of(model: nn.Module, folder: Path) -> float:
    arguments = training_arguments(folder)
    return Trainer(model, arguments, eval_dataset=Rows(16, seed=1)).evaluate()["eval_loss"]


STRATEGIES = {
    "steps": {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1},
    "epochs": {"eval_strategy": "epoch", "save_strategy": "epoch"},
    "best": {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "best",
        "metric_for_best_model": "loss",
    },
    "saves alone": {"save_strategy": "steps", "save_steps": 1},
    "saves of epochs alone": {"save_strategy": "epoch"},
    "more saves than evaluations": {
        "eval_strategy": "epoch",
        "save_strategy": "steps",
        "save_steps": 1,
    },
}


@pytest.mark.parametrize(
    ("strategy", "is_first"),
    [*((strategy, False) for strategy in STRATEGIES), ("best", True), ("saves alone", True)],
)
def test_each_checkpoint_holds_the_mean_that_was_scored(tmp_path, strategy, is_first):
    path, scores, swa = RawPath(), Evaluated(), SWACallback(start=3, every=2)
    callbacks = [swa, path, scores] if is_first else [path, scores, swa]
    train(tmp_path, *callbacks, **STRATEGIES[strategy])
    checkpoints = sorted(tmp_path.glob("checkpoint-*"))
    assert checkpoints
    for checkpoint in checkpoints:
        step = int(checkpoint.name.removeprefix("checkpoint-"))
        so_far = copy.copy(path)
        so_far.weights = {s: w for s, w in path.weights.items() if s <= step}
        if step < 3:
            assert not (checkpoint / AVERAGING_FILE).exists()
            assert_close(model_of(checkpoint), path.weights[step])
        else:
            grid = mean_of(so_far, start=3, every=2, with_last=False)
            shown = mean_of(so_far, start=3, every=2, with_last=step == 8)
            assert_close(model_of(checkpoint), shown)
            tensors, facts = saved(checkpoint)
            # Before the Trainer's own last file: rotation and a push to the Hub come after it.
            written = (checkpoint / AVERAGING_FILE).stat().st_mtime_ns
            assert written <= (checkpoint / "trainer_state.json").stat().st_mtime_ns
            assert facts["step"] == step
            assert facts["count"] == len(range(3, step + 1, 2))
            for name, raw in path.weights[step].items():
                assert (tensors[f"raw.{name}"].numpy() == raw).all()
                np.testing.assert_allclose(
                    tensors[f"mean.{name}"], grid[name], atol=1e-7, rtol=1e-6
                )
        if step in scores.losses:
            assert loss_of(model_of(checkpoint), tmp_path / "x") == scores.losses[step]


def test_a_save_that_a_later_callback_asks_for_holds_the_mean_too(tmp_path):
    class SaveAt5(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 5:
                control.should_save = True

    path = RawPath()
    train(tmp_path, path, SWACallback(start=3), SaveAt5())
    path.weights = {step: w for step, w in path.weights.items() if step <= 5}
    expected = mean_of(path, start=3, every=1, with_last=False)
    assert_close(model_of(tmp_path / "checkpoint-5"), expected)
    assert (tmp_path / "checkpoint-5" / AVERAGING_FILE).is_file()


def test_a_callback_that_looks_at_the_weights_before_a_save_sees_the_raw_ones(tmp_path):
    class Looks(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            seen[state.global_step] = copy.deepcopy(model.state_dict())
            copied[state.global_step] = copy.deepcopy(model)
            torch.save(model, tmp_path / "model.pt")

    seen: dict[int, dict[str, torch.Tensor]] = {}
    copied: dict[int, nn.Module] = {}
    path = RawPath()
    train(tmp_path, path, SWACallback(start=2), Looks(), save_strategy="steps", save_steps=1)
    for step, weights in path.weights.items():
        of_copy = copied[step].state_dict()
        assert all((seen[step][name].numpy() == w).all() for name, w in weights.items())
        assert all((of_copy[name].numpy() == w).all() for name, w in weights.items())


def test_model_checkpoint_and_score_of_the_end_agree_to_the_last_bit(tmp_path):
    scores = Evaluated()
    trainer = train(
        tmp_path,
        SWACallback(start=3, every=4),
        scores,
        eval_strategy="epoch",
        save_strategy="epoch",
    )
    assert same_weights(trainer.model, model_of(tmp_path / "checkpoint-8"))
    assert trainer.evaluate()["eval_loss"] == scores.losses[8]
    trainer.save_model(tmp_path / "by-hand")
    assert same_weights(trainer.model, model_of(tmp_path / "by-hand"))


@pytest.mark.parametrize("make", [lambda: SWACallback(start=2), lambda: EMACallback(decay=0.9)])
@pytest.mark.parametrize("strategy", ["steps", "epochs", "best"])
def test_the_best_model_gives_its_score_again(tmp_path, make, strategy):
    trainer = train(
        tmp_path,
        make(),
        load_best_model_at_end=True,
        learning_rate=3e-2,
        **{"metric_for_best_model": "loss", **STRATEGIES[strategy]},
    )
    best = Path(trainer.state.best_model_checkpoint)
    assert same_weights(trainer.model, model_of(best))
    assert trainer.evaluate()["eval_loss"] == trainer.state.best_metric


def test_several_evaluation_sets_are_all_scored_on_the_mean(tmp_path):
    sets = {"a": Rows(16, seed=1), "b": Rows(16, seed=2)}
    trainer = train(tmp_path, SWACallback(start=3), eval_rows=sets, **STRATEGIES["steps"])
    logged = {
        name: next(
            line[f"eval_{name}_loss"]
            for line in trainer.state.log_history
            if line["step"] == 5 and f"eval_{name}_loss" in line
        )
        for name in sets
    }
    checkpoint = Trainer(model_of(tmp_path / "checkpoint-5"), training_arguments(tmp_path / "x"))
    for name, rows in sets.items():
        assert checkpoint.evaluate(rows)["eval_loss"] == logged[name]


def test_evaluations_and_predictions_by_hand_use_the_mean_and_change_nothing(tmp_path):
    class ByHand(TrainerCallback):
        trainer: Trainer

        def on_step_end(self, args, state, control, **kwargs):
            self.losses[state.global_step] = self.trainer.evaluate()["eval_loss"]
            self.trainer.predict(Rows(8, seed=3))

        def __init__(self) -> None:
            self.losses: dict[int, float] = {}

    by_hand, model = ByHand(), tiny_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    start = copy.deepcopy(model)
    trainer = Trainer(
        model,
        training_arguments(tmp_path / "hand", save_strategy="steps", save_steps=1),
        train_dataset=Rows(32),
        eval_dataset=Rows(16, seed=1),
        callbacks=[by_hand, SWACallback(start=3)],
    )
    by_hand.trainer = trainer
    trainer.train()
    assert same_weights(train(tmp_path / "alone", SWACallback(start=3), model=start).model, model)
    for step in (4, 8):
        checkpoint = tmp_path / "hand" / f"checkpoint-{step}"
        assert loss_of(model_of(checkpoint), tmp_path) == by_hand.losses[step]


def test_a_model_saved_by_hand_is_what_the_model_shows(tmp_path):
    class Saves(TrainerCallback):
        trainer: Trainer

        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 4:
                self.trainer.save_model(str(tmp_path / "raw"))
                self.trainer.optimizer.eval()
                self.trainer.save_model(str(tmp_path / "mean"))

    saves = Saves()
    trainer = Trainer(
        tiny_bert(),
        training_arguments(tmp_path / "hand"),
        train_dataset=Rows(32),
        callbacks=[saves, SWACallback(start=3)],
    )
    saves.trainer = trainer
    trainer.train()
    alone = train(tmp_path / "alone", SWACallback(start=3), save_strategy="steps", save_steps=4)
    assert same_weights(alone.model, trainer.model), "training went on from the raw weights"
    checkpoint = tmp_path / "alone" / "checkpoint-4"
    assert same_weights(model_of(checkpoint), model_of(tmp_path / "mean"))
    raw = load_file(tmp_path / "raw" / "model.safetensors")
    kept, _ = saved(checkpoint)
    assert all(torch.equal(tensor, kept[f"raw.{name}"]) for name, tensor in raw.items())


@pytest.mark.parametrize("is_first", [True, False])
def test_an_evaluation_between_gradients_and_step_leaves_the_step_to_the_raw_weights(
    tmp_path, is_first
):
    class ByHand(TrainerCallback):
        trainer: Trainer

        def on_pre_optimizer_step(self, args, state, control, **kwargs):
            if state.global_step == 4:
                self.trainer.evaluate()

    by_hand, ours = ByHand(), [SWACallback(start=2), EvaluationsPerEpochCallback(0)]
    trainer = Trainer(
        tiny_bert(),
        training_arguments(tmp_path / "hand"),
        train_dataset=Rows(32),
        eval_dataset=Rows(16, seed=1),
        callbacks=[by_hand, *ours] if is_first else [*ours, by_hand],
    )
    by_hand.trainer = trainer
    trainer.train()
    assert same_weights(train(tmp_path / "alone", SWACallback(start=2)).model, trainer.model)


def test_early_stopping_leaves_the_mean_with_the_last_step(tmp_path):
    path = RawPath()
    trainer = train(
        tmp_path,
        path,
        SWACallback(start=3, every=2),
        transformers.EarlyStoppingCallback(early_stopping_patience=1, early_stopping_threshold=9.0),
        **{**STRATEGIES["best"], "eval_steps": 2, "save_strategy": "no"},
        load_best_model_at_end=False,
    )
    assert trainer.state.global_step == 4  # the second evaluation is not 9 better than the first
    assert_close(trainer.model, mean_of(path, start=3, every=2, with_last=True))


def test_gradient_accumulation_averages_optimizer_steps(tmp_path):
    path = RawPath()
    options = {"gradient_accumulation_steps": 3, "per_device_train_batch_size": 4}
    trainer = train(tmp_path, path, SWACallback(start=2), **options)  # 8 batches: 3 + 3 + 2
    assert trainer.state.global_step == 6
    assert_close(trainer.model, mean_of(path, start=2, every=1, with_last=True))


# ---- stop and resume


MAKERS = {
    "swa": lambda: SWACallback(start=3, every=3),
    "swa rate": lambda: SWACallback(start=3, learning_rate=5e-3, anneal_steps=4, anneal="cosine"),
    "ema": lambda: EMACallback(decay=0.9, every=2),
}


@pytest.mark.parametrize(
    ("kind", "stop"),
    [("swa", 2), ("swa", 3), ("swa", 5), ("swa", 8), ("swa rate", 5), ("ema", 4)],
)
def test_stopping_and_resuming_equals_never_stopping(tmp_path, kind, stop):
    # An evaluation at the end of an epoch comes after the save of its last step and moves the
    # random numbers that a plain Trainer resumes with, so it is left out here.
    options = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 2}
    straight = train(tmp_path / "straight", MAKERS[kind](), **options)
    train(tmp_path / "parts", MAKERS[kind](), StopAt(stop), **options)
    shutil.rmtree(tmp_path / "parts" / "checkpoint-1")
    resumed = train(tmp_path / "parts", MAKERS[kind](), resume=True, **options)
    assert same_weights(straight.model, resumed.model)
    for step in (5, 7, 8):
        ours, theirs = (tmp_path / f / f"checkpoint-{step}" for f in ("parts", "straight"))
        for name in ("model.safetensors", AVERAGING_FILE):
            left, right = load_file(ours / name), load_file(theirs / name)
            assert left.keys() == right.keys()
            assert all(torch.equal(left[key], right[key]) for key in left)


def test_a_run_can_be_made_longer(tmp_path):
    options = {"save_strategy": "epoch", "lr_scheduler_type": "constant"}

    def swa() -> SWACallback:
        return SWACallback(start=3, every=2)

    straight = train(tmp_path / "straight", swa(), num_train_epochs=3, **options)
    train(tmp_path / "parts", swa(), num_train_epochs=2, **options)  # step 8 is added, off the grid
    longer = train(tmp_path / "parts", swa(), num_train_epochs=3, resume=True, **options)
    assert same_weights(straight.model, longer.model)


def test_resuming_from_a_folder_elsewhere_finds_it_by_the_arguments(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 1}
    straight = train(tmp_path / "straight", SWACallback(start=3), **options)
    train(tmp_path / "first", SWACallback(start=3), StopAt(4), **options)
    elsewhere = tmp_path / "elsewhere"
    shutil.move(tmp_path / "first" / "checkpoint-4", elsewhere)
    # A folder of the same name that belongs to another run is not taken for it.
    train(tmp_path / "second", SWACallback(start=3), StopAt(4), **options, data_seed=5)
    with pytest.raises(ResumeError, match="set resume_from_checkpoint in the TrainingArguments"):
        train(tmp_path / "second", SWACallback(start=3), resume=str(elsewhere), **options)
    resumed = train(
        tmp_path / "second",
        SWACallback(start=3),
        resume=str(elsewhere),
        resume_from_checkpoint=str(elsewhere),
        **options,
    )
    assert same_weights(straight.model, resumed.model)


def test_resuming_without_the_file_is_refused_once_averaging_had_begun(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 1}
    train(tmp_path, StopAt(4), **options)
    with pytest.raises(ResumeError, match=r"averaging had begun at step 4"):
        train(tmp_path, SWACallback(start=4), resume=True, **options)
    train(tmp_path, SWACallback(start=5), resume=True, **options)


def test_resuming_with_other_settings_is_refused(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 1}
    train(tmp_path, SWACallback(start=2), StopAt(4), **options)
    with pytest.raises(ResumeError, match=r"every 1 -> 2"):
        train(tmp_path, SWACallback(start=2, every=2), resume=True, **options)
    with pytest.raises(ResumeError, match=r"start 2 -> 6"):  # would go on from the mean
        train(tmp_path, SWACallback(start=6), resume=True, **options)
    with pytest.raises(ResumeError, match=r"averaging 'SWACallback' -> 'EMACallback'"):
        train(tmp_path, EMACallback(), resume=True, **options)


@pytest.mark.parametrize(
    "ours",
    [
        lambda: EvaluationsPerEpochCallback(0),
        lambda: HeadFirstCallback(0),
        lambda: GradualUnfreezingCallback(0),
        lambda: DivergenceGuardCallback(),
        lambda: LayerStatisticsCallback(),
    ],
)
def test_resuming_without_averaging_is_told_by_any_other_callback(tmp_path, ours):
    options = {"save_strategy": "steps", "save_steps": 1}
    train(tmp_path / "early", ours(), SWACallback(start=6), StopAt(4), **options)
    train(tmp_path / "early", ours(), StopAt(5), resume=True, **options)
    train(tmp_path / "averaged", ours(), SWACallback(start=2), StopAt(4), **options)
    either_order = ((ours(), SWACallback(start=2)), (SWACallback(start=2), ours()))
    for step, both in enumerate(either_order, start=5):
        train(tmp_path / "averaged", *both, StopAt(step), resume=True, **options)
    with pytest.warns(UserWarning, match="step 6 holds averaging.safetensors, .* from the mean"):
        train(tmp_path / "averaged", ours(), StopAt(7), resume=True, **options)
    train(tmp_path / "averaged", ours(), resume=True, **options)  # the raw weights are no more


def test_an_evaluation_before_the_first_resumed_step_is_not_taken_for_a_lost_average(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 1, "eval_on_start": True}
    isolated = EvaluationsPerEpochCallback(0)
    train(tmp_path, isolated, SWACallback(start=2), StopAt(4), **options)
    train(tmp_path, isolated, SWACallback(start=2), resume=True, **options)


def test_a_file_that_is_not_ours_is_refused(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 4}
    train(tmp_path, SWACallback(start=2), StopAt(4), **options)
    (tmp_path / "checkpoint-4" / AVERAGING_FILE).write_bytes(b"torn")
    with pytest.raises(ResumeError, match="cannot be read"):
        train(tmp_path, SWACallback(start=2), resume=True, **options)


# ---- what goes wrong, and set-up again


def test_an_interrupted_evaluation_leaves_the_next_run_the_raw_weights(tmp_path):
    class Interrupt(TrainerCallback):
        is_on = True

        def on_prediction_step(self, args, state, control, **kwargs):
            if self.is_on and state.global_step == 5:
                raise KeyboardInterrupt

    path, swa, interrupt = RawPath(), SWACallback(start=2), Interrupt()
    trainer = Trainer(
        tiny_bert(),
        training_arguments(tmp_path, **STRATEGIES["steps"]),
        train_dataset=Rows(32),
        eval_dataset=Rows(16),
        callbacks=[path, swa, interrupt],
    )
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert not same_weights(trainer.model, model_of(tmp_path / "checkpoint-4"))
    assert not list(tmp_path.glob("checkpoint-5"))
    last = path.weights[5]
    interrupt.is_on = False

    class First(TrainerCallback):
        def on_epoch_begin(self, args, state, control, model=None, **kwargs):
            self.found = {n: p.detach().numpy().copy() for n, p in model.named_parameters()}
            control.should_training_stop = True

    first = First()
    trainer.add_callback(first)
    trainer.train()
    assert all((first.found[name] == last[name]).all() for name in last)


def test_a_second_training_and_a_larger_batch_size_begin_anew(tmp_path):
    class OutOfMemory(TrainerCallback):
        is_on = True

        def on_step_end(self, args, state, control, **kwargs):
            if self.is_on and state.global_step == 5:
                self.is_on = False
                raise RuntimeError("CUDA out of memory.")

    path = RawPath()
    trainer = Trainer(
        tiny_bert(),
        training_arguments(tmp_path, auto_find_batch_size=True, **STRATEGIES["steps"]),
        train_dataset=Rows(32),
        eval_dataset=Rows(16),
        callbacks=[OutOfMemory(), path, SWACallback(start=2, learning_rate=1e-4)],
    )
    trainer.train()
    start = 2
    assert_close(trainer.model, mean_of(path, start=start, every=1, with_last=True))
    path.weights.clear()
    trainer.train()
    assert_close(trainer.model, mean_of(path, start=start, every=1, with_last=True))


def test_the_folder_of_a_trial_is_the_newest_of_that_step(tmp_path):
    state = transformers.TrainerState(global_step=4, is_hyper_param_search=True)
    arguments = training_arguments(tmp_path)
    for number, name in enumerate(
        ("run-0/checkpoint-4", "run-1/checkpoint-4", "run-2/checkpoint-2")
    ):
        (tmp_path / name).mkdir(parents=True)
        os.utime(tmp_path / name, (number, number))
    assert written_folder(arguments, state) == tmp_path / "run-1" / "checkpoint-4"
    state.is_hyper_param_search = False
    assert written_folder(arguments, state) == tmp_path / "checkpoint-4"


def test_an_swa_rate_of_a_step_that_broke_off_is_not_left_behind(tmp_path):
    class BreaksOff(TrainerCallback):
        is_on = True

        def on_pre_optimizer_step(self, args, state, control, **kwargs):
            if self.is_on and state.global_step == 5:
                self.is_on = False
                raise KeyboardInterrupt

    path = RawPath()
    trainer = Trainer(
        tiny_bert(),
        training_arguments(tmp_path),
        train_dataset=Rows(32),
        callbacks=[BreaksOff(), path, SWACallback(start=2, learning_rate=9.0, anneal_steps=0)],
    )
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.train()
    assert path.rates[1] == [1e-3, 1e-3]
    assert path.rates[2] == [9.0, 9.0]


def test_a_skipped_step_is_not_averaged(tmp_path):
    class Overflow(TrainerCallback):
        """What accelerate's wrapper reports when a GradScaler found an overflow at step 5."""

        def on_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
            optimizer._is_overflow = state.global_step + 1 in (5, 8)

    path = RawPath()
    trainer = train(tmp_path, path, Overflow(), SWACallback(start=3, every=2))
    kept = {3: path.weights[3], 7: path.weights[7]}
    expected = {name: (kept[3][name].astype(float) + kept[7][name]) / 2 for name in kept[3]}
    assert_close(trainer.model, expected)


def test_half_precision_is_averaged_in_fp32(tmp_path):
    path = {}

    class Raw(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            path[state.global_step] = model.classifier.weight.detach().float().numpy()

    options = {"save_strategy": "steps", "save_steps": 8}
    model = tiny_bert().to(torch.bfloat16)
    trainer = train(tmp_path, Raw(), SWACallback(start=2), model=model, **options)
    tensors, _ = saved(tmp_path / "checkpoint-8")
    expected = reference.swa_mean(path, 2, 1, with_last=True)
    assert tensors["mean.classifier.weight"].dtype == torch.float32
    assert tensors["raw.classifier.weight"].dtype == torch.bfloat16
    np.testing.assert_allclose(tensors["mean.classifier.weight"], expected, rtol=1e-5, atol=1e-7)
    rounded = torch.tensor(expected, dtype=torch.float32).to(torch.bfloat16)
    assert torch.equal(trainer.model.classifier.weight, rounded)


# peft 0.21 asks transformers 5.23 for a property by its old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_frozen_weights_and_adapters(tmp_path):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"])
    options = {"save_strategy": "steps", "save_steps": 1}

    def adapted() -> nn.Module:
        model = tiny_bert()
        torch.manual_seed(3)
        return peft.get_peft_model(model, config)

    straight = train(tmp_path / "a", SWACallback(start=2), model=adapted(), **options)
    tensors, _ = saved(tmp_path / "a" / "checkpoint-5")
    assert {name.partition(".")[2] for name in tensors} == {
        name for name, p in straight.model.named_parameters() if p.requires_grad
    }
    adapter = load_file(tmp_path / "a" / "checkpoint-8" / "adapter_model.safetensors")
    of_model = peft.get_peft_model_state_dict(straight.model)
    assert adapter.keys() == of_model.keys()
    assert all(torch.equal(adapter[name], of_model[name]) for name in adapter)
    train(tmp_path / "b", SWACallback(start=2), StopAt(5), model=adapted(), **options)
    resumed = train(tmp_path / "b", SWACallback(start=2), model=adapted(), resume=True, **options)
    assert same_weights(straight.model, resumed.model)


def test_weights_that_are_freed_later_are_averaged(tmp_path):
    class FreeAt4(TrainerCallback):
        def on_train_begin(self, args, state, control, model=None, **kwargs):
            model.bert.requires_grad_(False)

        def on_step_begin(self, args, state, control, model=None, **kwargs):
            if state.global_step == 4:
                model.bert.requires_grad_(True)

    path = RawPath()
    trainer = train(tmp_path, FreeAt4(), path, SWACallback(start=2))
    assert_close(trainer.model, mean_of(path, start=2, every=1, with_last=True))


# ---- refusal


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SWACallback(start=1.5), r"start must be a share .* got 1.5"),
        (lambda: SWACallback(start=-1), r"start must be a share .* got -1"),
        (lambda: SWACallback(start=math.nan), r"start must be a share .* got nan"),
        (lambda: SWACallback(every=0), r"every must be a whole number .* from 1 up, got 0"),
        (lambda: SWACallback(anneal_steps=-1), r"anneal_steps must be .* from 0 up, got -1"),
        (lambda: SWACallback(anneal="cosinus"), r'anneal must be "linear" or "cosine", got'),
        (
            lambda: SWACallback(learning_rate=0.0),
            r"learning_rate must be a number above 0, got 0.0",
        ),
        (lambda: SWACallback(learning_rate="1e-4"), r"a number above 0, got '1e-4'"),
        (lambda: EMACallback(decay=1.0), r"decay must be in \[0, 1\), got 1.0"),
        (lambda: EMACallback(every=True), r"every must be a whole number .* got True"),
        (lambda: EMACallback(decay=False), r"decay must be in \[0, 1\), got False"),
        (lambda: EMACallback(warmup="no"), r"warmup must be True or False, got 'no'"),
        (lambda: SWACallback(keep_ratios="no"), r"keep_ratios must be True or False, got 'no'"),
        (lambda: SWACallback(learning_rate=True), r"a number above 0, got True"),
    ],
)
def test_values_out_of_range_are_refused_at_once(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_a_start_beyond_the_end_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"start must lie within the run's 8 .* got 9"):
        train(tmp_path, SWACallback(start=9))


def test_two_averagings_are_a_conflict(tmp_path):
    with pytest.raises(ConfigurationError, match="one averaging per run, got SWACallback and EMAC"):
        train(tmp_path, SWACallback(), EMACallback())


class ScheduleFree(torch.optim.SGD):
    def train(self) -> None:
        pass

    def eval(self) -> None:
        pass


def test_an_optimizer_that_averages_itself_is_a_conflict(tmp_path):
    model = tiny_bert()
    trainer = Trainer(
        model,
        training_arguments(tmp_path),
        train_dataset=Rows(),
        optimizers=(ScheduleFree(model.parameters(), lr=0.1), None),
        callbacks=[SWACallback()],
    )
    with pytest.raises(ConfigurationError, match="SWACallback cannot be combined with ScheduleFre"):
        trainer.train()


def test_a_rate_on_top_of_a_schedule_that_follows_a_metric_is_a_conflict(tmp_path):
    with pytest.raises(ConfigurationError, match="function of the step, got ReduceLROnPlateau"):
        train(
            tmp_path,
            SWACallback(learning_rate=1e-4),
            lr_scheduler_type="reduce_lr_on_plateau",
            metric_for_best_model="loss",
            eval_strategy="epoch",
        )


def test_ratios_to_a_rate_of_zero_are_refused():
    with pytest.raises(ConfigurationError, match="keep_ratios needs a first parameter group"):
        swa_targets([0.0, 1.0], 1e-4, keep_ratios=True)


def test_batch_norm_is_warned_about(tmp_path):
    model = tiny_bert()
    model.norm = nn.BatchNorm1d(4)
    with pytest.warns(UserWarning, match="update_bn"):
        train(tmp_path, SWACallback(), model=model)


def test_a_sharded_model_that_could_not_be_saved_as_its_mean_is_refused(tmp_path, monkeypatch):
    class FullyShardedDataParallel(nn.Module):
        """Stands for the wrapper of FSDP 1, which does not run on a CPU."""

    model = tiny_bert()
    model.wrapped = FullyShardedDataParallel()
    with pytest.raises(ConfigurationError, match="FSDP version 1"):
        train(tmp_path, SWACallback(), model=model)
    monkeypatch.setattr(conflicts, "is_deepspeed_zero3_enabled", lambda: True)
    with pytest.raises(ConfigurationError, match="DeepSpeed ZeRO-3"):
        train(tmp_path, SWACallback())


def test_a_trainer_that_writes_the_raw_weights_is_warned_about(tmp_path):
    class WritesItself(Trainer):
        def _save(self, output_dir=None, state_dict=None):
            Path(output_dir).mkdir()
            torch.save(list(self.model.parameters()), Path(output_dir, "weights.pt"))

    trainer = WritesItself(
        tiny_bert(),
        training_arguments(tmp_path, save_strategy="steps", save_steps=8),
        train_dataset=Rows(32),
        callbacks=[SWACallback(start=2)],
    )
    with pytest.warns(UserWarning, match="holds the raw weights and not their mean"):
        trainer.train()
