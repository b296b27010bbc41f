"""Does what is done to text and rows before the runs help? Five more preparations, as arms.

    text      a labelled task first (SST-2: film reviews as well; CoLA: grammar), pre-training with
              next sentences, words replaced by a masked language model
    labels    a fifth of the training labels turned round, and what confident learning over
              out-of-fold predictions suspects taken out again

On the film reviews of procedures.py, with its model, rows, seeds and settings. Every part goes on
where it was cut off; `--judge` reads what is there. Writes benchmarks/results/preparations.json.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import pandas as pd
from procedures import CONFIG, HERE, ROWS, RUNS, judged, write_rows

from hf_stabilizer import check_rows, clean_rows, cross_validate, further_pretrain, run_study
from hf_stabilizer.augmentation import ReplaceTokens, augment_data
from hf_stabilizer.data.near_duplicates import near_duplicates
from hf_stabilizer.errors import check_choice
from hf_stabilizer.locations import resolve_location
from hf_stabilizer.pretraining import hand_over_body
from hf_stabilizer.recipes import read_yaml
from hf_stabilizer.records import versions, write_atomically
from hf_stabilizer.run import train
from hf_stabilizer.studies.study import Study

RESULTS = HERE / "results" / "preparations.json"
LABELS = ("fresh", "rotten")
STEPS = 32
OTHER_ROWS = 2000
TURNED = 0.2
TEXT_ARMS = ("control", "sst2-first", "cola-first", "next-sentences", "replaced-words")
LABEL_ARMS = ("a-fifth-turned", "suspects-dropped", "right-labels")


class Bench:
    """One folder with all parts."""

    def __init__(self, folder: Path, data: Path, *, runs: int, workers: int, steps: int):
        self.folder, self.data = folder.resolve(), data.resolve()
        self.runs, self.workers, self.steps = runs, workers, steps
        self.files = write_rows(self.folder / "rows")

    @property
    def values(self) -> dict[str, Any]:
        """The configuration with its files, and as many steps for every arm."""
        return {**read_yaml(CONFIG), **self.files, "max_steps": self.steps}

    def text(self) -> None:
        """Prepares four models or files, and runs them beside a control."""
        replaced = augment_data(
            self.values, [ReplaceTokens(self._language_model("mlm"), rate=0.15)],
            output_dir=self.folder / "replaced", copies=2,
        )  # fmt: skip
        arms: list[dict[str, Any]] = [
            {},
            {"model_name_or_path": self._trained_first("sst2")},
            {"model_name_or_path": self._trained_first("cola")},
            {"model_name_or_path": self._language_model("mlm+nsp")},
            {"train_file": read_yaml(replaced.recipe)["train_file"]},
        ]
        self._study("text", dict(zip(TEXT_ARMS, arms, strict=True)))

    def labels(self) -> None:
        """Turns labels round, suspects some by out-of-fold predictions, and runs all three."""
        folder = self.folder / "labels"
        folder.mkdir(exist_ok=True)
        turned, cleaned = folder / "turned.parquet", folder / "cleaned.parquet"
        rows = pd.read_parquet(self.files["train_file"])
        chosen = random.Random(0).sample(range(len(rows)), round(TURNED * len(rows)))
        for place in chosen:
            rows.loc[place, "category"] = LABELS[rows.loc[place, "category"] == LABELS[0]]
        rows.to_parquet(str(turned))
        cross_validate(
            {**self.values, "train_file": str(turned)}, folds=4, runs=2,
            output_dir=folder / "folds", workers=self.workers,
        )  # fmt: skip
        report = check_rows(
            turned, text_columns="text", label_column="category",
            out_of_fold=folder / "folds" / "out_of_fold.parquet",
        )  # fmt: skip
        suspects = [found for found in report.findings if found.kind == "mislabelled"]
        numbers = [number for found in suspects for number in found.rows]
        kept = clean_rows(rows, drop_rows=numbers, text_columns="text", label_column="category")
        kept.frame.to_parquet(str(cleaned))
        told = {
            "rows": len(rows), "turned": len(chosen), "suspected": len(numbers),
            "suspected and turned": len({number - 1 for number in numbers} & set(chosen)),
        }  # fmt: skip
        write_atomically(folder / "suspects.json", json.dumps(told) + "\n")
        files = [str(turned), str(cleaned), self.files["train_file"]]
        arms = zip(LABEL_ARMS, files, strict=True)
        self._study("labels", {arm: {"train_file": file} for arm, file in arms})

    def judge(self) -> dict[str, Any]:
        """What is there, as one record."""
        found: dict[str, Any] = {"configuration": read_yaml(CONFIG), "versions": versions()}
        for part, arms in (("text", TEXT_ARMS), ("labels", LABEL_ARMS)):
            if (self.folder / f"study-{part}" / "study.json").exists():
                study = Study.from_folder(self.folder / f"study-{part}")
                found[part] = judged(study.runs, arms)
        for name in ("labels/suspects", "mlm/pretraining", "mlm+nsp/pretraining",
                     "sst2/first", "cola/first"):  # fmt: skip
            if (path := self.folder / f"{name}.json").exists():
                found[name] = json.loads(path.read_text())
        return found

    def _study(self, part: str, recipes: dict[str, dict[str, Any]]) -> None:
        run_study(
            self.values, recipes=recipes, runs=self.runs, workers=self.workers,
            output_dir=self.folder / f"study-{part}",
            command=f"python benchmarks/preparations.py {part}",
        )  # fmt: skip

    def _trained_first(self, task: str) -> str:
        """Trains on another task's rows, none of them like a validation or test row of ours."""
        folder = self.folder / task
        if not (folder / "body" / "model").exists():
            rows = pd.read_csv(self.data / task / "train.csv").sample(OTHER_ROWS, random_state=0)
            ours = [text for part in ("validation", "test")
                    for text in pd.read_parquet(self.files[f"{part}_file"])["text"]]  # fmt: skip
            alike = {first for first, _, _ in near_duplicates(rows["text"].tolist(), ours)}
            left = rows.reset_index(drop=True).drop(index=sorted(alike))
            folder.mkdir(exist_ok=True)
            left.to_csv(folder / "train.csv", index=False)
            other = {"train_file": str(folder / "train.csv"),
                     "validation_file": str(self.data / task / "validation.csv"),
                     "text_columns": "text", "label_column": "label", "label_names": None,
                     "output_dir": str(folder / "run")}  # fmt: skip
            short = {} if self.steps == STEPS else {"max_steps": 2}
            run = train({**read_yaml(CONFIG), **other, **short})
            told = {"rows": len(left), "like ours": len(alike), "score": run.best_score}
            write_atomically(folder / "first.json", json.dumps(told) + "\n")
            hand_over_body(folder / "run", self.values, folder / "body")
        return str(folder / "body" / "model")

    def _language_model(self, objective: str) -> str:
        """Pre-trains on the unlabelled sentences, for next sentences those of a film in a row."""
        steps = 100 if self.steps == STEPS else 2
        keys = {"unlabelled_file": str(self._films())} if "nsp" in objective else {}
        return further_pretrain(
            {**self.values, "max_steps": -1, **keys}, output_dir=self.folder / objective, runs=0,
            objective=objective,
            training={"max_steps": steps, "eval_strategy": "steps", "eval_steps": steps // 2,
                      "save_strategy": "steps", "save_steps": steps // 2},
        ).model  # fmt: skip

    def _films(self) -> Path:
        """The unlabelled sentences about each film as one text."""
        path = self.folder / "rows" / "films.parquet"
        source = resolve_location(read_yaml(ROWS)["train_file"])
        films = pd.read_csv(source).drop_duplicates("text").set_index("text")["movie_name"]
        rows = pd.read_parquet(self.files["unlabelled_file"])
        joined = rows.groupby(rows["text"].map(films))["text"].agg(" ".join)
        joined.to_frame("text").to_parquet(str(path), index=False)
        return path


def main() -> None:
    parts = ("text", "labels")
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts))
    parser.add_argument("--data", type=Path, help="folder with sst2 and cola", required=True)
    parser.add_argument("--judge", action="store_true", help="only judge what is there")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=STEPS, help="fewer steps, to try it")
    parser.add_argument("--folder", type=Path, default=Path("results/preparations"))
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    for part in options.parts:
        check_choice(part, parts, name="PART")
    bench = Bench(options.folder, options.data, runs=options.runs, workers=options.workers,
                  steps=options.steps)  # fmt: skip
    for part in () if options.judge else options.parts or parts:
        getattr(bench, part)()
    write_atomically(options.output, json.dumps(bench.judge(), indent=2) + "\n")


if __name__ == "__main__":
    main()
