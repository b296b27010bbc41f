"""What did the weights that a run kept score? Not the best that any weights ever did.

test rows                     scored once, with the weights that were kept
`load_best_model_at_end`      the evaluation that chose them
without it                    the last evaluation
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from hf_stabilizer.records import Run

# Any in this module: whatever YAML can say.
Rows = Literal["test", "best", "last"]
SCORED: Mapping[Rows, str] = {
    "test": "test rows",
    "best": "validation rows, the best weights of each run, which it kept",
    "last": "validation rows, the last weights of each run, which it kept",
}
"""What a score is of, in words."""


class KeptScore(NamedTuple):
    """What the weights that were kept scored."""

    value: float
    """The score."""
    rows: Rows
    """Which rows, and which weights."""


def kept_score(run: Run, metric: str, *, greater_is_better: bool) -> KeptScore | None:
    """Returns the score of the weights that a run kept; None for one that has none.

    Args:
        run: Finished, stopped or failed.
        metric: Any that the run was evaluated with; another may have chosen the weights.
        greater_is_better: Direction of that metric.

    Example:
        >>> evaluations = ((5, {"f1": 0.8, "loss": 0.9}), (9, {"f1": 0.7, "loss": 0.4}))
        >>> keys = {"save_strategy": "no", "load_best_model_at_end": False}
        >>> run = Run("plain", {"seed": 1}, "finished", evaluations=evaluations, metric="f1",
        ...           best_score=0.8, last_score=0.7, configuration=keys)
        >>> kept_score(run, "f1", greater_is_better=True)
        KeptScore(value=0.7, rows='last')
        >>> run = Run("plain", {"seed": 1}, "finished", evaluations=evaluations, metric="f1",
        ...           best_score=0.8, last_score=0.7)
        >>> kept_score(run, "loss", greater_is_better=False)
        KeptScore(value=0.9, rows='best')
    """
    if run.status == "stopped":
        return None
    if run.metric == metric and run.test_score is not None:
        return _finite(run.test_score, "test")
    if keeps_last(run.configuration):
        return _finite(_last(run, metric), "last")
    return _finite(_chosen(run, metric, greater_is_better), "best")


def keeps_last(configuration: Mapping[str, Any]) -> bool:
    """Whether a run keeps its last weights; where nothing is known of that, the best are meant."""
    said = configuration.get("load_best_model_at_end")
    if said is None:
        return "save_strategy" in configuration  # the Trainer's own default is to load none
    return said is False


def trained_on(run: Run) -> bool:
    """Whether steps were taken after the last evaluation, so that the last weights have none."""
    return bool(run.evaluations) and run.evaluations[-1][0] < run.steps


def _last(run: Run, metric: str) -> float | None:
    if run.metric == metric:
        return run.last_score
    return run.evaluations[-1][1].get(metric) if run.evaluations else None


def _chosen(run: Run, metric: str, greater_is_better: bool) -> float | None:
    """The metric where the one that chose was best; where it was never evaluated, its own best."""
    told = run.configuration.get("metric_for_best_model")
    chooser = told.removeprefix("eval_") if isinstance(told, str) else run.metric
    scored = [one for _, one in run.evaluations if metric in one]
    if chooser not in (metric, "") and (by := [one for one in scored if chooser in one]):
        better = max if _direction(run, chooser) else min
        return better(by, key=lambda one: one[chooser])[metric]
    if run.metric == metric:
        return run.best_score
    finite = [one[metric] for one in scored if math.isfinite(one[metric])]
    return (max if greater_is_better else min)(finite, default=None)


def _direction(run: Run, chooser: str) -> bool:
    said = run.configuration.get("greater_is_better")
    if isinstance(said, bool):
        return said
    return run.greater_is_better if run.metric == chooser else not chooser.endswith("loss")


def _finite(value: float | None, rows: Rows) -> KeptScore | None:
    return KeptScore(value, rows) if value is not None and math.isfinite(value) else None
