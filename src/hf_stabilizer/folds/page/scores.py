"""How do the scores of the folds lie? Each with its rows, classes and weights, and seed by seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from hf_stabilizer.folds.page.answers import Answers
from hf_stabilizer.folds.record import CrossValidation, FoldScore
from hf_stabilizer.folds.view import seed_sentence
from hf_stabilizer.records import Run
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.kept_weights import keeps_last
from hf_stabilizer.studies.page.dot_lanes import LEFT, RIGHT, WIDTH, Lane, dot_lanes
from hf_stabilizer.studies.page.section import Section
from hf_stabilizer.studies.page.sections.markup import Cell, direction, figure, number, table
from hf_stabilizer.studies.page.svg import scale_over
from hf_stabilizer.studies.study import Study

# Any in this module: numbers and texts.
MOST_CLASSES = 6
"""Classes that have columns of their own in the table of folds."""


def fold_section(found: CrossValidation, study: Study, answers: Answers, decimals: int) -> Section:
    """Returns the score of every fold and run, and what each fold is made of."""
    metric = found.metric
    several = any(len(fold.by_seed) > 1 for fold in found.folds)
    lanes = [
        Lane(
            fold.name,
            tuple(
                (one[metric], f"{fold.name}, seed {seed}: {formats.number(one[metric], decimals)}")
                for seed, one in fold.by_seed.items()
            ),
            fold.scores[metric],
        )
        for fold in found.folds
    ]
    pooled = found.pooled[metric]
    chart = dot_lanes(
        "folds",
        lanes,
        scale_over([pooled, *(s for lane in lanes for s, _ in lane.dots)], LEFT, WIDTH - RIGHT),
        title=f"{metric} of each fold",
        about="; ".join(f"{one.name} {formats.number(one.mean, decimals)}" for one in lanes),
        axis=direction(metric, found.greater_is_better),
        level=(pooled, f"pooled {formats.number(pooled, decimals)}"),
    )
    dots = "A dot is a run, the short line the mean of a fold" if several else "A dot is a fold"
    averaged = ", the runs of a fold averaged: several models are one ensemble" if several else ""
    caption = (
        f"{dots}; the dashed line is the score on all out-of-fold rows at once{averaged}. The "
        "folds share most of their training rows, so their spread is no standard error."
    )
    return Section(
        anchor="folds",
        title="Fold by fold",
        lead="",
        body=Markup("").join(
            [
                figure(chart, caption=caption),
                _table(found, study, answers, decimals),
            ]
        ),
        records=tuple(_records(found)),
    )


def seeds_section(found: CrossValidation, decimals: int) -> Section | None:
    """Returns the score of each fold with each seed; None where there is one seed."""
    seeds = list(dict.fromkeys(seed for fold in found.folds for seed in fold.by_seed))
    if len(seeds) < 2:
        return None
    metric = found.metric
    rows: list[list[Cell]] = [
        [fold.name, *_by_seed(fold.by_seed, seeds, metric, decimals)] for fold in found.folds
    ]
    foot = [["pooled", *_by_seed(found.pooled_by_seed, seeds, metric, decimals)]]
    return Section(
        anchor="seeds",
        title="Folds and seeds",
        lead=seed_sentence(found, decimals),
        body=table(
            f"{metric} by fold and seed",
            ["Fold", *(f"Seed {seed}" for seed in seeds)],
            rows,
            foot=foot,
        ),
    )


def _by_seed(
    scores: Mapping[str, Mapping[str, float]], seeds: Sequence[str], metric: str, decimals: int
) -> list[Cell]:
    return [number(scores[s][metric] if s in scores else None, decimals) for s in seeds]


def _table(found: CrossValidation, study: Study, answers: Answers, decimals: int) -> Markup:
    metrics = [found.metric, *(name for name in found.pooled if name != found.metric)]
    classes = answers.names[:MOST_CLASSES]
    others = len(answers.names) - len(classes)
    more = [f"{others} other classes"] if others else []
    heads = ["Fold", *metrics, "Rows", "Learnt from", "Weights", *classes, *more]
    rows = [
        [
            fold.name,
            *(_score(fold.scores[m], m, found, decimals) for m in metrics),
            _count(fold.rows),
            _count(fold.train_rows),
            _weights(study.of(fold.name)),
            *_shares(answers.counts(fold.name), classes, fold.rows, others=others),
        ]
        for fold in found.folds
    ]
    blank = [""] * (len(heads) - 2 - len(metrics))
    total = _count(sum(fold.rows for fold in found.folds))
    foot = [
        [name, *(_score(value(m), m, found, decimals) for m in metrics), last, *blank]
        for name, value, last in (
            ("mean", found.mean, ""),
            ("std over folds", found.std, ""),
            ("pooled", found.pooled.__getitem__, total),
        )
    ]
    return table("The folds", heads, rows, foot=foot)


def _score(value: float, metric: str, found: CrossValidation, decimals: int) -> Cell:
    own = decimals
    if metric != found.metric:
        own = formats.decimals_for(fold.scores[metric] for fold in found.folds)
    return number(value, own)


def _count(value: int) -> Cell:
    return str(value), float(value)


def _shares(
    counts: Mapping[str, int], classes: Sequence[str], rows: int, *, others: int
) -> list[Cell]:
    shown = [counts.get(name, 0) for name in classes]
    more = [sum(counts.values()) - sum(shown)] if others else []
    return [(f"{n} ({100 * n / rows:.0f} %)", float(n)) for n in (*shown, *more)]


def _weights(runs: Sequence[Run]) -> str:
    """Which weights of a fold's runs were scored, and of which seeds the model is there."""
    steps = sorted({_kept_step(run) for run in runs if run.evaluations})
    if not steps:
        return formats.NOTHING
    which = "last" if all(keeps_last(run.configuration) for run in runs) else "best"
    at = f"step{'' if len(steps) == 1 else 's'} {', '.join(map(str, steps))}"
    kept = ", ".join(str(run.seeds["seed"]) for run in runs if run.checkpoint)
    return f"{which}, {at}" + (f"; model of seed {kept}" if kept else "")


def _kept_step(run: Run) -> int:
    """The step that the weights are from: of the first evaluation that was best, or the last."""
    scored = [(step, one[run.metric]) for step, one in run.evaluations if run.metric in one]
    if keeps_last(run.configuration) or not scored:
        return run.evaluations[-1][0]
    better = max if run.greater_is_better else min
    return better(scored, key=lambda pair: pair[1])[0]


def _records(found: CrossValidation) -> Iterator[dict[str, Any]]:
    for fold in found.folds:
        for seed, scores in fold.by_seed.items():
            yield _record(fold, seed, scores)


def _record(fold: FoldScore, seed: str, scores: Mapping[str, float]) -> dict[str, Any]:
    about = {"fold": fold.name, "rows": fold.rows, "train_rows": fold.train_rows}
    return {**about, "seed": seed, **scores}
