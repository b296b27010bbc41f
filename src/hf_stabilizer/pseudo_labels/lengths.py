"""How long do students learn, and how often are they looked at? As the control, on more rows.

equal="steps"     students take the control's steps, and are evaluated where it is
equal="epochs"    students see each row as often; a second control takes their steps
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers.trainer_utils import SaveStrategy

from hf_stabilizer.arguments import StabilizerArguments
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
    return {"max_steps": steps, **_as_often(args, steps, per_epoch, own)}


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
    keys = {"max_steps": steps, **_as_often(args, steps, per_epoch, own)}
    return {LONG_CONTROL: {**part.keys, **keys}}


def _as_often(
    args: StabilizerArguments, steps: int | None, per_epoch: int | None, own: int | None
) -> dict[str, Any]:
    """Keys that let a run look at the steps where one with other epochs does.

    Where weights are chosen, more looks are more chances. Looks that are not evenly spaced are met
    as nearly as whole looks per epoch allow, and never more often.

    Args:
        args: When the other looks.
        steps: Optimizer steps of both.
        per_epoch: Those of an epoch of the other.
        own: Those of an epoch of the run that the keys are for.
    """
    assert steps  # rows have a number
    assert per_epoch
    assert own
    looks = min(args.evaluations_per_epoch, per_epoch)
    if not looks or own == per_epoch:
        return {}
    between = per_epoch // looks
    is_even = per_epoch % looks == 0 and steps % between == 0
    # Saving at other steps than those with a look would be refused.
    saves = SaveStrategy(args.save_strategy) in (SaveStrategy.BEST, SaveStrategy.NO)
    if is_even and saves and args.eval_strategy == "no":
        return {
            "evaluations_per_epoch": 0,
            "isolate_evaluations": True,
            "eval_strategy": "steps",
            "eval_steps": between,
        }
    return {"evaluations_per_epoch": max(1, looks * own // per_epoch)}
