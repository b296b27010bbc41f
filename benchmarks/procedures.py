"""Does each procedure around whole runs help? Each against its control over the same seeds.

    arms          further pre-training, transferred layers, feature extraction, augmentation, label
                  smoothing, dropout, L1 and L2: arms of one study with one control
    pseudo-labels teachers, a control and one arm for each share of the unlabelled rows
    folds         the mean of the models of four folds against one model of all labelled rows
    together      ensembles of three runs and soups of them, each against its best single member
                  by validation, for eight heads

On film reviews (configs/procedures.yaml), MiniLM-L6, 32 optimizer steps. Every part can be started
by itself and goes on where it was cut off: `python benchmarks/procedures.py arms together`.
`--judge` reads what is there. Writes benchmarks/results/procedures.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_stabilizer import (
    cross_validate,
    ensemble,
    further_pretrain,
    greedy_soup,
    run_study,
    uniform_soup,
)
from hf_stabilizer.augmentation import DeleteWords, SwapWords, augment_data
from hf_stabilizer.configuration import load_configuration
from hf_stabilizer.data import load_splits
from hf_stabilizer.errors import check_choice
from hf_stabilizer.procedure import read_procedure
from hf_stabilizer.pseudo_labels.running import run_pseudo_labels
from hf_stabilizer.recipes import load_recipe, read_yaml
from hf_stabilizer.records import Run, versions, write_atomically
from hf_stabilizer.studies.comparison import Comparison, compare, comparisons
from hf_stabilizer.studies.statistics import sample_std
from hf_stabilizer.studies.study import Study, run_folder
from hf_stabilizer.studies.sweeps.sweeping import sweep

HERE = Path(__file__).parent
CONFIG = HERE / "configs" / "procedures.yaml"
RESULTS = HERE / "results" / "procedures.json"
ROWS = HERE.parent / "configs" / "rotten-tomatoes.yaml"
SIZES = {"train": 256, "validation": 150, "test": 300, "unlabelled": 1500}
RUNS = 8
MEMBERS = 3
RATES = (0.25, 1.0)
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "label-smoothing=0.1": {"label_smoothing_factor": 0.1},
    "dropout=0.2": {"dropout": 0.2},
    "l2=0.01": {"l2": 0.01},
    "l1=1e-5": {"l1": 1e-5},
}


def write_rows(folder: Path) -> dict[str, str]:
    """Writes the four files; no film has rows in two of them but in train and unlabelled."""
    keys = {"validation_size": SIZES["validation"], "test_size": SIZES["test"]}
    plain = load_configuration(ROWS, overrides={**keys, "max_train_rows": None})
    few = load_configuration(ROWS, overrides={**keys, "max_train_rows": SIZES["train"]})
    every = load_splits(plain.data, task="text-classification")
    splits = load_splits(few.data, task="text-classification")
    known = set(splits.train["text"])
    rest = every.train.filter(lambda row: row["text"] not in known, load_from_cache_file=False)
    parts = {
        "train": splits.train,
        "validation": splits.validation,
        "test": splits.test,
        "unlabelled": rest.shuffle(seed=0).select(range(SIZES["unlabelled"])),
    }
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for part, rows in parts.items():
        path = folder / f"{part}.parquet"
        if not path.exists():
            rows.to_parquet(str(path))
        files[f"{part}_file"] = str(path)
    return files


class Bench:
    """One folder with all parts."""

    def __init__(self, folder: Path, *, runs: int, workers: int, steps: int | None):
        self.folder, self.runs, self.workers = folder.resolve(), runs, workers
        self.files = write_rows(self.folder / "rows")
        self.short = {} if steps is None else {"max_steps": steps, "num_train_epochs": 1}
        self.pretraining_steps = 100 if steps is None else steps

    @property
    def values(self) -> dict[str, Any]:
        """The configuration with its files."""
        return {**read_yaml(CONFIG), **self.files, **self.short}

    def arms(self) -> None:
        """Pre-trains, augments, and runs all arms as one study."""
        folder, values = self.folder / "arms", self.values
        pretrained = further_pretrain(
            values, output_dir=self.folder / "pretrain", runs=0,
            training={"max_steps": self.pretraining_steps, "eval_strategy": "steps",
                      "eval_steps": 25, "save_strategy": "steps", "save_steps": 25},
        )  # fmt: skip
        augmented = augment_data(
            values, [DeleteWords(rate=0.1), SwapWords(rate=0.1)],
            output_dir=self.folder / "augment",
        )  # fmt: skip
        extracted = load_recipe("feature-extraction").for_task("text-classification")
        recipes = {
            "control": {},
            "further-pretraining": {"model_name_or_path": pretrained.model},
            "feature-extraction": extracted,
            **sweep("transfer_layers", [0, 2, 4]),
            "augmentation": self._differences(augmented.recipe),
            **SETTINGS,
        }
        run_study(
            {**values, **self._differences(augmented.control)}, recipes=recipes, runs=self.runs,
            output_dir=folder, workers=self.workers, command="python benchmarks/procedures.py arms",
        )  # fmt: skip

    def _differences(self, recipe: Path) -> dict[str, Any]:
        """What a recipe sets that is not how it was."""
        return {key: value for key, value in read_yaml(recipe).items() if value is not None}

    def pseudo_labels(self) -> None:
        """Three teachers, a control and an arm for each rate."""
        run_pseudo_labels(
            self.values, output_dir=self.folder / "pseudo-labels", teachers=MEMBERS,
            sampling_rate=RATES, top_k=100, runs=self.runs, workers=self.workers,
        )  # fmt: skip

    def folds(self) -> None:
        """Four folds of the labelled rows, with every seed."""
        cross_validate(
            self.values, folds=4, runs=self.runs, output_dir=self.folder / "folds",
            workers=self.workers,
        )  # fmt: skip

    def together(self) -> None:
        """Three orders of the data for each head, their models kept; then means and soups."""
        folder = self.folder / "together"
        study = run_study(
            self.values, recipes={"control": {}}, head_seeds=self.runs, data_seeds=MEMBERS,
            output_dir=folder, workers=self.workers, keep_models=True,
            command="python benchmarks/procedures.py together",
        )  # fmt: skip
        for head, runs in heads(study).items():
            members = [run_folder(folder, run.recipe, run.name) for run in runs]
            for name, cook in (("greedy", greedy_soup), ("uniform", uniform_soup)):
                cook(members, output_dir=self.folder / "soups" / f"{name}-{head}")

    def judge(self) -> dict[str, Any]:
        """What is there, as one record."""
        found: dict[str, Any] = {
            "configuration": read_yaml(CONFIG),
            "rows": SIZES,
            "versions": versions(),
        }
        if (self.folder / "arms" / "study.json").exists():
            study = Study.from_folder(self.folder / "arms")
            plain = tuple(name for name in study.recipes if name not in SETTINGS)
            found["arms"] = judged(study.runs, plain)
            found["regularisers"] = judged(study.runs, ("control", *SETTINGS))
            record = json.loads((self.folder / "pretrain" / "pretraining.json").read_text())
            names = ("perplexity_before", "perplexity_after", "texts", "steps")
            found["pre-training"] = {name: record[name] for name in names}
        labelled = read_procedure(self.folder / "pseudo-labels")
        if labelled is not None and labelled.is_over:
            study = Study.from_folder(self.folder / "pseudo-labels" / "study")
            found["pseudo-labels"] = judged(study.runs, study.recipes)
            found["pseudo-labelled rows"] = {
                arm: {key: value for key, value in told.items() if key != "teachers"}
                for arm, told in labelled.outcome["labels"].items()
            }
        folded = read_procedure(self.folder / "folds")
        if folded is not None and folded.is_over and "arms" in found:
            found["folds"] = self._folds()
        if (self.folder / "soups").exists():
            found["together"] = self._together()
        return found

    def _folds(self) -> dict[str, Any]:
        from hf_stabilizer.metrics import load_metric

        study = Study.from_folder(self.folder / "folds" / "study")
        control = Study.from_folder(self.folder / "arms").of("control")
        runs: list[Run] = [run for run in control if run.test_score is not None]
        for seed in sorted({run.seeds["seed"] for run in study.runs}):
            of_seed = [run for run in study.runs if run.seeds["seed"] == seed]
            known = [study.predictions(run) for run in of_seed]
            outputs = np.mean([_probabilities(one.test) for one in known if one], axis=0)
            labels = known[0].test_labels if known[0] else None
            score = load_metric("accuracy").compute(
                predictions=outputs.argmax(-1), references=labels
            )["accuracy"]
            seeds = {"head_seed": seed, "data_seed": seed, "seed": seed}
            runs.append(Run("mean of four folds", seeds, "finished", metric="accuracy",
                            test_score=score))  # fmt: skip
        return judged(runs, ("control", "mean of four folds"))

    def _together(self) -> dict[str, Any]:
        study, runs = Study.from_folder(self.folder / "together"), list[Run]()
        for head, members in heads(study).items():
            folders = [run_folder(self.folder / "together", r.recipe, r.name) for r in members]
            mean = ensemble(folders, part="test")
            best = max(members, key=lambda run: run.best_score or 0.0)
            scores = {"best by validation": best.test_score, "mean of three": mean.score}
            for name in ("greedy", "uniform"):
                record = self.folder / "soups" / f"{name}-{head}" / "procedure.json"
                outcome = json.loads(record.read_text())["outcome"]
                scores[f"{name} soup"] = outcome["test_score"]
            for name, score in scores.items():
                seeds = {"seed": int(head)}
                runs.append(Run(name, seeds, "finished", metric="accuracy", test_score=score))
        names = ("best by validation", "mean of three", "greedy soup", "uniform soup")
        return judged(runs, names)


def heads(study: Study) -> dict[int, list[Run]]:
    """Runs by the seed of their head."""
    found: dict[int, list[Run]] = {}
    for run in study.runs:
        if run.test_score is not None:
            found.setdefault(run.seeds["head_seed"], []).append(run)
    return found


def judged(runs: Sequence[Run], recipes: Sequence[str]) -> dict[str, Any]:
    """Every recipe's scores and its comparison with the first, p corrected by Holm's method."""
    runs = [run for run in runs if run.recipe in recipes]
    found = {one.candidate: one for one in comparisons(runs, recipes)}
    return {
        "recipes": [
            {"recipe": recipe, **_scores(runs, recipe), **_difference(runs, found.get(recipe))}
            for recipe in recipes
        ],
        "runs": [
            {"recipe": run.recipe, "seeds": dict(run.seeds), "status": run.status,
             "test": run.test_score, "validation": run.best_score}
            for run in runs
        ],
    }  # fmt: skip


def _scores(runs: Sequence[Run], recipe: str) -> dict[str, Any]:
    scores = [run.score for run in runs if run.recipe == recipe and run.score is not None]
    return {"n": len(scores), "mean": float(np.mean(scores)), "std": sample_std(scores)}


def _difference(runs: Sequence[Run], one: Comparison | None) -> dict[str, Any]:
    if one is None:
        return {}
    return {
        "mean difference": one.mean_difference,
        "interval": [one.interval.low, one.interval.high] if one.interval else None,
        "p": compare(runs, one.baseline, one.candidate).p_value,
        "p by Holm": one.p_value,
        "better in": one.superiority,
        "p of the spread": one.spread_p,
    }


def _probabilities(outputs: Any) -> Any:
    from scipy.special import softmax

    return softmax(outputs, axis=-1)


def main() -> None:
    parts = ("arms", "pseudo-labels", "together", "folds")
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts))
    parser.add_argument("--judge", action="store_true", help="only judge what is there")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, help="fewer optimizer steps, to try it")
    parser.add_argument("--folder", type=Path, default=Path("results/procedures"))
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    for part in options.parts:
        check_choice(part, parts, name="PART")
    bench = Bench(options.folder, runs=options.runs, workers=options.workers, steps=options.steps)
    for part in () if options.judge else options.parts or parts:
        getattr(bench, part.replace("-", "_"))()
    write_atomically(options.output, json.dumps(bench.judge(), indent=2) + "\n")


if __name__ == "__main__":
    main()
