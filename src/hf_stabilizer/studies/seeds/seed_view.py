"""How does what the seeds decide look on a terminal, and in a file? Tables and plain sentences.

What can be claimed of those numbers is said by `seed_words`. Imports no torch.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hf_stabilizer.errors import ConfigurationError, StudyError
from hf_stabilizer.records import check_file, write_atomically
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.past_runs.reading import read_runs
from hf_stabilizer.studies.seeds.seed_effects import (
    SeedEffects,
    rank_agreement_of_heads,
    seed_effects,
)
from hf_stabilizer.studies.seeds.seed_words import (
    agreement_sentence,
    called,
    decimals_of,
    runs_counted,
    sentences,
)
from hf_stabilizer.studies.statistics import RankAgreement, SeedMean
from hf_stabilizer.studies.study import Study

PICTURES = (".png", ".pdf", ".svg")
SHOWN = 12
"""Seeds that a table on the screen holds at most: the best and the worst."""


@dataclass(frozen=True)
class SeedStory:
    """What the seeds of one or more studies decide."""

    effects: tuple[SeedEffects, ...]
    """One for each study and recipe."""
    agreements: Mapping[str, RankAgreement | None]
    """Recipe -> how alike the studies rank its heads; None: fewer than three heads are shared."""

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as plain values, for JSON."""
        return {
            "effects": [one.to_dict() for one in self.effects],
            "agreements": [
                {
                    "recipe": recipe,
                    "data_sets": list(found.data_sets),
                    "seeds": list(found.seeds),
                    "mean_ranks": list(found.mean_ranks),
                    "kendall_w": found.kendall_w,
                    "p_value": found.p_value,
                    "spearman": [list(one) for one in found.spearman],
                    "dropped": found.dropped,
                }
                for recipe, found in self.agreements.items()
                if found is not None
            ],
        }

    def to_csv(self) -> str:
        """Returns one line for each factor and each seed."""
        file = io.StringIO()
        columns = ("data_set", "recipe", "metric", "table", "name", "seed", "runs", "mean", "low")
        more = ("high", "effect", "expected", "share", "std", "degrees", "f", "p_value")
        writer = csv.DictWriter(
            file, (*columns, *more, "shuffled_p"), extrasaction="ignore", lineterminator="\n"
        )
        writer.writeheader()
        for one in (effect.to_dict() for effect in self.effects):
            about = {key: one[key] for key in ("data_set", "recipe", "metric")}
            writer.writerows({**about, "table": "factor", **row} for row in one["factors"])
            writer.writerows({**about, "table": "seed", **row} for row in one["seeds"])
        return file.getvalue()


def show_seeds(
    folders: Sequence[str | Path],
    *,
    metric: str | None = None,
    greater_is_better: bool | None = None,
    recipes: Sequence[str] | None = None,
    output: Path | None = None,
    plot: Path | None = None,
    console: Console | None = None,
) -> SeedStory:
    """Prints what the seeds of finished studies decide, and writes it where that is asked for.

    Args:
        folders: One or more folders, each of one study or of runs on one data set.
        metric: The metric that decides; None: as the runs name it.
        greater_is_better: Its direction; None: as its name and the runs have it.
        recipes: Recipes to look at; None: all.
        output: A file to write, .json or .csv.
        plot: A picture to write, .png, .pdf or .svg.
        console: Where to print; None: standard output.

    Raises:
        ConfigurationError: A path or a recipe cannot be right, or two studies have one name.
        StudyError: A folder holds no runs, or the studies' heads are not the same.
    """
    _check_paths(output, plot)
    studies, places = _read(folders, metric, greater_is_better)
    story = seed_story(studies, folders=places, recipes=recipes)
    console = console or Console()
    if not console.is_terminal:
        console = Console(width=100, file=console.file)
    print_seeds(story, console)
    if output is not None:
        is_json = output.suffix.lower() == ".json"
        text = json.dumps(story.to_dict(), indent=2) if is_json else story.to_csv()
        write_atomically(output, text)
    if plot is not None:
        from hf_stabilizer.studies.seeds.seed_figure import plot_seeds

        plot.parent.mkdir(parents=True, exist_ok=True)
        plot_seeds(story.effects).savefig(plot, dpi=150, bbox_inches="tight")
    for path in filter(None, (output, plot)):
        console.print(str(path), highlight=False, markup=False, soft_wrap=True)
    return story


