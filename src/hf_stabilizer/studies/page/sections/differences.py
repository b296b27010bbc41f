"""By how much does each recipe differ from the baseline, pair by pair, and what would be needed?"""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.comparison import Comparison, Pair
from hf_stabilizer.studies.findings.paired_differences import (
    MOST_PAIRS,
    PairedDifference,
    PairedDifferences,
    find,
)
from hf_stabilizer.studies.page.charts import key_of, seeds_text, short
from hf_stabilizer.studies.page.section import Section
from hf_stabilizer.studies.page.sections.lanes import Lane, Mark, lanes_chart
from hf_stabilizer.studies.page.sections.markup import (
    Cell,
    between,
    direction,
    figure,
    number,
    remark,
    sorted_by_p,
    table,
    words,
)
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.verdict import LEVEL, study_decimals

LONGEST = 20
"""Letters of the baseline's name below the drawing."""
OUTCOMES = {"better": "better", "worse": "worse", "open": "open"}
HEADS = (
    "Recipe",
    "Pairs",
    "Difference",
    "95 % interval",
    "p",
    "Least p",
    "Outcome",
    "Chance to be better",
    "Seeds to add",
)


def section(study: Study) -> Section | None:
    """Returns the differences of all recipes from the baseline on one scale, with a table."""
    found = find(study)
    if found is None:
        return None
    decimals = study_decimals(study)
    lanes = [
        _lane(one, decimals, study.recipes.index(one.comparison.candidate))
        for one in found.candidates
    ]
    against = f"{found.metric} minus that of {short(found.baseline, LONGEST)}"
    axis = direction(against, found.greater_is_better)
    title = f"{found.metric} of each recipe minus that of {found.baseline}"
    chart = lanes_chart("differences", lanes, title=title, axis=axis, zero=0.0)
    caption = (
        "A dot is a pair of runs with the same seeds: filled where the recipe was better, hollow "
        "where it was worse. The bar is the mean difference, the band its 95 % interval; a band "
        "that leaves out the dashed line is a claim before correction for several recipes."
    )
    rows = [_row(one, decimals) for one in found.candidates]
    return Section(
        anchor="differences",
        title="Differences from the baseline",
        lead=words(_lead(found)),
        body=Markup("").join(
            [
                figure(chart, caption=caption),
                table("Differences from the baseline", HEADS, rows),
                *_remarks(found),
            ]
        ),
        records=tuple(found.records()),
    )


def _lead(found: PairedDifferences) -> str:
    better, worse = (
        [one.comparison.candidate for one in found.candidates if one.outcome == outcome]
        for outcome in ("better", "worse")
    )
    among = len(found.candidates)
    corrected = f", corrected for {among} comparisons" if among > 1 else ""
    if not better and not worse:
        is_bounded = any(one.comparison.interval for one in found.candidates)
        limit = "the intervals say" if is_bounded else "there are too few pairs to say"
        return (
            f"No difference from {found.baseline} can be claimed at p <= {LEVEL}{corrected}. That "
            f"is no proof that there is none: {limit} how large it may be."
        )
    parts = [f"{_joined(better)} better"] if better else []
    parts += [f"{_joined(worse)} worse"] if worse else []
    open_ = among - len(better) - len(worse)
    rest = f"; the other {open_} cannot be told from it" if open_ else ""
    return (
        f"Against {found.baseline}: {', '.join(parts)} (p <= {LEVEL}{corrected}){rest}. The exact "
        "paired test takes nothing as normal."
    )


def _joined(names: list[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"


def _lane(one: PairedDifference, decimals: int, place: int) -> Lane:
    found = one.comparison
    mean = formats.number(found.mean_difference, decimals, signed=True)
    sure = formats.p_value(found.p_value)
    interval = between(found.interval, decimals, signed=True)
    title = f"{found.candidate}: mean difference {mean}"
    return Lane(
        name=found.candidate,
        note=words(f"{mean}, {sure}"),
        place=place,
        mean=found.mean_difference,
        interval=found.interval,
        title=words(title + (f", 95 % interval {interval}" if found.interval else "")),
        marks=tuple(_mark(pair, found, decimals) for pair in found.pairs),
    )


def _mark(pair: Pair, found: Comparison, decimals: int) -> Mark:
    gain = pair.difference if found.greater_is_better else -pair.difference
    change = formats.number(pair.difference, decimals, signed=True)
    keys = (key_of(recipe, dict(pair.seeds)) for recipe in (found.baseline, found.candidate))
    return Mark(
        value=pair.difference,
        title=words(
            f"{seeds_text(pair.seeds)}: {change}, {found.candidate} "
            f"{formats.number(pair.candidate, decimals)} against "
            f"{formats.number(pair.baseline, decimals)}"
        ),
        key=" ".join(keys),
        kind="gain" if gain > 0 else "loss" if gain < 0 else "tie",
    )


def _row(one: PairedDifference, decimals: int) -> list[Cell]:
    found, needed = one.comparison, one.needed
    needed_value = None if needed is None or not one.needed_words else float(needed.more or 0)
    return [
        found.candidate,
        (str(len(found.pairs)) if found.pairs else found.held, float(len(found.pairs))),
        number(found.mean_difference, decimals, signed=True),
        between(found.interval, decimals, signed=True),
        sorted_by_p(found.p_value),
        sorted_by_p(found.smallest_p),
        OUTCOMES[one.outcome],
        (_chance(found), found.superiority),
        (one.needed_words or "-", needed_value),
    ]


def _chance(found: Comparison) -> str:
    if found.superiority is None:
        return formats.NOTHING
    share = f"{100 * found.superiority:.0f} %"
    if found.superiority_interval is None:
        return share
    low, high = found.superiority_interval
    return f"{share} ({100 * low:.0f} to {100 * high:.0f} %)"


def _remarks(found: PairedDifferences) -> Iterator[Markup]:
    for one in found.candidates:
        if one.comparison.grid:
            yield remark(f"{one.comparison.candidate}: {one.comparison.held}.")
        if one.comparison.words:
            yield remark(f"{one.comparison.candidate}: {one.comparison.words}.")
        if one.comparison.dropped:
            pairs = "pair" if one.comparison.dropped == 1 else "pairs"
            yield remark(
                f"{one.comparison.candidate}: {one.comparison.dropped} {pairs} left out, for one "
                "of the two runs has no final score."
            )
    if any(one.needed_words for one in found.candidates):
        yield remark(
            "Least p: the smallest that so many pairs can reach. Seeds to add, none where a claim "
            "stands: with so many more pairs like those seen four studies of five would come to "
            "the claim, if the mean difference is the one seen, which is itself uncertain; looked "
            f"at up to {MOST_PAIRS} pairs. To add seeds until p falls below "
            f"{LEVEL} is no test: fix the number first. Chance to be better: share of pairs, ties "
            "counted half, with Wilson's interval; .75 and more is called meaningful."
        )
