"""What was done around whole runs, with which settings, and what came of it?

    FOLDER/procedure.json    kind, settings, outcome, versions

Every procedure keeps this record in its folder: it tells a second start what stands already, and
everybody else where rows or weights come from. Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hf_stabilizer.errors import StudyError
from hf_stabilizer.records import check_folder, versions, write_atomically

# Any in this module: whatever YAML can say.
FILE = "procedure.json"


@dataclass(frozen=True)
class Procedure:
    """The record of one procedure."""

    kind: str
    """Name of its command, e.g. "pretrain"."""
    settings: Mapping[str, Any]
    """Everything that decides what it does; a second start with others is refused."""
    outcome: Mapping[str, Any] = field(default_factory=dict)
    """What came of it; empty until it is over."""
    versions: Mapping[str, str] = field(default_factory=versions)
    """Versions of the packages that matter."""

    @property
    def is_over(self) -> bool:
        """Whether it has come to its end."""
        return bool(self.outcome)

    def ended(self, folder: Path, **outcome: Any) -> Procedure:
        """Returns the record with its outcome, written into the folder."""
        over = replace(self, outcome=_plain(outcome))
        _write(over, folder)
        return over


def open_procedure(folder: str | Path, kind: str, settings: Mapping[str, Any]) -> Procedure:
    """Begins a procedure in a folder, or returns the record of the same one begun before.

    Args:
        folder: Its folder, made if need be.
        kind: Name of its command.
        settings: Everything that decides what it does, in plain values.

    Raises:
        StudyError: The folder holds another procedure, or other files.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> record = open_procedure(folder, "pretrain", {"seed": 1})
        >>> record.is_over, record.ended(folder, perplexity=3.5).is_over
        (False, True)
        >>> open_procedure(folder, "pretrain", {"seed": 1}).outcome
        {'perplexity': 3.5}
    """
    folder, asked = Path(folder), Procedure(kind, _plain(settings))
    there = check_procedure(folder, kind, settings)
    if there is None:
        _write(asked, folder)
    return there or asked


def check_procedure(folder: str | Path, kind: str, settings: Mapping[str, Any]) -> Procedure | None:
    """Returns the record of the same procedure begun before, if there is one; writes nothing.

    Raises:
        StudyError: The folder holds another procedure, or other files.
    """
    folder = Path(folder)
    check_folder(folder, key="output_dir")
    there = read_procedure(folder)
    if there is not None:
        _check_same(there, Procedure(kind, _plain(settings)), folder)
        return there
    strangers = [path.name for path in folder.glob("*") if not path.name.startswith(".")]
    if strangers:
        raise StudyError(
            f"{str(folder)!r} holds other files ({', '.join(sorted(strangers)[:3])}) and no "
            f"{kind}; name a new or an empty folder"
        )
    return None


def read_procedure(folder: str | Path) -> Procedure | None:
    """Returns the record in a folder, None if there is none.

    Raises:
        StudyError: There is one, and it cannot be read.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Procedure(**{k: v for k, v in values.items() if k in Procedure.__dataclass_fields__})
    except (ValueError, TypeError, AttributeError) as error:
        raise StudyError(
            f"{path} is not the record of a procedure ({error}); remove its folder to begin anew"
        ) from error


def _check_same(there: Procedure, asked: Procedure, folder: Path) -> None:
    if there.kind != asked.kind:
        raise StudyError(
            f"{str(folder)!r} holds the results of {there.kind}; name another output folder"
        )
    then, now = dict(_singly(there.settings)), dict(_singly(asked.settings))
    differences = [
        f"{key} is {then.get(key)!r} there and {now.get(key)!r} here"
        for key in sorted({*then, *now})
        if then.get(key) != now.get(key)
    ]
    if differences:
        raise StudyError(
            f"{str(folder)!r} holds another {there.kind}: {'; '.join(differences[:4])}; name "
            "another output folder, or remove that one"
        )


def _singly(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields every setting by itself: of a whole configuration only what differs is told."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{inner}", one) for inner, one in value.items())
        else:
            yield key, value


def _write(procedure: Procedure, folder: Path) -> None:
    write_atomically(folder / FILE, json.dumps(asdict(procedure), indent=2, sort_keys=True))


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values as JSON gives them back, so that both sides of a comparison are alike."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(values), default=str))
    return plain
