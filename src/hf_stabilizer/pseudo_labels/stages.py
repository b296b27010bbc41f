"""How do teachers, labels and students follow from one another? Stage by stage, each resumable.

    FOLDER/rows/                          what learns and what judges, by fold
    FOLDER/teachers/round-R/              teachers, as runs of a study
    FOLDER/labels/round-R/ARM.parquet     true and pseudo-labelled rows together, with provenance
    FOLDER/labels/round-R/ARM.json        how they came to be these; written last

A teacher is not scored while it learns and keeps its last weights, so that no validation row has a
part in a label: neither in the weights, nor in the choice of weights, nor in a threshold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from hf_stabilizer.data.writing import spelled_out, write_parquet
from hf_stabilizer.errors import DataError, StudyError
from hf_stabilizer.pseudo_labels.labelled_rows import label_rows, refuse_one_sided
from hf_stabilizer.pseudo_labels.lengths import student_keys
from hf_stabilizer.pseudo_labels.parts import LAST_WEIGHTS, Part
from hf_stabilizer.pseudo_labels.provenance import check_names, joined
from hf_stabilizer.pseudo_labels.question import Question
from hf_stabilizer.pseudo_labels.teachers import read_teachers
from hf_stabilizer.records import write_atomically
from hf_stabilizer.studies.members import folder_of, run_members

if TYPE_CHECKING:
    import pandas as pd

# Any in this module: values of configuration keys.
TEACHER_KEYS: Mapping[str, Any] = {
    **LAST_WEIGHTS,
    "eval_strategy": "no",
    "evaluations_per_epoch": 0,
    "test_file": None,
}
"""What a teacher's run sets: no row judges it."""
TEACHER_SEEDS = 1000
"""Seeds between students and teachers, and between rounds: no student is the twin of a teacher."""


@dataclass(frozen=True)
class Labelled:
    """Rows of one arm and part, true and pseudo-labelled, as they lie on disk."""

    file: Path
    """The rows."""
    rows: int
    """How many, true ones counted."""
    told: Mapping[str, Any]
    """How the pseudo-labelled ones came to be these."""

    @property
    def sentence(self) -> str:
        """How many were kept, and why not the others."""
        return str(self.told["sentence"])


@dataclass(frozen=True)
class Workshop:
    """Where stages work, and with what."""

    question: Question
    """What is asked."""
    folder: Path
    """Folder of the procedure."""
    parts: tuple[Part, ...]
    """The rows."""
    unlabelled: pd.DataFrame
    """Rows to label."""
    console: Console
    """Where progress is told."""
    cautions: tuple[str, ...] = ()
    """Why rows that judge may have a part in labels all the same, a sentence each."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """What executes the runs, as keyword arguments of `run_study`."""

    def say(self, sentence: str) -> None:
        """Tells how far it is."""
        self.console.print(sentence, highlight=False, markup=False, soft_wrap=True)


def read_unlabelled_rows(question: Question, part: Part) -> pd.DataFrame:
    """Returns the unlabelled rows, whose texts were checked with the others.

    Raises:
        DataError: There are none.
    """
    rows = part.splits.unlabelled
    if rows is None or not len(rows):
        raise DataError(
            f"there is no unlabelled text: unlabelled_file="
            f"{question.configuration.data.unlabelled_file!r} holds no rows"
        )
    splits = part.splits
    read = [*splits.text_columns, *splits.choice_columns, str(splits.label_column)]
    check_names(read, with_groups=splits.groups is not None)
    frame: pd.DataFrame = rows.to_pandas()
    return frame


def all_rounds(workshop: Workshop) -> dict[tuple[str, str], Labelled]:
    """Goes through all rounds, and returns the rows of the last one by arm and part."""
    found: dict[tuple[str, str], Labelled] = {}
    for round in range(1, workshop.question.rounds + 1):
        teachers = _teachers(workshop, round, found)
        found = {
            (arm, part.name): _label(workshop, round, arm, part, teachers[arm, part.name])
            for arm in workshop.question.arms
            for part in workshop.parts
        }
    return found


def _teachers(
    workshop: Workshop, round: int, taught: Mapping[tuple[str, str], Labelled]
) -> dict[tuple[str, str], list[Path]]:
    """Returns the folders of the teachers of each arm and part, trained where they are not."""
    question, parts = workshop.question, workshop.parts
    arms = [(arm, part) for arm in question.arms for part in parts]
    if round == 1 and not isinstance(question.teachers, int):
        given = [Path(folder) for folder in question.teachers]
        return {(arm, part.name): given for arm, part in arms}
    if round == 1:  # The same for every arm.
        names = {(arm, part.name): part.member("teacher") for arm, part in arms}
        members = {part.member("teacher"): {**part.keys, **TEACHER_KEYS} for part in parts}
    else:
        names = {(arm, part.name): part.member(arm) for arm, part in arms}
        members = {
            part.member(arm): {
                **student_keys(
                    question, part, taught[arm, part.name].file, taught[arm, part.name].rows
                ),
                **TEACHER_KEYS,
            }
            for arm, part in arms
        }
    trained = _train(workshop, round, members)
    return {place: trained[name] for place, name in names.items()}


def _train(
    workshop: Workshop, round: int, members: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[Path]]:
    question = workshop.question
    workshop.say(f"Round {round}: {question.count} teachers{_each(members)} ...")
    study = run_members(
        question.given,
        members,
        runs=question.count,
        first_seed=question.first_seed + TEACHER_SEEDS * round,
        output_dir=workshop.folder / "teachers" / f"round-{round}",
        console=workshop.console,
        **workshop.engine,
    )
    for run in study.runs:
        if run.status != "finished":
            raise StudyError(
                f"the teacher {run.recipe} {run.name} failed ({run.reason}), so nothing can be "
                "labelled; see its traceback.txt, mend the cause and start again with retry_failed"
            )
    return {name: [folder_of(study, run) for run in study.of(name)] for name in members}


def _each(members: Mapping[str, Any]) -> str:
    return f" for each of {', '.join(members)}" if len(members) > 1 else ""


def _label(workshop: Workshop, round: int, arm: str, part: Part, teachers: list[Path]) -> Labelled:
    """Labels the rows of one arm and part, or returns what was labelled before."""
    folder = workshop.folder / "labels" / f"round-{round}"
    file, record = (folder / f"{part.member(arm)}.{ending}" for ending in ("parquet", "json"))
    if not record.is_file():
        _write_labels(workshop, round, arm, part, teachers, file)
    told = json.loads(record.read_text(encoding="utf-8"))
    labelled = Labelled(file, told["rows"], told)
    workshop.say(f"Round {round}, {part.member(arm)}: {labelled.sentence}.")
    return labelled


def _write_labels(
    workshop: Workshop, round: int, arm: str, part: Part, teachers: list[Path], file: Path
) -> None:
    question, splits = workshop.question, part.splits
    found = label_rows(
        read_teachers(teachers).in_order_of(splits.label_names),
        workshop.unlabelled,
        question.options,
        sampling_rate=question.arms[arm],
        held_out=part.held_out,
        groups=part.groups,
        labelled=splits.train,
        round=round,
        text_columns=splits.text_columns,
        choice_columns=splits.choice_columns,
        label_column=splits.label_column,
    )
    refuse_one_sided(found, question.options)
    rows = joined(splits, found.rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_parquet(spelled_out(rows, splits), file)
    told = {
        **found.recorded(),
        "sentence": str(found),
        "rows": len(rows),
        "teachers": [str(folder) for folder in teachers],
    }
    write_atomically(file.with_suffix(".json"), json.dumps(told, indent=2))
