"""How do the runs of a study look? Inline SVG that needs no script and no network.

Colours, strokes and text sizes come from the page's style sheet by class name, so the same drawing
serves light and dark, screen and paper. Every mark carries a `<title>` that names its run. Colour
never stands alone: recipes are labelled, failed runs are crosses, losses are dashed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from markupsafe import Markup

from hf_stabilizer.records import Run
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.comparison import Comparison
from hf_stabilizer.studies.statistics import RecipeSummary
from hf_stabilizer.studies.svg import (
    Scale,
    drawing,
    element,
    horizontal_grid,
    round_ticks,
    scale_over,
    text,
    vertical_grid,
)

COLOURS = 6
"""Number of colour classes, c0 (the baseline's) to c5, that the style sheet defines."""


def strip_chart(
    runs: Sequence[Run], rows: Sequence[RecipeSummary], *, metric: str, greater_is_better: bool
) -> Markup:
    """Draws one lane per recipe with one mark per run, the mean and its interval.

    Runs without a score stand in a column of their own at the worse end.
    """
    width, lane, decimals = 640.0, 88.0, formats.decimals_for(_scores(runs))
    gutter = 84.0 if any(_score(run) is None for run in runs) else 0.0
    left, right = (gutter, 0.0) if greater_is_better else (0.0, gutter)
    x = scale_over(_scores(runs), 16 + left, width - 16 - right)
    height = lane * len(rows) + 64
    parts: list[Markup] = [*vertical_grid(x, 8, height - 52)]
    if gutter:
        edge = x.start - 8 if greater_is_better else x.end + 8
        column = (edge - 38) if greater_is_better else (edge + 38)
        parts.append(element("line", cls="edge", x1=edge, x2=edge, y1=8, y2=height - 52))
        parts.append(text("no score", column, height - 32, cls="tick middle"))
    else:
        column = 0.0
    for place, row in enumerate(rows):
        mine = [run for run in runs if run.recipe == row.recipe]
        parts.extend(_lane(row, mine, x, place * lane, decimals))
        parts.append(_marks(mine, x, place * lane + 58, column, decimals, place))
    direction = "higher is better \N{RIGHTWARDS ARROW}"
    if not greater_is_better:
        direction = "\N{LEFTWARDS ARROW} lower is better"
    parts.append(text(f"{metric}, {direction}", width / 2, height - 4, cls="axis middle"))
    about = "; ".join(_describe(row, decimals) for row in rows)
    return drawing("strip", width, height, f"{metric} of every run by recipe", about, parts)


def pairs_chart(comparison: Comparison, *, metric: str, place: int) -> Markup:
    """Draws one line per pair of runs, from the baseline's score to the candidate's."""
    width, height, left, right = 360.0, 250.0, 76.0, 300.0
    decimals = formats.decimals_for(
        s for pair in comparison.pairs for s in (pair.baseline, pair.candidate)
    )
    values = [s for pair in comparison.pairs for s in (pair.baseline, pair.candidate)]
    y = scale_over(values, height - 34, 12)
    parts = [*horizontal_grid(y, left - 16, right + 16)]
    for pair in comparison.pairs:
        gain = pair.difference if comparison.greater_is_better else -pair.difference
        kind = "gain" if gain > 0 else "loss" if gain < 0 else "tie"
        before, after = y(pair.baseline), y(pair.candidate)
        change = formats.number(pair.difference, decimals, signed=True)
        name = (
            f"{seeds_text(pair.seeds)}: {formats.number(pair.baseline, decimals)} to "
            f"{formats.number(pair.candidate, decimals)} ({change})"
        )
        marks = [
            element("title", name),
            element("line", x1=left, y1=before, x2=right, y2=after),
            element("circle", cls="c0", cx=left, cy=before, r=4),
            element("circle", cls=_colour(place), cx=right, cy=after, r=4),
        ]
        parts.append(element("g", *marks, cls=f"pair {kind}"))
    if len(comparison.pairs) > 40:
        parts = [element("g", *parts, cls="many")]
    parts.append(text(_short(comparison.baseline, 18), left, height - 8, cls="name middle"))
    parts.append(text(_short(comparison.candidate, 18), right, height - 8, cls="name middle"))
    title = f"{metric} by seeds: {comparison.baseline} and {comparison.candidate}"
    about = f"{len(comparison.pairs)} pairs of runs with the same seeds, one line each"
    return drawing(f"pairs-{place}", width, height, title, about, parts)


def curves_chart(
    runs: Sequence[Run], *, recipe: str, metric: str, everyone: Sequence[Run], place: int
) -> Markup:
    """Draws the evaluations of each run of a recipe over the steps, and their mean in bold.

    The mean is drawn where at least half of the runs were evaluated at that step. Axes span the
    runs of all recipes, so that charts side by side compare.
    """
    width, height = 360.0, 240.0
    all_points = [point for run in everyone for point in _curve(run, metric)]
    x = Scale(0, max((step for step, _ in all_points), default=1), 52, width - 12)
    y = scale_over((value for _, value in all_points), height - 44, 12)
    parts = [*horizontal_grid(y, x.start, x.end)]
    for tick in round_ticks(x.low, x.high, about=4):
        parts.append(text(f"{tick:g}", x(tick), height - 26, cls="tick middle"))
    parts.append(text("optimizer steps", (x.start + x.end) / 2, height - 6, cls="axis middle"))
    for run in runs:
        if points := _curve(run, metric):
            title = element("title", run_text(run, formats.decimals_for(v for _, v in points)))
            line = _line(points, x, y)
            parts.append(element("g", title, line, cls=f"curve {run.status} {_colour(place)}"))
    mean = mean_curve(runs, metric)
    if mean:
        parts.append(element("g", _line(mean, x, y), cls=f"mean-curve {_colour(place)}"))
    about = f"{len(runs)} runs, thin; their mean, bold" if mean else "no evaluations"
    return drawing(f"curves-{place}", width, height, f"{metric} over steps: {recipe}", about, parts)


def mean_curve(runs: Sequence[Run], metric: str) -> list[tuple[int, float]]:
    """Returns (step, mean) where at least half of the evaluated runs have a value.

    Example:
        >>> def run(*values):
        ...     evaluations = tuple((i, {"f1": v}) for i, v in enumerate(values, 1))
        ...     return Run("plain", {}, "finished", evaluations=evaluations)
        >>> mean_curve([run(0.0, 0.5), run(1.0), run(0.5)], "f1")
        [(1, 0.5)]
    """
    curves = [curve for run in runs if (curve := dict(_curve(run, metric)))]
    steps = sorted({step for curve in curves for step in curve})
    found = [(step, [curve[step] for curve in curves if step in curve]) for step in steps]
    return [(step, sum(v) / len(v)) for step, v in found if 2 * len(v) >= len(curves)]


def seed_names(options: Iterable[str]) -> dict[str, str]:
    """Returns the words for the seeds' options, in the same order always.

    Example:
        >>> seed_names(["seed", "head_seed"])
        {'head_seed': 'head seed', 'seed': 'dropout seed'}
    """
    words = {"head_seed": "head seed", "data_seed": "data seed", "seed": "dropout seed"}
    given = set(options)
    if given == {"seed"}:  # the one seed of a script stands for all of them
        return {"seed": "seed"}
    known = {option: words[option] for option in words if option in given}
    return known | {option: option for option in sorted(given - words.keys())}


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


def run_text(run: Run, decimals: int) -> str:
    """Returns one line that names a run: recipe, seeds, score, and what went wrong if anything."""
    score = _score(run)
    known = "no score" if score is None else formats.number(score, decimals)
    line = f"{run.recipe}, {which_run(run)}: {known}"
    if run.status == "finished":
        return line
    status = "stopped early" if run.status == "stopped" else "failed"
    return f"{line}, {status}{f' ({run.reason})' if run.reason else ''}"


def _lane(
    row: RecipeSummary, runs: Sequence[Run], x: Scale, top: float, decimals: int
) -> Iterator[Markup]:
    note = [element("tspan", f"mean {formats.number(row.mean, decimals)}")]
    if row.std is not None:
        spread = f" \N{MIDDLE DOT} std {formats.number(row.std, decimals)}"
        note.append(element("tspan", spread, cls="spare"))  # not shown where room is short
    if row.failed:
        note.append(element("tspan", f" \N{MIDDLE DOT} {row.failed} of {len(runs)} failed"))
    if beyond := sum(not x.holds(score) for score in _scores(runs)):
        note.append(element("tspan", f" \N{MIDDLE DOT} {beyond} beyond the scale"))
    yield text(_short(row.recipe, 22), 16, top + 24, cls="name")
    yield element("text", *note, cls="note end", x=624, y=top + 24)
    if row.interval and all(x.holds(end) for end in row.interval):
        low, high = x(row.interval.low), x(row.interval.high)
        name = (
            f"{row.recipe}: 95 % bootstrap interval of the mean "
            f"{formats.number(row.interval.low, decimals)} to "
            f"{formats.number(row.interval.high, decimals)}"
        )
        yield element(
            "rect",
            element("title", name),
            cls="interval",
            x=low,
            y=top + 34,
            width=max(high - low, 1),
            height=48,
            rx=2,
        )
    if row.mean is not None and x.holds(row.mean):
        at = x(row.mean)
        name = element("title", f"{row.recipe}: mean {formats.number(row.mean, decimals)}")
        yield element("line", name, cls="mean", x1=at, x2=at, y1=top + 34, y2=top + 82)


def _marks(
    runs: Sequence[Run], x: Scale, middle: float, column: float, decimals: int, place: int
) -> Markup:
    """One mark for each run; those that would cover one another move up and down."""
    size = 4.5 if len(runs) <= 40 else 3.0
    marks, taken = [], list[tuple[float, float]]()
    for run in sorted(runs, key=lambda r: (_score(r) is None, _score(r) or 0.0)):
        score = _score(run)
        at = column if score is None else x(score)
        lift = _free_place(at, taken, 2 * size + 0.5)
        taken.append((at, lift))
        title = element("title", run_text(run, decimals))
        if run.status == "failed":
            shape = _cross(at, middle + lift, size)
        elif score is not None and not x.holds(score):
            shape = _arrow(at, middle + lift, size if score > x.high else -size)
        else:
            shape = element("circle", cx=at, cy=middle + lift, r=size)
        marks.append(element("g", title, shape, cls=f"run {run.status}"))
    return element("g", *marks, cls=_colour(place))


def _free_place(at: float, taken: Sequence[tuple[float, float]], gap: float) -> float:
    """The smallest shift from the lane's middle that touches no earlier mark, within the lane."""
    near = [(x, lift) for x, lift in taken if abs(x - at) < gap]
    lifts = sorted((side * k * gap / 2 for k in range(8) for side in (1, -1)), key=abs)
    inside = [lift for lift in lifts if abs(lift) <= 20]
    for lift in inside:
        if all(math.hypot(x - at, other - lift) >= gap for x, other in near):
            return lift
    return inside[len(taken) % len(inside)]


def _cross(x: float, y: float, size: float) -> Markup:
    r = size * 0.9
    return element(
        "path",
        d=f"M{x - r:.1f} {y - r:.1f}L{x + r:.1f} {y + r:.1f}M{x - r:.1f} {y + r:.1f}"
        f"L{x + r:.1f} {y - r:.1f}",
    )


def _arrow(x: float, y: float, size: float) -> Markup:
    """A triangle that points right, or left for a negative size."""
    outline = f"{x + size:.1f},{y:.1f} {x - size:.1f},{y - size:.1f} {x - size:.1f},{y + size:.1f}"
    return element("polygon", points=outline)


def _line(points: Sequence[tuple[int, float]], x: Scale, y: Scale) -> Markup:
    if len(points) == 1:
        step, value = points[0]
        return element("circle", cx=x(step), cy=y(value), r=2)
    return element("polyline", points=" ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in points))


def _curve(run: Run, metric: str) -> list[tuple[int, float]]:
    """The finite values of a metric over the steps of a run."""
    return [
        (step, float(metrics[metric]))
        for step, metrics in run.evaluations
        if math.isfinite(metrics.get(metric, math.nan))
    ]


def _score(run: Run) -> float | None:
    return run.score if run.score is not None and math.isfinite(run.score) else None


def _scores(runs: Iterable[Run]) -> list[float]:
    return [score for run in runs if (score := _score(run)) is not None]


def _describe(row: RecipeSummary, decimals: int) -> str:
    return (
        f"{row.recipe}: {row.runs} runs, mean {formats.number(row.mean, decimals)}, "
        f"worst {formats.number(row.worst, decimals)}, {row.failed} failed"
    )


def _colour(place: int) -> str:
    """The baseline's colour is its own; the other recipes take turns."""
    return "c0" if place == 0 else f"c{1 + (place - 1) % (COLOURS - 1)}"


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"
