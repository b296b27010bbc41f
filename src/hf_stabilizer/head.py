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
from itertools import accumulate
from numbers import Real
from typing import Any, TypeVar

import torch
from torch import nn

from hf_stabilizer.errors import ConfigurationError, DataError
from hf_stabilizer.features import Observation, Rows, observe_inputs
from hf_stabilizer.layers import LayerMap
from hf_stabilizer.linear_fit import fit_layer
from hf_stabilizer.linear_problems import Floats, Integers, Layer, Targets, Task
from hf_stabilizer.supervision import check_examples, find_classifier, find_problem, read_labels

logger = logging.getLogger(__name__)

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

    The first half of LP-FT, linear probing then fine-tuning; training is the second. Where the
    body must be in train mode, or the rows are a stream, `HeadFirstCallback` does it by steps.

    The objective is the mean loss of the model's own kind of problem + l2/2 |W|^2, the bias not
    penalised: cross-entropy for one label (a row each, a token each, or a choice each; -100 is
    left out), binary cross-entropy averaged over rows and labels for several, squared error / 2
    for regression. The problem is `config.problem_type`, or what transformers deduces without
    it. scale=1 is the optimum itself.

    Nothing but that layer changes, no random number is drawn, and the features are those of the
    model as it is now: call this after layers were drawn anew. A class without rows gets weight
    zero and the lowest bias, so it is never the first choice at the start. The fit is done in
    double precision whatever the model's, and cast when it is stored. It needs some 36 bytes of
    memory per example and feature: 28 MB for 1000 rows of width 768, 2.8 GB for 100,000.

    Args:
        model: A model with a linear layer that makes its logits; on any device.
        dataset: Tokenised rows with labels, the training rows.
        data_collator: Makes a batch with "labels" of a list of rows, as the Trainer's does.
        l2: Strength of the penalty, in units of loss per squared weight, > 0. None chooses it
            by five-fold cross-validation on fixed folds, which never part the tokens of a text.
        scale: Factor on W and b, > 0. Small values keep the head's first steps free.
        layer_map: Depths that were found before; None: `LayerMap.from_model(model)`.

    Raises:
        ConfigurationError: No last linear layer, a head of a language model or of question
            answering, logits that are not that layer's outputs, or a value out of range.
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
    layers = layer_map or LayerMap.from_model(model)
    classifier = find_classifier(model, layers, user="fit_head", remedy=": leave fit_head out")
    seen = observe_inputs(model, classifier, dataset, data_collator, keep=lambda batch: batch)
    problem = find_problem(model, classifier, seen[0])
    inputs, targets, texts = _examples(problem, classifier.out_features, seen)
    check_examples(problem, classifier.out_features, inputs, targets)
    task = Task(classifier.out_features, has_bias=classifier.bias is not None)
    layer, l2 = fit_layer(problem, inputs, targets, l2, task, groups=texts)
    _write(classifier, layer, scale)
    logger.info("head fitted to %d examples (%s), l2 = %.3g", len(targets), problem, l2)
    return model


def _check_positive(name: str, value: object) -> None:
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real or not 0 < float(value) < math.inf:  # type: ignore[arg-type]  # real by now
        raise ConfigurationError(f"{name} must be a finite number > 0, got {value!r}")


def _examples(
    problem: str, outputs: int, seen: list[Observation]
) -> tuple[Floats, Targets, Integers | None]:
    """Returns one input (with all its choices) and one target per example, and its text's number.

    None in place of the numbers where every text is one example.
    """
    found = [read_labels(problem, outputs, batch) for batch in seen]
    parts = [labels.of(batch.inputs) for labels, batch in zip(found, seen, strict=True)]
    if len({part.shape[1:] for part in parts}) > 1:
        raise DataError("fit_head needs the same number of choices in every row")
    inputs = torch.cat(parts).double().numpy()
    targets = torch.cat([labels.targets for labels in found]).numpy()
    if not seen[0].per_token:
        return inputs, targets, None
    starts = accumulate((len(labels.kept) for labels in found), initial=0)
    texts = [labels.rows + start for labels, start in zip(found, starts, strict=False)]
    return inputs, targets, torch.cat(texts).numpy()


@torch.no_grad()
def _write(classifier: nn.Linear, layer: Layer, scale: float) -> None:
    classifier.weight.copy_(torch.from_numpy(layer.weight * scale))
    if classifier.bias is not None:
        classifier.bias.copy_(torch.from_numpy(layer.bias * scale))
