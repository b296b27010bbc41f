"""Is the layer map of one class right? The verdict, with the naive patterns beside it.

right        every rule of the oracle holds
refused      LayerDiscoveryError: the user is asked, nothing is silently wrong
wrong        a rule is violated, or something else than LayerDiscoveryError was raised
total        every parameter has one depth, and no more is promised (detectors, codecs,
             vocoders) or could be seen (no block ran)
unbuildable  no instance could be made
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from hf_stabilizer.errors import LayerDiscoveryError, StabilizerError
from hf_stabilizer.layers import LayerMap
from hf_stabilizer.reinitialization import reinitialize_layers

from .building import Unbuildable, build
from .naive_patterns import bert_style, numbered
from .observation import observe
from .oracle import Oracle
from .targets import Target, all_targets

METHODS = ("layer_map", "numbered", "bert_style", "reinitialize")
VERDICTS = ("right", "refused", "wrong", "total", "unbuildable")

NO_LADDER = (
    "OBJECT_DETECTION",
    "ZERO_SHOT_OBJECT_DETECTION",
    "INSTANCE_SEGMENTATION",
    "UNIVERSAL_SEGMENTATION",
    "MASK_GENERATION",
    "KEYPOINT_MATCHING",
    "AUDIO_TOKENIZATION",
    "TEXT_TO_WAVEFORM",
    "TEXT_TO_SPECTROGRAM",
)
"""Mappings of detectors, codecs and vocoders: for these a total map is promised, not a ladder."""


@dataclass
class Verdict:
    """One line of the results."""

    name: str
    family: str
    config_type: str
    promise: str = "ladder"
    """"ladder", or "total" where no more is promised."""
    observed: str = ""
    """"whole" pass, "parts" of the model, or "nothing"."""
    num_layers: int | None = None
    """N of the map."""
    blocks: int = 0
    """Blocks that were seen to run."""
    judged: int = 0
    """Parameters on which the oracle had something to say."""
    parameters: int = 0
    """Parameters of the instance."""
    layer_map: str = ""
    numbered: str = ""
    bert_style: str = ""
    reinitialize: str = ""
    seconds: float = 0.0
    """For the layer map alone."""
    reasons: dict[str, list[str]] = field(default_factory=dict)
    """Method -> why it was refused or is wrong."""

    def as_record(self) -> dict[str, Any]:
        """Returns the fields as plain values."""
        return asdict(self)


def judge(target: Target) -> Verdict:
    """Builds a class, runs it, and judges the layer map, the patterns and `reinitialize_layers`."""
    verdict = Verdict(target.name, target.family, target.config_type)
    try:
        model = build(target)
    except Unbuildable as error:
        verdict.reasons["build"] = [str(error)]
        for method in METHODS:
            setattr(verdict, method, "unbuildable")
        return verdict
    if target.config_type in types_without_ladder() or _is_codec(model):
        verdict.promise = "total"
    oracle = Oracle(model, observe(model))
    if oracle.trace.failures:
        verdict.reasons["run"] = oracle.trace.failures[:1]
    verdict.observed = "whole" if oracle.saw_all else "parts" if oracle.stacks else "nothing"
    for method, patterns in (("numbered", numbered), ("bert_style", bert_style)):
        depths, top = patterns(name for name, _ in model.named_parameters(remove_duplicate=False))
        _hold_against(verdict, method, oracle, depths.__getitem__, top)
    layer_map = _judge_map(verdict, model, oracle)
    _judge_reinitialization(verdict, model, oracle, layer_map)
    return verdict


def types_without_ladder() -> frozenset[str]:
    """Returns the model types of detectors, codecs and vocoders."""
    return frozenset(
        target.config_type
        for target in all_targets()
        if any(mapping in NO_LADDER for mapping in target.mappings)
    )


def _is_codec(model: nn.Module) -> bool:
    """Whether a model turns waveforms or images into codes and back."""
    return all(callable(getattr(model, method, None)) for method in ("encode", "decode"))


def _judge_map(verdict: Verdict, model: nn.Module, oracle: Oracle) -> LayerMap | None:
    start = time.perf_counter()
    try:
        layer_map = LayerMap.from_model(model)
    except LayerDiscoveryError as error:
        verdict.layer_map, verdict.reasons["layer_map"] = "refused", [str(error)[:1500]]
        return None
    except Exception as error:  # anything else is a mistake of the map
        verdict.layer_map = "wrong"
        verdict.reasons["layer_map"] = [f"raised {type(error).__name__}: {error}"]
        return None
    finally:
        verdict.seconds = round(time.perf_counter() - start, 3)
    verdict.num_layers = layer_map.num_layers
    _hold_against(verdict, "layer_map", oracle, layer_map.depth_of, layer_map.num_layers)
    return layer_map


def _hold_against(
    verdict: Verdict, method: str, oracle: Oracle, depth_of: Callable[[str], int], num_layers: int
) -> None:
    judgement = oracle.judge(depth_of, num_layers)
    verdict.blocks, verdict.judged = judgement.blocks, judgement.judged
    verdict.parameters = judgement.total
    if judgement.wrong:
        verdict.reasons[method] = judgement.wrong[:20]
    enough = oracle.stacks and oracle.saw_all
    if not judgement.wrong:
        setattr(verdict, method, "right" if enough else "total")
    elif verdict.promise == "total" and oracle.is_total(depth_of, num_layers):
        setattr(verdict, method, "total")
    else:
        setattr(verdict, method, "wrong")


def _judge_reinitialization(
    verdict: Verdict, model: nn.Module, oracle: Oracle, layer_map: LayerMap | None
) -> None:
    """Exactly the blocks at depth N must change; every number was moved before, so all can."""
    if layer_map is None:
        verdict.reinitialize = verdict.layer_map
        return
    _shake(model)
    before = {n: t.clone() for n, t in _tensors(model).items()}
    try:
        reinitialize_layers(model, 1, pooler=False, seed=0, layer_map=layer_map)
    except StabilizerError as error:
        verdict.reinitialize, verdict.reasons["reinitialize"] = "refused", [str(error)[:500]]
        return
    except Exception as error:  # anything else is a mistake of ours
        verdict.reinitialize = "wrong"
        verdict.reasons["reinitialize"] = [f"raised {type(error).__name__}: {error}"]
        return
    changed = {n for n, t in _tensors(model).items() if not _equal(t, before[n])}
    allowed = set(layer_map.names_in(layer_map.blocks[layer_map.num_layers]))
    missing = (
        _in_top_blocks(model, oracle, layer_map, only_total=verdict.promise == "total") - changed
    )
    extra = {name for name, _ in model.named_parameters() if name in changed - allowed}
    verdict.reinitialize = "wrong" if missing or extra else "right"
    if missing or extra:
        verdict.reasons["reinitialize"] = [
            *(f"{name} was not drawn anew" for name in sorted(missing)[:10]),
            *(f"{name} was changed" for name in sorted(extra)[:10]),
        ]


def _in_top_blocks(
    model: nn.Module, oracle: Oracle, layer_map: LayerMap, *, only_total: bool
) -> set[str]:
    """Names of the parameters that lie in blocks, those that ran or else the map's, at depth N."""
    top = layer_map.num_layers
    found = layer_map.names_in(layer_map.blocks[top])
    inside = oracle.block_of if oracle.saw_all and not only_total else found
    return {
        name
        for name, parameter in model.named_parameters()
        if name in inside and layer_map.depth_of(name) == top and parameter.numel()
    }


def _shake(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator) + 0.013)


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _equal(one: torch.Tensor, two: torch.Tensor) -> bool:
    return (
        one.shape == two.shape
        and bool(torch.equal(one.isnan(), two.isnan()))
        and torch.equal(one.nan_to_num(), two.nan_to_num())
    )
