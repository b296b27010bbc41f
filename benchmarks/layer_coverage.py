"""On how many model classes is the layer map right? `python benchmarks/layer_coverage.py`.

Builds a tiny random instance of every class in the auto mappings of the installed transformers,
compares the map with an independent oracle (`zoo.oracle`: in which order did the blocks run in a
real forward pass?), does the same for the two name patterns that people write by hand, and checks
that `reinitialize_layers` changes the top block and nothing else.

Writes `summary.json` and `classes.csv` to benchmarks/results/layer-coverage, and the chart of the
README. Exit code 1 if a map is wrong (a refusal is no mistake) and not a known disagreement.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "layer-coverage"
CHART = HERE.parent / "docs" / "layer-coverage.svg"
KNOWN = HERE / "known_disagreements.json"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from zoo.results import chart, summary, table, write
    from zoo.workers import judge_all

    targets = _chosen(options)
    known = json.loads(KNOWN.read_text(encoding="utf-8")) if KNOWN.exists() else {}
    verdicts, start = [], time.monotonic()
    for verdict in judge_all(targets, jobs=options.jobs):
        verdicts.append(verdict)
        if options.lines:
            with options.lines.open("a", encoding="utf-8") as file:
                file.write(json.dumps(verdict.as_record()) + "\n")
        if verdict.layer_map == "wrong" and not options.quiet:
            reason = "; ".join(verdict.reasons.get("layer_map", [])[:2])
            print(f"wrong: {verdict.name} ({verdict.config_type}): {reason[:300]}", flush=True)
    verdicts.sort(key=lambda verdict: verdict.name)
    told = summary(verdicts, known)
    print(table(verdicts))
    print(f"{len(verdicts)} classes in {time.monotonic() - start:.0f} s")
    complete = not (options.every > 1 or options.only or options.classes)
    if options.output or complete:
        write(options.output or RESULTS, verdicts, known)
    if complete and not options.output:
        CHART.write_text(chart(told["counts"]), encoding="utf-8")
    return 1 if told["wrong"] or told["reinitialize_wrong"] else 0


def _chosen(options: argparse.Namespace) -> list:
    from zoo.targets import all_targets

    targets = all_targets()
    if options.classes:
        known = {target.name for target in targets}
        unknown = [name for name in options.classes if name not in known]
        if unknown:
            sys.exit(f"not in any auto mapping: {', '.join(unknown)}")
        targets = [target for target in targets if target.name in options.classes]
    if options.only:
        targets = [target for target in targets if target.family == options.only]
    return targets[:: options.every]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    families = ("text", "vision", "audio", "multimodal", "other", "bare")
    parser.add_argument("--every", type=int, default=1, help="take every k-th class")
    parser.add_argument("--only", choices=families, help="take one family")
    parser.add_argument("--class", dest="classes", nargs="+", help="take these classes")
    parser.add_argument("--jobs", type=int, default=2, help="processes, each with one thread")
    parser.add_argument("--output", type=Path, help="folder for the results")
    parser.add_argument("--lines", type=Path, help="file to which each verdict is added at once")
    parser.add_argument("--quiet", action="store_true", help="print the summary alone")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
