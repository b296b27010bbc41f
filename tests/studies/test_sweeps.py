"""One setting, many values: which recipes, which of them can be told apart, and how it is drawn."""

from __future__ import annotations

import itertools
import json
import random
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from hf_stabilizer import ConfigurationError, Run, Study, run_study, sweep
from hf_stabilizer.cli import build_parser, main
from hf_stabilizer.studies.cards.markdown import markdown_summary
from hf_stabilizer.studies.figures import figures, plot_sweeps, records
from hf_stabilizer.studies.findings.swept_settings import Sweep, find, words
from hf_stabilizer.studies.page.report import render
from hf_stabilizer.studies.page.sections.sweep_axis import ValueAxis
from hf_stabilizer.studies.page.sections.sweeps import section
from hf_stabilizer.studies.sweeps.reading import read_sweeps
from tests.conftest import tiny_study


def swept_study(
    scores: dict[Any, list[float | None]], *, key: str = "reinit_layers", **more: Any
) -> Study:
    """A study with the scores of each value, seed by seed; under "plain" the value is not set."""
    names = {v if v == "plain" else f"{key}={v}": v for v in scores}
    settings = {name: {} if v == "plain" else {key: v} for name, v in names.items()}
    runs = tuple(
        Run(
            name,
            {"head_seed": seed, "data_seed": seed, "seed": seed},
            "failed" if score is None else "finished",
            best_score=score,
        )
        for name, value in names.items()
        for seed, score in enumerate(scores[value], 1)
    )
    options = {"recipe_settings": settings, "configuration": {"learning_rate": 1e-4}, **more}
    return Study(
        "demo", tuple(names), runs, "f1", options.pop("greater_is_better", True), **options
    )


def steps(*means: float, seeds: int = 6) -> dict[Any, list[float | None]]:
    """Scores of the values 0, 1, ...: every seed the same way about its mean, give or take."""
    draw = random.Random(0)
    return {
        value: [mean + seed / 100 + draw.uniform(-1, 1) / 200 for seed in range(seeds)]
        for value, mean in enumerate(means)
    }


def only(study: Study) -> Sweep:
    found = find(study)
    assert found is not None
    (one,) = found.sweeps
    return one


# --- which recipes


def test_one_recipe_for_each_value_over_its_base() -> None:
    found = sweep("learning_rate", [1e-5, 2e-4], base={"averaging": "swa", "learning_rate": 1.0})
    assert found == {
        "learning_rate=1e-05": {"averaging": "swa", "learning_rate": 1e-5},
        "learning_rate=0.0002": {"averaging": "swa", "learning_rate": 2e-4},
    }


def test_a_recipe_that_ships_lies_under_it_for_its_task_too() -> None:
    settings = sweep("fit_head_scale", [0.1], base="stabilised")["fit_head_scale=0.1"]
    assert settings["tasks"]["text-classification"] == {"reinit_pooler": "auto", "fit_head": True}
    assert settings["fit_head_scale"] == 0.1


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "key=null"), (True, "key=true"), (-1, "key=-1"), ([1, 2], "key=-1-2-"),
        ("org/model name", "key=org-model-name"), (0.5, "key=0.5"), ("x" * 99, "key=" + "x" * 60),
    ],
)  # fmt: skip
def test_names_are_those_of_folders(value: Any, name: str) -> None:
    assert list(sweep("key", [value])) == [name]


def test_values_that_read_alike_keep_names_of_their_own() -> None:
    assert list(sweep("transfer_from", ["a/b", "a b"])) == [
        "transfer_from=a-b",
        "transfer_from=a-b-2",
    ]
    assert list(sweep("key", [1, True])) == ["key=1", "key=true"]


