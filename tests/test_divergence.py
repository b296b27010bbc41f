from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback

from hf_stabilizer import metrics
from hf_stabilizer.averaging import SWACallback
from hf_stabilizer.collapse import (
    LOOKS_COLLAPSED,
    Tally,
    classified,
    collapsed_at,
    describe_collapse,
)
from hf_stabilizer.divergence import OVERFLOWS_IN_A_ROW, DivergenceGuardCallback
from hf_stabilizer.errors import ConfigurationError, DivergenceError
from hf_stabilizer.evaluation import EvaluationsPerEpochCallback
from hf_stabilizer.skipped_steps import was_skipped
from tests import reference
from tests.tiny import Rows, same_weights, tiny_bert, training_arguments

MARK = f"{LOOKS_COLLAPSED}/eval"


class StopAt(TrainerCallback):
    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step == self.step


class Poison(TrainerCallback):
    """Has one optimizer step go wrong, in the way and the place that it is told."""

    def __init__(self, step: int, where: str, value: float = torch.nan):
        self.step, self.where, self.value = step, where, value
        self.is_on = False

    def on_train_begin(self, args, state, control, model, **kwargs):
        block = model.bert.encoder.layer[1]
        if self.where == "output of layer_02":
            block.register_forward_hook(lambda module, given, output: self._spoiled(output))
        elif self.where == "gradient of layer_02":
            block.output.dense.weight.register_hook(self._spoiled)
        elif self.where == "loss":
            model.register_forward_hook(self._spoil_the_loss)

    def on_step_begin(self, args, state, control, **kwargs):
        self.is_on = state.global_step + 1 == self.step

    def on_optimizer_step(self, args, state, control, **kwargs):
        self.is_on = False

    def _spoiled(self, tensor):
        return tensor * self.value if self.is_on else tensor

    def _spoil_the_loss(self, module, given, output):
        if self.is_on:  # A constant is added: the gradients are finite.
            output["loss"] = output["loss"] + self.value


class DropsGradients(TrainerCallback):
    """What "warn" is to do, in the plainest way."""

    def __init__(self, step: int):
        self.step = step

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        if state.global_step + 1 == self.step:
            for parameter in model.parameters():
                parameter.grad = None


class Tracker(TrainerCallback):
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def on_log(self, args, state, control, logs, **kwargs):
        self.lines.append(dict(logs))


def make(folder, *callbacks: TrainerCallback, model: Any = None, **options: Any) -> Trainer:
    rows, evaluated = options.pop("rows", None), options.pop("evaluated", None)
    kind = options.pop("kind", Trainer)
    return kind(
        model or tiny_bert(),
        training_arguments(folder, **options),
        train_dataset=rows or Rows(32),
        eval_dataset=evaluated or Rows(16, seed=1),
        callbacks=list(callbacks),
    )


def train(*arguments: Any, resume: bool | None = None, **options: Any) -> Trainer:
    trainer = make(*arguments, **options)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def warned(match: str) -> Any:
    """Several runs of which one or more warn."""
    return pytest.warns(UserWarning, match=match)


def logged(trainer: Trainer, name: str) -> list[tuple[int, float]]:
    return [(line["step"], line[name]) for line in trainer.state.log_history if name in line]


# ---- numbers that are none: kept from the weights


POISONS = [
    ("output of layer_02", torch.nan, "the loss is nan, first in layer_02"),
    ("output of layer_02", torch.inf, "the loss is nan, first in layer_02"),
    ("gradient of layer_02", torch.nan, "the norm of the gradients is nan, first in layer_02"),
    ("gradient of layer_02", torch.inf, "first in layer_02"),
    ("loss", torch.nan, "the loss is nan, first in the loss"),
    ("loss", -torch.inf, "the loss is -inf, first in the loss"),
]


