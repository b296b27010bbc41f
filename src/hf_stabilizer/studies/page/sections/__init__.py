"""Which parts has the report's page beside the runs, the pairs and the curves?"""

from __future__ import annotations

from collections.abc import Callable

from hf_stabilizer.studies.page.section import Section
from hf_stabilizer.studies.page.sections import (
    ablation,
    agreement,
    best_of,
    chosen,
    densities,
    differences,
    early,
    seeds,
    sweeps,
)
from hf_stabilizer.studies.study import Study

SECTIONS: tuple[Callable[[Study], Section | None], ...] = (
    sweeps.section,
    differences.section,
    ablation.section,
    densities.section,
    best_of.section,
    chosen.section,
    seeds.section,
    agreement.section,
    early.section,
)
"""Each returns its part, or None where the study has nothing to show in it."""
