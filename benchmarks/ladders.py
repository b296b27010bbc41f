"""What does each step of two published ladders give, measured anew? `python benchmarks/ladders.py`.

    commonlit       plain, LLRD, grouped LLRD, + warm-up, + re-initialisation, + SWA,
                    + frequent evaluation      (Peggy Chang, Towards Data Science; text regression)
    science-exam    full fine-tuning, embeddings frozen, + rates along a cosine, each the mean of
                    three runs                 (Radek Osmulski; multiple choice)

All recipes run over the same seeds as one study, at the size of one processor core: MiniLM-L6 and
256 rows. Each step is compared pair by pair with the step before and with the plain run: mean
difference, exact sign-flip p-value and interval. Where a unit is the mean of three runs, their
probabilities are averaged and the mean is scored, and units are compared.

The rows are not part of the project: --data names their folder. A study that was cut off goes on
where it stopped. Writes benchmarks/results/ladder-NAME.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from hf_stabilizer.metrics import load_metric
from hf_stabilizer.records import Run, write_atomically
from hf_stabilizer.studies.comparison import Comparison, compare
from hf_stabilizer.studies.schedule import run_study
from hf_stabilizer.studies.statistics import holm, sample_std
from hf_stabilizer.studies.study import Study

HERE = Path(__file__).parent
RESULTS = HERE / "results"


@dataclass(frozen=True)
class Ladder:
    """Steps that build on one another."""

    steps: tuple[str, ...]
    """Names of the recipes in benchmarks/configs/NAME, after the plain one."""
    files: Mapping[str, str]
    """Which file of the folder is which part."""
    runs: int
    """Runs per recipe."""
    unit: int = 1
    """Runs whose probabilities are averaged."""


LADDERS = {
    "commonlit": Ladder(
        steps=("llrd", "grouped-llrd", "warm-up", "re-init", "swa", "frequent-evaluation"),
        files={"train": "train.csv", "validation": "validation.csv", "test": "test.csv"},
        runs=8,
    ),
    "science-exam": Ladder(
        steps=("frozen-embeddings", "cosine-rates"),
        files={"train": "train_data_6k.csv", "test": "test_data_0.5k.csv"},
        runs=24,
        unit=3,
    ),
}


def run_ladder(
    name: str,
    data: Path,
    folder: Path,
    *,
    runs: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    **options: Any,
) -> Study:
    """Runs every step over the same seeds, or goes on with it."""
    ladder = LADDERS[name]
    files = {f"{part}_file": str(data / file) for part, file in ladder.files.items()}
    return run_study(
        HERE / "configs" / f"{name}.yaml",
        recipes=["plain", *(str(HERE / "configs" / name / f"{s}.yaml") for s in ladder.steps)],
        runs=runs or ladder.runs,
        output_dir=folder,
        overrides={**files, **(overrides or {})},
        command=f"python benchmarks/ladders.py {name} --data {data}",
        **options,
    )


def judge(study: Study, *, unit: int = 1) -> dict[str, Any]:
    """Returns what is kept of the study: every run's scores, and the comparisons."""
    found = {
        "metric": study.metric,
        "greater is better": study.greater_is_better,
        "seeds": [dict(seeds) for seeds in study.seeds],
        "configuration": dict(study.configuration),
        "recipes": {name: dict(study.recipe_settings[name]) for name in study.recipes},
        "command": study.command,
        "versions": dict(study.versions),
        "single runs": climb(study.runs, study.recipes),
        "runs": [
            {
                "recipe": run.recipe,
                "seed": run.seeds["seed"],
                "status": run.status,
                "test": run.test_score,
                "best validation": run.best_score,
                "last validation": run.last_score,
            }
            for run in study.runs
        ],
    }
    if unit > 1:
        units = means_of_runs(study, unit)
        found["runs per unit"] = unit
        found["units"] = climb(units, study.recipes)
        found["mean of runs against its runs"] = [
            {"recipe": recipe, **_against_singles(study, units, recipe, unit)}
            for recipe in study.recipes
        ]
    return found


