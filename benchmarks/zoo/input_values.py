"""Which values may an argument of a forward pass have? One entry for each name of an argument."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .inputs import Maker

SAMPLES = 8000
"""Length of a waveform."""
TOKENS = 16
"""Length of a text."""

IMAGE_TOKENS = (
    "image_token_id", "image_token_index", "media_token_id", "im_patch_id", "image_patch_id",
)  # fmt: skip
VIDEO_TOKENS = ("video_token_id", "video_token_index")
AUDIO_TOKENS = ("audio_token_id", "audio_token_index", "audio_latent_token_id", "sound_token_id")
"""Fields of configurations that hold the id of a placeholder."""


def _patches(make: Maker) -> Tensor:
    """Flat patches of one image of 4 by 4 patches, as models with a grid of patches want them."""
    time = make.size("temporal_patch_size", default=1, within="vision")
    return torch.randn(16, make.channels() * time * make.patch() ** 2)


def _has_grid(make: Maker) -> bool:
    return any(
        n in make.parameters for n in ("image_grid_thw", "grid_thw", "image_grid_hws", "grid_thws")
    )


def _pixel_values(make: Maker) -> list[Any]:
    image = torch.randn(1, make.channels(), *make.image_side())
    frames = make.size("num_frames", "frames_per_clip", default=2, within="vision")
    flat = torch.randn(1, 16, make.channels() * make.patch() ** 2)
    tall = image.unsqueeze(1)
    film = tall.expand(1, frames, -1, -1, -1).clone()
    first = [_patches(make)] if _has_grid(make) else []
    if "spatial_shapes" in make.parameters:
        first = [flat]
    if "pixel_position_ids" in make.parameters or "image_position_ids" in make.parameters:
        sides = make.patch(), make.size("model_patch_size", default=48, within="vision")
        first = [torch.randn(1, 36, 3 * side**2) for side in sides]
    if "num_frames" in vars(getattr(make.module, "config", object())):
        return [*first, film, image]
    return [*first, image, tall, film, flat]


def _positions(make: Maker) -> list[Any]:
    """Column and row of each of 6 by 6 patches, which can be pooled by 2 and by 3."""
    grid = torch.meshgrid(torch.arange(6), torch.arange(6), indexing="xy")
    return [torch.stack(grid, -1).view(1, 36, 2)]


def _video(make: Maker) -> list[Any]:
    if "video_grid_thw" in make.parameters:
        return [_patches(make)]
    frames = make.size("num_frames", "frames_per_clip", default=4)
    return [torch.randn(1, frames, make.channels(), *make.image_side())]


def _features(make: Maker) -> list[Any]:
    names = (
        "num_mel_bins", "input_feat_per_channel", "feature_projection_input_dim", "input_dim",
        "feat_in", "input_size", "n_mels", "mel_bins", "n_mel_bins", "feature_size",
    )  # fmt: skip
    sizes = [make.size(name, within="audio|encoder|speech") for name in names]
    length = 2 * make.size("max_source_positions", default=64, within="audio|encoder")
    length = length if 16 <= length <= 3000 else 128
    shapes: list[tuple[int, ...]] = []
    for mel in dict.fromkeys([*(size for size in sizes if size > 1), 128, 80]):
        shapes += [(1, mel, length), (1, length, mel), (1, 1, length, mel), (1, mel, 128)]
    return [torch.randn(shape) for shape in dict.fromkeys([*shapes, (1, 1, 64, 64)])]


def _values(make: Maker) -> list[Any]:
    mel, length = make.size("num_mel_bins", default=80), make.size("max_length", default=128)
    channels = make.size("audio_channels", default=1)
    return [
        torch.randn(1, SAMPLES),
        torch.randn(1, channels, SAMPLES),
        torch.randn(1, min(length, 1024), mel),
        make.ids(),
    ]


def _past(make: Maker) -> list[Any]:
    length = make.size("context_length", default=32)
    lags = make.look_up("lags_sequence")
    longer = length + max(lags) if isinstance(lags, list | tuple) and lags else length
    channels = make.size("num_input_channels", default=1)
    return [torch.rand(1, longer), torch.rand(1, length, channels), [torch.rand(64)]]


def _ones_like_past(make: Maker, *features: int) -> Tensor:
    value = _past(make)[0]
    return torch.ones(*value.shape, *features)


def _time_features(make: Maker) -> Tensor:
    return _ones_like_past(make, make.size("num_time_features"))


def _grid(make: Maker) -> list[Any]:
    return [torch.tensor([[1, 4, 4]])]


def _sizes(make: Maker) -> list[Any]:
    return [torch.tensor([list(make.image_side())])]


def _per_token(value: int, *more: int) -> Any:
    return lambda make: [torch.full((1, make.ids().shape[1], *more), value)]


def _input_ids(make: Maker) -> list[Any]:
    ids = make.ids()
    several = ids.unsqueeze(1).expand(1, 2, -1).clone()
    books = make.size("num_codebooks", "num_code_groups", "num_quantizers", default=0)
    more = [ids.unsqueeze(-1).expand(-1, -1, books).clone() % 16] if books > 1 else []
    if type(make.module).__name__.endswith("MultipleChoice"):
        return [several]
    return [ids, *more]


def _decoder_ids(make: Maker) -> list[Any]:
    return [torch.tensor([[1, 6, 7, 8]])]


def _mm_types(make: Maker) -> list[Any]:
    token = make.size(*IMAGE_TOKENS, default=-1)
    return [(make.ids() == token).long()]


def _hidden(make: Maker) -> list[Any]:
    width = make.size("hidden_size", "d_model", "embed_dim", default=32)
    return [_patches(make), torch.randn(1, TOKENS, width), torch.randn(1, width, 8, 8)]


def _embeds(*names: str) -> Any:
    def make_embeds(make: Maker) -> list[Any]:
        width = make.size(*names, "hidden_size", "d_model", default=32, within="text")
        return [torch.randn(1, TOKENS, width)]

    return make_embeds


def _latents(make: Maker) -> list[Any]:
    width = make.size("hidden_size", "latent_dim", default=32)
    return [torch.randn(1, width, 8), torch.randn(1, 8, width)]


def _inputs(make: Maker) -> list[Any]:
    width = make.size("d_model", default=32)
    return [
        torch.randn(1, make.channels(), *make.image_side()),
        make.ids(),
        torch.randn(1, 8, width),
    ]


def _flattened_patches(make: Maker) -> list[Any]:
    width = 2 + 3 * make.size("patch_size", default=16, within="vision") ** 2
    patches = torch.randn(1, 8, width)
    patches[:, :, :2] = torch.arange(1, 9).view(1, 8, 1)
    return [patches]


def _decision(name: str) -> Any:
    width = {"states": "state_dim", "actions": "act_dim"}.get(name, "")

    def make_it(make: Maker) -> list[Any]:
        return [torch.randn(1, 4, make.size(width, default=1) if width else 1)]

    return make_it


def _image_mask(make: Maker) -> list[Any]:
    return [torch.ones(1, *make.image_side(), dtype=torch.long)]


def _bool_masked(make: Maker) -> list[Any]:
    frames = make.size("num_frames", default=0)
    tubes = max(1, frames // max(1, make.size("tubelet_size", default=1))) if frames else 1
    count = tubes * math.prod(side // make.patch() for side in make.image_side())
    mask = torch.zeros(1, count, dtype=torch.bool)
    mask[:, : count // 2] = True
    return [mask]


def _visual_feats(make: Maker) -> list[Any]:
    return [torch.randn(1, 4, make.size("visual_feat_dim", default=2048))]


def _visual_embeds(make: Maker) -> list[Any]:
    return [torch.randn(1, 4, make.size("visual_embedding_dim", default=512))]


def _constant(value: Any) -> Any:
    return lambda make: [value() if callable(value) else value]


MAKERS: dict[str, Any] = {
    "input_ids": _input_ids,
    "text_inputs": _input_ids,
    "decoder_input_ids": _decoder_ids,
    "qformer_input_ids": lambda make: [torch.tensor([[5, 6, 7, 8]])],
    "input_shape_ids": _per_token(3),
    "input_pronunciation_ids": _per_token(3),
    "token_type_ids": _per_token(0),
    "mm_token_type_ids": _mm_types,
    "bbox": _per_token(1, 4),
    "pixel_values": _pixel_values,
    "pixel_values_videos": _video,
    "image": _pixel_values,
    "prompt_pixel_values": _pixel_values,
    "prompt_masks": _pixel_values,
    "pixel_mask": _image_mask,
    "pixel_attention_mask": lambda make: [torch.ones(1, 16, dtype=torch.long)],
    "pixel_position_ids": _positions,
    "image_position_ids": _positions,
    "spatial_shapes": lambda make: [torch.tensor([[4, 4]])],
    "image_grid_thw": _grid,
    "video_grid_thw": _grid,
    "grid_thw": _grid,
    "merge_sizes": lambda make: [torch.tensor([1])],
    "image_merge_sizes": lambda make: [torch.tensor([1])],
    "image_sizes": _sizes,
    "hidden_states": _hidden,
    "inputs_embeds": _embeds(),
    "encoder_hidden_states": _embeds("encoder_hidden_size", "cross_attention_hidden_size"),
    "query_embeds": _embeds(),
    "noise_embeds": _embeds(),
    "context_hidden_states": _embeds(),
    "input_features": _features,
    "audio_mel": _features,
    "audio_mel_mask": lambda make: [torch.zeros(1, 128, dtype=torch.bool)],
    "input_features_mask": lambda make: [torch.ones(1, 128, dtype=torch.bool)],
    "input_values": _values,
    "audio_values": _values,
    "latents": _latents,
    "past_values": _past,
    "past_time_features": lambda make: [_time_features(make)],
    "past_observed_mask": lambda make: [_ones_like_past(make)],
    "past_values_padding": lambda make: [[torch.zeros(64)]],
    "freq": lambda make: [[0]],
    "inputs": _inputs,
    "flattened_patches": _flattened_patches,
    "states": _decision("states"),
    "actions": _decision("actions"),
    "rewards": _decision("rewards"),
    "returns_to_go": _decision("returns_to_go"),
    "timesteps": lambda make: [torch.arange(4).view(1, 4)],
    "bool_masked_pos": _bool_masked,
    "visual_feats": _visual_feats,
    "visual_pos": lambda make: [torch.rand(1, 4, 4)],
    "visual_embeds": _visual_embeds,
    "aspect_ratio_ids": lambda make: [torch.ones(1, 1, dtype=torch.long)],
    "aspect_ratio_mask": lambda make: [torch.ones(1, 1, 4, dtype=torch.long)],
    "state": lambda make: [torch.randn(1, make.size("max_state_dim", default=32))],
    "task_inputs": lambda make: [torch.randint(5, 50, (1, make.size("task_seq_len", default=77)))],
    "return_loss": _constant(False),
}
"""Argument -> candidates for its value."""
