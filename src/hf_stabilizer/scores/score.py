"""What is a score? A number that compares, and what it is computed from.

    predictions, references --compute--> one number that compares

A score must compare: the Trainer never replaces a best score that is not a number. So the
correlation of constant predictions is 0, not undefined, and predictions that are not finite
have an infinite error and correlation 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy.typing as npt

# Any in this package: arrays of classes, flags, scores or numbers, as the metric wants them.
Array = npt.NDArray[Any]
Wants = Literal["classes", "scores", "numbers", "tags", "losses", "texts", "tokens"]
Kind = Literal[
    "single_label_classification",
    "multi_label_classification",
    "regression",
    "multiple-choice",
    "token-classification",
    "language-model",
    "generation",
]
SINGLE: Kind = "single_label_classification"
MULTI: Kind = "multi_label_classification"
NUMBER: Kind = "regression"
CHOICE: Kind = "multiple-choice"
TAGS: Kind = "token-classification"
LANGUAGE: Kind = "language-model"
GENERATION: Kind = "generation"


@dataclass(frozen=True)
class Score:
    """One kind of score."""

    compute: Callable[..., float]
    """From (predictions, references), and K where the name has one, to the score."""
    wants: Wants
    """What the predictions are: class ids (a flag per class for several labels), a score per
    class or choice, numbers, names of tags per token, a loss per token, texts, or ids of tokens."""
    kinds: tuple[Kind, ...]
    """Kinds of label it fits."""
    greater_is_better: bool = True
    """Whether larger values are better."""
    has_k: bool = False
    """Whether its name holds a number K."""
    num_labels: int | None = None
    """How many classes it is for; None: any number."""
    of_entities: bool = False
    """Whether it reads where an entity begins and ends from the names of tags."""
    decides: bool = True
    """Whether it tells a better model from a worse one; False: it only describes."""
    packages: tuple[str, ...] = ()
    """Packages of the extra "generation" that it is computed with, as they are imported."""

    @property
    def has_references(self) -> bool:
        """Whether it holds the predictions against something."""
        return self.wants not in ("losses", "tokens")
