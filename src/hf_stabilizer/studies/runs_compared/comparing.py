"""Which settings differ between runs, and how does the score move with each of them?

Settings that always change together, such as `averaging` and `averaging_start`, are one factor:
nothing tells them apart. The mean over all runs that have a value is what people look at, and it
misleads where other settings differ, too. So beside it stands the mean difference over matched
runs: those that are equal in all other factors and in their seeds.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_stabilizer.studies import formats
from hf_stabilizer.studies.kept_weights import SCORED, trained_on
from hf_stabilizer.studies.past_runs.reading import folders_of
from hf_stabilizer.studies.runs_compared.gathering import ComparedRun, gather_runs
from hf_stabilizer.studies.statistics import sample_std, shared_seeds, sign_flip_p_value

Seeds = tuple[tuple[str, int], ...]

DEFAULT = "(default)"
"""Stands for a setting that a run leaves as it is."""
NAMES = ("procedure", "recipe")
"""Names of what was done; what they did stands in the other settings."""


@dataclass(frozen=True)
class Group:
    """Runs with the same settings, seeds aside."""

    values: tuple[str, ...]
    """The value of each differing setting."""
    runs: tuple[ComparedRun, ...]
    """Its runs."""

    @property
    def mean(self) -> float:
        """Mean score."""
        return float(np.mean([one.score for one in self.runs]))

    @property
    def std(self) -> float | None:
        """Standard deviation of the scores; None for one run."""
        return sample_std([one.score for one in self.runs]) if len(self.runs) > 1 else None


@dataclass(frozen=True)
class Effect:
    """The score at one value of one factor."""

    factor: tuple[str, ...]
    """Names of its settings."""
    value: tuple[str, ...]
    """The value of each."""
    scores: tuple[float, ...]
    """Scores of all runs that have it."""
    against: tuple[str, ...] | None
    """The values that it is compared with; None for those themselves."""
    differences: tuple[float, ...]
    """Score minus that of the matched run with the other value; empty where nothing matches."""
    units: tuple[float, ...]
    """Independent ones among them: the mean of those under the same seeds, and where seeds are
    shared, as on a grid, its units (`statistics.shared_seeds`)."""

    @property
    def mean(self) -> float:
        """Mean score."""
        return float(np.mean(self.scores))

    @property
    def mean_difference(self) -> float | None:
        """Mean over matched runs; None without any."""
        return float(np.mean(self.differences)) if self.differences else None

    @property
    def p_value(self) -> float | None:
        """Of the exact paired test over the units, uncorrected; None below two of them."""
        return sign_flip_p_value(self.units) if len(self.units) > 1 else None


@dataclass(frozen=True)
class RunComparison:
    """Runs of whatever procedures, side by side."""

    runs: tuple[ComparedRun, ...]
    """Every run with a final score."""
    metric: str
    """Name of the metric."""
    greater_is_better: bool
    """Whether larger values of it are better."""
    differing: tuple[str, ...]
    """The settings that differ between runs."""
    left_out: tuple[str, ...]
    """Runs without a final score, a sentence each."""

    @property
    def cautions(self) -> tuple[str, ...]:
        """What makes these scores hard to compare, a sentence each."""
        count, found = Counter(run.scored_on for run in self.runs), []
        if 0 < count["test"] < len(self.runs):
            found.append(
                f"the scores of {count['test']} of {len(self.runs)} runs are of test rows, those "
                "of the others of validation rows: they do not compare"
            )
        if count["best"] and count["last"]:
            found.append(
                f"{formats.counted(count['best'], 'run')} kept the best weights of several looks "
                "at the validation rows, whose score is a little too good, and "
                f"{count['last']} the last ones: that "
                "alone makes a difference"
            )
        if late := sum(run.scored_on == "last" and trained_on(run.run) for run in self.runs):
            found.append(
                "1 run was trained on after its last evaluation: its score is not of the very "
                "weights that it kept"
                if late == 1
                else f"{late} runs were trained on after their last evaluation: their scores are "
                "not of the very weights that they kept"
            )
        return tuple(found)

    @property
    def scored_on(self) -> str:
        """Which rows and which weights the scores are of, in words."""
        count = Counter(run.scored_on for run in self.runs)
        if len(count) == 1:
            return f"scores are of {SCORED[next(iter(count))]}"
        parts = (f"{count[rows]} of {what}" for rows, what in SCORED.items() if count[rows])
        return f"scores: {'; '.join(parts)}"

    def values(self, run: ComparedRun, settings: Sequence[str]) -> tuple[str, ...]:
        """Returns the values of some settings as text."""
        return tuple(run.settings.get(setting, DEFAULT) for setting in settings)

    @property
    def factors(self) -> tuple[tuple[str, ...], ...]:
        """The differing settings, those together that always change together; names left out."""
        settings = [name for name in self.differing if name not in NAMES] or list(self.differing)
        found: dict[tuple[int, ...], list[str]] = {}
        for setting in settings:
            values = [self.values(run, [setting]) for run in self.runs]
            pattern = tuple(values.index(value) for value in values)
            found.setdefault(pattern, []).append(setting)
        return tuple(map(tuple, found.values()))

    @property
    def groups(self) -> tuple[Group, ...]:
        """Runs of equal settings together, the best mean first."""
        found: dict[tuple[str, ...], list[ComparedRun]] = {}
        for run in self.runs:
            found.setdefault(self.values(run, self.differing), []).append(run)
        groups = [Group(values, tuple(runs)) for values, runs in found.items()]
        return tuple(sorted(groups, key=lambda g: -g.mean if self.greater_is_better else g.mean))

    def effects(self, factor: Sequence[str]) -> tuple[Effect, ...]:
        """Returns the score at each value of a factor; the first is what the others are held to."""
        having: dict[tuple[str, ...], list[ComparedRun]] = {}
        for run in self.runs:
            having.setdefault(self.values(run, factor), []).append(run)
        values = sorted(having, key=_order)
        first = max(values, key=lambda value: (value.count(DEFAULT), len(having[value])))
        return tuple(
            Effect(
                tuple(factor),
                value,
                tuple(run.score for run in having[value]),
                None if value == first else first,
                *_differences(
                    [] if value == first else self._matched(factor, having[first], having[value])
                ),
            )
            for value in sorted(values, key=lambda value: value != first)
        )

    def to_records(self) -> list[dict[str, Any]]:  # Any: texts and numbers
        """Returns one flat, pandas-ready mapping for each run: what differs, seeds, score."""
        return [
            {
                "folder": str(one.folder),
                **dict(zip(self.differing, self.values(one, self.differing), strict=True)),
                **one.run.seeds,
                "metric": self.metric,
                "score": one.score,
                "scored_on": one.scored_on,
            }
            for one in self.runs
        ]

    def _matched(
        self, factor: Sequence[str], first: Sequence[ComparedRun], second: Sequence[ComparedRun]
    ) -> list[tuple[Seeds, float]]:
        """The seeds of each matched run, and its score minus that of the other."""
        others = [name for name in self.differing if name not in (*factor, *NAMES)]

        def key(run: ComparedRun) -> tuple[object, ...]:
            return (self.values(run, others), run.seeds)

        partners = {key(run): run for run in first if run.seeds}
        known = [run for run in second if key(run) in partners]
        return [(run.seeds, run.score - partners[key(run)].score) for run in known]


def compare_runs(
    folders: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    metric: str | None = None,
    greater_is_better: bool | None = None,
) -> RunComparison:
    """Returns finished runs side by side: the settings that differ, and the scores.

    A run's score is that of the weights that it kept: on test rows where there are any, else on
    validation rows, where the best weights were chosen or the last were kept.

    Args:
        folders: Folders of runs, studies or procedures, or above them.
        metric: The metric that decides; None: the one that all runs name.
        greater_is_better: Its direction; None: as the runs or its name have it.

    Raises:
        StudyError: There is no such folder, or no finished run in it.
        ConfigurationError: Which metric decides is open, or no run has it.

    Example:
        >>> import pathlib, tempfile
        >>> from hf_stabilizer import Run
        >>> from hf_stabilizer.records import write_run
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for rate, score in ((1e-4, 0.7), (2e-4, 0.8)):
        ...     run = Run("plain", {"seed": 1}, "finished", metric="f1", best_score=score,
        ...               configuration={"learning_rate": rate, "weight_decay": 0.0})
        ...     write_run(run, folder / str(rate) / "run.json")
        >>> found = compare_runs(folder)
        >>> found.factors, round(found.effects(["learning_rate"])[1].differences[0], 1)
        ((('learning_rate',),), 0.1)
    """
    runs, metric, greater_is_better, left = gather_runs(
        folders_of(folders), metric=metric, greater_is_better=greater_is_better
    )
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    differing = [key for key in keys if len({run.settings.get(key, DEFAULT) for run in runs}) > 1]
    return RunComparison(runs, metric, greater_is_better, tuple(differing), left)


def _differences(
    matched: Sequence[tuple[Seeds, float]],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """All differences, and the independent ones among them."""
    under: dict[Seeds, list[float]] = {}
    for seeds, difference in matched:
        under.setdefault(seeds, []).append(difference)
    means = [float(np.mean(some)) for some in under.values()]
    grid = shared_seeds([dict(seeds) for seeds in under]) if under else None
    units = means if grid is None else grid.of(means)
    return tuple(difference for _, difference in matched), tuple(units)


def _order(values: tuple[str, ...]) -> list[tuple[int, float, str]]:
    """Numbers by size, then words by name; what is left as it is comes first."""
    return [_place(value) for value in values]


def _place(value: str) -> tuple[int, float, str]:
    if value == DEFAULT:
        return (0, 0.0, "")
    try:
        return (1, float(value), value)
    except ValueError:
        return (2, 0.0, value)
