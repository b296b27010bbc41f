"""All remedies as fields of one TrainingArguments: neutral, effective, refused, parsed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import HfArgumentParser, Trainer

from hf_stabilizer import GradualUnfreezingCallback, SWACallback
from hf_stabilizer.argument_checks import OWNERS
from hf_stabilizer.arguments import StabilizerArguments, prepare_model, stabilize
from hf_stabilizer.errors import ConfigurationError
from tests.tiny import TRAINING, Rows, same_weights, tiny_bert, training_arguments


def arguments(folder: Path, **options: Any) -> StabilizerArguments:
    return StabilizerArguments(output_dir=str(folder), **{**TRAINING, **options})


def trained(folder: Path, **options: Any) -> torch.nn.Module:
    args = arguments(folder, **options)
    rows = Rows()
    model = prepare_model(
        tiny_bert(), args, train_dataset=rows, data_collator=torch.utils.data.default_collate
    )
    Trainer(model, args, train_dataset=rows, eval_dataset=rows, **stabilize(args)).train()
    return model


def test_neutral_default_values_equal_the_plain_trainer(tmp_path: Path) -> None:
    plain = tiny_bert()
    Trainer(plain, training_arguments(tmp_path / "a"), train_dataset=Rows()).train()
    assert same_weights(plain, trained(tmp_path / "b"))


def test_neutral_default_values_leave_the_model_untouched(tmp_path: Path) -> None:
    model = tiny_bert()
    before = copy.deepcopy(model)
    assert prepare_model(model, arguments(tmp_path)) is model
    assert same_weights(model, before)
    assert stabilize(arguments(tmp_path)) == {"callbacks": []}


@pytest.mark.parametrize(
    "options",
    [
        {"layer_lr": "llrd", "layer_lr_decay": 0.5},
        {"layer_lr": "grouped", "layer_lr_multipliers": [0.1, 0.5, 1.0]},
        {"layer_lr": "cosine", "layer_lr_lowest": 0.1},
        {"head_learning_rate": 5e-3},
        {"base_batch_size": 16},
        {"reinit_layers": 1},
        {"reinit_pooler": "identity"},
        {"reinit_pooler": True},
        {"head_seed": 3},
        {"freeze_embeddings": True, "freeze_layers": 1},
        {"fit_head": True},
        {"averaging": "swa", "averaging_start": 0.5},
        {"averaging": "swa", "averaging_start": 0.5, "swa_learning_rate": 1e-4},
        {"averaging": "ema", "ema_decay": 0.5},
    ],
    ids=lambda options: "-".join(options),
)
def test_effective_every_option_changes_the_result(tmp_path: Path, options: dict[str, Any]) -> None:
    assert not same_weights(trained(tmp_path / "a"), trained(tmp_path / "b", **options))


@pytest.mark.parametrize("options", [{"evaluations_per_epoch": 3}, {"isolate_evaluations": True}])
def test_neutral_looking_changes_nothing(tmp_path: Path, options: dict[str, Any]) -> None:
    assert same_weights(trained(tmp_path / "a"), trained(tmp_path / "b", **options))


def test_everything_at_once_trains(tmp_path: Path) -> None:
    trained(
        tmp_path,
        layer_lr="llrd",
        head_learning_rate=2e-3,
        base_batch_size=16,
        reinit_layers=1,
        reinit_pooler="identity",
        head_seed=1,
        fit_head=True,
        fit_head_scale=0.5,
        averaging="swa",
        averaging_start=0.5,
        swa_learning_rate=1e-4,
        evaluations_per_epoch=2,
    )


def test_the_head_seed_alone_decides_the_head(tmp_path: Path) -> None:
    args = arguments(tmp_path, head_seed=3)
    one, two = (prepare_model(tiny_bert(seed), args) for seed in (0, 1))
    assert torch.equal(one.classifier.weight, two.classifier.weight)


def test_auto_pooler_is_the_identity_where_it_can_be(tmp_path: Path) -> None:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    model = prepare_model(tiny_bert(), arguments(tmp_path, reinit_pooler="auto"))
    assert torch.equal(model.bert.pooler.dense.weight, torch.eye(16))
    other = DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=64, dim=16, n_layers=2, n_heads=2, hidden_dim=24)
    )
    before = copy.deepcopy(other)
    assert same_weights(prepare_model(other, arguments(tmp_path, reinit_pooler="auto")), before)


@pytest.mark.parametrize("name", sorted(OWNERS))
def test_refusal_an_option_without_its_owner(tmp_path: Path, name: str) -> None:
    values = {"layer_lr_multipliers": [1.0], "ema_warmup": True, "swa_keep_ratios": True}
    value = {**values, "swa_anneal": "linear", "averaging_every": 1, "swa_anneal_steps": 2}.get(
        name, 0.5
    )
    with pytest.raises(ConfigurationError, match=f"{name}=.* has no effect with .*; set "):
        arguments(tmp_path, **{name: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer_lr": "lrrd"}, "layer_lr must be one of uniform, llrd.*did you mean llrd"),
        ({"averaging": "SWA"}, "averaging must be one of none, swa, ema, got 'SWA'"),
        ({"layer_lr": "llrd", "layer_lr_decay": 1.2}, "1.2"),
        ({"layer_lr": "grouped"}, "needs layer_lr_multipliers"),
        ({"reinit_layers": -1}, "reinit_layers must be a whole number from 0 up, got -1"),
        ({"head_learning_rate": 0.0}, "head_learning_rate must be a finite number above 0"),
        ({"head_learning_rate": float("inf")}, "head_learning_rate must be .* above 0, got inf"),
        ({"head_learning_rate": "1e-3"}, "head_learning_rate must be .*, got '1e-3'"),
        ({"learning_rate": "1e-3"}, "learning_rate must be .*, got '1e-3'"),
        ({"fit_head": "no"}, "fit_head must be True or False, got 'no'"),
        ({"averaging": "ema", "ema_warmup": "no"}, "ema_warmup must be True or False, got 'no'"),
        ({"learning_rate": -1e-5}, "learning_rate must be"),
        ({"learning_rate": float("nan")}, "learning_rate must be"),
        ({"averaging": "swa", "averaging_start": 1.5}, "averaging_start must be .* got 1.5"),
        ({"averaging": "ema", "ema_decay": 1.5}, "ema_decay must be in .* got 1.5"),
        ({"seed": -1}, "seed must be a whole number .* got -1"),
        ({"head_seed": 2**32}, "head_seed must be a whole number .* got 4294967296"),
        ({"averaging": "swa", "swa_anneal_steps": 3}, "without swa_learning_rate"),
        (
            {"averaging": "swa", "swa_learning_rate": 1e-4, "swa_anneal_steps": -1},
            "^swa_anneal_steps must be .* got -1",
        ),
        ({"averaging": None}, "averaging must be one of none, swa, ema, got None"),
        ({"divergence_guard": None}, "divergence_guard must be one of off.* got None"),
    ],
    ids=str,
)
def test_refusal_values_that_cannot_be_right(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        arguments(tmp_path, **options)


@pytest.mark.parametrize("name", ["reinit_layers", "freeze_layers"])
def test_refusal_more_layers_than_there_are_names_the_option(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"{name} must be .* in \[0, 3\].* got 20"):
        prepare_model(tiny_bert(), arguments(tmp_path, **{name: 20}))


def test_effective_overrides_hold_for_what_is_done_before_training(tmp_path: Path) -> None:
    overrides = {"bert.encoder.layer.0.*": "head"}
    args = arguments(tmp_path, freeze_layers=1, layer_overrides=overrides)
    assert all(p.requires_grad for p in prepare_model(tiny_bert(), args).parameters())


def test_refusal_fit_head_without_rows(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="fit_head=True needs the training rows"):
        prepare_model(tiny_bert(), arguments(tmp_path, fit_head=True))


def test_refusal_the_same_thing_twice(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="averaging and the callback SWACallback"):
        stabilize(arguments(tmp_path, averaging="ema"), [SWACallback()])


def test_options_that_a_search_changes_are_read_when_the_next_run_begins(tmp_path: Path) -> None:
    args = arguments(tmp_path, averaging="swa", averaging_start=1, swa_learning_rate=1e-4)
    plugs = stabilize(args)
    args.averaging_start, args.swa_learning_rate = 6, 1e-2  # what the Trainer does for a trial
    searched = tiny_bert()
    Trainer(searched, args, train_dataset=Rows(), **plugs).train()
    straight = trained(tmp_path, averaging="swa", averaging_start=6, swa_learning_rate=1e-2)
    assert same_weights(searched, straight)


def test_refusal_another_averaging_than_the_callbacks_were_made_with(tmp_path: Path) -> None:
    args = arguments(tmp_path, averaging="swa")
    trainer = Trainer(tiny_bert(), args, train_dataset=Rows(), **stabilize(args))
    args.averaging = "ema"
    with pytest.raises(ConfigurationError, match=r"averaging='ema' came too late.*stabilize"):
        trainer.train()


@pytest.mark.parametrize(
    "late",
    [
        {"averaging": "ema"},
        {"layer_lr": "llrd"},
        {"head_learning_rate": 1e-2},
        {"base_batch_size": 16},
        {"head_first": 0.5},
        {"evaluations_per_epoch": 2},
        {"divergence_guard": "stop"},
        {"log_layer_statistics": True},
    ],
    ids=str,
)
def test_refusal_an_option_that_a_search_turns_on_when_nothing_was_made_for_it(
    tmp_path: Path, late: dict[str, Any]
) -> None:
    args = arguments(tmp_path)
    trainer = Trainer(tiny_bert(), args, train_dataset=Rows(), **stabilize(args))
    ((name, value),) = late.items()
    setattr(args, name, value)  # what the Trainer does for a trial
    with pytest.raises(ConfigurationError, match=f"{name}={value!r} came too late.*stabilize"):
        trainer.train()


def test_options_that_a_search_turns_off_or_adds_to_rates_are_read(tmp_path: Path) -> None:
    args = arguments(tmp_path, head_first=0.5, head_learning_rate=1e-2)
    plugs = stabilize(args)
    args.head_first, args.layer_lr = 0, "llrd"
    searched = tiny_bert()
    Trainer(searched, args, train_dataset=Rows(), **plugs).train()
    straight = trained(tmp_path, layer_lr="llrd", head_learning_rate=1e-2)
    assert same_weights(searched, straight)


def test_refusal_the_arguments_of_a_plain_trainer(tmp_path: Path) -> None:
    args: Any = training_arguments(tmp_path)
    for use in (stabilize, lambda plain: prepare_model(tiny_bert(), plain)):
        with pytest.raises(ConfigurationError, match="must be StabilizerArguments, got TrainingAr"):
            use(args)


def test_own_callbacks_come_first(tmp_path: Path) -> None:
    from transformers import EarlyStoppingCallback

    own = EarlyStoppingCallback()
    callbacks = stabilize(arguments(tmp_path, averaging="ema"), [own])["callbacks"]
    assert callbacks[0] is own
    assert len(callbacks) == 2


def test_parsed_from_a_command_line(tmp_path: Path) -> None:
    parser = HfArgumentParser(StabilizerArguments)
    (args,) = parser.parse_args_into_dataclasses(
        f"--output_dir {tmp_path} --layer_lr grouped --layer_lr_multipliers 0.1 1.0 "
        '--reinit_layers 2 --reinit_pooler identity --fit_head --layer_overrides {"*.x":1}'.split()
    )
    assert args.layer_lr_multipliers == [0.1, 1.0]
    assert (args.reinit_layers, args.reinit_pooler, args.fit_head) == (2, "identity", True)
    assert args.layer_overrides == {"*.x": 1}


def test_two_owners_of_the_rate_are_a_conflict_before_training(tmp_path):
    rates = {"averaging": "swa", "swa_learning_rate": 1e-4, "stage_warmup_steps": 2}
    with pytest.raises(ConfigurationError, match=r"swa_learning_rate=0\.0001 and stage_warmup"):
        arguments(tmp_path, gradual_unfreezing=0.5, **rates)


def test_an_option_that_freezes_and_a_callback_that_freezes_are_a_conflict(tmp_path):
    args = arguments(tmp_path, head_first=0.5)
    with pytest.raises(ConfigurationError, match="head_first and the callback Gradual"):
        stabilize(args, callbacks=[GradualUnfreezingCallback(0.5)])


def test_a_stage_that_warms_up_gets_groups_of_its_own(tmp_path):
    args = arguments(tmp_path, gradual_unfreezing=0.5, stage_warmup_steps=2)
    model = tiny_bert()
    trainer = Trainer(model=model, args=args, train_dataset=Rows(), **stabilize(args))
    trainer.train()
    assert {group["name"] for group in trainer.optimizer.param_groups} >= {"layer_01", "layer_03"}
