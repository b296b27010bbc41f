"""Ray and Dask clusters on this machine: calls, lost workers, and whole studies that lose some."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, wait
from pathlib import Path
from typing import Any

import psutil
import pytest

from hf_stabilizer.errors import StudyError
from hf_stabilizer.records import Run
from hf_stabilizer.studies.events import read_events
from hf_stabilizer.studies.executors.local_workers import WorkerDiedError
from hf_stabilizer.studies.executors.open_executor import open_executor
from hf_stabilizer.studies.study import Study
from tests.conftest import tiny_study
from tests.waiting import until

ENGINES = ["ray", "dask"]
PACKAGES = {"ray": "ray", "dask": "distributed"}

pytestmark = [
    # Ray leaves the pipes and logs of the processes that it has started to the collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
    # Ray says that what CUDA_VISIBLE_DEVICES is set to without GPUs will change.
    pytest.mark.filterwarnings("ignore:Tip. In future versions of Ray:FutureWarning"),
]


@pytest.fixture(scope="module", params=ENGINES)
def cluster(request: pytest.FixtureRequest) -> Iterator[Executor]:
    pytest.importorskip(PACKAGES[request.param])
    with open_executor(request.param, workers=2) as pool:
        yield pool


def here(seconds: float = 0.0) -> tuple[int, int, str]:
    import torch

    time.sleep(seconds)
    return os.getpid(), torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]


def wait_for(path: str) -> int:
    until(lambda: Path(path).exists())
    return os.getpid()


def fail() -> None:
    raise ValueError("on purpose")


def out_of_memory() -> None:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_calls_run_elsewhere_with_one_thread(cluster: Executor) -> None:
    assert getattr(cluster, "workers", 0) == 2
    futures = [cluster.submit(here, 0.3) for _ in range(2)]
    answers = {future.result(timeout=400) for future in futures}
    assert os.getpid() not in {process for process, _, _ in answers}
    assert {(threads, said) for _, threads, said in answers} == {(1, "1")}


def test_what_a_call_raises_is_its_own(cluster: Executor) -> None:
    with pytest.raises(ValueError, match="on purpose"):
        cluster.submit(fail).result(timeout=400)
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        cluster.submit(out_of_memory).result(timeout=400)


def test_a_lost_worker_costs_one_call_and_is_not_retried_by_the_engine(
    cluster: Executor, tmp_path: Path
) -> None:
    def noted_death() -> None:
        with (tmp_path / "begun").open("a") as file:
            file.write("x")
        die()

    lost = cluster.submit(noted_death)
    assert isinstance(lost.exception(timeout=400), WorkerDiedError)
    assert (tmp_path / "begun").read_text() == "x"
    assert cluster.submit(here).result(timeout=400)[1] == 1


def test_a_future_tells_when_it_is_under_way_and_can_be_given_up(
    cluster: Executor, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    busy = [cluster.submit(wait_for, str(gate)) for _ in range(2)]
    until(lambda: all(future.running() for future in busy))
    waiting = cluster.submit(here)
    assert not waiting.running()
    assert waiting.cancel()
    assert waiting.cancelled()
    assert not wait([waiting], timeout=60).not_done
    assert not busy[0].cancel()
    gate.touch()
    assert len({future.result(timeout=400) for future in busy}) == 2


@pytest.mark.parametrize(
    "engine",
    [pytest.param("ray", marks=pytest.mark.slow), "dask"],  # Ray tries for half a minute
)
def test_refusal_no_cluster_at_that_address(engine: str) -> None:
    pytest.importorskip(PACKAGES[engine])
    address = {"ray": "ray://127.0.0.1:1", "dask": "nonsense://127.0.0.1:1"}[engine]
    with (
        pytest.raises(StudyError, match=f"no {engine.title()} .* at '{address}'"),
        open_executor(engine, workers=None, address=address),
    ):
        pass


# ---- whole studies


@pytest.fixture(scope="module")
def tiny(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A hundred steps, halted after fifteen: the rest takes longer than to see that it began."""
    rows = tmp_path_factory.mktemp("rows")
    return tiny_study(model_folder, rows, max_steps=100, evaluations_per_epoch=2)


STOP: dict[str, Any] = {"recipes": ["plain"], "runs": 3, "stop_at": 0.15, "keep": 2}


@pytest.fixture(scope="module")
def in_peace(tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Study:
    from hf_stabilizer import run_study

    return run_study(tiny, output_dir=tmp_path_factory.mktemp("calm") / "s", workers=1, **STOP)


def numbers(run: Run) -> tuple[Any, ...]:
    return run.status, run.evaluations, run.best_score, run.test_score, run.steps, run.reason


def kill_one_that_trains(folder: Path, workers: set[int]) -> None:
    """Kills a worker once a run has got to a step behind the halt and before the end."""

    def is_resumed() -> bool:
        return any(event.event == "resumed" for event in read_events(folder))

    until(is_resumed)
    until(lambda: any(folder.glob("runs/*/*/progress.json")))
    children = psutil.Process().children(recursive=True)
    training = [c for c in children if c.pid in workers or c.name().startswith("ray::_begin")]
    training[0].kill()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_study_that_loses_a_worker_ends_as_in_peace(
    engine: str, tiny: dict[str, Any], tmp_path: Path, in_peace: Study
) -> None:
    from hf_stabilizer import run_study  # not above, for workers import this file

    pytest.importorskip(PACKAGES[engine])
    with open_executor(engine, workers=1) as pool:
        workers = {pool.submit(here).result()[0]}
        killer = threading.Thread(target=kill_one_that_trains, args=(tmp_path / "s", workers))
        killer.start()
        found = run_study(tiny, output_dir=tmp_path / "s", executor=pool, **STOP)
        killer.join()
    lost = [event for event in read_events(tmp_path / "s") if event.event == "lost"]
    assert len(lost) == 1
    assert [numbers(run) for run in found.runs] == [numbers(run) for run in in_peace.runs]
