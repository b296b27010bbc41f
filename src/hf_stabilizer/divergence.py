"""Is this run lost? Numbers that are none are kept from the weights; a collapse is named.

each optimizer step     loss and gradients, before they reach the weights
each evaluation         the predicted classes, and whether they are the majority's at best
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from accelerate.state import GradientState
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_stabilizer import sockets
from hf_stabilizer.call_order import call_last
from hf_stabilizer.checkpoint_notes import warn_of_files_left
from hf_stabilizer.collapse import (
    LOOKS_COLLAPSED,
    Tally,
    classified,
    collapsed_at,
    evaluation_prefix,
    marked_prefixes,
)
from hf_stabilizer.errors import DivergenceError, check_choice
from hf_stabilizer.forward_hook import hear_outputs
from hf_stabilizer.hidden_steps import refuse_hidden_steps
from hf_stabilizer.log_lines import send_line
from hf_stabilizer.non_finite import Batch, find_layer
from hf_stabilizer.norms import norms_of
from hf_stabilizer.records import COLLAPSED, DIVERGED
from hf_stabilizer.skipped_steps import mark_skipped, was_skipped

# Any in this module: what the Trainer hands to every callback, what a model takes and gives.

Action = Literal["warn", "stop", "raise"]

SKIPPED = "stability/skipped"

OVERFLOWS_IN_A_ROW = 25
"""Steps that a GradScaler may skip one after the other before they count as a divergence.

