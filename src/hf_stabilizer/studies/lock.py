"""Does another process work on this study? One at a time may, wherever the study lies."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from hf_stabilizer.errors import StudyError


@contextlib.contextmanager
def alone(lock: Path, study: str) -> Iterator[None]:
    """Keeps other processes on this machine out of a study while the block lasts.

    Args:
        lock: The file that is locked.
        study: Folder or URL of the study, for the message.

    Raises:
        StudyError: Another process is in such a block.
    """
    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout as error:
        raise StudyError(
            f"another process works on the study in {study!r}; wait for it, or stop it"
        ) from error
