"""Where do the random number generators stand? Remembered, seeded, and put back.

Drawing weights and looking at a model both draw random numbers, and neither may move those that
training will draw: the same seed is to give the same run, with or without them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from hf_stabilizer.errors import check_whole

_CPU = torch.device("cpu")


def remember_random_state(device: torch.device = _CPU) -> Callable[[], None]:
    """Returns a function that puts the generators back to where they are now.

    Those of python, numpy and torch, and those of `device` where it has its own.

    Example:
        >>> restore = remember_random_state()
        >>> first = torch.rand(3)
        >>> restore()
        >>> torch.equal(first, torch.rand(3))
        True
    """
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    restore_accelerator = None if device.type == "cpu" else _remember_accelerator(device)

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if restore_accelerator is not None:
            restore_accelerator()

    return restore


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds python, numpy and torch (CPU), and restores their states at the end.

    Example:
        >>> before = torch.get_rng_state()
        >>> with seeded(1):
        ...     first = torch.rand(3)
        >>> with seeded(1):
        ...     torch.equal(first, torch.rand(3))
        True
        >>> torch.equal(before, torch.get_rng_state())
        True
    """
    restore = remember_random_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        restore()


def next_seed() -> int:
    """Returns a seed that torch's random state decides, without moving that state."""
    generator = torch.Generator()
    generator.set_state(torch.get_rng_state())
    return int(torch.randint(2**63 - 1, (), generator=generator))


def check_seed(seed: int) -> None:
    """Raises ConfigurationError if `seed` is not a whole number in [0, 2^63)."""
    check_whole(seed, "in [0, 2^63)", name="seed", most=2**63 - 1)


def _remember_accelerator(device: torch.device) -> Callable[[], None]:
    module = torch.get_device_module(device.type)
    if hasattr(module, "get_rng_state_all"):  # a process may draw on several GPUs
        states = module.get_rng_state_all()
        return lambda: module.set_rng_state_all(states)
    state = module.get_rng_state()
    return lambda: module.set_rng_state(state)
