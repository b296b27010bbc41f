"""What do the results files say, as tables of the pages? `python benchmarks/measured_tables.py`.

Writes every table of docs/studies-measured.md and docs/procedures-measured.md anew, between the
marks that name it. All results stand in such tables, so the pages say nothing else than the files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_stabilizer.records import write_atomically
from hf_stabilizer.studies import formats

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "studies-measured.md"
PROCEDURES = HERE.parent / "docs" / "procedures-measured.md"
LEVEL = 0.05
MARKS = re.compile(r"<!-- table (?P<name>[a-z-]+) -->\n.*?<!-- end -->", re.DOTALL)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown, numbers to the right."""
    lines = [
        "| " + " | ".join(head) + " |",
        "|" + "|".join(["---", *["--:"] * (len(head) - 1)]) + "|",
    ]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def ladder(found: Mapping[str, Any], key: str = "single runs") -> str:
    """Each step with its mean and spread, and its two differences."""
    head = ["step", "runs", "mean ± std", "against the step before", "p", "against plain", "p"]
    rows = []
    for step in found[key]:
        scores = f"{step['mean']:.4f} ± {step['std']:.4f}"
        cells = [step["step"], str(step["n"]), scores]
        for name in ("against the step before", "against the first"):
            cells += difference(step[name]) if name in step else ["", ""]
        rows.append(cells)
    return f"{table(head, rows)}\n\n{clear_steps(found, key)}"


def clear_steps(found: Mapping[str, Any], key: str) -> str:
    """In a sentence, the steps whose difference is not chance after correction."""
    parts = []
    names = {"against the step before": "than the step before", "against the first": "than plain"}
    for name, words in names.items():
        clear = [step for step in found[key] if name in step and step[name]["p by Holm"] <= LEVEL]
        for is_better in (True, False):
            steps = [s["step"] for s in clear if _is_gain(found, s[name]) == is_better]
            if steps:
                parts.append(f"{'better' if is_better else 'worse'} {words}: {', '.join(steps)}")
    return f"Clear after correction (p up to {LEVEL}): {'; '.join(parts) or 'no step'}."


def _is_gain(found: Mapping[str, Any], one: Mapping[str, Any]) -> bool:
    return bool((one["mean difference"] > 0) == found["greater is better"])


def difference(found: Mapping[str, Any]) -> list[str]:
    """The mean difference with its interval; p as it is, and by Holm's method."""
    mean = formats.number(found["mean difference"], 4, signed=True)
    if found["interval"]:
        low, high = (formats.number(end, 4, signed=True) for end in found["interval"])
        mean += f" [{low}, {high}]"
    return [mean, f"{_p(found['p'])} ({_p(found['p by Holm'])})"]


def _p(value: float | None) -> str:
    return formats.p_value(value).removeprefix("p ").removeprefix("= ")


def means(found: Mapping[str, Any]) -> str:
    """The mean of some runs against these runs."""
    head = ["recipe", "units", "gain of the mean of three over one run", "p", "better in"]
    rows = [
        [
            one["recipe"],
            str(one["pairs"]),
            *difference({**one, "p by Holm": one["p"]})[:1],
            _p(one["p"]),
            f"{one['better in']:.0%}",
        ]
        for one in found["mean of runs against its runs"]
    ]
    return table(head, rows)


def replays(found: Mapping[str, Any]) -> str:
    """Each setting of each recipe: what it cost, what it lost."""
    head = [
        "recipe, f, p", "share of the steps", "best: full", "best: found", "loss (s.e.)",
        "expected loss (s.e.)", "of as many whole runs", "loss in s.e. of the mean", "test: full",
        "test: found",
    ]  # fmt: skip
    rows = []
    for one in found["replays"]:
        in_errors = formats.number(one["in standard errors of one score"], 2)
        expected = formats.number(one["expected loss in standard errors of one score"], 2)
        scores = ("test score of the full study's best", "test score of the best found")
        rows.append(
            [
                f"{one['recipe']}, {one['stop_at']:g}, {one['keep']}",
                f"{one['share of the steps']:.0%}",
                f"{one['best of the full study']:.3f}",
                f"{one['best found']:.3f}",
                f"{one['loss']:.3f} ({in_errors})",
                f"{one['expected loss']:.3f} ({expected})",
                f"{one['expected loss of whole runs at that cost']:.3f}",
                formats.number(one["in standard errors of the mean"], 1),
                *(f"{one[name]:.3f}" for name in scores),
            ]
        )
    return f"{table(head, rows)}\n\n{near_enough(found)}"


