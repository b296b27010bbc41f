"""From which configuration does shrinking start, where the class's default one does not do?

The tables say what no default says: sizes that are None and without which nothing can be built,
and the few ties that are not linear. Keys are model types of configurations and sub-configurations.
"""

from __future__ import annotations

from typing import Any

from transformers import CONFIG_MAPPING

from .targets import Target

SMALL_RESNET = {
    "model_type": "resnet",
    "embedding_size": 16,
    "hidden_sizes": [16, 24, 32, 48],
    "depths": [1, 2, 1, 1],
    "layer_type": "basic",
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
"""Stands in for the backbones that `timm` would bring."""

SECTIONS = {
    (8, 12, 12): ("glm4v_text", "glm4v_moe_text", "glm_ocr_text", "glm_image_text"),
    (16, 24, 24): (
        "qwen2_vl_text", "qwen2_5_vl_text", "qwen2_5_omni_text", "qwen2_5_omni_talker",
        "paddleocr_vl_text",
    ),
    (24, 20, 20): (
        "qwen3_vl_text", "qwen3_vl_moe_text", "qwen3_omni_moe_text", "cosmos3_edge_text",
        "qwen3_omni_moe_talker_text",
    ),
    (11, 11, 10): ("qwen3_5_text", "qwen3_5_moe_text", "qwen4_exp_text"),
    (22, 22, 20): ("ernie4_5_vl_moe_text",),
}  # fmt: skip
"""Sections of rotary positions that the code of a model takes where its configuration has none:
written out, they are shrunk with the heads."""

BEFORE: dict[str, dict[str, Any]] = {
    # None by default, and needed
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "hunyuan_vl": {"head_dim": 128},
    "hunyuan_vl_text": {"head_dim": 128},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
    "esm": {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32},
    "chameleon": {"vocabulary_map": {"<image>": 4, "IMGIMGAAAZ": 5, "IMGIMGABAZ": 6}},
    "dots1": {
        "n_shared_experts": 1,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
    },
    "diffusion_gemma_text": {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 1024},
    "sapiens2": {
        "head_config": {"model_type": "sapiens2_head", "upsample_out_channels": [512, 256]}
    },
    "granite4_vision": {
        "deepstack_layer_map": [[0, 0], [1, 1]],
        "spatial_target_layers": [0, 1, 2, 3],
        "downsample_rate": "1/2",
    },
    "moonshine_streaming": {"num_key_value_heads": 8},
    "wav2vec2-conformer": {"vocab_size": 32},
    "wav2vec2-bert": {"vocab_size": 32},
    "autoformer": {"prediction_length": 4, "context_length": 8, "lags_sequence": [1, 2]},
    "informer": {"prediction_length": 4, "context_length": 8, "lags_sequence": [1, 2]},
    "time_series_transformer": {
        "prediction_length": 4,
        "context_length": 8,
        "lags_sequence": [1, 2],
    },
    "qwen4_exp_text": {
        "indexer_budget": 8,
        "indexer_compress_ratio": 4,
        "indexer_n_heads": 4,
        "indexer_head_dim": 128,
    },
    # without these the attention of every layer would be of one kind
    "zamba": {
        "num_hidden_layers": 4,
        "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
    },
    "bamba": {"attn_layer_indices": [9, 18, 27]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 16},
    "xmod": {"default_language": "en_XX"},
    "aria": {"projector_patch_to_query_dict": {4: 4}},
    "blip-2": {"image_token_index": 150},
    "instructblip": {"image_token_index": 150},
    "instructblipvideo": {"video_token_index": 150},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "perceiver": {"num_cross_attention_heads": 1, "num_self_attention_heads": 2},
}

OPTIONAL = {
    "gemma4": {"vision_config": "gemma4_vision", "audio_config": "gemma4_audio"},
    "gemma4_unified": {"vision_config": "gemma4_unified_vision"},
    "embedding_gemma2": {"vision_config": "gemma4_vision"},
}
"""Sub-configurations that are None by default, and without which a tower would be missing."""

EFFICIENT_NET = {
    "width_coefficient": 0.1,
    "depth_coefficient": 1.0,
    "hidden_dim": 128,
    "in_channels": [32, 16, 24, 40, 80, 112, 192],
    "out_channels": [16, 24, 40, 80, 112, 192, 320],
    "num_block_repeats": [1, 2, 1, 1, 1, 1, 1],
    "depthwise_padding": [],
}
"""Its widths are products of a coefficient, rounded."""

AFTER: dict[str, dict[str, Any]] = {
    "gemma3": {"mm_tokens_per_image": 4},
    "shieldgemma2": {"mm_tokens_per_image": 4},
    "cvt": {"depth": [1, 2, 3]},
    "efficientnet": EFFICIENT_NET,
    "align_vision_model": EFFICIENT_NET,
    "align": {"projection_dim": 32},
    "bridgetower_vision_model": {"num_hidden_layers": 4},
    "dbrx_attention": {"rope_theta": 10000.0},
    "zamba": {"num_hidden_layers": 4, "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"]},
}

BY_CLASS: dict[str, dict[str, Any]] = {
    "BeitForSemanticSegmentation": {"num_hidden_layers": 4, "out_indices": [1, 2, 3, 4]},
    "ReformerModelWithLMHead": {"is_decoder": True},
    "T5GemmaEncoderModel": {"is_encoder_decoder": False},
}


def base_values(target: Target, klass: Any) -> tuple[Any, dict[str, Any]]:
    """Returns the configuration class and the values that are shrunk for a model class."""
    base = klass.config_class()
    return type(base), _add(base.to_dict(), BEFORE)


def mend(target: Target, values: dict[str, Any]) -> dict[str, Any]:
    """Returns the shrunk values with what shrinking by field names cannot know."""
    return {**_add(values, AFTER), **BY_CLASS.get(target.name, {})}


def _agree(values: dict[str, Any]) -> dict[str, Any]:
    """Has a vision tower give what the language model beside it takes."""
    text, vision = values.get("text_config"), values.get("vision_config")
    if not isinstance(text, dict) or not isinstance(vision, dict) or "hidden_size" not in text:
        return values
    out = "hidden_size" if vision.get("model_type") == "qwen2_vl_vision" else "out_hidden_size"
    if vision.get(out) is None:
        return values
    return {**values, "vision_config": {**vision, out: text["hidden_size"]}}


def _with_sections(values: dict[str, Any]) -> dict[str, Any]:
    """Writes out the default sections of a model's code; those of GLM turn half of a head."""
    for sections, types in SECTIONS.items():
        rope = values.get("rope_parameters") or {}
        if values.get("model_type") in types and "mrope_section" not in rope:
            turned = {"partial_rotary_factor": 0.5} if sum(sections) == 32 and 8 in sections else {}
            rope = {**rope, **turned, "mrope_section": list(sections)}
            return {**values, "rope_parameters": rope}
    return values


def _add(values: dict[str, Any], table: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if values.get("model_type") == "timm_backbone":
        wanted = values.get("out_indices") or [1, 2, 3, 4]
        stages = [f"stage{min(4, i)}" for i in wanted if i > 0] or ["stage4"]
        return {**SMALL_RESNET, "out_features": sorted(set(stages))}
    for key, model_type in OPTIONAL.get(str(values.get("model_type")), {}).items():
        if values.get(key) is None and model_type in CONFIG_MAPPING:
            values = {**values, key: CONFIG_MAPPING[model_type]().to_dict()}
    values = _with_sections(_agree(values))
    inner = {k: _add(v, table) if isinstance(v, dict) else v for k, v in values.items()}
    return {**inner, **table.get(str(values.get("model_type")), {})}
