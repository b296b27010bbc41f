"""What the page and the verdict say, for good studies and for poor ones."""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import io
import itertools
import math
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from markupsafe import Markup

from hf_stabilizer.errors import StudyError
from hf_stabilizer.records import Run, write_run
from hf_stabilizer.studies.comparison import comparisons
from hf_stabilizer.studies.formats import typographic
from hf_stabilizer.studies.page import sections
from hf_stabilizer.studies.page.charts import (
    curves_chart,
    halt_step,
    mean_curve,
    mean_curves,
    run_key,
    strip_chart,
)
from hf_stabilizer.studies.page.facts import early_stopping_fact
from hf_stabilizer.studies.page.report import (
    render,
    sections_of,
    settings_of,
    write_report,
)
from hf_stabilizer.studies.page.section import Section
from hf_stabilizer.studies.page.svg import round_ticks, scale_over, tick_words
from hf_stabilizer.studies.statistics import summary_rows
from hf_stabilizer.studies.study import Study, run_folder, write_definition
from hf_stabilizer.studies.verdict import verdict

HOSTILE = "<script>alert('x')</script>\"&"
VOID = {"meta", "link", "br", "img", "hr", "input"}


def one_run(recipe="plain", seed=1, score=0.5, status="finished", **more):
    evaluations = () if score is None else tuple((10 * k, {"f1": score * k / 4}) for k in range(5))
    values = {
        "seeds": {"head_seed": seed, "data_seed": seed, "seed": seed},
        "evaluations": evaluations,
        "metric": "f1",
        "best_score": score,
        "seconds": 10.0,
        "steps": 40,
    }
    return Run(recipe, status=status, **{**values, **more})


def make_study(scores, **more):
    """A study of recipes and their scores; None stands for a run that failed without one."""
    runs = [
        one_run(recipe, seed, score, "failed" if score is None else "finished")
        for recipe, its_scores in scores.items()
        for seed, score in enumerate(its_scores, 1)
    ]
    values = {
        "name": "demo",
        "recipes": tuple(scores),
        "runs": tuple(runs),
        "metric": "f1",
        "greater_is_better": True,
        "command": "hf-stabilizer study demo.yaml --runs 6",
        "versions": {"torch": "2.13.0"},
    }
    return Study(**{**values, **more})


PLAIN = [0.30, 0.45, 0.21, 0.38, 0.29, 0.50]
STEADY = [0.861, 0.858, 0.860, 0.862, 0.859, 0.860]


