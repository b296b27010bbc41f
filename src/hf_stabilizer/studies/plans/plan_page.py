"""What does a plan look like on one page that needs no network? Both figures, and the tables.

The page is `plan_page.html.j2` with the style and the script of the report. It holds no date and no
random part: the same runs give the same file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jinja2
from markupsafe import Markup

from hf_stabilizer import __version__
from hf_stabilizer.errors import StudyError
from hf_stabilizer.records import write_atomically
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.formats import typographic
from hf_stabilizer.studies.page.data_links import data_link, file_stem
from hf_stabilizer.studies.page.section import Section
from hf_stabilizer.studies.page.sections.lines import Line, lines_chart
from hf_stabilizer.studies.page.sections.markup import Cell, figure, folded, number, panels, table
from hf_stabilizer.studies.page.shell import hash_of
from hf_stabilizer.studies.plans.plan_view import between, option_rows, shown_gain
from hf_stabilizer.studies.plans.study_plan import StudyPlan, advice_parts, cautions, flags, percent
from hf_stabilizer.studies.statistics import Option

MOST_OPTIONS = 40
"""Settings that are listed for the budget, the best first."""


def write_plan(found: StudyPlan, path: str | Path, *, name: str, command: str = "") -> Path:
    """Writes a plan as one self-contained HTML file and returns its path.

    Args:
        found: The plan.
        path: Where to write, e.g. "results/demo/plan.html".
        name: Name of the runs, for the title.
        command: The command line that makes the page again.

    Raises:
        StudyError: `path` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        example = str(path / "plan.html")
        raise StudyError(f"{str(path)!r} is a folder; name the file to write, such as {example!r}")
    write_atomically(path, render_plan(found, name=name, command=command))
    return path


def render_plan(found: StudyPlan, *, name: str, command: str = "") -> str:
    """Returns the page as text."""
    folder = Path(__file__).parent
    page = folder.parent / "page"  # the report's, whose style and script are this page's too
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, page]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["typographic"] = typographic
    script = (page / "report.js").read_text(encoding="utf-8")
    stem = f"{file_stem(name)}-plan"
    sections = list(_sections(found))
    return environment.get_template("plan_page.html.j2").render(
        found=found,
        name=name,
        stem=stem,
        advice=advice_parts(found),
        cautions=cautions(found),
        flags=flags(found.plan.recommended.settings),
        sections=sections,
        data=[data_link(one.records, f"{stem}-{one.anchor}") for one in sections],
        command=command,
        version=__version__,
        script=Markup(script),
        script_hash=hash_of(script),
    )


def _sections(found: StudyPlan) -> Iterator[Section]:
    yield _settings(found)
    yield _budgets(found)
    yield _ranking(found)


def _settings(found: StudyPlan) -> Section:
    heads = (
        "",
        "Start t",
        "Stop at f",
        "Keep p",
        "Cost",
        "Expected",
        "95 %",
        "Gain",
        "95 %",
        "Best in",
    )
    chosen = [_option_row(name, option, found) for name, option in option_rows(found)]
    plan = found.plan
    listed = [_option_row(str(k), o, found) for k, o in enumerate(plan.options[:MOST_OPTIONS], 1)]
    body = Markup("").join(
        [
            table("Settings for this budget", heads, chosen),
            folded(
                f"The best {len(listed)} of {len(plan.options)} settings",
                table("All settings for this budget", ("Rank", *heads[1:]), listed),
            ),
        ]
    )
    return Section(
        anchor="settings",
        title=f"With {plan.budget:g} full run{'' if plan.budget == 1 else 's'}",
        lead=f"Expected {found.metric} of the run that is chosen in the end; the gain is over "
        + (
            "one run that goes to the end."
            if plan.plain.settings.runs == 1
            else f"{plan.plain.settings.runs} runs that all go to the end."
        ),
        body=body,
        records=tuple(_record(option) for option in plan.options),
    )


def _option_row(name: str, option: Option, found: StudyPlan) -> list[Cell]:
    decimals, settings = found.decimals, option.settings
    gain, interval = shown_gain(option, found)
    stops = settings.stop_at < 1
    return [
        name,
        (str(settings.runs), settings.runs),
        (f"{settings.stop_at:.3g}" if stops else formats.NOTHING, settings.stop_at),
        (str(settings.keep) if stops else formats.NOTHING, settings.keep),
        (f"{option.cost:.4g}", option.cost),
        number(option.expected, decimals),
        between(option.expected_interval, decimals),
        number(gain, decimals, signed=True) if stops else formats.NOTHING,
        between(interval, decimals, signed=True) if stops else formats.NOTHING,
        (percent(option.best_share), option.best_share),
    ]


