"""Head first and gradual unfreezing: who learns in which step, and what cannot go with it."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers
from torch import nn
from transformers import Trainer, TrainerCallback

from hf_stabilizer import (
    ConfigurationError,
    EvaluationsPerEpochCallback,
    GradualUnfreezingCallback,
    HeadFirstCallback,
    LayerMap,
    ResumeError,
    SWACallback,
    freeze_layers,
    layered_optimizer,
    layerwise_decay,
)
from hf_stabilizer.freezing import stages
from hf_stabilizer.freezing.sharded import lay_in_states, warn_of_resuming
from tests import reference
from tests.tiny import SIZES, Rows, same_weights, tiny_bert, training_arguments


class Moves(TrainerCallback):
    """Writes down which parameters each optimizer step has moved."""

    def __init__(self):
        self.moved: dict[int, set[str]] = {}
        self.weights: dict[str, torch.Tensor] = {}
        self.requires_grad: dict[int, set[str]] = {}

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        free = {name for name, p in model.named_parameters() if p.requires_grad}
        self.requires_grad[state.global_step + 1] = free

    def on_step_end(self, args, state, control, model=None, **kwargs):
        before = self.weights
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}
        moved = {name for name, p in self.weights.items() if not torch.equal(p, before[name])}
        self.moved[state.global_step] = moved


class StopAt(TrainerCallback):
    """Ends training at a step, as a killed run would after its save."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step == self.step


def train(folder, *callbacks, model=None, resume=None, rows=32, kind=Trainer, **options):
    keywords = {}
    if "curve" in options:
        keywords["curve"] = options.pop("curve")
    args = training_arguments(folder, **options)
    if keywords:
        keywords = {"optimizer_cls_and_kwargs": layered_optimizer(args, keywords["curve"])}
    trainer = kind(
        tiny_bert() if model is None else model,
        args,
        train_dataset=Rows(rows),
        callbacks=list(callbacks),
        **keywords,
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def tiny_gpt2():
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40, "vocab_size": 64}
    return transformers.GPT2ForSequenceClassification(
        transformers.GPT2Config(**sizes, pad_token_id=0)
    )


def tiny_t5():
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
    return transformers.T5ForSequenceClassification(
        transformers.T5Config(
            **sizes, vocab_size=64, eos_token_id=1, pad_token_id=0, decoder_start_token_id=0
        )
    )


class RowsWithEnd(Rows):
    """Rows whose last token is T5's end of sentence."""

    def __getitem__(self, index):
        row = super().__getitem__(index)
        return {**row, "input_ids": torch.cat([row["input_ids"][:-1], torch.tensor([1])])}


