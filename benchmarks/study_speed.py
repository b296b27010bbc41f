"""How many runs an hour? A study against a shell loop over a script: `python study_speed.py`.

    loop     for s in 1 2 ..; do python plain_script.py --seed $s; done     torch's own threads
    usual    the same with --usual: imports `evaluate`, and writes a whole checkpoint at every look
    study    hf-stabilizer study --runs 8 --workers 2                       one thread each
    early    the same with --stop-at 0.25 --keep 2

All three train the same model on the same 256 rows in the same order and look at the same 240 or
so validation rows ten times. Time is that of the clock, from the start of the first process to the
end of the last, imports, tokenising, checkpoints and the report included. They take turns (some
runs of the loop before, between and after the studies, for its runs cost alike), so that a drift of
the machine spares none. The machine must be quiet: the load before and after is written down.

`--check` times nothing and takes longer: every seed through the script with one thread and through
the study, and whether all training losses are equal to the last bit, and all predictions.

Writes benchmarks/results/study-speed.json. Goal: twice the runs per hour, four times when stopping
early.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hf_stabilizer.configuration import load_configuration
from hf_stabilizer.data import load_splits, resolve_location
from hf_stabilizer.models import load_tokenizer
from hf_stabilizer.records import versions, write_atomically
from hf_stabilizer.studies.study import Study

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "study-speed.json"
CONFIG = HERE / "configs" / "study-speed.yaml"
ROWS = HERE.parent / "configs" / "rotten-tomatoes.yaml"
SCRIPT = HERE / "plain_script.py"
STOPPING = {"stop_at": 0.25, "keep": 2}
PARTS = ("train", "validation", "test")


def write_rows(folder: Path) -> dict[str, str]:
    """Writes the rows that both read, and returns the files."""
    splits = load_splits(load_configuration(ROWS).data, task="text-classification")
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for part in PARTS:
        rows = getattr(splits, part)
        labels = [splits.label_names.index(name) for name in rows[splits.label_column]]
        path = folder / f"{part}.csv"
        frame = pd.DataFrame({"text": rows[splits.text_columns[0]], "label": labels})
        if part == "test":
            frame = frame.head(240)
        frame.to_csv(path, index=False)
        files[f"{part}_file"] = str(path)
    return files


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The user's own, but no thread settings, no network and a cache that is ours."""
    clean = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    return {**clean, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache"), **more}


@contextlib.contextmanager
def timed(kind: str, runs: int, found: list[dict[str, Any]]) -> Iterator[None]:
    load, spent, begun = os.getloadavg(), os.times(), time.perf_counter()
    yield
    after = os.times()
    processor = sum(after[k] - spent[k] for k in (2, 3))  # children, user and system
    seconds = time.perf_counter() - begun
    found.append(
        {
            "kind": kind,
            "runs": runs,
            "seconds": round(seconds, 2),
            "processor seconds": round(processor, 2),
            "load before": round(load[0], 2),
            "load after": round(os.getloadavg()[0], 2),
        }
    )
    print(json.dumps(found[-1]), flush=True)


def run(command: Sequence[str], log: Path, env: dict[str, str]) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        subprocess.run(command, check=True, stdout=file, stderr=subprocess.STDOUT, env=env)


def run_script(
    folder: Path, files: dict[str, str], seed: int, *, is_usual: bool = False, **more: str
) -> Path:
    """One turn of the shell loop."""
    model = resolve_location(load_configuration(CONFIG).model.model_name_or_path)
    target = folder / "loop" / str(seed)
    shutil.rmtree(target, ignore_errors=True)
    options = {"model": model, "output_dir": str(target), "seed": str(seed), **files}
    command = [sys.executable, str(SCRIPT), *(f"--{k}={v}" for k, v in options.items())]
    command += ["--usual"] if is_usual else []
    run(command, folder / "logs" / f"loop-{seed}.log", environment(folder, **more))
    return target


def run_studied(
    folder: Path, files: dict[str, str], name: str, options: dict[str, Any], *, runs: int
) -> Path:
    """The study, as the command line does it."""
    target = folder / name
    shutil.rmtree(target, ignore_errors=True)
    given = {"runs": runs, "workers": 2, "output_dir": target, **files, **options}
    command = [sys.executable, "-m", "hf_stabilizer", "study", str(CONFIG), "--recipes", "plain"]
    command += [f"--{key}={value}" for key, value in given.items()]
    run(command, folder / "logs" / f"{name}.log", environment(folder))
    return target


def take_turns(folder: Path, files: dict[str, str], *, runs: int, loop: int) -> dict[str, Any]:
    """Times the three kinds in turn: loop, study, loop, early, loop."""
    found: list[dict[str, Any]] = []
    run_script(folder, files, 0)  # fills the disk's cache and the data sets' own, for the loop
    places = [len(part) for part in np.array_split(np.arange(loop), 3)]
    seed = 0
    for place, kind in zip(places, ("study", "early", None), strict=True):
        for _ in range(place):
            seed += 1
            with timed("loop", 1, found):
                run_script(folder, files, seed)
        if kind is not None:
            options = STOPPING if kind == "early" else {}
            with timed(kind, runs, found):
                run_studied(folder, files, kind, options, runs=runs)
    return {"turns": found, **rates(found)}


def add_usual(
    folder: Path, files: dict[str, str], turns: Sequence[dict[str, Any]], *, loop: int
) -> dict[str, Any]:
    """Times some turns of the usual loop, beside turns that were timed before."""
    found = [turn for turn in turns if turn["kind"] != "usual"]
    for seed in range(1, loop + 1):
        with timed("usual", 1, found):
            run_script(folder, files, seed, is_usual=True)
    return {"turns": found, **rates(found)}


def rates(turns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Runs per hour of each kind, and as multiples of each loop's."""
    per_hour = {}
    for kind in dict.fromkeys(turn["kind"] for turn in turns):
        own = [turn for turn in turns if turn["kind"] == kind]
        per_hour[kind] = 3600 * sum(t["runs"] for t in own) / sum(t["seconds"] for t in own)
    ratios = {
        f"to {loop}": {k: round(v / per_hour[loop], 2) for k, v in per_hour.items() if k != loop}
        for loop in ("loop", "usual")
        if loop in per_hour
    }
    return {"runs per hour": {k: round(v, 1) for k, v in per_hour.items()}, **ratios}


def check(folder: Path, files: dict[str, str], *, runs: int) -> dict[str, Any]:
    """Compares every seed's training losses and predictions: script, one thread, and study."""
    # The study keeps the last checkpoint, too: in it the Trainer has written its losses down.
    keep = {"save_strategy": "steps", "save_steps": 4, "save_only_model": "true"}
    keep |= {"save_total_limit": 2, "load_best_model_at_end": "true"}
    study = Study.from_folder(run_studied(folder, files, "checked", keep, runs=runs))
    order = longest_first(files["test_file"])
    found = []
    for one in study.runs:
        seed = one.seeds["seed"]
        script = run_script(folder, files, seed, OMP_NUM_THREADS="1")
        ours = folder / "checked" / "runs" / one.recipe / one.name
        theirs = np.load(script / "predictions.npz")["test"][order]
        mine = np.load(ours / "predictions.npz")["test"]
        found.append(
            {
                "seed": seed,
                "losses equal to the last bit": losses(last_state(ours)) == losses(script),
                "losses": len(losses(script)),
                "predictions equal": bool((theirs.argmax(-1) == mine.argmax(-1)).all()),
                "largest difference of logits": float(np.abs(theirs - mine).max()),
                "test score equal": one.test_score == test_score(script),
            }
        )
        print(json.dumps(found[-1]), flush=True)
    return {"script": "one thread", "runs": found}


def longest_first(file: str) -> list[int]:
    """The order in which a study keeps the rows that are only scored."""
    configuration = load_configuration(CONFIG)
    tokenizer = load_tokenizer(resolve_location(configuration.model.model_name_or_path))
    texts = pd.read_csv(file)["text"].tolist()
    ids = tokenizer(texts, truncation=True, max_length=configuration.model.max_length)["input_ids"]
    return sorted(range(len(ids)), key=lambda row: -len(ids[row]))


def last_state(folder: Path) -> Path:
    return max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))


