"""What is asked of an ensemble, and can it be answered? Every refusal, before any work.

The ensemble and its dry run go this one way, so that neither refuses what the other would do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_stabilizer.data.row_marks import mark_of_rows
from hf_stabilizer.ensembling.candidates import Found, Named, find_candidates
from hf_stabilizer.ensembling.combining import COMBINATIONS, checked_weights
from hf_stabilizer.ensembling.gathering import PARTS, Answers, without_lost
from hf_stabilizer.ensembling.judging import judge_of
from hf_stabilizer.ensembling.voices import Asking, Rows, configured_metric, prepare
from hf_stabilizer.errors import ConfigurationError, check_choice, check_whole
from hf_stabilizer.procedure import check_procedure
from hf_stabilizer.studies.study import Study

# Any in this module: values of settings.
KIND = "ensemble"


@dataclass(frozen=True)
class Question:
    """What was asked, each option by itself as it may be."""

    named: tuple[Named, ...]
    """The members: runs and models, or cross-validations."""
    combine: str
    """How they are combined."""
    weights: tuple[float, ...] | None
    """With "weighted"; None: fitted."""
    recipes: Sequence[str] | None
    """Of a study the runs of these alone."""
    rows: Rows
    """Which rows judge."""
    metric: str | None
    """Name of the score; None: as the first member has it."""

    @property
    def is_of_folds(self) -> bool:
        """Whether a cross-validation is among the members."""
        from hf_stabilizer.ensembling.out_of_fold import is_folds

        return any(is_folds(one) for one in self.named)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides what comes of it, but for the members and what the rows hold."""
        return {
            "combine": self.combine,
            "weights": None if self.weights is None else list(self.weights),
            "metric": self.metric,
            **self.rows.settings,
        }


@dataclass(frozen=True)
class Ready:
    """Runs and models that go together."""

    found: Found
    """The members."""
    prepared: Answers | Asking
    """What they have answered already, or what they are to be asked."""
    metric: str
    """Name of the score."""
    settings: Mapping[str, Any]
    """Everything that decides what comes of it."""


def question_of(
    runs: Named | Iterable[Named],
    *,
    combine: str = "mean_probability",
    weights: Sequence[float] | None = None,
    recipes: Sequence[str] | None = None,
    rows: Rows | None = None,
    metric: str | None = None,
    batch_size: int = 32,
) -> Question:
    """Returns what is asked, with every option as it may be.

    Raises:
        ConfigurationError: An option may not be so by itself.

    Example:
        >>> question_of("results/rt", combine="mean_logit").settings["combine"]
        'mean_logit'
    """
    rows = rows or Rows()
    check_choice(combine, COMBINATIONS, name="combine")
    if rows.part is not None:
        check_choice(rows.part, PARTS, name="part")
    check_whole(batch_size, "of rows from 1 up", name="batch_size", least=1)
    if weights is not None and combine != "weighted":
        raise ConfigurationError(
            f"combine={combine!r} and weights={list(weights)!r} do not go together; weights belong "
            "to combine='weighted'"
        )
    named = (runs,) if isinstance(runs, (str, Path, Study)) else tuple(runs)
    given = None if weights is None else tuple(weights)
    return Question(named, combine, given, recipes, rows, metric)


def ready_runs(question: Question) -> Ready:
    """Reads the members and the rows, and sees that they go together; no model is loaded.

    Raises:
        ConfigurationError: They do not, one has neither answers nor weights, one diverged, or the
            metric does not fit.
        DataError: The rows are not as they must be.
    """
    if question.combine == "weighted" and question.weights is None:
        raise ConfigurationError(
            "weights are fitted on out-of-fold rows alone, and runs have none: name folders of "
            "cross-validations, give weights of your own, or use combine='mean_probability'"
        )
    found = find_candidates(question.named, recipes=question.recipes)
    if question.weights is not None:
        checked_weights(question.weights, len(found.candidates))
    prepared = prepare(found.candidates, question.rows)
    if isinstance(prepared, Answers):
        without_lost(prepared)
    metric = question.metric or configured_metric(found.candidates)
    judge_of(metric, prepared.kind, combine=question.combine)
    settings = {
        **question.settings,
        "rows": mark_of_rows(prepared.table) if isinstance(prepared, Asking) else None,
        "members": [str(one.folder.resolve()) for one in found.candidates],
    }
    return Ready(found, prepared, metric, settings)


def plan_ensemble(question: Question, output_dir: str | Path | None = None) -> dict[str, Any]:
    """Returns what an ensemble would do, after every check that it makes; writes nothing.

    Args:
        question: What is asked.
        output_dir: Folder that would be written; None: not looked at.

    Returns:
        "members" by name, "folds": whether they are cross-validations, "asked_anew": whether
        models would be asked, "part" and "rows": which rows judge and how many, "notes".

    Raises:
        ConfigurationError: What the ensemble would refuse.
        DataError: Likewise.
        StudyError: A record cannot be read, or `output_dir` holds something else.
    """
    plan, settings = _plan_folds(question) if question.is_of_folds else _plan_runs(question)
    if output_dir is not None:
        check_procedure(output_dir, KIND, settings)
    return plan


def _plan_folds(question: Question) -> tuple[dict[str, Any], Mapping[str, Any]]:
    from hf_stabilizer.ensembling.out_of_fold import ready_folds

    ready = ready_folds(question)
    plan = {
        "members": list(ready.names),
        "folds": True,
        "asked_anew": False,
        "part": ready.answers.part,
        "rows": ready.answers.outputs.shape[1],
        "notes": list(ready.notes),
    }
    return plan, ready.settings


def _plan_runs(question: Question) -> tuple[dict[str, Any], Mapping[str, Any]]:
    ready = ready_runs(question)
    prepared = ready.prepared
    plan = {
        "members": [candidate.name for candidate in ready.found.candidates],
        "folds": False,
        "asked_anew": isinstance(prepared, Asking),
        "part": prepared.part,
        "rows": prepared.outputs.shape[1] if isinstance(prepared, Answers) else len(prepared.table),
        "notes": list(ready.found.notes),
    }
    return plan, ready.settings
