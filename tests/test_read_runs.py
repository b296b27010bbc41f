"""Runs of any Trainer, read from what it left: scores, seeds, failures, files that are broken."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import math
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from hf_stabilizer import Study, read_runs
from hf_stabilizer.cli import main
from hf_stabilizer.errors import ConfigurationError, StudyError
from hf_stabilizer.records import Run, write_run
from hf_stabilizer.studies.comparison import comparisons
from hf_stabilizer.studies.page.report import render
from hf_stabilizer.studies.past_runs.saved_arguments import read_saved_arguments
from hf_stabilizer.studies.statistics.unpaired import (
    permutation_interval,
    permutation_p_value,
    superiority_of_unpaired,
)
from hf_stabilizer.studies.verdict import verdict
from tests import classify_text, reference
from tests.conftest import write_rows


def write_trainer_run(
    folder: Path,
    scores: tuple[float, ...] = (0.6, 0.8, 0.7),
    *,
    steps: int = 30,
    max_steps: int = 30,
    history: list[dict[str, Any]] | None = None,
    results: dict[str, float] | None = None,
    state: dict[str, Any] | None = None,
) -> Path:
    """What a Trainer leaves that was evaluated every ten steps, written by hand."""
    folder.mkdir(parents=True, exist_ok=True)
    if history is None:
        history = [
            {"step": 10 * k, "eval_accuracy": score, "eval_loss": 1 - score, "eval_runtime": 3.0}
            for k, score in enumerate(scores, 1)
        ]
    content = {"global_step": steps, "max_steps": max_steps, "log_history": history}
    (folder / "trainer_state.json").write_text(json.dumps({**content, **(state or {})}))
    if results is not None:
        (folder / "all_results.json").write_text(json.dumps(results))
    return folder


@pytest.fixture(scope="session")
def real_runs(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs of the stock Trainer by a script that knows nothing of us."""
    folder = tmp_path_factory.mktemp("script")
    train = write_rows(folder / "train.csv", 64, seed=1)
    others = write_rows(folder / "others.csv", 24, seed=2)
    for (name, rate), seed in itertools.product({"plain": "1e-3", "slow": "1e-5"}.items(), (1, 2)):
        words = f"--model_name_or_path {model_folder} --train_file {train} --validation_file "
        words += f"{others} --test_file {others} --do_train --do_eval --do_predict --use_cpu true "
        words += f"--output_dir {folder}/runs/{name}-seed-{seed} --seed {seed} --report_to none "
        words += f"--learning_rate {rate} --eval_strategy steps --eval_steps 4 --disable_tqdm true "
        words += "--num_train_epochs 2 --save_strategy no --dataloader_pin_memory false "
        classify_text.main([*words.split(), "--metric_for_best_model", "accuracy"])
    return folder / "runs"


def test_runs_of_the_stock_trainer_are_a_study(real_runs: Path) -> None:
    study = read_runs(real_runs)
    assert study.recipes == ("plain", "slow")
    assert study.metric == "accuracy"
    assert [dict(run.seeds) for run in study.runs] == [{"seed": 1}, {"seed": 2}] * 2
    run, folder = study.runs[0], real_runs / "plain-seed-1"
    state = json.loads((folder / "trainer_state.json").read_text())
    results = json.loads((folder / "all_results.json").read_text())
    logged = [line["eval_accuracy"] for line in state["log_history"] if "eval_accuracy" in line]
    assert [metrics["accuracy"] for _, metrics in run.evaluations] == logged
    assert (run.best_score, run.last_score) == (max(logged), logged[-1])
    assert run.test_score == run.score == results["predict_accuracy"]
    assert (run.steps, run.status) == (state["global_step"], "finished")
    assert run.seconds == results["train_runtime"]
    assert study.recipe_settings["slow"] == {"learning_rate": 1e-5}
    assert study.configuration["num_train_epochs"] == 2
    assert [len(one.pairs) for one in comparisons(study.runs, study.recipes)] == [2]


