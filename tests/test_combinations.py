"""Any set of techniques, stopped anywhere: the run that never stopped, or a refusal by name."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from safetensors.torch import load_file
from torch import Tensor
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments

from hf_stabilizer import prepare_model, stabilize
from hf_stabilizer.errors import DivergenceError, StabilizerError
from tests.combinations import Combination, combinations, looked_at_by_hand

# peft 0.21 asks transformers 5.23 for a property by its old name.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)
BUDGET = settings(
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=False,
    phases=[Phase.generate],  # to shrink a failure takes many trainings
    suppress_health_check=list(HealthCheck),
)


class KilledError(Exception):
    """In the place of a SIGKILL: nothing of the run is left but its files."""


class Interruption(TrainerCallback):
    """Ends a run at a step, after a save."""

    def __init__(self, step: int, kind: str):
        self.step = step
        self.kind = kind

    def on_step_end(self, args, state, control, **kwargs):
        if self.kind == "stopped" and state.global_step == self.step:
            control.should_save = control.should_training_stop = True

    def on_save(self, args, state, control, **kwargs):
        if self.kind == "killed" and state.global_step == self.step:
            raise KilledError


class Surroundings(TrainerCallback):
    """What else happens in a user's run: a look by hand, and gradients that are not finite."""

    has_begun = False
    """Whether the last Trainer that was made came to its first step."""

    def __init__(self, combination: Combination):
        self.combination = combination
        self.trainer: Trainer | None = None
        Surroundings.has_begun = False

    def on_step_begin(self, args, state, control, **kwargs):
        Surroundings.has_begun = True

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if state.global_step + 1 == self.combination.breaks_at:
            gradients = [p.grad for p in model.parameters() if p.grad is not None]
            gradients[-1].fill_(math.nan)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.combination.looks_by_hand_at:
            self.trainer.evaluate()


@dataclass
class Outcome:
    """What a run leaves."""

    trainer: Trainer
    error: str
    weights: dict[str, Tensor]
    lines: list[dict[str, Any]]
    files: dict[str, Any] = field(default_factory=dict)


def make(combination: Combination, folder: Path, *, seed: int = 0) -> Trainer:
    surroundings = Surroundings(combination)
    theirs: list[TrainerCallback] = [surroundings]
    args = combination.arguments(folder)
    model = prepare_model(combination.model(seed), args)
    if combination.patience:
        theirs.append(EarlyStoppingCallback(combination.patience))
    trainer = Trainer(
        combination.adapted(model),
        args,
        train_dataset=combination.train_rows(),
        eval_dataset=combination.evaluation_rows(),
        **stabilize(args, theirs),
    )
    surroundings.trainer = trainer
    return trainer


def run(trainer: Trainer, resume: Path | None = None) -> Outcome:
    error = ""
    with told_of():
        try:
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        except DivergenceError as diverged:
            error = str(diverged)
    weights = {name: t.detach().clone() for name, t in trainer.model.state_dict().items()}
    return Outcome(trainer, error, weights, [told(line) for line in trainer.state.log_history])


@contextmanager
def told_of() -> Iterator[None]:
    """Lets the guard warn."""
    with warnings.catch_warnings():
        for message in ("the run has collapsed", "at optimizer step"):
            warnings.filterwarnings("ignore", message=message)
        yield


def told(line: dict[str, Any]) -> dict[str, Any]:
    """A line of the history without what the clock says."""
    clock = ("runtime", "per_second", "total_flos", "train_loss")
    return {key: value for key, value in line.items() if not key.endswith(clock)}


