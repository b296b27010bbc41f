"""What do the out-of-fold rows score? Per fold, all at once, by seed; and the mean on test rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hf_stabilizer.errors import StudyError
from hf_stabilizer.folds.files import parts_of
from hf_stabilizer.folds.outputs import Array, Kind, averaged, on_test_rows, out_of_fold
from hf_stabilizer.folds.planning import FoldPlan
from hf_stabilizer.folds.record import (
    OUT_OF_FOLD,
    OUT_OF_FOLD_RUNS,
    TEST_PREDICTIONS,
    CrossValidation,
    FoldScore,
    TestScore,
)
from hf_stabilizer.folds.tables import answer_columns, out_of_fold_table
from hf_stabilizer.metrics import greater_is_better
from hf_stabilizer.procedure import Procedure
from hf_stabilizer.studies.study import Study

# Any in this module: masks of rows.


def conclude(plan: FoldPlan, study: Study, procedure: Procedure, folder: Path) -> CrossValidation:
    """Writes and returns what came of the runs of all folds.

    Raises:
        StudyError: No run of a fold has predictions.
    """
    kind = Kind.of(plan)
    by_seed = out_of_fold(plan, study, kind)
    _check_complete(plan, study, by_seed)
    out_of_fold_table(plan, kind, averaged(by_seed)).to_parquet(folder / OUT_OF_FOLD, index=False)
    tables = [out_of_fold_table(plan, kind, one).assign(seed=seed) for seed, one in by_seed.items()]
    whole = pd.concat(tables, ignore_index=True)
    whole[_said(by_seed)].to_parquet(folder / OUT_OF_FOLD_RUNS, index=False)
    found = CrossValidation(
        metric=_deciding(plan),
        greater_is_better=greater_is_better(_deciding(plan)),
        choose_on=plan.choose_on,
        folds=tuple(_fold_score(plan, kind, by_seed, fold) for fold in range(len(plan.names))),
        pooled=kind.score(averaged(by_seed), plan.pool.labels),
        pooled_by_seed={
            str(seed): kind.score(one, plan.pool.labels)
            for seed, one in by_seed.items()
            if _answered(one).all()
        },
        test=_test_score(plan, study, kind, folder),
        notes=(*plan.cautions, *_failures(study)),
        folder=folder,
    )
    procedure.ended(folder, **found.to_records())
    return found


def _deciding(plan: FoldPlan) -> str:
    """The metric that decides; the loss is of a model, not of out-of-fold rows."""
    metric = plan.configuration.metric
    return metric if metric in plan.configuration.metrics else plan.configuration.metrics[0]


def _answered(probabilities: Array) -> Any:
    """Which rows have a prediction."""
    return ~np.isnan(probabilities).all(axis=1)


def _said(by_seed: Mapping[int, Array]) -> Any:
    return np.concatenate([_answered(one) for one in by_seed.values()])


def _check_complete(plan: FoldPlan, study: Study, by_seed: Mapping[int, Array]) -> None:
    """Raises StudyError if a fold has no predictions at all."""
    answered = np.zeros(len(plan.places), dtype=bool)
    for one in by_seed.values():
        answered |= _answered(one)
    for fold, name in enumerate(plan.names):
        if not answered[plan.rows_of(fold)].all():
            reasons = "; ".join(dict.fromkeys(run.reason for run in study.of(name) if run.reason))
            raise StudyError(
                f"no run of {name} has predictions ({reasons or 'none was kept'}), so its rows "
                "have no score; mend the cause and start again with retry_failed: the other folds "
                "are not repeated"
            )


def _failures(study: Study) -> list[str]:
    return [
        f"{run.recipe}, seed {run.seeds['seed']}: {run.reason}"
        for run in study.runs
        if run.status == "failed"
    ]


def _fold_score(plan: FoldPlan, kind: Kind, by_seed: Mapping[int, Array], fold: int) -> FoldScore:
    train, _, held_out = parts_of(plan, fold)
    labels = [plan.pool.labels[row] for row in held_out]
    scores = {
        str(seed): kind.score(one[held_out], labels)
        for seed, one in by_seed.items()
        if _answered(one[held_out]).all()
    }
    means = {
        name: float(np.mean([one[name] for one in scores.values()]))
        for name in next(iter(scores.values()))
    }
    return FoldScore(plan.names[fold], len(held_out), len(train), means, scores)


def _test_score(plan: FoldPlan, study: Study, kind: Kind, folder: Path) -> TestScore | None:
    """Writes the mean prediction for the test rows, and scores it beside those of each run."""
    test, metric = plan.pool.splits.test, _deciding(plan)
    by_run = on_test_rows(plan, study, kind)
    if test is None or not by_run:
        return None
    labels = list(test[str(plan.pool.splits.label_column)][:])
    mean = averaged(by_run)
    table = pd.DataFrame({"row": range(len(labels)), **answer_columns(kind, mean, labels)})
    table.to_parquet(folder / TEST_PREDICTIONS, index=False)
    single = {name: kind.score(one, labels)[metric] for name, one in by_run.items()}
    return TestScore(len(labels), kind.score(mean, labels), single)
