"""Many started, few continued: halted and resumed to the bit, ranked, started again, refused."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hf_stabilizer import last_complete_checkpoint, run_study
from hf_stabilizer.cli import main
from hf_stabilizer.configuration import load_configuration
from hf_stabilizer.errors import ConfigurationError, StudyError
from hf_stabilizer.records import Run, read_run
from hf_stabilizer.run import prepare_data
from hf_stabilizer.studies.configured_run import ConfiguredRun
from hf_stabilizer.studies.early_stopping.choosing import choose
from hf_stabilizer.studies.early_stopping.halt_check import check_halt
from hf_stabilizer.studies.early_stopping.halting import reopen
from hf_stabilizer.studies.early_stopping.stopping import Stopping
from hf_stabilizer.studies.events import EventLog, read_events
from hf_stabilizer.studies.executors.local_workers import WorkerDiedError
from hf_stabilizer.studies.full_disk import is_disk_full
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.worker import run_first_part, run_once, run_rest
from tests.conftest import tiny_study
from tests.waiting import until, workers_of

PAIR = ["plain", "stabilised"]
STEPS, HALT = 8, 3
STOP = {"stop_at": 0.375, "keep": 2}


@pytest.fixture(scope="module")
def tiny(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Eight steps of which one, three, five, seven and the last are evaluated."""
    return tiny_study(
        model_folder, tmp_path_factory.mktemp("rows"), max_steps=STEPS, evaluations_per_epoch=2
    )


def study(config: dict[str, Any], folder: Path, **options: Any) -> Study:
    """A study in this process, one run after the other."""
    values: dict[str, Any] = {"recipes": ["plain"], "runs": 3, "output_dir": folder, **options}
    with ThreadPoolExecutor(max_workers=1) as executor:
        return run_study(config, **{"executor": executor, **values})


