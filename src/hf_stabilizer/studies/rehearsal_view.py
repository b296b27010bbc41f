"""How does the dry run of a study look? What each recipe does, which runs, at which cost.

Imports no torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.early_stopping.stopping import says_rule
from hf_stabilizer.studies.rehearsed import RehearsedRecipe, RehearsedStudy
from hf_stabilizer.studies.seeds.seed_grid import WORDS, varied


def to_record(found: RehearsedStudy) -> dict[str, Any]:  # Any: what JSON can hold
    """Returns all of it as plain values, what follows from it included."""
    follows = ("runs", "full_runs", "seconds", "disk", "would_fail")
    return {**dataclasses.asdict(found), **{name: getattr(found, name) for name in follows}}


def print_rehearsal(found: RehearsedStudy, console: Console) -> None:
    """Prints what a study would do: findings, recipes, then sentences."""
    for text in _findings(found):
        console.print(text)
    if not found.recipes[0].command:
        console.print(_table(found))
    for sentence in describe(found):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def describe(found: RehearsedStudy) -> Iterator[str]:
    """Yields what a study would do and cost, one sentence after the other."""
    for recipe in found.recipes:
        if recipe.command:
            yield f"{recipe.name}: {recipe.command}"
        else:
            yield f"{recipe.name} sets {_settings(recipe)}."
    yield _extent(found)
    if found.stop_at is not None:
        yield from _halt(found)
    yield _cost(found)
    yield _where(found)
    metric = found.metric or "the metric that the runs themselves name"
    direction = "greater" if found.greater_is_better else "smaller"
    yield f"What decides: {metric}{f', {direction} is better' if found.metric else ''}."
    yield f"Folder: {found.output_dir}. Nothing was written."


def _findings(found: RehearsedStudy) -> Iterator[Text]:
    styles = {"error": "bold red", "warning": "yellow", "note": "cyan"}
    named: dict[Any, list[str]] = {}  # Any: a finding
    for recipe in found.recipes:
        for finding in recipe.findings:
            named.setdefault(finding, []).append(recipe.name)
    for finding, names in named.items():
        head = (finding.severity, styles[finding.severity])
        yield Text.assemble(head, f" {finding.code}, {', '.join(names)}: {finding}")
    if not named and not found.recipes[0].command:
        yield Text("Nothing was found that would go wrong.")


def _table(found: RehearsedStudy) -> Table:
    table = Table()
    heads = ["recipe", "steps", "evaluations", "time of a run"]
    heads += ["stopped at step"] if found.stop_at is not None else []
    for head in heads:
        table.add_column(head, justify="left" if head == "recipe" else "right")
    for recipe in found.recipes:
        time = formats.NOTHING if recipe.cost is None else formats.duration(recipe.cost.seconds)
        cells = [recipe.name, _known(recipe.steps), _known(recipe.evaluations), time]
        cells += [_known(recipe.stop_step)] if found.stop_at is not None else []
        table.add_row(*cells)
    return table


def _known(count: int | None) -> str:
    return formats.NOTHING if not count else str(count)


def _settings(recipe: RehearsedRecipe) -> str:
    said = [
        f"{name} back to its default" if value is None else f"{name}={value!r}"
        for name, value in recipe.settings.items()
    ]
    return ", ".join(said) or "nothing beside the configuration"


def _extent(found: RehearsedStudy) -> str:
    recipes, each = len(found.recipes), len(found.seeds)
    of = f"{recipes} recipes x {each} seeds = " if recipes > 1 else ""
    there = f", {found.there} of them there already and not repeated" if found.there else ""
    return f"Runs: {of}{found.runs}{there}; {_seeds(found)}."


def _seeds(found: RehearsedStudy) -> str:
    """The seeds, in words: those that vary are named one by one."""
    levels = {
        name: sorted({one[name] for one in found.seeds if name in one})
        for name in WORDS
        if any(name in one for one in found.seeds)
    }
    *names, last = (WORDS[name] for name in levels)
    each = f", each for {', '.join(names)} and {last}" if names else ""  # a script has one for all
    if all(len(set(one.values())) == 1 for one in found.seeds):
        some = [next(iter(one.values())) for one in found.seeds]
        return f"seeds {_span(some)}{each}"
    factors = varied(found.seeds)
    parts = [f"{WORDS[name]} {_span(some)}" for name, some in levels.items()]
    of = " x ".join(str(count) for count in factors.values())
    return f"a grid of seeds, {', '.join(parts)}: {len(found.seeds)} of {of} cells"


def _span(numbers: list[int]) -> str:
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return " ".join(map(str, numbers))


def _halt(found: RehearsedStudy) -> Iterator[str]:
    go = "goes" if found.keep == 1 else "go"
    yield (
        f"Stopping: all {len(found.seeds)} runs of a recipe to {found.stop_at:g} of their steps, "
        f"ranked by their best {found.metric} on the validation rows; the best "
        f"{found.keep} {go} on to the end.{says_rule(found.filled_in)}"
    )
    yield (
        "Kept: of a stopped run the one checkpoint from which it can go on, with its best weights; "
        "of one that went on its result."
    )


def _cost(found: RehearsedStudy) -> str:
    runs = len(found.seeds)
    each = " per recipe" if len(found.recipes) > 1 else ""
    if found.stop_at is None:
        said = f"Cost: {runs} full runs{each}"
    else:
        said = (
            f"Cost: t f + p (1 - f) = {runs} x {found.stop_at:g} + {found.keep} x "
            f"{1 - found.stop_at:g} = {found.full_runs:.4g} full runs{each}, not {runs}"
        )
    seconds, disk = found.seconds, found.disk
    if seconds is None or disk is None:
        return f"{said}; how long they take is not known before they begin."
    at_once = "one after the other" if found.workers in (None, 1) else f"{found.workers} at a time"
    return (
        f"{said}; about {formats.duration(seconds)}, {at_once}, loading and saving not counted; up "
        f"to {formats.gigabytes(disk)} on disk."
    )


def _where(found: RehearsedStudy) -> str:
    if found.executor == "in-process":
        return "Runs execute in this process, one after the other."
    if found.executor == "local":
        processes = "process" if found.workers == 1 else "processes"
        return f"Runs execute in {found.workers} worker {processes} on this machine."
    many = (
        "as many at a time as it takes" if found.workers is None else f"{found.workers} at a time"
    )
    return f"Runs execute under {found.executor}, {many}."
