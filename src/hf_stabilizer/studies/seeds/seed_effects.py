"""What do the seeds of a study decide? The head, the data order, or both together.

For each recipe of each study: the two-way analysis, the mean of every head over the data orders,
and the hunt for good heads; over several studies, whether they rank the same heads alike. Heads
are the same where body and number of labels are: then one head seed draws the same numbers.
Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hf_stabilizer.errors import StudyError
from hf_stabilizer.predictions import FILE as PREDICTIONS
from hf_stabilizer.predictions import read_predictions
from hf_stabilizer.records import Run
from hf_stabilizer.studies.seeds.seed_grid import WORDS, varied
from hf_stabilizer.studies.statistics import (
    RankAgreement,
    SeedFactors,
    SeedMean,
    final_score,
    rank_agreement_of_runs,
    seed_means_of_runs,
    two_way_analysis_of_runs,
)
from hf_stabilizer.studies.study import Study

TASK = "task.json"


@dataclass(frozen=True)
class SeedEffects:
    """What the seeds of one recipe decide on one data set."""

    data_set: str
    """Name of the study."""
    recipe: str
    """Name of the recipe."""
    metric: str
    """Name of the metric that decides."""
    greater_is_better: bool
    """Its direction."""
    runs: tuple[Run, ...]
    """Runs with a final score."""
    left_out: int
    """Runs without one."""
    varied: Mapping[str, int]
    """Levels of each seed that has more than one, by option name, the head's first."""
    words: Mapping[str, str]
    """Option name -> "head", "data", "dropout"; "seed" where a script's one seed draws the head."""
    analysis: SeedFactors | None
    """Of the first two that vary; None where they cannot be told apart."""
    heads: tuple[SeedMean, ...]
    """Means of the first seed that varies, mostly the head's, the best first."""
    others: tuple[SeedMean, ...]
    """Means of the second, mostly the data order's; empty where only one varies."""

    @property
    def pair(self) -> tuple[str, str] | None:
        """The option names of the two seeds that are analysed; None where fewer vary."""
        first = [*self.varied][:2]
        return (first[0], first[1]) if len(first) == 2 else None

    @property
    def vary_together(self) -> bool:
        """Whether each run has seeds of its own, so that they cannot be told apart."""
        return len(self.varied) > 1 and set(self.varied.values()) == {len(self.runs)}

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as plain values, for JSON."""
        analysis = self.analysis
        return {
            "data_set": self.data_set,
            "recipe": self.recipe,
            "metric": self.metric,
            "greater_is_better": self.greater_is_better,
            "runs": len(self.runs),
            "left_out": self.left_out,
            "varied": {self.words[name]: count for name, count in self.varied.items()},
            "mean": analysis.mean if analysis else None,
            "std": analysis.std if analysis else None,
            "factors": [
                {
                    "name": factor.name,
                    "share": factor.share,
                    "std": factor.variance**0.5,
                    "sum_of_squares": factor.sum_of_squares,
                    "degrees": factor.degrees,
                    "f": factor.f,
                    "p_value": factor.p_value,
                    "shuffled_p": factor.shuffled_p,
                }
                for factor in (analysis.factors if analysis else ())
            ],
            "seeds": [
                {"name": self.words[name], **_mean(mean)}
                for name, means in zip(self.varied, (self.heads, self.others), strict=False)
                for mean in means
            ],
        }


def seed_effects(study: Study) -> tuple[SeedEffects, ...]:
    """Returns what the seeds of each recipe of a study decide.

    Raises:
        StudyError: No run has both seeds and a final score.

    Example:
        >>> def run(head, data):
        ...     seeds = {"head_seed": head, "data_seed": data, "seed": 1}
        ...     score = 0.5 + head / 10 + data / 100 + head * data / 1000
        ...     return Run("plain", seeds, "finished", best_score=score)
        >>> runs = tuple(run(head, data) for head in (1, 2, 3) for data in (1, 2, 3))
        >>> found, = seed_effects(Study("demo", ("plain",), runs, "f1", True))
        >>> [(factor.name, round(factor.share, 2)) for factor in found.analysis.factors]
        [('head', 0.99), ('data', 0.01), ('rest', 0.0)]
        >>> [mean.seed for mean in found.heads]
        [3, 2, 1]
    """
    found = tuple(one for recipe in study.recipes if (one := _of_recipe(study, recipe)))
    if not found:
        raise StudyError(
            f"the study {study.name!r} has no run with known seeds and a final score, so nothing "
            "can be said of its seeds"
        )
    return found


def rank_agreement_of_heads(
    studies: Mapping[str, Study], recipe: str, *, folders: Mapping[str, Path]
) -> RankAgreement | None:
    """Returns how alike several studies rank the same heads; None for fewer than three heads.

    Args:
        studies: Name of the data set -> its study.
        recipe: The recipe that is looked at.
        folders: Name of the data set -> the study's folder, for its number of labels.

    Raises:
        StudyError: The heads are not the same: another number of labels, another model, or no
            head seed in common.
    """
    _check_same(
        {name: labels_of(study, folders[name]) for name, study in studies.items()},
        "number of labels",
    )
    models = {name: one.configuration.get("model_name_or_path") for name, one in studies.items()}
    _check_same(models, "model")
    effects = {name: _of_recipe(study, recipe) for name, study in studies.items()}
    seed = _head_name([run for one in effects.values() if one for run in one.runs])
    heads = [
        {run.seeds.get(seed) for run in one.runs} if one else set() for one in effects.values()
    ]
    if not set.intersection(*heads) - {None}:
        listed = " and ".join(
            f"{name} {sorted(h for h in some if h is not None)}"
            for name, some in zip(effects, heads, strict=True)
        )
        raise StudyError(
            f"the studies have no {WORDS[seed]} seed in common with recipe {recipe!r} ({listed}); "
            "run them with the same head_seeds"
        )
    runs = {name: one.runs if one else () for name, one in effects.items()}
    told = all("data_seed" in run.seeds for some in runs.values() for run in some)
    paired = (one.pair[1] for one in effects.values() if one and one.pair and one.pair[0] == seed)
    blocks = next(paired, "data_seed" if told else seed)
    return rank_agreement_of_runs(runs, seed=seed, blocks=blocks)


def labels_of(study: Study, folder: Path) -> int | None:
    """Returns the number of labels that a study's models tell apart; None where no file tells."""
    for path in sorted(folder.glob(f"data/*/{TASK}")):
        task = _read(path)
        # One head scores every choice, however many there are.
        return 1 if task.get("task") == "multiple-choice" else int(task["num_labels"])
    for path in sorted(folder.glob(f"runs/*/*/{PREDICTIONS}")):
        found = read_predictions(path.parent)
        if found is not None and found.validation is not None and found.validation.ndim == 2:
            return int(found.validation.shape[1])
    places = [folder, *(Path(str(run.configuration.get("folder", folder))) for run in study.runs)]
    for place in places:
        for path in (place / "config.json", *sorted(place.glob("*/config.json"))):
            if path.is_file() and (count := _labels_in(_read(path))) is not None:
                return count
    return None


