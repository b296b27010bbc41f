"""What would this run do, and what would it cost? Everything but the training; nothing is written.

A few batches are trained on, on this machine and with a model that is thrown away, because how
long a step takes and what the optimizer keeps can be measured and not known.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import SaveStrategy

from hf_stabilizer.arguments import StabilizerArguments, stabilize
from hf_stabilizer.averaging import AveragingCallback
from hf_stabilizer.configuration import Configuration, load_configuration
from hf_stabilizer.evaluation import EvaluationsPerEpochCallback
from hf_stabilizer.layer_view import LayerRow, layer_rows
from hf_stabilizer.run import assemble, load_parts, prepare_data
from hf_stabilizer.schedule_words import describe_schedule
from hf_stabilizer.silent_mistakes import Finding, preflight
from hf_stabilizer.silent_mistakes.timetable import Timetable, planned_steps, timetable
from hf_stabilizer.tasks import PreparedTask

MEASURED = 3
"""Batches whose time is taken, after one that warms up."""
FULL = 4
"""Bytes of a number in single precision, in which means are kept."""


@dataclass(frozen=True)
class Cost:
    """What a run takes, measured on this machine; sizes in bytes."""

    seconds_per_step: float
    """Wall-clock time of one optimizer step, its gradient accumulation included."""
    seconds: float
    """Training and evaluations together; loading, saving and the test rows not."""
    checkpoint: int
    """One checkpoint on disk: weights, optimizer where it is saved, averages."""
    disk: int
    """All that lies on disk at the most, with the model that is kept in the end."""
    weights: int
    """Memory of the model's weights; gradients of all that is trained take up to as much."""
    optimizer: int
    """Memory of the optimizer's state."""
    averaging: int
    """Memory of the averages; 0 without averaging."""


@dataclass(frozen=True)
class DryRun:
    """What a run would do."""

    findings: tuple[Finding, ...]
    """What would fail or go wrong in silence."""
    layers: tuple[LayerRow, ...] = ()
    """Each depth of the model with its peak rate; empty where it would not get as far."""
    schedule: tuple[str, ...] = ()
    """Steps, rates, averaging, freezing, evaluations and checkpoints, in sentences."""
    steps: int = 0
    """Optimizer steps."""
    evaluations: tuple[int, ...] = ()
    """Optimizer steps with an evaluation."""
    saves: tuple[int, ...] = ()
    """Optimizer steps with a checkpoint, as far as they are known beforehand."""
    cost: Cost | None = None
    """None where the run would fail."""

    @property
    def would_fail(self) -> bool:
        """Whether a finding is an error."""
        return any(finding.severity == "error" for finding in self.findings)


def rehearse_run(
    config: str | Path | Mapping[str, Any],  # Any: whatever YAML can say
    *,
    recipe: str | None = None,
    **overrides: Any,
) -> DryRun:
    """Says what `train` with the same arguments would do and cost, without doing it.

    Args:
        config: Path of a YAML file, or a mapping with the same keys; `output_dir` is not needed.
        recipe: Name of a recipe that ships, or a YAML file of one's own, laid over it.
        **overrides: Single keys that beat both.

    Raises:
        ConfigurationError: The configuration cannot be read, or the model cannot be loaded.
        DataError: The rows are not as the configuration says.
    """
    configuration = load_configuration(config, recipe=recipe, overrides=overrides)
    return rehearse_on(prepare_data(configuration), configuration)


def rehearse_on(prepared: PreparedTask, configuration: Configuration) -> DryRun:
    """Does the same on rows that are tokenised already.

    Raises:
        ConfigurationError: The model cannot be loaded.
    """
    with TemporaryDirectory() as folder:  # the Trainer makes its output folder at once
        model, args = load_parts(configuration, Path(folder), prepared, quiet=True)
        findings = tuple(preflight(model, args, prepared.train, eval_dataset=prepared.validation))
        if any(finding.severity == "error" for finding in findings):
            return DryRun(findings)
        rows = tuple(layer_rows(model, args))
        callbacks = stabilize(args)["callbacks"]
        steps, per_epoch = _steps(args, prepared)
        times = [c.times for c in callbacks if isinstance(c, EvaluationsPerEpochCallback)]
        when = timetable(args, steps, per_epoch, times)
        words = describe_schedule(args, callbacks, rows, when, steps, per_epoch)
        args.fit_head, args.fit_head_scale = False, None  # takes time, changes no cost
        trainer = assemble(model, args, configuration, prepared, quiet=True)
        cost = measure_cost(trainer, callbacks, when, steps)
    return DryRun(findings, rows, tuple(words), steps, when.evaluations, when.saves, cost)