def test_no_torch_is_needed(real_runs: Path) -> None:
    code = (
        "import sys\n"
        "from hf_stabilizer import read_runs, write_report\n"
        f"write_report(read_runs({str(real_runs)!r}), sys.argv[1])\n"
        "heavy = {'torch', 'transformers', 'datasets', 'accelerate'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    page = real_runs.parent / "page.html"
    subprocess.run([sys.executable, "-c", code, str(page)], check=True, capture_output=True)
    assert "plain" in page.read_text(encoding="utf-8")


def test_arguments_are_read_as_they_were_saved(real_runs: Path) -> None:
    import torch

    path = real_runs / "slow-seed-2" / "training_args.bin"
    saved = torch.load(path, weights_only=False)
    read = read_saved_arguments(path)
    assert read["eval_strategy"] == saved.eval_strategy.value == "steps"
    for key in ("seed", "data_seed", "learning_rate", "metric_for_best_model", "output_dir"):
        assert read[key] == getattr(saved, key)


def test_a_hostile_pickle_is_not_executed(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    path = tmp_path / "training_args.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Hostile()))
    with pytest.raises(StudyError, match="holds no arguments"):
        read_saved_arguments(path)
    assert not (tmp_path / "executed").exists()


def test_the_command_writes_the_page(
    real_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    folders = [
        str(real_runs / f"{name}-seed-{seed}") for name in ("slow", "plain") for seed in "12"
    ]
    main(["report", *folders, "--output", str(page)])
    out = capsys.readouterr().out
    assert "Report:" in out
    text = page.read_text(encoding="utf-8")
    assert text.index("slow") < text.index("plain")  # the first named is the baseline
    assert "hf-stabilizer report" in text


def test_the_command_names_recipes_and_metric(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in (1, 2):
        write_trainer_run(tmp_path / f"a{k}")
    words = ["report", str(tmp_path), "--recipe", "*/a1=first", "--recipe", "*/a*=rest"]
    main([*words, "--metric", "eval_loss"])
    assert "first" in capsys.readouterr().out
    assert "loss" in (tmp_path / "report.html").read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        main([*words, "--metric", "acuracy"])
    assert "did you mean accuracy" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path), "--recipe", "first"])
    assert "must be GLOB=NAME" in capsys.readouterr().err


# --- which scores, by hand


def test_scores_by_hand(tmp_path: Path) -> None:
    results = {"test_accuracy": 0.75, "train_runtime": 12.5, "epoch": 3.0}
    write_trainer_run(tmp_path / "bert-seed-5", results=results)
    (run,) = read_runs(tmp_path / "bert-seed-5", metric="accuracy").runs
    assert run.recipe == "bert"
    assert (run.best_score, run.last_score, run.test_score) == (0.8, 0.7, 0.75)
    assert (run.seconds, run.steps, dict(run.seeds)) == (12.5, 30, {"seed": 5})
    assert run.evaluations[0] == (10, {"accuracy": 0.6, "loss": 0.4})  # no timings


def test_smaller_is_better_for_a_loss(tmp_path: Path) -> None:
    study = read_runs(write_trainer_run(tmp_path / "a"), metric="loss")
    assert (study.greater_is_better, study.runs[0].best_score) == (False, pytest.approx(0.2))
    turned = read_runs(tmp_path / "a", metric="loss", greater_is_better=True)
    assert turned.runs[0].best_score == pytest.approx(0.4)


@pytest.mark.parametrize(("loaded", "count"), [(None, 2), ("checkpoint-10", 1)])
def test_an_evaluation_after_training_counts_unless_it_repeats_the_best(
    tmp_path: Path, loaded: str | None, count: int
) -> None:
    results = {"eval_accuracy": 0.9, "eval_samples": 24}
    write_trainer_run(
        tmp_path / "a", (0.9,), results=results, state={"best_model_checkpoint": loaded}
    )
    (run,) = read_runs(tmp_path / "a", metric="accuracy").runs
    assert len(run.evaluations) == count
    assert run.evaluations[-1][0] == (30 if count == 2 else 10)
    assert "samples" not in run.evaluations[-1][1]


def test_results_alone_are_enough(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "eval_results.json").write_text('{"eval_f1": 0.5, "epoch": 1.0}')
    study = read_runs(tmp_path, metric="f1")
    assert [(run.score, run.status) for run in study.runs] == [(0.5, "finished")]


def test_the_newest_checkpoint_stands_in_for_the_state(tmp_path: Path) -> None:
    for step in (10, 30, 20):
        write_trainer_run(tmp_path / "a" / f"checkpoint-{step}", steps=step)
    for named in (tmp_path, tmp_path / "a", tmp_path / "a" / "checkpoint-10"):
        (run,) = read_runs(named, metric="accuracy").runs
        assert (run.steps, run.status, run.recipe) == (30, "finished", "a")


# --- which metric


def test_which_metric_is_asked_where_nothing_says_it(tmp_path: Path) -> None:
    write_trainer_run(tmp_path / "a")
    question = "which metric decides.*no metric_for_best_model.*one of accuracy, loss"
    with pytest.raises(ConfigurationError, match=question):
        read_runs(tmp_path)


def test_a_lone_loss_needs_no_question(tmp_path: Path) -> None:
    write_trainer_run(tmp_path / "a", history=[{"step": 30, "eval_loss": 0.5}])
    study = read_runs(tmp_path)
    assert (study.metric, study.greater_is_better) == ("loss", False)


# --- which recipes and seeds


@pytest.mark.parametrize(
    ("path", "recipe", "seeds"),
    [
        ("llrd-seed-3", "llrd", {"seed": 3}),
        ("swa/seed_3", "swa", {"seed": 3}),
        ("swa/run-7", "swa", {}),
        ("llrd-0.95/7", "llrd-0.95", {}),
        ("a/head1-data2-dropout3", "a", {"head_seed": 1, "data_seed": 2, "seed": 3}),
        ("bert_data_seed=2_seed=4", "bert", {"data_seed": 2, "seed": 4}),
        ("roberta-v2", "roberta-v2", {}),
        ("seed12/ema", "ema", {"seed": 12}),
        ("birdseed-9", "birdseed-9", {}),
        ("dropout0.1", "dropout0.1", {}),
    ],
)
def test_recipes_and_seeds_from_names(
    tmp_path: Path, path: str, recipe: str, seeds: dict[str, int]
) -> None:
    write_trainer_run(tmp_path / "runs" / path)
    (run,) = read_runs(tmp_path, metric="accuracy").runs
    assert (run.recipe, dict(run.seeds)) == (recipe, seeds)


def test_the_model_card_tells_the_seed(tmp_path: Path) -> None:
    write_trainer_run(tmp_path / "a")
    (tmp_path / "a" / "README.md").write_text("- learning_rate: 5e-05\n- seed: 17\n")
    assert dict(read_runs(tmp_path, metric="accuracy").runs[0].seeds) == {"seed": 17}


def test_a_name_is_believed_over_the_default_seed(real_runs: Path, tmp_path: Path) -> None:
    import torch

    arguments = torch.load(real_runs / "slow-seed-2" / "training_args.bin", weights_only=False)
    arguments.seed = 42  # as in a script that seeds by itself
    for name in ("a-seed-7", "b"):
        write_trainer_run(tmp_path / name)
        torch.save(arguments, tmp_path / name / "training_args.bin")
    seeds = [dict(run.seeds) for run in read_runs(tmp_path, metric="accuracy").runs]
    assert seeds == [{"seed": 7}, {"seed": 42}]


def test_equal_seeds_of_one_recipe_count_as_unknown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for place in ("x", "y"):
        write_trainer_run(tmp_path / place / "plain-seed-1")
        write_trainer_run(tmp_path / place / "llrd-seed-1")
    study = read_runs(tmp_path, metric="accuracy")
    assert [dict(run.seeds) for run in study.runs] == [{}] * 4
    assert "recipe plain has 2 runs with seed 1" in caplog.text
    render(study)


def test_runs_of_a_recipe_that_differ_in_more_than_seeds_are_named(
    real_runs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read_runs(real_runs, recipe={"*": "all"})
    assert "the runs of all differ in learning_rate, not in their seeds alone" in caplog.text


def test_a_glob_that_fits_nothing_is_an_error(tmp_path: Path) -> None:
    write_trainer_run(tmp_path / "a")
    with pytest.raises(ConfigurationError, match=r"glob '\*b' decides for no run"):
        read_runs(tmp_path, metric="accuracy", recipe={"*b": "b"})


# --- what failed


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"steps": 20}, "no final results: its state ends at step 20 of 30"),
        ({"history": [{"step": 30, "loss": math.nan}]}, "training loss at step 30 is nan"),
        (
            {"history": [{"step": 30, "loss": 0.0, "grad_norm": math.nan}]},
            "gradient norm at step 30 is nan",
        ),
        (
            {"history": [{"step": 30, "eval_accuracy": 0.5, "eval_loss": math.nan}]},
            "validation loss at step 30 is nan",
        ),
        (
            {"history": [{"step": 8, "stability/collapsed": 8, "reason": "one answer"}]},
            "collapsed: one answer",
        ),
        ({"history": []}, "it was never evaluated"),
        ({"history": [{"step": 30, "eval_f1": 1}]}, "accuracy was never evaluated, only f1"),
        ({"history": [{"step": 30, "eval_accuracy": math.nan}]}, "accuracy was never a number"),
    ],
)
def test_failed_runs_are_named_with_the_reason(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    write_trainer_run(tmp_path / "good-seed-1")
    write_trainer_run(tmp_path / "bad-seed-1", **change)
    study = read_runs(tmp_path, metric="accuracy")
    bad, good = study.runs
    assert (good.status, bad.status) == ("finished", "failed")
    assert reason in bad.reason
    assert reason in render(study).replace("&#39;", "'")


STOPPED = {"should_training_stop": True}


@pytest.mark.parametrize(
    "sign",
    [
        {"results": {"train_loss": 0.5}},
        {"state": {"stateful_callbacks": {"TrainerControl": {"args": STOPPED}}}},
        {"history": [{"step": 20, "eval_accuracy": 0.5}, {"step": 20, "train_runtime": 3.0}]},
    ],
)  # fmt: skip
def test_a_run_that_ended_early_on_purpose_has_not_failed(
    tmp_path: Path, sign: dict[str, Any]
) -> None:
    write_trainer_run(tmp_path / "a", steps=20, **sign)
    assert read_runs(tmp_path, metric="accuracy").runs[0].status == "finished"


@pytest.mark.parametrize("content", ["{", "[1]", '{"global_step": "x"}', '{"log_history": [{}]}'])
def test_a_broken_state_is_named_and_the_others_are_read(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_trainer_run(tmp_path / "good-seed-1")
    path = write_trainer_run(tmp_path / "good-seed-2") / "trainer_state.json"
    path.write_text(content)
    study = read_runs(tmp_path, metric="accuracy")
    assert [run.status for run in study.runs] == ["finished", "failed"]
    (note,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert note.startswith(f"{path} cannot be read")
    assert str(path) in study.runs[1].reason


def test_broken_results_leave_the_state(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_trainer_run(tmp_path / "a")
    (tmp_path / "a" / "all_results.json").write_text("nonsense")
    (tmp_path / "a" / "training_args.bin").write_bytes(b"PK")
    (run,) = read_runs(tmp_path, metric="accuracy").runs
    assert (run.status, run.score) == ("finished", 0.8)
    assert "all_results.json cannot be read" in caplog.text
    assert "training_args.bin cannot be read" in caplog.text


def test_folders_without_runs(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no such folder"):
        read_runs(tmp_path / "nowhere")
    with pytest.raises(StudyError, match=r"no trainer_state\.json"):
        read_runs(tmp_path)


# --- our own studies


def own_study(folder: Path) -> Path:
    for recipe, seed in itertools.product(("plain", "swa"), (1, 2)):
        seeds = dict.fromkeys(("head_seed", "data_seed", "seed"), seed)
        evaluations = ((10, {"f1": 0.5 + seed / 10, "loss": 0.5}),)
        run = Run(recipe, seeds, "finished", evaluations=evaluations, metric="f1",
                  best_score=0.5 + seed / 10, test_score=0.4)  # fmt: skip
        write_run(run, folder / "runs" / recipe / run.name / "run.json")
    definition = Study("mine", ("swa", "plain"), (), "f1", True, command="again").definition()
    (folder / "study.json").write_text(json.dumps(definition))
    return folder


def test_a_study_of_ours_reads_as_from_its_folder(tmp_path: Path) -> None:
    folder = own_study(tmp_path / "mine")
    assert read_runs(folder) == Study.from_folder(folder)


def test_a_broken_record_of_ours_is_a_failed_run(tmp_path: Path) -> None:
    folder = own_study(tmp_path / "mine")
    path = folder / "runs" / "swa" / "head1-data1-dropout1" / "run.json"
    path.write_text("{")
    study = read_runs(folder)
    failed = [run for run in study.runs if run.status == "failed"]
    assert [(run.recipe, run.seeds["head_seed"]) for run in failed] == [("swa", 1)]
    assert str(path) in failed[0].reason


def test_a_study_of_ours_beside_runs_of_others(tmp_path: Path) -> None:
    own_study(tmp_path / "mine")
    history = [{"step": 30, "eval_f1": 0.9}]
    write_trainer_run(tmp_path / "theirs-seed-1", history=history)
    study = read_runs([tmp_path / "mine", tmp_path / "theirs-seed-1"])
    assert study.recipes == ("plain", "swa", "theirs")
    assert study.metric == "f1"
    other = read_runs([tmp_path / "mine", tmp_path / "theirs-seed-1"], metric="f1",
                      greater_is_better=False)  # fmt: skip
    assert not any(run.greater_is_better for run in other.runs)


def test_a_study_of_ours_by_another_metric_has_no_test_score(tmp_path: Path) -> None:
    study = read_runs(own_study(tmp_path / "mine"), metric="loss")
    assert {(run.best_score, run.test_score) for run in study.runs} == {(0.5, None)}


# --- without seeds


FIRST = [0.61, 0.64, 0.58, 0.66, 0.60]
SECOND = [0.70, 0.72, 0.69, 0.75]


def unpaired_study() -> Study:
    runs = [
        Run(recipe, {}, "finished", metric="f1", best_score=score)
        for recipe, scores in (("plain", FIRST), ("llrd", SECOND))
        for score in scores
    ]
    return Study("found", ("plain", "llrd"), tuple(runs), "f1", True)


def test_unpaired_statistics_equal_the_slow_ones() -> None:
    p = permutation_p_value(FIRST, SECOND)
    assert p == pytest.approx(reference.permutation_p_value(FIRST, SECOND))
    assert p == pytest.approx(2 / math.comb(9, 4))  # all of one lie above all of the other
    low, high = permutation_interval(FIRST, SECOND)
    inside, outside = 1e-6, -1e-6
    for edge, sign in ((low, 1), (high, -1)):
        for shift, rejected in ((inside, False), (outside, True)):
            moved = [score - edge - sign * shift for score in SECOND]
            assert (reference.permutation_p_value(FIRST, moved) <= 0.05) == rejected
    assert superiority_of_unpaired(FIRST, SECOND) == 1.0


def test_drawn_choices_agree_with_all() -> None:
    import scipy.stats

    first, second = [math.sin(k) for k in range(12)], [math.cos(k) + 0.6 for k in range(12)]
    theirs = scipy.stats.permutation_test(
        (first, second), lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        n_resamples=20_000, rng=1, vectorized=True,
    )  # fmt: skip
    assert permutation_p_value(first, second) == pytest.approx(theirs.pvalue, abs=0.012)


def test_a_verdict_without_pairs_says_so() -> None:
    study = unpaired_study()
    sentence = verdict(study)
    assert sentence.startswith("llrd beats plain by 0.097 f1: 0.715 against 0.618 (95 % interval")
    assert "p = 0.016, 5 and 4 unpaired runs" in sentence
    page = render(study)
    assert "Runs are not paired: their seeds are unknown" in page
    assert "Seed by seed" not in page


def test_too_few_unpaired_runs_claim_nothing() -> None:
    study = unpaired_study()
    few = dataclasses.replace(study, runs=(*study.of("plain")[:3], *study.of("llrd")[:3]))
    assert "3 and 3 unpaired runs cannot reach p < 0.05" in verdict(few)
    (one,) = comparisons(few.runs, few.recipes)
    assert "3 and 3 unpaired runs" in one.words
    assert one.interval is None


def test_runs_without_seeds_beside_pairs_are_left_out_and_counted() -> None:
    runs = [Run(r, {"seed": s}, "finished", best_score=s / 10) for r in "ab" for s in range(6)]
    runs.append(Run("b", {}, "finished", best_score=0.9))
    (one,) = comparisons(runs, "ab")
    assert (len(one.pairs), one.dropped, one.unpaired) == (6, 1, None)


def test_moving_the_folder_keeps_the_best_checkpoint(tmp_path: Path) -> None:
    state = {"best_model_checkpoint": "/gone/a/checkpoint-20"}
    write_trainer_run(tmp_path / "a", state=state)
    assert read_runs(tmp_path, metric="accuracy").runs[0].checkpoint is None
    (tmp_path / "a" / "checkpoint-20").mkdir()
    moved = shutil.move(tmp_path / "a", tmp_path / "b")
    (run,) = read_runs(moved, metric="accuracy").runs
    assert run.checkpoint == str(tmp_path / "b" / "checkpoint-20")


def test_no_folder_at_all_is_no_study() -> None:
    with pytest.raises(ConfigurationError, match="folders is empty; name one folder or more"):
        read_runs([])


@pytest.mark.parametrize(
    ("folders", "options", "message"),
    [
        (3, {}, "folders must be paths of folders, got 3"),
        (None, {}, "folders must be paths of folders, got None"),
        (["runs", 3], {}, "folders must be paths of folders, got 3"),
        (b"runs", {}, "folders must be paths of folders, got b'runs'"),
        ("runs", {"metric": 3}, "metric must be the name of a metric, got 3"),
        ("runs", {"greater_is_better": "yes"}, "greater_is_better must be True or False"),
        ("runs", {"recipe": ["llrd"]}, "recipe must be a mapping from globs to names"),
    ],
    ids=str,
)
def test_refusal_arguments_of_another_kind(folders: Any, options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_runs(folders, **options)
