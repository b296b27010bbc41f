"""Is one recipe better than another over the same seeds, by how much, and how sure is that?

Runs of two recipes under the same seeds share the data order and the random numbers of their
heads, so they are compared pair by pair. Runs that share no seeds, or that tell none, are compared
as independent samples. On a grid of seeds, where pairs share heads or data orders, the tests count
independent units instead (`statistics.shared_seeds`). The arithmetic is that of `statistics`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from hf_stabilizer.errors import StudyError
from hf_stabilizer.records import Run
from hf_stabilizer.studies.compared import Comparison, Grid, Pair, Unpaired
from hf_stabilizer.studies.seeds.seed_grid import WORDS
from hf_stabilizer.studies.statistics import (
    final_score,
    holm,
    probability_of_superiority,
    sample_std,
    sign_flip_interval,
    sign_flip_p_value,
    smallest_p_value,
    spread_p_value,
    wilson_interval,
)
from hf_stabilizer.studies.statistics.pairs import spread_differences
from hf_stabilizer.studies.statistics.shared_seeds import shared_seeds
from hf_stabilizer.studies.statistics.unpaired import (
    permutation_interval,
    permutation_p_value,
    smallest_unpaired_p_value,
    superiority_of_unpaired,
)

Seeds = tuple[tuple[str, int], ...]

__all__ = ["Comparison", "Grid", "Pair", "Unpaired", "compare", "comparisons", "corrected"]


def compare(runs: Iterable[Run], baseline: str, candidate: str) -> Comparison:
    """Returns the paired comparison of one recipe with another, p-values uncorrected.

    Raises:
        StudyError: A recipe has two runs with the same seeds.

    Example:
        >>> def run(recipe, seed, score):
        ...     return Run(recipe, {"seed": seed}, "finished", best_score=score)
        >>> runs = [run("plain", s, 0.5) for s in range(6)]
        >>> runs += [run("swa", s, 0.6 + s / 100) for s in range(6)]
        >>> result = compare(runs, "plain", "swa")
        >>> round(result.mean_difference, 3), result.p_value, result.superiority
        (0.125, 0.03125, 1.0)
    """
    everything = tuple(runs)
    first, second = _by_seeds(everything, baseline), _by_seeds(everything, candidate)
    # A run that failed before its metric was known says True for want of better knowledge.
    greater_is_better = all(run.greater_is_better for run in everything)
    if _are_unpaired(first, second, everything, (baseline, candidate)):
        before, after = _sample(everything, baseline), _sample(everything, candidate)
        return _unpaired(baseline, candidate, greater_is_better, before, after)
    unknown = [run for run in everything if run.recipe in (baseline, candidate) and not run.seeds]
    pairs, dropped = [], len(unknown)
    for seeds in dict.fromkeys([*first, *second]):
        a, b = first.get(seeds), second.get(seeds)
        if a is None or b is None:
            dropped += 1
        else:
            pairs.append(Pair(seeds, a, b))
    plain = _comparison(baseline, candidate, greater_is_better, tuple(pairs), dropped)
    return _on_grid(plain)


def comparisons(runs: Iterable[Run], recipes: Sequence[str]) -> tuple[Comparison, ...]:
    """Returns each later recipe compared with the first, p-values corrected by Holm's method."""
    everything = tuple(runs)
    return corrected([compare(everything, recipes[0], name) for name in recipes[1:]])


