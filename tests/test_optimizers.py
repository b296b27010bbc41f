"""Optimizers in the real Trainer: neutral bit for bit, effective, resumable, or refused."""

from __future__ import annotations

import copy
import inspect
import sys
import types

import pytest
import torch
import transformers.trainer_optimizer as table
from torch import nn
from transformers import Trainer
from transformers.trainer_utils import HPSearchBackend
from transformers.training_args import OptimizerNames

from hf_stabilizer import (
    ConfigurationError,
    LayerMap,
    ResumeError,
    cosine_rates,
    create_cosine_lr_optimizer,
    create_grouped_llrd_optimizer,
    create_llrd_optimizer,
    create_scheduler,
    grouped_rates,
    layered_optimizer,
    layerwise_decay,
)
from hf_stabilizer.optimizers import _keep_embeddings_in_32_bits, curve_from_arguments
from hf_stabilizer.parameter_groups import check_coverage
from tests import reference
from tests.tiny import Rows, same_weights, tiny_bert, training_arguments


def trained(args, *, model=None, resume=None, **options):
    model = tiny_bert() if model is None else model
    trainer = Trainer(model=model, args=args, train_dataset=Rows(), **options)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def rates(trainer):
    return {group["name"]: group["initial_lr"] for group in trainer.optimizer.param_groups}


# --- neutral -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optim", ["adamw_torch", "adamw_torch_fused", "sgd", "adagrad", "rmsprop", "adafactor"]
)
def test_equal_rates_are_the_plain_trainer_bit_for_bit(optim, tmp_path):
    args = training_arguments(tmp_path, optim=optim, weight_decay=0.1, warmup_steps=2)
    plain = trained(args)
    layered = trained(args, optimizer_cls_and_kwargs=layered_optimizer(args, layerwise_decay(1.0)))
    assert len(layered.optimizer.param_groups) == 10
    assert same_weights(plain.model, layered.model)
    assert not same_weights(plain.model, tiny_bert())


@pytest.mark.parametrize("curve", [grouped_rates([1.0, 1.0]), cosine_rates(1.0)])
def test_the_other_curves_have_a_neutral_setting_too(curve, tmp_path):
    args = training_arguments(tmp_path, num_train_epochs=1)
    layered = trained(args, optimizer_cls_and_kwargs=layered_optimizer(args, curve))
    assert same_weights(trained(args).model, layered.model)


def test_neutral_with_optim_args_and_clipping(tmp_path):
    args = training_arguments(
        tmp_path, optim="sgd", optim_args="momentum=0.9,nesterov=true", max_grad_norm=0.1
    )
    layered = trained(args, optimizer_cls_and_kwargs=layered_optimizer(args, layerwise_decay(1.0)))
    assert layered.optimizer.param_groups[0]["momentum"] == 0.9
    assert same_weights(trained(args).model, layered.model)


def test_neutral_as_a_script_builds_it(tmp_path):
    args = training_arguments(tmp_path, lr_scheduler_type="cosine", warmup_steps=0.2)
    model = tiny_bert()
    optimizer = create_llrd_optimizer(model, args, decay=1.0)
    schedule = create_scheduler(optimizer, args, 8)
    scripted = trained(args, model=model, optimizers=(optimizer, schedule))
    assert same_weights(trained(args).model, scripted.model)


# --- effective -----------------------------------------------------------------------------------


def test_one_step_of_each_layer_by_hand(tmp_path):
    args = training_arguments(tmp_path, optim="sgd", weight_decay=0.0, learning_rate=0.1)
    model = tiny_bert()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = create_llrd_optimizer(model, args, decay=0.5, head_learning_rate=0.3)
    model(**{name: rows[None] for name, rows in Rows()[0].items()}).loss.backward()
    optimizer.step()
    layer_map = LayerMap.from_model(model)
    for name, parameter in model.named_parameters():
        depth = layer_map.depth_of(name)
        rate = 0.3 if depth == 4 else 0.1 * reference.layerwise_multiplier(depth, 3, 0.5)
        torch.testing.assert_close(parameter.data, before[name] - rate * parameter.grad)