def losses(folder: Path) -> list[tuple[int, float]]:
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [(line["step"], line["loss"]) for line in history if "loss" in line]


def test_score(folder: Path) -> float:
    return float(json.loads((folder / "test_results.json").read_text())["test_accuracy"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare numbers, time nothing")
    parser.add_argument("--usual", action="store_true", help="add turns of the usual loop alone")
    parser.add_argument("--runs", type=int, default=8, help="runs of each study")
    parser.add_argument("--loop", type=int, default=4, help="turns of the shell loop")
    parser.add_argument("--folder", type=Path, default=Path("results/study-speed"))
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    folder = options.folder.resolve()
    files = write_rows(folder / "rows")
    before = json.loads(options.output.read_text()) if options.output.exists() else {}
    if options.check:
        found: dict[str, Any] = {"check": check(folder, files, runs=options.runs)}
    elif options.usual:
        found = add_usual(folder, files, before.get("turns", []), loop=options.loop)
    else:
        found = take_turns(folder, files, runs=options.runs, loop=options.loop)
    there = json.loads(options.output.read_text()) if options.output.exists() else {}
    there |= {
        **found,
        "config": "benchmarks/configs/study-speed.yaml",
        "rows": {part: len(pd.read_csv(files[f"{part}_file"])) for part in PARTS},
        "source of the rows": "configs/rotten-tomatoes.yaml",
        "stopping": STOPPING,
        "seeds": list(range(1, options.runs + 1)),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
        "versions": versions(),
    }
    write_atomically(options.output, json.dumps(there, indent=2) + "\n")


if __name__ == "__main__":
    main()
