"""What did a study find? Its answers as plain numbers, one module for each question.

Pictures, tables and files are made from these and hold no arithmetic of their own:
`hf_stabilizer.studies.page.sections` draws them for the page.
"""

from collections.abc import Callable
from types import MappingProxyType

from hf_stabilizer.studies.findings import (
    ablation_effects,
    best_of_runs,
    chosen_by_validation,
    early_stopping,
    paired_differences,
    row_agreement,
    score_densities,
    seed_factors,
    swept_settings,
)
from hf_stabilizer.studies.findings.finding import Finding, Record
from hf_stabilizer.studies.study import Study

__all__ = ["FINDINGS", "Finding", "Record", "find_all"]

FINDINGS: MappingProxyType[str, Callable[[Study], Finding | None]] = MappingProxyType(
    {
        "swept_settings": swept_settings.find,
        "paired_differences": paired_differences.find,
        "ablation_effects": ablation_effects.find,
        "score_densities": score_densities.find,
        "best_of_runs": best_of_runs.find,
        "chosen_by_validation": chosen_by_validation.find,
        "seed_factors": seed_factors.find,
        "row_agreement": row_agreement.find,
        "early_stopping": early_stopping.find,
    }
)
"""Each question by name, in reading order: a study in, a finding or None out."""


def find_all(study: Study) -> dict[str, Finding]:
    """Returns every finding that the study can give, by name, in reading order.

    Example:
        >>> find_all(Study("demo", ("plain",), (), "f1", True))
        {}
    """
    found = {name: find(study) for name, find in FINDINGS.items()}
    return {name: one for name, one in found.items() if one is not None}
