"""What did a model show when it was run, whole or in parts?"""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from .inputs import TRIES, Maker
from .trace import Trace, elements_of, run


def observe(model: nn.Module, *, seed: int = 0) -> Trace:
    """Runs a model with ever simpler inputs until one pass ends well; then what did not run.

    A pass that ends early counts only if no other pass shows as much. Pre-trained models inside,
    none of whose blocks ran, are run by themselves.
    """
    elements = elements_of(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trace = _best(model, model, elements)
        trace.whole = bool(trace.order) and not trace.failures
        for part in model.modules():
            if part is not model and isinstance(part, PreTrainedModel):
                inside = [
                    path for path, e in elements.items() if any(e is m for m in part.modules())
                ]
                if inside and not any(path in trace.order for path in inside):
                    _add(trace, _best(part, model, elements))
                    trace.whole = trace.whole and not any(path in trace.order for path in inside)
    return trace


def _best(module: nn.Module, root: nn.Module, elements: dict[str, nn.Module]) -> Trace:
    """Returns the trace of the pass in which most elements ran."""
    best = Trace()
    maker = Maker(module)
    queue = maker.attempts()
    inputs = next(queue, None)
    for _ in range(TRIES):
        if inputs is None:
            break
        trace = Trace()
        error = run(module, inputs, elements, trace, root)
        if error is not None:
            trace.failures.append(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        if (error is None, len(trace.order)) > (
            not best.failures and best.order != {},
            len(best.order),
        ):
            best = trace
        elif not best.order and not best.failures:
            best.failures = trace.failures
        if error is None and len(trace.order) >= _reachable(module, elements):
            return best
        if error is not None and maker.learn(error):
            queue = maker.attempts()
        inputs = next(queue, None)
    return best


def _reachable(module: nn.Module, elements: dict[str, nn.Module]) -> int:
    inside = {id(m) for m in module.modules()}
    return sum(id(element) in inside for element in elements.values())


def _add(trace: Trace, more: Trace) -> None:
    after = len(trace.order)
    for element, when in more.order.items():
        trace.order.setdefault(element, after + when)
        trace.took.setdefault(element, more.took[element])
        trace.mainly.setdefault(element, more.mainly[element])
    for name, meetings in more.meetings.items():
        trace.meetings[name] |= meetings
    trace.failures += more.failures