It starts at a scale of 2^16 and halves it at each skip: after 25 the loss is scaled down to 2^-9,
and an overflow is no longer of its making."""


class DivergenceGuardCallback(TrainerCallback):
    """Keeps a loss or gradient that is not finite from the weights, and names a collapsed run.

    Before each optimizer step the loss of its batches (`outputs.loss` of the model) and the norm
    of all gradients are looked at. If either is not finite the gradients are dropped, so that the
    optimizer leaves weights and momenta as they are, bit for bit, and

        "warn"    warns and goes on with the next batch; the schedule goes on, and averaging does
                  not take the step
        "stop"    ends the training; the model holds the weights of the step before
        "raise"   raises DivergenceError; the same weights

    The message names the step, the value and the layer that was not finite first. In
    `state.log_history`, and in every tracker, stands `stability/skipped` or `stability/diverged`,
    with the step as its value; beside it in `log_history`, under `reason`, the message. Of fp16 the
    GradScaler's own overflows are no divergence until it has skipped 25 steps in a row.

    A classifier, one class per row or token, looks collapsed in an evaluation if it predicts the
    same for all rows, or is right no more often than the majority label would be; rows that all
    have one label cannot tell. The run has collapsed if it looks so at two evaluations running of
    the same rows, both after the warm-up (more than `warmup_steps` steps), or at the last of the
    run. That is warned about once, and logged as `stability/collapsed` with the step as its value;
    "raise" raises for it, nothing else ends the run. `stability/looks_collapsed/<prefix>` marks
    each such evaluation (its prefix is "eval", or "eval_NAME" of several sets), and from these
    marks in `log_history` a resumed run judges. Of several sets one suffices. Predictions by
    `predict()` are not judged, nor is an evaluation before the first step.

    The guard puts itself last in the Trainer's list of callbacks, so that no other changes the
    gradients after it looked. A loss that is not computed by the model (label smoothing,
    `compute_loss_func`) is seen by its gradients alone, and hides the labels of an evaluation:
    then the same prediction for all rows is the only sign, and only where `config.problem_type`
    says that there is one class per row. The running statistics of batch norm have seen a bad
    batch before anyone can tell.

    A healthy step costs one fused reduction over the gradients and one number read from the
    device (with several processes one number exchanged); that is below 1 % of a step. The trained
    weights are those of a run without the guard, bit for bit. Cannot be combined with DeepSpeed
    and LOMO, which take their step inside the backward pass.

    Args:
        action: "warn", "stop" or "raise".

    Raises:
        ConfigurationError: Another action; in `on_train_begin`: DeepSpeed or LOMO.
        DivergenceError: With "raise", in the middle of the training.

    Example:
        >>> import tempfile, torch, transformers
        >>> from hf_stabilizer import DivergenceGuardCallback
        >>> config = transformers.BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1,
        ...     num_attention_heads=1, intermediate_size=8, max_position_embeddings=8)
        >>> model = transformers.BertForSequenceClassification(config)
        >>> model.bert.encoder.layer[0].output.dense.weight.data[0] = float("inf")
        >>> row = {"input_ids": torch.tensor([1, 2, 3]), "labels": torch.tensor(1)}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     args = transformers.TrainingArguments(folder, max_steps=4, use_cpu=True,
        ...         report_to="none", disable_tqdm=True, dataloader_pin_memory=False)
        ...     transformers.Trainer(model, args, train_dataset=[row] * 8,
        ...         callbacks=[DivergenceGuardCallback("raise")]).train()
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.DivergenceError: at optimizer step 1 the loss is nan, first in
        layer_01; ...

    Source: Mosbach, Andriushchenko, Klakow 2021, On the Stability of Fine-tuning BERT (arXiv:
    2006.04884), section 3, for failed runs as those no better than the majority class; Dodge et
    al. 2020 (arXiv:2002.06305). Two evaluations running, and the last, are ours.
    """

    def __init__(self, action: Action = "stop"):
        check_choice(action, get_args(Action), name="action")
        self.action = action
        self._hook: RemovableHandle | None = None
        self._processes = 1
        self._overflows = 0
        self._forget_step()
        self._tally: Tally | None = None
        self._is_silent = False

    # ---- set-up

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begins to watch; may be called again for another attempt at the same run."""
        refuse_hidden_steps(type(self).__name__, args)
        call_last(self)
        self._processes, self._overflows, self._tally = args.world_size, 0, None
        self._is_silent = False
        self._forget_step()
        self._hook = hear_outputs(kwargs["model"], self.on_forward, is_compiled=args.torch_compile)
        sockets.connect(kwargs["optimizer"], self, run=state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Watches no more."""
        sockets.disconnect(kwargs["optimizer"], self)
        if self._hook is not None:
            self._hook.remove()
        self._forget_step()

    def _forget_step(self) -> None:
        self._loss: Tensor | None = None
        self._batches: list[Batch] = []

    def on_forward(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        """The model's forward hook: notes the loss in training, the answers in an evaluation."""
        if self._is_silent:
            return
        if module.training:
            self._note_loss(args, kwargs, output)
        elif self._tally is not None:
            config = getattr(module, "config", None)
            batch = classified(output, kwargs, config, rows=self._rows(kwargs))
            if batch is not None:
                self._tally.add(*batch)

    # ---- numbers that are none

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Forgets the batches of the step before; tells of averages that a resumed run has lost."""
        warn_of_files_left(state)
        self._forget_step()

    def _note_loss(self, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        self._batches.append((args, kwargs))  # no copies: the Trainer holds them for the step
        loss = output.get("loss") if isinstance(output, dict) else None
        if isinstance(loss, Tensor):
            loss = loss.detach().float().mean()
            self._loss = loss if self._loss is None else self._loss + loss.to(self._loss.device)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Looks at loss and gradients before they reach the weights."""
        model, optimizer = kwargs["model"], kwargs["optimizer"]
        if getattr(optimizer, "scaler", None) is not None:
            return  # It looks itself, and skips; see `on_optimizer_step`.
        what = self._find_non_finite(model)
        if not what:
            return
        step = state.global_step + 1
        layer = self._find_layer(model)
        _drop_gradients(model, optimizer)
        mark_skipped(optimizer, run=state, step=step)
        where = f", first in {layer}" if layer else ""
        self._act(f"at optimizer step {step} {what}{where}", args, state, control)

    def _find_non_finite(self, model: nn.Module) -> str:
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        values = {} if self._loss is None else {"the loss": self._loss}
        if gradients:
            values["the norm of the gradients"] = torch.linalg.vector_norm(norms_of(gradients))
        if not values:
            return ""
        device = next(iter(values.values())).device
        found = torch.stack([value.to(device, torch.float32) for value in values.values()])
        if _agreed(found.isfinite().all(), processes=self._processes):
            return ""
        said = zip(values, found.tolist(), strict=True)
        lost = (f"{name} is {value}" for name, value in said if not math.isfinite(value))
        return next(lost, "the loss is not finite on another process")

    def _find_layer(self, model: nn.Module) -> str:
        self._is_silent = True
        try:
            return find_layer(model, self._batches)
        finally:
            self._is_silent = False

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Counts the steps that a GradScaler skips one after the other."""
        self._forget_step()
        if getattr(kwargs["optimizer"], "scaler", None) is None:
            return
        if not was_skipped(kwargs["optimizer"], run=state, step=state.global_step + 1):
            self._overflows = 0
            return
        self._overflows += 1
        if self._overflows == OVERFLOWS_IN_A_ROW:
            message = (
                f"at optimizer step {state.global_step + 1} the gradients overflow for the "
                f"{OVERFLOWS_IN_A_ROW}th time in a row"
            )
            self._act(message, args, state, control)

    def _act(
        self, what: str, args: TrainingArguments, state: TrainerState, control: TrainerControl
    ) -> None:
        """Does with a step that was dropped what `action` says."""
        step = state.global_step + 1
        name = SKIPPED if self.action == "warn" else DIVERGED
        reason = (
            f"{what}; the weights are still those of step {step - 1}; try a lower learning_rate, "
            "a longer warm-up, bf16 instead of fp16, or look at the rows of this step"
        )
        send_line({name: float(step)}, args, state, control, step=step, reason=reason)
        if self.action == "raise":
            raise DivergenceError(reason)
        control.should_training_stop |= self.action == "stop"
        warnings.warn(reason, stacklevel=2)

    # ---- a classifier that collapsed

    def before_evaluation(self) -> None:
        """The optimizer's `eval`: counts answers anew."""
        self._tally = Tally()

    def before_training(self) -> None:
        """The optimizer's `train`: an evaluation that was broken off is forgotten."""
        self._tally = None

    def on_predict(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Any,
        **kwargs: Any,
    ) -> None:
        """Forgets predictions."""
        self._tally = None

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Marks an evaluation that looks collapsed, and judges."""
        tally, self._tally = self._tally, None
        prefix = evaluation_prefix(kwargs["metrics"])
        how = tally.describe(processes=self._processes) if tally is not None else ""
        if not how or not prefix or state.global_step == 0:
            return
        send_line({f"{LOOKS_COLLAPSED}/{prefix}": 1.0}, args, state, control, reason=how)
        self._judge(prefix, args, state, control, is_last=state.global_step >= state.max_steps)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Judges the last evaluation of a run that ended early, when the Trainer sums up."""
        if "train_runtime" in kwargs["logs"]:
            for prefix in marked_prefixes(state.log_history):
                self._judge(prefix, args, state, control, is_last=True)

    def _judge(
        self,
        prefix: str,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        is_last: bool,
    ) -> None:
        history = state.log_history
        warmup_steps = args.get_warmup_steps(state.max_steps)
        step = collapsed_at(history, prefix, warmup_steps=warmup_steps, is_last=is_last)
        if not step or any(COLLAPSED in line for line in history):
            return
        name = f"{LOOKS_COLLAPSED}/{prefix}"
        how = next(str(line.get("reason")) for line in reversed(history) if name in line)
        reason = (
            f"the run has collapsed: at step {step} ({prefix}) {how}; try another seed, a lower "
            "learning_rate, a longer warm-up, or more steps"
        )
        send_line({COLLAPSED: float(step)}, args, state, control, step=step, reason=reason)
        if self.action == "raise":
            raise DivergenceError(reason)
        warnings.warn(reason, stacklevel=2)

    def _rows(self, inputs: Mapping[str, Any]) -> int | None:
        """How many rows of this batch are no repetitions that make the processes' batches alike."""
        batches: Any = GradientState()  # untyped
        if self._processes == 1 or not batches.end_of_dataloader or batches.remainder <= 0:
            return None
        own = next(len(value) for value in inputs.values() if isinstance(value, Tensor))
        before = torch.distributed.get_rank() * own
        return min(own, max(0, int(batches.remainder) - before))


def _drop_gradients(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Empties all gradients: an optimizer passes over what has none, decay and momenta included."""
    of_optimizer = (p for group in optimizer.param_groups for p in group["params"])
    for parameter in (*model.parameters(), *of_optimizer):
        parameter.grad = None


def _agreed(are_finite: Tensor, *, processes: int) -> bool:
    """Whether it holds on all processes: each of them must do the same with the step."""
    if processes > 1:
        are_finite = are_finite.to(torch.uint8)
        torch.distributed.all_reduce(are_finite, torch.distributed.ReduceOp.MIN)
    return bool(are_finite)
