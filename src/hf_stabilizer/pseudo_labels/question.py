"""What is asked of pseudo-labels, in all? The configuration, the rules, and the arms of a study.

    control            the rows with true labels
    pseudo-labelled    these and the pseudo-labelled ones; several sampling rates: one arm for each
    control-as-long    with equal="epochs": the control with the steps of the longest arm

Imports transformers by way of the configuration.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from hf_stabilizer.configuration import SEEDS, Configuration, load_configuration
from hf_stabilizer.errors import ConfigurationError, check_choice, check_whole
from hf_stabilizer.procedure import open_procedure, read_procedure
from hf_stabilizer.pseudo_labels.options import Kind, LabellingOptions, check_rate
from hf_stabilizer.pseudo_labels.teachers import KINDS, read_teachers
from hf_stabilizer.studies.question import NOT_COMPARED

if TYPE_CHECKING:
    from hf_stabilizer.data import Splits

# Any in this module: whatever YAML can say.
Equal = Literal["steps", "epochs"]
TeachersAsked: TypeAlias = "int | str | Path | Sequence[str | Path]"
KIND = "pseudo-label"
"""Name of the command."""
CONTROL = "control"
LONG_CONTROL = "control-as-long"
TREATED = "pseudo-labelled"
_WORDS: Mapping[Kind, str] = {
    "classes": "one class",
    "labels": "several classes",
    "choices": "one of its choices",
    "number": "a number",
}
ONLY_LABELS = ("labelling", "sampling_rate")
"""Settings that may change as long as no student was trained."""


@dataclass(frozen=True)
class Question:
    """What is asked, checked."""

    configuration: Configuration
    """What every run does; rows and treatment are laid over it."""
    options: LabellingOptions
    """Which rows are kept, and how they are labelled."""
    rates: tuple[float, ...]
    """Shares of the unlabelled rows, ascending; each is an arm of the study."""
    rounds: int
    """How often students become teachers, the first teachers counted."""
    folds: int | None
    """Parts of the labelled rows that are validation rows in turn; None: as configured."""
    teachers: int | tuple[str, ...]
    """How many to train, or folders of trained ones."""
    equal: Equal
    """What control and treated runs have in common: optimizer steps or epochs."""
    first_seed: int
    """Seed of the first run of each arm."""

    @property
    def count(self) -> int:
        """Number of teachers."""
        return self.teachers if isinstance(self.teachers, int) else len(self.teachers)

    @property
    def arms(self) -> dict[str, float]:
        """The sampling rate of each treated arm."""
        if len(self.rates) == 1:
            return {TREATED: self.rates[0]}
        return {f"rate-{rate:g}": rate for rate in self.rates}

    @property
    def is_longer(self) -> bool:
        """Whether the arms take more steps than the control, so that there is a longer one."""
        fixed = self.configuration.values.get("max_steps") or 0
        return self.equal == "epochs" and fixed <= 0

    @property
    def given(self) -> dict[str, Any]:
        """The keys that were given, to lay others over; where results lie is not one of them."""
        keys = self.configuration.given - {"output_dir"}
        return {key: self.configuration.values[key] for key in sorted(keys)}

    def check_rows(self, splits: Splits) -> None:
        """Checks rules, and teachers that are there already, against what a row is given.

        Raises:
            ConfigurationError: They do not go together.
        """
        kind: Kind = "labels" if splits.multi_label else KINDS[self.configuration.model.task]
        if not isinstance(self.teachers, int):
            found = read_teachers(self.teachers).in_order_of(splits.label_names)
            if found.kind != kind:
                raise ConfigurationError(
                    f"the teacher {found.names[0]!r} gives a row {_WORDS[found.kind]}, and the "
                    f"rows have {_WORDS[kind]}; name other teachers, or train them here"
                )
        self.options.check(kind, teachers=self.count, label_names=splits.label_names)

    def settings(self) -> dict[str, Any]:
        """Returns everything that decides what is done, in plain values."""
        compared = {k: v for k, v in self.configuration.values.items() if k not in NOT_COMPARED}
        settings = {
            "configuration": compared,
            "recipe": self.configuration.recipe,
            "labelling": self.options.recorded(),
            "sampling_rate": list(self.rates),
            "rounds": self.rounds,
            "folds": self.folds,
            "teachers": self.teachers,
            "equal": self.equal,
            "first_seed": self.first_seed,
        }
        plain: dict[str, Any] = json.loads(json.dumps(settings, default=str))
        return plain


def ask(
    config: str | Path | Mapping[str, Any],
    *,
    recipe: str | None = None,
    teachers: TeachersAsked = 3,
    sampling_rate: float | Sequence[float] = 1.0,
    rounds: int = 1,
    folds: int | None = None,
    equal: str = "steps",
    first_seed: int = 1,
    overrides: Mapping[str, Any] | None = None,
    **labelling: Any,
) -> Question:
    """Reads and checks a question; what can be asked is told in `run_pseudo_labels`.

    Raises:
        ConfigurationError: Something in it cannot be right.
    """
    configuration = load_configuration(config, recipe=recipe, overrides=overrides)
    _check_configuration(configuration)
    check_choice(equal, ("steps", "epochs"), name="equal")
    check_whole(rounds, "from 1 up", name="rounds", least=1)
    check_whole(first_seed, "from 0 up", name="first_seed")
    if folds is not None:
        check_whole(folds, "from 2 up", name="folds", least=2)
    one = isinstance(sampling_rate, float | int)
    rates = [sampling_rate] if one else list(sampling_rate)  # type: ignore[arg-type]
    if not rates:
        raise ConfigurationError("sampling_rate is empty; name one share or several")
    question = Question(
        configuration=configuration,
        options=LabellingOptions.of(labelling),
        rates=tuple(sorted({check_rate(rate) for rate in rates})),
        rounds=rounds,
        folds=folds,
        teachers=_teachers(teachers),
        equal=equal,  # type: ignore[arg-type]  # it was checked
        first_seed=first_seed,
    )
    _check_teachers(question)
    _check_students(question)
    return question


def _check_configuration(configuration: Configuration) -> None:
    data, task = configuration.data, configuration.model.task
    if task not in KINDS:
        raise ConfigurationError(
            f"task={task!r} cannot be pseudo-labelled; its rows must have one answer: "
            f"{', '.join(KINDS)}"
        )
    if data.unlabelled_file is None:
        raise ConfigurationError(
            "there is no unlabelled text: unlabelled_file is missing; name a file with the text "
            "columns of the task"
        )
    if pinned := sorted(configuration.given & set(SEEDS)):
        raise ConfigurationError(
            f"pseudo-labels are compared over seeds, and the configuration gives "
            f"{', '.join(pinned)}; leave that out, and set first_seed instead"
        )


def _teachers(teachers: TeachersAsked) -> int | tuple[str, ...]:
    if isinstance(teachers, str | Path):
        return (str(teachers),)
    if isinstance(teachers, Sequence):
        return tuple(str(folder) for folder in teachers)
    check_whole(teachers, "from 1 up, or folders of trained models", name="teachers", least=1)
    return int(teachers)


def _check_teachers(question: Question) -> None:
    """Checks teachers that are there already."""
    if isinstance(question.teachers, int):
        return
    task = question.configuration.model.task
    if question.folds is not None:
        raise ConfigurationError(
            "with folds each fold needs teachers that never saw its validation rows, and "
            "folders of trained teachers cannot be told apart by fold; give their number instead"
        )
    found = read_teachers(question.teachers)
    if found.members[0].task != task:
        raise ConfigurationError(
            f"the teacher {found.names[0]!r} was trained for {found.members[0].task}, and the "
            f"configuration is about {task}"
        )


def _check_students(question: Question) -> None:
    """What a student's run would refuse, which begins when all teachers have been trained."""
    smoothing = question.configuration.values.get("label_smoothing_factor")
    if question.options.soft and smoothing:
        raise ConfigurationError(
            f"soft=True and label_smoothing_factor={smoothing!r} both make probabilities of "
            "labels; leave one of them out"
        )


def open_question(question: Question, folder: Path, *, rows: str) -> None:
    """Opens the folder of the procedure for this question.

    As long as no student was trained, the rules may change: a threshold that kept nothing costs no
    teacher. What some arms or folds were given by the old rules is then labelled anew.

    Args:
        question: What is asked.
        folder: Folder of the procedure.
        rows: Fingerprint of all rows.

    Raises:
        StudyError: The folder holds another question, or other files, or was begun with other rows.
    """
    there, settings = read_procedure(folder), {**question.settings(), "rows": rows}
    if there is not None and there.kind == KIND and not _has_students(folder):
        relaxed = {key: settings[key] for key in ONLY_LABELS}
        kept = replace(there, settings={**there.settings, **relaxed})
        if kept.settings == settings != there.settings:
            # First, so that nothing that the old rules labelled is ever taken for the new ones'.
            shutil.rmtree(folder / "labels", ignore_errors=True)
            kept.ended(folder)  # with no outcome yet
    open_procedure(folder, KIND, settings)


def _has_students(folder: Path) -> bool:
    """Whether a run has begun that learns, or may learn, what was labelled."""
    later = (path for path in folder.glob("teachers/round-*") if path.name != "round-1")
    return (folder / "study").exists() or any(later)
