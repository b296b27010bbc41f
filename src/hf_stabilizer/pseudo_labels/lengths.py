"""How long do students learn, and how often are they looked at? As the control, on more rows.

equal="steps"     students take the control's steps, and are evaluated where it is
equal="epochs"    students see each row as often; a second control takes their steps
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hf_stabilizer.control_study import as_often
from hf_stabilizer.pseudo_labels.parts import Part
from hf_stabilizer.pseudo_labels.provenance import PROBABILITIES
from hf_stabilizer.pseudo_labels.question import LONG_CONTROL, Question
from hf_stabilizer.silent_mistakes.timetable import planned_steps

# Any in this module: values of configuration keys.


def student_keys(question: Question, part: Part, file: Path, rows: int) -> dict[str, Any]:
    """Returns the configuration keys of a student's run: its rows, and how long it learns.

    Args:
        question: What is asked.
        part: The rows that judge.
        file: The rows that it learns, true and pseudo-labelled.
        rows: How many these are.
    """
    keys = {**part.keys, "train_file": str(file.resolve())}
    if question.options.soft and part.splits.soft_label_column is None:
        keys["soft_label_column"] = PROBABILITIES
    return {**keys, **_as_long(question, len(part.splits.train), rows)}


def _as_long(question: Question, true_rows: int, rows: int) -> dict[str, Any]:
    """Keys that let a run on more rows take as many steps, and looks, as one on the true rows."""
    args = question.configuration.arguments(output_dir="unused")
    if question.equal == "epochs" or args.max_steps > 0:
        return {}
    steps, per_epoch = planned_steps(args, true_rows)
    own = planned_steps(args, rows)[1]
    return {"max_steps": steps, **as_often(args, steps, per_epoch, own)}


def long_control(question: Question, part: Part, rows: int) -> dict[str, dict[str, Any]]:
    """Returns the control that takes as many steps as the longest arm, where arms are longer.

    Args:
        question: What is asked.
        part: Whose rows with true labels it learns.
        rows: Rows of the arm with most rows.
    """
    args = question.configuration.arguments(output_dir="unused")
    if question.equal == "steps" or args.max_steps > 0:
        return {}
    steps, per_epoch = planned_steps(args, rows)
    own = planned_steps(args, len(part.splits.train))[1]
    keys = {"max_steps": steps, **as_often(args, steps, per_epoch, own)}
    return {LONG_CONTROL: {**part.keys, **keys}}
