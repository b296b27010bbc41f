r"""How are large weights, or many of them, made to cost something? L2 in the gradient, L1 after it.

    L2 (ridge)   g <- g + l2 w                                   before the optimizer step
    L1 (lasso)   w <- sign(w) max(|w| - rate l1, 0)              after the optimizer step

Both shrink the parameters that the Trainer's own rule decays: no biases, no norms. L2 is not
AdamW's weight decay: it goes through the optimizer's moments, so under Adam a weight with large
gradients is hardly shrunk; `weight_decay` of AdamW shrinks all alike. Under SGD the two are one.
L1 sets weights to exactly 0 and keeps them there until a gradient outweighs it.

Sources: Loshchilov, Hutter 2019, section 2, arXiv 1711.05101 (L2 against decoupled decay); the
proximal step: Parikh, Boyd 2014, Proximal Algorithms, section 6.5.2.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, cast

import torch
from torch import nn
from torch.nn.functional import softshrink
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from hf_stabilizer.call_order import call_first
from hf_stabilizer.checkpoint_notes import hold_to_settings, warn_of_files_left
from hf_stabilizer.errors import ConfigurationError, check_switch
from hf_stabilizer.hidden_steps import refuse_hidden_steps
from hf_stabilizer.skipped_steps import was_skipped

# Any in this module: what the Trainer hands to every callback.


class PenaltyCallback(TrainerCallback, ABC):
    """One run's penalty on weights; L1 and L2 are short uses of it."""

    def __init__(self, strength: float):
        self.strength = _checked(strength)
        self.read_options: Callable[[], Mapping[str, Any]] | None = None
        """Gives the constructor's options anew when a run begins; None: they stay as they are."""
        self._weights: list[nn.Parameter] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Finds the parameters; may be called again for another attempt at the same run."""
        if self.read_options is not None:
            fresh = type(self)(**self.read_options())
            names = inspect.signature(type(self)).parameters
            vars(self).update({name: getattr(fresh, name) for name in names})
        name, self._weights = type(self).__name__, []
        settings = {"strength": self.strength} if self.strength else {}
        hold_to_settings(state, settings, technique=name)
        if not self.strength:
            return
        refuse_hidden_steps(name, args)
        self._weights = _decayed_parameters(kwargs["model"], kwargs["optimizer"])
        if not self._weights:
            raise ConfigurationError(
                f"{name}(strength={self.strength:g}) has nothing to act on: no parameter that the "
                "Trainer decays (biases and norms are none) is trained; unfreeze some, or leave "
                "the callback out"
            )

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tells of averages that a resumed run has lost."""
        warn_of_files_left(state)

    def _learning(self) -> list[nn.Parameter]:
        """The parameters that the optimizer moves in this step; frozen ones have no gradient."""
        return [p for p in self._weights if p.requires_grad and p.grad is not None]