@pytest.mark.parametrize("max_grad_norm", [1.0, 0.0])
@pytest.mark.parametrize(("where", "value", "message"), POISONS)
def test_stop_leaves_the_weights_of_the_step_before(tmp_path, where, value, message, max_grad_norm):
    options = {"max_grad_norm": max_grad_norm}
    before = train(tmp_path, StopAt(2), **options)
    guard, tracker = DivergenceGuardCallback(), Tracker()
    with pytest.warns(UserWarning, match="at optimizer step 3 .*" + message):
        stopped = train(tmp_path, Poison(3, where, value), tracker, guard, **options)
    assert stopped.state.global_step == 3
    assert same_weights(before.model, stopped.model)
    assert logged(stopped, "stability/diverged") == [(3, 3.0)]
    assert [line for line in tracker.lines if "stability/diverged" in line]
    reason = next(line["reason"] for line in stopped.state.log_history if "reason" in line)
    assert message in reason
    assert "the weights are still those of step 2" in reason


def test_raise_leaves_them_too(tmp_path):
    before = train(tmp_path, StopAt(2))
    trainer = make(tmp_path, Poison(3, "output of layer_02"), DivergenceGuardCallback("raise"))
    with pytest.raises(DivergenceError, match="at optimizer step 3 the loss is nan, first in lay"):
        trainer.train()
    assert same_weights(before.model, trainer.model)
    assert logged(trainer, "stability/diverged") == [(3, 3.0)]


@pytest.mark.parametrize("accumulation", [1, 2])
def test_warn_skips_the_step_and_goes_on(tmp_path, accumulation):
    options = {"gradient_accumulation_steps": accumulation, "num_train_epochs": 2 * accumulation}
    expected = train(tmp_path, DropsGradients(3), **options)
    poison = Poison(3, "gradient of layer_02")
    with pytest.warns(UserWarning, match="at optimizer step 3 "):
        guarded = train(tmp_path, poison, DivergenceGuardCallback("warn"), **options)
    assert same_weights(expected.model, guarded.model)
    left, right = expected.optimizer.state_dict(), guarded.optimizer.state_dict()
    for key, state in left["state"].items():
        assert all(torch.equal(state[name], right["state"][key][name]) for name in state)
    assert expected.lr_scheduler.get_last_lr() == guarded.lr_scheduler.get_last_lr()
    assert guarded.state.global_step == 8
    assert logged(guarded, "stability/skipped") == [(3, 3.0)]
    assert not logged(guarded, "stability/diverged")


def test_a_bad_batch_among_good_ones_is_seen(tmp_path):
    class FirstBatchIsBad(Poison):
        def on_substep_end(self, args, state, control, **kwargs):
            self.is_on = False

    with pytest.warns(UserWarning, match="at optimizer step 2 the loss is inf"):
        train(
            tmp_path,
            FirstBatchIsBad(2, "loss", torch.inf),
            DivergenceGuardCallback("warn"),
            gradient_accumulation_steps=2,
        )


@pytest.mark.parametrize("optim", ["sgd", "adafactor", "adamw_torch_fused", "rmsprop"])
def test_weight_decay_and_momentum_do_not_move_them_either(tmp_path, optim):
    options = {"optim": optim, "weight_decay": 0.1}
    if optim == "sgd":
        options["optim_args"] = "momentum=0.9"
    before = train(tmp_path, StopAt(2), **options)
    with pytest.warns(UserWarning, match="at optimizer step 3 "):
        stopped = train(
            tmp_path, Poison(3, "gradient of layer_02"), DivergenceGuardCallback(), **options
        )
    assert same_weights(before.model, stopped.model)


