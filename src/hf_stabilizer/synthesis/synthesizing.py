"""How do a few rows become more? Ask, check, keep, and tell whether models gain by it.

OUTPUT/procedure.json        what was asked for, and what came of it
OUTPUT/candidates.jsonl      every answer, with why it was thrown away, in the order of asking
OUTPUT/data/                 train.parquet, validation.parquet, test.parquet, synthetic.parquet
OUTPUT/control.yaml          recipe: the rows as they were
OUTPUT/synthetic.yaml        recipe: with the rows that were kept
OUTPUT/study/                both over the same seeds, where runs are asked for
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_stabilizer.configuration import load_configuration
from hf_stabilizer.control_study import (
    EQUAL,
    check_control,
    check_countable,
    check_runs,
    compare_with_control,
    equal_steps,
    write_recipe,
)
from hf_stabilizer.data import Splits, load_splits
from hf_stabilizer.data.near_duplicates import check_threshold
from hf_stabilizer.data.row_marks import mark_of_rows
from hf_stabilizer.errors import (
    LAST_SEED,
    ConfigurationError,
    DataError,
    StudyError,
    check_choice,
    check_whole,
)
from hf_stabilizer.procedure import check_procedure, open_procedure
from hf_stabilizer.synthesis.asking import TRIES, Writer, check_room
from hf_stabilizer.synthesis.candidates import REFUSED, Candidate
from hf_stabilizer.synthesis.checks import KEPT
from hf_stabilizer.synthesis.generators import Generator
from hf_stabilizer.synthesis.prompts import ANSWER, Ask, Questioner
from hf_stabilizer.synthesis.quality import Quality, measure
from hf_stabilizer.synthesis.rows import check_names, text_of, write_rows

if TYPE_CHECKING:
    from rich.console import Console

    from hf_stabilizer.studies.study import Study

# Any in this module: values of configuration keys.
KIND = "data synthesize"


@dataclass(frozen=True)
class Synthesis:
    """What was done."""

    folder: Path
    """The procedure's folder."""
    kept: int
    """Rows that were kept."""
    asked: int
    """Candidates that were asked for."""
    reasons: Mapping[str, int]
    """Kind of check that failed -> candidates that it threw away; "refused" had no answer."""
    refusals: Mapping[str, int]
    """Why a question got no answer -> how many of them."""
    quality: Quality
    """The rows beside the real ones."""
    recipe: Path
    """The recipe with them."""
    control: Path
    """The recipe with the rows as they were."""
    study: Study | None
    """Both over the same seeds; None where no runs were asked for."""


@dataclass(frozen=True)
class SynthesisPlan:
    """What would be asked."""

    train_rows: int
    """Training rows, the only ones that are shown."""
    rows: int
    """Rows that are wanted."""
    most_questions: int
    """Questions at most, second passes among them."""
    first: Ask
    """The first question."""


def plan_synthesis(
    config: str | Path | Mapping[str, Any],
    *,
    rows: int,
    generator: Generator | None = None,
    second_pass: bool = True,
    runs: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    **asking: Any,
) -> SynthesisPlan:
    """Returns what `synthesize` would ask, and asks and writes nothing.

    Args:
        config: As in `synthesize`.
        rows: Likewise.
        generator: Who would write: of a `LocalGenerator` it is seen whether questions and answers
            fit into its context; None: not known yet.
        second_pass: Likewise.
        runs: Likewise.
        overrides: Likewise.
        **asking: `examples`, `background`, `instruction` and `seed`, likewise.

    Raises:
        ConfigurationError: As in `synthesize`, before anything is asked.
    """
    check_whole(rows, "1 or more", name="rows", least=1)
    check_runs(runs)
    if runs:
        check_control(config, overrides=overrides)
    questioner, splits = _questioner(config, overrides, **asking)
    check_room(generator, questioner, range(rows))
    most = rows * TRIES * (2 if second_pass else 1)
    return SynthesisPlan(len(splits.train), rows, most, questioner.ask(0))


