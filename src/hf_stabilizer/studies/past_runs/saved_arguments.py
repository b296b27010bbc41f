"""With which arguments did a Trainer run? Read from its `training_args.bin`, running none of it.

The file is a pickle, and a pickle can name any function to be called. Here every class and every
function that it names is replaced by an empty stand-in, so nothing is imported and nothing is
called; what is left are the names, numbers and texts.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

from hf_stabilizer.errors import StudyError, first_line

_LARGEST = 4 * 2**20  # bytes: the arguments of a run take a few thousand


def read_saved_arguments(path: Path) -> dict[str, Any]:  # Any: whatever was an argument
    """Returns the plain values among the saved arguments, by name; others are left out.

    Enumerations are their value: `SaveStrategy.BEST` is "best".

    Raises:
        StudyError: The file is none that `torch.save` wrote, or it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
            if archive.getinfo(name).file_size > _LARGEST:
                raise StudyError(f"{path} cannot be read: it is too big for a run's arguments")
            saved = _InertUnpickler(io.BytesIO(archive.read(name))).load()
    except StudyError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        reason = "it names no arguments" if isinstance(error, StopIteration) else first_line(error)
        raise StudyError(f"{path} cannot be read ({reason})") from error
    state = getattr(saved, "state", None)
    if not isinstance(state, dict):
        raise StudyError(f"{path} cannot be read: it holds no arguments")
    plain = {str(key): _plain(value) for key, value in state.items()}
    return {key: value for key, value in plain.items() if not isinstance(value, _StandIn)}


class _StandIn:
    """Takes the place of whatever class or function a pickle names, and does nothing."""

    args: tuple[object, ...]
    state: object

    def __new__(cls, *args: object) -> _StandIn:
        self = object.__new__(cls)
        self.args, self.state = args, None
        return self

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, value: object) -> None:
        pass

    def extend(self, values: object) -> None:
        pass

    def add(self, value: object) -> None:
        pass


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[_StandIn]:
        return _StandIn

    def persistent_load(self, pid: object) -> None:
        return None


def _plain(value: Any) -> Any:  # Any: see above
    """The value of an enumeration, which is pickled as a call of its class."""
    if isinstance(value, _StandIn):
        is_enumeration = len(value.args) == 1 and isinstance(value.args[0], (str, int))
        return value.args[0] if is_enumeration else value
    if isinstance(value, (dict, list, tuple)):
        return value if _is_plain(value) else _StandIn()
    return value


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(part) for item in value.items() for part in item)
    if isinstance(value, (list, tuple)):
        return all(_is_plain(part) for part in value)
    return value is None or isinstance(value, (str, int, float, bool))
