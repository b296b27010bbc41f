"""How did the runs of a recipe get where they are? Their evaluations over the optimizer steps.

Where a study stops early, a line stands at the step at which the runs were halted, and the curves
of those that were cut end in a ring there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from markupsafe import Markup

from hf_stabilizer.records import Run
from hf_stabilizer.steps import resolve_step
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.page.charts.runs import (
    colour,
    cross,
    run_key,
    run_text,
    scores_of,
    which_runs,
)
from hf_stabilizer.studies.page.svg import (
    Scale,
    drawing,
    element,
    horizontal_grid,
    round_ticks,
    scale_over,
    text,
)

Points = list[tuple[int, float]]

MANY = 30
"""With more runs than this, their curves are drawn fainter."""


def curves_chart(
    runs: Sequence[Run],
    *,
    recipe: str,
    metric: str,
    everyone: Sequence[Run],
    place: int,
    halt: int | None = None,
) -> Markup:
    """Draws the evaluations of each run of a recipe over the steps, and their mean in bold.

    The mean is drawn where at least half of the runs were evaluated at that step; beyond the halt
    it is that of the runs that went on, and apart from the line before, for they were chosen.
    Axes span the runs of all recipes, so that charts side by side compare.

    Args:
        runs: The runs of this recipe.
        recipe: Its name.
        metric: The metric whose evaluations are drawn.
        everyone: The runs of all recipes, which the axes span.
        place: The recipe's place in the study, for its colour.
        halt: Optimizer step at which the runs were halted (`halt_step`); None: no line.
    """
    width, height = 360.0, 240.0
    points = [point for run in everyone for point in curve(run, metric)]
    x = Scale(0, max((step for step, _ in points), default=1), 52, width - 12)
    y = scale_over((value for _, value in points), height - 44, 12)
    parts = [*horizontal_grid(y, x.start, x.end), *_step_axis(x, height)]
    if halt is not None and x.holds(halt):
        parts.extend(_stop_line(x(halt), y, halt))
    decimals = formats.decimals_for(scores_of(everyone))
    lines = [_run_curve(run, metric, x, y, decimals, place) for run in _drawing_order(runs)]
    parts.append(element("g", *lines, cls="many" if len(runs) > MANY else ""))
    means = mean_curves(runs, metric, halt)
    parts.extend(
        element("g", _line(mean, x, y), cls=f"mean-curve {colour(place)}") for mean in means
    )
    counted = formats.counted(len(runs), "run")
    about = f"{counted}, thin; their mean, bold" if means else "no evaluations"
    if halt is not None:
        cut = sum(run.status == "stopped" for run in runs)
        about += f"; halted at step {halt}, where {cut} were cut"
    return drawing(f"curves-{place}", width, height, f"{metric} over steps: {recipe}", about, parts)


def halt_step(runs: Iterable[Run], stop_at: float | None) -> int | None:
    """Returns the optimizer step at which the runs of a recipe were halted, None if none was.

    Example:
        >>> whole = Run("plain", {}, "finished", steps=48)
        >>> halt_step([whole], 0.25), halt_step([whole], None), halt_step([], 0.25)
        (12, None, None)
        >>> halt_step([whole, Run("plain", {}, "stopped", steps=13)], 0.25)
        13
    """
    everything = list(runs)
    if stop_at is None:
        return None
    if cut := [run.steps for run in everything if run.status == "stopped"]:
        return max(cut)
    longest = max((run.steps for run in everything if run.status == "finished"), default=0)
    return resolve_step(stop_at, longest, name="stop_at") or None


def who_was_cut(runs: Iterable[Run], halt: int) -> str:
    """Returns sentences that name the runs that went on after the halt, were cut, or failed.

    Example:
        >>> def run(seed, status):
        ...     return Run("plain", {"seed": seed}, status)
        >>> who_was_cut([run(1, "stopped"), run(2, "finished"), run(3, "stopped")], 12)
        'Halted at step 12. Went on: seed 2. Cut: seeds 1, 3.'
    """
    words = {"finished": "Went on", "stopped": "Cut", "failed": "Failed"}
    everything = list(runs)
    sentences = [f"Halted at step {halt}."]
    for status, word in words.items():
        if found := [run for run in everything if run.status == status]:
            sentences.append(f"{word}: {which_runs(found)}.")
    return " ".join(sentences)


def mean_curves(runs: Sequence[Run], metric: str, halt: int | None = None) -> list[Points]:
    """Returns the mean's curve, in two parts where runs were halted: of all, of those left.

    Example:
        >>> def run(status, *values):
        ...     evaluations = tuple((i, {"f1": v}) for i, v in enumerate(values, 1))
        ...     return Run("plain", {}, status, evaluations=evaluations)
        >>> mean_curves([run("stopped", 0.0), run("stopped", 0.1), run("finished", 0.5, 0.75)],
        ...     "f1", halt=1)
        [[(1, 0.19999999999999998)], [(2, 0.75)]]
    """
    if halt is None:
        parts = [mean_curve(runs, metric)]
    else:
        left = [run for run in runs if run.status != "stopped"]
        before = [point for point in mean_curve(runs, metric) if point[0] <= halt]
        parts = [before, [point for point in mean_curve(left, metric) if point[0] > halt]]
    return [part for part in parts if part]


def mean_curve(runs: Sequence[Run], metric: str) -> Points:
    """Returns (step, mean) where at least half of the evaluated runs have a value.

    Example:
        >>> def run(*values):
        ...     evaluations = tuple((i, {"f1": v}) for i, v in enumerate(values, 1))
        ...     return Run("plain", {}, "finished", evaluations=evaluations)
        >>> mean_curve([run(0.0, 0.5), run(1.0), run(0.5)], "f1")
        [(1, 0.5)]
    """
    curves = [values for run in runs if (values := dict(curve(run, metric)))]
    steps = sorted({step for values in curves for step in values})
    found = [(step, [values[step] for values in curves if step in values]) for step in steps]
    return [(step, sum(v) / len(v)) for step, v in found if 2 * len(v) >= len(curves)]


def curve(run: Run, metric: str) -> Points:
    """Returns the finite values of a metric over the steps of a run."""
    return [
        (step, float(metrics[metric]))
        for step, metrics in run.evaluations
        if math.isfinite(metrics.get(metric, math.nan))
    ]


def _step_axis(x: Scale, height: float) -> Iterator[Markup]:
    for tick in round_ticks(x.low, x.high, about=4):
        yield text(f"{tick:g}", x(tick), height - 26, cls="tick middle")
    yield text("optimizer steps", (x.start + x.end) / 2, height - 6, cls="axis middle")


def _stop_line(at: float, y: Scale, halt: int) -> Iterator[Markup]:
    yield element("line", cls="stop-line", x1=at, x2=at, y1=y.end - 4, y2=y.start)
    shift, side = (5, "") if at < 220 else (-5, " end")
    yield text(f"halted at {halt}", at + shift, y.end + 4, cls=f"note{side}")


def _drawing_order(runs: Sequence[Run]) -> list[Run]:
    """Those that went on lie above those that were cut."""
    return sorted(runs, key=lambda run: run.status != "stopped")


def _run_curve(run: Run, metric: str, x: Scale, y: Scale, decimals: int, place: int) -> Markup:
    points = curve(run, metric)
    if not points:
        return Markup("")
    name = element("title", run_text(run, decimals))
    parts = [name, _line(points, x, y)]
    step, value = points[-1]
    if run.status == "stopped":
        parts.append(element("circle", cls="end-mark", cx=x(step), cy=y(value), r=2.5))
    elif run.status == "failed":
        parts.append(cross(x(step), y(value), 3.5))
    return element("g", *parts, cls=f"curve {run.status} {colour(place)}", data_run=run_key(run))


def _line(points: Points, x: Scale, y: Scale) -> Markup:
    if len(points) == 1:
        step, value = points[0]
        return element("circle", cx=x(step), cy=y(value), r=2)
    corners = (f"{x(step):.1f},{y(value):.1f}" for step, value in points)
    return element("polyline", points=" ".join(corners))
