"""Who learns, and from when on?

    static       layers that never learn
    stages       from which optimizer step does each depth learn, and how fast at first?
    lifecycle    when a running Trainer freezes and frees
    held         which parameters of a model are frozen for a while
    resting      which modules are kept in evaluation mode meanwhile
    sharded      how a run over several processes is saved meanwhile
    conflicts    what it cannot be combined with

Static freezing comes before the Trainer is made: what is frozen is not in the optimizer. Freezing
for a while comes after it: the optimizer holds everything from the start.
"""

from __future__ import annotations

from hf_stabilizer.freezing.gradual import GradualUnfreezingCallback
from hf_stabilizer.freezing.head_first import HeadFirstCallback
from hf_stabilizer.freezing.lifecycle import FreezingCallback
from hf_stabilizer.freezing.static import freeze_layers

__all__ = [
    "FreezingCallback",
    "GradualUnfreezingCallback",
    "HeadFirstCallback",
    "freeze_layers",
]
