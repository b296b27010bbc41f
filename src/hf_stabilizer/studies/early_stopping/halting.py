"""How is a run halted on its way, and how does it go on as if it never had been?

    first part     steps 1..N of a run whose schedules span all M steps, then one whole checkpoint
    rest           from that checkpoint to step M, bit-equal to a run that was never halted

    FOLDER/halted.json                 what the first part came to; it is written last
    FOLDER/checkpoint-N/               all that is needed to go on, and nothing else
    FOLDER/checkpoint-N/best/step-K/   the best weights so far, where those are of another step
    FOLDER/halted/checkpoint-N/        the same while the rest is trained, out of rotation's way

The rest begins as a function of that one folder, so it can be begun again after a kill.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import SaveStrategy

from hf_stabilizer.checkpoints import last_complete_checkpoint
from hf_stabilizer.errors import StudyError
from hf_stabilizer.records import write_atomically
from hf_stabilizer.steps import resolve_step

ASIDE = "halted"
BEST = "best"
STATE = "trainer_state.json"


class HaltCallback(TrainerCallback):
    """Halts a run after step ceil(stop_at * max_steps), with a checkpoint that can be resumed.

    The checkpoint is written after everything else that belongs to that step, evaluation and best
    model included, whatever `save_strategy`, `save_only_model` and `save_total_limit` say. A run
    that is ended for good by what came of that evaluation is not halted. For that it has to be the
    Trainer's last callback.

    Args:
        stop_at: Fraction of the run's optimizer steps, in (0, 1).
    """

    def __init__(self, stop_at: float):
        self.stop_at = stop_at
        self.is_halted = False
        self._step = 0
        self._is_due = self._is_last_look = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Counts the step."""
        self._step = resolve_step(self.stop_at, state.max_steps, name="stop_at")
        self.is_halted = self._is_due = self._is_last_look = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ends the loop over steps there; whether the run is over its evaluation may tell."""
        is_over = control.should_training_stop or state.global_step >= state.max_steps
        if state.global_step == self._step and not is_over:
            self._is_due = control.should_epoch_stop = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Halts it, unless an evaluation is to come: the step's own and its save are over."""
        is_due, self._is_due = self._is_due, False
        if not is_due or control.should_training_stop:  # by another, and for good
            return
        if not float(state.epoch or 0.0).is_integer():  # the epoch has not ended, only the loop
            control.should_log = control.should_evaluate = False
        if control.should_evaluate:
            self._is_last_look = True
        else:
            self._halt(args, control)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Halts it behind the evaluation at an epoch's end."""
        is_last, self._is_last_look = self._is_last_look, False
        if is_last and not control.should_training_stop:
            self._halt(args, control)

    def _halt(self, args: TrainingArguments, control: TrainerControl) -> None:
        """Ends the training and asks for the checkpoint."""
        self.is_halted = control.should_training_stop = control.should_save = True
        args.save_only_model, args.save_total_limit = False, None
        if args.save_strategy == SaveStrategy.BEST:
            # "best" would take `should_save` back after an evaluation that is none (5.4 to 5.23).
            args.save_strategy = SaveStrategy.EPOCH
        args.load_best_model_at_end = False  # the run is not over

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes the mark off the Trainer's summary by which others know that a run is over."""
        if self.is_halted:
            kwargs["logs"].pop("train_runtime", None)


def seal(folder: Path) -> Path:
    """Leaves one checkpoint of a run that was just halted: the one from which it can go on.

    Raises:
        StudyError: It is not whole.
    """
    found = last_complete_checkpoint(folder)
    if found is None:
        raise StudyError(f"{str(folder)!r} holds no whole checkpoint after the run was halted")
    kept = Path(found)
    best = _state(kept).get("best_model_checkpoint")
    for other in folder.glob("checkpoint-*"):
        if best and other.name == Path(best).name and other != kept:
            (kept / BEST).mkdir()
            other.rename(kept / BEST / f"step-{other.name.removeprefix('checkpoint-')}")
        elif other != kept:
            shutil.rmtree(other)
    return kept


def reopen(folder: Path) -> Path | None:
    """Makes a halted run's folder ready to go on, also after a try that was cut off.

    Returns:
        The checkpoint to resume from; None if there is none that is whole: then all is removed
        that would be in the way of a new beginning.
    """
    aside = folder / ASIDE
    if not any(aside.glob("checkpoint-*")) and (found := last_complete_checkpoint(folder)):
        aside.mkdir(exist_ok=True)
        Path(found).rename(aside / Path(found).name)
    for leftover in [*folder.glob("checkpoint-*"), folder / "model"]:
        shutil.rmtree(leftover, ignore_errors=True)
    whole = last_complete_checkpoint(aside)
    if whole is None:
        forget_halt(folder)
        return None
    _bring_best(Path(whole), folder)
    return Path(whole)


def forget_halt(folder: Path) -> None:
    """Removes the checkpoint of a run that is over."""
    shutil.rmtree(folder / ASIDE, ignore_errors=True)


def set_back(folder: Path) -> None:
    """Leaves a run that does not go on after all as `seal` left it."""
    aside = next((folder / ASIDE).glob("checkpoint-*"), None)
    if aside is not None:
        for leftover in [*folder.glob("checkpoint-*"), folder / "model"]:
            shutil.rmtree(leftover, ignore_errors=True)
        aside.rename(folder / aside.name)
    forget_halt(folder)


def _bring_best(whole: Path, folder: Path) -> None:
    """Puts the best weights so far where the Trainer looks for them."""
    state = _state(whole)
    if not state.get("best_model_checkpoint"):
        return
    name = Path(state["best_model_checkpoint"]).name
    source = whole / BEST / f"step-{name.removeprefix('checkpoint-')}"
    if not source.is_dir():
        source = whole
    target = folder / name
    ignored = shutil.ignore_patterns(BEST) if source == whole else None
    shutil.copytree(source, target, copy_function=_link, ignore=ignored)
    if state["best_model_checkpoint"] != str(target):  # the study has moved
        text = json.dumps({**state, "best_model_checkpoint": str(target)}, indent=2)
        write_atomically(whole / STATE, f"{text}\n")


def _link(source: str, target: str) -> None:
    """One file under two names takes its room once; where there are no links it is copied."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _state(checkpoint: Path) -> dict[str, Any]:  # Any: JSON
    state: dict[str, Any] = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    return state
