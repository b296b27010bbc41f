"""What did stopping early cost and save, who was cut, and does the early ranking foretell?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.figures.canvas import (
    DASHES,
    GRID,
    NothingToDrawError,
    better_side,
    colour,
    empty_figure,
    label,
    name_lines,
    name_of,
    tidy,
)
from hf_stabilizer.studies.figures.lanes import Kind, Lane, draw_lanes, height_of
from hf_stabilizer.studies.findings.early_stopping import EarlyStopping, StoppedRecipe, find
from hf_stabilizer.studies.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS: dict[str, Kind] = {"went on": "full", "stopped": "hollow", "failed before": "failed"}
MOST_BANDS = 3


def plot_stopped_runs(study: Study) -> Figure:
    """Draws the best score so far of every run when the bad ones were stopped, and who went on.

    Raises:
        NothingToDrawError: No run was stopped early.
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> plot_stopped_runs(Study("demo", ("plain",), (), "f1", True))
        Traceback (most recent call last):
        ...
        hf_stabilizer.studies.figures.canvas.NothingToDrawError: no run of the study was stopped ...
    """
    found = _found(study)
    lanes = [_lane(one, study.recipes.index(one.recipe)) for one in found.stopped]
    figure = empty_figure(
        height=height_of(len(lanes)),
        title="Who went on when the bad runs were stopped",
        caption=(
            "A dot is a run at the stop: filled ones went on, rings were stopped, crosses had "
            "failed by then. The bar stands at the last one that went on."
        ),
    )
    axis = better_side(f"best {found.metric} so far at the stop", found.greater_is_better)
    draw_lanes(figure.add_subplot(), lanes, axis=axis)
    return figure


def plot_cost(study: Study) -> Figure:
    """Draws what each recipe cost with early stopping, beside all its runs to the end.

    Raises:
        NothingToDrawError: No run was stopped early.
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> from hf_stabilizer import Run
        >>> def run(seed, status, steps):
        ...     curve = tuple((step, {"f1": 0.5}) for step in range(10, steps + 1, 10))
        ...     return Run("a", {"seed": seed}, status, evaluations=curve, metric="f1", steps=steps)
        >>> runs = (run(1, "finished", 40), *(run(seed, "stopped", 10) for seed in (2, 3, 4)))
        >>> axes, = plot_cost(Study("demo", ("a",), runs, "f1", True, stop_at=0.25, keep=1)).axes
        >>> [float(bar.get_width()) for bar in axes.patches]
        [4.0, 1.75]
    """
    found = _found(study)
    figure = empty_figure(
        height=1.3 + 0.85 * len(found.stopped),
        title="Cost of the study in full runs",
        caption=(
            f"Grey: all runs to the end. Colour: spent, with every run trained to "
            f"{100 * (found.stop_at or 0):g} % and the best {found.keep} of each recipe to the end."
        ),
    )
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_subplot()
    for row, one in enumerate(found.stopped):
        _cost(axes, one, row, colour(study.recipes.index(one.recipe)))
    tidy(axes, grid="x")
    names = [f"{name_of(one.recipe, 24)}\nn = {len(one.ranked)}" for one in found.stopped]
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="full runs", ylim=(len(found.stopped) - 0.45, -0.55))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(right=1.02 * max(len(one.ranked) for one in found.stopped))
    return figure


def plot_early_ranks(study: Study) -> Figure:
    """Draws how well the ranking at each fraction of training foretells the last one.

    Spearman's rank correlation of the best score so far with the final score, with its 95 %
    interval, for a study whose runs all went to their end.

    Raises:
        NothingToDrawError: Runs were stopped early, or too few were evaluated on the way.
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> plot_early_ranks(Study("demo", ("plain",), (), "f1", True))
        Traceback (most recent call last):
        ...
        hf_stabilizer.studies.figures.canvas.NothingToDrawError: the study has no recipe with ...

    Source: Dodge et al. 2020, arXiv 2002.06305, section 5.
    """
    found = find(study)
    rankings = found.rankings if found else ()
    known = [one for one in rankings if any(rank.spearman is not None for rank in one.ranks)]
    if found is None or not known:
        raise NothingToDrawError(
            "the study has no recipe with three whole runs that were evaluated on the way"
        )
    counts = ", ".join(f"{one.recipe} {one.runs}" for one in known)
    figure = empty_figure(
        height=4.0,
        title="Could runs be stopped early?",
        caption=(
            f"Rank correlation of the best {found.metric} so far with the final one; "
            f"runs: {counts}. Where the "
            "line is high and flat, stopping the worst runs there loses little."
        ),
    )
    axes = figure.add_subplot()
    for number, one in enumerate(known):
        shade = colour(study.recipes.index(one.recipe))
        points = [(r.fraction, r.spearman) for r in one.ranks if r.spearman is not None]
        xs, ys = zip(*points, strict=True)
        axes.plot(xs, ys, color=shade, linestyle=DASHES[number % 4], marker="o", markersize=4,
                  label=name_of(one.recipe))  # fmt: skip
        bands = [(r.fraction, r.interval) for r in one.ranks if r.interval]
        if bands and len(known) <= MOST_BANDS:
            at, lows = [x for x, _ in bands], [band.low for _, band in bands]
            highs = [band.high for _, band in bands]
            axes.fill_between(at, lows, highs, color=shade, alpha=0.13, linewidth=0)
    axes.axhline(0, color=GRID)
    tidy(axes)
    axes.set(xlabel="fraction of training", ylabel="Spearman's rank correlation", ylim=(None, 1.05))
    name_lines(axes, len(known))
    return figure


def _found(study: Study) -> EarlyStopping:
    found = find(study)
    if found is None or not found.stopped:
        raise NothingToDrawError("no run of the study was stopped early")
    return found


def _lane(one: StoppedRecipe, place: int) -> Lane:
    kept = [ranked.score for ranked in one.ranked if ranked.fate == "went on"]
    return Lane(
        name=one.recipe,
        note=f"n = {len(one.ranked)}, {len(kept)} went on at step {one.stop_step}",
        place=place,
        marks=[(r.score, KINDS[r.fate]) for r in one.ranked if r.score is not None],
        mean=kept[-1] if kept else None,
    )


def _cost(axes: Axes, one: StoppedRecipe, row: int, shade: str) -> None:
    axes.barh(row - 0.17, len(one.ranked), height=0.3, color="#c9ccd1")
    bar = axes.barh(row + 0.17, one.spent.full_runs, height=0.3, color=shade)
    saved = f"{one.spent.full_runs:.4g}, {100 * one.spent.saved:.0f} % saved"
    if one.saved_seconds:
        saved += f", about {formats.duration(one.saved_seconds)}"
    axes.bar_label(bar, [label(saved)], padding=4, fontsize=8)
