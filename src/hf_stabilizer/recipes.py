"""Which recipes are there, and what does each one set?

A recipe is a YAML file of configuration keys that is laid over a configuration. Its leading
comment says where it comes from. Keys that hold for some tasks only stand under `tasks:`.

    # What it is, in one sentence.
    # Source: ...
    warmup_steps: 0.1
    tasks:
      text-classification:
        fit_head: true

The recipes that ship lie once, in `configs/recipes`; the wheel carries them inside the package.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hf_stabilizer.errors import ConfigurationError, check_choice, did_you_mean
from hf_stabilizer.tasks import TASKS


@dataclass(frozen=True)
class Recipe:
    """Settings with a name and a source."""

    name: str
    """Name of the file without its ending."""
    settings: Mapping[str, Any]  # Any: whatever YAML can say
    """Configuration keys and values, `tasks` still inside."""
    comment: str
    """The comment at the head of the file: what it is and where it comes from."""

    @property
    def summary(self) -> str:
        """The first line of the comment."""
        return self.comment.split("\n", 1)[0]

    def for_task(self, task: str | None) -> dict[str, Any]:
        """Returns the settings for one task: the common ones, then the task's own over them."""
        common = {key: value for key, value in self.settings.items() if key != "tasks"}
        return {**common, **(self.settings.get("tasks") or {}).get(task, {})}


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML 1.2 mapping: `no` is a word, `1e-5` a number, a key that stands twice an error.

    Raises:
        ConfigurationError: The file is absent, is not YAML, or holds no mapping.
    """
    try:
        values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(f"cannot read {str(path)!r}: {reason}") from error
    except YAMLError as error:
        raise ConfigurationError(f"{str(path)!r} is not valid YAML: {_problem(error)}") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigurationError(f"{str(path)!r} must hold `key: value` lines, got {values!r:.80}")
    return values


def read_value(text: str) -> Any:  # Any: whatever YAML can say
    """Returns one value as YAML has it; what is no YAML stands for itself.

    Example:
        >>> read_value("1e-4"), read_value("[1, 2]"), read_value("no"), read_value("a: b: c")
        (0.0001, [1, 2], 'no', 'a: b: c')
    """
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        return text


def _problem(error: YAMLError) -> str:
    """Returns what is wrong and where, without the excerpts and advice of the reader."""
    problem = getattr(error, "problem", None) or str(error)
    mark = getattr(error, "problem_mark", None)
    return " ".join(problem.split()) + (f" in line {mark.line + 1}" if mark else "")


def shipped_folder(name: str) -> Path:
    """Returns a folder of YAML files that ship: inside the wheel, or `configs` in the sources."""
    package = Path(__file__).resolve().parent
    inside = package / name
    return inside if inside.is_dir() else package.parents[1] / "configs" / name


def recipe_folder() -> Path:
    """Returns the folder of the recipes that ship."""
    return shipped_folder("recipes")


def recipe_names() -> list[str]:
    """Returns the names of the recipes that ship, sorted."""
    return sorted(path.stem for path in recipe_folder().glob("*.yaml"))


def load_recipe(name_or_file: str | Path) -> Recipe:
    """Reads a recipe by its name, or from a YAML file of one's own.

    Raises:
        ConfigurationError: There is no such recipe or file, or it is not a recipe.
    """
    if not isinstance(name_or_file, str | Path):
        raise ConfigurationError(
            f"a recipe must be a name, or the path of a YAML file, got {name_or_file!r}"
        )
    name_or_file = str(name_or_file)
    is_file = name_or_file.endswith((".yaml", ".yml"))
    path = Path(name_or_file) if is_file else recipe_folder() / f"{name_or_file}.yaml"
    if not is_file and name_or_file not in recipe_names():
        raise ConfigurationError(
            f"there is no recipe {name_or_file!r}{did_you_mean(name_or_file, recipe_names())}; "
            f"those that ship are {', '.join(recipe_names())}; a file of your own ends in .yaml"
        )
    settings = read_yaml(path)
    tasks = settings.get("tasks")
    if tasks is not None and not (
        isinstance(tasks, dict) and all(isinstance(value, dict) for value in tasks.values())
    ):
        raise ConfigurationError(f"`tasks` in {str(path)!r} must map task names to settings")
    for task in tasks or ():
        check_choice(task, TASKS, name=f"a task in {str(path)!r}")
    return Recipe(path.stem, settings, _leading_comment(path))


def check_listed(recipes: object) -> None:
    """Raises ConfigurationError if recipes are one text, whose letters would be taken for names.

    Example:
        >>> check_listed("plain")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: recipes must be a list or a mapping, got 'plain';
        write ['plain']
    """
    if isinstance(recipes, str) or not isinstance(recipes, Iterable):
        raise ConfigurationError(
            f"recipes must be a list or a mapping, got {recipes!r}; write [{recipes!r}]"
        )


def _leading_comment(path: Path) -> str:
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("#").strip())
    return "\n".join(lines)
