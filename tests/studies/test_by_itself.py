"""No run changes another's numbers: one at a time in a process, one thread, nothing left behind."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from hf_stabilizer import StabilizerArguments
from hf_stabilizer.studies.by_itself import by_itself
from tests.studies.test_functions import build, numbers, opened, study


def test_one_at_a_time_with_one_thread() -> None:
    inside: list[int] = []
    most: list[tuple[int, int]] = []

    def visit(number: int) -> None:
        with by_itself():
            inside.append(number)
            time.sleep(0.01)
            most.append((len(inside), torch.get_num_threads()))
            inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(visit, range(8)))
    assert most == [(1, 1)] * 8


def turn_all(folder: Path) -> None:
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True
    if hasattr(torch.backends, "fp32_precision"):
        torch.backends.fp32_precision = "tf32"
    os.chdir(folder)


def test_all_is_put_back(tmp_path: Path) -> None:
    threads, folder = torch.get_num_threads(), os.getcwd()
    precision = getattr(torch.backends, "fp32_precision", None)
    torch.set_num_threads(2)
    try:
        with by_itself():
            turn_all(tmp_path)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic
    assert getattr(torch.backends, "fp32_precision", None) == precision
    assert os.getcwd() == folder


def test_a_pool_of_threads_computes_what_this_process_does(tmp_path: Path) -> None:
    alone = study(build, tmp_path / "alone", runs=3)
    with ThreadPoolExecutor(2) as pool:
        together = study(build, tmp_path / "together", runs=3, executor=pool)
    assert [numbers(run) for run in together.runs] == [numbers(run) for run in alone.runs]


def test_what_a_recipe_or_a_function_switches_ends_with_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, bool]] = []
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)

    def wanders(args: StabilizerArguments) -> object:
        assert Path.cwd() == tmp_path
        os.chdir(elsewhere)
        before = torch.are_deterministic_algorithms_enabled()
        seen.append((args.full_determinism, before))
        return build(args)

    recipes = {"exact": {"full_determinism": True}, "plain": {}}
    found = study(wanders, Path("s"), recipes=recipes, runs=1)
    assert [run.status for run in found.runs] == ["finished"] * 2
    assert {determined for determined, _ in seen} == {True, False}
    assert not any(before for _, before in seen)
    assert not torch.are_deterministic_algorithms_enabled()
    assert not list(elsewhere.iterdir())


def test_a_relative_folder_is_handed_on_as_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers of this machine get it, too: people's functions may go elsewhere there."""
    from hf_stabilizer.studies.course import Job
    from hf_stabilizer.studies.functions.function_run import FunctionRun
    from hf_stabilizer.studies.functions.trainer_function import TrainerFunction

    monkeypatch.chdir(tmp_path)
    run = FunctionRun(opened(build), TrainerFunction(build))
    assert Job(run, Path("s/runs/plain/a")).arguments == (run, str(tmp_path / "s/runs/plain/a"))
