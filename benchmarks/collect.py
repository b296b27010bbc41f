"""Keeps what a study found: `python benchmarks/collect.py results/demo` after it has run.

Writes `benchmarks/results/NAME/study.json` (configuration, recipes, seeds, versions, command) and
`runs.csv` (one line per run), which numbers in the docs refer to.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from hf_stabilizer import Study
from hf_stabilizer.studies.study import write_definition
from hf_stabilizer.studies.verdict import verdict


def collect(folder: Path) -> Path:
    study = Study.from_folder(folder)
    target = Path(__file__).parent / "results" / study.name
    write_definition(study, target)
    pd.DataFrame(study.to_records()).to_csv(target / "runs.csv", index=False)
    (target / "verdict.txt").write_text(verdict(study) + "\n", encoding="utf-8")
    return target


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(collect(Path(name)))
