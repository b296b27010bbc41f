"""What is the outcome of a study, in one sentence?

It names what won, by how much, how sure that is and at which cost, or says that no difference can
be claimed, and why. A claim needs p <= .05 in the exact paired test, corrected for the number of
comparisons; on a grid of seeds that test counts independent units instead of pairs. The spread is
judged by its own test, apart from the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.ablations.ablation import comparisons_of_study
from hf_stabilizer.studies.comparison import Comparison
from hf_stabilizer.studies.seeds.seed_grid import WORDS
from hf_stabilizer.studies.statistics import (
    RecipeSummary,
    final_score,
    pairs_needed,
    summary_rows,
)

if TYPE_CHECKING:
    from hf_stabilizer.studies.study import Study

LEVEL = 0.05
"""Largest p-value with which a difference is claimed."""

Outcome = Literal["better", "worse", "open"]


def verdict(study: Study) -> str:
    """Returns the outcome of the study in one plain sentence, without markup.

    Example:
        >>> from hf_stabilizer import Run, Study
        >>> def run(recipe, seed, score):
        ...     return Run(recipe, {"seed": seed}, "finished", best_score=score)
        >>> runs = [run("plain", seed, 0.5 + seed / 50) for seed in range(6)]
        >>> runs += [run("swa", seed, 0.8) for seed in range(6)]
        >>> print(verdict(Study("demo", ("plain", "swa"), tuple(runs), "accuracy", True)))
        swa beats plain by 0.250 accuracy: 0.800 against 0.550 (95 % interval 0.200 to 0.300,
        p = 0.031, better with 6 of 6 seeds), and its spread fell from 0.037 to 0.000 (p = 0.031).
    """
    return "".join(verdict_parts(study))


def verdict_parts(study: Study) -> tuple[str, str]:
    """Returns the sentence in two parts: the claim, and what stands behind it."""
    rows = summary_rows(study.runs, study.recipes)
    if not any(row.scored for row in rows):
        return _without_scores(rows)
    decimals = study_decimals(study)
    if len(rows) == 1:
        return _alone(rows[0], study.metric, decimals)
    if not study.comparable:
        return _side_by_side(rows, study.metric, decimals)
    found = comparisons_of_study(study)
    chosen = focus(found)
    decimals = formats.decimals_to_tell(chosen.mean_difference, decimals)
    claim, evidence = _difference(chosen, study.metric, decimals)
    if chosen.smallest_p <= LEVEL:
        evidence += _cost(chosen, rows) + _spread(chosen, decimals) + _others(found, chosen)
    return claim, f"{evidence}{_mixed_rows(study, chosen)}{_failures(rows)}."


def study_decimals(study: Study) -> int:
    """Returns the number of decimals in which this study's scores are written."""
    return formats.decimals_for(s for run in study.runs if (s := final_score(run)) is not None)


def scored_rows(study: Study) -> str:
    """Returns which rows the final scores are from: "test", "validation", or both.

    Example:
        >>> from hf_stabilizer import Run, Study
        >>> runs = (Run("a", {}, "finished", best_score=0.7, test_score=0.6),)
        >>> scored_rows(Study("demo", ("a",), runs, "f1", True))
        'test'
        >>> runs += (Run("a", {}, "finished", best_score=0.7),)
        >>> scored_rows(Study("demo", ("a",), runs, "f1", True))
        'test and validation'
    """
    tested = {run.test_score is not None for run in study.runs if final_score(run) is not None}
    return " and ".join(["test"] * (True in tested) + ["validation"] * (tested != {True}))


def outcome(comparison: Comparison) -> Outcome:
    """Returns whether the candidate may be called better or worse, or the question is open."""
    if comparison.p_value is None or comparison.p_value > LEVEL:
        return "open"
    return "better" if (comparison.gain or 0.0) > 0 else "worse"


def focus(found: Sequence[Comparison]) -> Comparison:
    """Returns the comparison that the verdict is about.

    The largest gain that can be claimed; if there is none, the largest among the open ones; if
    the baseline beats all, its closest rival.
    """
    for wanted in ("better", "open", "worse"):
        candidates = [c for c in found if outcome(c) == wanted]
        if candidates:
            return max(candidates, key=lambda c: -float("inf") if c.gain is None else c.gain)
    raise ValueError("focus needs at least one comparison, got none")


def times(ratio: float) -> str:
    """Returns how many times the time something takes, never as nothing.

    Example:
        >>> times(1.234), times(0.04)
        ('1.2', '0.04')
    """
    return f"{ratio:.1f}" if ratio >= 0.1 else f"{ratio:.1g}"


