"""Layers drawn anew: really changed after from_pretrained, nothing else touched, seeds obeyed."""

from __future__ import annotations

import copy
import random

import numpy as np
import peft
import pytest
import torch
import transformers
from torch import nn

from hf_stabilizer import ConfigurationError, LayerMap, ReinitializationError, reinitialize_layers
from hf_stabilizer.reinitialization import has_identity_pooler, has_new_parameters, redraw_head
from tests.tiny import SIZES, same_weights, tiny_bert

ROBERTA = {**SIZES, "pad_token_id": 1, "eos_token_id": 2}


def loaded(model, folder, into=None, **options):
    """The model as from_pretrained gives it, its weights moved away from fresh ones first."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5)
    model.save_pretrained(folder)
    return (into or type(model)).from_pretrained(folder, **options)


@pytest.fixture
def bert(tmp_path):
    return loaded(tiny_bert(), tmp_path)


def changed(model, before):
    old = dict(before.named_parameters())
    return {name for name, p in model.named_parameters() if not torch.equal(p, old[name])}


def random_state():
    return (
        random.getstate(),
        np.random.get_state()[1].tolist(),  # type: ignore[index]
        torch.get_rng_state().tolist(),
    )


@pytest.mark.parametrize(
    ("num_layers", "pooler"),
    [(0, True), (1, True), (2, False), (3, True), (1, "identity"), (0, "identity")],
)
def test_all_of_the_chosen_layers_change_and_nothing_else(bert, num_layers, pooler):
    before = copy.deepcopy(bert)
    assert reinitialize_layers(bert, num_layers, pooler=pooler, seed=1) is bert
    top = [f"bert.encoder.layer.{k}." for k in range(3 - num_layers, 3)]
    prefixes = tuple(top + (["bert.pooler."] if pooler else []))
    assert changed(bert, before) == {
        name for name, _ in bert.named_parameters() if name.startswith(prefixes)
    }


def test_zero_layers_without_pooler_leave_the_model_untouched(bert):
    before = copy.deepcopy(bert)
    assert same_weights(reinitialize_layers(bert, 0, pooler=False), before)


def test_the_numbers_are_those_of_the_architecture(bert):
    reinitialize_layers(bert, 3, seed=1)
    for name, parameter in bert.bert.encoder.state_dict().items():
        if "LayerNorm.weight" in name:
            assert torch.equal(parameter, torch.ones_like(parameter))
        elif "bias" in name:
            assert torch.equal(parameter, torch.zeros_like(parameter))
        else:
            assert parameter.mean().abs() < 0.01
            assert parameter.std() == pytest.approx(0.02, rel=0.25)  # initializer_range


def test_matrices_that_the_architecture_scales_by_depth_are_scaled(tmp_path):
    config = transformers.GPT2Config(
        vocab_size=64,
        n_embd=32,
        n_layer=8,
        n_head=2,
        n_positions=32,
        num_labels=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    fresh = transformers.GPT2ForSequenceClassification(config)
    model = loaded(copy.deepcopy(fresh), tmp_path)
    reinitialize_layers(model, 2, seed=0)
    for name in ("mlp.c_fc.weight", "mlp.c_proj.weight", "attn.c_proj.weight"):
        drawn, expected = (m.transformer.h[7].get_parameter(name) for m in (model, fresh))
        assert drawn.std().item() == pytest.approx(expected.std().item(), rel=0.1)


def test_a_block_that_layers_share_counts_once(tmp_path):
    config = transformers.AlbertConfig(**SIZES, embedding_size=8)
    model = loaded(transformers.AlbertForSequenceClassification(config), tmp_path)
    before = copy.deepcopy(model)
    reinitialize_layers(model, 1, pooler=False, seed=0)
    (path,) = LayerMap.from_model(model).blocks[1]
    assert changed(model, before) == {
        name for name, _ in model.named_parameters() if name.startswith(f"{path}.")
    }


def test_a_table_of_positions_that_all_blocks_share_is_no_part_of_the_lowest(tmp_path):
    config = transformers.T5Config(
        vocab_size=64, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, num_labels=2
    )
    model = loaded(transformers.T5ForSequenceClassification(config), tmp_path)
    before = copy.deepcopy(model)
    reinitialize_layers(model, 4, seed=0)
    moved = changed(model, before)
    assert any("encoder.block.0" in name for name in moved)
    assert not any("relative_attention_bias" in name or "final" in name for name in moved)
    assert {name for name in moved if "head" in name} == {
        "classification_head.dense.weight",
        "classification_head.dense.bias",
    }


def test_a_module_of_ones_own_around_a_body_works(tmp_path):
    class Regressor(nn.Module):
        def __init__(self, body):
            super().__init__()
            self.body = body
            self.config = body.config
            self.score = nn.Linear(16, 1)

        def forward(self, input_ids, attention_mask=None):
            return {"logits": self.score(self.body(input_ids, attention_mask)[0].mean(dim=1))}

    body = loaded(tiny_bert().bert, tmp_path, add_pooling_layer=False)
    model = Regressor(body)
    before = copy.deepcopy(model)
    reinitialize_layers(model, 1, seed=0)
    assert {name.rsplit("layer.2.")[0] for name in changed(model, before)} == {"body.encoder."}
    before = copy.deepcopy(model)
    redraw_head(model, seed=0)  # by the layer's own rule, as no architecture knows of it
    assert changed(model, before) == {"score.weight", "score.bias"}


def test_a_pooler_of_several_layers_is_drawn_anew_whole(tmp_path):
    model = loaded(tiny("ModernBert", global_attn_every_n_layers=2, local_attention=8), tmp_path)
    before = copy.deepcopy(model)
    reinitialize_layers(model, 0, seed=0)
    assert changed(model, before) == {"head.dense.weight", "head.norm.weight"}


def test_a_model_without_a_pooler_is_no_error():
    config = transformers.LlamaConfig(**SIZES, num_key_value_heads=2, pad_token_id=0)
    model = transformers.LlamaForSequenceClassification(config)
    before = copy.deepcopy(model)
    assert same_weights(reinitialize_layers(model, 0, pooler=True, seed=0), before)
    with pytest.raises(ConfigurationError, match="its pooler is none"):
        reinitialize_layers(model, 1, pooler="identity", seed=0)
    assert same_weights(model, before)


def test_depths_that_were_overridden_are_obeyed(bert):
    before = copy.deepcopy(bert)
    kept = "bert.encoder.layer.2.output.dense.*"
    layer_map = LayerMap.from_model(bert, overrides={kept: "head"})
    reinitialize_layers(bert, 1, pooler=False, seed=0, layer_map=layer_map)
    moved = changed(bert, before)
    assert "bert.encoder.layer.2.intermediate.dense.weight" in moved
    assert "bert.encoder.layer.2.output.dense.weight" not in moved


def test_the_seed_decides_and_the_global_random_state_does_not(bert):
    one, two, other = (copy.deepcopy(bert) for _ in range(3))
    reinitialize_layers(one, 2, seed=5)
    torch.manual_seed(99)
    random.seed(99)
    state = random_state()
    reinitialize_layers(two, 2, seed=5)
    assert random_state() == state
    assert same_weights(one, two)
    assert not same_weights(reinitialize_layers(other, 2, seed=6), one)


def test_without_a_seed_the_global_state_decides_and_is_not_moved(bert):
    models = [copy.deepcopy(bert) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        torch.manual_seed(seed)
        state = random_state()
        reinitialize_layers(model, 1)
        assert random_state() == state
    assert same_weights(models[0], models[1])
    assert not same_weights(models[0], models[2])


def test_training_flags_and_loading_marks_stay_as_they_were(bert):
    bert.bert.embeddings.eval()
    modes = [module.training for module in bert.modules()]
    marks = [vars(p).get("_is_hf_initialized") for p in bert.parameters()]
    reinitialize_layers(bert, 1, pooler="identity", seed=0)
    assert [module.training for module in bert.modules()] == modes
    assert [vars(p).get("_is_hf_initialized") for p in bert.parameters()] == marks


def test_half_precision_weights_stay_what_they_are(bert):
    bert.to(torch.bfloat16)
    storage = bert.bert.encoder.layer[2].output.dense.weight.data_ptr()
    reinitialize_layers(bert, 1, pooler="identity", seed=0)
    weight = bert.bert.encoder.layer[2].output.dense.weight
    assert weight.dtype == torch.bfloat16
    assert weight.data_ptr() == storage


def test_with_the_identity_the_head_sees_tanh_of_the_bodys_vector(bert):
    bert.eval()
    reinitialize_layers(bert, 0, pooler="identity")
    output = bert.bert(input_ids=torch.tensor([[5, 6, 7]]))
    torch.testing.assert_close(output.pooler_output, output.last_hidden_state[:, 0].tanh())


def tiny(name, **options):
    cls = getattr(transformers, f"{name}ForSequenceClassification")
    return cls(cls.config_class(**{**ROBERTA, **options}))


@pytest.mark.parametrize(
    ("model", "path"),
    [
        (lambda: tiny("Roberta"), "classifier.dense"),
        (lambda: tiny("Albert", embedding_size=8), "albert.pooler"),
        (lambda: tiny("MPNet"), "classifier.dense"),
        (
            lambda: tiny("Bart", d_model=16, encoder_layers=1, decoder_layers=1),
            "classification_head.dense",
        ),
        (
            lambda: transformers.BertForMultipleChoice(transformers.BertConfig(**SIZES)),
            "bert.pooler.dense",
        ),
    ],
)
def test_the_identity_is_for_every_square_tanh_pooler(model, path):
    model = model()
    assert has_identity_pooler(model)
    before = copy.deepcopy(model)
    reinitialize_layers(model, 0, pooler="identity")
    layer = model.get_submodule(path)
    assert torch.equal(layer.weight, torch.eye(16))
    assert not layer.bias.any()
    assert changed(model, before) <= {f"{path}.weight", f"{path}.bias"}


def relu_where_tanh_was():
    """BERT's own modules and names, but the tanh is gone: only what it computes can tell."""
    model = tiny_bert()
    model.bert.pooler.activation = nn.ReLU()
    return model


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (relu_where_tanh_was, "no tanh lies between"),
        (lambda: tiny("Electra", embedding_size=16), "no tanh lies between"),
        (
            lambda: tiny("DistilBert", dim=16, n_layers=1, n_heads=2, hidden_dim=24),
            "no tanh lies between",
        ),
        (
            lambda: tiny("ModernBert", global_attn_every_n_layers=2, local_attention=8),
            "not one square linear layer",
        ),
    ],
)
def test_any_other_pooler_is_refused_for_the_identity(model, reason):
    model = model()
    before = copy.deepcopy(model)
    assert not has_identity_pooler(model)
    with pytest.raises(ConfigurationError, match=reason):
        reinitialize_layers(model, 1, pooler="identity", seed=0)
    assert same_weights(model, before)


