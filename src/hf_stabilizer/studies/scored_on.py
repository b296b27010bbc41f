"""Which rows are the scores of a study from, and which weights were scored? In one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from hf_stabilizer.records import Run
from hf_stabilizer.studies.kept_weights import keeps_last
from hf_stabilizer.studies.statistics import final_score


def scored_on(runs: Sequence[Run]) -> str:
    """Returns a sentence about the rows that the scores are from.

    Example:
        >>> from hf_stabilizer import Run
        >>> keys = {"load_best_model_at_end": False}
        >>> run = Run("plain", {}, "finished", test_score=0.7, configuration=keys)
        >>> scored_on([run])
        'Scores are on the test rows, with the last weights of each run.'
    """
    scored = [run for run in runs if final_score(run) is not None]
    tested = [run for run in scored if run.test_score is not None]
    if scored and len(tested) == len(scored):
        return _on_test_rows(scored)
    if tested:
        return (
            f"Scores of {len(tested)} of {len(scored)} runs are on the test rows, the others the "
            "best on the validation rows, which is optimistic: compare them with care."
        )
    return (
        "Scores are the best of each run on the validation rows. As the best of several looks, "
        "they are a little optimistic, alike for every recipe that is evaluated equally often."
        f"{_of_last_weights(scored)}"
    )


def _on_test_rows(runs: Sequence[Run]) -> str:
    if any("folder" in run.configuration for run in runs):
        return (
            "Scores are on the test rows, as each script left its model: the best by validation "
            "where it loaded that at the end, else the last."
        )
    weights = {
        frozenset([False]): "weights that validation chose",
        frozenset([True]): "last weights of each run",
    }.get(
        frozenset(keeps_last(run.configuration) for run in runs),
        "weights that each run kept, of some the last, of others those that validation chose",
    )
    return f"Scores are on the test rows, with the {weights}."


def _of_last_weights(runs: Sequence[Run]) -> str:
    if not any(keeps_last(run.configuration) for run in runs):
        return ""
    return (
        " Runs that keep their last weights may score less with them than at their best: "
        "`hf-stabilizer compare` takes the score of the weights that were kept."
    )
