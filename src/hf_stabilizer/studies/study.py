"""What is a study, once its runs are there? The record, and how it lies on disk.

    OUTPUT_DIR/study.json                        what was asked: recipes, configuration, command
    OUTPUT_DIR/runs/RECIPE/SEEDS/run.json        what came of each run
    OUTPUT_DIR/runs/RECIPE/SEEDS/model/          the model that was kept, where one was
    OUTPUT_DIR/runs/RECIPE/SEEDS/halted.json     what it had come to when bad runs were stopped
    OUTPUT_DIR/events.jsonl                      what happened when

The folder is the truth: a study is read from it, never from memory. Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_stabilizer.errors import StudyError
from hf_stabilizer.predictions import Predictions, read_predictions
from hf_stabilizer.records import Run, read_run, write_atomically

if TYPE_CHECKING:
    from hf_stabilizer.studies.statistics import RecipeSummary

DEFINITION = "study.json"


@dataclass(frozen=True)
class Study:
    """Runs of one or more recipes over the same seeds, with what was asked for."""

    name: str
    """Name for titles, e.g. the output folder's."""
    recipes: tuple[str, ...]
    """Names in the order given; the first one is the baseline of every comparison."""
    runs: tuple[Run, ...]
    """Every run that is over, the failed ones too, in the order of recipes and seeds."""
    metric: str
    """Name of the metric that decides."""
    greater_is_better: bool
    """Whether a larger value of `metric` is the better one."""
    seeds: tuple[Mapping[str, int], ...] = ()
    """The seeds that each recipe was to run with, by option name."""
    configuration: Mapping[str, Any] = field(default_factory=dict)  # Any: whatever YAML can say
    """The resolved configuration that all recipes share."""
    recipe_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What each recipe lays over the configuration."""
    stop_at: float | None = None
    """Fraction of the steps after which all but the best runs are stopped; None: none is."""
    keep: int | None = None
    """Runs of each recipe that go on from there to the end."""
    command: str = ""
    """The command line that makes the study again."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of the packages that matter."""
    ablation: Mapping[str, Any] | None = None
    """Which recipes are the arms of an ablation: `{"baseline": recipe, "all": recipe, "remedies":
    {remedy: {"alone": recipe, "without": recipe}}}`; None: the study is none."""
    comparable: bool = True
    """Whether all recipes are scored on the same rows; False for folds, for instance."""
    folder: Path | None = field(default=None, compare=False)
    """Where the study lies; None for one that was put together in memory."""

    def of(self, recipe: str) -> tuple[Run, ...]:
        """Returns the runs of one recipe."""
        return tuple(run for run in self.runs if run.recipe == recipe)

    def predictions(self, run: Run) -> Predictions | None:
        """Returns what a run predicted row by row, None where that was not kept.

        Raises:
            StudyError: The file is damaged.
        """
        if self.folder is None:
            return None
        return read_predictions(run_folder(self.folder, run.recipe, run.name))

    def to_records(self) -> list[dict[str, Any]]:
        """Returns one flat, pandas-ready mapping for each run."""
        return [
            {
                "recipe": run.recipe,
                **run.seeds,
                "status": run.status,
                "reason": run.reason,
                "metric": run.metric,
                "score": run.score,
                "best_score": run.best_score,
                "last_score": run.last_score,
                "test_score": run.test_score,
                "steps": run.steps,
                "seconds": run.seconds,
            }
            for run in self.runs
        ]

    def summary(self) -> list[RecipeSummary]:
        """Returns one record for each recipe: mean, spread, worst, interval, failed runs."""
        from hf_stabilizer.studies.statistics import summary_rows  # scipy only when asked

        return summary_rows(self.runs, self.recipes)

    def definition(self) -> dict[str, Any]:
        """Returns what `study.json` holds: everything but the runs."""
        return {
            "name": self.name,
            "recipes": list(self.recipes),
            "metric": self.metric,
            "greater_is_better": self.greater_is_better,
            "seeds": [dict(seeds) for seeds in self.seeds],
            "stop_at": self.stop_at,
            "keep": self.keep,
            "ablation": None if self.ablation is None else dict(self.ablation),
            "comparable": self.comparable,
            "configuration": dict(self.configuration),
            "recipe_settings": {name: dict(v) for name, v in self.recipe_settings.items()},
            "command": self.command,
            "versions": dict(self.versions),
        }

    @classmethod
    def from_folder(cls, folder: str | Path) -> Study:
        """Reads a study, whole or still under way, from its folder.

        Raises:
            StudyError: There is no study in the folder, or its files cannot be read.
        """
        folder = Path(folder)
        asked = read_definition(folder)
        runs = [read_run(path) for path in sorted(folder.glob("runs/*/*/run.json"))]
        runs.sort(key=lambda run: _place(run, asked.recipes))
        return replace(asked, runs=tuple(runs), folder=folder)


def read_definition(folder: Path) -> Study:
    """Reads `study.json`: the study as it was asked for, without its runs.

    Raises:
        StudyError: The file is absent or unreadable.
    """
    path = folder / DEFINITION
    try:
        definition = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StudyError(
            f"{folder} holds no study: there is no {DEFINITION} in it; "
            "name the folder that was given as --output-dir"
        ) from error
    except (ValueError, OSError) as error:
        raise StudyError(f"{path} cannot be read ({error}); restore it from a copy") from error
    if not isinstance(definition, dict):
        raise StudyError(f"{path} is not the definition of a study: it holds no mapping")
    known = {k: v for k, v in definition.items() if k in Study.__dataclass_fields__}
    missing = {"name", "recipes", "metric", "greater_is_better", "seeds"} - set(known)
    if missing:
        raise StudyError(f"{path} is not the definition of a study: it lacks {sorted(missing)}")
    known.pop("folder", None)
    for name, kind in (("recipes", list), ("seeds", list), ("recipe_settings", dict)):
        if not isinstance(known.get(name, kind()), kind):
            raise StudyError(
                f"{path} is not the definition of a study: {name} is {known[name]!r}; restore it "
                "from a copy"
            )
    tuples = {"recipes": tuple(known["recipes"]), "seeds": tuple(known["seeds"]), "runs": ()}
    return Study(**{**known, **tuples})


def write_definition(study: Study, folder: Path) -> None:
    """Writes `study.json`, whole or not at all."""
    text = json.dumps(study.definition(), indent=2, sort_keys=True, default=str)
    write_atomically(folder / DEFINITION, text)


def run_folder(folder: Path, recipe: str, name: str) -> Path:
    """Returns the folder of one run of a study."""
    return folder / "runs" / recipe / name


def _place(run: Run, recipes: Sequence[str]) -> tuple[int, str, list[int]]:
    known = recipes.index(run.recipe) if run.recipe in recipes else len(recipes)
    return known, run.recipe, [run.seeds.get(k, 0) for k in ("head_seed", "data_seed", "seed")]