@pytest.mark.parametrize(
    ("values", "base", "said"),
    [
        (3, None, "a list of values, got 3"),
        ([1], 3, "base must be"),
        ([], None, "no values"),
        ([1, 1], None, "1 stands twice"),
        ([1], "nome", "no recipe 'nome'"),
    ],
)
def test_a_sweep_that_is_none_is_refused(values: Any, base: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        sweep("key", values, base=base)


def test_the_command_line_names_recipes_first() -> None:
    found = read_sweeps(["reinit-layers=0,2", "learning_rate=1e-5"], recipes=["plain", "mosbach"])
    assert list(found) == [
        "plain", "mosbach", "reinit_layers=0", "reinit_layers=2", "learning_rate=1e-05",
    ]  # fmt: skip
    assert found["reinit_layers=2"] == {"reinit_layers": 2}
    assert found["mosbach"]["num_train_epochs"] == 20


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("reinit_layers=all", ["reinit_layers=0", "reinit_layers=1", "reinit_layers=2"]),
        ("freeze_layers=all", ["freeze_layers=0", "freeze_layers=1", "freeze_layers=2"]),
        (
            "transfer_layers=all",
            ["plain", "transfer_layers=0", "transfer_layers=1", "transfer_layers=2"],
        ),
    ],
)
def test_all_is_every_number_of_blocks_of_the_model(
    text: str, names: list[str], config: dict[str, Any]
) -> None:
    assert list(read_sweeps([text], config=config)) == names


