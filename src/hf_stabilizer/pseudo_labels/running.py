"""What is the whole procedure? Teachers, labels, students, their control, and what came of it.

FOLDER/procedure.json       what was asked, and the outcome
FOLDER/rows, teachers, labels        see `stages`
FOLDER/study/               control and students over the same seeds, with report.html
FOLDER/curve.csv, .svg, .png         with several sampling rates
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console

from hf_stabilizer.control_study import check_control, check_countable, check_runs
from hf_stabilizer.procedure import read_procedure
from hf_stabilizer.pseudo_labels.curve import rate_points, write_curve
from hf_stabilizer.pseudo_labels.parts import cautions_of, fingerprint, read_parts, written
from hf_stabilizer.pseudo_labels.question import Question, TeachersAsked, ask, open_question
from hf_stabilizer.pseudo_labels.scoring import compare_students, conclude
from hf_stabilizer.pseudo_labels.stages import (
    Labelled,
    Workshop,
    all_rounds,
    read_unlabelled_rows,
)
from hf_stabilizer.studies.page.report import write_report
from hf_stabilizer.studies.statistics import pairs_needed
from hf_stabilizer.studies.study import Study

logger = logging.getLogger(__name__)

# Any in this module: whatever YAML can say, and options of one type each.


def default_runs(question: Question) -> int:
    """Returns the fewest runs of each arm that can show p < .05: six for one arm.

    Several arms are as many comparisons, for which p is corrected, and need more.
    """
    return pairs_needed(comparisons=len(question.arms) + question.is_longer)


@dataclass(frozen=True)
class PseudoLabelOutcome:
    """What came of pseudo-labels."""

    folder: Path
    """Folder of the procedure."""
    study: Study
    """Control and students, paired by seed; with folds their scores are means of the folds."""
    labels: Mapping[str, Mapping[str, Any]]
    """How many rows each arm was given, and why not more, as in procedure.json; with folds by
    arm and fold."""
    helped: bool
    """Whether the students are better than the control, by the exact paired test."""
    conclusion: str
    """The same in a plain sentence, with what stands behind it."""
    report: Path
    """The report's page."""
    files: tuple[Path, ...] = ()
    """The files of the curve; empty with one sampling rate."""
    cautions: tuple[str, ...] = ()
    """Why scores may be too good all the same, a sentence each."""


