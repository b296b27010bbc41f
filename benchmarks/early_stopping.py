"""What would stopping early have lost, and saved? `python benchmarks/early_stopping.py`.

Twenty runs of each recipe are trained to the end. Then a study that stops early is replayed on
them: at the fraction f of the steps the runs are ranked by their best score so far, the best p go
on, and of what such a study has seen the best run is chosen. That is held against the best of the
full study: in units of the metric, and in standard errors, of which there are two:

    of one score    sqrt(a (1 - a) / rows): what the validation rows can tell apart
    of the mean     std of the twenty best scores / sqrt(20): what the runs can tell apart

One replay is one draw of luck; the expected loss is the mean over studies that are drawn, with
replacement, from the same runs.

The result file keeps every run's curve, so the report can be made from it alone (`--report`), and
the replay of any other setting. `--real` trains one study that does stop early, with the same
seeds, and compares the runs that went on with those that never stopped, to the last bit.

The rows are not part of the project: --data names their folder.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hf_stabilizer.outcome import Outcome
from hf_stabilizer.records import Run, write_atomically
from hf_stabilizer.steps import resolve_step
from hf_stabilizer.studies.early_stopping.choosing import choose
from hf_stabilizer.studies.page.report import write_report
from hf_stabilizer.studies.schedule import run_study
from hf_stabilizer.studies.statistics import (
    StudySettings,
    cost,
    curves_of,
    early_ranks,
    plan_study,
    sample_std,
)
from hf_stabilizer.studies.statistics.simulation import simulate
from hf_stabilizer.studies.study import Study

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "early-stopping.json"
CONFIG = HERE / "configs" / "early-stopping.yaml"
REINIT = HERE / "configs" / "early-stopping" / "reinit-two.yaml"
RECIPES = ("plain", "stabilised", str(REINIT))
RUNS = 20
FRACTIONS = (0.15, 0.25, 0.3, 0.5)
KEPT = (1, 3, 5, 8)
REAL = {"stop_at": 0.25, "keep": 5}  # what the rule of `dodge` keeps for half of the cost


def train(
    data: Path,
    folder: Path,
    *,
    recipes: Sequence[str] = RECIPES,
    runs: int = RUNS,
    overrides: Mapping[str, Any] | None = None,
    **options: Any,
) -> Study:
    """Trains the runs, or goes on with them."""
    files = {f"{part}_file": str(data / f"{part}.csv") for part in ("train", "validation", "test")}
    return run_study(
        CONFIG,
        recipes=recipes,
        runs=runs,
        output_dir=folder,
        overrides={**files, **(overrides or {})},
        command=f"python benchmarks/early_stopping.py --data {data}",
        **options,
    )


def stopped_at(run: Run, fraction: float) -> Run:
    """The run as a study that stops early would have seen it at the fraction of its steps."""
    step = resolve_step(fraction, run.steps, name="stop_at")
    lines = [{"step": at, **_logged(metrics)} for at, metrics in run.evaluations if at <= step]
    seen = Outcome.of(lines, metric=run.metric, greater_is_better=run.greater_is_better)
    return replace(
        run,
        status="stopped",
        reason=seen.reason,
        evaluations=seen.evaluations,
        best_score=seen.best_score,
        last_score=seen.last_score,
        test_score=None,
        steps=step,
        seconds=run.seconds * step / run.steps,
    )


def _logged(metrics: Mapping[str, float]) -> dict[str, float]:
    return {f"eval_{name}": value for name, value in metrics.items()}


def replay(runs: Sequence[Run], *, stop_at: float, keep: int) -> list[Run]:
    """What the runs would be had the study stopped early: some whole, the rest stopped."""
    halted = {Path(run.name): stopped_at(run, stop_at) for run in runs}
    whole = {Path(run.name): run for run in runs}
    return [
        whole[one.folder] if one.is_chosen else one.stopped(runs=len(runs), keep=keep)
        for one in sorted(choose(halted, keep=keep), key=lambda one: list(whole).index(one.folder))
    ]


def best_of(runs: Sequence[Run]) -> Run:
    """The run that validation chooses, among those that went to the end."""
    whole = [run for run in runs if run.status != "stopped" and run.best_score is not None]
    sign = 1 if whole[0].greater_is_better else -1
    return max(whole, key=lambda run: sign * (run.best_score or 0.0))


def judge(runs: Sequence[Run], *, stop_at: float, keep: int, rows: int) -> dict[str, Any]:
    """One replayed study of one recipe against the full one."""
    found = replay(runs, stop_at=stop_at, keep=keep)
    full, early = best_of(runs), best_of(found)
    sign = 1 if full.greater_is_better else -1
    loss = sign * (full.best_score - early.best_score)
    of_mean, of_score = standard_errors(runs, rows)
    expected, of_fewer = expected_losses(runs, stop_at, keep)
    price = sum(run.steps for run in found) / sum(run.steps for run in runs)
    return {
        "recipe": full.recipe,
        "stop_at": stop_at,
        "keep": keep,
        "runs": len(runs),
        "full runs": cost(len(runs), stop_at, keep),
        "share of the steps": price,
        "best of the full study": full.best_score,
        "best found": early.best_score,
        "loss": loss,
        "expected loss": expected,
        "expected loss in standard errors of one score": expected / of_score,
        "expected loss of whole runs at that cost": of_fewer,
        "in standard errors of the mean": loss / of_mean if of_mean else None,
        "in standard errors of one score": loss / of_score,
        "the same run": early.name == full.name,
        "test score of the full study's best": full.test_score,
        "test score of the best found": early.test_score,
    }


def expected_losses(runs: Sequence[Run], stop_at: float, keep: int) -> tuple[float, float]:
    """What is lost on average, over studies of as many runs drawn from these.

    By stopping early; and by training no more than what that costs, but every run to the end.
    """
    curves, cheap = curves_of(runs, fractions=(stop_at,)), round(cost(len(runs), stop_at, keep))
    whole = [StudySettings(number, 1.0, number) for number in (len(runs), cheap)]
    settings = [*whole, StudySettings(len(runs), stop_at, keep)]
    full, fewer, early = simulate(curves, settings, 1000, 2, seed=0)[0]
    return float(full - early), float(full - fewer)


def standard_errors(runs: Sequence[Run], rows: int) -> tuple[float, float]:
    """Of the mean of the runs' best scores, and of one score on so many rows."""
    scores = [run.best_score for run in runs if run.best_score is not None]
    mean = float(np.mean(scores))
    return (sample_std(scores) or 0.0) / math.sqrt(len(scores)), math.sqrt(mean * (1 - mean) / rows)


