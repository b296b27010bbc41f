"""Which depth do the name patterns that people write by hand give a parameter?

`bert_style` is what tutorials on layer-wise learning rates show for BERT; `numbered` is what one
writes to have it for other models, too. Neither refuses anything: what matches nothing is head.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

EMBEDDINGS = ("embed", "wte", "wpe", "shared")


def bert_style(names: Iterable[str]) -> tuple[dict[str, int], int]:
    """Returns parameter -> depth, and N: `embeddings`, `encoder.layer.k`, and the rest is head.

    Example:
        >>> bert_style(["bert.embeddings.w", "bert.encoder.layer.1.w", "classifier.w"])
        ({'bert.embeddings.w': 0, 'bert.encoder.layer.1.w': 2, 'classifier.w': 3}, 2)
    """
    return _depths(names, r"encoder\.layer\.(\d+)\.", ("embeddings",))


def numbered(names: Iterable[str]) -> tuple[dict[str, int], int]:
    """Returns parameter -> depth, and N: the first number after `layers`, `h` or `blocks`.

    Example:
        >>> numbered(["transformer.wte.w", "transformer.h.0.w", "transformer.ln_f.w"])
        ({'transformer.wte.w': 0, 'transformer.h.0.w': 1, 'transformer.ln_f.w': 2}, 1)
    """
    return _depths(names, r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.", EMBEDDINGS)


def _depths(
    names: Iterable[str], block: str, embeddings: tuple[str, ...]
) -> tuple[dict[str, int], int]:
    found: dict[str, int | None] = {}
    for name in names:
        number = re.search(block, name)
        if number:
            found[name] = int(number[1]) + 1
        else:
            found[name] = 0 if any(mark in name for mark in embeddings) else None
    top = max([depth for depth in found.values() if depth is not None], default=0)
    return {name: top + 1 if depth is None else depth for name, depth in found.items()}, top
