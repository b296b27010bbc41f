"""What can be said about further pre-training? The objective, its text, and how the Trainer trains.

    configuration keys     the task, the model, the rows; how it is *fine-tuned* afterwards
    training keys          how it is *pre-trained*: defaults of their own, stated in TRAINING

The two do not mix, but for what concerns the machine and the trackers, which the configuration
says for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from transformers.trainer_utils import IntervalStrategy

from hf_stabilizer.arguments import StabilizerArguments
from hf_stabilizer.configuration import Configuration, check_numbers, check_value, known_keys
from hf_stabilizer.errors import (
    ConfigurationError,
    StabilizerError,
    check_choice,
    check_switch,
    check_whole,
    did_you_mean,
    first_line,
)

# Any in this module: values of configuration keys.
Objective: TypeAlias = Literal["mlm", "clm", "mlm+nsp"]
OBJECTIVES = ("mlm", "clm", "mlm+nsp")
MASKED = ("mlm", "mlm+nsp")
DEFAULT_LENGTH = 128
"""Tokens of a row, special ones included, where nothing else is said (Devlin et al. 2019, A.2)."""

TRAINING: Mapping[str, Any] = MappingProxyType(
    {
        "learning_rate": 5e-5,
        "num_train_epochs": 20,
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 16,
        "warmup_steps": 0.06,
        "weight_decay": 0.01,
        "adam_beta2": 0.98,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "save_total_limit": 2,
        "report_to": "none",
        "seed": 1,
    }
)
"""Training keys unless told otherwise. Warm-up, weight decay and beta2 are those of Gururangan et
al. 2020, table 14; their rate of 1e-4 goes with batches of 256 rows of 512 tokens."""

MACHINE = (
    *("use_cpu", "bf16", "fp16", "tf32", "bf16_full_eval", "fp16_full_eval", "torch_compile"),
    *("gradient_checkpointing", "dataloader_num_workers", "dataloader_pin_memory"),
    *("full_determinism", "disable_tqdm", "report_to", "run_name", "project", "trackio_space_id"),
)
"""Keys that the configuration says for both trainings: what they run on, and who is told."""

TELLING = (
    *("disable_tqdm", "report_to", "run_name", "project", "trackio_space_id", "logging_steps"),
    *("dataloader_num_workers", "dataloader_pin_memory"),
)
"""Keys that change nothing about the weights: a second start may set others."""

OURS: Mapping[str, Any] = MappingProxyType(
    {
        "metric_for_best_model": "perplexity",
        "greater_is_better": False,
        "load_best_model_at_end": True,
        "remove_unused_columns": False,
        "save_only_model": False,
    }
)
"""Training keys that the procedure stands on."""
_NOT_HERE = {
    **dict.fromkeys(OURS, "held-out perplexity chooses the weights, from whole checkpoints"),
    "output_dir": "name it outside of the training keys",
    "resume_from_checkpoint": "the same call goes on by itself from where it was cut off",
    "fit_head": "a language model's head is no linear classifier",
    "fit_head_scale": "a language model's head is no linear classifier",
    "label_smoothing_factor": "perplexity would no longer be comparable",
    "push_to_hub": "push OUTPUT/model once it is verified",
}


@dataclass(frozen=True)
class PretrainingOptions:
    """What is learnt from which text."""

    objective: Objective | None = None
    """Masked ("mlm") or causal ("clm") language modelling, or masked with next-sentence
    prediction; None: as the model was pre-trained."""
    mlm_probability: float | None = None
    """Share of the tokens that are to be told, in (0, 1); None: 0.15."""
    whole_word_masking: bool = False
    """Whether the pieces of a word are masked together."""
    packing: bool | None = None
    """Whether texts are joined and cut into rows of equal length; None: they are, but for pairs of
    sentences."""
    max_length: int | None = None
    """Tokens of a row, special ones included; None: the configuration's, else at most 128."""
    held_out: float = 0.1
    """Share of the texts that are not learnt from, in (0, 1): perplexity is theirs."""
    patience: int = 3
    """Evaluations running without a better perplexity after which training ends."""
    include_validation_text: bool = False
    """Whether the texts of the validation rows are learnt from, too."""
    include_test_text: bool = False
    """Whether the texts of the test rows are learnt from, too."""

    def __post_init__(self) -> None:
        if self.objective is not None:
            check_choice(self.objective, OBJECTIVES, name="objective")
        for name in ("whole_word_masking", "include_validation_text", "include_test_text"):
            check_switch(getattr(self, name), name=name)
        if self.packing is not None:
            check_switch(self.packing, name="packing")
        check_whole(self.patience, "of evaluations from 1 up", name="patience", least=1)
        if self.max_length is not None:
            check_whole(self.max_length, "of tokens from 8 up", name="max_length", least=8)
        for name in ("mlm_probability", "held_out"):
            _check_share(getattr(self, name), name)

    @property
    def mask_share(self) -> float:
        """The share of the tokens that are to be told."""
        return 0.15 if self.mlm_probability is None else self.mlm_probability

    def check_against(self, objective: str) -> None:
        """Raises ConfigurationError where an option belongs to another objective."""
        if objective == "clm":
            for name, value in (
                ("mlm_probability", self.mlm_probability),
                ("whole_word_masking", self.whole_word_masking or None),
            ):
                if value is not None:
                    raise ConfigurationError(
                        f"{name}={value!r} belongs to masked language modelling, and the "
                        "objective is 'clm'; remove it, or set objective: mlm"
                    )
        if objective == "mlm+nsp" and self.packing:
            raise ConfigurationError(
                "packing=True joins texts, and next-sentence prediction reads pairs of "
                "sentences; remove packing, or set objective: mlm"
            )


