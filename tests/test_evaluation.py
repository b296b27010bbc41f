from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback

from hf_stabilizer.averaging import SWACallback
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.evaluation import EvaluationsPerEpochCallback
from tests import reference
from tests.tiny import Rows, same_weights, tiny_bert, training_arguments


class Draws(TrainerCallback):
    """Evaluations that draw random numbers, as a metric with a bootstrap would."""

    def on_prediction_step(self, args, state, control, **kwargs):
        random.random(), np.random.rand(), torch.rand(1)


class Stream(IterableDataset):  # type: ignore[type-arg]
    """Rows without a length."""

    def __init__(self, count: int):
        self.rows = Rows(count)

    def __iter__(self):
        return (self.rows[i] for i in range(len(self.rows)))


class NoisyRows(Rows):
    """Rows that are drawn anew each time, as a collator that masks tokens would do."""

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        row = super().__getitem__(index)
        noise = torch.randint(5, 64, (3,))
        return {**row, "input_ids": torch.cat([row["input_ids"][:-3], noise])}


def make(folder, *callbacks: TrainerCallback, rows: Any = None, **options: Any) -> Trainer:
    return Trainer(
        tiny_bert(),
        training_arguments(folder, **options),
        train_dataset=rows or Rows(32),
        eval_dataset=Rows(16, seed=1),
        callbacks=list(callbacks),
    )


def evaluated(trainer: Trainer) -> list[int]:
    return [line["step"] for line in trainer.state.log_history if "eval_loss" in line]


def train(*arguments: Any, resume: bool | None = None, **options: Any) -> Trainer:
    trainer = make(*arguments, **options)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


# ---- when


@pytest.mark.parametrize("steps_per_epoch", [1, 2, 7, 10])
@pytest.mark.parametrize("times", [0, 1, 2, 3, 7, 12])
def test_the_steps_of_a_long_run(steps_per_epoch, times):
    callback, last = EvaluationsPerEpochCallback(times), 3 * steps_per_epoch
    due = [s for s in range(1, last + 1) if callback.is_due(s, steps_per_epoch=steps_per_epoch)]
    assert due == reference.evaluated_steps(steps_per_epoch, times, last)


def test_four_times_in_ten_steps_worked_out_on_paper():
    callback = EvaluationsPerEpochCallback(4)  # 2.5, 5, 7.5, 10
    assert [s for s in range(1, 11) if callback.is_due(s, steps_per_epoch=10)] == [3, 5, 8, 10]


@pytest.mark.parametrize(
    ("strategy", "times", "options", "steps_per_epoch", "max_steps"),
    [
        ("no", 2, {}, 4, 8),
        ("no", 3, {"per_device_train_batch_size": 5}, 7, 14),  # ragged: 32 = 6 x 5 + 2
        (
            "epoch",
            2,
            {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3},  # 8 = 3 + 3 + 2
            3,
            6,
        ),
        ("no", 3, {"max_steps": 10}, 4, 10),
        ("epoch", 3, {"max_steps": 3}, 4, 3),
        ("epoch", 1, {"num_train_epochs": 1.5}, 4, 6),
        ("epoch", 9, {}, 4, 8),
        ("epoch", 0, {}, 4, 8),
        ("no", 0, {}, 4, 8),
    ],
)
def test_a_run_is_evaluated_at_these_steps(
    tmp_path, strategy, times, options, steps_per_epoch, max_steps
):
    callback = EvaluationsPerEpochCallback(times)
    trainer = train(tmp_path, callback, eval_strategy=strategy, **options)
    expected = set(reference.evaluated_steps(steps_per_epoch, times, max_steps))
    if strategy == "epoch":
        expected |= {*range(steps_per_epoch, max_steps + 1, steps_per_epoch), max_steps}
    assert trainer.state.global_step == max_steps
    assert evaluated(trainer) == sorted(expected)


def test_steps_of_the_strategy_are_added(tmp_path):
    trainer = train(tmp_path, EvaluationsPerEpochCallback(2), eval_strategy="steps", eval_steps=3)
    assert evaluated(trainer) == [2, 3, 4, 6, 8]


