"""Layers brought in: exactly the chosen ones, whatever heads and wrappers; all else untouched."""

from __future__ import annotations

import copy
import logging
import re
from typing import Any

import peft
import pytest
import torch
import transformers
from torch import nn

from hf_stabilizer import (
    ConfigurationError,
    LayerMap,
    StabilizerArguments,
    preflight,
    prepare_model,
    reinitialize_layers,
    stabilize,
    train,
    transfer_layers,
)
from hf_stabilizer.argument_depths import fresh_blocks, frozen_depths
from hf_stabilizer.layer_view import layer_rows
from tests.combinations import ARCHITECTURES
from tests.reference import lowest_names
from tests.tiny import SIZES, TRAINING, Rows, same_weights, tiny_bert

BLOCKS = [f"bert.encoder.layer.{k}" for k in range(3)]
HEADS = ["bert.pooler", "classifier"]


def moved(model: nn.Module, seed: int = 9) -> nn.Module:
    """The model with every number changed, biases and norms too."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor))
    return model


def changed(model: nn.Module, before: nn.Module) -> set[str]:
    old = dict(before.named_parameters())
    return {name for name, p in model.named_parameters() if not torch.equal(p, old[name])}


def differ(model: nn.Module, source: nn.Module) -> set[str]:
    other = dict(source.named_parameters())
    return {name for name, p in model.named_parameters() if not torch.equal(p, other[name])}


# --- by hand


@pytest.mark.parametrize("num_layers", [0, 1, 2, 3])
def test_embeddings_and_the_lowest_blocks_are_copied_and_nothing_else(num_layers: int) -> None:
    source, target = moved(tiny_bert()), tiny_bert(1)
    before = copy.deepcopy(target)
    assert transfer_layers(source, target, num_layers=num_layers) is target
    names = [name for name, _ in target.named_parameters()]
    expected = lowest_names(names, BLOCKS, HEADS, num_layers)
    assert changed(target, before) == expected
    assert differ(target, source) == set(names) - expected


def test_the_whole_body_has_its_pooler_and_the_head_stays() -> None:
    source, target = moved(tiny_bert()), tiny_bert(1)
    transfer_layers(source, target)
    assert differ(target, source) == {"classifier.weight", "classifier.bias"}


def test_a_checkpoint_of_masked_words_goes_into_a_classifier(tmp_path) -> None:
    words = moved(transformers.BertForMaskedLM(transformers.BertConfig(**SIZES)))
    words.save_pretrained(tmp_path)
    target = tiny_bert(1)
    before = copy.deepcopy(target)
    transfer_layers(tmp_path, target)
    theirs = dict(words.named_parameters())
    for name, parameter in target.named_parameters():
        if name.startswith(("bert.embeddings", "bert.encoder")):
            assert torch.equal(parameter, theirs[name])
    assert changed(target, before).isdisjoint(
        {f"bert.pooler.dense.{k}" for k in ("weight", "bias")}
    )
    assert torch.equal(target.classifier.weight, before.classifier.weight)


def test_a_pooler_that_the_checkpoint_does_not_hold_is_not_taken_from_it(tmp_path) -> None:
    body = transformers.BertModel(transformers.BertConfig(**SIZES), add_pooling_layer=False)
    body.save_pretrained(tmp_path)
    target = tiny_bert(1)
    before = copy.deepcopy(target)
    state = torch.get_rng_state()
    transfer_layers(str(tmp_path), target)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(target.bert.pooler.dense.weight, before.bert.pooler.dense.weight)
    assert torch.equal(target.bert.encoder.layer[2].output.dense.weight,
                       body.encoder.layer[2].output.dense.weight)  # fmt: skip


class Wrapped(nn.Module):
    """A module of one's own around a pre-trained body."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.inner = nn.ModuleDict({"model": body})
        self.score = nn.Linear(16, 2)

    def forward(self, input_ids: Any, attention_mask: Any = None) -> Any:
        hidden = self.inner["model"](input_ids, attention_mask=attention_mask)
        return self.score(hidden.last_hidden_state[:, 0])


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("wrap", ["own", "compiled", "adapters"])
def test_wrappers_are_seen_through(wrap: str) -> None:
    config = transformers.BertConfig(**SIZES)
    source, body = moved(transformers.BertModel(config)), transformers.BertModel(config)
    target: nn.Module
    if wrap == "own":
        target = Wrapped(body)
    elif wrap == "compiled":
        target = torch.compile(tiny_bert(1), backend="eager")  # type: ignore[assignment]
    else:
        adapters = peft.LoraConfig(target_modules=["query"], task_type="SEQ_CLS")
        target = peft.get_peft_model(tiny_bert(1), adapters)  # type: ignore[arg-type]
    transfer_layers(source, target, num_layers=2)
    ours = {
        name.replace(".base_layer", "").rpartition("encoder.layer.")[2]: p
        for name, p in target.named_parameters()
        if "encoder.layer." in name and "lora" not in name
    }
    for name, parameter in source.named_parameters():
        if "encoder.layer." in name:
            place = name.rpartition("encoder.layer.")[2]
            assert torch.equal(ours[place], parameter) == place.startswith(("0.", "1.")), name


