"""Are finished runs of any procedure set side by side, with what differs and nothing else?"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hf_stabilizer import ConfigurationError, Run, StudyError, compare_runs
from hf_stabilizer.cli import main
from hf_stabilizer.procedure import open_procedure
from hf_stabilizer.records import write_run
from hf_stabilizer.studies.runs_compared.page import render
from hf_stabilizer.studies.runs_compared.view import print_comparison
from hf_stabilizer.studies.study import Study, write_definition

Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the record of a run."""

    def write(folder: str, score: float | None, seed: int = 1, **settings: Any) -> None:
        run = Run(
            settings.pop("recipe", "plain"),
            {"seed": seed},
            settings.pop("status", "finished"),
            metric=settings.pop("metric", "accuracy"),
            greater_is_better=settings.pop("greater_is_better", True),
            best_score=score,
            test_score=settings.pop("test_score", None),
            last_score=settings.pop("last_score", None),
            evaluations=settings.pop("evaluations", ()),
            steps=settings.pop("steps", 0),
            configuration={"learning_rate": 1e-4, "output_dir": folder, "seed": seed, **settings},
        )
        write_run(run, tmp_path / folder / "run.json")

    return write


def test_only_settings_that_differ_are_told_and_neither_seeds_nor_folders(
    write: Write, tmp_path: Path
) -> None:
    write("a", 0.5, seed=1, weight_decay=0.0)
    write("b", 0.7, seed=2, weight_decay=0.1)
    assert compare_runs(tmp_path).differing == ("weight_decay",)


def test_by_hand_matched_runs_tell_an_effect_that_means_over_all_runs_hide(
    write: Write, tmp_path: Path
) -> None:
    # With max_steps 10 the larger rate gains .1 twice; the third run at 2e-4 has fewer steps.
    write("a", 0.80, seed=1, learning_rate=1e-4, max_steps=10)
    write("b", 0.82, seed=2, learning_rate=1e-4, max_steps=10)
    write("c", 0.90, seed=1, learning_rate=2e-4, max_steps=10)
    write("d", 0.92, seed=2, learning_rate=2e-4, max_steps=10)
    write("e", 0.30, seed=1, learning_rate=2e-4, max_steps=1)
    found = compare_runs(tmp_path)
    assert set(found.factors) == {("learning_rate",), ("max_steps",)}
    by_value = {effect.value: effect for effect in found.effects(["learning_rate"])}
    lower, upper = by_value["0.0001",], by_value["0.0002",]
    assert upper.against is None  # it has the most runs
    assert lower.differences == pytest.approx((-0.1, -0.1))
    assert lower.mean_difference == pytest.approx(-0.1)
    assert lower.p_value == 0.5  # two pairs: 2 of 4 signs
    assert upper.mean == pytest.approx((0.90 + 0.92 + 0.30) / 3)


def test_settings_that_change_together_are_one_factor(write: Write, tmp_path: Path) -> None:
    write("a", 0.5)
    write("b", 0.6, averaging="swa", averaging_start=0.5)
    write("c", 0.7, averaging="swa", averaging_start=0.5, weight_decay=0.1)
    found = compare_runs(tmp_path)
    assert found.factors == (("averaging", "averaging_start"), ("weight_decay",))
    second = found.effects(("averaging", "averaging_start"))
    assert {one.value for one in second} == {("(default)",) * 2, ("swa", "0.5")}


def test_groups_come_with_the_best_mean_first_in_the_metric_s_own_direction(
    write: Write, tmp_path: Path
) -> None:
    for folder, score, rate in (("a", 0.9, 1e-4), ("b", 0.7, 1e-4), ("c", 0.6, 2e-4)):
        options = {"metric": "rmse", "greater_is_better": False, "learning_rate": rate}
        write(folder, score, seed=ord(folder), **options)
    groups = compare_runs(tmp_path).groups
    assert [(g.values, g.mean, len(g.runs)) for g in groups] == [
        (("0.0002",), 0.6, 1),
        (("0.0001",), pytest.approx(0.8), 2),
    ]


def test_runs_know_which_procedure_made_them(write: Write, tmp_path: Path) -> None:
    open_procedure(tmp_path / "labels", "pseudo-label", {"threshold": 0.9})
    write("labels/study/runs/control/s1", 0.5)
    write("alone", 0.6)
    found = compare_runs([tmp_path / "labels", tmp_path / "alone"])
    assert found.differing == ("procedure",)
    assert [one.procedure for one in found.runs] == ["pseudo-label", "train"]


