"""How long is each of these tensors? All of them in one go, without waiting for the device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor


def norms_of(tensors: Sequence[Tensor]) -> Tensor:
    """Returns the Euclidean norm of each tensor, in fp32 at least, on the device of the first.

    One fused reduction for all tensors of a kind; nothing is read back. Of tensors that are
    sharded over processes (all of them must call) it is the norm of the whole.

    Args:
        tensors: At least one.

    Returns:
        The norms in the same order. Shape (len(tensors),).

    Example:
        >>> norms_of([torch.tensor([3.0, 4.0]), torch.tensor([float("nan")])])
        tensor([5., nan])
    """
    alike: dict[torch.dtype, list[int]] = defaultdict(list)
    for place, tensor in enumerate(tensors):
        alike[tensor.dtype].append(place)
    found: dict[int, Tensor] = {}
    for dtype, places in alike.items():
        values = [_dense(tensors[place]) for place in places]
        # An fp16 sum of squares would be infinite from 65,504 on.
        lengths = torch._foreach_norm(values, 2, dtype=torch.promote_types(dtype, torch.float32))
        found.update(zip(places, lengths, strict=True))
    device = tensors[0].device
    return torch.stack([_whole(found[place]).to(device) for place in range(len(tensors))])


def _dense(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor.coalesce().values() if tensor.is_sparse else tensor


def _whole(norm: Tensor) -> Tensor:
    gathered: Tensor = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    return gathered
