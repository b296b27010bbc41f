"""Which unlabelled rows get a label, and of what kind? The options, checked at one door.

    threshold      the mean probability of the predicted class is at least this
    agreement      all teachers predict the same
    top_k          of those that are left, the k surest of each predicted class
    max_spread     numbers: the teachers' standard deviation is at most this

Those that are given are all in force. The threshold of 0.95 is in force where neither `top_k` nor
`agreement` is given. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeAlias

import numpy as np

from hf_stabilizer.errors import (
    LAST_SEED,
    ConfigurationError,
    check_switch,
    check_whole,
    did_you_mean,
)

Kind = Literal["classes", "labels", "choices", "number"]
"""What a row is given: one class, any number of classes, one of its choices, or a number."""
Threshold: TypeAlias = "float | Mapping[str, float] | None"


class UnlessChosen(float):
    """A threshold that holds only where no other rule is given."""


THRESHOLD = UnlessChosen(0.95)
"""The default of `threshold`."""


@dataclass(frozen=True)
class LabellingOptions:
    """What decides which rows of the sampled ones are kept, and how they are labelled.

    Example:
        >>> LabellingOptions(top_k=10).least is None, LabellingOptions().least
        (True, 0.95)
    """

    threshold: Threshold = THRESHOLD
    """Least confidence, in (0, 1]; or one for each class by name; None: none."""
    top_k: int | None = None
    """Rows of each predicted class, the surest; of numbers and choices rows in all; None: all."""
    agreement: bool = False
    """Keep only rows for which all teachers, two at least, predict the same."""
    max_spread: float | None = None
    """Numbers only: the largest standard deviation of the teachers, in units of the label."""
    soft: bool = False
    """Give the probabilities, too, in the column `probabilities`, to be learnt from."""
    temperature: float = 1.0
    """T > 0: soft labels are p^(1/T), made to sum to 1; below 1 they are sharper."""
    similarity: float = 0.8
    """Rows that are this similar to a held-out row, or more, are kept out; in (0, 1]."""
    allow_missing_classes: bool = False
    """Go on where the teachers never predict a class, or no row that is kept has it."""
    seed: int = 0
    """Seed of the share that is used; no other seed touches it."""
    batch_size: int = 32
    """Rows per forward pass of a teacher."""

    def __post_init__(self) -> None:
        _check_threshold(self.threshold)
        if self.top_k is not None:
            check_whole(self.top_k, "of rows from 1 up", name="top_k", least=1)
        if self.max_spread is not None and not self.max_spread >= 0:
            raise ConfigurationError(f"max_spread must be 0 or more, got {self.max_spread!r}")
        if not 0 < self.temperature < float("inf"):
            raise ConfigurationError(
                f"temperature must be above 0, got {self.temperature!r}; 1 leaves probabilities "
                "as they are"
            )
        if not 0 < self.similarity <= 1:
            raise ConfigurationError(f"similarity must be in (0, 1], got {self.similarity!r}")
        if self.temperature != 1 and not self.soft:
            raise ConfigurationError(
                f"temperature={self.temperature!r} does nothing without soft labels; set soft=True"
            )
        for name in ("agreement", "soft", "allow_missing_classes"):
            check_switch(getattr(self, name), name=name)
        check_whole(self.seed, "in [0, 2^32)", name="seed", most=LAST_SEED)
        check_whole(self.batch_size, "of rows from 1 up", name="batch_size", least=1)

    @property
    def least(self) -> Threshold:
        """The threshold that is in force, None for none."""
        others = self.top_k is not None or self.agreement or self.max_spread is not None
        if isinstance(self.threshold, UnlessChosen):
            return None if others else float(self.threshold)
        return self.threshold

    def recorded(self) -> dict[str, Any]:  # Any: what each option is
        """Returns the options as a record may hold them, the threshold in force among them."""
        return {**asdict(self), "threshold": self.least}

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> LabellingOptions:  # Any: one type for each option
        """Returns the options of these names.

        Raises:
            ConfigurationError: A name is unknown, or a value cannot be right.
        """
        names = [field.name for field in fields(cls)]
        for name in options:
            if name not in names:
                raise ConfigurationError(
                    f"unknown option {name!r}{did_you_mean(name, names)}; pseudo-labels have "
                    f"{', '.join(names)}"
                )
        return cls(**options)

    def check(self, kind: Kind, *, teachers: int, label_names: tuple[str, ...] | None) -> None:
        """Checks the options against what the teachers are.

        Raises:
            ConfigurationError: They do not go together.
        """
        if kind == "number":
            self._check_number(teachers)
            return
        if self.max_spread is not None:
            raise ConfigurationError(
                f"max_spread={self.max_spread!r} is for numbers; classes have a threshold"
            )
        if self.agreement and teachers < 2:
            raise ConfigurationError(
                "agreement needs two teachers or more, got 1; add one, or set threshold"
            )
        if kind == "labels" and self.top_k is not None:
            raise ConfigurationError(
                f"top_k={self.top_k!r} counts rows by their one class, and these rows have any "
                "number of classes; set threshold"
            )
        if kind != "classes" and self.soft:
            what = "choices" if kind == "choices" else "several classes"
            raise ConfigurationError(
                f"soft labels are for rows with one class each, and these have {what}; leave out "
                "soft"
            )
        _check_names(self.threshold, label_names)

    def _check_number(self, teachers: int) -> None:
        said = not isinstance(self.threshold, UnlessChosen) and self.threshold is not None
        for name, given in (
            ("threshold", said),
            ("agreement", self.agreement),
            ("soft", self.soft),
        ):
            if given:
                raise ConfigurationError(
                    f"{name} is for classes; of numbers the spread of the teachers tells how sure "
                    "they are: set max_spread, or top_k"
                )
        if teachers < 2:
            raise ConfigurationError(
                "pseudo-labels that are numbers need two teachers or more, got 1: their spread "
                "takes the place of confidence"
            )
        if self.max_spread is None and self.top_k is None:
            raise ConfigurationError(
                "for numbers set max_spread, the largest standard deviation of the teachers in "
                "units of the label, or top_k, the number of rows with the smallest"
            )


def check_rate(rate: object) -> float:
    """Returns the share of the rows.

    Raises:
        ConfigurationError: It is not in (0, 1].

    Example:
        >>> check_rate(0)
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: sampling_rate must be in (0, 1], got 0; 1 uses
        every unlabelled row
    """
    if not _is_share(rate):
        raise ConfigurationError(
            f"sampling_rate must be in (0, 1], got {rate!r}; 1 uses every unlabelled row"
        )
    return float(rate)  # type: ignore[arg-type]  # it is a number


def _is_share(value: object) -> bool:
    """Whether it is a number in (0, 1]; numpy's numbers are some, True is none."""
    if isinstance(value, bool) or not isinstance(value, float | int | np.number):
        return False
    return bool(0 < value <= 1)


def _check_threshold(threshold: Threshold) -> None:
    if threshold is None:
        return
    values = threshold.values() if isinstance(threshold, Mapping) else [threshold]
    for value in values:
        if not _is_share(value):
            raise ConfigurationError(
                f"threshold must be a probability in (0, 1], got {value!r}; None keeps every row"
            )


def _check_names(threshold: Threshold, label_names: tuple[str, ...] | None) -> None:
    if not isinstance(threshold, Mapping):
        return
    if label_names is None:
        raise ConfigurationError("threshold by class needs classes with names; give one number")
    for name in threshold:
        if name not in label_names:
            raise ConfigurationError(
                f"threshold names the class {name!r}{did_you_mean(name, label_names)}; the "
                f"teachers know {', '.join(label_names)}"
            )
    absent = [name for name in label_names if name not in threshold]
    if absent:
        raise ConfigurationError(f"threshold by class leaves out {', '.join(absent)}; add them")
