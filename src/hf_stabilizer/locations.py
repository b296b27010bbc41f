"""Where do the files lie that a configuration names? A path, a Hub id, or a package's own files."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
from pathlib import Path

from hf_stabilizer.errors import DataError


def resolve_location(text: str) -> str:
    """Returns the path that a location means: `pkg://` looked up, `~` expanded.

    Nothing is imported: a package's code may need what is not installed when its files do not.
    Anything else, a Hub id for instance, comes back as it is.

    Args:
        text: A path, a Hub id, or `pkg://package/path/of/file/or/folder`.

    Raises:
        DataError: The package is not installed, or has no such file.

    Example:
        >>> resolve_location("org/some-model")
        'org/some-model'
        >>> Path(resolve_location("pkg://hf_stabilizer/py.typed")).name
        'py.typed'
    """
    if not text.startswith("pkg://"):
        return os.path.expanduser(text) if text.startswith("~") else text
    package, _, inside = text.removeprefix("pkg://").partition("/")
    for folder in _package_folders(package, text):
        if (folder / inside).exists():
            return str(folder / inside)
    raise DataError(f"{text!r}: the installed package {package!r} has no file or folder {inside!r}")


def _package_folders(package: str, text: str) -> list[Path]:
    try:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
    except ValueError:  # A namespace package of the old kind sits in sys.modules without a spec.
        spec = importlib.machinery.PathFinder.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            f"{text!r}: no package {package!r} is installed here; install it, or name a path"
        )
    return [Path(folder) for folder in spec.submodule_search_locations]
