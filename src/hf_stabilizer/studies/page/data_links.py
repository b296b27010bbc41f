"""How does a reader take the numbers behind a figure along? As CSV inside a link of the page.

A `data:` link needs no script, no network and no second file.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from markupsafe import Markup

from hf_stabilizer.records import Run
from hf_stabilizer.studies.comparison import Comparison
from hf_stabilizer.studies.page import charts

if TYPE_CHECKING:
    from hf_stabilizer.studies.study import Study

Record = Mapping[str, Any]  # Any: numbers and texts


def data_link(records: Iterable[Record], name: str, *, label: str = "data (CSV)") -> Markup:
    """Returns a link that saves the records as `name.csv`; nothing if there are none.

    Example:
        >>> print(data_link([{"seed": 1, "f1": 0.5}], "demo", label="data"))
        <a download="demo.csv" href="data:text/csv;charset=utf-8,seed,f1%0A1,0.5%0A">data</a>
        >>> data_link([], "demo") == ""
        True
    """
    text = as_csv(records)
    if not text:
        return Markup("")
    address = "data:text/csv;charset=utf-8," + quote(text, safe=",:;/()=")
    link = Markup('<a download="{}.csv" href="{}">{}</a>')
    return link.format(name, address, label)


def as_csv(records: Iterable[Record]) -> str:
    """Returns the records as CSV, one column for each key that any of them has.

    Example:
        >>> print(as_csv([{"seed": 1, "reason": "one, two"}, {"seed": 2, "f1": 0.5}]), end="")
        seed,reason,f1
        1,"one, two",
        2,,0.5
    """
    lines = [dict(record) for record in records]
    columns = list(dict.fromkeys(key for line in lines for key in line))
    if not columns:
        return ""
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()


def file_stem(name: str) -> str:
    """Returns a name that any file system takes.

    Example:
        >>> file_stem("my study: 1/2"), file_stem("..")
        ('my-study-1-2', 'study')
    """
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")[:60] or "study"


def run_records(study: Study) -> list[Record]:
    """Returns all that is known of each run but its evaluations."""
    # A study that was read from disk may tell its seeds in another order.
    return [
        {"recipe": run.recipe, **_seeds(run.seeds), **record}
        for run, record in zip(study.runs, study.to_records(), strict=True)
    ]


def score_records(study: Study) -> list[Record]:
    """Returns what the chart of all runs shows."""
    return [
        {
            "recipe": run.recipe,
            **_seeds(run.seeds),
            "status": run.status,
            run.metric or "score": run.score,
        }
        for run in study.runs
    ]


def pair_records(comparison: Comparison) -> list[Record]:
    """Returns what the chart of two recipes shows, one mapping for each pair."""
    return [
        {
            **_seeds(dict(pair.seeds)),
            "baseline": comparison.baseline,
            "baseline_score": pair.baseline,
            "candidate": comparison.candidate,
            "candidate_score": pair.candidate,
            "difference": pair.difference,
        }
        for pair in comparison.pairs
    ]


def curve_records(runs: Iterable[Run], metric: str) -> list[Record]:
    """Returns what the chart of evaluations shows, one mapping for each evaluation.

    Example:
        >>> evaluations = ((10, {"f1": 0.5, "loss": 1.0}), (20, {"f1": 0.75, "loss": 0.5}))
        >>> run = Run("plain", {"seed": 1}, "finished", evaluations=evaluations)
        >>> curve_records([run], "f1")[1]
        {'recipe': 'plain', 'seed': 1, 'status': 'finished', 'step': 20, 'f1': 0.75}
    """
    return [
        {
            "recipe": run.recipe,
            **_seeds(run.seeds),
            "status": run.status,
            "step": step,
            metric: value,
        }
        for run in runs
        for step, value in charts.curve(run, metric)
    ]


def _seeds(seeds: Mapping[str, int]) -> dict[str, int]:
    return {option: seeds[option] for option in charts.seed_names(seeds)}