def planned(runs: Sequence[Run], budget: float) -> dict[str, Any]:
    """What `plan_study` advises for the budget, and expects over studies drawn from these runs."""
    plan = plan_study(runs, budget)
    best = plan.recommended
    return {
        "recipe": runs[0].recipe,
        "budget": budget,
        "runs": best.settings.runs,
        "stop_at": best.settings.stop_at,
        "keep": best.settings.keep,
        "expected": best.expected,
        "expected of plain runs": plan.plain.expected,
        "gain": best.gain,
        "interval": [best.interval.low, best.interval.high],
    }


def results(study: Study, *, rows: int) -> dict[str, Any]:
    """Everything that is kept: the definition, the curves, the replays."""
    whole = {name: study.of(name) for name in study.recipes if study.of(name)}
    settings = list(itertools.product(FRACTIONS, KEPT))
    return {
        "study": {**study.definition(), "recipes": list(whole)},
        "validation rows": rows,
        "runs": [json.loads(replace(run, configuration={}).to_json()) for run in study.runs],
        "replays": [
            judge(runs, stop_at=f, keep=p, rows=rows)
            for runs in whole.values()
            for f, p in settings
            if p <= len(runs)
        ],
        "ranks": [
            {"recipe": name, "fraction": r.fraction, "spearman": r.spearman}
            for name, runs in whole.items()
            for r in early_ranks(curves_of(runs, fractions=FRACTIONS))
        ],
        "plans": [planned(runs, budget) for runs in whole.values() for budget in (5, 10)],
    }


