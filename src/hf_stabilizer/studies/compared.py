"""What is known of one recipe against another? The record of a comparison, and its words.

What it stands on decides its words: pairs of runs with the same seeds; pairs in a grid of seeds,
worth fewer independent units; or runs that share no seeds at all.
"""

from __future__ import annotations

from dataclasses import dataclass

from hf_stabilizer.studies.seeds.seed_grid import WORDS
from hf_stabilizer.studies.statistics import Interval, pairs_needed, significance_words


@dataclass(frozen=True)
class Pair:
    """The scores of two recipes under the same seeds."""

    seeds: tuple[tuple[str, int], ...]
    """Option names and values of the seeds."""
    baseline: float
    """Score of the baseline."""
    candidate: float
    """Score of the other recipe."""

    @property
    def difference(self) -> float:
        """Candidate minus baseline, in units of the metric."""
        return self.candidate - self.baseline


@dataclass(frozen=True)
class Unpaired:
    """The runs of two recipes that share no seeds, as independent samples."""

    baseline_runs: int
    """Runs of the baseline with a final score."""
    candidate_runs: int
    """Runs of the other recipe with a final score."""
    baseline_mean: float
    """Mean score of the baseline."""
    candidate_mean: float
    """Mean score of the other recipe."""
    units: tuple[int, int] | None = None
    """Independent units of either, where its runs share seeds (`statistics.shared_seeds`)."""


@dataclass(frozen=True)
class Grid:
    """What pairs that share seeds are worth: the independent units that the tests count."""

    levels: tuple[tuple[str, int], ...]
    """(option name, number of levels) of each seed that varies."""
    units: tuple[float, ...]
    """Candidate minus baseline of each unit, in units of the metric (`shared_seeds`)."""
    baseline_mean: float
    """Mean score of the baseline; on a full grid the plain one, else by least squares."""
    candidate_mean: float
    """Mean score of the candidate, likewise."""
    chosen: int | None = None
    """Number of pairs that share no seed, where the grid has so many holes that only those can
    be tested; None: all pairs are."""

    @property
    def shape(self) -> str:
        """The grid in words, "6 head x 8 data seeds"."""
        return f"{' x '.join(f'{count} {WORDS[name]}' for name, count in self.levels)} seeds"


@dataclass(frozen=True)
class Comparison:
    """One recipe against the baseline over the seeds that both finished."""

    baseline: str
    """Name of the recipe compared with."""
    candidate: str
    """Name of the recipe in question."""
    greater_is_better: bool
    """Direction of the metric."""
    pairs: tuple[Pair, ...]
    """Pairs in which both runs have a final score."""
    dropped: int
    """Pairs left out because one of the runs has no final score, or was never made."""
    mean_difference: float | None
    """Mean of candidate minus baseline, in units of the metric; on a grid with holes that of
    least squares, in which every level of a seed counts alike."""
    interval: Interval | None
    """95 % interval of that mean (`sign_flip_interval`)."""
    p_value: float | None
    """`sign_flip_p_value`, corrected by Holm's method for the number of comparisons."""
    smallest_p: float
    """The smallest p-value that so many pairs (on a grid: units) can reach at all, corrected in
    the same way."""
    superiority: float | None
    """Share of pairs in which the candidate is better, ties counted half (Bouthillier et al.
    2021, arXiv 2103.03098, section 4): the chance that it wins under a new seed."""
    baseline_std: float | None
    """Standard deviation of the baseline over these pairs."""
    candidate_std: float | None
    """Standard deviation of the candidate over these pairs."""
    spread_p: float | None
    """`spread_p_value`, corrected by Holm's method for the number of comparisons."""
    superiority_interval: Interval | None = None
    """95 % Wilson interval of `superiority`."""
    among: int = 1
    """Number of comparisons that the p-values are corrected for."""
    unpaired: Unpaired | None = None
    """Where the recipes share no seeds: then p-value, interval and superiority are those of
    `statistics.unpaired`. None: pairs."""
    grid: Grid | None = None
    """Where pairs share a head, data or dropout seed that varies: then all tests and intervals
    count its units. None: every pair stands for itself."""

    @property
    def held(self) -> str:
        """What the comparison stands on, in words: "6 pairs", "4 and 5 unpaired runs".

        On a grid: "36 pairs in 6 head x 6 data seeds, tested as 6 independent units".
        """
        if self.unpaired:
            runs = self.unpaired.baseline_runs, self.unpaired.candidate_runs
            words = f"{runs[0]} and {runs[1]} unpaired runs"
            units = self.unpaired.units
            return (
                f"{words} that share seeds, as {units[0]} and {units[1]} units" if units else words
            )
        pairs = "one pair" if len(self.pairs) == 1 else f"{len(self.pairs)} pairs"
        return f"{pairs} in {self.grid.shape}, tested as {self.units_held}" if self.grid else pairs

    @property
    def units_held(self) -> str:
        """What the tests count: "6 pairs", on a grid "6 independent units"."""
        if self.grid is None:
            return self.held
        if self.grid.chosen is not None:
            return f"the {self.grid.chosen} that share no seed"
        return f"{len(self.units)} independent units"

    @property
    def units(self) -> tuple[float, ...]:
        """Independent differences, e.g. for `seeds_needed`: those of the pairs, or of the grid."""
        return self.differences if self.grid is None else self.grid.units

    @property
    def given(self) -> tuple[tuple[str, int], ...]:
        """Head and data seeds that are the same in all pairs while another seed varies.

        What is found holds for those; nothing is known of others.
        """
        levels = {name: {dict(pair.seeds).get(name) for pair in self.pairs} for name in WORDS}
        fixed = ((name, levels[name].pop()) for name in WORDS if len(levels[name]) == 1)
        return tuple((name, seed) for name, seed in fixed if seed is not None and name != "seed")

    @property
    def differences(self) -> tuple[float, ...]:
        """Candidate minus baseline of each pair."""
        return tuple(pair.difference for pair in self.pairs)

    @property
    def words(self) -> str:
        """A sentence where these pairs cannot reach p <= .05, whatever they show; else empty."""
        if self.unpaired:
            is_enough = self.smallest_p <= 0.05
            return "" if is_enough else f"{self.held} cannot reach p <= 0.05, whatever they show"
        if self.grid is None:
            return significance_words(self.units, comparisons=self.among)
        if self.smallest_p > 0.05:
            needed = pairs_needed(comparisons=self.among)
            return f"{self.held}, cannot reach p <= 0.05; {needed} of each seed can"
        words = significance_words(self.units, comparisons=self.among)
        return words.replace("pairs", "independent units", 1)

    @property
    def gain(self) -> float | None:
        """The mean difference, turned so that positive is better."""
        if self.mean_difference is None:
            return None
        return self.mean_difference if self.greater_is_better else -self.mean_difference
