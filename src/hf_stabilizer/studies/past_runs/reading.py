"""What do runs that exist already say together? A study made of any Trainer's folders.

    a run's output folder, or one checkpoint of it      one run
    a folder of such folders                            each of them
    a study's folder                                    its runs, as recorded

Nothing is guessed: seeds that no file and no name tells of stay unknown, a run that failed is
named with its reason, and a file that cannot be read is named while the others are read. Imports
no torch, and executes nothing that lies in those folders.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hf_stabilizer.errors import ConfigurationError, StudyError, check_kind, did_you_mean
from hf_stabilizer.records import Run, read_run
from hf_stabilizer.studies.past_runs import trainer_folder
from hf_stabilizer.studies.past_runs.folder_names import (
    mapped_recipes,
    natural,
    recipe_in_path,
    seeds_in_name,
)
from hf_stabilizer.studies.past_runs.past_run import metric_names, rescored, to_run
from hf_stabilizer.studies.past_runs.run_settings import mixed_settings, shared_settings
from hf_stabilizer.studies.past_runs.trainer_folder import TrainerFolder, read_trainer_folder
from hf_stabilizer.studies.study import DEFINITION, Study, read_definition

logger = logging.getLogger(__name__)

Folder = str | os.PathLike[str]

RECORD = "run.json"
DEPTH = 4
"""Levels of folders that are searched below each folder that is named."""

SMALLER_IS_BETTER = (
    *("loss", "error", "mse", "mae", "perplexity", "ppl", "wer", "cer", "nll", "brier"),
)


def read_runs(
    folders: Folder | Iterable[Folder],
    *,
    metric: str | None = None,
    greater_is_better: bool | None = None,
    recipe: Mapping[str, str] | None = None,
) -> Study:
    """Returns a study of runs that exist already, of any Trainer.

    Each run's history comes from its `trainer_state.json` (that of its newest checkpoint where
    there is none), its last scores from `all_results.json` and its like, its seeds, settings and
    metric from `training_args.bin`, which is looked through and never executed. Seeds are also
    read from folder names (`seed-3`) and model cards; what is unknown is absent in `Run.seeds`.
    Runs of two recipes are pairs where all their known seeds are equal; recipes that have no
    seeds in common are compared as independent runs.

    What cannot be read is logged in one sentence that names the file.

    Args:
        folders: One folder or several: of runs, of checkpoints, of studies, or above them (up
            to four levels). The first recipe that is met is the baseline of the comparison.
        metric: The metric that decides, "accuracy" or "eval_accuracy"; None: what all runs name
            as their `metric_for_best_model`.
        greater_is_better: Its direction; None: as its name and the runs have it.
        recipe: Glob over a run's path -> name of its recipe, e.g. `{"*llrd*": "llrd"}`, the first
            that fits; None: the folder's name without its seed (`llrd-seed-3` is a run of llrd),
            or the parent's, where nothing else is in it.

    Raises:
        StudyError: There is no such folder, or no run in it.
        ConfigurationError: Which metric decides is open, or no run has it; a glob fits no run; or
            no folder is named.

    Example:
        >>> import json, pathlib, tempfile
        >>> from hf_stabilizer import read_runs
        >>> state = {"global_step": 9, "max_steps": 9}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for seed, score in ((1, 0.7), (2, 0.9)):
        ...         run = pathlib.Path(folder, f"plain-seed-{seed}")
        ...         run.mkdir()
        ...         log = [{"step": 9, "eval_f1": score}]
        ...         path = run / "trainer_state.json"
        ...         _ = path.write_text(json.dumps({**state, "log_history": log}))
        ...     study = read_runs(folder, metric="f1")
        >>> [(run.recipe, run.seeds, run.score) for run in study.runs]
        [('plain', {'seed': 1}, 0.7), ('plain', {'seed': 2}, 0.9)]
    """
    roots = folders_of(folders)
    check_kind(metric, str, "the name of a metric", name="metric")
    check_kind(greater_is_better, bool, "True or False", name="greater_is_better")
    check_kind(recipe, Mapping, "a mapping from globs to names", name="recipe")
    if not roots:
        raise ConfigurationError(
            "folders is empty; name one folder or more of studies or runs, or one above them"
        )
    asked = _definition(roots)
    if asked is not None and metric is None and asked.metric:
        metric = asked.metric
        if greater_is_better is None:
            greater_is_better = asked.greater_is_better
    found = [_read(folder) for folder in _run_folders(roots)]
    for note in (note for one in found for note in one.notes):
        logger.warning("%s", note)
    recipes = _recipes(found, recipe or {})
    metric, greater_is_better = _decide(found, metric, greater_is_better)
    runs = [
        _run(one, name, metric, greater_is_better) for one, name in zip(found, recipes, strict=True)
    ]
    names = [name for name in (recipe or {}).values() if name in recipes] + recipes
    order = tuple(dict.fromkeys(names))
    study = _study(roots, _told_apart(runs), order, metric, greater_is_better)
    return study if asked is None else _as_asked(study, asked)


def folders_of(folders: object) -> list[Path]:
    """Returns one folder, or each of several, as paths.

    Raises:
        ConfigurationError: Something else was given.

    Example:
        >>> folders_of("runs") == folders_of(["runs"]) == [Path("runs")]
        True
    """
    is_one = isinstance(folders, str | bytes | os.PathLike) or not isinstance(folders, Iterable)
    paths = []
    for folder in [folders] if is_one else folders:  # type: ignore[attr-defined]  # it is several
        if not isinstance(folder, str | os.PathLike):
            raise ConfigurationError(f"folders must be paths of folders, got {folder!r}")
        paths.append(Path(folder))
    return paths


def deciding_metric(
    runs: Iterable[TrainerFolder], metric: str | None = None, greater_is_better: bool | None = None
) -> tuple[str, bool]:
    """Returns the metric that decides between runs, and whether greater is better.

    Raises:
        ConfigurationError: It is open, or no run has it.
    """
    return _decide([_Found(run.folder, files=run) for run in runs], metric, greater_is_better)


@dataclass(frozen=True)
class _Found:
    """One run's folder, read: a record of ours, a Trainer's files, or why neither could be."""

    folder: Path
    record: Run | None = None
    files: TrainerFolder | None = None
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> set[str]:
        """Metrics that were evaluated."""
        if self.files is not None:
            return metric_names(self.files)
        return {name for _, m in self.record.evaluations for name in m} if self.record else set()

    @property
    def decides(self) -> str:
        """The metric that the run itself names; empty if it names none."""
        if self.files is not None:
            named = self.files.arguments.get("metric_for_best_model")
            return named.removeprefix("eval_") if isinstance(named, str) else ""
        return self.record.metric if self.record else ""

    @property
    def greater_is_better(self) -> bool | None:
        """The direction that the run itself names."""
        if self.files is not None:
            named = self.files.arguments.get("greater_is_better")
            return named if isinstance(named, bool) else None
        return self.record.greater_is_better if self.record else None


def _run_folders(roots: Sequence[Path]) -> list[Path]:
    """Lists every run below the folders named, once."""
    found: dict[Path, Path] = {}
    for root in roots:
        if not root.is_dir():
            what = "it is a file" if root.exists() else "there is no such folder"
            raise StudyError(f"{str(root)!r} holds no study and no runs: {what}")
        if trainer_folder.is_checkpoint(root):
            root = Path(os.path.abspath(root)).parent
        below = list(_search(root, DEPTH))
        found |= {folder.resolve(): folder for folder in below if folder.resolve() not in found}
        if not (below or (root / DEFINITION).is_file()):  # a study may have just begun
            raise StudyError(
                f"{str(root)!r} holds no study and no runs: there is no {trainer_folder.STATE}, "
                f"no all_results.json and no {RECORD} in it or {DEPTH} levels below; name the "
                "output_dir of runs, or a folder above them"
            )
    return list(found.values())


def _search(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / RECORD).is_file() or trainer_folder.is_run(folder):
        yield folder
    elif depth:
        for path in sorted(_subfolders(folder), key=natural):
            yield from _search(path, depth - 1)


def _subfolders(folder: Path) -> list[Path]:
    try:
        return [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    except OSError as error:
        logger.warning("%s cannot be looked into (%s)", folder, error.strerror)
        return []


def _read(folder: Path) -> _Found:
    if not (folder / RECORD).is_file():
        files = read_trainer_folder(folder)
        return _Found(folder, files=files, notes=files.notes)
    try:
        return _Found(folder, record=read_run(folder / RECORD))
    except (StudyError, OSError) as error:
        return _Found(folder, notes=(str(error),))


def _recipes(found: Sequence[_Found], names: Mapping[str, str]) -> list[str]:
    """The recipe of each run: as mapped, as recorded, or as its folder is called."""
    return [
        given or (one.record.recipe if one.record else recipe_in_path(one.folder.absolute()))
        for one, given in zip(
            found, mapped_recipes([one.folder for one in found], names), strict=True
        )
    ]


def _decide(
    found: Sequence[_Found], metric: str | None, greater_is_better: bool | None
) -> tuple[str, bool]:
    """Returns which metric decides, and its direction."""
    evaluated = set().union(*(one.names for one in found))
    name = metric.removeprefix("eval_") if metric else _named_metric(found, evaluated)
    if evaluated and name not in evaluated:
        raise ConfigurationError(
            f"metric {name!r} was evaluated in no run; there are {', '.join(sorted(evaluated))}"
            f"{did_you_mean(name, evaluated)}"
        )
    if greater_is_better is not None:
        return name, greater_is_better
    if name.lower().endswith(SMALLER_IS_BETTER):
        return name, False
    stated = {one.greater_is_better for one in found if one.decides == name} - {None}
    return name, stated != {False}


def _named_metric(found: Sequence[_Found], evaluated: set[str]) -> str:
    stated = dict.fromkeys(one.decides for one in found if one.decides)
    if len(stated) == 1:
        return next(iter(stated))
    if evaluated <= {"loss"}:
        return "loss"
    choices = ", ".join(sorted(evaluated))
    reason = f"they name {' and '.join(stated)}" if stated else "they name no metric_for_best_model"
    raise ConfigurationError(
        f"which metric decides? The runs do not agree on one ({reason}); name the "
        f"metric, one of {choices}"
    )


def _run(one: _Found, recipe: str, metric: str, greater_is_better: bool) -> Run:
    if one.files is not None:
        return to_run(
            one.files,
            recipe=recipe,
            seeds=one.files.seeds(),
            metric=metric,
            greater_is_better=greater_is_better,
        )
    if one.record is not None:
        run = rescored(one.record, metric=metric, greater_is_better=greater_is_better)
        return replace(run, recipe=recipe)
    return Run(
        recipe=recipe,
        seeds=seeds_in_name(one.folder.name),
        status="failed",
        reason="; ".join(one.notes),
        metric=metric,
        greater_is_better=greater_is_better,
        configuration={"folder": str(one.folder)},
    )


def _told_apart(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Takes seeds back that runs of a recipe share: they do not tell which is whose pair."""
    counts = Counter((run.recipe, tuple(run.seeds.items())) for run in runs if run.seeds)
    for (recipe, seeds), count in counts.items():
        if count > 1:
            shown = ", ".join(f"{name} {value}" for name, value in seeds)
            logger.warning(
                "recipe %s has %d runs with %s: what tells them apart is unknown, so their seeds "
                "count as unknown",
                *(recipe, count, shown),
            )
    return tuple(
        replace(run, seeds={}) if counts[run.recipe, tuple(run.seeds.items())] > 1 else run
        for run in runs
    )


