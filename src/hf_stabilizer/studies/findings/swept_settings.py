"""How does the score depend on one setting, and which of its values can be told apart?

The best value was chosen after all were seen, so it is held against the others by p-values that
are corrected for every pair of values: step-down max T over the seeds that all pairs share. Of 300
simulated sweeps each (4 or 7 values that do not differ, 6 to 12 seeds; normal, heavy-tailed, or
with 15 % of runs lost) 1 to 5 % claimed a difference.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from hf_stabilizer.records import Run
from hf_stabilizer.studies.comparison import Comparison, compare
from hf_stabilizer.studies.findings.finding import Record, ends
from hf_stabilizer.studies.statistics import (
    RecipeSummary,
    final_score,
    max_t_p_values,
    pairs_needed,
    summary_rows,
)
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.verdict import LEVEL

FEWEST = 3
"""Values that make a sweep where the recipes are not named after them."""


@dataclass(frozen=True)
class SweptValue:
    """One value of the setting."""

    value: float
    """The value."""
    summary: RecipeSummary
    """Mean, interval, spread and failed runs of its recipe."""
    runs: tuple[Run, ...]
    """Its runs."""
    against_best: Comparison | None
    """This value minus the best one, p-value uncorrected; None for the best itself, or without a
    score."""
    p_value: float | None
    """That comparison's p-value, corrected for all pairs of values."""

    @property
    def is_told_apart(self) -> bool:
        """Whether the best value can be claimed to be better than this one."""
        return self.p_value is not None and self.p_value <= LEVEL


@dataclass(frozen=True)
class Sweep:
    """The scores against one setting."""

    key: str
    """The configuration key."""
    values: tuple[SweptValue, ...]
    """From the smallest value to the largest."""
    best: SweptValue
    """The value with the best mean."""
    unset: RecipeSummary | None
    """The recipe that leaves the setting out and is the same otherwise; None: there is none."""
    smallest_p: float
    """The smallest p-value that any pair of values can reach with so many seeds."""
    correction: str
    """How p-values are corrected for all pairs of values."""
    needed: int = 6
    """Seeds that can reach p <= .05 at all; on a grid, of each seed that varies."""

    @property
    def unset_label_is_left(self) -> bool:
        """Whether there is more room beside the line of `unset` at the smallest value."""
        if self.unset is None or self.unset.mean is None:
            return False
        level = self.unset.mean
        first, last = (
            abs(level if one.summary.mean is None else one.summary.mean - level)
            for one in (self.values[0], self.values[-1])
        )
        return first > last

    @property
    def open(self) -> tuple[SweptValue, ...]:
        """Values with a score that cannot be told from the best."""
        return tuple(v for v in self.values if v.against_best and not v.is_told_apart)

    @property
    def worse(self) -> tuple[SweptValue, ...]:
        """Values that the best can be claimed to beat."""
        return tuple(v for v in self.values if v.is_told_apart)


@dataclass(frozen=True)
class Sweeps:
    """Every sweep of a study."""

    metric: str
    """Name of the metric."""
    greater_is_better: bool
    """Its direction."""
    sweeps: tuple[Sweep, ...]
    """One for each setting that was swept."""

    def records(self) -> list[Record]:
        """Returns one row for each value of each setting."""
        return [_record(one, value) for one in self.sweeps for value in one.values]


