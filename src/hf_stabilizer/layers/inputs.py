"""What can a model be fed for one look at its forward pass?

Small tensors without meaning: on the meta device only their shapes count. A model of
`transformers` says itself what it takes (`main_input_name`, its config); for a module of the
user's own the names of its arguments are tried, then the usual ways to pass a batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

_LENGTH = 8  # tokens
Arguments = Mapping[str, Any] | Sequence[Any]  # Any: tensors, or a batch of them


def attempts(module: nn.Module) -> Iterator[Arguments]:
    """Yields arguments for the forward pass of a module, the likeliest first."""
    if isinstance(module, PreTrainedModel):
        yield from _for_pretrained(module)
        return
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
    return {name: torch.ones(shape, dtype=torch.long, device="meta") for name in names}


def _for_pretrained(model: PreTrainedModel) -> Iterator[Arguments]:
    accepted = inspect.signature(model.forward).parameters
    decoder = {}
    if _has_decoder(model) and "decoder_input_ids" in accepted:
        decoder = {"decoder_input_ids": _tokens(1, _LENGTH)["input_ids"]}
    main = model.main_input_name
    if main == "input_ids":
        yield {main: _tokens(1, _LENGTH)[main], **decoder}
        yield {main: _tokens(1, 2, _LENGTH)[main], **decoder}
    elif isinstance(main, str) and main in _SENSES:
        shape = _SENSES[main](model.config)
        if all(isinstance(size, int) for size in shape):
            yield {main: torch.ones(shape, device="meta"), **decoder}


def _image_shape(config: Any) -> tuple[int, ...]:  # Any: every config has fields of its own
    size = getattr(config, "image_size", 224)
    height, width = size if isinstance(size, tuple | list) else (size, size)
    return 1, getattr(config, "num_channels", 3), height, width


def _spectrum_shape(config: Any) -> tuple[int, ...]:
    return 1, getattr(config, "num_mel_bins", 80), 2 * getattr(config, "max_source_positions", 1500)


_SENSES: dict[str, Callable[[Any], tuple[int, ...]]] = {
    "pixel_values": _image_shape,
    "input_features": _spectrum_shape,
    "input_values": lambda config: (1, 16000),
}


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