class Page(HTMLParser):
    """Collects the elements and the text of a page, and fails if elements do not nest."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"[ \n]+", " ", "".join(self.words))

    def count(self, tag, name):
        return sum(t == tag and name in (a.get("class") or "").split() for t, a in self.elements)


# --- the verdict


def test_a_clear_win_says_by_how_much_how_sure_and_at_which_cost():
    study = make_study({"plain": PLAIN, "steady": STEADY})
    slower = [dataclasses.replace(run, seconds=15.0) for run in study.of("steady")]
    study = dataclasses.replace(study, runs=(*study.of("plain"), *slower))
    assert verdict(study) == (
        "steady beats plain by 0.505 f1: 0.860 against 0.355 (95 % interval 0.360 to 0.650, "
        "p = 0.031, better with 6 of 6 seeds), at 1.5 times the time (15 s against 10 s a run), "
        "and its spread fell from 0.109 to 0.001 (p = 0.031)."
    )


def test_a_win_of_the_baseline_is_told_as_such():
    sentence = verdict(make_study({"steady": STEADY, "plain": PLAIN}))
    assert sentence.startswith(
        "steady beats plain by 0.505 f1: 0.860 against 0.355 (95 % interval 0.360 to 0.650"
    )
    assert "but the spread differs: 0.001 with steady and 0.109 with plain (p = 0.031)" in sentence


def test_a_smaller_rmse_wins():
    runs = [one_run("plain", s, 0.6 + s / 100, greater_is_better=False) for s in range(6)]
    runs += [one_run("swa", s, 0.5 + s / 100, greater_is_better=False) for s in range(6)]
    sentence = verdict(make_study({"plain": [], "swa": []}, runs=tuple(runs), metric="rmse",
                                  greater_is_better=False))  # fmt: skip
    assert sentence.startswith(
        "swa beats plain by 0.100 rmse: 0.525 against 0.625, lower is better (95 % interval 0.100"
    )


def test_a_small_difference_is_not_claimed():
    scores = {"plain": [0.7, 0.71, 0.69, 0.72, 0.7, 0.7], "swa": [0.71, 0.7, 0.7, 0.71, 0.71, 0.7]}
    sentence = verdict(make_study(scores))
    assert sentence.startswith("No difference can be claimed between plain and swa: the mean")
    assert "changes by +0.002 f1 (95 % interval -0.010 to +0.010, p = " in sentence
    assert "6 pairs)" in sentence


def test_too_few_seeds_cannot_show_anything_however_large_the_difference():
    assert verdict(make_study({"plain": PLAIN[:5], "steady": STEADY[:5]})) == (
        "No difference can be claimed between plain and steady: 5 pairs of runs cannot reach "
        "p < 0.05 in an exact paired test, whatever they show (6 can); so far steady leads plain "
        "by 0.534 f1."
    )


def test_with_more_recipes_more_seeds_are_needed():
    sentence = verdict(make_study({"plain": PLAIN, "a": STEADY, "b": PLAIN}))
    assert "6 pairs of runs cannot reach" in sentence
    assert "(7 can)" in sentence


def test_of_several_recipes_the_best_is_named_first_and_the_others_after_it():
    plain = [0.5 + k / 100 for k in range(9)]
    better, best, worse = ([x + d for x in plain] for d in (0.1, 0.2, -0.1))
    same = [x + (-1) ** k / 50 for k, x in enumerate(plain)]
    sentence = verdict(make_study({"plain": plain, "a": better, "b": best, "c": worse, "d": same}))
    assert sentence.startswith("b beats plain by 0.200 f1")
    assert "after correction for 4 comparisons" in sentence
    assert "; also better than plain: a; worse than plain: c; no difference from plain can be" in (
        sentence
    )


def test_failed_runs_and_broken_pairs_are_in_the_sentence():
    sentence = verdict(make_study({"plain": [*PLAIN, None], "steady": [*STEADY, 0.86]}))
    assert "better with 6 of 6 seeds, 1 more without both scores" in sentence
    assert sentence.endswith("; failed runs: 1 of 7 with plain.")


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ({"plain": []}, "Nothing can be said yet: no run is over."),
        ({"plain": [None]}, "Nothing can be said: the only run failed without a score."),
        ({"plain": [None], "swa": [None]}, "Nothing can be said: all 2 runs failed without a"),
        ({"plain": [0.5]}, "plain scored 0.500 f1 in a single run, which says nothing about"),
        ({"plain": [0.4, 0.6]}, "plain scored 0.500 f1 on average over 2 runs, with a standard"),
        ({"plain": [0.5], "swa": [None]}, "there are no seeds under which both have a final"),
        ({"plain": [0.5], "swa": [0.6]}, "one pair of runs cannot reach p < 0.05"),
    ],
)
def test_poor_studies_get_an_honest_sentence(scores, words):
    assert words in verdict(make_study(scores))


# --- the page


def test_the_page_shows_every_run_and_loads_nothing():
    study = make_study({"plain": [*PLAIN, None], "steady": [*STEADY, 0.86]})
    text = render(study)
    page = Page(text)
    assert page.count("g", "run") == 14
    assert page.count("g", "failed") == 1
    assert page.count("g", "pair") == 6
    assert page.count("g", "curve") == 13
    assert page.count("g", "mean-curve") == 2
    assert typographic(verdict(study)) in page.text
    assert not re.search(r"https?://|<script [^>]|@import|url\(", text)
    assert text.count("<script>") == 1


def test_every_mark_names_its_run():
    text = render(make_study({"plain": [0.5, None]}))
    assert "<title>plain, head seed 1, data seed 1, dropout seed 1: 0.500</title>" in text
    assert (
        "<title>plain, head seed 2, data seed 2, dropout seed 2: no score, failed</title>" in text
    )


@pytest.mark.parametrize(
    "scores",
    [
        {"plain": []},
        {"plain": [0.5]},
        {"plain": PLAIN},
        {"plain": [None, None], "swa": [None, None]},
        {"plain": [0.5, None], "swa": [None, 0.5]},
        {"plain": [0.5] * 6, "swa": [0.5] * 6},
        {"plain": [0.0] * 6, "swa": [-0.1, 1e6, 0.2, 0.1, 0.3, 0.2]},
    ],
)
def test_poor_studies_have_a_page_that_shows_every_run(scores):
    study = make_study(scores)
    page = Page(render(study))
    assert page.count("g", "run") == len(study.runs)
    assert typographic(verdict(study)) in page.text
    assert "nan" not in page.text


def test_hostile_names_stay_text():
    runs = [one_run(HOSTILE, 1, None, "failed", reason=HOSTILE), one_run("plain", 1, 0.5)]
    study = make_study(
        {HOSTILE: [], "plain": []},
        runs=tuple(runs),
        name=HOSTILE,
        metric=HOSTILE,
        command=HOSTILE,
        versions={HOSTILE: HOSTILE},
        configuration={HOSTILE: HOSTILE},
        recipe_settings={"plain": {"filter": HOSTILE}},
    )
    text = render(study)
    assert text.count("<script") == 1  # the page's own
    assert "alert('x')" not in text
    assert HOSTILE in Page(text).text


def test_failed_runs_are_listed_with_their_reasons():
    runs = (one_run(seed=1), one_run(seed=2, score=0.1, status="failed", reason="loss is nan"))
    page = Page(render(make_study({"plain": []}, runs=runs)))
    assert "loss is nan" in page.text
    assert "1 of 2" in page.text


def test_a_score_of_nan_is_no_score():
    runs = (one_run(seed=1), one_run(seed=2, score=math.nan, status="failed"))
    assert "nan" not in Page(render(make_study({"plain": []}, runs=runs))).text


def test_runs_stopped_early_are_shown_but_not_averaged():
    runs = (one_run(seed=1), one_run(seed=2, score=0.9, status="stopped"))
    page = Page(render(make_study({"plain": []}, runs=runs)))
    assert page.count("g", "stopped") == 2  # its mark and its curve
    assert "its numbers are over 1 of 2 runs; 1 stopped early." in page.text


def stopped_study(**more):
    """Six runs halted at step 10 of 40: seeds 2 and 5 went on, seed 6 failed."""
    halted = [one_run(seed=s, score=s / 10, status="stopped", steps=10) for s in (1, 3, 4)]
    halted = [dataclasses.replace(run, evaluations=run.evaluations[:2]) for run in halted]
    lost = one_run(seed=6, score=None, status="failed", steps=10, reason="out of memory")
    runs = (halted[0], one_run(seed=2, score=0.8), *halted[1:], one_run(seed=5, score=0.9), lost)
    values = {"runs": runs, "stop_at": 0.25, "keep": 2, "seeds": tuple(r.seeds for r in runs)}
    return make_study({"plain": []}, **{**values, **more})


def test_who_was_cut_is_drawn_and_named():
    page = Page(render(stopped_study()))
    assert page.count("line", "stop-line") == 1
    assert page.count("circle", "end-mark") == 3
    assert "halted at 10" in page.text
    assert "Went on: seeds 2, 5. Cut: seeds 1, 3, 4. Failed: seed 6." in page.text
    assert "failed runs and those stopped early are drawn and counted too" in page.text


def test_failed_runs_are_counted_of_those_that_were_not_stopped():
    page = Page(render(stopped_study())).text
    assert "1 of 3" in page
    assert "3 stopped early do not count" in page
    assert "failed runs: 1 of the 3 not stopped with plain." in page


def test_a_study_that_ran_to_the_end_speaks_of_no_halt():
    page = Page(render(make_study({"plain": PLAIN})))
    assert page.count("line", "stop-line") == page.count("circle", "end-mark") == 0
    assert not re.search("halted|cut there|saved by", page.text, re.IGNORECASE)


def test_the_stop_line_stands_at_its_step():
    study = stopped_study()
    drawing = curves_chart(
        study.runs, recipe="plain", metric="f1", everyone=study.runs, place=0, halt=10
    )
    # Steps 0 to 40 lie on positions 52 to 348.
    assert re.search(r'<line x1="126.0" x2="126.0"[^>]*class="stop-line"', drawing)


def test_the_step_of_the_halt_is_that_of_the_runs_that_were_cut():
    runs = [one_run(steps=39), one_run(seed=2, status="stopped", steps=10)]
    assert halt_step(runs, 0.25) == 10
    assert halt_step([one_run(steps=37)], 0.25) == 10  # ceil(9.25)
    assert halt_step([one_run(score=None, status="failed")], 0.25) is None


def test_beyond_the_halt_the_mean_is_of_those_left():
    assert mean_curves(stopped_study().runs, "f1", 10) == [
        [(0, 0.0), (10, pytest.approx((0.1 + 0.3 + 0.4 + 0.8 + 0.9) / 20))],
        [(20, pytest.approx(0.425)), (30, pytest.approx(0.6375)), (40, pytest.approx(0.85))],
    ]


def test_what_stopping_early_saved_is_a_fact():
    fact = early_stopping_fact(stopped_study())
    note = fact.note.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")
    # 4 runs of 10 steps and 2 of 40 are 120 of 240 steps, 3 of 6 full runs.
    assert fact.answer == "50 %"
    assert note == (
        "of the steps: 3 full runs paid, not 6; by plan t f + p (1 - f) = "
        "6 \N{MULTIPLICATION SIGN} 0.25 + 2 \N{MULTIPLICATION SIGN} 0.75 = 3"
    )
    assert "Saved by stopping early" in Page(render(stopped_study())).text
    assert early_stopping_fact(make_study({"plain": PLAIN})) is None


def test_a_run_has_one_key_in_all_charts_and_tables():
    study = make_study({"plain": PLAIN, "steady": [*STEADY[:5], None]})
    page = Page(render(study))
    kinds = {
        kind: [attrs["data-run"] for tag, attrs in page.elements if kind_of(tag, attrs) == kind]
        for kind in ("run", "curve", "pair", "tr")
    }
    keys = [run_key(run) for run in study.runs]
    assert len(set(keys)) == 12
    assert sorted(kinds["run"]) == sorted(keys)
    assert kinds["curve"] == keys[:-1]  # the last one left no evaluation
    assert kinds["pair"] == [f"{keys[k]} {keys[6 + k]}" for k in range(5)]
    assert kinds["tr"] == [keys[-1], *keys]  # the failed runs' table, then all


def kind_of(tag, attrs):
    if "data-run" not in attrs:
        return None
    return tag if tag == "tr" else attrs["class"].split()[0]


def test_runs_without_seeds_have_keys_of_their_own():
    runs = [Run("plain", {}, "finished", configuration={"folder": f"runs/{k}"}) for k in "ab"]
    assert run_key(runs[0]) != run_key(runs[1])


# --- what readers take along


def data_of(text, ending):
    """The records of the page's link to a file of this name."""
    links = [attrs for tag, attrs in Page(text).elements if tag == "a"]
    (link,) = [attrs["href"] for attrs in links if attrs["download"].endswith(ending)]
    kind, _, data = link.partition(",")
    assert kind == "data:text/csv;charset=utf-8"
    return list(csv.DictReader(io.StringIO(unquote(data))))


