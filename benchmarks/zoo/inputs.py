"""With what can a model be run? Dummy inputs made from its forward signature and configuration.

There is no table of models: an argument is known by its name, sizes are looked up in the
configuration and its sub-configurations, and where an argument of one name has several shapes in
different models, they are tried one after the other. How many placeholder tokens an image or a
sound takes is read from the error that a wrong number raises.
"""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from .input_values import AUDIO_TOKENS, IMAGE_TOKENS, MAKERS, TOKENS, VIDEO_TOKENS

TRIES = 30

VIDEO = ("pixel_values_videos", "video_grid_thw")
COMPANIONS = (
    "image_grid_thw", "video_grid_thw", "image_sizes", "spatial_shapes", "pixel_attention_mask",
    "pixel_position_ids", "image_position_ids", "aspect_ratio_ids", "aspect_ratio_mask",
    "mm_token_type_ids", "bbox",
    "decoder_input_ids", "merge_sizes", "image_merge_sizes", "input_features_mask",
)  # fmt: skip
MODAL = (
    "input_ids", "pixel_values", "pixel_values_videos", "input_features", "input_values",
    "visual_feats", "visual_pos", "visual_embeds", "decoder_input_ids", "states", "actions",
    "rewards", "returns_to_go", "timesteps",
)  # fmt: skip


@dataclass
class Maker:
    """Makes arguments for one module."""

    module: nn.Module
    placeholders: dict[str, int] = field(default_factory=dict)
    """Modality -> how many placeholder tokens its features take."""
    guessed: set[tuple[str, int]] = field(default_factory=set)
    """What was tried of it."""

    @cached_property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The arguments of the forward pass."""
        return inspect.signature(self.module.forward).parameters

    @cached_property
    def required(self) -> list[str]:
        """Names of the arguments without a default, and of the main input."""
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        names = [n for n, p in self.parameters.items() if p.default is p.empty and p.kind in kinds]
        main = getattr(self.module, "main_input_name", None)
        if isinstance(main, str) and main in self.parameters and main not in names:
            names.append(main)
        return names

    def attempts(self) -> Iterator[dict[str, Any]]:
        """Yields keyword arguments, the most complete ones first."""
        known = [n for n in self.parameters if n in MODAL]
        wanted = [
            [n for n in [*known, *COMPANIONS] if n not in VIDEO],
            [n for n in known if n not in VIDEO],
            [*known, *COMPANIONS],
            ["pixel_values", "image_grid_thw"],
            ["decoder_input_ids"],
            [],
            ["encoder_hidden_states"],
        ]
        seen: set[tuple[tuple[str, ...], int]] = set()
        for names in wanted:
            chosen = [n for n in dict.fromkeys([*self.required, *names]) if n in self.parameters]
            shapes = [range(len(self.candidates(n))) for n in chosen]
            for choice in itertools.islice(itertools.product(*shapes), 24):
                key = tuple(chosen), hash(choice)
                if key not in seen:
                    seen.add(key)
                    made = {n: self.candidates(n)[i] for n, i in zip(chosen, choice, strict=True)}
                    made |= {n: False for n in ("use_cache",) if n in self.parameters}
                    yield {n: value for n, value in made.items() if value is not None}

    def learn(self, error: Exception) -> bool:
        """Takes the number of placeholders from an error; False if it tells nothing new.

        Some models count features, others the numbers in them.
        """
        told = re.search(r"(Image|Video|Audio) features.*features:? (\d+)", str(error), re.DOTALL)
        if not told:
            return False
        modality, count = told[1].lower(), int(told[2])
        width = self.size("hidden_size", default=1, within="text")
        for guess in (count, count // width):
            if (modality, guess) not in self.guessed:
                self.guessed.add((modality, guess))
                self.placeholders[modality] = guess
                return True
        return False

    def candidates(self, name: str) -> list[Any]:
        """Returns values for an argument, one for each possible shape; [None] if unknown."""
        make = MAKERS.get(name)
        return (make(self) if make else []) or [None]

    def size(self, *names: str, default: int = 0, within: str = "") -> int:
        """Looks a number up in the configuration, then in its sub-configurations."""
        value = self.look_up(*names, within=within)
        if isinstance(value, list | tuple) and value:
            value = value[0]
        return value if isinstance(value, int) and not isinstance(value, bool) else default

    def look_up(self, *names: str, within: str = "") -> Any:
        """Returns the first value that is set; sub-configurations that match `within` first."""
        for config in self._configs(within):
            for name in names:
                value = getattr(config, name, None)
                if value is not None:
                    return value
        return None

    def _configs(self, within: str) -> list[Any]:
        config = getattr(self.module, "config", None)
        found = [] if config is None else [("", config)]
        for path, outer in found:
            for key, inner in vars(outer).items():
                if hasattr(inner, "to_dict") and len(found) < 30:
                    found.append((f"{path}.{key}", inner))
        preferred = [c for path, c in found if within and re.search(within, path)]
        return preferred + [c for _, c in found]

    def ids(self, length: int = TOKENS) -> Tensor:
        """Returns token ids with a placeholder for each feature of an image, video or sound."""
        special = [self.size(n, default=-1) for n in (*IMAGE_TOKENS, *VIDEO_TOKENS, *AUDIO_TOKENS)]
        top = min(
            60, max(8, self.size("vocab_size", default=60, within="text|decoder|thinker") - 1)
        )
        ids = [i for i in range(5 if top > 12 else 1, top) if i not in special] * 3
        ids = ids[:length]
        for names, modality in (
            (IMAGE_TOKENS, "image"),
            (VIDEO_TOKENS, "video"),
            (AUDIO_TOKENS, "audio"),
        ):
            token = self.size(*names, default=-1)
            if token >= 0 and modality in self.placeholders:
                before = self.look_up(f"{modality}_start_token_id", "vision_start_token_id")
                start = [before] if isinstance(before, int) else []
                ids = [*ids[:2], *start, *[token] * self.placeholders[modality], *ids[2:]]
        end = self.look_up("eos_token_id", within="text")
        if isinstance(end, int) and end >= 0:
            ids[-1] = end
        return torch.tensor([ids])

    def image_side(self) -> tuple[int, int]:
        """Returns height and width of an image."""
        value = self.look_up("image_size", "img_size", "input_size", within="vision|image|backbone")
        if isinstance(value, list | tuple) and len(value) >= 2:
            return int(value[-2]), int(value[-1])
        if isinstance(value, list | tuple) and value:
            value = value[0]
        side = value if isinstance(value, int) and 8 <= value <= 1024 else 64
        return side, side

    def channels(self) -> int:
        """Returns the channels of an image."""
        return self.size(
            "num_channels", "in_channels", "in_chans", default=3, within="vision|image|backbone"
        )

    def patch(self) -> int:
        """Returns the side of a patch."""
        return self.size("patch_size", default=16, within="vision|image")


def share_run(module: nn.Module) -> float:
    """Returns which share of its kinds of input a module runs with at once; 0 if with none."""
    maker = Maker(module)
    kinds = [n for n in maker.parameters if n in MODAL and n not in VIDEO]
    queue = maker.attempts()
    inputs = next(queue, None)
    for _ in range(TRIES):
        if inputs is None:
            return 0.0
        try:
            with torch.no_grad():
                module(**inputs)
            return sum(n in inputs for n in kinds) / len(kinds) if kinds else 1.0
        except Exception as error:
            if maker.learn(error):
                queue = maker.attempts()
        inputs = next(queue, None)
    return 0.0
