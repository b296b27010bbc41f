"""Which layers are forgotten before training, and drawn anew as the architecture would draw them?

The top blocks of a pre-trained model serve its old task; drawn anew they cost little and fine-tune
more steadily. The pooler of many checkpoints is nearly dead: its outputs lie near zero whatever
the text, and a head on top of it sees little. As the identity it lets the head see the body's own
vector x, as tanh(x).

Sources: Zhang, Wu, Katiyar, Weinberger, Artzi 2021, section 4, arXiv 2006.05987 (blocks and
pooler); the identity pooler is ours.
"""

from __future__ import annotations

from typing import Literal, TypeVar

from torch import nn
from transformers import PreTrainedModel

from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.identity_pooler import find_tanh_pooler, make_identity
from hf_stabilizer.initialization import initialize_parameters, was_loaded
from hf_stabilizer.layers import LayerMap
from hf_stabilizer.random_state import check_seed, next_seed

Model = TypeVar("Model", bound=nn.Module)


def reinitialize_layers(
    model: Model,
    num_layers: int,
    *,
    pooler: bool | Literal["identity"] = True,
    seed: int | None = None,
    layer_map: LayerMap | None = None,
) -> Model:
    """Draws the top blocks and the pooler anew, in place, and returns the model.

    Blocks N - num_layers + 1..N get the numbers that the architecture itself would give them:
    matrices at random (scaled by depth where it does so), norms to 1, biases to 0. The pooler is
    what lies between body and classifier; the classifier is never touched.
    num_layers=0 with pooler=False leaves the model as it is; num_layers=N keeps the embeddings.

    Args:
        model: A model with its weights loaded, before it is wrapped, sharded or given adapters.
        num_layers: Number of top blocks, in [0, N]; a block that several layers share (ALBERT)
            counts once.
        pooler: True draws it anew; a model without one is no error. "identity" sets a square
            pooler with a tanh to weight I and bias 0, so that the head sees tanh(x) of the
            body's vector x. False leaves it.
        seed: Decides the numbers, in [0, 2^63); the same seed gives the same numbers on every
            device. None takes one from torch's random state without moving it.
        layer_map: Depths that were found before; None: `LayerMap.from_model(model)`.

    Returns:
        The same model. The global random state (python, numpy, torch) is what it was.

    Raises:
        ConfigurationError: A value out of range, "identity" for any other pooler or none, a
            model with adapters, on the meta device, quantised, or partitioned.
        ReinitializationError: A chosen parameter was not drawn anew in full, or another one was
            changed; the model is then as it was.

    Source:
        Zhang et al. 2021, section 4, arXiv 2006.05987. The identity pooler is ours.

    Example:
        >>> import torch
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> model = BertForSequenceClassification(BertConfig(
        ...     vocab_size=64, hidden_size=8, num_hidden_layers=3, num_attention_heads=2,
        ...     intermediate_size=8))
        >>> before = {name: p.clone() for name, p in model.named_parameters()}
        >>> model = reinitialize_layers(model, 1, pooler="identity", seed=0)
        >>> changed = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
        >>> sorted({name.rsplit(".", 3)[0] for name in changed if ".layer." in name})
        ['bert.encoder.layer.2', 'bert.encoder.layer.2.attention']
        >>> torch.equal(model.bert.pooler.dense.weight, torch.eye(8))
        True
    """
    _check_plain(model)
    layer_map = layer_map or LayerMap.from_model(model)
    top = layer_map.highest(num_layers)
    if not isinstance(pooler, bool) and pooler != "identity":
        raise ConfigurationError(f'pooler must be True, False or "identity", got {pooler!r}')
    if seed is None:
        seed = next_seed()
    check_seed(seed)
    identity = find_tanh_pooler(model, layer_map) if pooler == "identity" else None
    names = _names_in_blocks(layer_map, top)
    if pooler is True:
        names += layer_map.names_in(layer_map.pooler)
    if names:
        initialize_parameters(model, names, seed=seed)
    if identity is not None:
        make_identity(identity)
    return model


