"""Which weights does the model show, the raw ones or their mean?

    add()          mean <- update(mean, raw)         after an optimizer step
    show_mean()    model holds the mean              evaluations and checkpoints
    show_raw()     model holds the raw weights       training

    keep_mean()    model keeps the mean              the end of training

The mean is kept by name, for floating-point parameters only, in fp32 at least, whatever the
precision of the model; the arithmetic is that of torch.optim.swa_utils. Buffers are the model's
own and so those of the raw weights. Mean and raw weights change places by pointer where that is
safe, so that showing the mean costs neither time nor memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Update = Callable[[list[Tensor], list[Tensor], int], None]
"""Moves means (first) towards raw weights (second), after so many updates before (third)."""

# Elements of a half-precision weight that are cast to fp32 at a time: few enough for the cast to
# stay in the processor's cache (casting all at once takes five times as long, measured with
# benchmarks/averaging_cost.py), on an accelerator enough to keep it busy.
_CAST_AT_ONCE = {"cpu": 2**20}
_CAST_AT_ONCE_ELSEWHERE = 2**24


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
        self._marks: list[tuple[int, int]] = []  # where the model's weights lay when it was put in

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
            self.mean = {name: _in_fp32(raw) for name, raw in self.raw.items()}
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
        for names in _alike(raw):
            pairs = [(_own_part(means[name]), _own_part(raw[name])) for name in names]
            for some in _batches(pairs):
                self._update(
                    [mean for mean, _ in some], [now.to(m.dtype) for m, now in some], count
                )

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
        self._raw = self._laid_aside()
        self._put(self._shown)
        self._marks = self._places()

    @torch.no_grad()
    def show_raw(self) -> None:
        """Puts the raw weights back into the model."""
        if self._raw:
            self._put(self._raw)
        self._raw, self._shown, self._marks = {}, {}, []

    @torch.no_grad()
    def keep_mean(self, *, with_current: bool) -> None:
        """Leaves the mean in the model for good, with the raw weights in it if that is asked for.

        Nothing can be shown or added afterwards.
        """
        self.show_raw()
        if self.mean and with_current and not self.is_current:
            self._move(self.mean, self.raw, self.count)
        if self.mean:
            self._write(self.mean)
        self.mean = {}

    def shows_mean(self) -> bool:
        """Whether the model holds a mean that was put there, and nobody wrote over it."""
        return bool(self._shown) and self._marks == self._places() and self.holds(self._shown)

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
        self._write(self.placed(raw))
        self.mean = self.placed(mean)
        self.count, self.is_current = count, is_current

    def placed(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns whole tensors on the devices, and in the shards, of the model's own."""
        return {name: _like(tensor, self._parameters[name]) for name, tensor in weights.items()}

    def _write(self, weights: Mapping[str, Tensor]) -> None:
        """Copies weights into the model for good: whoever else holds its tensors sees them."""
        for name, parameter in self._parameters.items():
            parameter.copy_(weights[name])
        self._reshard()

    def _laid_aside(self) -> dict[str, Tensor]:
        return {
            name: p.data if _has_memory_of_its_own(p) else p.detach().clone()
            for name, p in self._parameters.items()
        }

    def _put(self, weights: Mapping[str, Tensor]) -> None:
        """Lets the model use weights for a while, by pointer where that is safe."""
        own = {n: p for n, p in self._parameters.items() if _has_memory_of_its_own(p)}
        cast = {name: weights[name].to(p.dtype) for name, p in own.items()}
        for name, parameter in self._parameters.items():
            if name not in own:
                parameter.copy_(weights[name])
        # What can take long is done: an interrupt will hardly hit between two of these.
        for name, parameter in own.items():
            parameter.data = cast[name]
        self._reshard()

    def _reshard(self) -> None:
        # Under FSDP2 the root keeps the gathered old weights, and would compute with them.
        for module in self.model.modules():
            if callable(reshard := getattr(module, "reshard", None)):
                reshard()

    def _places(self) -> list[tuple[int, int]]:
        """Where each weight lies and how often it was written to."""
        own = [p for p in self._parameters.values() if _has_memory_of_its_own(p)]
        return [(p.data_ptr(), p._version) for p in own]


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


def _in_fp32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32), copy=True)


def _has_memory_of_its_own(parameter: nn.Parameter) -> bool:
    """Whether its data may be exchanged for another tensor's without anyone noticing.

    Not a shard, a quantised tensor, or a window on memory that others use as well: the flat
    buffers of DeepSpeed and of cuDNN's recurrent layers, and what processes share.
    """
    data = parameter.data
    if type(data) is not Tensor or data.layout is not torch.strided:
        return False
    is_shared: Callable[[], bool] = data.is_shared  # between processes; always so on a GPU
    is_window = data.untyped_storage().nbytes() != data.numel() * data.element_size()
    return not is_window and not (data.device.type == "cpu" and is_shared())


def _own_part(tensor: Tensor) -> Tensor:
    """Returns the part of a sharded tensor that this process holds."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _alike(tensors: Mapping[str, Tensor]) -> Iterable[list[str]]:
    """Returns the names in sets of one device and type, as multi-tensor kernels want them."""
    sets: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for name, tensor in tensors.items():
        sets[type(tensor), tensor.device, tensor.dtype].append(name)
    return sets.values()


def _batches(pairs: list[tuple[Tensor, Tensor]]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Yields (mean, raw) pairs: all at once if the types agree, else cut into what is cast at once.

    Casting the whole model would cost an fp32 copy of it, and the time to write it and read it.
    """
    if all(mean.dtype == raw.dtype for mean, raw in pairs):
        yield pairs
        return
    most = _CAST_AT_ONCE.get(pairs[0][0].device.type, _CAST_AT_ONCE_ELSEWHERE)
    batch: list[tuple[Tensor, Tensor]] = []
    left = most
    for mean, raw in (piece for pair in pairs for piece in _pieces(*pair, most=most)):
        if batch and mean.numel() > left:
            yield batch
            batch, left = [], most
        batch.append((mean, raw))
        left -= mean.numel()
    yield batch


def _pieces(mean: Tensor, raw: Tensor, *, most: int) -> Iterable[tuple[Tensor, Tensor]]:
    if mean.numel() <= most or not (mean.is_contiguous() and raw.is_contiguous()):
        return [(mean, raw)]
    return zip(torch.split(mean.view(-1), most), torch.split(raw.view(-1), most), strict=True)