def trainable(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


# ---- by hand


def test_by_hand_four_stages_over_ten_steps():
    # S = 4 (three blocks, embeddings), D = 10: 1 + 10/4, 1 + 20/4, 1 + 30/4, 1 + 10, rounded down
    callback = GradualUnfreezingCallback(duration=10)
    assert callback.first_steps(3, 40) == {4: 1, 3: 3, 2: 6, 1: 8, 0: 11}


def test_by_hand_sets_of_two_from_the_top_and_the_rest_below():
    # five blocks in twos: {5, 4}, {3, 2}, {1}, embeddings; D = 8
    callback = GradualUnfreezingCallback(8, blocks_per_stage=2)
    assert callback.first_steps(5, 8) == {6: 1, 5: 3, 4: 3, 3: 5, 2: 5, 1: 7, 0: 9}


def test_by_hand_a_share_of_the_run():
    # ceil(.3 x 12) = 4 steps for the head
    assert HeadFirstCallback(0.3).first_steps(2, 12) == {3: 1, 2: 5, 1: 5, 0: 5}


@pytest.mark.parametrize("num_layers", [1, 2, 5, 12])
@pytest.mark.parametrize("duration", [0, 1, 7, 40])
@pytest.mark.parametrize("blocks_per_stage", [1, 3, 20])
def test_stages_are_those_of_the_formula(num_layers, duration, blocks_per_stage):
    first = stages.gradual_unfreezing(num_layers, duration, blocks_per_stage)
    assert sorted(first) == list(range(num_layers + 2))
    for depth, begins in first.items():
        for step in range(1, 45):
            expected = reference.learns(depth, step, num_layers, duration, blocks_per_stage)
            assert (step >= begins) == expected, (depth, step)


# ---- effective


OPTIMIZERS = {
    "adamw_torch": {"optim": "adamw_torch", "weight_decay": 0.1},
    "adamw_torch_fused": {"optim": "adamw_torch_fused", "weight_decay": 0.1},
    "sgd": {"optim": "sgd", "optim_args": "momentum=0.9", "weight_decay": 0.1},
    "adafactor": {"optim": "adafactor", "weight_decay": 0.1},
}


def assert_learns_as(path, model, first_steps):
    layer_map = LayerMap.from_model(model)
    for step, moved in path.moved.items():
        free = {d for d, first in first_steps.items() if step >= first}
        depths = {layer_map.depth_of(name) for name in moved}
        assert depths == free, step
        names = {n for n in dict(model.named_parameters()) if layer_map.depth_of(n) in free}
        assert path.requires_grad[step] == names, step


@pytest.mark.parametrize("options", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_what_is_frozen_does_not_move_by_a_bit_and_the_rest_does(tmp_path, options):
    path, callback = Moves(), GradualUnfreezingCallback(6)
    trainer = train(tmp_path, path, callback, **options)
    assert_learns_as(path, trainer.model, {4: 1, 3: 2, 2: 4, 1: 5, 0: 7})
    assert trainable(trainer.model) == trainable(tiny_bert())


@pytest.mark.parametrize("curve", [layerwise_decay(0.7), layerwise_decay(1.0)])
def test_head_first_with_rates_per_layer(tmp_path, curve):
    path = Moves()
    trainer = train(tmp_path, HeadFirstCallback(3), path, curve=curve)
    assert_learns_as(path, trainer.model, {4: 1} | dict.fromkeys(range(4), 4))


def test_gpt2(tmp_path):
    path, model = Moves(), tiny_gpt2()
    train(tmp_path, GradualUnfreezingCallback(0.75), path, model=model)
    assert_learns_as(path, model, {3: 1, 2: 3, 1: 5, 0: 7})


def test_t5_whose_decoder_goes_on_above_the_encoder(tmp_path):
    path, model = Moves(), tiny_t5()
    args = training_arguments(tmp_path)
    callbacks = [GradualUnfreezingCallback(6), path]
    Trainer(model, args, train_dataset=RowsWithEnd(), callbacks=callbacks).train()
    assert_learns_as(path, model, {3: 1, 2: 3, 1: 5, 0: 7})


def test_a_second_moment_begins_with_its_stage(tmp_path):
    trainer = train(tmp_path, GradualUnfreezingCallback(4))
    layer_map = LayerMap.from_model(trainer.model)
    first = {4: 1, 3: 2, 2: 3, 1: 4, 0: 5}
    for name, parameter in trainer.model.named_parameters():
        steps = trainer.optimizer.state[parameter]["step"]
        assert steps == 8 - first[layer_map.depth_of(name)] + 1, name


def test_gradient_accumulation_counts_optimizer_steps(tmp_path):
    path = Moves()
    options = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4}
    trainer = train(tmp_path, HeadFirstCallback(3), path, **options)
    assert_learns_as(path, trainer.model, {4: 1} | dict.fromkeys(range(4), 4))


def test_head_first_for_the_whole_run_leaves_the_body(tmp_path):
    trainer = train(tmp_path, HeadFirstCallback(8))
    before, layer_map = dict(tiny_bert().named_parameters()), LayerMap.from_model(trainer.model)
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, before[name]) == (layer_map.depth_of(name) <= 3), name
    assert trainable(trainer.model) == before.keys()


