"""Which weights does the model show, the raw ones or their mean?

    add()          mean <- update(mean, raw)         after an optimizer step
    show_mean()    model holds the mean              evaluations and checkpoints
    show_raw()     model holds the raw weights       training

The mean is kept by name, for floating-point parameters only, in fp32 at least, whatever the
precision of the model; the arithmetic is that of torch.optim.swa_utils.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Update = Callable[[list[Tensor], list[Tensor], int], None]
"""Moves means (first) towards raw weights (second), after so many updates before (third)."""


class AveragedWeights:
    """The raw weights of a model and their mean.

    Args:
        model: The model that is trained, unwrapped.
        trained: Its parameters that are averaged, by name; `trained_parameters` finds them.
        update: A multi-tensor average function, as `torch.optim.swa_utils.get_swa_multi_avg_fn`.
    """

    def __init__(self, model: nn.Module, trained: Mapping[str, nn.Parameter], update: Update):
        self.model = model
        self.count = 0
        """How many times the mean was updated."""
        self.is_current = False
        """Whether the raw weights as they are now have gone into the mean."""
        self.mean: dict[str, Tensor] = {}
        self._parameters = dict(trained)
        self._update = update
        self._raw: dict[str, Tensor] = {}  # put aside while the model shows a mean
        self._shown: dict[str, Tensor] = {}  # the mean that it shows

    @property
    def are_sharded(self) -> bool:
        """Whether each process holds a part of them only, as under FSDP2."""
        return any(hasattr(p, "full_tensor") for p in self._parameters.values())

    @property
    def is_mean_shown(self) -> bool:
        """Whether the mean was put into the model, and the raw weights aside."""
        return bool(self._raw)

    @property
    def raw(self) -> dict[str, Tensor]:
        """The raw weights by name, wherever they are now."""
        return self._raw or {name: p.detach() for name, p in self._parameters.items()}

    @torch.no_grad()
    def add(self) -> None:
        """Takes the raw weights into the mean."""
        if self.count == 0:
            self.mean = {name: _in_fp32(raw, copy=True) for name, raw in self.raw.items()}
        else:
            self._move(self.mean, self.raw, self.count)
        self.count += 1
        self.is_current = True

    @torch.no_grad()
    def moved(
        self, mean: Mapping[str, Tensor], raw: Mapping[str, Tensor], count: int
    ) -> dict[str, Tensor]:
        """Returns the mean of `count` updates that would be if `raw` went into it as well."""
        means = {name: tensor.clone() for name, tensor in mean.items()}
        self._move(means, raw, count)
        return means

    def _move(self, means: Mapping[str, Tensor], raw: Mapping[str, Tensor], count: int) -> None:
        for names in _alike(means):
            current = [_in_fp32(raw[name]) for name in names]
            self._update([means[name] for name in names], current, count)

    @torch.no_grad()
    def show_mean(self, *, with_current: bool = False) -> None:
        """Puts the mean into the model, and the raw weights aside; before the first update nothing.

        Args:
            with_current: Show the mean with the raw weights in it, if they are not.
        """
        if self.is_mean_shown or not self.mean:
            return
        with_current = with_current and not self.is_current
        self._shown = self.moved(self.mean, self.raw, self.count) if with_current else self.mean
        self._raw = {name: raw.clone() for name, raw in self.raw.items()}
        self._put(self._shown)

    @torch.no_grad()
    def show_raw(self) -> None:
        """Puts the raw weights back into the model."""
        if self._raw:
            self._put(self._raw)
        self._raw, self._shown = {}, {}

    def shows_mean(self) -> bool:
        """Whether the model holds a mean that was put there, bit for bit."""
        return bool(self._shown) and self.holds(self._shown)

    @torch.no_grad()
    def holds(self, weights: Mapping[str, Tensor]) -> bool:
        """Whether the model's averaged parameters are these weights, bit for bit."""
        return weights.keys() == self._parameters.keys() and all(
            torch.equal(gathered(p), gathered(weights[name]).to(p.device, p.dtype))
            for name, p in self._parameters.items()
        )

    @torch.no_grad()
    def load(
        self, *, raw: Mapping[str, Tensor], mean: Mapping[str, Tensor], count: int, is_current: bool
    ) -> None:
        """Takes up what was saved: raw weights into the model, the mean beside it."""
        self._put(self._placed(raw))
        self.mean = self._placed(mean)
        self.count, self.is_current = count, is_current

    def _placed(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: _like(tensor, self._parameters[name]) for name, tensor in weights.items()}

    def _put(self, weights: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(weights[name])
        # Under FSDP2 the root keeps the gathered old weights, and would compute with them.
        for module in self.model.modules():
            if callable(reshard := getattr(module, "reshard", None)):
                reshard()


def trained_parameters(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, nn.Parameter]:
    """Returns by name what training may change: a tied parameter once, adapters but not their base.

    A parameter of the optimizer counts also while it is frozen: it may be freed later in the run.
    """
    of_optimizer = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return {
        name.replace("_orig_mod.", ""): p  # a model that the user compiled
        for name, p in model.named_parameters()
        if p.is_floating_point() and (p.requires_grad or id(p) in of_optimizer)
    }


def gathered(tensor: Tensor) -> Tensor:
    """Returns the whole of a tensor that may be sharded over processes (all of them must call)."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def _like(whole: Tensor, parameter: nn.Parameter) -> Tensor:
    whole = whole.to(parameter.device)
    sharded: Any = parameter  # a DTensor under FSDP2, which torch's own stubs do not tell apart
    if not hasattr(parameter, "full_tensor"):
        return whole
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole, sharded.device_mesh, sharded.placements)


def _in_fp32(tensor: Tensor, *, copy: bool = False) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32), copy=copy)


def _alike(tensors: Mapping[str, Tensor]) -> Iterable[list[str]]:
    """Returns the names in sets of one device and type, as multi-tensor kernels want them."""
    sets: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for name, tensor in tensors.items():
        sets[type(tensor), tensor.device, tensor.dtype].append(name)
    return sets.values()
