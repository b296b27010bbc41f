"""Which function does FILE.py:FUNCTION name? Imported from the file, once in each process."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from hf_stabilizer.errors import ConfigurationError, did_you_mean, first_line
from hf_stabilizer.studies.functions.fingerprint import fingerprint
from hf_stabilizer.studies.functions.trainer_function import check_takes_arguments, where

# Any in this module: what people's functions take and return.


@dataclass(frozen=True)
class TrainerFile:
    """A function in a file; pickled, it is the path and the name, so that each worker imports it.

    Raises:
        ConfigurationError: When it is called: the file has changed since the study was started.
    """

    file: str
    """Path of the file, absolute."""
    function: str
    """Name of the function in it."""
    source: str | None
    """A hash of the function's source."""

    @property
    def name(self) -> str:
        """What it is called: `mine.py:build`."""
        return f"{Path(self.file).name}:{self.function}"

    def __call__(self, args: Any, /) -> Any:
        """Imports the file, where that was not done yet, and calls the function."""
        return _imported(self)(args)


def read_trainer_file(text: str) -> TrainerFile:
    """Returns the function that `FILE.py:FUNCTION` names; the file is imported for that.

    Its folder can be imported from, as with `python FILE.py`; what stands under
    `if __name__ == "__main__":` is not run.

    Raises:
        ConfigurationError: There is no such file or function, or the import fails.

    Example:
        >>> read_trainer_file("mine.py")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: --trainer must be FILE.py:FUNCTION, got 'mine.py';
        name the function after a colon
    """
    file, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier():
        raise ConfigurationError(
            f"--trainer must be FILE.py:FUNCTION, got {text!r}; name the function after a colon"
        )
    path = Path(file).absolute()
    if not path.is_file() or path.suffix != ".py":
        raise ConfigurationError(f"--trainer {text!r}: there is no Python file {file!r}")
    function = _find(_import(path), path, name)
    found = TrainerFile(str(path), name, fingerprint(function))
    _known[found] = function
    return found


_known: dict[TrainerFile, Callable[[Any], Any]] = {}


def _imported(wanted: TrainerFile) -> Callable[[Any], Any]:
    if wanted not in _known:
        path = Path(wanted.file)
        function = _find(_import(path), path, wanted.function)
        if fingerprint(function) != wanted.source:
            raise ConfigurationError(
                f"{wanted.name} has changed since the study was started, so this run would be of "
                "another function; start the study again"
            )
        _known[wanted] = function
    return _known[wanted]


def _find(module: ModuleType, path: Path, name: str) -> Callable[[Any], Any]:
    function: Any = getattr(module, name, None)
    if not callable(function):
        own = _functions(path)
        raise ConfigurationError(
            f"{path.name} has no function {name!r}{did_you_mean(name, own)}; it has "
            f"{', '.join(own) or 'none'}"
        )
    check_takes_arguments(function)
    found: Callable[[Any], Any] = function
    return found


def _functions(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def _import(path: Path) -> ModuleType:
    """Runs the file as a module of its own name, or of a longer one where that is taken."""
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(_module_name(path), path)
    assert spec is not None  # a file that ends in .py has a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(spec.name)
    sys.modules[spec.name] = module  # before it runs: dataclasses and pickle look there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        if before is None:
            del sys.modules[spec.name]
        else:
            sys.modules[spec.name] = before
        raise ConfigurationError(
            f"{path} cannot be imported: {type(error).__name__}: {_words(error)} "
            f"({where(error, str(path))})"
        ) from error
    return module


def _words(error: BaseException) -> str:
    if isinstance(error, Exception):
        return first_line(error)
    return f"it ends the process with {error}; move that under `if __name__ == '__main__':`"


def _module_name(path: Path) -> str:
    """The name under which others import it, so that what is pickled by name is found again."""
    name = path.stem
    if not name.isidentifier():
        return "trainer_file"
    module = sys.modules.get(name)
    spec = importlib.util.find_spec(name) if module is None else None
    found = getattr(module, "__file__", None) or getattr(spec, "origin", None)
    return name if found == str(path) else f"trainer_file_{name}"