def test_depths_that_were_overridden_are_obeyed(tmp_path):
    path = Moves()
    train(tmp_path, HeadFirstCallback(8, overrides={"bert.encoder.layer.2.*": "head"}), path)
    assert any("layer.2." in name for name in path.moved[1])
    assert not any("layer.1." in name for name in path.moved[8])


# ---- neutral


@pytest.mark.parametrize("callback", [HeadFirstCallback(0), GradualUnfreezingCallback(0, 2)])
def test_a_duration_of_zero_is_the_plain_trainer(tmp_path, callback):
    assert same_weights(train(tmp_path, callback).model, train(tmp_path).model)


def test_it_draws_no_random_numbers(tmp_path):
    # Everything is freed before the second step: only the first one differs, and not its dropout.
    drawn = []

    class Draws(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            drawn.append(torch.get_rng_state())

    train(tmp_path, Draws())
    train(tmp_path, Draws(), GradualUnfreezingCallback(6))
    assert all(torch.equal(a, b) for a, b in zip(drawn[:8], drawn[8:], strict=True))


def test_what_was_frozen_before_stays_frozen(tmp_path):
    path, model = Moves(), freeze_layers(tiny_bert(), num_layers=1)
    free = trainable(model)
    train(tmp_path, path, GradualUnfreezingCallback(4), model=model, weight_decay=0.1)
    assert path.requires_grad[8] == trainable(model) == free
    layer_map = LayerMap.from_model(model)
    # S stays 4: blocks 3 and 2 are freed in steps 2 and 3.
    depths = {step: {layer_map.depth_of(name) for name in m} for step, m in path.moved.items()}
    assert depths == {1: {4}, 2: {3, 4}} | {step: {2, 3, 4} for step in range(3, 9)}


# ---- stop and resume


@pytest.mark.parametrize("make", [HeadFirstCallback, GradualUnfreezingCallback])
@pytest.mark.parametrize("stop", [1, 4, 6])
@pytest.mark.parametrize(
    "options", [OPTIMIZERS["adamw_torch"], OPTIMIZERS["sgd"]], ids=["adamw", "sgd"]
)
def test_stopping_and_resuming_equals_never_stopping(tmp_path, make, stop, options):
    straight = train(tmp_path / "a", make(5), **options)
    saves = {"save_strategy": "steps", "save_steps": stop, **options}
    train(tmp_path / "b", make(5), StopAt(stop), **saves)
    path = Moves()
    checkpoint = str(tmp_path / "b" / f"checkpoint-{stop}")
    resumed = train(tmp_path / "b", make(5), path, resume=checkpoint, **saves)
    assert min(path.moved) == stop + 1
    assert same_weights(straight.model, resumed.model)


@pytest.mark.parametrize(
    ("began", "goes_on", "changes"),
    [
        ([HeadFirstCallback(5)], HeadFirstCallback(0.5), "duration 5 -> 4"),
        (
            [HeadFirstCallback(5)],
            HeadFirstCallback(5, overrides={"*pooler*": 3}),
            r"overrides {} -> {'\*pooler\*': 3}",
        ),
        ([HeadFirstCallback(2)], HeadFirstCallback(2, eval_mode=True), "eval_mode False -> True"),
        (
            [GradualUnfreezingCallback(5)],
            GradualUnfreezingCallback(5, 2),
            "blocks_per_stage 1 -> 2",
        ),
        (
            [HeadFirstCallback(5)],
            GradualUnfreezingCallback(5),
            "without GradualUnfreezingCallback .*duration None -> 5",
        ),
        ([HeadFirstCallback(5)], HeadFirstCallback(0), "duration 5 -> None"),
        ([], HeadFirstCallback(5), "without HeadFirstCallback .*duration None -> 5"),
    ],
)
def test_resuming_with_another_plan_is_refused(tmp_path, began, goes_on, changes):
    options = {"save_strategy": "steps", "save_steps": 3}
    train(tmp_path, *began, StopAt(3), **options)
    with pytest.raises(ResumeError, match=f"the checkpoint of step 3 was written .*{changes}"):
        train(tmp_path, goes_on, resume=True, **options)


def test_the_same_plan_may_be_said_otherwise_and_neutral_plans_are_none(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 2}
    train(tmp_path / "a", HeadFirstCallback(4), StopAt(2), **options)
    train(tmp_path / "a", HeadFirstCallback(0.5), StopAt(4), resume=True, **options)
    train(tmp_path / "a", HeadFirstCallback(4, overrides={}), resume=True, **options)
    train(tmp_path / "b", StopAt(2), **options)
    train(tmp_path / "b", GradualUnfreezingCallback(0), StopAt(4), resume=True, **options)
    train(tmp_path / "b", HeadFirstCallback(0), StopAt(6), resume=True, **options)
    train(tmp_path / "b", resume=True, **options)
    for stop in (2, 4):  # one that does nothing beside one that does
        both = [HeadFirstCallback(0), GradualUnfreezingCallback(4), HeadFirstCallback(0)]
        train(tmp_path / "c", *both, StopAt(stop), resume=stop > 2, **options)


def test_with_averaging_and_evaluations_it_resumes_to_the_last_bit(tmp_path):
    def run(folder, *more, resume=None, **options):
        callbacks = [
            SWACallback(start=2),
            GradualUnfreezingCallback(6, eval_mode=True),
            EvaluationsPerEpochCallback(4),
            *more,
        ]
        args = training_arguments(folder, weight_decay=0.1, **options)
        trainer = Trainer(
            tiny_bert(), args, train_dataset=Rows(), eval_dataset=Rows(8), callbacks=callbacks
        )
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    straight = run(tmp_path / "a")
    saves = {"save_strategy": "steps", "save_steps": 5}
    run(tmp_path / "b", StopAt(5), **saves)
    path = Moves()
    resumed = run(tmp_path / "b", path, resume=str(tmp_path / "b" / "checkpoint-5"), **saves)
    assert min(path.moved) == 6
    assert same_weights(straight.model, resumed.model)
    scores = [
        [line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line]
        for trainer in (straight, resumed)
    ]
    assert scores[0] == scores[1]
    assert len(scores[0]) == 8


def test_moments_that_are_laid_in_beforehand_change_nothing(tmp_path):
    class LaysIn(TrainerCallback):
        def on_step_end(self, args, state, control, optimizer=None, **kwargs):
            lay_in_states(optimizer)

    options = {"weight_decay": 0.1, "optim_args": "amsgrad=True", "optim": "adamw_torch"}
    plain = train(tmp_path, GradualUnfreezingCallback(6), **options)
    laid_in = train(tmp_path, GradualUnfreezingCallback(6), LaysIn(), StopAt(4), **options)
    parameters = [*laid_in.model.parameters()]
    assert all(laid_in.optimizer.state[p]["exp_avg"].shape == p.shape for p in parameters)
    laid_in = train(tmp_path, GradualUnfreezingCallback(6), LaysIn(), **options)
    assert same_weights(plain.model, laid_in.model)


def test_an_optimizer_that_a_sharded_run_could_not_load_is_warned_about(tmp_path):
    args = training_arguments(tmp_path, save_strategy="epoch")
    parameter = torch.zeros(1, requires_grad=True)
    with pytest.warns(UserWarning, match="unless it is Adam or AdamW; use optim='adamw_torch'"):
        warn_of_resuming("HeadFirstCallback", args, torch.optim.SGD([parameter]))
    warn_of_resuming("HeadFirstCallback", args, torch.optim.AdamW([parameter]))


def test_a_second_training_begins_anew(tmp_path):
    path, model = Moves(), tiny_bert()
    args = training_arguments(tmp_path)
    callbacks = [path, HeadFirstCallback(2)]
    trainer = Trainer(model, args, train_dataset=Rows(), callbacks=callbacks)
    for _ in range(2):
        path.moved.clear()
        trainer.train()
        assert_learns_as(path, model, {4: 1} | dict.fromkeys(range(4), 3))


class BreaksOff(TrainerCallback):
    """Ends a run with an exception, once."""

    def __init__(self, step, error):
        self.step, self.error = step, error

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if self.error is not None and state.global_step + 1 == self.step:
            error, self.error = self.error, None
            raise error


def test_a_larger_batch_than_fits_is_tried_again_with_everything_trainable(tmp_path):
    path = Moves()
    broken = BreaksOff(2, RuntimeError("CUDA out of memory."))
    callbacks = [path, broken, GradualUnfreezingCallback(8)]
    trainer = train(tmp_path, *callbacks, auto_find_batch_size=True, max_steps=10)
    assert trainer._train_batch_size < 8
    assert_learns_as(path, trainer.model, {4: 1, 3: 3, 2: 5, 1: 7, 0: 9})
    assert trainable(trainer.model) == trainable(tiny_bert())


def test_a_run_that_was_broken_off_leaves_nothing_frozen_for_its_trainer(tmp_path):
    path, model = Moves(), tiny_bert()
    args = training_arguments(tmp_path)
    callbacks = [path, HeadFirstCallback(4), BreaksOff(3, KeyboardInterrupt())]
    trainer = Trainer(model, args, train_dataset=Rows(), callbacks=callbacks)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.train()
    assert_learns_as(path, model, {4: 1} | dict.fromkeys(range(4), 5))


def test_a_new_trainer_that_would_never_train_the_body_is_refused(tmp_path):
    model = tiny_bert()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, HeadFirstCallback(4), BreaksOff(3, KeyboardInterrupt()), model=model)
    with pytest.raises(ConfigurationError, match="trainable parameters are not in the optimizer"):
        train(tmp_path, HeadFirstCallback(4), model=model)
    assert trainable(model) == trainable(tiny_bert())
    train(tmp_path, HeadFirstCallback(4), model=model)


