"""How does each recipe differ from the baseline under the same seeds? What would a claim take?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hf_stabilizer.studies.ablations.ablation import comparisons_of_study
from hf_stabilizer.studies.comparison import Comparison
from hf_stabilizer.studies.findings.finding import Record, ends
from hf_stabilizer.studies.statistics import SeedsNeeded, max_t_p_values, seeds_needed
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.verdict import Outcome, outcome

MOST_PAIRS = 200
"""Pairs up to which it is looked how many a claim would need."""


@dataclass(frozen=True)
class PairedDifference:
    """One recipe against the baseline."""

    comparison: Comparison
    """Pairs, mean difference, interval, p-value (Holm's correction), probability of superiority."""
    outcome: Outcome
    """"better", "worse" or "open", as the verdict has it."""
    needed: SeedsNeeded | None
    """How many pairs the claim would take, at the difference seen, on a grid of seeds how many
    independent units; None below three of them."""
    max_t_p: float | None
    """The p-value corrected by the largest T instead (`max_t_p_values`); None without pairs, and on
    a grid of seeds, where pairs are not independent."""

    @property
    def needed_words(self) -> str:
        """What the claim would need, in words; empty where nothing can be said."""
        if self.comparison.unpaired or self.needed is None:
            return ""
        if self.outcome != "open":
            return "none"
        if self.needed.needed is None:
            return f"more than {MOST_PAIRS - self.needed.pairs}"
        return f"about {max(1, self.needed.more or 0)}"


@dataclass(frozen=True)
class PairedDifferences:
    """Every recipe against the baseline."""

    metric: str
    """Name of the metric."""
    greater_is_better: bool
    """Its direction."""
    baseline: str
    """Name of the recipe compared with."""
    candidates: tuple[PairedDifference, ...]
    """One entry for each other recipe, in the study's order."""

    def records(self) -> list[Record]:
        """Returns one row for each recipe but the baseline."""
        return [_record(one) for one in self.candidates]

    def pair_records(self) -> list[Record]:
        """Returns one row for each pair of runs."""
        return [
            {
                "baseline": self.baseline,
                "candidate": one.comparison.candidate,
                **dict(pair.seeds),
                "baseline_score": pair.baseline,
                "candidate_score": pair.candidate,
                "difference": pair.difference,
            }
            for one in self.candidates
            for pair in one.comparison.pairs
        ]


def find(study: Study) -> PairedDifferences | None:
    """Returns the differences, or None where there is one recipe, or no score to compare.

    Example:
        >>> from hf_stabilizer import Run
        >>> def run(recipe, seed, score):
        ...     return Run(recipe, {"seed": seed}, "finished", best_score=score)
        >>> runs = [run("plain", s, 0.5) for s in range(6)]
        >>> runs += [run("swa", s, 0.5 + s / 100) for s in range(6)]
        >>> one, = find(Study("demo", ("plain", "swa"), tuple(runs), "f1", True)).candidates
        >>> one.outcome, one.comparison.p_value, one.needed_words
        ('open', 0.0625, 'about 2')
    """
    if len(study.recipes) < 2:
        return None
    found = comparisons_of_study(study)
    if all(one.mean_difference is None for one in found):
        return None
    corrected = _max_t(found)
    return PairedDifferences(
        metric=study.metric,
        greater_is_better=study.greater_is_better,
        baseline=study.recipes[0],
        candidates=tuple(
            PairedDifference(
                comparison=one,
                outcome=outcome(one),
                needed=seeds_needed(one.units, comparisons=one.among, most=MOST_PAIRS),
                max_t_p=p,
            )
            for one, p in zip(found, corrected, strict=True)
        ),
    )


def _max_t(found: Sequence[Comparison]) -> list[float | None]:
    seeds = list(dict.fromkeys(pair.seeds for one in found for pair in one.pairs))
    rows = []
    for one in found:
        known = {pair.seeds: pair.difference for pair in one.pairs}
        rows.append([known.get(name, math.nan) for name in seeds])
    p_values = max_t_p_values(rows)
    if any(one.grid for one in found):
        return [None] * len(found)
    return [p if one.pairs else None for one, p in zip(found, p_values, strict=True)]


def _record(one: PairedDifference) -> Record:
    found, needed = one.comparison, one.needed
    low, high = ends(found.interval)
    superiority_low, superiority_high = ends(found.superiority_interval)
    return {
        "baseline": found.baseline,
        "candidate": found.candidate,
        "outcome": one.outcome,
        "pairs": len(found.pairs),
        "units": len(found.units),
        "dropped": found.dropped,
        "mean_difference": found.mean_difference,
        "low": low,
        "high": high,
        "p_value": found.p_value,
        "max_t_p": one.max_t_p,
        "smallest_p": found.smallest_p,
        "comparisons": found.among,
        "superiority": found.superiority,
        "superiority_low": superiority_low,
        "superiority_high": superiority_high,
        "baseline_std": found.baseline_std,
        "candidate_std": found.candidate_std,
        "spread_p": found.spread_p,
        "units_needed": None if needed is None else needed.needed,
        "power_now": None if needed is None else needed.power_now,
        "words": found.words,
    }
