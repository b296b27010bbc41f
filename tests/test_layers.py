"""LayerMap against answers written by hand: architectures, heads, wrappers, overrides, refusals."""

from __future__ import annotations

import ast
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import peft
import pytest
import torch
import transformers as tr
from torch import Tensor, nn

from hf_stabilizer import ConfigurationError, LayerDiscoveryError, LayerMap
from tests.tiny import SIZES, tiny_bert

# torch.compile, and DeBERTa in transformers 5.4, import what torch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")

ENCODER: dict[str, Any] = {**SIZES, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
DECODER: dict[str, Any] = {**ENCODER, "num_key_value_heads": 2, "head_dim": 8}
DEBERTA = {**ENCODER, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
SIX = {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}

CONFIGS: dict[str, Callable[[], tr.PreTrainedConfig]] = {
    "albert": lambda: tr.AlbertConfig(**ENCODER, embedding_size=8),
    "bart": lambda: tr.BartConfig(
        **SIX, d_model=16, encoder_layers=2, decoder_layers=3, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24,
        max_position_embeddings=40, decoder_start_token_id=2,
    ),
    "bert": lambda: tr.BertConfig(**ENCODER),
    "deberta": lambda: tr.DebertaConfig(**DEBERTA),
    "deberta-v2": lambda: tr.DebertaV2Config(**DEBERTA, conv_kernel_size=3, position_buckets=8),
    "deberta-v3": lambda: tr.DebertaV2Config(
        **DEBERTA, norm_rel_ebd="layer_norm", share_att_key=True, position_buckets=8,
        position_biased_input=False, legacy=False,
    ),
    "distilbert": lambda: tr.DistilBertConfig(
        vocab_size=64, dim=16, n_layers=3, n_heads=2, hidden_dim=24
    ),
    "electra": lambda: tr.ElectraConfig(**ENCODER, embedding_size=8),
    "gemma2": lambda: tr.Gemma2Config(**DECODER),
    "gpt2": lambda: tr.GPT2Config(**SIX, n_embd=16, n_layer=3, n_head=2, n_positions=40),
    "llama": lambda: tr.LlamaConfig(**DECODER),
    "longformer": lambda: tr.LongformerConfig(**ENCODER, attention_window=4),
    "mistral": lambda: tr.MistralConfig(**DECODER),
    "mixtral": lambda: tr.MixtralConfig(**DECODER, num_local_experts=2),
    "modernbert": lambda: tr.ModernBertConfig(**ENCODER, cls_token_id=1, sep_token_id=2),
    "mpnet": lambda: tr.MPNetConfig(**ENCODER),
    "opt": lambda: tr.OPTConfig(
        **SIX, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, ffn_dim=24,
        max_position_embeddings=40, word_embed_proj_dim=8, do_layer_norm_before=True,
    ),
    "qwen2": lambda: tr.Qwen2Config(**DECODER),
    "qwen3": lambda: tr.Qwen3Config(**DECODER),
    "roberta": lambda: tr.RobertaConfig(**ENCODER),
    "t5": lambda: tr.T5Config(
        **SIX, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_decoder_layers=3, num_heads=2,
        decoder_start_token_id=0,
    ),
    "xlm": lambda: tr.XLMConfig(**SIX, emb_dim=16, n_layers=3, n_heads=2),
    "xlm-roberta": lambda: tr.XLMRobertaConfig(**ENCODER),
    "xlnet": lambda: tr.XLNetConfig(vocab_size=64, d_model=16, n_layer=3, n_head=2, d_inner=24),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A class of transformers, and where its parts belong: prefixes of parameter names."""

    model: str
    config: str
    embeddings: tuple[str, ...]
    blocks: tuple[str, ...]
    """One prefix per depth, {} for its number in each stack."""
    head: tuple[str, ...] = ()
    pooler: tuple[str, ...] = ()
    classifier: str | None = "classifier"
    between: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Prefixes outside the blocks that share a block's depth."""


def ladder(*stacks: tuple[str, int]) -> tuple[str, ...]:
    return tuple(f"{path}.{index}" for path, length in stacks for index in range(length))


T5_TABLE = "block.0.layer.0.SelfAttention.relative_attention_bias"
T5_DEPTH_0 = ("shared", f"encoder.{T5_TABLE}", f"decoder.{T5_TABLE}")
T5_BLOCKS = ladder(("encoder.block", 2), ("decoder.block", 3))
T5_BODY: dict[str, Any] = {
    "embeddings": tuple(f"transformer.{name}" for name in T5_DEPTH_0),
    "blocks": tuple(f"transformer.{name}" for name in T5_BLOCKS),
    "between": {2: ("transformer.encoder.final_layer_norm",)},
}
BART_DEPTH_0 = (
    "shared", "encoder.embed_positions", "encoder.layernorm_embedding",
    "decoder.embed_positions", "decoder.layernorm_embedding",
)  # fmt: skip
BART_BLOCKS = ladder(("encoder.layers", 2), ("decoder.layers", 3))
BART_BODY: dict[str, Any] = {
    "embeddings": tuple(f"model.{name}" for name in BART_DEPTH_0),
    "blocks": tuple(f"model.{name}" for name in BART_BLOCKS),
}


def encoder(body: str, stack: str = "encoder.layer") -> dict[str, Any]:
    """The usual encoder of three blocks: everything else in the body is named embeddings."""
    return {"embeddings": (f"{body}.embeddings",), "blocks": ladder((f"{body}.{stack}", 3))}


def decoder(task: str, *, head: tuple[str, ...], **more: Any) -> dict[str, Any]:
    values = {"embeddings": ("model.embed_tokens",), "blocks": ladder(("model.layers", 3))}
    return {**values, "head": ("model.norm", *head), "classifier": task, **more}


GPT2: dict[str, Any] = {
    "embeddings": ("transformer.wte", "transformer.wpe"),
    "blocks": ladder(("transformer.h", 3)),
}
XLNET: dict[str, Any] = {
    "embeddings": ("transformer.word_embedding", "transformer.mask_emb"),
    "blocks": ladder(("transformer.layer", 3)),
}
MPNET: dict[str, Any] = {
    **encoder("mpnet"),
    "embeddings": ("mpnet.embeddings", "mpnet.encoder.relative_attention_bias"),
}
DEBERTA_V3: dict[str, Any] = {
    **encoder("deberta"),
    "embeddings": (
        "deberta.embeddings", "deberta.encoder.rel_embeddings", "deberta.encoder.LayerNorm",
    ),
}  # fmt: skip
DENSE_HEAD: dict[str, Any] = {
    "head": ("classifier",),
    "pooler": ("classifier.dense",),
    "classifier": "classifier.out_proj",
}
BERT_POOLED: dict[str, Any] = {
    **encoder("bert"), "head": ("bert.pooler", "classifier"), "pooler": ("bert.pooler",),
}  # fmt: skip
ALBERT: dict[str, Any] = {
    "embeddings": ("albert.embeddings", "albert.encoder.embedding_hidden_mapping_in"),
    "blocks": ("albert.encoder.albert_layer_groups.0.albert_layers.0",),
}
ELECTRA: dict[str, Any] = {
    **encoder("electra"), "embeddings": ("electra.embeddings", "electra.embeddings_project"),
}  # fmt: skip
MODERN: dict[str, Any] = {
    "embeddings": ("model.embeddings",),
    "blocks": ladder(("model.layers", 3)),
}
MODERN_HEAD = ("model.final_norm", "head")

CASES = [
    Case("BertModel", "bert", ("embeddings",), ladder(("encoder.layer", 3)), ("pooler",),
         ("pooler",), None),
    Case("BertForSequenceClassification", "bert", **BERT_POOLED),
    Case("BertForMultipleChoice", "bert", **BERT_POOLED),
    Case("BertForTokenClassification", "bert", **encoder("bert"), head=("classifier",)),
    Case("BertForQuestionAnswering", "bert", **encoder("bert"), head=("qa_outputs",),
         classifier="qa_outputs"),
    Case("BertForMaskedLM", "bert", **encoder("bert"), head=("cls.predictions",),
         pooler=("cls.predictions.transform",), classifier="cls.predictions.decoder"),
    Case("RobertaForSequenceClassification", "roberta", **encoder("roberta"), **DENSE_HEAD),
    Case("RobertaForMultipleChoice", "roberta", **encoder("roberta"),
         head=("roberta.pooler", "classifier"), pooler=("roberta.pooler",)),
    Case("RobertaForMaskedLM", "roberta", **encoder("roberta"), head=("lm_head",),
         pooler=("lm_head.dense", "lm_head.layer_norm"), classifier="lm_head.decoder"),
    Case("XLMRobertaForSequenceClassification", "xlm-roberta", **encoder("roberta"), **DENSE_HEAD),
    Case("XLMRobertaForTokenClassification", "xlm-roberta", **encoder("roberta"),
         head=("classifier",)),
    Case("DebertaForSequenceClassification", "deberta", **{
        **encoder("deberta"),
        "embeddings": ("deberta.embeddings", "deberta.encoder.rel_embeddings"),
    }, head=("pooler", "classifier"), pooler=("pooler",)),
    Case("DebertaV2ForSequenceClassification", "deberta-v2", **{
        **encoder("deberta"),
        "embeddings": ("deberta.embeddings", "deberta.encoder.rel_embeddings"),
    }, head=("pooler", "classifier"), pooler=("pooler",), between={1: ("deberta.encoder.conv",)}),
    Case("DebertaV2ForSequenceClassification", "deberta-v3", **DEBERTA_V3,
         head=("pooler", "classifier"), pooler=("pooler",)),
    Case("DebertaV2ForMultipleChoice", "deberta-v3", **DEBERTA_V3,
         head=("pooler", "classifier"), pooler=("pooler",)),
    Case("DebertaV2ForTokenClassification", "deberta-v3", **DEBERTA_V3, head=("classifier",)),
    Case("DebertaV2ForMaskedLM", "deberta-v3", **DEBERTA_V3, head=("lm_predictions",),
         pooler=("lm_predictions.lm_head.dense", "lm_predictions.lm_head.LayerNorm"),
         classifier=None),
    Case("ElectraForSequenceClassification", "electra", **ELECTRA, **DENSE_HEAD),
    Case("ElectraModel", "electra", ("embeddings", "embeddings_project"),
         ladder(("encoder.layer", 3)), (), (), None),
    Case("AlbertForSequenceClassification", "albert", **ALBERT,
         head=("albert.pooler", "classifier"), pooler=("albert.pooler",)),
    Case("DistilBertForSequenceClassification", "distilbert",
         **encoder("distilbert", "transformer.layer"), head=("pre_classifier", "classifier"),
         pooler=("pre_classifier",)),
    Case("DistilBertForTokenClassification", "distilbert",
         **encoder("distilbert", "transformer.layer"), head=("classifier",)),
    Case("MPNetForSequenceClassification", "mpnet", **MPNET, **DENSE_HEAD),
    Case("MPNetModel", "mpnet", ("embeddings", "encoder.relative_attention_bias"),
         ladder(("encoder.layer", 3)), ("pooler",), ("pooler",), None),
    Case("ModernBertForSequenceClassification", "modernbert", **MODERN,
         head=(*MODERN_HEAD, "classifier"), pooler=("head",)),
    Case("ModernBertForMaskedLM", "modernbert", **MODERN, head=(*MODERN_HEAD, "decoder.bias"),
         pooler=("head",), classifier="decoder"),
    Case("ModernBertModel", "modernbert", ("embeddings",), ladder(("layers", 3)), ("final_norm",),
         (), None),
    Case("XLNetForSequenceClassification", "xlnet", **XLNET,
         head=("sequence_summary", "logits_proj"), pooler=("sequence_summary",),
         classifier="logits_proj"),
    Case("XLNetForMultipleChoice", "xlnet", **XLNET, head=("sequence_summary", "logits_proj"),
         pooler=("sequence_summary",), classifier="logits_proj"),
    Case("XLNetLMHeadModel", "xlnet", **XLNET, head=("lm_loss.bias",), classifier="lm_loss"),
    Case("LongformerForSequenceClassification", "longformer", **encoder("longformer"),
         **DENSE_HEAD),
    Case("LongformerForQuestionAnswering", "longformer", **encoder("longformer"),
         head=("qa_outputs",), classifier="qa_outputs"),
    Case("GPT2Model", "gpt2", ("wte", "wpe"), ladder(("h", 3)), ("ln_f",), (), None),
    Case("GPT2LMHeadModel", "gpt2", **GPT2, head=("transformer.ln_f",), classifier="lm_head"),
    Case("GPT2ForSequenceClassification", "gpt2", **GPT2, head=("transformer.ln_f", "score"),
         classifier="score"),
    Case("LlamaForCausalLM", "llama", **decoder("lm_head", head=("lm_head",))),
    Case("LlamaForSequenceClassification", "llama", **decoder("score", head=("score",))),
    Case("LlamaForQuestionAnswering", "llama", ("transformer.embed_tokens",),
         ladder(("transformer.layers", 3)), ("transformer.norm", "qa_outputs"), (), "qa_outputs"),
    Case("LlamaModel", "llama", ("embed_tokens",), ladder(("layers", 3)), ("norm",), (), None),
    Case("MistralForSequenceClassification", "mistral", **decoder("score", head=("score",))),
    Case("MixtralForCausalLM", "mixtral", **decoder("lm_head", head=("lm_head",))),
    Case("Qwen2ForTokenClassification", "qwen2", **decoder("score", head=("score",))),
    Case("Qwen3ForSequenceClassification", "qwen3", **decoder("score", head=("score",))),
    Case("Gemma2ForCausalLM", "gemma2", **decoder("lm_head", head=())),
    Case("OPTForCausalLM", "opt",
         tuple(f"model.decoder.{n}" for n in ("embed_tokens", "embed_positions", "project_in")),
         ladder(("model.decoder.layers", 3)),
         ("model.decoder.project_out", "model.decoder.final_layer_norm"),
         ("model.decoder.project_out",), "lm_head"),
    Case("XLMForSequenceClassification", "xlm",
         tuple(f"transformer.{n}" for n in ("position_embeddings", "embeddings", "layer_norm_emb")),
         ladder(("transformer.attentions", 3)), ("sequence_summary",), (),
         "sequence_summary.summary",
         {k + 1: tuple(f"transformer.{n}.{k}" for n in ("ffns", "layer_norm1", "layer_norm2"))
          for k in range(3)}),
    Case("T5ForConditionalGeneration", "t5", T5_DEPTH_0, T5_BLOCKS,
         ("decoder.final_layer_norm",), (), "lm_head", {2: ("encoder.final_layer_norm",)}),
    Case("T5Model", "t5", T5_DEPTH_0, T5_BLOCKS, ("decoder.final_layer_norm",), (), None,
         {2: ("encoder.final_layer_norm",)}),
    Case("T5ForSequenceClassification", "t5", **T5_BODY,
         head=("transformer.decoder.final_layer_norm", "classification_head"),
         pooler=("classification_head.dense",), classifier="classification_head.out_proj"),
    Case("T5ForQuestionAnswering", "t5", T5_DEPTH_0, T5_BLOCKS,
         ("decoder.final_layer_norm", "qa_outputs"), (), "qa_outputs",
         {2: ("encoder.final_layer_norm",)}),
    Case("T5EncoderModel", "t5", ("shared", f"encoder.{T5_TABLE}"), ladder(("encoder.block", 2)),
         ("encoder.final_layer_norm",), (), None),
    Case("BartModel", "bart", BART_DEPTH_0, BART_BLOCKS, (), (), None),
    Case("BartForConditionalGeneration", "bart", **BART_BODY, classifier="lm_head"),
    Case("BartForSequenceClassification", "bart", **BART_BODY, head=("classification_head",),
         pooler=("classification_head.dense",), classifier="classification_head.out_proj"),
    Case("BartForQuestionAnswering", "bart", **BART_BODY, head=("qa_outputs",),
         classifier="qa_outputs"),
]  # fmt: skip


def build(case: Case) -> nn.Module:
    with torch.device("meta"):
        return getattr(tr, case.model)(CONFIGS[case.config]())


def expected_depths(case: Case, model: nn.Module) -> dict[str, int]:
    """The hand-written answer as one depth per parameter; the longest matching prefix decides."""
    top = len(case.blocks) + 1
    prefixes = {f"{path}.": depth for depth, path in enumerate(case.blocks, start=1)}
    parts = {0: case.embeddings, **case.between, top: case.head}
    prefixes.update({prefix: depth for depth, names in parts.items() for prefix in names})
    return {
        name: prefixes[max((p for p in prefixes if name.startswith(p)), key=len)]
        for name, _ in model.named_parameters()
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.model}-{case.config}")
def test_every_parameter_has_the_depth_written_by_hand(case: Case) -> None:
    model = build(case)
    layers = LayerMap.from_model(model)
    found = {name: layers.depth_of(name) for name, _ in model.named_parameters()}
    assert layers.num_layers == len(case.blocks)
    assert found == expected_depths(case, model)
    for depth, path in enumerate(case.blocks, start=1):
        assert layers.blocks[depth][0] == path
    assert layers.pooler == case.pooler
    assert layers.classifier == case.classifier


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.model}-{case.config}")
def test_every_prefix_of_the_answer_is_a_part_of_the_model(case: Case) -> None:
    names = [name for name, _ in build(case).named_parameters(remove_duplicate=False)]
    parts = [*case.embeddings, *case.blocks, *case.head, *sum(case.between.values(), ())]
    assert [part for part in parts if not any(name.startswith(part) for name in names)] == []


def test_tiny_weights_and_none_at_all_give_the_same_map() -> None:
    with torch.device("meta"):
        empty = tiny_bert()
    assert LayerMap.from_model(tiny_bert()) == LayerMap.from_model(empty)


def test_the_map_is_the_same_every_time_and_leaves_model_and_generators_alone() -> None:
    model = tiny_bert().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first = LayerMap.from_model(model)
    assert torch.equal(torch.rand(4), expected)
    assert first == LayerMap.from_model(model)
    assert model.training
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    assert all("forward" not in vars(module) for module in model.modules())


def test_the_record_is_frozen_and_can_be_pickled() -> None:
    layers = LayerMap.from_model(tiny_bert())
    with pytest.raises(AttributeError):
        layers.num_layers = 7  # type: ignore[misc]
    with pytest.raises(TypeError):
        layers.blocks[1] = ()  # type: ignore[index]
    assert pickle.loads(pickle.dumps(layers)) == layers


def test_the_table_is_aligned_and_adds_up() -> None:
    model = tiny_bert()
    lines = str(LayerMap.from_model(model)).splitlines()
    assert lines[0].split() == ["depth", "layer", "parameters", "tensors", "modules"]
    assert [line.split()[1] for line in lines[1:]] == [
        "embeddings", "layer_01", "layer_02", "layer_03", "head",
    ]  # fmt: skip
    end = lines[0].index("parameters") + len("parameters")
    counts = [int(line[:end].split()[-1].replace(",", "")) for line in lines[1:]]
    assert sum(counts) == sum(p.numel() for p in model.parameters())


def test_names_are_total_disjoint_and_in_the_order_of_registration() -> None:
    model = tiny_bert()
    layers = LayerMap.from_model(model)
    order = [name for name, _ in model.named_parameters()]
    per_depth = [layers.names(depth) for depth in range(layers.num_layers + 2)]
    assert sorted(sum(per_depth, ())) == sorted(order)
    assert all(list(names) == sorted(names, key=order.index) for names in per_depth)


def test_unknown_names_and_depths_are_refused() -> None:
    layers = LayerMap.from_model(tiny_bert())
    with pytest.raises(ConfigurationError, match=r"did you mean classifier\.weight"):
        layers.depth_of("clasifier.weight")
    with pytest.raises(ConfigurationError, match=r"must be in 0\.\.4"):
        layers.names(5)


def test_a_tied_weight_has_the_depth_of_the_embedding_under_both_names() -> None:
    model = tr.BertForMaskedLM(CONFIGS["bert"]())
    layers = LayerMap.from_model(model)
    assert layers.depth_of("bert.embeddings.word_embeddings.weight") == 0
    assert layers.depth_of("cls.predictions.decoder.weight") == 0
    assert layers.depth_of("cls.predictions.decoder.bias") == layers.num_layers + 1
    assert "cls.predictions.decoder.weight" not in layers.names(0)


def test_a_shared_block_counts_once_and_says_so() -> None:
    layers = LayerMap.from_model(tr.AlbertModel(CONFIGS["albert"]()))
    assert layers.num_layers == 1
    assert "is one block that runs 3 times" in str(layers)


@pytest.mark.parametrize(("layers", "decoder_layers"), [(1, 1), (1, 2), (2, 1)])
def test_a_block_that_stands_alone_is_one_block_though_made_of_a_list(
    layers: int, decoder_layers: int
) -> None:
    config = CONFIGS["t5"]()
    config.num_layers, config.num_decoder_layers = layers, decoder_layers
    found = LayerMap.from_model(tr.T5ForConditionalGeneration(config))
    expected = ladder(("encoder.block", layers), ("decoder.block", decoder_layers))
    assert tuple(found.blocks.values()) == tuple((path,) for path in expected)
    encoder = LayerMap.from_model(tr.T5EncoderModel(config))
    assert encoder.num_layers == layers


class Pooled(nn.Module):
    """The usual competition model: a body, a pooling and a head of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Linear(16, 16)  # registered before the body, used after it
        self.weights = nn.Parameter(torch.ones(4))
        self.body = tr.RobertaModel(tr.RobertaConfig(**ENCODER, output_hidden_states=True))
        self.attention = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 1))
        self.output = nn.Linear(16, 1)

    def pool(self, batch: dict[str, Tensor]) -> Tensor:
        states = torch.stack(self.body(**batch).hidden_states)
        hidden = self.early((states * self.weights.view(-1, 1, 1, 1)).sum(0))
        return self.output((self.attention(hidden).softmax(1) * hidden).sum(1))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Any = None) -> Any:
        return self.pool({"input_ids": input_ids, "attention_mask": attention_mask})


class PooledFromBatch(Pooled):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        return self.pool(batch)


@pytest.mark.parametrize("kind", [Pooled, PooledFromBatch])
def test_a_module_of_ones_own_around_a_body(kind: type[Pooled]) -> None:
    layers = LayerMap.from_model(kind())
    assert layers.num_layers == 3
    assert layers.blocks[3] == ("body.encoder.layer.2",)
    assert set(layers.names(4)) == {
        "weights", "early.weight", "early.bias", "body.pooler.dense.weight",
        "body.pooler.dense.bias", "attention.0.weight", "attention.0.bias", "attention.2.weight",
        "attention.2.bias", "output.weight", "output.bias",
    }  # fmt: skip
    assert {"early", "attention"} <= set(layers.pooler)
    assert layers.classifier == "output"


class Opaque(nn.Module):
    """A body and a head, in a forward pass that nobody can guess."""

    def __init__(self, *, prompt: bool) -> None:
        super().__init__()
        self.body = tr.BertModel(CONFIGS["bert"](), add_pooling_layer=False)
        self.dense = nn.Linear(16, 16)
        self.output = nn.Linear(16, 2)
        if prompt:
            self.prompt = nn.Embedding(4, 16)

    def forward(self, batch: Any) -> Tensor:
        return self.output(self.dense(self.body(batch.tokens).last_hidden_state[:, 0]))


def test_what_follows_an_opaque_body_is_head() -> None:
    layers = LayerMap.from_model(Opaque(prompt=False))
    assert set(layers.names(4)) == {"dense.weight", "dense.bias", "output.weight", "output.bias"}
    assert (layers.pooler, layers.classifier) == (("dense",), "output")


def test_an_embedding_beside_an_opaque_body_is_refused_until_it_is_told() -> None:
    model = Opaque(prompt=True)
    with pytest.raises(LayerDiscoveryError, match=r"1 of 58 parameters") as refusal:
        LayerMap.from_model(model)
    assert "overrides={'prompt.*': 'head'}" in str(refusal.value)
    assert "layer_03" in str(refusal.value)
    layers = LayerMap.from_model(model, overrides={"prompt.*": "embeddings"})
    assert layers.depth_of("prompt.weight") == 0


class SoftPrompt(nn.Module):
    """A learned prompt in front of the tokens, and features that never pass through the body."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt = nn.Parameter(torch.randn(1, 4, 16))
        self.body = tr.BertModel(CONFIGS["bert"](), add_pooling_layer=False)
        self.features = nn.Embedding(64, 16)
        self.output = nn.Linear(32, 2)

    def forward(self, input_ids: Tensor) -> Tensor:
        words = self.body.get_input_embeddings()(input_ids)
        words = torch.cat([self.prompt.expand(len(words), -1, -1), words], dim=1)
        first = self.body(inputs_embeds=words).last_hidden_state[:, 0]
        return self.output(torch.cat([first, self.features(input_ids).mean(1)], dim=-1))


def test_what_feeds_the_blocks_is_below_them_and_what_passes_by_them_is_head() -> None:
    layers = LayerMap.from_model(SoftPrompt())
    assert layers.depth_of("prompt") == 0
    assert layers.depth_of("features.weight") == layers.num_layers + 1


class Wrapped(nn.Module):
    """As data-parallel wrappers do: the model is an attribute, and calls are passed on."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


@pytest.mark.parametrize(
    ("wrap", "prefix"),
    [
        (Wrapped, "module."),
        (torch.compile, "_orig_mod."),
        (lambda model: torch.compile(Wrapped(torch.compile(model))), "_orig_mod.module._orig_mod."),
    ],
    ids=["data-parallel", "compiled", "both"],
)
def test_wrappers_only_lengthen_the_names(wrap: Callable[..., nn.Module], prefix: str) -> None:
    plain, wrapped = LayerMap.from_model(tiny_bert()), LayerMap.from_model(wrap(tiny_bert()))
    for depth in range(plain.num_layers + 2):
        assert wrapped.names(depth) == tuple(prefix + name for name in plain.names(depth))
    assert wrapped.pooler == (f"{prefix}bert.pooler",)
    assert wrapped.classifier == f"{prefix}classifier"
    assert wrapped.blocks[1] == (f"{prefix}bert.encoder.layer.0",)


# peft reads an attribute that transformers has renamed.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_lora_belongs_to_its_block_and_the_saved_copy_of_the_head_is_head() -> None:
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"])
    layers = LayerMap.from_model(peft.get_peft_model(tiny_bert(), config))
    body = "base_model.model"
    lora = f"{body}.bert.encoder.layer.1.attention.self.query.lora_A.default.weight"
    assert layers.num_layers == 3
    assert layers.depth_of(lora) == 2
    assert layers.depth_of(f"{body}.classifier.modules_to_save.default.weight") == 4
    assert layers.depth_of(f"{body}.classifier.original_module.weight") == 4
    assert layers.classifier == f"{body}.classifier.modules_to_save.default"
    assert layers.pooler == (f"{body}.bert.pooler",)


def test_overrides_come_first_and_take_globs() -> None:
    chosen = {"bert.pooler.*": 3, "*.position_embeddings.weight": "head", "classifier.bias": 0}
    layers = LayerMap.from_model(tiny_bert(), overrides=chosen)
    assert layers.depth_of("bert.pooler.dense.weight") == 3
    assert layers.depth_of("bert.embeddings.position_embeddings.weight") == 4
    assert layers.depth_of("classifier.bias") == 0
    assert layers.depth_of("classifier.weight") == 4


def test_an_override_by_the_second_name_of_a_tied_weight_holds_for_both() -> None:
    model = tr.BertForMaskedLM(CONFIGS["bert"]())
    layers = LayerMap.from_model(model, overrides={"cls.predictions.decoder.weight": "head"})
    assert layers.depth_of("bert.embeddings.word_embeddings.weight") == 4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"clasifier.weight": "head"}, r"'clasifier\.weight' matches no parameter .did you mean"),
        ({"bert.pooler.*": 2, "*.dense.bias": "head"}, "two depths, 2 and 'head'"),
        ({"classifier.*": 5}, r"asks for depth 5; this model has depths 0 .* to 4"),
        ({"classifier.*": -1}, "must give a depth .*, got -1"),
        ({"classifier.*": "top"}, "must give a depth .*, got 'top'"),
        ({"classifier.*": True}, "must give a depth .*, got True"),
    ],
)
def test_overrides_that_cannot_be_right(overrides: Any, message: str) -> None:
    with pytest.raises(LayerDiscoveryError, match=message):
        LayerMap.from_model(tiny_bert(), overrides=overrides)


def test_a_model_without_blocks_is_refused_until_it_is_told() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 2))
    with pytest.raises(LayerDiscoveryError, match="no stack of blocks"):
        LayerMap.from_model(model)
    told = {"0.*": "embeddings", "2.*": 1, "3.*": "head"}
    layers = LayerMap.from_model(model, overrides=told)
    assert [layers.names(depth) for depth in range(3)] == [
        ("0.weight", "0.bias"), ("2.weight", "2.bias"), ("3.weight", "3.bias"),
    ]  # fmt: skip


class TwoBodies(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = tr.BertModel(CONFIGS["bert"](), add_pooling_layer=False)
        shallow = tr.BertConfig(**{**ENCODER, "num_hidden_layers": 2})
        self.right = tr.BertModel(shallow, add_pooling_layer=False)
        self.output = nn.Linear(16, 2)

    def forward(self, input_ids: Tensor) -> Tensor:
        both = self.left(input_ids)[0] + self.right(input_ids)[0]
        return self.output(both[:, 0])


def test_bodies_side_by_side_are_aligned_at_the_top() -> None:
    layers = LayerMap.from_model(TwoBodies())
    assert dict(layers.blocks) == {
        1: ("left.encoder.layer.0",),
        2: ("left.encoder.layer.1", "right.encoder.layer.0"),
        3: ("left.encoder.layer.2", "right.encoder.layer.1"),
    }
    assert layers.depth_of("right.embeddings.word_embeddings.weight") == 0
    assert layers.depth_of("output.weight") == 4


class UpsideDown(nn.Module):
    """Runs its blocks from the last to the first."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(64, 16)
        layers = [nn.TransformerEncoderLayer(16, 2, 24, batch_first=True) for _ in range(3)]
        self.layers = nn.ModuleList(layers)
        self.output = nn.Linear(16, 2)

    def forward(self, input_ids: Tensor) -> Tensor:
        vectors = self.embedding(input_ids)
        for layer in reversed(self.layers):
            vectors = layer(vectors)
        return self.output(vectors[:, 0])


def test_blocks_that_run_in_another_order_are_refused_and_the_overrides_it_names_are_accepted() -> (
    None
):
    model = UpsideDown()
    with pytest.raises(LayerDiscoveryError, match=r"run in another order .* '2', '1', '0'") as e:
        LayerMap.from_model(model)
    advice = ast.literal_eval(str(e.value).rpartition("overrides=")[2])
    layers = LayerMap.from_model(model, overrides=advice)
    assert dict(layers.blocks) == {1: ("layers.2",), 2: ("layers.1",), 3: ("layers.0",)}
    assert layers.depth_of("embedding.weight") == 0
    assert layers.depth_of("output.weight") == 4


class Lost(UpsideDown):
    """Hands nothing on from one block to the next, as far as a tensor shows."""

    def forward(self, input_ids: Tensor) -> Tensor:
        vectors = self.embedding(input_ids)
        for layer in self.layers:
            layer(vectors)
            vectors = self.embedding(input_ids)
        return self.output(vectors[:, 0])


def test_blocks_between_which_the_way_of_the_data_is_lost_are_refused() -> None:
    with pytest.raises(LayerDiscoveryError, match=r"'layers\.2' run side by side"):
        LayerMap.from_model(Lost())


def test_a_tied_weight_that_the_head_registers_first_has_the_depth_of_the_embedding() -> None:
    model = tr.CamembertForMaskedLM(tr.CamembertConfig(**ENCODER))
    assert next(name for name, _ in model.named_parameters()).startswith("lm_head.")
    layers = LayerMap.from_model(model)
    assert layers.depth_of("lm_head.decoder.weight") == 0
    assert layers.depth_of("lm_head.dense.weight") == layers.num_layers + 1
