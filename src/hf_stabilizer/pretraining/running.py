"""What is further pre-training from start to end? Text in, a model out, and the proof beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import TrainerCallback

from hf_stabilizer.configuration import SEEDS, Configuration, load_configuration
from hf_stabilizer.control_study import check_runs
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.pretraining.hand_over import move_body, source_folder
from hf_stabilizer.pretraining.options import (
    TELLING,
    Objective,
    PretrainingOptions,
    training_values,
)
from hf_stabilizer.pretraining.preparing import prepare
from hf_stabilizer.pretraining.record import Pretraining, read_pretraining
from hf_stabilizer.pretraining.training import pretrain
from hf_stabilizer.procedure import Procedure, open_procedure, read_procedure
from hf_stabilizer.records import check_folder
from hf_stabilizer.run import check, prepare_data
from hf_stabilizer.studies.lock import alone
from hf_stabilizer.studies.page.report import write_report
from hf_stabilizer.studies.schedule import run_study
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.verdict import verdict

logger = logging.getLogger(__name__)

# Any in this module: whatever YAML can say.
KIND = "pretrain"
PLAIN, TREATED, HANDED = "plain", "further-pretrained", "intermediate-task"
RUNS = 6
"""Control runs with and without: the fewest pairs that can show p < .05."""


def further_pretrain(
    config: str | Path | Mapping[str, Any],
    *,
    output_dir: str | Path | None = None,
    objective: Objective | None = None,
    training: Mapping[str, Any] | None = None,
    mlm_probability: float | None = None,
    whole_word_masking: bool = False,
    packing: bool | None = None,
    max_length: int | None = None,
    held_out: float = 0.1,
    patience: int = 3,
    include_validation_text: bool = False,
    include_test_text: bool = False,
    from_run: str | Path | None = None,
    runs: int = RUNS,
    recipe: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    callbacks: Iterable[TrainerCallback] = (),
    executor: Executor | str | None = None,
    workers: int | None = None,
    console: Console | None = None,
) -> Pretraining:
    """Pre-trains the model of a configuration further on the task's own text, and proves its worth.

    The text is that of `unlabelled_file`, if there is one, and of the training rows, labels unused,
    each text once. Of validation and test rows nothing is learnt unless told so, and what is equal
    to one of their texts, shares 80 % of its character shingles, or holds it word for word (from
    five words on), is left out and counted. A share of the text is held out: its perplexity, with
    the same masks before and after, chooses the weights that are kept and ends the training.

    `OUTPUT/model` holds body, language-model head and tokenizer; with `model_name_or_path:
    OUTPUT/model` the task's model begins with that body, compared bit by bit here, and with a new
    head. What a language model has no place for, such as BERT's pooler, comes from the checkpoint.

    Then the same fine-tuning is run from both checkpoints with the same seeds, as the study
    `OUTPUT/study` with its report.

    Killed and started again it goes on from its newest whole checkpoint, bit for bit, and repeats
    nothing that is finished; other settings in the same folder are refused, but for `runs`.

    Args:
        config: Path of a YAML file, or a mapping with the same keys: task, model, rows, and how it
            is fine-tuned.
        output_dir: Folder of the procedure; None: the configuration's.
        objective: "mlm", masked language modelling; "clm", causal; "mlm+nsp", masked together with
            next-sentence prediction, for models that have it; None: as the model was pre-trained.
        training: How it is pre-trained: any field of `StabilizerArguments`, over the defaults of
            its own (`hf_stabilizer.pretraining.options.TRAINING`: 20 epochs at 5e-5). From the
            configuration only what concerns the machine and trackers is taken.
        mlm_probability: Share of the tokens to be told, in (0, 1); None: 0.15. Not with "clm".
        whole_word_masking: Mask all pieces of a word together. Not with "clm".
        packing: Join texts and cut them into rows of `max_length`; False: each text by itself,
            longer ones in several rows; None: True, but for "mlm+nsp", whose rows are pairs.
        max_length: Tokens of a row, special ones included; None: the configuration's, else 128.
        held_out: Share of the documents (rows of text) that is not learnt from, in (0, 1).
        patience: Evaluations running without a better perplexity after which it ends.
        include_validation_text: Learn from the validation rows' texts, too. A validation score is
            then no longer that of unseen text. Recorded in procedure.json.
        include_test_text: The same for test rows.
        from_run: Instead: take the body of this run or model, trained on another task
            (`hand_over_body`). Goes with none of the options about text and training.
        runs: Pairs of control runs, 2 or more; 0: none.
        recipe: Name of a recipe, or a YAML file, laid over the configuration of the fine-tuning.
        overrides: Single keys of the configuration that beat both.
        callbacks: More callbacks for the Trainer of the pre-training.
        executor: Where the control runs execute, see `run_study`.
        workers: Their processes, see `run_study`.
        console: Where progress is shown; None: standard error.

    Returns:
        The record, also in `OUTPUT/pretraining.json`, with its control study.

    Raises:
        ConfigurationError: Options, model and tokenizer do not fit; before any work.
        DataError: There is no text, or too little; likewise.
        DivergenceError: The weights with the lowest perplexity are no numbers.
        HandOverError: The body did not arrive in the task's model.
        StudyError: The folder holds something else, or another process works on it.

    Example:
        >>> config = {"model_name_or_path": "bert-base-uncased", "train_file": "reviews.csv"}
        >>> further_pretrain(config, output_dir="out", objective="mlm", runs=-1)
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: runs must be a whole number of pairs from 1 up, or
        0 for none, got -1

    Source: Gururangan et al. 2020 (arXiv:2004.10964), task-adaptive pre-training, after Howard and
    Ruder 2018 (arXiv:1801.06146); masks as in `hf_stabilizer.pretraining.masking`. They train 100
    epochs at 1e-4 with batches of 256; here held-out perplexity says when to end.
    """
    check_runs(runs)
    configuration = load_configuration(config, recipe=recipe, overrides=overrides)
    options = PretrainingOptions(
        objective=objective,
        mlm_probability=mlm_probability,
        whole_word_masking=whole_word_masking,
        packing=packing,
        max_length=max_length,
        held_out=held_out,
        patience=patience,
        include_validation_text=include_validation_text,
        include_test_text=include_test_text,
    )
    folder = _folder(configuration, output_dir)
    if from_run is not None:
        check_alone(options, training)
    values = training_values(configuration, training)
    settings = {
        "configuration": _deciding(fine_tuning(configuration)),
        "options": asdict(options),
        "training": _deciding(training or {}),
        "from_run": None if from_run is None else str(from_run),
    }

    def make() -> Callable[[], Pretraining]:
        if runs:
            check(configuration, prepare_data(configuration))
        if from_run is not None:
            source_folder(from_run)
            return lambda: _hand_over(from_run, folder, configuration)
        work = prepare(configuration, options, values)
        for note in work.notes:
            logger.info(note)
        return lambda: pretrain(work, options, folder, callbacks=callbacks)

    record, procedure = _once(folder, settings, make)
    study = None
    if runs:
        study = _control(
            configuration,
            record,
            folder,
            runs=runs,
            executor=executor,
            workers=workers,
            console=console,
        )
    _conclude(procedure, record, study, folder)
    return replace(record, study=study)


def fine_tuning(configuration: Configuration) -> dict[str, Any]:
    """Returns the keys of the fine-tuning that were given: a study sets folder and seeds itself."""
    recorded = configuration.recorded
    left_out = {*SEEDS, "output_dir"}
    return {
        k: recorded[k] for k in sorted(configuration.given & set(recorded)) if k not in left_out
    }


def _deciding(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in TELLING}


def _folder(configuration: Configuration, output_dir: str | Path | None) -> Path:
    named = output_dir or configuration.values.get("output_dir")
    if not named:
        raise ConfigurationError("output_dir is missing; name the folder for model and study")
    check_folder(Path(named), key="output_dir")
    return Path(named).resolve()


def check_alone(options: PretrainingOptions, training: Mapping[str, Any] | None) -> None:
    """Raises ConfigurationError if something says how to pre-train, and nothing is to be."""
    plain = asdict(PretrainingOptions())
    others = [key for key, value in asdict(options).items() if value != plain[key]]
    others += list(training or ())
    if others:
        raise ConfigurationError(
            f"from_run takes a body that is trained already, and {others[0]} says how to "
            "pre-train; remove one of them"
        )


def _once(
    folder: Path, settings: Mapping[str, Any], make: Callable[[], Callable[[], Pretraining]]
) -> tuple[Pretraining, Procedure]:
    """Does what is not done yet; all that can be wrong is told before the folder is touched."""
    if read_procedure(folder) is not None:
        open_procedure(folder, KIND, settings)  # refuses other settings at once
        there = read_pretraining(folder)
        if there is not None:
            return there, open_procedure(folder, KIND, settings)
    do = make()
    procedure = open_procedure(folder, KIND, settings)
    with alone(folder / ".lock", str(folder)):
        return do(), procedure


def _hand_over(source: str | Path, folder: Path, configuration: Configuration) -> Pretraining:
    arrived = move_body(source, folder / "model", task=configuration.model.task)
    record = Pretraining(
        model=str(folder / "model"),
        objective="hand-over",
        body=len(arrived.body),
        new=arrived.new,
    )
    record.write(folder)
    return record


def _control(
    configuration: Configuration,
    record: Pretraining,
    folder: Path,
    *,
    runs: int,
    executor: Executor | str | None,
    workers: int | None,
    console: Console | None,
) -> Study:
    treated = HANDED if record.objective == "hand-over" else TREATED
    study = run_study(
        fine_tuning(configuration),
        recipes={PLAIN: {}, treated: {"model_name_or_path": record.model}},
        runs=runs,
        first_seed=int(configuration.values["seed"]),
        output_dir=folder / "study",
        executor=executor,
        workers=workers,
        console=console,
    )
    write_report(study, folder / "study" / "report.html")
    return study


def _conclude(procedure: Procedure, record: Pretraining, study: Study | None, folder: Path) -> None:
    outcome: dict[str, Any] = {
        "perplexity_before": record.perplexity_before,
        "perplexity_after": record.perplexity_after,
        "texts": dict(record.texts),
        "body": record.body,
    }
    if study is not None:
        outcome["verdict"] = verdict(study)
    elif "verdict" in procedure.outcome:  # of a study that was made before
        outcome["verdict"] = procedure.outcome["verdict"]
    procedure.ended(folder, **outcome)
