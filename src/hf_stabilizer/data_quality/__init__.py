"""Are the rows fit to learn from? Looking for what is wrong with them, and mending what is chosen.

    rows --check_rows--> DataReport: each finding with its rows and its remedy
    rows --clean_rows--> Cleaned: the rows, and what was done, step by step

Imports neither torch nor transformers.
"""

from __future__ import annotations

from hf_stabilizer.data_quality.check import check_rows
from hf_stabilizer.data_quality.clean import Cleaned, CleaningStep, clean_rows
from hf_stabilizer.data_quality.report import DataFinding, DataReport, RowExample

__all__ = [
    "Cleaned",
    "CleaningStep",
    "DataFinding",
    "DataReport",
    "RowExample",
    "check_rows",
    "clean_rows",
]
