"""What does each layer of a frozen body show of each row? Read-outs, in one pass over the data.

    read-out   vector                                               from
    first      of the first token that is no padding                every layer, encoders
    last       of the last token that is no padding                 every layer, decoders
    mean       mean over the tokens that are no padding             every layer
    token      of a labelled token, an example for each             every layer, token tasks
    pooler     what the head's last linear layer gets to see        models with a pooler

Layer 0 is what the embeddings give out, layer k what block k does. The vectors are pooled batch by
batch, so that memory is 4 bytes x examples x choices x features for each layer and read-out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

from hf_stabilizer.errors import ConfigurationError, DataError
from hf_stabilizer.features import BATCH_SIZE, Observation, Rows, longest_first, observe_inputs
from hf_stabilizer.layers import LayerMap
from hf_stabilizer.linear_problems import Integers, Targets
from hf_stabilizer.supervision import check_examples, find_classifier, find_problem, read_labels

POOLER = "pooler"
Place: TypeAlias = tuple[int, str]
"""Layer and read-out."""
Vectors: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Readings:
    """The vectors of all examples, and what they are to tell."""

    problem: str
    """A key of `linear_problems.PROBLEMS`."""
    outputs: int
    """Outputs of the head: classes, labels, numbers; 1 for choices."""
    vectors: Mapping[Place, Vectors]
    """(layer, read-out) -> (examples, features) or (examples, choices, features)"""
    targets: Targets
    """As `linear_fit.fit_layer` takes them."""
    rows: Integers
    """The place in the dataset of each example's row."""
    has_bias: bool
    """Whether the head has a bias."""
    per_token: bool
    """Whether the examples are tokens."""


def read_layers(
    model: nn.Module,
    dataset: Rows,
    *,
    data_collator: Callable[[list[Any]], Any],  # Any: rows and batches, as for the Trainer
    indices: Sequence[int],
    max_examples: int,
    layer_map: LayerMap,
) -> Readings:
    """Reads every layer of the model in one evaluation-mode pass over the rows.

    Args:
        model: A model with a linear layer that makes its logits.
        dataset: Tokenised rows with labels.
        data_collator: Makes a batch of a list of rows, one for each.
        indices: Places of the rows to read, in the order to read them.
        max_examples: The pass ends with the batch that brings so many.
        layer_map: The model's depths.

    Raises:
        ConfigurationError: The model is not of a kind that can be read so.
        DataError: The rows have no labels that fit.
    """
    classifier = find_classifier(model, layer_map, user="probe")
    reader = _Reader(model, classifier, max_examples, has_pooler=bool(layer_map.pooler))
    batches = observe_inputs(
        model,
        classifier,
        dataset,
        data_collator,
        keep=reader,
        indices=_in_blocks(dataset, indices),
        hidden_states=True,
    )
    parts, targets, rows = zip(*batches, strict=True)
    if any(len({part[place].shape[1:] for part in parts}) > 1 for place in parts[0]):
        raise DataError("probe needs the same number of choices in every row")
    # Taken out of the batches one by one, so that no more than one lies there twice.
    vectors = {p: torch.cat([part.pop(p) for part in parts]).numpy() for p in [*parts[0]]}
    found = Readings(
        problem=reader.problem,
        outputs=classifier.out_features,
        vectors=vectors,
        targets=torch.cat(targets).numpy(),
        rows=np.concatenate(rows),
        has_bias=classifier.bias is not None,
        per_token=reader.per_token,
    )
    for values in vectors.values():
        check_examples(found.problem, found.outputs, values, found.targets)
    return found


def _in_blocks(dataset: Rows, indices: Sequence[int]) -> list[int]:
    """Sorts by length within blocks: little padding, and any beginning is still a fair sample."""
    size = 16 * BATCH_SIZE
    blocks = (indices[start : start + size] for start in range(0, len(indices), size))
    return [place for block in blocks for place in longest_first(dataset, block)]


class _Reader:
    """Makes vectors, targets and places of rows of each batch, until there are enough."""

    def __init__(
        self, model: nn.Module, classifier: nn.Linear, max_examples: int, *, has_pooler: bool
    ) -> None:
        self.model, self.classifier = model, classifier
        self.left, self.has_pooler = max_examples, has_pooler
        self.problem, self.per_token = "", False
        self.ends = "last" if _reads_last_token(model) else "first"

    def __call__(self, batch: Observation) -> tuple[dict[Place, Tensor], Tensor, Integers] | None:
        if self.left <= 0:
            return None
        self.problem = self.problem or find_problem(self.model, self.classifier, batch)
        self.per_token = batch.per_token
        labels = read_labels(self.problem, self.classifier.out_features, batch)
        if len(labels.kept) != len(batch.rows):
            raise DataError(
                f"the collator made {len(labels.kept)} rows of {len(batch.rows)}; probe needs one "
                "of each, so that no text stands on both sides of a fold"
            )
        self.left -= len(labels.targets)
        read = self._tokens if batch.per_token else self._texts
        vectors = {}
        for depth, state in enumerate(batch.hidden):
            for name, found in read(state.float(), batch).items():
                vectors[depth, name] = labels.of(found).cpu()
        if self.has_pooler:
            vectors[len(batch.hidden) - 1, POOLER] = labels.of(batch.inputs.float())
        return vectors, labels.targets, np.array(batch.rows)[labels.rows.numpy()]

    def _tokens(self, state: Tensor, batch: Observation) -> dict[str, Tensor]:
        if state.shape[:2] != batch.inputs.shape[:2]:
            raise _strange(state, batch.inputs.shape[:2])
        return {"token": state}

    def _texts(self, state: Tensor, batch: Observation) -> dict[str, Tensor]:
        mask = _mask(state, batch.mask)
        order = torch.arange(1, mask.shape[1] + 1, device=mask.device)
        # Of equals argmax takes the first; padding may stand on either side.
        ends = (mask * order if self.ends == "last" else mask).argmax(dim=1)
        weights = mask[..., None].to(state.dtype)
        found = {
            self.ends: state[torch.arange(len(state), device=state.device), ends],
            "mean": (state * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1),
        }
        shape = (*batch.inputs.shape[:-1], -1)  # (batch, features) or (batch, choices, features)
        return {name: vectors.reshape(shape) for name, vectors in found.items()}


def _mask(state: Tensor, mask: Tensor | None) -> Tensor:
    """Returns 1 for the tokens that are no padding, of each text, (texts, tokens)."""
    if mask is None:
        return torch.ones(state.shape[:2], dtype=torch.long, device=state.device)
    flat = mask.reshape(-1, mask.shape[-1]).to(state.device)
    if flat.shape != state.shape[:2]:
        raise _strange(state, flat.shape)
    return flat


def _strange(state: Tensor, expected: Sequence[int]) -> ConfigurationError:
    return ConfigurationError(
        f"a layer gives out {tuple(state.shape[:2])} tokens where the rows have "
        f"{tuple(expected)}; probe is for models that keep their tokens"
    )


def _reads_last_token(model: nn.Module) -> bool:
    """Whether only the last token has seen all others, as in decoders."""
    config: Any = getattr(model, "config", None)  # Any: whatever the configuration class holds
    kind = type(config)
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING and kind not in MODEL_FOR_MASKED_LM_MAPPING
    return causal or bool(getattr(config, "is_encoder_decoder", False))
