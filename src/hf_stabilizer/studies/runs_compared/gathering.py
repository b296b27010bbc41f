"""Which runs lie below these folders, by which procedure, and what was each told to do?

STUDY/runs/RECIPE/SEEDS/run.json            a run of a study
PROCEDURE/procedure.json, .../run.json      the same, made by a procedure around whole runs
anything else with a trainer_state.json     a run of any Trainer (`past_runs`)
"""

from __future__ import annotations

import filecmp
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_stabilizer.errors import ConfigurationError, StudyError, did_you_mean
from hf_stabilizer.procedure import read_procedure
from hf_stabilizer.records import Run, read_run
from hf_stabilizer.studies.kept_weights import Rows, kept_score
from hf_stabilizer.studies.past_runs.reading import read_runs
from hf_stabilizer.studies.study import DEFINITION, read_definition

# Any in this module: whatever YAML can say.
NOT_SETTINGS = frozenset(
    (
        *("output_dir", "run_name", "report_to", "project", "trackio_space_id", "folder"),
        *("logging_steps", "disable_tqdm", "seed", "data_seed", "head_seed"),
        *("resume_from_checkpoint", "dataloader_pin_memory"),
    )
)
"""Keys that say where a run lies, who watches it, and which seeds it has."""
FILES = ("train_file", "validation_file", "test_file", "unlabelled_file")
"""Keys whose files are held against one another: every procedure writes its own."""


@dataclass(frozen=True)
class ComparedRun:
    """One finished run, with what it was told to do."""

    run: Run
    """Its record."""
    folder: Path
    """Where it lies."""
    procedure: str
    """What made it: "train", "study", or the kind of a procedure, e.g. "cross-validate"."""
    score: float
    """The metric that decides, of the weights that the run kept."""
    settings: Mapping[str, str]
    """Every setting as text, the recipe's name and the procedure with them."""
    scored_on: Rows = "best"
    """"test" rows where there are any; else validation rows, by the "best" weights or the "last",
    whichever the run kept."""

    @property
    def seeds(self) -> tuple[tuple[str, int], ...]:
        """Its seeds, in a form that compares."""
        return tuple(sorted(self.run.seeds.items()))


def gather_runs(
    folders: Iterable[str | os.PathLike[str]],
    *,
    metric: str | None = None,
    greater_is_better: bool | None = None,
) -> tuple[tuple[ComparedRun, ...], str, bool, tuple[str, ...]]:
    """Returns the runs below some folders, the metric, its direction, and what was left out.

    Raises:
        StudyError: There is no such folder, or no run in it that has the metric.
        ConfigurationError: The runs name different metrics, or none has the one that is asked for.
    """
    found = [one for folder in folders for one in _below(Path(folder), metric, greater_is_better)]
    found = list({folder.resolve(): (folder, run, made) for folder, run, made in found}.values())
    metric = _deciding(metric, [run for _, run, _ in found])
    if greater_is_better is None:
        greater_is_better = _direction(metric, [run for _, run, _ in found])
    compared, left = [], []
    files: dict[str, str] = {}
    for folder, run, made in found:
        score = kept_score(run, metric, greater_is_better=greater_is_better)
        if score is None:
            left.append(f"{folder}: {run.reason or run.status}, without a score")
        else:
            settings = _settings(run, folder, made, files)
            compared.append(ComparedRun(run, folder, made, score.value, settings, score.rows))
    if not compared:
        raise StudyError(
            f"none of the {len(found)} runs has a final {metric}; name folders of finished runs"
        )
    return tuple(compared), metric, greater_is_better, tuple(left)


def _below(
    root: Path, metric: str | None, greater_is_better: bool | None
) -> list[tuple[Path, Run, str]]:
    if not root.is_dir():
        raise StudyError(f"there is no folder {str(root)!r}; name folders of runs, or above them")
    records = sorted(root.rglob("run.json"))
    if records:
        return [(path.parent, read_run(path), _made_by(path.parent)) for path in records]
    study = read_runs(root, metric=metric, greater_is_better=greater_is_better)
    return [
        (Path(str(run.configuration.get("folder", root / run.recipe / run.name))), run, "trainer")
        for run in study.runs
    ]


def _made_by(folder: Path) -> str:
    """What made a run: the procedure that is farthest above it, else the study, else itself."""
    above = [folder, *folder.absolute().parents][:8]
    kinds = [record.kind for path in above if (record := read_procedure(path)) is not None]
    if kinds:
        return kinds[-1]
    return "study" if any((path / DEFINITION).is_file() for path in above[:5]) else "train"


def _deciding(metric: str | None, runs: Sequence[Run]) -> str:
    named = list(dict.fromkeys(run.metric for run in runs if run.metric))
    known = {name for run in runs for _, metrics in run.evaluations for name in metrics}
    known |= set(named)
    if metric is not None:
        plain = metric.removeprefix("eval_")
        if plain not in known:
            raise ConfigurationError(
                f"no run has the metric {metric!r}{did_you_mean(plain, known)}; there are "
                f"{', '.join(sorted(known)) or 'none'}"
            )
        return plain
    if len(named) != 1:
        raise ConfigurationError(
            f"the runs are judged by different metrics ({', '.join(named) or 'none is named'}); "
            f"set metric to one of {', '.join(sorted(known)) or 'those that they have'}"
        )
    return named[0]


def _direction(metric: str, runs: Sequence[Run]) -> bool:
    said = {run.greater_is_better for run in runs if run.metric == metric}
    if len(said) == 1:
        return said.pop()
    from hf_stabilizer.metrics import greater_is_better

    return greater_is_better(metric)


def _settings(run: Run, folder: Path, made: str, files: dict[str, str]) -> dict[str, str]:
    values = {k: v for k, v in run.configuration.items() if k not in NOT_SETTINGS}
    for key in FILES:
        if isinstance(values.get(key), str):
            values[key] = _first_alike(_where_now(values[key], key, run, folder), files)
    told = {"procedure": made, "recipe": run.recipe, **values}
    return {key: _text(value) for key, value in told.items() if value is not None}


def _where_now(path: str, key: str, run: Run, folder: Path) -> str:
    """Returns where a file of a run lies; where its study was moved, the study knows."""
    study = folder.absolute().joinpath("..", "..", "..").resolve()
    if Path(path).is_file() or not (study / DEFINITION).is_file():
        return path
    told = read_definition(study).recipe_settings.get(run.recipe, {}).get(key)
    moved = study / told if isinstance(told, str) else study
    return str(moved.resolve()) if moved.is_file() else path


def _first_alike(path: str, known: dict[str, str]) -> str:
    """Returns the first file that holds the same bytes; `known` tells path -> that file."""
    if path not in known:
        earlier = dict.fromkeys(known.values()) if Path(path).is_file() else ()
        alike = (
            other
            for other in earlier
            if Path(other).is_file() and filecmp.cmp(other, path, shallow=False)
        )
        known[path] = next(alike, path)
    return known[path]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, sort_keys=True)
