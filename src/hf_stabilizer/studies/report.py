"""What does a careful reader need to see of a study, on one page that needs no network?

The page is `report.html.j2` with `report.css`, filled here and drawn by `charts`. It holds no
date and no random part: the same study gives the same file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from hf_stabilizer.errors import StudyError
from hf_stabilizer.records import Run, write_atomically
from hf_stabilizer.studies import charts, formats
from hf_stabilizer.studies.comparison import Comparison, comparisons
from hf_stabilizer.studies.statistics import RecipeSummary, final_score, summary_rows
from hf_stabilizer.studies.verdict import focus, outcome, study_decimals, verdict_parts

if TYPE_CHECKING:
    from hf_stabilizer.studies.study import Study


def write_report(study_or_folder: Study | str | os.PathLike[str], path: str | Path) -> Path:
    """Writes the study as one self-contained HTML file and returns its path.

    The file loads nothing: no scripts, fonts, images or styles from elsewhere, and its content
    security policy forbids them. Folders on the way are made; an older report is replaced.

    Args:
        study_or_folder: A `Study`, finished or under way, or the folder that holds one.
        path: Where to write, e.g. "results/demo/report.html".

    Raises:
        StudyError: The folder holds no study, or `path` is a folder.

    Example:
        >>> import tempfile
        >>> from hf_stabilizer import Run, Study
        >>> runs = tuple(Run("plain", {"seed": s}, "finished", best_score=0.7) for s in (1, 2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = write_report(Study("demo", ("plain",), runs, "f1", True), f"{folder}/a.html")
        ...     page.name, "<h1" in page.read_text(encoding="utf-8")
        ('a.html', True)
    """
    path = Path(path)
    if path.is_dir():
        example = str(path / "report.html")
        raise StudyError(f"{str(path)!r} is a folder; name the file to write, such as {example!r}")
    if isinstance(study_or_folder, (str, os.PathLike)):
        from hf_stabilizer.studies.study import Study

        study_or_folder = Study.from_folder(Path(study_or_folder))
    write_atomically(path, render(study_or_folder))
    return path


def render(study: Study) -> str:
    """Returns the page as text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    decimals = study_decimals(study)
    environment.filters.update(
        score=lambda value: typographic(formats.number(value, decimals)),
        change=lambda value: typographic(formats.number(value, decimals, signed=True)),
        p_value=lambda p: typographic(formats.p_value(p)),
        # Runs of other programs need not tell their time.
        duration=lambda s: typographic(formats.duration(s) if s else formats.NOTHING),
        setting=setting_text,
        which_run=charts.which_run,
        typographic=typographic,
    )
    return environment.get_template("report.html.j2").render(**_content(study))


def typographic(text: str) -> str:
    """Returns text with true minus signs, dashes for absent numbers and unbroken units.

    Example:
        >>> typographic("-0.5") == "\N{MINUS SIGN}0.5", typographic("-") == "\N{EN DASH}"
        (True, True)
    """
    if text == formats.NOTHING:
        return "\N{EN DASH}"
    text = re.sub(r"(?<![\w-])-(?=\d)", "\N{MINUS SIGN}", text)
    text = re.sub(r"\bp ([=<]) (?=\d)", "p\N{NO-BREAK SPACE}\\1\N{NO-BREAK SPACE}", text)
    return re.sub(r"(?<=\d) (?=(%|s|h|min)\b|%)", "\N{NO-BREAK SPACE}", text)


def setting_text(value: Any) -> str:  # Any: whatever YAML can say
    """Returns the value of a setting as YAML would have it.

    Example:
        >>> setting_text(True), setting_text(None), setting_text([1, 2]), setting_text("swa")
        ('true', 'null', '[1, 2]', 'swa')
    """
    return value if isinstance(value, str) else json.dumps(value, default=str, sort_keys=True)


@dataclass(frozen=True)
class Fact:
    """One of the few numbers that stand large under the verdict."""

    question: str
    """What it answers."""
    answer: str
    """The number."""
    note: str
    """What stands behind it."""


@dataclass(frozen=True)
class Settings:
    """The configurations of a study, told apart."""

    differing: tuple[tuple[str, tuple[str | None, ...]], ...]
    """(key, value per recipe) where recipes differ; None where a recipe leaves the default."""
    common: tuple[tuple[str, str], ...]
    """(key, value) that all recipes share."""


def settings_of(study: Study) -> Settings:
    """Returns what differs between the recipes' settings, and what does not."""
    resolved = [{**study.configuration, **study.recipe_settings.get(r, {})} for r in study.recipes]
    differing, common = [], []
    for key in sorted({key for one in resolved for key in one}):
        values = tuple(setting_text(one[key]) if key in one else None for one in resolved)
        if len(set(values)) > 1:
            differing.append((key, values))
        else:
            common.append((key, str(values[0])))
    return Settings(tuple(differing), tuple(common))


def _content(study: Study) -> dict[str, Any]:  # Any: the names that the template uses
    rows = summary_rows(study.runs, study.recipes)
    found = comparisons(study.runs, study.recipes) if study.recipes else ()
    return {
        "study": study,
        "planned": len(study.seeds) * len(study.recipes),
        "verdict": verdict_parts(study),
        "facts": _facts(study, rows, found),
        "rows": rows,
        "comparisons": [(one, outcome(one)) for one in found],
        "paired": any(not one.unpaired for one in found),
        "unpaired": [one.candidate for one in found if one.unpaired],
        "scored_on": _scored_on(study.runs),
        "seed_names": charts.seed_names(name for run in study.runs for name in run.seeds),
        "failed": [run for run in study.runs if run.status == "failed"],
        "stopped": sum(row.stopped for row in rows),
        "total_seconds": sum(run.seconds for run in study.runs),
        "settings": settings_of(study),
        "strip": charts.strip_chart(
            study.runs, rows, metric=study.metric, greater_is_better=study.greater_is_better
        ),
        "pair_charts": [
            charts.pairs_chart(one, metric=study.metric, place=place)
            for place, one in enumerate(found, 1)
        ],
        "curves": _curves(study),
    }


def _curves(study: Study) -> list[Markup]:
    if not any(charts.mean_curve([run], study.metric) for run in study.runs):
        return []
    return [
        charts.curves_chart(
            [run for run in study.runs if run.recipe == recipe],
            recipe=recipe,
            metric=study.metric,
            everyone=study.runs,
            place=place,
        )
        for place, recipe in enumerate(study.recipes)
    ]


def _scored_on(runs: Sequence[Run]) -> str:
    scored = [run for run in runs if final_score(run) is not None]
    tested = sum(run.test_score is not None for run in scored)
    if scored and tested == len(scored) and any("folder" in run.configuration for run in scored):
        return (
            "Scores are on the test rows, as each script left its model: the best by validation "
            "where it loaded that at the end, else the last."
        )
    if scored and tested == len(scored):
        return "Scores are on the test rows, with the weights that validation chose."
    if tested:
        return (
            f"Scores of {tested} of {len(scored)} runs are on the test rows, the others the best "
            "on the validation rows, which is optimistic: compare them with care."
        )
    return (
        "Scores are the best of each run on the validation rows. As the best of several looks, "
        "they are a little optimistic, alike for every recipe that is evaluated equally often."
    )


def _facts(study: Study, rows: Sequence[RecipeSummary], found: Sequence[Comparison]) -> list[Fact]:
    decimals = study_decimals(study)
    failed = sum(row.failed for row in rows)
    tail = [Fact("Failed runs", f"{failed} of {len(study.runs)}", _failed_note(rows))]
    seconds = {row.recipe: row.seconds for row in rows}
    total = formats.duration(sum(run.seconds for run in study.runs))
    if not found:
        return [*_facts_of_one(rows, study.metric, decimals), *tail, Fact("Cost", total, "in all")]
    chosen = focus(found)
    before, after = seconds[chosen.baseline], seconds[chosen.candidate]
    ratio = f"{after / before:.1f} \N{MULTIPLICATION SIGN}" if before and after else "-"
    note = f"{formats.duration(before)} \N{RIGHTWARDS ARROW} {formats.duration(after)} a run"
    cost = Fact("At which cost", ratio, f"{note}, {total} in all")
    return [*_facts_of_pair(chosen, study.metric, decimals), *tail, cost]


def _facts_of_one(rows: Sequence[RecipeSummary], metric: str, decimals: int) -> list[Fact]:
    return [
        fact
        for row in rows
        for fact in (
            Fact("Mean", formats.number(row.mean, decimals), f"{metric}, {row.scored} runs"),
            Fact("Spread", formats.number(row.std, decimals), "standard deviation"),
            Fact("Worst run", formats.number(row.worst, decimals), metric),
        )
    ]


def _facts_of_pair(chosen: Comparison, metric: str, decimals: int) -> list[Fact]:
    arrow = " \N{RIGHTWARDS ARROW} "
    ends = [formats.number(end, decimals, signed=True) for end in chosen.interval or ()]
    sure = f"95 % interval {' to '.join(ends)}" if ends else _no_interval(chosen)
    spread = [formats.number(s, decimals) for s in (chosen.baseline_std, chosen.candidate_std)]
    return [
        Fact(
            "By how much",
            formats.number(chosen.mean_difference, decimals, signed=True),
            f"{metric}, {chosen.baseline}{arrow}{chosen.candidate}",
        ),
        Fact("How sure", formats.p_value(chosen.p_value), f"{sure}, {chosen.held}"),
        Fact(
            "Spread",
            arrow.join(spread) if chosen.candidate_std is not None else formats.NOTHING,
            "standard deviation"
            + (f", {formats.p_value(chosen.spread_p)}" if chosen.spread_p is not None else ""),
        ),
    ]


def _no_interval(chosen: Comparison) -> str:
    return f"no 95 % interval: {'too few runs' if chosen.unpaired else 'under six pairs'}"


def _failed_note(rows: Sequence[RecipeSummary]) -> str:
    counts = [f"{row.recipe} {row.failed}" for row in rows if row.failed]
    return ", ".join(counts) or "every run ended well"
