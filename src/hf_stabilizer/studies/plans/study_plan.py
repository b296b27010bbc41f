"""What do finished runs advise for a budget? The plan, the plans for other budgets, and in words.

Everything is simulated from the runs' own curves (`statistics.planning`), so the advice is about
this task, this model and this recipe. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hf_stabilizer.errors import check_choice
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.statistics import (
    Curves,
    EarlyRank,
    Option,
    Plan,
    StudySettings,
    curves_of,
    early_ranks,
    plan_study,
    settings_for_budget,
)
from hf_stabilizer.studies.statistics.budgets import check_budget
from hf_stabilizer.studies.statistics.planning import planning_curves

if TYPE_CHECKING:
    from hf_stabilizer.studies.study import Study

LADDER = (2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200)
"""Budgets that are looked at besides the one asked for, up to twice that."""
FEW = 20
"""Finished runs below which a plan is a hint: the spread of n scores is known to about
1 / sqrt(2 n) of itself, 16 % for 20, and every expected best hangs on that spread."""


@dataclass(frozen=True)
class StudyPlan:
    """What the finished runs of one recipe advise."""

    recipe: str
    """Name of the recipe."""
    metric: str
    """Name of the metric that decides."""
    greater_is_better: bool
    """Direction of the metric."""
    on_test: bool
    """Whether validation chooses and the test score counts."""
    plan: Plan
    """For the budget that was asked for."""
    over_budgets: tuple[Plan, ...]
    """For this and other budgets, ascending."""
    ranks: tuple[EarlyRank, ...]
    """How well the ranking at each fraction of training foretells that at the end."""

    @property
    def is_sure(self) -> bool:
        """Whether the runs bear the claim: enough of them, whole ones, and a gain above zero."""
        return self.plan.is_sure and self.plan.runs >= FEW and not self.of_survivors

    @property
    def of_survivors(self) -> bool:
        """Whether some runs were stopped early, so that those that are left are the best ones."""
        return self.plan.left_out > 0 and not self.on_test

    @property
    def decimals(self) -> int:
        """Decimals in which scores are written."""
        return formats.decimals_for(option.expected for option in self.plan.options)

    def to_records(self) -> dict[str, Any]:  # Any: numbers, texts and lists of them
        """Returns all of it as plain values, for JSON."""
        return {
            "recipe": self.recipe,
            "metric": self.metric,
            "greater_is_better": self.greater_is_better,
            "on_test": self.on_test,
            "runs": self.plan.runs,
            "left_out": self.plan.left_out,
            "budget": self.plan.budget,
            "advice": advice(self),
            "cautions": cautions(self),
            "is_sure": self.is_sure,
            "runs_needed": self.plan.runs_needed,
            "recommended": _record(self.plan.recommended),
            "plain": _record(self.plan.plain),
            "dodge": _record(self.plan.dodge) if self.plan.dodge else None,
            "options": [_record(option) for option in self.plan.options],
            "over_budgets": [
                {
                    "budget": plan.budget,
                    "plain_expected": plan.plain.expected,
                    **_record(plan.recommended),
                }
                for plan in self.over_budgets
            ],
            "early_ranks": [asdict(rank) for rank in self.ranks],
        }


def plan_from(
    study: Study,
    budget: float,
    *,
    recipe: str | None = None,
    on_test: bool = False,
    perfect: float | None = None,
) -> StudyPlan:
    """Returns what the finished runs of a study advise for a budget.

    No setting starts more runs than were finished, or than the rule of `dodge` would: what lies
    far beyond the runs that are there is not for them to tell.

    Args:
        study: Runs with several evaluations each; those that were stopped early are left out.
        budget: B, in full runs per recipe, 1 or more.
        recipe: Whose runs; None: the first recipe's.
        on_test: Choose by validation, but count the test score.
        perfect: The score without error; None: 1 where greater is better, else 0.

    Raises:
        ConfigurationError: The budget is out of range, or there is no such recipe.
        DataError: Fewer than three finished runs, no early evaluations, or a score beyond the
            perfect one.

    Example:
        >>> from hf_stabilizer import Run, Study
        >>> def run(k):
        ...     end = 0.5 + (k * 7 % 20) / 50
        ...     curve = ((5, {"f1": end - 0.3 + (k % 3) / 50}), (20, {"f1": end}))
        ...     return Run("plain", {}, "finished", "", curve, "f1", best_score=end, steps=20)
        >>> runs = tuple(run(k) for k in range(20))
        >>> found = plan_from(Study("demo", ("plain",), runs, "f1", True), 6)
        >>> print(advice(found))
        With a budget of 6 full runs start 20 runs, stop them at 0.25 of their steps and continue
        the best one: an expected f1 of 0.870 against 0.830 with 6 runs to the end (+0.040, 95 %
        interval +0.021 to +0.068; 23 % of the error that these leave).
    """
    check_budget(budget)
    name = study.recipes[0] if recipe is None else recipe
    check_choice(name, study.recipes, name="recipe")
    runs = list(study.of(name))
    curves = planning_curves(runs, on_test=on_test)
    budgets = sorted({float(b) for b in LADDER if b <= 2 * budget} | {float(budget)})
    plans = {b: _plan(curves, b, perfect) for b in budgets}
    return StudyPlan(
        recipe=name,
        metric=study.metric,
        greater_is_better=curves.greater_is_better,
        on_test=on_test,
        plan=plans[float(budget)],
        over_budgets=tuple(plans.values()),
        # Where runs were evaluated, and not at 0.25 as well.
        ranks=early_ranks(curves_of(runs, on_test=on_test)),
    )


def _plan(curves: Curves, budget: float, perfect: float | None) -> Plan:
    most = max(len(curves.final), settings_for_budget(budget).runs, math.floor(budget + 1e-9))
    return plan_study(curves, budget, perfect=perfect, most_runs=most)


def advice(found: StudyPlan) -> str:
    """Returns the advice in one plain sentence: what to start, where to stop, what it brings."""
    return " ".join(advice_parts(found))


def advice_parts(found: StudyPlan) -> tuple[str, str]:
    """Returns that sentence in two parts: what to do, and what it brings."""
    plan, metric, decimals = found.plan, found.metric, found.decimals
    best, whole = plan.recommended, plan.plain
    budget = f"With a budget of {plan.budget:g} full run{'' if plan.budget == 1 else 's'}"
    plain = formats.number(whole.expected, decimals)
    if best.settings.stop_at == 1:
        return (
            f"{budget} run {whole.settings.runs} to the end:",
            f"no way of stopping early has a better expected {metric} than "
            f"{'its' if whole.settings.runs == 1 else 'their'} {plain}.",
        )
    looks = "" if found.is_sure else "this looks best: "
    error = ""
    if best.error_reduction is not None:
        error = f"; {percent(best.error_reduction)} of the error that these leave"
    return (
        f"{budget} {looks}{in_words(best.settings)}:",
        f"an expected {metric} of {formats.number(best.expected, decimals)} against {plain} with "
        f"{formats.counted(whole.settings.runs, 'run')} to the end "
        f"({_change(best, found)}, {_ends(best, found)}"
        f"{error}).",
    )


def cautions(found: StudyPlan) -> list[str]:
    """Returns what to keep in mind: too few runs to say, and what the simulation cannot know."""
    return list(_cautions(found))


def _cautions(found: StudyPlan) -> Iterator[str]:
    plan = found.plan
    best = plan.recommended
    stops = best.settings.stop_at < 1
    if stops and not plan.is_sure:
        yield _unsure(plan)
    if plan.runs < FEW:
        count = len(plan.options)
        chosen = f"the best of {count} settings looks better than it is; " if count > 1 else ""
        yield (
            f"{plan.runs} finished runs are few: {chosen}from {FEW} runs on this is more than a "
            "hint."
        )
    if best.settings.runs > plan.runs:
        yield (
            f"It starts {best.settings.runs} runs where {plan.runs} are finished; the simulation "
            "cannot find a better run than the best of these, so its gain is understated."
        )
    if stops and best.best_share < 0.5:
        yield (
            f"It is the best setting in {percent(best.best_share)} of the resamples; others do "
            "about as well, so round numbers near it are as good."
        )
    left, are = ("1 run", "is") if plan.left_out == 1 else (f"{plan.left_out} runs", "are")
    if found.of_survivors:
        were, their = ("was", "its") if plan.left_out == 1 else ("were", "their")
        yield (
            f"{left} that {were} stopped early {are} left out, as {their} end is not known; the "
            "others are the best of them, so these scores are too high and what a stop loses "
            "cannot be seen: plan from runs that all went to the end."
        )
    elif plan.left_out:
        yield f"{left} {are} left out: stopped early, or without a test score."


def _unsure(plan: Plan) -> str:
    needed = plan.runs_needed and max(plan.runs + 1, plan.runs_needed)
    told = f"These {plan.runs} runs are too few to tell it from running all to the end"
    if needed is not None and needed <= 50 * plan.runs:
        told += f" (about {needed} could, if the gain is what it seems)"
    if plan.dodge is None or plan.dodge.gain < 0:
        return f"{told}."
    return f"{told}; until then the published rule, --budget {plan.budget:g}, is as good a choice."


def in_words(settings: StudySettings) -> str:
    """Returns t, f and p as one would do them.

    Example:
        >>> in_words(StudySettings(25, 0.25, 5))
        'start 25 runs, stop them at 0.25 of their steps and continue the best 5'
        >>> in_words(StudySettings(10, 1.0, 10))
        'run 10 to the end'
    """
    if settings.stop_at == 1:
        return f"run {settings.runs} to the end"
    best = "the best one" if settings.keep == 1 else f"the best {settings.keep}"
    return (
        f"start {settings.runs} runs, stop them at {settings.stop_at:.3g} of their steps and "
        f"continue {best}"
    )


def flags(settings: StudySettings) -> str:
    """Returns the options of `hf-stabilizer study` that ask for these settings.

    Example:
        >>> flags(StudySettings(25, 0.25, 5)), flags(StudySettings(10, 1.0, 10))
        ('--runs 25 --stop-at 0.25 --keep 5', '--runs 10')
    """
    if settings.stop_at == 1:
        return f"--runs {settings.runs}"
    return f"--runs {settings.runs} --stop-at {settings.stop_at:.4g} --keep {settings.keep}"


def percent(share: float | None) -> str:
    """Returns a share in percent, a dash for none.

    Example:
        >>> percent(0.163), percent(None), percent(0.004)
        ('16 %', '-', '0.4 %')
    """
    if share is None:
        return formats.NOTHING
    return f"{100 * share:.1f} %" if 0 < abs(share) < 0.01 else f"{100 * share:.0f} %"


def _change(option: Option, found: StudyPlan) -> str:
    sign = 1 if found.greater_is_better else -1
    return formats.number(sign * option.gain, found.decimals, signed=True)


def _ends(option: Option, found: StudyPlan) -> str:
    sign = 1 if found.greater_is_better else -1
    ends = sorted(sign * end for end in option.interval)
    return (
        f"95 % interval {' to '.join(formats.number(e, found.decimals, signed=True) for e in ends)}"
    )


def _record(option: Option) -> dict[str, Any]:
    values = asdict(option)
    return {**values.pop("settings"), **values}