def test_a_multiplier_of_zero_leaves_a_layer_bit_equal(tmp_path):
    args = training_arguments(tmp_path, weight_decay=0.1)
    layered = trained(args, optimizer_cls_and_kwargs=layered_optimizer(args, cosine_rates(0.0)))
    start, end = tiny_bert().bert, layered.model.bert
    assert same_weights(start.embeddings, end.embeddings)
    assert not same_weights(start.encoder.layer[0], end.encoder.layer[0])


def test_the_named_optimizers_have_the_rates_of_their_curves(tmp_path):
    args, model = training_arguments(tmp_path, learning_rate=1.0), tiny_bert()

    def of_layers(optimizer):
        return {g["name"]: g["lr"] for g in optimizer.param_groups if "decay" not in g["name"]}

    assert of_layers(create_llrd_optimizer(model, args))["layer_01"] == pytest.approx(0.81)
    grouped = create_grouped_llrd_optimizer(model, args, multipliers=[0.2, 2.0])
    assert of_layers(grouped) == {
        "layer_03": 2.0,
        "head": 1.0,
        "layer_02": 2.0,
        "layer_01": 0.2,
        "embeddings": 0.2,
    }
    cosine = create_cosine_lr_optimizer(model, args, lowest=0.2, head_learning_rate=3.0)
    assert of_layers(cosine) == pytest.approx(
        {"layer_03": 1.0, "head": 3.0, "layer_02": 0.8, "layer_01": 0.4, "embeddings": 0.2}
    )


def test_the_trainers_log_shows_the_top_blocks_rate(tmp_path):
    args = training_arguments(tmp_path, logging_steps=1, lr_scheduler_type="constant")
    curve = layerwise_decay(0.5)
    layered = trained(args, optimizer_cls_and_kwargs=layered_optimizer(args, curve))
    logged = [log["learning_rate"] for log in layered.state.log_history if "learning_rate" in log]
    assert logged == [1e-3] * 8


# --- the socket: one tuple, any number of runs ---------------------------------------------------


def test_one_tuple_serves_many_runs_and_can_be_copied(tmp_path):
    args = training_arguments(tmp_path)
    socket = layered_optimizer(args, layerwise_decay(0.8))
    first = trained(args, optimizer_cls_and_kwargs=socket)
    again = trained(args, optimizer_cls_and_kwargs=socket)
    copied = trained(args, optimizer_cls_and_kwargs=copy.deepcopy(socket))
    assert same_weights(first.model, again.model)
    assert same_weights(first.model, copied.model)
    assert not {"params", "model", "optimizer_dict"} & socket[1].keys()


def test_with_model_init_and_a_second_run_of_one_trainer(tmp_path):
    args = training_arguments(tmp_path)

    def runs(**options):
        trainer = Trainer(
            model_init=lambda: tiny_bert(), args=args, train_dataset=Rows(), **options
        )
        for _ in range(2):
            trainer.train()
            yield trainer.model

    neutral = layered_optimizer(args, layerwise_decay(1.0))
    plain, layered = [*runs()], [*runs(optimizer_cls_and_kwargs=neutral)]
    assert same_weights(plain[0], layered[0])
    assert same_weights(plain[1], layered[1])


def test_each_trial_of_a_hyperparameter_search_has_its_own_values(tmp_path):
    args = training_arguments(tmp_path)
    trainer = Trainer(
        model_init=lambda: tiny_bert(),
        args=args,
        train_dataset=Rows(),
        optimizer_cls_and_kwargs=layered_optimizer(args, layerwise_decay(0.5)),
    )
    trainer.hp_search_backend = HPSearchBackend.RAY  # whose trials are plain dicts
    found = []
    for learning_rate in (1e-3, 4e-3):
        # What the search does before each trial; the backends themselves are not installed.
        trainer._hp_search_setup({"learning_rate": learning_rate, "weight_decay": learning_rate})
        trainer.train()
        found.append((rates(trainer)["layer_02"], trainer.optimizer.param_groups[0]))
    assert [rate for rate, _ in found] == [5e-4, 2e-3]
    assert [group["weight_decay"] for _, group in found] == [1e-3, 4e-3]


