"""What is happening in each layer? Its rate, its gradient and its step, in the Trainer's log.

lr/<layer>             the learning rate of this optimizer step
grad_norm/<layer>      |g|, before clipping
update_ratio/<layer>   |w_after - w_before| / |w_before|
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy, has_length

from hf_stabilizer.call_order import call_first
from hf_stabilizer.checkpoint_notes import warn_of_files_left
from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.hidden_steps import refuse_hidden_steps
from hf_stabilizer.layers import LayerMap
from hf_stabilizer.norms import norms_of

# Any in this module: what the Trainer hands to every callback.


class LayerStatisticsCallback(TrainerCallback):
    """Logs rate, gradient norm and relative step of every layer, in the Trainer's own log line.

        lr/<layer>             rate used in this step; of several in one layer the largest
        grad_norm/<layer>      |g_l| before clipping: the clipped norm of the layer times the norm
                               that the Trainer logs, over the clipped norm of all layers
        update_ratio/<layer>   |w_after - w_before| / |w_before|; about 1e-3 is usual for a body

    Layers are "embeddings", "layer_01".., "head", with the parameters that are trained in this
    step: of a PEFT model the adapters. A frozen layer has rate 0, ratio 0 and no gradient norm; one
    whose weights are all 0 has no ratio. A step that a GradScaler or the guard skipped has ratio 0,
    and the norm that was found, if not finite.

    The values are of the one optimizer step that the line is logged after. They stand in the line
    with `loss`, `grad_norm` and `learning_rate`, in `state.log_history` and in every tracker
    alike; for that the callback puts itself first in the Trainer's list. A line that was not to be
    foreseen before the step (another callback asked for it, or an epoch was broken off with
    `logging_strategy="epoch"`) has none of them.

    Steps that do not log cost nothing. One that does keeps a copy of the trained weights while the
    optimizer steps, and reads weights, gradients and copy once or twice, as one more step of Adam
    would. The trained weights are those of a run without the callback, bit for bit.

    Cannot be combined with DeepSpeed and LOMO, which take their step inside the backward pass.

    Args:
        overrides: Glob on parameter names -> depth, "embeddings" or "head", where the layers of a
            model cannot be told; as for `LayerMap.from_model`.

    Raises:
        ConfigurationError: In `on_train_begin`: DeepSpeed or LOMO, or a Trainer that does not call
            its callbacks as the stock one does.
        LayerDiscoveryError: In `on_train_begin`: the layers cannot be told.

    Example:
        >>> import tempfile, torch, transformers
        >>> from hf_stabilizer import LayerStatisticsCallback
        >>> config = transformers.BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1,
        ...     num_attention_heads=1, intermediate_size=8, max_position_embeddings=8)
        >>> row = {"input_ids": torch.tensor([1, 2, 3]), "labels": torch.tensor(1)}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     args = transformers.TrainingArguments(folder, max_steps=2, logging_steps=2,
        ...         use_cpu=True, report_to="none", disable_tqdm=True, dataloader_pin_memory=False)
        ...     trainer = transformers.Trainer(
        ...         transformers.BertForSequenceClassification(config), args,
        ...         train_dataset=[row] * 8, callbacks=[LayerStatisticsCallback()])
        ...     _ = trainer.train()
        {'loss': ..., 'lr/embeddings': ..., 'grad_norm/embeddings': ...}
        {'train_runtime': ...}

    Source: the ratio of update to weight as a check on the rate is folklore, written down by
    Karpathy 2015 in the notes to CS231n ("Ratio of weights:updates").
    """

    def __init__(self, *, overrides: Mapping[str, int | str] | None = None):
        self.overrides = overrides
        self._layers: dict[str, list[nn.Parameter]] = {}
        self._steps_per_epoch = 0
        self._measured: _Measured | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Finds the layers, and steps before the trackers."""
        name = type(self).__name__
        refuse_hidden_steps(name, args)
        if not call_first(self):
            raise ConfigurationError(
                f"{name} needs the stock Trainer's CallbackHandler to reach its trackers, and is "
                "not called by one; use a Trainer whose callback_handler is transformers' own"
            )
        self._layers = _parameters_by_layer(kwargs["model"], self.overrides)
        self._steps_per_epoch = _steps_per_epoch(args, kwargs["train_dataloader"])
        self._measured = None

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tells of averages that a resumed run has lost."""
        warn_of_files_left(state)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measures rates and gradients, and keeps the weights, of a step that will be logged."""
        self._measured = None
        step = state.global_step + 1
        if self._is_logged(step, args, state):
            self._measured = _Measured.before(step, self._layers, kwargs["optimizer"])

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measures how far the weights went."""
        if self._measured is not None:
            self._measured.after()

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Adds what was measured to the Trainer's own line."""
        measured, logs = self._measured, kwargs["logs"]
        if measured is None or measured.step != state.global_step or "loss" not in logs:
            return
        self._measured = None
        is_clipped = args.max_grad_norm is not None and args.max_grad_norm > 0
        values = measured.values(logs.get("grad_norm") if is_clipped else None)
        logs.update(values)
        # The Trainer has put a copy of the line into the history before it sends it round.
        state.log_history[-1].update(values)

    def _is_logged(self, step: int, args: TrainingArguments, state: TrainerState) -> bool:
        """Whether the Trainer logs after this step, as far as can be told before it."""
        if step == 1 and args.logging_first_step:
            return True
        if args.logging_strategy == IntervalStrategy.STEPS:
            return step % state.logging_steps == 0
        is_last = step == state.max_steps
        of_epoch = self._steps_per_epoch > 0 and step % self._steps_per_epoch == 0
        return args.logging_strategy == IntervalStrategy.EPOCH and (is_last or of_epoch)


