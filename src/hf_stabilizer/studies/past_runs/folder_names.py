"""Which recipe, and which seeds, does the name of a run's folder tell of?

results/llrd-seed-3          recipe llrd,    seed 3
results/plain/seed_3         recipe plain,   seed 3
results/swa/run-7            recipe swa,     seeds unknown: seven is no seed
runs/llrd/head1-data2-dropout3
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from hf_stabilizer.errors import ConfigurationError

# One part of a name that tells a seed; letters before it would make it another word.
_SEED = re.compile(
    r"(?<![a-z])(?P<kind>head|data|dropout)?[_-]?seed[_=\-.]?(?P<number>\d+)(?![\d.]*\d)", re.I
)
_OURS = re.compile(r"(?<![a-z])(?P<kind>head|data|dropout)(?P<number>\d+)(?![\w.])", re.I)
_COUNT = re.compile(
    r"(?:^|(?<=[^a-z]))(?:run|trial|rep|repeat|repetition|replicate)[_=\-]?\d+$|^\d+$", re.I
)
_EDGES = " _-.=,+"

_OPTIONS = {"head": "head_seed", "data": "data_seed", "dropout": "seed", None: "seed"}


def seeds_in_name(name: str) -> dict[str, int]:
    """Returns the seeds that a folder's name states, by option name.

    Example:
        >>> seeds_in_name("llrd-seed-3"), seeds_in_name("bert_data_seed=2"), seeds_in_name("run-7")
        ({'seed': 3}, {'data_seed': 2}, {})
        >>> seeds_in_name("head1-data2-dropout3")
        {'head_seed': 1, 'data_seed': 2, 'seed': 3}
    """
    return {
        _OPTIONS[(match["kind"] or "").lower() or None]: int(match["number"])
        for match in _matches(name)
    }


def recipe_in_path(folder: Path) -> str:
    """Returns the folder's name without seeds and counts, or its parent's if nothing is left.

    Example:
        >>> recipe_in_path(Path("results/llrd-seed-3")), recipe_in_path(Path("results/swa/run-7"))
        ('llrd', 'swa')
        >>> recipe_in_path(Path("results/roberta-v2")), recipe_in_path(Path("plain/seed_3"))
        ('roberta-v2', 'plain')
        >>> recipe_in_path(Path("results/plain-seed-1-data-seed-1"))
        'plain'
    """
    for path in (folder, *folder.parents):
        if name := _without_seeds(path.name):
            return name
    return folder.name or "runs"


def mapped_recipes(folders: Sequence[Path], names: Mapping[str, str]) -> list[str | None]:
    """Returns the recipe of each folder by the first glob that fits its path; None if none does.

    Args:
        folders: The runs' folders.
        names: Glob over a folder's whole path -> recipe, e.g. `{"*llrd*": "llrd"}`.

    Raises:
        ConfigurationError: A glob decides for no folder.

    Example:
        >>> mapped_recipes([Path("a/x1"), Path("a/y-seed-2")], {"*/x*": "plain"})
        ['plain', None]
    """
    deciding = [
        next((glob for glob in names if fnmatchcase(folder.as_posix(), glob)), None)
        for folder in folders
    ]
    for glob in names:
        if glob not in deciding:
            raise ConfigurationError(
                f"recipe: the glob {glob!r} decides for no run; it must fit a whole path such as "
                f"{folders[0].as_posix() if folders else ''!r}, and the first that fits counts"
            )
    return [None if glob is None else names[glob] for glob in deciding]


def natural(path: Path) -> list[tuple[int, int, str]]:
    """Returns a key that sorts seed-2 before seed-10.

    Example:
        >>> [p.name for p in sorted([Path("seed-10"), Path("seed-2")], key=natural)]
        ['seed-2', 'seed-10']
    """
    parts = re.split(r"(\d+)", path.as_posix())
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def _matches(name: str) -> list[re.Match[str]]:
    return [*_SEED.finditer(name), *_OURS.finditer(name)]


def _without_seeds(name: str) -> str:
    for start, end in sorted((match.span() for match in _matches(name)), reverse=True):
        name = f"{name[:start]}\0{name[end:]}"
    name = re.sub(rf"[{re.escape(_EDGES)}]*\0[{re.escape(_EDGES)}]*", "-", name).strip(_EDGES)
    return re.sub(_COUNT, "", name).strip(_EDGES)
