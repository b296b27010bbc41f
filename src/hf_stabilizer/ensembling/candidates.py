"""Which models are meant? Run folders, studies, checkpoints and models, each as one candidate.

    Study, or its folder    every run that finished, of all recipes or of those named
    run folder              that run
    checkpoint, model       its weights alone

Imports no torch: what runs have predicted is enough for many means.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hf_stabilizer.data import DataArguments, resolve_location
from hf_stabilizer.errors import ConfigurationError, StudyError, check_choice
from hf_stabilizer.records import Run, read_run
from hf_stabilizer.studies.study import DEFINITION, Study, run_folder

# Any in this module: values of configuration keys.
Named = str | Path | Study
_TRAINING_ONLY = ("max_train_rows", "unlabelled_file", "soft_label_column")


@dataclass(frozen=True)
class Candidate:
    """A run or a model that may speak in an ensemble."""

    folder: Path
    """Its folder."""
    name: str
    """What people call it."""
    run: Run | None
    """Its record; None for a checkpoint or a model by itself."""
    study: Path | None = None
    """Folder of the study that it is a run of."""

    @property
    def has_weights(self) -> bool:
        """Whether its model was kept."""
        return any((place / "config.json").is_file() for place in self._places)

    @property
    def _places(self) -> tuple[Path, Path]:
        return self.folder / "model", self.folder


@dataclass(frozen=True)
class Found:
    """The candidates, and what was left out."""

    candidates: tuple[Candidate, ...]
    """One or more."""
    notes: tuple[str, ...]
    """A sentence for what was left out."""


def find_candidates(
    runs: Named | Iterable[Named], *, recipes: Sequence[str] | None = None
) -> Found:
    """Returns the models that are meant, in the order given.

    Args:
        runs: Folders of runs, studies, checkpoints or models, or studies as records.
        recipes: Of a study the runs of these alone; None: of all.

    Raises:
        ConfigurationError: Nothing is named, a folder is none of these, or a recipe is unknown.
        StudyError: A record cannot be read.

    Example:
        >>> find_candidates([])
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: no members are named; name folders of runs, or a
        study
    """
    named = [runs] if isinstance(runs, (str, Path, Study)) else list(runs)
    candidates: list[Candidate] = []
    notes: list[str] = []
    for one in named:
        candidates += _candidates(one, recipes, notes)
    if not candidates:
        why = f": {'; '.join(notes)}" if notes else ""
        raise ConfigurationError(f"no members are named{why}; name folders of runs, or a study")
    _refuse_twice(candidates)
    return Found(tuple(candidates), tuple(notes))


def scored_rows(values: dict[str, Any]) -> dict[str, Any]:
    """Returns the configuration keys that decide which rows are scored.

    Example:
        >>> same = {"validation_file": "dev.csv", "test_file": "test.csv"}
        >>> scored_rows({"train_file": "a.csv", **same}) == scored_rows({"train_file": "b.csv",
        ...     **same, "max_train_rows": 5})
        True
    """
    names = [field.name for field in fields(DataArguments) if field.name not in _TRAINING_ONLY]
    keys = {name: values.get(name) for name in names}
    if keys["validation_file"] is not None and keys["test_size"] is None:
        del keys["train_file"]
    keys["split_seed"] = keys["split_seed"] or 0
    return keys


def _candidates(one: Named, recipes: Sequence[str] | None, notes: list[str]) -> list[Candidate]:
    if isinstance(one, Study):
        return _of_study(one, recipes, notes)
    folder = Path(resolve_location(str(one)))
    if not folder.is_dir():
        raise ConfigurationError(
            f"there is no folder {str(one)!r}; name folders of runs, of a study, or of models"
        )
    if (folder / DEFINITION).is_file():
        return _of_study(Study.from_folder(folder), recipes, notes)
    record = folder / "run.json"
    if record.is_file():
        return [Candidate(folder, str(one), read_run(record), _study_around(folder))]
    found = Candidate(folder, str(one), None)
    if not found.has_weights:
        raise ConfigurationError(
            f"{str(one)!r} is neither a run, nor a study, nor a model: it holds no run.json, no "
            f"{DEFINITION} and no config.json"
        )
    return [found]


def _of_study(study: Study, recipes: Sequence[str] | None, notes: list[str]) -> list[Candidate]:
    for recipe in recipes or ():
        check_choice(recipe, study.recipes, name="recipes")
    if study.folder is None:
        raise StudyError(
            f"the study {study.name!r} lies in no folder, so what its runs predicted is not known; "
            "name the folders of its runs"
        )
    if not study.comparable:
        raise ConfigurationError(
            f"the runs of {study.name!r} are scored on rows of their own, as those of folds are; "
            "name the folder of the cross-validation"
        )
    asked = [run for run in study.runs if recipes is None or run.recipe in recipes]
    ended = [run for run in asked if run.status == "finished"]
    if len(ended) < len(asked):
        notes.append(
            f"{len(asked) - len(ended)} of {len(asked)} runs of {study.name!r} were stopped or "
            "failed and are left out"
        )
    return [
        Candidate(
            run_folder(study.folder, run.recipe, run.name),
            f"{run.recipe} {run.name}",
            run,
            study.folder,
        )
        for run in ended
    ]


def _study_around(folder: Path) -> Path | None:
    around = folder.resolve().parents
    return around[2] if len(around) > 2 and (around[2] / DEFINITION).is_file() else None


def _refuse_twice(candidates: Sequence[Candidate]) -> None:
    seen: set[Path] = set()
    for candidate in candidates:
        place = candidate.folder.resolve()
        if place in seen:
            raise ConfigurationError(f"{candidate.name!r} is named twice; name each member once")
        seen.add(place)


def order_of_rows(candidate: Candidate, part: str) -> list[int] | None:
    """Returns the place in the file of each row that a run of a study predicted.

    Runs predict the longest rows first, as their tokenizer counts; the study notes which is which.

    Args:
        candidate: A run.
        part: "validation" or "test".

    Returns:
        None where that is not known.
    """
    if candidate.study is None or candidate.run is None:
        return None
    from hf_stabilizer.configuration import Configuration
    from hf_stabilizer.studies.subject import rows_folder

    configuration = Configuration(candidate.run.configuration, candidate.run.recipe)
    path = rows_folder(candidate.study, configuration) / "task.json"
    try:
        places = json.loads(path.read_text(encoding="utf-8")).get(f"{part}_rows")
    except (OSError, ValueError):
        return None
    return None if places is None else list(places)