def test_options_are_read_again_when_a_run_begins(tmp_path):
    path, callback = Moves(), HeadFirstCallback(1)
    callback.read_options = lambda: {"duration": 3}
    trainer = train(tmp_path, callback, path)
    assert_learns_as(path, trainer.model, {4: 1} | dict.fromkeys(range(4), 4))


# ---- evaluation mode of what is frozen


class Modes(TrainerCallback):
    """Writes down which modules are in training mode in a step's backward pass."""

    def __init__(self):
        self.training: dict[int, set[str]] = {}

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        names = {name for name, module in model.named_modules() if module.training}
        self.training[state.global_step + 1] = names


def test_frozen_modules_rest_in_evaluation_mode_and_wake_with_their_stage(tmp_path):
    modes, model = Modes(), tiny_bert()
    everything = {name for name, _ in model.named_modules()}
    options = {"eval_strategy": "steps", "eval_steps": 1}
    args = training_arguments(tmp_path, **options)
    trainer = Trainer(
        model,
        args,
        train_dataset=Rows(),
        eval_dataset=Rows(8, seed=1),
        callbacks=[modes, GradualUnfreezingCallback(4, eval_mode=True)],
    )
    trainer.train()
    for step, first_frozen in {1: 3, 2: 2, 3: 1, 4: 0}.items():
        body = {f"bert.encoder.layer.{k}" for k in range(first_frozen)} | {"bert.embeddings"}
        resting = everything - modes.training[step]
        inside = {name for name in everything if name.startswith(tuple(f"{b}." for b in body))}
        # With the last block its container wakes; before that it is all frozen.
        container = {"bert.encoder", "bert.encoder.layer"} if step == 1 else set()
        assert resting == body | inside | container, step
    assert all(modes.training[step] == everything for step in (5, 8))


