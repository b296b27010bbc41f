"""Which layers of another model are brought into this one before training?

    source  [embeddings | 1 | 2 | 3 | 4 | pooler | its head]
                 |        |   |
    target  [embeddings | 1 | 2 | 3 | 4 | pooler | its head]      num_layers=2

A body that was trained further, on the task's own text or on another task, is so handed on to a
model with another head; and how many of the lowest layers are worth bringing can be asked.

Source: Yosinski, Clune, Bengio, Lipson 2014, "How transferable are features in deep neural
networks?", arXiv 1411.1792 (the lowest n layers brought in, the others as they start).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from hf_stabilizer.errors import ConfigurationError, ReinitializationError
from hf_stabilizer.layers import LayerMap
from hf_stabilizer.transfer_names import Pairing, Side, pair_names
from hf_stabilizer.transfer_source import load_source

logger = logging.getLogger(__name__)

Model = TypeVar("Model", bound=nn.Module)

# How transformers 5 marks what a checkpoint brought; so what is brought in here is not new, and is
# not drawn again from a seed of the head.
_LOADED = "_is_hf_initialized"


def transfer_layers(
    source: nn.Module | str | os.PathLike[str],
    target: Model,
    *,
    num_layers: int | None = None,
    layer_map: LayerMap | None = None,
) -> Model:
    """Copies embeddings and the lowest blocks of one model into another; returns the target.

    The heads may differ (masked words, classes, none), and so may wrappers around the body: blocks
    are paired by depth, all else by its name within the body. What is not chosen stays as it is.
    num_layers=0 brings the embeddings alone; None the whole body: all blocks, what stands above
    them, and the pooler where both have it. Copying a model's own checkpoint changes nothing.

    Running statistics of norms go with their layers. Numbers are cast to the target's dtype. A
    tied weight is copied once. What was copied and what was not is logged.

    Args:
        source: A model; or a checkpoint: a path, a Hub id or `pkg://package/path`, loaded as the
            class that wrote it. Parameters that it does not hold are not taken from it.
        target: A model with its weights loaded, before it is sharded.
        num_layers: Number of lowest blocks, in [0, N]; None: the whole body, of as many blocks.
        layer_map: Depths of the target that were found before; None: `LayerMap.from_model`.

    Returns:
        The target; every copied tensor was compared with its source, bit for bit.

    Raises:
        ConfigurationError: No checkpoint there, nothing in common, another number of blocks, a
            shape or a vocabulary that differs; the target is then untouched.
        ReinitializationError: A tensor is not what was copied into it.

    Example:
        >>> from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification
        >>> config = BertConfig(vocab_size=64, hidden_size=8, num_hidden_layers=2,
        ...                     num_attention_heads=2, intermediate_size=8)
        >>> words, classes = BertForMaskedLM(config), BertForSequenceClassification(config)
        >>> classes = transfer_layers(words, classes, num_layers=1)
        >>> blocks = zip(words.bert.encoder.layer, classes.bert.encoder.layer)
        >>> [torch.equal(a.output.dense.weight, b.output.dense.weight) for a, b in blocks]
        [True, False]

    Source:
        Yosinski et al. 2014, arXiv 1411.1792; between models with different heads it is the
        hand-over of Gururangan et al. 2020, "Don't Stop Pretraining", arXiv 2004.10964.
    """
    layers = layer_map or LayerMap.from_model(target)
    name, absent = type(source).__name__, frozenset[str]()
    if not isinstance(source, nn.Module):
        name = repr(os.fspath(source))
        source, absent = load_source(os.fspath(source))
    ours = LayerMap.from_model(source)
    found = pair_names(Side.of(source, ours), Side.of(target, layers), num_layers, absent=absent)
    tensors = _tensors(source), _tensors(target)
    pairs = {**found.pairs, **_statistics(found.pairs, *tensors)}
    _check(pairs, *tensors, vocabularies=(_vocabulary(source), _vocabulary(target)))
    _copy(pairs, *tensors)
    _report(name, found, layers)
    return target


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and those buffers that a checkpoint holds, under all their names."""
    kept = model.state_dict(keep_vars=True)
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in kept}
    return {**dict(model.named_parameters(remove_duplicate=False)), **buffers}