def _without_scores(rows: Sequence[RecipeSummary]) -> tuple[str, str]:
    runs, failed = sum(row.runs for row in rows), sum(row.failed for row in rows)
    if runs == 0:
        return "Nothing can be said yet: ", "no run is over."
    counted = f"all {runs} runs" if runs > 1 else "the only run"
    if failed == runs:
        return "Nothing can be said: ", f"{counted} failed without a score."
    if stopped := sum(row.stopped for row in rows):
        ends = f"{failed} failed and {stopped} were stopped early"
        return "Nothing can be said: ", f"no run has a final score: {ends}."
    return "Nothing can be said: ", f"no run has a final score, and {failed} of {runs} failed."


def _alone(row: RecipeSummary, metric: str, decimals: int) -> tuple[str, str]:
    claim = f"{row.recipe} scored {formats.number(row.mean, decimals)} {metric} "
    if row.std is None:
        evidence = "in a single run, which says nothing about how far the next one may fall"
    else:
        evidence = (
            f"on average over {row.scored} runs, with a standard deviation of "
            f"{formats.number(row.std, decimals)} and a worst run of "
            f"{formats.number(row.worst, decimals)}; there is no other recipe to compare it with"
        )
    return claim, f"{evidence}{_failures([row])}."


def _side_by_side(rows: Sequence[RecipeSummary], metric: str, decimals: int) -> tuple[str, str]:
    means = [row.mean for row in rows if row.mean is not None]
    low, high = (formats.number(end, decimals) for end in (min(means), max(means)))
    claim = "These are not compared: "
    evidence = (
        f"{len(rows)} members, each scored on rows of its own, have mean scores from {low} to "
        f"{high} {metric}"
    )
    return claim, f"{evidence}{_failures(rows)}."


def _difference(chosen: Comparison, metric: str, decimals: int) -> tuple[str, str]:
    nothing = f"No difference can be claimed between {chosen.baseline} and {chosen.candidate}: "
    needed = pairs_needed(level=LEVEL, comparisons=chosen.among)
    if chosen.mean_difference is None:
        return nothing, "there are no seeds under which both have a final score"
    if chosen.smallest_p > LEVEL:
        return nothing, _too_few(chosen, metric, decimals, needed)
    certainty = _certainty(chosen, decimals)
    if outcome(chosen) == "open":
        if formats.is_tie(chosen.mean_difference, decimals):
            return nothing, f"their mean {metric} is the same ({certainty})"
        change = formats.number(chosen.mean_difference, decimals, signed=True)
        return nothing, f"the mean changes by {change} {metric} ({certainty})"
    winner, loser = _order(chosen)
    gain = formats.number(abs(chosen.mean_difference), decimals)
    evidence = f"{_means(chosen, decimals)} ({certainty})"
    return f"{winner} beats {loser} by {gain} {metric}: ", evidence


def _too_few(chosen: Comparison, metric: str, decimals: int, needed: int) -> str:
    if chosen.grid:
        reason = (
            f"{chosen.held}, cannot reach p < {LEVEL} in an exact test, whatever they show "
            f"({needed} of each seed can)"
        )
    elif chosen.unpaired:
        reason = (
            f"{chosen.held} cannot reach p < {LEVEL} in an exact test, whatever they show "
            f"({needed} pairs of runs with the same seeds can)"
        )
    else:
        reason = (
            f"{chosen.held} of runs cannot reach p < {LEVEL} in an exact paired test, whatever "
            f"they show ({needed} can)"
        )
    if not chosen.gain or formats.is_tie(chosen.gain, decimals):
        return f"{reason}; so far their mean {metric} is the same"
    leader, behind = _order(chosen)
    lead = formats.number(abs(chosen.gain), decimals)
    return f"{reason}; so far {leader} leads {behind} by {lead} {metric}"


def _order(chosen: Comparison) -> tuple[str, str]:
    """Names of the better and the worse recipe by their means."""
    names = (chosen.candidate, chosen.baseline)
    return names if (chosen.gain or 0.0) > 0 else names[::-1]


def _means(chosen: Comparison, decimals: int) -> str:
    told = chosen.unpaired or chosen.grid
    if told:
        exact = [told.candidate_mean, told.baseline_mean]
    else:
        sums = [sum(p.candidate for p in chosen.pairs), sum(p.baseline for p in chosen.pairs)]
        exact = [total / len(chosen.pairs) for total in sums]
    means = [formats.number(mean, decimals) for mean in exact]
    winner, loser = means if outcome(chosen) == "better" else means[::-1]
    return f"{winner} against {loser}{'' if chosen.greater_is_better else ', lower is better'}"


