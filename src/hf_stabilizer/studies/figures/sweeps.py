"""How does the score depend on one setting? Every run over its value, the mean with its band."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.figures.canvas import (
    ALARM,
    COLOURS,
    INK,
    SOFT,
    WIDTH,
    NothingToDrawError,
    better_side,
    empty_figure,
    label,
    limits,
    name_of,
    tidy,
)
from hf_stabilizer.studies.findings import swept_settings
from hf_stabilizer.studies.findings.swept_settings import Sweep, SweptValue
from hf_stabilizer.studies.page.sections.sweep_axis import ValueAxis
from hf_stabilizer.studies.statistics import final_score
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.verdict import study_decimals

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHADE = COLOURS[0]


def plot_sweeps(study: Study) -> Figure:
    """Draws the score against each setting that the study swept, with the means' 95 % interval.

    The ring marks the best mean; a dashed line is the recipe that leaves the setting out.

    Raises:
        NothingToDrawError: No recipes differ in one number alone, or none has a score.
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> from hf_stabilizer import Run
        >>> runs = tuple(
        ...     Run(f"reinit_layers={n}", {"seed": s}, "finished", best_score=0.7 + n / 9 + s / 99)
        ...     for n in (0, 1, 2) for s in range(6)
        ... )
        >>> settings = {f"reinit_layers={n}": {"reinit_layers": n} for n in (0, 1, 2)}
        >>> asked = Study("demo", tuple(settings), runs, "f1", True, recipe_settings=settings)
        >>> axes, = plot_sweeps(asked).axes
        >>> [float(x) for x in axes.lines[0].get_xdata()]
        [0.0, 1.0, 2.0]
    """
    found = swept_settings.find(study)
    if found is None:
        raise NothingToDrawError("no recipes of the study differ in one number alone")
    names = ", ".join(one.key for one in found.sweeps)
    figure = empty_figure(
        height=1.3 + 2.9 * len(found.sweeps),
        title=f"{found.metric} against {names}",
        caption=" ".join([*map(swept_settings.words, found.sweeps), _marks(found.sweeps)]),
    )
    decimals = study_decimals(study)
    panels = figure.subplots(len(found.sweeps), 1, squeeze=False)[:, 0]
    for axes, one in zip(panels, found.sweeps, strict=True):
        _panel(axes, one, decimals)
        axes.set_ylabel(better_side(found.metric, found.greater_is_better))
    return figure


def _marks(sweeps: tuple[Sweep, ...]) -> str:
    dashed = ", the dashed line the recipe that does not set it" * any(one.unset for one in sweeps)
    return f"A dot is a run, the band the 95 % interval of the mean, the ring the best{dashed}."


def _panel(axes: Axes, one: Sweep, decimals: int) -> None:
    axis = ValueAxis.over([value.value for value in one.values], 0.0, 72 * WIDTH)
    if axis.is_logarithmic:
        axes.set_xscale("log")
    known = [value for value in one.values if value.summary.mean is not None]
    xs = [value.value for value in known]
    means = [value.summary.mean or 0.0 for value in known]
    axes.plot(xs, means, color=SHADE, linewidth=1.8, zorder=3, marker="o", markersize=4.5,
              markerfacecolor="white")  # fmt: skip
    banded = [(value.value, value.summary.interval) for value in known if value.summary.interval]
    if len(banded) > 1:
        lows, highs = ([getattr(i, end) for _, i in banded] for end in ("low", "high"))
        axes.fill_between([x for x, _ in banded], lows, highs, color=SHADE, alpha=0.14, linewidth=0)
    for value in one.values:
        _dots(axes, value)
    if one.unset is not None and one.unset.mean is not None:
        axes.axhline(one.unset.mean, color=SOFT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        words = f"{name_of(one.unset.recipe)} {formats.number(one.unset.mean, decimals)}"
        at, side = (0.01, "left") if one.unset_label_is_left else (0.99, "right")
        axes.annotate(words, (at, one.unset.mean), xycoords=("axes fraction", "data"), ha=side,
                      xytext=(0, 3), textcoords="offset points", fontsize=8,
                      color=SOFT)  # fmt: skip
    best, mean = one.best.value, one.best.summary.mean or 0.0
    axes.plot([best], [mean], marker="o", markersize=11, markerfacecolor="none",
              markeredgecolor=INK, zorder=4)  # fmt: skip
    axes.set_ylim(*limits(_heights(one)))
    _ticks(axes, axis, label(one.key))


def _heights(one: Sweep) -> list[float]:
    found = [s for value in one.values for run in value.runs if (s := final_score(run)) is not None]
    found += [end for value in one.values for end in value.summary.interval or ()]
    return found + ([one.unset.mean] if one.unset and one.unset.mean is not None else [])


def _dots(axes: Axes, value: SweptValue) -> None:
    for status, marker, shade in (("finished", "o", SHADE), ("failed", "x", ALARM)):
        scores = [final_score(run) for run in value.runs if run.status == status]
        known = [score for score in scores if score is not None]
        axes.scatter([value.value] * len(known), known, s=14, marker=marker, color=shade, alpha=0.6,
                     linewidths=1.2 if marker == "x" else 0)  # fmt: skip


def _ticks(axes: Axes, axis: ValueAxis, name: str) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    tidy(axes, grid="y")
    words = dict(zip(axis.values, axis.values, strict=True))
    shown = [v for v in words if any(text == f"{v:g}" for _, text in axis.ticks)]
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(shown, [f"{value:g}" for value in shown])
    axes.margins(x=0.05)
    axes.set_xlabel(name)