def test_where_the_pooler_starts_anew_anyhow_all_blocks_are_the_baseline(
    config: dict[str, Any],
) -> None:
    found = read_sweeps(["transfer_layers=all"], config={**config, "reinit_pooler": "true"})
    assert list(found) == ["transfer_layers=2", "transfer_layers=0", "transfer_layers=1"]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["reinit_layers"], "a sweep is KEY=VALUE"),
        (["=1,2"], "a sweep is KEY=VALUE"),
        (["reinit_layers="], "a sweep is KEY=VALUE"),
        (["learning_rate=all"], "only transfer_layers, reinit_layers, freeze_layers count layers"),
        (["reinit_layers=all"], "asks a configuration for its model"),
        (["reinit_layers=1", "reinit_layers=1,2"], "reinit_layers=1 is swept twice"),
        (["reinit_layers=all,2"], "all by itself, or numbers such as 2"),
        (["transfer_layers=all,all"], "all by itself, or numbers such as 0, 1, 2"),
        (["reinit_layers=some,2"], "reinit_layers must be a whole number, got 'some'"),
        (["learning_rate=1e-4,all"], "learning_rate must be a number, got 'all'"),
        (["fp16=1,maybe"], "fp16 must be true or false, got 'maybe'"),
        (["reinit_layer=1,2"], "unknown configuration key 'reinit_layer' .did you mean"),
    ],
)
def test_texts_that_are_no_sweep_are_refused(texts: list[str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        read_sweeps(texts)


def test_values_are_read_as_their_key_has_them() -> None:
    found = read_sweeps(["weight_decay=0,0.1", "averaging=swa", "metrics=accuracy", "bf16=yes"])
    assert found["weight_decay=0"] == {"weight_decay": 0}  # named as it was written
    assert found["metrics=accuracy"] == {"metrics": "accuracy"}
    assert found["bf16=true"] == {"bf16": True}
    read_sweeps(["reinit_pooler=true,identity"])  # the word "true", as in a file


def test_a_mixed_sweep_is_refused_before_anything_starts(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = tmp_path / "c.yaml", tmp_path / "study"
    path.write_text(json.dumps({k: v for k, v in config.items() if k != "output_dir"}))
    with pytest.raises(SystemExit) as caught:
        main(["study", str(path), "--sweep", "reinit_layers=all,2", "--output-dir", str(folder)])
    assert caught.value.code == 2
    assert "all is every number of blocks already" in capsys.readouterr().err
    assert not folder.exists()


def test_the_option_is_read_and_a_command_of_ones_own_refuses_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words_ = ["study", "config.yaml", "--sweep", "a=1", "--sweep", "b=2", "--runs", "2"]
    assert build_parser().parse_known_args(words_)[0].sweep == ["a=1", "b=2"]
    with pytest.raises(SystemExit) as caught:
        main(["study", "--command", "true {seed}", "--sweep", "a=1", "--output-dir", str(tmp_path)])
    assert caught.value.code == 2
    assert "--sweep sets options" in capsys.readouterr().err


# --- what is found


def test_by_hand_the_best_of_three_is_told_from_the_two_others() -> None:
    one = only(swept_study(steps(0.5, 0.7, 0.6)))
    assert (one.key, one.best.value, one.unset) == ("reinit_layers", 1.0, None)
    assert [value.value for value in one.worse] == [0.0, 2.0]
    # Six seeds, every one the same way: 2 of the 2^6 turns are as clear, whatever the pairs.
    assert [value.p_value for value in one.values] == [2 / 64, None, 2 / 64]
    assert one.smallest_p == 2 / 64
    assert words(one) == (
        "reinit_layers=1 has the best mean and is better than 0 and 2 (p <= 0.05)."
    )


def test_where_lower_is_better_the_lowest_mean_is_best() -> None:
    one = only(swept_study(steps(0.5, 0.7, 0.6), greater_is_better=False))
    assert one.best.value == 0.0
    assert [value.is_told_apart for value in one.values] == [False, True, True]


def test_what_cannot_be_told_apart_is_said() -> None:
    alike = {value: [0.70 + seed / 100 for seed in range(6)] for value in (0, 1)}
    alike[1][0] = 0.71
    one = only(swept_study({**alike, 2: [0.2 + seed / 90 for seed in range(6)]}))
    assert words(one).endswith("is better than 2 (p <= 0.05); 0 cannot be told from it.")
    flat = only(swept_study({**alike, 2: [0.71, 0.70, 0.72, 0.73, 0.74, 0.74]}))
    assert "no other value can be told from it (p > 0.05)" in words(flat)
    few = only(swept_study(steps(0.5, 0.9, 0.6, seeds=5)))
    assert "no value can be told from another" in words(few)
    assert few.smallest_p == 1 / 16


def test_p_values_equal_the_slow_count_over_all_turns_of_signs() -> None:
    scores = steps(0.50, 0.52, 0.515, 0.51, seeds=7)
    one = only(swept_study(scores))
    best = int(one.best.value)
    pairs = list(itertools.combinations(range(4), 2))

    def t(a: int, b: int, signs: Any) -> float:
        d = [s * (scores[a][k] - scores[b][k]) for k, s in enumerate(signs)]  # type: ignore[operator]
        return abs(sum(d)) / sum(x * x for x in d) ** 0.5

    turns = list(itertools.product((1, -1), repeat=7))
    seen = {pair: t(*pair, (1,) * 7) for pair in pairs}
    order = sorted(pairs, key=lambda pair: -seen[pair])
    largest, expected = 0.0, {}
    for place, pair in enumerate(order):
        rivals = [max(t(*other, signs) for other in order[place:]) for signs in turns]
        share = sum(rival >= seen[pair] - 1e-9 for rival in rivals) / len(turns)
        expected[pair] = largest = max(largest, share)
    for value, found in enumerate(one.values):
        if value != best:
            assert found.p_value == expected[min(value, best), max(value, best)]


def test_runs_without_a_score_are_counted_and_not_averaged() -> None:
    scores = steps(0.5, 0.7, 0.6)
    one = only(swept_study({**scores, 2: [None, *scores[2][1:]], 3: [None] * 6}))
    assert [value.summary.failed for value in one.values] == [0, 0, 1, 6]
    assert one.values[3].summary.mean is None
    assert one.values[3] not in (*one.open, *one.worse)


def test_the_recipe_that_sets_nothing_is_a_line_and_a_value_of_the_file_is_a_point() -> None:
    plain = swept_study({"plain": [0.6] * 6, **steps(0.5, 0.7, 0.6)})
    one = only(plain)
    assert one.unset is not None
    assert one.unset.recipe == "plain"
    assert [value.value for value in one.values] == [0, 1, 2]
    told = only(
        swept_study({"plain": [0.6] * 6, **steps(0.5, 0.7)}, configuration={"reinit_layers": 5})
    )
    assert [value.value for value in told.values] == [0, 1, 5]


def test_the_summary_has_a_line_for_each_value() -> None:
    scores = {"plain": [0.5] * 6, **steps(0.6, 0.9, 0.7)}
    scores[2][0] = None
    text = markdown_summary(swept_study(scores))
    part = text.partition("## Score against reinit\\_layers\n")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    found = find(swept_study(scores))
    assert found is not None
    assert len(lines) == 3
    for line, value in zip(lines, found.sweeps[0].values, strict=True):
        assert f"{value.summary.mean:.3f} ± {value.summary.std:.3f}" in line
        assert f"| {value.summary.failed} of 6 |" in line
    assert lines[1].startswith("| **1**, best mean | 6 |")
    assert lines[1].endswith("| \N{EN DASH} | \N{EN DASH} |")
    assert "| \N{MINUS SIGN}0.3" in lines[0]
    assert "reinit\\_layers=1 has the best mean" in part
    assert "corrected for all 3 pairs" in part
    assert "plain does not set it: mean 0.500 ± 0.000." in part


def test_a_study_without_a_sweep_has_no_such_table() -> None:
    assert "## Score against" not in markdown_summary(swept_study({"plain": [0.5, 0.6]}))


def test_two_settings_make_two_sweeps() -> None:
    first = swept_study({"plain": [0.6] * 6, **steps(0.5, 0.7)})
    second = swept_study(steps(0.4, 0.9, 0.3), key="seed_steps")
    both = Study(
        "demo", (*first.recipes, *second.recipes), (*first.runs, *second.runs), "f1", True,
        recipe_settings={**first.recipe_settings, **second.recipe_settings},
    )  # fmt: skip
    found = find(both)
    assert found is not None
    assert [(one.key, len(one.values)) for one in found.sweeps] == [
        ("reinit_layers", 2),
        ("seed_steps", 3),
    ]
    assert {record["key"] for record in records(both)["swept_settings"]} == {
        "reinit_layers",
        "seed_steps",
    }


def test_recipes_that_differ_in_more_than_one_number_are_no_sweep() -> None:
    study = swept_study(steps(0.5, 0.7, 0.6))
    mixed = {**study.recipe_settings, "reinit_layers=2": {"reinit_layers": 2, "l2": 1.0}}
    other = Study("demo", study.recipes, study.runs, "f1", True, recipe_settings=mixed)
    one = only(other)
    assert [value.value for value in one.values] == [0, 1]  # those two are named after their values
    names = {f"r{n}": {"reinit_layers": n} for n in (0, 1)}
    runs = tuple(Run(name, {"seed": 1}, "finished", best_score=0.5) for name in names)
    assert find(Study("demo", tuple(names), runs, "f1", True, recipe_settings=names)) is None


def test_on_a_grid_of_seeds_every_pair_has_its_own_test() -> None:
    settings = {f"l2={n}": {"l2": n} for n in (0, 1, 2)}
    runs = tuple(
        Run(name, {"head_seed": h, "data_seed": d, "seed": 1}, "finished",
            best_score=0.5 + place / 10 + h / 100 + d / 200)
        for place, name in enumerate(settings) for h in range(3) for d in range(3)
    )  # fmt: skip
    one = only(Study("demo", tuple(settings), runs, "f1", True, recipe_settings=settings))
    assert one.correction == "Bonferroni"
    assert one.smallest_p == pytest.approx(3 * 2 ** (1 - 3))
    assert all(not value.is_told_apart for value in one.values)


# --- how it is drawn


def test_the_section_draws_every_run_the_line_and_the_best() -> None:
    scores = steps(0.5, 0.7, 0.6)
    study = swept_study({"plain": [0.6] * 6, **scores, 3: [None, *scores[2][1:]]})
    part = section(study)
    assert part is not None
    tree = ElementTree.fromstring(f"<div>{part.body}</div>")
    of_class = [set((e.get("class") or "").split()) for e in tree.iter()]
    assert sum("mark" in names for names in of_class) == 4 * 6 - 1
    assert sum("ring" in names for names in of_class) == 1
    text = " ".join(tree.itertext())
    assert "best mean 0.72" in text
    assert "plain: mean 0.600" in text
    assert len(list(tree.iter("tr"))) == 1 + 4
    assert len(part.records) == 4
    assert part.title == "Score against reinit_layers"
    assert 'id="sweeps"' in render(study)


def test_hostile_names_are_text() -> None:
    hostile = "<script>alert('x')</script>\"&"
    study = swept_study({"plain": [0.6] * 6, **steps(0.5, 0.7, 0.6)}, key=hostile)
    part = section(study)
    assert part is not None
    assert "<script" not in str(part.body)
    assert "<script" not in str(plot_sweeps(study).axes[0].get_ylabel())


def test_the_figure_has_the_means_of_the_finding() -> None:
    study = swept_study(steps(0.5, 0.7, 0.6))
    (axes,) = plot_sweeps(study).axes
    means = [value.summary.mean for value in only(study).values]
    assert [float(y) for y in axes.lines[0].get_ydata()] == means
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "2"]
    assert axes.get_xlabel() == "reinit_layers"
    assert "sweeps" in figures(study)


def test_rates_stand_on_a_logarithmic_axis() -> None:
    study = swept_study(
        {1e-5: [0.5] * 3, 1e-4: [0.6] * 3, 1e-3: [0.4] * 3}, key="learning_rate", configuration={}
    )
    assert plot_sweeps(study).axes[0].get_xscale() == "log"
    axis = ValueAxis.over([1e-5, 1e-4, 1e-3], 0, 100)
    assert [round(axis(v)) for v in (1e-5, 1e-4, 1e-3)] == [0, 50, 100]


def test_many_values_are_not_written_over_one_another() -> None:
    ticks = ValueAxis.over(range(41), 0, 560).ticks
    places = [at for at, _ in ticks]
    assert len(ticks) <= 15
    assert ticks[-1][1] == "40"
    assert min(b - a for a, b in itertools.pairwise(places)) > 12


# --- a study of it


@pytest.mark.filterwarnings("ignore:the run has collapsed:UserWarning")
def test_a_sweep_is_one_paired_study_and_its_report_knows_it(
    model_folder: Path, tmp_path: Path
) -> None:
    config = tiny_study(model_folder, tmp_path, max_steps=2)
    study = run_study(
        config, recipes={"plain": {}, **sweep("transfer_layers", [0, 2])}, runs=2,
        output_dir=tmp_path / "study", executor="in-process",
    )  # fmt: skip
    assert study.recipes == ("plain", "transfer_layers=0", "transfer_layers=2")
    asked = json.loads((tmp_path / "study/study.json").read_text(encoding="utf-8"))
    assert asked["recipe_settings"]["transfer_layers=0"] == {"transfer_layers": 0}
    assert len(study.runs) == 6
    assert all(run.score is not None for run in study.runs)  # two steps teach nothing
    one = only(study)
    assert [value.value for value in one.values] == [0.0, 2.0]
    assert one.unset is not None
    assert re.search(r"Score against transfer_layers", render(study))


def test_how_many_seeds_it_takes_is_told_of_a_grid_too() -> None:
    found = only(swept_study(steps(0.5, 0.6, 0.7, seeds=3)))
    assert words(found).endswith("cannot reach p <= 0.05, whatever they show; 6 seeds can.")
    names = {f"reinit_layers={n}": {"reinit_layers": n} for n in (0, 1, 2)}
    runs = tuple(
        Run(name, {"head_seed": h, "data_seed": d}, "finished",
            best_score=0.5 + place / 10 + h / 100 + d / 200)
        for place, name in enumerate(names) for h in range(6) for d in range(6)
    )  # fmt: skip
    grid = only(Study("demo", tuple(names), runs, "f1", True, recipe_settings=names))
    # Six units reach 2 / 2^6 = .031, times three pairs .094; seven .047.
    assert grid.smallest_p == pytest.approx(0.09375)
    assert words(grid).endswith("whatever they show; 7 of each seed can.")


def test_the_label_of_the_best_value_stays_inside() -> None:
    for best, cls in ((0, "name"), (1, "name middle"), (2, "name end")):
        means = [0.5, 0.5, 0.5]
        means[best] = 0.8
        part = section(swept_study(steps(*means)))
        assert part is not None
        labels = re.findall(r'<text x="[^"]*" y="[^"]*" class="([^"]*)">best mean', str(part.body))
        assert labels == [cls]


def test_a_verdict_that_claims_less_is_explained() -> None:
    """Six seeds tell four values apart by max T, whose least p is .031; Holm's is .094."""
    study = swept_study(steps(0.5, 0.6, 0.7, 0.8))
    assert len(only(study).worse) == 3
    page, summary = render(study), markdown_summary(study)
    why = "own correction, Holm's, may need more seeds for the same claim."
    assert "No difference can be claimed" in summary
    assert why in summary
    assert why in page.replace("&#39;", "'")
