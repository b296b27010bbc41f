"""Which rows and which weights the scores of a study are from: every case says its own words."""

from __future__ import annotations

from typing import Any

import pytest

from hf_stabilizer import Run
from hf_stabilizer.studies.scored_on import scored_on

LAST = {"load_best_model_at_end": False}
BEST = {"load_best_model_at_end": True}
ABSENT = {"save_strategy": "no"}  # so the Trainer's own default holds, which loads none


def run(test: float | None = None, **configuration: Any) -> Run:
    return Run(
        "plain", {}, "finished", best_score=0.8, test_score=test, configuration=configuration
    )


@pytest.mark.parametrize(
    ("runs", "weights"),
    [
        ([run(0.7, **BEST), run(0.7)], "the weights that validation chose."),
        ([run(0.7, **LAST), run(0.7, **ABSENT)], "the last weights of each run."),
        ([run(0.7, **LAST), run(0.7, **BEST)], "the weights that each run kept, of some the last"),
        ([run(0.7, folder="f", **LAST)], "as each script left its model"),
    ],
)
def test_on_test_rows_the_weights_are_told(runs: list[Run], weights: str) -> None:
    said = scored_on(runs)
    assert said.startswith("Scores are on the test rows, ")
    assert weights in said


def test_a_mixture_of_rows_is_a_caution() -> None:
    assert scored_on([run(0.7), run()]).startswith("Scores of 1 of 2 runs are on the test rows")


def test_the_best_on_validation_rows_may_be_of_weights_that_were_not_kept() -> None:
    chosen, lost = scored_on([run(**BEST)]), scored_on([run(**BEST), run(**LAST)])
    assert chosen.startswith("Scores are the best of each run on the validation rows.")
    assert lost.startswith(chosen)
    assert "may score less with them than at their best" in lost.removeprefix(chosen)


def test_a_study_in_which_nothing_was_scored_says_nothing_of_last_weights() -> None:
    assert "last weights" not in scored_on([Run("plain", {}, "failed", configuration=LAST)])
