"""What is a head asked, and by which examples? The kind of problem, and what counts as one example.

    problem                       an example is        its target
    single_label_classification   a row, or a token    a class; tokens with label -100 are none
    multi_label_classification    a row                0 or 1 per label
    regression                    a row                a number per output
    multiple_choice               a row of choices     the place of the right one

It is `config.problem_type`, or what transformers deduces without it when it computes the loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import MODEL_FOR_QUESTION_ANSWERING_MAPPING, PreTrainedModel

from hf_stabilizer.errors import ConfigurationError, DataError
from hf_stabilizer.features import Observation
from hf_stabilizer.layers import LayerMap
from hf_stabilizer.linear_problems import PROBLEMS, Floats, Targets

IGNORED = -100  # the label that transformers' losses leave out


@dataclass(frozen=True)
class Labelled:
    """The examples of one batch."""

    targets: Tensor
    """(examples,) of classes or choices, (examples, outputs) of flags or numbers"""
    kept: Tensor
    """Which rows (batch,), or tokens (batch, tokens), are examples."""

    @property
    def rows(self) -> Tensor:
        """The place in the batch of each example's row."""
        return self.kept.nonzero()[:, 0]

    def of(self, vectors: Tensor) -> Tensor:
        """Returns the vectors of the examples, of (batch, ...) or (batch, tokens, ...)."""
        return vectors[self.kept.to(vectors.device)]


def find_classifier(
    model: nn.Module, layer_map: LayerMap, *, user: str, remedy: str = ""
) -> nn.Linear:
    """Returns the last linear layer, the one that makes the logits.

    Args:
        model: The model.
        layer_map: Its depths.
        user: What needs the layer, for the messages.
        remedy: What to do without it, for the messages.

    Raises:
        ConfigurationError: There is none, or it is the head of a language model or of extractive
            question answering.
    """
    path = layer_map.classifier
    layer = None if path is None else model.get_submodule(path)
    if any(_answers_questions(module) for module in model.modules()):
        raise ConfigurationError(
            f"{user} cannot take a question-answering model, which scores every token twice, as "
            f"start and as end of the answer; {_MEANT}{remedy}"
        )
    if not isinstance(layer, nn.Linear) or not layer.weight.is_floating_point():
        raise ConfigurationError(
            f"{user} needs a last linear layer that makes the logits, and this model has "
            f"{path or 'none'} ({type(layer).__name__}); {_MEANT}{remedy}"
        )
    if layer.weight.is_meta or not layer.weight.numel():
        raise ConfigurationError(f"{user} needs the weights of {path}, and they are not here")
    if any(_is_language_model(module, layer) for module in model.modules()):
        raise ConfigurationError(
            f"{user} cannot take {path}, a language model's head over the vocabulary; "
            f"{_MEANT}{remedy}"
        )
    return layer


_MEANT = "it is for classification of rows or tokens, regression and multiple choice"


def _is_language_model(module: nn.Module, layer: nn.Linear) -> bool:
    return isinstance(module, PreTrainedModel) and module.get_output_embeddings() is layer


def _answers_questions(module: nn.Module) -> bool:
    if not isinstance(module, PreTrainedModel):
        return False
    kinds: Any = MODEL_FOR_QUESTION_ANSWERING_MAPPING.get(type(module.config), ())
    return isinstance(module, kinds)  # one class or several


def find_problem(model: nn.Module, classifier: nn.Linear, first: Observation) -> str:
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


def read_labels(problem: str, outputs: int, batch: Observation) -> Labelled:
    """Returns the examples of a batch.

    Raises:
        DataError: The shape of the labels is not that of the problem.
    """
    inputs, labels = batch.inputs, batch.labels
    per_output = problem in ("regression", "multi_label_classification")
    if per_output:
        expected = (*inputs.shape[:-1], outputs)
        labels = labels.double()
    else:
        expected = tuple(inputs.shape[:1] if batch.are_choices else inputs.shape[:-1])
    if labels.numel() != math.prod(expected) or labels.shape[0] != expected[0]:
        raise DataError(
            f"labels of shape {tuple(labels.shape)} do not fit {problem} with {outputs} outputs, "
            f"which needs {expected}; check num_labels and problem_type of the model"
        )
    labels = labels.reshape(expected)
    kept = torch.ones(inputs.shape[: 1 + batch.per_token], dtype=torch.bool)
    if problem == "single_label_classification":
        kept = labels != IGNORED
    return Labelled(labels[kept], kept)


def check_examples(problem: str, outputs: int, inputs: Floats, targets: Targets) -> None:
    """Raises DataError if there is nothing to fit, or labels and inputs are out of range."""
    if not len(targets):
        raise DataError("there is no labelled example: every label is -100")
    if not np.isfinite(inputs).all() or not np.isfinite(targets).all():
        raise DataError(
            "values that are not finite stand in the labels or in what reaches the head; "
            "check the labels, and the model's weights and dtype"
        )
    if problem == "multi_label_classification":
        _check_range(targets, np.isin(targets, (0, 1)), "0 or 1")
    elif problem != "regression":
        limit = inputs.shape[1] if problem == "multiple_choice" else outputs
        _check_range(targets, (targets >= 0) & (targets < limit), f"in 0..{limit - 1}")
    if problem == "single_label_classification" and len(np.unique(targets)) == 1:
        raise DataError(
            f"examples of two classes at least are needed, and every label is {targets[0]}; "
            "check the label column, or use more rows"
        )


def _check_range(targets: Targets, fits: np.ndarray, allowed: str) -> None:
    if not fits.all():
        raise DataError(f"labels must be {allowed}, got {targets[~fits][0].item()!r}")