def _check_share(value: object, name: str) -> None:
    if value is None and name == "mlm_probability":
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise ConfigurationError(f"{name} must be a fraction in (0, 1), got {value!r}")


def training_values(
    configuration: Configuration, training: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Returns the Trainer's options for the pre-training, checked.

    Args:
        configuration: Says what concerns the machine and the trackers.
        training: Training keys that were given for the pre-training.

    Raises:
        ConfigurationError: A key is unknown, of another kind or set by the procedure itself.
    """
    checked = {key: _check_training_key(key, value) for key, value in (training or {}).items()}
    shared = {key: configuration.values[key] for key in MACHINE if key in configuration.given}
    # A checkpoint at every look, so that the best of them can be kept.
    looking = {"save_strategy": "eval_strategy", "save_steps": "eval_steps"}
    saving = {ours: checked[theirs] for ours, theirs in looking.items() if theirs in checked}
    values = {**TRAINING, **shared, **saving, **checked, **OURS}
    check_numbers(values)
    return values


def _check_training_key(key: str, value: Any) -> Any:
    theirs = {field.name for field in fields(StabilizerArguments) if field.init}
    if key in _NOT_HERE:
        raise ConfigurationError(f"{key} cannot be set for pre-training: {_NOT_HERE[key]}")
    if key not in theirs and key in known_keys():
        raise ConfigurationError(
            f"{key} is no training key; it belongs into the configuration, or its overrides"
        )
    if key not in theirs:
        raise ConfigurationError(
            f"unknown training key {key!r}{did_you_mean(key, theirs)}; "
            "`hf-stabilizer init --keys` lists all of them"
        )
    return check_value(key, value)


def training_arguments(values: Mapping[str, Any], folder: Path) -> StabilizerArguments:
    """Returns the arguments of the Trainer.

    Raises:
        ConfigurationError: transformers or one of our checks refuses a value.
    """
    try:
        args = StabilizerArguments(**{**values, "output_dir": str(folder)})
    except StabilizerError:
        raise
    except (ValueError, TypeError, ImportError) as error:
        reason = first_line(error)
        raise ConfigurationError(f"the Trainer refuses these training keys: {reason}") from error
    if IntervalStrategy(args.eval_strategy) == IntervalStrategy.NO:
        raise ConfigurationError(
            "eval_strategy='no' leaves nothing to choose the weights by; leave it out for one "
            "look at the held-out text per epoch"
        )
    if args.device.type == "cpu":
        args.dataloader_pin_memory = False  # nothing to pin for; torch would warn of it
    if args.dataloader_persistent_workers:
        raise ConfigurationError(
            "dataloader_persistent_workers=True would give every epoch the masks of the first; "
            "leave it out"
        )
    return args


def row_length(options: PretrainingOptions, asked: int | None, limit: int) -> int:
    """Returns the tokens of a row.

    Args:
        options: Their `max_length` comes first.
        asked: `max_length` of the configuration.
        limit: What the model can take.

    Raises:
        ConfigurationError: It is more than the model can take.
    """
    length = options.max_length or asked or min(limit, DEFAULT_LENGTH)
    if length > limit:
        raise ConfigurationError(
            f"max_length must be at most {limit}, the model's own limit, got {length!r}"
        )
    return length
