"""Which t, f and p for a budget: the advice by hand, its cautions, the page, the command."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from hf_stabilizer import Run, Study
from hf_stabilizer.cli import main
from hf_stabilizer.errors import ConfigurationError, DataError, StudyError
from hf_stabilizer.records import write_run
from hf_stabilizer.studies.plans.plan_page import render_plan, write_plan
from hf_stabilizer.studies.plans.plan_view import print_plan
from hf_stabilizer.studies.plans.study_plan import advice, cautions, flags, plan_from
from hf_stabilizer.studies.statistics import Curves, StudySettings, curves_of, plan_study
from hf_stabilizer.studies.statistics.planning import planning_curves
from hf_stabilizer.studies.study import run_folder, write_definition

Made = Callable[..., Study]


@pytest.fixture(scope="module")
def made() -> Made:
    """Runs of ten evaluations whose final order shows early; the seed decides their scores."""

    def make(
        count: int, *, noise: float = 0.004, greater_is_better: bool = True, stopped: int = 0
    ) -> Study:
        rng = np.random.default_rng(count)
        runs = []
        for seed in range(count):
            end = float(rng.normal(0.8, 0.03))
            points = [end - 0.2 * (1 - k / 10) + noise * float(rng.normal()) for k in range(1, 11)]
            scores = points if greater_is_better else [1 - s for s in points]
            best = max(scores) if greater_is_better else min(scores)
            runs.append(
                Run(
                    *("plain", {"seed": seed}, "finished", ""),
                    tuple((5 * k, {"f1": s}) for k, s in enumerate(scores, 1)),
                    *("f1", greater_is_better, best, scores[-1], scores[-1] - 0.01),
                    steps=50,
                )
            )
        for seed in range(count, count + stopped):
            early = replace(runs[0], seeds={"seed": seed}, status="stopped", test_score=None)
            runs.append(replace(early, evaluations=early.evaluations[:3], steps=15))
        return Study("demo", ("plain",), tuple(runs), "f1", greater_is_better)

    return make


# ---- the plan


def test_where_the_early_order_is_the_final_one_many_starts_pay(made: Made) -> None:
    found = plan_from(made(40, noise=0.0), 5)
    best = found.plan.recommended
    assert found.is_sure
    # With the final order known at .1 nothing is gained by looking later or keeping two.
    assert (best.settings.stop_at, best.settings.keep) == (0.1, 1)
    assert best.settings.runs == 40  # 41 fit into the budget, and 40 were finished
    assert [rank.spearman for rank in found.ranks] == pytest.approx([1.0] * 9)
    assert advice(found).startswith(
        "With a budget of 5 full runs start 40 runs, stop them at 0.1 of their steps and continue "
        "the best one: an expected f1 of 0."
    )
    assert [plan.budget for plan in found.over_budgets] == [2, 3, 5, 8]


def test_where_early_scores_say_nothing_none_is_stopped() -> None:
    rng = np.random.default_rng(1)
    final = rng.normal(0.8, 0.03, size=30)
    runs = tuple(
        Run(
            *("plain", {"seed": k}, "finished", ""),
            ((10, {"f1": 0.1}), (20, {"f1": float(end)})),
            metric="f1",
            best_score=float(end),
            steps=20,
        )
        for k, end in enumerate(final)
    )
    found = plan_from(Study("demo", ("plain",), runs, "f1", True), 6)
    assert found.plan.recommended.settings == StudySettings(6, 1.0, 6)
    expected = found.plan.plain.expected
    assert advice(found) == (
        f"With a budget of 6 full runs run 6 to the end: no way of stopping early has a better "
        f"expected f1 than their {expected:.3f}."
    )
    assert found.ranks[0].spearman is None
    assert flags(found.plan.recommended.settings) == "--runs 6"
    render_plan(found, name="demo")


def test_the_rule_is_held_against_the_best(made: Made) -> None:
    found = plan_from(made(30), 10)
    assert found.plan.dodge is not None
    assert found.plan.dodge.settings == StudySettings(25, 0.25, 5)
    # The runs were evaluated at .2 and .3: at .25 it is the score of .2 that counts.
    assert 0.25 not in [rank.fraction for rank in found.ranks]
    assert found.plan.recommended.expected >= found.plan.dodge.expected
    same = Curves((0.2, 0.25), *(np.zeros(shape) for shape in ((4, 2), 4, 4)), True)
    assert plan_study(same, 3, simulations=20, resamples=5).dodge is not None
    late = Curves((0.5,), *(np.zeros(shape) for shape in ((4, 1), 4, 4)), True)
    assert plan_study(late, 3, simulations=20, resamples=5).dodge is None


def test_no_setting_starts_more_runs_than_it_may(made: Made) -> None:
    curves = planning_curves(made(12).runs)
    options = plan_study(curves, 4, most_runs=12, simulations=20, resamples=5).options
    assert max(option.settings.runs for option in options) == 12
    assert all(option.cost <= 4 + 1e-9 for option in options)
    with pytest.raises(ConfigurationError, match=r"most_runs must be .*from 4 up.*got 3"):
        plan_study(curves, 4, most_runs=3)


@pytest.mark.parametrize("greater_is_better", [True, False])
def test_intervals_are_about_what_they_stand_beside(made: Made, greater_is_better: bool) -> None:
    plan = plan_from(made(25, greater_is_better=greater_is_better), 4).plan
    for option in plan.options:
        assert option.expected_interval is not None
        low, high = option.expected_interval
        assert low - 0.01 < option.expected < high + 0.01
        if option.error_reduction is not None and option.gain:
            assert option.error_interval is not None
            error = option.gain / option.error_reduction
            ends = [end / error for end in option.interval]
            assert list(option.error_interval) == pytest.approx(ends)


def test_the_number_of_runs_that_would_tell_by_hand(made: Made) -> None:
    plan = plan_from(made(6, noise=0.02), 3).plan
    gain, low = plan.recommended.gain, plan.recommended.interval.low
    assert low < 0 < gain, "the case that is meant"
    assert plan.runs_needed is not None
    # With so many runs the half width gain - low has shrunk to the gain itself.
    assert (gain - low) * (6 / plan.runs_needed) ** 0.5 <= gain
    assert (gain - low) * (6 / (plan.runs_needed - 1)) ** 0.5 > gain


# ---- words


def test_too_few_runs_are_said_to_be(made: Made) -> None:
    found = plan_from(made(6, noise=0.02), 3)
    assert not found.is_sure
    assert "this looks best: start" in advice(found)
    said = cautions(found)
    assert said[0].startswith("These 6 runs are too few to tell it from running all to the end")
    assert any(one.startswith("6 finished runs are few: the best of") for one in said)


def test_runs_that_survived_a_stop_are_no_ground_for_a_plan(made: Made) -> None:
    found = plan_from(made(30, stopped=50), 5)
    assert (found.plan.runs, found.plan.left_out) == (30, 50)
    assert not found.is_sure
    assert any(
        one.startswith("50 runs that were stopped early are left") for one in cautions(found)
    )
    tested = plan_from(made(30, stopped=2), 5, on_test=True)
    assert tested.plan.recommended.expected < plan_from(made(30), 5).plan.recommended.expected
    assert "2 runs are left out: stopped early, or without a test score." in cautions(tested)


def test_enough_runs_need_no_such_words(made: Made) -> None:
    found = plan_from(made(40, noise=0.0), 5)
    assert not any("few" in one or "left out" in one for one in cautions(found))


def test_what_cannot_be_planned(made: Made) -> None:
    study = made(6)
    with pytest.raises(ConfigurationError, match=r"budget must be a number of full runs"):
        plan_from(study, 0.5)
    with pytest.raises(ConfigurationError, match=r"recipe must be .*plain.*got 'plan'"):
        plan_from(study, 3, recipe="plan")
    with pytest.raises(DataError, match="a plan needs 3 whole runs with a score or more, got 2"):
        plan_from(made(2), 3)
    with pytest.raises(DataError, match=r"perfect must not be beaten by a score, got 0.5"):
        plan_from(study, 3, perfect=0.5)


# ---- terminal and page


def test_the_tables_fit_into_eighty_columns(made: Made) -> None:
    found = plan_from(made(20), 10)
    out = io.StringIO()
    print_plan(found, Console(file=out, width=80))
    said = out.getvalue()
    assert "…" not in said
    lines = [line.split() for line in said.splitlines() if line.strip()]
    assert ["dodge", "25", "0.25", "5"] in [line[:4] for line in lines]
    assert ["plain", "10", "-", "-"] in [line[:4] for line in lines]
    assert [line[0] for line in lines].count("10") == 1  # among the other budgets


def test_the_page_is_whole_and_loads_nothing(made: Made, tmp_path: Path) -> None:
    found = plan_from(made(12), 4)
    page = write_plan(found, tmp_path / "a" / "plan.html", name="<demo>", command="x --budget 5")
    text = page.read_text("utf-8")
    assert "<demo>" not in text
    assert "&lt;demo&gt;" in text
    assert text.count("<svg") == 2
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", text)
    for anchor in ("settings", "budgets", "ranking", "cautions", "again", "method"):
        assert f'id="{anchor}"' in text
    for plan in found.over_budgets:
        assert f'data-value="{plan.budget:.10g}"' in text
    assert flags(found.plan.recommended.settings) in text
    assert text == render_plan(found, name="<demo>", command="x --budget 5")
    with pytest.raises(StudyError, match=r"is a folder; name the file to write"):
        write_plan(found, tmp_path, name="demo")


@pytest.fixture
def folder(made: Made, tmp_path: Path) -> Path:
    """A study of two recipes on disk."""
    study = made(8)
    others = tuple(replace(run, recipe="swa") for run in study.runs[:4])
    both = replace(study, recipes=("plain", "swa"), runs=(*study.runs, *others))
    folder = tmp_path / "s"
    folder.mkdir()
    write_definition(both, folder)
    for run in both.runs:
        write_run(run, run_folder(folder, run.recipe, run.name) / "run.json")
    return folder


def test_the_command_prints_and_writes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["plan-study", str(folder), "--budget", "3"])
    out = capsys.readouterr().out
    assert "With a budget of 3 full runs" in out
    assert f"Page: {folder / 'plan.html'}" in out.replace("\n", "")
    assert "8 runs of plain" in (folder / "plan.html").read_text("utf-8")


def test_json_alone_on_standard_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["plan-study", str(folder), "--budget", "3", "--recipe", "swa", "--on_test", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["recipe"], found["runs"], found["on_test"]) == ("swa", 4, True)
    best = found["recommended"]
    assert best == found["options"][0]
    assert {"runs", "stop_at", "keep", "cost", "expected", "gain", "interval"} <= set(best)
    assert not (folder / "plan.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--budget"),
        (("--budget", "0"), "budget must be a number of full runs, 1 or more, got 0"),
        (("--budget", "3", "--recipe", "plan"), "got 'plan' (did you mean plain?)"),
        (("--budget", "3", "--runs", "3"), "takes no --runs"),
    ],
    ids=" ".join,
)
def test_refusals(
    folder: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan-study", str(folder), *words])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_one_run_is_one_run(made: Made) -> None:
    tied = plan_from(made(12), 1)
    assert advice(tied).startswith("With a budget of 1 full run ")
    assert "1 runs" not in f"{advice(tied)} {' '.join(cautions(tied))}"
    assert "best of 1 settings" not in " ".join(cautions(tied))
    one_stopped = " ".join(cautions(plan_from(made(30, stopped=1), 5)))
    assert "1 run that was stopped early is left out, as its end is not known" in one_stopped


def test_a_run_that_tells_no_step_foretells_nothing() -> None:
    """Of which results alone are left: its score is that of its end, not of its beginning."""
    runs = [
        Run("plain", {"seed": s}, "finished", metric="f1", steps=20, best_score=s / 10,
            evaluations=((5, {"f1": s / 20}), (20, {"f1": s / 10})))
        for s in (1, 2, 3)
    ]  # fmt: skip
    late = Run("plain", {"seed": 4}, "finished", metric="f1", evaluations=((0, {"f1": 0.9}),))
    curves = curves_of([*runs, late])
    assert curves.fractions == (0.25,)
    assert np.isnan(curves.so_far[3, 0])
    assert curves.final[3] == 0.9
