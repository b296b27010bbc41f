"""How do few training rows become more? Changed copies, labels kept, no other split touched.

    Splits --augment(techniques)--> Splits with more training rows, all else the same objects
    configuration --augment_data--> files, a recipe, and a paired study against the plain rows

Mixing embeddings (mixup) is not here: it changes what the model computes, not the rows.
"""

from __future__ import annotations

from hf_stabilizer.augmentation.augmenting import augment
from hf_stabilizer.augmentation.back_translation import BackTranslate
from hf_stabilizer.augmentation.deletion import DeleteWords
from hf_stabilizer.augmentation.masking import MaskTokens
from hf_stabilizer.augmentation.mixing import MixRows
from hf_stabilizer.augmentation.procedure import augment_data
from hf_stabilizer.augmentation.replacement import ReplaceTokens
from hf_stabilizer.augmentation.summarizing import Summarize
from hf_stabilizer.augmentation.swapping import SwapWords
from hf_stabilizer.augmentation.technique import Technique

__all__ = [
    "BackTranslate",
    "DeleteWords",
    "MaskTokens",
    "MixRows",
    "ReplaceTokens",
    "Summarize",
    "SwapWords",
    "Technique",
    "augment",
    "augment_data",
]
