"""What went wrong? The tree of errors that this package raises, and the checks at its doors.

    StabilizerError
    ├── ConfigurationError     (ValueError)    an option or a combination that cannot be right
    ├── DataError              (ValueError)    a file, column, label or split that is wrong
    ├── DivergenceError        (RuntimeError)  a run that is lost: no numbers, or one answer to all
    ├── LayerDiscoveryError    (ValueError)    the depth of a parameter cannot be told
    ├── ReinitializationError  (RuntimeError)  weights that should have changed did not
    ├── ResumeError            (RuntimeError)  a checkpoint that cannot be continued from
    ├── StudyError             (RuntimeError)  a study's folder that cannot be used
    └── MissingDependencyError (ImportError)   a package is absent or too old

Each message says what is wrong, which value it was, what is allowed, and what to do. On the
command line they are one sentence and exit code 2.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable
from numbers import Integral


class StabilizerError(Exception):
    """The root of every error that this package raises on purpose."""


class ConfigurationError(StabilizerError, ValueError):
    """An option, a key or a combination of them that cannot be right."""


class DataError(StabilizerError, ValueError):
    """A file, column, label or split that is not as it must be."""


class DivergenceError(StabilizerError, RuntimeError):
    """A run that is lost: its loss or gradient is no number, or its classifier has collapsed."""


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
        >>> did_you_mean("layer_lr_decy", ["learning_rate", "layer_lr_decay"])
        ' (did you mean layer_lr_decay?)'
        >>> did_you_mean("zzz", ["layer_lr"])
        ''
    """
    close = difflib.get_close_matches(name, list(allowed), n=2, cutoff=0.75)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def check_choice(value: object, allowed: Collection[str], *, name: str) -> None:
    """Raises ConfigurationError if `value` is not among the allowed ones.

    Example:
        >>> check_choice("lrrd", ("uniform", "llrd"), name="layer_lr")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: layer_lr must be one of uniform, llrd, got 'lrrd'
        (did you mean llrd?)
    """
    if value not in allowed:
        raise ConfigurationError(
            f"{name} must be one of {', '.join(allowed)}, got {value!r}"
            f"{did_you_mean(str(value), allowed)}"
        )


LAST_SEED = 2**32 - 1
"""The largest seed that `check_whole` should let pass: numpy takes no larger one."""


def check_whole(
    value: object, allowed: str, *, name: str, least: int = 0, most: float = math.inf
) -> None:
    """Raises ConfigurationError if `value` is not a whole number in [least, most].

    Args:
        value: What was given; numpy's whole numbers are some, True and 2.0 are none.
        allowed: How the message says what is.
        name: The argument, for the message.
        least: The smallest number allowed.
        most: The largest number allowed.

    Example:
        >>> check_whole(0, "of optimizer steps from 1 up", name="every", least=1)
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: every must be a whole number of optimizer steps
        from 1 up, got 0
    """
    if type(value) is bool or not isinstance(value, Integral) or not least <= int(value) <= most:
        raise ConfigurationError(f"{name} must be a whole number {allowed}, got {value!r}")


def check_switch(value: object, *, name: str) -> None:
    """Raises ConfigurationError if `value` is neither True nor False: the text "no" would be true.

    Example:
        >>> check_switch("no", name="warmup")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: warmup must be True or False, got 'no'
    """
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} must be True or False, got {value!r}")


def check_kind(value: object, kind: type | tuple[type, ...], wanted: str, *, name: str) -> None:
    """Raises ConfigurationError if a value is given that is not of its kind; None is not given.

    Example:
        >>> check_kind(["seed"], dict, "a mapping from keys to values", name="overrides")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: overrides must be a mapping from keys to values,
        got ['seed']
    """
    if value is not None and not isinstance(value, kind):
        raise ConfigurationError(f"{name} must be {wanted}, got {value!r}")


def first_line(error: Exception) -> str:
    r"""Returns the first line of a foreign error's message, to stand inside a sentence of ours.

    Example:
        >>> first_line(ValueError("No such file.\nTry another."))
        'No such file'
        >>> first_line(KeyError())
        'KeyError'
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
