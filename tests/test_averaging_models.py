"""Averaging of models that are built, held in memory or trained in unusual ways."""

from __future__ import annotations

import copy
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn
from transformers import Trainer, TrainerCallback

from hf_stabilizer import EMACallback, SWACallback, export_model, last_complete_checkpoint
from hf_stabilizer.averaging import AVERAGING_FILE
from hf_stabilizer.averaging.weights import AveragedWeights
from hf_stabilizer.errors import ResumeError
from hf_stabilizer.skipped_steps import mark_skipped
from tests import reference
from tests.tiny import SIZES, Rows, same_weights, tiny_bert, training_arguments


class RawPath(TrainerCallback):
    """Keeps the raw weights after each optimizer step."""

    def __init__(self) -> None:
        self.weights: dict[int, dict[str, np.ndarray]] = {}

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.weights[state.global_step] = {
            name: p.detach().numpy().copy() for name, p in model.named_parameters()
        }

    def mean(self, start: int, every: int = 1) -> dict[str, np.ndarray]:
        return {
            name: reference.swa_mean(
                {step: weights[name] for step, weights in self.weights.items()}, start, every, True
            )
            for name in self.weights[1]
        }


def trainer_of(
    folder: Path, model: nn.Module, *callbacks: TrainerCallback, rows=32, **options: Any
):
    return Trainer(
        model,
        training_arguments(folder, **options),
        train_dataset=Rows(rows),
        eval_dataset=Rows(16, seed=1),
        callbacks=list(callbacks),
    )


def assert_close(model: nn.Module, expected: dict[str, np.ndarray]) -> None:
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(parameter.detach().numpy(), expected[name], atol=1e-7, rtol=1e-6)


# ---- kinds of models


@pytest.mark.filterwarnings("ignore:Guards may run slower:RuntimeWarning")  # Python 3.13.0
def test_a_model_that_the_user_compiled(tmp_path):
    # The wrapper's forward names neither columns nor labels.
    options = {"remove_unused_columns": False, "label_names": ["labels"]}
    options |= {"save_strategy": "steps", "save_steps": 4}
    plain = trainer_of(tmp_path / "plain", tiny_bert(), SWACallback(start=2), **options)
    plain.train()
    torch._dynamo.reset()
    compiled = trainer_of(
        tmp_path / "compiled",
        torch.compile(tiny_bert(), backend="eager"),
        SWACallback(start=2),
        **options,
    )
    compiled.train()
    for checkpoint in ("checkpoint-4", "checkpoint-8"):
        ours, theirs = (
            load_file(tmp_path / f / checkpoint / AVERAGING_FILE) for f in ("compiled", "plain")
        )
        assert ours.keys() == theirs.keys()  # without _orig_mod
        for name in theirs:
            np.testing.assert_allclose(ours[name], theirs[name], atol=1e-6)
    assert compiled.evaluate()["eval_loss"] == pytest.approx(
        plain.evaluate()["eval_loss"], abs=1e-5
    )
    again = torch.compile(tiny_bert(), backend="eager")
    resumed = trainer_of(tmp_path / "compiled", again, SWACallback(start=2), **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "compiled" / "checkpoint-4"))
    assert same_weights(resumed.model, compiled.model)
    exported = export_model(tmp_path / "compiled" / "checkpoint-8", tmp_path / "model")
    loaded = transformers.BertForSequenceClassification.from_pretrained(exported)
    assert same_weights(loaded, compiled.model._orig_mod)


class CountsForwards(transformers.BertForSequenceClassification):
    """Has a buffer of each kind that training changes."""

    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("forwards", torch.tensor(0))
        self.register_buffer("seen", torch.tensor(0.0))

    def forward(self, **inputs):
        if self.training:
            self.forwards += 1
            self.seen += inputs["input_ids"].float().mean()
        return super().forward(**inputs)


def test_buffers_are_left_to_the_model(tmp_path):
    def of(folder: Path, *callbacks: TrainerCallback) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = CountsForwards(transformers.BertConfig(**SIZES))
        options = {"save_strategy": "epoch", "eval_strategy": "epoch"}
        options["remove_unused_columns"] = False
        trainer_of(folder, model, *callbacks, **options).train()
        saved = load_file(folder / "checkpoint-8" / "model.safetensors")
        for name, buffer in model.named_buffers():
            assert name not in saved or torch.equal(saved[name], buffer)
        return {name: buffer for name, buffer in model.named_buffers() if "." not in name}

    averaged = of(tmp_path / "averaged", EMACallback(decay=0.5))
    plain = of(tmp_path / "plain")
    assert averaged["forwards"] == 8
    assert averaged["forwards"].dtype == torch.int64
    assert torch.equal(averaged["seen"], plain["seen"])
    assert not [
        n for n in load_file(tmp_path / "averaged/checkpoint-8" / AVERAGING_FILE) if "seen" in n
    ]


