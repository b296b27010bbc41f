"""Studies of people's own functions: as good as those of a configuration, or refused."""

from __future__ import annotations

import functools
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import Trainer, TrainerCallback, TrainingArguments

from hf_stabilizer import StabilizerArguments, prepare_model, run_study, stabilize
from hf_stabilizer.cli import main
from hf_stabilizer.configuration import load_configuration
from hf_stabilizer.errors import ConfigurationError, StudyError
from hf_stabilizer.records import Run, read_run
from hf_stabilizer.run import prepare_data
from hf_stabilizer.studies.early_stopping.halting import HaltCallback
from hf_stabilizer.studies.events import read_events
from hf_stabilizer.studies.executors.in_process import InProcess
from hf_stabilizer.studies.executors.local_workers import LocalWorkers
from hf_stabilizer.studies.functions.fingerprint import fingerprint
from hf_stabilizer.studies.functions.function_run import FunctionRun
from hf_stabilizer.studies.functions.function_trial import arguments_of
from hf_stabilizer.studies.functions.function_trial import build as made
from hf_stabilizer.studies.functions.trainer_file import TrainerFile, read_trainer_file
from hf_stabilizer.studies.functions.trainer_function import TrainerFunction
from hf_stabilizer.studies.question import load_recipes
from hf_stabilizer.studies.quiet import quietly
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.subject import FunctionSubject
from hf_stabilizer.studies.worker import run_first_part, run_once, run_rest
from tests.conftest import write_rows
from tests.tiny import SIZES, Rows, tiny_bert
from tests.waiting import until, workers_of

STEPS, HALT = 8, 3
SHORT = {
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 8,
    "max_steps": STEPS,
    "use_cpu": True,
}


def name_of(value: object) -> str:
    """A test's argument in words that are the same in every process, as addresses are not."""
    function = getattr(value, "func", value)
    return getattr(function, "__name__", str(value))


def accuracy(prediction: Any) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(1) == prediction.label_ids).mean())}


def bert(**options: Any) -> Any:
    config = transformers.BertConfig(**{**SIZES, "num_hidden_layers": 2, **options})
    return transformers.BertForSequenceClassification(config)


def build(given: StabilizerArguments, **options: Any) -> Trainer:
    rows = Rows(32)
    usual: dict[str, Any] = {
        "model": prepare_model(bert(), given, train_dataset=rows),
        "args": given,
        "train_dataset": rows,
        "eval_dataset": Rows(16, seed=1),
        "compute_metrics": accuracy,
        **stabilize(given),
    }
    return Trainer(**{**usual, **options})


def with_test_rows(args: StabilizerArguments) -> tuple[Trainer, Rows]:
    return build(args), Rows(16, seed=2)


def study(function: Callable[..., Any], folder: Path, **options: Any) -> Study:
    values: dict[str, Any] = {"runs": 2, "output_dir": folder, "executor": "in-process", **options}
    return run_study(function, **{**values, "overrides": {**SHORT, **values.get("overrides", {})}})


def opened(function: Callable[..., Any], **overrides: Any) -> Any:
    subject = FunctionSubject(TrainerFunction(function))
    return subject.load(overrides={**SHORT, **overrides})


def numbers(run: Run) -> tuple[Any, ...]:
    return run.evaluations, run.best_score, run.last_score, run.test_score, run.steps


def changed_at(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in sorted(folder.glob("runs/*/*/run.json"))}