def test_without_it_everything_is_in_training_mode(tmp_path):
    modes = Modes()
    trainer = train(tmp_path, modes, GradualUnfreezingCallback(4))
    everything = {name for name, _ in trainer.model.named_modules()}
    assert all(names == everything for names in modes.training.values())


def test_a_dropout_between_frozen_layers_rests_and_that_of_the_head_does_not(tmp_path):
    modes, model = Modes(), tiny_gpt2()
    train(tmp_path, modes, HeadFirstCallback(4, eval_mode=True), model=model)
    assert "transformer.drop" not in modes.training[4]
    assert "transformer.drop" in modes.training[5]
    modes, bert = Modes(), tiny_bert()
    train(tmp_path, modes, HeadFirstCallback(4, eval_mode=True), model=bert)
    assert {"dropout", "classifier", "bert.pooler"} <= modes.training[1]


def test_a_run_that_ends_while_layers_rest_wakes_them(tmp_path):
    trainer = train(tmp_path, HeadFirstCallback(8, eval_mode=True))
    assert all(module.training for module in trainer.model.modules())
    assert "eval" not in vars(trainer.optimizer.optimizer)


def test_the_head_sees_the_body_without_dropout(tmp_path):
    losses = []
    for probability in (0.0, 0.5):
        model = tiny_bert(attention_probs_dropout_prob=probability)
        callback = HeadFirstCallback(1, eval_mode=True)
        trainer = train(tmp_path, callback, StopAt(1), model=model, logging_steps=1)
        losses.append(trainer.state.log_history[0]["loss"])
    assert losses[0] == losses[1]