# --- neutral


@pytest.mark.parametrize("num_layers", [0, 2, None])
def test_a_models_own_checkpoint_changes_nothing(tmp_path, num_layers) -> None:
    model = moved(tiny_bert())
    before = copy.deepcopy(model)
    model.save_pretrained(tmp_path)
    assert same_weights(transfer_layers(str(tmp_path), model, num_layers=num_layers), before)


# --- other architectures

MORE = {
    "t5": lambda: transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=64,
            d_model=16,
            d_kv=8,
            d_ff=24,
            num_layers=2,
            num_heads=2,
            decoder_start_token_id=0,
        )
    ),
    "vit": lambda: transformers.ViTForImageClassification(
        transformers.ViTConfig(
            hidden_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=24,
            image_size=8,
            patch_size=4,
        )
    ),
}


@pytest.mark.parametrize("name", [*ARCHITECTURES, *MORE])
def test_every_architecture_takes_the_lowest_layers(name: str, tmp_path) -> None:
    make = {**ARCHITECTURES, **MORE}[name]
    source, target = moved(make()), make()
    source.save_pretrained(tmp_path)
    before, layers = copy.deepcopy(target), LayerMap.from_model(target)
    transfer_layers(tmp_path, target, num_layers=1)
    expected = {name for depth in (0, 1) for name in layers.names(depth)}
    assert changed(target, before) == expected
    assert differ(target, source) == {n for n, _ in target.named_parameters()} - expected
    transfer_layers(source, target)
    inside = f"{layers.classifier}."
    assert all(name.startswith(inside) for name in differ(target, source))


def test_an_encoder_alone_fills_the_encoder_of_both() -> None:
    whole = MORE["t5"]()
    config = whole.config
    encoder = moved(transformers.T5EncoderModel(config))
    before = copy.deepcopy(whole)
    transfer_layers(encoder, whole, num_layers=2)
    assert torch.equal(whole.shared.weight, encoder.shared.weight)
    assert torch.equal(
        whole.encoder.final_layer_norm.weight, encoder.encoder.final_layer_norm.weight
    )
    assert same_weights(whole.decoder.block, before.decoder.block)


def test_a_shallow_model_takes_the_lowest_layers_of_a_deep_one() -> None:
    deep, shallow = moved(tiny_bert(num_hidden_layers=5)), tiny_bert(1, num_hidden_layers=2)
    transfer_layers(deep, shallow, num_layers=2)
    assert differ(shallow, deep) == {
        *(f"bert.pooler.dense.{kind}" for kind in ("weight", "bias")),
        *(f"classifier.{kind}" for kind in ("weight", "bias")),
    }


def test_numbers_are_cast_to_the_targets_dtype() -> None:
    source, target = moved(tiny_bert()), tiny_bert(1).to(torch.bfloat16)
    transfer_layers(source, target, num_layers=3)
    ours = target.bert.embeddings.word_embeddings.weight
    assert ours.dtype == torch.bfloat16
    assert torch.equal(ours, source.bert.embeddings.word_embeddings.weight.to(torch.bfloat16))


def test_running_statistics_go_with_their_layers_and_places_of_tokens_do_not() -> None:
    config = transformers.ResNetConfig(
        num_channels=3, embedding_size=8, hidden_sizes=[8, 16], depths=[2, 2], layer_type="basic"
    )
    source, target = (transformers.ResNetForImageClassification(config) for _ in range(2))
    moved(source)
    for module in source.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.num_batches_tracked.fill_(7)
    before = {name: b.clone() for name, b in target.named_buffers()}
    layers = LayerMap.from_model(target)
    transfer_layers(source, target, num_layers=1)
    theirs = dict(source.named_buffers())
    for name, buffer in target.named_buffers():
        weight = f"{name.rpartition('.')[0]}.weight"
        came = layers.depth_of(weight) <= 1
        assert torch.equal(buffer, theirs[name] if came else before[name]), name
    assert any(layers.depth_of(f"{n.rpartition('.')[0]}.weight") <= 1 for n in before)


