"""How is a run named and told apart in a drawing and in the text around it?"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping

from markupsafe import Markup

from hf_stabilizer.records import Run
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.page.svg import element

COLOURS = 6
"""Number of colour classes, c0 (the baseline's) to c5, that the style sheet defines."""

WORDS = {"head_seed": "head seed", "data_seed": "data seed", "seed": "dropout seed"}


def colour(place: int) -> str:
    """Returns the colour class of a recipe by its place in the study.

    The baseline's colour is its own; the other recipes take turns.

    Example:
        >>> colour(0), colour(1), colour(6)
        ('c0', 'c1', 'c1')
    """
    return "c0" if place == 0 else f"c{1 + (place - 1) % (COLOURS - 1)}"


def run_key(run: Run) -> str:
    """Returns the few letters by which the page knows the same run in all of its charts.

    Runs that tell no seeds are told apart by their folders.

    Example:
        >>> plain = Run("plain", {"seed": 1}, "finished")
        >>> run_key(plain) == key_of("plain", {"seed": 1}) != run_key(Run("plain", {}, "finished"))
        True
    """
    folder = "" if run.seeds else str(run.configuration.get("folder", ""))
    return key_of(run.recipe, run.seeds, folder)


def key_of(recipe: str, seeds: Mapping[str, int], folder: str = "") -> str:
    """Returns the same for a run of which only recipe and seeds are at hand."""
    text = json.dumps([recipe, sorted(seeds.items()), folder])
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()


def seed_names(options: Iterable[str]) -> dict[str, str]:
    """Returns the words for the seeds' options, in the same order always.

    Example:
        >>> seed_names(["seed", "head_seed"])
        {'head_seed': 'head seed', 'seed': 'dropout seed'}
    """
    given = set(options)
    if given == {"seed"}:  # the one seed of a script stands for all of them
        return {"seed": "seed"}
    known = {option: WORDS[option] for option in WORDS if option in given}
    return known | {option: option for option in sorted(given - WORDS.keys())}


def seeds_text(seeds: Iterable[tuple[str, int]]) -> str:
    """Returns seeds for a reader.

    Example:
        >>> seeds_text({"seed": 3, "data_seed": 2, "head_seed": 1}.items())
        'head seed 1, data seed 2, dropout seed 3'
    """
    values = dict(seeds)
    return ", ".join(f"{word} {values[option]}" for option, word in seed_names(values).items())


def which_run(run: Run) -> str:
    """Returns a run's seeds, or where they are unknown its folder's name.

    Example:
        >>> which_run(Run("plain", {}, "finished", configuration={"folder": "runs/plain-2"}))
        'plain-2, seeds unknown'
    """
    if run.seeds:
        return seeds_text(run.seeds.items())
    folder = str(run.configuration.get("folder", "")).rstrip("/").rpartition("/")[2]
    return f"{folder}, seeds unknown" if folder else "seeds unknown"


def which_runs(runs: Iterable[Run]) -> str:
    """Returns the seeds of many runs, as short as they can be told.

    Example:
        >>> def run(head, data):
        ...     return Run("plain", {"head_seed": head, "data_seed": data}, "finished")
        >>> which_runs([run(1, 1), run(2, 2)]), which_runs([run(3, 3)])
        ('seeds 1, 2', 'seed 3')
        >>> which_runs([run(1, 1), run(2, 5)])
        'head seed 1, data seed 1; head seed 2, data seed 5'
    """
    everything = list(runs)
    if all(len(set(run.seeds.values())) == 1 for run in everything):
        values = [str(next(iter(run.seeds.values()))) for run in everything]
        return f"seed{'' if len(values) == 1 else 's'} {', '.join(values)}"
    return "; ".join(which_run(run) for run in everything)


def run_text(run: Run, decimals: int) -> str:
    """Returns one line that names a run: recipe, seeds, score, and what went wrong if anything."""
    score = score_of(run)
    known = "no score" if score is None else formats.number(score, decimals)
    line = f"{run.recipe}, {which_run(run)}: {known}"
    if run.status == "finished":
        return line
    status = "stopped early" if run.status == "stopped" else "failed"
    return f"{line}, {status}{f' ({run.reason})' if run.reason else ''}"


def score_of(run: Run) -> float | None:
    """Returns the score that is drawn: also that of a run stopped early, never one of nan."""
    return run.score if run.score is not None and math.isfinite(run.score) else None


def scores_of(runs: Iterable[Run]) -> list[float]:
    """Returns the scores of those runs that left one."""
    return [score for run in runs if (score := score_of(run)) is not None]


def cross(x: float, y: float, size: float) -> Markup:
    """Returns the mark of a failed run."""
    r = size * 0.9
    return element(
        "path",
        d=f"M{x - r:.1f} {y - r:.1f}L{x + r:.1f} {y + r:.1f}M{x - r:.1f} {y + r:.1f}"
        f"L{x + r:.1f} {y - r:.1f}",
    )


def short(name: str, length: int) -> str:
    """Returns a name cut to so many letters."""
    return name if len(name) <= length else name[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"
