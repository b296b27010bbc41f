"""Which rows does each fold hand to its runs? Files, and the configuration keys that read them.

choose_on    training file             validation file             test file
nothing      the other folds           the fold                    the test rows
fold         the other folds           the fold                    the test rows
inner        most of the other folds   the rest of them            the fold
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hf_stabilizer.data import write_splits
from hf_stabilizer.data.labels import strata_of
from hf_stabilizer.data.splitting import grouped_sample, stratified_sample
from hf_stabilizer.data.writing import spelled_out, write_parquet
from hf_stabilizer.errors import DataError
from hf_stabilizer.folds.planning import FoldPlan

# Any in this module: values of configuration keys.
_STREAM = 6  # One of its own among the streams of random numbers that divide rows.


def write_folds(plan: FoldPlan, folder: str | Path) -> dict[str, dict[str, Any]]:
    """Writes the rows of every fold, and returns the settings of each as a member.

    Args:
        plan: What `plan_folds` returned.
        folder: Folder for the files.

    Raises:
        DataError: The rows are too few for an inner choice.
    """
    folder = Path(folder)
    return {name: _write(plan, fold, folder / name) for fold, name in enumerate(plan.names)}


def parts_of(plan: FoldPlan, fold: int) -> tuple[list[int], list[int], list[int]]:
    """Returns the places in the pool of a fold's training, inner and held-out rows.

    Raises:
        DataError: The rows are too few for an inner choice.
    """
    held_out = plan.rows_of(fold)
    others = [row for row, place in enumerate(plan.places) if place != fold]
    inner = _inner(plan, others, fold) if plan.choose_on == "inner" else []
    chosen = set(inner)
    return [row for row in others if row not in chosen], inner, held_out


def _write(plan: FoldPlan, fold: int, folder: Path) -> dict[str, Any]:
    train, inner, held_out = parts_of(plan, fold)
    splits, groups = plan.pool.splits, plan.pool.groups
    rows = splits.train
    own = replace(
        splits,
        train=rows.select(train),
        validation=rows.select(inner or held_out),
        test=rows.select(held_out) if inner else None,
        unlabelled=None,
        groups=None if groups is None else tuple(str(groups[row]) for row in train),
    )
    keys = write_splits(own, folder)
    if not inner and splits.test is not None:
        keys["test_file"] = str(_test_file(plan, folder.parent))
    return {**keys, **_choosing(plan)}


def _test_file(plan: FoldPlan, folder: Path) -> Path:
    """Writes the test rows once for all folds."""
    path = folder.resolve() / "test.parquet"
    if not path.exists():
        assert plan.pool.splits.test is not None
        write_parquet(spelled_out(plan.pool.splits.test, plan.pool.splits), path)
    return path


def _choosing(plan: FoldPlan) -> dict[str, Any]:
    """Returns the keys that keep the last weights, evaluated once more when they are there."""
    if plan.choose_on != "nothing":
        return {}
    often = plan.configuration.values.get("evaluations_per_epoch") or 1
    return {
        "load_best_model_at_end": False,
        "save_strategy": "no",
        "evaluations_per_epoch": often,
    }


def _inner(plan: FoldPlan, others: Sequence[int], fold: int) -> list[int]:
    labels = [plan.pool.labels[row] for row in others]
    strata = strata_of(labels, task=plan.configuration.model.task)
    size = max(1, round(plan.inner_size * len(others)))
    if size > len(others) - len(set(strata)):
        raise DataError(
            f"{size} rows cannot be taken from the {len(others)} training rows of "
            f"{plan.names[fold]} with a row per label left to learn from; set a smaller "
            "inner_size, or another choose_on"
        )
    seed = [plan.configuration.data.split_seed, _STREAM, fold]
    if plan.pool.groups is None:
        drawn = stratified_sample(strata, size, seed=seed, leave_one=True)
    else:
        groups = [str(plan.pool.groups[row]) for row in others]
        if len(set(groups)) < 2:
            raise DataError(
                f"the training rows of {plan.names[fold]} are of one group, from which no rows "
                "can be taken to choose; set another choose_on"
            )
        drawn = grouped_sample(groups, strata, size, seed=seed)
    return [others[place] for place in drawn]