def find(study: Study) -> Sweeps | None:
    """Returns the sweeps, or None where no setting was swept, or nothing has a score.

    A sweep is two or more recipes that differ in one key alone, whose values are numbers: three
    or more of them, or two that `sweep` named.

    Example:
        >>> runs = tuple(
        ...     Run(f"reinit_layers={n}", {"seed": s}, "finished", best_score=0.7 + n / 9 + s / 99)
        ...     for n in (0, 1, 2) for s in range(6)
        ... )
        >>> settings = {f"reinit_layers={n}": {"reinit_layers": n} for n in (0, 1, 2)}
        >>> asked = Study("demo", tuple(settings), runs, "f1", True, recipe_settings=settings)
        >>> one, = find(asked).sweeps
        >>> one.key, one.best.value, [value.value for value in one.worse]
        ('reinit_layers', 2.0, [0.0, 1.0])
    """
    if study.ablation is not None:
        return None
    resolved = {
        recipe: {**study.configuration, **study.recipe_settings.get(recipe, {})}
        for recipe in study.recipes
    }
    sweeps = [
        found
        for key in sorted({key for one in resolved.values() for key in one})
        for recipes in _groups(resolved, key)
        if (found := _sweep(study, resolved, key, recipes)) is not None
    ]
    return Sweeps(study.metric, study.greater_is_better, tuple(sweeps)) if sweeps else None


def words(sweep: Sweep) -> str:
    """Returns what can be claimed of the best value, in a sentence."""
    best = f"{sweep.key}={sweep.best.value:g}"
    others = [*sweep.open, *sweep.worse]
    if not others:
        return f"Only {best} has a score so far."
    if sweep.smallest_p > LEVEL:
        return (
            f"{best} has the best mean, and no value can be told from another: with so few runs "
            f"an exact test cannot reach p <= {LEVEL}, whatever they show; {_which_can(sweep)}."
        )
    if not sweep.worse:
        return f"{best} has the best mean, and no other value can be told from it (p > {LEVEL})."
    claim = f"{best} has the best mean and is better than {listed(sweep.worse)} (p <= {LEVEL})"
    return f"{claim}; {listed(sweep.open)} cannot be told from it." if sweep.open else f"{claim}."


def correction_words(sweep: Sweep) -> str:
    """Returns how the p-values of a sweep are corrected, and what the verdict does otherwise."""
    count = sum(value.summary.mean is not None for value in sweep.values)
    pairs = count * (count - 1) // 2
    said = (
        f"p: exact over the seeds, corrected for all {pairs} pairs of values ({sweep.correction}), "
        "for the best was chosen after all were seen."
    )
    if sweep.correction == "Bonferroni":
        return said
    return f"{said} The verdict's own correction, Holm's, may need more seeds for the same claim."


def _which_can(sweep: Sweep) -> str:
    is_grid = any(one.against_best and one.against_best.grid for one in sweep.values)
    return f"{sweep.needed} of each seed can" if is_grid else f"{sweep.needed} seeds can"


def listed(values: Iterable[SweptValue]) -> str:
    """Returns values for a reader: "0, 2 and 4"."""
    names = [f"{one.value:g}" for one in values]
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _groups(resolved: Mapping[str, Mapping[str, Any]], key: str) -> list[list[str]]:
    """The recipes that differ in this key alone, where its values are numbers."""
    alike: dict[str, dict[float, str]] = {}
    for recipe, settings in resolved.items():
        value = settings.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            alike.setdefault(_others(settings, key), {}).setdefault(float(value), recipe)
    return [list(group.values()) for group in alike.values() if _is_sweep(group, key)]


def _is_sweep(group: Mapping[float, str], key: str) -> bool:
    named = all(recipe.startswith(f"{key}=") for recipe in group.values())
    return len(group) >= (2 if named else FEWEST)


def _others(settings: Mapping[str, Any], key: str) -> str:
    rest = {name: value for name, value in settings.items() if name != key and value is not None}
    return json.dumps(rest, sort_keys=True, default=str)