@dataclass
class _Measured:
    """One optimizer step, measured; nothing is read from the device before `values`."""

    step: int
    """The optimizer step, from 1 up."""
    rates: dict[str, float]
    """Layer -> rate."""
    trained: list[tuple[str, nn.Parameter]]
    """(layer, parameter) of all that have a gradient."""
    gradients: Tensor | None
    """Norm of each one's gradient, clipped. Shape (len(trained),)."""
    weights: Tensor | None
    """Norm of each one before the step."""
    kept: list[Tensor]
    """Copies of them from before the step."""
    changes: Tensor | None = None
    """Norm of each one's change."""

    @classmethod
    def before(
        cls,
        step: int,
        layers: Mapping[str, list[nn.Parameter]],
        optimizer: torch.optim.Optimizer,
    ) -> _Measured:
        trained = [(layer, p) for layer, ps in layers.items() for p in ps if _is_trained(p)]
        gradients = [p.grad for _, p in trained if p.grad is not None]
        weights = [p.detach() for _, p in trained]
        return cls(
            step=step,
            rates=_rates(layers, optimizer),
            trained=trained,
            gradients=norms_of(gradients) if gradients else None,
            weights=norms_of(weights) if weights else None,
            kept=[weight.clone() for weight in weights],
        )

    @torch.no_grad()
    def after(self) -> None:
        if self.kept:
            torch._foreach_sub_(self.kept, [p.detach() for _, p in self.trained])
            self.changes = norms_of(self.kept)
        self.kept = []

    def values(self, total_norm: float | None) -> dict[str, float]:
        """Returns what is logged.

        Args:
            total_norm: Norm of all gradients before they were clipped; None: they were not.
        """
        found = {f"lr/{layer}": rate for layer, rate in self.rates.items()}
        if self.gradients is None or self.weights is None or self.changes is None:
            return found | {f"update_ratio/{layer}": 0.0 for layer in self.rates}
        measured = torch.stack([self.gradients, self.weights, self.changes]).tolist()
        gradients, weights, changes = (self._by_layer(norms) for norms in measured)
        clipped = math.hypot(*gradients.values())
        factor = 1.0 if total_norm is None or not clipped else total_norm / clipped
        found |= {f"grad_norm/{layer}": norm * factor for layer, norm in gradients.items()}
        for layer in self.rates:
            if layer not in changes:
                found[f"update_ratio/{layer}"] = 0.0
            elif weights[layer]:
                found[f"update_ratio/{layer}"] = changes[layer] / weights[layer]
        return found

    def _by_layer(self, norms: list[float]) -> dict[str, float]:
        parts: dict[str, list[float]] = {}
        for (layer, _), norm in zip(self.trained, norms, strict=True):
            parts.setdefault(layer, []).append(norm)
        return {layer: math.hypot(*of_layer) for layer, of_layer in parts.items()}


def _is_trained(parameter: nn.Parameter) -> bool:
    return parameter.requires_grad and parameter.grad is not None


def _rates(
    layers: Mapping[str, list[nn.Parameter]], optimizer: torch.optim.Optimizer
) -> dict[str, float]:
    """The largest rate in each layer; 0 where nothing is trained."""
    of_parameter = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    return {
        layer: max(
            (float(of_parameter.get(id(p), 0.0)) for p in parameters if p.requires_grad),
            default=0.0,
        )
        for layer, parameters in layers.items()
    }


def _parameters_by_layer(
    model: nn.Module, overrides: Mapping[str, int | str] | None
) -> dict[str, list[nn.Parameter]]:
    """Returns each layer's floating-point parameters, a tied weight once."""
    layer_map = LayerMap.from_model(model, overrides=overrides)
    parameters = dict(model.named_parameters())
    by_layer = {
        layer_map.label(depth): [parameters[name] for name in layer_map.names(depth)]
        for depth in range(layer_map.num_layers + 2)
    }
    return {layer: ps for layer, ps in by_layer.items() if ps}


def _steps_per_epoch(args: TrainingArguments, dataloader: Any) -> int:
    """Optimizer steps in an epoch, 0 where it has no known length."""
    if not has_length(dataloader):
        return 0
    return max(1, math.ceil(len(dataloader) / args.gradient_accumulation_steps))
