"""LayerMap against answers written by hand: models that see or hear."""

from __future__ import annotations

from typing import Any

import pytest
import transformers as tr
from transformers import ASTConfig, ConvNextConfig, DetrConfig, ResNetConfig, SwinConfig

from hf_stabilizer import LayerMap
from tests.layer_answers import PICTURES, SIZES, Answer, cases, check, ladder

# SEW-D in transformers 5.4 imports what torch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")

DINO = {name: value for name, value in PICTURES.items() if name != "intermediate_size"}
SPECTRUM = {name: value for name, value in PICTURES.items() if name != "image_size"}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16], "layer_type": "basic"}
SEGFORMER = {
    "num_encoder_blocks": 2, "depths": [2, 1], "sr_ratios": [2, 1], "hidden_sizes": [8, 16],
    "patch_sizes": [3, 3], "strides": [2, 2], "num_attention_heads": [2, 2],
    "mlp_ratios": [2, 2], "decoder_hidden_size": 8,
}  # fmt: skip
STAGES = {"num_encoder_blocks": 2, "depths": [2, 1], "hidden_sizes": [8, 16]}
PVT = {
    **STAGES, "image_size": 32, "sequence_reduction_ratios": [2, 1], "patch_sizes": [4, 2],
    "strides": [4, 2], "num_attention_heads": [2, 2], "mlp_ratios": [2, 2],
}  # fmt: skip
POOLFORMER = {**STAGES, "patch_sizes": [3, 3], "strides": [2, 2], "padding": [1, 1]}
GLPN = {
    "num_encoder_blocks": 4, "depths": [2, 1, 1, 1], "sr_ratios": [2, 1, 1, 1],
    "hidden_sizes": [8, 16, 16, 16], "patch_sizes": [3] * 4, "strides": [2] * 4,
    "num_attention_heads": [2] * 4, "mlp_ratios": [2] * 4, "decoder_hidden_size": 8,
}  # fmt: skip
CVT = {
    "patch_sizes": [3, 3], "patch_stride": [2, 2], "patch_padding": [1, 1], "embed_dim": [8, 16],
    "num_heads": [1, 2], "depth": [2, 2], "mlp_ratio": [2.0, 2.0], "kernel_qkv": [3, 3],
    "attention_drop_rate": [0.0, 0.0], "drop_rate": [0.0, 0.0], "drop_path_rate": [0.0, 0.0],
    "qkv_bias": [True, True], "cls_token": [False, True], "padding_kv": [1, 1],
    "qkv_projection_method": ["dw_bn", "dw_bn"], "stride_kv": [2, 2], "padding_q": [1, 1],
    "stride_q": [1, 1],
}  # fmt: skip
SEGFORMER_ONCE = {
    f"segformer.stages.{stage}.{new}": f"segformer.encoder.{old}.{stage}"
    for stage in (0, 1)
    for new, old in {
        "blocks": "block", "patch_embeddings": "patch_embeddings", "layer_norm": "layer_norm",
    }.items()
}  # fmt: skip
WAVES = {
    **{name: value for name, value in SIZES.items() if name != "max_position_embeddings"},
    "conv_dim": (8, 8), "conv_kernel": (4, 4), "conv_stride": (2, 2),
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 8,
    "num_feat_extract_layers": 2,
}  # fmt: skip
WHISPER = {
    "vocab_size": 64, "d_model": 16, "encoder_layers": 2, "decoder_layers": 3,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24, "num_mel_bins": 8, "max_source_positions": 20,
    "max_target_positions": 20, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 1, "suppress_tokens": None, "begin_suppress_tokens": None,
}  # fmt: skip
SPEECH_T5 = {
    "vocab_size": 64, "hidden_size": 16, "encoder_layers": 2, "decoder_layers": 3,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24, "conv_dim": (8, 8), "conv_kernel": (4, 4), "conv_stride": (2, 2),
    "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2, "max_speech_positions": 20, "max_text_positions": 20,
    "encoder_max_relative_position": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def seen(body: str, stack: str = "layers") -> dict[str, Any]:
    """The usual vision transformer of three blocks; the stack's name in older versions, too."""
    return {
        "embeddings": (f"{body}.embeddings",),
        "towers": (ladder((f"{body}.{stack}", 3)),),
        "renamed": {f"{body}.layers": f"{body}.encoder.layer"},
    }


def heard(body: str, *more: str) -> dict[str, Any]:
    """Convolutions and positions in front of three blocks."""
    parts = ("masked_spec_embed", "feature_extractor", "feature_projection", *more)
    return {
        "embeddings": tuple(f"{body}{part}" for part in (*parts, "encoder.pos_conv_embed")),
        "towers": (ladder((f"{body}encoder.layers", 3)),),
    }


VISION = [
    Answer(
        "vit",
        lambda: tr.ViTForImageClassification(tr.ViTConfig(**PICTURES)),
        **seen("vit"),
        head=("vit.layernorm", "classifier"),
        classifier="classifier",
    ),
    Answer(
        "vit-body",
        lambda: tr.ViTModel(tr.ViTConfig(**PICTURES)),
        (ladder(("layers", 3)),),
        ("embeddings",),
        ("layernorm", "pooler"),
        pooler=("pooler",),
        renamed={"layers": "encoder.layer"},
    ),
    Answer(  # two classifiers side by side
        "deit",
        lambda: tr.DeiTForImageClassificationWithTeacher(tr.DeiTConfig(**PICTURES)),
        **seen("deit"),
        head=("deit.layernorm", "cls_classifier", "distillation_classifier"),
        pooler=(),
    ),
    Answer(  # a table of relative positions in every block: the block's own
        "beit-own-tables",
        lambda: tr.BeitForImageClassification(
            tr.BeitConfig(**PICTURES, use_relative_position_bias=True, out_indices=[1])
        ),
        **seen("beit"),
        head=("beit.pooler", "classifier"),
        classifier="classifier",
    ),
    Answer(  # one table for all blocks
        "beit-shared-table",
        lambda: tr.BeitForImageClassification(
            tr.BeitConfig(**PICTURES, use_shared_relative_position_bias=True, out_indices=[1])
        ),
        (ladder(("beit.layers", 3)),),
        ("beit.embeddings", "beit.shared_position_bias"),
        ("beit.pooler", "classifier"),
        classifier="classifier",
        renamed={
            "beit.layers": "beit.encoder.layer",
            "beit.shared_position_bias": "beit.encoder.relative_position_bias",
        },
    ),
    Answer(  # two stages are one ladder
        "swin",
        lambda: tr.SwinForImageClassification(
            SwinConfig(
                image_size=16, patch_size=2, embed_dim=8, depths=[2, 1], num_heads=[2, 4],
                window_size=2,
            )
        ),
        (ladder(("swin.encoder.layers.0.blocks", 2), ("swin.encoder.layers.1.blocks", 1)),),
        ("swin.embeddings",),
        ("swin.layernorm", "classifier"),
        either={"swin.encoder.layers.0.downsample": {2, 3}},
        classifier="classifier",
    ),
    Answer(
        "convnext",
        lambda: tr.ConvNextForImageClassification(
            ConvNextConfig(
                hidden_sizes=[8, 16], depths=[2, 1], num_stages=2, patch_size=2, image_size=16
            )
        ),
        (ladder(("convnext.encoder.stages.0.layers", 2), ("convnext.encoder.stages.1.layers", 1)),),
        ("convnext.embeddings",),
        ("convnext.layernorm", "classifier"),
        either={"convnext.encoder.stages.1.downsampling_layer": {2, 3}},
        classifier="classifier",
    ),
    Answer(
        "resnet",
        lambda: tr.ResNetForImageClassification(ResNetConfig(**RESNET, depths=[2, 1])),
        (ladder(("resnet.encoder.stages.0.layers", 2), ("resnet.encoder.stages.1.layers", 1)),),
        ("resnet.embedder",),
        ("classifier",),
        classifier="classifier.1",
    ),
    Answer(  # positions that are added between the blocks
        "yolos",
        lambda: tr.YolosForObjectDetection(
            tr.YolosConfig(
                **{**PICTURES, "image_size": [16, 16]}, num_detection_tokens=4,
                use_mid_position_embeddings=True,
            )
        ),
        (ladder(("vit.encoder.layer", 3)),),
        ("vit.embeddings", "vit.encoder.interpolation.mid_position_embeddings"),
        ("vit.layernorm", "class_labels_classifier", "bbox_predictor"),
        renamed={"vit.encoder.interpolation": "vit.encoder"},
    ),
    Answer(
        "dinov2",
        lambda: tr.Dinov2ForImageClassification(tr.Dinov2Config(**DINO, mlp_ratio=2)),
        **seen("dinov2", "encoder.layer"),
        head=("dinov2.layernorm", "classifier"),
        classifier="classifier",
    ),
    Answer(  # each stage cuts its own patches; the first stage's are the stem
        "segformer",
        lambda: tr.SegformerForImageClassification(tr.SegformerConfig(**SEGFORMER)),
        (ladder(("segformer.stages.0.blocks", 2), ("segformer.stages.1.blocks", 1)),),
        ("segformer.stages.0.patch_embeddings",),
        ("segformer.stages.1.layer_norm", "classifier"),
        either={
            "segformer.stages.0.layer_norm": {2, 3},
            "segformer.stages.1.patch_embeddings": {2, 3},
        },
        renamed=SEGFORMER_ONCE,
        classifier="classifier",
    ),
    Answer(  # the decoder's list of projections, one for each stage, is no stack of blocks
        "segformer-segmentation",
        lambda: tr.SegformerForSemanticSegmentation(tr.SegformerConfig(**SEGFORMER)),
        (ladder(("segformer.stages.0.blocks", 2), ("segformer.stages.1.blocks", 1)),),
        ("segformer.stages.0.patch_embeddings",),
        ("segformer.stages.1.layer_norm", "decode_head"),
        either={
            "segformer.stages.0.layer_norm": {2, 3},
            "segformer.stages.1.patch_embeddings": {2, 3},
        },
        renamed=SEGFORMER_ONCE,
    ),
    Answer(  # what cuts the patches of the stages stands in a list beside the list of stages
        "poolformer",
        lambda: tr.PoolFormerForImageClassification(tr.PoolFormerConfig(**POOLFORMER)),
        (ladder(("poolformer.encoder.block.0", 2), ("poolformer.encoder.block.1", 1)),),
        ("poolformer.encoder.patch_embeddings.0",),
        ("norm", "classifier"),
        either={"poolformer.encoder.patch_embeddings.1": {2, 3}},
        classifier="classifier",
    ),
    Answer(  # the same, with positions and, in the last stage, a token of its own
        "pvt",
        lambda: tr.PvtForImageClassification(tr.PvtConfig(**PVT)),
        (ladder(("pvt.encoder.block.0", 2), ("pvt.encoder.block.1", 1)),),
        ("pvt.encoder.patch_embeddings.0",),
        ("pvt.encoder.layer_norm", "classifier"),
        either={
            "pvt.encoder.patch_embeddings.1": {2, 3},
            "pvt.encoder.patch_embeddings.1.position_embeddings": {0, 2, 3},
            "pvt.encoder.patch_embeddings.1.cls_token": {0, 2, 3},
        },
        classifier="classifier",
    ),
    Answer(  # the same, with a norm at the end of each stage
        "glpn",
        lambda: tr.GLPNForDepthEstimation(tr.GLPNConfig(**GLPN)),
        (
            ladder(
                ("glpn.encoder.block.0", 2), ("glpn.encoder.block.1", 1),
                ("glpn.encoder.block.2", 1), ("glpn.encoder.block.3", 1),
            ),
        ),
        ("glpn.encoder.patch_embeddings.0",),
        ("glpn.encoder.layer_norm.3", "decoder", "head"),
        either={
            **{f"glpn.encoder.patch_embeddings.{k}": {k + 1, k + 2} for k in (1, 2, 3)},
            **{f"glpn.encoder.layer_norm.{k}": {k + 2, k + 3} for k in (0, 1, 2)},
        },
    ),
    Answer(
        "cvt",
        lambda: tr.CvtForImageClassification(tr.CvtConfig(**CVT)),
        (ladder(("cvt.encoder.stages.0.layers", 2), ("cvt.encoder.stages.1.layers", 2)),),
        ("cvt.encoder.stages.0.embedding",),
        ("layernorm", "classifier"),
        either={
            "cvt.encoder.stages.1.embedding": {2, 3},
            "cvt.encoder.stages.1.cls_token": {0, 2, 3},
        },
        classifier="classifier",
    ),
]  # fmt: skip

AUDIO = [
    Answer(  # the encoder's norm runs before the blocks
        "wav2vec2",
        lambda: tr.Wav2Vec2ForSequenceClassification(
            tr.Wav2Vec2Config(**WAVES, use_weighted_layer_sum=True)
        ),
        **heard("wav2vec2.", "encoder.layer_norm"),
        head=("layer_weights", "projector", "classifier"),
        pooler=("projector",),
        classifier="classifier",
    ),
    Answer(  # the encoder's norm runs after the blocks
        "wav2vec2-stable",
        lambda: tr.Wav2Vec2ForCTC(tr.Wav2Vec2Config(**WAVES, do_stable_layer_norm=True)),
        **heard("wav2vec2."),
        head=("wav2vec2.encoder.layer_norm", "lm_head"),
        classifier="lm_head",
    ),
    Answer("hubert", lambda: tr.HubertModel(tr.HubertConfig(**WAVES)),
           **heard("", "encoder.layer_norm")),
    Answer(
        "hubert-stable",
        lambda: tr.HubertModel(tr.HubertConfig(**WAVES, do_stable_layer_norm=True)),
        **heard(""),
        head=("encoder.layer_norm",),
    ),
    Answer(  # its norm runs after the blocks, though registered in front of them
        "wav2vec2-conformer",
        lambda: tr.Wav2Vec2ConformerForSequenceClassification(
            tr.Wav2Vec2ConformerConfig(**WAVES, conv_depthwise_kernel_size=3)
        ),
        **heard("wav2vec2_conformer."),
        head=("wav2vec2_conformer.encoder.layer_norm", "projector", "classifier"),
        pooler=("projector",),
        classifier="classifier",
    ),
    Answer(  # encoder.LayerNorm is over the table that the blocks share
        "sew_d",
        lambda: tr.SEWDForSequenceClassification(
            tr.SEWDConfig(
                **WAVES, squeeze_factor=2, position_buckets=8, norm_rel_ebd="layer_norm",
                share_att_key=True, max_relative_positions=40, max_position_embeddings=40,
            )
        ),
        (ladder(("sew_d.encoder.encoder.layer", 3)),),
        (
            "sew_d.masked_spec_embed", "sew_d.feature_extractor", "sew_d.layer_norm",
            "sew_d.feature_projection", "sew_d.encoder.pos_conv_embed",
            "sew_d.encoder.encoder.rel_embeddings", "sew_d.encoder.encoder.LayerNorm",
        ),
        ("sew_d.encoder.upsample", "projector", "classifier"),
        classifier="classifier",
    ),
    Answer(  # the table of relative positions in the first block serves all
        "wavlm",
        lambda: tr.WavLMForSequenceClassification(tr.WavLMConfig(**WAVES)),
        **heard("wavlm.", "encoder.layer_norm", "encoder.layers.0.attention.rel_attn_embed"),
        head=("projector", "classifier"),
        pooler=("projector",),
        classifier="classifier",
    ),
    Answer(
        "whisper",
        lambda: tr.WhisperForConditionalGeneration(tr.WhisperConfig(**WHISPER)),
        (ladder(("model.encoder.layers", 2), ("model.decoder.layers", 3)),),
        (
            "model.encoder.conv1", "model.encoder.conv2", "model.encoder.embed_positions",
            "model.decoder.embed_tokens", "model.decoder.embed_positions",
        ),
        ("model.decoder.layer_norm",),
        {2: ("model.encoder.layer_norm",)},
    ),
    Answer(
        "whisper-classifier",
        lambda: tr.WhisperForAudioClassification(
            tr.WhisperConfig(**WHISPER, classifier_proj_size=8)
        ),
        (ladder(("encoder.layers", 2)),),
        ("encoder.conv1", "encoder.conv2", "encoder.embed_positions"),
        ("encoder.layer_norm", "projector", "classifier"),
        pooler=("projector",),
        classifier="classifier",
    ),
    Answer(
        "ast",
        lambda: tr.ASTForAudioClassification(
            ASTConfig(
                **SPECTRUM, max_length=16, num_mel_bins=8, frequency_stride=2, time_stride=2
            )
        ),
        **seen("audio_spectrogram_transformer"),
        head=("audio_spectrogram_transformer.layernorm", "classifier"),
        classifier="classifier.dense",
    ),
    Answer(
        "speecht5",
        lambda: tr.SpeechT5ForSpeechToText(tr.SpeechT5Config(**SPEECH_T5)),
        (
            ladder(
                ("speecht5.encoder.wrapped_encoder.layers", 2),
                ("speecht5.decoder.wrapped_decoder.layers", 3),
            ),
        ),
        (
            "speecht5.encoder.prenet", "speecht5.encoder.wrapped_encoder.layer_norm",
            "speecht5.encoder.wrapped_encoder.embed_positions", "speecht5.decoder.prenet",
        ),
    ),
]  # fmt: skip


@cases(VISION)
def test_models_that_see(answer: Answer) -> None:
    check(answer)


@cases(AUDIO)
def test_models_that_hear(answer: Answer) -> None:
    check(answer)


def test_a_detector_has_a_total_map_in_which_the_decoder_stands_on_encoder_and_backbone() -> None:
    model = tr.DetrForObjectDetection(
        DetrConfig(
            use_timm_backbone=False, use_pretrained_backbone=False, backbone=None,
            backbone_config=ResNetConfig(**RESNET, depths=[1, 1], out_features=["stage2"]),
            d_model=16, encoder_layers=2, decoder_layers=3, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, num_queries=5,
        )
    )  # fmt: skip
    layers = LayerMap.from_model(model)
    top = layers.num_layers
    blocks = ladder(("model.encoder.layers", 2), ("model.decoder.layers", 3))
    depths = {name: layers.depth_of(name) for name, _ in model.named_parameters()}
    for depth, path in enumerate(blocks, start=top - 4):
        assert {depths[name] for name in depths if name.startswith(f"{path}.")} == {depth}
    for part in ("class_labels_classifier", "bbox_predictor", "model.decoder.layernorm"):
        assert {depths[name] for name in depths if name.startswith(part)} == {top + 1}
    below = [name for name in depths if "backbone" in name or "input_projection" in name]
    assert below
    assert all(depths[name] < top - 4 for name in below)
