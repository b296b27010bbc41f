"""The figures show the numbers of the findings, and leave out what a study cannot answer."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from hf_stabilizer.cli import main
from hf_stabilizer.errors import ConfigurationError, MissingDependencyError
from hf_stabilizer.predictions import Predictions, write_predictions
from hf_stabilizer.records import Run, write_run
from hf_stabilizer.studies.comparison import comparisons
from hf_stabilizer.studies.figures import (
    FIGURES,
    NothingToDrawError,
    figures,
    plot_ablation,
    plot_agreement,
    plot_chosen_by_validation,
    plot_cost,
    plot_densities,
    plot_evaluations,
    plot_expected_best,
    plot_paired_differences,
    plot_runs,
    plot_seed_grid,
    plot_stopped_runs,
    records,
    save_figures,
)
from hf_stabilizer.studies.figures.canvas import BASELINE, COLOURS, label
from hf_stabilizer.studies.findings import best_of_runs, find_all, row_agreement, score_densities
from hf_stabilizer.studies.study import Study, run_folder, write_definition

HOSTILE = "_a$b$ c^2|"


def one_run(recipe="plain", seed=1, score=0.5, status="finished", **more):
    curve = () if score is None else tuple((10 * k, {"f1": score * k / 4}) for k in range(1, 5))
    values = {
        "seeds": {"head_seed": seed, "data_seed": seed, "seed": seed},
        "evaluations": curve,
        "metric": "f1",
        "best_score": score,
        "test_score": None if score is None or status == "stopped" else score - 0.01 * (seed % 3),
        "seconds": 10.0,
        "steps": 40,
    }
    return Run(recipe, status=status, **{**values, **more})


def make_study(scores, **more):
    runs = tuple(
        one_run(recipe, seed, score, "failed" if score is None else "finished")
        for recipe, its_scores in scores.items()
        for seed, score in enumerate(its_scores, 1)
    )
    values = {"name": "demo", "recipes": tuple(scores), "runs": runs, "metric": "f1"}
    return Study(**{"greater_is_better": True, **values, **more})


PLAIN = [0.30, 0.45, 0.21, 0.38, 0.29, 0.50]
STEADY = [0.861, 0.858, 0.860, 0.862, 0.859, 0.870]


@pytest.fixture(scope="module")
def study():
    return make_study({"plain": [*PLAIN, None], "steady": [*STEADY, 0.85]})


@pytest.fixture(scope="module")
def stopped():
    """Of four runs the best goes on; one fails before the stop."""

    def run(seed, score, status):
        curve = tuple((step, {"f1": score + step / 1000}) for step in (10, 20, 30, 40))
        steps = 40 if status == "finished" else 10
        return one_run(
            seed=seed, score=score, status=status, steps=steps, evaluations=curve[: steps // 10]
        )

    runs = (run(1, 0.8, "finished"), run(2, 0.6, "stopped"), run(3, 0.5, "stopped"),
            run(4, 0.1, "failed"))  # fmt: skip
    return Study("demo", ("plain",), runs, "f1", True, stop_at=0.25, keep=1)


def grid_study():
    runs = tuple(
        one_run(seed=1, score=0.1 * h + 0.01 * d, seeds={"head_seed": h, "data_seed": d, "seed": 1})
        for h in (1, 2, 3)
        for d in (1, 2)
        if (h, d) != (3, 2)
    )
    return Study("demo", ("plain",), runs, "f1", True)


def drawn(axes, kind):
    """What was drawn of one kind: "PathCollection" dots, "PolyCollection" bands, ..."""
    return [one for one in axes.collections if type(one).__name__ == kind]


def dots(axes):
    """Positions of all marks, from left to right."""
    marks = drawn(axes, "PathCollection")
    return sorted(float(x) for one in marks for x, _ in one.get_offsets())


def words(figure):
    texts = figure.findobj(lambda artist: hasattr(artist, "get_text"))
    return " ".join(" ".join(text.get_text() for text in texts).split())


def test_every_run_with_a_score_is_one_mark_and_the_others_are_counted(study) -> None:
    figure = plot_runs(study)
    scores = sorted(run.score for run in study.runs if run.score is not None)
    assert dots(figure.axes[0]) == pytest.approx(scores)
    assert "n = 7, mean 0.345" in words(figure)
    assert "1 failed, 1 without a score" in words(figure)
    assert "14 runs" in words(figure)


def test_a_run_far_beyond_the_others_stands_at_the_edge() -> None:
    figure = plot_runs(make_study({"plain": [0.50, 0.51, 0.52, 0.53, 4000.0]}))
    _, high = figure.axes[0].get_xlim()
    assert high < 1
    assert dots(figure.axes[0])[-1] == high
    assert "mean 800" in words(figure)


def test_the_bars_are_the_recipes_means_in_their_colours(study) -> None:
    (axes,) = plot_runs(study).axes
    bars = drawn(axes, "LineCollection")
    at = [bar.get_segments()[0][0][0] for bar in bars]
    assert at == pytest.approx([row.mean for row in study.summary()])
    shades = [to_hex(band.get_facecolor()[0]) for band in drawn(axes, "PolyCollection")]
    assert shades == [BASELINE, COLOURS[0]]


def test_pairs_are_drawn_with_the_mean_and_interval_of_the_comparison(study) -> None:
    (axes,) = plot_paired_differences(study).axes
    (found,) = comparisons(study.runs, study.recipes)
    assert dots(axes) == pytest.approx(sorted(found.differences))
    (band,) = drawn(axes, "PolyCollection")
    ends = band.get_paths()[0].vertices[:, 0]
    assert (min(ends), max(ends)) == pytest.approx(tuple(found.interval))
    assert "n = 6 pairs" in words(axes.figure)
    assert "p = 0.031, better" in words(axes.figure)


def test_lower_is_better_turns_what_is_filled() -> None:
    gains = make_study({"plain": PLAIN, "steady": STEADY})
    runs = tuple(dataclasses.replace(run, greater_is_better=False) for run in gains.runs)
    losses = dataclasses.replace(gains, runs=runs, greater_is_better=False)
    figure = plot_paired_differences(losses)
    marks = drawn(figure.axes[0], "PathCollection")
    faces = {to_hex(face) for one in marks for face in one.get_facecolor()}
    assert faces == {"#ffffff"}  # every pair is worse: hollow
    assert "lower is better" in words(figure)


def test_curves_are_the_evaluations_and_their_mean(study) -> None:
    figure = plot_evaluations(study)
    plain, steady = figure.axes
    *_, mean = steady.lines
    scores = [run.evaluations[-1][1]["f1"] for run in study.of("steady")]
    assert mean.get_ydata()[-1] == pytest.approx(sum(scores) / len(scores))
    assert plain.get_ylim() == steady.get_ylim()


def test_cut_runs_end_in_a_ring_at_the_dotted_line(stopped) -> None:
    (axes,) = plot_evaluations(stopped).axes
    rings = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert [float(line.get_xdata()[0]) for line in rings] == [10, 10]
    assert [line.get_marker() for line in axes.lines].count("x") == 1
    assert any(list(line.get_xdata()) == [10, 10] for line in axes.lines)
    assert "step 10: 1 of 4 go on" in words(axes.figure)  # one of those not stopped had failed


def test_the_stop_and_its_cost(stopped) -> None:
    (axes,) = plot_stopped_runs(stopped).axes
    assert dots(axes) == pytest.approx([0.11, 0.51, 0.61, 0.81])
    assert "n = 4, 1 went on at step 10" in words(axes.figure)
    (axes,) = plot_cost(stopped).axes
    assert [bar.get_width() for bar in axes.patches] == [4, 1.75]
    assert "56 % saved" in words(axes.figure)


def test_hills_and_lines_are_those_of_the_findings(study) -> None:
    (axes,) = plot_densities(study).axes
    found = score_densities.find(study)
    assert axes.get_xlim() == (found.low, found.high)
    hills = [line for line in axes.lines if len(line.get_xdata()) > 2]
    for one, line in zip(found.recipes, hills, strict=True):
        assert tuple(line.get_xdata()) == one.density.x
    panels = plot_expected_best(study).axes
    for one, line in zip(best_of_runs.find(study).recipes, panels[0].lines, strict=True):
        assert tuple(line.get_ydata()) == one.every_look.expected
    chosen = plot_chosen_by_validation(study).axes
    assert [axes.get_title(loc="left") for axes in chosen] == ["plain, n = 6", "steady, n = 7"]


def test_the_grid_of_seeds_by_hand() -> None:
    figure = plot_seed_grid(grid_study())
    cells, shares, _ = figure.axes
    scores = np.ma.filled(cells.images[0].get_array(), math.nan)  # each .01 below, tested
    expected = [[0.10, 0.11], [0.20, 0.21], [0.30, math.nan]]
    assert scores == pytest.approx(np.array(expected), nan_ok=True)
    assert "Stroke: no run" in words(figure)
    assert sum(bar.get_width() for bar in shares.patches) == pytest.approx(100)


def test_agreement_needs_kept_predictions(study, tmp_path) -> None:
    with pytest.raises(NothingToDrawError, match="has kept the predictions of two runs"):
        plot_agreement(study)
    write_definition(study, tmp_path)
    rng = np.random.default_rng(0)
    for run in study.runs:
        folder = run_folder(tmp_path, run.recipe, run.name)
        write_run(run, folder / "run.json")
        outputs = rng.normal(size=(20, 2)).astype("float32")
        write_predictions(Predictions(test=outputs, test_labels=np.zeros(20, int)), folder)
    kept = Study.from_folder(tmp_path)
    (first, second) = plot_agreement(kept).axes
    for one, axes in zip(row_agreement.find(kept).recipes, (first, second), strict=True):
        assert [bar.get_height() for bar in axes.patches] == [count for *_, count in one.histogram]
        assert sum(bar.get_height() for bar in axes.patches) == 20


def test_an_ablation_has_two_lanes_for_each_remedy() -> None:
    means = {"plain": 0.5, "swa": 0.6, "llrd": 0.5, "all": 0.6}
    arms = {"swa": {"alone": "swa", "without": "llrd"}, "llrd": {"alone": "llrd", "without": "swa"}}
    scores = {name: [mean + s / 100 for s in range(8)] for name, mean in means.items()}
    asked = {"baseline": "plain", "all": "all", "remedies": arms}
    text = words(plot_ablation(make_study(scores, ablation=asked)))
    for lane in ("all together", "swa, alone", "swa, on top", "llrd, alone", "llrd, on top"):
        assert lane in text


def test_what_a_study_cannot_answer_is_left_out(study, stopped) -> None:
    assert list(figures(study)) == [
        *("runs", "paired-differences", "evaluations", "densities"),
        *("expected-best", "chosen-by-validation", "early-ranks"),
    ]
    assert {"stopped-runs", "cost"} <= figures(stopped).keys()
    assert "early-ranks" not in figures(stopped)
    empty = Study("demo", ("plain", "swa"), (), "f1", True)
    assert figures(empty) == {}
    for name, plot in FIGURES.items():
        with pytest.raises(NothingToDrawError) as caught:
            plot(empty)
        assert len(str(caught.value)) > 20, name


def test_names_are_written_as_they_stand(tmp_path) -> None:
    study = make_study({"plain": PLAIN, HOSTILE: STEADY})
    assert label("$x$ and _y") == r"\$x\$ and _y"
    paths = save_figures(study, tmp_path, formats=["svg"])
    assert {path.suffix for path in paths} == {".svg"}
    legend = plot_expected_best(study).axes[0].get_legend()
    assert len(legend.get_texts()) == 2


def test_files_are_the_same_each_time(tmp_path) -> None:
    study = make_study({"plain": [0.5, 0.6]})
    found = [save_figures(study, tmp_path / name, formats=["svg", "pdf", "png"]) for name in "ab"]
    for first, second in zip(*found, strict=True):
        assert first.name == second.name
        assert first.read_bytes() == second.read_bytes()


def test_no_display_and_no_pyplot_is_needed() -> None:
    script = (
        "import sys\n"
        "from hf_stabilizer import Run, Study\n"
        "from hf_stabilizer.studies.figures import figures, records\n"
        "assert 'matplotlib' not in sys.modules\n"
        "run = Run('p', {'seed': 1}, 'finished', best_score=1.0)\n"
        "study = Study('a', ('p',), (run,), 'f1', True)\n"
        "assert records(study)['runs'][0]['score'] == 1.0\n"
        "assert 'matplotlib' not in sys.modules\n"
        "figures(study)\n"
        "assert not {'matplotlib.pyplot', 'torch', 'transformers'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_records_are_ready_for_pandas(study, stopped) -> None:
    tables = records(study)
    assert len(tables["runs"]) == 14
    assert len(tables["pairs"]) == 6
    assert tables["paired_differences"] == find_all(study)["paired_differences"].records()
    assert {"early_stopping", "cost"} <= records(stopped).keys()
    assert {"seed_factors", "seed_shares", "seed_means"} <= records(grid_study()).keys()
    for source in (study, stopped, grid_study()):
        for name, rows in records(source).items():
            assert len({tuple(row) for row in rows}) == 1, name
            assert len(pd.DataFrame(rows)) == len(rows) > 0
    assert pd.DataFrame(tables["runs"])["score"].mean() == pytest.approx(
        np.mean([run.score for run in study.runs if run.score is not None])
    )


def test_missing_matplotlib_is_named(study, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'hf_stabilizer\[plots\]'"):
        figures(study)


def test_refusals(study, tmp_path) -> None:
    with pytest.raises(ConfigurationError, match="formats must be one of png, svg, pdf, got 'jpg'"):
        save_figures(study, tmp_path, formats=["jpg"])
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="is a file; name another"):
        save_figures(study, tmp_path / "file")


def test_the_command_line_writes_figures_of_a_folder(stopped, tmp_path, capsys) -> None:
    write_definition(dataclasses.replace(stopped, command="made so"), tmp_path)
    for run in stopped.runs:
        folder = run_folder(tmp_path, run.recipe, run.name)
        write_run(run, folder / "run.json")
        write_predictions(Predictions(validation=np.eye(2, dtype="float32")), folder)
    folder = tmp_path / "figures"
    main(["report", str(tmp_path), "--figures", str(folder), "--format", "svg"])
    assert f"Figures: {folder}" in capsys.readouterr().out
    names = {Path(path).name for path in folder.iterdir()}
    assert {"runs.svg", "cost.svg", "agreement.svg"} <= names  # the predictions were found, too


def test_long_seeds_leave_room_for_one_another() -> None:
    runs = tuple(
        one_run(score=h / 10 + d / 100, seeds={"head_seed": h, "data_seed": 2**31 + d, "seed": 1})
        for h in (1, 2) for d in range(40)
    )  # fmt: skip
    axes = plot_seed_grid(Study("demo", ("plain",), runs, "f1", True)).axes[0]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels[0] == "\N{HORIZONTAL ELLIPSIS}648"
    assert list(axes.get_xticks()) == list(range(0, 40, 4))
