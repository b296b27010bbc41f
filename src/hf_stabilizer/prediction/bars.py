"""Which progress bars are not shown? Those of libraries, beside the one that counts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType


@contextlib.contextmanager
def without_bars(logging: ModuleType) -> Iterator[None]:
    """Within it a library shows no bars.

    Args:
        logging: `transformers.utils.logging` or `datasets.utils.logging`.
    """
    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()