def study_of(found: Mapping[str, Any]) -> Study:
    """The study as the result file holds it."""
    definition = {k: v for k, v in found["study"].items() if k in Study.__dataclass_fields__}
    runs = tuple(Run.from_json(json.dumps(run)) for run in found["runs"])
    tuples = {"recipes": tuple(definition["recipes"]), "seeds": tuple(definition["seeds"])}
    return Study(**{**definition, **tuples, "runs": runs})


def report(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Two pages from the result file: the full study, and the replayed one that stops early."""
    study = study_of(found)
    stopped = tuple(r for name in study.recipes for r in replay(study.of(name), **REAL))
    early = replace(study, name=f"{study.name}-replayed", runs=stopped, **REAL)
    return [
        write_report(study, folder / "full.html"),
        write_report(early, folder / "replayed.html"),
    ]


def compare_bits(full: Study, early: Study) -> dict[str, Any]:
    """Whether the runs that went on have the numbers of those that never stopped."""
    found = []
    for run in early.runs:
        other = next(r for r in full.of(run.recipe) if r.name == run.name)
        if run.status != "stopped":
            same = [getattr(run, k) == getattr(other, k) for k in ("evaluations", "test_score")]
            found.append({"run": run.name, "evaluations": same[0], "test score": same[1]})
            continue
        seen = other.evaluations[: len(run.evaluations)]
        found.append({"run": run.name, "evaluations until it was stopped": seen == run.evaluations})
    replayed = replay(full.of(early.recipes[0]), stop_at=early.stop_at, keep=early.keep)
    went_on = [{r.name for r in runs if r.status != "stopped"} for runs in (early.runs, replayed)]
    return {
        "recipe": early.recipes[0],
        "stop_at": early.stop_at,
        "keep": early.keep,
        "runs": found,
        "the same runs went on as in the replay": went_on[0] == went_on[1],
        "share of the steps": sum(r.steps for r in early.runs)
        / sum(r.steps for r in full.of(early.recipes[0])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of the rows")
    parser.add_argument("--folder", type=Path, default=Path("results/early-stopping"))
    parser.add_argument("--workers", type=int)
    parser.add_argument("--judge", action="store_true", help="only judge the runs that are there")
    parser.add_argument("--real", action="store_true", help="train one study that stops early")
    parser.add_argument("--report", action="store_true", help="only the pages, from the results")
    options = parser.parse_args()
    if options.report:
        pages = report(json.loads(RESULTS.read_text()), options.folder)
        print(*pages, sep="\n")
        return
    if options.data is None and not options.judge:
        parser.error("--data is missing: the folder that the rows are in")
    there = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if options.real:
        folder = options.folder.with_name(f"{options.folder.name}-real")
        more = {"recipes": RECIPES[:1], "workers": options.workers}
        early = train(options.data, folder, **more, **REAL)
        there["real"] = compare_bits(Study.from_folder(options.folder), early)
    elif options.judge:
        study = Study.from_folder(options.folder)
        there |= results(study, rows=rows_of(study))
    else:
        study = train(options.data, options.folder, workers=options.workers)
        there |= results(study, rows=rows_of(study))
    write_atomically(RESULTS, json.dumps(there, indent=1) + "\n")
    print(RESULTS)


def rows_of(study: Study) -> int:
    """How many validation rows there are, from the predictions of any run."""
    found = next(p for run in study.runs if (p := study.predictions(run)) is not None)
    return len(found.validation)


if __name__ == "__main__":
    main()