@pytest.mark.parametrize(
    ("strategy", "delay", "expected"),
    [("no", 1, [4, 6, 8]), ("epoch", 1.5, [6, 8]), ("steps", 5, [6, 8])],
)
def test_the_delay_is_kept(tmp_path, strategy, delay, expected):
    callback = EvaluationsPerEpochCallback(2)
    trainer = train(tmp_path, callback, eval_strategy=strategy, eval_delay=delay, eval_steps=4)
    assert evaluated(trainer) == expected


def test_rows_without_a_length_are_one_epoch(tmp_path):
    trainer = train(tmp_path, EvaluationsPerEpochCallback(3), rows=Stream(24), max_steps=7)
    assert evaluated(trainer) == [3, 5, 7]


@pytest.mark.parametrize("is_first", [True, False])
def test_early_stopping_evaluates_no_step_twice(tmp_path, is_first):
    ours = EvaluationsPerEpochCallback(2)
    stopping = EarlyStoppingCallback(1, early_stopping_threshold=9.0)
    trainer = train(
        tmp_path,
        *([ours, stopping] if is_first else [stopping, ours]),
        eval_strategy="epoch",
        save_strategy="best",
        metric_for_best_model="loss",
        load_best_model_at_end=True,
    )
    assert trainer.state.global_step == 4
    assert evaluated(trainer) == [2, 4]


def test_the_best_of_all_evaluations_is_loaded(tmp_path):
    trainer = train(
        tmp_path,
        EvaluationsPerEpochCallback(4),
        save_strategy="best",
        metric_for_best_model="loss",
        load_best_model_at_end=True,
        learning_rate=2e-2,
    )
    scores = {x["step"]: x["eval_loss"] for x in trainer.state.log_history if "eval_loss" in x}
    assert sorted(scores) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert trainer.state.best_metric == min(scores.values())
    assert trainer.evaluate()["eval_loss"] == trainer.state.best_metric


