"""What does a study of a command line ask, and is it what its folder asks already?

One line with placeholders, the names that {recipe} stands for, and the seeds. A folder that holds a
study may be asked for more names or more seeds of the same line. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hf_stabilizer.errors import ConfigurationError, StudyError, check_whole
from hf_stabilizer.recipes import check_listed
from hf_stabilizer.records import check_folder, read_run, run_name, versions
from hf_stabilizer.studies.commands.command_template import CommandTemplate
from hf_stabilizer.studies.seeds.seed_grid import OPTIONS, SeedGrid, plan_seeds, said
from hf_stabilizer.studies.study import DEFINITION, Study, read_definition, run_folder

RECORD = "run.json"
OUTPUT = "output"
RECIPE = "script"
"""The recipe's name where the command has no {recipe}."""


class CommandJob:
    """One run that is to be there in the end.

    Args:
        template: The command line.
        recipe: What {recipe} stands for.
        seeds: What the placeholders for seeds stand for.
        study: Folder of the study.
    """

    def __init__(
        self, template: CommandTemplate, recipe: str, seeds: Mapping[str, int], study: Path
    ):
        self.recipe, self.seeds = recipe, seeds
        self.folder = run_folder(study, recipe, run_name(seeds))
        values = {**seeds, "recipe": recipe, "output_dir": self.folder / OUTPUT}
        self.words = template.fill(values)

    def is_over(self, retry_failed: bool) -> bool:
        """Whether the program has ended, and is not to be run again."""
        record = self.folder / RECORD
        if not record.is_file():
            return False
        code = read_run(record).configuration.get("exit_code")
        if not isinstance(code, int):  # the run was lost, not the program's fault
            return False
        return code == 0 or (code < 128 and not retry_failed)


def ask(
    command: str,
    recipes: Sequence[str],
    output_dir: Path,
    runs: int | None,
    first_seed: int,
    grid: SeedGrid,
    made_by: str,
) -> tuple[Study, list[CommandJob]]:
    """Returns the study that is asked for, and its runs, pairs side by side; writes nothing.

    Args:
        command: The command line, as in `run_command_study`.
        recipes: What {recipe} stands for, one after the other.
        output_dir: Folder of the study.
        runs: Runs per recipe; None with a grid of seeds: all of it.
        first_seed: Seed of the first run.
        grid: Which seeds are varied.
        made_by: The command line that makes the study again.

    Raises:
        ConfigurationError: Something cannot be right.
        StudyError: The folder holds another study, or other files.
    """
    template = CommandTemplate.parse(command)
    _check_varied(template, grid)
    _check_recipes(template, recipes)
    folder = output_dir.absolute()
    check_folder(folder, key="output_dir")
    cells = plan_seeds(runs=runs, first_seed=first_seed, **grid)
    seeds = [{name: cell[name] for name in template.seed_names} for cell in cells]
    asked = _joined(template, recipes, seeds, folder, made_by)
    return asked, [
        CommandJob(template, recipe, seed, folder) for seed in seeds for recipe in asked.recipes
    ]


def checked_workers(workers: int | None) -> int:
    """Returns how many runs there are at a time, two where nothing is said.

    Raises:
        ConfigurationError: It is no whole number from 1 up.
    """
    workers = 2 if workers is None else workers
    check_whole(workers, "from 1 up", name="workers", least=1)
    return workers


def _check_recipes(template: CommandTemplate, recipes: Sequence[str]) -> None:
    check_listed(recipes)
    if not recipes or len(set(recipes)) < len(recipes):
        raise ConfigurationError(f"recipes must be different names, got {list(recipes)!r}")
    for recipe in recipes:
        if recipe in ("", ".", "..") or "/" in recipe or "\\" in recipe:
            raise ConfigurationError(
                f"recipe {recipe!r} cannot be the name of a folder; give a name without slashes "
                "and put the rest of the path into the command, as in configs/{recipe}.yaml"
            )
    if len(recipes) > 1 and "recipe" not in template.placeholders:
        raise ConfigurationError(
            f"the command has no {{recipe}}, so the runs of {' and '.join(recipes)} would be the "
            "same; add it where they differ, or name one recipe"
        )


def _check_varied(template: CommandTemplate, grid: SeedGrid) -> None:
    for option, name in OPTIONS.items():
        if dict(grid)[option] is not None and name not in template.seed_names:
            hint = (
                "in a script whose --seed draws the head, vary {seed} with dropout_seeds instead"
                if name == "head_seed" and "seed" in template.seed_names
                else f"add {{{name}}} where the script takes that seed, or leave {option} out"
            )
            raise ConfigurationError(
                f"{option} cannot be varied: the command has no {{{name}}}; {hint}"
            )


def _joined(
    template: CommandTemplate,
    recipes: Sequence[str],
    seeds: Sequence[Mapping[str, int]],
    folder: Path,
    made_by: str,
) -> Study:
    """Returns the study that is asked for, joined with what the folder holds of it."""
    asked = Study(
        name=folder.name,
        recipes=tuple(recipes),
        runs=(),
        metric="",
        greater_is_better=True,
        seeds=tuple(seeds),
        configuration={"command": template.text},
        command=made_by or f"run_study({template.text!r}, {said(seeds)}, ...)",
        versions=versions(),
    )
    if not (folder / DEFINITION).exists():
        if folder.exists() and any(not p.name.startswith(".") for p in folder.iterdir()):
            raise StudyError(
                f"{str(folder)!r} holds other files and no study; name a new or an empty folder"
            )
        return asked
    there = read_definition(folder)
    if there.configuration.get("command") != template.text:
        raise StudyError(
            f"{str(folder)!r} holds another study: its command was "
            f"{there.configuration.get('command')!r}; name another output folder, or remove it"
        )
    return replace(
        asked,
        recipes=tuple(dict.fromkeys([*there.recipes, *recipes])),
        seeds=(*there.seeds, *(s for s in asked.seeds if s not in there.seeds)),
        # A metric that nothing was scored by is open still.
        metric=there.metric if _any_scored(folder) else "",
        greater_is_better=there.greater_is_better,
    )


def _any_scored(folder: Path) -> bool:
    return any(read_run(p).score is not None for p in folder.glob(f"runs/*/*/{RECORD}"))


def refuse_stopping(stop_at: float | None, keep: int | None) -> None:
    """Raises ConfigurationError if runs of a command line are to be stopped early."""
    if stop_at is not None or keep is not None:
        raise ConfigurationError(
            "a study of a command cannot stop runs early: its script is not ours to halt and to "
            "continue; leave stop_at and keep out, or give a YAML configuration or a function"
        )
