"""How would the rows be divided, and is that a fair division? Sizes, labels, groups, leaks, runs.

Nothing is trained and nothing is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hf_stabilizer.configuration import SEEDS, Configuration, load_configuration
from hf_stabilizer.data.folding import assign_folds, folds_by_column
from hf_stabilizer.data.near_duplicates import near_duplicates
from hf_stabilizer.errors import ConfigurationError, check_choice, check_whole
from hf_stabilizer.folds.pool import Pool, read_pool

# Any in this module: whatever YAML can say, and labels of whatever kind the task has.
FOLDS = 5
"""Folds where nothing is said."""
CHOOSE_ON = ("nothing", "inner", "fold")
"""What chooses the weights of a fold: nothing (the last ones are kept), rows taken from its
training rows, or the rows of the fold itself, which then score too well."""
ChooseOn = Literal["nothing", "inner", "fold"]
MOST_COMPARED = 20_000
"""Rows in which near-duplicates are looked for, at most."""


@dataclass(frozen=True)
class FoldSize:
    """One fold as it would be."""

    name: str
    """Its name, also that of its runs."""
    rows: int
    """Rows that are held out."""
    train_rows: int
    """Rows that train, those that an inner choice takes from them included."""
    labels: Mapping[str, int]
    """Held-out rows of each label; of several in a row each counts. Empty for numbers."""
    groups: int | None
    """Groups that are held out; None without groups."""


@dataclass(frozen=True)
class FoldPlan:
    """What a cross-validation would do."""

    configuration: Configuration
    """What each run does, but for its rows."""
    pool: Pool
    """The rows that are divided."""
    places: tuple[int, ...]
    """The fold of each row of the pool."""
    names: tuple[str, ...]
    """The folds' names."""
    choose_on: ChooseOn
    """What chooses the weights of a fold."""
    inner_size: float
    """Share of a fold's training rows that chooses, with "inner"."""
    runs: int
    """Runs per fold."""
    duplicates: int | None
    """Pairs of near-duplicate texts in two folds; None: too many rows to look."""
    notes: tuple[str, ...]
    """What was guessed, made or left aside when the rows were read, a sentence each."""
    cautions: tuple[str, ...]
    """Why the scores may be too good, a sentence each."""

    @property
    def sizes(self) -> list[FoldSize]:
        """One record for each fold."""
        return [self._size(place) for place in range(len(self.names))]

    def rows_of(self, fold: int) -> list[int]:
        """Returns the places in the pool that a fold holds out."""
        return [row for row, place in enumerate(self.places) if place == fold]

    def _size(self, fold: int) -> FoldSize:
        rows, groups = self.rows_of(fold), self.pool.groups
        labels: Counter[str] = Counter()
        if self.configuration.model.task != "text-regression":
            labels.update(name for row in rows for name in self.label_words(row))
        return FoldSize(
            name=self.names[fold],
            rows=len(rows),
            train_rows=len(self.places) - len(rows),
            labels=dict(sorted(labels.items())),
            groups=None if groups is None else len({groups[row] for row in rows}),
        )

    def label_words(self, row: int) -> list[str]:
        """Returns the label of a row in words: classes, or the column of the right choice."""
        label, choices = self.pool.labels[row], self.pool.splits.choice_columns
        if choices:
            return [choices[label]]
        return [str(name) for name in label] if isinstance(label, list) else [str(label)]

    def to_records(self) -> dict[str, Any]:
        """Returns the plan in plain values."""
        test = self.pool.splits.test
        return {
            "rows": len(self.places),
            "test_rows": 0 if test is None else len(test),
            "folds": [vars(size) for size in self.sizes],
            "runs_per_fold": self.runs,
            "runs": self.runs * len(self.names),
            "choose_on": self.choose_on,
            "near_duplicates_across_folds": self.duplicates,
            "notes": [*self.cautions, *self.notes],
        }