def _sweep(
    study: Study, resolved: Mapping[str, Mapping[str, Any]], key: str, recipes: Sequence[str]
) -> Sweep | None:
    ordered = sorted(recipes, key=lambda recipe: float(resolved[recipe][key]))
    rows = {row.recipe: row for row in summary_rows(study.runs, ordered)}
    scored = [row for row in rows.values() if row.mean is not None]
    if not scored:
        return None
    sign = 1 if study.greater_is_better else -1
    best = max(scored, key=lambda row: sign * (row.mean or 0.0)).recipe
    others = [row.recipe for row in scored if row.recipe != best]
    compared = {other: compare(study.runs, best, other) for other in others}
    p_values = _corrected(study, [row.recipe for row in scored], best, compared)
    values = {
        recipe: SweptValue(
            float(resolved[recipe][key]),
            rows[recipe],
            study.of(recipe),
            compared.get(recipe),
            p_values.get(recipe),
        )
        for recipe in ordered
    }
    about = _others(resolved[best], key)
    left = [
        recipe
        for recipe, settings in resolved.items()
        if settings.get(key) is None and _others(settings, key) == about
    ]
    return Sweep(
        key=key,
        values=tuple(values.values()),
        best=values[best],
        unset=summary_rows(study.runs, left[:1])[0] if left else None,
        smallest_p=_smallest(compared.values(), len(scored)),
        correction="Bonferroni" if _needs_bonferroni(compared.values()) else "step-down max T",
        needed=_needed(compared.values(), len(scored)),
    )


def _corrected(
    study: Study, recipes: Sequence[str], best: str, compared: Mapping[str, Comparison]
) -> dict[str, float | None]:
    """The p-value of each value against the best, corrected for all pairs of values."""
    pairs = list(combinations(recipes, 2))
    if _needs_bonferroni(compared.values()):
        return {
            other: None if one.p_value is None else min(1.0, len(pairs) * one.p_value)
            for other, one in compared.items()
        }
    scores = {recipe: _by_seeds(study.of(recipe)) for recipe in recipes}
    seeds = list(dict.fromkeys(name for one in scores.values() for name in one))
    rows = [
        [scores[a].get(name, math.nan) - scores[b].get(name, math.nan) for name in seeds]
        for a, b in pairs
    ]
    found = dict(zip(map(frozenset, pairs), max_t_p_values(rows), strict=True))
    return {
        other: found[frozenset((best, other))] if one.pairs else None
        for other, one in compared.items()
    }


def _smallest(compared: Iterable[Comparison], values: int) -> float:
    """The smallest p-value that a pair can reach after correction."""
    found = list(compared)
    least = min((one.smallest_p for one in found), default=1.0)
    pairs = values * (values - 1) // 2
    return min(1.0, least * (pairs if _needs_bonferroni(found) else 1))


def _needed(compared: Iterable[Comparison], values: int) -> int:
    """The fewest seeds with which a pair of values can reach the level."""
    is_grid = any(one.grid for one in compared)  # max T costs nothing, however many pairs there are
    return pairs_needed(comparisons=values * (values - 1) // 2 if is_grid else 1)


def _needs_bonferroni(compared: Iterable[Comparison]) -> bool:
    """Whether pairs are not independent, or are none: then each comparison has its own test."""
    return any(one.grid or one.unpaired for one in compared)


def _by_seeds(runs: Iterable[Run]) -> dict[str, float]:
    return {
        json.dumps(run.seeds, sort_keys=True): score
        for run in runs
        if (score := final_score(run)) is not None
    }


def _record(sweep: Sweep, one: SweptValue) -> Record:
    low, high = ends(one.summary.interval)
    found = one.against_best
    least, most = ends(found.interval if found else None)
    return {
        "key": sweep.key,
        "value": one.value,
        "recipe": one.summary.recipe,
        "runs": one.summary.runs,
        "scored": one.summary.scored,
        "failed": one.summary.failed,
        "mean": one.summary.mean,
        "low": low,
        "high": high,
        "std": one.summary.std,
        "worst": one.summary.worst,
        "is_best": one is sweep.best,
        "difference_from_best": found.mean_difference if found else None,
        "difference_low": least,
        "difference_high": most,
        "p_value": one.p_value,
        "smallest_p": sweep.smallest_p,
    }
