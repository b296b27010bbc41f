"""How do the figures of a study come into a notebook or a paper? As matplotlib figures.

The numbers are those of the report's page, from the same findings, and none is computed here.
`records` gives them as rows for `pandas.DataFrame`. Needs the extra `plots`; `records` does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from hf_stabilizer.errors import check_choice
from hf_stabilizer.records import check_folder
from hf_stabilizer.studies.figures.agreement import plot_agreement
from hf_stabilizer.studies.figures.canvas import NothingToDrawError
from hf_stabilizer.studies.figures.comparisons import plot_ablation, plot_paired_differences
from hf_stabilizer.studies.figures.distributions import (
    plot_chosen_by_validation,
    plot_densities,
    plot_expected_best,
)
from hf_stabilizer.studies.figures.rows import records
from hf_stabilizer.studies.figures.runs import plot_evaluations, plot_runs
from hf_stabilizer.studies.figures.seeds import plot_seed_grid
from hf_stabilizer.studies.figures.stopping import plot_cost, plot_early_ranks, plot_stopped_runs
from hf_stabilizer.studies.figures.sweeps import plot_sweeps
from hf_stabilizer.studies.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "FIGURES",
    "FORMATS",
    "NothingToDrawError",
    "figures",
    "plot_ablation",
    "plot_agreement",
    "plot_chosen_by_validation",
    "plot_cost",
    "plot_densities",
    "plot_early_ranks",
    "plot_evaluations",
    "plot_expected_best",
    "plot_paired_differences",
    "plot_runs",
    "plot_seed_grid",
    "plot_stopped_runs",
    "plot_sweeps",
    "records",
    "save_figures",
]

FORMATS = ("png", "svg", "pdf")
"""What a figure can be written as."""

FIGURES: MappingProxyType[str, Callable[[Study], Figure]] = MappingProxyType(
    {
        "runs": plot_runs,
        "paired-differences": plot_paired_differences,
        "evaluations": plot_evaluations,
        "ablation": plot_ablation,
        "sweeps": plot_sweeps,
        "densities": plot_densities,
        "expected-best": plot_expected_best,
        "chosen-by-validation": plot_chosen_by_validation,
        "seed-grid": plot_seed_grid,
        "agreement": plot_agreement,
        "stopped-runs": plot_stopped_runs,
        "cost": plot_cost,
        "early-ranks": plot_early_ranks,
    }
)
"""Each figure by name, in reading order."""


def figures(study: Study) -> dict[str, Figure]:
    """Draws every figure that the study can answer, by name, in reading order.

    Args:
        study: Finished or under way, from `run_study`, `Study.from_folder` or `read_runs`.

    Returns:
        The figures; a notebook shows one by its name, `savefig` writes it.

    Raises:
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> from hf_stabilizer import Run
        >>> runs = tuple(
        ...     Run("plain", {"seed": k}, "finished", best_score=s)
        ...     for k, s in enumerate([0.70, 0.71, 0.73])
        ... )
        >>> list(figures(Study("demo", ("plain",), runs, "f1", True)))
        ['runs', 'densities']
    """
    found = {}
    for name, plot in FIGURES.items():
        try:
            found[name] = plot(study)
        except NothingToDrawError:
            continue
    return found


def save_figures(
    study: Study, folder: str | Path, *, formats: Sequence[str] = ("png", "svg")
) -> list[Path]:
    """Writes every figure that the study can answer into a folder, and returns the paths.

    The same study gives the same files: they hold no date.

    Args:
        study: As for `figures`.
        folder: Made if it is not there; figures of the same names are replaced.
        formats: "png" (150 dots an inch), "svg" or "pdf".

    Raises:
        ConfigurationError: An unknown format, or a folder that cannot be one.
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> import tempfile
        >>> from hf_stabilizer import Run
        >>> runs = (Run("plain", {"seed": 1}, "finished", best_score=0.7),)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = save_figures(Study("demo", ("plain",), runs, "f1", True), folder)
        ...     [path.name for path in found]
        ['runs.png', 'runs.svg']
    """
    for one in formats:
        check_choice(one, FORMATS, name="formats")
    folder = Path(folder)
    check_folder(folder, key="folder")
    drawn = figures(study)
    from matplotlib import rc_context

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in drawn.items():
        for one in formats:
            path = folder / f"{name}.{one}"
            # Dates and random names would make every file differ from its last version.
            date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(one)
            with rc_context({"svg.hashsalt": "hf-stabilizer"}):
                figure.savefig(path, format=one, dpi=150, metadata=date)
            paths.append(path)
    return paths