def _budgets(found: StudyPlan) -> Section:
    heads = (
        "Budget",
        "Start t",
        "Stop at f",
        "Keep p",
        "Expected",
        "None stopped",
        "Error less",
        "95 %",
    )
    rows: list[list[Cell]] = []
    for plan in found.over_budgets:
        best = plan.recommended
        settings, ends = best.settings, best.error_interval
        stops = settings.stop_at < 1
        rows.append(
            [
                (f"{plan.budget:g}", plan.budget),
                (str(settings.runs), settings.runs),
                (f"{settings.stop_at:.3g}" if stops else formats.NOTHING, settings.stop_at),
                (str(settings.keep) if stops else formats.NOTHING, settings.keep),
                number(best.expected, found.decimals),
                number(plan.plain.expected, found.decimals),
                (percent(best.error_reduction), best.error_reduction),
                " to ".join(map(percent, ends)) if ends else formats.NOTHING,
            ]
        )
    chart = lines_chart(
        "budgets",
        _error_lines(found),
        title="Relative error reduction over the budget",
        about="How much of the error that plain runs leave is gone when some are stopped early.",
        axis="budget in full runs",
        counts=True,
    )
    caption = (
        "Error that runs to the end leave and early stopping takes away, in percent; band 95 %."
    )
    return Section(
        anchor="budgets",
        title="Over budgets",
        lead="What stopping early is worth beside the same budget spent on runs to the end: (early "
        "- plain) / (perfect - plain).",
        body=Markup("").join(
            [
                panels([figure(chart, caption=caption)]),
                table("The best settings per budget", heads, rows),
            ]
        ),
        records=tuple(
            {"budget": plan.budget, "plain_expected": plan.plain.expected}
            | _record(plan.recommended)
            for plan in found.over_budgets
        ),
    )


def _error_lines(found: StudyPlan) -> list[Line]:
    best = [(plan.budget, plan.recommended) for plan in found.over_budgets]
    rule = [(plan.budget, plan.dodge) for plan in found.over_budgets if plan.dodge is not None]
    return [_error_line("dodge", rule, place=0, dash=1), _error_line("best here", best, place=1)]


def _error_line(
    name: str, options: list[tuple[float, Option]], *, place: int, dash: int = 0
) -> Line:
    known = [(b, o, o.error_reduction) for b, o in options if o.error_reduction is not None]
    ends = [(b, o.error_interval) for b, o, _ in known]
    return Line(
        name=name,
        points=tuple((b, 100 * reduction) for b, _, reduction in known),
        place=place,
        dash=dash,
        band=()
        if dash
        else tuple((b, 100 * end.low, 100 * end.high) for b, end in ends if end is not None),
        marks=tuple(
            (b, 100 * reduction, f"{name}, budget {b:g}: {flags(o.settings)}, {percent(reduction)}")
            for b, o, reduction in known
        ),
    )


def _ranking(found: StudyPlan) -> Section:
    known = [(r.fraction, r.spearman, r.interval) for r in found.ranks if r.spearman is not None]
    line = Line(
        name="Spearman",
        points=tuple((fraction, rho) for fraction, rho, _ in known),
        place=1,
        band=tuple((fraction, ends.low, ends.high) for fraction, _, ends in known if ends),
        marks=tuple((f, rho, f"at {f:.3g} of training: {rho:.2f}") for f, rho, _ in known),
    )
    low = min(
        [0.0, *(end for _, _, ends in known if ends for end in ends), *(y for _, y in line.points)]
    )
    chart = lines_chart(
        "ranking",
        [line],
        title="Rank correlation of the score at a fraction of training with the final one",
        about="Spearman's correlation over the fraction of training, with its 95 % interval.",
        axis="fraction of training",
        y_range=(low, 1.0),
    )
    heads = ("Fraction", "Spearman", "95 %", "Kendall")
    rows: list[list[Cell]] = [
        [
            (f"{rank.fraction:.3g}", rank.fraction),
            number(rank.spearman, 2),
            between(rank.interval, 2),
            number(rank.kendall, 2),
        ]
        for rank in found.ranks
    ]
    return Section(
        anchor="ranking",
        title="Does the early ranking hold?",
        lead="Best score so far against the final best. Where the line levels off, stopping later "
        "buys nothing; where it is low, good runs are stopped.",
        body=Markup("").join(
            [
                panels([figure(chart, caption="Spearman's rank correlation; band 95 %.")]),
                folded("The same in numbers", table("Rank correlations", heads, rows)),
            ]
        ),
        records=tuple(
            {"fraction": r.fraction, "spearman": r.spearman, "kendall": r.kendall}
            for r in found.ranks
        ),
    )


def _record(option: Option) -> dict[str, float | int | None]:
    low, high = option.interval
    return {
        "runs": option.settings.runs,
        "stop_at": option.settings.stop_at,
        "keep": option.settings.keep,
        "cost": option.cost,
        "expected": option.expected,
        "gain": option.gain,
        "gain_low": low,
        "gain_high": high,
        "error_reduction": option.error_reduction,
        "best_share": option.best_share,
    }
