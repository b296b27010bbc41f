"""Which layers stay as the checkpoint made them, for the whole run?

Frozen parameters keep `requires_grad=False` for the whole run. The Trainer builds its optimizer
from what is trainable then, so this is done before the Trainer is made, and is not undone in
mid-run: what was frozen is not in the optimizer.
"""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.layers import LayerMap

Model = TypeVar("Model", bound=nn.Module)


def freeze_layers(
    model: Model,
    *,
    embeddings: bool = True,
    num_layers: int = 0,
    layer_map: LayerMap | None = None,
) -> Model:
    """Freezes the embeddings and the lowest blocks for the whole run, and returns the model.

    The embeddings are all of depth 0 (position and type embeddings, the norm over them); an
    output head that is tied to them is frozen with them, as it is the same weight. Nothing is
    ever unfrozen here. embeddings=False with num_layers=0 is the plain Trainer; num_layers=N
    leaves the head alone.

    Args:
        model: The model, before the Trainer is made from it.
        embeddings: Whether depth 0 is frozen.
        num_layers: Number of lowest blocks to freeze, in [0, N].
        layer_map: Depths that were found before; None: `LayerMap.from_model(model)`.

    Raises:
        ConfigurationError: `num_layers` is out of range, or `embeddings` is no truth value.

    Source:
        Lee, Tang, Lin 2019, "What Would Elsa Do?", arXiv 1911.03090 (freezing the lowest layers).

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> model = freeze_layers(BertForSequenceClassification(BertConfig(
        ...     vocab_size=64, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
        ...     intermediate_size=8)), num_layers=1)
        >>> trainable = [name for name, p in model.named_parameters() if p.requires_grad]
        >>> trainable[0]
        'bert.encoder.layer.1.attention.self.query.weight'
    """
    if not isinstance(embeddings, bool):  # most likely a number of layers
        raise ConfigurationError(
            f"embeddings must be True or False, got {embeddings!r}; use num_layers for blocks"
        )
    layer_map = layer_map or LayerMap.from_model(model)
    depths = [*([0] if embeddings else []), *layer_map.lowest(num_layers)]
    parameters = dict(model.named_parameters())
    for name in [name for depth in depths for name in layer_map.names(depth)]:
        parameters[name].requires_grad = False
    return model
