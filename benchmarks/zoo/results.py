"""What came out? A folder of results, counts by family, and a small chart."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from markupsafe import Markup

import hf_stabilizer
from hf_stabilizer.studies.page.svg import element

from .targets import FAMILIES
from .verdicts import METHODS, VERDICTS, Verdict

COLUMNS = (
    "name", "family", "config_type", "promise", "observed", "num_layers", "blocks", "judged",
    "parameters", *METHODS, "seconds", "reason",
)  # fmt: skip


def summary(verdicts: Sequence[Verdict], allowed: Mapping[str, str]) -> dict[str, Any]:
    """Returns versions, counts by family, and the names behind what is not right."""
    return {
        "versions": {
            "hf_stabilizer": hf_stabilizer.__version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__,
        },
        "classes": len(verdicts),
        "observed": dict(Counter(v.observed for v in verdicts if v.observed)),
        "counts": {
            method: {family: counts(verdicts, method, family) for family in ("all", *FAMILIES)}
            for method in METHODS
        },
        "seconds_of_the_layer_map": {
            "mean": round(sum(v.seconds for v in verdicts) / max(1, len(verdicts)), 3),
            "longest": max((v.seconds for v in verdicts), default=0.0),
        },
        "wrong": _with_reasons(verdicts, "layer_map", "wrong", allowed),
        "refused": _with_reasons(verdicts, "layer_map", "refused", {}),
        "reinitialize_wrong": _with_reasons(verdicts, "reinitialize", "wrong", allowed),
        "known_disagreements": {
            v.name: allowed[v.name]
            for v in verdicts
            if v.name in allowed and v.layer_map == "wrong"
        },
        "unbuildable": {
            v.name: v.reasons["build"][0]
            for v in verdicts
            if v.layer_map == "unbuildable" and "build" in v.reasons
        },
    }


def counts(verdicts: Iterable[Verdict], method: str, family: str = "all") -> dict[str, int]:
    """Returns how many classes of a family got each verdict."""
    found = Counter(getattr(v, method) for v in verdicts if family in ("all", v.family))
    return {verdict: found[verdict] for verdict in VERDICTS}


def share_right(counted: Mapping[str, int]) -> float:
    """Returns the share of right ones among those on which a verdict was possible."""
    return counted["right"] / max(1, judged(counted))


def judged(counted: Mapping[str, int]) -> int:
    """Returns on how many classes a verdict was possible."""
    return counted["right"] + counted["refused"] + counted["wrong"]


def _with_reasons(
    verdicts: Iterable[Verdict], method: str, verdict: str, allowed: Mapping[str, str]
) -> dict[str, list[str]]:
    return {
        v.name: [reason[:400] for reason in v.reasons.get(method, [])[:5]]
        for v in verdicts
        if getattr(v, method) == verdict and v.name not in allowed
    }


def write(folder: Path, verdicts: Sequence[Verdict], allowed: Mapping[str, str]) -> None:
    """Writes summary.json and classes.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    told = json.dumps(summary(verdicts, allowed), indent=1, ensure_ascii=False)
    (folder / "summary.json").write_text(told + "\n", encoding="utf-8")
    with (folder / "classes.csv").open("w", encoding="utf-8", newline="") as file:
        lines = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        lines.writeheader()
        for verdict in sorted(verdicts, key=lambda v: v.name):
            reason = next(iter(verdict.reasons.get("layer_map", [])), "").split("\n")[0][:200]
            lines.writerow(
                {**verdict.as_record(), "seconds": f"{verdict.seconds:.2f}", "reason": reason}
            )


def table(verdicts: Sequence[Verdict]) -> str:
    """Returns the counts as aligned lines, a block for each method."""
    lines = []
    for method in METHODS:
        lines.append(
            f"{method:<14}" + "".join(f"{v:>12}" for v in VERDICTS) + f"{'right of judged':>18}"
        )
        for family in ("all", *FAMILIES):
            counted = counts(verdicts, method, family)
            if sum(counted.values()):
                numbers = "".join(f"{counted[v]:>12}" for v in VERDICTS)
                lines.append(f"  {family:<12}{numbers}{share_right(counted):>18.1%}")
    return "\n".join(lines)


BARS = {
    "layer_map": "LayerMap (pale: refused)",
    "numbered": "numbered-name pattern",
    "bert_style": "BERT-style pattern",
}
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.number { font-size: 11px }
.layer_map { fill: #1a7f64 } .refused { fill: #1a7f64; opacity: .35 }
.numbered { fill: #9a6700 } .bert_style { fill: #8c959f }
.rest { fill: #8c959f; opacity: .18 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .layer_map, .refused { fill: #3fb996 } .numbered { fill: #d4a72c }
}
"""


LEFT, WIDTH, BAR = 96, 400, 12
"""Where the bars begin, how long the longest one is, and how high each."""


def chart(counted: Mapping[str, Mapping[str, Mapping[str, int]]]) -> str:
    """Returns an SVG: the share placed right by family, for the map and the two patterns."""
    families = [f for f in ("all", *FAMILIES) if judged(counted["layer_map"][f])]
    parts = [element("style", Markup(STYLE)), *_legend()]
    y = 36
    for family in families:
        parts.append(element("text", family, x=LEFT - 8, y=y + 24, text_anchor="end"))
        for method in BARS:
            parts += _bar(method, counted[method][family], y)
            y += BAR + 2
        y += 14
    about = "Share of the model classes of transformers with every parameter at the right depth"
    size = {"width": LEFT + WIDTH + 104, "height": y}  # the legend is wider than the bars
    return str(
        element(
            "svg",
            element("title", about),
            *parts,
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {size['width']} {y}",
            role="img",
            **size,
        )
    )


def _legend() -> Iterator[Markup]:
    x = 24.0
    for method, label in BARS.items():
        yield element("rect", cls=method, x=x, y=8, width=11, height=11, rx=2)
        yield element("text", label, x=x + 16, y=18)
        x += 38 + 7.2 * len(label)


def _bar(method: str, counted: Mapping[str, int], y: float) -> Iterator[Markup]:
    right = share_right(counted) * WIDTH
    refused = counted["refused"] / max(1, judged(counted)) * WIDTH
    yield element("rect", cls="rest", x=LEFT, y=y, width=WIDTH, height=BAR, rx=2)
    yield element("rect", cls=method, x=LEFT, y=y, width=right, height=BAR, rx=2)
    if refused:
        yield element("rect", cls="refused", x=LEFT + right, y=y, width=refused, height=BAR)
    share = f"{share_right(counted):.1%}"
    yield element("text", share, cls="number", x=LEFT + WIDTH + 6, y=y + 10)
