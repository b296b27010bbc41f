"""What did the models say about each row? Their outputs as probabilities, in the order of the rows.

    single label, choices    softmax over classes or choices
    several labels           a probability for each label by itself
    numbers                  the number

A run keeps its predictions with the longest rows first; here they are put back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_stabilizer.data import Splits
from hf_stabilizer.errors import StudyError
from hf_stabilizer.folds.files import parts_of
from hf_stabilizer.folds.planning import FoldPlan
from hf_stabilizer.metrics import build_compute_metrics
from hf_stabilizer.prediction import predict_rows
from hf_stabilizer.records import Run
from hf_stabilizer.studies.members import folder_of, prepared_rows
from hf_stabilizer.studies.study import Study

# Any in this module: labels of whatever kind the task has.
Array = npt.NDArray[np.float64]
_TINY = 1e-30


@dataclass(frozen=True)
class Kind:
    """How outputs become probabilities, and probabilities scores."""

    problem_type: str | None
    """As `PreTrainedConfig.problem_type` has it; None for multiple-choice."""
    metrics: tuple[str, ...]
    """Names of the metrics."""
    splits: Splits
    """Say what the classes or choices are."""

    @classmethod
    def of(cls, plan: FoldPlan) -> Kind:
        """Returns that of the task of a plan."""
        splits, task = plan.pool.splits, plan.configuration.model.task
        kinds = {"text-regression": "regression", "multiple-choice": None}
        several = "multi_label_classification" if splits.multi_label else None
        kind = kinds.get(task, several or "single_label_classification")
        return cls(kind, tuple(plan.configuration.metrics), splits)

    @property
    def names(self) -> tuple[str, ...]:
        """The classes or choices; none for numbers."""
        return self.splits.label_names or self.splits.choice_columns

    def probabilities(self, outputs: npt.NDArray[Any]) -> Array:
        """Returns what raw outputs come to. Shape (rows, classes); (rows, 1) for numbers."""
        wide = np.asarray(outputs, dtype=np.float64).reshape(len(outputs), -1)
        if self.problem_type == "regression":
            return wide
        if self.problem_type == "multi_label_classification":
            return np.asarray(0.5 * (1 + np.tanh(wide / 2)))  # the logistic, without overflow
        shifted = np.exp(wide - wide.max(axis=1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))

    def answers(self, probabilities: Array) -> list[Any]:
        """Returns the prediction of each row in words: a class, several, a choice, or a number."""
        if self.problem_type == "regression":
            return [float(row[0]) for row in probabilities]
        if self.problem_type == "multi_label_classification":
            return [
                [name for name, p in zip(self.names, row, strict=True) if p > 0.5]
                for row in probabilities
            ]
        return [self.names[place] for place in probabilities.argmax(axis=1)]

    def references(self, labels: list[Any]) -> npt.NDArray[Any]:
        """Returns labels as metrics compare them: ids, a 0 or 1 per class, or numbers."""
        if self.problem_type == "multi_label_classification":
            return np.array([[int(name in row) for name in self.names] for row in labels])
        if self.problem_type == "single_label_classification":
            return np.array([self.names.index(label) for label in labels])
        return np.array(labels)

    def score(self, probabilities: Array, labels: list[Any]) -> dict[str, float]:
        """Returns every metric of the configuration."""
        compute = build_compute_metrics(
            self.metrics,
            self.problem_type,
            num_labels=len(self.names) or 1,
            label_names=self.names or None,
        )
        prediction = SimpleNamespace(
            predictions=self._logits(probabilities), label_ids=self.references(labels)
        )
        found = compute(prediction)  # type: ignore[arg-type]  # it has what is read
        return {name: float(found[name]) for name in self.metrics if name in found}

    def _logits(self, probabilities: Array) -> Array:
        """Returns outputs that come to these probabilities."""
        if self.problem_type == "regression":
            return probabilities
        logs = np.log(np.maximum(probabilities, _TINY))
        if self.problem_type == "multi_label_classification":
            return np.asarray(logs - np.log(np.maximum(1 - probabilities, _TINY)))
        return logs


def out_of_fold(plan: FoldPlan, study: Study, kind: Kind) -> dict[int, Array]:
    """Returns for each seed what its runs said about the rows that they did not learn from.

    Returns:
        By seed, shape (rows, classes); a row whose run has no predictions holds NaN.
    """
    found: dict[int, Array] = {}
    shape = (len(plan.places), len(kind.names) or 1)
    for fold, name in enumerate(plan.names):
        held_out = np.array(parts_of(plan, fold)[2])
        for run in study.of(name):
            outputs = _kept(study, run, "test" if plan.choose_on == "inner" else "validation")
            if outputs is not None:
                seed = run.seeds["seed"]
                whole = found.setdefault(seed, np.full(shape, np.nan))
                whole[held_out] = kind.probabilities(outputs)
    return dict(sorted(found.items()))


def on_test_rows(plan: FoldPlan, study: Study, kind: Kind) -> dict[str, Array]:
    """Returns what every run said about the test rows, by fold and seed: "fold1/1"."""
    test = plan.pool.splits.test
    if test is None:
        return {}
    found: dict[str, Array] = {}
    for run in study.runs:
        if plan.choose_on != "inner":
            outputs = _kept(study, run, "test")
        elif run.checkpoint is None:
            outputs = None
        else:
            size = int(plan.configuration.values["per_device_eval_batch_size"])
            outputs = predict_rows(folder_of(study, run), test, batch_size=size)
        if outputs is not None:
            found[f"{run.recipe}/{run.seeds['seed']}"] = kind.probabilities(outputs)
    return found


def _kept(study: Study, run: Run, part: str) -> npt.NDArray[Any] | None:
    """Returns the outputs of a run in the order of its file; None if it kept none."""
    predictions = study.predictions(run)
    outputs = None if predictions is None else getattr(predictions, part)
    if outputs is None:
        return None
    places = getattr(prepared_rows(study, run), f"{part}_rows")
    if places is None:
        raise StudyError(
            f"the rows of {run.recipe} were prepared by a version that did not keep their order; "
            f"remove {str(study.folder)!r} and start again"
        )
    ordered: npt.NDArray[Any] = np.empty_like(outputs)
    ordered[list(places)] = outputs
    return ordered


def averaged(parts: Mapping[Any, Array]) -> Array:
    """Returns the mean over runs, of those that said something about a row.

    Example:
        >>> averaged({1: np.array([[0.2, 0.8], [0.5, 0.5]]),
        ...     2: np.array([[0.4, 0.6], [np.nan, np.nan]])}).tolist()
        [[0.30000000000000004, 0.7], [0.5, 0.5]]
    """
    stacked = np.stack(list(parts.values()))  # (runs, rows, classes)
    said = np.logical_not(np.isnan(stacked).all(axis=2))  # (runs, rows)
    total = np.where(said[:, :, None], stacked, 0.0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / said.sum(axis=0)[:, None])