@pytest.mark.parametrize("num_layers", [-1, 4, 1.0, True, "1"])
def test_refuses_a_number_that_is_no_number_of_blocks(bert, num_layers):
    with pytest.raises(ConfigurationError, match=r"num_layers must be a whole number in \[0, 3\]"):
        reinitialize_layers(bert, num_layers)


@pytest.mark.parametrize("pooler", [1, None, "true", "Identity"])
def test_refuses_other_poolers(bert, pooler):
    with pytest.raises(ConfigurationError, match="pooler must be True, False or"):
        reinitialize_layers(bert, 1, pooler=pooler)


@pytest.mark.parametrize("seed", [-1, 1.5, True, 2**63])
def test_refuses_a_seed_that_is_none(bert, seed):
    with pytest.raises(ConfigurationError, match="seed must be a whole number"):
        reinitialize_layers(bert, 1, seed=seed)


def test_refuses_a_model_without_values():
    with torch.device("meta"):
        model = transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES))
    with pytest.raises(ConfigurationError, match="has no values here"):
        reinitialize_layers(model, 1, seed=0)


# peft asks transformers 5 for a property by its old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_refuses_a_model_with_adapters(bert):
    model = peft.get_peft_model(bert, peft.LoraConfig(target_modules=["query"]))
    with pytest.raises(ConfigurationError, match="before adding adapters"):
        reinitialize_layers(model, 1)