def test_a_tied_weight_is_copied_once_and_stays_tied() -> None:
    source, target = moved(ARCHITECTURES["gpt2-lm"]()), ARCHITECTURES["gpt2-lm"]()
    transfer_layers(source, target, num_layers=0)
    assert target.lm_head.weight is target.transformer.wte.weight
    assert torch.equal(target.transformer.wte.weight, source.transformer.wte.weight)


def test_what_was_copied_and_what_was_not_is_logged(caplog) -> None:
    with caplog.at_level(logging.INFO, logger="hf_stabilizer"):
        transfer_layers(tiny_bert(), tiny_bert(1), num_layers=1)
    assert caplog.messages == [
        "transferred from BertForSequenceClassification: embeddings, layer_01 (21 weights); "
        "as it was: layer_02, layer_03, bert.pooler.dense, classifier"
    ]


def test_a_part_that_the_source_lacks_is_named(caplog) -> None:
    source, target = tiny_bert(), tiny_bert(1)
    target.bert.encoder.layer[0].extra = nn.Linear(16, 16)  # as a change of one's own
    overrides = {"bert.encoder.layer.0.extra.*": 1}
    layers = LayerMap.from_model(target, overrides=overrides)
    transfer_layers(source, target, num_layers=1, layer_map=layers)
    assert "2 parameters that the source does not bring" in caplog.messages[-1]
    assert "bert.encoder.layer.0.extra.weight" in caplog.messages[-1]


# --- refusals


