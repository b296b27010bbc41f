"""What in the evaluations goes wrong in silence? The best of many looks at few rows."""

from __future__ import annotations

import math
from statistics import NormalDist

from transformers.trainer_utils import SaveStrategy

from hf_stabilizer.silent_mistakes.finding import Finding
from hf_stabilizer.silent_mistakes.plan import Plan

OPTIMISM = 0.03


def optimistic_best(plan: Plan) -> Finding | None:
    """The best of k noisy scores lies above the truth.

    An accuracy near .5 on n rows has a standard error of .5 / sqrt(n); the largest of k independent
    ones lies z((k - .375) / (k + .25)) of it above the truth (Blom 1958, z the normal quantile).
    Looks at one run are alike, so it is that at most.
    """
    looks, rows = len(plan.evaluations or ()), plan.evaluation_rows
    chooses = plan.args.load_best_model_at_end or (
        SaveStrategy(plan.args.save_strategy) == SaveStrategy.BEST
    )
    if not rows or looks < 2 or not chooses:
        return None
    optimism = 0.5 / math.sqrt(rows) * NormalDist().inv_cdf((looks - 0.375) / (looks + 0.25))
    if optimism < OPTIMISM:
        return None
    return Finding(
        "optimistic-best",
        "note",
        f"the best of {looks} evaluations on {rows} validation rows may stand up to "
        f"{optimism:.2f} above the truth (accuracy)",
        "where there are test rows, report their score: they chose nothing",
    )
