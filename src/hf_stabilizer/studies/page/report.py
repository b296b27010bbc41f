"""What does a careful reader need to see of a study, on one page that needs no network?

The page is `report.html.j2` with `report.css` and `report.js`, filled here and drawn by `charts`;
`sections` adds to it. It holds no date and no random part: the same study gives the same file.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from hf_stabilizer.errors import StudyError
from hf_stabilizer.records import write_atomically
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.ablations.ablation import comparisons_of_study
from hf_stabilizer.studies.comparison import Comparison
from hf_stabilizer.studies.page import charts, sections
from hf_stabilizer.studies.page.data_links import (
    curve_records,
    data_link,
    file_stem,
    pair_records,
    run_records,
    score_records,
)
from hf_stabilizer.studies.page.facts import facts_of
from hf_stabilizer.studies.page.section import Section
from hf_stabilizer.studies.page.shell import hash_of
from hf_stabilizer.studies.scored_on import scored_on
from hf_stabilizer.studies.statistics import RecipeSummary, summary_rows
from hf_stabilizer.studies.verdict import outcome, study_decimals, verdict_parts

if TYPE_CHECKING:
    from hf_stabilizer.studies.study import Study

Content = dict[str, Any]  # Any: the names that the template uses


def write_report(study_or_folder: Study | str | os.PathLike[str], path: str | Path) -> Path:
    """Writes the study as one self-contained HTML file and returns its path.

    The file loads nothing: no scripts, fonts, images or styles from elsewhere, and its content
    security policy forbids them. Its one small script, allowed by its hash, names what is pointed
    at, sorts tables and saves drawings as SVG; without it the page is whole, too, and the data
    behind each figure can be saved as CSV. Folders on the way are made; an older report is
    replaced.

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
        score=lambda value: formats.typographic(formats.number(value, decimals)),
        change=lambda value: formats.typographic(formats.number(value, decimals, signed=True)),
        p_value=lambda p: formats.typographic(formats.p_value(p)),
        # Runs of other programs need not tell their time.
        duration=lambda s: formats.typographic(formats.duration(s) if s else formats.NOTHING),
        setting=setting_text,
        which_run=charts.which_run,
        run_key=charts.run_key,
        is_finite=lambda value: value is not None and math.isfinite(value),
        typographic=formats.typographic,
    )
    return environment.get_template("report.html.j2").render(**_content(study))


def setting_text(value: Any) -> str:  # Any: whatever YAML can say
    """Returns the value of a setting as YAML would have it.

    Example:
        >>> setting_text(True), setting_text(None), setting_text([1, 2]), setting_text("swa")
        ('true', 'null', '[1, 2]', 'swa')
    """
    return value if isinstance(value, str) else json.dumps(value, default=str, sort_keys=True)


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


def _content(study: Study) -> Content:
    rows = summary_rows(study.runs, study.recipes)
    found = comparisons_of_study(study)
    parts = sections_of(study)
    script = (Path(__file__).parent / "report.js").read_text(encoding="utf-8")
    stem = file_stem(study.name)
    return {
        "study": study,
        "stem": stem,
        "planned": len(study.seeds) * len(study.recipes),
        "verdict": verdict_parts(study),
        "facts": facts_of(study, rows, found),
        "rows": rows,
        "comparisons": [(one, outcome(one)) for one in found],
        "paired": any(not one.unpaired for one in found),
        "unpaired": [one.candidate for one in found if one.unpaired],
        "scored_on": scored_on(study.runs),
        "seed_names": charts.seed_names(name for run in study.runs for name in run.seeds),
        "failed": [run for run in study.runs if run.status == "failed"],
        "stopped": sum(row.stopped for row in rows),
        "settings": settings_of(study),
        **_figures(study, found, rows),
        "sections": parts,
        "section_data": [data_link(part.records, f"{stem}-{part.anchor}") for part in parts],
        "script": Markup(script),
        "script_hash": hash_of(script),
    }


def _figures(study: Study, found: Sequence[Comparison], rows: Sequence[RecipeSummary]) -> Content:
    stem, metric = file_stem(study.name), study.metric
    return {
        "strip": charts.strip_chart(
            study.runs, rows, metric=metric, greater_is_better=study.greater_is_better
        ),
        "strip_data": data_link(score_records(study), f"{stem}-scores"),
        "pair_charts": [
            charts.pairs_chart(one, metric=metric, place=study.recipes.index(one.candidate))
            for one in found
        ],
        "pair_data": [
            data_link(pair_records(one), f"{stem}-pairs-{place}")
            for place, one in enumerate(found, 1)
        ],
        "curves": _curves(study, stem),
        "halted": any(charts.halt_step(study.of(r), study.stop_at) for r in study.recipes),
        "runs_data": data_link(run_records(study), f"{stem}-runs", label="runs (CSV)"),
    }


def _curves(study: Study, stem: str) -> list[Content]:
    if not any(charts.curve(run, study.metric) for run in study.runs):
        return []
    found = []
    for place, recipe in enumerate(study.recipes):
        runs = study.of(recipe)
        halt = charts.halt_step(runs, study.stop_at)
        chart = charts.curves_chart(
            runs, recipe=recipe, metric=study.metric, everyone=study.runs, place=place, halt=halt
        )
        records = curve_records(runs, study.metric)
        found.append(
            {
                "recipe": recipe,
                "chart": chart,
                "words": charts.who_was_cut(runs, halt) if halt is not None else "",
                "data": data_link(records, f"{stem}-curves-{place}"),
            }
        )
    return found


def sections_of(study: Study) -> tuple[Section, ...]:
    """Returns the further parts of the page that the study has something to show in."""
    return tuple(part for make in sections.SECTIONS if (part := make(study)) is not None)
