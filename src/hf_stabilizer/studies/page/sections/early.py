"""What did stopping early cost and save, who was cut, and does the early ranking hold?"""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.findings.early_stopping import (
    EarlyRanking,
    EarlyStopping,
    RankedRun,
    StoppedRecipe,
    find,
)
from hf_stabilizer.studies.findings.seed_factors import share_seeds
from hf_stabilizer.studies.page.charts import run_key, which_run
from hf_stabilizer.studies.page.section import Section
from hf_stabilizer.studies.page.sections.lanes import Lane, Mark, lanes_chart
from hf_stabilizer.studies.page.sections.lines import Line, lines_chart
from hf_stabilizer.studies.page.sections.markup import (
    Cell,
    between,
    direction,
    figure,
    folded,
    narrow_where_shared,
    number,
    panels,
    percent,
    remark,
    table,
    words,
)
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.verdict import study_decimals

MOST_BANDS = 3
"""Lines up to which each has its band; more would cover one another."""
COST_HEADS = (
    "Recipe",
    "Stop at step",
    "Went on",
    "Stopped",
    "Asked, full runs",
    "Spent, full runs",
    "Saved, full runs",
    "Saved, share",
    "Spent, time",
    "Saved, time",
)
RUN_HEADS = ("Rank", "Run", "Score at the stop", "What became of it", "Final score")
RANK_HEADS = (
    "Recipe",
    "Fraction",
    "Spearman",
    "95 % interval",
    "Kendall",
    "To keep for the best",
    "Cost",
)


def section(study: Study) -> Section | None:
    """Returns cost and cuts of a study that stopped early, or what stopping would have met."""
    found = find(study)
    if found is None:
        return None
    decimals = study_decimals(study)
    places = {recipe: place for place, recipe in enumerate(study.recipes)}
    parts = list(_stopped(found, places, decimals) if found.stopped else _rankings(found, places))
    shared = any(share_seeds(study.of(one.recipe)) for one in found.rankings)
    parts += narrow_where_shared(shared and not found.stopped, "the bands")
    return Section(
        anchor="early",
        title="Stopping early" if found.stopped else "Could runs be stopped early?",
        lead=words(_lead_of_stopped(found) if found.stopped else _lead_of_rankings(found)),
        body=Markup("").join(parts),
        records=tuple(found.records()),
    )


def _lead_of_stopped(found: EarlyStopping) -> str:
    saved = sum(one.saved_runs for one in found.stopped)
    seconds = sum(one.saved_seconds for one in found.stopped)
    runs = sum(len(one.ranked) for one in found.stopped)
    time = f", about {formats.duration(seconds)}" if seconds else ""
    gone = sum(ranked.fate == "failed before" for one in found.stopped for ranked in one.ranked)
    but = f" but {gone} that failed before" if gone else ""
    return (
        f"All runs{but} went to {100 * (found.stop_at or 0):g} % of training, the best "
        f"{found.keep} of each recipe on from there: {saved:.1f} of {runs} full runs were "
        f"saved{time}. What the "
        "stopped ones would have reached is not known, so one that would have won may be among "
        "them, most likely near the cut."
    )


def _lead_of_rankings(found: EarlyStopping) -> str:
    return (
        f"No run was stopped early, so it can be seen how well the ranking by the best "
        f"{found.metric} so far foretells the last ranking. Where the line is high and flat, "
        "stopping the worst runs there loses little; bands are 95 % intervals over resampled runs."
    )


def _stopped(found: EarlyStopping, places: dict[str, int], decimals: int) -> Iterator[Markup]:
    lanes = [_lane(one, places[one.recipe], decimals) for one in found.stopped]
    axis = direction(f"best {found.metric} so far at the stop", found.greater_is_better)
    title = f"{found.metric} of every run at the stop, by recipe"
    caption = (
        "A dot is a run when the bad ones were stopped: filled ones went on, hollow ones were "
        "stopped, crossed ones had failed by then. The bar stands at the last one that went on."
    )
    yield figure(lanes_chart("stop", lanes, title=title, axis=axis), caption=caption)
    rows = [_cost_row(one) for one in found.stopped]
    yield table("Cost of the study", COST_HEADS, rows)
    margins = [_margin_words(one, decimals) for one in found.stopped if one.margin is not None]
    if margins:
        yield remark(
            f"Between the last run that went on and the first stopped: {', '.join(margins)}."
        )
    for one in found.stopped:
        ranks = [_ranked_row(ranked, decimals) for ranked in one.ranked]
        inside = table(f"Ranks of {one.recipe} at the stop", RUN_HEADS, ranks)
        yield folded(f"{one.recipe}: {len(ranks)} runs in the order of the stop", inside)


def _margin_words(one: StoppedRecipe, decimals: int) -> str:
    if one.margin == 0:
        return f"{one.recipe} nothing, seeds decided"
    return f"{one.recipe} {formats.number(one.margin, decimals)}"