def test_without_a_curve_all_is_read_from_the_arguments_when_it_is_made(tmp_path):
    args = training_arguments(tmp_path, num_train_epochs=1)
    socket = layered_optimizer(args)
    assert rates(trained(args, optimizer_cls_and_kwargs=socket))["embeddings"] == 1e-3
    args.layer_lr, args.layer_lr_decay, args.head_learning_rate = "llrd", 0.5, 2e-3
    args.layer_overrides = {"bert.pooler.*": 1}
    layered = trained(args, optimizer_cls_and_kwargs=socket)
    assert rates(layered)["embeddings"] == 1.25e-4
    assert rates(layered)["head"] == 2e-3
    pooler = layered.model.bert.pooler.dense.weight
    [place] = [
        g["name"] for g in layered.optimizer.param_groups for p in g["params"] if p is pooler
    ]
    assert place == "layer_01"


def test_base_batch_size_reaches_the_default_rate_that_floors_are_read_against(tmp_path):
    args = training_arguments(
        tmp_path, lr_scheduler_type="polynomial", lr_scheduler_kwargs={"lr_end": 1e-4}
    )
    args.base_batch_size = 4
    layered = trained(args, optimizer_cls_and_kwargs=layered_optimizer(args, layerwise_decay(0.5)))
    assert rates(layered)["layer_03"] == 2e-3
    last = {group["name"]: group["lr"] for group in layered.optimizer.param_groups}
    assert last["layer_03"] == pytest.approx(1e-4)
    assert last["layer_02"] == pytest.approx(5e-5)


@pytest.mark.parametrize(
    ("options", "curve"),
    [
        ({}, layerwise_decay(1.0)),
        ({"layer_lr": "uniform"}, layerwise_decay(1.0)),
        ({"layer_lr": "llrd"}, layerwise_decay(0.9)),
        ({"layer_lr": "llrd", "layer_lr_decay": 0.7}, layerwise_decay(0.7)),
        ({"layer_lr": "grouped", "layer_lr_multipliers": [0.5, 1]}, grouped_rates([0.5, 1])),
        ({"layer_lr": "cosine"}, cosine_rates(0.1)),
        ({"layer_lr": "cosine", "layer_lr_lowest": 0.4}, cosine_rates(0.4)),
    ],
)
def test_the_curve_that_arguments_describe(options, curve, tmp_path):
    args = training_arguments(tmp_path)
    vars(args).update(options)
    described = curve_from_arguments(args)
    assert [described(k, 5) for k in range(6)] == [curve(k, 5) for k in range(6)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer_lr": "llrd", "layer_lr_decay": 1.2}, r"^layer_lr_decay must be in \(0, 1\]"),
        ({"layer_lr": "grouped"}, "^layer_lr_multipliers must be a list"),
        ({"layer_lr": "cosine", "layer_lr_lowest": 2}, r"^layer_lr_lowest must be in \[0, 1\]"),
    ],
)
def test_arguments_out_of_range_are_named(options, message, tmp_path):
    args = training_arguments(tmp_path)
    vars(args).update(options)
    with pytest.raises(ConfigurationError, match=message):
        curve_from_arguments(args)


# --- resuming ------------------------------------------------------------------------------------


def saving(tmp_path, **options):
    return training_arguments(
        tmp_path, save_strategy="steps", save_steps=3, lr_scheduler_type="cosine", **options
    )


