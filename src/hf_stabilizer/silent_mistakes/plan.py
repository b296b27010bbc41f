"""What is known of a run before it begins? Gathered once, for every check to read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainingArguments

from hf_stabilizer.arguments import StabilizerArguments
from hf_stabilizer.layers import LayerMap
from hf_stabilizer.silent_mistakes.rows import Rows


@dataclass(frozen=True)
class Plan:
    """A run as it is meant: nothing of it has happened yet."""

    model: nn.Module
    """The model that will be trained, before or after `prepare_model`."""
    args: TrainingArguments
    """The arguments, plain or ours."""
    callbacks: tuple[TrainerCallback, ...] = ()
    """The callbacks of the run, those that `stabilize` makes of the arguments among them."""
    layers: LayerMap | None = None
    """The layers; None where the model's cannot be told."""
    rows: Rows | None = None
    """The training rows; None where there are none to look at."""
    steps: int | None = None
    """Optimizer steps of the run; None where they cannot be told."""
    steps_per_epoch: int | None = None
    """Optimizer steps of one epoch."""
    evaluations: tuple[int, ...] | None = None
    """Optimizer steps with an evaluation; None where they cannot be told."""
    evaluation_rows: int | None = None
    """Rows of the validation data; None where they are not known."""
    processes: int = 1
    """Processes that train together."""

    @property
    def options(self) -> StabilizerArguments | None:
        """The arguments if they are ours."""
        return self.args if isinstance(self.args, StabilizerArguments) else None

    @property
    def config(self) -> Any:  # Any: configurations share no typed fields
        """The model's configuration; None for a module without one."""
        return getattr(self.model, "config", None)

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """All parameters by name."""
        return dict(self.model.named_parameters())

    @property
    def classifies(self) -> bool:
        """Whether the model maps inputs to one of `config.num_labels` classes."""
        kinds = ("SequenceClassification", "TokenClassification", "ImageClassification")
        names = [kind.__name__ for kind in type(self.model).__mro__]
        return any(name.endswith(kinds) for name in names) and hasattr(self.config, "num_labels")

    def has_callback(self, *kinds: type[TrainerCallback]) -> bool:
        """Whether a callback of one of these kinds takes part."""
        return any(isinstance(callback, kinds) for callback in self.callbacks)