def test_an_initialiser_that_skips_a_weight_is_an_error_and_the_model_is_as_before(bert):
    before = copy.deepcopy(bert)
    inherited = type(bert)._init_weights
    bert._init_weights = lambda module: (
        None if isinstance(module, nn.Linear) else inherited(bert, module)
    )
    bert.bert._init_weights = bert._init_weights
    for module in bert.modules():  # nor does torch's own initialiser help
        if isinstance(module, nn.Linear):
            module.reset_parameters = lambda: None
    with pytest.raises(ReinitializationError, match=r"does not reach .*query\.weight.*and 9 more"):
        reinitialize_layers(bert, 1, pooler=False, seed=0)
    assert same_weights(bert, before)


def test_an_initialiser_that_touches_more_is_an_error_and_the_model_is_as_before(bert):
    before = copy.deepcopy(bert)
    inherited = type(bert.bert)._init_weights

    def careless(module):
        inherited(bert.bert, module)
        bert.bert.embeddings.word_embeddings.weight.data.zero_()

    bert.bert._init_weights = careless
    with pytest.raises(ReinitializationError, match=r"also changed .*word_embeddings"):
        reinitialize_layers(bert, 1, seed=0)
    assert same_weights(bert, before)


def test_an_initialiser_that_breaks_off_leaves_the_model_as_before(bert):
    before = copy.deepcopy(bert)

    def breaks_off(module):
        bert.bert.embeddings.word_embeddings.weight.data.zero_()
        raise RuntimeError("out of memory")

    bert.bert._init_weights = breaks_off
    with pytest.raises(RuntimeError, match="out of memory"):
        reinitialize_layers(bert, 1, seed=0)
    assert same_weights(bert, before)


