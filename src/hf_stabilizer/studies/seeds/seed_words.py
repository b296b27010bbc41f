"""What can be claimed of the seeds of a study, in plain sentences?

A claim needs p <= .05 by shuffling, as in the verdict; where it is missed the sentence says that
nothing can be claimed, not that there is nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.seeds.seed_effects import SeedEffects
from hf_stabilizer.studies.statistics import RankAgreement, SeedMean, final_score
from hf_stabilizer.studies.verdict import LEVEL

GRID = "run a grid: `hf-stabilizer study ... --head-seeds 6 --data-seeds 6`"


def sentences(one: SeedEffects) -> list[str]:
    """Returns what can be claimed of the seeds of one recipe, and what cannot."""
    if not one.varied:
        return [f"There is one run, so nothing can be said of its seeds; {GRID}."]
    names = [one.words[name] for name in one.varied]
    if one.vary_together:
        listed = f"{', '.join(names[:-1])} and {called(names[-1])}"
        return [f"The {listed} vary together, so what each does cannot be told apart; {GRID}."]
    if one.pair is None:
        return [
            f"Only the {called(names[0])} varies, so its own part of the spread cannot be told "
            f"from chance; {GRID}."
        ]
    if one.analysis is None:
        return [f"The grid has too many holes to tell {names[0]} and {names[1]} apart; {GRID}."]
    found = [_factor_sentence(one, name) for name in names[:2]]
    found.append(_hunt(names[0], one.heads, decimals_of(one)))
    if one.left_out:
        found.append(f"{runs_counted(one.left_out)} without a final score left out.")
    return found


def agreement_sentence(recipe: str, found: RankAgreement | None) -> str:
    """Returns whether heads that are good on one data set are good on the others.

    Example:
        >>> from hf_stabilizer.studies.statistics import rank_agreement
        >>> scores = {"a": {1: 0.7, 2: 0.8, 3: 0.9}, "b": {1: 0.5, 2: 0.6, 3: 0.8}}
        >>> print(agreement_sentence("plain", rank_agreement(scores)))
        plain: that the heads that are good on a are good on b, too, cannot be claimed: rank
        correlation 1.00, p = 0.17 with 3 heads.
    """
    if found is None:
        return f"{recipe}: fewer than three heads are shared, which is too few to compare ranks."
    first, *others = found.data_sets
    on = f"the heads that are good on {first} are good on {' and '.join(others)}, too"
    heads = f"with {len(found.seeds)} heads"
    if len(others) == 1 and found.spearman[0][2] is not None:
        how = f"rank correlation {found.spearman[0][2]:.2f}"
    else:
        how = f"Kendall's W {found.kendall_w:.2f}"
    how = f"{how}, {formats.p_value(found.p_value)} {heads}"
    if found.p_value > LEVEL:
        return f"{recipe}: that {on}, cannot be claimed: {how}."
    best = ", ".join(str(seed) for seed in found.seeds[:3])
    return f"{recipe}: {on}: {how}; the best over all: {best}."


def runs_counted(count: int) -> str:
    """Returns "one run", "6 runs"."""
    return "one run" if count == 1 else f"{count} runs"


def called(name: str) -> str:
    """Returns "head seed"; a script's one seed is "seed"."""
    return name if name == "seed" else f"{name} seed"


def decimals_of(one: SeedEffects) -> int:
    """Returns the decimals in which its scores are written."""
    scores = [s for run in one.runs if (s := final_score(run)) is not None]
    return formats.decimals_for(scores)


def _factor_sentence(one: SeedEffects, name: str) -> str:
    assert one.analysis is not None
    factor = one.analysis[name]
    what = {"data": "data order"}.get(name, name)
    p = formats.p_value(factor.shuffled_p)
    if factor.shuffled_p is None or factor.shuffled_p > LEVEL:
        return f"That the {what} makes a difference cannot be claimed ({p})."
    return f"The {what} makes a difference: {100 * factor.share:.0f} % of the variance ({p})."


def _hunt(name: str, means: Sequence[SeedMean], decimals: int) -> str:
    """Whether a seed is good, or bad, whatever it is joined with."""
    sure = [mean for mean in means if mean.p_value is not None and mean.p_value <= LEVEL]
    chance = f"as the luckiest of {len(means)} would have to be"
    if not sure:
        least = min((m.p_value for m in means if m.p_value is not None), default=None)
        return (
            f"No {called(name)} is clearly better or worse than the others, {chance} "
            f"(the clearest: {formats.p_value(least)})."
        )
    told = [
        f"{mean.seed} by {formats.number(mean.effect, decimals, signed=True)} "
        f"({formats.p_value(mean.p_value)})"
        for mean in sure
    ]
    plural = "s differ" if len(sure) > 1 else " differs"
    who = f"{len(sure)} {called(name)}{plural}"
    return f"{who} clearly from the others, {chance}: {', '.join(told)}."