def corrected(found: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Returns the comparisons with p-values corrected by Holm's method for their number.

    Example:
        >>> def run(recipe, seed, score):
        ...     return Run(recipe, {"seed": seed}, "finished", best_score=score)
        >>> runs = [run("plain", s, 0.5) for s in range(6)]
        >>> runs += [run("swa", s, 0.6 + s / 100) for s in range(6)]
        >>> twice = corrected([compare(runs, "plain", "swa"), compare(runs, "swa", "plain")])
        >>> [(c.p_value, c.smallest_p, c.among) for c in twice]
        [(0.0625, 0.0625, 2), (0.0625, 0.0625, 2)]
    """
    mean_p = _corrected([c.p_value for c in found])
    spread_p = _corrected([c.spread_p for c in found])
    return tuple(
        replace(
            c,
            p_value=p,
            spread_p=q,
            smallest_p=min(1.0, len(found) * c.smallest_p),
            among=len(found),
        )
        for c, p, q in zip(found, mean_p, spread_p, strict=True)
    )


def _comparison(
    baseline: str,
    candidate: str,
    greater_is_better: bool,
    pairs: tuple[Pair, ...],
    dropped: int,
) -> Comparison:
    differences = [pair.difference for pair in pairs]
    before, after = [pair.baseline for pair in pairs], [pair.candidate for pair in pairs]
    wins = probability_of_superiority(before, after, greater_is_better=greater_is_better)
    return Comparison(
        baseline=baseline,
        candidate=candidate,
        greater_is_better=greater_is_better,
        pairs=pairs,
        dropped=dropped,
        mean_difference=sum(differences) / len(pairs) if pairs else None,
        interval=sign_flip_interval(differences),
        p_value=sign_flip_p_value(differences),
        smallest_p=smallest_p_value(len(pairs)),
        superiority=wins.share if wins else None,
        superiority_interval=wins.interval if wins else None,
        baseline_std=sample_std(before),
        candidate_std=sample_std(after),
        spread_p=spread_p_value(before, after),
    )


def _on_grid(plain: Comparison) -> Comparison:
    """The comparison with its pairs' shared seeds honoured, if they share any."""
    shared = shared_seeds([dict(pair.seeds) for pair in plain.pairs])
    if shared is None:
        return plain
    before = [pair.baseline for pair in plain.pairs]
    after = [pair.candidate for pair in plain.pairs]
    means = shared.mean(before), shared.mean(after)
    units = shared.of(plain.differences)
    share = plain.superiority or 0.0
    return replace(
        plain,
        mean_difference=means[1] - means[0],
        interval=sign_flip_interval(units),
        p_value=sign_flip_p_value(units),
        smallest_p=smallest_p_value(len(units)),
        superiority_interval=wilson_interval(share * len(units), len(units)),
        spread_p=sign_flip_p_value(shared.of(spread_differences(before, after))),
        grid=Grid(
            levels=tuple((name, shared.levels[name]) for name in WORDS if name in shared.levels),
            units=tuple(units),
            baseline_mean=means[0],
            candidate_mean=means[1],
            chosen=None if shared.chosen is None else len(shared.chosen),
        ),
    )


class _Sample(NamedTuple):
    """The scores of one recipe, and what they are worth where its runs share seeds."""

    scores: Sequence[float]
    units: Sequence[float]
    mean: float


def _unpaired(
    baseline: str, candidate: str, greater_is_better: bool, before: _Sample, after: _Sample
) -> Comparison:
    """The comparison of two recipes whose runs share no seeds."""
    units = before.units, after.units
    return Comparison(
        baseline=baseline,
        candidate=candidate,
        greater_is_better=greater_is_better,
        pairs=(),
        dropped=0,
        mean_difference=after.mean - before.mean,
        interval=permutation_interval(*units),
        p_value=permutation_p_value(*units),
        smallest_p=smallest_unpaired_p_value(len(before.units), len(after.units)),
        superiority=superiority_of_unpaired(
            before.scores, after.scores, greater_is_better=greater_is_better
        ),
        baseline_std=sample_std(before.scores),
        candidate_std=sample_std(after.scores),
        spread_p=None,
        unpaired=Unpaired(
            len(before.scores),
            len(after.scores),
            before.mean,
            after.mean,
            None if units == (before.scores, after.scores) else (len(units[0]), len(units[1])),
        ),
    )


def _are_unpaired(
    first: Mapping[Seeds, float | None],
    second: Mapping[Seeds, float | None],
    runs: Iterable[Run],
    recipes: tuple[str, str],
) -> bool:
    scored = {run.recipe for run in runs if final_score(run) is not None}
    return set(recipes) <= scored and not first.keys() & second.keys()


def _sample(runs: Iterable[Run], recipe: str) -> _Sample:
    known = [
        (score, run.seeds)
        for run in runs
        if run.recipe == recipe and (score := final_score(run)) is not None
    ]
    scores = [score for score, _ in known]
    shared = shared_seeds([seeds for _, seeds in known]) if all(s for _, s in known) else None
    if shared is None:
        return _Sample(scores, scores, sum(scores) / len(scores))
    return _Sample(scores, shared.of(scores), shared.mean(scores))


def _by_seeds(runs: Iterable[Run], recipe: str) -> dict[Seeds, float | None]:
    scores: dict[Seeds, float | None] = {}
    for run in runs:
        if run.recipe != recipe or not run.seeds:  # unknown seeds make no pair
            continue
        seeds = tuple(sorted(run.seeds.items()))
        if seeds in scores:
            raise StudyError(
                f"recipe {recipe!r} has two runs with the seeds {dict(seeds)!r}; pairs need one "
                "run of each recipe per seeds, so remove one of the two"
            )
        scores[seeds] = final_score(run)
    return scores


def _corrected(p_values: Sequence[float | None]) -> list[float | None]:
    # A comparison that failed runs make impossible was asked for as well, so it counts.
    found = holm([1.0 if p is None else p for p in p_values])
    return [None if p is None else q for p, q in zip(p_values, found, strict=True)]