def body_with_new_head(tmp_path, seed):
    torch.manual_seed(seed)
    return transformers.BertForSequenceClassification.from_pretrained(tmp_path)


def test_the_head_seed_alone_decides_the_new_parameters(tmp_path):
    tiny_bert().bert.save_pretrained(tmp_path)
    one, two, other = (body_with_new_head(tmp_path, seed) for seed in (1, 2, 3))
    assert has_new_parameters(one)
    before = copy.deepcopy(one)
    state = random_state()
    redraw_head(one, seed=4)
    assert random_state() == state
    assert changed(one, before) == {"classifier.weight"}
    assert same_weights(one, redraw_head(two, seed=4))
    assert not same_weights(one, redraw_head(other, seed=5))


def test_a_redrawn_head_is_that_of_loading_with_this_seed(tmp_path):
    tiny_bert().bert.save_pretrained(tmp_path)
    assert same_weights(
        redraw_head(body_with_new_head(tmp_path, 1), seed=4), body_with_new_head(tmp_path, 4)
    )


def test_drawing_twice_gives_the_same_head(tmp_path):
    tiny_bert().bert.save_pretrained(tmp_path)
    model = redraw_head(body_with_new_head(tmp_path, 1), seed=4)
    before = copy.deepcopy(model)
    assert same_weights(redraw_head(model, seed=4), before)


def test_a_deep_copy_that_forgot_what_was_loaded_is_refused(bert):
    with pytest.raises(ConfigurationError, match="cannot be told, as in a deep copy"):
        redraw_head(copy.deepcopy(bert), seed=1)


def test_a_model_from_a_configuration_gets_a_new_head_and_keeps_its_body():
    model = tiny_bert()
    before = copy.deepcopy(model)
    redraw_head(model, seed=9)
    assert changed(model, before) == {"bert.pooler.dense.weight", "classifier.weight"}


def test_a_head_of_another_size_is_new(bert, tmp_path):
    bert.save_pretrained(tmp_path)
    model = type(bert).from_pretrained(tmp_path, num_labels=5, ignore_mismatched_sizes=True)
    before = copy.deepcopy(model)
    redraw_head(model, seed=1)
    assert changed(model, before) == {"classifier.weight"}


def test_a_trained_head_is_not_drawn_anew(bert):
    assert not has_new_parameters(bert)
    before = copy.deepcopy(bert)
    with pytest.raises(ConfigurationError, match=r"head_seed=1 .*brought a trained head"):
        redraw_head(bert, seed=1)
    assert same_weights(bert, before)