def test_files_of_the_same_rows_are_the_same_setting(write: Write, tmp_path: Path) -> None:
    """Each cross-validation writes its folds anew: its runs match those of another one."""
    for name, rate, gain in (("one", 1e-4, 0.0), ("two", 2e-4, 0.1)):
        for fold in (1, 2):
            rows = tmp_path / name / f"fold{fold}.parquet"
            rows.parent.mkdir(exist_ok=True)
            rows.write_bytes(bytes([fold]) * 9)
            keys = {"train_file": str(rows), "learning_rate": rate, "recipe": f"fold{fold}"}
            write(f"{name}/{fold}", 0.5 + 0.01 * fold + gain, **keys)
    found = compare_runs(tmp_path)
    assert found.factors == (("learning_rate",), ("train_file",))
    other = found.effects(["learning_rate"])[1]
    assert other.differences == pytest.approx((0.1, 0.1))


def test_scores_of_test_rows_beside_those_of_validation_rows_are_told_of(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("a", 0.9, test_score=0.7)
    write("b", 0.8, weight_decay=0.1)
    found = compare_runs(tmp_path)
    assert found.cautions[0].startswith("the scores of 1 of 2 runs are of test rows")
    assert found.scored_on.startswith("scores: 1 of test rows; 1 of validation rows")
    assert "they do not compare" in render(found)
    main(["compare", str(tmp_path)])
    assert "Note: the scores of 1 of 2 runs" in capsys.readouterr().out
    assert compare_runs(tmp_path / "a").cautions == compare_runs(tmp_path / "b").cautions == ()


def test_a_moved_cross_validation_still_has_the_rows_of_its_folds(
    write: Write, tmp_path: Path
) -> None:
    for name, rate in (("one", 1e-4), ("two", 2e-4)):
        rows = tmp_path / name / "rows" / "fold1" / "train.parquet"
        rows.parent.mkdir(parents=True)
        rows.write_bytes(b"the same rows")
        keys = {"train_file": str(rows), "learning_rate": rate, "recipe": "fold1"}
        write(f"{name}/study/runs/fold1/seed1", 0.5 + 1000 * rate, **keys)
        asked = {"fold1": {"train_file": "../rows/fold1/train.parquet"}}
        study = Study("study", ("fold1",), (), "accuracy", True, recipe_settings=asked)
        write_definition(study, tmp_path / name / "study")
    (tmp_path / "two").rename(tmp_path / "moved")
    found = compare_runs([tmp_path / "one", tmp_path / "moved"])
    assert found.factors == (("learning_rate",),)
    assert found.effects(["learning_rate"])[1].differences == pytest.approx((0.1,))


LOOKS = (
    (5, {"accuracy": 0.8, "loss": 0.9}),
    (7, {"accuracy": 0.6, "loss": 0.3}),
    (9, {"accuracy": 0.7, "loss": 0.4}),
)
LAST = {"save_strategy": "no", "load_best_model_at_end": False}
BEST = {"save_strategy": "best", "load_best_model_at_end": True}


@pytest.mark.parametrize(
    ("keys", "metric", "score", "rows"),
    [
        (LAST, "accuracy", 0.7, "last"),
        ({"save_strategy": "steps"}, "accuracy", 0.7, "last"),  # the Trainer loads none by itself
        (BEST, "accuracy", 0.8, "best"),
        ({}, "accuracy", 0.8, "best"),  # nothing is known of it
        (LAST, "loss", 0.4, "last"),
        (BEST, "loss", 0.9, "best"),  # of the weights that accuracy chose
        ({**BEST, "metric_for_best_model": "eval_loss", "greater_is_better": False},
         "accuracy", 0.6, "best"),
        ({**LAST, "test_score": 0.5}, "accuracy", 0.5, "test"),
        ({**LAST, "test_score": 0.5}, "loss", 0.4, "last"),
    ],
)  # fmt: skip
def test_by_hand_the_score_is_that_of_the_weights_that_were_kept(
    keys: dict[str, Any], metric: str, score: float, rows: str, tmp_path: Path
) -> None:
    options = {k: v for k, v in keys.items() if k != "test_score"}
    run = Run(
        "plain",
        {"seed": 1},
        "finished",
        evaluations=LOOKS,
        metric="accuracy",
        best_score=0.8,
        last_score=0.7,
        test_score=keys.get("test_score"),
        steps=9,
        configuration=options,
    )
    write_run(run, tmp_path / "run.json")
    found = compare_runs(tmp_path, metric=metric)
    assert [(one.score, one.scored_on) for one in found.runs] == [(score, rows)]
    assert found.to_records()[0]["scored_on"] == rows
    assert found.cautions == ()


def test_the_header_says_which_weights_were_scored(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("a/1", 0.9, last_score=0.8, weight_decay=0.1, **LAST)
    write("a/2", 0.9, last_score=0.7, seed=2, weight_decay=0.1, **LAST)
    words = "the last weights of each run, which it kept"
    main(["compare", str(tmp_path / "a")])
    shown = " ".join(capsys.readouterr().out.split())
    assert f"scores are of validation rows, {words}" in shown
    assert "0.750" in shown  # the mean of both
    assert words in render(compare_runs(tmp_path / "a"))
    main(["compare", str(tmp_path / "a"), "--json"])
    assert words in json.loads(capsys.readouterr().out)["scored_on"]

    write("b/1", 0.9, last_score=0.8, **BEST)
    mixed = compare_runs(tmp_path)
    assert mixed.scored_on.startswith("scores: 1 of validation rows, the best weights")
    assert "1 run kept the best weights of several looks" in mixed.cautions[0]


def test_weights_that_were_never_evaluated_are_told_of(write: Write, tmp_path: Path) -> None:
    write("a", 0.8, last_score=0.7, evaluations=LOOKS, steps=20, **LAST)
    assert "trained on after its last evaluation" in compare_runs(tmp_path).cautions[0]


def test_a_run_that_is_named_twice_counts_once(write: Write, tmp_path: Path) -> None:
    write("a", 0.5)
    assert len(compare_runs([tmp_path, tmp_path / "a"]).runs) == 1


def test_runs_without_a_score_are_named_and_stopped_ones_have_none(
    write: Write, tmp_path: Path
) -> None:
    write("a", 0.5)
    write("b", None, status="failed")
    write("c", 0.9, status="stopped")
    found = compare_runs(tmp_path)
    assert [one.score for one in found.runs] == [0.5]
    assert sorted(text.rpartition("/")[2] for text in found.left_out) == [
        "b: failed, without a score",
        "c: stopped, without a score",
    ]


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (None, "judged by different metrics (accuracy, f1)"),
        ("acuracy", "no run has the metric 'acuracy' (did you mean accuracy?)"),
    ],
)
def test_an_open_metric_is_refused(
    write: Write, tmp_path: Path, metric: str | None, message: str
) -> None:
    write("a", 0.5)
    write("b", 0.6, metric="f1")
    with pytest.raises(ConfigurationError) as error:
        compare_runs(tmp_path, metric=metric)
    assert message in str(error.value)


