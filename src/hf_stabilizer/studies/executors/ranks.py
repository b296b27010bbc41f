"""Which of several processes that train one run together touches its folder? The first.

    launcher ── rank 0     moves, removes and writes in the run's folder; the others wait for it
             └─ rank 1..   train along

Under one process all of this is a plain call.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch.distributed as dist

P = ParamSpec("P")
T = TypeVar("T")

FAILED = "HF_STABILIZER_FAILED_FILE"
"""Variable of the environment of launched processes: a file that the first to fail makes."""


def on_first(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a function on rank 0 when all ranks have come here; all return what it returned.

    Raises:
        Exception: What it raised, on all ranks.

    Example:
        >>> on_first(max, 1, 2)
        2
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return function(*args, **kwargs)
    from accelerate.utils import broadcast_object_list, wait_for_everyone

    wait_for_everyone()
    outcome: list[Any] = [None, None]  # Any: the result or nothing, the error or nothing
    if dist.get_rank() == 0:
        try:
            outcome = [function(*args, **kwargs), None]
        except Exception as error:
            outcome = [None, error]
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    result: T = outcome[0]
    return result


def first_to_fail() -> None:
    """Ends this process if another rank of its run has failed before: that one tells why.

    What fails later often fails of that, and says "connection closed".
    """
    path = os.environ.get(FAILED)
    if path is None:
        return
    try:
        Path(path).touch(exist_ok=False)
    except FileExistsError:
        os._exit(0)  # any other code would have the launcher end the one that tells
