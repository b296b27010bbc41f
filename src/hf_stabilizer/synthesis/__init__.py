"""How are training rows written by a language model, and which of them may be used?

    real rows --prompts--> generator --answers--> checks --candidates.jsonl--> kept rows
                                                                                  |
                      training rows + kept rows, each with its provenance <-------+

Only training rows are shown to the generator; validation and test rows serve to throw away what
repeats them.
"""

from __future__ import annotations

from hf_stabilizer.synthesis.generators import (
    EndpointError,
    EndpointGenerator,
    Generator,
    RefusalError,
)
from hf_stabilizer.synthesis.local import LocalGenerator
from hf_stabilizer.synthesis.synthesizing import Synthesis, synthesize

__all__ = [
    "EndpointError",
    "EndpointGenerator",
    "Generator",
    "LocalGenerator",
    "RefusalError",
    "Synthesis",
    "synthesize",
]