def synthesize(
    config: str | Path | Mapping[str, Any],
    generator: Generator,
    *,
    rows: int,
    output_dir: str | Path,
    examples: int = 4,
    background: Sequence[str] = (),
    instruction: str = "",
    second_pass: bool = True,
    threshold: float = 0.8,
    seed: int = 0,
    parallel: int = 1,
    retry_refused: bool = False,
    runs: int | None = None,
    equal: str = "steps",
    overrides: Mapping[str, Any] | None = None,
    console: Console | None = None,
    **study: Any,
) -> Synthesis:
    """Has a language model write training rows, keeps those that pass every check, and compares.

    What the generator writes depends on its own seed only as far as it keeps to one; what was
    answered stands in `candidates.jsonl` and is not asked again. A question that the generator
    refuses is noted there as well, and the next one is asked. The folder is begun with the first
    answer: a generator that never answers leaves none behind.

    Args:
        config: Path of a YAML file, or a mapping with the same keys; text-classification with one
            label a row, or multiple-choice.
        generator: Who writes: `EndpointGenerator`, `LocalGenerator`, or one of your own.
        rows: Rows to keep; four times as many candidates are asked for at the most.
        output_dir: Folder of the procedure; made, or that of the same one begun before.
        examples: Training rows that are shown each time, 1 or more.
        background: Texts to write about, one each time.
        instruction: What the rows are, in your own words.
        second_pass: Whether each row is judged again by the generator, its answer not told, and
            thrown away where it then names another answer, or more than one.
        threshold: Similarity to a training, validation, test or kept row, in (0, 1], from which a
            candidate is a repeat (see `near_duplicates`).
        seed: Draws labels, examples and background, in [0, 2^32).
        parallel: Questions at the same time, for endpoints that take several.
        retry_refused: Whether questions that were refused in an earlier start are asked again,
            before any other, as long as rows are wanting.
        runs: Runs with and without in the study, 2 or more; None or 0: no study.
        equal: What these have in common, "steps" or "epochs".
        overrides: Configuration keys that beat the file.
        console: Where progress is shown; None: nowhere.
        **study: More options of `run_study`: `workers`, `executor`, `first_seed`, ...

    Raises:
        ConfigurationError: A value is out of range, the task is another, or questions and answers
            do not fit into the context of a `LocalGenerator`.
        DataError: No candidate passes the checks.
        EndpointError: There is no answer, or all questions are refused (the first 16 of a start);
            what was answered is kept, and a second start goes on.
        StudyError: The folder holds something else, or a study of fewer or more rows.
    """
    check_choice(equal, EQUAL, name="equal")
    for name, value in (("rows", rows), ("parallel", parallel)):
        check_whole(value, "1 or more", name=name, least=1)
    check_threshold(threshold)
    check_runs(runs)
    questioner, splits = _questioner(
        config, overrides, examples=examples, background=background, instruction=instruction,
        seed=seed,
    )  # fmt: skip
    folder, configuration = Path(output_dir), load_configuration(config, overrides=overrides)
    if equal == "steps" and runs:
        check_countable(configuration, study.get("launcher"))
    if runs:
        check_control(config, overrides=overrides)
    settings = {
        "configuration": {k: v for k, v in configuration.recorded.items() if k != "output_dir"},
        "generator": generator.name,
        "licence": generator.licence,
        "examples": examples,
        "background": list(background),
        "instruction": instruction,
        "second_pass": second_pass,
        "threshold": threshold,
        "seed": seed,
        "equal": equal,
        "rows_read": mark_of_rows(splits.train, splits.validation, splits.test),
    }
    check_procedure(folder, KIND, settings)
    writer = Writer(questioner, generator, splits, second_pass=second_pass, threshold=threshold)
    candidates = writer.write(
        folder, rows, parallel=parallel, console=console, retry_refused=retry_refused,
        begin=lambda: open_procedure(folder, KIND, settings),
    )  # fmt: skip
    record = open_procedure(folder, KIND, settings)
    kept = [one for one in candidates if one.reason == KEPT][:rows]
    reasons = Counter(one.reason.partition(":")[0] for one in candidates if one.reason)
    refusals = Counter(_why(one) for one in candidates if one.is_refused)
    if not kept:
        raise _nothing_kept(candidates, reasons, folder)
    _check_study(folder, len(splits.train) + len(kept))
    keys, more = write_rows(splits, kept, generator, folder)
    if equal == "steps":
        more |= equal_steps(configuration, len(splits.train), len(splits.train) + len(kept))
    command = f"hf-stabilizer {KIND}"
    write_recipe(folder / "control.yaml", keys, comment="The rows as they were.", source=command)
    comment = f"{len(kept)} rows more, written by {generator.name}; as many {equal} as without."
    write_recipe(folder / "synthetic.yaml", more, comment=comment, source=command)
    quality = _quality(splits, kept, questioner)
    outcome: dict[str, Any] = {
        "kept": len(kept), "asked": len(candidates), "reasons": reasons, "refusals": refusals
    }  # fmt: skip
    found = None
    if runs:
        found = compare_with_control(
            config, control=keys, treated={"synthetic": more}, folder=folder / "study",
            runs=runs, overrides=overrides, console=console, **study,
        )  # fmt: skip
        from hf_stabilizer.studies.verdict import verdict

        outcome["verdict"] = verdict(found)
    record.ended(folder, **outcome, quality=asdict(quality))
    paths = folder / "synthetic.yaml", folder / "control.yaml"
    return Synthesis(folder, len(kept), len(candidates), reasons, refusals, quality, *paths, found)


