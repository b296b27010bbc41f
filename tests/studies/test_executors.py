"""Workers that live on, and one that dies without taking the others along."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.studies.executors.local_workers import LocalWorkers, WorkerDiedError
from hf_stabilizer.studies.executors.place import Engine, Place
from tests.waiting import until


def process_id(seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return os.getpid()


def meet(folder: Path) -> tuple[int, str | None]:
    """Waits for a call of the same in another process; no time is too short for a busy machine."""
    (folder / str(os.getpid())).touch()
    until(lambda: len(list(folder.iterdir())) > 1)
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")


def threads() -> tuple[int, str]:
    import torch

    return torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]


def die() -> None:
    os._exit(9)


def fail() -> None:
    raise ValueError("on purpose")


def test_a_worker_lives_on_and_has_its_share_of_threads() -> None:
    with LocalWorkers(1) as workers:
        first = workers.submit(process_id).result()
        second = workers.submit(process_id).result()
        assert first == second != os.getpid()
        assert workers.submit(threads).result() == (1, "1")


def test_two_workers_work_side_by_side(tmp_path: Path) -> None:
    with LocalWorkers(2) as workers:
        futures = [workers.submit(meet, tmp_path) for _ in range(4)]
        assert len({future.result() for future in futures}) == 2


def test_a_dead_worker_costs_one_task_and_is_replaced() -> None:
    with LocalWorkers(1) as workers:
        lost = workers.submit(die)
        after = workers.submit(process_id)
        with pytest.raises(WorkerDiedError, match="without an answer"):
            lost.result()
        assert after.result() > 0


def test_an_exception_belongs_to_its_own_task() -> None:
    with LocalWorkers(1) as workers:
        with pytest.raises(ValueError, match="on purpose"):
            workers.submit(fail).result()
        assert workers.submit(process_id).result() > 0


def test_killing_ends_what_runs_and_cancels_what_waits() -> None:
    workers = LocalWorkers(1)
    workers.submit(process_id).result()
    under_way, waiting = workers.submit(process_id, 600), workers.submit(process_id)
    until(under_way.running)
    workers.kill()
    assert isinstance(under_way.exception(timeout=400), WorkerDiedError)
    assert waiting.cancelled()
    with pytest.raises(RuntimeError, match="after shutdown"):
        workers.submit(process_id)


def test_killing_ends_a_worker_that_is_just_being_started() -> None:
    workers = LocalWorkers(1)
    under_way = workers.submit(process_id, 600)
    until(under_way.running)  # its process is being made
    workers.kill()
    assert isinstance(under_way.exception(timeout=400), WorkerDiedError)


def test_no_workers_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="workers must be 1 or more, got 0"):
        LocalWorkers(0)


def test_it_is_an_executor_like_any_other() -> None:
    assert isinstance(LocalWorkers(1), type(ThreadPoolExecutor(1)).__mro__[1])


# ---- warmed up


def readiness() -> tuple[int, bool, bool, str | None]:
    has_imported = "hf_stabilizer.studies.worker" in sys.modules
    return os.getpid(), has_imported, gc.get_freeze_count() > 0, os.environ.get("SAID_BEFORE")


def processes() -> set[int | None]:
    return {child.pid for child in multiprocessing.active_children()}


def test_what_runs_need_is_there_before_the_first_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAID_BEFORE", "yes")
    before = processes()
    with LocalWorkers(1) as workers:
        workers.warm_up()
        (started,) = processes() - before  # it has begun with no task at all
        assert workers.submit(readiness).result() == (started, True, True, "yes")


def test_a_worker_that_is_lost_before_its_first_task_is_replaced() -> None:
    before = processes()
    with LocalWorkers(1) as workers:
        workers.warm_up()
        for child in multiprocessing.active_children():
            if child.pid not in before:
                child.kill()
        with pytest.raises(WorkerDiedError):
            workers.submit(process_id).result()
        assert workers.submit(process_id).result() > 0


@pytest.mark.parametrize(
    ("engine", "runs", "started"),
    [
        (Engine(workers=2), 1, 1),  # no more processes than runs
        (Engine("local", workers=1), 9, 1),
        (Engine(workers=2), 0, 0),
        (Engine("in-process"), 9, 0),
        (Engine(ThreadPoolExecutor(1)), 9, 0),
        (Engine(launcher=f"{sys.executable} -u"), 9, 0),
    ],
)
def test_only_local_workers_that_are_needed_start_early(
    engine: Engine, runs: int, started: int, tmp_path: Path
) -> None:
    before = processes()
    place = Place(tmp_path, engine)

    def cut_short() -> None:
        with place.warmed_up(runs):
            assert len(processes() - before) == started
            if started:
                with place.open() as pool:
                    assert isinstance(pool, LocalWorkers)
                    assert pool.workers == started
                with place.open() as same:  # the end of that block was not its end
                    assert same is pool
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_short()
    until(lambda: processes() <= before)  # one that was killed takes a moment


# ---- devices


def test_each_worker_has_a_gpu_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-7")
    with LocalWorkers() as workers:
        assert workers.workers == 2
        futures = [workers.submit(meet, tmp_path) for _ in range(4)]
        assert sorted({str(future.result()[1]) for future in futures}) == ["3", "GPU-7"]


def test_no_gpu_is_one_worker_to_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2})
    pool = LocalWorkers()
    assert pool.workers == 3
    pool.shutdown()