@pytest.fixture(scope="module")
def straight(tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Study:
    """All runs to the end."""
    return study(tiny, tmp_path_factory.mktemp("straight") / "s", recipes=PAIR)


@pytest.fixture(scope="module")
def early_folder(tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that stopped early, to be looked at."""
    folder = tmp_path_factory.mktemp("early") / "s"
    said = Console(file=io.StringIO(), width=300)
    study(tiny, folder, recipes=PAIR, console=said, **STOP)
    assert isinstance(said.file, io.StringIO)
    (folder.parent / "said.txt").write_text(said.file.getvalue())
    return folder


@pytest.fixture
def early(early_folder: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    shutil.copytree(early_folder, tmp_path / "s")
    return tmp_path / "s"


def numbers(run: Run) -> tuple[Any, ...]:
    return run.evaluations, run.best_score, run.last_score, run.test_score, run.steps


def by_name(found: Study) -> dict[tuple[str, str], Run]:
    return {(run.recipe, run.name): run for run in found.runs}


def files_of(folder: Path) -> dict[str, int]:
    names = ("run.json", "halted.json")
    return {
        str(path): path.stat().st_mtime_ns
        for name in names
        for path in sorted(folder.glob(f"runs/*/*/{name}"))
    }


# ---- halted and resumed


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"fit_head": True, "reinit_pooler": "identity"},
        {"averaging": "ema", "averaging_start": 2, "ema_decay": 0.8},
        {"averaging": "swa", "averaging_start": 2, "divergence_guard": "raise"},
        {"gradual_unfreezing": 0.6, "layer_lr": "llrd"},
        {"eval_strategy": "steps", "eval_steps": 3, "evaluations_per_epoch": 0},
        {"eval_strategy": "epoch", "max_steps": -1, "num_train_epochs": 2, "stop_at": 0.5},
        {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 1},
        {"save_strategy": "no"},
    ],
    ids=lambda options: "-".join(map(str, options)) or "plain",
)
def test_a_halted_run_goes_on_as_if_it_never_had_been(
    tiny: dict[str, Any], tmp_path: Path, options: dict[str, Any]
) -> None:
    stop_at = options.get("stop_at", STOP["stop_at"])
    given = {key: value for key, value in options.items() if key != "stop_at"}
    configuration = load_configuration({**tiny, **given})
    data = tmp_path / "data"
    prepare_data(configuration).save_to(data)
    trainable = ConfiguredRun(configuration, str(data))
    whole = run_once(trainable, str(tmp_path / "whole"))
    path = tmp_path / "halted"
    half = run_first_part(trainable, str(path), stop_at)
    assert (half.status, half.checkpoint) == ("stopped", f"checkpoint-{half.steps}")
    assert [p.name for p in path.glob("checkpoint-*")] == [half.checkpoint]
    assert last_complete_checkpoint(path) == str(path / half.checkpoint)
    # A kill in the middle of the rest: it begins again at the halt.
    checkpoint = reopen(path)
    assert checkpoint is not None
    (path / "checkpoint-99").mkdir()
    rest = run_rest(trainable, str(path))
    assert whole.status in ("finished", "failed"), whole.reason
    assert numbers(rest) == numbers(whole)
    assert rest.configuration == whole.configuration
    assert not (path / "halted").exists()
    weights = "model/model.safetensors"
    assert (path / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()


def test_a_run_whose_checkpoint_is_damaged_begins_anew(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    configuration = load_configuration(tiny)
    prepare_data(configuration).save_to(tmp_path / "data")
    trainable = ConfiguredRun(configuration, str(tmp_path / "data"))
    half = run_first_part(trainable, str(tmp_path / "run"), 0.375)
    (tmp_path / "run" / str(half.checkpoint) / "optimizer.pt").unlink()
    run = run_rest(trainable, str(tmp_path / "run"))
    assert run.steps == STEPS
    assert numbers(run) == numbers(run_once(trainable, str(tmp_path / "whole")))


# ---- whole studies


def test_survivors_equal_runs_that_never_stopped(early_folder: Path, straight: Study) -> None:
    found = by_name(Study.from_folder(early_folder))
    assert found.keys() == by_name(straight).keys()
    for recipe in PAIR:
        gone_on = [run for (r, _), run in found.items() if r == recipe and run.steps == STEPS]
        assert len(gone_on) == STOP["keep"]
        for run in gone_on:
            other = by_name(straight)[recipe, run.name]
            assert numbers(run) == numbers(other)
            assert (run.status, run.reason) == (other.status, other.reason)
            assert (
                run.seconds
                > read_run(early_folder / "runs" / recipe / run.name / "halted.json").seconds
            )


def test_the_best_so_far_go_on_and_the_rest_is_stopped(early_folder: Path, straight: Study) -> None:
    for recipe in PAIR:
        runs = Study.from_folder(early_folder).of(recipe)
        stopped = [run for run in runs if run.status == "stopped"]
        assert len(stopped) == 1
        (run,) = stopped
        assert run.steps == HALT
        assert run.reason.startswith(f"rank 3 of 3 at step {HALT} with accuracy ")
        assert run.evaluations == by_name(straight)[recipe, run.name].evaluations[:1]
        assert run.test_score is None
        folder = early_folder / "runs" / recipe / run.name
        assert [p.name for p in folder.glob("checkpoint-*")] == [run.checkpoint]
        assert last_complete_checkpoint(folder) == str(folder / f"checkpoint-{HALT}")
        others = [r for r in runs if r is not run]
        worst = min(by_name(straight)[recipe, r.name].evaluations[0][1]["accuracy"] for r in others)
        assert worst >= run.evaluations[0][1]["accuracy"]


def test_what_survives_keeps_only_its_result(early_folder: Path) -> None:
    for recipe in PAIR:
        assert len(list(early_folder.glob(f"runs/{recipe}/*/model"))) == 1
        finished = [
            path.parent
            for path in early_folder.glob(f"runs/{recipe}/*/run.json")
            if read_run(path).status != "stopped"
        ]
        for folder in finished:
            assert not list(folder.rglob("checkpoint-*"))


def test_the_cost_is_said_before_and_after(early_folder: Path) -> None:
    said = (early_folder.parent / "said.txt").read_text()
    # 3 runs x .375 + 2 x .625 = 2.375; steps taken: 3 + 8 + 8 of 8 each.
    assert "Plan: 3 runs to 0.375 of their steps, the best 2 to the end: 2.375 full runs" in said
    assert "Probe: about " in said
    assert " MB on disk" in said
    assert "Cost: plain 2.375 full runs, not 3; stabilised 2.375 full runs, not 3; " in said
    assert said.index("Plan") < said.index("Probe") < said.index("[1/6]") < said.index("Cost")


def test_what_happened_when_is_written_down(early_folder: Path) -> None:
    events = read_events(early_folder)
    names = [event.event for event in events]
    assert names[0] == "opened"
    assert names[-1] == "closed"
    assert {name: names.count(name) for name in set(names)} | {"finished": 0, "failed": 0} == {
        "opened": 1, "started": 6, "halted": 6, "chosen": 4, "stopped": 2, "resumed": 4,
        "closed": 1, "finished": 0, "failed": 0,
    }  # fmt: skip
    assert [event.time for event in events] == sorted(event.time for event in events)
    (rank,) = {event.details["rank"] for event in events if event.event == "stopped"}
    assert rank == 3


def test_keeping_all_is_not_stopping(tiny: dict[str, Any], tmp_path: Path, straight: Study) -> None:
    found = study(tiny, tmp_path / "s", runs=2, stop_at=0.375, keep=2)
    assert [numbers(run) for run in found.runs] == [numbers(r) for r in straight.of("plain")[:2]]
    assert [run.status for run in found.runs] == [r.status for r in straight.of("plain")[:2]]


def test_started_again_it_repeats_nothing(early: Path, tiny: dict[str, Any]) -> None:
    before = files_of(early)
    study(tiny, early, recipes=PAIR, **STOP)
    assert files_of(early) == before
    assert [event.event for event in read_events(early)][-2:] == ["opened", "closed"]


def test_a_larger_keep_continues_runs_that_were_stopped(
    early: Path, tiny: dict[str, Any], straight: Study
) -> None:
    found = study(tiny, early, recipes=PAIR, stop_at=0.375, keep=3)
    assert [numbers(run) for run in found.runs] == [numbers(run) for run in straight.runs]
    assert Study.from_folder(early).keep == 3


def test_more_runs_are_ranked_with_those_that_are_there(early: Path, tiny: dict[str, Any]) -> None:
    before = by_name(Study.from_folder(early))
    found = study(tiny, early, runs=4, **STOP)
    assert len(found.of("plain")) == 4
    for run in found.of("plain"):
        old = before.get(("plain", run.name))
        if old is not None and old.status != "stopped":
            assert numbers(run) == numbers(old)
        elif run.status == "stopped":
            assert " of 4 at step 3" in run.reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stop_at": 0.5}, "stop_at was 0.375 and is now 0.5"),
        ({"stop_at": None, "keep": None}, "stop_at was 0.375 and is now None"),
        ({"keep": 1}, "keep was 2 and is now 1; it can only grow"),
        ({"runs": 2}, "runs was 3 and the seeds of 1 of them are not asked for now"),
    ],
    ids=str,
)
def test_refusal_another_way_of_stopping(
    early_folder: Path, tiny: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    before = files_of(early_folder)
    with pytest.raises(StudyError, match=message):
        study(tiny, early_folder, **{"recipes": PAIR, **STOP, **options})
    assert files_of(early_folder) == before


@pytest.mark.parametrize("name", ["run.json", "halted.json"])
def test_a_corrupt_record_is_named(early: Path, tiny: dict[str, Any], name: str) -> None:
    record = early / "runs" / "plain" / "head1-data1-dropout1" / name
    record.write_text('{"recipe": "pl')
    with pytest.raises(StudyError, match=rf"{name} is not the record of a run .* delete it"):
        study(tiny, early, recipes=PAIR, **STOP)
    record.unlink()
    found = study(tiny, early, recipes=PAIR, **STOP)
    assert sum(run.status == "stopped" for run in found.runs) == 2


# ---- workers that die, disks that fill


class Losing(ThreadPoolExecutor):
    """Loses each call with a probability, before or after the worker has done its part."""

    def __init__(self, chance: float, seed: int = 0):
        super().__init__(max_workers=1)
        self.draw, self.chance, self.lost = random.Random(seed), chance, 0
        self.works = chance < 1  # some workers do their part before they die

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        chance = self.chance if fn in (run_first_part, run_rest) else 0.0
        return super().submit(self._call, chance, fn, *args, **kwargs)

    def _call(self, chance: float, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.draw.random() >= chance:
            return fn(*args, **kwargs)
        self.lost += 1
        if self.works and self.draw.random() < 0.5:
            fn(*args, **kwargs)
        elif fn is run_rest:
            reopen(Path(args[1]))
        raise WorkerDiedError("killed")


def test_lost_runs_are_tried_again(
    tiny: dict[str, Any], tmp_path: Path, early_folder: Path
) -> None:
    with Losing(0.3, seed=9) as executor:
        found = study(tiny, tmp_path / "s", executor=executor, **STOP)
    assert executor.lost > 1
    calm = Study.from_folder(early_folder).of("plain")
    assert [numbers(run) for run in found.runs] == [numbers(run) for run in calm]
    assert [run.status for run in found.runs] == [run.status for run in calm]
    events = read_events(tmp_path / "s")
    assert 0 < sum(event.event == "lost" for event in events) < executor.lost
    assert sum(event.event == "halted" for event in events) == 3  # no part that ended was repeated
    assert not list((tmp_path / "s").glob("runs/*/*/halted"))


def test_a_run_that_is_always_lost_is_recorded_and_repeated_at_the_next_start(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    with Losing(1.0) as executor:
        found = study(tiny, tmp_path / "s", runs=1, stop_at=0.375, keep=1, executor=executor)
    assert executor.lost == 3
    assert found.runs[0].status == "failed"
    assert found.runs[0].reason == "WorkerDiedError: killed"
    again = study(tiny, tmp_path / "s", runs=1, stop_at=0.375, keep=1)
    assert again.runs[0].steps == STEPS


def test_a_run_that_fails_ranks_last_and_the_others_go_on(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import Trainer

    step = Trainer.training_step

    def sometimes(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        if self.args.data_seed == 1 and self.state.global_step == 1:
            raise RuntimeError("CUDA out of memory")
        return step(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", sometimes)
    failed, *others = study(tiny, tmp_path / "s", **STOP).runs
    assert (failed.status, failed.reason) == ("failed", "RuntimeError: CUDA out of memory")
    assert [run.steps for run in others] == [STEPS, STEPS]


@pytest.mark.parametrize("at", [HALT, STEPS - 1], ids=["first part", "rest"])
def test_a_full_disk_ends_the_study_and_no_run(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int,
    early_folder: Path,
) -> None:  # fmt: skip
    from transformers import Trainer

    save = Trainer._save_checkpoint

    def full(self: Trainer, *args: Any, **kwargs: Any) -> None:
        if self.state.global_step >= at and self.args.data_seed == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(self, *args, **kwargs)

    folder = tmp_path / "s"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save_checkpoint", full)
        patch.setattr(Trainer, "save_model", full_model(Trainer.save_model, at))
        with pytest.raises(StudyError, match="make room and start the study again"):
            study(tiny, folder, runs=3, stop_at=0.375, keep=3)
    assert not (folder / "runs/plain/head3-data3-dropout3/run.json").exists()
    found = study(tiny, folder, runs=3, stop_at=0.375, keep=3)
    done = [run for run in Study.from_folder(early_folder).of("plain") if run.status != "stopped"]
    names = {run.name: run for run in found.runs}
    assert [numbers(names[run.name]) for run in done] == [numbers(run) for run in done]


def full_model(save: Callable[..., None], at: int) -> Callable[..., None]:
    def full(self: Any, *args: Any, **kwargs: Any) -> None:
        if self.state.global_step >= at and self.args.data_seed == 3:
            raise RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")
        save(self, *args, **kwargs)

    return full


def test_a_full_disk_is_told_from_other_errors() -> None:
    inner = OSError(errno.EDQUOT, "Disk quota exceeded")
    outer = RuntimeError("could not save")
    outer.__cause__ = inner
    assert is_disk_full(outer)
    assert is_disk_full(RuntimeError("I/O error: No space left on device (os error 28)"))
    assert not is_disk_full(OSError(errno.ENOENT, "No such file"))


# ---- ranking, events, doors


def ranked(*scores: float | None, greater: bool = True, reasons: tuple[str, ...] = ()) -> list[int]:
    runs = {}
    for seed, score in enumerate(scores, 1):
        seeds = {"head_seed": seed, "data_seed": seed, "seed": seed}
        reason = reasons[seed - 1] if reasons else ""
        runs[Path(str(seed))] = Run(
            "plain", seeds, "stopped", reason, best_score=score, greater_is_better=greater
        )
    return [int(place.folder.name) for place in choose(runs, keep=2)]


def test_ranks_by_hand() -> None:
    assert ranked(0.5, 0.9, 0.7) == [2, 3, 1]
    assert ranked(0.5, 0.9, 0.7, greater=False) == [1, 3, 2]
    assert ranked(0.7, 0.9, 0.7, 0.7) == [2, 1, 3, 4]
    assert ranked(None, 0.1, 0.9, reasons=("", "", "collapsed")) == [2, 1, 3]


def test_a_failed_run_gives_its_place_to_the_next() -> None:
    def run(seed: int, status: Any, score: float | None) -> Run:
        seeds = {"head_seed": seed, "data_seed": seed, "seed": seed}
        return Run("plain", seeds, status, "x" if status == "failed" else "", best_score=score)

    runs = {Path("a"): run(1, "failed", 0.9), Path("b"): run(2, "stopped", None)}
    assert [(r.folder.name, r.is_chosen) for r in choose(runs, keep=1)] == [
        ("b", True), ("a", False),
    ]  # fmt: skip


def test_half_a_line_of_a_killed_process_is_left_out(tmp_path: Path) -> None:
    EventLog(tmp_path).add("opened", runs=3)
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"time": 1.0, "event": "star')
    EventLog(tmp_path).add("started", "plain", "head1", step=1)
    assert [event.event for event in read_events(tmp_path)] == ["opened", "started"]
    assert read_events(tmp_path)[1].details == {"step": 1}
    assert EventLog(tmp_path).has("started", "plain", "head1")
    assert not EventLog(tmp_path).has("started", "plain", "head2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stop_at": 0, "keep": 2}, r"stop_at must be a fraction .* \(0, 1\), got 0;"),
        ({"stop_at": 1.0, "keep": 2}, r"stop_at must be a fraction .* \(0, 1\), got 1.0;"),
        ({"stop_at": float("nan"), "keep": 2}, "got nan"),
        ({"stop_at": 0.3, "keep": 0}, r"keep must be a whole number of runs in \[1, 3\].*, got 0"),
        ({"stop_at": 0.3, "keep": 4}, r"keep must be a whole number of runs in \[1, 3\].*, got 4"),
        ({"stop_at": 0.95, "keep": 1}, "is step 8 of the 8 steps .* nothing is left to stop"),
        (
            {"stop_at": 0.2, "keep": 1, "overrides": {"evaluations_per_epoch": 1}},
            "is step 2 of the 8 steps .*first evaluation comes at step 4.* set "
            "evaluations_per_epoch to 2 or more, or stop_at to 0.5 or more",
        ),
    ],
    ids=str,
)
def test_refusals_come_before_any_run(
    tiny: dict[str, Any], tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        study(tiny, tmp_path / "s", **options)
    assert not (tmp_path / "s").exists()


def test_the_advice_of_the_refusal_is_sound(tiny: dict[str, Any]) -> None:
    prepared = prepare_data(load_configuration(tiny))
    for change, stop_at in (({"evaluations_per_epoch": 2}, 0.25), ({}, 0.5)):
        configuration = load_configuration({**tiny, "evaluations_per_epoch": 1, **change})
        check_halt(configuration, prepared, Stopping(stop_at, 1))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--budget", "10", "--keep", "3"), "and keep 3 says so too"),
        (("--budget", "10", "--runs", "3"), "and runs 3 says so too"),
        (("--budget", "0.5"), "budget must be a number of full runs, 1 or more, got 0.5"),
        (("--budget", "4", "--stop_at", "2"), "got 2.0"),
    ],
    ids=" ".join,
)
def test_refusals_on_the_command_line(
    tiny: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    (tmp_path / "c.yaml").write_text(json.dumps(tiny))
    with pytest.raises(SystemExit) as ended:
        main(["study", str(tmp_path / "c.yaml"), "--output-dir", str(tmp_path / "s"), *words])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


# ---- killed in earnest


def command_of(tiny: dict[str, Any], folder: Path, *words: str) -> list[str]:
    folder.mkdir()
    (folder / "c.yaml").write_text(json.dumps(tiny))
    return [
        sys.executable, "-m", "hf_stabilizer", "study", str(folder / "c.yaml"), "--recipes",
        "plain", "--output-dir", str(folder / "s"), *words,
    ]  # fmt: skip


def kill_some(
    process: subprocess.Popen[bytes], folder: Path, draw: random.Random, *, and_parent: bool
) -> int:
    """Kills two workers, and perhaps the study, each soon after a part of a run has ended.

    Not a third worker: a run that loses its worker three times in one start is given up.
    """
    kills = 0
    for kind in ("worker", "worker", "parent")[: 2 + and_parent]:
        wait_for_another_part(process, folder)
        time.sleep(draw.uniform(0, 0.5))
        if process.poll() is None:
            victims = [process.pid] if kind == "parent" else workers_of(process.pid)
            os.kill(draw.choice(victims), signal.SIGKILL)
            kills += 1
    return kills


def wait_for_another_part(process: subprocess.Popen[bytes], folder: Path) -> None:
    def ended() -> int:
        return sum(event.event in ("halted", "finished") for event in read_events(folder))

    before = ended()
    until(lambda: ended() > before or process.poll() is not None)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twelve_runs_with_kills_at_random_end_as_in_peace(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    """SIGKILL to workers now and then, and twice to the parent, at random moments."""
    words = ("--runs", "12", "--stop-at", "0.375", "--keep", "4", "--workers", "2")
    command = command_of(tiny, tmp_path / "wild", *words)
    draw, folder, kills = random.Random(1), tmp_path / "wild" / "s", 0
    for parent_dies in (True, True, False):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        kills += kill_some(process, folder, draw, and_parent=parent_dies)
        process.wait()
    assert process.returncode == 0
    assert kills >= 4
    calm = study(tiny, tmp_path / "calm", runs=12, stop_at=0.375, keep=4)
    found = Study.from_folder(folder)
    assert [numbers(run) for run in found.runs] == [numbers(run) for run in calm.runs]
    assert [(r.status, r.reason) for r in found.runs] == [(r.status, r.reason) for r in calm.runs]
    started = [(e.recipe, e.run) for e in read_events(folder) if e.event == "halted"]
    assert len(started) == len(set(started))  # no first part that had ended was repeated
