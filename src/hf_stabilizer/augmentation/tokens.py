"""Where in a text does each token stand? Windows with places, and texts put back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from hf_stabilizer.errors import ConfigurationError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Window:
    """As many tokens of a text as the model reads at once."""

    text: int
    """Place of the text."""
    ids: tuple[int, ...]
    """Tokens, special ones among them."""
    spans: tuple[tuple[int, int], ...]
    """Where each token stands in the text; (0, 0) for special ones, which stand nowhere."""


@cache
def masking_tokenizer(model_name_or_path: str) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a masked language model.

    Raises:
        ConfigurationError: It has no mask, or cannot tell where its tokens stand.
    """
    from hf_stabilizer.data import resolve_location
    from hf_stabilizer.models import load_tokenizer

    tokenizer = load_tokenizer(resolve_location(model_name_or_path), key="model")
    if tokenizer.mask_token is None:
        raise ConfigurationError(
            f"the tokenizer of {model_name_or_path!r} has no mask token; name a masked language "
            "model such as bert-base-uncased"
        )
    if not tokenizer.is_fast:
        raise ConfigurationError(
            f"the tokenizer of {model_name_or_path!r} cannot tell where its tokens stand in a "
            "text; name a model with a fast tokenizer"
        )
    return tokenizer


def windows_of(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[Window]:
    """Cuts the texts into windows that the model can read; all tokens are in one."""
    encoded = tokenizer(
        list(texts),
        truncation=True,
        max_length=min(int(tokenizer.model_max_length), 512),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
    )
    owners = encoded["overflow_to_sample_mapping"]
    windows = []
    for at, owner in enumerate(owners):
        special = encoded["special_tokens_mask"][at]
        spans = [
            (0, 0) if is_special else tuple(span)
            for span, is_special in zip(encoded["offset_mapping"][at], special, strict=True)
        ]
        windows.append(Window(int(owner), tuple(encoded["input_ids"][at]), tuple(spans)))
    return windows


def with_spans_replaced(text: str, changes: Sequence[tuple[int, int, str]]) -> str:
    """Returns the text with the characters start..end replaced, for each change.

    Example:
        >>> with_spans_replaced("a good film", [(2, 6, "bad"), (0, 1, "the")])
        'the bad film'
    """
    for start, end, word in sorted(changes, reverse=True):
        text = text[:start] + word + text[end:]
    return text