class Renamed(nn.Module):
    """A block whose parameters have other names."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.renamed = block

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.renamed(*args, **kwargs)


def half_alike() -> nn.Module:
    """A BERT whose embeddings have the usual names, and whose blocks have others."""
    model = tiny_bert()
    layers: Any = model.bert.encoder  # type: ignore[union-attr]
    layers.layer = nn.ModuleList(Renamed(block) for block in layers.layer)
    return model


@pytest.mark.parametrize(
    ("source", "num_layers", "said"),
    [
        (lambda: tiny_bert(), 4, r"num_layers must be a whole number in \[0, 3\].*got 4"),
        (lambda: tiny_bert(), -1, "got -1"),
        (lambda: tiny_bert(), True, "got True"),
        (lambda: tiny_bert(num_hidden_layers=2), 3, r"source 2, target 3"),
        (lambda: tiny_bert(num_hidden_layers=2), None, "source has 2 blocks and the target 3"),
        (lambda: tiny_bert(vocab_size=32), 1, "vocabularies differ: 32 tokens .* and 64"),
        (lambda: tiny_bert(intermediate_size=32), 1, r"shapes differ: .*\(32, 16\).*\(24, 16\)"),
        (ARCHITECTURES["distilbert"], 1, "nothing was transferred"),
        (lambda: half_alike(), 1, "nothing for layer_01 .*not built alike"),
        (ARCHITECTURES["gpt2"], 1, "no parameter of the source|not built alike"),
        (lambda: tiny_bert().to("meta"), 1, "has no plain numbers here"),
        (lambda: "nowhere/at-all/model", 1, "no model can be loaded from 'nowhere"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_touched(source, num_layers, said) -> None:
    target = tiny_bert(1)
    before = copy.deepcopy(target)
    with pytest.raises(ConfigurationError, match=said):
        transfer_layers(source(), target, num_layers=num_layers)
    assert same_weights(target, before)


# --- arguments


def arguments(folder: Any, **options: Any) -> StabilizerArguments:
    return StabilizerArguments(str(folder), **{**TRAINING, **options})


@pytest.mark.parametrize("num_layers", [0, 1, 2, 3])
def test_keeping_the_lowest_is_drawing_the_top_anew(tmp_path, num_layers: int) -> None:
    moved(tiny_bert()).bert.save_pretrained(tmp_path)
    kind = transformers.BertForSequenceClassification
    models = [kind.from_pretrained(tmp_path) for _ in range(3)]
    kept = prepare_model(models[0], arguments(tmp_path, transfer_layers=num_layers, head_seed=5))
    options = {"reinit_layers": 3 - num_layers, "reinit_pooler": "true", "head_seed": 5}
    drawn = prepare_model(models[1], arguments(tmp_path, **options))
    by_hand = reinitialize_layers(models[2], 3 - num_layers, seed=5)
    assert same_weights(kept, drawn)
    assert torch.equal(kept.bert.pooler.dense.weight, by_hand.bert.pooler.dense.weight)
    names = [name for name, _ in kept.named_parameters()]
    whole = kind.from_pretrained(tmp_path)
    assert differ(kept, whole).isdisjoint(lowest_names(names, BLOCKS, HEADS, num_layers))


def test_the_layers_of_another_model_are_brought_in_and_not_drawn_again(tmp_path) -> None:
    source = moved(tiny_bert())
    source.save_pretrained(tmp_path / "source")
    body = transformers.BertModel(transformers.BertConfig(**SIZES), add_pooling_layer=False)
    body.save_pretrained(tmp_path / "body")
    target = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "body")
    args = arguments(tmp_path, transfer_from=str(tmp_path / "source"), head_seed=3)
    assert prepare_model(target, args) is target
    # The pooler was new to this checkpoint, and came from the other one.
    assert differ(target, source) == {"classifier.weight", "classifier.bias"}


def test_top_blocks_of_a_body_that_was_brought_in_may_start_anew(tmp_path) -> None:
    source = moved(tiny_bert())
    source.save_pretrained(tmp_path)
    options = {"transfer_from": str(tmp_path), "reinit_layers": 1, "reinit_pooler": "false"}
    target = prepare_model(tiny_bert(1), arguments(tmp_path, **options))
    above = {n for n in differ(target, source) if not n.startswith("classifier")}
    assert above == {n for n, _ in target.named_parameters() if n.startswith(BLOCKS[2])}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"transfer_layers": 2, "reinit_layers": 1}, "both say which blocks start anew"),
        ({"transfer_layers": -1}, "transfer_layers must be a whole number from 0 up, got -1"),
        ({"transfer_from": " "}, "transfer_from is empty"),
        ({"freeze_body": True, "freeze_layers": 2}, "freeze_body=True .* freeze_layers=2"),
        ({"freeze_body": True, "freeze_embeddings": True}, "freeze_embeddings=True says nothing"),
        ({"freeze_body": "no"}, "freeze_body must be True or False"),
    ],
)
def test_options_that_cannot_be_meant_are_refused_at_the_door(tmp_path, options, said) -> None:
    with pytest.raises(ConfigurationError, match=said):
        arguments(tmp_path, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"transfer_layers": 4}, r"transfer_layers must be a whole number in \[0, 3\]"),
        ({"transfer_layers": 1, "freeze_layers": 2}, "freeze_layers=2 and transfer_layers=1 meet"),
        ({"transfer_layers": 1, "freeze_body": True}, "freeze_body=True and transfer_layers=1"),
        ({"reinit_layers": 1, "freeze_body": True}, "freeze_body=True and reinit_layers=1 meet"),
        (
            {"transfer_from": "x", "transfer_layers": 2, "reinit_layers": 2},
            "transfer_layers=2 and reinit_layers=2 meet",
        ),
    ],
)
def test_options_that_clash_in_this_model_are_refused(tmp_path, options, said) -> None:
    args = arguments(tmp_path, **options)
    model = tiny_bert()
    assert any(re.search(said, str(one)) for one in preflight(model, args))
    with pytest.raises(ConfigurationError, match=said):
        prepare_model(model, args)


def test_freezing_the_body_leaves_the_head_alone(tmp_path) -> None:
    args = arguments(tmp_path, freeze_body=True)
    model = prepare_model(tiny_bert(), args)
    learns = {name.partition(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert learns == {"bert", "classifier"}  # the pooler is head
    assert all("pooler" in n or "classifier" in n for n, p in model.named_parameters()
               if p.requires_grad)  # fmt: skip
    assert [row.fate for row in layer_rows(model, args)] == ["frozen"] * 4 + [""]
    assert [row.rate for row in layer_rows(model, args)][:4] == [None] * 4


def test_the_depths_that_options_mean(tmp_path) -> None:
    def of(**options: Any) -> tuple[list[int], int]:
        args = arguments(tmp_path, **options)
        return [*frozen_depths(args, 6)], fresh_blocks(args, 6)

    assert of() == ([], 0)
    assert of(freeze_embeddings=True, freeze_layers=2, reinit_layers=3) == ([0, 1, 2], 3)
    assert of(freeze_layers=1, transfer_layers=4) == ([1], 2)
    assert of(freeze_body=True, transfer_layers=2, transfer_from="x") == ([*range(7)], 0)
    plain = transformers.TrainingArguments(str(tmp_path), use_cpu=True)
    assert [*frozen_depths(plain, 6)] == []


# --- whole runs


def test_resuming_a_run_with_transfer_equals_one_straight_run(tmp_path) -> None:
    moved(tiny_bert(5)).save_pretrained(tmp_path / "source")

    def run(folder: str, resume: Any = None, **options: Any) -> nn.Module:
        args = arguments(
            tmp_path / folder, transfer_from=str(tmp_path / "source"), transfer_layers=2,
            save_strategy="steps", save_steps=3, **options,
        )  # fmt: skip
        model = prepare_model(tiny_bert(), args)
        trainer = transformers.Trainer(
            model=model, args=args, train_dataset=Rows(), **stabilize(args)
        )
        trainer.train(resume_from_checkpoint=resume)
        return model

    straight = run("straight")
    assert same_weights(run("again", resume=str(tmp_path / "straight/checkpoint-3")), straight)


def test_another_tokenizer_is_refused_before_training(config, model_folder, tmp_path) -> None:
    model = transformers.AutoModel.from_pretrained(model_folder)
    model.save_pretrained(tmp_path / "other")
    tokens = transformers.AutoTokenizer.from_pretrained(model_folder)
    words = sorted(tokens.get_vocab(), key=lambda word: (word[0] != "[", word))
    swapped = transformers.BertTokenizerFast(vocab={word: k for k, word in enumerate(words)})
    swapped.save_pretrained(tmp_path / "other")
    with pytest.raises(ConfigurationError, match=r"another tokenizer: .* another number"):
        train(config, transfer_from=str(tmp_path / "other"))


def test_a_run_may_start_from_the_body_of_another_run(config, tmp_path) -> None:
    first = train(config, output_dir=str(tmp_path / "first"))
    weights = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "first/model"
    )
    options = {"transfer_from": str(tmp_path / "first"), "recipe": "feature-extraction"}
    second = train(config, output_dir=str(tmp_path / "second"), **options)
    assert first.status == second.status == "finished"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "second/model"
    )
    assert same_weights(model.bert.encoder, weights.bert.encoder)
    assert same_weights(model.bert.embeddings, weights.bert.embeddings)


def test_feature_extraction_is_the_fitted_head_on_the_checkpoints_body(
    config, model_folder, tmp_path, caplog
) -> None:
    del config["output_dir"]
    with caplog.at_level(logging.WARNING, logger="hf_stabilizer"):
        runs = [
            train(
                config, recipe="feature-extraction", output_dir=str(tmp_path / str(seed)), seed=seed
            )
            for seed in (1, 2)
        ]
    assert not [m for m in caplog.messages if "few-steps" in m or "idle-rate" in m]
    body = transformers.AutoModel.from_pretrained(model_folder)
    kind = transformers.AutoModelForSequenceClassification
    models = [kind.from_pretrained(tmp_path / str(seed) / "model") for seed in (1, 2)]
    assert same_weights(models[0], models[1])  # no seed has any part in it
    assert same_weights(models[0].bert.encoder, body.encoder)
    assert torch.equal(models[0].bert.pooler.dense.weight, torch.eye(16))
    assert runs[0].best_score == runs[1].best_score
    assert runs[0].best_score > 0.5


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_source_with_adapters_is_to_be_merged_first() -> None:
    """Without them its blocks are those that it began with."""
    adapters = peft.LoraConfig(target_modules=["query"], task_type="SEQ_CLS")
    source = peft.get_peft_model(tiny_bert(1), adapters)  # type: ignore[arg-type]
    target = tiny_bert(2)
    before = {name: p.detach().clone() for name, p in target.named_parameters()}
    with pytest.raises(ConfigurationError, match=r"merge_and_unload\(\) first"):
        transfer_layers(source, target)
    assert all(torch.equal(before[name], p) for name, p in target.named_parameters())
    transfer_layers(source.merge_and_unload(), target)