def test_resuming_goes_on_with_the_same_steps(tmp_path):
    class StopAt3(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop |= state.global_step == 3

    options = {"save_strategy": "steps", "save_steps": 3}
    straight = train(tmp_path / "a", EvaluationsPerEpochCallback(2), **options)
    train(tmp_path / "b", EvaluationsPerEpochCallback(2), StopAt3(), **options)
    resumed = train(tmp_path / "b", EvaluationsPerEpochCallback(2), resume=True, **options)
    assert evaluated(resumed) == evaluated(straight) == [2, 4, 6, 8]
    assert same_weights(straight.model, resumed.model)


# ---- without a trace


@pytest.fixture(scope="module")
def never_evaluated(tmp_path_factory) -> torch.nn.Module:
    return train(tmp_path_factory.mktemp("plain"), rows=NoisyRows(32)).model


@pytest.mark.parametrize(
    ("strategy", "times"),
    [("no", 0), ("no", 3), ("epoch", 0), ("epoch", 3), ("steps", 0), ("steps", 1)],
)
def test_evaluations_do_not_change_the_trained_weights(tmp_path, never_evaluated, strategy, times):
    options = {"rows": NoisyRows(32), "eval_steps": 3, "eval_strategy": strategy}
    watched = train(tmp_path, EvaluationsPerEpochCallback(times), Draws(), **options)
    assert bool(evaluated(watched)) == (times > 0 or strategy != "no")
    assert same_weights(never_evaluated, watched.model)


@pytest.mark.parametrize("batches", [5, 10])
def test_looking_every_few_batches_does_not_either(tmp_path, batches):
    options = {"rows": NoisyRows(32), "per_device_train_batch_size": 2}
    plain = train(tmp_path, **options)
    steps = {"eval_strategy": "steps", "eval_steps": batches, "eval_delay": 6}
    watched = train(tmp_path, EvaluationsPerEpochCallback(0), Draws(), **steps, **options)
    assert evaluated(watched) == [
        s for s in (10, 15, 20, 25, 30, 32) if s % batches == 0 or s == 32
    ]
    assert same_weights(plain.model, watched.model)


def test_without_the_callback_they_do(tmp_path, never_evaluated):
    watched = train(tmp_path, Draws(), rows=NoisyRows(32), eval_strategy="epoch")
    assert not same_weights(never_evaluated, watched.model)


def test_evaluation_sets_at_start_and_by_hand(tmp_path, never_evaluated):
    class ByHand(TrainerCallback):
        trainer: Trainer

        def on_step_end(self, args, state, control, **kwargs):
            self.trainer.predict(Rows(8))
            self.trainer.evaluate(Rows(8))

    by_hand = ByHand()
    callbacks = [by_hand, Draws(), EvaluationsPerEpochCallback(2)]
    trainer = make(tmp_path, *callbacks, rows=NoisyRows(32), eval_on_start=True)
    trainer.eval_dataset = {"a": Rows(8), "b": Rows(16)}
    by_hand.trainer = trainer
    trainer.train()
    assert same_weights(never_evaluated, trainer.model)


def test_an_evaluation_that_breaks_off_does_not_rewind_the_training(tmp_path):
    class BreaksOff(TrainerCallback):
        trainer: Trainer
        is_on = False

        def on_prediction_step(self, args, state, control, **kwargs):
            if self.is_on:
                raise ValueError("a metric that fails")

        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 2:
                self.is_on = True
                with pytest.raises(ValueError, match="a metric that fails"):
                    self.trainer.evaluate()
                self.is_on = False
                state_of.append(torch.get_rng_state())

        def on_evaluate(self, args, state, control, **kwargs):
            state_of.append(torch.get_rng_state())

    state_of: list[torch.Tensor] = []
    breaks = BreaksOff()
    trainer = make(tmp_path, EvaluationsPerEpochCallback(1), breaks)
    breaks.trainer = trainer
    trainer.train()
    assert len(state_of) == 3
    assert not torch.equal(state_of[0], state_of[1])


@pytest.mark.parametrize("is_first", [True, False])
def test_together_with_averaging_in_either_order(tmp_path, is_first):
    def both() -> list[TrainerCallback]:
        callbacks = [EvaluationsPerEpochCallback(2), SWACallback(start=3)]
        return callbacks if is_first else callbacks[::-1]

    alone = train(tmp_path / "alone", SWACallback(start=3), rows=NoisyRows(32))
    trainer = train(
        tmp_path / "both",
        *both(),
        Draws(),
        rows=NoisyRows(32),
        save_strategy="best",
        metric_for_best_model="loss",
    )
    assert evaluated(trainer) == [2, 4, 6, 8]
    assert same_weights(alone.model, trainer.model)
    logged = [line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line]
    assert trainer.evaluate()["eval_loss"] == logged[-1]
    inner = trainer.optimizer.optimizer
    assert not {"train", "eval"} & vars(inner).keys()


def test_an_optimizer_with_modes_of_its_own_keeps_them(tmp_path):
    calls: list[str] = []

    class ScheduleFree(torch.optim.SGD):
        def train(self) -> None:
            calls.append("train")

        def eval(self) -> None:
            calls.append("eval")

    model = tiny_bert()
    trainer = Trainer(
        model,
        training_arguments(tmp_path),
        train_dataset=Rows(32),
        eval_dataset=Rows(8),
        optimizers=(ScheduleFree(model.parameters(), lr=0.1), None),
        callbacks=[EvaluationsPerEpochCallback(1)],
    )
    trainer.train()
    assert calls == [*["train"] * 4, "eval"] * 2


# ---- refusal


@pytest.mark.parametrize("times", [-1, 1.5, True, "2"])
def test_times_is_a_whole_number(times):
    with pytest.raises(ConfigurationError, match="times must be a whole number of evaluations"):
        EvaluationsPerEpochCallback(times)


@pytest.mark.parametrize(
    ("times", "options"),
    [
        (2, {"eval_strategy": "epoch", "save_strategy": "epoch"}),
        (3, {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}),
    ],
)
def test_a_best_model_that_no_checkpoint_holds_is_refused(tmp_path, times, options):
    with pytest.raises(ConfigurationError, match='set save_strategy="best"'):
        train(tmp_path, EvaluationsPerEpochCallback(times), load_best_model_at_end=True, **options)


def test_a_best_model_that_checkpoints_hold_is_not(tmp_path):
    trainer = train(
        tmp_path,
        EvaluationsPerEpochCallback(1),
        load_best_model_at_end=True,
        eval_strategy="epoch",
        save_strategy="epoch",
    )
    assert trainer.state.best_model_checkpoint is not None