def test_the_data_of_each_figure_are_whole():
    study = make_study({"plain": PLAIN, "steady": [*STEADY[:5], None]})
    text = render(study)
    runs = data_of(text, "demo-runs.csv")
    assert [run["seed"] for run in runs] == [*"123456", *"123456"]
    assert {**runs[3], "score": float(runs[3]["score"])} == {
        "recipe": "plain",
        "head_seed": "4",
        "data_seed": "4",
        "seed": "4",
        "status": "finished",
        "reason": "",
        "metric": "f1",
        "score": 0.38,
        "best_score": "0.38",
        "last_score": "",
        "test_score": "",
        "steps": "40",
        "seconds": "10.0",
    }
    assert [run["f1"] for run in data_of(text, "demo-scores.csv")][-2:] == ["0.859", ""]
    pairs = data_of(text, "demo-pairs-1.csv")
    assert [float(p["difference"]) for p in pairs] == [
        b - a for a, b in zip(PLAIN[:5], STEADY, strict=False)
    ]
    curves = data_of(text, "demo-curves-1.csv")
    assert [(c["seed"], int(c["step"]), float(c["f1"])) for c in curves] == [
        (str(run.seeds["seed"]), step, metrics["f1"])
        for run in study.of("steady")
        for step, metrics in run.evaluations
    ]