def _study(
    roots: Sequence[Path],
    runs: tuple[Run, ...],
    recipes: tuple[str, ...],
    metric: str,
    greater_is_better: bool,
) -> Study:
    for note in mixed_settings(runs):
        logger.warning("%s", note)
    common, per_recipe = shared_settings(runs, recipes)
    return Study(
        name=" and ".join(dict.fromkeys(root.resolve().name for root in roots)),
        recipes=recipes,
        runs=tuple(sorted(runs, key=lambda run: recipes.index(run.recipe))),
        metric=metric,
        greater_is_better=greater_is_better,
        configuration=common,
        recipe_settings=per_recipe,
        versions=_common_versions(runs),
    )


def _definition(roots: Sequence[Path]) -> Study | None:
    """What a study of ours asked, if it is the one thing that is read."""
    if len(roots) != 1 or not (roots[0] / DEFINITION).is_file():
        return None
    try:
        return replace(read_definition(roots[0]), folder=roots[0])
    except StudyError as error:
        logger.warning("%s", error)
        return None


def _as_asked(study: Study, asked: Study) -> Study:
    """Adds what a study of ours says of itself."""
    order = tuple(dict.fromkeys([*asked.recipes, *study.recipes]))
    return replace(
        asked,
        recipes=order,
        runs=tuple(sorted(study.runs, key=lambda run: order.index(run.recipe))),
        metric=study.metric,
        greater_is_better=study.greater_is_better,
    )


def _common_versions(runs: Sequence[Run]) -> dict[str, str]:
    """The versions that all runs share, of those that are known."""
    names = {name for run in runs for name in run.versions}
    said = {name: {run.versions[name] for run in runs if name in run.versions} for name in names}
    return {name: " and ".join(sorted(values)) for name, values in sorted(said.items())}
