"""LayerMap against answers written by hand: state spaces, funnels, composed and unusual texts."""

from __future__ import annotations

from typing import Any

import pytest
import transformers as tr

from tests.layer_answers import (
    GROUPED,
    SIZES,
    TOKENS,
    TWO_STACKS,
    Answer,
    cases,
    check,
    ladder,
)

TWO = {**SIZES, "num_hidden_layers": 2}
SMALL = {**TOKENS, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
FUNNEL = {
    "vocab_size": 64, "d_model": 16, "n_head": 2, "d_head": 8, "d_inner": 24,
    "block_sizes": [2, 1], "num_decoder_layers": 2,
}  # fmt: skip
FUNNEL_BLOCKS = ("encoder.blocks.0.0", "encoder.blocks.0.1", "encoder.blocks.1.0")
PERCEIVER = {
    "num_latents": 6, "d_latents": 16, "d_model": 16, "num_blocks": 1,
    "num_self_attends_per_block": 3, "num_self_attention_heads": 2,
    "num_cross_attention_heads": 2, "qk_channels": 8, "v_channels": 16, "vocab_size": 64,
    "max_position_embeddings": 40,
}  # fmt: skip


def encoder(body: str, stack: str = "encoder.layer") -> dict[str, Any]:
    """The usual encoder of three blocks: everything in front of them is named embeddings."""
    return {"embeddings": (f"{body}.embeddings",), "towers": (ladder((f"{body}.{stack}", 3)),)}


def two_stacks(body: str) -> dict[str, Any]:
    """An encoder of two blocks and a decoder of three that attends to it."""
    return {"towers": (ladder((f"{body}.encoder.layers", 2), (f"{body}.decoder.layers", 3)),)}


def encoder_decoder_of_bert() -> tr.EncoderDecoderModel:
    config = tr.EncoderDecoderConfig.from_encoder_decoder_configs(
        tr.BertConfig(**TWO), tr.BertConfig(**SIZES)
    )
    return tr.EncoderDecoderModel(config=config)


def t5gemma() -> tr.T5GemmaForConditionalGeneration:
    module = tr.T5GemmaModuleConfig
    config = tr.T5GemmaConfig(encoder=module(**{**GROUPED, "num_hidden_layers": 2}),
                              decoder=module(**GROUPED), **TOKENS)  # fmt: skip
    return tr.T5GemmaForConditionalGeneration(config)


ANSWERS = [
    Answer(
        "mamba",
        lambda: tr.MambaForCausalLM(
            tr.MambaConfig(**TOKENS, hidden_size=16, num_hidden_layers=3, state_size=4)
        ),
        (ladder(("backbone.layers", 3)),),
        ("backbone.embeddings",),
        ("backbone.norm_f",),
        classifier="lm_head",
    ),
    Answer(  # Mamba, attention with experts, Mamba, attention with experts
        "jamba",
        lambda: tr.JambaForSequenceClassification(
            tr.JambaConfig(
                **{**GROUPED, "num_hidden_layers": 4}, attn_layer_period=2, attn_layer_offset=1,
                expert_layer_period=2, expert_layer_offset=1, num_experts=2, mamba_d_state=4,
                mamba_dt_rank=4, use_mamba_kernels=False,
            )
        ),
        (ladder(("model.layers", 4)),),
        ("model.embed_tokens",),
        ("model.final_layernorm", "score"),
        classifier="score",
    ),
    Answer(  # embedding_norm is the last norm, whatever its name
        "lfm2",
        lambda: tr.Lfm2ForCausalLM(
            tr.Lfm2Config(
                **SIZES, num_key_value_heads=2, block_multiple_of=8,
                layer_types=["conv", "full_attention", "conv"],
            )
        ),
        (ladder(("model.layers", 3)),),
        ("model.embed_tokens",),
        ("model.embedding_norm",),
        classifier="lm_head",
    ),
    Answer(
        "recurrent_gemma",
        lambda: tr.RecurrentGemmaForCausalLM(
            tr.RecurrentGemmaConfig(
                **SMALL, intermediate_size=24, lru_width=16, attention_window_size=8,
                conv1d_width=2,
            )
        ),
        (ladder(("model.layers", 3)),),
        ("model.embed_tokens",),
        ("model.final_norm",),
        classifier="lm_head",
    ),
    Answer(
        "funnel-classifier",
        lambda: tr.FunnelForSequenceClassification(tr.FunnelConfig(**FUNNEL)),
        (tuple(f"funnel.{path}" for path in FUNNEL_BLOCKS),),
        ("funnel.embeddings",),
        ("classifier",),
        pooler=("classifier.linear_hidden",),
        classifier="classifier.linear_out",
    ),
    Answer(
        "funnel-masked-lm",
        lambda: tr.FunnelForMaskedLM(tr.FunnelConfig(**FUNNEL)),
        ((*(f"funnel.{p}" for p in FUNNEL_BLOCKS), *ladder(("funnel.decoder.layers", 2))),),
        ("funnel.embeddings",),
        ("lm_head",),
        classifier="lm_head",
    ),
    Answer(  # characters, then every eighth position, then characters again
        "canine",
        lambda: tr.CanineForTokenClassification(
            tr.CanineConfig(
                hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24,
                max_position_embeddings=64, num_hash_buckets=64, local_transformer_stride=8,
            )
        ),
        (
            ladder(
                ("canine.initial_char_encoder.layer", 1),
                ("canine.encoder.layer", 3),
                ("canine.final_char_encoder.layer", 1),
            ),
        ),
        ("canine.char_embeddings",),
        ("canine.pooler", "classifier"),
        either={"canine.chars_to_molecules": {1, 2}, "canine.projection": {4, 5}},
        classifier="classifier",
    ),
    Answer(  # reads its input into the latents, thinks three times, is asked by positions
        "perceiver",
        lambda: tr.PerceiverForMaskedLM(tr.PerceiverConfig(**PERCEIVER)),
        (ladder(("perceiver.encoder.self_attends", 3)),),
        (
            "perceiver.input_preprocessor", "perceiver.embeddings",
            "perceiver.encoder.cross_attention",
        ),
        ("perceiver.decoder", "embedding_decoder"),
    ),
    Answer(  # layernorm_embedding runs after the blocks
        "bigbird_pegasus",
        lambda: tr.BigBirdPegasusForConditionalGeneration(
            tr.BigBirdPegasusConfig(**TWO_STACKS, block_size=4, num_random_blocks=1)
        ),
        **two_stacks("model"),
        embeddings=(
            "model.shared", "model.encoder.embed_positions", "model.decoder.embed_positions",
        ),
        between={2: ("model.encoder.layernorm_embedding",)},
        head=("model.decoder.layernorm_embedding",),
        classifier="lm_head",
    ),
    Answer(
        "gemma3",
        lambda: tr.Gemma3ForCausalLM(tr.Gemma3TextConfig(**GROUPED, sliding_window=8)),
        (ladder(("model.layers", 3)),),
        ("model.embed_tokens",),
        ("model.norm",),
        classifier="lm_head",
    ),
    Answer(
        "encoder_decoder-of-bert",
        encoder_decoder_of_bert,
        (ladder(("encoder.encoder.layer", 2), ("decoder.bert.encoder.layer", 3)),),
        ("encoder.embeddings", "decoder.bert.embeddings"),
        ("decoder.cls",),
        either={"encoder.pooler": {2, 6}},  # its output is thrown away
    ),
    Answer(
        "t5gemma",
        t5gemma,
        **two_stacks("model"),
        embeddings=("model.encoder.embed_tokens", "model.decoder.embed_tokens"),
        between={2: ("model.encoder.norm",)},
        head=("model.decoder.norm",),
    ),
    Answer(
        "gpt_neox",
        lambda: tr.GPTNeoXForSequenceClassification(tr.GPTNeoXConfig(**SIZES)),
        (ladder(("gpt_neox.layers", 3)),),
        ("gpt_neox.embed_in",),
        ("gpt_neox.final_layer_norm", "score"),
        classifier="score",
    ),
    Answer(
        "falcon",
        lambda: tr.FalconForTokenClassification(tr.FalconConfig(**SMALL)),
        (ladder(("transformer.h", 3)),),
        ("transformer.word_embeddings",),
        ("transformer.ln_f", "classifier"),
        classifier="classifier",
    ),
    Answer(
        "bloom",
        lambda: tr.BloomForSequenceClassification(
            tr.BloomConfig(**TOKENS, hidden_size=16, n_layer=3, n_head=2)
        ),
        (ladder(("transformer.h", 3)),),
        ("transformer.word_embeddings", "transformer.word_embeddings_layernorm"),
        ("transformer.ln_f", "score"),
        classifier="score",
    ),
    Answer(  # blocks of two matrices: the mixing of tokens has no weights
        "fnet",
        lambda: tr.FNetForSequenceClassification(tr.FNetConfig(**SIZES)),
        **encoder("fnet"),
        head=("fnet.pooler", "classifier"),
        pooler=("fnet.pooler",),
        classifier="classifier",
    ),
    Answer(
        "fnet-body",
        lambda: tr.FNetModel(tr.FNetConfig(**SIZES)),
        (ladder(("encoder.layer", 3)),),
        ("embeddings",),
        ("pooler",),
    ),
    Answer(
        "squeezebert",
        lambda: tr.SqueezeBertForSequenceClassification(
            tr.SqueezeBertConfig(
                **SIZES, embedding_size=16, q_groups=2, k_groups=2, v_groups=2,
                intermediate_groups=2, output_groups=2,
            )
        ),
        **encoder("transformer", "encoder.layers"),
        head=("transformer.pooler", "classifier"),
        pooler=("transformer.pooler",),
        classifier="classifier",
    ),
    Answer(
        "esm",
        lambda: tr.EsmForSequenceClassification(
            tr.EsmConfig(**{**SIZES, "vocab_size": 33}, mask_token_id=32)
        ),
        **encoder("esm"),
        head=("esm.encoder.emb_layer_norm_after", "esm.contact_head", "classifier"),
        pooler=("classifier.dense",),
        classifier="classifier.out_proj",
    ),
    Answer(
        "luke",
        lambda: tr.LukeForEntityClassification(
            tr.LukeConfig(**SIZES, entity_vocab_size=10, entity_emb_size=8)
        ),
        (ladder(("luke.encoder.layer", 3)),),
        ("luke.embeddings", "luke.entity_embeddings"),
        ("luke.pooler", "classifier"),
        classifier="classifier",
    ),
    Answer(  # an adapter for each language in every block
        "xmod",
        lambda: tr.XmodForSequenceClassification(
            tr.XmodConfig(**SIZES, languages=["en_XX", "de_DE"], default_language="en_XX")
        ),
        **encoder("roberta"),
        head=("classifier",),
        pooler=("classifier.dense",),
        classifier="classifier.out_proj",
    ),
    Answer(
        "led",
        lambda: tr.LEDForConditionalGeneration(
            tr.LEDConfig(
                **{k: v for k, v in TWO_STACKS.items() if k != "max_position_embeddings"},
                max_encoder_position_embeddings=40, max_decoder_position_embeddings=40,
                attention_window=4,
            )
        ),
        **two_stacks("led"),
        embeddings=(
            "led.shared", "led.encoder.embed_positions", "led.encoder.layernorm_embedding",
            "led.decoder.embed_positions", "led.decoder.layernorm_embedding",
        ),
        classifier="lm_head",
    ),
    Answer(
        "mbart",
        lambda: tr.MBartForSequenceClassification(tr.MBartConfig(**TWO_STACKS)),
        **two_stacks("model"),
        embeddings=(
            "model.shared", "model.encoder.embed_positions", "model.encoder.layernorm_embedding",
            "model.decoder.embed_positions", "model.decoder.layernorm_embedding",
        ),
        between={2: ("model.encoder.layer_norm",)},
        head=("model.decoder.layer_norm", "classification_head"),
        pooler=("classification_head.dense",),
        classifier="classification_head.out_proj",
    ),
    Answer(
        "m2m_100",
        lambda: tr.M2M100ForConditionalGeneration(tr.M2M100Config(**TWO_STACKS)),
        **two_stacks("model"),
        embeddings=("model.shared",),
        between={2: ("model.encoder.layer_norm",)},
        head=("model.decoder.layer_norm",),
        classifier="lm_head",
    ),
    Answer(
        "mobilebert-body",
        lambda: tr.MobileBertModel(
            tr.MobileBertConfig(
                **SIZES, embedding_size=8, intra_bottleneck_size=8, true_hidden_size=8,
                num_feedforward_networks=2, classifier_activation=True,
            )
        ),
        (ladder(("encoder.layer", 3)),),
        ("embeddings",),
        ("pooler",),
    ),
    Answer(
        "rwkv",
        lambda: tr.RwkvForCausalLM(
            tr.RwkvConfig(vocab_size=64, hidden_size=16, num_hidden_layers=3, context_length=32)
        ),
        (ladder(("rwkv.blocks", 3)),),
        ("rwkv.embeddings",),
        ("rwkv.ln_out", "head"),
        either={"rwkv.blocks.0.pre_ln": {0, 1}},  # over the embeddings, but the block's own
        classifier="head",
    ),
    Answer(  # every other block has experts
        "switch_transformers",
        lambda: tr.SwitchTransformersForConditionalGeneration(
            tr.SwitchTransformersConfig(
                vocab_size=64, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_decoder_layers=4,
                num_sparse_encoder_layers=1, num_sparse_decoder_layers=2, num_heads=2,
                num_experts=2, decoder_start_token_id=0,
            )
        ),
        (ladder(("encoder.block", 2), ("decoder.block", 4)),),
        (
            "shared", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
            "decoder.block.0.layer.0.SelfAttention.relative_attention_bias",
        ),
        ("decoder.final_layer_norm",),
        {2: ("encoder.final_layer_norm",)},
        classifier="lm_head",
    ),
    Answer(
        "prophetnet",
        lambda: tr.ProphetNetForConditionalGeneration(
            tr.ProphetNetConfig(
                vocab_size=64, hidden_size=16, encoder_ffn_dim=24, decoder_ffn_dim=24,
                num_encoder_layers=2, num_decoder_layers=3, num_encoder_attention_heads=2,
                num_decoder_attention_heads=2, max_position_embeddings=40, pad_token_id=0,
                bos_token_id=1, eos_token_id=2, decoder_start_token_id=0,
            )
        ),
        **two_stacks("prophetnet"),
        embeddings=(
            "prophetnet.word_embeddings", "prophetnet.encoder.position_embeddings",
            "prophetnet.encoder.embeddings_layer_norm", "prophetnet.decoder.position_embeddings",
            "prophetnet.decoder.embeddings_layer_norm", "prophetnet.decoder.ngram_embeddings",
        ),
        classifier="lm_head",
    ),
    Answer(  # one attention block serves the second and the fourth: at the lower of the two
        "zamba2",
        lambda: tr.Zamba2ForCausalLM(
            tr.Zamba2Config(
                **{**SIZES, "num_hidden_layers": 4}, mamba_d_state=4, mamba_headdim=16,
                n_mamba_heads=2, layers_block_type=["mamba", "hybrid", "mamba", "hybrid"],
                num_mem_blocks=1, adapter_rank=2, use_mamba_kernels=False, mamba_ngroups=1,
                chunk_size=4,
            )
        ),
        (ladder(("model.layers", 4)),),
        ("model.embed_tokens",),
        ("model.final_layernorm",),
        classifier="lm_head",
        meta=False,
    ),
]  # fmt: skip


@cases(ANSWERS)
def test_every_parameter_has_the_depth_written_by_hand(answer: Answer) -> None:
    check(answer)


@pytest.mark.skipif(not hasattr(tr, "Gemma4ForCausalLM"), reason="newer than this transformers")
def test_what_gives_every_block_its_own_vectors_is_below_the_blocks() -> None:
    config = tr.Gemma4TextConfig(
        **GROUPED, vocab_size_per_layer_input=64, hidden_size_per_layer_input=4,
        sliding_window=8, global_head_dim=8,
    )  # fmt: skip
    answer = Answer(
        "gemma4",
        lambda: tr.Gemma4ForCausalLM(config),
        (ladder(("model.layers", 3)),),
        (
            "model.embed_tokens", "model.embed_tokens_per_layer",
            "model.per_layer_model_projection", "model.per_layer_projection_norm",
        ),
        ("model.norm",),
    )  # fmt: skip
    check(answer)
