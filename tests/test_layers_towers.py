"""LayerMap against answers written by hand: composed models and several towers."""

from __future__ import annotations

import transformers as tr

from tests.layer_answers import GROUPED, PICTURES, SIZES, TOKENS, Answer, cases, check, ladder
from tests.test_layers_senses import WAVES

EYES = {**PICTURES, "num_hidden_layers": 2}
"""A vision tower of two blocks, where the text has three."""
TEXT = {name: value for name, value in GROUPED.items() if name != "head_dim"}
CAPTIONS = {**SIZES, "num_hidden_layers": 2}
MULTIMODAL_POSITIONS = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
SEAMLESS = {
    **TOKENS, "hidden_size": 16, "encoder_layers": 2, "encoder_ffn_dim": 24,
    "encoder_attention_heads": 2, "decoder_layers": 3, "decoder_ffn_dim": 24,
    "decoder_attention_heads": 2, "max_position_embeddings": 40, "speech_encoder_layers": 2,
    "speech_encoder_attention_heads": 2, "speech_encoder_intermediate_size": 24,
    "feature_projection_input_dim": 8, "num_adapter_layers": 1, "conv_depthwise_kernel_size": 3,
    "decoder_start_token_id": 2, "adaptor_kernel_size": 2, "adaptor_stride": 2,
}  # fmt: skip
EARS = {
    "num_mel_bins": 8, "spec_size": 32, "patch_size": 4, "patch_stride": [4, 4], "window_size": 2,
    "hidden_size": 32, "patch_embeds_hidden_size": 16, "depths": [2, 2],
    "num_attention_heads": [2, 2], "num_hidden_layers": 2, "projection_dim": 8,
    "enable_fusion": False,
}  # fmt: skip
LAYOUT = {
    **SIZES, "input_size": 16, "patch_size": 4, "coordinate_size": 3, "shape_size": 2,
    "max_2d_position_embeddings": 40, "rel_pos_bins": 4, "rel_2d_pos_bins": 4,
}  # fmt: skip


def sound_to_text() -> tr.SpeechEncoderDecoderModel:
    config = tr.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
        tr.Wav2Vec2Config(**{**WAVES, "num_hidden_layers": 2}),
        tr.BertConfig(**{**SIZES, "hidden_size": 24}),
    )
    return tr.SpeechEncoderDecoderModel(config=config)


def picture_to_text() -> tr.VisionEncoderDecoderModel:
    decoder = tr.GPT2Config(**TOKENS, n_embd=24, n_layer=3, n_head=2, n_positions=40)
    config = tr.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        tr.ViTConfig(**EYES), decoder
    )
    return tr.VisionEncoderDecoderModel(config=config)


def handwriting_to_text() -> tr.VisionEncoderDecoderModel:
    decoder = tr.TrOCRConfig(
        **TOKENS, d_model=16, decoder_layers=3, decoder_attention_heads=2, decoder_ffn_dim=24,
        max_position_embeddings=40, cross_attention_hidden_size=16,
    )  # fmt: skip
    config = tr.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        tr.DeiTConfig(**EYES), decoder
    )
    return tr.VisionEncoderDecoderModel(config=config)


def screenshot_to_text() -> tr.Pix2StructForConditionalGeneration:
    config = tr.Pix2StructConfig(
        text_config={
            "vocab_size": 64, "hidden_size": 16, "d_kv": 8, "d_ff": 24, "num_layers": 3,
            "num_heads": 2, "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1,
        },
        vision_config={
            "hidden_size": 16, "patch_embed_hidden_size": 12, "d_ff": 24, "d_kv": 8,
            "num_hidden_layers": 2, "num_attention_heads": 2, "seq_len": 16,
        },
    )  # fmt: skip
    return tr.Pix2StructForConditionalGeneration(config)


def t5gemma2() -> tr.T5Gemma2ForConditionalGeneration:
    text = {**GROUPED, "sliding_window": 8}
    config = tr.T5Gemma2Config(
        encoder={
            "text_config": text, "vision_config": EYES, "mm_tokens_per_image": 4,
            "image_token_index": 63, "boi_token_index": 62, "eoi_token_index": 61,
        },
        decoder={**text, "num_hidden_layers": 2},
        image_token_index=63,
    )  # fmt: skip
    return tr.T5Gemma2ForConditionalGeneration(config)


