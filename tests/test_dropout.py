"""One rate for every dropout: on each architecture nothing is missed, and what is left is named."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from hf_stabilizer import StabilizerArguments, prepare_model, set_dropout
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.silent_mistakes import preflight
from tests.tiny import SIZES, same_weights, tiny_bert

# The first transformers that we take compile a function of DeBERTa's in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
TEXT = {**SIZES, "num_hidden_layers": 2, "pad_token_id": 0}
SMALL = {"vocab_size": 64, "num_labels": 2, "pad_token_id": 0}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertForSequenceClassification", TEXT),
    "roberta": ("RobertaForSequenceClassification", TEXT),
    "distilbert": (
        "DistilBertForSequenceClassification",
        {**SMALL, "dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 2},
    ),
    "deberta-v2": (
        "DebertaV2ForSequenceClassification",
        {**TEXT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "conv_kernel_size": 3},
    ),
    "modernbert": (
        "ModernBertForSequenceClassification",
        {**TEXT, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2},
    ),
    "albert": ("AlbertForSequenceClassification", {**TEXT, "embedding_size": 8}),
    "gpt2": ("GPT2ForSequenceClassification", {**SMALL, "n_embd": 16, "n_layer": 2, "n_head": 2}),
    "llama": ("LlamaForSequenceClassification", TEXT),
    "t5": (
        "T5ForConditionalGeneration",
        {**SMALL, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2},
    ),
    "vit": (
        "ViTForImageClassification",
        {**{k: v for k, v in SIZES.items() if k != "vocab_size"}, "image_size": 8, "patch_size": 4},
    ),
}  # fmt: skip


def built(family: str, rate: float | None) -> nn.Module:
    """A tiny model whose configuration has one rate everywhere, or what it has by default."""
    name, sizes = FAMILIES[family]
    kind = getattr(transformers, name)
    config = kind.config_class(**sizes)
    for key, value in [*vars(config).items()]:
        drops = ("dropout" in key or "pdrop" in key) and isinstance(value, float | int)
        if rate is not None and drops:
            setattr(config, key, rate)
    torch.manual_seed(0)
    return kind(config)  # type: ignore[no-any-return]


def answer(model: nn.Module, *, seed: int, training: bool) -> torch.Tensor:
    model.train(training)
    generator = torch.Generator().manual_seed(0)
    if isinstance(model, transformers.ViTForImageClassification):
        inputs = {"pixel_values": torch.rand(4, 3, 8, 8, generator=generator)}
    else:
        inputs = {"input_ids": torch.randint(5, 60, (4, 9), generator=generator)}
    if isinstance(model, transformers.T5ForConditionalGeneration):
        inputs["decoder_input_ids"] = inputs["input_ids"][:, :5]
    torch.manual_seed(seed)
    with torch.no_grad():
        return model(**inputs).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rate", [None, 0.0, 0.3])
def test_nothing_is_missed(family: str, rate: float | None) -> None:
    model = built(family, rate)
    quiet = answer(model, seed=1, training=False)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = set_dropout(model, 0.5)
    first, second = (answer(model, seed=seed, training=True) for seed in (1, 2))
    assert not torch.equal(first, second)
    assert not report.left
    assert all(before != 0.5 for _, before in report.changed)
    off = set_dropout(model, 0.0)
    # Every place had the rate that was set before, so none was missed then.
    assert {before for _, before in off.changed} == {0.5}
    assert len(off.changed) == len(report.changed) + len(report.unchanged)
    for seed in (1, 2):
        assert torch.equal(answer(model, seed=seed, training=True), quiet)
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_built_without_dropout_gets_it_everywhere(family: str) -> None:
    """The same random numbers drop the same activations as in a model that was built so."""
    model, as_built = built(family, 0.0), built(family, 0.4)
    set_dropout(model, 0.4)
    assert torch.equal(
        answer(model, seed=3, training=True), answer(as_built, seed=3, training=True)
    )


def test_the_report_by_hand() -> None:
    model = tiny_bert(attention_probs_dropout_prob=0.2)
    report = set_dropout(model, 0.2)
    blocks = [f"bert.encoder.layer.{n}" for n in range(3)]
    assert report.unchanged == tuple(f"{block}.attention.self.dropout" for block in blocks)
    assert dict(report.changed) == dict.fromkeys(
        [
            "bert.embeddings.dropout",
            *(f"{b}.{part}.dropout" for b in blocks for part in ("attention.output", "output")),
            "dropout",
        ],
        0.1,
    )
    assert report.config == (("hidden_dropout_prob", 0.1),)
    assert str(report) == "dropout is 0.2 in 11 places, 8 of them changed (before: 0.1)"


def test_what_drops_layers_is_left_and_named() -> None:
    torch.manual_seed(0)
    model = transformers.SwinForImageClassification(
        transformers.SwinConfig(
            image_size=16,
            patch_size=2,
            embed_dim=8,
            depths=[1, 1],
            num_heads=[1, 2],
            window_size=4,
            drop_path_rate=0.2,
        )
    )
    report = set_dropout(model, 0.3)
    assert [rate for _, rate in report.left] == pytest.approx([0.2])
    assert "left as they are: " in str(report)
    assert model.config.drop_path_rate == 0.2


def test_a_saved_model_keeps_its_rate(tmp_path: Path) -> None:
    model = tiny_bert()
    set_dropout(model, 0.3)
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["hidden_dropout_prob"] == saved["attention_probs_dropout_prob"] == 0.3
    again = transformers.BertForSequenceClassification.from_pretrained(tmp_path)
    assert not set_dropout(again, 0.3).changed


def test_prepare_model_sets_it_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_bert()
    with caplog.at_level(logging.INFO, logger="hf_stabilizer"):
        prepare_model(model, StabilizerArguments(str(tmp_path), dropout=0.0))
    assert "dropout is 0 in 11 places, 11 of them changed (before: 0.1)" in caplog.text
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.0}
    untouched = prepare_model(tiny_bert(), StabilizerArguments(str(tmp_path)))
    assert {m.p for m in untouched.modules() if isinstance(m, nn.Dropout)} == {0.1}
    assert same_weights(model, untouched)


def test_preflight_reads_the_option(tmp_path: Path) -> None:
    def codes(dropout: float | None, **config: float) -> set[str]:
        args = StabilizerArguments(str(tmp_path), dropout=dropout, use_cpu=True)
        return {finding.code for finding in preflight(tiny_bert(**config), args)}

    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    assert "no-dropout" in codes(None, **none)
    assert "no-dropout" not in codes(0.1, **none)
    assert "no-dropout" in codes(0.0)


def test_refusals() -> None:
    with pytest.raises(ConfigurationError, match=r"has no effect: Linear has no dropout that"):
        set_dropout(nn.Linear(1, 1), 0.1)
    for rate in (1.0, -0.1, True, "0.1"):
        with pytest.raises(ConfigurationError, match=r"dropout must be a number in \[0, 1\), got"):
            set_dropout(tiny_bert(), rate)  # type: ignore[arg-type]
