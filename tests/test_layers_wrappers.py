"""LayerMap against answers written by hand: adapters, wrappers, modules of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import torch.distributed as dist
import transformers as tr
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.optim.swa_utils import AveragedModel
from transformers.models.bert.modeling_bert import BertLayer

from hf_stabilizer import LayerMap
from tests.layer_answers import GROUPED, PICTURES, SIZES, Answer, cases, check, ladder
from tests.tiny import tiny_bert

# torch.compile, and DeBERTa in transformers 5.4, import what torch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")


def bert_inside(prefix: str) -> dict[str, Any]:
    """The answer for BERT with a classifier, somewhere inside."""
    return {
        "towers": (ladder((f"{prefix}bert.encoder.layer", 3)),),
        "embeddings": (f"{prefix}bert.embeddings",),
        "head": (f"{prefix}bert.pooler", f"{prefix}classifier"),
        "pooler": (f"{prefix}bert.pooler",),
        "meta": False,
    }


def adapted(config: peft.PeftConfig) -> Callable[[], nn.Module]:
    return lambda: peft.get_peft_model(tiny_bert(), config)


INSIDE = bert_inside("base_model.model.")
BESIDE = bert_inside("base_model.")
PROMPTED = {**BESIDE, "embeddings": ("base_model.bert.embeddings", "prompt_encoder")}
ADAPTERS = [
    Answer(
        "lora-embeddings",
        adapted(peft.LoraConfig(r=2, target_modules=["word_embeddings", "query"])),
        **INSIDE,
        classifier="base_model.model.classifier",
    ),
    Answer(
        "ia3",
        adapted(
            peft.IA3Config(
                task_type="SEQ_CLS", target_modules=["key", "output.dense"],
                feedforward_modules=["output.dense"],
            )
        ),
        **INSIDE,
        classifier="base_model.model.classifier.modules_to_save.default",
    ),
    Answer(
        "adalora",
        adapted(
            peft.AdaLoraConfig(
                task_type="SEQ_CLS", init_r=4, target_r=2, total_step=10, target_modules=["value"]
            )
        ),
        **INSIDE,
    ),
    Answer(  # keys and values for every block, from one table
        "prefix-tuning",
        adapted(
            peft.PrefixTuningConfig(
                task_type="SEQ_CLS", num_virtual_tokens=4, prefix_projection=True,
                encoder_hidden_size=8,
            )
        ),
        **PROMPTED,
    ),
    Answer(
        "prompt-tuning",
        adapted(peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4)),
        **PROMPTED,
    ),
]  # fmt: skip


# peft reads an attribute that transformers has renamed.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@cases(ADAPTERS)
def test_adapters_have_the_depth_of_what_they_adapt(answer: Answer) -> None:
    check(answer)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_lora_on_the_classifier_itself_is_head() -> None:
    config = peft.LoraConfig(r=2, target_modules=["query", "classifier"])
    model = peft.get_peft_model(tiny_bert(), config)
    layers = LayerMap.from_model(model)
    answer = Answer("lora-classifier", lambda: model, **INSIDE)
    assert answer.mistakes(model, layers) == {}
    inside = {name for name in layers.names(4) if ".classifier." in name}
    lora = {f"base_model.model.classifier.lora_{side}.default.weight" for side in "AB"}
    base = {f"base_model.model.classifier.base_layer.{kind}" for kind in ("weight", "bias")}
    assert inside == lora | base
    assert layers.pooler == ("base_model.model.bert.pooler",)
    assert layers.classifier == "base_model.model.classifier.base_layer"


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def same_but_for(remove: str, plain: nn.Module, wrapped: nn.Module) -> None:
    """Holds that both maps are the same when a piece is left out of every name."""
    expected, found = LayerMap.from_model(plain), LayerMap.from_model(wrapped)
    assert found.num_layers == expected.num_layers
    for depth in range(expected.num_layers + 2):
        names = {name.replace(remove, "") if remove else name for name in found.names(depth)}
        assert names == set(expected.names(depth))
    assert found.classifier is not None
    assert found.classifier.replace(remove, "") == expected.classifier
    assert tuple(path.replace(remove, "") for path in found.pooler) == expected.pooler


@pytest.mark.usefixtures("one_process")
def test_distributed_data_parallel() -> None:
    same_but_for("module.", tiny_bert(), nn.parallel.DistributedDataParallel(tiny_bert()))


@pytest.mark.usefixtures("one_process")
def test_fsdp2_blocks_and_root() -> None:
    mesh = dist.device_mesh.init_device_mesh("cpu", (1,))
    model = tiny_bert()
    for block in model.bert.encoder.layer:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert all(isinstance(p, dist.tensor.DTensor) for p in model.parameters())
    same_but_for("", tiny_bert(), model)


# FSDP1 is deprecated, and says so.
@pytest.mark.filterwarnings("ignore:.*FSDP:FutureWarning")
@pytest.mark.filterwarnings("ignore:FSDP is switching to use `NO_SHARD`:UserWarning")
@pytest.mark.usefixtures("one_process")
def test_fsdp1_that_keeps_the_parameters() -> None:
    wrapped = FullyShardedDataParallel(
        tiny_bert(), use_orig_params=True, device_id=torch.device("cpu"),
        auto_wrap_policy=ModuleWrapPolicy({BertLayer}),
    )  # fmt: skip
    assert any("layer.1._fsdp_wrapped_module." in name for name, _ in wrapped.named_parameters())
    same_but_for("_fsdp_wrapped_module.", tiny_bert(), wrapped)


def blocks_replaced(change: Callable[[nn.Module], nn.Module]) -> nn.Module:
    model = tiny_bert()
    for index, block in enumerate(model.bert.encoder.layer):
        model.bert.encoder.layer[index] = change(block)
    return model


def test_blocks_that_are_wrapped_one_by_one() -> None:
    compiled = blocks_replaced(torch.compile)  # type: ignore[arg-type]
    same_but_for("_orig_mod.", tiny_bert(), compiled)
    same_but_for("_checkpoint_wrapped_module.", tiny_bert(), blocks_replaced(checkpoint_wrapper))


def test_data_parallel_and_averaged_models() -> None:
    same_but_for("module.", tiny_bert(), nn.DataParallel(tiny_bert()))
    same_but_for("module.", tiny_bert(), AveragedModel(tiny_bert()))


# transformers has renamed it; older versions know the old name only.
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
def test_gradient_checkpointing_and_half_precision_change_nothing() -> None:
    model = tiny_bert()
    model.gradient_checkpointing_enable()
    same_but_for("", tiny_bert(), model.train().to(torch.bfloat16))


class Transformer(nn.Module):
    """As the first module of a sentence-transformers model: features in, features out."""

    def __init__(self) -> None:
        super().__init__()
        self.auto_model = tr.BertModel(tr.BertConfig(**SIZES), add_pooling_layer=False)

    def forward(self, features: dict[str, Tensor], **kwargs: Any) -> dict[str, Tensor]:
        known = {k: v for k, v in features.items() if k in ("input_ids", "attention_mask")}
        features["token_embeddings"] = self.auto_model(**known)[0]
        return features


class Pooling(nn.Module):
    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        mask = features["attention_mask"].unsqueeze(-1).float()
        vectors = features["token_embeddings"]
        features["sentence_embedding"] = (vectors * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return features


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 8)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        features["sentence_embedding"] = torch.tanh(self.linear(features["sentence_embedding"]))
        return features


class SentenceModel(nn.Sequential):
    def forward(self, input: dict[str, Tensor], **kwargs: Any) -> dict[str, Tensor]:
        for module in self:
            input = module(input)
        return input


class AttentionPooling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        scores = self.attention(states).masked_fill(mask.unsqueeze(-1) == 0, -1e4)
        return (scores.softmax(1) * states).sum(1)


class MultiSample(nn.Module):
    """Attention pooling, a norm, five dropouts; called with positions alone."""

    def __init__(self) -> None:
        super().__init__()
        config = tr.DebertaV2Config(
            **SIZES, relative_attention=True, pos_att_type=["c2p", "p2c"], share_att_key=True,
            norm_rel_ebd="layer_norm", position_buckets=8, position_biased_input=False,
        )  # fmt: skip
        self.fc = nn.Linear(16, 3)  # registered first, used last
        self.pooler = AttentionPooling()
        self.norm = nn.LayerNorm(16)
        self.dropouts = nn.ModuleList([nn.Dropout(0.1 * k) for k in range(5)])
        self.model = tr.DebertaV2Model(config)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        vector = self.norm(self.pooler(self.model(ids, mask)[0], mask))
        return torch.stack([self.fc(dropout(vector)) for dropout in self.dropouts]).mean(0)


class Recurrent(nn.Module):
    """Takes one dictionary; the last four states side by side, a recurrent head on top."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = tr.RobertaModel(
            tr.RobertaConfig(**SIZES, output_hidden_states=True), add_pooling_layer=False
        )
        self.lstm = nn.LSTM(64, 8, batch_first=True, bidirectional=True)
        self.head = nn.Linear(16, 1)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        states = torch.cat(self.backbone(**inputs).hidden_states[-4:], dim=-1)
        return self.head(self.lstm(states)[0].mean(1))


