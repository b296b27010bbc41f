"""freeze_layers: what is frozen stays as it was, the rest learns."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers

from hf_stabilizer import ConfigurationError, LayerMap, freeze_layers
from tests.tiny import SIZES, Rows, same_weights, tiny_bert, training_arguments


def frozen(model):
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def train(model, tmp_path):
    args = training_arguments(tmp_path, weight_decay=0.1)
    transformers.Trainer(model=model, args=args, train_dataset=Rows()).train()
    return model


@pytest.mark.parametrize(
    ("options", "depths"),
    [
        ({}, [0]),
        ({"num_layers": 2}, [0, 1, 2]),
        ({"embeddings": False, "num_layers": 1}, [1]),
        ({"num_layers": 3}, [0, 1, 2, 3]),
        ({"embeddings": False}, []),
    ],
)
def test_exactly_these_depths_are_frozen(options, depths):
    model = tiny_bert()
    layer_map = LayerMap.from_model(model)
    assert freeze_layers(model, **options) is model
    assert frozen(model) == {name for depth in depths for name in layer_map.names(depth)}


def test_frozen_weights_do_not_move_in_training_and_the_others_do(tmp_path):
    model = freeze_layers(tiny_bert(), num_layers=1)
    before = copy.deepcopy(model)
    train(model, tmp_path)
    old = dict(before.named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, old[name]) == (not parameter.requires_grad), name


def test_nothing_to_freeze_is_the_plain_trainer(tmp_path):
    model = freeze_layers(tiny_bert(), embeddings=False, num_layers=0)
    assert same_weights(train(model, tmp_path), train(tiny_bert(), tmp_path))


def test_depths_that_were_overridden_are_obeyed():
    model = tiny_bert()
    layer_map = LayerMap.from_model(model, overrides={"bert.encoder.layer.0.*": "embeddings"})
    freeze_layers(model, layer_map=layer_map)
    assert frozen(model) == set(layer_map.names(0))
    assert "bert.encoder.layer.0.output.dense.weight" in frozen(model)


def test_a_tied_output_head_is_frozen_with_the_embeddings():
    torch.manual_seed(0)
    model = transformers.BertForMaskedLM(transformers.BertConfig(**SIZES))
    freeze_layers(model)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert not model.get_output_embeddings().weight.requires_grad


def test_what_was_frozen_before_stays_frozen():
    model = tiny_bert()
    model.classifier.bias.requires_grad = False
    assert "classifier.bias" in frozen(freeze_layers(model))


@pytest.mark.parametrize("num_layers", [-1, 4, 1.0, True, None])
def test_refuses_a_number_that_is_no_number_of_blocks(num_layers):
    model = tiny_bert()
    with pytest.raises(ConfigurationError, match=r"num_layers must be a whole number in \[0, 3\]"):
        freeze_layers(model, num_layers=num_layers)
    assert not frozen(model)


def test_refuses_a_number_for_the_embeddings():
    with pytest.raises(ConfigurationError, match="embeddings must be True or False, got 3"):
        freeze_layers(tiny_bert(), embeddings=3)