def mllama() -> tr.MllamaForConditionalGeneration:
    config = tr.MllamaConfig(
        vision_config={
            "hidden_size": 16, "num_hidden_layers": 2, "num_global_layers": 1,
            "attention_heads": 2, "intermediate_size": 24, "image_size": 16, "patch_size": 4,
            "intermediate_layers_indices": [0], "vision_output_dim": 32, "max_num_tiles": 2,
            "supported_aspect_ratios": [[1, 1], [1, 2]],
        },
        text_config={**TEXT, "num_hidden_layers": 4, "cross_attention_layers": [1, 3]},
        image_token_index=63,
    )  # fmt: skip
    return tr.MllamaForConditionalGeneration(config)


def blip2() -> tr.Blip2ForConditionalGeneration:
    config = tr.Blip2Config(
        vision_config={**PICTURES, "num_hidden_layers": 4},
        qformer_config={
            "vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "pad_token_id": 0,
            "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 40,
            "encoder_hidden_size": 16, "cross_attention_frequency": 1,
        },
        text_config={
            **TOKENS, "model_type": "opt", "hidden_size": 16, "num_hidden_layers": 3,
            "num_attention_heads": 2, "ffn_dim": 24, "max_position_embeddings": 60,
            "word_embed_proj_dim": 16,
        },
        num_query_tokens=4, image_token_index=63,
    )  # fmt: skip
    return tr.Blip2ForConditionalGeneration(config)


COMPOSED = [
    Answer(  # enc_to_dec_proj is between encoder and decoder, so the encoder's last depth
        "speech-encoder-decoder",
        sound_to_text,
        (ladder(("encoder.encoder.layers", 2), ("decoder.bert.encoder.layer", 3)),),
        (
            "encoder.masked_spec_embed", "encoder.feature_extractor", "encoder.feature_projection",
            "encoder.encoder.pos_conv_embed", "encoder.encoder.layer_norm",
            "decoder.bert.embeddings",
        ),
        ("decoder.cls",),
        {2: ("enc_to_dec_proj",)},
    ),
    Answer(
        "vit-and-gpt2",
        picture_to_text,
        (ladder(("encoder.layers", 2), ("decoder.transformer.h", 3)),),
        ("encoder.embeddings", "decoder.transformer.wte", "decoder.transformer.wpe"),
        ("decoder.transformer.ln_f",),
        {2: ("encoder.layernorm", "enc_to_dec_proj")},
        either={"encoder.pooler": {2, 6}},  # its output is thrown away
        renamed={"encoder.layers": "encoder.encoder.layer"},
    ),
    Answer(
        "deit-and-trocr",
        handwriting_to_text,
        (ladder(("encoder.layers", 2), ("decoder.model.decoder.layers", 3)),),
        (
            "encoder.embeddings", "decoder.model.decoder.embed_tokens",
            "decoder.model.decoder.embed_positions", "decoder.model.decoder.layernorm_embedding",
        ),
        (),
        {2: ("encoder.layernorm",)},
        either={"encoder.pooler": {2, 6}},
        renamed={"encoder.layers": "encoder.encoder.layer"},
    ),
    Answer(  # a table of relative positions in the decoder's first block serves all of them
        "pix2struct",
        screenshot_to_text,
        (ladder(("encoder.encoder.layer", 2), ("decoder.layer", 3)),),
        (
            "encoder.embeddings", "decoder.embed_tokens",
            "decoder.layer.0.self_attention.attention.relative_attention_bias",
        ),
        ("decoder.final_layer_norm", "decoder.lm_head"),
        {2: ("encoder.layernorm",)},
    ),
    Answer(
        "seamless_m4t-text",
        lambda: tr.SeamlessM4TForTextToText(tr.SeamlessM4TConfig(**SEAMLESS)),
        (ladder(("text_encoder.layers", 2), ("text_decoder.layers", 3)),),
        ("shared",),
        ("text_decoder.layer_norm",),
        {2: ("text_encoder.layer_norm",)},
        classifier="lm_head",
    ),
    Answer(  # an adapter that shortens the sequence is the encoder's last block
        "seamless_m4t-speech",
        lambda: tr.SeamlessM4TForSpeechToText(tr.SeamlessM4TConfig(**SEAMLESS)),
        (
            ladder(
                ("speech_encoder.encoder.layers", 2), ("speech_encoder.adapter.layers", 1),
                ("text_decoder.layers", 3),
            ),
        ),
        ("shared", "speech_encoder.feature_projection"),
        ("text_decoder.layer_norm",),
        {3: ("speech_encoder.inner_layer_norm",)},
        either={
            "speech_encoder.encoder.layer_norm": {2, 3},
            "speech_encoder.intermediate_ffn": {2, 3},
        },
        classifier="lm_head",
    ),
    Answer(  # a vision tower that feeds the encoder, too, is aligned with the whole ladder
        "t5gemma2",
        t5gemma2,
        (
            ladder(("model.encoder.text_model.layers", 3), ("model.decoder.layers", 2)),
            ladder(("model.encoder.vision_tower.encoder.layers", 2)),
        ),
        ("model.encoder.text_model.embed_tokens", "model.encoder.vision_tower.embeddings"),
        (
            "model.decoder.norm", "model.encoder.multi_modal_projector",
            "model.encoder.vision_tower.post_layernorm", "model.encoder.vision_tower.head",
        ),
        {3: ("model.encoder.text_model.norm",)},
        renamed={"model.encoder.vision_tower": "model.encoder.vision_tower.vision_model"},
    ),
]  # fmt: skip

