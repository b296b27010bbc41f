"""What does a layer map look like? One aligned line per depth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence


def label(depth: int, num_layers: int) -> str:
    """Returns the name of a depth.

    Example:
        >>> label(0, 12), label(7, 12), label(13, 12)
        ('embeddings', 'layer_07', 'head')
    """
    if depth == 0:
        return "embeddings"
    return "head" if depth > num_layers else f"layer_{depth:02d}"


def table(
    depths: Mapping[str, int],
    sizes: Mapping[str, int],
    num_layers: int,
    blocks: Mapping[int, Sequence[str]],
) -> str:
    """Returns depth, label, parameters, tensors and modules as lines of equal columns.

    Args:
        depths: Parameter -> depth.
        sizes: Parameter -> number of elements.
        num_layers: N; depth N + 1 is the head.
        blocks: Depth -> paths of the blocks there.
    """
    elements: Counter[int] = Counter()
    for name, depth in depths.items():
        elements[depth] += sizes[name]
    tensors = Counter(depths.values())
    rows = [("depth", "layer", "parameters", "tensors", "modules")]
    for depth in range(num_layers + 2):
        modules = ", ".join(blocks.get(depth, ()))
        numbers = f"{elements[depth]:,}", f"{tensors[depth]:,}"
        rows.append((str(depth), label(depth, num_layers), *numbers, modules))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        f"{row[0]:>{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}"
        f"  {row[3]:>{widths[3]}}  {row[4]}".rstrip()
        for row in rows
    )
