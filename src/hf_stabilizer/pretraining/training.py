"""How is a language model trained further? With the stock Trainer, from text to the kept model."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import TrainerState

from hf_stabilizer.arguments import prepare_model, stabilize
from hf_stabilizer.checkpoints import last_complete_checkpoint
from hf_stabilizer.errors import ConfigurationError, StabilizerError, first_line
from hf_stabilizer.pretraining.hand_over import keep_language_model
from hf_stabilizer.pretraining.masking import EpochCallback
from hf_stabilizer.pretraining.options import PretrainingOptions, training_arguments
from hf_stabilizer.pretraining.perplexity import perplexity_metrics, reduce_logits
from hf_stabilizer.pretraining.preparing import Work
from hf_stabilizer.pretraining.record import Pretraining
from hf_stabilizer.pretraining.stopping import KEY, PerplexityStoppingCallback, looks_in_vain
from hf_stabilizer.random_state import remember_random_state
from hf_stabilizer.records import write_atomically
from hf_stabilizer.run import heed
from hf_stabilizer.silent_mistakes import preflight
from hf_stabilizer.studies.tracking import tracked

logger = logging.getLogger(__name__)

# Any in this module: values of configuration keys, and metrics.
BEFORE = "before.json"
_ACCURACY = "eval_next_sentence_accuracy"
# Advice on classifiers; and the head is drawn from the seed, which `preflight` cannot see.
_OF_FINE_TUNING = {"few-steps", "optimistic-best", "unseeded-head"}


def training_folder(folder: Path, objective: str) -> Path:
    """Returns the folder of checkpoints; trackers name the run after it (`TrackerNames`)."""
    return folder / "runs" / "pretrain" / objective


def build_pretrainer(
    work: Work,
    options: PretrainingOptions,
    folder: Path,
    *,
    labels: Mapping[str, Any] | None = None,
    callbacks: Iterable[TrainerCallback] = (),
) -> Trainer:
    """Returns the stock Trainer of a pre-training, ready to train.

    Args:
        work: What `prepare` returned.
        options: Their `patience` is looked at.
        folder: For checkpoints.
        labels: Training keys that tell trackers of it.
        callbacks: More callbacks for the Trainer.

    Raises:
        ConfigurationError: `preflight` finds that it would fail, or the Trainer refuses it.
    """
    args = training_arguments({**work.values, **(labels or {})}, folder)
    model = work.language_model.model
    callbacks = [*callbacks, EpochCallback(work.collator)]
    found = preflight(model, args, work.train, eval_dataset=work.held_out, callbacks=callbacks)
    heed(finding for finding in found if finding.code not in _OF_FINE_TUNING)
    prepare_model(model, args)
    plugged = stabilize(args, [*callbacks, PerplexityStoppingCallback(options.patience)])
    try:
        return Trainer(
            model=model,
            args=args,
            train_dataset=work.train,
            eval_dataset=work.held_out,
            data_collator=work.collator,
            processing_class=work.tokenizer,
            compute_metrics=perplexity_metrics(work.objective),
            preprocess_logits_for_metrics=reduce_logits(work.objective),
            **plugged,
        )
    except StabilizerError:
        raise
    except (ValueError, ImportError, RuntimeError) as error:
        reason = first_line(error)
        raise ConfigurationError(f"the Trainer refuses these training keys: {reason}") from error


def pretrain(
    work: Work,
    options: PretrainingOptions,
    folder: Path,
    *,
    callbacks: Iterable[TrainerCallback] = (),
) -> Pretraining:
    """Trains, keeps the weights with the lowest held-out perplexity, and hands them over.

    What was cut off goes on from its newest whole checkpoint.
    """
    start = time.perf_counter()
    place = training_folder(folder, work.objective)
    checkpoint = last_complete_checkpoint(place)
    with tracked(place, work.values, goes_on=checkpoint is not None) as tracking:
        trainer = build_pretrainer(
            work,
            options,
            place,
            labels={**_shown(work), **tracking.labels},
            callbacks=[*callbacks, tracking.callback],
        )
        before = _measure_before(trainer, place)
        _train(trainer, checkpoint, options.patience)
        after = trainer.evaluate()
    assert trainer.model is not None
    arrived = keep_language_model(
        trainer.model,  # type: ignore[arg-type]  # the Trainer takes any module
        work.tokenizer,
        folder / "model",
        before=work.before,
        task=work.configuration.model.task,
    )
    looks = _looks(trainer.state)
    record = Pretraining(
        model=str(folder / "model"),
        objective=work.objective,
        perplexity_before=before[KEY],
        perplexity_after=after[KEY],
        next_sentence_accuracy=(
            (before[_ACCURACY], after[_ACCURACY]) if _ACCURACY in after else None
        ),
        evaluations=looks,
        steps=trainer.state.global_step,
        best_step=min(looks, key=lambda look: look[1])[0],
        texts=dict(work.corpus.counts),
        rows=len(work.train),
        held_out_rows=len(work.held_out),
        tokens=work.tokens,
        body=len(arrived.body),
        carried=arrived.carried,
        shared=arrived.shared,
        new=arrived.new,
        notes=(*work.notes, *_warnings(before[KEY], after[KEY])),
        seconds=time.perf_counter() - start,
    )
    record.write(folder)
    shutil.rmtree(folder / "runs", ignore_errors=True)  # checkpoints that served to choose it
    return record


def _shown(work: Work) -> dict[str, bool]:
    """A bar where somebody looks on, unless the keys say otherwise."""
    return {} if "disable_tqdm" in work.values else {"disable_tqdm": not sys.stderr.isatty()}


def _measure_before(trainer: Trainer, place: Path) -> Mapping[str, float]:
    """Looks at the held-out text before the first step, once, and without moving random numbers."""
    path = place / BEFORE
    if path.is_file():
        measured: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return measured
    restore = remember_random_state(trainer.args.device)
    metrics = trainer.evaluate()
    restore()
    write_atomically(path, json.dumps(metrics))
    return metrics


def _train(trainer: Trainer, checkpoint: str | None, patience: int) -> None:
    """Trains, unless it had come to its end before it was cut off: then the best is loaded."""
    if checkpoint is not None:
        logger.info("goes on from %s", checkpoint)
        state = TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json"))
        best = state.best_model_checkpoint
        if looks_in_vain(state.log_history) >= patience and best and Path(best).is_dir():
            trainer.state = state
            _load_weights(trainer.model, best)
            return
    trainer.train(resume_from_checkpoint=checkpoint)


def _load_weights(model: Any, checkpoint: str) -> None:  # Any: the Trainer takes any module
    there = type(model).from_pretrained(checkpoint, dtype=torch.float32)
    model.load_state_dict(there.state_dict())


def _looks(state: TrainerState) -> tuple[tuple[int, float], ...]:
    """The evaluations of the training; the one behind its end says nothing new."""
    looks = {int(line["step"]): line[KEY] for line in reversed(state.log_history) if KEY in line}
    return tuple(sorted(looks.items()))


def _warnings(before: float, after: float) -> list[str]:
    if after < before:
        return []
    return [
        f"perplexity did not fall ({before:.4g} before, {after:.4g} after): the model has not "
        "learnt this text; more text, or another learning_rate"
    ]