TWO_TOWERS = [
    Answer(  # a tower of two stages beside one of text
        "clap",
        lambda: tr.ClapModel(tr.ClapConfig(
            text_config={**CAPTIONS, "projection_dim": 8}, audio_config=EARS, projection_dim=8,
        )),
        (
            ladder(("text_model.encoder.layer", 2)),
            ladder(("audio_model.audio_encoder.layers.0.blocks", 2),
                   ("audio_model.audio_encoder.layers.1.blocks", 2)),
        ),
        (
            "text_model.embeddings", "audio_model.audio_encoder.patch_embed",
            "audio_model.audio_encoder.batch_norm",
        ),
        (
            "logit_scale_a", "logit_scale_t", "text_model.pooler", "text_projection",
            "audio_projection", "audio_model.audio_encoder.norm",
        ),
        either={"audio_model.audio_encoder.layers.0.downsample": {2, 3}},
    ),
    Answer(  # regions beside words; above them, blocks in which they look at each other
        "lxmert",
        lambda: tr.LxmertForQuestionAnswering(
            tr.LxmertConfig(
                vocab_size=64, hidden_size=16, num_attention_heads=2, intermediate_size=24,
                max_position_embeddings=40, l_layers=3, r_layers=2, x_layers=2,
                visual_feat_dim=8, num_qa_labels=3,
            )
        ),
        (
            ladder(("lxmert.encoder.layer", 3), ("lxmert.encoder.x_layers", 2)),
            ladder(("lxmert.encoder.r_layers", 2), ("lxmert.encoder.x_layers", 2)),
        ),
        ("lxmert.embeddings", "lxmert.encoder.visn_fc"),
        ("lxmert.pooler", "answer_head"),
        classifier="answer_head.logit_fc.3",
    ),
    Answer(
        "clip",
        lambda: tr.CLIPModel(
            tr.CLIPConfig(
                text_config={**CAPTIONS, "projection_dim": 8},
                vision_config={**PICTURES, "projection_dim": 8}, projection_dim=8,
            )
        ),
        (ladder(("text_model.encoder.layers", 2)), ladder(("vision_model.encoder.layers", 3))),
        ("text_model.embeddings", "vision_model.embeddings", "vision_model.pre_layrnorm"),
        (
            "logit_scale", "text_model.final_layer_norm", "vision_model.post_layernorm",
            "visual_projection", "text_projection",
        ),
    ),
    Answer(
        "siglip",
        lambda: tr.SiglipModel(tr.SiglipConfig(text_config=CAPTIONS, vision_config=PICTURES)),
        (ladder(("text_model.encoder.layers", 2)), ladder(("vision_model.encoder.layers", 3))),
        ("text_model.embeddings", "vision_model.embeddings"),
        (
            "logit_scale", "logit_bias", "text_model.final_layer_norm", "text_model.head",
            "vision_model.post_layernorm", "vision_model.head",
        ),
    ),
]  # fmt: skip


