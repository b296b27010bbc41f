"""How do the runs of a study lie, and how did they get there?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hf_stabilizer.records import Run
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.figures.canvas import (
    ALARM,
    SOFT,
    NothingToDrawError,
    better_side,
    colour,
    empty_figure,
    label_lowest,
    limits,
    name_of,
    tidy,
)
from hf_stabilizer.studies.figures.lanes import Kind, Lane, draw_lanes, height_of
from hf_stabilizer.studies.page.charts import curve, halt_step, mean_curves, score_of
from hf_stabilizer.studies.statistics import RecipeSummary
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.verdict import study_decimals

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS: dict[str, Kind] = {"finished": "full", "stopped": "hollow", "failed": "failed"}
MOST_COLUMNS = 3


def plot_runs(study: Study) -> Figure:
    """Draws the score of every run, recipe by recipe, with the mean and its 95 % interval.

    Failed runs are crosses, runs stopped early rings at their best score so far; runs without a
    score are counted. Scores are those of `Study.to_records`.

    Raises:
        NothingToDrawError: No run has a score.
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> runs = tuple(Run("plain", {"seed": s}, "finished", best_score=0.7) for s in (1, 2))
        >>> plot_runs(Study("demo", ("plain",), runs, "f1", True)).axes[0].get_xlabel()
        'f1, higher is better'
    """
    if all(score_of(run) is None for run in study.runs):
        raise NothingToDrawError("no run of the study has a score yet")
    decimals = study_decimals(study)
    lanes = [
        _lane(row, study.of(row.recipe), place, decimals)
        for place, row in enumerate(study.summary())
    ]
    caption = (
        f"{formats.counted(len(study.runs), 'run')}: a dot is a run, the bar the mean of a recipe, "
        "the band its 95 % bootstrap interval"
    )
    drawn = {run.status for run in study.runs if score_of(run) is not None}
    caption += "; crosses failed" if "failed" in drawn else ""
    caption += "; rings were stopped early and are in no mean" if "stopped" in drawn else ""
    figure = empty_figure(
        height=height_of(len(lanes)), title=f"{study.metric} of every run", caption=f"{caption}."
    )
    axis = better_side(study.metric, study.greater_is_better)
    draw_lanes(figure.add_subplot(), lanes, axis=axis)
    return figure


def _lane(row: RecipeSummary, runs: Sequence[Run], place: int, decimals: int) -> Lane:
    note = [f"n = {row.runs}", f"mean {formats.number(row.mean, decimals)}"]
    if row.std is not None:
        note.append(f"std {formats.number(row.std, decimals)}")
    if row.failed:
        note.append(f"{row.failed} failed")
    if row.stopped:
        lost = f" ({row.lost_when_stopped} collapsed)" if row.lost_when_stopped else ""
        note.append(f"{row.stopped} stopped{lost}")
    if without := sum(score_of(run) is None for run in runs):
        note.append(f"{without} without a score")
    return Lane(
        name=row.recipe,
        note=", ".join(note),
        place=place,
        marks=[(score, KINDS[run.status]) for run in runs if (score := score_of(run)) is not None],
        mean=row.mean,
        interval=row.interval,
    )


def plot_evaluations(study: Study) -> Figure:
    """Draws every evaluation of each run over the optimizer steps, one panel for each recipe.

    The bold line is the mean where at least half of the runs were evaluated. Where runs were
    halted, a dotted line stands at that step, runs that were cut end in a ring there, and the mean
    beyond it is that of the runs that went on.

    Raises:
        NothingToDrawError: No run was ever evaluated.
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> run = Run("plain", {}, "finished", evaluations=((5, {"f1": 0.5}), (9, {"f1": 0.7})))
        >>> axes, = plot_evaluations(Study("demo", ("plain",), (run,), "f1", True)).axes
        >>> axes.get_xlabel(), axes.get_title(loc="left")
        ('optimizer steps', 'plain, n = 1')
    """
    points = [point for run in study.runs for point in curve(run, study.metric)]
    if not points:
        raise NothingToDrawError("no run of the study was evaluated on the way")
    halts = {recipe: halt_step(study.of(recipe), study.stop_at) for recipe in study.recipes}
    columns = min(MOST_COLUMNS, len(study.recipes))
    rows = -(-len(study.recipes) // columns)
    figure = empty_figure(
        height=1.3 + 2.5 * rows,
        title=f"{study.metric} on validation rows during training",
        caption=_caption(study, any(halts.values())),
    )
    panels = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    for place, (axes, recipe) in enumerate(zip(panels, study.recipes, strict=False)):
        _panel(axes, study, recipe, place, halts[recipe])
        axes.set(ylim=limits(value for _, value in points))
    panels[0].set_ylabel(better_side(study.metric, study.greater_is_better))
    for axes in panels[len(study.recipes) :]:
        axes.set_axis_off()
    label_lowest(panels[: len(study.recipes)], columns, "optimizer steps")
    return figure


def _caption(study: Study, is_halted: bool) -> str:
    cut = sum(run.status == "stopped" for run in study.runs)
    text = f"{formats.counted(len(study.runs), 'run')}, thin; bold: their mean"
    if any(run.status == "failed" for run in study.runs):
        text += "; a cross ends a failed run"
    if is_halted:
        text += f"; dotted: all were halted there, the {cut} that were cut end in a ring"
    return f"{text}."


def _panel(axes: Axes, study: Study, recipe: str, place: int, halt: int | None) -> None:
    runs = study.of(recipe)
    shade = colour(place)
    faint = 0.45 if len(runs) <= 30 else 0.2
    for run in runs:
        points = curve(run, study.metric)
        alpha = 0.25 if run.status == "stopped" else faint
        xs, ys = [x for x, _ in points], [y for _, y in points]
        axes.plot(xs, ys, linewidth=1, color=shade, alpha=alpha)
        _end(axes, run, points, shade)
    for points in mean_curves(runs, study.metric, halt):
        marker = "o" if len(points) == 1 else ""
        xs, ys = [x for x, _ in points], [y for _, y in points]
        axes.plot(xs, ys, color=shade, linewidth=2.6, marker=marker, zorder=4)
    if halt is not None:
        axes.axvline(halt, color=SOFT, linewidth=1.2, linestyle=(0, (1, 2)))
        kept = sum(run.status == "finished" or run.steps > halt for run in runs)
        axes.annotate(
            f"step {halt}: {kept} of {len(runs)} go on",
            (halt, 0.02),
            xycoords=("data", "axes fraction"),
            xytext=(4, 0),
            textcoords="offset points",
            fontsize=8,
            color=SOFT,
        )
    tidy(axes)
    axes.set_title(f"{name_of(recipe, 26)}, n = {len(runs)}", loc="left", fontsize=9)


def _end(axes: Axes, run: Run, points: Sequence[tuple[int, float]], shade: str) -> None:
    if not points:
        return
    x, y = points[-1]
    if run.status == "failed":
        axes.plot(x, y, marker="x", color=ALARM, markersize=6, markeredgewidth=1.6, zorder=5)
    elif run.status == "stopped" or len(points) == 1:
        face = "white" if run.status == "stopped" else shade
        axes.plot(x, y, marker="o", markersize=4, color=shade, markerfacecolor=face, zorder=3)
