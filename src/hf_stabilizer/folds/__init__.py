"""How good is a configuration on rows that it did not learn from, with every row used for both?

    pool (training + validation rows) --assign--> K folds --write--> K members --run_members-->
    out-of-fold predictions --score--> per fold, mean, spread, pooled       test rows: mean of all

Importing this package imports neither torch nor transformers; its functions do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_stabilizer.folds.record import CrossValidation, FoldScore

if TYPE_CHECKING:
    from hf_stabilizer.folds.page.report import write_fold_report
    from hf_stabilizer.folds.planning import FoldPlan, plan_folds
    from hf_stabilizer.folds.validating import cross_validate

__all__ = [
    "CrossValidation",
    "FoldPlan",
    "FoldScore",
    "cross_validate",
    "plan_folds",
    "write_fold_report",
]

_LATER = {
    "FoldPlan": "planning",
    "plan_folds": "planning",
    "cross_validate": "validating",
    "write_fold_report": "page.report",
}


def __getattr__(name: str) -> object:
    import importlib

    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