class L2Callback(PenaltyCallback):
    """Adds L2 regularisation to the gradient: g + strength w.

    That is the gradient of strength / 2 |w|^2, added after clipping, as `weight_decay` of
    torch.optim.SGD and Adam is: so the pull on a weight does not depend on how large the other
    gradients are, and `max_grad_norm` and the logged norm speak of the loss alone. Strength 0 is
    the plain Trainer; with `optim="sgd"` it equals SGD's own `weight_decay` to the last bit.

    Frozen parameters are left alone. A step whose gradients are emptied, as by
    `DivergenceGuardCallback("warn")`, adds nothing. Nothing is kept beyond the step, so that
    resuming is exact. Cannot be combined with optimizers that step inside the backward pass.

    Args:
        strength: Factor on the weight, from 0 up; in the units of the gradient.

    Raises:
        ConfigurationError: `strength` is no finite number from 0 up; in `on_train_begin`: DeepSpeed
            or LOMO, or nothing that it would act on is trained.
        ResumeError: In `on_train_begin`: the checkpoint was written with another strength.

    Example:
        >>> import tempfile, torch, transformers
        >>> from hf_stabilizer import L2Callback
        >>> config = transformers.BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1,
        ...     num_attention_heads=1, intermediate_size=8, max_position_embeddings=8)
        >>> row = {"input_ids": torch.tensor([1, 2, 3]), "labels": torch.tensor(1)}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     args = transformers.TrainingArguments(folder, max_steps=1, weight_decay=0.0,
        ...         use_cpu=True, report_to="none", disable_tqdm=True, dataloader_pin_memory=False)
        ...     _ = transformers.Trainer(transformers.BertForSequenceClassification(config), args,
        ...         train_dataset=[row] * 8, callbacks=[L2Callback(0.01)]).train()
        {'train_runtime': ...}

    Source: Krogh, Hertz 1991; Loshchilov, Hutter 2019, arXiv 1711.05101, Algorithms 1 and 2 (L2).
    """

    @torch.no_grad()
    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Adds the pull of each weight towards 0 to its gradient."""
        learning = self._learning()
        if learning:
            gradients = [_local(p.grad) for p in learning if p.grad is not None]
            alpha = self.strength * _gradient_scale(args, kwargs["optimizer"])
            torch._foreach_add_(gradients, [_local(p.detach()) for p in learning], alpha=alpha)


class L1Callback(PenaltyCallback):
    """Draws weights towards 0, and small ones to it, after each step: a soft threshold.

    w <- sign(w) max(|w| - rate x strength, 0), with the rate that the step was taken at and that
    the parameter's own group has: the proximal step for strength |w|_1. Strength 0 is the plain
    Trainer. The threshold does not pass through the optimizer's moments.

    Frozen parameters are left alone, and a step that was skipped (an overflow in fp16, a guard that
    emptied the gradients) is followed by no threshold. It comes before all other callbacks, so
    that an average takes the weights after it. Nothing is kept beyond the step, so that resuming
    is exact. Cannot be combined with optimizers that step inside the backward pass.

    Args:
        strength: Factor on the rate, from 0 up.
        log: Add `l1/zeros`, the share of the penalised weights that are 0 (under FSDP2 of those
            in the main process), to each line that the Trainer logs.

    Raises:
        ConfigurationError: `strength` is no finite number from 0 up; in `on_train_begin`: DeepSpeed
            or LOMO, nothing that it would act on is trained, or the Trainer is not the stock one.
        ResumeError: In `on_train_begin`: the checkpoint was written with another strength.

    Example:
        >>> import tempfile, torch, transformers
        >>> from hf_stabilizer import L1Callback
        >>> config = transformers.BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1,
        ...     num_attention_heads=1, intermediate_size=8, max_position_embeddings=8)
        >>> row = {"input_ids": torch.tensor([1, 2, 3]), "labels": torch.tensor(1)}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     args = transformers.TrainingArguments(folder, max_steps=1, learning_rate=0.1,
        ...         use_cpu=True, report_to="none", disable_tqdm=True, dataloader_pin_memory=False)
        ...     trainer = transformers.Trainer(transformers.BertForSequenceClassification(config),
        ...         args, train_dataset=[row] * 8, callbacks=[L1Callback(100.0)])
        ...     _ = trainer.train()
        {'train_runtime': ...}
        >>> bool((trainer.model.classifier.weight == 0).all())
        True

    Source: Tibshirani 1996 (the lasso); Parikh, Boyd 2014, section 6.5.2 (the soft threshold);
    torch.nn.functional.softshrink.
    """

    def __init__(self, strength: float, *, log: bool = False):
        super().__init__(strength)
        check_switch(log, name="log")
        self.log = log
        self._moving: list[tuple[nn.Parameter, float]] = []  # and the rate of this step
        self._is_first = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Finds the parameters, and steps before those who look at the weights."""
        super().on_train_begin(args, state, control, **kwargs)
        self._moving, self._is_first = [], False

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Comes first from here on; all others have chosen their places when training began."""
        super().on_step_begin(args, state, control, **kwargs)
        if self._weights and not self._is_first:
            self._is_first = call_first(self)
            if not self._is_first:
                raise ConfigurationError(
                    f"{type(self).__name__} needs the stock Trainer's CallbackHandler to come "
                    "before those who look at the weights, and is not called by one; use a Trainer "
                    "whose callback_handler is transformers' own"
                )

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes the rates of this step: after it, another callback may have put others back."""
        rates = _rates(kwargs["optimizer"])
        self._moving = [(p, rates.get(p, 0.0)) for p in self._learning()]

    @torch.no_grad()
    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Moves every weight towards 0 that was stepped."""
        if was_skipped(kwargs["optimizer"], run=state, step=state.global_step + 1):
            return
        for parameter, rate in self._moving:
            # Gradients that were emptied since: nothing was stepped.
            if parameter.grad is not None and rate:
                weight = _local(parameter.detach())
                weight.copy_(softshrink(weight, lambd=rate * self.strength))

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Adds the share of zeros to the Trainer's own line."""
        logs = kwargs["logs"]
        if self.log and self._weights and "loss" in logs:
            weights = [_local(p.detach()) for p in self._weights]
            zeros = sum(int((weight == 0).sum()) for weight in weights)
            share = {"l1/zeros": zeros / max(1, sum(weight.numel() for weight in weights))}
            logs.update(share)
            # The Trainer has put a copy of the line into the history before it sends it round.
            state.log_history[-1].update(share)


def _checked(strength: object) -> float:
    if isinstance(strength, bool) or not isinstance(strength, Real):
        raise ConfigurationError(f"strength must be a number from 0 up, got {strength!r}")
    number = float(strength)
    if not (math.isfinite(number) and number >= 0):
        raise ConfigurationError(
            f"strength must be a finite number from 0 up, got {strength!r}; 0 is off"
        )
    return number


def _decayed_parameters(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """Returns what the Trainer's own rule decays, as far as the optimizer holds it."""
    # The method needs no Trainer, only the rule that it holds.
    decayed = set(Trainer.get_decay_parameter_names(cast(Trainer, None), model))
    held = _rates(optimizer)
    return [p for name, p in model.named_parameters() if name in decayed and p in held]


def _rates(optimizer: torch.optim.Optimizer) -> dict[nn.Parameter, float]:
    """Returns the rate of each parameter's group; groups are looked up anew for every step."""
    return {p: float(group["lr"]) for group in optimizer.param_groups for p in group["params"]}


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """Returns what this process holds of a tensor: all of it, but under FSDP2."""
    sharded: Any = tensor  # a DTensor under FSDP2, which torch's own stubs do not tell apart
    held: torch.Tensor = sharded.to_local() if hasattr(sharded, "to_local") else tensor
    return held


def _gradient_scale(args: TrainingArguments, optimizer: torch.optim.Optimizer) -> float:
    """Returns what gradients are multiplied by when a step begins: clipping undoes the scaling."""
    scaler = getattr(optimizer, "scaler", None)
    is_clipped = args.max_grad_norm is not None and args.max_grad_norm > 0
    return 1.0 if scaler is None or is_clipped else float(scaler.get_scale())
