"""At which depth is each parameter of a model, said by hand? The form in which the tests say it.

An answer names parts of the model, and the longest name that fits a parameter decides:

    towers      the blocks of each tower from the input upwards; towers end at the same depth, N
    embeddings  depth 0
    head        depth N + 1
    between     what lies outside the blocks and shares a block's depth
    either      where the conventions leave a choice, e.g. down-sampling between two stages
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import transformers
from huggingface_hub.errors import StrictDataclassFieldValidationError
from torch import nn

from hf_stabilizer import LayerMap

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""Configuration of a small encoder of text."""

GROUPED: dict[str, Any] = {**SIZES, "num_key_value_heads": 2, "head_dim": 8}
"""Configuration of a small decoder of text with grouped queries."""

TOKENS: dict[str, Any] = {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}

TWO_STACKS: dict[str, Any] = {
    **TOKENS, "d_model": 16, "encoder_layers": 2, "decoder_layers": 3,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24, "max_position_embeddings": 40, "decoder_start_token_id": 2,
}  # fmt: skip
"""Configuration of a small encoder-decoder: two blocks, then three."""

PICTURES: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
    "intermediate_size": 24, "image_size": 16, "patch_size": 4,
}  # fmt: skip
"""Configuration of a small vision transformer."""


@dataclass(frozen=True)
class Answer:
    """A model, and where its parts belong."""

    name: str
    make: Callable[[], nn.Module]
    towers: tuple[tuple[str, ...], ...]
    """Tower by tower, one part per depth; the last of each is at depth N."""
    embeddings: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    between: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    either: Mapping[str, set[int]] = field(default_factory=dict)
    pooler: tuple[str, ...] | None = None
    """Paths between body and classifier; None where the answer does not say."""
    classifier: str | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Part -> what older versions of transformers call it."""
    meta: bool = True
    """Whether it can be built without weights."""

    @property
    def num_layers(self) -> int:
        return max(map(len, self.towers))

    def build(self) -> nn.Module:
        if not self.meta:
            return self.make()
        try:
            with torch.device("meta"):
                return self.make()
        except StrictDataclassFieldValidationError as error:
            if not transformers.__version__.startswith("5.4."):
                raise
            pytest.skip(f"transformers 5.4 refuses defaults of its own: {error}")

    def parts(self) -> dict[str, set[int]]:
        """Part of the model -> the depths that are right for it."""
        top = self.num_layers + 1
        parts = {
            path: {top - len(tower) + k} for tower in self.towers for k, path in enumerate(tower)
        }
        outside = {0: self.embeddings, **self.between, top: self.head}
        parts |= {path: {depth} for depth, paths in outside.items() for path in paths}
        return {**parts, **self.either}

    def mistakes(self, model: nn.Module, layers: LayerMap) -> dict[str, str]:
        """Parameter -> what is said and what was found, where they differ."""
        parts = {self.named_in(model, part): depths for part, depths in self.parts().items()}
        wrong = {}
        for name, _ in model.named_parameters():
            around = [part for part in parts if covers(part, name)]
            right = parts[max(around, key=len)] if around else set()
            if layers.depth_of(name) not in right:
                wrong[name] = f"said {sorted(right)}, found {layers.depth_of(name)}"
        return wrong

    def named_in(self, model: nn.Module, part: str) -> str:
        """A part's name in the version of transformers that is installed."""
        names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
        if any(covers(part, name) for name in names):
            return part
        for new, old in self.renamed.items():
            if covers(new, part):
                return old + part.removeprefix(new)
        return part

    def unknown_parts(self, model: nn.Module) -> list[str]:
        """Parts that the model does not have: slips of the pen."""
        names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
        here = [self.named_in(model, part) for part in self.parts()]
        return [part for part in here if not any(covers(part, name) for name in names)]


def covers(part: str, name: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def ladder(*stacks: tuple[str, int]) -> tuple[str, ...]:
    """The blocks of lists that run one after another."""
    return tuple(f"{path}.{index}" for path, length in stacks for index in range(length))


def check(answer: Answer) -> None:
    """Holds a model's map against the answer."""
    model = answer.build()
    unknown = answer.unknown_parts(model)
    assert not unknown, f"no such part: {unknown}"
    layers = LayerMap.from_model(model)
    assert layers.num_layers == answer.num_layers, f"N is {layers.num_layers}\n{layers}"
    mistakes = answer.mistakes(model, layers)
    assert not mistakes, "\n".join(f"{name}: {what}" for name, what in mistakes.items())
    for tower in answer.towers:
        for depth, path in enumerate(reversed(tower)):
            blocks = layers.blocks[answer.num_layers - depth]
            assert answer.named_in(model, path) in blocks, f"{path} is not one of {blocks}"
    if answer.pooler is not None:
        assert layers.pooler == answer.pooler, f"pooler {layers.pooler}"
    if answer.classifier is not None:
        expected = answer.named_in(model, answer.classifier)
        assert layers.classifier == expected, f"classifier {layers.classifier}"


def cases(answers: list[Answer]) -> pytest.MarkDecorator:
    """One test for each answer."""
    return pytest.mark.parametrize("answer", answers, ids=lambda answer: answer.name)
