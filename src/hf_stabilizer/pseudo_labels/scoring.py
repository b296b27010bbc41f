"""Did the students do better than without pseudo-labels? A paired study, and a plain sentence."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from hf_stabilizer.pseudo_labels.lengths import long_control, student_keys
from hf_stabilizer.pseudo_labels.parts import Part
from hf_stabilizer.pseudo_labels.question import CONTROL, LONG_CONTROL
from hf_stabilizer.pseudo_labels.stages import Labelled, Workshop
from hf_stabilizer.records import Run, write_atomically
from hf_stabilizer.studies.ablations.ablation import comparisons_of_study
from hf_stabilizer.studies.members import run_members
from hf_stabilizer.studies.schedule import run_study
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.verdict import outcome, verdict

# Any in this module: values of configuration keys.


def compare_students(
    workshop: Workshop,
    labelled: Mapping[tuple[str, str], Labelled],
    *,
    runs: int,
    command: str,
) -> Study:
    """Trains control and students with the same seeds; with folds the scores are means of folds.

    Args:
        workshop: Where, and with what.
        labelled: The rows of the last round, by arm and part.
        runs: Seeds of each arm.
        command: The command line that makes it again.
    """
    question, folder = workshop.question, workshop.folder / "study"
    recipes = {part.name: _recipes(workshop, part, labelled) for part in workshop.parts}
    options = {
        "runs": runs,
        "first_seed": question.first_seed,
        "output_dir": folder,
        "command": command,
        "console": workshop.console,
        **workshop.engine,
    }
    if question.folds is None:
        (only,) = workshop.parts
        return run_study({**question.given, **only.keys}, recipes=recipes[only.name], **options)
    members = {
        part.member(name): settings
        for part in workshop.parts
        for name, settings in recipes[part.name].items()
    }
    trained = run_members(question.given, members, keep_models=False, **options)
    return pooled(trained, list(next(iter(recipes.values()))), workshop.parts, folder)


def _recipes(
    workshop: Workshop, part: Part, labelled: Mapping[tuple[str, str], Labelled]
) -> dict[str, dict[str, Any]]:
    question = workshop.question
    arms = {arm: labelled[arm, part.name] for arm in question.arms}
    return {
        CONTROL: dict(part.keys),
        **long_control(question, part, max(its.rows for its in arms.values())),
        **{arm: student_keys(question, part, its.file, its.rows) for arm, its in arms.items()},
    }


def pooled(trained: Study, recipes: Sequence[str], parts: Sequence[Part], folder: Path) -> Study:
    """Returns a study whose scores are means over the folds: out-of-fold, paired by seed.

    Args:
        trained: Runs of every recipe in every fold.
        recipes: Names, the control first.
        parts: The folds.
        folder: Where fold_scores.csv is written.
    """
    runs, rows = [], []
    for recipe in recipes:
        by_fold = {part.name: trained.of(part.member(recipe)) for part in parts}
        for seeds in trained.seeds:
            its = {fold: _with(found, seeds) for fold, found in by_fold.items()}
            runs.append(_mean_run(recipe, seeds, [run for run in its.values() if run], len(parts)))
            rows += [
                (recipe, fold, run.name, run.status, run.last_score)
                for fold, run in its.items()
                if run
            ]
    _write_csv(folder / "fold_scores.csv", ("recipe", "fold", "run", "status", "score"), rows)
    return replace(
        trained,
        recipes=tuple(recipes),
        runs=tuple(runs),
        recipe_settings={name: _shared(trained, name, parts) for name in recipes},
        comparable=True,
        folder=None,
    )


def _with(runs: Sequence[Run], seeds: Mapping[str, int]) -> Run | None:
    return next((run for run in runs if dict(run.seeds) == dict(seeds)), None)


def _shared(trained: Study, recipe: str, parts: Sequence[Part]) -> dict[str, Any]:
    """The settings of a recipe that are the same in all folds."""
    each = [trained.recipe_settings.get(part.member(recipe), {}) for part in parts]
    return {k: v for k, v in each[0].items() if all(other.get(k) == v for other in each)}


def _mean_run(recipe: str, seeds: Mapping[str, int], runs: Sequence[Run], folds: int) -> Run:
    """A run that failed in one fold failed; it has a score where each fold has one to average."""
    last = (run.last_score for run in runs)
    scores = [score for score in last if score is not None and math.isfinite(score)]
    whole = len(scores) == folds
    lost = [f"{run.recipe}: {run.reason}" for run in runs if run.status == "failed"]
    if not (whole or lost):
        lost = ["a fold is missing, or its score is no number"]
    first = runs[0]
    return Run(
        recipe,
        seeds,
        "failed" if lost else "finished",
        "; ".join(lost),
        metric=first.metric,
        greater_is_better=first.greater_is_better,
        best_score=fmean(scores) if whole else None,
        last_score=None,
        seconds=sum(run.seconds for run in runs),
        steps=sum(run.steps for run in runs),
        versions=first.versions,
    )


def conclude(study: Study) -> tuple[bool, str]:
    """Returns whether pseudo-labels helped, and says it plainly, with what stands behind it.

    They helped if one treated arm or more is better than the control, by the exact paired test
    with its correction for several arms; and than the control that is as long, if there is one.

    Example:
        >>> def run(recipe, seed, score):
        ...     return Run(recipe, {"seed": seed}, "finished", best_score=score)
        >>> runs = [run("control", s, 0.5) for s in range(6)]
        >>> runs += [run("pseudo-labelled", s, 0.6 + s / 100) for s in range(6)]
        >>> study = Study("demo", ("control", "pseudo-labelled"), tuple(runs), "accuracy", True)
        >>> helped, sentence = conclude(study)
        >>> helped, sentence[:22]
        (True, 'Pseudo-labels helped: ')
    """
    if len(study.recipes) < 2 or not any(run.score is not None for run in study.runs):
        return False, f"Whether pseudo-labels helped cannot be said. {verdict(study)}"
    told = [c for c in comparisons_of_study(study) if c.candidate != LONG_CONTROL]
    found = {c.candidate: outcome(c) for c in told}
    better = [name for name, its in found.items() if its == "better"]
    longer = [] if not better else _not_better_than_long(study, better)
    if longer and len(longer) == len(better):
        start = (
            "Pseudo-labels did not help beyond the longer training: against the control with as "
            "many steps no gain can be claimed"
        )
        return False, f"{start}. {verdict(study)}"
    if better:
        return True, f"Pseudo-labels helped: {verdict(study)}"
    if all(its == "worse" for its in found.values()):
        return False, f"Pseudo-labels did harm: {verdict(study)}"
    return False, f"Pseudo-labels did not help, as far as these runs can tell. {verdict(study)}"


def _not_better_than_long(study: Study, better: Sequence[str]) -> list[str]:
    from hf_stabilizer.studies.comparison import compare

    if LONG_CONTROL not in study.recipes:
        return []
    return [name for name in better if outcome(compare(study.runs, LONG_CONTROL, name)) != "better"]


def _write_csv(path: Path, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    write_atomically(path, text.getvalue())