def run_pseudo_labels(
    config: str | Path | Mapping[str, Any],
    *,
    output_dir: str | Path,
    recipe: str | None = None,
    teachers: TeachersAsked = 3,
    sampling_rate: float | Sequence[float] = 1.0,
    rounds: int = 1,
    folds: int | None = None,
    equal: str = "steps",
    runs: int | None = None,
    first_seed: int = 1,
    overrides: Mapping[str, Any] | None = None,
    executor: Executor | str | None = None,
    workers: int | None = None,
    address: str | None = None,
    launcher: str | None = None,
    retry_failed: bool = False,
    command: str = "",
    console: Console | None = None,
    **labelling: Any,
) -> PseudoLabelOutcome:
    """Trains teachers, labels the unlabelled rows, and compares students with a control.

    The control, the same rows without pseudo-labels, is always run, with the same seeds. By
    default every arm takes as many optimizer steps, and looks at the validation rows as often, as
    the control: a gain is then not one of longer training. With `equal="epochs"` students see each
    row as often and train longer, and a control with as many steps is run, too.

    No validation row has a part in a label that its students learn: teachers keep their last
    weights and are not scored while they learn, thresholds are constants, the share and the ranks
    are among unlabelled rows alone; near duplicates of validation and test rows are taken out
    afterwards. With `group_column` unlabelled rows of the groups of validation and test rows are
    left out first; where the unlabelled file has no such column, a warning says so. With folds each
    fold has teachers of its own, which never saw its validation rows.

    Killed and started again it repeats nothing that was finished. With other settings it is
    refused, and so are other rows; but as long as no student was trained the rules of labelling
    may change.

    Args:
        config: Path of a YAML file, or a mapping with the same keys; `unlabelled_file` in it.
        output_dir: Folder of the procedure; made, or it holds the same one from before.
        recipe: Name of a recipe, or a YAML file, laid over it for all runs.
        teachers: How many to train, or folders of trained ones; numbers need two.
        sampling_rate: Share of the unlabelled rows, in (0, 1]; several: an arm for each, and the
            curve of the validation score.
        rounds: 2 or more: students of a round, as many as there were teachers, label all rows
            anew.
        folds: Fold the labelled rows into so many, from 2 up; None: as the configuration divides
            them. Test rows are then not scored. Only with teachers that are trained here.
        equal: "steps" or "epochs".
        runs: Seeds of each arm, 2 or more; None: the fewest that can show p < .05, six for one
            arm, seven for two to three.
        first_seed: Seed of the first run; teachers have others.
        overrides: Keys that beat file and recipe.
        executor: Where runs execute, as in `run_study`.
        workers: Processes on this machine, likewise.
        address: Address of a running cluster, likewise.
        launcher: Command line that trains each run in several processes, likewise; it needs a
            configuration with `max_steps`.
        retry_failed: Repeat runs that raised.
        command: The command line that makes it again, for the report.
        console: Where progress is told; None: standard error.
        **labelling: Rules of `pseudo_label`: `threshold`, `top_k`, `agreement`, `max_spread`,
            `soft`, `temperature`, `similarity`, `allow_missing_classes`, `seed`, `batch_size`.

    Raises:
        ConfigurationError: Something cannot be right; before any run.
        DataError: The rows are not as the configuration says; or, before any student is trained,
            nothing is kept, or a class is never predicted or kept.
        StudyError: The folder holds something else, or a teacher failed.

    Cannot be combined with: a configuration that sets seeds; tasks without one answer per row;
    `lr_scheduler_type="reduce_lr_on_plateau"`, as teachers are not scored.

    Example:
        >>> keys = {"model_name_or_path": "bert-base-uncased", "train_file": "rows.csv"}
        >>> run_pseudo_labels(keys, output_dir="out")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: there is no unlabelled text: unlabelled_file is
        missing; name a file with the text columns of the task

    Source: see `pseudo_label`; students as the next teachers are Xie et al. 2020
    (arXiv:1911.04252).
    """
    check_runs(runs, may_be_none=False)
    question = ask(
        config,
        recipe=recipe,
        teachers=teachers,
        sampling_rate=sampling_rate,
        rounds=rounds,
        folds=folds,
        equal=equal,
        first_seed=first_seed,
        overrides=overrides,
        **labelling,
    )
    check_countable(question.configuration, launcher)
    engine = {
        "executor": executor,
        "workers": workers,
        "address": address,
        "launcher": launcher,
        "retry_failed": retry_failed,
    }
    if read_procedure(Path(output_dir)) is None:  # else it was checked when it was begun
        check_control(question.given)
    workshop = open_workshop(question, Path(output_dir), engine, console or Console(stderr=True))
    labelled = all_rounds(workshop)
    runs = runs or default_runs(question)
    study = compare_students(
        workshop, labelled, runs=runs, command=command or f"run_pseudo_labels(..., runs={runs})"
    )
    return _finish(workshop, labelled, study)


def open_workshop(
    question: Question, folder: Path, engine: Mapping[str, Any], console: Console
) -> Workshop:
    """Reads the rows, and opens the folder where nothing is wrong with them."""
    parts = read_parts(question)
    unlabelled = read_unlabelled_rows(question, parts[0])
    question.check_rows(parts[0].splits)
    for part in parts:
        part.usable(unlabelled)  # that there is a row is seen before anything is written
    open_question(question, folder, rows=fingerprint(parts, unlabelled))
    cautions = tuple(cautions_of(parts, unlabelled))
    for caution in cautions:
        logger.warning(caution)
    rows = tuple(written(part, folder / "rows" / part.name) for part in parts)
    return Workshop(question, folder, rows, unlabelled, console, cautions, engine)


def _finish(
    workshop: Workshop, labelled: Mapping[tuple[str, str], Labelled], study: Study
) -> PseudoLabelOutcome:
    question, folder = workshop.question, workshop.folder
    report = write_report(study, folder / "study" / "report.html")
    helped, conclusion = conclude(study)
    labels = {f"{arm}-{part}" if part else arm: its.told for (arm, part), its in labelled.items()}
    files: list[Path] = []
    if len(question.rates) > 1:
        added = {
            arm: fmean(its.told["kept"] for (one, _), its in labelled.items() if one == arm)
            for arm in question.arms
        }
        points = rate_points(study, question.arms, added)
        files = write_curve(points, folder, metric=study.metric)
    there = read_procedure(folder)
    assert there is not None  # it was opened
    there.ended(
        folder,
        helped=helped,
        conclusion=conclusion,
        labels=labels,
        runs=len(study.seeds),
        cautions=workshop.cautions,
    )
    return PseudoLabelOutcome(
        folder, study, labels, helped, conclusion, report, tuple(files), workshop.cautions
    )
