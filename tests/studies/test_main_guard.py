"""A script that starts workers without a guard is told so at once; workers that are up are free."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hf_stabilizer import run_study
from hf_stabilizer.errors import StudyError
from hf_stabilizer.records import read_run
from hf_stabilizer.studies.executors.local_workers import LocalWorkers
from hf_stabilizer.studies.main_guard import (
    UNGUARDED,
    UnguardedScriptError,
    leave_if_imported_by_worker,
)
from hf_stabilizer.studies.worker import run_once
from tests.conftest import tiny_study

POOL = """
from hf_stabilizer.studies.executors.local_workers import LocalWorkers
with LocalWorkers(2) as workers:
    print(workers.submit(abs, -3).result())
"""


def run(script: Path, text: str) -> subprocess.CompletedProcess[str]:
    script.write_text(text)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(script)]
    return subprocess.run(words, capture_output=True, text=True, env=environment, timeout=800)


def test_a_script_without_a_guard_ends_with_one_sentence(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    ended = run(script, POOL)
    assert ended.returncode == 1
    assert ended.stderr.count("Traceback") == 1  # its own, and none of a worker
    last = ended.stderr.strip().splitlines()[-1]
    assert f"the worker processes import {str(script)!r}, and it starts the study again" in last
    assert 'put what it does under `if __name__ == "__main__":`' in last


def test_with_the_guard_it_works(tmp_path: Path) -> None:
    body = POOL.replace("\n", "\n    ")
    ended = run(tmp_path / "script.py", f'if __name__ == "__main__":\n    pass{body}\n')
    assert (ended.stdout, ended.stderr, ended.returncode) == ("3\n", "", 0)


def test_a_script_that_cannot_be_imported_again_is_told_so(tmp_path: Path) -> None:
    there = tmp_path / "there"
    once = f"import os\nos.mkdir({str(there)!r})\n"
    ended = run(tmp_path / "script.py", once + POOL)
    last = ended.stderr.strip().splitlines()[-1]
    assert "it ended there with exit code 1 (see above)" in last
    assert "FileExistsError" in ended.stderr


def may_start_workers() -> bool:
    leave_if_imported_by_worker()
    with LocalWorkers(1) as workers:  # a process of its own would come with the first task
        return workers.workers == 1


def test_a_worker_that_is_up_may_start_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with LocalWorkers(1) as workers:
        assert workers.submit(may_start_workers).result()


class Unguarded(ThreadPoolExecutor):
    """Its workers do not come up."""

    def __init__(self) -> None:
        super().__init__(1)
        self.begun = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if fn is not run_once:
            return super().submit(fn, *args, **kwargs)
        self.begun += 1
        future: Future[Any] = Future()
        future.set_exception(UnguardedScriptError.of(UNGUARDED))
        return future


def test_a_study_neither_tries_again_nor_calls_runs_failed(
    model_folder: Path, tmp_path: Path
) -> None:
    config = tiny_study(model_folder, tmp_path, max_steps=2)
    asked: dict[str, Any] = {"runs": 2, "output_dir": tmp_path / "s"}
    with Unguarded() as executor, pytest.raises(StudyError, match="starts the study again there"):
        run_study(config, executor=executor, **asked)
    assert executor.begun <= 2
    assert not list((tmp_path / "s").glob("runs/*/*/run.json"))
    found = run_study(config, executor="in-process", **asked)  # with the guard, it goes on
    assert len(found.runs) == 2
    assert all(read_run(path) for path in (tmp_path / "s").glob("runs/*/*/run.json"))


@pytest.mark.slow
def test_a_whole_study_without_a_guard(model_folder: Path, tmp_path: Path) -> None:
    config = tiny_study(model_folder, tmp_path, max_steps=2)
    folder = tmp_path / "s"
    text = f"from hf_stabilizer import run_study\nrun_study({config!r}, runs=2, workers=2, "
    ended = run(tmp_path / "script.py", f"{text}output_dir={str(folder)!r})\n")
    assert ended.returncode == 1
    assert ended.stderr.count("Traceback") == 1
    assert "it starts the study again there" in ended.stderr.strip().splitlines()[-1]
    assert not list(folder.glob("runs/*/*/run.json"))
