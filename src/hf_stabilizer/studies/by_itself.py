"""What must a run have for itself? Random numbers, one thread, torch's switches, the folder.

A process may train run after run, and a pool of threads would train two at a time. Neither may
change another's numbers: a study's must not depend on who ran what, and in which order.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

import torch

_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def by_itself() -> Iterator[None]:
    """Lets nothing of the kind happen beside the block, and puts all back as it was found.

    Torch has one thread meanwhile: sums over more of them round differently. What options and
    people's functions switch for the whole process (`full_determinism`, `tf32`, a change of folder)
    ends with the block.
    """
    with _one_at_a_time, _one_thread(), _switches_kept(), _folder_kept():
        yield


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _switches_kept() -> Iterator[None]:
    is_deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    before = [(holder, name, getattr(holder, name)) for holder, name in _switches()]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(is_deterministic, warn_only=warns)
        for holder, name, value in before:
            if getattr(holder, name) != value:
                setattr(holder, name, value)


def _switches() -> list[tuple[Any, str]]:  # Any: modules of torch
    """The switches that `full_determinism` and `tf32` turn."""
    backends = torch.backends
    found: list[tuple[Any, str]] = [
        (backends.cudnn, "deterministic"),
        (backends.cudnn, "benchmark"),
    ]
    if hasattr(backends, "fp32_precision"):  # torch 2.9; it bears no mixing with the older ones
        return [*found, (backends, "fp32_precision")]
    return [*found, (backends.cuda.matmul, "allow_tf32"), (backends.cudnn, "allow_tf32")]


@contextlib.contextmanager
def _folder_kept() -> Iterator[None]:
    try:
        before = os.getcwd()
    except OSError:  # it is gone
        before = ""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.chdir(before)
