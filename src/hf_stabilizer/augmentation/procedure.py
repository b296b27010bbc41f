"""Does augmentation help here? Augmented rows as files, as a recipe, and a study against none.

OUTPUT/procedure.json     what was asked for, and what came of it
OUTPUT/data/              train.parquet, validation.parquet, test.parquet, augmented.parquet
OUTPUT/control.yaml       recipe: the rows as they were
OUTPUT/augmented.yaml     recipe: the augmented training rows, all others the same
OUTPUT/study/             both recipes over the same seeds, where runs are asked for
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_stabilizer.augmentation.augmenting import AUGMENTED_BY, augment, check_augmentation
from hf_stabilizer.augmentation.technique import Technique, draw_of
from hf_stabilizer.control_study import (
    EQUAL,
    check_countable,
    compare_with_control,
    equal_steps,
    write_recipe,
)
from hf_stabilizer.data import Splits, load_splits, write_splits
from hf_stabilizer.errors import check_choice, check_whole
from hf_stabilizer.procedure import open_procedure

if TYPE_CHECKING:
    from rich.console import Console

    from hf_stabilizer.configuration import Configuration
    from hf_stabilizer.studies.study import Study

# Any in this module: values of configuration keys.
KIND = "data augment"
SOURCE = f"hf-stabilizer {KIND}"
TASKS = ("text-classification", "text-regression", "multiple-choice")
_EXAMPLES = 3


@dataclass(frozen=True)
class AugmentationPlan:
    """What would be done."""

    train_rows: int
    """Training rows that there are."""
    new_rows: int
    """Rows that will be made of them, at most."""
    model_texts: int
    """Texts among them that a model has to write or fill in, at most."""
    runs: int
    """Training runs of the study, both recipes together."""
    examples: tuple[tuple[str, str, str], ...]
    """Technique, text before, text after, for the first training rows."""
    notes: tuple[str, ...]
    """What was guessed about the rows."""


@dataclass(frozen=True)
class Augmentation:
    """What was done."""

    folder: Path
    """The procedure's folder."""
    rows: Mapping[str, int]
    """Rows of the augmented training file by technique; "originals" are the unchanged ones."""
    recipe: Path
    """The recipe with the augmented rows."""
    control: Path
    """The recipe with the rows as they were."""
    study: Study | None
    """Both over the same seeds; None where no runs were asked for."""
    notes: tuple[str, ...]
    """What was guessed, left out or unchanged."""