def near_enough(found: Mapping[str, Any]) -> str:
    """In a sentence, how many settings at half of the steps or less reach the aim."""
    cheap = [one for one in found["replays"] if one["share of the steps"] <= 0.5]
    found_it = sum(one["in standard errors of one score"] <= 0.5 for one in cheap)
    expected = sum(one["expected loss in standard errors of one score"] <= 0.5 for one in cheap)
    fewer = "expected loss of whole runs at that cost"
    better = sum(one["expected loss"] < one[fewer] for one in cheap)
    return (
        f"Of {len(cheap)} settings that take half of the steps or less, {found_it} lost at most "
        f"half a standard error of one score in this replay, and {expected} do on average; on "
        f"average {better} lose less than as many whole runs as they cost."
    )


def ranks(found: Mapping[str, Any]) -> str:
    """How well the ranking at each fraction foretells the one at the end."""
    fractions = sorted({one["fraction"] for one in found["ranks"]})
    recipes = dict.fromkeys(one["recipe"] for one in found["ranks"])
    known = {(o["recipe"], o["fraction"]): o["spearman"] for o in found["ranks"]}
    rows = [[r, *(formats.number(known[r, f], 2) for f in fractions)] for r in recipes]
    return table(["recipe", *(f"f = {f:g}" for f in fractions)], rows)


def bits(found: Mapping[str, Any]) -> str:
    """The study that did stop early against the runs that never stopped."""
    real = found["real"]
    checks = [value for run in real["runs"] for key, value in run.items() if key != "run"]
    went_on = sum("test score" in run for run in real["runs"])
    rows = [
        ["recipe, f, p", f"{real['recipe']}, {real['stop_at']:g}, {real['keep']}"],
        ["runs, of which went on", f"{len(real['runs'])}, {went_on}"],
        ["share of the steps", f"{real['share of the steps']:.0%}"],
        [
            "same runs went on as in the replay",
            _yes(real["the same runs went on as in the replay"]),
        ],
        ["evaluations and test scores equal to the last bit", f"{sum(checks)} of {len(checks)}"],
    ]
    return table(["a study that did stop early", ""], rows)


def speed(found: Mapping[str, Any]) -> str:
    """Runs per hour of the loop and the studies."""
    names = {
        "loop": "shell loop over a script",
        "usual": "the same, `evaluate` imported and whole checkpoints",
        "study": "study, 2 workers",
        "early": "the same, stopping early",
    }
    rows = [
        [
            name,
            str(sum(t["runs"] for t in found["turns"] if t["kind"] == kind)),
            f"{sum(t['seconds'] for t in found['turns'] if t['kind'] == kind):.0f}",
            f"{found['runs per hour'][kind]:.0f}",
            *(_times(found, kind, loop) for loop in ("loop", "usual")),
        ]
        for kind, name in names.items()
        if kind in found["runs per hour"]
    ]
    heads = ["", "runs", "seconds", "runs per hour", "times the loop", "times the usual loop"]
    return table(heads, rows)


def _times(found: Mapping[str, Any], kind: str, loop: str) -> str:
    ratios = found.get(f"to {loop}", {})
    return "1" if kind == loop else f"{ratios[kind]:.2f}" if kind in ratios else ""


def same_numbers(found: Mapping[str, Any]) -> str:
    """Whether script and study computed the same."""
    runs = found["check"]["runs"]
    keys = ("losses equal to the last bit", "predictions equal", "test score equal")
    rows = [[key, f"{sum(run[key] for run in runs)} of {len(runs)} seeds"] for key in keys]
    largest = max(run["largest difference of logits"] for run in runs)
    rows.append(["largest difference of two logits", f"{largest:.1e}"])
    return table(["script with one thread against the study", ""], rows)


def against_control(found: Mapping[str, Any]) -> str:
    """Each recipe's mean and spread, and its difference to the first one."""
    head = ["arm", "runs", "mean ± std", "against the control", "p", "better in"]
    head.append("p of the spread")
    rows = []
    for one in found["recipes"]:
        cells = [one["recipe"], str(one["n"]), f"{one['mean']:.4f} ± {one['std']:.4f}"]
        if "mean difference" in one:
            spread = _p(one["p of the spread"])
            cells += [*difference(one), f"{one['better in']:.0%}", spread]
        rows.append([*cells, *[""] * (len(head) - len(cells))])
    return f"{table(head, rows)}\n\n{clear_arms(found)}"