def test_a_loss_that_is_computed_elsewhere_is_seen_by_its_gradients(tmp_path):
    class OwnLoss(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
            labels = inputs.pop("labels")
            outputs = model(**inputs)
            loss = torch.nn.functional.cross_entropy(outputs.logits, labels)
            loss = loss * (torch.nan if self.state.global_step == 2 else 1)
            return (loss, outputs) if return_outputs else loss

    with pytest.warns(UserWarning, match="step 3 the norm of the gradients is nan, first in head"):
        stopped = train(tmp_path, DivergenceGuardCallback(), kind=OwnLoss)
    assert stopped.state.global_step == 3


@pytest.mark.parametrize("is_first", [True, False])
def test_gradients_that_another_callback_spoils(tmp_path, is_first):
    class Spoils(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
            if state.global_step == 2:
                model.classifier.weight.grad[0, 0] = torch.nan

    before = train(tmp_path, StopAt(2))
    guard, spoils = DivergenceGuardCallback(), Spoils()
    with pytest.warns(UserWarning, match="step 3 the norm of the gradients is nan, first in head"):
        stopped = train(tmp_path, *([guard, spoils] if is_first else [spoils, guard]))
    assert same_weights(before.model, stopped.model)


def test_weights_that_are_lost_already_are_named(tmp_path):
    model = tiny_bert()
    model.bert.embeddings.word_embeddings.weight.data[7] = torch.nan
    with pytest.raises(DivergenceError, match=r"the loss is nan, first in embeddings"):
        train(tmp_path, DivergenceGuardCallback("raise"), model=model)


def test_the_statistics_of_batch_norm_count_each_batch_once(tmp_path):
    class Small(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(64, 8)
            self.norm = torch.nn.BatchNorm1d(8)
            self.classifier = torch.nn.Linear(8, 2)

        def forward(self, input_ids, attention_mask, labels):
            logits = self.classifier(self.norm(self.embed(input_ids).mean(1)))
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    class Bad(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
            if state.global_step == 1:
                model.embed.weight.grad[3] = torch.nan
                self.tracked = int(model.norm.num_batches_tracked)

    torch.manual_seed(0)
    bad = Bad()
    with pytest.warns(UserWarning, match="at optimizer step 2 the norm of the gradients is nan"):
        trainer = train(tmp_path, bad, DivergenceGuardCallback(), model=Small())
    assert int(trainer.model.norm.num_batches_tracked) == bad.tracked == 2


# ---- a GradScaler's overflows


def with_scaler(trainer: Trainer, **options: Any) -> None:
    """Plugs in torch's own GradScaler, on the CPU, where accelerate would not make one."""

    class PlugsIn(TrainerCallback):
        def on_train_begin(self, args, state, control, optimizer, **kwargs):
            scaler = torch.amp.GradScaler("cpu", **options)
            trainer.accelerator.scaler = optimizer.scaler = scaler
            optimizer.__setstate__({})  # as after unpickling: the step is patched for the scaler

    trainer.callback_handler.callbacks.insert(1, PlugsIn())


class Overflows(TrainerCallback):
    """Has gradients overflow in the optimizer steps that it is told."""

    def __init__(self, steps: Any):
        self.steps = steps

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        if state.global_step + 1 in self.steps:
            model.classifier.weight.grad.fill_(torch.inf)


OPTIMIZERS = ["adamw_torch", "adamw_torch_fused"]  # the latter is stepped, and skips inside


@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_overflows_are_no_divergence(tmp_path, optim):
    overflows, guard = Overflows({1, 2, 5}), DivergenceGuardCallback("raise")
    trainer = make(tmp_path, overflows, guard, optim=optim)
    with_scaler(trainer)
    trainer.train()
    assert trainer.state.global_step == 8
    assert trainer.accelerator.scaler.get_scale() == 2.0**13
    assert not logged(trainer, "stability/diverged")


@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_overflows_that_do_not_end_are(tmp_path, optim):
    options = {"num_train_epochs": 10, "optim": optim}
    trainer = make(tmp_path, Overflows(range(3, 99)), DivergenceGuardCallback(), **options)
    with_scaler(trainer)
    with pytest.warns(UserWarning, match="overflow for the 25th time in a row"):
        trainer.train()
    assert trainer.state.global_step == 2 + OVERFLOWS_IN_A_ROW
    before = make(tmp_path, StopAt(2), **options)
    with_scaler(before)
    before.train()
    assert same_weights(before.model, trainer.model)


@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_steps_that_a_scaler_skipped_are_told_from_those_at_which_it_grew(tmp_path, optim):
    class Asks(TrainerCallback):
        def on_optimizer_step(self, args, state, control, optimizer, **kwargs):
            step = state.global_step + 1
            answers = [was_skipped(optimizer, run=state, step=step) for _ in range(2)]
            assert answers[0] == answers[1]
            if answers[0]:
                skipped.append(step)

    skipped: list[int] = []
    trainer = make(tmp_path, Overflows({2, 5, 6}), Asks(), optim=optim)
    with_scaler(trainer, growth_interval=2)  # grows after steps 4 and 8
    trainer.train()
    assert skipped == [2, 5, 6]
    assert trainer.accelerator.scaler.get_scale() == 2.0 ** (16 - 1 + 1 - 2 + 1)


@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_an_overflow_is_not_averaged(tmp_path, optim):
    means = []
    for steps in ({4}, set()):  # without the overflow, steps 3, 5, 6.. would be other weights
        trainer = make(tmp_path, Overflows(steps), SWACallback(start=3), StopAt(4), optim=optim)
        with_scaler(trainer)
        trainer.train()
        means.append(trainer.model)
    third = make(tmp_path, StopAt(3), optim=optim)
    with_scaler(third)
    third.train()
    assert same_weights(means[0], third.model)
    assert not same_weights(means[1], third.model)


# ---- with averaging and evaluation


@pytest.mark.parametrize("is_first", [True, False])
def test_a_skipped_step_is_not_averaged(tmp_path, is_first):
    class Path(TrainerCallback):
        def __init__(self):
            self.weights = {}

        def on_optimizer_step(self, args, state, control, model, **kwargs):
            self.weights[state.global_step + 1] = copy.deepcopy(model.state_dict())

    path, poison = Path(), Poison(5, "gradient of layer_02")
    both = [DivergenceGuardCallback("warn"), SWACallback(start=4, every=1)]
    with pytest.warns(UserWarning, match="at optimizer step 5 "):
        trainer = train(tmp_path, poison, path, *(both if is_first else both[::-1]))
    for name, parameter in trainer.model.named_parameters():
        taken = {s: w[name].numpy() for s, w in path.weights.items() if s != 5}
        renumbered = dict(enumerate((taken[s] for s in (4, 6, 7, 8)), start=1))
        mean = reference.swa_mean(renumbered, start=1, every=1, with_last=True)
        torch.testing.assert_close(parameter.detach().double(), torch.as_tensor(mean))


def test_a_stop_leaves_the_mean_of_what_was_averaged(tmp_path):
    before = train(tmp_path, SWACallback(start=1), StopAt(4))
    callbacks = [Poison(5, "loss"), SWACallback(start=1), DivergenceGuardCallback()]
    with pytest.warns(UserWarning, match="at optimizer step 5 "):
        stopped = train(tmp_path, *callbacks)
    assert same_weights(before.model, stopped.model)


@pytest.mark.filterwarnings("ignore:the run has collapsed")  # there is little to learn
@pytest.mark.parametrize("options", [{}, {"bf16": True}, {"gradient_accumulation_steps": 2}])
def test_a_healthy_run_is_that_of_a_run_without(tmp_path, options):
    def evaluating() -> TrainerCallback:
        return EvaluationsPerEpochCallback(2)

    plain = train(tmp_path, evaluating(), SWACallback(), **options)
    guarded = train(tmp_path, evaluating(), DivergenceGuardCallback(), SWACallback(), **options)
    assert same_weights(plain.model, guarded.model)
    theirs, ours = (
        [set(line) for line in trainer.state.log_history] for trainer in (plain, guarded)
    )
    assert theirs == [names for names in ours if not any("stability/" in name for name in names)]


@pytest.mark.parametrize("stop", [2, 5])
def test_resuming_a_run_with_a_skipped_step(tmp_path, stop):
    options = {"save_strategy": "steps", "save_steps": stop}

    def callbacks(*more: TrainerCallback) -> list[TrainerCallback]:
        poison = Poison(4, "gradient of layer_02")
        return [poison, SWACallback(start=3), DivergenceGuardCallback("warn"), *more]

    with warned("at optimizer step 4 "):
        straight = train(tmp_path / "a", *callbacks(), **options)
        train(tmp_path / "b", *callbacks(StopAt(stop)), **options)
        resumed = train(tmp_path / "b", *callbacks(), resume=True, **options)
    assert same_weights(straight.model, resumed.model)
    assert logged(resumed, "stability/skipped") == [(4, 4.0)]


def test_marks_belong_to_one_run(tmp_path):
    with pytest.warns(UserWarning, match="at optimizer step 3 "):
        trainer = train(tmp_path, Poison(3, "loss"), DivergenceGuardCallback("warn"))
    assert was_skipped(trainer.optimizer, run=trainer.state, step=3)
    assert not was_skipped(trainer.optimizer, run=trainer.state, step=4)
    assert not was_skipped(trainer.optimizer, run=object(), step=3)


def test_nothing_is_left_on_the_model(tmp_path):
    trainer = make(tmp_path, Poison(3, "gradient of layer_02"), DivergenceGuardCallback("raise"))
    with pytest.raises(DivergenceError):
        trainer.train()
    trainer.remove_callback(DivergenceGuardCallback)
    trainer.add_callback(DivergenceGuardCallback("stop"))  # hears alone, and hangs up
    with pytest.warns(UserWarning, match="at optimizer step 3 "):
        trainer.train()
    assert not trainer.model._forward_hooks
    assert not {"train", "eval"} & vars(trainer.optimizer.optimizer).keys()


def test_a_copy_of_the_model_is_not_heard(tmp_path):
    class Copies(TrainerCallback):
        def on_step_end(self, args, state, control, model, **kwargs):
            row = {name: value[None] for name, value in Rows(1)[0].items()}
            for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
                copied.classifier.weight.data.fill_(torch.nan)
                assert copied(**row).loss.isnan()

        on_substep_end = on_step_end

    guard = DivergenceGuardCallback("raise")
    train(tmp_path, guard, Copies(), gradient_accumulation_steps=2)


# ---- a classifier that collapsed


CASES = [
    ([1, 1, 1], [0, 1, 1]),
    ([1, 0, 1], [0, 1, 1]),
    ([0, 1, 1], [0, 1, 1]),
    ([0, 0, 0], [0, 0, 0]),
    ([0, 1, 0], [0, 0, 0]),
    ([0, 0, 1, 1], [0, 1, 0, 1]),
    ([2, 2, 1, 0], [2, 2, 1, 1]),
    ([0, 1, 2, 0], [0, 1, 2, 2]),
    ([1, 0, 1, 1], [-100, 0, 1, -100]),
    ([1, 0, 1, 1], [0, -100, 1, 1]),
]


@pytest.mark.parametrize(("predictions", "labels"), CASES)
def test_what_looks_collapsed_on_paper(predictions, labels):
    tally = Tally()
    logits = torch.nn.functional.one_hot(torch.tensor(predictions), 3).float()
    for rows in (slice(0, 2), slice(2, None)):  # two batches
        tally.add(logits[rows], torch.tensor(labels)[rows])
    how = tally.describe()
    assert bool(how) == reference.looks_collapsed(predictions, labels)
    if -100 not in labels:
        assert how == metrics.collapsed(predictions, labels)


def test_answers_alone_tell_of_one_answer():
    tally = Tally()
    tally.add(torch.eye(2)[[0, 0, 0]], None)
    assert tally.describe() == "the same class 0 is predicted for all 3 rows"
    tally.add(torch.eye(2)[[1]], None)
    assert tally.describe() == ""
    assert describe_collapse([1, 0], [1, 0], right=0) == ""


@pytest.mark.parametrize("warmup_steps", [0, 2, 4])
@pytest.mark.parametrize("is_last", [True, False])
@pytest.mark.parametrize("bits", range(16))
def test_when_a_run_has_collapsed(bits, warmup_steps, is_last):
    looks = [(2 * place, bool(bits >> place & 1)) for place in range(1, 5)]
    history, found = [], 0
    for step, looks_so in looks:
        history += [{"loss": 1.0, "step": step}, {"eval_runtime": 1.0, "step": step}]
        history += [{MARK: 1.0, "step": step}] if looks_so else []
        is_over = is_last and step == looks[-1][0]
        at = collapsed_at(history, "eval", warmup_steps=warmup_steps, is_last=is_over)
        found = found or at
    assert found == reference.collapsed_evaluation(looks, warmup_steps, is_last)


def one_answer(answer: int = 0) -> torch.nn.Module:
    """A classifier that says the same of all, and does not learn at a rate of 0."""
    model = tiny_bert()
    torch.nn.init.zeros_(model.classifier.weight)
    model.classifier.bias.data[answer] = 1.0
    return model


STILL = {"learning_rate": 0.0, "eval_strategy": "steps", "eval_steps": 2}


@pytest.mark.parametrize("action", ["warn", "stop"])
def test_two_evaluations_running_settle_it(tmp_path, action):
    tracker = Tracker()
    with pytest.warns(UserWarning, match=r"collapsed: at step 4 .* the same class 0 .* 16 rows"):
        trainer = train(
            tmp_path, tracker, DivergenceGuardCallback(action), model=one_answer(), **STILL
        )
    assert trainer.state.global_step == 8
    assert logged(trainer, "stability/collapsed") == [(4, 4.0)]
    assert logged(trainer, MARK) == [(step, 1.0) for step in (2, 4, 6, 8)]
    assert sum("stability/collapsed" in line for line in tracker.lines) == 1


def test_only_raise_raises_for_it(tmp_path):
    trainer = make(tmp_path, DivergenceGuardCallback("raise"), model=one_answer(), **STILL)
    with pytest.raises(DivergenceError, match="the run has collapsed: at step 4"):
        trainer.train()
    assert logged(trainer, "stability/collapsed") == [(4, 4.0)]


def test_evaluations_in_the_warm_up_do_not_count(tmp_path):
    options = {**STILL, "warmup_steps": 4}
    with pytest.warns(UserWarning, match="collapsed: at step 8"):
        trainer = train(tmp_path, DivergenceGuardCallback(), model=one_answer(), **options)
    assert logged(trainer, "stability/collapsed") == [(8, 8.0)]


def test_the_last_evaluation_settles_it(tmp_path):
    options = {**STILL, "eval_steps": 8}
    with pytest.warns(UserWarning, match="collapsed: at step 8"):
        trainer = train(tmp_path, DivergenceGuardCallback(), model=one_answer(), **options)
    assert logged(trainer, "stability/collapsed") == [(8, 8.0)]


@pytest.mark.parametrize("action", ["stop", "raise"])
def test_the_last_evaluation_of_a_run_that_ended_early(tmp_path, action):
    tracker = Tracker()
    callbacks = [tracker, DivergenceGuardCallback(action), StopAt(3)]
    trainer = make(tmp_path, *callbacks, model=one_answer(), **STILL)
    if action == "raise":
        with pytest.raises(DivergenceError, match="collapsed: at step 2"):
            trainer.train()
    else:
        with pytest.warns(UserWarning, match="collapsed: at step 2"):
            trainer.train()
    assert logged(trainer, "stability/collapsed") == [(2, 2.0)]
    # Said while trackers still listen: with the Trainer's summing-up, before the training's end.
    assert any("stability/collapsed" in line for line in tracker.lines)
    assert any("train_runtime" in line for line in tracker.lines)


def test_early_stopping_goes_its_way(tmp_path):
    stopping = EarlyStoppingCallback(1)
    with pytest.warns(UserWarning, match="collapsed: at step 4"):
        trainer = train(
            tmp_path,
            stopping,
            DivergenceGuardCallback(),
            model=one_answer(),
            **STILL,
            save_strategy="best",
            metric_for_best_model="loss",
            load_best_model_at_end=True,
        )
    assert trainer.state.global_step == 4


def test_no_better_than_the_majority(tmp_path):
    rows = Rows(16, seed=1)
    right = torch.tensor([1, 1, 0, 1, 0, 0, 1, 1] * 2)

    class Fixed(torch.nn.Module):
        """Answers as it is told, and has one parameter to be trained."""

        def __init__(self, answers: torch.Tensor):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))
            self.answers = answers

        def forward(self, input_ids, attention_mask, labels):
            index = (rows.input_ids[None] == input_ids[:, None]).all(-1).long().argmax(-1)
            logits = self.scale * torch.nn.functional.one_hot(self.answers[index], 2)
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    rows.labels = right.clone()
    for swapped, is_lost in ((6, True), (5, False)):  # 10 right, or 11, of 16 with a majority of 10
        answers = right.clone()
        answers[:swapped] = 1 - answers[:swapped]
        trainer = make(
            tmp_path, DivergenceGuardCallback(), model=Fixed(answers), rows=rows, evaluated=rows
        )
        trainer.args.eval_strategy = "epoch"
        if is_lost:
            with pytest.warns(UserWarning, match="accuracy 0.6250 is no better than 0.6250"):
                trainer.train()
        else:
            trainer.train()
        assert bool(logged(trainer, "stability/collapsed")) == is_lost


def test_rows_of_one_label_cannot_tell(tmp_path):
    evaluated = Rows(16)
    evaluated.labels = torch.zeros_like(evaluated.labels)
    guard = DivergenceGuardCallback("raise")
    trainer = train(tmp_path, guard, model=one_answer(), evaluated=evaluated, **STILL)
    assert not logged(trainer, MARK)


def test_several_sets_are_judged_each_by_itself(tmp_path):
    one_label = Rows(8)
    one_label.labels = torch.zeros_like(one_label.labels)
    trainer = make(tmp_path, DivergenceGuardCallback(), model=one_answer(), **STILL)
    trainer.eval_dataset = {"a": Rows(8), "b": one_label, "c": Rows(16)}
    with pytest.warns(UserWarning, match=r"at step 4 \(eval_a\) .* all 8 rows"):
        trainer.train()
    assert logged(trainer, "stability/collapsed") == [(4, 4.0)]
    steps = [(step, 1.0) for step in (2, 4, 6, 8)]
    assert logged(trainer, f"{LOOKS_COLLAPSED}/eval_a") == steps
    assert logged(trainer, f"{LOOKS_COLLAPSED}/eval_c") == steps
    assert not logged(trainer, f"{LOOKS_COLLAPSED}/eval_b")


def test_predictions_and_an_untrained_model_are_not_judged(tmp_path):
    class ByHand(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            self.trainer.predict(Rows(8))

    by_hand = ByHand()
    trainer = make(
        tmp_path,
        by_hand,
        DivergenceGuardCallback("raise"),
        model=one_answer(),
        eval_on_start=True,
        learning_rate=0.0,
    )
    by_hand.trainer = trainer
    trainer.train()
    assert not logged(trainer, MARK)


@pytest.mark.parametrize("stop", [2, 3, 4])
def test_a_resumed_run_judges_from_its_history(tmp_path, stop):
    options = {**STILL, "save_strategy": "steps", "save_steps": 1, "warmup_steps": 1}

    def guarded() -> list[TrainerCallback]:
        return [DivergenceGuardCallback("warn")]

    class KilledAt(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            if state.global_step == stop:
                raise KeyboardInterrupt

    with warned("collapsed: at step 4"):
        straight = train(tmp_path / "a", *guarded(), model=one_answer(), **options)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "b", *guarded(), KilledAt(), model=one_answer(), **options)
        resumed = train(tmp_path / "b", *guarded(), resume=True, model=one_answer(), **options)
    for name in (MARK, "stability/collapsed"):
        assert logged(resumed, name) == logged(straight, name)
    saved = Path(tmp_path / "b" / "checkpoint-8" / "trainer_state.json").read_text("utf-8")
    assert any("stability/collapsed" in line for line in json.loads(saved)["log_history"])


def test_tokens_that_are_not_to_be_classified_do_not_count(tmp_path):
    torch.manual_seed(0)
    config = tiny_bert().config
    model = transformers.BertForTokenClassification(config)
    torch.nn.init.zeros_(model.classifier.weight)
    model.classifier.bias.data[0] = 1.0

    class TokenRows(Rows):
        def __getitem__(self, index):
            row = super().__getitem__(index)
            labels = row["input_ids"] % 2
            labels[3:] = -100
            return {**row, "labels": labels}

    options = {**STILL, "rows": TokenRows(32), "evaluated": TokenRows(16, seed=1)}
    with pytest.warns(UserWarning, match="the same class 0 is predicted for all 48 rows"):
        train(tmp_path, DivergenceGuardCallback(), model=model, **options)


def test_label_smoothing_hides_the_labels(tmp_path):
    options = {**STILL, "label_smoothing_factor": 0.1}
    model = one_answer()
    assert not logged(train(tmp_path, DivergenceGuardCallback(), model=model, **options), MARK)
    model = one_answer()
    model.config.problem_type = "single_label_classification"
    with pytest.warns(UserWarning, match="the same class 0 is predicted for all 16 rows"):
        train(tmp_path, DivergenceGuardCallback(), model=model, **options)


LABELS, IDS = torch.tensor([0, 1, 1]), torch.zeros(3, 4, dtype=torch.long)
WITH_TWO = transformers.BertConfig(num_labels=2)


@pytest.mark.parametrize(
    ("logits", "inputs", "config", "is_classification"),
    [
        ((3, 2), {"labels": LABELS}, WITH_TWO, True),
        ((3, 2), {"labels": LABELS}, None, True),
        ((3, 4, 2), {"labels": IDS, "input_ids": IDS}, WITH_TWO, True),
        ((3, 1), {"labels": LABELS.float()}, transformers.BertConfig(num_labels=1), False),
        ((3, 1), {"labels": LABELS}, transformers.BertConfig(num_labels=1), False),
        ((3, 2), {"labels": torch.zeros(3, 2)}, WITH_TWO, False),
        ((3, 4, 64), {"labels": IDS, "input_ids": IDS}, WITH_TWO, False),  # language model
        ((3, 4, 64), {"labels": IDS, "input_ids": IDS}, None, False),
        (
            (3, 2),
            {"labels": LABELS, "input_ids": torch.zeros(3, 2, 4, dtype=torch.long)},
            WITH_TWO,
            False,  # multiple choice
        ),
        ((3, 2), {}, WITH_TWO, False),
        ((3, 2), {"start_positions": LABELS}, WITH_TWO, False),
    ],
)
def test_what_is_a_classification(logits, inputs, config, is_classification):
    logits = torch.zeros(logits)
    output = transformers.modeling_outputs.SequenceClassifierOutput(logits=logits)
    as_tuple = (torch.zeros(()), logits) if "labels" in inputs else (logits,)
    for given in (output, {"logits": logits}, as_tuple):
        found = classified(given, inputs, config)
        assert (found is not None) == is_classification
        if found is not None:
            assert found[0].shape[:-1] == found[1].shape


def test_repeated_rows_of_the_last_batch_are_cut_off():
    logits, labels = classified({"logits": torch.zeros(3, 2)}, {"labels": LABELS}, WITH_TWO, rows=1)
    assert logits.shape == (1, 2)
    assert labels.tolist() == [0]


@pytest.mark.parametrize("kind", ["multi_label_classification", "regression"])
def test_other_problems_are_left_alone(tmp_path, kind):
    class FloatRows(Rows):
        def __getitem__(self, index):
            row = super().__getitem__(index)
            return {**row, "labels": torch.nn.functional.one_hot(row["labels"], 2).float()}

    model = one_answer()
    model.config.problem_type = kind
    options = {**STILL, "rows": FloatRows(32), "evaluated": FloatRows(16, seed=1)}
    trainer = train(tmp_path, DivergenceGuardCallback("raise"), model=model, **options)
    assert not logged(trainer, MARK)


# ---- refusal, and the facts relied on


@pytest.mark.parametrize("action", ["halt", None, True])
def test_the_action_is_one_of_three(action):
    with pytest.raises(ConfigurationError, match="action must be one of warn, stop, raise, got"):
        DivergenceGuardCallback(action)


def test_a_step_inside_the_backward_pass_is_refused(tmp_path):
    args = training_arguments(tmp_path, optim="adalomo")
    with pytest.raises(ConfigurationError, match="cannot be combined with optim='adalomo'"):
        DivergenceGuardCallback().on_train_begin(args, None, None)


def test_clipping_by_a_norm_that_is_none_leaves_no_number():
    parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    for value, others in ((torch.nan, torch.nan), (torch.inf, 0.0)):
        for parameter in parameters:
            parameter.grad = torch.ones(2)
        parameters[0].grad[0] = value
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        assert parameters[0].grad[0].isnan()
        assert torch.equal(parameters[1].grad.isnan(), torch.full((2,), others != 0.0))


def test_the_trainer_hides_a_loss_that_is_none(tmp_path):
    trainer = train(tmp_path, Poison(3, "loss"), logging_steps=3)
    assert all(line["loss"] < 9 for line in trainer.state.log_history if "loss" in line)


# ---- in several processes


def lines_of(mode: str, folder: Path) -> list[dict[str, float]]:
    """The layers' lines of a run in two processes, which check all else themselves."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    script = ["--nproc_per_node", "2", "-m", "tests.guarded_in_two_processes"]
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
    lines = (line for line in finished.stdout.splitlines() if line.startswith("lines"))
    return json.loads(next(lines).removeprefix("lines"))


@pytest.mark.slow
def test_two_processes_do_the_same_whether_weights_are_sharded_or_not(tmp_path):
    plain, sharded = (lines_of(mode, tmp_path / mode) for mode in ("ddp", "fsdp2"))
    assert len(plain) == 4
    for line, other in zip(plain, sharded, strict=True):
        assert line == pytest.approx(other, rel=1e-3)
