"""What happens at which step? The plan of a run in sentences, for people to read before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import SaveStrategy

from hf_stabilizer.arguments import StabilizerArguments
from hf_stabilizer.averaging import AveragingCallback, EMACallback, SWACallback
from hf_stabilizer.freezing import FreezingCallback
from hf_stabilizer.layer_view import LayerRow
from hf_stabilizer.learning_rates import batch_size_factor
from hf_stabilizer.silent_mistakes.timetable import Timetable
from hf_stabilizer.steps import resolve_step

SHOWN = 6
"""Steps of a long list that are named."""


def describe_schedule(
    args: StabilizerArguments,
    callbacks: Sequence[TrainerCallback],
    layers: Sequence[LayerRow],
    when: Timetable,
    steps: int,
    steps_per_epoch: int,
) -> list[str]:
    """Returns one sentence each: steps, rates, freezing, averaging, evaluations, checkpoints."""
    batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    return [
        f"Steps: {steps}, {steps_per_epoch} per epoch, {batch} rows in each.",
        *_layers_before(args, layers),
        _rates(args, steps),
        *_freezing(callbacks, layers, steps),
        *_averaging(callbacks, steps),
        _evaluations(when.evaluations),
        _checkpoints(args, when),
    ]


def _layers_before(args: StabilizerArguments, layers: Sequence[LayerRow]) -> Iterator[str]:
    """What is brought in from another model, and what is drawn anew."""
    blocks = len(layers) - 2
    if args.transfer_from is not None:
        chosen = args.transfer_layers
        what = "the whole body" if chosen is None else _lowest(chosen, blocks)
        yield f"Transferred from {args.transfer_from}: {what}."
    elif args.transfer_layers is not None:
        kept = _lowest(args.transfer_layers, blocks)
        yield f"Kept from the model's own checkpoint: {kept}; all above starts anew."


def _lowest(count: int, blocks: int) -> str:
    if count == 0:
        return f"the embeddings, none of {blocks} blocks"
    return f"the embeddings and the lowest {count} of {blocks} blocks"


def _rates(args: StabilizerArguments, steps: int) -> str:
    warmup = args.get_warmup_steps(steps)
    rate = args.learning_rate * batch_size_factor(args)
    rise = f"rising over the first {warmup} steps" if warmup else "without warm-up"
    kind = args.lr_scheduler_type
    return f"Rate of the top block: {rate:.4g} at its peak, {rise}, then {_value(kind)}."


def _freezing(
    callbacks: Sequence[TrainerCallback], layers: Sequence[LayerRow], steps: int
) -> Iterator[str]:
    frozen = [row.label for row in layers if row.rate is None]
    if frozen:
        yield f"Frozen for the whole run: {', '.join(frozen)}."
    labels = {row.depth: row.label for row in layers}
    for callback in callbacks:
        if isinstance(callback, FreezingCallback):
            first = callback.first_steps(len(layers) - 2, steps)
            stages: dict[int, list[str]] = {}
            for depth in sorted(first, reverse=True):
                stages.setdefault(first[depth], []).append(labels[depth])
            words = [f"{', '.join(names)} from step {step}" for step, names in stages.items()]
            yield f"Learning: {'; '.join(words)}."


def _averaging(callbacks: Sequence[TrainerCallback], steps: int) -> Iterator[str]:
    for callback in callbacks:
        if isinstance(callback, AveragingCallback):
            start = max(1, resolve_step(callback.start, steps))
            every = "every step" if callback.every == 1 else f"every {callback.every} steps"
            yield f"Averaging: {_mean(callback)}, {every} from step {start} on."


def _mean(callback: AveragingCallback) -> str:
    if isinstance(callback, EMACallback):
        return f"moving mean, decay {callback.decay:g}{' with warm-up' * callback.warmup}"
    if isinstance(callback, SWACallback) and callback.learning_rate is not None:
        steps = callback.anneal_steps
        return f"equal weights, the rate moving to {callback.learning_rate:.4g} in {steps} steps"
    return "equal weights"


def _evaluations(steps: Sequence[int]) -> str:
    if not steps:
        return "Evaluations: none."
    return f"Evaluations: {len(steps)}, after {_listed(steps)}."


def _checkpoints(args: StabilizerArguments, when: Timetable) -> str:
    strategy = SaveStrategy(args.save_strategy)
    if strategy == SaveStrategy.NO:
        return "Checkpoints: none."
    kept = "" if args.save_total_limit is None else f"; {args.save_total_limit} kept"
    if strategy == SaveStrategy.BEST:
        return f"Checkpoints: at each evaluation that is the best so far{kept}."
    return f"Checkpoints: {len(when.saves)}, after {_listed(when.saves)}{kept}."


def _listed(steps: Sequence[int]) -> str:
    """Names the steps, of a long list the first ones and the last: "steps 4, 8, 12"."""
    shown = [str(step) for step in steps]
    if len(shown) > SHOWN:
        shown = [*shown[: SHOWN - 2], "...", shown[-1]]
    return f"step{'s' * (len(steps) != 1)} {', '.join(shown)}"


def _value(choice: Any) -> Any:  # Any: an enum of transformers, or its value
    return getattr(choice, "value", choice)
