"""How does an ablation look on a terminal? One table of all arms, and what it comes to in words."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.ablations.ablation import Ablation, AblationRow, ablation_of
from hf_stabilizer.studies.comparison import Comparison
from hf_stabilizer.studies.statistics import RecipeSummary
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.verdict import LEVEL, outcome, scored_rows, study_decimals

COLUMNS = ("arm", "mean", "std", "failed", "change", "95 % interval", "p")


def print_ablation(study: Study, console: Console) -> None:
    """Prints one table of all arms with their comparisons, and the outcome in words."""
    found = ablation_of(study)
    console.print()
    console.print(_table(study, found))
    console.print(Padding(Text(ablation_sentence(study)), (1, 0, 0, 0)))


def ablation_sentence(study: Study) -> str:
    """Returns the outcome of an ablation in a few plain sentences, without markup.

    A claim needs p <= .05, corrected for all comparisons of the table.

    Raises:
        StudyError: The study is no ablation.

    Example:
        >>> from hf_stabilizer import Run, Study
        >>> def run(recipe, seed, score):
        ...     return Run(recipe, {"seed": seed}, "finished", best_score=score + seed / 100)
        >>> scores = {"plain": 0.5, "swa": 0.6, "llrd": 0.5, "all": 0.6}
        >>> runs = tuple(run(arm, seed, s) for seed in range(8) for arm, s in scores.items())
        >>> arms = {"swa": {"alone": "swa", "without": "llrd"},
        ...     "llrd": {"alone": "llrd", "without": "swa"}}
        >>> asked = {"baseline": "plain", "all": "all", "remedies": arms}
        >>> study = Study("demo", tuple(scores), runs, "f1", True, ablation=asked)
        >>> print(ablation_sentence(study))
        All remedies together beat plain by 0.100 f1 (95 % interval 0.100 to 0.100, p = 0.039).
        Among the others swa adds 0.100; that llrd adds anything cannot be claimed. Alone swa helps.
    """
    found = ablation_of(study)
    change = found.together.alone.mean_difference
    decimals = formats.decimals_to_tell(change, study_decimals(study))
    parts = [_together(found, study.metric, decimals)]
    if found.smallest_p <= LEVEL:
        parts += [_added(found.rows, decimals), _alone(found.rows)]
    return " ".join(part for part in parts if part)


def _together(found: Ablation, metric: str, decimals: int) -> str:
    whole, name = found.together.alone, found.baseline.recipe
    if whole.mean_difference is None:
        return f"All remedies together and {name} have no seeds under which both have a score yet."
    change = f"{formats.number(abs(whole.mean_difference), decimals)} {metric}"
    if found.smallest_p > LEVEL:
        said = (
            f"Nothing can be claimed after correction for {found.comparisons} comparisons: "
            f"{whole.words}."
        )
        leads = "better" if (whole.gain or 0.0) > 0 else "worse"
        so_far = f" So far all remedies together are {leads} than {name} by {change}."
        return said + so_far if whole.gain else said
    sure = _certainty(whole, decimals)
    claimed = outcome(whole)
    if claimed == "open":
        return f"No difference can be claimed between {name} and all remedies together ({sure})."
    verb = "beat" if claimed == "better" else "are worse than"
    return f"All remedies together {verb} {name} by {change} ({sure})."


def _certainty(one: Comparison, decimals: int) -> str:
    parts = []
    if one.interval is not None:
        low, high = one.interval
        if outcome(one) != "open" and (one.mean_difference or 0.0) < 0:
            low, high = -high, -low  # "by" is always positive
        signed = outcome(one) == "open"
        ends = [formats.number(end, decimals, signed=signed) for end in (low, high)]
        parts.append(f"95 % interval {' to '.join(ends)}")
    return ", ".join([*parts, formats.p_value(one.p_value)])


def _added(rows: tuple[AblationRow, ...], decimals: int) -> str:
    """What each remedy adds to the others: with claims first."""
    parts = []
    for kind, verb in (("better", "adds"), ("worse", "takes away")):
        named = [
            f"{row.remedy} {verb} {formats.number(abs(row.added.gain or 0.0), decimals)}"
            for row in rows
            if row.added is not None and outcome(row.added) == kind
        ]
        parts += [_joined(named)] if named else []
    open_ = [row.remedy for row in rows if row.added is not None and outcome(row.added) == "open"]
    unshown = f"that {_joined(open_, 'or')} adds anything cannot be claimed" if open_ else ""
    if not parts:
        return f"{unshown[:1].upper()}{unshown[1:]} among the others." if unshown else ""
    return f"Among the others {'; '.join([*parts, *filter(None, [unshown])])}."


def _alone(rows: tuple[AblationRow, ...]) -> str:
    helps = [row.remedy for row in rows if outcome(row.alone) == "better"]
    hurts = [row.remedy for row in rows if outcome(row.alone) == "worse"]
    parts = [f"{_joined(helps)} help{'s' if len(helps) == 1 else ''}"] if helps else []
    parts += [f"{_joined(hurts)} hurt{'s' if len(hurts) == 1 else ''}"] if hurts else []
    return f"Alone {' and '.join(parts)}." if parts else "Alone none makes a difference that shows."


def _joined(names: list[str], word: str = "and") -> str:
    return f" {word} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _table(study: Study, found: Ablation) -> Table:
    decimals = study_decimals(study)
    direction = "greater" if study.greater_is_better else "smaller"
    baseline, everything = found.baseline.recipe, found.together.remedy
    table = Table(
        title=f"{study.metric} on {scored_rows(study)} rows, {direction} is better",
        caption=(
            f"change: alone minus {baseline}; {everything} minus the arm that leaves one out\n"
            f"p: corrected for {found.comparisons} comparisons (Holm)"
        ),
        box=SIMPLE_HEAD,  # narrow: the whole of it fits into 80 columns
        title_justify="left",
        caption_justify="left",
        title_style="",
        caption_style="dim",
        padding=(0, 1),
        pad_edge=False,
    )
    for name in COLUMNS:
        is_name = name == "arm"  # names may be long and are folded, numbers never
        table.add_column(
            name,
            justify="left" if is_name else "right",
            no_wrap=not is_name,
            overflow="fold" if is_name else "ellipsis",
        )
    table.add_row(*_arm(found.baseline, baseline, decimals))
    table.add_section()
    table.add_row("alone", style="dim")
    for row in (*found.rows, found.together):
        table.add_row(
            *_arm(row.alone_arm, f"  {row.remedy}", decimals), *_difference(row.alone, decimals)
        )
    table.add_section()
    table.add_row("left out", style="dim")
    for row in found.rows:
        assert row.without_arm is not None  # only `together` has none
        assert row.added is not None  # likewise
        table.add_row(
            *_arm(row.without_arm, f"  {row.remedy}", decimals),
            *_difference(row.added, decimals),
        )
    return table


def _arm(arm: RecipeSummary, name: str, decimals: int) -> list[str]:
    scores = [formats.number(score, decimals) for score in (arm.mean, arm.std)]
    return [name, *scores, f"{arm.failed}/{arm.ended}"]


def _difference(one: Comparison, decimals: int) -> list[str]:
    ends = [formats.number(end, decimals, signed=True) for end in one.interval or ()]
    return [
        formats.number(one.mean_difference, decimals, signed=True),
        " to ".join(ends) or formats.NOTHING,
        formats.p_value(one.p_value).removeprefix("p = ").removeprefix("p "),
    ]
