"""What would be done, stage by stage, and at what cost? Nothing is trained for good or written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from hf_stabilizer.control_study import check_runs
from hf_stabilizer.dry_run import rehearse_run
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.pseudo_labels.parts import Part, cautions_of, read_parts
from hf_stabilizer.pseudo_labels.question import CONTROL, LONG_CONTROL, Question, ask
from hf_stabilizer.pseudo_labels.running import default_runs
from hf_stabilizer.pseudo_labels.stages import read_unlabelled_rows
from hf_stabilizer.pseudo_labels.usable import Usable
from hf_stabilizer.silent_mistakes.timetable import planned_steps
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.fitted_table import fitted_table

# Any in this module: whatever YAML can say.


@dataclass(frozen=True)
class Stage:
    """One stage of the procedure."""

    name: str
    """What is done."""
    runs: int
    """Models that are trained; 0 where rows are labelled."""
    rows: int
    """Rows that each learns from, at the most; or rows that each teacher labels."""
    steps: int
    """Optimizer steps of each run, at the most."""
    seconds: float
    """Of all runs, one after the other on this machine; labelling is not counted."""


@dataclass(frozen=True)
class Plan:
    """What would be done."""

    stages: tuple[Stage, ...]
    """In order."""
    notes: tuple[str, ...] = ()
    """What else is known: rows that are left out, why scores may be too good, and what a rehearsed
    run found."""

    @property
    def seconds(self) -> float:
        """All runs, one after the other on this machine."""
        return sum(stage.seconds for stage in self.stages)


def plan_pseudo_labels(
    config: str | Path | Mapping[str, Any], *, runs: int | None = None, **asked: Any
) -> Plan:
    """Says what `run_pseudo_labels` with the same arguments would do and cost, without doing it.

    How many rows will be kept is not known before they are labelled: with `equal="epochs"` steps
    are those with every sampled row kept.

    Args:
        config: As in `run_pseudo_labels`.
        runs: Likewise.
        **asked: More of what `ask` takes: `teachers`, `folds`, `threshold`, ...

    Raises:
        ConfigurationError: Something cannot be right, or a run would fail.
        DataError: The rows are not as the configuration says.
    """
    check_runs(runs, may_be_none=False)
    question = ask(config, **asked)
    parts = read_parts(question)
    unlabelled = read_unlabelled_rows(question, parts[0])
    usable = {part.name: part.usable(unlabelled) for part in parts}
    question.check_rows(parts[0].splits)
    rehearsal = rehearse_run(question.given)
    if rehearsal.cost is None:
        errors = [str(one) for one in rehearsal.findings if one.severity == "error"]
        raise ConfigurationError(errors[0])
    # The evaluations included, which take as long in every run.
    per_step = rehearsal.cost.seconds / max(1, rehearsal.steps)
    rows = max(len(its.places) for its in usable.values())
    return Plan(
        tuple(_stages(question, parts, rows, runs or default_runs(question), per_step)),
        (
            *_left_out(usable),
            *(f"{caution}." for caution in cautions_of(parts, unlabelled)),
            *(str(one) for one in rehearsal.findings),
        ),
    )


def _left_out(usable: Mapping[str, Usable]) -> list[str]:
    """Says which rows cannot be labelled, for all parts at once where it is the same."""
    told = {name: str(its) for name, its in usable.items() if str(its)}
    if len(usable) == len(told) and len(set(told.values())) == 1:
        told = {"": next(iter(told.values()))}
    return [
        f"Unlabelled rows{f' for {name}' if name else ''}: {words}." for name, words in told.items()
    ]


def _stages(
    question: Question, parts: Sequence[Part], unlabelled: int, runs: int, per_step: float
) -> list[Stage]:
    true = max(len(part.splits.train) for part in parts)
    most = {arm: true + max(1, round(rate * unlabelled)) for arm, rate in question.arms.items()}
    arms, many = len(question.arms), len(parts)

    def training(name: str, count: int, rows: int, length_of: int) -> Stage:
        steps = _steps(question, length_of)
        return Stage(name, count, rows, steps, count * steps * per_step)

    stages = []
    for number in range(1, question.rounds + 1):
        if number == 1 and isinstance(question.teachers, int):
            stages.append(training("round 1: teachers", question.count * many, true, true))
        elif number > 1:
            rows = max(most.values())
            count = question.count * many * arms
            name = f"round {number}: students as teachers"
            stages.append(training(name, count, rows, _length(question, true, rows)))
        asked = max(rows - true for rows in most.values())
        stages.append(Stage(f"round {number}: labels", 0, asked, 0, 0.0))
    stages.append(training(CONTROL, runs * many, true, true))
    if question.is_longer:
        stages.append(training(LONG_CONTROL, runs * many, true, max(most.values())))
    stages += [
        training(arm, runs * many, rows, _length(question, true, rows))
        for arm, rows in most.items()
    ]
    return stages


def _length(question: Question, true: int, rows: int) -> int:
    """Rows whose number decides how many steps are taken."""
    return true if question.equal == "steps" else rows


def _steps(question: Question, rows: int) -> int:
    args = question.configuration.arguments(output_dir="unused")
    steps, _ = planned_steps(args, rows)
    assert steps is not None  # the rows have a number
    return steps


def print_plan(plan: Plan, console: Console) -> None:
    """Prints the stages as a table, and what they take together."""
    rows = [
        [
            stage.name,
            str(stage.runs or formats.NOTHING),
            f"{stage.rows:,}",
            str(stage.steps or formats.NOTHING),
            formats.duration(stage.seconds) if stage.seconds else formats.NOTHING,
        ]
        for stage in plan.stages
    ]
    title = "What would be done; nothing is written"
    columns = ("stage", "runs", "rows, at most", "steps", "time")
    console.print(fitted_table(title, columns, rows, width=console.width, names=columns[:1]))
    console.print(
        f"All runs one after the other on this machine: about {formats.duration(plan.seconds)}; "
        "labelling is one forward pass of each teacher over the rows.",
        highlight=False,
        soft_wrap=True,
    )
    for note in plan.notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