def _certainty(chosen: Comparison, decimals: int) -> str:
    claimed, pairs, count = outcome(chosen), len(chosen.pairs), chosen.among
    parts = []
    if chosen.interval:
        low, high = chosen.interval
        if claimed != "open" and (chosen.mean_difference or 0.0) < 0:
            low, high = -high, -low  # "beats by" is always positive
        ends = [formats.number(x, decimals, signed=claimed == "open") for x in (low, high)]
        parts.append(f"95 % interval {ends[0]} to {ends[1]}")
    corrected = f" after correction for {count} comparisons" if count > 1 else ""
    parts.append(formats.p_value(chosen.p_value) + corrected)
    if claimed == "open" or chosen.unpaired:
        parts.append(chosen.held)
    else:
        share = chosen.superiority or 0.0
        wins = (share if claimed == "better" else 1 - share) * pairs
        parts.append(f"better with {wins:g} of {_won(chosen)}")
    if pairs > 1 and chosen.given:
        parts.append("all with " + " and ".join(f"{WORDS[n]} seed {s}" for n, s in chosen.given))
    if chosen.dropped:
        parts.append(f"{chosen.dropped} more without both scores")
    return ", ".join(parts)


def _won(chosen: Comparison) -> str:
    return chosen.held if chosen.grid else f"{len(chosen.pairs)} seeds"


def _cost(chosen: Comparison, rows: Sequence[RecipeSummary]) -> str:
    seconds = {row.recipe: row.seconds for row in rows}
    first, second = _order(chosen)
    if outcome(chosen) == "open" or not (seconds[first] and seconds[second]):
        return ""
    return (
        f", at {times(seconds[first] / seconds[second])} times the time "
        f"({formats.duration(seconds[first])} against {formats.duration(seconds[second])} a run)"
    )


def _spread(chosen: Comparison, decimals: int) -> str:
    if chosen.spread_p is None:
        return ""
    before = formats.number(chosen.baseline_std, decimals)
    after = formats.number(chosen.candidate_std, decimals)
    fell = (chosen.candidate_std or 0.0) < (chosen.baseline_std or 0.0)
    sure = chosen.spread_p <= LEVEL
    certainty = formats.p_value(chosen.spread_p)
    if outcome(chosen) == "better" and fell and sure:
        return f", and its spread fell from {before} to {after} ({certainty})"
    both = f"{before} with {chosen.baseline} and {after} with {chosen.candidate}"
    if sure:
        return f", but the spread differs: {both} ({certainty})"
    return f"; the spread, {both}, may differ by chance ({certainty})"


def _others(found: Sequence[Comparison], chosen: Comparison) -> str:
    words = {
        "better": f"also better than {chosen.baseline}",
        "worse": f"worse than {chosen.baseline}",
        "open": f"no difference from {chosen.baseline} can be claimed for",
    }
    sentence = ""
    for kind, words_for_kind in words.items():
        names = [c.candidate for c in found if c is not chosen and outcome(c) == kind]
        if names:
            sentence += f"; {words_for_kind}: {', '.join(names)}"
    return sentence


def _mixed_rows(study: Study, chosen: Comparison) -> str:
    """Says so where scores of test rows are held against scores of validation rows."""
    scored = [
        run
        for run in (*study.of(chosen.baseline), *study.of(chosen.candidate))
        if final_score(run) is not None
    ]
    if chosen.unpaired:
        mixed = len({run.test_score is not None for run in scored}) > 1
        return "; test scores are held against validation scores" if mixed else ""
    tested = {
        (run.recipe, tuple(sorted(run.seeds.items()))): run.test_score is not None for run in scored
    }
    count = sum(
        tested[chosen.baseline, pair.seeds] != tested[chosen.candidate, pair.seeds]
        for pair in chosen.pairs
    )
    if not count:
        return ""
    pairs = "1 pair holds" if count == 1 else f"{count} pairs hold"
    return f"; {pairs} a test score against a validation score"


def _failures(rows: Sequence[RecipeSummary]) -> str:
    failed = [f"{row.failed} of {_ended(row)} with {row.recipe}" for row in rows if row.failed]
    lost = [
        f"{row.lost_when_stopped} of {row.stopped} with {row.recipe}"
        for row in rows
        if row.lost_when_stopped
    ]
    text = f"; failed runs: {', '.join(failed)}" if failed else ""
    return f"{text}; collapsed when they were stopped: {', '.join(lost)}" if lost else text


def _ended(row: RecipeSummary) -> str:
    """Whether a run that was stopped would have failed is not known."""
    return f"the {row.ended} not stopped" if row.stopped else f"{row.ended}"
