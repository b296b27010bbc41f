"""How does a run of a study appear in a tracker? Under its own name, in one group, and ended.

    with tracked(folder, options) as tracking:
        Part(labels=tracking.labels), tracking.callback        to the run

A worker trains run after run in one process, and most trackers go on with what is open there. So
each run is ended with its training, a failed one too, and the variables of the environment that
named it are taken back.

    FOLDER/tracking.json    under what a halted run goes on: its name, and what trackers know it by
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_stabilizer.records import write_atomically
from hf_stabilizer.studies.tracker_names import TrackerNames

logger = logging.getLogger(__name__)

NOTE = "tracking.json"


class _Tracker(NamedTuple):
    """One whose callback may leave a run open in this process."""

    module: str
    is_open: Callable[[Any], bool]  # Any: the tracker's module, where it is loaded
    end: Callable[[Any, bool], object]  # the bool: whether the run failed


_TRACKERS = (
    _Tracker(
        "trackio",
        lambda trackio: trackio.context_vars.current_run.get() is not None,
        lambda trackio, _: trackio.finish(),
    ),
    _Tracker(
        "wandb",
        lambda wandb: wandb.run is not None,
        lambda wandb, failed: _end_wandb(wandb, failed),
    ),
    _Tracker(
        "mlflow",
        lambda mlflow: mlflow.active_run() is not None,
        lambda mlflow, failed: mlflow.end_run("FAILED" if failed else "FINISHED"),
    ),
    _Tracker(
        "comet_ml",
        lambda comet: comet.get_running_experiment() is not None,
        lambda comet, _: comet.get_running_experiment().end(),
    ),
    _Tracker(
        "clearml",
        lambda clearml: clearml.Task.current_task() is not None,
        lambda clearml, _: clearml.Task.current_task().close(),
    ),
    _Tracker(
        "swanlab",
        lambda swanlab: swanlab.get_run() is not None,
        lambda swanlab, _: swanlab.finish(),
    ),
)


@dataclass(frozen=True)
class Tracking:
    """How a run is told to the trackers."""

    labels: Mapping[str, str | None]
    """`run_name`, `project` and where trackio keeps it, for its arguments."""
    callback: TrainerCallback
    """Comes after the trackers' own callbacks."""


@contextlib.contextmanager
def tracked(
    folder: Path,
    options: Mapping[str, Any],  # Any: values of a configuration
    *,
    goes_on: bool = False,
) -> Iterator[Tracking]:
    """Names a run in every tracker while it is trained, and ends it there afterwards.

    A run that was open before is somebody's own and left so: then all is logged there.

    Args:
        folder: Folder of the run, STUDY/runs/RECIPE/SEEDS.
        options: Its options; `report_to`, `run_name` and `project` are looked at.
        goes_on: Whether the run was halted and goes on: the trackers go on with it, too.
    """
    _load_trackio(options.get("report_to"))
    note = _read_note(folder) if goes_on else {}
    names = TrackerNames.of(folder, options)
    name = note.get("name") or _free_name(names)
    key = note.get("key") or uuid.uuid4().hex
    callback = _TrackingCallback(folder, {"name": name, "key": key}, names.project)
    variables = names.environment(key=key)
    if "mlflow" in note and "MLFLOW_RUN_ID" not in os.environ:
        # Its parameters are there, and it refuses others, such as `resume_from_checkpoint`.
        variables |= {"MLFLOW_RUN_ID": note["mlflow"], "MLFLOW_MAX_LOG_PARAMS": "0"}
    # Left alone it is a Space on the Hub, for which one has to log in (transformers 5.4).
    local = {} if "trackio_space_id" in options else {"trackio_space_id": None}
    theirs = _open_trackers()
    is_failed = True
    with _environment(variables), _silent_trackio():
        try:
            yield Tracking({**local, "run_name": name, "project": names.project}, callback)
            is_failed = False
        finally:
            for tracker in _open_trackers():
                if tracker not in theirs:
                    _end(tracker, is_failed)


class _TrackingCallback(TrainerCallback):
    """Notes under what the run could go on, and keeps trackio open for the test rows."""

    def __init__(self, folder: Path, note: dict[str, str], project: str):
        self._folder, self._note, self._project = folder, note, project
        self._was_open = _is_open("mlflow")

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:  # Any: what the Trainer hands to every callback
        if not args.report_to or not state.is_world_process_zero:
            return
        mlflow = sys.modules.get("mlflow")
        if mlflow is not None and not self._was_open and _is_open("mlflow"):
            self._note["mlflow"] = mlflow.active_run().info.run_id
        self._note["name"] = args.run_name or self._note["name"]
        write_atomically(self._folder / NOTE, json.dumps(self._note, indent=2) + "\n")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Opens trackio again: its callback logs test scores to a run it has ended (5.4)."""
        trackio = sys.modules.get("trackio")
        is_used = "trackio" in list(args.report_to or ()) and state.is_world_process_zero
        if trackio is None or not is_used:
            return
        if not _is_open("trackio"):
            trackio.init(
                project=args.project,
                name=args.run_name,
                space_id=args.trackio_space_id,
                resume="allow",
                private=args.hub_private_repo,
            )


def _load_trackio(wanted: str | Sequence[str] | None) -> None:
    """Imports it before anything is asked of it or printed by it."""
    if {"trackio", "all"} & ({wanted} if isinstance(wanted, str) else set(wanted or ())):
        with contextlib.suppress(ImportError):  # which the Trainer says better
            importlib.import_module("trackio")


def _read_note(folder: Path) -> dict[str, str]:
    try:
        note: dict[str, str] = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it had no tracker when it was halted
        return {}
    return note


def _free_name(names: TrackerNames) -> str:
    """The run's name; one that begins anew is no continuation where names are all there is."""
    trackio = sys.modules.get("trackio")
    taken: set[str] = set()
    with contextlib.suppress(Exception):  # there is no project of that name yet, or no such Api
        if trackio is not None:
            taken = {run.name for run in trackio.Api().runs(names.project)}
    number, name = 1, names.name
    while name in taken:
        number += 1
        name = f"{names.name} ({number})"
    return name


def _is_open(module: str) -> bool:
    return any(tracker.module == module for tracker in _open_trackers())


def _open_trackers() -> list[_Tracker]:
    """Those with a run that is open in this process."""
    found = []
    for tracker in _TRACKERS:
        module = sys.modules.get(tracker.module)
        with contextlib.suppress(Exception):  # another version of it: then it is left alone
            if module is not None and tracker.is_open(module):
                found.append(tracker)
    return found


def _end(tracker: _Tracker, is_failed: bool) -> None:
    try:
        tracker.end(sys.modules[tracker.module], is_failed)
    except Exception as error:  # the run itself is over, however its tracker fares
        logger.warning("%s could not end its run: %s", tracker.module, error)


def _end_wandb(wandb: Any, is_failed: bool) -> None:  # Any: the module
    wandb.finish(exit_code=int(is_failed))
    wandb.teardown()  # or it would remember the variables of this run (0.31)


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _silent_trackio() -> Iterator[None]:
    """Sends what trackio prints about every run to the log: the screen is the study's.

    It has no option for that (0.43), and a redirected `sys.stdout` would take people's own lines.
    """
    modules = [m for name, m in sys.modules.items() if name.split(".")[0] == "trackio"]
    for module in modules:
        vars(module)["print"] = _log_line
    try:
        yield
    finally:
        for module in modules:
            vars(module).pop("print", None)


def _log_line(*words: object, **_: object) -> None:
    logger.info("%s", " ".join(map(str, words)))
