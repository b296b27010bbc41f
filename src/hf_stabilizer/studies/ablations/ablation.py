"""What does each remedy do, alone and among the others? The numbers of an ablation.

    alone    remedy          against  baseline             what it does by itself
    added    all remedies    against  all but this one     what it adds to the others

A remedy that helps alone and adds nothing is made needless by the others; one that hurts alone and
adds something needs them. All comparisons are paired by seed, and their p-values are corrected by
Holm's method for the number of comparisons in the whole table. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_stabilizer.errors import StudyError
from hf_stabilizer.studies.comparison import Comparison, compare, comparisons, corrected
from hf_stabilizer.studies.statistics import RecipeSummary, pairs_needed, summary_rows

if TYPE_CHECKING:
    from hf_stabilizer.studies.study import Study


@dataclass(frozen=True)
class AblationRow:
    """One remedy: what it does by itself, and what it adds to the others."""

    remedy: str
    """Name of the remedy; `ALL` for all of them together."""
    alone: Comparison
    """The remedy against the baseline; positive gain: it helps by itself."""
    added: Comparison | None
    """All remedies against all but this one; positive gain: it adds something to the others.
    None for all of them together."""
    alone_arm: RecipeSummary
    """Mean, spread and failed runs of the remedy alone."""
    without_arm: RecipeSummary | None
    """Those of all remedies but this one; None for all of them together."""


@dataclass(frozen=True)
class Ablation:
    """Every remedy of an ablation, and what they were held against."""

    rows: tuple[AblationRow, ...]
    """One for each remedy, in the order given."""
    together: AblationRow
    """All remedies together against the baseline."""
    baseline: RecipeSummary
    """Mean, spread and failed runs of the baseline."""
    comparisons: int
    """Number of different comparisons, for which the p-values are corrected: those of the table,
    and of recipes that were added to the study later."""
    smallest_p: float
    """The smallest corrected p-value that the comparison with the most pairs can reach."""


def comparisons_of(remedies: int) -> int:
    """Returns how many different comparisons an ablation makes: 2 k + 1.

    Each of k remedies alone, each against all but it, and all against the baseline.

    Example:
        >>> comparisons_of(2), comparisons_of(3)
        (5, 7)
    """
    return 2 * remedies + 1


def runs_needed(remedies: int) -> int:
    """Returns the fewest runs per arm with which any claim of an ablation can reach p <= .05.

    Example:
        >>> runs_needed(2), runs_needed(3), runs_needed(5)
        (8, 9, 9)
    """
    return pairs_needed(comparisons=comparisons_of(remedies))


def ablation_of(study: Study) -> Ablation:
    """Returns the numbers of an ablation, whole or under way.

    Raises:
        StudyError: The study is no ablation, or two runs of an arm have the same seeds.

    Example:
        >>> from hf_stabilizer import Run, Study
        >>> def run(recipe, seed, score):
        ...     return Run(recipe, {"seed": seed}, "finished", best_score=score + seed / 100)
        >>> scores = {"plain": 0.5, "swa": 0.6, "llrd": 0.5, "all": 0.7}
        >>> runs = tuple(run(arm, seed, s) for seed in range(8) for arm, s in scores.items())
        >>> arms = {"swa": {"alone": "swa", "without": "llrd"},
        ...     "llrd": {"alone": "llrd", "without": "swa"}}
        >>> asked = {"baseline": "plain", "all": "all", "remedies": arms}
        >>> found = ablation_of(Study("demo", tuple(scores), runs, "f1", True, ablation=asked))
        >>> for row in found.rows:
        ...     print(row.remedy, f"{row.alone.gain:.2f} alone, {row.added.gain:.2f} added")
        swa 0.10 alone, 0.20 added
        llrd 0.00 alone, 0.10 added
        >>> found.comparisons, found.rows[0].alone.p_value
        (5, 0.0390625)
    """
    if study.ablation is None:
        raise StudyError(
            f"study {study.name!r} is no ablation: which recipes are remedies, alone and together, "
            "is not recorded; make it with `hf-stabilizer ablate`"
        )
    baseline, everything = study.ablation["baseline"], study.ablation["all"]
    remedies = _remedies(study, study.ablation)
    found = _comparisons(study, study.ablation)
    arms = {row.recipe: row for row in summary_rows(study.runs, study.recipes)}
    rows = tuple(
        AblationRow(
            remedy=name,
            alone=found[baseline, one["alone"]],
            added=found[one["without"], everything],
            alone_arm=arms[one["alone"]],
            without_arm=arms[one["without"]],
        )
        for name, one in remedies.items()
    )
    whole = AblationRow(everything, found[baseline, everything], None, arms[everything], None)
    return Ablation(
        rows=rows,
        together=whole,
        baseline=arms[baseline],
        comparisons=len(found),
        smallest_p=min(one.smallest_p for one in found.values()),
    )


def ablation_rows(study: Study) -> tuple[AblationRow, ...]:
    """Returns one row for each remedy, and a last one for all of them together.

    Raises:
        StudyError: As in `ablation_of`.
    """
    found = ablation_of(study)
    return (*found.rows, found.together)


def comparisons_of_study(study: Study) -> tuple[Comparison, ...]:
    """Returns the recipes of a study compared with its first one, with corrected p-values.

    In an ablation these are each remedy alone, all of them, and recipes that are no arms of it,
    corrected together with all else that its table compares, so that a comparison has one p-value
    wherever it is shown. All but one is held against all there, and not against the baseline.
    Recipes that were scored on rows of their own are not compared.

    Example:
        >>> from hf_stabilizer import Run, Study
        >>> def run(recipe, seed, score):
        ...     return Run(recipe, {"seed": seed}, "finished", best_score=score + seed / 100)
        >>> scores = {"plain": 0.5, "swa": 0.6, "llrd": 0.5, "all": 0.7}
        >>> runs = tuple(run(arm, seed, s) for seed in range(8) for arm, s in scores.items())
        >>> study = Study("demo", tuple(scores), runs, "f1", True)
        >>> [(one.candidate, one.p_value) for one in comparisons_of_study(study)][0]
        ('swa', 0.0234375)
        >>> arms = {"swa": {"alone": "swa", "without": "llrd"},
        ...     "llrd": {"alone": "llrd", "without": "swa"}}
        >>> asked = {"baseline": "plain", "all": "all", "remedies": arms}
        >>> study = Study("demo", tuple(scores), runs, "f1", True, ablation=asked)
        >>> [(one.candidate, one.p_value) for one in comparisons_of_study(study)][0]
        ('swa', 0.0390625)
    """
    if not study.comparable:
        return ()
    if study.ablation is not None:
        found = _comparisons(study, study.ablation)
        baseline = study.ablation["baseline"]
        shown = [found.get((baseline, recipe)) for recipe in study.recipes]
        return tuple(one for one in shown if one is not None)
    return comparisons(study.runs, study.recipes) if study.recipes else ()


def _remedies(study: Study, asked: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    # `study.json` sorts its keys; the order that was given is that of the recipes.
    order = study.recipes.index
    return dict(sorted(asked["remedies"].items(), key=lambda one: order(one[1]["alone"])))


def _pairs_to_compare(study: Study, asked: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(compared with, in question) of every comparison, each once."""
    baseline, everything = asked["baseline"], asked["all"]
    remedies = _remedies(study, asked)
    pairs = [(baseline, one["alone"]) for one in remedies.values()]
    pairs += [(one["without"], everything) for one in remedies.values()]
    arms = {baseline, everything, *(arm for one in remedies.values() for arm in one.values())}
    others = [(baseline, recipe) for recipe in study.recipes if recipe not in arms]
    return list(dict.fromkeys([*pairs, (baseline, everything), *others]))


def _comparisons(study: Study, asked: Mapping[str, Any]) -> dict[tuple[str, str], Comparison]:
    known = _pairs_to_compare(study, asked)
    found = corrected([compare(study.runs, first, second) for first, second in known])
    return dict(zip(known, found, strict=True))
