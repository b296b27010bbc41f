"""What went wrong? The tree of errors that this package raises.

    StabilizerError
    ├── ConfigurationError     (ValueError)    an option, a key or a combination that cannot be right
    ├── DataError              (ValueError)    a file, column, label or split that is not as it must be
    ├── LayerDiscoveryError    (ValueError)    the depth of a parameter cannot be told
    ├── ReinitializationError  (RuntimeError)  weights that should have changed did not, or the reverse
    ├── ResumeError            (RuntimeError)  a checkpoint that cannot be continued from
    ├── StudyError             (RuntimeError)  a study's folder that cannot be used
    └── MissingDependencyError (ImportError)   a package is absent or too old

Each message says what is wrong, which value it was, what is allowed, and what to do. On the
command line they are one sentence and exit code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class StabilizerError(Exception):
    """The root of every error that this package raises on purpose."""


class ConfigurationError(StabilizerError, ValueError):
    """An option, a key or a combination of them that cannot be right."""


class DataError(StabilizerError, ValueError):
    """A file, column, label or split that is not as it must be."""


class LayerDiscoveryError(StabilizerError, ValueError):
    """The depth of one parameter or more cannot be told; the message holds the table so far."""


class ReinitializationError(StabilizerError, RuntimeError):
    """Weights that should have changed did not, or weights that should not have did."""


class ResumeError(StabilizerError, RuntimeError):
    """A checkpoint that cannot be continued from without changing the result."""


class StudyError(StabilizerError, RuntimeError):
    """A study's folder that cannot be used as it is."""


class MissingDependencyError(StabilizerError, ImportError):
    """A package that is needed is absent or too old."""


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Returns a hint that names the closest allowed names, or nothing.

    Example:
        >>> did_you_mean("layer_lr_decy", ["layer_lr", "layer_lr_decay"])
        '; did you mean layer_lr_decay?'
        >>> did_you_mean("zzz", ["layer_lr"])
        ''
    """
    close = difflib.get_close_matches(name, list(allowed), n=2, cutoff=0.75)
    return f"; did you mean {' or '.join(close)}?" if close else ""