def redraw_head(model: Model, *, seed: int, layer_map: LayerMap | None = None) -> Model:
    """Draws the parameters that the checkpoint did not bring from `seed`, and returns the model.

    They are then what `set_seed(seed)` before `from_pretrained` would have made them, whatever
    the random state was when the model was loaded. In a model that was built from a
    configuration, to which no checkpoint brought anything, the head alone (depth N + 1) is drawn.

    Args:
        model: A model as loaded, before it is wrapped, sharded or given adapters. A deep copy
            no longer knows what a checkpoint brought, and is refused.
        seed: Decides the numbers, in [0, 2^63).
        layer_map: Depths that were found before; None: `LayerMap.from_model(model)`.

    Raises:
        ConfigurationError: The checkpoint brought the head, so there is nothing to draw; what it
            brought cannot be told; or the model has adapters, lies on the meta device, is
            quantised or partitioned.
        ReinitializationError: As in `reinitialize_layers`.

    Example:
        >>> import torch
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> config = BertConfig(vocab_size=64, hidden_size=8, num_hidden_layers=2,
        ...                     num_attention_heads=2, intermediate_size=8)
        >>> one, two = (redraw_head(BertForSequenceClassification(config), seed=3) for _ in "ab")
        >>> torch.equal(one.classifier.weight, two.classifier.weight)
        True
    """
    _check_plain(model)
    check_seed(seed)
    _check_origin(model)
    names = _new_parameters(model, layer_map or LayerMap.from_model(model))
    if not names:
        raise ConfigurationError(
            f"head_seed={seed!r} has nothing to decide: the checkpoint brought a trained head; "
            "leave head_seed out, or load the body's checkpoint to start with a new head"
        )
    initialize_parameters(model, names, seed=seed)
    return model


def has_new_parameters(model: nn.Module, *, layer_map: LayerMap | None = None) -> bool:
    """Whether `redraw_head` would find a head, or a part of one, that no checkpoint brought."""
    return bool(_new_parameters(model, layer_map or LayerMap.from_model(model)))


def has_identity_pooler(model: nn.Module, *, layer_map: LayerMap | None = None) -> bool:
    """Whether `reinitialize_layers(model, 0, pooler="identity")` is possible."""
    try:
        find_tanh_pooler(model, layer_map or LayerMap.from_model(model))
    except ConfigurationError:
        return False
    return True


def _check_plain(model: nn.Module) -> None:
    if hasattr(model, "peft_config") or getattr(model, "_hf_peft_config_loaded", False):
        raise ConfigurationError(
            "the model has adapters: its own weights are frozen and are not saved with them, so "
            "new values would be lost; draw layers anew before adding adapters, and save that model"
        )


def _check_origin(model: nn.Module) -> None:
    """Refuses a model that says it has a checkpoint, none of whose parameters says so."""
    sources = [m.name_or_path for m in model.modules() if isinstance(m, PreTrainedModel)]
    if any(sources) and not any(was_loaded(parameter) for parameter in model.parameters()):
        raise ConfigurationError(
            f"what the checkpoint {sources[0]!r} brought cannot be told, as in a deep copy of a "
            "loaded model; call redraw_head on the model that from_pretrained returned, and copy "
            "it afterwards"
        )


def _names_in_blocks(layer_map: LayerMap, depths: range) -> list[str]:
    """Names of the parameters in the blocks of these depths.

    What has a block's depth but lies outside (an encoder's final norm), or lies inside but has
    another depth (T5's table of positions, shared by all blocks), is no part of the block.
    """
    return [
        name
        for depth in depths
        for name in layer_map.names_in(layer_map.blocks[depth])
        if layer_map.depth_of(name) == depth
    ]


def _new_parameters(model: nn.Module, layer_map: LayerMap) -> list[str]:
    head = layer_map.names(layer_map.num_layers + 1)
    parameters = dict(model.named_parameters())
    new = [name for name, parameter in parameters.items() if not was_loaded(parameter)]
    if len(new) == len(parameters):
        return list(head)
    return new if set(new) & set(head) else []
