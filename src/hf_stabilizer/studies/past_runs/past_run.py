"""How did a run of any Trainer go? Its record, from what lies in its folder.

A run is over if its state came to the last step or was stopped on purpose, or if anything was
saved after training: results, a model, the line that ends a history. One that ended before is
recorded as failed, and so is one whose losses are no numbers or whose files cannot be read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from hf_stabilizer.outcome import Outcome, read_evaluations
from hf_stabilizer.records import Run
from hf_stabilizer.studies.past_runs.trainer_folder import STATE, TrainerFolder

_NO_METRICS = ("samples",)  # what `evaluate` and scripts save beside them
_TEST = ("test_", "predict_")


def to_run(
    files: TrainerFolder,
    *,
    recipe: str,
    seeds: Mapping[str, int],
    metric: str,
    greater_is_better: bool,
) -> Run:
    """Returns the record of a run whose files were read."""
    outcome = Outcome.of(full_history(files), metric=metric, greater_is_better=greater_is_better)
    reason = outcome.reason or _failure(files) or _unscored(files, outcome, metric)
    return Run(
        recipe=recipe,
        seeds=dict(seeds),
        status="failed" if reason else "finished",
        reason=reason,
        evaluations=outcome.evaluations,
        metric=metric,
        greater_is_better=greater_is_better,
        best_score=outcome.best_score,
        last_score=outcome.last_score,
        test_score=score_on_test_rows(files, metric),
        seconds=_seconds(files),
        steps=files.steps,
        checkpoint=files.best_checkpoint(),
        versions={"transformers": files.transformers} if files.transformers else {},
        configuration={**files.arguments, "folder": str(files.folder)},
    )


def rescored(run: Run, *, metric: str, greater_is_better: bool) -> Run:
    """Returns a record of ours with another metric deciding, which its evaluations hold.

    The test rows were scored with the weights that the old metric chose, so that score is gone.
    """
    if (run.metric, run.greater_is_better) == (metric, greater_is_better):
        return run
    history = [
        {"step": step, **{f"eval_{name}": value for name, value in metrics.items()}}
        for step, metrics in run.evaluations
    ]
    outcome = Outcome.of(history, metric=metric, greater_is_better=greater_is_better)
    return replace(
        run,
        metric=metric,
        greater_is_better=greater_is_better,
        best_score=outcome.best_score,
        last_score=outcome.last_score,
        test_score=run.test_score if run.metric == metric else None,
    )


def metric_names(files: TrainerFolder) -> set[str]:
    """Returns the plain names of all that was evaluated or tested."""
    evaluated = {name for _, m in read_evaluations(full_history(files)) for name in m}
    tested = {
        key.removeprefix(prefix)
        for prefix in _TEST
        for key, value in files.results.items()
        if key.startswith(prefix) and _is_score(key, value)
    }
    return evaluated | tested


def full_history(files: TrainerFolder) -> list[dict[str, Any]]:  # Any: whatever was logged
    """Returns the history, its scores numbers, with the evaluation that a script made at the end.

    A script that evaluates after `trainer.train()` saves that in a results file alone. It belongs
    to the last step, unless the best model had been loaded: then it repeats an evaluation.
    """
    history = [_numbers_only(line) for line in files.history]
    last = _numbers_only({k: v for k, v in files.results.items() if k.startswith("eval_")})
    evaluated = read_evaluations(history)
    at_the_end = bool(evaluated) and evaluated[-1][0] >= files.steps
    if last and not at_the_end and not (evaluated and _loaded_best(files)):
        history.append({"step": files.steps, **last})
    return history


def _loaded_best(files: TrainerFolder) -> bool:
    known = files.arguments.get("load_best_model_at_end")
    return known is True or (known is None and bool(files.state.get("best_model_checkpoint")))


def _numbers_only(line: Mapping[str, Any]) -> dict[str, Any]:  # Any: see above
    return {k: v for k, v in line.items() if not k.startswith("eval_") or _is_score(k, v)}


def _is_score(key: str, value: object) -> bool:
    is_number = isinstance(value, (int, float)) and type(value) is not bool
    return is_number and not key.endswith(_NO_METRICS)


def score_on_test_rows(files: TrainerFolder, metric: str) -> float | None:
    """Returns the metric on the test rows, from `test_` or `predict_` results."""
    for prefix in _TEST:
        value = files.results.get(prefix + metric)
        if isinstance(value, (int, float)) and math.isfinite(value):
            return float(value)
    return None


def _seconds(files: TrainerFolder) -> float:
    """The time of training; 0 where nothing tells it."""
    told = [line["train_runtime"] for line in files.history if "train_runtime" in line]
    return float(files.results.get("train_runtime") or (told[-1] if told else 0.0))


def _failure(files: TrainerFolder) -> str:
    """Why the run failed, as far as its files tell; empty if it did not."""
    if not files.state and not files.results:
        return "; ".join(files.notes) or f"no {STATE} and no results: it ended before either"
    return _diverged(files) or _cut_off(files)


def _diverged(files: TrainerFolder) -> str:
    lines = [line for line in files.history if "loss" in line]
    if not lines:
        return ""
    loss, norm = lines[-1]["loss"], lines[-1].get("grad_norm", 0.0)
    step = lines[-1]["step"]
    if not _is_finite(loss):
        return f"diverged: the training loss at step {step} is {loss}"
    # The Trainer writes 0 for a loss that is no number, unless told to let it stand.
    if loss == 0 and not _is_finite(norm):
        return f"diverged: the gradient norm at step {step} is {norm}"
    return ""


def _is_finite(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _cut_off(files: TrainerFolder) -> str:
    planned = int(files.state.get("max_steps") or 0)
    if any(_signs_of_an_end(files, planned)):
        return ""
    return (
        f"no final results: its state ends at step {files.steps} of {planned}, so it was cut off, "
        "or it is still running"
    )


def _signs_of_an_end(files: TrainerFolder, planned: int) -> Iterator[bool]:
    arguments = files.arguments
    yield bool(files.results) or files.has_model
    yield files.steps >= planned
    yield any("train_runtime" in line for line in files.history)
    yield _was_stopped(files)
    yield keeps_no_last_state(arguments)


def keeps_no_last_state(arguments: Mapping[str, Any]) -> bool:
    """Returns whether checkpoints of such a run need not tell of its last step."""
    keeps_one = arguments.get("save_total_limit") == 1 and arguments.get("load_best_model_at_end")
    return arguments.get("save_strategy") == "best" or keeps_one is True


def _was_stopped(files: TrainerFolder) -> bool:
    """Whether a callback had asked for the end, as EarlyStoppingCallback does."""
    callbacks = files.state.get("stateful_callbacks")
    control = callbacks.get("TrainerControl") if isinstance(callbacks, dict) else None
    told = control.get("args") if isinstance(control, dict) else None
    return isinstance(told, dict) and told.get("should_training_stop") is True


def _unscored(files: TrainerFolder, outcome: Outcome, metric: str) -> str:
    if outcome.best_score is not None or score_on_test_rows(files, metric) is not None:
        return ""
    names = sorted(metric_names(files))
    if not names:
        return "it was never evaluated"
    if metric in names:
        return f"{metric} was never a number"
    return f"{metric} was never evaluated, only {', '.join(names)}"