def _statistics(
    pairs: Mapping[str, str], theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]
) -> dict[str, str]:
    """Buffers beside copied parameters: a batch norm's means, and how many batches they saw.

    Whole numbers by themselves, such as the places of tokens, belong to the model's own shape.
    """
    owners = {_owner(here): _owner(there) for here, there in pairs.items()}
    buffers = [name for name, t in ours.items() if not isinstance(t, nn.Parameter)]
    running = {_owner(name) for name in buffers if ours[name].is_floating_point()}
    found = {}
    for name in buffers:
        owner = _owner(name)
        if owner in owners and owner in running:
            there = ".".join(filter(None, (owners[owner], name.rpartition(".")[2])))
            if there in theirs:
                found[name] = there
    return found


def _owner(name: str) -> str:
    return name.rpartition(".")[0]


def _check(
    pairs: Mapping[str, str],
    theirs: Mapping[str, Tensor],
    ours: Mapping[str, Tensor],
    *,
    vocabularies: tuple[int | None, int | None],
) -> None:
    """Raises before anything is copied."""
    for here, there in pairs.items():
        source, target = theirs[there], ours[here]
        _check_values(there, source)
        _check_values(here, target)
        if source.shape == target.shape:
            continue
        rows = tuple(tensor.shape[0] if tensor.dim() else 1 for tensor in (source, target))
        if source.shape[1:] == target.shape[1:] and rows == vocabularies:
            raise ConfigurationError(
                f"the vocabularies differ: {rows[0]:,} tokens in the source and "
                f"{rows[1]:,} in the target, so {here} cannot be copied and its tokens would "
                "not mean the same; transfer between models that share one tokenizer (where "
                "tokens were only added, call resize_token_embeddings on the other model first)"
            )
        raise ConfigurationError(
            f"shapes differ: {there} of the source is {tuple(source.shape)} and {here} of the "
            f"target is {tuple(target.shape)}; transfer between models of one size"
        )


def _check_values(name: str, tensor: Tensor) -> None:
    is_packed = isinstance(tensor, nn.Parameter) and not tensor.is_floating_point()
    if tensor.is_meta or is_packed:
        raise ConfigurationError(
            f"{name} has no plain numbers here ({tensor.dtype} on {tensor.device}): it is "
            "quantised, or its weights are not loaded; load the model in full first"
        )


def _vocabulary(model: nn.Module) -> int | None:
    for module in model.modules():
        config = getattr(module, "config", None)
        if isinstance(config, PreTrainedConfig):
            size = getattr(config.get_text_config(), "vocab_size", None)
            return size if isinstance(size, int) else None
    return None


@torch.no_grad()
def _copy(
    pairs: Mapping[str, str], theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]
) -> None:
    for here, there in pairs.items():
        ours[here].copy_(theirs[there])
        setattr(ours[here], _LOADED, True)
    # All afterwards: what shares memory with another tensor would have been overwritten by it.
    for here, there in pairs.items():
        expected = theirs[there].to(device=ours[here].device, dtype=ours[here].dtype)
        if not _same_bits(ours[here].detach(), expected.detach()):
            raise ReinitializationError(
                f"{here} is not what was copied into it from {there}: it shares its memory with "
                "another weight; transfer before weights are tied by hand, flattened or sharded"
            )


def _same_bits(first: Tensor, second: Tensor) -> bool:
    """Bitwise, as a NaN does not equal itself."""
    raw = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (first, second)]
    return torch.equal(*raw)


def _report(source: str, found: Pairing, layers: LayerMap) -> None:
    filled = {layers.depth_of(name) for name in found.pairs}
    body, head = range(layers.num_layers + 1), layers.names(layers.num_layers + 1)
    went = [layers.label(depth) for depth in body if depth in filled]
    stays = [layers.label(depth) for depth in body if depth not in filled]
    logger.info(
        "transferred from %s: %s (%d weights); as it was: %s",
        source,
        ", ".join([*went, *_modules(name for name in head if name in found.pairs)]),
        len(found.pairs),
        ", ".join([*stays, *_modules(name for name in head if name not in found.pairs)])
        or "nothing",
    )
    for names, what in (
        (found.left, "the source does not bring, so they stay as they were"),
        (found.unused, "the target has no place for"),
    ):
        if names:
            logger.warning("%d parameters that %s: %s", len(names), what, _listed(names))


def _modules(names: Iterable[str]) -> list[str]:
    """The modules of these parameters, each once."""
    return list(dict.fromkeys(_owner(name) or name for name in names))


def _listed(names: Collection[str]) -> str:
    shown = list(names)[:3]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
