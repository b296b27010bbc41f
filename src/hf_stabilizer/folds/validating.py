"""How is a configuration cross-validated? Divide, train, put together, score.

pool --folds--> K x S runs --predictions--> out-of-fold rows --metrics--> scores
                           --predictions--> test rows, averaged over all runs
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from hf_stabilizer.data.row_marks import mark_of_rows
from hf_stabilizer.errors import ConfigurationError, StabilizerError, check_whole
from hf_stabilizer.folds.files import parts_of, write_folds
from hf_stabilizer.folds.page.report import write_fold_report
from hf_stabilizer.folds.planning import ChooseOn, FoldPlan, plan_folds
from hf_stabilizer.folds.record import FOLDS_FILE, KIND, STUDY, CrossValidation
from hf_stabilizer.folds.scoring import conclude
from hf_stabilizer.folds.tables import folds_table
from hf_stabilizer.procedure import FILE, open_procedure, read_procedure
from hf_stabilizer.studies.executors.remote import is_url
from hf_stabilizer.studies.members import run_members
from hf_stabilizer.studies.question import NOT_COMPARED

logger = logging.getLogger(__name__)

# Any in this module: whatever YAML can say, and labels of whatever kind the task has.
ROWS = "rows"
"""Folder with the files of the folds."""


def cross_validate(
    config: str | Path | Mapping[str, Any],
    *,
    folds: int | None = None,
    output_dir: str | Path | None = None,
    runs: int = 1,
    first_seed: int = 1,
    fold_column: str | None = None,
    stratify: bool = True,
    choose_on: ChooseOn = "nothing",
    inner_size: float = 0.1,
    recipe: str | None = None,
    executor: Executor | str | None = None,
    workers: int | None = None,
    address: str | None = None,
    launcher: str | None = None,
    retry_failed: bool = False,
    keep_models: bool = False,
    overrides: Mapping[str, Any] | None = None,
    command: str = "",
    console: Console | None = None,
) -> CrossValidation:
    """Trains one model per fold and seed on the other folds, and scores each row by them alone.

    The pool that is divided holds the training and the validation rows of the configuration, at
    most `max_train_rows` of them; test rows stay apart and are predicted by the mean of all models.
    `group_column` keeps groups together; `split_seed` decides the division. The division keeps the
    shares of the labels (see `assign_folds`).

    By default no row chooses between weights: the last ones are kept, so that a fold's rows only
    score. With `choose_on="inner"` a share of a fold's training rows chooses. With "fold" the rows
    of the fold choose as well as score, as is often done; then all scores are optimistic, and it
    is said.

    The folder has a page of it all, `report.html` (see `folds.write_fold_report`).

    Killed and started again it repeats no run that was finished; other settings are refused.

    Args:
        config: Path of a YAML file, or a mapping with the same keys; no seeds in it.
        folds: Number of folds, 2 or more; None: 5, or as many as the column has values.
        output_dir: Folder; made, or it holds the same cross-validation from before. None: that of
            the configuration.
        runs: S, runs per fold. Run k of every fold has head, data and dropout seed
            `first_seed + k - 1`.
        first_seed: Seed of the first run.
        fold_column: A column that says in which fold each row lies; one fold for each value.
        stratify: Keep the shares of the labels, of numbers those of ten bins.
        choose_on: What chooses the weights of a fold: "nothing", "inner" or "fold".
        inner_size: Share of a fold's training rows that chooses with "inner", in (0, 1).
        recipe: Name of a recipe that ships, or a YAML file, laid over the configuration.
        executor: Where runs execute, as in `run_study`; so are the next three.
        workers: Processes on this machine.
        address: Address of a running cluster.
        launcher: Command line that trains each run in several processes.
        retry_failed: Repeat runs that raised.
        keep_models: Keep the model of every run; False: one for each fold, that of the run with
            the best score on its validation rows. With "inner" and test rows all are kept.
        overrides: Single keys that beat file and recipe.
        command: The command line that makes it again, for reports.
        console: Where progress is shown; None: standard error.

    Returns:
        Scores per fold, over folds, and on all out-of-fold rows at once.

    Raises:
        ConfigurationError: An option or the configuration cannot be right; before any run.
        DataError: The rows cannot be divided so: fewer groups than folds, for instance; likewise.
        StudyError: The folder holds something else, or all runs of a fold failed.

    Example:
        >>> cross_validate({"model_name_or_path": "x", "seed": 3}, output_dir="out")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: a cross-validation sets the seeds itself, and the
        configuration gives seed; leave that out, and name first_seed instead

    Source: Kohavi, "A study of cross-validation and bootstrap for accuracy estimation and model
    selection", IJCAI 1995 (stratified folds); on why choosing on the rows that score is optimistic
    Cawley and Talbot 2010, JMLR 11, section 5.
    """
    check_whole(first_seed, "from 0 up", name="first_seed")
    plan = plan_folds(
        config,
        folds=folds,
        fold_column=fold_column,
        stratify=stratify,
        choose_on=choose_on,
        inner_size=inner_size,
        runs=runs,
        recipe=recipe,
        overrides=overrides,
    )
    folder = _folder(output_dir or plan.configuration.values.get("output_dir"))
    for fold in range(len(plan.names)):
        parts_of(plan, fold)  # what cannot be divided is told before anything is written
    is_new = read_procedure(folder) is None
    procedure = open_procedure(folder, KIND, _settings(plan, fold_column, stratify, first_seed))
    if procedure.is_over and not retry_failed:
        return _with_report(CrossValidation.from_folder(folder))
    _say(plan)
    values = plan.configuration.values
    members = write_folds(plan, folder / ROWS)
    folds_table(plan).to_parquet(folder / FOLDS_FILE, index=False)
    # What was begun before is another start's, which may be at work in this very moment.
    with _forgotten_if_refused(folder) if is_new else contextlib.nullcontext():
        study = run_members(
            {key: values[key] for key in plan.configuration.given if key != "output_dir"},
            members,
            runs=runs,
            first_seed=first_seed,
            output_dir=folder / STUDY,
            executor=executor,
            workers=workers,
            address=address,
            launcher=launcher,
            retry_failed=retry_failed,
            keep_models=keep_models or (choose_on == "inner" and plan.pool.splits.test is not None),
            command=command,
            console=console,
        )
    return _with_report(conclude(plan, study, procedure, folder))


def _with_report(found: CrossValidation) -> CrossValidation:
    """Writes the page, which may be that of an earlier start or missing where it was killed."""
    write_fold_report(found)
    return found


def _folder(output_dir: str | Path | None) -> Path:
    if output_dir is None:
        raise ConfigurationError("output_dir is missing; name the folder of the cross-validation")
    if is_url(output_dir):
        raise ConfigurationError(
            f"output_dir {str(output_dir)!r}: the rows of the folds are files that all runs read; "
            "name a folder that all machines see"
        )
    return Path(output_dir)


def _say(plan: FoldPlan) -> None:
    for note in plan.notes:
        logger.info(note)
    for caution in plan.cautions:
        logger.warning(caution)


@contextlib.contextmanager
def _forgotten_if_refused(folder: Path) -> Iterator[None]:
    """Takes everything away again where no run was begun, so that mended settings are taken."""
    try:
        yield
    except StabilizerError:
        if not any((folder / STUDY).glob("runs/*/*")):
            for name in (ROWS, STUDY):
                shutil.rmtree(folder / name, ignore_errors=True)
            for name in (FOLDS_FILE, FILE):
                (folder / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # It holds what was there before.
                folder.rmdir()
        raise


def _settings(
    plan: FoldPlan, fold_column: str | None, stratify: bool, first_seed: int
) -> dict[str, Any]:
    """Everything that decides what comes of it, the rows themselves by their mark."""
    values = plan.configuration.recorded
    return {
        **{key: value for key, value in values.items() if key not in NOT_COMPARED},
        "folds": len(plan.names),
        "fold_column": fold_column,
        "stratify": stratify,
        "choose_on": plan.choose_on,
        "inner_size": plan.inner_size if plan.choose_on == "inner" else None,
        "runs": plan.runs,
        "first_seed": first_seed,
        "rows": mark_of_rows(plan.pool.rows),
        "division": mark_of_rows(pd.DataFrame({"fold": plan.places})),
        "test_rows": mark_of_rows(plan.pool.splits.test),
    }
