"""Where do the files lie that a configuration names? A path, a Hub id, or a package's own files."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
from pathlib import Path

from hf_stabilizer.errors import ConfigurationError, DataError, first_line

_SECONDS = 10.0  # To wait for the Hub.


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


def check_presence(name: str, *, key: str) -> None:
    """Checks that a model is on this machine, in the cache of the Hub's, or on the Hub.

    The Hub is asked once: loaders ask again and again where there is no network.

    Args:
        name: A Hub id, a folder or `pkg://package/path`.
        key: What the user gave it as, for the message.

    Raises:
        ConfigurationError: It is in none of them, or the Hub cannot be asked.
        DataError: The package that it names has no such folder.

    Example:
        >>> check_presence("./nothere", key="--with-model")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: --with-model './nothere': there is no such folder
        here; name a folder with a model, a Hub id, or pkg://package/path
    """
    location = resolve_location(name)
    if Path(location).is_dir():
        return
    is_path = location.startswith((".", os.sep)) or location.count("/") > 1
    reason = "" if is_path else _missing_on_hub(location)
    if is_path or reason:
        raise ConfigurationError(
            f"{key} {name!r}: there is no such folder here{reason}; name a folder with "
            "a model, a Hub id, or pkg://package/path"
        )


def _missing_on_hub(name: str) -> str:
    """Says why a model cannot be had from the Hub, "" if it can."""
    from huggingface_hub import model_info, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        if isinstance(try_to_load_from_cache(name, "config.json"), str):
            return ""
        model_info(name, timeout=_SECONDS)
    except HFValidationError:
        return ", and it is no Hub id"
    except HfHubHTTPError as error:
        return f", and the Hub has none ({first_line(error)})"
    except Exception as error:  # Those of whichever HTTP client the Hub's library has.
        return f", and the Hub cannot be asked ({first_line(error)})"
    return ""
