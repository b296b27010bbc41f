"""Where should the head start? At the best linear classifier of what it sees, scaled down.

    W, b  <-  scale * argmin over W, b of   mean loss(X W' + b, labels) + l2/2 |W|^2

X is what reaches the last linear layer in one evaluation-mode pass over the rows. A head that
already points the right way does not pull the body about in the first steps, and no longer
depends on a seed; scaled down it leaves room to learn.

Source: Kumar, Raghunathan, Jones, Ma, Liang 2022, "Fine-Tuning can Distort Pretrained Features",
arXiv 2202.10054 (LP-FT: linear probing, then fine-tuning). The scale is ours.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from numbers import Real
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_stabilizer.errors import ConfigurationError, DataError
from hf_stabilizer.features import Observation, Rows, observe_inputs
from hf_stabilizer.layers import LayerMap
from hf_stabilizer.linear_fit import PROBLEMS, Floats, Layer, Targets, Task, fit_layer

logger = logging.getLogger(__name__)

IGNORED = -100  # the label that transformers' losses leave out

Model = TypeVar("Model", bound=nn.Module)


def fit_head(
    model: Model,
    dataset: Rows,
    *,
    data_collator: Callable[[list[Any]], Any],  # Any: rows and batches, as for the Trainer
    l2: float | None = None,
    scale: float = 0.3,
    layer_map: LayerMap | None = None,
) -> Model:
    """Sets the last linear layer to `scale` times its regularised optimum; returns the model.

    The objective is the mean loss of the model's own kind of problem + l2/2 |W|^2, the bias not
    penalised: cross-entropy for one label (a row each, a token each, or a choice each; -100 is
    left out), binary cross-entropy averaged over rows and labels for several, squared error / 2
    for regression. The problem is `config.problem_type`, or what transformers deduces without
    it. scale=1 is the optimum itself.

    Nothing but that layer changes, no random number is drawn, and the features are those of the
    model as it is now: call this after layers were drawn anew. A class without rows gets weight
    zero and the lowest bias, so it is never the first choice at the start.

    Args:
        model: A model with a linear layer that makes its logits; on any device.
        dataset: Tokenised rows with labels, the training rows.
        data_collator: Makes a batch with "labels" of a list of rows, as the Trainer's does.
        l2: Strength of the penalty, in units of loss per squared weight, > 0. None chooses it
            by five-fold cross-validation on fixed folds.
        scale: Factor on W and b, > 0. Small values keep the head's first steps free.
        layer_map: Depths that were found before; None: `LayerMap.from_model(model)`.

    Raises:
        ConfigurationError: No last linear layer, a language-model head, logits that are not that
            layer's outputs, or a value out of range.
        DataError: No rows, no labels, labels that do not fit, only one class, or features that
            are not finite.

    Source:
        Kumar et al. 2022, section 3.4, arXiv 2202.10054, who start from scale=1 and choose the
        penalty on validation rows.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> from transformers import default_data_collator
        >>> model = BertForSequenceClassification(BertConfig(
        ...     vocab_size=64, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        ...     intermediate_size=8))
        >>> rows = [{"input_ids": [5 + k, 9, 7], "label": k % 2} for k in range(20)]
        >>> model = fit_head(model, rows, data_collator=default_data_collator, l2=0.1)
        >>> bool((model.classifier.weight[0] == -model.classifier.weight[1]).all())
        True
    """
    _check_positive("scale", scale)
    if l2 is not None:
        _check_positive("l2", l2)
    classifier = _last_linear_layer(model, layer_map or LayerMap.from_model(model))
    seen = observe_inputs(model, classifier, dataset, data_collator)
    problem = _problem(model, classifier, seen[0])
    inputs, targets = _examples(problem, classifier.out_features, seen)
    _check_examples(problem, classifier.out_features, inputs, targets)
    task = Task(classifier.out_features, has_bias=classifier.bias is not None)
    layer, l2 = fit_layer(problem, inputs, targets, l2, task)
    _write(classifier, layer, scale)
    logger.info("head fitted to %d examples (%s), l2 = %.3g", len(targets), problem, l2)
    return model


def _check_positive(name: str, value: object) -> None:
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real or not 0 < float(value) < math.inf:  # type: ignore[arg-type]  # real by now
        raise ConfigurationError(f"{name} must be a finite number > 0, got {value!r}")


def _last_linear_layer(model: nn.Module, layer_map: LayerMap) -> nn.Linear:
    path = layer_map.classifier
    layer = None if path is None else model.get_submodule(path)
    if not isinstance(layer, nn.Linear) or not layer.weight.is_floating_point():
        raise ConfigurationError(
            "fit_head needs a last linear layer that makes the logits, and this model has "
            f"{path or 'none'} ({type(layer).__name__}); leave fit_head out"
        )
    if layer.weight.is_meta or not layer.weight.numel():
        raise ConfigurationError(f"fit_head needs the weights of {path}, and they are not here")
    if any(_is_language_model(module, layer) for module in model.modules()):
        raise ConfigurationError(
            f"fit_head cannot fit {path}, a language model's head over the vocabulary; it is for "
            "classification, regression and multiple choice: leave fit_head out"
        )
    return layer


def _is_language_model(module: nn.Module, layer: nn.Linear) -> bool:
    if not isinstance(module, PreTrainedModel):
        return False
    return module.get_output_embeddings() is layer


def _problem(model: nn.Module, classifier: nn.Linear, first: Observation) -> str:
    """Returns the kind of problem, found as transformers finds it when it computes the loss."""
    if first.are_choices:
        return "multiple_choice"
    stated = getattr(getattr(model, "config", None), "problem_type", None)
    if stated in PROBLEMS and not first.per_token:
        return str(stated)
    if classifier.out_features == 1:
        return "regression"
    integers = not first.labels.is_floating_point()
    return "single_label_classification" if integers else "multi_label_classification"


def _examples(problem: str, outputs: int, seen: list[Observation]) -> tuple[Floats, Targets]:
    """Returns one input (with all its choices) and one target per example, -100 left out."""
    pairs = [_batch_examples(problem, outputs, batch) for batch in seen]
    if len({inputs.shape[1:] for inputs, _ in pairs}) > 1:
        raise DataError("fit_head needs the same number of choices in every row")
    inputs, targets = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return inputs.double().numpy(), targets.numpy()


def _batch_examples(problem: str, outputs: int, batch: Observation) -> tuple[Tensor, Tensor]:
    inputs, labels = batch.inputs, batch.labels
    if problem in ("regression", "multi_label_classification"):
        expected = (*inputs.shape[:-1], outputs)
        labels = labels.double()
    else:
        expected = tuple(inputs.shape[:1] if batch.are_choices else inputs.shape[:-1])
    if labels.numel() != math.prod(expected) or labels.shape[0] != expected[0]:
        raise DataError(
            f"labels of shape {tuple(labels.shape)} do not fit {problem} with {outputs} outputs, "
            f"which needs {expected}; check num_labels and problem_type of the model"
        )
    if batch.are_choices:
        return inputs, labels.reshape(-1)
    inputs = inputs.reshape(-1, inputs.shape[-1])
    if problem != "single_label_classification":
        return inputs, labels.reshape(-1, outputs)
    kept = labels.reshape(-1) != IGNORED
    return inputs[kept], labels.reshape(-1)[kept]


def _check_examples(problem: str, outputs: int, inputs: Floats, targets: Targets) -> None:
    if not len(targets):
        raise DataError("fit_head found no labelled example: every label is -100")
    if not np.isfinite(inputs).all() or not np.isfinite(targets).all():
        raise DataError(
            "fit_head met values that are not finite in the labels or in what reaches the head; "
            "check the labels, and the model's weights and dtype"
        )
    if problem == "multi_label_classification":
        _check_range(targets, np.isin(targets, (0, 1)), "0 or 1")
    elif problem != "regression":
        limit = inputs.shape[1] if problem == "multiple_choice" else outputs
        _check_range(targets, (targets >= 0) & (targets < limit), f"in 0..{limit - 1}")
    if problem == "single_label_classification" and len(np.unique(targets)) == 1:
        raise DataError(
            f"fit_head needs rows of two classes at least, and every label is {targets[0]}; "
            "check the label column, or use more rows"
        )


def _check_range(targets: Targets, fits: np.ndarray, allowed: str) -> None:
    if not fits.all():
        raise DataError(f"labels must be {allowed}, got {targets[~fits][0].item()!r}")


@torch.no_grad()
def _write(classifier: nn.Linear, layer: Layer, scale: float) -> None:
    classifier.weight.copy_(torch.from_numpy(layer.weight * scale))
    if classifier.bias is not None:
        classifier.bias.copy_(torch.from_numpy(layer.bias * scale))