# ---- whole studies


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recipes, two seeds, all to the end."""
    folder = tmp_path_factory.mktemp("functions") / "s"
    study(with_test_rows, folder, recipes=["plain", "stabilised"])
    return folder


def test_every_run_is_recorded_with_its_seeds_and_scores(done: Path) -> None:
    found = Study.from_folder(done)
    assert [(run.recipe, run.seeds["seed"], run.status) for run in found.runs] == [
        ("plain", 1, found.runs[0].status), ("plain", 2, found.runs[1].status),
        ("stabilised", 1, found.runs[2].status), ("stabilised", 2, found.runs[3].status),
    ]  # fmt: skip
    assert found.metric == "accuracy"
    assert found.greater_is_better
    for run in found.runs:
        assert run.steps == STEPS
        assert [step for step, _ in run.evaluations] == [4, 8]
        assert run.test_score is not None
        assert run.configuration["trainer"] == "test_functions.py:with_test_rows"
        predictions = found.predictions(run)
        assert predictions is not None
        assert predictions.validation is not None
        assert predictions.test is not None
        right = (predictions.test.argmax(1) == predictions.test_labels).mean()
        assert run.test_score == pytest.approx(right)


def test_recipes_mean_what_the_model_is_for(done: Path) -> None:
    found = Study.from_folder(done)
    assert found.configuration["task"] == "text-classification"
    assert found.recipe_settings["plain"] == {}
    assert found.recipe_settings["stabilised"] == {
        "fit_head": True, "fit_head_scale": 0.3, "reinit_pooler": "auto",
    }  # fmt: skip


def test_the_best_run_of_each_recipe_keeps_its_model(done: Path) -> None:
    for recipe in ("plain", "stabilised"):
        (model,) = done.glob(f"runs/{recipe}/*/model")
        kept = read_run(model.parent / "run.json")
        scores = [run.best_score for run in Study.from_folder(done).of(recipe)]
        assert kept.best_score == max(score for score in scores if score is not None)
        transformers.AutoModelForSequenceClassification.from_pretrained(model)
    assert not list(done.glob("runs/*/*/checkpoint-*"))


def test_started_again_it_repeats_nothing_and_more_seeds_join(done: Path) -> None:
    before = changed_at(done)
    study(with_test_rows, done, recipes=["plain", "stabilised"])
    assert changed_at(done) == before
    found = study(with_test_rows, done, recipes=["plain"], runs=3)
    assert len(found.of("plain")) == 3
    assert len(found.of("stabilised")) == 2


def test_refusal_another_question_in_the_same_folder(done: Path) -> None:
    before = changed_at(done)
    with pytest.raises(StudyError, match=r"learning_rate was 0.001 and is now 0.01"):
        study(with_test_rows, done, overrides={"learning_rate": 1e-2})
    with pytest.raises(StudyError, match=r"trainer was 'test_functions.py:with_test_rows' and is"):
        study(build, done)
    assert changed_at(done) == before


def test_it_equals_the_study_of_a_configuration(model_folder: Path, tmp_path: Path) -> None:
    """To the last bit, as the function does what `run` does."""
    config = {
        "model_name_or_path": str(model_folder),
        "train_file": str(write_rows(tmp_path / "rows.csv", count=64)),
        "validation_size": 16,
        "test_size": 16,
        "per_device_eval_batch_size": 32,
        **SHORT,
    }
    prepared = prepare_data(load_configuration(config))

    def same(args: StabilizerArguments) -> tuple[Trainer, Any]:
        from hf_stabilizer.metrics import build_compute_metrics
        from hf_stabilizer.models import load_model

        rows, collator = prepared.train, prepared.data_collator
        model = load_model(prepared, str(model_folder))
        trainer = Trainer(
            prepare_model(model, args, train_dataset=rows, data_collator=collator),
            args=args,
            train_dataset=rows,
            eval_dataset=prepared.validation,
            data_collator=collator,
            compute_metrics=build_compute_metrics(
                ["accuracy"], prepared.problem_type, num_labels=prepared.num_labels
            ),
            **stabilize(args),
        )
        return trainer, prepared.test

    pair, values = ["plain", "stabilised"], {"per_device_eval_batch_size": 32}
    ours = study(same, tmp_path / "ours", recipes=pair, runs=1, overrides=values)
    theirs = run_study(
        {**config, "metrics": ["accuracy"]}, recipes=pair, runs=1, output_dir=tmp_path / "theirs",
        executor="in-process",
    )  # fmt: skip
    assert [numbers(run) for run in ours.runs] == [numbers(run) for run in theirs.runs]
    assert ours.recipe_settings == theirs.recipe_settings


def test_a_run_that_raises_is_a_failed_run_which_is_repeated_on_demand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sometimes(args: StabilizerArguments) -> Trainer:
        if args.data_seed == 1 and "FINE" not in os.environ and "runs" in args.output_dir:
            raise RuntimeError("CUDA out of memory")
        return build(args)

    failed, fine = study(sometimes, tmp_path / "s").runs
    assert fine.score is not None
    assert failed.status == "failed"
    assert "CUDA out of memory" in failed.reason
    assert "in sometimes" in (tmp_path / "s/runs/plain" / failed.name / "traceback.txt").read_text()
    before = changed_at(tmp_path / "s")
    assert study(sometimes, tmp_path / "s").runs[0].status == "failed"
    assert changed_at(tmp_path / "s") == before
    monkeypatch.setenv("FINE", "1")
    assert study(sometimes, tmp_path / "s", retry_failed=True).runs[0].score is not None


def test_what_preflight_finds_is_said_once_for_all_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    subject = FunctionSubject(TrainerFunction(build))
    with caplog.at_level(logging.INFO, logger="hf_stabilizer"):
        study(build, tmp_path / "s", recipes=["plain", "stabilised"])
    said = [record.getMessage() for record in caplog.records]
    few = [line for line in said if "optimizer steps; small data needs" in line]
    assert len(few) == 1
    assert few[0].startswith("plain, stabilised: the run has 8 optimizer steps")
    assert [line for line in said if "accuracy decides, the first that" in line] == [
        "accuracy decides, the first that test_functions.py:build computes; "
        "metric_for_best_model names another"
    ]
    assert subject.function.name == "test_functions.py:build"


# ---- stopped early


class Nosy(TrainerCallback):
    """A callback of people's own, which asks for an evaluation at the end of each epoch."""

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_evaluate = control.should_save = True


