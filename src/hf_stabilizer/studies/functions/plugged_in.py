"""Does the Trainer that people's function returned do what its arguments ask for?

What `stabilize(args)` and `prepare_model(model, args)` return must have been handed on: a remedy
that was left out would make a recipe equal to the plain Trainer, and nothing would say so.
"""

from __future__ import annotations

from typing import Any

from transformers import Trainer, TrainerCallback, TrainingArguments

from hf_stabilizer.argument_callbacks import callbacks_of
from hf_stabilizer.arguments import StabilizerArguments, stabilize, was_prepared
from hf_stabilizer.errors import ConfigurationError

# Any in this module: what people's functions return, and values of options.

_OURS = ("output_dir", "seed", "data_seed")
"""Arguments by which a run is told from others."""

_BEFORE_TRAINING = (
    *("reinit_layers", "reinit_pooler", "freeze_embeddings", "freeze_layers", "fit_head"),
    "layer_overrides",
)
"""Options that act in `prepare_model`; `head_seed` also decides without it."""


def trainer_and_test(built: Any, name: str) -> tuple[Trainer, Any]:
    """Returns the Trainer that a function made, and its test rows or None.

    Raises:
        ConfigurationError: It returned something else.
    """
    trainer, test = built if isinstance(built, tuple) and len(built) == 2 else (built, None)
    if not isinstance(trainer, Trainer):
        raise ConfigurationError(
            f"the function {name} must return a Trainer, or a Trainer and test rows, got "
            f"{type(trainer).__name__}; end it with `return Trainer(model, args=args, ...)`"
        )
    return trainer, test


def check_arguments_used(trainer: Trainer, args: StabilizerArguments, name: str) -> None:
    """Raises ConfigurationError if a Trainer was made with other arguments than the run's."""
    if trainer.args is args:
        return
    for key in _OURS:
        theirs, ours = getattr(trainer.args, key, None), getattr(args, key)
        if theirs != ours:
            raise ConfigurationError(
                f"the Trainer of {name} has {key}={theirs!r}, and this run has {ours!r}: return a "
                "Trainer made with the arguments that the function is given, "
                "`Trainer(model, args=args, ...)`"
            )


def check_plugged_in(trainer: Trainer, args: StabilizerArguments, name: str) -> None:
    """Raises ConfigurationError if an option of the arguments would do nothing."""
    asked = _asked_before_training(args)
    if asked and not (was_prepared(args) or was_prepared(trainer.args)):
        data = ", train_dataset=rows, data_collator=collator" if args.fit_head else ""
        raise ConfigurationError(
            f"{asked} does nothing in {name}: prepare_model was not called; give the Trainer "
            f"`prepare_model(model, args{data})` as its model"
        )
    there = tuple(trainer.callback_handler.callbacks)
    for callback in callbacks_of(args, []):
        if not any(isinstance(one, type(callback)) for one in there):
            raise ConfigurationError(_not_plugged_in(args, name, type(callback).__name__))
    if "optimizer_cls_and_kwargs" in stabilize(args) and not _has_layers(trainer):
        raise ConfigurationError(_not_plugged_in(args, name, "layer-wise optimizer"))


def check_can_be_scored(trainer: Trainer, name: str) -> None:
    """Raises ConfigurationError if there are no rows to learn from, or none to be scored by."""
    for key in ("train_dataset", "eval_dataset"):
        if getattr(trainer, key) is None:
            raise ConfigurationError(
                f"the Trainer of {name} has no {key}; a study trains, and compares scores on "
                "validation rows: hand both to the Trainer"
            )


def _asked_before_training(args: StabilizerArguments) -> str:
    """The first option that acts before training, with its value; empty if there is none."""
    for key in _BEFORE_TRAINING:
        value = getattr(args, key)
        if value not in (None, 0, False, "false", {}):
            return f"{key}={value!r}"
    return ""


def _not_plugged_in(args: StabilizerArguments, name: str, what: str) -> str:
    options = ", ".join(f"{key}={value!r}" for key, value in _asked(args).items())
    return (
        f"the arguments ask for {options}, and the Trainer of {name} has no {what}; add "
        "**stabilize(args) to the Trainer's arguments"
    )


def _asked(args: StabilizerArguments) -> dict[str, Any]:
    """The options of ours that are not at their defaults and act through `stabilize`."""
    fields, plain = StabilizerArguments.__dataclass_fields__, TrainingArguments.__dataclass_fields__
    own = [name for name in fields if name not in plain and name not in _BEFORE_TRAINING]
    given = {name: getattr(args, name) for name in own if name not in ("head_seed",)}
    return {name: value for name, value in given.items() if value != fields[name].default}


def _has_layers(trainer: Trainer) -> bool:
    """Whether the optimizer that the Trainer has, or will make, knows layers."""
    if trainer.optimizer is not None:
        return all("depth" in group for group in trainer.optimizer.param_groups)
    return trainer.optimizer_cls_and_kwargs is not None


def own_callbacks(trainer: Trainer, args: StabilizerArguments) -> list[TrainerCallback]:
    """Returns the Trainer's callbacks but for those that `stabilize` gave it."""
    ours = tuple(type(callback) for callback in callbacks_of(args, []))
    return [one for one in trainer.callback_handler.callbacks if not isinstance(one, ours)]
