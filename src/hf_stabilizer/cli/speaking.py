"""What do people see while a command works? Our own notes, on standard error."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path


def begin(config: str | None) -> None:
    """Says that work has begun, before what takes seconds to import; a file is looked at first.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    from hf_stabilizer.recipes import read_yaml

    if config is not None:
        read_yaml(Path(config))
    if int(os.environ.get("RANK", "0")) == 0:
        text = "Checking the configuration, the rows and the model ..."
        print(text, file=sys.stderr, flush=True)


def speak_plainly() -> None:
    """Shows our own notes on standard error, and spares people transformers' small bars."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    show_notes()


def show_notes() -> None:
    """Shows our own notes on standard error."""
    import logging

    class _PlainHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kind = "warning" if record.levelno >= logging.WARNING else "note"
            print(f"{kind}: {record.getMessage()}", file=sys.stderr)

    notes = logging.getLogger("hf_stabilizer")
    notes.handlers = [_PlainHandler()]
    notes.setLevel(logging.INFO)


def without_secrets(words: Sequence[str]) -> list[str]:
    """Hides the value of a token: the command stands in the report."""
    hidden = [re.sub("^(--hub[-_]token=).*", r"\1...", word) for word in words]
    for place, word in enumerate(hidden[:-1]):
        if word.replace("-", "_") == "__hub_token":
            hidden[place + 1] = "..."
    return hidden
