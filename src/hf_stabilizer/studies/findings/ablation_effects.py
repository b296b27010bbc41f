"""What does each remedy bring alone, and what is lost if it alone is left out?

The numbers are those of `studies.ablations.ablation`, which the command `ablate` prints, too.
"""

from __future__ import annotations

from dataclasses import dataclass

from hf_stabilizer.studies.ablations.ablation import Ablation, AblationRow, ablation_of
from hf_stabilizer.studies.comparison import Comparison
from hf_stabilizer.studies.findings.finding import Record, ends
from hf_stabilizer.studies.statistics import RecipeSummary
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.verdict import outcome


@dataclass(frozen=True)
class AblationEffects:
    """The arms of an ablation, compared."""

    metric: str
    """Name of the metric."""
    greater_is_better: bool
    """Its direction."""
    ablation: Ablation
    """Every remedy alone and on top of the others, and all of them together."""

    def records(self) -> list[Record]:
        """Returns one row for each comparison."""
        whole = self.ablation.together
        rows = [_record(whole.remedy, "all against baseline", whole.alone)]
        for one in self.ablation.rows:
            rows.append(_record(one.remedy, "alone against baseline", one.alone))
            if one.added is not None:
                rows.append(_record(one.remedy, "all against all but it", one.added))
        return rows

    def arm_records(self) -> list[Record]:
        """Returns one row for each arm: mean, spread and failed runs."""
        arms = [self.ablation.baseline]
        arms += [row.alone_arm for row in self.ablation.rows]
        arms += [row.without_arm for row in self.ablation.rows if row.without_arm]
        arms.append(self.ablation.together.alone_arm)
        return [_arm(row) for row in dict.fromkeys(arms)]


def find(study: Study) -> AblationEffects | None:
    """Returns the effects of an ablation's remedies, or None where the study is none.

    None as well where no two arms have a score under the same seeds yet.

    Example:
        >>> from hf_stabilizer import Run
        >>> means = {"plain": 0.5, "swa": 0.6, "llrd": 0.5, "all": 0.6}
        >>> runs = tuple(
        ...     Run(recipe, {"seed": s}, "finished", best_score=mean + s / 100)
        ...     for recipe, mean in means.items() for s in range(8)
        ... )
        >>> arms = {"swa": {"alone": "swa", "without": "llrd"},
        ...         "llrd": {"alone": "llrd", "without": "swa"}}
        >>> asked = {"baseline": "plain", "all": "all", "remedies": arms}
        >>> found = find(Study("demo", tuple(means), runs, "f1", True, ablation=asked))
        >>> [(one.remedy, words(one)) for one in found.ablation.rows]
        [('swa', 'helps alone and adds to the others'), ('llrd', 'no effect can be claimed')]
    """
    if study.ablation is None:
        return None
    ablation = ablation_of(study)
    made = [ablation.together.alone, *(row.alone for row in ablation.rows)]
    if all(one.mean_difference is None for one in made):
        return None
    return AblationEffects(study.metric, study.greater_is_better, ablation)


def words(row: AblationRow) -> str:
    """Returns what can be claimed of a remedy, in a few words."""
    alone = outcome(row.alone)
    added = "open" if row.added is None else outcome(row.added)
    if alone == added == "open":
        return "no effect can be claimed"
    by_itself = {"better": "helps alone", "worse": "harms alone", "open": "alone it is open"}
    on_top = {
        "better": "adds to the others",
        "worse": "takes from the others",
        "open": "what it adds to the others is open",
    }
    joint = " and " if "open" not in (alone, added) else "; "
    parts = (by_itself[alone], on_top[added])
    return joint.join(parts if alone != "open" else parts[::-1])


def _record(remedy: str, what: str, found: Comparison) -> Record:
    low, high = ends(found.interval)
    return {
        "remedy": remedy,
        "what": what,
        "baseline": found.baseline,
        "candidate": found.candidate,
        "outcome": outcome(found),
        "pairs": len(found.pairs),
        "units": len(found.units),
        "mean_difference": found.mean_difference,
        "low": low,
        "high": high,
        "p_value": found.p_value,
        "smallest_p": found.smallest_p,
        "superiority": found.superiority,
        "comparisons": found.among,
    }


def _arm(row: RecipeSummary) -> Record:
    low, high = ends(row.interval)
    return {
        "recipe": row.recipe,
        "runs": row.runs,
        "scored": row.scored,
        "mean": row.mean,
        "low": low,
        "high": high,
        "std": row.std,
        "worst": row.worst,
        "failed": row.failed,
    }