class ManyTargets(nn.Module):
    """A list of equal classifiers, which is no stack of blocks; loss and logits come back."""

    def __init__(self) -> None:
        super().__init__()
        self.bert = tr.BertModel(tr.BertConfig(**SIZES))
        self.heads = nn.ModuleList([nn.Linear(16, 1) for _ in range(5)])

    def forward(
        self, ids: Tensor, mask: Tensor, token_type_ids: Tensor, targets: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor]:
        pooled = self.bert(ids, attention_mask=mask, token_type_ids=token_type_ids).pooler_output
        logits = torch.cat([head(pooled) for head in self.heads], dim=1)
        loss = None if targets is None else nn.functional.mse_loss(logits, targets)
        return loss, logits


class OwnBlocksOnTop(nn.Module):
    """Two blocks of one's own above the pre-trained three: new, so head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = tr.BertModel(tr.BertConfig(**SIZES), add_pooling_layer=False)
        block = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True)
        self.mixer = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.output = nn.Linear(16, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.output(self.mixer(self.body(input_ids, attention_mask)[0]).mean(1))


class Siamese(nn.Module):
    """One body for two texts."""

    def __init__(self) -> None:
        super().__init__()
        self.body = tr.BertModel(tr.BertConfig(**SIZES), add_pooling_layer=False)
        self.output = nn.Linear(32, 2)

    def forward(self, input_ids_a: Tensor, input_ids_b: Tensor) -> Tensor:
        both = [self.body(ids)[0].mean(1) for ids in (input_ids_a, input_ids_b)]
        return self.output(torch.cat(both, dim=-1))


class Picture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = tr.Dinov2Model(
            tr.Dinov2Config(**{k: v for k, v in PICTURES.items() if k != "intermediate_size"})
        )
        self.neck = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.GELU())
        self.output = nn.Linear(8, 2)

    def forward(self, image: Tensor) -> Tensor:
        return self.output(self.neck(self.backbone(image).last_hidden_state[:, 0]))


class TextAndPicture(nn.Module):
    """Two bodies of different depth and one classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.text = tr.BertModel(tr.BertConfig(**SIZES), add_pooling_layer=False)
        self.image = tr.Dinov2Model(
            tr.Dinov2Config(hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
                            image_size=16, patch_size=4)
        )  # fmt: skip
        self.fuse = nn.Linear(24, 8)
        self.output = nn.Linear(8, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor) -> Tensor:
        words = self.text(input_ids, attention_mask)[0][:, 0]
        picture = self.image(pixel_values)[0][:, 0]
        return self.output(self.fuse(torch.cat([words, picture], dim=-1)).relu())


