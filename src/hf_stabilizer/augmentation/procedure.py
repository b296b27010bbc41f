"""Does augmentation help here? Augmented rows as files, as a recipe, and a study against none.

OUTPUT/procedure.json     what was asked for, and what came of it
OUTPUT/data/              train.parquet, validation.parquet, test.parquet, augmented.parquet
OUTPUT/control.yaml       recipe: the rows as they were
OUTPUT/augmented.yaml     recipe: the augmented training rows, all others the same
OUTPUT/study/             both recipes over the same seeds, where runs are asked for
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_stabilizer.augmentation.augmenting import (
    AUGMENTED_BY,
    SOURCE_ROW,
    augment,
    check_augmentation,
)
from hf_stabilizer.augmentation.keeping import UnchangedError
from hf_stabilizer.augmentation.technique import Technique
from hf_stabilizer.control_study import (
    EQUAL,
    check_control,
    check_countable,
    check_runs,
    compare_with_control,
    equal_steps,
    write_recipe,
)
from hf_stabilizer.data import Splits, load_splits, write_splits
from hf_stabilizer.data.row_marks import mark_of_rows
from hf_stabilizer.errors import check_choice
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
    total_rows: int
    """Training rows that there will be; at most, where a model has to work."""
    new_rows: int
    """Changed rows among them."""
    left_out: int
    """Rows that come out nearly like a validation or test row, of the techniques without model."""
    model_texts: int
    """Texts among them that a model has to write or fill in, at most."""
    runs: int
    """Training runs of the study, both recipes together."""
    examples: tuple[tuple[str, str, str], ...]
    """Technique, text before, text after, for the first rows that stay in, changed ones first."""
    notes: tuple[str, ...]
    """What was guessed about the rows, and what comes of each technique without model."""


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
    keep_originals: bool = True,
    threshold: float = 0.8,
    runs: int | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> AugmentationPlan:
    """Returns what `augment_data` would do, with examples, and writes nothing.

    Techniques without a model are carried out, so their rows are counted, not guessed; those with
    one work on the first training rows alone.

    Raises:
        ConfigurationError, DataError: As `augment_data` raises them.
    """
    from hf_stabilizer.configuration import load_configuration

    check_runs(runs)
    if runs:
        check_control(config, overrides=overrides)
    splits = _load(load_configuration(config, overrides=overrides))
    check_augmentation(splits, techniques, copies=copies, seed=seed, threshold=threshold)
    options: dict[str, Any] = {"seed": seed, "threshold": threshold}
    quick = [one for one in techniques if not one.is_slow]
    slow = [one for one in techniques if one.is_slow]
    done = splits
    if quick:
        # Without the originals nothing may be left, unless models add to it.
        keep = keep_originals or bool(slow)
        done = augment(splits, quick, copies=copies, keep_originals=keep, **options)
    samples = [done] if quick else []
    notes = list(done.notes)
    for technique in slow:
        try:
            samples.append(augment(_first(splits), [technique], copies=1, **options))
        except UnchangedError as error:  # The run may change others.
            notes.append(f"of the first rows alone: {error}")
    kept = sum(name is not None for name in done.train[AUGMENTED_BY]) if quick else 0
    count = len(splits.train)
    new = kept + count * copies * len(slow)
    return AugmentationPlan(
        train_rows=count,
        total_rows=new + count * keep_originals,
        new_rows=new,
        left_out=count * copies * len(quick) - kept,
        model_texts=count * copies * len(slow) * len(splits.text_columns),
        runs=2 * (runs or 0),
        examples=tuple(_examples(splits, samples)),
        notes=tuple(notes),
    )


def _examples(splits: Splits, samples: Sequence[Splits]) -> Iterator[tuple[str, str, str]]:
    """Yields the first rows of each technique, before and after; those that are changed first."""
    column = splits.text_columns[0]
    originals = list(splits.train[column])
    for rows in (sample.train for sample in samples):
        found: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
        for name, source, text in zip(
            rows[AUGMENTED_BY], rows[SOURCE_ROW], rows[column], strict=True
        ):
            if name is not None:
                found[name].append((name, originals[source], text))
        for its_rows in found.values():
            yield from sorted(its_rows, key=lambda row: row[1] == row[2])[:_EXAMPLES]


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
        runs: Runs of each recipe in the study, 2 or more; None or 0: no study.
        equal: What the runs have in common: "steps" scales the epochs of the augmented runs, so
            that more rows are not more training; "epochs" lets them train longer.
        overrides: Configuration keys that beat the file.
        console: Where the study shows its progress.
        **study: More options of `run_study`: `workers`, `executor`, `first_seed`, ...

    Raises:
        ConfigurationError: A value is out of range, or the task has no rows of plain texts.
        DataError: The rows are not as the configuration says, or a technique that writes texts
            anew (`BackTranslate`, `Summarize`) has changed none.
        StudyError: The folder holds something else.
    """
    from hf_stabilizer.configuration import load_configuration

    check_choice(equal, EQUAL, name="equal")
    check_runs(runs)
    folder = Path(output_dir)
    configuration = load_configuration(config, overrides=overrides)
    if equal == "steps" and runs:
        check_countable(configuration, study.get("launcher"))
    if runs:
        check_control(config, overrides=overrides)
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
        "rows": mark_of_rows(splits.train, splits.validation, splits.test),
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
    if runs:
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
