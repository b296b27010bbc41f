"""In which layer did numbers stop being numbers?

Asked once a loss or gradient is not finite, so that a healthy run pays nothing. The gradients tell
if some layers are clean. They seldom are: clipping by a norm that is NaN turns all of them into
NaN. Then the step's batches are run through the model again, forwards and backwards, as training
would, and the first output, or the first gradient from the loss downwards, that is not finite
tells. The model, its gradients and the random numbers are left as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hf_stabilizer.errors import LayerDiscoveryError
from hf_stabilizer.layers import LayerMap
from hf_stabilizer.norms import norms_of
from hf_stabilizer.random_state import remember_random_state

Batch = tuple[tuple[Any, ...], dict[str, Any]]
"""What a model was given: arguments by position and by name. Any: whatever it takes."""


def find_layer(model: nn.Module, batches: Iterable[Batch]) -> str:
    """Returns the label of the layer that was not finite first, "" where it cannot be told.

    Args:
        model: The model that is trained, unwrapped, with the gradients of the step.
        batches: What it was given in the step.
    """
    layers = _Layers.of(model)
    trained = [(name, p) for name, p in model.named_parameters() if p.grad is not None]
    lost = _lost([name for name, _ in trained], [p.grad for _, p in trained])
    lost_layers = {layers.label(name) for name in lost}
    if lost and len(lost_layers) < len({layers.label(name) for name, _ in trained}):
        return layers.first_backwards(lost)
    found = "" if _needs_other_processes(model) else _run_again(model, batches, layers)
    return found or layers.first_backwards(lost)


def _needs_other_processes(model: nn.Module) -> bool:
    """Whether a forward pass waits for other processes, which need not run the same batches."""
    is_sharded = any(hasattr(p, "full_tensor") for p in model.parameters())
    return is_sharded or any(isinstance(m, nn.SyncBatchNorm) for m in model.modules())


class _Layers:
    """Labels and depths of parameters; each is a layer of its own where depths cannot be told."""

    def __init__(self, model: nn.Module, layer_map: LayerMap | None):
        self.map = layer_map
        self._places = {name: place for place, (name, _) in enumerate(model.named_parameters())}

    @classmethod
    def of(cls, model: nn.Module) -> _Layers:
        try:
            return cls(model, LayerMap.from_model(model))
        except LayerDiscoveryError:
            return cls(model, None)

    def label(self, name: str) -> str:
        return self.map.label(self.map.depth_of(name)) if self.map else name

    def first_backwards(self, names: Sequence[str]) -> str:
        """The layer among those of these parameters that a gradient comes through first."""
        if not names:
            return ""
        depth = self.map.depth_of if self.map else self._places.__getitem__
        return self.label(max(names, key=depth))

    def watched(self, model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
        """Every module that holds parameters of its own, and every block, with its label."""
        for path, module in model.named_modules():
            for key, parameter in module.named_parameters(recurse=False):
                if parameter is not None:
                    yield module, self.label(f"{path}.{key}" if path else key)
                    break
        for depth, paths in (self.map.blocks if self.map else {}).items():
            for path in paths:
                yield model.get_submodule(path), self.map.label(depth) if self.map else path


def _run_again(model: nn.Module, batches: Iterable[Batch], layers: _Layers) -> str:
    try:
        labels = (_first_lost(model, batch, layers) for batch in batches)
        return next(filter(None, labels), "")
    except RuntimeError:  # No memory for it, say: what is known of the failure is told anyway.
        return ""


def _first_lost(model: nn.Module, batch: Batch, layers: _Layers) -> str:
    args, kwargs = batch
    found: list[str] = []
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    with _as_it_was(model), _watching(layers.watched(model), found):
        output = model(*args, **kwargs)
        loss = output.get("loss") if isinstance(output, dict) else None
        if found or loss is None:
            return "".join(found)
        if not torch.isfinite(loss):
            return "the loss"
        gradients = torch.autograd.grad(loss, [p for _, p in trained], allow_unused=True)
    had = [(name, g) for (name, _), g in zip(trained, gradients, strict=True) if g is not None]
    return layers.first_backwards(_lost([name for name, _ in had], [g for _, g in had]))


@contextmanager
def _watching(watched: Iterable[tuple[nn.Module, str]], found: list[str]) -> Iterator[None]:
    """Lets `found` begin with the layer that first gives something that is not finite."""

    def watcher(label: str) -> Callable[[nn.Module, Any, Any], None]:
        def watch(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and not all(torch.isfinite(t).all() for t in _floats(output)):
                found.append(label)

        return watch

    with ExitStack() as stack:
        for module, label in watched:
            stack.enter_context(module.register_forward_hook(watcher(label)))
        yield


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Puts buffers (the statistics of batch norm) and random numbers back."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    restore = remember_random_state(next(model.parameters()).device)
    try:
        with torch.enable_grad():
            yield
    finally:
        restore()
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def _lost(names: Sequence[str], gradients: Sequence[Tensor | None]) -> list[str]:
    """The names of the gradients that are not finite."""
    if not names:
        return []
    are_finite = norms_of([g for g in gradients if g is not None]).isfinite().tolist()
    return [name for name, is_finite in zip(names, are_finite, strict=True) if not is_finite]


def _floats(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, dict):
        yield from _floats(list(output.values()))
    elif isinstance(output, list | tuple):
        for part in output:
            yield from _floats(part)