def _why(refused: Candidate) -> str:
    return refused.reason.removeprefix(f"{REFUSED}: ")


def _nothing_kept(
    candidates: Sequence[Candidate], reasons: Counter[str], folder: Path
) -> DataError:
    told = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    refused = [one for one in candidates if one.is_refused]
    last = f"; the last refusal: {_why(refused[-1])}" if refused else ""
    return DataError(
        f"none of {len(candidates)} candidates passed the checks ({told}{last}); look into "
        f"{str(folder / 'candidates.jsonl')!r}, and take a larger model, another instruction, "
        "or second_pass=False (--no-second-pass)"
    )


def _check_study(folder: Path, rows: int) -> None:
    """Refuses to put other rows in the place of those that a study has learnt from."""
    path = folder / "data" / "synthetic.parquet"
    if not (folder / "study").exists() or not path.exists():
        return
    from pyarrow.parquet import read_metadata

    there = int(read_metadata(path).num_rows)
    if there != rows:
        raise StudyError(
            f"the study in {str(folder)!r} is of {there} training rows, and there would be {rows} "
            "now; name another output folder, or remove its folder 'study'"
        )


def _questioner(
    config: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None, **asking: Any
) -> tuple[Questioner, Splits]:
    check_whole(asking.get("examples", 4), "1 or more", name="examples", least=1)
    check_whole(asking.get("seed", 0), "in [0, 2^32)", name="seed", most=LAST_SEED)
    configuration = load_configuration(config, overrides=overrides)
    task = configuration.model.task
    if task not in ("text-classification", "multiple-choice"):
        raise ConfigurationError(
            f"rows for task {task!r} cannot be synthesised, as nothing would check them; "
            "text-classification with one label and multiple-choice can"
        )
    splits = load_splits(configuration.data, task=task)
    check_names((*splits.text_columns, *splits.choice_columns, str(splits.label_column)))
    return Questioner(splits, task=task, **asking), splits


def _quality(splits: Splits, kept: Sequence[Candidate], questioner: Questioner) -> Quality:
    columns = questioner.columns
    labels = [
        splits.choice_columns[label] if splits.choice_columns else str(label)
        for label in splits.train[splits.label_column]
    ]
    return measure(
        [text_of(row, columns) for row in splits.train],
        labels,
        [text_of(one.row, columns) for one in kept],
        [one.row[ANSWER] for one in kept],
    )