def plan_folds(
    config: str | Path | Mapping[str, Any],
    *,
    folds: int | None = None,
    fold_column: str | None = None,
    stratify: bool = True,
    choose_on: ChooseOn = "nothing",
    inner_size: float = 0.1,
    runs: int = 1,
    recipe: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> FoldPlan:
    """Divides the rows into folds as `cross_validate` with the same arguments would.

    Args:
        config: Path of a YAML file, or a mapping with the same keys.
        folds: Number of folds; None: 5, or as many as the column has values.
        fold_column: A column that says in which fold each row lies; one fold for each value.
        stratify: Keep the shares of the labels (of numbers, of ten bins of them).
        choose_on: See `CHOOSE_ON`.
        inner_size: Share of a fold's training rows that chooses with "inner", in (0, 1).
        runs: Runs per fold.
        recipe: Name of a recipe, or a YAML file, laid over the configuration.
        overrides: Single keys that beat both.

    Raises:
        ConfigurationError: An option, or the configuration, cannot be right.
        DataError: The rows cannot be divided so, or are not as the configuration says.

    Example:
        >>> plan_folds({"model_name_or_path": "x", "train_file": "a.csv"}, folds=1)
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: folds must be a whole number from 2 up, got 1
    """
    _check(folds, choose_on=choose_on, inner_size=inner_size, runs=runs)
    configuration = load_configuration(config, recipe=recipe, overrides=overrides)
    _check_configuration(configuration, choose_on)
    pool = read_pool(configuration, fold_column=fold_column)
    if pool.marks is not None:
        places, names = _by_column(pool, str(fold_column), folds)
    else:
        places, names = _drawn(pool, configuration, folds or FOLDS, stratify=stratify)
    duplicates = _across(pool.texts, places)
    return FoldPlan(
        configuration=configuration,
        pool=pool,
        places=tuple(places),
        names=tuple(names),
        choose_on=choose_on,
        inner_size=inner_size,
        runs=runs,
        duplicates=duplicates,
        notes=tuple(note for note in pool.splits.notes if note not in pool.splits.cautions),
        cautions=(
            *pool.splits.cautions,
            *_cautions(duplicates, _split_groups(pool.groups, places), choose_on),
        ),
    )


def _check(folds: int | None, *, choose_on: str, inner_size: float, runs: int) -> None:
    if folds is not None:
        check_whole(folds, "from 2 up", name="folds", least=2)
    check_whole(runs, "from 1 up", name="runs", least=1)
    check_choice(choose_on, CHOOSE_ON, name="choose_on")
    is_number = isinstance(inner_size, int | float) and not isinstance(inner_size, bool)
    if not is_number or not 0 < inner_size < 1:
        raise ConfigurationError(
            f"inner_size must be a share of the training rows in (0, 1), got {inner_size!r}"
        )


def _check_configuration(configuration: Configuration, choose_on: ChooseOn) -> None:
    if pinned := sorted(configuration.given & set(SEEDS)):
        raise ConfigurationError(
            f"a cross-validation sets the seeds itself, and the configuration gives "
            f"{', '.join(pinned)}; leave that out, and name first_seed instead"
        )
    if choose_on != "nothing" and not configuration.values.get("load_best_model_at_end"):
        raise ConfigurationError(
            f"choose_on={choose_on!r} keeps the weights that score best, but the configuration "
            "loads none at the end; leave save_strategy and load_best_model_at_end out of it, or "
            "set choose_on='nothing'"
        )


def _by_column(pool: Pool, column: str, folds: int | None) -> tuple[list[int], list[str]]:
    assert pool.marks is not None
    places, names = folds_by_column(pool.marks, column=column)
    if folds not in (None, len(names)):
        raise ConfigurationError(
            f"fold_column {column!r} makes {len(names)} folds, and folds is {folds}; leave that out"
        )
    return places, [f"fold-{name}" for name in names]


def _split_groups(groups: Sequence[Any] | None, places: Sequence[int]) -> int:
    folds: dict[Any, set[int]] = {}
    for group, place in zip(groups or (), places, strict=groups is not None):
        folds.setdefault(group, set()).add(place)
    return sum(len(found) > 1 for found in folds.values())


def _drawn(
    pool: Pool, configuration: Configuration, folds: int, *, stratify: bool
) -> tuple[list[int], list[str]]:
    labels = pool.labels if stratify else [""] * len(pool.labels)
    places = assign_folds(
        labels,
        folds,
        groups=pool.groups,
        seed=configuration.data.split_seed,
        task=configuration.model.task if stratify else "text-classification",
    )
    return places, [f"fold{place + 1}" for place in range(folds)]


def _across(texts: Sequence[str], places: Sequence[int]) -> int | None:
    if len(texts) > MOST_COMPARED:
        return None
    return sum(places[one] != places[other] for one, other, _ in near_duplicates(texts))


def _cautions(duplicates: int | None, split_groups: int, choose_on: str) -> list[str]:
    found = []
    if split_groups:
        found.append(f"{split_groups} groups have rows in several folds, as the fold column says")
    if duplicates:
        found.append(
            f"{duplicates} pairs of near-duplicate texts lie in two folds, so that models are "
            "scored on rows like those that they learnt from; name a group_column that keeps them "
            "together, or remove them"
        )
    if duplicates is None:
        found.append(
            f"near-duplicate texts were not looked for, as there are more than {MOST_COMPARED} rows"
        )
    if choose_on == "fold":
        found.append(
            "each fold's rows chose the weights that they score, so these scores are optimistic; "
            "choose_on='nothing' or 'inner' are not"
        )
    return found
