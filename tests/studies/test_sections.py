"""What the parts of the page say and draw: whole, escaped, the same each time, and small."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from hf_stabilizer.studies.findings import find_all
from hf_stabilizer.studies.page.charts import run_key
from hf_stabilizer.studies.page.sections import (
    SECTIONS,
    ablation,
    agreement,
    best_of,
    chosen,
    densities,
    differences,
    early,
    seeds,
)
from hf_stabilizer.studies.study import Study
from tests.studies.test_findings import (
    ARMS,
    SCORES,
    ablation_study,
    curve,
    grid_runs,
    keep,
    make_study,
    one_run,
    predicted,
    rich_study,
    stopped_study,
)
from tests.studies.test_sweeps import steps, swept_study

HOSTILE = "<script>alert('x')</script>\"&"
MEANS = {"plain": 0.5, "swa": 0.6, "llrd": 0.5, "no swa": 0.5, "no llrd": 0.65, "all": 0.65}


def parsed(section):
    """The body as a tree; it must be well-formed."""
    return ElementTree.fromstring(f"<section>{section.body}</section>")


def words(section):
    """All that can be read in a part, its lead included."""
    text = section.lead + " ".join(parsed(section).itertext())
    return re.sub(r"\s+", " ", text.replace("\N{MINUS SIGN}", "-"))


def marks(section, name):
    """Elements of the body with a class."""
    return [e for e in parsed(section).iter() if name in (e.get("class") or "").split()]


@pytest.fixture(scope="module")
def all_studies(tmp_path_factory):
    """Studies that between them have every part, each with its parts."""
    folder = tmp_path_factory.mktemp("studies")
    studies = [
        rich_study(folder / "high"),
        rich_study(folder / "low", greater_is_better=False),
        ablation_study(MEANS, ARMS),
        swept_study(steps(0.5, 0.7, 0.6)),
        stopped_study(SCORES, halt=10, keep_best=2),
        predicted(folder / "kept", [[0, 1, 1, 0], [0, 1, 0, 0], [0, 1, 1, 1]]),
        Study("demo", ("plain",), (), "f1", True),
    ]
    return [(study, parts_of(study)) for study in studies]


def parts_of(study):
    return [part for section in SECTIONS if (part := section(study))]


# --- all of them


def test_every_part_is_well_formed_and_stands_alone(all_studies):
    seen = set()
    for _, parts in all_studies:
        seen |= {part.anchor for part in parts}
        ids = [e.get("id") for part in parts for e in parsed(part).iter() if e.get("id")]
        assert len(ids) == len(set(ids))
        for part in parts:
            assert part.title
            assert part.lead
            assert part.records
            assert not re.search(r"https?:|<script|style=|\bnan\b|None", str(part.body)), (
                part.anchor
            )
    assert len(seen) == len(SECTIONS)


def test_a_part_is_there_where_there_is_a_finding_and_only_there(all_studies):
    for study, parts in all_studies:
        assert len(parts) == len(find_all(study))


def test_the_same_study_gives_the_same_page(all_studies):
    study, parts = all_studies[0]
    assert parts_of(study) == parts


def test_hostile_names_are_text():
    def renamed(study):
        runs = [
            dataclasses.replace(run, recipe=HOSTILE if run.recipe == "swa" else run.recipe)
            for run in study.runs
        ]
        recipes = tuple(HOSTILE if name == "swa" else name for name in study.recipes)
        return dataclasses.replace(study, runs=tuple(runs), recipes=recipes, metric="f<1>")

    ablated = renamed(ablation_study(MEANS, ARMS))
    arms = {HOSTILE: {"alone": HOSTILE, "without": "no swa"}}
    ablated = dataclasses.replace(ablated, ablation={**ablated.ablation, "remedies": arms})
    count = 0
    for study in (
        renamed(rich_study()),
        ablated,
        renamed(stopped_study(SCORES, halt=10, keep_best=2)),
    ):
        for part in parts_of(study):
            count += 1
            assert "<script" not in part.body
            assert "f<1>" not in part.body
            parsed(part)
    assert count >= len(SECTIONS)


def test_every_mark_is_named(all_studies):
    for part in (part for _, parts in all_studies for part in parts):
        for mark in (e for kind in ("mark", "cell", "tick-run") for e in marks(part, kind)):
            assert mark.find("title") is not None
            assert mark.find("title").text


def test_two_hundred_runs_stay_under_one_megabyte(tmp_path):
    rng = np.random.default_rng(0)
    runs = []
    for head in range(10):
        for data in range(20):
            values = [float(rng.normal(0.7, 0.02)) for _ in range(20)]
            more = {"evaluations": curve(*values), "test_score": values[-1]}
            runs.append(one_run("plain", head, data, max(values), steps=200, **more))
    study = make_study(runs, folder=tmp_path)
    for run in runs[:40]:
        keep(study, run, rng.normal(size=(500, 3)), rng.integers(0, 3, 500))
    parts = parts_of(study)
    assert len(parts) >= 5
    assert sum(len(part.body.encode()) for part in parts) < 700_000


# --- differences


def test_a_difference_is_told_with_interval_p_and_chance():
    runs = [one_run(head=k, score=0.5) for k in range(6)]
    runs += [one_run("swa", k, score=0.6 + k / 100) for k in range(6)]
    part = differences.section(make_study(runs))
    said = words(part)
    assert "Against plain: swa is better" in said
    assert "+0.100 to +0.150" in said
    assert "0.031" in said
    assert "100 % (61 to 100 %)" in said
    assert "none" in said
    assert len(marks(part, "gain")) == 6
    keys = {key for mark in marks(part, "mark") for key in mark.get("data-run").split()}
    assert keys == {run_key(run) for run in runs}


def test_a_smaller_loss_is_drawn_as_a_gain_and_the_arrow_points_left():
    runs = [one_run(head=k, score=0.6, greater_is_better=False) for k in range(6)]
    runs += [one_run("swa", k, score=0.5, greater_is_better=False) for k in range(5)]
    runs += [one_run("swa", 5, score=0.7, greater_is_better=False)]
    part = differences.section(make_study(runs, greater_is_better=False))
    assert (len(marks(part, "gain")), len(marks(part, "loss"))) == (5, 1)
    assert "\N{LEFTWARDS ARROW} lower is better" in words(part)


def test_too_few_pairs_are_said_to_be_too_few():
    runs = [one_run(head=k, score=0.5) for k in range(4)]
    runs += [one_run("swa", k, score=0.9) for k in range(4)]
    said = words(differences.section(make_study(runs)))
    assert "No difference from plain can be claimed" in said
    assert "4 pairs cannot reach p \N{LESS-THAN OR EQUAL TO} 0.05" in said
    assert "there are too few pairs to say how large it may be" in said


# --- ablation


def test_the_ablation_has_one_line_for_each_remedy_and_what_it_comes_to():
    part = ablation.section(ablation_study(MEANS, ARMS))
    rows = parsed(part).findall(".//tbody/tr")
    assert [row.find("th").text for row in rows] == [
        *("swa", "llrd", "all (all together)", "plain (the baseline)")
    ]
    assert "swa: helps alone and adds to the others; llrd: no effect can be claimed." in words(part)
    assert "for all 5 comparisons" in part.lead
    assert len(marks(part, "mark")) == 5 * 9


def test_an_ablation_with_few_runs_says_how_many_it_takes():
    study = ablation_study(MEANS, ARMS)
    few = tuple(run for run in study.runs if run.seeds["head_seed"] <= 5)
    assert "8 runs of each arm can" in words(ablation.section(dataclasses.replace(study, runs=few)))


# --- densities


def test_every_run_is_a_tick_and_a_failed_one_is_told_apart():
    runs = [one_run(head=k, score=0.7 + k / 100) for k in range(6)]
    runs.append(one_run(head=9, score=0.2, status="failed", reason="collapsed"))
    runs.append(one_run(head=10, score=None, status="failed"))
    part = densities.section(make_study(runs))
    assert len(marks(part, "tick-run")) == 7
    assert "1 beyond the scale" in words(part)
    (lost,) = (mark for mark in marks(part, "tick-run") if "failed" in mark.get("class"))
    assert lost.find("title").text.endswith("0.200, failed (collapsed)")
    assert "in no density: 1 of plain" in words(part)


# --- the best of k runs


def test_the_best_of_k_is_in_the_table_for_each_habit_of_looking():
    runs = [
        one_run(
            head=1, evaluations=curve(0.5, 0.7, 0.9, 0.6), configuration={"num_train_epochs": 2}
        ),
        one_run(
            head=2, evaluations=curve(0.4, 0.6, 0.5, 0.6), configuration={"num_train_epochs": 2}
        ),
    ]
    part = best_of.section(make_study(runs))
    rows = [["".join(c.itertext()) for c in r] for r in parsed(part).findall(".//tbody/tr")]
    time = "10\N{NO-BREAK SPACE}s"
    assert rows == [
        ["plain", "every look", "0.750", "0.900", time],
        ["plain", "one an epoch", "0.650", "0.700", time],
        ["plain", "the last only", "0.600", "0.600", time],
    ]
    assert "on average: plain +0.150" in words(part)


def test_chosen_survivors_are_said_to_be_chosen():
    said = words(best_of.section(stopped_study(SCORES, halt=10, keep_best=2)))
    assert "so they are better than runs at random" in said


def test_lines_are_told_apart_without_colour():
    part = best_of.section(rich_study())
    first = parsed(part).find(".//svg")
    dashes = {e.get("class") for e in first.iter("polyline")}
    assert dashes == {"dash0", "dash1"}


# --- chosen by validation


def test_what_choosing_did_not_bring_is_told():
    scores = [(0.70, 0.70), (0.80, 0.75), (0.90, 0.72)]
    runs = [one_run(head=k, score=v, test_score=t) for k, (v, t) in enumerate(scores)]
    said = words(chosen.section(make_study(runs)))
    assert "+0.103" in said  # (.9 - .8) - (.72 - .7233)
    assert "plain +0.077" in said  # a single run, validation minus test


# --- seeds


def test_the_heat_map_names_every_cell_and_hatches_the_empty_ones():
    runs = grid_runs([[0.70, 0.72, None], [0.80, 0.83, 0.81], [0.60, 0.61, 0.65]])
    runs[5] = dataclasses.replace(runs[5], status="failed", best_score=None)
    runs[6] = dataclasses.replace(runs[6], status="failed")
    part = seeds.section(make_study(runs))
    titles = [cell.find("title").text for cell in marks(part, "cell")]
    assert len(titles) == 9
    assert titles[0] == "plain, head seed 1, data seed 1, dropout seed 1: 0.700"
    assert titles[2] == "plain, head seed 1, data seed 3: no run"
    assert "plain, head seed 3, data seed 1: without score, failed" in titles
    assert [e.get("class") for e in marks(part, "hatch")] == ["hatch", "hatch lost"]
    assert "plain, head seed 3, data seed 2, dropout seed 2: 0.610, failed" in titles


@pytest.mark.parametrize("greater_is_better", [True, False])
def test_better_is_darker(greater_is_better):
    scores = [[0.1, 0.2], [0.3, 0.4]]
    runs = grid_runs(scores, greater_is_better=greater_is_better)
    part = seeds.section(make_study(runs, greater_is_better=greater_is_better))
    shades = [int(cell.find("rect").get("class")[1:]) for cell in marks(part, "cell")]
    order = shades if greater_is_better else shades[::-1]
    assert order == sorted(order)
    assert (order[0], order[-1]) == (0, 5)


def test_the_hunt_for_good_heads_tells_how_many_were_looked_at():
    rng = np.random.default_rng(1)
    scores = [[0.7 + float(rng.normal(0, 0.005)) for _ in range(4)] for _ in range(5)]
    assert "no head is better or worse than the luckiest" in words(
        seeds.section(make_study(grid_runs(scores)))
    )
    good = [[score + 0.2 * (head == 2) for score in row] for head, row in enumerate(scores)]
    said = words(seeds.section(make_study(grid_runs(good))))
    assert "head seed 3 is better than the others" in said
    assert "looked at 5 heads" in said
    assert "The dropout seed goes with the data seed" in said


# --- agreement


def test_agreement_is_told_with_the_rows_that_flip(tmp_path):
    study = predicted(tmp_path, [[0, 1, 1, 0], [0, 1, 0, 0], [0, 1, 1, 1]])
    part = agreement.section(study)
    assert "plain on 50.0 %" in part.lead.replace("\N{NO-BREAK SPACE}", " ")
    rows = [
        ["".join(c.itertext()) for c in r] for r in parsed(part).findall(".//details//tbody/tr")
    ]
    assert rows == [
        ["2", "2 of 3", "1 (2), 0 (1)", "1", "67\N{NO-BREAK SPACE}%"],
        ["3", "2 of 3", "0 (2), 1 (1)", "0", "67\N{NO-BREAK SPACE}%"],
    ]


def test_numbers_are_told_by_their_spread(tmp_path):
    runs = [one_run(head=k) for k in (1, 2)]
    study = make_study(runs, folder=tmp_path)
    for run, row in zip(runs, [[0.0, 1.0, 2.0], [0.0, 1.0, 2.5]], strict=True):
        keep(study, run, np.array(row, dtype=np.float32), [0.0, 1.0, 2.0])
    said = words(agreement.section(study))
    assert "How far the numbers lie apart" in said
    assert "0.993" in said


# --- stopping early


def test_cost_and_cuts_of_a_study_that_stopped_early():
    part = early.section(stopped_study(SCORES, halt=10, keep_best=2))
    said = words(part).replace("\N{NO-BREAK SPACE}", " ")
    assert "All runs went to 25 % of training, the best 2 of each recipe on from there" in said
    assert "2.2 of 5 full runs were saved, about 22 s" in said
    assert "plain 0.100" in said
    kinds = [mark.get("class") for mark in marks(part, "mark")]
    assert (kinds.count("mark gain"), kinds.count("mark loss")) == (2, 3)
    ranks = [r.find("th").text for r in parsed(part).findall(".//details//tbody/tr")]
    assert ranks == ["1", "2", "3", "4", "5"]


def test_a_study_without_stops_shows_how_early_ranks_foretell():
    runs = [
        one_run(head=k, score=max(row), evaluations=curve(*row)) for k, row in enumerate(SCORES)
    ]
    part = early.section(make_study(runs))
    assert part.title == "Could runs be stopped early?"
    rows = [["".join(c.itertext()) for c in r] for r in parsed(part).findall(".//tbody/tr")]
    assert [row[5] for row in rows] == ["5 of 5", "1 of 5", "1 of 5"]


def test_a_stop_does_not_hide_who_failed_before():
    runs = list(stopped_study(SCORES, halt=10, keep_best=2).runs)
    runs[0] = dataclasses.replace(runs[0], status="failed", steps=5, reason="boom")
    study = dataclasses.replace(stopped_study(SCORES, halt=10, keep_best=2), runs=tuple(runs))
    assert "All runs but 1 that failed before went to 25 %" in words(early.section(study))


def test_a_run_that_is_better_on_test_rows_is_not_said_to_be_worse():
    runs = [one_run(head=k, score=0.5 + k / 10, test_score=0.6 + k / 10) for k in (1, 2, 3)]
    said = words(chosen.section(make_study(runs)))
    assert "on average, positive is too good: plain -0.100." in said
    assert "is better on validation" not in said


def test_intervals_of_runs_that_share_seeds_are_said_to_be_too_narrow():
    scores = [[0.50, 0.52, 0.54], [0.60, 0.61, 0.66], [0.70, 0.72, 0.71]]
    runs = [
        dataclasses.replace(
            run,
            test_score=run.best_score - 0.01,
            evaluations=curve(run.best_score - 0.1, run.best_score - 0.05, run.best_score),
        )
        for run in grid_runs(scores)
    ]
    study = make_study(runs)
    assert "and the intervals are too narrow" in words(chosen.section(study))
    assert "and the bands are too narrow" in words(early.section(study))
    apart = make_study([run for run in runs if run.seeds["head_seed"] == run.seeds["data_seed"]])
    assert "too narrow" not in words(chosen.section(apart))


def test_long_seeds_are_told_by_their_last_digits():
    big = 2**32 - 3
    runs = [
        one_run(head=big + h, data=big + d, score=0.5 + h / 10 + d / 30)
        for h in range(3) for d in range(3)
    ]  # fmt: skip
    part = parsed(seeds.section(make_study(runs)))
    heat = next(e for e in part.iter("svg") if e.get("data-name") == "heat-0")
    labels = [e.text for e in heat.iter("text")]
    assert labels.count("\N{HORIZONTAL ELLIPSIS}293") == 2  # a row and a column
    assert not any(str(big) in (label or "") for label in labels)
    assert any(str(big) in (e.text or "") for e in heat.iter("title"))


def test_lines_of_names_that_begin_alike_are_told_apart():
    names = ("plain", "learning_rate=1e-05", "learning_rate=5e-05")
    runs = [
        one_run(name, k, score=0.5 + k / 10, evaluations=curve(0.4, 0.5 + k / 10))
        for name in names for k in (1, 2, 3)
    ]  # fmt: skip
    part = parsed(best_of.section(make_study(runs)))
    ends = {e.text for e in next(part.iter("svg")).iter("text") if e.get("class") == "line-name"}
    cut = "\N{HORIZONTAL ELLIPSIS}g_rate"
    assert ends == {"plain", f"{cut}=1e-05", f"{cut}=5e-05"}
