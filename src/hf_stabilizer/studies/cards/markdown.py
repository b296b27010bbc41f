"""How does a study read in a pull request or a README? A page of GitHub Markdown.

    # NAME  **verdict**  | a row for each recipe |  | a row for each value of a sweep |
    | a row for each comparison |  caveats, cost, versions, how to run it again

The numbers are those of the report's page. Names are escaped, so that no recipe's name is taken
for markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hf_stabilizer.errors import StudyError
from hf_stabilizer.records import write_atomically
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.findings import (
    chosen_by_validation,
    paired_differences,
    swept_settings,
)
from hf_stabilizer.studies.findings.seed_factors import share_seeds
from hf_stabilizer.studies.findings.swept_settings import Sweep, SweptValue
from hf_stabilizer.studies.formats import typographic
from hf_stabilizer.studies.page.facts import early_stopping_fact
from hf_stabilizer.studies.scored_on import scored_on
from hf_stabilizer.studies.statistics import Interval, RecipeSummary
from hf_stabilizer.studies.verdict import LEVEL, study_decimals, verdict

if TYPE_CHECKING:
    from hf_stabilizer.studies.study import Study

FEW_RUNS = 5
"""Scored runs below which a mean and its spread are called rough."""


def markdown_summary(study: Study) -> str:
    r"""Returns the study as a page of GitHub Markdown.

    The verdict, a table of the recipes (runs, mean and standard deviation, its 95 % interval,
    median, worst, failed), the score against each setting that was swept, the paired differences,
    what to be careful with, cost, versions, and the command that makes the study again.

    Args:
        study: Finished or under way.

    Example:
        >>> from hf_stabilizer import Run, Study
        >>> def run(recipe, seed, score):
        ...     return Run(recipe, {"seed": seed}, "finished", best_score=score)
        >>> runs = [run("plain", seed, 0.5 + seed / 50) for seed in range(6)]
        >>> runs += [run("a|b", seed, 0.8) for seed in range(6)]
        >>> text = markdown_summary(Study("demo", ("plain", "a|b"), tuple(runs), "f1", True))
        >>> print([line for line in text.splitlines() if line.startswith("| a")][0][:40])
        | a\|b | 6 | 0.800 ± 0.000 | 0.800 to 0.
    """
    decimals = study_decimals(study)
    rows = study.summary()
    parts = [
        f"# {escaped(study.name)}",
        f"**{escaped(typographic(verdict(study)))}**",
        "## Recipes",
        _direction(study),
        recipe_table(rows, decimals),
        *_sweeps(study, decimals),
        *_differences(study, decimals),
        "## Take care",
        bullets(caveats(study)),
        "## Cost",
        bullets(_cost(study)),
        *_again(study),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def write_markdown_summary(study: Study, path: str | Path) -> Path:
    """Writes `markdown_summary` into a file, replaces one that is there, and returns its path.

    Raises:
        StudyError: `path` is a folder.

    Example:
        >>> import tempfile
        >>> from hf_stabilizer import Run, Study
        >>> runs = (Run("plain", {"seed": 1}, "finished", best_score=0.7),)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     study = Study("demo", ("plain",), runs, "f1", True)
        ...     page = write_markdown_summary(study, f"{folder}/summary.md")
        ...     page.read_text(encoding="utf-8").splitlines()[0]
        '# demo'
    """
    path = Path(path)
    if path.is_dir():
        example = str(path / "summary.md")
        raise StudyError(f"{str(path)!r} is a folder; name the file to write, such as {example!r}")
    write_atomically(path, markdown_summary(study))
    return path


def escaped(text: str) -> str:
    r"""Returns text that Markdown shows as it stands, in a table, too.

    Example:
        >>> print(escaped("a|b_c <i> [x]"), escaped("two\nlines"))
        a\|b\_c \<i\> \[x\] two lines
    """
    one_line = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", one_line)


def code_block(text: str, language: str = "") -> str:
    """Returns text as a block of code, whatever it holds.

    Example:
        >>> print(code_block("hf-stabilizer env", "bash"))
        ```bash
        hf-stabilizer env
        ```
    """
    longest = max((len(ticks) for ticks in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table; the first column is aligned to the left, numbers to the right.

    Args:
        heads: Names of the columns, escaped.
        rows: Cells, escaped.

    Example:
        >>> print(table(["Recipe", "Mean"], [["plain", "0.5"]]))
        | Recipe | Mean |
        | :-- | --: |
        | plain | 0.5 |
    """
    marks = [":--", *["--:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, marks, *rows))


def bullets(lines: Iterable[str]) -> str:
    """Returns lines as a list."""
    return "\n".join(f"- {line}" for line in lines)


def recipe_table(rows: Iterable[RecipeSummary], decimals: int) -> str:
    """Returns one line for each recipe: runs, mean and spread, median, worst, failed, time."""
    heads = ["Recipe", "Runs", "Mean ± std", "95 % interval", "Median", "Worst", "Failed"]
    rows = list(rows)
    has_stopped = any(row.stopped for row in rows)
    if has_stopped:
        heads.insert(2, "Not stopped")
    heads.append("Time of a run")
    return table(heads, [_recipe_row(row, decimals, has_stopped) for row in rows])


def mean_and_std(row: RecipeSummary, decimals: int) -> str:
    """Returns the mean of a recipe with its standard deviation, as far as there are any."""
    mean = formats.number(row.mean, decimals)
    std = "" if row.std is None else f" ± {formats.number(row.std, decimals)}"
    return typographic(mean) + std


def between(interval: Interval | None, decimals: int, *, signed: bool = False) -> str:
    """Returns an interval in words, a dash where there is none."""
    if interval is None:
        return typographic(formats.NOTHING)
    ends = (typographic(formats.number(end, decimals, signed=signed)) for end in interval)
    return " to ".join(ends)


def caveats(study: Study) -> Iterator[str]:
    """Yields a sentence for each thing that a careful reader of the numbers must know, escaped."""
    yield escaped(scored_on(study.runs))
    rows = study.summary()
    if few := [row.recipe for row in rows if row.scored < FEW_RUNS]:
        named = escaped(", ".join(few))
        yield f"Fewer than {FEW_RUNS} scores of {named}: mean and spread are rough."
    if failed := sum(row.failed for row in rows):
        ended = sum(row.ended for row in rows)
        which = formats.counted(ended, "run") + (
            " that were not stopped" if ended < len(study.runs) else ""
        )
        yield (
            f"{failed} of {which} failed. Those that left a score count in mean "
            "and spread; those that left none are counted, not averaged."
        )
    if stopped := sum(row.stopped for row in rows):
        yield (
            f"{stopped} run{' was' if stopped == 1 else 's were'} stopped early by the scores on "
            "the way, in no mean: those that went on were chosen, so they are better than runs at "
            "random. Whether the stopped ones would have failed is not known: they are no part of "
            "the share of failed runs."
            + (
                " Runs that failed before the stop are, so that share may lie too high."
                if failed
                else ""
            )
        )
    if lost := sum(row.lost_when_stopped for row in rows):
        yield f"{lost} of the runs that were stopped had collapsed by then."
    if any(share_seeds(study.of(recipe)) for recipe in study.recipes):
        yield (
            "Runs share head seeds or data seeds, so fewer are independent than are there. Tests "
            "between recipes and the intervals of the means count that; the standard deviations "
            "are over all runs."
        )
    chosen = chosen_by_validation.find(study)
    if chosen is not None:
        yield (
            "A single number of the best of many runs is optimistic: report the mean, or the test "
            "score of the run that validation chose."
        )


def _direction(study: Study) -> str:
    better = "higher" if study.greater_is_better else "lower"
    return f"{escaped(study.metric)}, {better} is better; ± is the standard deviation over runs."


def _recipe_row(row: RecipeSummary, decimals: int, has_ends: bool) -> list[str]:
    score = [typographic(formats.number(value, decimals)) for value in (row.median, row.worst)]
    time = formats.duration(row.seconds) if row.seconds else formats.NOTHING
    return [
        escaped(row.recipe),
        str(row.runs),
        *([str(row.runs - row.stopped)] if has_ends else []),
        mean_and_std(row, decimals),
        between(row.interval, decimals),
        *score,
        f"{row.failed} of {row.ended}",
        typographic(time),
    ]


def _sweeps(study: Study, decimals: int) -> Iterator[str]:
    """Yields the score against each setting that was swept, from its smallest value up."""
    found = swept_settings.find(study)
    for one in () if found is None else found.sweeps:
        yield f"## Score against {escaped(one.key)}"
        yield escaped(typographic(swept_settings.words(one)))
        heads = ["Value", "Runs", "Mean ± std", "95 % interval", "Failed", "Minus the best", "p"]
        yield table(heads, [_swept_row(one, value, decimals) for value in one.values])
        unset = "" if one.unset is None else f" {escaped(one.unset.recipe)} does not set it: mean "
        level = "" if one.unset is None else f"{mean_and_std(one.unset, decimals)}."
        yield f"{swept_settings.correction_words(one)}{unset}{level}"


def _swept_row(sweep: Sweep, value: SweptValue, decimals: int) -> list[str]:
    row, against = value.summary, value.against_best
    difference = against.mean_difference if against else None
    written = typographic(f"{value.value:g}")
    p = formats.p_value(value.p_value).removeprefix("p = ").removeprefix("p ")
    return [
        f"**{written}**, best mean" if value is sweep.best else written,
        str(row.scored),
        mean_and_std(row, decimals),
        between(row.interval, decimals),
        f"{row.failed} of {row.ended}",
        typographic(formats.number(difference, decimals, signed=True)),
        typographic(p),
    ]


def _differences(study: Study, decimals: int) -> Iterator[str]:
    found = paired_differences.find(study)
    if found is None:
        return
    heads = ["Recipe", "Compared", "Mean difference", "95 % interval", "p", "Claim", "Better in"]
    rows = []
    for one in found.candidates:
        pair = one.comparison
        wins = "-" if pair.superiority is None else f"{100 * pair.superiority:.0f} %"
        rows.append(
            [
                escaped(pair.candidate),
                escaped(pair.held),
                typographic(formats.number(pair.mean_difference, decimals, signed=True)),
                between(pair.interval, decimals, signed=True),
                typographic(formats.p_value(pair.p_value).removeprefix("p = ").removeprefix("p ")),
                one.outcome,
                typographic(wins),
            ]
        )
    among = found.candidates[0].comparison.among
    yield f"## Against {escaped(found.baseline)}"
    yield table(heads, rows)
    yield (
        f"Exact tests over the seeds, corrected by Holm's method for {among} "
        f"comparison{'' if among == 1 else 's'}; a claim needs p ≤ {LEVEL}. Better in: share "
        "of the compared runs, ties counted half. Intervals are before correction."
    )


def _cost(study: Study) -> Iterator[str]:
    seconds = sum(run.seconds for run in study.runs)
    told = f" in {formats.duration(seconds)} of running time, all added up" if seconds else ""
    runs = "run" if len(study.runs) == 1 else "runs"
    yield typographic(f"{len(study.runs)} {runs}{told}.")
    if (saved := early_stopping_fact(study)) is not None:
        yield escaped(f"Saved by stopping early: {saved.answer} {saved.note}.")


def _again(study: Study) -> Iterator[str]:
    if study.versions:
        known = ", ".join(f"{name} {number}" for name, number in study.versions.items())
        yield "## Versions"
        yield escaped(known)
    if study.command:
        yield "## Run it again"
        yield code_block(study.command, "bash")