def beside_language(tower: str, length: int = 2) -> tuple[tuple[str, ...], ...]:
    """A tower that feeds a language model of three blocks."""
    return ladder((tower, length)), ladder(("model.language_model.layers", 3))


SEEING_OR_HEARING = [
    Answer(  # reads the tower's last block but one: the last is there, and learns nothing
        "llava",
        lambda: tr.LlavaForConditionalGeneration(
            tr.LlavaConfig(
                vision_config=tr.CLIPVisionConfig(**EYES), text_config=tr.LlamaConfig(**GROUPED),
                image_token_index=63, image_seq_length=16,
            )
        ),
        beside_language("model.vision_tower.encoder.layers"),
        (
            "model.vision_tower.embeddings", "model.vision_tower.pre_layrnorm",
            "model.language_model.embed_tokens",
        ),
        (
            "model.vision_tower.post_layernorm", "model.multi_modal_projector",
            "model.language_model.norm", "lm_head",
        ),
        classifier="lm_head",
        renamed={"model.vision_tower": "model.vision_tower.vision_model"},
    ),
    Answer(
        "qwen2_vl",
        lambda: tr.Qwen2VLForConditionalGeneration(
            tr.Qwen2VLConfig(
                text_config={**TEXT, "rope_parameters": MULTIMODAL_POSITIONS},
                vision_config={
                    "depth": 2, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "mlp_ratio": 2,
                    "patch_size": 4, "temporal_patch_size": 2,
                },
                image_token_id=60, video_token_id=61, vision_start_token_id=58,
                vision_end_token_id=59,
            )
        ),
        beside_language("model.visual.blocks"),
        ("model.visual.patch_embed", "model.language_model.embed_tokens"),
        ("model.visual.merger", "model.language_model.norm", "lm_head"),
        classifier="lm_head",
    ),
    Answer(
        "paligemma",
        lambda: tr.PaliGemmaForConditionalGeneration(
            tr.PaliGemmaConfig(
                vision_config={"model_type": "siglip_vision_model", **EYES},
                text_config={"model_type": "gemma", **GROUPED},
                image_token_index=63, projection_dim=16,
            )
        ),
        beside_language("model.vision_tower.encoder.layers"),
        ("model.vision_tower.embeddings", "model.language_model.embed_tokens"),
        (
            "model.vision_tower.post_layernorm", "model.vision_tower.head",
            "model.multi_modal_projector", "model.language_model.norm",
        ),
        renamed={"model.vision_tower": "model.vision_tower.vision_model"},
    ),
    Answer(
        "smolvlm",
        lambda: tr.SmolVLMForConditionalGeneration(
            tr.SmolVLMConfig(
                vision_config=EYES, text_config={"model_type": "llama", **GROUPED},
                image_token_id=63, scale_factor=2, pad_token_id=0,
            )
        ),
        (
            ladder(("model.vision_model.encoder.layers", 2)),
            ladder(("model.text_model.layers", 3)),
        ),
        ("model.vision_model.embeddings", "model.text_model.embed_tokens"),
        (
            "model.vision_model.post_layernorm", "model.connector", "model.text_model.norm",
            "lm_head",
        ),
        classifier="lm_head",
    ),
    Answer(  # a tower that is deeper than the language model
        "qwen2_audio",
        lambda: tr.Qwen2AudioForConditionalGeneration(
            tr.Qwen2AudioConfig(
                audio_config={
                    "num_mel_bins": 8, "encoder_layers": 4, "encoder_attention_heads": 2,
                    "encoder_ffn_dim": 24, "d_model": 16, "max_source_positions": 20,
                },
                text_config={"model_type": "qwen2", **TEXT}, audio_token_index=63,
            )
        ),
        beside_language("model.audio_tower.layers", 4),
        (
            "model.audio_tower.conv1", "model.audio_tower.conv2",
            "model.audio_tower.embed_positions", "model.language_model.embed_tokens",
        ),
        (
            "model.audio_tower.layer_norm", "model.multi_modal_projector",
            "model.language_model.norm", "lm_head",
        ),
        classifier="lm_head",
        renamed={
            "model.audio_tower": "audio_tower", "model.language_model": "language_model.model",
            "model.multi_modal_projector": "multi_modal_projector",
            "lm_head": "language_model.lm_head",
        },
    ),
    Answer(  # every other block of the text attends to the picture: all are one ladder of four
        "mllama",
        mllama,
        (
            ladder(("model.language_model.layers", 4)),
            ladder(
                ("model.vision_model.transformer.layers", 2),
                ("model.vision_model.global_transformer.layers", 1),
            ),
        ),
        (
            "model.language_model.embed_tokens", "model.vision_model.class_embedding",
            "model.vision_model.patch_embedding", "model.vision_model.gated_positional_embedding",
            "model.vision_model.pre_tile_positional_embedding",
            "model.vision_model.post_tile_positional_embedding", "model.vision_model.layernorm_pre",
        ),
        ("model.language_model.norm", "model.multi_modal_projector", "lm_head"),
        either={"model.vision_model.layernorm_post": {3, 4}},
        classifier="lm_head",
    ),
    Answer(  # queries attend to the vision tower, so they stand on it; together they feed OPT
        "blip_2",
        blip2,
        (
            ladder(("vision_model.encoder.layers", 4), ("qformer.encoder.layer", 2)),
            ladder(("language_model.model.decoder.layers", 3)),
        ),
        (
            "query_tokens", "qformer.layernorm", "vision_model.embeddings",
            "language_model.model.decoder.embed_tokens",
            "language_model.model.decoder.embed_positions",
        ),
        ("language_projection", "language_model.model.decoder.final_layer_norm"),
        {4: ("vision_model.post_layernorm",)},
        classifier="language_model.lm_head",
    ),
]  # fmt: skip