def clear_arms(found: Mapping[str, Any]) -> str:
    """In a sentence, the arms whose difference is not chance after correction."""
    clear = [one for one in found["recipes"] if one.get("p by Holm", 1) <= LEVEL]
    gains = [one["recipe"] for one in clear if one["mean difference"] > 0]
    losses = [one["recipe"] for one in clear if one["mean difference"] < 0]
    parts = [f"better: {', '.join(gains)}"] if gains else []
    parts += [f"worse: {', '.join(losses)}"] if losses else []
    return f"Clear after correction (p up to {LEVEL}): {'; '.join(parts) or 'none'}."


def pretraining(found: Mapping[str, Any]) -> str:
    """What further pre-training did to the held-out text."""
    record = found["pre-training"]
    rows = [
        ["perplexity before", f"{record['perplexity_before']:.0f}"],
        ["perplexity after", f"{record['perplexity_after']:.0f}"],
        ["optimizer steps", str(record["steps"])],
    ]
    return table(["held-out text", ""], rows)


def prepared(found: Mapping[str, Any]) -> str:
    """What stands behind each arm: rows of the other task, perplexities of the language models."""
    rows = []
    for name, record in found.items():
        if name.endswith("/first"):
            said = f"{record['rows']} rows, {record['like ours']} like ours left out"
            rows.append([name.split("/")[0], said, f"accuracy {record['score']:.3f}"])
        elif name.endswith("/pretraining"):
            before, after = (f"{record[f'perplexity_{when}']:.0f}" for when in ("before", "after"))
            said = f"{record['texts']['learnt from']} texts, {record['steps']} steps"
            rows.append([name.split("/")[0], said, f"perplexity {before} → {after}"])
    return table(["before the runs", "from", "on held-out rows"], rows)


def suspects(found: Mapping[str, Any]) -> str:
    """How well wrong labels were found."""
    record = found["labels/suspects"]
    return table(list(record), [[str(number) for number in record.values()]])


def _yes(value: bool) -> str:
    return "yes" if value else "no"


TABLES: dict[str, tuple[str, str, Callable[[Any], str]]] = {
    "commonlit": ("ladder-commonlit.json", "single runs", ladder),
    "science-exam": ("ladder-science-exam.json", "units", lambda found: ladder(found, "units")),
    "science-exam-single": ("ladder-science-exam.json", "single runs", ladder),
    "science-exam-means": ("ladder-science-exam.json", "units", means),
    "replays": ("early-stopping.json", "replays", replays),
    "ranks": ("early-stopping.json", "ranks", ranks),
    "bits": ("early-stopping.json", "real", bits),
    "speed": ("study-speed.json", "turns", speed),
    "same-numbers": ("study-speed.json", "check", same_numbers),
    "arms": ("procedures.json", "arms", lambda found: against_control(found["arms"])),
    "regularisers": (
        "procedures.json",
        "regularisers",
        lambda found: against_control(found["regularisers"]),
    ),
    "pre-training": ("procedures.json", "pre-training", pretraining),
    "pseudo-labels": (
        "procedures.json",
        "pseudo-labels",
        lambda found: against_control(found["pseudo-labels"]),
    ),
    "together": ("procedures.json", "together", lambda found: against_control(found["together"])),
    "folds": ("procedures.json", "folds", lambda found: against_control(found["folds"])),
    "text-arms": ("preparations.json", "text", lambda found: against_control(found["text"])),
    "prepared": ("preparations.json", "text", prepared),
    "label-arms": ("preparations.json", "labels", lambda found: against_control(found["labels"])),
    "suspects": ("preparations.json", "labels/suspects", suspects),
}
"""For each table: the results file behind it, the key that must be there, and what makes it."""


def filled(page: str, results: Path = RESULTS) -> str:
    """The page with every table made anew."""

    def made(match: re.Match[str]) -> str:
        file, key, make = TABLES[match["name"]]
        found = json.loads(path.read_text("utf-8")) if (path := results / file).exists() else {}
        text = make(found) if key in found else "Not measured yet."
        return f"<!-- table {match['name']} -->\n{text}\n<!-- end -->"

    return MARKS.sub(made, page)


if __name__ == "__main__":
    for page in (PAGE, PROCEDURES):
        write_atomically(page, filled(page.read_text(encoding="utf-8")))
        print(page)
