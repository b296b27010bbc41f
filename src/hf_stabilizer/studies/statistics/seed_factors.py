"""Which seed makes the scores differ: the head's, the data order's, or both together?

    y_hd = mean + head_h + data_d + (head x data)_hd + rest

Sums of squares are those of least squares, each factor after the other, so a grid may have holes:
SS(head | data) is what knowing the head adds to knowing the data order. Variances follow by
setting the sums equal to their expectations (Henderson's third method), which on a full grid is
the textbook's analysis of variance. With one run in each cell interaction and rest are one line.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import stats

from hf_stabilizer.records import Run
from hf_stabilizer.studies.statistics.checks import finite_scores, same_length
from hf_stabilizer.studies.statistics.summaries import final_score

Floats = npt.NDArray[np.float64]
SHUFFLES = 1_999
_HAIR = 1e-20
"""Share of the whole sum of squares below which one is a rounding error."""


@dataclass(frozen=True)
class Factor:
    """One source of spread: a line of the analysis of variance."""

    name: str
    """"head", "data", "head x data" or "rest", or as the factors were named."""
    sum_of_squares: float
    """What it explains after the other factor, in squared units of the metric."""
    degrees: int
    """Degrees of freedom."""
    estimate: float
    """Its variance component, unbiased; it may come out below zero where it is next to nothing."""
    share: float
    """Share of the whole variance in [0, 1], components below zero taken as zero."""
    f: float | None = None
    """Its mean square over that of the interaction, or of the rest where there is none apart."""
    p_value: float | None = None
    """Of that F, which takes the rest as normal."""
    shuffled_p: float | None = None
    """The same without normality: scores shuffled 1,999 times within each level of the other
    factor. Believe this one where runs collapse."""

    @property
    def variance(self) -> float:
        """The component, zero where its estimate fell below."""
        return max(0.0, self.estimate)

    @property
    def mean_square(self) -> float:
        """Sum of squares over degrees of freedom."""
        return self.sum_of_squares / self.degrees


@dataclass(frozen=True)
class SeedFactors:
    """The two-way analysis of a full or partial grid of seeds."""

    factors: tuple[Factor, ...]
    """First factor, second factor, their interaction where cells hold several runs, rest."""
    mean: float
    """Mean score."""
    std: float
    """Sample standard deviation of all scores."""
    runs: int
    """Runs in the analysis."""
    levels: tuple[int, int]
    """Number of seeds of the first and of the second factor."""
    cells: int
    """Cells of the grid that hold a run, of levels[0] x levels[1]."""
    left_out: int = 0
    """Runs without a final score."""

    def __getitem__(self, name: str) -> Factor:
        """Returns the line of that name.

        Raises:
            KeyError: There is none, such as the interaction where each cell holds one run.
        """
        return {factor.name: factor for factor in self.factors}[name]


def two_way_analysis(
    scores: Sequence[float],
    heads: Sequence[Hashable],
    data: Sequence[Hashable],
    *,
    names: tuple[str, str] = ("head", "data"),
    seed: int = 0,
    left_out: int = 0,
) -> SeedFactors | None:
    """Returns how much of the spread of scores comes from each of two seeds.

    Args:
        scores: Final scores, finite, one for each run.
        heads: Level of the first factor of each run, e.g. its head seed.
        data: Level of the second factor of each run, e.g. its data seed.
        names: What the two are called.
        seed: Seed of the shuffles.
        left_out: How many runs had no score, for the record.

    Returns:
        None where the runs cannot tell the two apart: one level only, seeds that vary together
        (head 1 with data 1, head 2 with data 2), or nothing left to measure the rest with.

    Raises:
        DataError: The three are not equally long, or a score is no finite number.

    Example:
        >>> scores = [0.70, 0.72, 0.74, 0.80, 0.83, 0.83, 0.60, 0.61, 0.65]
        >>> found = two_way_analysis(scores, [1, 1, 1, 2, 2, 2, 3, 3, 3], [1, 2, 3] * 3)
        >>> [(f.name, f.degrees, round(f.share, 3)) for f in found.factors]
        [('head', 2, 0.955), ('data', 2, 0.035), ('rest', 4, 0.01)]
        >>> round(found["head"].f, 1), round(found["head"].p_value, 5)
        (300.0, 4e-05)
        >>> two_way_analysis([0.7, 0.8, 0.6], [1, 2, 3], [1, 2, 3]) is None
        True

    Source: Dodge et al. 2020, arXiv 2002.06305, section 4 (the question and the test);
    Henderson 1953, Estimation of Variance and Covariance Components, method 3.
    """
    same_length(scores=scores, heads=heads, data=data)
    y = finite_scores(scores, name="scores")
    a, b = _levels(heads), _levels(data)
    spaces = _Spaces.of(a, b)
    if spaces is None:
        return None
    centred = y - y.mean() if np.ptp(y) else np.zeros_like(y)
    factors = _factors(centred, spaces, names)
    shuffled = (
        _shuffled_p(centred, spaces.first, b, seed),
        _shuffled_p(centred, spaces.second, a, seed),
    )
    tested = [replace(factor, shuffled_p=p) for factor, p in zip(factors, shuffled, strict=False)]
    return SeedFactors(
        factors=(*tested, *factors[2:]),
        mean=float(y.mean()),
        std=float(y.std(ddof=1)),
        runs=len(y),
        levels=(int(a.max()) + 1, int(b.max()) + 1),
        cells=len(set(zip(a.tolist(), b.tolist(), strict=True))),
        left_out=left_out,
    )


def two_way_analysis_of_runs(
    runs: Iterable[Run],
    *,
    factors: tuple[str, str] = ("head_seed", "data_seed"),
    names: tuple[str, str] = ("head", "data"),
) -> SeedFactors | None:
    """Returns `two_way_analysis` for the runs of one recipe.

    Args:
        runs: Runs of one recipe, with their seeds.
        factors: The two seeds by option name; "seed" is dropout.
        names: What the two are called.

    Example:
        >>> runs = [
        ...     Run("plain", {"head_seed": h, "data_seed": d}, "finished", best_score=s)
        ...     for h, d, s in [(1, 1, 0.5), (1, 2, 0.6), (2, 1, 0.7), (2, 2, 0.81)]
        ... ]
        >>> round(two_way_analysis_of_runs(runs)["head"].share, 2)
        0.79
    """
    everything = list(runs)
    known = [
        (score, run.seeds[factors[0]], run.seeds[factors[1]])
        for run in everything
        if (score := final_score(run)) is not None and all(name in run.seeds for name in factors)
    ]
    return two_way_analysis(
        [score for score, _, _ in known],
        [first for _, first, _ in known],
        [second for _, _, second in known],
        names=names,
        left_out=len(everything) - len(known),
    )


def shuffled_within(
    values: Floats, blocks: npt.NDArray[np.int64], *, times: int, seed: int
) -> Floats:
    """Returns the values shuffled within each block, many times: (times, n).

    Example:
        >>> values, blocks = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 1, 0, 1])
        >>> drawn = shuffled_within(values, blocks, times=50, seed=0)
        >>> sorted(set(drawn[:, 0].tolist())), sorted(set(drawn[:, 1].tolist()))
        ([1.0, 3.0], [2.0, 4.0])
    """
    keys = np.random.default_rng(seed).random((times, len(values)))
    order = np.argsort(blocks[None, :] + keys, axis=1)  # blocks stay together, in random order
    shuffled = np.empty((times, len(values)))
    shuffled[:, np.argsort(blocks, kind="stable")] = values[order]
    return shuffled


@dataclass(frozen=True)
class _Spaces:
    """Orthonormal bases of what each line of the table can explain, and the indicator columns."""

    first: Floats
    second: Floats
    interaction: Floats
    rest_degrees: int
    indicators: tuple[Floats, Floats, Floats]

    @classmethod
    def of(cls, a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> _Spaces | None:
        if not len(a) or a.max() == 0 or b.max() == 0:
            return None
        _, cell = np.unique(a * (b.max() + 1) + b, return_inverse=True)
        za, zb, zc = (np.eye(int(x.max()) + 1)[x.reshape(-1)] for x in (a, b, cell))
        first, second = _beyond(zb, za), _beyond(za, zb)
        interaction = _beyond(np.hstack([za, zb]), zc)
        rest = len(a) - int(cell.max()) - 1
        if not first.shape[1] or not second.shape[1] or rest + interaction.shape[1] == 0:
            return None
        return cls(first, second, interaction, rest, (za, zb, zc))


def _levels(seeds: Sequence[Hashable]) -> npt.NDArray[np.int64]:
    """Levels as whole numbers from 0 up, in order of appearance."""
    places = {level: place for place, level in enumerate(dict.fromkeys(seeds))}
    return np.array([places[level] for level in seeds], dtype=np.int64)


def _beyond(known: Floats, added: Floats) -> Floats:
    """An orthonormal basis of what `added` spans beyond `known`."""
    basis = _span(known)
    return _span(added - basis @ (basis.T @ added))


def _span(columns: Floats) -> Floats:
    u, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    found: Floats = u[:, sizes > 1e-9 * max(1.0, float(sizes.max(initial=0.0)))]
    return found


def _factors(y: Floats, spaces: _Spaces, names: tuple[str, str]) -> list[Factor]:
    za, zb, zc = spaces.indicators
    bases = [spaces.first, spaces.second, spaces.interaction]
    hair = _HAIR * float(y @ y)
    squares = [_not_rounding(float(((basis.T @ y) ** 2).sum()), hair) for basis in bases]
    degrees = [basis.shape[1] for basis in bases]
    within = y - zc @ ((zc.T @ y) / zc.sum(axis=0))
    rest_squares, rest_degrees = _not_rounding(float((within**2).sum()), hair), spaces.rest_degrees
    lines = [names[0], names[1], f"{names[0]} x {names[1]}"]
    told_apart = 3 if rest_degrees and degrees[2] else 2
    if not rest_degrees:  # one run in each cell: the interaction is in the rest
        rest_squares, rest_degrees = squares[2], degrees[2]
    lines, bases = lines[:told_apart], bases[:told_apart]
    squares, degrees = squares[:told_apart], degrees[:told_apart]
    rest = rest_squares / rest_degrees
    weights = [[_trace(basis, z) for z in (za, zb, zc)] for basis in bases]
    estimates = _components(squares, degrees, weights, rest)
    whole = sum(max(0.0, x) for x in (*estimates, rest)) or 1.0
    below = (squares[2], degrees[2]) if len(lines) == 3 else (rest_squares, rest_degrees)
    found = []
    for place, name in enumerate(lines):
        against = below if place < 2 else (rest_squares, rest_degrees)
        f, p = _f_test(squares[place], degrees[place], *against)
        share = max(0.0, estimates[place]) / whole
        found.append(Factor(name, squares[place], degrees[place], estimates[place], share, f, p))
    return [*found, Factor("rest", rest_squares, rest_degrees, rest, rest / whole)]


def _not_rounding(squares: float, hair: float) -> float:
    return squares if squares > hair else 0.0


def _trace(basis: Floats, indicators: Floats) -> float:
    """tr(Z' Q Q' Z): how often a component of unit variance goes into this sum of squares."""
    return float(((basis.T @ indicators) ** 2).sum())


def _components(
    squares: list[float], degrees: list[int], weights: list[list[float]], rest: float
) -> list[float]:
    """Solves E[SS] = SS from the last line upwards; main effects do not leak into each other."""
    interaction = 0.0
    if len(squares) == 3:
        interaction = (squares[2] - degrees[2] * rest) / weights[2][2]
    mains = [
        (squares[k] - degrees[k] * rest - weights[k][2] * interaction) / weights[k][k]
        for k in (0, 1)
    ]
    return [*mains, interaction][: len(squares)]


def _f_test(
    squares: float, degrees: int, against: float, against_degrees: int
) -> tuple[float | None, float | None]:
    if against <= 1e-14 * max(squares, 1e-300) or against == 0.0:
        return None, None  # nothing is left over to hold it against
    f = (squares / degrees) / (against / against_degrees)
    return f, float(stats.f.sf(f, degrees, against_degrees))


def _shuffled_p(y: Floats, basis: Floats, blocks: npt.NDArray[np.int64], seed: int) -> float:
    """Within blocks the sum over all lines is fixed, so F grows with this sum of squares alone."""
    seen = float(((basis.T @ y) ** 2).sum())
    drawn = ((shuffled_within(y, blocks, times=SHUFFLES, seed=seed) @ basis) ** 2).sum(axis=1)
    # Seeds that do nothing at all explain a rounding error, which no shuffle need reach.
    least = seen * (1 - 1e-9) - _HAIR * float(y @ y)
    return float((1 + np.sum(drawn >= least)) / (1 + SHUFFLES))