def _lane(one: StoppedRecipe, place: int, decimals: int) -> Lane:
    kept = [ranked.score for ranked in one.ranked if ranked.fate == "went on"]
    return Lane(
        name=one.recipe,
        note=f"{len(kept)} of {len(one.ranked)} went on at step {one.stop_step}",
        place=place,
        mean=kept[-1] if kept else None,
        interval=None,
        title=f"{one.recipe}: the last one that went on",
        marks=tuple(
            Mark(
                value=ranked.score,
                title=words(_ranked_title(ranked, decimals)),
                key=run_key(ranked.run),
                kind={"went on": "gain", "stopped": "loss", "failed before": "failed"}[ranked.fate],
            )
            for ranked in one.ranked
            if ranked.score is not None
        ),
    )


def _ranked_title(ranked: RankedRun, decimals: int) -> str:
    final = "" if ranked.final is None else f", final {formats.number(ranked.final, decimals)}"
    return (
        f"{ranked.run.recipe}, {which_run(ranked.run)}: rank {ranked.rank} with "
        f"{formats.number(ranked.score, decimals)}, {ranked.fate}{final}"
    )


def _cost_row(one: StoppedRecipe) -> list[Cell]:
    fates = [ranked.fate for ranked in one.ranked]
    return [
        one.recipe,
        (f"{one.stop_step} of {one.whole_steps}", float(one.stop_step)),
        (str(fates.count("went on")), float(fates.count("went on"))),
        (str(fates.count("stopped")), float(fates.count("stopped"))),
        number(one.asked, 2),
        number(one.spent.full_runs, 2),
        number(one.saved_runs, 2),
        percent(one.spent.saved),
        _time(one.spent.seconds),
        _time(one.saved_seconds),
    ]


def _time(seconds: float) -> Cell:
    return (formats.duration(seconds) if seconds else formats.NOTHING), seconds


def _ranked_row(ranked: RankedRun, decimals: int) -> list[Cell]:
    return [
        (str(ranked.rank), float(ranked.rank)),
        which_run(ranked.run),
        number(ranked.score, decimals),
        ranked.fate,
        number(ranked.final, decimals),
    ]


def _rankings(found: EarlyStopping, places: dict[str, int]) -> Iterator[Markup]:
    lines = [
        _rank_line(one, places[one.recipe], dash=n % 4, has_band=len(found.rankings) <= MOST_BANDS)
        for n, one in enumerate(found.rankings)
    ]
    known = [line for line in lines if line.points]
    if known:
        chart = lines_chart(
            "ranks",
            known,
            title="rank correlation of the score so far with the final score",
            about="; ".join(f"{one.recipe}: {one.runs} runs" for one in found.rankings),
            axis="fraction of training",
            y_range=(min(-0.05, *_lows(known)), 1.05),
        )
        yield panels([figure(chart, title="Spearman's rank correlation")])
    rows = [row for one in found.rankings for row in _rank_rows(one)]
    inside = table("Early ranks", RANK_HEADS, rows)
    yield folded(f"The ranking at each fraction, {len(rows)} lines", inside)
    yield remark(
        "To keep for the best: as many runs had to go on from there for the best of all to be "
        "among them; the cost is that of such a study, as a share of all runs to their ends. That "
        "is told after the fact, from one study: to plan the next one, use plan-study."
    )


def _rank_rows(one: EarlyRanking) -> Iterator[list[Cell]]:
    for rank, keep, share in zip(one.ranks, one.keep_for_best, one.costs, strict=True):
        yield [
            one.recipe,
            (f"{100 * rank.fraction:.0f} %", rank.fraction),
            number(rank.spearman, 2),
            between(rank.interval, 2),
            number(rank.kendall, 2),
            (f"{keep} of {one.runs}", float(keep)),
            percent(share),
        ]


def _rank_line(one: EarlyRanking, place: int, *, dash: int, has_band: bool) -> Line:
    known = [
        (rank.fraction, rank.spearman, rank) for rank in one.ranks if rank.spearman is not None
    ]
    bounded = [rank for _, _, rank in known if rank.interval and has_band]
    return Line(
        name=one.recipe,
        points=tuple((fraction, value) for fraction, value, _ in known),
        place=place,
        dash=dash,
        band=tuple(
            (rank.fraction, rank.interval.low, rank.interval.high)
            for rank in bounded
            if rank.interval
        ),
        marks=tuple(
            (
                fraction,
                value,
                words(f"{one.recipe}, {100 * fraction:.0f} % of training: {value:.2f}"),
            )
            for fraction, value, _ in known
        ),
    )


def _lows(lines: list[Line]) -> list[float]:
    lows = [low for line in lines for _, low, _ in line.band]
    return lows + [value for line in lines for _, value in line.points]
