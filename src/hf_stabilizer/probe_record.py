"""What do the probes of all layers say together? The record, and what it advises.

Two scores are compared fold by fold: the mean difference against its standard error, "clearly"
where a one-sided t-test of 5 % would say so (2.13 standard errors for five folds). With so few
folds that is a rule of thumb, and the advice says what it rests on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hf_stabilizer.dead_pooler import WEAKEST

POOLER = "pooler"
CLEARLY = 2.13
"""The 95 % quantile of Student's t with four degrees of freedom."""


@dataclass(frozen=True)
class LayerProbe:
    """What one read-out of one layer tells a linear classifier."""

    depth: int
    """0 for what the embeddings give out, k for block k; the pooler's is that of the top block."""
    layer: str
    """Name of the depth: "embeddings", "layer_01", ..."""
    readout: str
    """"first", "last", "mean", "token" or "pooler"."""
    score: float
    """The metric over all held-out rows."""
    fold_scores: tuple[float, ...]
    """The metric in each fold by itself."""
    spread: float
    """Root mean square, over the features, of their standard deviations over the rows."""
    l2: float
    """The penalty that cross-validation chose."""

    @property
    def standard_error(self) -> float:
        """Standard error of the fold scores' mean."""
        return _standard_error(self.fold_scores)


@dataclass(frozen=True)
class Probe:
    """The probes of all layers and read-outs of one model on one data set."""

    problem: str
    """"single_label_classification", "multi_label_classification", "regression" or
    "multiple_choice"."""
    metric: str
    """What the scores are."""
    greater_is_better: bool
    """Whether larger scores are better."""
    unit: str
    """What an example is: "rows" or "tokens"."""
    examples: int
    """Examples that were fitted and scored."""
    rows: int
    """Rows they come from."""
    rows_given: int
    """Rows of the data set; if more than `rows`, those are a fixed random sample."""
    probes: tuple[LayerProbe, ...]
    """From the embeddings upwards, the pooler last."""
    baseline: float
    """Score of an answer that does not look at the row: the commonest label, or the mean."""
    baseline_folds: tuple[float, ...]
    """The same in each fold."""
    blocks: int | None
    """Blocks that could be re-initialised; None where the layers shown are not the model's blocks
    one by one, as where one block is run many times."""
    pooler_strength: float | None
    """See `dead_pooler`; None without a pooler, or where it cannot be told."""
    identity_fits: bool
    """Whether `reinit_pooler: identity` is possible."""

    @property
    def best(self) -> LayerProbe:
        """The probe with the best score; of equals the lowest."""
        return self._best(self.probes)

    @property
    def pooler(self) -> LayerProbe | None:
        """The probe on the pooler's outputs, if the model has one."""
        return next((each for each in self.probes if each.readout == POOLER), None)

    @property
    def top(self) -> LayerProbe:
        """The best probe of the top layer that is not the pooler's: what the pooler takes in."""
        depth = max(each.depth for each in self.probes)
        return self._best([each for each in self._body() if each.depth == depth])

    @property
    def beats_baseline(self) -> bool:
        """Whether the best score is clearly better than the baseline."""
        return self._clearly_better(self.best.fold_scores, self.baseline_folds)

    @property
    def pooler_loses(self) -> bool | None:
        """Whether the pooler's score is clearly below that of the same layer's best read-out."""
        if self.pooler is None:
            return None
        return self._clearly_better(self.top.fold_scores, self.pooler.fold_scores)

    @property
    def dead_pooler(self) -> bool | None:
        """Whether the pooler loses, or its weights have faded; None without a pooler."""
        faded = self.pooler_strength is not None and self.pooler_strength < WEAKEST
        return None if self.pooler is None else bool(self.pooler_loses) or faded

    @property
    def enough(self) -> LayerProbe:
        """The lowest layer's best probe within one standard error of the best of the body."""
        best = self._best(self._body())
        within = (
            each
            for each in self._body()
            if self._gain(best.score, each.score) <= best.standard_error
        )
        lowest = min(each.depth for each in within)
        return self._best([each for each in self._body() if each.depth == lowest])

    @property
    def reinit_layers(self) -> int | None:
        """Blocks above `enough`: candidates for re-initialisation, not a promise.

        0 where a probe cannot tell: nothing is clearly better than the baseline, or the embeddings
        are as good as any block. None where there are no blocks to count.
        """
        if self.blocks is None:
            return None
        if not self.beats_baseline or self.enough.depth == 0:
            return 0
        return self.blocks - self.enough.depth

    @property
    def recommendation(self) -> tuple[str, ...]:
        """What to do, in a sentence or two each on head, pooler, layers and certainty."""
        told = (self._say_best(), self._say_pooler(), self._say_layers(), self._say_certainty())
        return tuple(filter(None, told))

    def to_records(self) -> list[dict[str, Any]]:  # Any: numbers and names
        """Returns a flat mapping for each probe, and one for the baseline, whose depth is None."""
        constant = {
            **dict.fromkeys(asdict(self.best)),
            "readout": "baseline",
            "score": self.baseline,
            "fold_scores": self.baseline_folds,
            "standard_error": _standard_error(self.baseline_folds),
        }
        probes = [{**asdict(each), "standard_error": each.standard_error} for each in self.probes]
        return [*probes, constant]

    def _body(self) -> list[LayerProbe]:
        return [each for each in self.probes if each.readout != POOLER]

    def _best(self, probes: Sequence[LayerProbe]) -> LayerProbe:
        return max(probes, key=lambda each: self._gain(each.score, 0.0))

    def _gain(self, score: float, other: float) -> float:
        return score - other if self.greater_is_better else other - score

    def _clearly_better(self, scores: Sequence[float], others: Sequence[float]) -> bool:
        gains = [self._gain(a, b) for a, b in zip(scores, others, strict=True)]
        return bool(np.mean(gains) > CLEARLY * _standard_error(gains))

    def _say_best(self) -> str:
        best = self.best
        if not self.beats_baseline:
            return (
                f"No layer tells a linear classifier clearly more than the baseline "
                f"({self.metric} {self.baseline:.3f}; best {_score(best)}): {self.examples} "
                f"{self.unit} are too few, or this body knows nothing of the task yet, and what "
                "follows means little."
            )
        return (
            f"Best is {_name(best)}: {self.metric} {_score(best)}, where an answer that does not "
            f"look at the row has {self.baseline:.3f}. Fine-tuning has to beat that."
        )

    def _say_pooler(self) -> str:
        pooler = self.pooler
        if pooler is None:
            return ""
        below = [each for each in self._body() if each.depth == pooler.depth]
        others = " and ".join(f"{_score(each)} on {_name(each)}" for each in below)
        seen = (
            f"{_score(pooler)} on its outputs, against {others}; over the {self.unit} its outputs "
            f"vary by {pooler.spread:.2g}, what it sees by {below[0].spread:.2g}"
        )
        if self.pooler_strength is not None:
            seen += f"; its weights are {self.pooler_strength:.2f} of freshly drawn ones"
        if not self.dead_pooler:
            return f"The pooler is alive ({seen}): keep it."
        return f"The pooler looks dead ({seen}): {self._way_out(below[0])}."

    def _way_out(self, seen: LayerProbe) -> str:
        if self.problem == "regression":
            way = "identity" if self.identity_fits else "true"
            return f"compare reinit_pooler: {way} in a study (for numbers it did little in ours)"
        fit = ["fit_head: true"]
        if self.identity_fits:
            first = "reinit_pooler: identity"
            return f"try {' and '.join([first, *fit])}; the head then sees {_name(seen)} itself"
        if self.pooler_strength is not None and self.pooler_strength < WEAKEST:
            return f"try {' and '.join(['reinit_pooler: true', *fit])}"
        return "training has to win that back, try fit_head: true"

    def _say_layers(self) -> str:
        if not self.beats_baseline or self.blocks is None:
            return ""
        enough, count = self.enough, self.reinit_layers
        if enough.depth == 0:
            return (
                "The embeddings alone do as well as any layer: to a linear classifier no block "
                "adds anything, which says nothing about which of them to keep."
            )
        if not count:
            return "The body helps up to its top layer: no reason here to re-initialise blocks."
        blocks = "the top block is a candidate" if count == 1 else f"the top {count} are candidates"
        return (
            f"From {enough.layer} on ({_score(enough)}) the body helps this task no further within "
            f"one standard error: {blocks} for re-initialisation, at most reinit_layers: {count}."
        )

    def _say_certainty(self) -> str:
        return (
            f"Errors are standard errors of {len(self.best.fold_scores)} folds of {self.examples} "
            f"{self.unit}; what fine-tuning makes of a layer no probe can tell: compare recipes in "
            "a study."
        )


def _standard_error(scores: Sequence[float]) -> float:
    return float(np.std(scores, ddof=1) / len(scores) ** 0.5)


def _name(probe: LayerProbe) -> str:
    if probe.readout == POOLER:
        return "the pooler"
    what = {"mean": "the mean token", "token": "each token"}
    return f"{what.get(probe.readout, f'the {probe.readout} token')} of {probe.layer}"


def _score(probe: LayerProbe) -> str:
    return f"{probe.score:.3f} +- {probe.standard_error:.3f}"