@pytest.mark.parametrize("optim", ["adamw_torch", "adafactor"])
def test_stop_and_resume_equals_one_straight_run(optim, tmp_path):
    args = saving(tmp_path, optim=optim)
    socket = layered_optimizer(args, layerwise_decay(0.8), head_learning_rate=2e-3)
    straight = trained(args, optimizer_cls_and_kwargs=socket)
    resumed = trained(
        args,
        model=tiny_bert(seed=9),
        optimizer_cls_and_kwargs=socket,
        resume=str(tmp_path / "checkpoint-3"),
    )
    assert same_weights(straight.model, resumed.model)
    assert rates(resumed) == rates(straight)


def test_a_checkpoint_of_swapped_layers_is_refused(tmp_path):
    args, curve = saving(tmp_path), layerwise_decay(0.8)
    trained(args, optimizer_cls_and_kwargs=layered_optimizer(args, curve))
    # As many tensors of the same shapes in every group: torch alone would load it.
    swapped = {"*encoder.layer.0.*": 2, "*encoder.layer.1.*": 1}
    with pytest.raises(ResumeError, match=r"(?s)other groups.*-layer_02: bert.encoder.layer.1"):
        trained(
            args,
            optimizer_cls_and_kwargs=layered_optimizer(args, curve, overrides=swapped),
            resume=str(tmp_path / "checkpoint-3"),
        )


# What torch.compile imports calls a function that torch itself has deprecated.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
def test_the_optimizer_of_a_compiled_model_fits_the_plain_one(tmp_path):
    args, model = training_arguments(tmp_path), tiny_bert()
    state = create_llrd_optimizer(torch.compile(model), args).state_dict()
    create_llrd_optimizer(model, args).load_state_dict(state)
    assert state["param_groups"][0]["param_names"][0].startswith("bert.encoder.layer.2.")


@pytest.mark.parametrize("change", ["frozen", "plain checkpoint"])
def test_a_checkpoint_of_other_parameters_is_refused(change, tmp_path):
    args, model = saving(tmp_path), tiny_bert()
    socket = layered_optimizer(args, layerwise_decay(0.8))
    trained(args, optimizer_cls_and_kwargs=socket if change == "frozen" else None)
    model.bert.embeddings.requires_grad_(change != "frozen")
    with pytest.raises(ResumeError, match="resume with the options that it was saved with"):
        trained(
            args,
            model=model,
            optimizer_cls_and_kwargs=socket,
            resume=str(tmp_path / "checkpoint-3"),
        )


def test_the_check_at_the_first_step_lets_the_hooks_of_others_be(tmp_path):
    optimizer = create_llrd_optimizer(tiny_bert(), training_arguments(tmp_path))
    heard = []
    optimizer.register_step_pre_hook(lambda *_: heard.append("step"))
    optimizer.step()
    optimizer.step()
    assert heard == ["step", "step"]


def test_what_is_unfrozen_after_the_optimizer_was_made_is_missed_at_the_first_step(tmp_path):
    model, args = tiny_bert(), training_arguments(tmp_path)
    model.bert.pooler.requires_grad_(False)
    optimizer = create_llrd_optimizer(model, args)
    model.bert.pooler.requires_grad_(True)
    with pytest.raises(ConfigurationError, match=r"2 .* in no group .* 'bert.pooler.dense.weight'"):
        trained(args, model=model, optimizers=(optimizer, None))


def test_an_optimizer_that_holds_a_parameter_twice_is_refused():
    model = tiny_bert()
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD([{"params": parameters}], lr=0.1)
    optimizer.param_groups.append({**optimizer.param_groups[0], "params": parameters[:1]})
    with pytest.raises(ConfigurationError, match=r"in it twice, .*word_embeddings.weight' first"):
        check_coverage(model, optimizer)