def plan_augmentation(
    config: str | Path | Mapping[str, Any],
    techniques: Sequence[Technique],
    *,
    copies: int = 1,
    seed: int = 0,
    runs: int | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> AugmentationPlan:
    """Returns what `augment_data` would do, with examples, and writes nothing."""
    from hf_stabilizer.configuration import load_configuration

    check_whole(copies, "1 or more", name="copies", least=1)
    splits = _load(load_configuration(config, overrides=overrides))
    count = len(splits.train)
    some = augment(
        _first(splits), techniques, copies=1, seed=seed, keep_originals=False, threshold=1.0
    ).train
    column = splits.text_columns[0]
    examples = tuple(
        (row[AUGMENTED_BY], splits.train[row["source_row"]][column], row[column]) for row in some
    )
    slow = sum(technique.is_slow for technique in techniques)
    return AugmentationPlan(
        train_rows=count,
        new_rows=count * copies * len(techniques),
        model_texts=count * copies * slow * len(splits.text_columns),
        runs=2 * (runs or 0),
        examples=examples,
        notes=splits.notes,
    )


def augment_data(
    config: str | Path | Mapping[str, Any],
    techniques: Sequence[Technique],
    *,
    output_dir: str | Path,
    copies: int = 1,
    seed: int = 0,
    keep_originals: bool = True,
    threshold: float = 0.8,
    runs: int | None = None,
    equal: str = "steps",
    overrides: Mapping[str, Any] | None = None,
    console: Console | None = None,
    **study: Any,
) -> Augmentation:
    """Augments the training rows of a configuration, and compares runs with and without them.

    The splits are made once and written down, so both recipes choose and judge by the same rows.
    Killed and started again it repeats neither what models wrote nor finished runs.

    Args:
        config: Path of a YAML file, or a mapping with the same keys.
        techniques: One or more.
        output_dir: Folder of the procedure; made, or that of the same one begun before.
        copies: Rows that each technique makes of each training row.
        seed: Seed of the augmentation, in [0, 2^32).
        keep_originals: Whether the training rows themselves stay.
        threshold: Similarity from which a new row is too near to a validation or test row.
        runs: Runs of each recipe in the study, 1 or more; None: no study.
        equal: What the runs have in common: "steps" scales the epochs of the augmented runs, so
            that more rows are not more training; "epochs" lets them train longer.
        overrides: Configuration keys that beat the file.
        console: Where the study shows its progress.
        **study: More options of `run_study`: `workers`, `executor`, `first_seed`, ...

    Raises:
        ConfigurationError: A value is out of range, or the task has no rows of plain texts.
        DataError: The rows are not as the configuration says.
        StudyError: The folder holds something else.
    """
    from hf_stabilizer.configuration import load_configuration

    check_choice(equal, EQUAL, name="equal")
    if runs is not None:
        check_whole(runs, "1 or more", name="runs", least=1)
    folder = Path(output_dir)
    configuration = load_configuration(config, overrides=overrides)
    if equal == "steps" and runs is not None:
        check_countable(configuration, study.get("launcher"))
    splits = _load(configuration)
    check_augmentation(splits, techniques, copies=copies, seed=seed, threshold=threshold)
    settings = {
        "configuration": {k: v for k, v in configuration.recorded.items() if k != "output_dir"},
        "techniques": [technique.settings for technique in techniques],
        "copies": copies,
        "seed": seed,
        "keep_originals": keep_originals,
        "threshold": threshold,
        "equal": equal,
        "rows": _rows_mark(splits),
    }
    record = open_procedure(folder, KIND, settings)
    keys = write_splits(splits, folder / "data")
    richer = augment(
        splits,
        techniques,
        copies=copies,
        seed=seed,
        keep_originals=keep_originals,
        threshold=threshold,
        folder=folder / "chunks",
    )
    more = _augmented_keys(richer, folder, keys)
    if equal == "steps":
        more |= equal_steps(configuration, len(splits.train), len(richer.train))
    paths = _write_recipes(folder, keys, more, techniques, equal)
    rows = _counted(richer)
    found = None
    if runs is not None:
        found = compare_with_control(
            config, control=keys, treated={"augmented": more}, folder=folder / "study",
            overrides=overrides, runs=runs, console=console, **study,
        )  # fmt: skip
    outcome: dict[str, Any] = {"rows": rows, "notes": list(richer.notes)}
    if found is not None:
        from hf_stabilizer.studies.verdict import verdict

        outcome["verdict"] = verdict(found)
    record.ended(folder, **outcome)
    return Augmentation(folder, rows, paths[1], paths[0], found, richer.notes)


def _load(configuration: Configuration) -> Splits:
    check_choice(configuration.model.task, TASKS, name="the task of rows that are augmented")
    return load_splits(configuration.data, task=configuration.model.task)


def _first(splits: Splits) -> Splits:
    from dataclasses import replace

    few = min(_EXAMPLES, len(splits.train))
    groups = None if splits.groups is None else splits.groups[:few]
    return replace(splits, train=splits.train.select(range(few)), groups=groups)


def _rows_mark(splits: Splits) -> str:
    """A mark of all rows: a file that has changed, one that judges too, is another procedure."""
    parts = (splits.train, splits.validation, splits.test)
    told = [None if rows is None else rows.to_dict() for rows in parts]
    return f"{draw_of(*told).getrandbits(64):x}"


def _augmented_keys(richer: Splits, folder: Path, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the augmented rows beside the others; all splits but train are the control's."""
    from hf_stabilizer.data.writing import GROUP, spelled_out, write_parquet

    train = richer.train
    if richer.groups is not None:
        train = train.add_column(GROUP, list(richer.groups))
    path = folder.resolve() / "data" / "augmented.parquet"
    write_parquet(spelled_out(train, richer), path)
    return {**keys, "train_file": str(path)}


def _write_recipes(
    folder: Path,
    keys: Mapping[str, Any],
    more: Mapping[str, Any],
    techniques: Sequence[Technique],
    equal: str,
) -> tuple[Path, Path]:
    names = ", ".join(technique.name for technique in techniques)
    said = "The rows as they were, divided once."
    write_recipe(folder / "control.yaml", keys, comment=said, source=SOURCE)
    said = f"Training rows augmented by {names}; as many {equal} as without."
    write_recipe(folder / "augmented.yaml", more, comment=said, source=SOURCE)
    return folder / "control.yaml", folder / "augmented.yaml"


def _counted(richer: Splits) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in richer.train[AUGMENTED_BY]:
        counts[name or "originals"] = counts.get(name or "originals", 0) + 1
    return counts
