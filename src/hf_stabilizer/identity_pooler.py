"""Can this model's pooler start as the identity? Only a square one that is followed by a tanh.

    body's vector x --linear--> W x + b --tanh--> classifier        W = I, b = 0: it sees tanh(x)

That a tanh follows is told by what the model does, not by names: the linear layer's output is
replaced by known numbers in a short forward pass, and their tanh must reach the classifier.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hf_stabilizer.errors import ConfigurationError
from hf_stabilizer.features import evaluation_mode
from hf_stabilizer.layers import LayerMap


def find_tanh_pooler(model: nn.Module, layer_map: LayerMap) -> nn.Linear:
    """Returns the linear layer of a square tanh pooler.

    Raises:
        ConfigurationError: The model has another pooler, or none; the message says why.
    """
    owners = {name.rpartition(".")[0] for name in layer_map.names_in(layer_map.pooler)}
    layer = model.get_submodule(owners.pop()) if len(owners) == 1 else None
    if not isinstance(layer, nn.Linear) or layer.in_features != layer.out_features:
        found = ", ".join(layer_map.pooler) or "none"
        raise _no_identity(f"its pooler is {found}, not one square linear layer")
    if layer_map.classifier is None:
        raise _no_identity("it has no classifier behind the pooler")
    sent, received = _probe(model, layer, model.get_submodule(layer_map.classifier))
    if len(sent) != 1 or len(received) != 1 or not _is_tanh(*sent, *received):
        raise _no_identity("no tanh lies between its pooler and its classifier")
    return layer


@torch.no_grad()
def make_identity(layer: nn.Linear) -> None:
    """Sets weight I and bias 0, so that the layer gives out what it takes in."""
    nn.init.eye_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _is_tanh(sent: Tensor, received: Tensor) -> bool:
    return sent.shape == received.shape and torch.allclose(sent.tanh(), received)


def _no_identity(reason: str) -> ConfigurationError:
    return ConfigurationError(
        'pooler="identity" needs a square linear pooler that is followed by a tanh, and this '
        f"model has another one: {reason}; use pooler=True or pooler=False"
    )


@torch.no_grad()
def _probe(
    model: nn.Module, pooler: nn.Module, classifier: nn.Module
) -> tuple[list[Tensor], list[Tensor]]:
    """Returns numbers sent on in the pooler's place, and what the classifier received."""
    sent: list[Tensor] = []
    received: list[Tensor] = []

    def send(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        numbers = torch.linspace(-2, 2, output.numel()).reshape(output.shape).to(output)
        sent.append(numbers)
        return numbers

    def receive(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        received.append(args[0])

    hooks = [pooler.register_forward_hook(send), classifier.register_forward_pre_hook(receive)]
    try:
        with evaluation_mode(model):
            model(**_short_inputs(model))
    except Exception as error:  # whatever a stranger's forward raises
        raise _no_identity(f"a trial pass of four tokens failed with {error!r}") from error
    finally:
        for hook in hooks:
            hook.remove()
    return sent, received


def _short_inputs(model: nn.Module) -> dict[str, Tensor]:
    """Four rows of four tokens, which also read as four choices; the last token ends the text."""
    config: Any = getattr(model, "config", None)  # Any: whatever the configuration class holds
    end, pad = getattr(config, "eos_token_id", None), getattr(config, "pad_token_id", None)
    word = next(token for token in range(3) if token not in (end, pad))
    ids = torch.full((4, 4), word, device=next(model.parameters()).device)
    if isinstance(end, int):
        ids[:, -1] = end
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