def nosy(args: StabilizerArguments) -> Trainer:
    trainer = build(args)
    trainer.add_callback(Nosy())
    built.append(trainer)
    return trainer


built: list[Trainer] = []


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"fit_head": True, "reinit_pooler": "auto"},
        {"averaging": "swa", "averaging_start": 2, "layer_lr": "llrd"},
        {"averaging": "ema", "averaging_start": 2, "ema_decay": 0.8, "divergence_guard": "stop"},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_a_halted_run_goes_on_as_if_it_never_had_been(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    configuration = opened(nosy, evaluations_per_epoch=2, **options)
    run = FunctionRun(configuration, TrainerFunction(nosy)).with_seeds({"head_seed": 5, "seed": 6})
    whole = run_once(run, str(tmp_path / "whole"))
    half = run_first_part(run, str(tmp_path / "halted"), 0.375)
    assert (half.status, half.checkpoint) == ("stopped", f"checkpoint-{half.steps}"), half.reason
    kinds = [type(callback) for callback in built[-1].callback_handler.callbacks]
    assert kinds.index(HaltCallback) > kinds.index(Nosy)
    rest = run_rest(run, str(tmp_path / "halted"))
    assert numbers(rest) == numbers(whole)
    assert rest.steps == STEPS
    weights = [tmp_path / name / "model/model.safetensors" for name in ("whole", "halted")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_the_best_go_on_and_the_rest_is_stopped(tmp_path: Path) -> None:
    options: dict[str, Any] = {"runs": 3, "overrides": {"evaluations_per_epoch": 4}}
    found = study(build, tmp_path / "s", stop_at=0.375, keep=2, **options)
    straight = study(build, tmp_path / "straight", **options)
    assert [run.steps for run in found.runs].count(HALT) == 1
    for run, other in zip(found.runs, straight.runs, strict=True):
        if run.status != "stopped":
            assert numbers(run) == numbers(other)
    names = [event.event for event in read_events(tmp_path / "s")]
    assert names[:3] == ["opened", "started", "halted"]  # each run as it came, not all at the end


def test_refusal_nothing_to_rank_by_at_the_halt(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="the first evaluation comes at step 4"):
        study(build, tmp_path / "s", stop_at=0.25, keep=1, overrides={"evaluations_per_epoch": 1})
    assert not (tmp_path / "s").exists()


# ---- what decides


def sets_its_metric(args: StabilizerArguments) -> Trainer:
    args.metric_for_best_model, args.greater_is_better = "eval_brierish", False
    return build(args, compute_metrics=lambda p: {"accuracy": 1.0, "brierish": 0.5})


def two_sets(args: StabilizerArguments) -> Trainer:
    return build(args, eval_dataset={"near": Rows(16, seed=1), "far": Rows(16, seed=3)})


class Own(Trainer):
    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        return {**super().evaluate(*args, **kwargs), "eval_exact_match": 0.5}


def own_evaluation(args: StabilizerArguments) -> Trainer:
    data: dict[str, Any] = {"train_dataset": Rows(32), "eval_dataset": Rows(16, seed=1)}
    return Own(prepare_model(bert(), args), args=args, **data, **stabilize(args))


@pytest.mark.parametrize(
    ("function", "given", "metric", "greater"),
    [
        (build, {}, "accuracy", True),
        (build, {"metric_for_best_model": "loss"}, "loss", False),
        (build, {"metric_for_best_model": "eval_accuracy"}, "accuracy", True),
        (functools.partial(build, compute_metrics=None), {}, "loss", False),
        (functools.partial(build, compute_metrics=lambda p: {"word_wer": 1.0}), {}, "word_wer", 0),
        (sets_its_metric, {}, "brierish", False),
        (two_sets, {}, "near_accuracy", True),
        (own_evaluation, {"metric_for_best_model": "exact_match"}, "exact_match", True),
        (build, {"metric_for_best_model": "accuracy", "greater_is_better": False}, "accuracy", 0),
    ],
    ids=name_of,
)
def test_what_decides(
    function: Callable[..., Any], given: dict[str, Any], metric: str, greater: bool
) -> None:
    configuration = opened(function, **given)
    assert configuration.metric == metric
    assert configuration.values["greater_is_better"] == bool(greater)


@pytest.mark.parametrize(
    ("function", "given", "message"),
    [
        (build, {"metric_for_best_model": "acuracy"}, "not computed.*did you mean accuracy"),
        (own_evaluation, {}, "which metric decides"),
        (sets_its_metric, {"metric_for_best_model": "accuracy"}, "leave one of the two out"),
    ],
    ids=name_of,
)
def test_refusal_what_decides_is_not_there(
    function: Callable[..., Any], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        opened(function, **given)


def test_refusal_test_rows_without_labels() -> None:
    rows = [{key: value for key, value in Rows(4)[0].items() if key != "labels"}] * 4
    with pytest.raises(ConfigurationError, match="cannot be computed on the test rows"):
        opened(lambda args: (build(args), rows))


@pytest.mark.parametrize(
    ("options", "task", "remedies"),
    [
        ({"num_labels": 1}, "text-regression", set()),
        ({"num_labels": 3}, "text-classification", {"fit_head", "fit_head_scale", "reinit_pooler"}),
    ],
)
def test_the_task_is_told_by_the_model(
    options: dict[str, Any], task: str, remedies: set[str]
) -> None:
    rows = Rows(32, num_labels=options["num_labels"])
    rows.labels = rows.labels.float() if options["num_labels"] == 1 else rows.labels

    def function(args: StabilizerArguments) -> Trainer:
        model = prepare_model(bert(**options), args, train_dataset=rows)
        changed: dict[str, Any] = {"model": model, "train_dataset": rows, "eval_dataset": rows}
        return build(args, **changed, compute_metrics=None)

    subject = FunctionSubject(TrainerFunction(function))
    found = load_recipes(subject.load, ["plain", "stabilised"], SHORT)
    assert found["stabilised"].values["task"] == task
    assert set(found["stabilised"].values) - set(found["plain"].values) == remedies
    named = subject.load(recipe=None, overrides={**SHORT, "task": "multiple-choice"})
    assert named.values["task"] == "multiple-choice"


# ---- functions that cannot be studied


def other_arguments(args: StabilizerArguments) -> Trainer:
    mine = TrainingArguments(args.output_dir + "2", use_cpu=True, dataloader_pin_memory=False)
    return build(args, args=mine)


def other_seed(args: StabilizerArguments) -> Trainer:
    mine = TrainingArguments(args.output_dir, use_cpu=True, dataloader_pin_memory=False)
    return build(args, args=mine)


def copied_arguments(args: StabilizerArguments) -> Trainer:
    import copy

    return build(args, args=copy.copy(args))


def not_stabilised(args: StabilizerArguments) -> Trainer:
    return build(args, callbacks=None)


def forgets(args: StabilizerArguments) -> Trainer:
    rows = {"train_dataset": Rows(32), "eval_dataset": Rows(16, seed=1)}
    return Trainer(bert(), args=args, compute_metrics=accuracy, **rows, **stabilize(args))


def raises(args: StabilizerArguments) -> Trainer:
    return build(args, no_such_option=1)


@pytest.mark.parametrize(
    ("function", "given", "message"),
    [
        (lambda args: None, {}, "must return a Trainer, or a Trainer and test rows, got NoneType"),
        (lambda: None, {}, "must take one argument, the StabilizerArguments"),
        (lambda args, more: None, {}, "must take one argument, the StabilizerArguments"),
        (other_arguments, {}, "return a Trainer made with the arguments that the function is"),
        (other_seed, {}, "Trainer made with the arguments"),
        (not_stabilised, {}, r"evaluations_per_epoch=1, .* has no EvaluationsPerEpochCallback; add "
         r"\*\*stabilize\(args\)"),
        (not_stabilised, {"averaging": "ema"}, r"averaging='ema'.*\*\*stabilize\(args\)"),
        (functools.partial(build, optimizer_cls_and_kwargs=None), {"layer_lr": "llrd"},
         r"layer_lr='llrd'.*no layer-wise optimizer"),
        (forgets, {"reinit_layers": 1}, r"reinit_layers=1 does nothing in .*forgets: prepare_"),
        (forgets, {"fit_head": True}, "train_dataset=rows, data_collator=collator"),
        (functools.partial(build, eval_dataset=None), {}, "has no eval_dataset"),
        (raises, {}, r"raised TypeError: .*no_such_option.* \(.*test_functions.py:\d+\)"),
        (build, {"max_length": 64}, "sets max_length=64, which is no field of StabilizerArguments"),
        (build, {"learning_rat": 1.0}, "did you mean learning_rate"),
        (build, {"task": "text-clasification"}, "did you mean text-classification"),
        (build, {"max_steps": 0}, "max_steps must be 1 or more"),
        (build, {"reinit_layers": 9}, "reinit_layers must be a whole number"),
    ],
    ids=name_of,
)  # fmt: skip
def test_refusals(function: Callable[..., Any], given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        opened(function, **given)


def test_a_copy_of_the_arguments_is_as_good() -> None:
    assert opened(copied_arguments).metric == "accuracy"


def test_refusal_pinned_seeds_and_keys_of_a_recipe(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"a study sets the seeds itself.*head_seed"):
        study(build, tmp_path / "s", overrides={"head_seed": 3})
    recipe = tmp_path / "long.yaml"
    recipe.write_text("max_length: 256\n")
    with pytest.raises(ConfigurationError, match="recipe 'long' sets max_length=256"):
        study(build, tmp_path / "s", recipes=["plain", str(recipe)])
    assert not (tmp_path / "s").exists()


def test_a_plain_function_needs_no_stabilize_where_it_evaluates_itself(tmp_path: Path) -> None:
    def plain(args: StabilizerArguments) -> Trainer:
        rows: dict[str, Any] = {"train_dataset": Rows(32), "eval_dataset": Rows(16, seed=1)}
        return Trainer(bert(), args=args, **rows)

    given = {"eval_strategy": "steps", "eval_steps": 4}
    one, two = study(plain, tmp_path / "s", overrides=given).runs
    assert [step for step, _ in one.evaluations] == [4, 8]
    assert one.evaluations != two.evaluations


def test_head_seed_decides_new_parameters_also_without_prepare_model(tmp_path: Path) -> None:
    function, configuration = TrainerFunction(forgets), opened(forgets)
    heads = []
    for head_seed, seed in ((3, 1), (3, 2), (4, 1)):
        seeds = {"head_seed": head_seed, "seed": seed}
        trainer, _ = made(arguments_of(configuration.with_values(**seeds), tmp_path), function)
        heads.append(trainer.model.classifier.weight)  # type: ignore[union-attr]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_a_trained_head_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny_bert().save_pretrained(tmp_path / "trained")  # type: ignore[operator]
    before = tiny_bert().classifier.weight  # type: ignore[union-attr]

    def function(args: StabilizerArguments) -> Trainer:
        kind = transformers.BertForSequenceClassification
        model = prepare_model(kind.from_pretrained(tmp_path / "trained"), args)
        assert torch.equal(model.classifier.weight, before)
        return build(args, model=model)

    with caplog.at_level(logging.INFO, logger="hf_stabilizer"):
        opened(function)
    assert "the checkpoint brings a trained head, which is kept" in caplog.text


# ---- where it runs


def test_it_travels_with_what_it_refers_to() -> None:
    rows = Rows(32)
    function = TrainerFunction(lambda args: len(rows) + args)
    there = pickle.loads(pickle.dumps(function))
    assert (there(1), there.name, there.source) == (33, function.name, function.source)


def test_a_cache_in_a_notebook_travels_empty() -> None:
    """Pickled by name it would be looked for where there is no notebook."""
    names: dict[str, Any] = {"__name__": "__main__", "functools": functools}
    exec("@functools.cache\ndef load(n):\n    return [n]", names)  # as a notebook's cell is
    exec("def build(args):\n    return load(args)", names)
    function = pickle.loads(pickle.dumps(TrainerFunction(names["build"])))
    assert function(3) == [3]
    assert function(3) is function(3)  # still a cache
    assert function(3) is not names["build"](3)


def test_refusal_what_cannot_travel_can_run_here(tmp_path: Path) -> None:
    lock = threading.Lock()

    def function(args: StabilizerArguments) -> Trainer:
        with lock:
            return build(args)

    with pytest.raises(ConfigurationError, match=r"cannot be sent to worker processes .*lock.*in-"):
        study(function, tmp_path / "s", executor="local", workers=1)
    assert not (tmp_path / "s").exists()
    assert study(function, tmp_path / "s", runs=1).runs[0].score is not None


def test_workers_compute_what_this_process_does(tmp_path: Path, done: Path) -> None:
    """A function by value, and one by its file, which each worker reads once."""
    file = tmp_path / "mine.py"
    read = tmp_path / "read.txt"
    file.write_text(
        f"from pathlib import Path\n"
        f"from tests.studies.test_functions import with_test_rows\n"
        f"with Path({str(read)!r}).open('a') as file:\n"
        f"    file.write('x')\n"
        f"def build(args):\n"
        f"    return with_test_rows(args)\n"
    )
    sizes = Rows(16, seed=2)

    def closure(args: StabilizerArguments) -> tuple[Trainer, Rows]:
        return build(args), sizes

    here = [numbers(run) for run in Study.from_folder(done).of("plain")[:2]]
    with LocalWorkers(1) as workers:
        for name, function in (("file", read_trainer_file(f"{file}:build")), ("value", closure)):
            runs = 2 if name == "file" else 1
            there = study(function, tmp_path / name, executor=workers, runs=runs)
            assert [numbers(run) for run in there.runs] == here[:runs]
    assert read.read_text() == "xx"  # here, and once for two runs there


def interrupt() -> None:
    raise KeyboardInterrupt


def test_in_process_a_task_is_over_when_it_was_submitted() -> None:
    with InProcess() as executor:
        future = executor.submit(threading.get_ident)
        assert future.done()
        assert future.result() == threading.get_ident()
        failed = executor.submit(int, "x")
        assert isinstance(failed.exception(), ValueError)
        with pytest.raises(KeyboardInterrupt):
            executor.submit(interrupt)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(int)


def test_afterwards_this_process_speaks_as_before() -> None:
    words, before = transformers.utils.logging, list(warnings.filters)
    verbosity, had_bars = words.get_verbosity(), words.is_progress_bar_enabled()
    words.enable_progress_bar()
    try:
        with quietly():
            assert words.get_verbosity() == logging.ERROR
            assert not words.is_progress_bar_enabled()
        assert (words.get_verbosity(), list(warnings.filters)) == (verbosity, before)
        assert words.is_progress_bar_enabled()
    finally:
        if not had_bars:
            words.disable_progress_bar()


# ---- the same function or another


SOURCE = """
SIZE = 3

def helper(x):
    return x + SIZE

def beside(x):
    return x

def build(args):
    return [helper(x) for x in args]
"""


@pytest.mark.parametrize(
    ("old", "new", "is_same"),
    [
        ("x + SIZE", "x - SIZE", False),
        ("SIZE = 3", "SIZE = 4", False),
        ("[helper(x) for", "[helper(x) + 1 for", False),
        ("return x\n", "return 2 * x\n", True),
        ("def helper(x):\n", "# Adds.\n\ndef helper(x):\n\n    # Why not.\n", True),
    ],
)
def test_a_function_is_its_source_and_what_it_reaches(
    tmp_path: Path, old: str, new: str, is_same: bool
) -> None:
    assert old in SOURCE
    found = []
    for name, text in (("one", SOURCE), ("two", SOURCE.replace(old, new, 1))):
        (tmp_path / f"{name}.py").write_text(text)
        found.append(read_trainer_file(f"{tmp_path / name}.py:build").source)
    assert (found[0] == found[1]) is is_same


def test_a_function_is_its_closure_and_its_bound_arguments() -> None:
    def make(size: int) -> Callable[..., int]:
        return lambda args: args + size

    assert fingerprint(make(1)) == fingerprint(make(1)) != fingerprint(make(2))
    one, two = functools.partial(build, a=1), functools.partial(build, a=2)
    assert fingerprint(one) != fingerprint(two)
    assert fingerprint(build) not in (None, fingerprint(one))


def test_refusal_a_changed_source_says_how_to_go_on(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    text = "from tests.studies.test_functions import build as inner\nRATE = 1\n"
    text += "def build(args):\n    return RATE and inner(args)\n"
    file.write_text(text)
    study(read_trainer_file(f"{file}:build"), tmp_path / "s", runs=1)
    before = changed_at(tmp_path / "s")
    file.write_text(text.replace("RATE = 1", "RATE = 2"))
    changed = read_trainer_file(f"{file}:build")
    with pytest.raises(
        StudyError, match=r"the source of mine.py:build has changed.*write '"
    ) as error:
        study(changed, tmp_path / "s", runs=1)
    definition = tmp_path / "s" / "study.json"
    new, old = str(error.value).split("write ")[1].split("'")[1::2][:2]
    definition.write_text(definition.read_text().replace(old, new))
    study(changed, tmp_path / "s", runs=1)
    assert changed_at(tmp_path / "s") == before


def test_a_file_that_changes_under_way_fails_its_runs(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("def build(args):\n    return 1\n")
    stale = TrainerFile(str(tmp_path / "other.py"), "build", "0123456789ab")
    with pytest.raises(ConfigurationError, match=r"other.py:build has changed since the study"):
        stale(None)


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (None, "build", "there is no Python file"),
        ("def build(args): ...", "", "must be FILE.py:FUNCTION"),
        ("def build(args): ...", "buld", "has no function 'buld' .did you mean build"),
        ("def build(args): ...\nsize = 3", "size", "has no function 'size'; it has build"),
        ("def build(args:", "build", r"cannot be imported: SyntaxError.*mine.py:1"),
        ("import no_such_package", "build", r"cannot be imported: ModuleNotFoundError.*mine.py:1"),
        ("import sys\nsys.exit(3)", "build", r"ends the process with 3.*mine.py:2"),
        ("def build(): ...", "build", "must take one argument"),
    ],
)
def test_refusal_of_a_file(tmp_path: Path, text: str | None, name: str, message: str) -> None:
    file = tmp_path / "mine.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        read_trainer_file(f"{file}:{name}")


def test_a_file_imports_its_neighbours_and_not_its_namesakes(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_mine.py").write_text("SIZE = 5\n")
    (tmp_path / "json.py").write_text(
        "from neighbour_of_mine import SIZE\n\n\ndef build(args):\n    return SIZE\n"
    )
    path = list(sys.path)
    try:
        assert read_trainer_file(f"{tmp_path / 'json.py'}:build")(None) == 5
    finally:
        sys.path[:] = path
    import json

    assert json.loads("5") == 5


# ---- from the shell


def test_from_the_shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # to which the file's folder is added
    Path("mine.py").write_text("from tests.studies.test_functions import with_test_rows as build\n")
    main([
        "study", "--trainer", "mine.py:build", "--max_steps", "4", "--learning-rate", "1e-3",
        "--use_cpu", "--runs", "2", "--recipes", "plain", "--executor", "in-process",
    ])  # fmt: skip
    assert "results/mine/report.html" in capsys.readouterr().out
    found = Study.from_folder("results/mine")
    assert len(found.runs) == 2
    assert found.configuration["max_steps"] == 4
    with pytest.raises(SystemExit):
        main(["study", "mine.yaml", "--trainer", "mine.py:build"])
    assert "give --trainer or the file 'mine.yaml', not both" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_workers_and_parent_that_are_killed_lose_nothing(tmp_path: Path) -> None:
    """In real processes: SIGKILL to a worker, then to the parent, then the same command again."""
    (tmp_path / "mine.py").write_text(
        "from tests.studies.test_functions import with_test_rows as build\n"
    )
    command = [
        sys.executable, "-m", "hf_stabilizer", "study", "--trainer", "mine.py:build", "--runs", "3",
        "--max_steps", "16", "--learning_rate", "1e-3", "--per_device_train_batch_size", "8",
        "--use_cpu", "--workers", "1", "--stop-at", "0.25", "--keep", "2", "--output-dir", "s",
        "--evaluations_per_epoch", "2", "--recipes", "plain", "stabilised",
    ]  # fmt: skip
    root = str(Path(__file__).parents[2])
    surroundings = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=tmp_path, env=surroundings, **quiet)
    try:
        until(lambda: _events(tmp_path, "halted") >= 1)
        workers = workers_of(process.pid)
        assert workers
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        until(lambda: _events(tmp_path, "lost") >= 1 and _events(tmp_path, "halted") >= 3)
    finally:
        process.kill()
        process.wait()
    done = subprocess.run(
        command, cwd=tmp_path, env=surroundings, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, done.stderr
    options = {"max_steps": 16, "evaluations_per_epoch": 2}
    calm = study(
        with_test_rows, tmp_path / "calm", runs=3, recipes=["plain", "stabilised"],
        stop_at=0.25, keep=2, overrides=options,
    )  # fmt: skip
    found = Study.from_folder(tmp_path / "s")
    assert [numbers(run) for run in found.runs] == [numbers(run) for run in calm.runs]
    assert [run.status for run in found.runs] == [run.status for run in calm.runs]


def _events(folder: Path, name: str) -> int:
    return sum(event.event == name for event in read_events(folder / "s"))


# ---- callbacks that end a run


def patient(args: StabilizerArguments) -> Trainer:
    """Ends after as many evaluations behind the first as `eval_delay` says."""
    # No score is better by nine.
    own = transformers.EarlyStoppingCallback(PATIENCE[0], early_stopping_threshold=9.0)
    return build(args, **stabilize(args, [own]))


PATIENCE = [0]
EACH_STEP = {"eval_strategy": "steps", "eval_steps": 1}


@pytest.mark.parametrize(
    ("patience", "options", "ends", "is_halted"),
    [
        (4, EACH_STEP, 5, True),  # it had counted two by the halt, and goes on counting
        (2, EACH_STEP, HALT, False),  # what the halt's own evaluation says ends it for good
        (2, {"eval_strategy": "epoch", "max_steps": 32}, 12, False),  # at an epoch's end as well
        (3, {"eval_strategy": "epoch", "max_steps": 32}, 16, True),
    ],
)
def test_a_run_that_ends_itself_does_so_where_it_would_have(
    tmp_path: Path, patience: int, options: dict[str, Any], ends: int, is_halted: bool
) -> None:
    PATIENCE[0] = patience
    run = FunctionRun(opened(patient, **options), TrainerFunction(patient))
    whole = run_once(run, str(tmp_path / "whole"))
    assert (whole.status, whole.steps) == ("finished", ends), whole.reason
    half = run_first_part(run, str(tmp_path / "halted"), 0.375)
    assert half.status == ("stopped" if is_halted else "finished"), half.reason
    rest = run_rest(run, str(tmp_path / "halted")) if is_halted else half
    assert numbers(rest) == numbers(whole)
    weights = [tmp_path / name / "model/model.safetensors" for name in ("whole", "halted")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    left = [sorted(path.name for path in folder.parent.parent.iterdir()) for folder in weights]
    assert set(left[1]) - {"halted.json"} == set(left[0])


class Fails(TrainerCallback):
    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 6:
            raise RuntimeError("out of memory")


@pytest.mark.parametrize(
    ("options", "kept"), [({}, 0), ({"save_strategy": "steps", "save_steps": 2}, 3)]
)
def test_a_failed_run_leaves_no_checkpoint_that_serves_nothing(
    tmp_path: Path, options: dict[str, Any], kept: int
) -> None:
    def failing(args: StabilizerArguments) -> Trainer:
        return build(args, **stabilize(args, [Fails()]))

    run = FunctionRun(opened(failing, evaluations_per_epoch=2, **options), TrainerFunction(failing))
    found = run_once(run, str(tmp_path / "r"))
    assert (found.status, found.reason) == ("failed", "RuntimeError: out of memory")
    assert found.score is not None
    assert len(list(tmp_path.glob("r/checkpoint-*"))) == kept
