"""What lies between the body and the logits? The pooler, and the classifier that ends it.

The classifier is the linear layer that runs last, above all blocks, if no other matrix is used
after it; the body that `AutoModel` builds has none. The pooler is what else stands in the head
from its first linear layer on; norms before that are the body's final norm.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from torch import nn
from transformers import MODEL_MAPPING, PreTrainedModel

from hf_stabilizer.layers.flow import Flow
from hf_stabilizer.layers.stacks import Structure, walk_up


def find_head(
    structure: Structure, flow: Flow, top: Collection[str], head: Collection[str]
) -> tuple[tuple[str, ...], str | None]:
    """Returns the paths of the pooler's modules, and the path of the classifier.

    Args:
        structure: The model.
        flow: What its forward pass showed.
        top: Paths of the blocks at depth N.
        head: Names of the parameters at depth N + 1.
    """
    when = _clock(structure, flow)
    linears = sorted(_top_linears(structure, flow, top, head), key=lambda path: when[path])
    linears = _of_last_tower(structure, flow, linears)
    last = linears[-1] if linears else ""
    linears = list(dict.fromkeys(_without_adapter(structure, path) for path in linears))
    classifier = linears[-1] if linears else None
    end = float("inf")
    if classifier and _in_bare_body(structure, classifier):
        classifier = None
    elif classifier and last in flow.linears:
        end = _functional_output(structure, flow, after=flow.linears[last].when + 1)
        classifier = None if end < float("inf") else classifier
    poolers = [path for path in linears if path != classifier]
    if classifier and last in flow.linears:  # heads beside one another are no poolers
        before = flow.linears[last].sources
        poolers = [path for path in poolers if before & _names_in(structure, path)]
    if not poolers:
        return (), classifier
    spared = _with_adapter(structure, classifier) if classifier else set()
    seen_whole = flow.whole and flow.failure is None
    used = [name for name in head if name in flow.first_use or not seen_whole]
    if classifier and last in flow.linears:
        used = [name for name in used if name in before or name not in flow.first_use]
    chosen = {
        structure.parameters[name]: name
        for name in used
        if when[poolers[0]] <= when[name] < end and structure.parameters[name] not in spared
    }
    return tuple(_modules_of(structure, chosen)), classifier


def _clock(structure: Structure, flow: Flow) -> dict[str, float]:
    """Returns when each parameter and linear layer outside the blocks was first used.

    What was not seen in use comes after all, in the order of registration; a linear layer comes
    just before its weight.
    """
    unseen = {name: flow.uses + 1.0 + i for i, name in enumerate(structure.parameters)}
    clock = {**unseen, **flow.first_use}
    before = {path: clock.get(f"{path}.weight", 0.0) - 0.5 for path in structure.linears}
    return {**clock, **before, **{path: call.when + 0.5 for path, call in flow.linears.items()}}


def _top_linears(
    structure: Structure, flow: Flow, top: Collection[str], head: Collection[str]
) -> list[str]:
    """Returns the linear layers that ran above all blocks, or were not seen for want of a pass."""
    seen = flow.linears
    above = [
        path
        for path, call in seen.items()
        if call.front and (call.front.intersection(top) or f"{path}.weight" in head)
    ]
    if flow.whole and flow.failure is None:
        return above
    unseen = [path for path in structure.linears if path not in seen and f"{path}.weight" in head]
    return [path for path in structure.linears if path in (*above, *unseen)]


def _of_last_tower(structure: Structure, flow: Flow, linears: Sequence[str]) -> list[str]:
    """Returns those that stand on the tower that the last one stands on: no connector does."""
    towers = [
        {structure.tower_of(b) for b in flow.linears[path].front or ()}
        if path in flow.linears
        else set[str]()
        for path in linears
    ]
    return [path for path, own in zip(linears, towers, strict=True) if not own or own & towers[-1]]


def _with_adapter(structure: Structure, path: str) -> set[nn.Parameter]:
    """Returns the parameters of a layer, those of an adapter on it too."""
    outer = structure.root.get_submodule(path.rpartition(".")[0])
    layer = outer if hasattr(outer, "get_base_layer") else structure.root.get_submodule(path)
    return set(layer.parameters())


def _names_in(structure: Structure, path: str) -> set[str]:
    return {f"{path}.{name}" for name, _ in structure.root.get_submodule(path).named_parameters()}


def _without_adapter(structure: Structure, path: str) -> str:
    """Returns the layer that an adapter (LoRA) is put on, where `path` is a part of the adapter."""
    for above in walk_up(path):
        module: Any = structure.root.get_submodule(above)
        if hasattr(module, "get_base_layer"):  # PEFT's own way to ask
            base = module.get_base_layer()
            return next(f"{above}.{name}" for name, m in module.named_modules() if m is base)
    return path


def _in_bare_body(structure: Structure, path: str) -> bool:
    """Whether a module belongs to a model of the kind that `AutoModel` builds: without a task."""
    around = [structure.root.get_submodule(above) for above in walk_up(path)]
    models = [module for module in around if isinstance(module, PreTrainedModel)]
    return bool(models) and _is_bare(models[-1])


def _is_bare(model: PreTrainedModel) -> bool:
    kind = type(model.config)
    bare: Any = MODEL_MAPPING.get(kind, ())  # Any: one class or several
    return isinstance(model, bare)


def _functional_output(structure: Structure, flow: Flow, after: int) -> float:
    """Returns when a matrix that no linear layer owns makes the logits; infinity if none does.

    Such is an output that is tied to the embeddings and multiplied by hand (DeBERTa v3).
    """
    late = (name for name, clock in flow.last_use.items() if clock > after)
    matrices = (name for name in late if structure.parameters[name].dim() > 1)
    return min((float(flow.last_use[name]) for name in matrices), default=float("inf"))


def _modules_of(structure: Structure, chosen: dict[nn.Parameter, str]) -> Iterable[str]:
    """Yields the largest modules made of nothing but chosen parameters."""
    seen: set[str] = set()
    for name in sorted(chosen.values(), key=list(structure.parameters).index):
        whole = ""
        for path in walk_up(name):
            module = structure.root.get_submodule(path)
            if path in structure.spine or not all(p in chosen for p in module.parameters()):
                break
            whole = path
        if whole and whole not in seen:
            seen.add(whole)
            yield whole