def test_other_rates_than_the_checkpoints_are_told(tmp_path):
    args = saving(tmp_path)
    trained(args, optimizer_cls_and_kwargs=layered_optimizer(args, layerwise_decay(0.8)))
    with pytest.warns(UserWarning, match="made with other learning rates for layer_02,"):
        resumed = trained(
            args,
            optimizer_cls_and_kwargs=layered_optimizer(args, layerwise_decay(0.5)),
            resume=str(tmp_path / "checkpoint-3"),
        )
    assert rates(resumed)["layer_02"] == 8e-4


# --- refusals ------------------------------------------------------------------------------------


def brings_its_own_groups(name):
    """What the Trainer's own table shows: the optimizer's handler looks at the model."""
    handler = table._OPTIMIZER_HANDLERS[name]
    return "ctx.model" in inspect.getsource(handler)


@pytest.mark.parametrize("name", [name.value for name in OptimizerNames])
def test_exactly_the_optimizers_with_groups_of_their_own_are_refused(name, tmp_path):
    args = training_arguments(tmp_path, optim=name, optim_target_modules="all-linear")
    if brings_its_own_groups(name):
        with pytest.raises(ConfigurationError, match=f"optim='{name}' makes parameter groups"):
            layered_optimizer(args, layerwise_decay(0.9))
        with pytest.raises(ConfigurationError, match=f"optim='{name}' makes parameter groups"):
            create_llrd_optimizer(tiny_bert(), args)
    else:
        layered_optimizer(args, layerwise_decay(0.9))


def test_an_optimizer_that_is_a_factory_is_refused(tmp_path, monkeypatch):
    args = training_arguments(tmp_path)
    handlers = table._OPTIMIZER_HANDLERS
    monkeypatch.setitem(handlers, "adamw_torch", lambda context: (lambda: None, {}))
    args.optim = "adamw_torch"
    with pytest.raises(ConfigurationError, match="optim='adamw_torch' makes parameter groups"):
        create_llrd_optimizer(tiny_bert(), args)


@pytest.mark.parametrize("section", ["optimizer", "scheduler"])
def test_a_deepspeed_configuration_with_its_own_is_refused(section, tmp_path):
    args = training_arguments(tmp_path)
    # DeepSpeed is not installed here; this attribute is what its plugin would have.
    args.deepspeed_plugin = types.SimpleNamespace(deepspeed_config={section: {"type": "auto"}})
    with pytest.raises(ConfigurationError, match=f"has a section '{section}'.* remove"):
        layered_optimizer(args, layerwise_decay(0.9))


def test_flattened_parameters_are_refused(tmp_path):
    args = training_arguments(tmp_path)
    args.fsdp, args.fsdp_config = True, {"version": 1, "use_orig_params": "false"}
    with pytest.raises(ConfigurationError, match="use_orig_params=False, which flattens"):
        layered_optimizer(args, layerwise_decay(0.9))


def test_the_socket_refuses_at_the_door(tmp_path):
    args = training_arguments(tmp_path)
    with pytest.raises(ConfigurationError, match="curve must be a function"):
        layered_optimizer(args, 0.9)
    with pytest.raises(ConfigurationError, match=r"head_learning_rate must be .* got -1"):
        layered_optimizer(args, layerwise_decay(0.9), head_learning_rate=-1)
    args.lr_scheduler_type = "greedy"
    with pytest.raises(ConfigurationError, match="lr_scheduler_type='greedy'"):
        layered_optimizer(args, layerwise_decay(0.9))


def test_embeddings_stay_in_32_bits_under_8_bit_optimizers(monkeypatch):
    # bitsandbytes needs a GPU build; the stand-in records what it would be told.
    told = []
    manager = types.SimpleNamespace(register_module_override=lambda *call: told.append(call))
    module = types.ModuleType("bitsandbytes.optim")
    module.GlobalOptimManager = types.SimpleNamespace(get_instance=lambda: manager)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", module)
    model = tiny_bert()
    _keep_embeddings_in_32_bits(model)
    embeddings = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    assert told == [(m, "weight", {"optim_bits": 32}) for m in embeddings]
