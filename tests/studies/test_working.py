"""What happens beside what: imports beside preparation, probes beside the first runs."""

from __future__ import annotations

import io
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hf_stabilizer.configuration import Configuration, load_configuration
from hf_stabilizer.dry_run import Cost
from hf_stabilizer.errors import DataError
from hf_stabilizer.run import prepare_data
from hf_stabilizer.studies.configured_run import ConfiguredRun
from hf_stabilizer.studies.course import Job
from hf_stabilizer.studies.early_stopping.estimate import announced
from hf_stabilizer.studies.early_stopping.stopping import Stopping
from hf_stabilizer.studies.executors.place import Engine, open_place
from hf_stabilizer.studies.question import define_study, load_recipes
from hf_stabilizer.studies.seeds.seed_grid import plan_seeds
from hf_stabilizer.studies.subject import ConfigSubject
from hf_stabilizer.studies.working import work_through
from tests.waiting import until

COST = Cost(
    seconds_per_step=0.5,
    seconds=60.0,
    checkpoint=2,
    disk=3,
    weights=1_000_000,
    optimizer=2_000_000,
    averaging=0,
)


# ---- imports beside preparation


class Watching(ConfigSubject):
    """Sees which processes there are while it makes a recipe ready, and then refuses it."""

    def prepare(self, *args: Any) -> Any:
        self.processes = {*multiprocessing.active_children()}
        raise DataError("on purpose")


def test_workers_start_before_the_rows_are_made_ready(
    config: dict[str, Any], tmp_path: Path
) -> None:
    del config["output_dir"]
    subject, folder, before = Watching(config), tmp_path / "s", multiprocessing.active_children()
    configurations, seeds = load_recipes(subject.load, ["plain"], None), plan_seeds(runs=1)
    study = define_study(folder, subject.load(), configurations, seeds, command="")
    with (
        open_place(folder, Engine(workers=2)) as place,
        pytest.raises(DataError, match="on purpose"),
    ):
        work_through(study, configurations, seeds, subject=subject, place=place, console=Console())
    assert len(subject.processes - {*before}) == 1  # one run, so one of the two
    # Not by `join`: the pool's own thread waits for them too, and whoever comes second is told
    # "alive" until the first has noted how they ended.
    until(lambda: {*multiprocessing.active_children()} <= {*before})
    assert not folder.exists()


# ---- probes beside the first runs


class Slow(Executor):
    """Keeps what it is handed until the test says what comes of it."""

    workers = 2

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.futures.append(Future())
        return self.futures[-1]


def jobs(*recipes: str) -> Sequence[Job]:
    return [Job(ConfiguredRun(Configuration({}, name), "rows"), Path(name)) for name in recipes]


def said_by(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def announcing(pool: Executor, console: Console, *, is_new: bool = True) -> Any:
    runs = jobs("plain", "swa", "plain", "swa")
    return announced(runs, pool, Stopping(0.5, 1), is_new=is_new, console=console)


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=300)


def test_the_runs_do_not_wait_for_the_probes(console: Console) -> None:
    pool = Slow()
    with announcing(pool, console):
        assert said_by(console).startswith("Plan: 2 runs to 0.5")  # and the block is entered
        assert len(pool.futures) == 2
        pool.futures[1].set_result(COST)
        assert "Probe" not in said_by(console)
        pool.futures[0].set_result(COST)
        # Of each recipe 2 x .5 + 1 x .5 = 1.5 full runs of 60 seconds, with two at a time.
        assert said_by(console).count("Probe: about 90 s in all with 2 at a time") == 1


def test_a_probe_that_fails_is_said_and_is_no_reason_not_to_run(console: Console) -> None:
    pool = Slow()
    with announcing(pool, console):
        pool.futures[0].set_exception(RuntimeError("no room"))
        pool.futures[1].set_result(COST)
    assert said_by(console).count("The probe failed: no room") == 1


def test_a_study_that_is_cut_short_says_nothing_of_its_probes(console: Console) -> None:
    pool = Slow()

    def cut_short() -> None:
        with announcing(pool, console):
            pool.futures[0].set_running_or_notify_cancel()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_short()
    pool.futures[0].set_exception(RuntimeError("killed"))
    assert pool.futures[1].cancelled()
    assert "probe" not in said_by(console).lower()


def test_a_study_that_goes_on_is_not_probed_again(console: Console) -> None:
    pool = Slow()
    with announcing(pool, console, is_new=False):
        assert not pool.futures


def test_a_probe_takes_the_rows_of_the_study(config: dict[str, Any], tmp_path: Path) -> None:
    configuration = load_configuration(config)
    prepare_data(configuration).save_to(tmp_path / "rows")
    moved = configuration.with_values(train_file=str(tmp_path / "gone.csv"))
    cost = ConfiguredRun(moved, str(tmp_path / "rows")).probe()
    assert cost is not None
    assert cost.weights > 0
    assert cost.seconds > 0