ONE_STACK = [
    Answer(
        "vilt",
        lambda: tr.ViltForQuestionAnswering(
            tr.ViltConfig(**PICTURES, vocab_size=64, max_position_embeddings=40)
        ),
        (ladder(("vilt.encoder.layer", 3)),),
        ("vilt.embeddings",),
        ("vilt.layernorm", "vilt.pooler", "classifier"),
        classifier="classifier.3",
    ),
    Answer(  # tables of relative positions beside the blocks, two norms over the embeddings
        "layoutlmv3",
        lambda: tr.LayoutLMv3ForSequenceClassification(tr.LayoutLMv3Config(**LAYOUT)),
        (ladder(("layoutlmv3.encoder.layer", 3)),),
        (
            "layoutlmv3.embeddings", "layoutlmv3.cls_token", "layoutlmv3.pos_embed",
            "layoutlmv3.patch_embed", "layoutlmv3.LayerNorm", "layoutlmv3.norm",
            "layoutlmv3.encoder.rel_pos_bias", "layoutlmv3.encoder.rel_pos_x_bias",
            "layoutlmv3.encoder.rel_pos_y_bias",
        ),
        ("classifier",),
        pooler=("classifier.dense",),
        classifier="classifier.out_proj",
    ),
]  # fmt: skip


@cases(COMPOSED)
def test_a_decoder_that_attends_to_another_model_stands_on_it(answer: Answer) -> None:
    check(answer)


@cases(ONE_STACK)
def test_words_and_patches_in_one_stack(answer: Answer) -> None:
    check(answer)


@cases(TWO_TOWERS)
def test_two_towers_are_aligned_at_the_top(answer: Answer) -> None:
    check(answer)


@cases(SEEING_OR_HEARING)
def test_a_tower_that_feeds_a_language_model_is_aligned_with_it_at_the_top(answer: Answer) -> None:
    check(answer)