def test_folders_without_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="there is no folder"):
        compare_runs(tmp_path / "nowhere")
    with pytest.raises(StudyError):
        compare_runs(tmp_path)


def test_runs_of_any_trainer_are_read_too(tmp_path: Path) -> None:
    for seed, score in ((1, 0.7), (2, 0.9)):
        folder = tmp_path / f"plain-seed-{seed}"
        folder.mkdir()
        log = [{"step": 9, "eval_f1": score}]
        state = {"global_step": 9, "max_steps": 9, "log_history": log}
        (folder / "trainer_state.json").write_text(json.dumps(state))
    found = compare_runs(tmp_path, metric="f1")
    assert [one.score for one in found.runs] == [0.7, 0.9]


def test_the_command_writes_page_and_table_and_escapes_what_it_shows(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("a", 0.5, note="[bold]<b>")
    write("b", 0.6, note="plain")
    page, lines = tmp_path / "out" / "page.html", tmp_path / "runs.csv"
    main(["compare", str(tmp_path), "--output", str(page), "--csv", str(lines)])
    shown = capsys.readouterr().out
    assert "[bold]<b>" in shown
    assert "2 runs by accuracy, greater is better" in " ".join(shown.split())
    text = page.read_text(encoding="utf-8")
    assert "[bold]&lt;b&gt;" in text
    assert "http" not in text.replace("http-equiv", "")
    assert lines.read_text().splitlines()[0] == "folder,note,seed,metric,score,scored_on"


def test_the_command_speaks_to_machines(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("a", 0.5)
    write("b", 0.6, max_steps=3)
    main(["compare", str(tmp_path), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["metric"], told["differing"]) == ("accuracy", ["max_steps"])
    assert [run["score"] for run in told["runs"]] == [0.5, 0.6]


def test_many_settings_stand_in_one_column(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("a", 0.5)
    write("b", 0.6, **{f"key_{number}": number for number in range(7)})
    main(["compare", str(tmp_path)])
    assert "key_0=0, key_1=1" in capsys.readouterr().out


def test_runs_that_differ_in_nothing_are_shown_as_well(write: Write, tmp_path: Path) -> None:
    write("a", 0.5, seed=1)
    write("b", 0.6, seed=2)
    found = compare_runs(tmp_path)
    assert found.factors == ()
    assert "No setting differs; only seeds do." in render(found)


def test_many_settings_are_told_below_where_the_terminal_is_narrow(
    write: Write, tmp_path: Path
) -> None:
    settings = {f"a_setting_with_a_long_name_{number}": number for number in range(6)}
    write("a", 0.5, **settings)
    write("b", 0.6, **settings | {"a_setting_with_a_long_name_3": 77})
    write("c", 0.7, **settings)
    write("d", 0.8)
    out = io.StringIO()
    print_comparison(compare_runs(tmp_path), Console(file=out, width=80))
    lines = out.getvalue().splitlines()
    usual = ", ".join(f"{name}={value}" for name, value in settings.items())
    assert f"all, unless said otherwise: {usual}" in lines
    assert sum("a_setting_with_a_long_name_3=77" in line for line in lines) == 1
    assert [line for line in lines if line.startswith("group ")][-1].endswith("_3=77")


def test_files_of_one_name_are_told_apart(write: Write, tmp_path: Path) -> None:
    write("a", 0.5, optim="results/one/rows/test.csv")
    write("b", 0.6, optim="results/two/rows/test.csv")
    out = io.StringIO()
    print_comparison(compare_runs(tmp_path), Console(file=out, width=160))
    assert out.getvalue().count("results/one/rows/test.csv") >= 2
    assert out.getvalue().count("results/two/rows/test.csv") >= 2


@pytest.mark.parametrize("kind", ["grid", "settings"])
def test_runs_that_share_seeds_are_no_witnesses_of_their_own(
    kind: str, write: Write, tmp_path: Path
) -> None:
    # Six seeds tell that the larger rate is better, however many runs there are under each.
    for first in range(6):
        for second in range(5):
            score = 0.5 + first / 50 + second / 90
            more = {"weight_decay": second / 10} if kind == "settings" else {}
            for rate in (1e-4, 2e-4):
                folder = f"{rate}-{first}-{second}"
                write(folder, score + (rate > 1e-4) / 10, first, learning_rate=rate, **more)
                if kind == "grid":
                    path = tmp_path / folder / "run.json"
                    record = json.loads(path.read_text(encoding="utf-8"))
                    record["seeds"] = {"head_seed": first, "data_seed": second, "seed": 1}
                    path.write_text(json.dumps(record), encoding="utf-8")
    (upper,) = [one for one in compare_runs(tmp_path).effects(["learning_rate"]) if one.against]
    assert len(upper.differences) == 30
    units = {"grid": 5, "settings": 6}[kind]
    assert upper.units == pytest.approx([0.1] * units)
    assert upper.p_value == 2 / 2**units


def test_one_run_is_one_run(write: Write, tmp_path: Path) -> None:
    values = {"save_strategy": "epoch", "evaluations": ((5, {"accuracy": 0.7}),)}
    write("a", 0.7, last_score=0.7, load_best_model_at_end=False, steps=9, **values)
    write("b", 0.8, last_score=0.8, load_best_model_at_end=True, seed=2, **values)
    first, second = compare_runs(tmp_path).cautions
    assert first.startswith("1 run kept the best weights")
    assert second == (
        "1 run was trained on after its last evaluation: its score is not of the very weights that "
        "it kept"
    )