def checkpoints(folder: Path) -> list[int]:
    return sorted(int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*"))


def files_of(checkpoint: Path) -> dict[str, Any]:
    """All that a checkpoint holds, in memory."""
    found: dict[str, Any] = {
        path.name: load_file(path) for path in checkpoint.glob("*.safetensors")
    }
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        found[name] = torch.load(checkpoint / name, weights_only=False)
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    found["best"] = [state["best_global_step"], state["best_metric"], state["global_step"]]
    return found


def assert_equal(left: Any, right: Any, where: str = "") -> None:
    """Asks for equality to the last bit, and says where there is none."""
    if isinstance(left, Tensor):
        assert (left.dtype, left.shape) == (right.dtype, right.shape), where
        assert torch.equal(left.nan_to_num(7.5), right.nan_to_num(7.5)), where
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), (where, set(left) ^ set(right))
        for key, value in left.items():
            assert_equal(value, right[key], f"{where}/{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), (where, left, right)
        for place, (one, two) in enumerate(zip(left, right, strict=True)):
            assert_equal(one, two, f"{where}/{place}")
    else:
        assert repr(left) == repr(right), (where, left, right)


# ---- the three questions


def check(combination: Combination) -> str:
    """Asks all three, and returns how the run was interrupted, or that it was refused."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "run")
        try:
            trainer = make(combination, folder)
            before = [p.requires_grad for p in trainer.model.parameters()]
            straight = run(trainer)
        except StabilizerError:
            if not combination.conflict():
                raise
            assert not Surroundings.has_begun, "refused too late"
            return "refused"
        assert not combination.conflict(), "not refused"
        if not straight.error:
            check_that_nothing_is_left(trainer, before)
            check_what_was_scored_is_saved(combination, trainer, folder)
        return check_resuming(combination, straight, folder)


def check_that_nothing_is_left(trainer: Trainer, before: list[bool]) -> None:
    model, optimizer, schedule = trainer.model, trainer.optimizer, trainer.lr_scheduler
    assert [p.requires_grad for p in model.parameters()] == before
    assert not {"train", "eval"} & vars(optimizer.optimizer).keys()
    assert not model._forward_hooks
    assert not model._state_dict_pre_hooks
    if hasattr(schedule, "lr_lambdas"):
        pairs = zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
        scheduled = [base * factor(schedule.last_epoch) for base, factor in pairs]
        assert [group["lr"] for group in optimizer.param_groups] == scheduled


def check_what_was_scored_is_saved(
    combination: Combination, trainer: Trainer, folder: Path
) -> None:
    scores: dict[int, dict[str, float]] = {}
    for line in trainer.state.log_history:
        scores.setdefault(line["step"], {}).update(losses(line))
    for step in [step for step in checkpoints(folder) if scores.get(step)][-1:]:
        saved = score(combination, folder / f"checkpoint-{step}")
        assert_equal(scores[step], saved, f"score of step {step}")
    at_the_end = losses(trainer.evaluate())
    trainer.save_model(str(folder / "saved"))
    assert_equal(at_the_end, score(combination, folder / "saved"), "score at the end")


def losses(metrics: dict[str, float]) -> dict[str, float]:
    """Those of evaluations."""
    return {k: v for k, v in metrics.items() if k.endswith("_loss") and k != "train_loss"}


def score(combination: Combination, saved: Path) -> dict[str, float]:
    """The losses of a plain `from_pretrained` in a plain Trainer."""
    kind = type(combination.model())
    if combination.has_adapters:
        # An adapter is saved without the body below it, which `prepare_model` may have changed.
        body = prepare_model(combination.model(), combination.arguments(saved))
        model = peft.PeftModel.from_pretrained(body, saved)
    else:
        model = kind.from_pretrained(saved)
    args = TrainingArguments(
        str(saved),
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        bf16=combination.precision == "autocast",
        label_smoothing_factor=combination.options["label_smoothing_factor"],
        dataloader_pin_memory=False,
    )
    trainer = Trainer(model, args, eval_dataset=combination.evaluation_rows())
    return losses(trainer.evaluate())


def check_resuming(combination: Combination, straight: Outcome, folder: Path) -> str:
    steps = checkpoints(folder)
    kind = combination.possible_interruption
    # Not the last step: the plain Trainer goes on for one more when it resumes a finished run.
    reached = straight.trainer.state.global_step
    possible = range(1, reached) if kind == "stopped" else [s for s in steps if s < reached]
    if not possible:
        return "too short"
    step = possible[combination.where % len(possible)]
    last = files_of(folder / f"checkpoint-{steps[-1]}") if steps else {}
    if kind == "erased":
        for later in steps:
            if later > step:
                shutil.rmtree(folder / f"checkpoint-{later}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
        interrupted = make(combination, folder)
        interrupted.add_callback(Interruption(step, kind))
        with suppress(KilledError):
            run(interrupted)
    resumed = run(make(combination, folder, seed=5), folder / f"checkpoint-{step}")
    compare(straight, resumed, step)
    if steps and steps[-1] > step:
        assert_equal(last, files_of(folder / f"checkpoint-{steps[-1]}"), "files")
    return kind


def compare(straight: Outcome, resumed: Outcome, step: int) -> None:
    assert straight.error == resumed.error
    assert_equal(straight.weights, resumed.weights, "weights")
    assert straight.trainer.state.global_step == resumed.trainer.state.global_step
    left, right = ([line for line in of.lines if line["step"] > step] for of in (straight, resumed))
    if not any("loss" in line for line in straight.lines if line["step"] == step):
        # The plain Trainer forgets the losses between its last line and the checkpoint.
        for lines in (left, right):
            next((line for line in lines if "loss" in line), {}).pop("loss", None)
    assert_equal(left, right, "history")


def ask(examples: int) -> Counter[str]:
    answers: Counter[str] = Counter()

    @settings(BUDGET, max_examples=examples)
    @given(combinations())
    def one(combination: Combination) -> None:
        answers[check(combination)] += 1

    one()
    return answers


@pytest.mark.parametrize("examples", [30, pytest.param(120, marks=pytest.mark.slow)])
@pytest.mark.timeout(7200)
def test_any_combination_is_right_or_refused(examples: int) -> None:
    answers = ask(examples)
    assert answers.total() == examples
    assert all(answers[kind] for kind in ("erased", "killed", "stopped", "refused"))
    assert answers["refused"] + answers["too short"] < examples / 2


def test_a_look_by_hand_takes_the_plain_trainers_line(tmp_path: Path) -> None:
    combination = looked_at_by_hand()
    assert stabilize(combination.arguments(tmp_path))["callbacks"] == [], "a plain Trainer"
    straight = run(make(combination, tmp_path / "straight"))
    assert [line["step"] for line in straight.lines if "loss" in line] == [2, 3, 4]
    interrupted = make(combination, tmp_path / "stopped")
    interrupted.add_callback(Interruption(1, "stopped"))
    run(interrupted)
    resumed = run(make(combination, tmp_path / "stopped"), tmp_path / "stopped" / "checkpoint-1")
    first, second = (
        next(line for line in outcome.lines if "loss" in line) for outcome in (straight, resumed)
    )
    # The first is the mean over steps 1 and 2, and resuming has forgotten step 1.
    assert first.pop("loss") != second.pop("loss")
    assert_equal(first, second)
    assert_equal(straight.weights, resumed.weights)


AVERAGED = {
    "layer_lr": "llrd",
    "layer_lr_decay": 0.5,
    "head_learning_rate": 3e-3,
    "averaging": "ema",
    "ema_decay": 0.99,
    "averaging_start": 0.25,
    "evaluations_per_epoch": 1,
}


@pytest.mark.parametrize("options", [{}, AVERAGED], ids=["plain", "averaged"])
def test_a_look_by_hand_is_no_other_run(options: dict[str, Any]) -> None:
    assert check(looked_at_by_hand(**options)) == "stopped"