def test_hostile_names_stay_data():
    runs = (one_run(HOSTILE, 1, 0.5), one_run(HOSTILE, 2, None, "failed", reason='a,"b"\nc'))
    text = render(make_study({HOSTILE: []}, runs=runs, name=HOSTILE))
    records = data_of(text, "-runs.csv")
    assert [record["recipe"] for record in records] == [HOSTILE, HOSTILE]
    assert records[1]["reason"] == 'a,"b"\nc'
    names = [attrs["download"] for tag, attrs in Page(text).elements if tag == "a"]
    assert all(re.fullmatch(r"[\w.-]+", name) for name in names)


def test_only_the_scripts_of_the_page_may_run():
    text = render(make_study({"plain": PLAIN}))
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert "default-src 'none'" in text


# --- further parts


def test_further_parts_stand_in_the_page_with_their_data(monkeypatch):
    def part(study):
        body = Markup("<figure><p id='inside'>{}</p></figure>").format(HOSTILE)
        records = ({"recipe": study.recipes[0], "f1": 0.5},)
        return Section("further", "More & more", f"Of {HOSTILE}.", body, records)

    monkeypatch.setattr(sections, "SECTIONS", (part, lambda study: None))
    study = make_study({"plain": PLAIN})
    text = render(study)
    assert [s.anchor for s in sections_of(study)] == ["further"]
    assert data_of(text, "demo-further.csv") == [{"recipe": "plain", "f1": "0.5"}]
    page = Page(text)
    assert ("section", {"id": "further"}) in page.elements
    assert f"More & more Of {HOSTILE}. {HOSTILE}" in page.text


