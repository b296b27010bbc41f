"""How does the score go with the share of unlabelled rows? A table and a picture.

Scores are those on the validation rows, of the weights that they chose (with folds of the last
ones, on the rows of the fold); the control, at a share of 0, is what to beat.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from hf_stabilizer.errors import MissingDependencyError
from hf_stabilizer.pseudo_labels.question import CONTROL
from hf_stabilizer.records import write_atomically
from hf_stabilizer.studies.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class RatePoint:
    """What one share of the unlabelled rows came to."""

    sampling_rate: float
    """The share; 0 is the control."""
    recipe: str
    """The arm of the study."""
    pseudo_labelled: float
    """Rows that were added; with folds their mean."""
    runs: int
    """Runs with a validation score."""
    mean: float | None
    """Mean validation score."""
    std: float | None
    """Its sample standard deviation, from two runs on."""


def rate_points(
    study: Study, arms: Mapping[str, float], added: Mapping[str, float]
) -> list[RatePoint]:
    """Returns one point for the control and for each arm, by rate.

    Args:
        study: Control and arms.
        arms: The sampling rate of each arm.
        added: Pseudo-labelled rows of each arm.

    Example:
        >>> from hf_stabilizer import Run
        >>> runs = [Run("control", {"seed": s}, "finished", best_score=0.5) for s in (1, 2)]
        >>> study = Study("demo", ("control",), tuple(runs), "accuracy", True)
        >>> rate_points(study, {}, {})[0].mean
        0.5
    """
    points = []
    for recipe, rate in {CONTROL: 0.0, **dict(sorted(arms.items(), key=lambda a: a[1]))}.items():
        scores = [run.best_score for run in study.of(recipe) if run.best_score is not None]
        points.append(
            RatePoint(
                rate,
                recipe,
                added.get(recipe, 0),
                len(scores),
                fmean(scores) if scores else None,
                stdev(scores) if len(scores) > 1 else None,
            )
        )
    return points


def write_curve(points: Sequence[RatePoint], folder: Path, *, metric: str) -> list[Path]:
    """Writes curve.csv, and where matplotlib is installed curve.svg and curve.png.

    Returns:
        The files.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(RatePoint)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(point) for point in points)
    write_atomically(folder / "curve.csv", text.getvalue())
    try:
        figure = draw_curve(points, metric=metric)
    except MissingDependencyError:
        return [folder / "curve.csv"]
    figure.savefig(folder / "curve.svg", metadata={"Date": None})
    figure.savefig(folder / "curve.png", dpi=150)
    return [folder / name for name in ("curve.csv", "curve.svg", "curve.png")]


def draw_curve(points: Sequence[RatePoint], *, metric: str) -> Figure:
    """Draws mean and standard deviation of each rate, and the control as a line to beat.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "the picture of the curve needs matplotlib, which is not installed; "
            "run: pip install 'hf_stabilizer[plots]'"
        ) from error
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    treated = [point for point in points if point.sampling_rate and point.mean is not None]
    axes.errorbar(
        [point.sampling_rate for point in treated],
        [point.mean or 0.0 for point in treated],
        yerr=[point.std or 0.0 for point in treated],
        marker="o",
        capsize=3,
        label="with pseudo-labels (mean, standard deviation)",
    )
    control = next((point for point in points if not point.sampling_rate), None)
    if control is not None and control.mean is not None:
        axes.axhline(control.mean, linestyle="--", color="0.4", label="control")
        low, high = (control.mean + sign * (control.std or 0.0) for sign in (-1, 1))
        axes.axhspan(low, high, color="0.4", alpha=0.12, linewidth=0)
    axes.set_xlabel("sampling rate: share of the unlabelled rows")
    axes.set_ylabel(f"{metric} on validation rows")
    axes.legend(fontsize="small", frameon=False)
    return figure