class WithBatchNorm(nn.Module):
    """A body that ends in batch norm, and a head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(64, 8)
        self.norm = nn.BatchNorm1d(8)
        self.classifier = nn.Linear(8, 2)

    def forward(self, input_ids, attention_mask=None, labels=None):
        logits = self.classifier(self.norm(self.embedding(input_ids).mean(1)))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


@pytest.mark.parametrize("eval_mode", [True, False])
def test_statistics_of_a_frozen_batch_norm(tmp_path, eval_mode):
    model, depths = WithBatchNorm(), {"[en]*": "embeddings", "classifier.*": "head"}
    train(tmp_path, HeadFirstCallback(8, overrides=depths, eval_mode=eval_mode), model=model)
    is_untouched = bool((model.norm.running_mean == 0).all())
    assert is_untouched == eval_mode


# ---- other wrappings

# Its name from transformers 5.23 on, and the one before.
CHECKPOINTING = next(
    name
    for name in ("activation_checkpointing", "gradient_checkpointing")
    if name in transformers.TrainingArguments.__dataclass_fields__
)


def enable_checkpointing(model, **keywords):
    getattr(model, f"{CHECKPOINTING}_enable")(keywords or None)


# peft 0.21 asks transformers 5.23 for a property by its old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_adapters_are_frozen_and_freed_and_their_base_never_learns(tmp_path):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"])
    model = peft.get_peft_model(tiny_bert(), config)
    free, path = trainable(model), Moves()
    train(tmp_path, path, GradualUnfreezingCallback(4), model=model, weight_decay=0.1)
    assert trainable(model) == free
    assert all(moved <= free for moved in path.moved.values())
    blocks = {step: {n.split("layer.")[1][0] for n in m if "layer." in n}
              for step, m in path.moved.items()}  # fmt: skip
    assert [blocks[step] for step in (1, 2, 3, 4)] == [set(), {"2"}, {"2", "1"}, {"2", "1", "0"}]
    assert any("modules_to_save" in name for name in path.moved[1])


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing(tmp_path, use_reentrant):
    options = {
        CHECKPOINTING: True,
        f"{CHECKPOINTING}_kwargs": {"use_reentrant": use_reentrant},
    }
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    plain = train(tmp_path, GradualUnfreezingCallback(6), model=tiny_bert(**no_dropout))
    path, model = Moves(), tiny_bert(**no_dropout)
    train(tmp_path, path, GradualUnfreezingCallback(6), model=model, **options)
    assert_learns_as(path, model, {4: 1, 3: 2, 2: 4, 1: 5, 0: 7})
    assert same_weights(plain.model, model)


@pytest.mark.slow
def test_a_compiled_model(tmp_path):
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    path, model = Moves(), tiny_bert(**no_dropout)
    options = {"torch_compile": True, "torch_compile_backend": "aot_eager"}
    train(tmp_path, path, GradualUnfreezingCallback(6), model=model, **options)
    assert_learns_as(path, model, {4: 1, 3: 2, 2: 4, 1: 5, 0: 7})
    plain = train(tmp_path, GradualUnfreezingCallback(6), model=tiny_bert(**no_dropout))
    for name, parameter in plain.model.named_parameters():
        torch.testing.assert_close(parameter, dict(model.named_parameters())[name])


@pytest.mark.slow
def test_a_model_that_was_compiled_before(tmp_path):
    path, model = Moves(), torch.compile(tiny_bert(), backend="eager")
    callbacks = [path, HeadFirstCallback(1), StopAt(2)]
    # The Trainer reads the columns from a signature that such a model does not have.
    train(tmp_path, *callbacks, model=model, remove_unused_columns=False)
    layer_map = LayerMap.from_model(model)
    assert all(name.startswith("_orig_mod.") for name in path.moved[1])
    assert {layer_map.depth_of(name) for name in path.moved[1]} == {4}
    assert {layer_map.depth_of(name) for name in path.moved[2]} == {0, 1, 2, 3, 4}


# ---- refusals


@pytest.mark.parametrize("kind", [HeadFirstCallback, GradualUnfreezingCallback])
@pytest.mark.parametrize("duration", [-1, 1.5, True, "0.1", None, float("nan")])
def test_a_duration_that_means_no_step_is_refused(kind, duration):
    with pytest.raises(ConfigurationError, match="duration must be a share of the run"):
        kind(duration)


@pytest.mark.parametrize("kind", [HeadFirstCallback, GradualUnfreezingCallback])
def test_a_duration_longer_than_the_training_is_refused(tmp_path, kind):
    with pytest.raises(ConfigurationError, match=r"duration .* run's 8 optimizer steps, got 9"):
        train(tmp_path, kind(9))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks_per_stage": 0}, "blocks_per_stage must be a whole number of blocks from 1 up"),
        ({"blocks_per_stage": 1.0}, "blocks_per_stage must be a whole number of blocks"),
        ({"warmup_steps": -1}, "warmup_steps must be a whole number of optimizer steps from 0"),
        ({"eval_mode": "yes"}, "eval_mode must be True or False, got 'yes'"),
    ],
)
def test_options_out_of_range_are_refused_at_once(options, message):
    with pytest.raises(ConfigurationError, match=message):
        GradualUnfreezingCallback(4, **options)


@pytest.mark.parametrize("second", [GradualUnfreezingCallback(4), HeadFirstCallback(2)])
def test_two_ways_of_freezing_are_a_conflict(tmp_path, second):
    model = tiny_bert()
    with pytest.raises(ConfigurationError, match="one owner of what is frozen per run, got Head"):
        train(tmp_path, HeadFirstCallback(4), second, model=model)
    assert trainable(model) == trainable(tiny_bert())


def test_a_head_in_which_nothing_is_trainable_is_refused(tmp_path):
    model = tiny_bert()
    model.classifier.requires_grad_(False)
    model.bert.pooler.requires_grad_(False)
    with pytest.raises(ConfigurationError, match="the head of BertForSequenceClassification has"):
        train(tmp_path, HeadFirstCallback(4), model=model)


def test_deepspeed_is_refused(tmp_path, monkeypatch):
    trainer = Trainer(tiny_bert(), training_arguments(tmp_path), train_dataset=Rows())
    monkeypatch.setattr(trainer.args, "deepspeed_plugin", object())
    with pytest.raises(ConfigurationError, match=r"GradualUnf\w+ cannot .* DeepSpeed ZeRO"):
        begin(GradualUnfreezingCallback(4), trainer)


def begin(callback, trainer):
    """What the Trainer does when training begins, without a second process."""
    trainer.create_optimizer()
    state = transformers.TrainerState(max_steps=8)
    given = {"model": trainer.model, "optimizer": trainer.optimizer, "lr_scheduler": None}
    callback.on_train_begin(trainer.args, state, trainer.control, **given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ddp_find_unused_parameters": False}, "needs ddp_find_unused_parameters=True.*got False"),
        ({CHECKPOINTING: True}, "=True.*got None with gradient checkpointing"),
        ({"auto_find_batch_size": True}, "auto_find_batch_size=True in several processes"),
        ({"ddp_find_unused_parameters": True, CHECKPOINTING: True}, None),
        ({}, None),
    ],
)
def test_what_several_processes_must_be_told(tmp_path, monkeypatch, options, message):
    args = training_arguments(tmp_path, **options)
    distributed = property(lambda _: transformers.training_args.ParallelMode.DISTRIBUTED)
    monkeypatch.setattr(transformers.TrainingArguments, "parallel_mode", distributed)
    model = tiny_bert()
    if CHECKPOINTING in options:
        enable_checkpointing(model)
    trainer = Trainer(model, args, train_dataset=Rows())
    if message is None:
        begin(HeadFirstCallback(4), trainer)
    else:
        with pytest.raises(ConfigurationError, match=message):
            begin(HeadFirstCallback(4), trainer)


class FullyShardedDataParallel(nn.Module):
    """The name by which FSDP version 1 is known, over a plain module."""

    def __init__(self, module):
        super().__init__()
        self.module = module


def test_fsdp_1_is_refused(tmp_path):
    trainer = Trainer(tiny_bert(), training_arguments(tmp_path), train_dataset=Rows())
    trainer.create_optimizer()
    trainer.model.bert.encoder = FullyShardedDataParallel(trainer.model.bert.encoder)
    with pytest.raises(ConfigurationError, match=r"FSDP version 1.*set version: 2"):
        begin(HeadFirstCallback(4), trainer)


def test_checkpointing_that_would_cut_off_the_gradients_is_refused(tmp_path):
    model = transformers.ViTForImageClassification(
        transformers.ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            image_size=8,
            patch_size=4,
        )
    )
    enable_checkpointing(model, use_reentrant=True)
    trainer = Trainer(model, training_arguments(tmp_path), train_dataset=Rows())
    with pytest.raises(ConfigurationError, match=f'set {CHECKPOINTING}_kwargs={{"use_re'):
        begin(GradualUnfreezingCallback(4), trainer)


def test_a_language_model_whose_head_is_tied_trains_what_it_has(tmp_path):
    torch.manual_seed(0)
    model = transformers.BertForMaskedLM(transformers.BertConfig(**SIZES))
    before = copy.deepcopy(model)
    trainer = Trainer(model, training_arguments(tmp_path), train_dataset=MaskedRows(),
                      callbacks=[HeadFirstCallback(8)])  # fmt: skip
    trainer.train()
    old = dict(before.named_parameters())
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, old[n])}
    assert moved == {name for name in old if name.startswith("cls.")}


class MaskedRows(Rows):
    """Rows whose labels are their tokens."""

    def __getitem__(self, index):
        return {**super().__getitem__(index), "labels": self.input_ids[index]}