def test_where_scores_come_from_is_said():
    tested = make_study({"plain": []}, runs=(one_run(test_score=0.4), one_run(seed=2, score=0.5)))
    assert "Scores of 1 of 2 runs are on the test rows" in Page(render(tested)).text
    assert "best of each run on the validation" in Page(render(make_study({"plain": PLAIN}))).text


def test_settings_are_told_apart():
    study = make_study(
        {"plain": [], "swa": []},
        configuration={"learning_rate": 2e-4, "max_steps": 48, "averaging": "none"},
        recipe_settings={"swa": {"averaging": "swa", "reinit_layers": 2, "max_steps": 48}},
    )
    settings = settings_of(study)
    assert settings.differing == (("averaging", ("none", "swa")), ("reinit_layers", (None, "2")))
    assert settings.common == (("learning_rate", "0.0002"), ("max_steps", "48"))


def test_a_study_under_way_says_how_far_it_is():
    seeds = tuple({"head_seed": s, "data_seed": s, "seed": s} for s in range(3))
    page = Page(render(make_study({"plain": PLAIN[:2], "swa": []}, seeds=seeds)))
    assert "2 of 6 runs" in page.text


def test_two_hundred_runs_stay_under_five_megabytes():
    scores = {name: [0.5 + (k * 37 % 97) / 400 for k in range(50)] for name in "abcd"}
    study = make_study(scores)
    many = tuple(
        dataclasses.replace(run, evaluations=tuple((k, {"f1": 0.5 + k / 1000}) for k in range(100)))
        for run in study.runs
    )
    text = render(dataclasses.replace(study, runs=many))
    assert Page(text).count("g", "run") == 200
    assert len(text.encode()) < 5_000_000


def test_two_hundred_runs_stopped_early_stay_far_below():
    text = render(big_study())
    assert Page(text).count("g", "run") == 200
    assert len(text.encode()) < 2_000_000


def big_study():
    """Two hundred runs of sixteen evaluations, most of them cut at the fourth."""
    runs = []
    for recipe, seed in itertools.product("abcd", range(50)):
        score = 0.5 + (seed * 37 % 97) / 400
        evaluations = tuple((30 * k, {"f1": score * k / 16}) for k in range(1, 17))
        run = one_run(recipe, seed, score, evaluations=evaluations, steps=480, reason="")
        if seed % 4:
            reason = f"rank {seed} of 50 at step 120 with f1 {score / 4:.6g}; the best 12 went on"
            run = dataclasses.replace(
                run, status="stopped", evaluations=evaluations[:4], steps=120, reason=reason
            )
        runs.append(run)
    return make_study(dict.fromkeys("abcd", ()), runs=tuple(runs), stop_at=0.25, keep=12)


def test_the_same_study_gives_the_same_page():
    study = make_study({"plain": PLAIN, "steady": STEADY})
    assert render(study) == render(study)