def test_tied_weights_stay_tied_and_are_averaged_once(tmp_path):
    class Tokens(Rows):
        def __getitem__(self, index):
            ids = self.input_ids[index]
            return {"input_ids": ids, "labels": ids}

    torch.manual_seed(0)
    model = transformers.BertForMaskedLM(transformers.BertConfig(**SIZES))
    path = RawPath()
    trainer = trainer_of(tmp_path, model, path, SWACallback(start=3), save_strategy="epoch")
    trainer.train_dataset = Tokens()
    trainer.train()
    embeddings = model.get_input_embeddings().weight
    assert model.get_output_embeddings().weight is embeddings
    assert_close(model, path.mean(3))
    saved = load_file(tmp_path / "checkpoint-8" / AVERAGING_FILE)
    assert sum(tensor.shape == embeddings.shape for tensor in saved.values()) == 2  # raw and mean
    loaded = transformers.BertForMaskedLM.from_pretrained(tmp_path / "checkpoint-8")
    assert same_weights(loaded, model)


@pytest.mark.parametrize(
    "options",
    [
        {"num_train_epochs": 2.5},  # eight steps, the last in the middle of an epoch
        {"max_steps": 7},
        {"max_steps": 7, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4},
    ],
)
def test_the_last_step_is_in_the_mean_however_the_run_ends(tmp_path, options):
    path = RawPath()
    options = {"save_strategy": "epoch", "eval_strategy": "epoch", **options}
    trainer = trainer_of(
        tmp_path, tiny_bert(), path, SWACallback(start=2, every=4), rows=20, **options
    )
    trainer.train()  # three steps in an epoch, and the last batch is short
    assert max(path.weights) == trainer.state.max_steps == math.ceil(options.get("max_steps", 7.5))
    assert_close(trainer.model, path.mean(2, every=4))


def test_a_step_that_another_callback_emptied_is_not_averaged(tmp_path):
    class Empties(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, optimizer=None, **kwargs):
            if state.global_step + 1 in (5, 8):
                model.zero_grad(set_to_none=True)
                mark_skipped(optimizer, run=state, step=state.global_step + 1)

    path = RawPath()
    trainer = trainer_of(tmp_path, tiny_bert(), path, Empties(), SWACallback(start=3, every=2))
    trainer.train()
    kept = [path.weights[3], path.weights[7]]
    expected = {name: (kept[0][name].astype(float) + kept[1][name]) / 2 for name in kept[0]}
    assert_close(trainer.model, expected)


# ---- where the tensors lie


def averaged(model: nn.Module) -> AveragedWeights:
    weights = AveragedWeights(model, dict(model.named_parameters()), get_swa_multi_avg_fn())
    weights.add()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    weights.add()
    return weights


