r"""Can several fine-tuned models be one? The mean of their weights, greedily chosen or of all.

    uniform   theta = mean of all members
    greedy    members by validation score, best first; each is put in if the score of the mean on
              the validation rows does not fall                            (the paper's Recipe 1)

So a greedy soup is never below its best member on the rows that choose it. The test rows judge.
Source: Wortsman et al. 2022, Model soups (arXiv:2203.05482); that rounding is done once, from
float64, and that heads must have begun at one place, is ours.

    OUTPUT/config.json, model.safetensors, tokenizer    an ordinary model: `from_pretrained(OUTPUT)`
    OUTPUT/configuration.yaml                           that of the first member
    OUTPUT/procedure.json                               members, scores, what came of it
    OUTPUT/scores.json                                  scores by members, so that none is repeated
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_stabilizer.ensembling.candidates import Named, find_candidates
from hf_stabilizer.ensembling.fingerprints import of_weights
from hf_stabilizer.ensembling.soup_record import Soup, SoupMember
from hf_stabilizer.errors import ConfigurationError, check_whole
from hf_stabilizer.metrics import greater_is_better
from hf_stabilizer.procedure import check_procedure, open_procedure
from hf_stabilizer.records import write_atomically

if TYPE_CHECKING:
    from hf_stabilizer.ensembling.tasting import Taster

# Any in this module: values of settings and outcomes.
KIND = "soup"
SCORES = "scores.json"
Tell = Callable[[str], None]


def greedy_soup(
    runs: Named | Iterable[Named],
    *,
    output_dir: str | Path,
    recipes: Sequence[str] | None = None,
    batch_size: int = 32,
    tell: Tell | None = None,
) -> Soup:
    """Averages the weights of those models whose mean does not score less with each of them.

    Members are put in by their score on the validation rows of their runs' configuration, best
    first, ties in the order given; one stays in if the score of the mean does not fall. The result
    is never below its best member there. Killed and started again it repeats no score.

    Args:
        runs: Folders of checkpoints of one run, or of runs that began with the same weights (one
            checkpoint and one `head_seed`, or a fitted head); or a study that kept its models.
        output_dir: Folder for the soup: an ordinary model, with its tokenizer.
        recipes: Of a study the runs of these alone.
        batch_size: Rows per forward pass.
        tell: Called with a line on what is being done.

    Returns:
        The scores of all sides, and where the soup lies.

    Raises:
        ConfigurationError: Models have no common start, are built differently, score other rows
            or were scored on others, or kept no weights.
        StudyError: `output_dir` holds something else.

    Example:
        >>> greedy_soup([], output_dir="soup")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: no members are named; name folders of runs, or a
        study

    Source: Wortsman et al. 2022 (arXiv:2203.05482), Recipe 1.
    """
    return _cook("greedy", runs, Path(output_dir), recipes, batch_size, tell or _say_nothing)


def uniform_soup(
    runs: Named | Iterable[Named],
    *,
    output_dir: str | Path,
    recipes: Sequence[str] | None = None,
    batch_size: int = 32,
    tell: Tell | None = None,
) -> Soup:
    """Averages the weights of all models; it may well be worse than the best of them, and says so.

    Of one model, or of equal ones, the weights are bit-equal to its own.

    Args:
        runs: As in `greedy_soup`.
        output_dir: Likewise.
        recipes: Likewise.
        batch_size: Likewise.
        tell: Likewise.

    Returns:
        The scores of all sides, and where the soup lies.

    Raises:
        ConfigurationError: As in `greedy_soup`.
        StudyError: `output_dir` holds something else.

    Source: Wortsman et al. 2022 (arXiv:2203.05482), section 2; for checkpoints of one run Izmailov
    et al. 2018 (arXiv:1803.05407).
    """
    return _cook("uniform", runs, Path(output_dir), recipes, batch_size, tell or _say_nothing)


def plan_soup(
    runs: Named | Iterable[Named],
    *,
    kind: str = "greedy",
    output_dir: str | Path | None = None,
    recipes: Sequence[str] | None = None,
    batch_size: int = 32,
) -> dict[str, Any]:
    """Returns what a soup would be made of, checked, and how often the rows would be scored.

    Args:
        runs: As in `greedy_soup`.
        kind: "greedy" or "uniform".
        output_dir: Folder that would be written; None: not looked at.
        recipes: As in `greedy_soup`.
        batch_size: Likewise.
    """
    taster, notes = _taster(runs, recipes, batch_size)
    if output_dir is not None:
        check_procedure(output_dir, KIND, _settings(kind, taster))
    members = len(taster.names)
    return {
        "members": list(taster.names),
        "metric": taster.metric,
        "validation_rows": taster.rows("validation"),
        "test_rows": taster.rows("test"),
        "passes": 2 * members - 1 if kind == "greedy" else members + 1,
        "notes": list(notes),
    }


def _taster(
    runs: Named | Iterable[Named], recipes: Sequence[str] | None, batch_size: int
) -> tuple[Taster, tuple[str, ...]]:
    """Returns the members with the rows that score them, and what was left out."""
    from hf_stabilizer.ensembling.tasting import Taster

    check_whole(batch_size, "of rows from 1 up", name="batch_size", least=1)
    found = find_candidates(runs, recipes=recipes)
    if bare := [one.name for one in found.candidates if not one.has_weights]:
        raise ConfigurationError(
            f"{len(bare)} of {len(found.candidates)} members kept no weights, {bare[0]!r} for "
            "instance: a study keeps the best model of each recipe unless it is told otherwise; "
            "run it with --keep-models, or name checkpoints"
        )
    return Taster.of(found.candidates, batch_size=batch_size), found.notes


def _settings(kind: str, taster: Taster) -> dict[str, Any]:
    return {
        "soup": kind,
        "members": [str(member.folder.resolve()) for member in taster.members],
        "weights": [of_weights(member.model_folder) for member in taster.members],
        "rows": taster.mark,
    }


def _cook(
    kind: str,
    runs: Named | Iterable[Named],
    folder: Path,
    recipes: Sequence[str] | None,
    batch_size: int,
    tell: Tell,
) -> Soup:
    taster, notes = _taster(runs, recipes, batch_size)
    procedure = open_procedure(folder, KIND, _settings(kind, taster))
    if procedure.is_over:
        return Soup.from_records(procedure.outcome, folder)
    kitchen = _Kitchen(folder, taster, tell)
    alone = [kitchen.score([place]) for place in range(len(taster.members))]
    up = greater_is_better(taster.metric)
    order = _best_first(alone, up)
    chosen = order if kind == "uniform" else _greedily(order, kitchen.score, up)
    score = kitchen.score(chosen)
    kitchen.serve(chosen)
    test = taster.judged(folder, best=order[0])
    soup = Soup(
        kind=kind,
        members=tuple(
            SoupMember(taster.names[place], alone[place], place in chosen) for place in order
        ),
        metric=taster.metric,
        greater_is_better=up,
        score=score,
        test_score=None if test is None else test.score,
        best_test_score=None if test is None else test.best,
        interval=None if test is None else test.interval,
        notes=notes,
        folder=folder,
    )
    procedure.ended(folder, **soup.to_records())
    return soup


def _best_first(scores: Sequence[float], up: bool) -> list[int]:
    """Returns places by score; one without a score comes last, and of equal ones the first first.

    Raises:
        ConfigurationError: None has a score.
    """
    if all(math.isnan(score) for score in scores):
        raise ConfigurationError(
            "no member has a score on the validation rows, each is not a number; choose another "
            "metric, or other members"
        )

    def rank(place: int) -> tuple[bool, float]:
        score = scores[place]
        return (True, 0.0) if math.isnan(score) else (False, -score if up else score)

    return sorted(range(len(scores)), key=rank)


def _greedily(order: Sequence[int], score: Callable[[Sequence[int]], float], up: bool) -> list[int]:
    """Returns the members whose mean does not score less with each of them (Recipe 1)."""
    chosen, best = [order[0]], score([order[0]])
    for place in order[1:]:
        found = score([*chosen, place])
        if found >= best if up else found <= best:
            chosen, best = [*chosen, place], found
    return chosen


class _Kitchen:
    """Writes means and scores them, each once."""

    def __init__(self, folder: Path, taster: Taster, tell: Tell):
        self._folder, self._taster, self._tell = folder, taster, tell
        path = folder / SCORES
        self._known: dict[str, float] = (
            json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        )

    def score(self, chosen: Sequence[int]) -> float:
        """Returns the score of the mean of some members on the validation rows."""
        key = "+".join(map(str, chosen))
        if key not in self._known:
            names = [self._taster.names[place] for place in chosen]
            self._tell(f"scoring {' + '.join(names)}")
            self._known[key] = self._taster.score(self._mean(chosen))
            write_atomically(self._folder / SCORES, json.dumps(self._known, indent=2))
        return self._known[key]

    def _mean(self, chosen: Sequence[int]) -> Path:
        from hf_stabilizer.ensembling.weight_means import write_mean

        models = [self._taster.members[place].model_folder for place in chosen]
        if len(models) == 1:
            return models[0]
        candidate = self._folder / ".candidate"
        write_mean(models, candidate)
        return candidate

    def serve(self, chosen: Sequence[int]) -> None:
        """Writes the mean of the chosen members as the model of the folder."""
        from hf_stabilizer.ensembling.origins import run_of
        from hf_stabilizer.ensembling.weight_means import write_mean

        members = [self._taster.members[place] for place in chosen]
        write_mean([member.model_folder for member in members], self._folder)
        run = run_of(members[0])
        if run is not None:
            shutil.copyfile(run / "configuration.yaml", self._folder / "configuration.yaml")
        shutil.rmtree(self._folder / ".candidate", ignore_errors=True)


def _say_nothing(line: str) -> None:
    """Where nobody listens."""