def _of_recipe(study: Study, recipe: str) -> SeedEffects | None:
    everything = study.of(recipe)
    runs = tuple(run for run in everything if run.seeds and final_score(run) is not None)
    if not runs:
        return None
    seed = _head_name(runs)
    counts = varied(run.seeds for run in runs)
    words = {**WORDS, "seed": "seed"} if seed == "seed" else dict(WORDS)
    found = SeedEffects(
        data_set=study.name,
        recipe=recipe,
        metric=study.metric,
        greater_is_better=study.greater_is_better,
        runs=runs,
        left_out=len(everything) - len(runs),
        varied={name: counts[name] for name in sorted(counts, key=lambda n: n != seed)},
        words=words,
        analysis=None,
        heads=(),
        others=(),
    )
    if found.pair is None:
        return replace(found, heads=_alone(found))
    first, second = found.pair
    return replace(
        found,
        analysis=two_way_analysis_of_runs(
            runs, factors=found.pair, names=(words[first], words[second])
        ),
        heads=seed_means_of_runs(runs, seed=first, blocks=second),
        others=seed_means_of_runs(runs, seed=second, blocks=first),
    )


def _alone(found: SeedEffects) -> tuple[SeedMean, ...]:
    """The scores of the one seed that varies, held against one another where the rest is known."""
    if not found.varied:
        return ()
    seed = next(iter(found.varied))
    fixed = [name for name in WORDS if name != seed and all(name in r.seeds for r in found.runs)]
    means = seed_means_of_runs(found.runs, seed=seed, blocks=fixed[0] if fixed else seed)
    return tuple(replace(mean, p_value=None) for mean in means)  # one run each: nothing to test by


def _head_name(runs: Sequence[Run]) -> str:
    """The seed that draws the head: a script that tells no head seed draws it from its one seed."""
    return "head_seed" if any("head_seed" in run.seeds for run in runs) else "seed"


def _check_same(values: Mapping[str, Any], what: str) -> None:
    known = {name: value for name, value in values.items() if value is not None}
    if len(set(known.values())) > 1:
        listed = ", ".join(f"{name} {value}" for name, value in known.items())
        raise StudyError(
            f"the studies have not the same {what} ({listed}), so one head seed draws different "
            "heads there, and their ranks cannot be compared; name studies of equal label count "
            "and one model"
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} cannot be read ({error}); restore it from a copy") from error
    return found if isinstance(found, dict) else {}


def _labels_in(config: Mapping[str, Any]) -> int | None:
    if "id2label" in config:
        return len(config["id2label"])
    # transformers writes them only where they are not the two that it begins with.
    is_classifier = any("ForSequenceClassification" in a for a in config.get("architectures") or ())
    return 2 if is_classifier else None


def _mean(mean: SeedMean) -> dict[str, Any]:
    return {
        "seed": mean.seed,
        "runs": mean.runs,
        "mean": mean.mean,
        "low": mean.interval.low if mean.interval else None,
        "high": mean.interval.high if mean.interval else None,
        "effect": mean.effect,
        "p_value": mean.p_value,
        "expected": mean.expected,
    }
