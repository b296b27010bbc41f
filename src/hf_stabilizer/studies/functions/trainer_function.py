"""What does a study know of people's own function? What it is called, and how it gets to a worker.

    def build(args: StabilizerArguments) -> Trainer: ...

A function of a notebook or script travels with cloudpickle, by value, with what it refers to; one
of a module that can be imported travels by its name.
"""

from __future__ import annotations

import functools
import inspect
import io
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import cloudpickle

from hf_stabilizer.errors import ConfigurationError, StabilizerError, first_line
from hf_stabilizer.studies.functions.fingerprint import fingerprint, innermost

# Any in this module: what people's functions take and return; it is checked where it is used.


class TrainerSource(Protocol):
    """What makes a Trainer of arguments, in whichever process it is asked to."""

    @property
    def name(self) -> str:
        """What it is called: `mine.py:build`."""
        ...

    @property
    def source(self) -> str | None:
        """A hash of its source; None where there is none to read."""
        ...

    @property
    def file(self) -> str:
        """The file that holds it; empty where there is none."""
        ...

    def __call__(self, args: Any, /) -> Any:
        """Returns what people's function returns."""
        ...


class TrainerFunction:
    """A function as it was handed over; pickled, it takes with it what it needs.

    Args:
        function: From `StabilizerArguments` to a Trainer, or to a Trainer and test rows.

    Example:
        >>> def build(args): ...
        >>> TrainerFunction(build).name
        'build'
    """

    def __init__(self, function: Callable[[Any], Any]):
        check_takes_arguments(function)
        self.name, self.file = name_of(function), file_of(function)
        self.source = fingerprint(function)
        self._function: Callable[[Any], Any] | None = function
        self._packed = b""

    def __call__(self, args: Any, /) -> Any:
        """Calls it; in another process it is unpacked once."""
        function = self._function or _unpacked(self._packed)
        return function(args)

    def __getstate__(self) -> dict[str, Any]:
        """Packs the function."""
        return {**vars(self), "_function": None, "_packed": self.packed()}

    def packed(self) -> bytes:
        """Returns the function in bytes.

        Raises:
            ConfigurationError: Something that it refers to cannot leave this process.
        """
        if not self._packed:
            try:
                self._packed = _pack(self._function)
            except Exception as error:  # whatever its __reduce__ methods raise
                raise ConfigurationError(
                    f"the function {self.name} cannot be sent to worker processes "
                    f"({first_line(error)}); make inside it what cannot be sent, or run the study "
                    'in this process with executor="in-process"'
                ) from error
        return self._packed


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Sends a cached function of a notebook by value, too; what is cached stays behind."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, functools._lru_cache_wrapper) and obj.__module__ == "__main__":
            return _cached, (obj.__wrapped__, obj.cache_parameters())
        return super().reducer_override(obj)


def _cached(function: Callable[..., Any], parameters: Any) -> Callable[..., Any]:
    cached: Callable[..., Any] = functools.lru_cache(**parameters)(function)
    return cached


def _pack(function: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer).dump(function)
    return buffer.getvalue()


@functools.lru_cache(maxsize=2)
def _unpacked(packed: bytes) -> Callable[[Any], Any]:
    function: Callable[[Any], Any] = cloudpickle.loads(packed)
    return function


def check_takes_arguments(function: Callable[..., Any]) -> None:
    """Raises ConfigurationError if a function cannot be called with the arguments alone."""
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        raise ConfigurationError(
            f"the function {name_of(function)} must take one argument, the StabilizerArguments of "
            f"a run ({first_line(error)})"
        ) from error
    except ValueError:  # a signature that cannot be read
        return


def name_of(function: Callable[..., Any]) -> str:
    """Returns what a function is called: the file that holds it, and its name there."""
    name: str = innermost(function).__qualname__.replace("<locals>.", "")
    file = file_of(function)
    return f"{Path(file).name}:{name}" if file else name


def file_of(function: Callable[..., Any]) -> str:
    """Returns the file of a function's source; empty for one of a notebook or a prompt."""
    try:
        file = inspect.getsourcefile(innermost(function)) or ""
    except TypeError:
        return ""
    return os.path.abspath(file) if Path(file).is_file() and file.endswith(".py") else ""


def call(function: TrainerSource, args: Any) -> Any:
    """Returns what people's function makes of arguments.

    Raises:
        ConfigurationError: It raised; says what, and in which line. What is raised on purpose
            here, as by `stabilize`, goes through as it is.
    """
    try:
        return function(args)
    except StabilizerError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"the function {function.name} raised {type(error).__name__}: {first_line(error)} "
            f"({where(error, function.file)})"
        ) from error


def where(error: BaseException, file: str) -> str:
    """Returns file and line that raised, the last ones in `file` where it was there."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((frame for frame in reversed(frames) if frame.filename == file), frames[-1])
    return f"{frame.filename}:{frame.lineno}"
