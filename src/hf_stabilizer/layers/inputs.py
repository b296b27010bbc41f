"""What can a model be fed for one look at its forward pass?

Small tensors without meaning; their values count only where code branches on them. A model of
`transformers` says itself what it takes: its `main_input_name`, the arguments that it demands, its
configuration. The names of arguments are those of kinds of data (`pixel_values`, `input_ids`),
which all models share. For a module of the user's own the names of its arguments are tried, then
the usual ways to pass a batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

_LENGTH = 8  # tokens
_GRID = 4  # patches on a side of an image that is handed over in patches
_FRAMES = 2  # of a video
Arguments = Mapping[str, Any] | Sequence[Any]  # Any: tensors, or a batch of them


def choices(module: nn.Module) -> Iterator[Iterator[Arguments]]:
    """Yields what a module may be fed, the likeliest first: each in the forms that it may have."""
    if isinstance(module, PreTrainedModel):
        yield from _for_pretrained(module)
    else:
        yield _for_module(module)


def _for_module(module: nn.Module) -> Iterator[Arguments]:
    decoder = any(_has_decoder(part) for part in module.modules())
    yield _by_name(module, _tokens(1, _LENGTH, decoder=decoder))
    yield [_tokens(1, _LENGTH)]
    yield _by_name(module, _tokens(1, 2, _LENGTH))


def _has_decoder(module: nn.Module) -> bool:
    return isinstance(module, PreTrainedModel) and bool(
        getattr(module.config, "is_encoder_decoder", False)
    )


def _tokens(*shape: int, decoder: bool = False) -> dict[str, Tensor]:
    """The usual text batch; three dimensions are (batch, choices, tokens)."""
    names = ["input_ids", "attention_mask", "token_type_ids", *["decoder_input_ids"] * decoder]
    return {name: torch.ones(shape, dtype=torch.long) for name in names}


def _for_pretrained(model: PreTrainedModel) -> Iterator[Iterator[Arguments]]:
    """Yields what the model demands, then more that it can take, then other inputs in turn."""
    accepted = inspect.signature(model.forward).parameters
    demanded = [
        name
        for name, parameter in accepted.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    main = model.main_input_name
    wanted = [*([main] if isinstance(main, str) else main), *demanded]
    if _has_decoder(model) and "decoder_input_ids" in accepted:
        wanted.append("decoder_input_ids")
    sizes = _Sizes(model.config)
    settings = {"use_cache": False} if "use_cache" in accepted else {}
    possible = [n for n in _KINDS if n in accepted and n not in _DEMANDED_ONLY]
    senses = [name for name in _SENSES if name in possible]
    sets = [wanted, [*wanted, *senses], [*wanted, *possible]]
    sets += [[name, *wanted[1:]] for name in (*senses, *_INNER) if name in accepted]
    for names in dict.fromkeys(frozenset(names) for names in sets):
        if names.issuperset(demanded) and names <= _KINDS.keys():
            yield ({**data, **settings} for data in _forms(sorted(names), sizes))


def _forms(names: Sequence[str], sizes: _Sizes) -> Iterator[dict[str, Tensor]]:
    """Yields data of these kinds, all in their first form, then the others of each in turn."""
    forms = {name: _KINDS[name](sizes) for name in names}
    first = {name: kinds[0]() for name, kinds in forms.items()}
    if first:
        yield first
    senses = {name: kinds for name, kinds in forms.items() if name != "input_ids"}
    for number in range(1, max(map(len, senses.values()), default=0)):
        others = {n: kinds[min(number, len(kinds) - 1)]() for n, kinds in senses.items()}
        yield {**first, **others}
    for form in forms.get("input_ids", [])[1:]:
        yield {**first, "input_ids": form()}


@dataclass(frozen=True)
class _Sizes:
    """What a configuration, or one inside it, says about the shape of its data."""

    config: PreTrainedConfig

    def of(self, *names: str, default: int) -> int:
        """Returns the first number that is found under these names."""
        return self.pair(*names, default=default)[0]

    def pair(self, *names: str, default: int) -> tuple[int, int]:
        """Returns the first (height, width) that is found under these names."""
        for config in self._configs(self.config):
            for name in names:
                value = getattr(config, name, None)
                if isinstance(value, Mapping):
                    value = [value.get("height", value.get("shortest_edge")), value.get("width")]
                both = list(value) if isinstance(value, tuple | list) else [value, value]
                if both and type(both[0]) is int:
                    return both[0], both[1] if len(both) > 1 and type(both[1]) is int else both[0]
        return default, default

    def _configs(self, config: PreTrainedConfig) -> Iterator[PreTrainedConfig]:
        yield config
        for inner in vars(config).values():
            if isinstance(inner, PreTrainedConfig):
                yield from self._configs(inner)

    @property
    def channels(self) -> int:
        return self.of("num_channels", "in_channels", "in_chans", default=3)

    @property
    def frames(self) -> int:
        return self.of("num_frames", "frames_per_clip", default=_FRAMES)

    @property
    def mel_bins(self) -> int:
        names = ("num_mel_bins", "n_mels", "feature_size", "input_feat_size", "input_dim")
        return self.of(*names, "input_feat_per_channel", "feature_projection_input_dim", default=80)

    @property
    def ticks(self) -> int:
        """Time steps of a spectrogram: what the positions of the model allow."""
        bound = self.of("max_source_positions", default=0)
        return 2 * bound if bound else self.of("max_length", "spec_size", default=128)

    @property
    def patch(self) -> int:
        """Numbers in one patch of a picture."""
        height, width = self.pair("patch_size", default=16)
        depth = self.of("temporal_patch_size", default=1)
        return self.channels * depth * height * width

    @property
    def patches(self) -> int:
        """Patches in a picture or video."""
        (height, width), (rows, columns) = (
            self.pair("image_size", default=224),
            self.pair("patch_size", default=16),
        )
        moments = self.of("num_frames", default=1) // self.of("tubelet_size", default=1)
        return max(moments, 1) * (height // rows) * (width // columns)

    @property
    def context(self) -> int:
        """Time steps of a series: the context, and what its lags reach back."""
        longest = getattr(self.config, "lags_sequence", None) or [0]
        return self.of("context_length", "seq_length", default=32) + int(max(longest))


Form = Callable[[], Tensor]


def _floats(*shape: int) -> Form:
    """Ones: pictures of nothing but zeros are taken for padding (Idefics)."""
    return lambda: torch.ones(shape)


def _ones(*shape: int) -> Form:
    return lambda: torch.ones(shape, dtype=torch.long)


def _ids(sizes: _Sizes, *shape: int) -> Form:
    """Tokens 7, 8, .. that mean nothing, and the end of the text."""
    end = getattr(sizes.config, "eos_token_id", None)

    def make() -> Tensor:
        ids = (torch.arange(_LENGTH) + 7).expand(shape).clone()
        if isinstance(end, int) and end >= 0:
            ids[..., -1] = end
        return ids

    return make


def _texts(sizes: _Sizes) -> list[Form]:
    """One text; a question with two choices; or a text of several codes at a time."""
    forms = [_ids(sizes, 1, _LENGTH), _ids(sizes, 1, 2, _LENGTH)]
    codes = sizes.of("num_codebooks", "num_channels", default=0)
    if codes:
        rows = _ids(sizes, codes, _LENGTH)
        columns = [lambda n=n: rows().T[None, :, :1].repeat(1, 1, n) for n in (codes, codes + 1)]
        forms += [rows, *columns]
    return forms


def _pixels(sizes: _Sizes) -> list[Form]:
    height, width = sizes.pair("image_size", "img_size", "input_size", default=224)
    image = sizes.channels, height, width
    grid = _GRID * _GRID
    return [
        _floats(1, *image),
        _floats(1, sizes.frames, *image),
        _floats(1, sizes.channels, sizes.frames, height, width),
        _floats(grid, sizes.patch),
        _floats(1, grid, sizes.patch),
        _floats(grid, sizes.channels, *sizes.pair("patch_size", default=16)),
        _floats(1, 1, sizes.of("max_num_tiles", default=sizes.frames), *image),
    ]


def _videos(sizes: _Sizes) -> list[Form]:
    return _pixels(sizes)[1:]


def _spectrum(sizes: _Sizes) -> list[Form]:
    return [
        _floats(1, sizes.mel_bins, sizes.ticks),
        _floats(1, sizes.ticks, sizes.mel_bins),
        _floats(1, 1, sizes.ticks, sizes.mel_bins),
        _floats(1, 1, sizes.mel_bins, sizes.ticks),
    ]


def _wave(sizes: _Sizes) -> list[Form]:
    samples = 11_520  # divisible by every hop that is usual
    return [
        _floats(1, samples),
        _floats(1, 1, samples),
        _floats(1, sizes.ticks, sizes.mel_bins),
    ]


def _grid_of_patches(_: _Sizes) -> list[Form]:
    return [lambda: torch.tensor([[1, _GRID, _GRID]])]


def _flags(*shapes: tuple[int, ...]) -> list[Form]:
    return [lambda shape=shape: torch.ones(shape, dtype=torch.bool) for shape in shapes]  # type: ignore[misc]


def _series(sizes: _Sizes) -> list[Form]:
    channels = sizes.of("num_input_channels", "input_size", default=1)
    plain = _floats(1, sizes.context)
    several = _floats(1, sizes.context, channels)
    return [plain, several] if channels == 1 else [several, plain]


def _wide(length: int, *names: str) -> Callable[[_Sizes], list[Form]]:
    """Vectors of the width that the configuration names."""
    return lambda sizes: [_floats(1, length, sizes.of(*names, default=32))]


_WIDTH = ("hidden_size", "d_model", "dim", "embed_dim")

_KINDS: dict[str, Callable[[_Sizes], list[Form]]] = {
    "input_ids": _texts,
    "decoder_input_ids": _texts,
    "pixel_values": _pixels,
    "pixel_values_videos": _videos,
    "hidden_states": lambda s: [
        _floats(_GRID * _GRID, s.patch),
        _floats(1, _LENGTH, s.of(*_WIDTH, default=32)),
    ],
    "grid_thw": _grid_of_patches,
    "image_grid_thw": _grid_of_patches,
    "spatial_shapes": lambda _: [lambda: torch.tensor([[_GRID, _GRID]])],
    "merge_sizes": lambda _: [lambda: torch.tensor([2])],
    "mm_token_type_ids": lambda _: [lambda: torch.zeros((1, _LENGTH), dtype=torch.long)],
    "latents": lambda s: [_floats(1, s.of(*_WIDTH, default=32), _LENGTH)],
    "flattened_patches": lambda s: [_floats(1, _GRID * _GRID, 2 + s.patch)],
    "feature_attention_mask": lambda s: [_ones(1, s.ticks)],
    "feature_lens": lambda s: [lambda: torch.tensor([s.ticks])],
    "freq": lambda _: [lambda: torch.zeros((1, 1), dtype=torch.long)],
    "image_attention_mask": lambda s: [_ones(1, _LENGTH, s.frames)],
    "image_patches": lambda s: [_floats(1, _GRID, s.patch)],
    "image_patches_indices": lambda _: [lambda: torch.arange(_LENGTH)[None] % _GRID],
    "bool_masked_pos": lambda s: [lambda: torch.arange(s.patches)[None] % 2 == 0],
    "aspect_ratio_ids": lambda _: [_ones(1, 1)],
    "aspect_ratio_mask": lambda s: [_ones(1, 1, s.of("max_num_tiles", default=1))],
    "target_sizes": lambda _: [lambda: torch.tensor([[_GRID, _GRID]])],
    "tgt_sizes": lambda _: [lambda: torch.tensor([[_GRID, _GRID]])],
    "lang_ids": lambda _: [lambda: torch.zeros(1, dtype=torch.long)],
    "cross_attention_states": _wide(4, *_WIDTH),
    "encoder_hidden_states": _wide(4, *_WIDTH),
    "pixel_attention_mask": lambda _: [_ones(1, _GRID * _GRID)],
    "pixel_position_ids": lambda _: [lambda: _positions(_GRID)],
    "bbox": lambda _: [lambda: torch.zeros((1, _LENGTH, 4), dtype=torch.long)],
    "input_features": _spectrum,
    "audio_mel": lambda s: [_floats(1, s.ticks, s.mel_bins)],
    "audio_mel_mask": lambda s: _flags((1, s.ticks)),
    "input_features_mask": lambda s: [_ones(1, s.ticks)],
    "input_values": _wave,
    "past_values": _series,
    "past_values_padding": lambda s: [_ones(1, s.context)],
    "past_time_features": lambda s: [
        _floats(1, s.context, s.of("num_time_features", default=1) or 1)
    ],
    "past_observed_mask": _series,
    "future_values": lambda s: [_floats(1, s.of("prediction_length", default=1))],
    "future_time_features": lambda s: [
        _floats(1, s.of("prediction_length", default=1), s.of("num_time_features", default=1) or 1)
    ],
    "visual_feats": _wide(4, "visual_feat_dim", *_WIDTH),
    "visual_pos": lambda _: [_floats(1, 4, 4)],
    "query_embeds": _wide(4, *_WIDTH),
    "context": _wide(_LENGTH, *_WIDTH),
    "inputs": _wide(_LENGTH, "d_model"),
    "inputs_embeds": _wide(_LENGTH, *_WIDTH),
    "states": _wide(2, "state_dim"),
    "actions": _wide(2, "act_dim"),
    "rewards": lambda _: [_floats(1, 2, 1)],
    "returns_to_go": lambda _: [_floats(1, 2, 1)],
    "timesteps": lambda _: [_ones(1, 2)],
}
"""Name of an argument -> the forms that data of this kind has, the usual one first."""

_SENSES = ("input_ids", "pixel_values", "input_features", "input_values")
_INNER = ("inputs_embeds", "hidden_states")
_DEMANDED_ONLY = (*_INNER, "inputs", "context")


def _positions(side: int) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack([columns.flatten(), rows.flatten()], dim=-1)[None]


def _by_name(module: nn.Module, batch: Mapping[str, Tensor]) -> Arguments:
    """Gives every argument that the module demands, by name where it is a known one."""
    unnamed = iter(batch.values())
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(module.forward).parameters.items():
        if name in batch:
            arguments[name] = batch[name]
        elif parameter.kind is parameter.VAR_KEYWORD:
            arguments = {"input_ids": batch["input_ids"], **arguments}
        elif (
            parameter.kind is not parameter.VAR_POSITIONAL and parameter.default is parameter.empty
        ):
            arguments[name] = next(unnamed, batch["input_ids"])
    return arguments
