"""Studies whose folder is a URL: carried to workers and back, gone on with from another machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from hf_stabilizer import run_study
from hf_stabilizer.errors import ConfigurationError, StudyError
from hf_stabilizer.records import Run, read_run
from hf_stabilizer.studies.events import read_events
from hf_stabilizer.studies.executors.local_workers import LocalWorkers
from hf_stabilizer.studies.executors.remote import (
    RemoteFolder,
    StudyMirror,
    carrying,
    check_reachable,
)
from hf_stabilizer.studies.study import Study
from tests.conftest import tiny_study
from tests.waiting import until

HOME = "hf_stabilizer.studies.executors.remote.folder.HF_HOME"
STOP: dict[str, Any] = {"recipes": ["plain"], "runs": 3, "stop_at": 0.375, "keep": 2}


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this machine keeps its mirrors."""
    monkeypatch.setattr(HOME, str(tmp_path / "machine"))
    return tmp_path / "machine"


@pytest.fixture(scope="module")
def tiny(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Eight steps, halted after three."""
    rows = tmp_path_factory.mktemp("rows")
    return tiny_study(model_folder, rows, max_steps=8, evaluations_per_epoch=2)


@pytest.fixture(scope="module")
def in_a_folder(tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("plain") / "s"
    return run_study(tiny, output_dir=folder, executor="in-process", **STOP)


def numbers(run: Run) -> tuple[Any, ...]:
    return run.status, run.reason, run.evaluations, run.best_score, run.test_score, run.checkpoint


def files_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def same_tree(study: Study, there: Path) -> None:
    """What lies at the URL is what would lie in the study's folder."""
    assert study.folder is not None
    ours = [name for name in files_below(study.folder) if name != ".lock"]
    theirs = [name for name in files_below(there) if name != ".token"]
    assert theirs == ours


@pytest.mark.parametrize("protocol", ["file", "memory"])
def test_at_a_url_lies_what_would_lie_in_a_folder(
    protocol: str, tiny: dict[str, Any], tmp_path: Path, in_a_folder: Study, machine: Path
) -> None:
    url = f"{protocol}://{tmp_path}/bucket/s"
    found = run_study(tiny, output_dir=url, executor="in-process", **STOP)
    assert found.folder is not None
    assert found.folder.is_relative_to(machine)
    assert found.name == "s"
    assert [numbers(run) for run in found.runs] == [numbers(run) for run in in_a_folder.runs]
    copy = tmp_path / "copy"
    fsspec.core.url_to_fs(url)[0].get(f"{tmp_path}/bucket/s/", f"{copy}/", recursive=True)
    same_tree(in_a_folder, copy)
    assert Study.from_folder(copy).runs == found.runs
    # Between runs a worker's machine holds the rows alone, and the study's own no weights.
    names = files_below(machine)
    assert not [n for n in names if n.startswith("hf_stabilizer/worker/") and "/runs/" in n]
    assert not [n for n in names if n.endswith("safetensors")]


def test_another_machine_goes_on_and_repeats_nothing(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file://{tmp_path}/s"
    run_study(tiny, output_dir=url, executor="in-process", **{**STOP, "keep": 1})
    monkeypatch.setattr(HOME, str(tmp_path / "other"))
    more = run_study(tiny, output_dir=url, executor="in-process", **STOP)
    assert sum(run.status != "stopped" for run in more.runs) == 2
    happened = [(event.event, event.run) for event in read_events(tmp_path / "s") if event.run]
    assert len(happened) == len(set(happened))
    assert sorted(what for what, _ in happened if what in ("halted", "resumed")) == [
        *["halted"] * 3, *["resumed"] * 2,
    ]  # fmt: skip
    weights = [p.parent.parent for p in tmp_path.glob("s/runs/*/*/model/model.safetensors")]
    assert [read_run(run / "run.json").checkpoint for run in weights] == ["model"]


def test_a_worker_reads_only_what_a_halted_run_was_left_with(tmp_path: Path) -> None:
    """A worker that was cut off while it sent a finished run has left half a model behind."""
    run = tmp_path / "s" / "runs" / "plain" / "one"
    for name in ("checkpoint-3/optimizer.pt", "checkpoint-8/half", "model/half"):
        (run / name).parent.mkdir(parents=True)
        (run / name).write_text("x")
    seeds = {"head_seed": 1, "data_seed": 1, "seed": 1}
    halted = Run("plain", seeds, "stopped", checkpoint="checkpoint-3")
    (run / "halted.json").write_text(halted.to_json())
    remote = RemoteFolder(f"file://{tmp_path}/s", role="worker")
    carrying._bring_run(remote, "runs/plain/one")
    assert files_below(remote.mirror / "runs/plain/one") == [
        "checkpoint-3/optimizer.pt", "halted.json",
    ]  # fmt: skip


def test_records_are_sent_last_and_removed_first(tmp_path: Path) -> None:
    """So that a record is never there without what it tells of."""
    url, run = f"file://{tmp_path}/s", "runs/plain/one"
    mirror = StudyMirror(url)
    folder = mirror.folder / run
    (folder / "a").mkdir(parents=True)
    for name in ("run.json", "halted.json", "configuration.yaml"):
        (folder / name).write_text("{}")
    (mirror.folder / "study.json").write_text("{}")
    order: list[str] = []
    put = mirror._remote._files.open

    def noted(path: str, mode: str) -> Any:
        order.append(Path(path).name)
        return put(path, mode)

    mirror._remote._files.open = noted
    mirror.push()
    assert order[-2:] == ["halted.json", "run.json"]
    order.clear()
    (folder / "configuration.yaml").write_text("{...}")
    mirror.push()
    assert order == ["configuration.yaml"]
    (folder / "run.json").unlink()
    mirror.push()
    assert files_below(tmp_path / "s" / run) == ["configuration.yaml", "halted.json"]


def test_refusal_a_url_that_nothing_opens(tiny: dict[str, Any]) -> None:
    url = "nosuch://bucket/s"
    with pytest.raises(ConfigurationError, match=f"output_dir '{url}' cannot be opened: "):
        run_study(tiny, output_dir=url, **STOP)


def test_refusal_a_url_that_cannot_be_written(tiny: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="cannot be read or written"):
        run_study(tiny, output_dir=f"file://{tmp_path}/file/s", executor="in-process", **STOP)


def test_refusal_workers_that_see_another_memory(tmp_path: Path) -> None:
    with LocalWorkers(1) as pool, pytest.raises(StudyError, match="memory:// is within one"):
        check_reachable(pool, StudyMirror("memory://s"))
    with ThreadPoolExecutor(1) as here:
        check_reachable(here, StudyMirror("memory://s"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_with_its_workers_it_goes_on_from_an_empty_machine(
    tiny: dict[str, Any], tmp_path: Path, in_a_folder: Study
) -> None:
    (tmp_path / "c.yaml").write_text(json.dumps(tiny))
    command = [
        sys.executable, "-m", "hf_stabilizer", "study", str(tmp_path / "c.yaml"), "--recipes",
        "plain", "--runs", "3", "--stop-at", "0.375", "--keep", "2", "--workers", "2",
        "--output-dir", f"file://{tmp_path}/s",
    ]  # fmt: skip

    def started(machine: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "HF_HOME": str(tmp_path / machine)}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, env=environment, **quiet)

    process = started("first")
    until(lambda: any(e.event == "resumed" for e in read_events(tmp_path / "s")))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert started("second").wait(timeout=800) == 0
    found = Study.from_folder(tmp_path / "s")
    assert [numbers(run) for run in found.runs] == [numbers(run) for run in in_a_folder.runs]
    assert (tmp_path / "s" / "report.html").exists()
    halted = [event.run for event in read_events(tmp_path / "s") if event.event == "halted"]
    assert len(halted) == 3 == len(set(halted))
