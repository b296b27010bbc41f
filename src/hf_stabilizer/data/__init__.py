"""Which rows? From files, folders and Hub ids to training, validation and test rows.

    location --reading--> table --columns--> text, choices, label --labels--> label names
                                                       |
                                       division (by label, or by group, seeded) --> Splits

Imports neither torch nor transformers.
"""

from __future__ import annotations

from hf_stabilizer.data.arguments import DataArguments
from hf_stabilizer.data.splits import Splits, load_splits
from hf_stabilizer.data.writing import write_splits
from hf_stabilizer.locations import resolve_location

__all__ = ["DataArguments", "Splits", "load_splits", "resolve_location", "write_splits"]
