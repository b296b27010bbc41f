"""Which executor a name stands for, what its workers see, and launchers of several processes."""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from hf_stabilizer import run_study
from hf_stabilizer.cli import main
from hf_stabilizer.errors import ConfigurationError, MissingDependencyError, StudyError
from hf_stabilizer.records import Run, read_run
from hf_stabilizer.studies.executors import open_executor as opening
from hf_stabilizer.studies.executors.elsewhere import DistantFuture, call_alone
from hf_stabilizer.studies.executors.in_process import InProcess
from hf_stabilizer.studies.executors.launched import LaunchingExecutor
from hf_stabilizer.studies.executors.local_workers import LocalWorkers, WorkerDiedError
from hf_stabilizer.studies.executors.open_executor import open_executor
from hf_stabilizer.studies.executors.place import Engine
from hf_stabilizer.studies.executors.ranks import FAILED, first_to_fail, on_first
from hf_stabilizer.studies.executors.shared_folder import check_shared


def fail() -> None:
    raise ValueError("on purpose")


def device() -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")


# ---- memory


def test_out_of_memory_of_one_run_leaves_room_for_the_next(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import Trainer

    models: list[weakref.ref[Any]] = []
    alive: list[int] = []
    step = Trainer.training_step

    def sometimes(self: Trainer, model: Any, *args: Any, **kwargs: Any) -> Any:
        if not any(ref() is model for ref in models):
            alive.append(sum(ref() is not None for ref in models))
            models.append(weakref.ref(model))
        if self.args.data_seed == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return step(self, model, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", sometimes)
    gc.disable()  # what is freed is freed by us
    try:
        del config["output_dir"]
        found = run_study(
            {**config, "max_steps": 3}, runs=2, output_dir=tmp_path / "s", executor="in-process"
        )
    finally:
        gc.enable()
    assert found.runs[0].status == "failed"
    assert found.runs[0].reason.startswith("OutOfMemoryError: CUDA out of memory")
    assert found.runs[1].score is not None
    assert alive == [0, 0]


# ---- names


def test_names_stand_for_executors() -> None:
    with open_executor(None, workers=1) as local:
        assert isinstance(local, LocalWorkers)
    with open_executor("in-process", workers=None) as here:
        assert isinstance(here, InProcess)


def test_an_executor_of_ones_own_is_left_open() -> None:
    with ThreadPoolExecutor(1) as own:
        with open_executor(own, workers=None) as given:
            assert given is own
        assert own.submit(os.getpid).result() == os.getpid()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"executor": "slurm"},
            "executor must be one of local, ray, dask, in-process, got 'slurm'",
        ),
        ({"executor": "desk"}, "did you mean dask"),
        ({"workers": 0}, "workers must be a whole number of processes from 1 up, got 0"),
        ({"executor": "local", "address": "tcp://h:1"}, "address 'tcp://h:1' is that of a cluster"),
        ({"executor": "in-process", "workers": 2}, "'in-process' says itself how many"),
        ({"executor": "dask", "workers": 2, "address": "tcp://h:1"}, "cluster at 'tcp://h:1' says"),
        ({"launcher": "accelrate launch"}, "there is no program 'accelrate'"),
        ({"launcher": " "}, "there is no program ''"),
        ({"launcher": "env 'x"}, "cannot be read: No closing quotation"),
        ({"launcher": "env", "workers": 2}, "one run at a time, on this machine"),
        ({"launcher": "env", "executor": "ray"}, "one run at a time, on this machine"),
    ],
    ids=str,
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Engine(**options).check()


