"""What is looking more often worth? The same curves, as if they had been looked at less.

    all      every evaluation of a run          epoch    the last one of each epoch
    run      the last one of the run

The best score of a run under each is what that habit would have reported (and the checkpoint it
would have kept); the expected best of k runs follows from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from hf_stabilizer.errors import ConfigurationError, check_choice
from hf_stabilizer.records import Run
from hf_stabilizer.studies.statistics.best_of import BestOf, Estimator, expected_best

Looks = Literal["all", "epoch", "run"]
LOOKS: tuple[Looks, ...] = ("all", "epoch", "run")


def thinned_score(
    run: Run, looks: Looks = "all", *, steps_per_epoch: float | None = None
) -> float | None:
    """Returns a run's best validation score over some of its evaluations.

    Evaluations that are no finite number count as never made.

    Args:
        run: The run; its `metric` says which score.
        looks: "all", "epoch" (the last evaluation of each epoch) or "run" (the last of all).
        steps_per_epoch: Optimizer steps per epoch; only for "epoch", and needed there.

    Returns:
        None for a run that was never evaluated.

    Raises:
        ConfigurationError: Another word, or no steps per epoch for "epoch".

    Example:
        >>> curve = ((5, {"f1": 0.6}), (10, {"f1": 0.7}), (15, {"f1": 0.9}), (20, {"f1": 0.8}))
        >>> run = Run("plain", {}, "finished", evaluations=curve, metric="f1")
        >>> [thinned_score(run, looks, steps_per_epoch=10) for looks in ("all", "epoch", "run")]
        [0.9, 0.8, 0.8]
    """
    check_choice(looks, LOOKS, name="looks")
    points = score_curve(run)
    if looks == "epoch":
        if steps_per_epoch is None or not steps_per_epoch > 0:
            raise ConfigurationError(
                f"steps_per_epoch must be a positive number of steps, got {steps_per_epoch!r}"
            )
        epochs = {math.ceil(step / steps_per_epoch - 1e-9): score for step, score in points}
        points = list(epochs.items())
    elif looks == "run":
        points = points[-1:]
    better = max if run.greater_is_better else min
    return better((score for _, score in points), default=None)


def expected_best_by_looks(
    runs: Iterable[Run],
    *,
    steps_per_epoch: float | None = None,
    estimator: Estimator = "unbiased",
    confidence: float = 0.95,
) -> dict[Looks, BestOf]:
    """Returns the expected best of k runs under each habit of looking, of one recipe's runs.

    The same runs are behind each curve, so they lie in this order: all, epoch, run. The gap
    between them is what frequent evaluation buys on the validation rows; `optimism` says how much
    of such a gain stays on test rows.

    Args:
        runs: Runs of one recipe; those that the study stopped early are left out and counted, as
            are those without any evaluation.
        steps_per_epoch: Optimizer steps per epoch; None: worked out from the runs' own
            configuration, and "epoch" is left out of the answer where that says nothing.
        estimator: "unbiased" or "biased" (`expected_validation_performance`).
        confidence: Share of such intervals that should hold the true value, in (0, 1).

    Example:
        >>> def run(*scores):
        ...     curve = tuple((5 * k, {"f1": s}) for k, s in enumerate(scores, 1))
        ...     return Run("plain", {}, "finished", evaluations=curve, metric="f1", steps=20)
        >>> runs = [run(0.5, 0.7, 0.8, 0.6), run(0.5, 0.6, 0.7, 0.7)]
        >>> found = expected_best_by_looks(runs, steps_per_epoch=10)
        >>> {looks: round(best.expected[0], 3) for looks, best in found.items()}
        {'all': 0.75, 'epoch': 0.7, 'run': 0.65}

    Source: Dodge et al. 2020, arXiv 2002.06305, section 3.
    """
    everything = list(runs)
    counted = [run for run in everything if run.status != "stopped" and score_curve(run)]
    epoch = steps_per_epoch if steps_per_epoch is not None else steps_in_epoch(everything)
    greater_is_better = all(run.greater_is_better for run in everything)
    found: dict[Looks, BestOf] = {}
    for looks in LOOKS:
        if looks == "epoch" and epoch is None:
            continue
        scores = [thinned_score(run, looks, steps_per_epoch=epoch) for run in counted]
        found[looks] = expected_best(
            [score for score in scores if score is not None],
            greater_is_better=greater_is_better,
            estimator=estimator,
            confidence=confidence,
            left_out=len(everything) - len(counted),
        )
    return found


def score_curve(run: Run) -> list[tuple[int, float]]:
    """Returns the finite values of a run's metric over its optimizer steps, in order.

    Example:
        >>> curve = ((9, {"f1": 0.7}), (5, {"f1": float("nan")}), (3, {"loss": 0.1}))
        >>> score_curve(Run("plain", {}, "finished", evaluations=curve, metric="f1"))
        [(9, 0.7)]
    """
    points = [
        (int(step), float(metrics[run.metric]))
        for step, metrics in run.evaluations
        if run.metric in metrics and math.isfinite(metrics[run.metric])
    ]
    return sorted(points, key=lambda point: point[0])


def steps_in_epoch(runs: Sequence[Run]) -> float | None:
    """Returns the optimizer steps of an epoch as the runs' configuration has them, or None.

    The steps of the longest finished run over `num_train_epochs`; `max_steps` says nothing.

    Example:
        >>> settings = {"num_train_epochs": 3}
        >>> steps_in_epoch([Run("plain", {}, "finished", steps=48, configuration=settings)])
        16.0
    """
    found = []
    for run in runs:
        epochs = run.configuration.get("num_train_epochs")
        counted_in_steps = (run.configuration.get("max_steps") or -1) > 0
        if epochs and run.steps and run.status == "finished" and not counted_in_steps:
            found.append(run.steps / float(epochs))
    return max(found, default=None)
