"""Who may write to the screen while runs are made? The study alone."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

import transformers


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Leaves the output to the study's own lines; warnings go to the log, not to the screen.

    Afterwards all is as it was: in a notebook the runs may be this process's own.
    """
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    words = transformers.utils.logging
    verbosity, had_bars = words.get_verbosity(), words.is_progress_bar_enabled()
    words.set_verbosity_error()
    words.disable_progress_bar()
    logging.captureWarnings(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            yield
    finally:
        logging.captureWarnings(False)
        words.set_verbosity(verbosity)
        if had_bars:
            words.enable_progress_bar()