@pytest.mark.parametrize(("name", "package"), [("ray", "ray"), ("dask", "distributed")])
def test_refusal_an_engine_that_is_not_installed(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(opening, "find_spec", lambda n: None if n == package else find(n))
    with pytest.raises(MissingDependencyError, match=rf"pip install 'hf_stabilizer\[{name}\]'"):
        Engine(executor=name).check()


def exit_code(words: list[str]) -> Any:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return ended.value.code


def test_refusals_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text("model_name_or_path: x\n")
    words = ["study", str(tmp_path / "c.yaml"), "--output-dir", str(tmp_path / "s")]
    assert exit_code([*words, "--executor", "slurm"]) == 2
    assert "executor must be one of local, ray, dask, in-process" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
    words = ["study", "--command", "python x.py {seed} {output_dir}", "--output-dir", "s3://b/s"]
    assert exit_code(words) == 2
    assert "a script writes into a folder" in capsys.readouterr().err
    assert exit_code([*words, "--launcher", "env"]) == 2
    assert "put the launcher into it" in capsys.readouterr().err


# ---- folders that not all see


class ElsewhereRooted(ThreadPoolExecutor):
    """Workers on another machine: the same path leads into another folder."""

    workers = 3

    def __init__(self, root: Path):
        super().__init__(1)
        self.root = root

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return super().submit(fn, *(f"{self.root}{path}" for path in args), **kwargs)


def test_a_folder_that_all_see_is_taken(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        check_shared(pool, tmp_path)
    assert not list(tmp_path.iterdir())


def test_refusal_a_folder_that_workers_do_not_see(tmp_path: Path) -> None:
    with (
        ElsewhereRooted(tmp_path / "there") as pool,
        pytest.raises(StudyError, match="3 of 3 workers do not see the folder"),
    ):
        check_shared(pool, tmp_path)
    assert not list(tmp_path.iterdir())


def test_refusal_workers_that_cannot_be_used(tmp_path: Path) -> None:
    class Broken(ThreadPoolExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            return super().submit(fail)

    with Broken(1) as pool, pytest.raises(StudyError, match="ValueError: on purpose; is this"):
        check_shared(pool, tmp_path)


# ---- futures and calls


def test_a_distant_future_can_be_given_up_only_before_it_has_begun() -> None:
    told: list[str] = []
    early, late = (DistantFuture[int](lambda: told.append("given up")) for _ in range(2))
    assert early.cancel()
    assert early.cancel()  # as every future says of one that is cancelled
    assert told == ["given up"]
    assert wait([early], timeout=1).done == {early}
    late.begin()
    late.begin()
    assert late.running()
    assert not late.cancel()
    late.end(lambda: 3)
    early.end(lambda: 3)
    late.end(lambda: 4)
    assert (late.result(), early.cancelled()) == (3, True)


def test_a_call_has_one_thread_and_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, "8")
    answer = call_alone(device, (), {}, environment={"CUDA_VISIBLE_DEVICES": "1"})
    assert (answer, os.environ["OMP_NUM_THREADS"]) == ("1", "1")


# ---- several processes for one run


def test_alone_everything_is_done_by_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FAILED, raising=False)
    first_to_fail()
    assert on_first(pow, 2, 3) == 8
    with pytest.raises(ValueError, match="on purpose"):
        on_first(fail)


def test_a_launched_call(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`env python` launches one process."""
    launcher = f"/usr/bin/env {sys.executable}"
    with LaunchingExecutor(launcher) as pool, caplog.at_level(logging.WARNING):
        assert pool.submit(max, 1, 2).result() == 2
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 1, 0).result()
        with pytest.raises(WorkerDiedError, match="ended without a result: exit code 9"):
            pool.submit(os._exit, 9).result()
    assert [record.getMessage()[:45] for record in caplog.records] == [
        f"the launcher `{launcher}` starts one process for a run"[:45]
    ]


TWO = "accelerate launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no"
TWO += " --dynamo_backend no"


def numbers(run: Run) -> tuple[Any, ...]:
    return run.evaluations, run.best_score, run.test_score, run.steps


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_processes_train_as_accelerate_launch_train(
    config: dict[str, Any], tmp_path: Path
) -> None:
    """Stopped early, and equal to runs that `accelerate launch -m hf_stabilizer train` makes."""
    from ruamel.yaml import YAML

    del config["output_dir"]
    path = tmp_path / "c.yaml"
    YAML(typ="safe", pure=True).dump(config, path)
    words = ["--runs", "3", "--stop-at", "0.5", "--keep", "1", "--output-dir", str(tmp_path / "s")]
    study = ["study", str(path), "--recipes", "plain", *words, "--launcher", TWO]
    main(study)
    records = sorted((tmp_path / "s").glob("runs/*/*/run.json"))
    runs = [read_run(record) for record in records]
    (survivor,) = [run for run in runs if run.status != "stopped"]
    assert sum(run.status == "stopped" for run in runs) == 2
    for run, record in zip(runs, records, strict=True):
        left = {p.name for p in record.parent.glob("checkpoint-*")}
        assert left == (set() if run is survivor else {f"checkpoint-{run.steps}"})
        for rank in (0, 1) if left else ():
            assert (record.parent / f"checkpoint-{run.steps}" / f"rng_state_{rank}.pth").exists()
    seeds = [f"--{name}={value}" for name, value in survivor.seeds.items()]
    program = [str(Path(sys.executable).parent / "accelerate"), *TWO.split()[1:]]
    alone = ["-m", "hf_stabilizer", "train", str(path), "--output-dir", str(tmp_path / "alone")]
    subprocess.run([*program, *alone, *seeds], check=True, capture_output=True, timeout=800)
    assert numbers(read_run(tmp_path / "alone" / "run.json")) == numbers(survivor)