class AroundDecoder(nn.Module):
    """A decoder, adapted or compiled or neither, whose last token is classified."""

    def __init__(self, change: Callable[[nn.Module], nn.Module] = lambda body: body) -> None:
        super().__init__()
        self.llm = change(tr.Qwen3Model(tr.Qwen3Config(**GROUPED)))
        self.dropout = nn.Dropout(0.1)
        self.score = nn.Linear(16, 3, bias=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Any = None) -> Any:
        hidden = self.llm(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        last = attention_mask.sum(1) - 1
        logits = self.score(self.dropout(hidden[torch.arange(len(hidden)), last]))
        return {"logits": logits}


class PartsOfBert(nn.Module):
    """Embeddings and encoder taken out of their model."""

    def __init__(self) -> None:
        super().__init__()
        bert = tr.BertModel(tr.BertConfig(**SIZES))
        self.embeddings, self.encoder = bert.embeddings, bert.encoder
        self.output = nn.Linear(16, 2)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.output(self.encoder(self.embeddings(input_ids)).last_hidden_state[:, 0])


def around_decoder(name: str, path: str, change: Callable[[Any], Any]) -> Answer:
    return Answer(
        name,
        partial(AroundDecoder, change),
        (ladder((f"{path}.layers", 3)),),
        (f"{path}.embed_tokens",),
        (f"{path}.norm", "score"),
        pooler=(),
        classifier="score",
        meta=False,
    )


def with_lora(body: Any) -> Any:
    return peft.get_peft_model(body, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))