def climb(runs: Sequence[Run], steps: Sequence[str]) -> list[dict[str, Any]]:
    """Each step with its scores, against the step before and against the first."""
    before = [compare(runs, a, b) for a, b in itertools.pairwise(steps)]
    first = [compare(runs, steps[0], step) for step in steps[1:]]
    rows = [_described(runs, steps[0])]
    for step, one, other in zip(steps[1:], _differences(before), _differences(first), strict=True):
        name = {"against the step before": one, "against the first": other}
        rows.append({**_described(runs, step), **name})
    return rows


def _described(runs: Sequence[Run], recipe: str) -> dict[str, Any]:
    scores = [run.score for run in runs if run.recipe == recipe and run.score is not None]
    return {
        "step": recipe,
        "n": len(scores),
        "mean": float(np.mean(scores)),
        "std": sample_std(scores),
        "least": min(scores),
        "greatest": max(scores),
    }


def _differences(found: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Of several comparisons: p-values as they are, and by Holm's method for all of them."""
    together = iter(holm([c.p_value for c in found if c.p_value is not None]))
    return [
        {
            "mean difference": c.mean_difference,
            "interval": [c.interval.low, c.interval.high] if c.interval else None,
            "p": c.p_value,
            "p by Holm": None if c.p_value is None else next(together),
            "better in": c.superiority,
            "pairs": len(c.pairs),
        }
        for c in found
    ]


def means_of_runs(study: Study, size: int) -> list[Run]:
    """Units of so many runs with following seeds: mean of probabilities, scored on test rows."""
    units = []
    for recipe in study.recipes:
        runs = sorted(study.of(recipe), key=lambda run: run.seeds["seed"])
        for number, start in enumerate(range(0, len(runs) - size + 1, size), 1):
            score = score_of_mean(study, runs[start : start + size])
            seeds = {"seed": number}
            unit = Run(recipe, seeds, "finished", metric=study.metric, test_score=score)
            units.append(unit)
    return units


def score_of_mean(study: Study, runs: Sequence[Run]) -> float:
    """The study's metric of the mean of the runs' probabilities on the test rows."""
    found = [study.predictions(run) for run in runs]
    logits = np.stack([one.test for one in found if one is not None])  # (runs, rows, choices)
    assert len(logits) == len(runs), "a run has kept no predictions"
    mean = softmax(logits.astype(np.float64), axis=-1).mean(axis=0)
    metric = load_metric(study.metric)
    return float(metric.compute(predictions=mean, references=found[0].test_labels)[study.metric])


def _against_singles(study: Study, units: Sequence[Run], recipe: str, size: int) -> dict[str, Any]:
    """The mean of some runs against the mean score of these runs, over units."""
    runs = sorted(study.of(recipe), key=lambda run: run.seeds["seed"])
    own = [unit for unit in units if unit.recipe == recipe]
    singles = [
        Run(
            "single",
            unit.seeds,
            "finished",
            metric=study.metric,
            test_score=float(np.mean([r.test_score for r in runs[k * size : (k + 1) * size]])),
        )
        for k, unit in enumerate(own)
    ]
    return _differences([compare([*singles, *own], "single", recipe)])[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=LADDERS)
    parser.add_argument("--data", type=Path, help="folder of the rows")
    parser.add_argument("--runs", type=int, help="runs per recipe")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--folder", type=Path, help="default: results/ladder-NAME")
    parser.add_argument("--judge", action="store_true", help="only judge the runs that are there")
    options = parser.parse_args()
    folder = options.folder or Path("results") / f"ladder-{options.name}"
    if options.judge:
        study = Study.from_folder(folder)
    elif options.data is None:
        parser.error("--data is missing: the folder that the rows are in")
    else:
        runs, workers = options.runs, options.workers
        study = run_ladder(options.name, options.data, folder, runs=runs, workers=workers)
    found = judge(study, unit=LADDERS[options.name].unit)
    path = RESULTS / f"ladder-{options.name}.json"
    write_atomically(path, json.dumps(found, indent=2) + "\n")
    print(path)


if __name__ == "__main__":
    main()