def values(model: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def places(tensors: Any) -> set[int]:
    return {tensor.data_ptr() for tensor in tensors}


def test_showing_the_mean_copies_nothing():
    model = tiny_bert()
    weights = averaged(model)
    raw, held = values(model), places([*model.parameters(), *weights.mean.values()])
    parameters, own = list(model.parameters()), places(model.parameters())
    for _ in range(2):
        weights.show_mean()
        assert places(model.parameters()) == places(weights.mean.values())
        assert places([*model.parameters(), *weights.raw.values()]) == held
        assert all(
            torch.equal(p, m) for p, m in zip(parameters, weights.mean.values(), strict=True)
        )
        weights.show_raw()
        assert places([*model.parameters(), *weights.mean.values()]) == held
        assert places(model.parameters()) == own
    assert all(torch.equal(p, r) for p, r in zip(parameters, raw, strict=True))
    mean = [tensor.clone() for tensor in weights.mean.values()]
    weights.keep_mean(with_current=True)
    assert places(model.parameters()) == own
    assert all(torch.equal(p, m) for p, m in zip(parameters, mean, strict=True))


class OneBuffer(nn.Module):
    """Two weights that lie in one piece of memory, as under DeepSpeed and in cuDNN's layers."""

    def __init__(self) -> None:
        super().__init__()
        self.flat = torch.randn(6)
        self.first = nn.Parameter(self.flat[:4])
        self.second = nn.Parameter(self.flat[4:])


def test_memory_that_others_use_too_is_written_and_not_exchanged():
    model = OneBuffer()
    weights = averaged(model)
    raw, where = values(model), places(model.parameters())
    weights.show_mean()
    assert torch.equal(model.flat, torch.cat([weights.mean["first"], weights.mean["second"]]))
    weights.show_raw()
    assert torch.equal(model.flat, torch.cat(raw))
    assert places(model.parameters()) == where
    shared = nn.Linear(3, 2).share_memory()
    weights, where = averaged(shared), places(shared.parameters())
    weights.show_mean()
    assert places(shared.parameters()) == where


def test_what_was_loaded_over_a_mean_is_not_taken_for_the_mean():
    model = tiny_bert()
    weights = averaged(model)
    weights.show_mean()
    assert weights.shows_mean()
    model.load_state_dict(tiny_bert(seed=5).state_dict())
    assert not weights.shows_mean()


@pytest.mark.parametrize("update", [get_swa_multi_avg_fn(), get_ema_multi_avg_fn(0.9)])
@pytest.mark.parametrize("numel", [1, 2**20, 2**20 + 1, 3 * 2**20 + 5])
def test_half_precision_that_is_cast_piece_by_piece_gives_the_same_mean(update, numel):
    sizes = [(numel,), (3, 5), (7, numel // 7 + 1), (2**16,)]
    model = nn.ParameterList([nn.Parameter(torch.randn(size).bfloat16()) for size in sizes])
    model.append(nn.Parameter(torch.randn(6, 4).bfloat16().T))  # not contiguous
    weights = AveragedWeights(model, dict(model.named_parameters()), update)
    weights.add()
    means = [mean.clone() for mean in weights.mean.values()]
    for count in (1, 2):
        with torch.no_grad():
            for parameter in model:
                parameter.add_(torch.randn_like(parameter))
        weights.add()
        update(means, [p.detach().float() for p in model], count)
    assert all(torch.equal(a, b) for a, b in zip(means, weights.mean.values(), strict=True))


# ---- interrupted, and resumed otherwise


class Breaks(TrainerCallback):
    """Interrupts the evaluation after a step."""

    def __init__(self, error: BaseException):
        self.error: BaseException | None = error

    def on_prediction_step(self, args, state, control, **kwargs):
        if self.error is not None and state.global_step == 6:
            error, self.error = self.error, None
            raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a broken metric")])
@pytest.mark.parametrize("is_same_trainer", [True, False])
def test_a_run_that_broke_off_in_an_evaluation_goes_on_as_if_it_had_not(
    tmp_path, error, is_same_trainer
):
    options = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2}

    def trainer(name: str, *callbacks: TrainerCallback) -> Trainer:
        swa = SWACallback(start=3, every=2, learning_rate=1e-4)
        return trainer_of(tmp_path / name, tiny_bert(), swa, *callbacks, **options)

    straight = trainer("straight")
    straight.train()
    broken = trainer("parts", Breaks(copy.copy(error)))
    with pytest.raises(type(error)):
        broken.train()
    last = last_complete_checkpoint(tmp_path / "parts")
    assert last == str(tmp_path / "parts" / "checkpoint-4")
    again = broken if is_same_trainer else trainer("parts")
    again.train(resume_from_checkpoint=last)
    assert same_weights(straight.model, again.model)
    left, right = (
        load_file(tmp_path / n / "checkpoint-8" / AVERAGING_FILE) for n in ("straight", "parts")
    )
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_the_message_tells_which_weights_differ(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 4, "save_only_model": True}
    trainer_of(tmp_path, tiny_bert(), SWACallback(start=2), **options).train()
    model = tiny_bert()
    model.classifier.requires_grad_(False)
    with pytest.raises(ResumeError, match=r"-classifier\.bias, -classifier\.weight\)"):
        trainer_of(tmp_path, model, SWACallback(start=2), **options).train(
            resume_from_checkpoint=str(tmp_path / "checkpoint-4")
        )


def test_a_checkpoint_says_that_it_needs_its_averages(tmp_path):
    for start, folder in itertools.product((2, 6), [tmp_path / "run"]):
        trainer = trainer_of(folder, tiny_bert(), SWACallback(start=start), save_strategy="epoch")
        trainer.train()
        (folder / "checkpoint-8" / AVERAGING_FILE).unlink()
        # At step 4 averaging had begun in the first of these runs alone.
        (folder / "checkpoint-4" / AVERAGING_FILE).unlink(missing_ok=True)
        found = last_complete_checkpoint(folder)
        assert found == (None if start == 2 else str(folder / "checkpoint-4"))