def test_a_report_is_written_from_a_study_or_its_folder(tmp_path):
    study = make_study({"plain": PLAIN, "steady": STEADY})
    write_definition(study, tmp_path)
    for run in study.runs:
        write_run(run, run_folder(tmp_path, run.recipe, run.name) / "run.json")
    first = write_report(study, tmp_path / "new" / "a.html")
    second = write_report(tmp_path, str(tmp_path / "b.html"))
    assert first.read_text(encoding="utf-8") == second.read_text(encoding="utf-8")


def test_a_folder_is_no_file_to_write_to(tmp_path):
    with pytest.raises(StudyError, match=r"is a folder; name the file to write, such as .*report"):
        write_report(make_study({"plain": PLAIN}), tmp_path)


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(StudyError, match="holds no study"):
        write_report(tmp_path, tmp_path / "report.html")


# --- the drawings


def test_marks_stand_where_their_scores_are():
    runs = [one_run(seed=s, score=x) for s, x in enumerate((0.0, 0.5, 1.0))]
    drawing = strip_chart(runs, summary_rows(runs, ["plain"]), metric="f1", greater_is_better=True)
    centres = sorted(float(x) for x in re.findall(r'<circle cx="([\d.]+)"', drawing))
    assert centres[1] == pytest.approx(320.0)
    assert centres[1] - centres[0] == pytest.approx(centres[2] - centres[1])


def test_marks_of_equal_scores_do_not_cover_one_another():
    runs = [one_run(seed=s, score=0.5) for s in range(5)]
    drawing = strip_chart(runs, summary_rows(runs, ["plain"]), metric="f1", greater_is_better=True)
    assert len(set(re.findall(r'cy="([\d.]+)"', drawing))) == 5


def test_a_diverged_run_stands_at_the_edge_and_is_told():
    runs = [one_run(seed=s, score=x) for s, x in enumerate((0.5, 0.52, 0.54, 0.51, 4000.0))]
    drawing = strip_chart(
        runs, summary_rows(runs, ["plain"]), metric="rmse", greater_is_better=False
    )
    assert "1 beyond the scale" in drawing
    assert drawing.count("<polygon") == 1
    assert "4000.000</title>" in drawing


def test_scales_hold_one_value_or_none():
    assert scale_over([], 0, 10).ticks
    assert scale_over([0.0], 0, 10)(0.0) == 5.0
    assert scale_over([0.7], 0, 10)(0.7) == pytest.approx(5.0)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.301, 0.302), (-5, 12_000), (1e-9, 5e-9)])
def test_ticks_are_round_few_and_inside(low, high):
    ticks = round_ticks(low, high)
    assert 3 <= len(ticks) <= 11
    assert low - 1e-12 <= ticks[0] < ticks[-1] <= high * (1 + 1e-12)


def test_the_mean_curve_needs_half_of_the_runs():
    runs = [
        dataclasses.replace(one_run(seed=s), evaluations=tuple((k, {"f1": v}) for k, v in curve))
        for s, curve in enumerate([[(1, 0.0), (2, 0.4)], [(1, 1.0)], [(1, 0.5), (3, 9.0)], []])
    ]
    assert mean_curve(runs, "f1") == [(1, 0.5)]


# --- numbers of any size, and few of them


def test_tiny_scores_are_told_apart():
    runs = [
        one_run(recipe, s, 1e-9 * (shift + s / 90))
        for recipe, shift in (("plain", 0.7), ("swa", 0.5)) for s in range(6)
    ]  # fmt: skip
    study = make_study({"plain": [], "swa": []}, runs=tuple(runs), greater_is_better=False)
    study = dataclasses.replace(
        study, runs=tuple(dataclasses.replace(r, greater_is_better=False) for r in runs)
    )
    assert verdict(study).startswith("swa beats plain by 0.000000000200 f1: 0.000000000528 against")
    page = render(study)
    assert "5.5e\N{MINUS SIGN}10" in page
    assert "their mean f1 is the same" not in verdict(study)


@pytest.mark.parametrize(
    ("ticks", "written"),
    [
        ([0.1, 0.25], ["0.10", "0.25"]),
        ([-0.5, 0.0], ["-0.5", "0.0"]),
        ([1234567.0, 1234567.5], ["1.234567e6", "1.2345675e6"]),
        ([1000000.0, 1100000.0], ["1000000", "1100000"]),
        ([-2e-9, 0.0, 2e-9], ["-2e-9", "0", "2e-9"]),
        ([], []),
    ],
)
def test_ticks_are_short_and_apart(ticks, written):
    assert tick_words(ticks) == written