def seed_story(
    studies: Mapping[str, Study],
    *,
    folders: Mapping[str, Path],
    recipes: Sequence[str] | None = None,
) -> SeedStory:
    """Returns what the seeds of studies decide, and how alike the studies rank the same heads.

    Raises:
        ConfigurationError: A recipe that no study has.
        StudyError: No run has seeds and a score, or the studies' heads are not the same.
    """
    everyone = dict.fromkeys(name for study in studies.values() for name in study.recipes)
    for name in recipes or ():
        if name not in everyone:
            raise ConfigurationError(
                f"no study has a recipe {name!r}; there are {', '.join(everyone)}"
            )
    wanted = [name for name in everyone if not recipes or name in recipes]
    effects = [one for study in studies.values() for one in seed_effects(study)]
    shared = [name for name in wanted if all(name in study.recipes for study in studies.values())]
    if len(studies) > 1 and not shared:
        raise StudyError(
            f"the studies {' and '.join(studies)} share no recipe, so their heads cannot be "
            "compared; name studies with one recipe in common"
        )
    several = shared if len(studies) > 1 else []
    return SeedStory(
        tuple(one for one in effects if one.recipe in wanted),
        {name: rank_agreement_of_heads(studies, name, folders=folders) for name in several},
    )


def print_seeds(story: SeedStory, console: Console) -> None:
    """Prints tables and sentences."""
    for one in story.effects:
        console.print()
        console.print(Text(_title(one), style="bold"))
        if one.analysis is not None:
            console.print(_factor_table(one))
        decimals = decimals_of(one)
        for name, means in zip(one.varied, (one.heads, one.others), strict=False):
            if not one.vary_together:
                console.print(_seed_table(one.words[name], means, decimals))
        for sentence in sentences(one):
            console.print(f"- {sentence}", highlight=False, markup=False)
    for recipe, found in story.agreements.items():
        console.print()
        console.print(agreement_sentence(recipe, found), highlight=False, markup=False)


def _title(one: SeedEffects) -> str:
    direction = "greater" if one.greater_is_better else "smaller"
    grid = " x ".join(f"{count} {one.words[name]}" for name, count in one.varied.items())
    grid = grid.removesuffix(" seed")  # a script's one seed is called so
    where = f" in {grid} seeds" if grid and not one.vary_together else ""
    return (
        f"{one.data_set}, recipe {one.recipe}: {runs_counted(len(one.runs))}{where}; {one.metric}, "
        f"{direction} is better"
    )


def _factor_table(one: SeedEffects) -> Table:
    table = Table()
    table.add_column("source of the spread", no_wrap=True)
    for name in ("share of variance", "std", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    assert one.analysis is not None
    decimals = decimals_of(one) + 1
    for factor in one.analysis.factors:
        p = factor.shuffled_p if factor.shuffled_p is not None else factor.p_value
        table.add_row(
            _source(one, factor.name),
            f"{100 * factor.share:.0f} %",
            formats.number(factor.variance**0.5, decimals),
            formats.p_value(p).removeprefix("p = ").removeprefix("p "),
        )
    return table


def _source(one: SeedEffects, name: str) -> str:
    """What the last line of the table holds besides chance."""
    assert one.analysis is not None
    if name != "rest":
        return {"data": "data order"}.get(name, name)
    if len(one.analysis.factors) == 3:  # one run in each cell
        return "both together, and chance"
    third = [one.words[n] for n in [*one.varied][2:]]
    return f"{' and '.join(third)}, and chance" if third else "chance"


def _seed_table(name: str, means: Sequence[SeedMean], decimals: int) -> Table:
    table = Table()
    columns = (called(name), "runs", "mean", "95 % interval", "to the others", "p", "expected")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    half = SHOWN // 2
    shown = [*means] if len(means) <= SHOWN else [*means[:half], None, *means[-half:]]
    for mean in shown:
        if mean is None:
            table.add_row("...")
            continue
        ends = [formats.number(end, decimals) for end in mean.interval or ()]
        table.add_row(
            str(mean.seed),
            str(mean.runs),
            formats.number(mean.mean, decimals),
            " to ".join(ends) or formats.NOTHING,
            formats.number(mean.effect, decimals, signed=True),
            formats.p_value(mean.p_value).removeprefix("p = ").removeprefix("p "),
            formats.number(mean.expected, decimals),
        )
    return table


def _check_paths(output: Path | None, plot: Path | None) -> None:
    if output is not None and output.suffix.lower() not in (".json", ".csv"):
        raise ConfigurationError(f"output must end in .json or .csv, got {str(output)!r}")
    if plot is not None and plot.suffix.lower() not in PICTURES:
        raise ConfigurationError(f"plot must end in .png, .pdf or .svg, got {str(plot)!r}")
    for key, path, example in (("output", output, "seeds.json"), ("plot", plot, "seeds.png")):
        if path is not None:
            check_file(path, key=key, example=example)


def _read(
    folders: Sequence[str | Path], metric: str | None, greater_is_better: bool | None
) -> tuple[dict[str, Study], dict[str, Path]]:
    studies: dict[str, Study] = {}
    places: dict[str, Path] = {}
    for folder in folders:
        study = read_runs(folder, metric=metric, greater_is_better=greater_is_better)
        name = study.name if study.name not in studies else str(folder)
        if name in studies:
            raise ConfigurationError(f"{str(folder)!r} is named twice")
        studies[name], places[name] = replace(study, name=name), Path(folder)
    return studies, places
