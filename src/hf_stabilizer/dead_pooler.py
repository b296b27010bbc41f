"""Is this model's pooler dead? A sign that its weights alone give.

    strength = root mean square of the pooler's weight matrices
               / that of the same matrices as the architecture itself would draw them

Training makes freshly drawn matrices larger. A pooler that lay unused while weight decay went on
shrinks towards zero: it passes on next to nothing of what it sees, and the head above it gets next
to no gradient. That is so where a sentence encoder was trained on the mean of its tokens:
all-MiniLM-L6-v2 has strength 0.46, with outputs near 0.05.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hf_stabilizer.errors import ConfigurationError, ReinitializationError
from hf_stabilizer.initialization import initialize_parameters
from hf_stabilizer.layers import LayerMap

WEAKEST = 0.5
"""A pooler below this strength counts as dead: half of what a fresh one has."""


def pooler_is_dead(model: nn.Module, *, layer_map: LayerMap | None = None) -> bool | None:
    """Tells whether the pooler's weights have faded; None without a pooler, or no way to tell.

    False does not say that the pooler is good: one that was drawn a moment ago, or trained for
    something else, has strong weights too. What it is worth on labelled rows, `probe` measures.

    Args:
        model: A model with its weights loaded; afterwards as it was, to the last bit. It costs a
            copy of the weights for a moment.
        layer_map: Depths that were found before; None: `LayerMap.from_model(model)`.

    Source:
        Measured by us on one checkpoint; the threshold is ours.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> model = BertForSequenceClassification(BertConfig(
        ...     vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        ...     intermediate_size=8))
        >>> pooler_is_dead(model)
        False
        >>> _ = model.bert.pooler.dense.weight.data.mul_(0.3)
        >>> pooler_is_dead(model)
        True
    """
    strength = pooler_strength(model, layer_map=layer_map)
    return None if strength is None else strength < WEAKEST


@torch.no_grad()
def pooler_strength(model: nn.Module, *, layer_map: LayerMap | None = None) -> float | None:
    """Returns the pooler's strength as this module defines it; None where it has no meaning.

    That is without a pooler, or where its weights are not here or cannot be drawn.
    """
    layers = layer_map or LayerMap.from_model(model)
    parameters = dict(model.named_parameters())
    names = [name for name in layers.names_in(layers.pooler) if name in parameters]
    matrices = {name: parameters[name] for name in names if parameters[name].ndim > 1}
    if not matrices or any(matrix.is_meta for matrix in matrices.values()):
        return None
    stored = {name: matrix.clone() for name, matrix in matrices.items()}
    try:
        initialize_parameters(model, tuple(matrices), seed=0)
        fresh = _root_mean_square(matrices.values())
    except (ConfigurationError, ReinitializationError):  # quantised, or of the user's own
        return None
    finally:
        for name, matrix in matrices.items():
            matrix.copy_(stored[name])
    return _root_mean_square(stored.values()) / fresh if fresh else None


def _root_mean_square(tensors: Iterable[Tensor]) -> float:
    values = torch.cat([tensor.float().reshape(-1) for tensor in tensors])
    return math.sqrt(values.square().mean())
