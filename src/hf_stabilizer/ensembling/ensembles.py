r"""Is the mean of several models better than the best of them, and how sure is that?

members --gathering--> answers for the same rows --combining--> the ensemble's answers
\______________________ judging: scores, interval _____/

OUTPUT/procedure.json         members, how they were combined, what came of it
OUTPUT/predictions.parquet    what the ensemble says of each row
OUTPUT/members/               what members said that were asked anew
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hf_stabilizer.ensembling.candidates import Named
from hf_stabilizer.ensembling.combining import Array, checked_weights
from hf_stabilizer.ensembling.combining import (
    combine as combined,
)
from hf_stabilizer.ensembling.ensemble_record import Ensemble, EnsembleMember
from hf_stabilizer.ensembling.gathering import Answers, without_lost
from hf_stabilizer.ensembling.judging import Judge, judge_of, paired_interval
from hf_stabilizer.ensembling.predicted import prediction_columns
from hf_stabilizer.ensembling.question import KIND, question_of, ready_runs
from hf_stabilizer.ensembling.voices import Rows, gather
from hf_stabilizer.metrics import greater_is_better, metric_name
from hf_stabilizer.procedure import Procedure, open_procedure

if TYPE_CHECKING:
    from datasets import Dataset

# Any in this module: labels of whatever kind the task has.
PREDICTIONS = "predictions.parquet"


def ensemble(
    runs: Named | Iterable[Named],
    *,
    combine: str = "mean_probability",
    weights: Sequence[float] | None = None,
    recipes: Sequence[str] | None = None,
    part: str | None = None,
    file: str | Path | None = None,
    rows: Dataset | pd.DataFrame | None = None,
    label_column: str | None = None,
    metric: str | None = None,
    batch_size: int = 32,
    output_dir: str | Path | None = None,
    tell: Callable[[str], None] | None = None,
) -> Ensemble:
    """Combines the answers of several models, and judges them beside each member.

    Members are asked only where their runs do not hold the answers already (`predictions.npz`); of
    a study that is enough, though it keeps the weights of few runs. With an `output_dir` each
    member is asked once: killed and started again it goes on with the next.

    Weights are fitted on out-of-fold rows alone, so `combine="weighted"` without `weights` takes
    folders of cross-validations, each of another configuration over the same folds; where they
    bring test predictions these judge, else the out-of-fold rows do, each by weights that were
    fitted without its fold. The rows that chose a run's weights fit none.

    Args:
        runs: Folders of runs, of a study, of checkpoints or models, of cross-validations; or
            studies as records.
        combine: "mean_probability", "mean_logit", "rank_mean" or "weighted" (see
            `hf_stabilizer.ensembling.combining` for the formulas). Mean ranks forget how frequent
            a class is; for numbers only rank correlations can judge them.
        weights: One for each member, with "weighted": those of one's own.
        recipes: Of a study the runs of these alone.
        part: "test" or "validation"; None: the test rows where there are any.
        file: Rows to judge on instead, in any format that a configuration can name.
        rows: The same, in memory.
        label_column: Column of the right answers of `file` or `rows`; None: as the runs'
            configuration says; without it nothing is judged.
        metric: Name of the score; None: that of the first member's run.
        batch_size: Rows per forward pass, where members are asked.
        output_dir: Folder for the record and the predictions; None: nothing is written.
        tell: Called with a line on what is being done.

    Returns:
        Scores of the members and of the ensemble on the same rows, predictions row by row, and the
        difference from the best member with its interval.

    Raises:
        ConfigurationError: Members do not go together (another task, classes, head or rows), one
            has neither answers nor weights, one diverged, or options clash.
        DataError: The rows are not as they must be.
        StudyError: A record cannot be read, or `output_dir` holds something else.

    Example:
        >>> ensemble("results/rt", combine="median")
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: combine must be one of mean_probability,
        mean_logit, rank_mean, weighted, got 'median'

    Source: bagging of seeds as in Dietterich 2000, Ensemble Methods in Machine Learning; weights
    as in Breiman 1996, Stacked Regressions.
    """
    question = question_of(
        runs,
        combine=combine,
        weights=weights,
        recipes=recipes,
        rows=Rows(file, rows, part, label_column),
        metric=metric,
        batch_size=batch_size,
    )
    folder = None if output_dir is None else Path(output_dir)
    if question.is_of_folds:
        from hf_stabilizer.ensembling.out_of_fold import ensemble_of_folds

        return ensemble_of_folds(question, folder)
    ready = ready_runs(question)
    candidates = ready.found.candidates
    procedure = None if folder is None else open_procedure(folder, KIND, ready.settings)
    answers = gather(
        candidates,
        ready.prepared,
        batch_size=batch_size,
        folder=None if folder is None else folder / "members",
        tell=tell or _say_nothing,
    )
    result = judged(
        without_lost(answers),
        [one.run.best_score if one.run is not None else None for one in candidates],
        combine=combine,
        weights=weights,
        metric=ready.metric,
        notes=ready.found.notes,
        folder=folder,
    )
    if procedure is not None:
        write(result, procedure)
    return result


def judged(
    answers: Answers,
    validation_scores: Sequence[float | None],
    *,
    combine: str,
    weights: Sequence[float] | None,
    metric: str,
    notes: Sequence[str] = (),
    folder: Path | None = None,
    together: Array | None = None,
) -> Ensemble:
    """Combines answers and scores all sides on the same rows.

    Args:
        answers: Of all members.
        validation_scores: Of the members, as their runs have them.
        combine: How they are combined.
        weights: With "weighted".
        metric: Name of the score.
        notes: What to keep in mind already.
        folder: Where it will be written.
        together: What the ensemble says, where it is not `combine` of the answers.
    """
    judge = judge_of(metric, answers.kind, combine=combine)
    found = together
    if found is None:
        found = combined(answers.outputs, answers.kind, how=combine, weights=weights)
    alone = [
        combined(outputs[None], answers.kind, how="rank_mean" if combine == "rank_mean" else
                 "mean_probability")
        for outputs in answers.outputs
    ]  # fmt: skip
    scores = [_score(judge, each, answers) for each in alone]
    shares = _shares(combine, weights, len(alone))
    name = metric if metric == "loss" else metric_name(metric)
    up = greater_is_better(name)
    members = tuple(
        EnsembleMember(member, score, known, share)
        for member, score, known, share in zip(
            answers.names, scores, validation_scores, shares, strict=True
        )
    )
    difference, interval = None, None
    if answers.labels is not None:
        known = [score for score in scores if score is not None]
        first = int(np.argmax(known) if up else np.argmin(known))
        difference = judge(found, answers.labels) - known[first]
        interval = paired_interval(found, alone[first], answers.labels, judge)
    result = Ensemble(
        members=members,
        combine=combine,
        part=answers.part,
        metric=name,
        greater_is_better=up,
        score=_score(judge, found, answers),
        difference=difference,
        interval=interval,
        predictions=_table(found, answers),
        notes=(*notes, *_caution(answers, combine)),
        folder=folder,
    )
    best, chosen = result.best, result.chosen
    if best is None or chosen is None or best is chosen:
        return result
    told = f"the best member is so with hindsight: by validation {chosen.name!r} would be chosen"
    return replace(result, notes=(*result.notes, told))


def _score(judge: Judge, found: Array, answers: Answers) -> float | None:
    return None if answers.labels is None else judge(found, answers.labels)


def _shares(combine: str, weights: Sequence[float] | None, members: int) -> Sequence[float | None]:
    if combine == "rank_mean":
        return [None] * members
    if weights is None:
        return [1 / members] * members
    return [float(weight) for weight in checked_weights(weights, members)]


def _caution(answers: Answers, combine: str) -> list[str]:
    notes = []
    if answers.part == "validation":
        notes.append(
            "the validation rows chose the weights of the members, so all scores on them are too "
            "good; test rows judge"
        )
    if combine == "rank_mean":
        notes.append(
            "ranks depend on the rows that are ranked together: one row by itself has none, and "
            "each class comes out about as often as any other"
        )
    return notes


def _table(found: Array, answers: Answers) -> pd.DataFrame:
    predicted = prediction_columns(found, answers.kind, answers.label_names)
    if answers.labels is not None:
        predicted.insert(0, "label", _label_words(answers))
    return predicted


def _label_words(answers: Answers) -> list[Any]:
    names, labels = answers.label_names, answers.labels
    assert labels is not None
    if answers.kind == "regression" or names is None:
        return list(labels.tolist())
    if labels.ndim == 2:
        return [[names[place] for place in np.flatnonzero(row)] for row in labels]
    return [names[int(place)] for place in labels]


def write(result: Ensemble, procedure: Procedure) -> None:
    """Writes the record and the predictions into the folder of the result."""
    assert result.folder is not None
    temporary = result.folder / f".{PREDICTIONS}.tmp"
    result.predictions.to_parquet(temporary)
    temporary.replace(result.folder / PREDICTIONS)
    procedure.ended(result.folder, **result.to_records())


def _say_nothing(line: str) -> None:
    """Where nobody listens."""
