"""How much is dropped at random? One rate for the whole model, whatever its architecture.

Where a model keeps its rates:

    modules     nn.Dropout and its like                                    BERT, GPT-2, T5, ...
    attributes  numbers that attention hands to a function                 Llama, ViT, T5, BART
    identities  nn.Identity in the place of a dropout built with rate 0    ModernBERT
    config      numbers that forward passes read, and that are saved       all

Stochastic depth (DropPath, layerdrop) drops layers and not activations: it is left as it is, and
the report says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Any

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from hf_stabilizer.errors import ConfigurationError

# Any in this module: modules and configurations keep values of any type.
_DROPS = re.compile(r"(^|_)(p?drop|dropout)(_|$|[0-9])")  # attn_pdrop, dropout_rate, out_drop
_DEPTH = re.compile(r"path|layer_?drop|drop_?layer|depth|token|mask", re.IGNORECASE)


@dataclass(frozen=True)
class DropoutReport:
    """What `set_dropout` changed, and what it left."""

    rate: float
    """The new rate."""
    changed: tuple[tuple[str, float], ...]
    """(place, rate before) of each module, and number in a module, that had another rate."""
    unchanged: tuple[str, ...]
    """Places that had this rate already."""
    config: tuple[tuple[str, float], ...]
    """(key, rate before) of each number in the configuration that had another rate."""
    left: tuple[tuple[str, float], ...]
    """(place, rate) of what drops layers, and keeps its rate above 0."""

    def __str__(self) -> str:
        """One sentence for the log."""
        places = len(self.changed) + len(self.unchanged)
        before = sorted({rate for _, rate in self.changed})
        was = f" (before: {', '.join(f'{rate:g}' for rate in before)})" if before else ""
        kept = "; left as they are: " + ", ".join(f"{p}={r:g}" for p, r in self.left)
        return (
            f"dropout is {self.rate:g} in {places} places, {len(self.changed)} of them changed{was}"
            + (kept if self.left else "")
        )


def set_dropout(model: nn.Module, rate: float) -> DropoutReport:
    """Sets every dropout of a model to one rate: embeddings, attention, blocks and head.

    With rate 0 the model computes in training what it does in evaluation, but for what the report
    names under `left`. The configuration is changed with it: some forward passes read the rate
    there, and a saved model says with which dropout it was trained, and is loaded with it.

    Args:
        model: The model, before or after it is put on its device; wrapped by PEFT or not.
        rate: Share of activations that are dropped, in [0, 1).

    Returns:
        What was changed. The model is changed in place.

    Raises:
        ConfigurationError: `rate` is out of range, or the model has no dropout.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> model = BertModel(BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1,
        ...                              num_attention_heads=1, intermediate_size=4))
        >>> print(set_dropout(model, 0.2))
        dropout is 0.2 in 4 places, 4 of them changed (before: 0.1)
        >>> model.config.hidden_dropout_prob
        0.2

    Source: Srivastava et al. 2014, JMLR 15; that there is none to be left out on small data is our
    own measurement (preflight's "no-dropout").
    """
    rate = _checked(rate)
    _revive_identities(model)
    places = [*_places(model)]
    if not places:
        raise ConfigurationError(
            f"dropout={rate!r} has no effect: {type(model).__name__} has no dropout that could be "
            "set; leave dropout out"
        )
    changed = tuple((place.name, place.rate) for place in places if place.rate != rate)
    unchanged = tuple(place.name for place in places if place.rate == rate)
    for place in places:
        setattr(place.owner, place.attribute, rate)
    left = tuple((place.name, place.rate) for place in _depth_places(model) if place.rate)
    return DropoutReport(rate, changed, unchanged, tuple(_set_configs(model, rate)), left)


def _checked(rate: object) -> float:
    if isinstance(rate, bool) or not isinstance(rate, Real) or not 0 <= float(rate) < 1:
        raise ConfigurationError(f"dropout must be a number in [0, 1), got {rate!r}")
    return float(rate)


@dataclass(frozen=True)
class _Place:
    """One number that says how much is dropped."""

    name: str
    owner: Any
    attribute: str

    @property
    def rate(self) -> float:
        return float(getattr(self.owner, self.attribute))


def _revive_identities(model: nn.Module) -> None:
    """Puts dropouts where a model built with rate 0 has identities that stand for them."""
    for module in [*model.modules()]:
        for name, child in [*module.named_children()]:
            if type(child) is nn.Identity and _drops_activations(name):
                setattr(module, name, nn.Dropout(0.0).train(child.training))


def _places(model: nn.Module) -> Iterator[_Place]:
    for name, module in model.named_modules():
        if isinstance(module, _DropoutNd):
            yield _Place(name, module, "p")
        elif not _DEPTH.search(type(module).__name__):
            is_dropout = "dropout" in type(module).__name__.lower()
            for key, value in vars(module).items():
                named = _drops_activations(key) or (is_dropout and key in ("p", "drop_prob"))
                if named and _is_rate(value):
                    yield _Place(f"{name}.{key}".lstrip("."), module, key)


def _depth_places(model: nn.Module) -> Iterator[_Place]:
    """What drops whole layers or paths."""
    for name, module in model.named_modules():
        is_path = "droppath" in type(module).__name__.lower().replace("_", "")
        for key, value in vars(module).items():
            drops_depth = "drop" in key and _DEPTH.search(key)
            if (drops_depth or (is_path and "drop" in key)) and _is_rate(value):
                yield _Place(f"{name}.{key}".lstrip("."), module, key)


def _set_configs(model: nn.Module, rate: float) -> Iterator[tuple[str, float]]:
    """Sets the rates in every configuration that a part of the model holds, each one once."""
    seen: set[int] = set()
    for module in model.modules():
        config = getattr(module, "config", None)
        if config is None or id(config) in seen or isinstance(config, dict):
            continue
        seen.add(id(config))
        for key, value in [*vars(config).items()]:
            if _drops_activations(key) and _is_rate(value):
                setattr(config, key, rate)
                if value != rate:
                    yield key, float(value)


def _drops_activations(name: str) -> bool:
    return bool(_DROPS.search(name)) and not _DEPTH.search(name)


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
