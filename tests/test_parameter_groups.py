"""Who shares a rate: published rates, the Trainer's own rules, and which checkpoints do not fit."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn
from transformers import Trainer

from hf_stabilizer import (
    ConfigurationError,
    LayerMap,
    ResumeError,
    grouped_rates,
    layerwise_decay,
    param_groups,
)
from hf_stabilizer.parameter_groups import compare_groups
from tests import reference
from tests.tiny import SIZES, tiny_bert, training_arguments


def roberta(num_layers=12):
    return transformers.RobertaForSequenceClassification(
        transformers.RobertaConfig(**{**SIZES, "num_hidden_layers": num_layers}, num_labels=1)
    )


def rate_of(groups, model):
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[p]: group["lr"] for group in groups for p in group["params"]}


def test_commonlit_rates_of_every_parameter(tmp_path):
    model, args = roberta(), training_arguments(tmp_path, learning_rate=3.5e-6)
    rates = rate_of(
        param_groups(model, args, layerwise_decay(0.9), head_learning_rate=3.6e-6), model
    )
    for name, rate in rates.items():
        if "embeddings" in name:
            assert f"{rate:.3e}" == "9.885e-07"
        elif "classifier" in name:
            assert rate == 3.6e-6
        else:
            depth = int(name.split("layer.")[1].split(".")[0]) + 1
            assert rate == pytest.approx(3.5e-6 * reference.layerwise_multiplier(depth, 12, 0.9))
    assert f"{rates['roberta.encoder.layer.0.output.dense.weight']:.3e}" == "1.098e-06"
    assert rates["roberta.encoder.layer.11.output.dense.weight"] == 3.5e-6


def test_commonlit_groups_of_four(tmp_path):
    model, args = roberta(), training_arguments(tmp_path, learning_rate=3.5e-6)
    curve = grouped_rates([1e-6 / 3.5e-6, 0.5, 1.0])
    rates = rate_of(param_groups(model, args, curve, head_learning_rate=3.6e-6), model)
    blocks = [f"{rates[f'roberta.encoder.layer.{i}.output.dense.bias']:.3e}" for i in range(12)]
    assert blocks == ["1.000e-06"] * 4 + ["1.750e-06"] * 4 + ["3.500e-06"] * 4
    assert f"{rates['roberta.embeddings.word_embeddings.weight']:.3e}" == "1.000e-06"


def test_top_block_first_then_head_then_downwards(tmp_path):
    groups = param_groups(tiny_bert(), training_arguments(tmp_path), layerwise_decay(0.5))
    expected = ["layer_03", "head", "layer_02", "layer_01", "embeddings"]
    names = [group["name"] for group in groups]
    assert names == [name + end for name in expected for end in ("", "_no_decay")]
    assert [group["depth"] for group in groups][::2] == [3, 4, 2, 1, 0]


def test_groups_hold_plain_python_values_and_every_parameter_once(tmp_path):
    model = tiny_bert()
    groups = param_groups(model, training_arguments(tmp_path), layerwise_decay(0.9))
    for group in groups:
        assert set(group) == {"name", "depth", "params", "lr", "weight_decay"}
        assert [type(group[k]) for k in ("name", "depth", "lr", "weight_decay")] == [
            str,
            int,
            float,
            float,
        ]
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())


MODELS = {
    "bert": tiny_bert,
    "roberta": lambda: roberta(2),
    "distilbert": lambda: transformers.DistilBertForSequenceClassification(
        transformers.DistilBertConfig(vocab_size=64, dim=16, n_layers=2, n_heads=2, hidden_dim=24)
    ),
    "modernbert": lambda: transformers.ModernBertForSequenceClassification(
        transformers.ModernBertConfig(
            vocab_size=64,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            pad_token_id=0,
        )
    ),
    "llama": lambda: transformers.LlamaForSequenceClassification(
        transformers.LlamaConfig(
            vocab_size=64,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
        )
    ),
}


@pytest.mark.parametrize("family", MODELS)
def test_weight_decay_follows_the_trainer(family, tmp_path):
    model, args = MODELS[family](), training_arguments(tmp_path, weight_decay=0.03)
    theirs = {
        parameter: group["weight_decay"]
        for group in Trainer(model=model, args=args).create_optimizer().param_groups
        for parameter in group["params"]
    }
    groups = param_groups(model, args, layerwise_decay(0.9))
    ours = {p: group["weight_decay"] for group in groups for p in group["params"]}
    assert ours == theirs
    assert set(ours.values()) == {0.03, 0.0}


def test_a_tied_weight_stands_once_with_the_embeddings(tmp_path):
    torch.manual_seed(0)
    model = transformers.BertForMaskedLM(transformers.BertConfig(**SIZES))
    tied = model.get_input_embeddings().weight
    assert model.get_output_embeddings().weight is tied
    groups = param_groups(model, training_arguments(tmp_path), layerwise_decay(0.5))
    places = [group["name"] for group in groups for p in group["params"] if p is tied]
    assert places == ["embeddings"]


def test_frozen_parameters_are_left_out(tmp_path):
    model = tiny_bert()
    model.bert.embeddings.requires_grad_(False)
    model.bert.encoder.layer[1].output.dense.weight.requires_grad_(False)
    groups = param_groups(model, training_arguments(tmp_path), layerwise_decay(0.9))
    grouped = {p for group in groups for p in group["params"]}
    assert grouped == {p for p in model.parameters() if p.requires_grad}
    assert 0 not in {group["depth"] for group in groups}


def test_overrides_by_a_layer_map(tmp_path):
    model = tiny_bert()
    layer_map = LayerMap.from_model(model, overrides={"bert.pooler.*": 1})
    groups = param_groups(
        model, training_arguments(tmp_path), layerwise_decay(0.5), layer_map=layer_map
    )
    assert rate_of(groups, model)["bert.pooler.dense.weight"] == 1e-3 * 0.25


def test_base_batch_size_scales_every_rate_once(tmp_path):
    model = tiny_bert()
    args = training_arguments(
        tmp_path, per_device_train_batch_size=8, gradient_accumulation_steps=2
    )
    plain = param_groups(model, args, layerwise_decay(0.5), head_learning_rate=2e-3)
    args.base_batch_size = 64
    scaled = param_groups(model, args, layerwise_decay(0.5), head_learning_rate=2e-3)
    assert [g["lr"] for g in scaled] == [g["lr"] * 16 / 64 for g in plain]
    assert args.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"curve": 0.9}, r"curve must be a function \(depth, num_layers\) -> multiplier, .* 0.9"),
        (
            {"curve": lambda depth, n: -1.0},
            "the curve gives -1.0 for depth 0 of 3; a multiplier must be a finite number from 0 up",
        ),
        ({"curve": lambda depth, n: float("nan")}, "the curve gives nan for depth 0 of 3"),
        ({"head_learning_rate": 0}, "head_learning_rate must be a finite number above 0, got 0"),
        ({"head_learning_rate": "1e-3"}, "head_learning_rate must be .* got '1e-3'"),
        ({"curve": grouped_rates([1, 2, 3, 4])}, "4 multipliers need at least as many blocks"),
    ],
)
def test_rates_that_cannot_be_are_refused(options, message, tmp_path):
    values = {"curve": layerwise_decay(0.9), **options}
    with pytest.raises(ConfigurationError, match=message):
        param_groups(tiny_bert(), training_arguments(tmp_path), values.pop("curve"), **values)


def test_a_model_that_cannot_learn_is_refused(tmp_path):
    model = tiny_bert().requires_grad_(False)
    with pytest.raises(ConfigurationError, match="no parameter of the model requires grad"):
        param_groups(model, training_arguments(tmp_path), layerwise_decay(0.9))


def test_the_layer_map_of_another_model_is_refused(tmp_path):
    other = LayerMap.from_model(roberta(2))
    with pytest.raises(ConfigurationError, match="is no parameter of this model"):
        param_groups(
            tiny_bert(), training_arguments(tmp_path), layerwise_decay(0.9), layer_map=other
        )


def sgd_with_names(**names):
    groups = [
        {"params": [nn.Parameter(torch.zeros(2))], "name": name, "param_names": [parameter]}
        for name, parameter in names.items()
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    optimizer.register_load_state_dict_pre_hook(compare_groups)
    return optimizer


def test_swapped_groups_of_equal_size_are_refused_with_the_difference():
    saved = sgd_with_names(layer_02="b.weight", layer_01="a.weight").state_dict()
    sgd_with_names(layer_02="b.weight", layer_01="a.weight").load_state_dict(saved)
    with pytest.raises(ResumeError) as caught:
        sgd_with_names(layer_02="a.weight", layer_01="b.weight").load_state_dict(saved)
    assert str(caught.value).splitlines()[1:] == [
        "-layer_02: b.weight",
        "-layer_01: a.weight",
        "+layer_02: a.weight",
        "+layer_01: b.weight",
    ]


def test_the_optimizer_of_a_run_without_layers_is_refused():
    saved = torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1).state_dict()
    with pytest.raises(ResumeError, match=r"(?s)-group 0: 1 tensors.*\+layer_01: a.weight"):
        sgd_with_names(layer_01="a.weight").load_state_dict(saved)


def test_a_long_difference_is_cut():
    saved = sgd_with_names(**{f"layer_{i:02}": f"{i}.weight" for i in range(40)}).state_dict()
    with pytest.raises(ResumeError, match=r"\.\.\. and 21 more$"):
        sgd_with_names(other="weight").load_state_dict(saved)
