"""Is every parameter's depth known? If not, what would settle it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hf_stabilizer.errors import LayerDiscoveryError
from hf_stabilizer.layers.discovery import Draft
from hf_stabilizer.layers.ladder import Ladder
from hf_stabilizer.layers.overrides import Overrides
from hf_stabilizer.layers.stacks import Structure
from hf_stabilizer.layers.table import table

_SHOWN = 12  # parts in doubt that a message lists


def settle(draft: Draft, overrides: Overrides) -> Draft:
    """Returns the draft with the overrides applied.

    Raises:
        LayerDiscoveryError: A parameter stays in doubt, or an override is out of range.
    """
    if not draft.ladder.complete:
        draft = replace(draft, ladder=_told(draft, overrides))
    given = overrides.depths(draft.num_layers)
    depths = {**draft.depths, **given}
    doubts = {name: depth for name, depth in draft.doubts.items() if name not in given}
    draft = replace(draft, depths=depths, doubts=doubts)
    if doubts:
        raise LayerDiscoveryError(_message(draft))
    return replace(draft, depths={name: depths[name] for name in draft.structure.parameters})


def _told(draft: Draft, overrides: Overrides) -> Ladder:
    """Returns the ladder that the overrides describe: its height is the largest depth given."""
    if not overrides.deepest:
        return draft.ladder
    depths = {}
    for path, block in draft.structure.blocks.items():
        targets = {overrides.targets.get(f"{path}.{name}") for name, _ in block.named_parameters()}
        target = targets.pop()
        if not targets and isinstance(target, int) and target > 0:
            depths[path] = target
    return replace(draft.ladder, num_layers=overrides.deepest, depths=depths)


def _message(draft: Draft) -> str:
    structure, doubts = draft.structure, draft.doubts
    reason = draft.ladder.reason or "the forward pass does not show where the data meets them"
    parts = _parts(structure, doubts)
    listed = [f"    {path}" for path in list(parts)[:_SHOWN]]
    if len(parts) > _SHOWN:
        listed.append(f"    .. and {len(parts) - _SHOWN} more")
    sizes = {name: parameter.numel() for name, parameter in structure.parameters.items()}
    blocks = draft.ladder.blocks if draft.ladder.complete else {}
    known = table(draft.depths, sizes, draft.num_layers, blocks)
    helpful = {path: _word(depth, draft.num_layers) for path, depth in parts.items()}
    return "\n".join(
        [
            f"the depth of {len(doubts)} of {len(sizes)} parameters cannot be told: {reason}; "
            "say where they belong with overrides (a guess is below)",
            "known so far:",
            known,
            "in doubt:",
            *listed,
            f"overrides={helpful!r}",
        ]
    )


def _parts(structure: Structure, doubts: Mapping[str, int]) -> dict[str, int]:
    """Returns globs that cover the doubtful parameters, and the guess for each."""
    parts: dict[str, int] = {}
    for name, depth in doubts.items():
        part = structure.block_of(name) or structure.limb(name)
        members = [n for n in structure.parameters if n.startswith(f"{part}.")]
        same = part != name and part and all(doubts.get(n) == depth for n in members)
        parts[f"{part}.*" if same else name] = depth
    return parts


def _word(depth: int, num_layers: int) -> int | str:
    if depth == 0:
        return "embeddings"
    return "head" if depth > num_layers else depth