def _steps(args: StabilizerArguments, prepared: PreparedTask) -> tuple[int, int]:
    steps, per_epoch = planned_steps(args, len(prepared.train))
    assert steps is not None  # the rows of a configuration have a number
    assert per_epoch is not None
    return steps, per_epoch


def measure_cost(
    trainer: Trainer, callbacks: Sequence[TrainerCallback], when: Timetable, steps: int
) -> Cost:
    """Returns what a whole run takes, measured on a few batches; the model is spoilt by it."""
    model, args = trainer.model, trainer.args
    assert model is not None  # it was built
    optimizer = trainer.create_optimizer()
    seconds_per_batch = _time_training(trainer, optimizer)
    per_step = seconds_per_batch * args.gradient_accumulation_steps
    looking = _time_evaluation(trainer) * len(trainer.get_eval_dataloader())
    state = _state_bytes(optimizer)
    weights = _bytes(dict(model.state_dict()).values())
    averages = any(isinstance(callback, AveragingCallback) for callback in callbacks)
    trained = [p for p in model.parameters() if p.requires_grad]
    mean = sum(p.numel() for p in trained) * FULL if averages else 0
    saved = weights + (0 if args.save_only_model else state)
    saved += mean + _bytes(trained) if averages else 0
    return Cost(
        seconds_per_step=per_step,
        seconds=per_step * steps + looking * len(when.evaluations),
        checkpoint=saved,
        disk=saved * _checkpoints_at_once(trainer, when) + weights,
        weights=weights,
        optimizer=state,
        averaging=mean,
    )


def _checkpoints_at_once(trainer: Trainer, when: Timetable) -> int:
    """The most checkpoints that lie on disk together: the oldest goes after the newest came."""
    args = trainer.args
    strategy = SaveStrategy(args.save_strategy)
    if strategy == SaveStrategy.NO:
        return 0
    possible = len(when.evaluations if strategy == SaveStrategy.BEST else when.saves)
    limit = args.save_total_limit
    if limit is None or limit < 1:
        return possible
    # Of one the Trainer keeps two where the best is not the last.
    kept = max(limit, 2) if args.load_best_model_at_end and strategy != SaveStrategy.BEST else limit
    return min(possible, kept + 1)


def _time_training(trainer: Trainer, optimizer: torch.optim.Optimizer) -> float:
    """Seconds of forward, backward and step on one batch: the mean of some, after the first."""
    trainer.current_gradient_accumulation_steps = 1  # what `train` would set
    assert trainer.model is not None
    trainer.model.train()

    def learn(batch: Any) -> None:  # Any: whatever the collator makes
        trainer.training_step(trainer.model, batch)  # type: ignore[arg-type]  # it is set
        optimizer.step()
        optimizer.zero_grad()

    return _mean_seconds(learn, trainer.get_train_dataloader(), trainer.args.device)


def _time_evaluation(trainer: Trainer) -> float:
    """Seconds of one batch of an evaluation."""

    def look(batch: Any) -> None:  # Any: whatever the collator makes
        assert trainer.model is not None
        trainer.prediction_step(trainer.model, batch, prediction_loss_only=False)

    return _mean_seconds(look, trainer.get_eval_dataloader(), trainer.args.device)


def _mean_seconds(work: Callable[[Any], None], batches: Any, device: torch.device) -> float:
    """The first batch is not counted where there are more: it warms up."""
    seconds = []
    for batch in itertools.islice(itertools.cycle(batches), MEASURED + 1):
        start = time.perf_counter()
        work(batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return sum(seconds[1:]) / MEASURED


def _state_bytes(optimizer: torch.optim.Optimizer) -> int:
    values = [value for state in optimizer.state.values() for value in state.values()]
    return _bytes(value for value in values if isinstance(value, torch.Tensor))


def _bytes(tensors: Any) -> int:  # Any: an iterable of tensors
    """Bytes of these tensors, one that stands there twice counted once."""
    distinct = {tensor.data_ptr(): tensor for tensor in tensors}
    return sum(tensor.numel() * tensor.element_size() for tensor in distinct.values())
