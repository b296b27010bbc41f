"""From which optimizer step does each depth learn, and how fast at first?

    head first            depth 0..N from step 1 + D, the head from step 1
    gradual unfreezing    stage i = 1..S from step 1 + floor(i D / S); the stages are sets of blocks
                          from the top downwards, the embeddings are the last

Pure functions of the step: a run that stops and resumes needs no state.
"""

from __future__ import annotations

import math
from typing import TypeAlias

FirstSteps: TypeAlias = dict[int, int]
"""Depth 0..N + 1 -> the first optimizer step, counted from 1, in which it learns."""


def head_first(num_layers: int, duration: int) -> FirstSteps:
    """Returns the first step of each depth when the head learns alone for `duration` steps.

    Example:
        >>> head_first(num_layers=2, duration=10)
        {0: 11, 1: 11, 2: 11, 3: 1}
    """
    return dict.fromkeys(range(num_layers + 1), 1 + duration) | {num_layers + 1: 1}


def gradual_unfreezing(num_layers: int, duration: int, blocks_per_stage: int = 1) -> FirstSteps:
    """Returns the first step of each depth when depths are freed from the top downwards.

    The blocks make ceil(N / blocks_per_stage) stages; where they do not divide evenly the lowest
    stage of blocks has fewer. The embeddings are one stage more.

    Args:
        num_layers: N, the number of blocks.
        duration: D, the optimizer steps over which all is freed; 0 frees all in step 1.
        blocks_per_stage: Blocks that are freed together, from 1 up.

    Example:
        >>> gradual_unfreezing(num_layers=3, duration=8)  # S = 4
        {0: 9, 1: 7, 2: 5, 3: 3, 4: 1}
    """
    stages = math.ceil(num_layers / blocks_per_stage) + 1

    def stage(depth: int) -> int:
        return stages if depth == 0 else 1 + (num_layers - depth) // blocks_per_stage

    steps = {d: 1 + stage(d) * duration // stages for d in range(num_layers + 1)}
    return steps | {num_layers + 1: 1}


def rate_factor(step: int, *, first_step: int, warmup_steps: int = 0) -> float:
    """Returns what the scheduled rate of a layer is multiplied by: 0 while it is frozen.

    The k-th step in which a freed layer learns, k = 1, 2, ..., uses min(1, k / warmup_steps). A
    layer that was never frozen (`first_step` 1) has no warm-up of its own.

    Example:
        >>> [rate_factor(step, first_step=3, warmup_steps=4) for step in range(1, 8)]
        [0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """
    learned = step - first_step + 1
    if learned <= 0:
        return 0.0
    return 1.0 if first_step == 1 or warmup_steps == 0 else min(1.0, learned / warmup_steps)
