"""Is one recipe better than another over the same seeds, by how much, and how sure is that?

Runs of two recipes under the same seeds share the data order and the random numbers of their
heads, so they are compared pair by pair. Runs that share no seeds, or that tell none, are compared
as independent samples. The arithmetic is that of `statistics`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hf_stabilizer.errors import StudyError
from hf_stabilizer.records import Run
from hf_stabilizer.studies.statistics import (
    Interval,
    final_score,
    holm,
    probability_of_superiority,
    sample_std,
    sign_flip_interval,
    sign_flip_p_value,
    significance_words,
    smallest_p_value,
    spread_p_value,
)
from hf_stabilizer.studies.statistics.unpaired import (
    permutation_interval,
    permutation_p_value,
    smallest_unpaired_p_value,
    superiority_of_unpaired,
)

Seeds = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Pair:
    """The scores of two recipes under the same seeds."""

    seeds: tuple[tuple[str, int], ...]
    """Option names and values of the seeds."""
    baseline: float
    """Score of the baseline."""
    candidate: float
    """Score of the other recipe."""

    @property
    def difference(self) -> float:
        """Candidate minus baseline, in units of the metric."""
        return self.candidate - self.baseline


@dataclass(frozen=True)
class Unpaired:
    """The runs of two recipes that share no seeds, as independent samples."""

    baseline_runs: int
    """Runs of the baseline with a final score."""
    candidate_runs: int
    """Runs of the other recipe with a final score."""
    baseline_mean: float
    """Mean score of the baseline."""
    candidate_mean: float
    """Mean score of the other recipe."""


@dataclass(frozen=True)
class Comparison:
    """One recipe against the baseline over the seeds that both finished."""

    baseline: str
    """Name of the recipe compared with."""
    candidate: str
    """Name of the recipe in question."""
    greater_is_better: bool
    """Direction of the metric."""
    pairs: tuple[Pair, ...]
    """Pairs in which both runs have a final score."""
    dropped: int
    """Pairs left out because one of the runs has no final score, or was never made."""
    mean_difference: float | None
    """Mean of candidate minus baseline, in units of the metric."""
    interval: Interval | None
    """95 % interval of that mean (`sign_flip_interval`)."""
    p_value: float | None
    """`sign_flip_p_value`, corrected by Holm's method for the number of comparisons."""
    smallest_p: float
    """The smallest p-value that so many pairs can reach at all, corrected in the same way."""
    superiority: float | None
    """Share of pairs in which the candidate is better, ties counted half (Bouthillier et al.
    2021, arXiv 2103.03098, section 4): the chance that it wins under a new seed."""
    baseline_std: float | None
    """Standard deviation of the baseline over these pairs."""
    candidate_std: float | None
    """Standard deviation of the candidate over these pairs."""
    spread_p: float | None
    """`spread_p_value`, corrected by Holm's method for the number of comparisons."""
    superiority_interval: Interval | None = None
    """95 % Wilson interval of `superiority`."""
    among: int = 1
    """Number of comparisons that the p-values are corrected for."""
    unpaired: Unpaired | None = None
    """Where the recipes share no seeds: then p-value, interval and superiority are those of
    `statistics.unpaired`. None: pairs."""

    @property
    def held(self) -> str:
        """What the comparison stands on, in words: "6 pairs", "4 and 5 unpaired runs"."""
        if self.unpaired:
            runs = self.unpaired.baseline_runs, self.unpaired.candidate_runs
            return f"{runs[0]} and {runs[1]} unpaired runs"
        return "one pair" if len(self.pairs) == 1 else f"{len(self.pairs)} pairs"

    @property
    def differences(self) -> tuple[float, ...]:
        """Candidate minus baseline of each pair, e.g. for `seeds_needed`."""
        return tuple(pair.difference for pair in self.pairs)

    @property
    def words(self) -> str:
        """A sentence where these pairs cannot reach p <= .05, whatever they show; else empty."""
        if self.unpaired:
            is_enough = self.smallest_p <= 0.05
            return "" if is_enough else f"{self.held} cannot reach p <= 0.05, whatever they show"
        return significance_words(self.differences, comparisons=self.among)

    @property
    def gain(self) -> float | None:
        """The mean difference, turned so that positive is better."""
        if self.mean_difference is None:
            return None
        return self.mean_difference if self.greater_is_better else -self.mean_difference


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
    before, after = _scores(everything, baseline), _scores(everything, candidate)
    if before and after and not first.keys() & second.keys():
        return _unpaired(baseline, candidate, greater_is_better, before, after)
    unknown = [run for run in everything if run.recipe in (baseline, candidate) and not run.seeds]
    pairs, dropped = [], len(unknown)
    for seeds in dict.fromkeys([*first, *second]):
        a, b = first.get(seeds), second.get(seeds)
        if a is None or b is None:
            dropped += 1
        else:
            pairs.append(Pair(seeds, a, b))
    return _comparison(baseline, candidate, greater_is_better, tuple(pairs), dropped)


def comparisons(runs: Iterable[Run], recipes: Sequence[str]) -> tuple[Comparison, ...]:
    """Returns each later recipe compared with the first, p-values corrected by Holm's method."""
    everything = tuple(runs)
    found = [compare(everything, recipes[0], name) for name in recipes[1:]]
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


def _unpaired(
    baseline: str,
    candidate: str,
    greater_is_better: bool,
    before: Sequence[float],
    after: Sequence[float],
) -> Comparison:
    """The comparison of two recipes whose runs share no seeds."""
    means = sum(before) / len(before), sum(after) / len(after)
    return Comparison(
        baseline=baseline,
        candidate=candidate,
        greater_is_better=greater_is_better,
        pairs=(),
        dropped=0,
        mean_difference=means[1] - means[0],
        interval=permutation_interval(before, after),
        p_value=permutation_p_value(before, after),
        smallest_p=smallest_unpaired_p_value(len(before), len(after)),
        superiority=superiority_of_unpaired(before, after, greater_is_better=greater_is_better),
        baseline_std=sample_std(before),
        candidate_std=sample_std(after),
        spread_p=None,
        unpaired=Unpaired(len(before), len(after), *means),
    )


def _scores(runs: Iterable[Run], recipe: str) -> list[float]:
    scores = (final_score(run) for run in runs if run.recipe == recipe)
    return [score for score in scores if score is not None]


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
    known = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(known) for p in p_values]
