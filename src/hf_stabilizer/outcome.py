"""How did a run go? Read from the history that the Trainer keeps of it (`log_history`).

Imports no torch, so that runs of any Trainer can be read from their files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hf_stabilizer.records import COLLAPSED, DIVERGED, Status

Evaluations = tuple[tuple[int, Mapping[str, float]], ...]
"""(optimizer step, metrics by plain name) of each evaluation."""

# What `evaluate` reports beside scores; it differs from machine to machine.
TIMINGS = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")


@dataclass(frozen=True)
class Outcome:
    """What the Trainer's own history says about a run."""

    evaluations: Evaluations
    """Every evaluation on the validation rows."""
    best_score: float | None
    """The best value of the metric that decides."""
    last_score: float | None
    """Its value at the last evaluation."""
    status: Status
    """"finished", or "failed" where the model collapsed or diverged."""
    reason: str
    """Why it failed, in one sentence; empty if it did not."""

    @classmethod
    def of(
        cls,
        history: Sequence[Mapping[str, Any]],  # Any: numbers mostly, whatever was logged
        *,
        metric: str,
        greater_is_better: bool,
    ) -> Outcome:
        """Reads it from a `log_history`.

        Example:
            >>> history = [{"step": 5, "eval_accuracy": 0.7}, {"step": 9, "eval_accuracy": 0.6}]
            >>> outcome = Outcome.of(history, metric="accuracy", greater_is_better=True)
            >>> outcome.best_score, outcome.last_score, outcome.status
            (0.7, 0.6, 'finished')
        """
        evaluations = read_evaluations(history)
        scores = [metrics[metric] for _, metrics in evaluations if metric in metrics]
        finite = [score for score in scores if math.isfinite(score)]
        better = max if greater_is_better else min
        reason = _named_by_guard(history) or _failure(evaluations)
        return cls(
            evaluations=evaluations,
            best_score=better(finite, default=None),
            last_score=scores[-1] if scores else None,
            status="failed" if reason else "finished",
            reason=reason,
        )


def read_evaluations(history: Sequence[Mapping[str, Any]]) -> Evaluations:
    """Returns each evaluation in a `log_history`, once, timings left out."""
    found: dict[int, dict[str, float]] = {}
    for line in history:
        metrics = {k.removeprefix("eval_"): v for k, v in line.items() if k.startswith("eval_")}
        if metrics:
            kept = {k: v for k, v in metrics.items() if not k.endswith(TIMINGS)}
            found.setdefault(line["step"], {}).update(kept)
    return tuple(found.items())


def _named_by_guard(history: Sequence[Mapping[str, Any]]) -> str:  # Any: whatever was logged
    """Why the divergence guard gave the run up; empty if it did not."""
    for line in history:
        for name in (DIVERGED, COLLAPSED):
            if name in line:
                return f"{name.rpartition('/')[2]}: {line.get('reason', f'step {line[name]:g}')}"
    return ""


def _failure(evaluations: Evaluations) -> str:
    if not evaluations:
        return ""
    step, metrics = evaluations[-1]
    if not math.isfinite(metrics.get("loss", 0.0)):
        return f"diverged: the validation loss at step {step} is {metrics['loss']}"
    if metrics.get("collapsed"):
        return (
            f"collapsed: at the last evaluation (step {step}) it answers the same for every row, "
            "or no better than the majority class"
        )
    return ""
