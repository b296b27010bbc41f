"""How are models trained that are not compared? One per fold or teacher, each on rows of its own.

    OUTPUT/study.json                    what was asked; "comparable": false
    OUTPUT/runs/MEMBER/SEEDS/            as in any study: run.json, predictions.npz, model/

A study asks which recipe is better, so its recipes are scored on the same rows. Here each member
brings its rows, and nothing is claimed about one against another.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from rich.console import Console

from hf_stabilizer.configuration import Configuration
from hf_stabilizer.errors import ConfigurationError, StudyError
from hf_stabilizer.records import Run
from hf_stabilizer.studies.executors.place import Engine, open_place
from hf_stabilizer.studies.question import define_study, load_recipes
from hf_stabilizer.studies.seeds.seed_grid import plan_seeds
from hf_stabilizer.studies.study import Study, run_folder
from hf_stabilizer.studies.subject import ConfigSubject, rows_folder
from hf_stabilizer.studies.working import work_through
from hf_stabilizer.tasks import PreparedTask

# Any in this module: whatever YAML can say.


def run_members(
    config: str | Path | Mapping[str, Any],
    members: Mapping[str, Mapping[str, Any]],
    *,
    runs: int = 1,
    first_seed: int = 1,
    output_dir: str | Path,
    executor: Executor | str | None = None,
    workers: int | None = None,
    address: str | None = None,
    launcher: str | None = None,
    retry_failed: bool = False,
    keep_models: bool = True,
    overrides: Mapping[str, Any] | None = None,
    command: str = "",
    console: Console | None = None,
) -> Study:
    """Trains every member with the same seeds, as `run_study` does, each on rows of its own.

    Killed and started again it repeats nothing that was finished; the same folder may be asked for
    more members or more seeds. All members have one task and one metric.

    Args:
        config: Path of a YAML file, or a mapping with the same keys.
        members: From the name of each to its settings, e.g. `{"fold1": write_splits(...), ...}`.
        runs: Runs per member, 1 or more; run k has head, data and dropout seed
            `first_seed + k - 1`.
        first_seed: Seed of the first run.
        output_dir: Folder of the study; made, or it holds the same study from before.
        executor: Where runs execute, as in `run_study`.
        workers: Processes on this machine, likewise.
        address: Address of a running cluster, likewise.
        launcher: Command line that trains each run in several processes, likewise.
        retry_failed: Repeat runs that raised.
        keep_models: Keep the model of every run; False: of each member's best one by validation.
        overrides: Keys that beat the file and the members.
        command: The command line that makes it again, for the report.
        console: Where progress is shown; None: standard error.

    Returns:
        The study as its folder holds it; `comparable` is False.

    Raises:
        ConfigurationError: Something cannot be right; before any run.
        DataError: The rows are not as the configuration says; likewise.
        StudyError: The folder holds another study, or cannot be used.

    Example:
        >>> run_members({"model_name_or_path": "x"}, {}, output_dir="out")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: members is empty; name one or more
    """
    if not members:
        raise ConfigurationError("members is empty; name one or more")
    subject = ConfigSubject(config)
    seeds = plan_seeds(runs=runs, first_seed=first_seed)
    with open_place(output_dir, Engine(executor, workers, address, launcher)) as place:
        configurations = load_recipes(subject.load, members, overrides, comparable=False)
        study = define_study(
            place.folder,
            subject.load(overrides=overrides),
            configurations,
            seeds,
            command=command or f"run_members(..., {list(members)}, runs={runs})",
            comparable=False,
        )
        return work_through(
            study,
            configurations,
            seeds,
            subject=subject,
            place=place,
            retry_failed=retry_failed,
            keep_models=keep_models,
            console=console or Console(stderr=True),
        )


def prepared_rows(study: Study, run: Run) -> PreparedTask:
    """Returns the tokenised rows of a run, in whose order its predictions are.

    Raises:
        StudyError: The study lies nowhere.
    """
    if study.folder is None:
        raise StudyError("the study lies in no folder, so its rows are not known; read it from one")
    configuration = Configuration(run.configuration, run.recipe)
    return PreparedTask.load_from(rows_folder(study.folder, configuration))


def folder_of(study: Study, run: Run) -> Path:
    """Returns the folder of a run, with its record, predictions and model.

    Raises:
        StudyError: The study lies nowhere.
    """
    if study.folder is None:
        raise StudyError("the study lies in no folder, so its runs do not either; read it from one")
    return run_folder(study.folder, run.recipe, run.name)
