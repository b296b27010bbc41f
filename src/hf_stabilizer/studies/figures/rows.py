"""Which rows stand behind the figures? Flat mappings by name, as `pandas.DataFrame` takes them."""

from __future__ import annotations

from hf_stabilizer.studies.findings import FINDINGS, Record
from hf_stabilizer.studies.page.data_links import curve_records, run_records
from hf_stabilizer.studies.study import Study

FURTHER = {
    "paired_differences": {"pairs": "pair_records"},
    "ablation_effects": {"ablation_arms": "arm_records"},
    "seed_factors": {"seed_shares": "factor_records", "seed_means": "mean_records"},
    "row_agreement": {"divided_rows": "row_records"},
    "early_stopping": {"cost": "cost_records"},
}
"""What a finding gives beside its `records`: names of the rows and of the method."""


def records(study: Study) -> dict[str, list[Record]]:
    """Returns the numbers behind the report and its figures, table by table.

    "runs" and "evaluations" hold what was recorded, the others what was found: one name for each
    finding of `hf_stabilizer.studies.findings`, and "pairs", "ablation_arms", "seed_shares",
    "seed_means", "divided_rows" and "cost" for its details. What the study cannot answer is not
    among them.

    Returns:
        Lists of flat mappings with the same keys in each; an absent number is None.

    Example:
        >>> from hf_stabilizer import Run
        >>> runs = tuple(
        ...     Run("plain", {"seed": k}, "finished", best_score=s)
        ...     for k, s in enumerate([0.70, 0.71, 0.73])
        ... )
        >>> tables = records(Study("demo", ("plain",), runs, "f1", True))
        >>> list(tables), tables["runs"][2]["score"]
        (['runs', 'score_densities'], 0.73)
    """
    tables = {"runs": run_records(study), "evaluations": curve_records(study.runs, study.metric)}
    found = {name: list(map(dict, rows)) for name, rows in tables.items()}
    for name, find in FINDINGS.items():
        finding = find(study)
        if finding is None:
            continue
        found[name] = finding.records()
        for further, method in FURTHER.get(name, {}).items():
            found[further] = getattr(finding, method)()
    return {name: rows for name, rows in found.items() if rows}