def test_what_rounding_makes_is_no_scale():
    scale = scale_over([0.8, 0.1 + 0.7, 0.8000000000000002], 0, 100)
    assert len(set(tick_words(scale.ticks))) == len(scale.ticks)
    assert scale.high - scale.low > 0.01


def test_one_run_is_one_run():
    page = Page(render(make_study({"plain": [0.5], "swa": [0.6]}))).text
    assert "1 runs" not in page
    assert "1 pairs" not in page
    assert "1 of 1 seed " in page
    alone = Page(render(make_study({"plain": [0.5]}))).text
    assert "f1, 1 run" in alone
    assert "The only run did not fail." in alone


def test_a_recipe_without_scores_has_no_mean_that_flatters_it():
    page = Page(render(make_study({"plain": PLAIN, "lost": [None] * 6}))).text
    assert "over 0 of 6 runs; 6 left no score and cannot be averaged." in page
    half = Page(render(make_study({"plain": PLAIN, "lost": [0.5, None]}))).text
    assert "1 left no score and cannot be averaged, so its mean flatters it." in half


def test_a_grid_needs_units_not_pairs():
    runs = [
        one_run(recipe, 1, 0.5 + h / 30 + d / 70 + (recipe == "swa") / 10,
                seeds={"head_seed": h, "data_seed": d, "seed": 1})
        for recipe in ("plain", "swa") for h in range(5) for d in range(5)
    ]  # fmt: skip
    page = Page(render(make_study({"plain": [], "swa": []}, runs=tuple(runs)))).text
    assert "needs six independent units" in page
    assert "needs six pairs" not in page
    assert "25 of 25 pairs" in page


def test_what_failing_before_the_stop_does_to_the_share_is_said():
    limit = "Runs that failed before the stop count, sound ones that were stopped do not"
    assert limit in Page(render(stopped_study())).text
    sound = stopped_study(runs=stopped_study().runs[:-1])
    assert limit not in Page(render(sound)).text
    assert "lies higher" not in Page(render(sound)).text  # of a loss that would be wrong


def test_what_a_study_under_way_has_saved_is_not_held_against_its_stopped_runs():
    cut = tuple(run for run in stopped_study().runs if run.status == "stopped")
    fact = early_stopping_fact(stopped_study(runs=cut))
    assert fact.answer == "75 %"  # three runs of ten steps each of forty
    assert fact.note.startswith("of the steps: 0.75 full runs paid, not 3;")


def test_a_ratio_of_times_is_never_nothing():
    runs = [one_run("plain", s, 0.5 + s / 90, seconds=100.0) for s in range(6)]
    runs += [one_run("swa", s, 0.7 + s / 90, seconds=2.0) for s in range(6)]
    study = make_study({"plain": [], "swa": []}, runs=tuple(runs))
    assert "at 0.02 times the time" in verdict(study)
    assert "0.02 \N{MULTIPLICATION SIGN}" in render(study)


def test_p_never_falls_below_the_least_that_is_possible():
    # Of three comparisons one cannot be made: it was asked for all the same.
    more = [score + 0.3 for score in PLAIN]
    study = make_study({"plain": PLAIN, "better": more, "lost": [None] * 6, "same": PLAIN})
    found = {one.candidate: one for one in comparisons(study.runs, study.recipes)}
    assert found["lost"].p_value is None
    assert found["better"].p_value == found["better"].smallest_p == 3 * 2 / 2**6


def test_a_test_score_against_a_validation_score_is_told_of():
    study = make_study({"plain": PLAIN, "steady": STEADY})
    assert "a validation score" not in verdict(study)
    tested = [dataclasses.replace(run, test_score=run.best_score) for run in study.of("steady")]
    one = dataclasses.replace(study, runs=(*study.of("plain"), tested[0], *study.of("steady")[1:]))
    assert "; 1 pair holds a test score against a validation score." in verdict(one)
    every = dataclasses.replace(study, runs=(*study.of("plain"), *tested))
    assert "; 6 pairs hold a test score against a validation score." in verdict(every)
    unknown = tuple(dataclasses.replace(run, seeds={}) for run in one.runs)
    said = verdict(dataclasses.replace(study, runs=unknown))
    assert said.endswith("; test scores are held against validation scores.")
