"""A model class -> a tiny model with real weights, or the reason why there is none."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
import transformers
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from transformers import CONFIG_MAPPING

from .base_configs import base_values, mend
from .inputs import share_run
from .shrinking import Shrinker
from .targets import Target

FACTORS = (64, 32, 16, 8, 128, 4, 2, 1)
LIMITS = {128: 3e6, 64: 2e6, 32: 3e6, 16: 4e6, 8: 6e6, 4: 12e6, 2: 20e6, 1: 30e6}
"""Factor -> most parameters that an instance may have."""
SIZES_TRIED = 4
"""Instances of different sizes that are built until one can be run with all kinds of input."""


class Unbuildable(Exception):  # noqa: N818 - it is an answer rather than an error
    """Why there is no tiny instance of a class."""


class TooLarge(Exception):  # noqa: N818
    """More parameters than allowed; raised before their memory is touched."""


def build(target: Target, *, seed: int = 0) -> nn.Module:
    """Returns a tiny random instance in eval mode; the same one for the same seed.

    Raises:
        Unbuildable: With the reason: a missing library, or a default configuration that is broken.
    """
    transformers.logging.set_verbosity(50)
    klass = _class_of(target)
    best, share, built = None, -1.0, 0
    reasons: list[str] = []
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        for config, limit in _configs(target, klass, reasons):
            try:
                with at_most(limit):
                    torch.manual_seed(seed)
                    model = klass(config).eval()
            except Exception as error:
                reasons.append(f"{type(error).__name__}: {error}")
                continue
            built += 1
            runs = share_run(model)
            if runs > share:
                best, share = model, runs
            if share == 1.0 or built == SIZES_TRIED:
                break
    if best is None:
        raise Unbuildable(_shortest(reasons))
    return best


def _class_of(target: Target) -> Any:
    try:
        return getattr(transformers, target.name, None) or _in_its_module(target)
    except Exception as error:
        raise Unbuildable(f"{type(error).__name__}: {error}") from error


def _in_its_module(target: Target) -> Any:
    """Finds a class that the mappings list and the top of the package does not export."""
    config = CONFIG_MAPPING[target.config_type]
    module = config.__module__.replace("configuration_", "modeling_")
    return getattr(import_module(module), target.name)


def _configs(target: Target, klass: Any, reasons: list[str]) -> Iterator[tuple[Any, float]]:
    """Yields the class's default configuration, ever less shrunk."""
    try:
        config_class, values = base_values(target, klass)
    except Exception as error:
        reasons.append(f"{type(error).__name__}: {error}")
        return
    for factor in FACTORS:
        try:
            small = mend(target, Shrinker(factor).shrink(values))
            yield config_class.from_dict(small), LIMITS[factor]
        except Exception as error:
            reasons.append(f"configuration: {type(error).__name__}: {error}")


@contextmanager
def at_most(limit: float) -> Iterator[None]:
    """Lets no module be built in the block that would have more parameters than `limit`."""
    seen = 0

    def count(_: nn.Module, __: str, parameter: nn.Parameter | None) -> None:
        nonlocal seen
        seen += parameter.numel() if parameter is not None else 0
        if seen > limit:
            raise TooLarge(f"more than {limit:.0f} parameters")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _shortest(reasons: list[str]) -> str:
    told = [reason for reason in reasons if not reason.startswith("TooLarge")] or reasons
    return " ".join(told[-1].split())[:300] if told else "no configuration"
