"""How many more seeds would a claim need? The power of the paired test, by simulation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hf_stabilizer.errors import check_whole
from hf_stabilizer.studies.statistics.checks import check_share, finite_scores
from hf_stabilizer.studies.statistics.pairs import choices_of_signs, pairs_needed

Floats = npt.NDArray[np.float64]

SIMULATED_STUDIES = 400
POWER_EXACT_UP_TO = 10
POWER_SIGNS = 1_999


@dataclass(frozen=True)
class SeedsNeeded:
    """What a claim would take, if the pairs to come are like those seen."""

    pairs: int
    """Pairs seen."""
    needed: int | None
    """Pairs in all with which the claim is made in a share `power` of studies; None: more than
    were looked at, so the difference is too small for its spread."""
    effect: float
    """The true mean difference supposed, in units of the metric."""
    power: float
    """The power asked for, in (0, 1)."""
    power_now: float
    """Share of studies with as many pairs as were seen in which the claim would be made."""
    most: int
    """The largest number of pairs looked at."""

    @property
    def more(self) -> int | None:
        """How many seeds are to be added; 0 where there are enough."""
        return None if self.needed is None else max(0, self.needed - self.pairs)


def seeds_needed(
    differences: Sequence[float],
    *,
    effect: float | None = None,
    power: float = 0.8,
    level: float = 0.05,
    comparisons: int = 1,
    most: int = 1_000,
    seed: int = 0,
) -> SeedsNeeded | None:
    """Returns how many seeds it takes to claim a difference, from the pairs seen so far.

    Studies of N pairs are drawn, 400 of each size, from the differences seen, set to the mean
    `effect` and spread sqrt(n / (n - 1)) wider, as a resample is too narrow by that; each goes
    through the paired sign test. The answer is the smallest N that reaches the level in a share
    `power` of them. Taken at its word: the mean that was seen is uncertain, so ask with the
    smallest `effect` that would matter, too. Looking again after each added seed is another test.

    Args:
        differences: Candidate minus baseline under the same seeds, finite.
        effect: The true mean difference supposed, in units of the metric; None: the one seen.
        power: Share of studies that should come to the claim, in (0, 1).
        level: Largest p-value that makes a claim, in (0, 1).
        comparisons: Number of recipes that share the level (p is multiplied by it).
        most: The largest number of pairs looked at.
        seed: Seed of the simulation.

    Returns:
        None for fewer than three pairs, which say too little about the spread.

    Raises:
        ConfigurationError: A number outside its range.
        DataError: A difference is no finite number.

    Example:
        >>> found = seeds_needed([0.02, -0.01, 0.03, 0.01, 0.00, 0.02])
        >>> found.pairs, 8 <= found.needed <= 16, found.more == found.needed - 6
        (6, True, True)
        >>> seeds_needed([0.1, -0.1, 0.1, -0.1]).needed is None
        True
    """
    check_share(power, name="power")
    check_share(level, name="level")
    check_whole(comparisons, "from 1 up", name="comparisons", least=1)
    check_whole(most, "of pairs from 1 up", name="most", least=1)
    seen = finite_scores(differences, name="differences")
    if len(seen) < 3:
        return None
    mean = float(seen.mean()) if effect is None else float(effect)
    shape = (seen - seen.mean()) * np.sqrt(len(seen) / (len(seen) - 1))
    rng = np.random.default_rng(seed)
    studies = mean + rng.choice(shape, size=(SIMULATED_STUDIES, max(most, len(seen))))
    least = pairs_needed(level=level, comparisons=comparisons)

    def reached(pairs: int) -> float:
        if pairs < least:
            return 0.0
        p_values = comparisons * _p_values(studies[:, :pairs], seed)
        return float(np.mean(p_values <= level + 1e-12))

    return SeedsNeeded(
        pairs=len(seen),
        needed=_smallest(reached, least, most, power) if mean else None,
        effect=mean,
        power=power,
        power_now=reached(len(seen)),
        most=most,
    )


def _smallest(reached: Callable[[int], float], least: int, most: int, power: float) -> int | None:
    """The smallest number of pairs with the power: doubled until it is there, then halved."""
    short, enough = least - 1, least
    while reached(min(enough, most)) < power:
        if enough >= most:
            return None
        short, enough = enough, 2 * enough
    enough = min(enough, most)
    while enough - short > 1:
        middle = (short + enough) // 2
        short, enough = (short, middle) if reached(middle) >= power else (middle, enough)
    return enough


def _p_values(studies: Floats, seed: int) -> Floats:
    """Two-sided sign-flip p-values of many studies at once: (studies, pairs) -> (studies,)."""
    pairs = studies.shape[1]
    exact = pairs <= POWER_EXACT_UP_TO
    if exact:
        signs, _ = choices_of_signs(pairs, seed=seed)
    else:
        signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(POWER_SIGNS, pairs))
    seen = np.abs(studies.sum(axis=1))
    hair = 1e-12 * np.abs(studies).max(initial=0.0) * pairs
    count = (np.abs(studies @ signs.T) >= (seen - hair)[:, None]).sum(axis=1)
    p_values: Floats = count / len(signs) if exact else (1 + count) / (1 + len(signs))
    return p_values
