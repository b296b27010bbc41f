"""What did stopping early cost and save, who was cut, and does the early ranking foretell the last?

For a study that stopped early: the runs in the order of the stop. For one that did not: how well
the ranking at each fraction of training foretells the ranking at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from hf_stabilizer.errors import DataError
from hf_stabilizer.records import Run
from hf_stabilizer.studies.early_stopping.choosing import choose
from hf_stabilizer.studies.findings.finding import Record, ends
from hf_stabilizer.studies.statistics import (
    Curves,
    EarlyRank,
    Spent,
    cost,
    curves_of,
    early_ranks,
    final_score,
    score_curve,
    spent,
)
from hf_stabilizer.studies.statistics.curves import FEWEST_RUNS, losing
from hf_stabilizer.studies.study import Study

Fate = Literal["went on", "stopped", "failed before"]


@dataclass(frozen=True)
class RankedRun:
    """A run and its place when the bad ones were stopped."""

    run: Run
    """The run as it ended."""
    rank: int
    """Its place among the runs of its recipe, 1 is the best."""
    score: float | None
    """Best validation score up to the stop; None without one."""
    fate: Fate
    """What became of it."""

    @property
    def final(self) -> float | None:
        """Its final score; None for one that was stopped or has none."""
        return final_score(self.run)


@dataclass(frozen=True)
class StoppedRecipe:
    """What stopping early came to for one recipe."""

    recipe: str
    """Name of the recipe."""
    stop_step: int
    """Optimizer step at which runs were halted and ranked."""
    whole_steps: int
    """Steps of a whole run."""
    asked: float
    """(t f + p (1 - f)) in full runs, t the runs asked for."""
    spent: Spent
    """What was spent: steps, seconds, full runs, and the share saved."""
    saved_runs: float
    """Full runs not trained."""
    saved_seconds: float
    """The seconds that they would have taken at the mean seconds per step."""
    ranked: tuple[RankedRun, ...]
    """Runs in the order of the stop."""
    margin: float | None
    """How much better the last one that went on was than the first one stopped, in units of the
    metric; 0 is a tie that the seeds decided."""


@dataclass(frozen=True)
class EarlyRanking:
    """How well early rankings foretell the last one, from the whole runs of one recipe."""

    recipe: str
    """Name of the recipe."""
    runs: int
    """Whole runs behind it."""
    ranks: tuple[EarlyRank, ...]
    """Rank correlations at each fraction at which runs were evaluated."""
    keep_for_best: tuple[int, ...]
    """At each of these, how many runs had to go on for the best of all to be among them; runs
    that tie there count as before it."""

    @property
    def costs(self) -> tuple[float, ...]:
        """Cost of a study that stops there and keeps so many, as a share of all whole runs."""
        pairs = zip(self.ranks, self.keep_for_best, strict=True)
        return tuple(cost(self.runs, rank.fraction, keep) / self.runs for rank, keep in pairs)


@dataclass(frozen=True)
class EarlyStopping:
    """Early stopping as it was done, or as it could have been."""

    metric: str
    """Name of the metric."""
    greater_is_better: bool
    """Its direction."""
    stop_at: float | None
    """f; None: no run was stopped early."""
    keep: int | None
    """p."""
    stopped: tuple[StoppedRecipe, ...]
    """For a study that stopped early: one entry for each recipe that got beyond the stop."""
    rankings: tuple[EarlyRanking, ...]
    """For a study that did not: one entry for each recipe with three whole runs or more."""

    def records(self) -> list[Record]:
        """Returns one row for each run at the stop, or for each fraction of the early rankings."""
        return self.run_records() or self.rank_records()

    def cost_records(self) -> list[Record]:
        """Returns one row for each recipe that stopped early."""
        return [
            {
                "recipe": one.recipe,
                "stop_step": one.stop_step,
                "whole_steps": one.whole_steps,
                "asked_full_runs": one.asked,
                "spent_full_runs": one.spent.full_runs,
                "spent_steps": one.spent.steps,
                "spent_seconds": one.spent.seconds,
                "saved_share": one.spent.saved,
                "saved_full_runs": one.saved_runs,
                "saved_seconds": one.saved_seconds,
                "margin": one.margin,
            }
            for one in self.stopped
        ]

    def run_records(self) -> list[Record]:
        """Returns one row for each run of a study that stopped early."""
        return [
            {
                "recipe": one.recipe,
                "rank": ranked.rank,
                **ranked.run.seeds,
                "stop_step": one.stop_step,
                "score_at_stop": ranked.score,
                "fate": ranked.fate,
                "steps": ranked.run.steps,
                "final_score": ranked.final,
            }
            for one in self.stopped
            for ranked in one.ranked
        ]

    def rank_records(self) -> list[Record]:
        """Returns one row for each recipe and fraction of training."""
        return [
            {
                "recipe": one.recipe,
                "runs": one.runs,
                "fraction": rank.fraction,
                "spearman": rank.spearman,
                "low": ends(rank.interval)[0],
                "high": ends(rank.interval)[1],
                "kendall": rank.kendall,
                "keep_for_best": keep,
                "cost_share": share,
            }
            for one in self.rankings
            for rank, keep, share in zip(one.ranks, one.keep_for_best, one.costs, strict=True)
        ]


def find(study: Study) -> EarlyStopping | None:
    """Returns what early stopping did, or would have done; None where the runs do not tell.

    Example:
        >>> def run(seed, *scores, status="finished"):
        ...     curve = tuple((10 * k, {"f1": s}) for k, s in enumerate(scores, 1))
        ...     return Run("plain", {"seed": seed}, status, "", curve, "f1", True, max(scores),
        ...                steps=10 * len(scores), seconds=float(len(scores)))
        >>> runs = (run(1, 0.6, 0.9), run(2, 0.5, status="stopped"), run(3, 0.4, status="stopped"))
        >>> study = Study("demo", ("plain",), runs, "f1", True, stop_at=0.5, keep=1)
        >>> found, = find(study).stopped
        >>> found.asked, found.spent.full_runs, found.saved_seconds, round(found.margin, 2)
        (2.0, 2.0, 2.0, 0.1)

    Source: Dodge et al. 2020, arXiv 2002.06305, section 5.
    """
    stopped = tuple(one for recipe in study.recipes if (one := _stopped(study, recipe)))
    whole = study.recipes if study.stop_at is None else ()
    rankings = tuple(found for recipe in whole if (found := _ranking(study, recipe)))
    if not stopped and not rankings:
        return None
    return EarlyStopping(
        metric=study.metric,
        greater_is_better=study.greater_is_better,
        stop_at=study.stop_at,
        keep=study.keep,
        stopped=stopped,
        rankings=rankings,
    )


def _stopped(study: Study, recipe: str) -> StoppedRecipe | None:
    runs = study.of(recipe)
    cut = [run.steps for run in runs if run.status == "stopped"]
    whole = max((run.steps for run in runs if run.status != "stopped"), default=0)
    if study.stop_at is None or study.keep is None or not cut or whole <= max(cut):
        return None
    ranked = _ranked(runs, max(cut), study.keep)
    started = max(len(study.seeds), len(runs))
    done = spent(runs, stop_at=study.stop_at)
    saved = len(runs) - done.full_runs
    return StoppedRecipe(
        recipe=recipe,
        stop_step=max(cut),
        whole_steps=whole,
        asked=cost(started, study.stop_at, min(study.keep, started)),
        spent=done,
        saved_runs=saved,
        saved_seconds=saved * done.seconds / done.full_runs,
        ranked=ranked,
        margin=_margin(ranked, study.greater_is_better),
    )


def _ranked(runs: Sequence[Run], step: int, keep: int) -> tuple[RankedRun, ...]:
    """The runs in the order in which the study ranked them at the stop."""
    then = {Path(str(place)): _at(run, step) for place, run in enumerate(runs)}
    found = []
    for one in choose(then, keep=keep):
        run = runs[int(str(one.folder))]
        gone = one.run.status == "failed"
        fate: Fate = (
            "stopped" if run.status == "stopped" else "failed before" if gone else "went on"
        )
        found.append(RankedRun(run, one.rank, one.run.best_score, fate))
    return tuple(found)


def _at(run: Run, step: int) -> Run:
    """The run as it stood at the stop: what came later was not known."""
    better = max if run.greater_is_better else min
    score = better((score for at, score in score_curve(run) if at <= step), default=None)
    has_failed = run.status == "failed" and run.steps <= step
    status: Literal["failed", "stopped"] = "failed" if has_failed else "stopped"
    # What a run had against it then, such as a collapse, stands behind the words of the stop.
    _, _, known = run.reason.partition(" went on; ") if run.status == "stopped" else ("", "", "")
    reason = run.reason or "failed" if has_failed else known
    return replace(run, status=status, reason=reason, best_score=score)


def _margin(ranked: Sequence[RankedRun], greater_is_better: bool) -> float | None:
    kept = [one.score for one in ranked if one.fate == "went on"]
    cut = [one.score for one in ranked if one.fate == "stopped"]
    if not kept or not cut or kept[-1] is None or cut[0] is None:
        return None
    return kept[-1] - cut[0] if greater_is_better else cut[0] - kept[-1]


def _ranking(study: Study, recipe: str) -> EarlyRanking | None:
    try:
        curves = curves_of(study.of(recipe))
    except DataError:  # no evaluation before the end of a run: nothing was known early
        return None
    if int(np.isfinite(curves.final).sum()) < FEWEST_RUNS:
        return None
    return EarlyRanking(recipe, len(curves.final), early_ranks(curves), _keep_for_best(curves))


def _keep_for_best(curves: Curves) -> tuple[int, ...]:
    early, final = losing(curves.so_far, curves), losing(curves.final, curves)
    best = np.flatnonzero(final == final.max())
    ranks = [(column[None, :] >= column[best, None]).sum(axis=1).min() for column in early.T]
    return tuple(int(rank) for rank in ranks)