def own(name: str, make: Callable[[], nn.Module], body: str, **more: Any) -> Answer:
    """The answer for a body of three blocks in a module of one's own."""
    return Answer(
        name,
        make,
        (ladder((f"{body}.encoder.layer", 3)),),
        (f"{body}.embeddings", *more.pop("embeddings", ())),
        **more,
    )


OWN = [
    own(
        "sentence-transformers",
        lambda: SentenceModel(Transformer(), Pooling(), Dense()),
        "0.auto_model",
        head=("2.linear",),
        classifier="2.linear",
    ),
    own(
        "sentence-transformers-without-head",
        partial(SentenceModel, Transformer(), Pooling()),
        "0.auto_model",
        meta=False,
    ),
    own(
        "multi-sample-dropout",
        MultiSample,
        "model",
        embeddings=("model.encoder.rel_embeddings", "model.encoder.LayerNorm"),
        head=("fc", "pooler", "norm"),
        classifier="fc",
    ),
    own("recurrent", Recurrent, "backbone", head=("lstm", "head"), classifier="head"),
    own(
        "many-targets",
        ManyTargets,
        "bert",
        head=("bert.pooler", "heads"),
        pooler=("bert.pooler",),
    ),
    own(
        "own-blocks-on-top",
        OwnBlocksOnTop,
        "body",
        head=("mixer", "output"),
        classifier="output",
    ),
    Answer(
        "text-and-picture",
        TextAndPicture,
        (ladder(("text.encoder.layer", 3)), ladder(("image.encoder.layer", 2))),
        ("text.embeddings", "image.embeddings"),
        ("image.layernorm", "fuse", "output"),
        pooler=("fuse",),
        classifier="output",
    ),
    around_decoder("decoder", "llm", lambda body: body),
    around_decoder("compiled-decoder", "llm._orig_mod", torch.compile),
    around_decoder("decoder-with-lora", "llm.base_model.model", with_lora),
    Answer(
        "parts-of-bert",
        PartsOfBert,
        (ladder(("encoder.layer", 3)),),
        ("embeddings",),
        ("output",),
        classifier="output",
    ),
    own("siamese", Siamese, "body", head=("output",), classifier="output"),
    own(
        "picture",
        Picture,
        "backbone",
        head=("backbone.layernorm", "neck", "output"),
        classifier="output",
    ),
]


# peft reads an attribute that transformers has renamed.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@cases(OWN)
def test_a_module_of_ones_own_around_a_body(answer: Answer) -> None:
    check(answer)
