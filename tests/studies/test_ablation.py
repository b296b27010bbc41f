"""Which remedy helps: arms and numbers by hand, refusals, and a real ablation, started twice."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from hf_stabilizer import Run, Study, ablate
from hf_stabilizer.cli import main
from hf_stabilizer.errors import ConfigurationError, StudyError
from hf_stabilizer.studies.ablations.ablation import (
    ablation_of,
    ablation_rows,
    comparisons_of,
    comparisons_of_study,
    runs_needed,
)
from hf_stabilizer.studies.ablations.ablation_view import ablation_sentence, print_ablation
from hf_stabilizer.studies.ablations.remedies import arms_of, read_remedies
from hf_stabilizer.studies.cards.markdown import markdown_summary
from hf_stabilizer.studies.comparison import compare
from hf_stabilizer.studies.events import read_events
from hf_stabilizer.studies.findings import paired_differences
from hf_stabilizer.studies.statistics import holm
from hf_stabilizer.studies.study import write_definition
from hf_stabilizer.studies.verdict import verdict
from tests.conftest import tiny_study

TASK = "text-classification"


# ---- arms


def test_three_remedies_make_eight_arms() -> None:
    remedies = {"a": {"warmup_steps": 2}, "b": {"averaging": "swa"}, "c": {"weight_decay": 0.1}}
    arms = arms_of("plain", {"learning_rate": 1e-4, "weight_decay": 0.0}, remedies)
    ground = {"learning_rate": 1e-4, "weight_decay": 0.0}
    assert arms.recipes == {
        "plain": ground,
        "a": {**ground, "warmup_steps": 2},
        "b": {**ground, "averaging": "swa"},
        "c": {**ground, "weight_decay": 0.1},
        "all": {**ground, "warmup_steps": 2, "averaging": "swa", "weight_decay": 0.1},
        "all-but-a": {**ground, "averaging": "swa", "weight_decay": 0.1},
        "all-but-b": {**ground, "warmup_steps": 2, "weight_decay": 0.1},
        "all-but-c": {**ground, "warmup_steps": 2, "averaging": "swa"},
    }
    assert arms.ablation == {
        "baseline": "plain",
        "all": "all",
        "remedies": {n: {"alone": n, "without": f"all-but-{n}"} for n in remedies},
    }


def test_of_two_remedies_none_is_run_twice() -> None:
    arms = arms_of("plain", {}, {"a": {"warmup_steps": 2}, "b": {"averaging": "swa"}})
    assert list(arms.recipes) == ["plain", "a", "b", "all"]
    assert arms.ablation["remedies"]["a"] == {"alone": "a", "without": "b"}


def test_a_remedy_is_a_recipe_a_file_or_a_line(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("adam_beta2: 0.98\n")
    found = read_remedies(
        [
            "stabilised",
            str(tmp_path / "mine.yaml"),
            "rates:layer_lr=grouped,layer-lr-multipliers=[1.0, 1.75],learning-rate=1e-5",
        ],
        task=TASK,
    )
    assert found["stabilised"]["fit_head"] is True
    assert found["mine"] == {"adam_beta2": 0.98}
    assert found["rates"] == {
        "layer_lr": "grouped",
        "layer_lr_multipliers": [1.0, 1.75],
        "learning_rate": 1e-5,
    }


@pytest.mark.parametrize(
    ("remedies", "message"),
    [
        (["mosbach"], "an ablation needs two remedies or more, got 1; one recipe is held"),
        (["mosbach", "mosbach"], "the remedy 'mosbach' is named twice"),
        (["mosbach", "plain"], "remedy 'plain' sets nothing for text-classification"),
        (["mosbach", "mosbac"], "no recipe 'mosbac' .did you mean mosbach"),
        (["a:averagin=swa", "mosbach"], "unknown configuration key 'averagin' .did you mean"),
        (["a:warmup_steps=soon", "mosbach"], "warmup_steps must be a number, got 'soon'"),
        ([":a=1", "mosbach"], "a remedy must be a recipe, a YAML file or NAME:key=value"),
        ({"a": "swa", "b": {}}, "remedy 'a' must be a mapping of configuration keys, got 'swa'"),
        ("mosbach", "remedies must be a list or a mapping, got 'mosbach'"),
        (3, "remedies must be a list or a mapping, got 3"),
        ([3, 4], "a recipe must be a name, or the path of a YAML file, got 3"),
    ],
    ids=str,
)
def test_what_is_no_remedy(remedies: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_remedies(remedies, task=TASK)


def test_remedies_that_contradict_one_another_cannot_be_joined() -> None:
    same = {"a": {"warmup_steps": 2}, "b": {"warmup_steps": 2.0, "averaging": "swa"}}
    assert arms_of("plain", {}, same).recipes["all"]["averaging"] == "swa"
    with pytest.raises(
        ConfigurationError,
        match="remedies 'a' and 'b' cannot be joined: a sets warmup_steps to 2 and b to 3; set it",
    ):
        arms_of("plain", {}, {"a": {"warmup_steps": 2}, "b": {"warmup_steps": 3}})


@pytest.mark.parametrize("name", ["plain", "all", "all-but-b"])
def test_no_remedy_takes_the_name_of_another_arm(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"a remedy cannot be named '{name}'"):
        arms_of("plain", {}, {name: {"warmup_steps": 2}, "b": {"averaging": "swa"}})


# ---- numbers


def made(scores: dict[str, list[float]], *, greater_is_better: bool = True) -> Study:
    """An ablation of a and b, or of a, b and c, with these scores by seed."""
    names = [name for name in ("a", "b", "c") if name in scores]
    others = {"a": "b", "b": "a"} if len(names) == 2 else {n: f"all-but-{n}" for n in names}
    remedies = {name: {"alone": name, "without": others[name]} for name in names}
    runs = tuple(
        Run(
            *(arm, {"seed": seed}, "finished"),
            best_score=score,
            greater_is_better=greater_is_better,
        )
        for arm, values in scores.items()
        for seed, score in enumerate(values)
    )
    asked = {"baseline": "plain", "all": "all", "remedies": remedies}
    return Study("demo", tuple(scores), runs, "f1", greater_is_better, ablation=asked)


def test_the_rows_by_hand() -> None:
    # Eight seeds that all gain alike: p = 2 / 2^8, and five comparisons make .0390625 of it.
    step = [seed / 100 for seed in range(8)]
    scores = {"plain": 0.5, "a": 0.6, "b": 0.5, "all": 0.7}
    study = made({arm: [at + s for s in step] for arm, at in scores.items()})
    first, second, together = ablation_rows(study)
    assert (first.remedy, second.remedy, together.remedy) == ("a", "b", "all")
    gains = [row.alone.gain for row in (first, second, together)]
    assert gains == pytest.approx([0.1, 0.0, 0.2])
    assert together.added is None
    assert first.added is not None
    assert second.added is not None
    assert first.added.gain == pytest.approx(0.2)
    assert second.added.gain == pytest.approx(0.1)
    assert first.alone.p_value == second.added.p_value == 5 * 2 / 2**8
    assert first.alone.interval == pytest.approx((0.1, 0.1))
    found = ablation_of(study)
    assert (found.comparisons, found.smallest_p) == (5, 5 * 2 / 2**8)
    assert found.baseline.mean == pytest.approx(0.535)
    assert first.without_arm is not None
    assert first.without_arm.recipe == "b"


@pytest.mark.parametrize("greater_is_better", [True, False])
def test_every_comparison_is_the_paired_one_and_holm_counts_them_all(
    greater_is_better: bool,
) -> None:
    rng = np.random.default_rng(0)
    names = ["plain", "a", "b", "c", "all", "all-but-a", "all-but-b", "all-but-c"]
    study = made(
        {name: (0.5 + 0.1 * rng.random(9)).tolist() for name in names},
        greater_is_better=greater_is_better,
    )
    rows = ablation_rows(study)
    seen = [row.alone for row in rows] + [row.added for row in rows if row.added is not None]
    pairs = [("plain", n) for n in ("a", "b", "c", "all")]
    pairs += [(f"all-but-{n}", "all") for n in ("a", "b", "c")]
    plain = [compare(study.runs, *pair) for pair in pairs]
    assert [one.mean_difference for one in seen] == [one.mean_difference for one in plain]
    assert [one.p_value for one in seen] == holm([one.p_value or 1.0 for one in plain])
    assert ablation_of(study).comparisons == comparisons_of(3) == len(pairs)


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c")])
def test_a_comparison_has_one_p_value_wherever_it_is_shown(names: tuple[str, ...]) -> None:
    rng = np.random.default_rng(1)
    arms = ["plain", *names, "all", *(f"all-but-{n}" for n in names if len(names) > 2)]
    gains = {"a": 0.05, "all": 0.06}
    study = made({n: (0.5 + gains.get(n, 0) + 0.04 * rng.random(9)).tolist() for n in arms})
    extra = tuple(replace(run, recipe="later") for run in study.of("a"))
    for one in (study, replace(study, recipes=(*study.recipes, "later"), runs=study.runs + extra)):
        table = {row.alone.candidate: row.alone for row in ablation_rows(one)}
        shown = comparisons_of_study(one)
        found = paired_differences.find(one)
        assert found is not None
        assert [c.candidate for c in shown] == [n for n in one.recipes if "but" not in n][1:]
        assert [c.comparison for c in found.candidates] == list(shown)
        assert all(table[c.candidate] == c for c in shown if c.candidate in table)
        count = ablation_of(one).comparisons
        assert count == comparisons_of(len(names)) + len(one.recipes) - len(arms)
        assert f"after correction for {count} comparisons" in verdict(one)
        assert f"Holm's method for {count} comparisons" in markdown_summary(one)


def test_the_fewest_runs_can_just_show_something() -> None:
    for remedies in (2, 3, 6):
        needed = runs_needed(remedies)
        assert comparisons_of(remedies) * 2.0 ** (1 - needed) <= 0.05
        assert comparisons_of(remedies) * 2.0 ** (2 - needed) > 0.05


def test_what_it_comes_to_in_words() -> None:
    step = [seed / 100 for seed in range(9)]
    scores = {"plain": 0.5, "a": 0.6, "b": 0.5, "c": 0.4, "all": 0.7, "all-but-a": 0.5}
    scores |= {"all-but-b": 0.7, "all-but-c": 0.8}
    good = made({arm: [at + s for s in step] for arm, at in scores.items()})
    assert ablation_sentence(good) == (
        "All remedies together beat plain by 0.200 f1 (95 % interval 0.200 to 0.200, p = 0.027). "
        "Among the others a adds 0.200; c takes away 0.100; that b adds anything cannot be "
        "claimed. Alone a helps and c hurts."
    )
    turned = replace(
        good,
        greater_is_better=False,
        runs=tuple(replace(run, greater_is_better=False) for run in good.runs),
    )
    assert "are worse than plain by 0.200 f1" in ablation_sentence(turned)
    assert "Among the others c adds 0.100; a takes away 0.200" in ablation_sentence(turned)
    few = made({arm: [at + s for s in step[:6]] for arm, at in scores.items()})
    assert ablation_sentence(few) == (
        "Nothing can be claimed after correction for 7 comparisons: 6 pairs cannot reach p <= 0.05 "
        "in an exact paired test, whatever they show; 9 can. So far all remedies together are "
        "better than plain by 0.200 f1."
    )
    none = replace(good, runs=())
    assert "have no seeds under which both have a score yet" in ablation_sentence(none)
    with pytest.raises(StudyError, match=r"is no ablation: .* make it with `hf-stabilizer ablate`"):
        ablation_sentence(replace(good, ablation=None))


def test_the_table_holds_every_arm_in_eighty_columns() -> None:
    step = [seed / 100 for seed in range(8)]
    study = made({arm: [0.5 + s for s in step] for arm in ("plain", "a", "b", "all")})
    out = io.StringIO()
    print_ablation(study, Console(file=out, width=80))
    lines = [line.split() for line in out.getvalue().splitlines() if line.strip()]
    first = [words[0] for words in lines]
    for arm, count in (("plain", 1), ("a", 2), ("b", 2), ("all", 1), ("alone", 1), ("left", 1)):
        assert first.count(arm) == count, arm
    assert ["plain", "0.535", "0.024", "0/8"] in lines
    assert ["a", "0.535", "0.024", "0/8", "0.000", "0.000", "to", "0.000", "1.00"] in lines


# ---- in earnest


@pytest.fixture(scope="module")
def tiny(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Four steps of a tiny model."""
    return tiny_study(model_folder, tmp_path_factory.mktemp("rows"), rows=32, max_steps=4)


def run(config: Any, folder: Path, **options: Any) -> Study:
    """An ablation in this process."""
    with ThreadPoolExecutor(max_workers=1) as executor:
        console = Console(file=io.StringIO())
        return ablate(config, output_dir=folder, executor=executor, console=console, **options)


def test_an_ablation_runs_and_is_found_again(tiny: dict[str, Any], tmp_path: Path) -> None:
    remedies = {"warm": {"warmup_steps": 2}, "swa": {"averaging": "swa", "averaging_start": 2}}
    found = run(tiny, tmp_path / "s", remedies=remedies, runs=2)
    assert found.recipes == ("plain", "warm", "swa", "all")
    assert len(found.runs) == 8
    assert Study.from_folder(tmp_path / "s").ablation == found.ablation
    settings = found.recipe_settings["all"]
    assert (settings["warmup_steps"], settings["averaging"]) == (2, "swa")
    assert {run.configuration["averaging"] for run in found.of("swa")} == {"swa"}
    rows = ablation_rows(found)
    assert [row.remedy for row in rows] == ["warm", "swa", "all"]  # as given
    assert [len(row.alone.pairs) for row in rows] == [2, 2, 2]
    # The same again repeats nothing; one remedy more is another ablation.
    before = len(read_events(tmp_path / "s"))
    again = run(tiny, tmp_path / "s", remedies=remedies, runs=2)
    assert again.runs == found.runs
    assert not [e for e in read_events(tmp_path / "s")[before:] if e.event == "started"]
    with pytest.raises(StudyError, match=r"holds another study: .*its ablation has other remedies"):
        run(tiny, tmp_path / "s", remedies={**remedies, "slow": {"learning_rate": 1e-4}}, runs=2)


def test_an_ablation_may_stop_early(tiny: dict[str, Any], tmp_path: Path) -> None:
    remedies = ["warm:warmup_steps=2", "decay:weight_decay=0.1"]
    found = run(tiny, tmp_path / "s", remedies=remedies, runs=2, stop_at=0.5)
    assert (found.stop_at, found.keep) == (0.5, 1)
    assert [run.status for run in found.of("all")].count("stopped") == 1
    assert found.configuration["evaluations_per_epoch"] == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "plan"}, "no recipe 'plan' .did you mean plain"),
        ({"baseline": "mosbach", "remedies": ["mosbach", "a:weight_decay=0.2"]}, "another arm's"),
        ({"remedies": ["a:averaging=swa", "b:averaging=ema"]}, "cannot be joined: a sets averag"),
        ({"remedies": ["a:task=text-regression", "b:averaging=ema"]}, "has another task than"),
        ({"runs": 0}, "runs must be a whole number of runs per recipe from 1 up, got 0"),
    ],
    ids=str,
)
def test_an_ablation_that_cannot_be(
    tiny: dict[str, Any], tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    asked = {"remedies": ["a:averaging=swa", "b:warmup_steps=2"], **options}
    with pytest.raises(ConfigurationError, match=message):
        run(tiny, tmp_path / "s", **asked)
    assert not (tmp_path / "s").exists()


def test_an_ablation_joins_only_a_study_with_its_baseline(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "s"
    write_definition(Study("s", ("mosbach", "plain"), (), "accuracy", True), folder)
    with pytest.raises(StudyError, match="another study: its baseline is mosbach, not plain;"):
        run(tiny, folder, remedies=["a:averaging=swa", "b:warmup_steps=2"])


def test_a_command_line_cannot_be_ablated(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="a command line cannot be ablated"):
        run("python a.py --seed {seed} --output_dir {output_dir}", tmp_path, remedies=["a", "b"])


def test_the_command(
    tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(json.dumps(tiny))
    words = ["ablate", str(tmp_path / "c.yaml"), "--output_dir", str(tmp_path / "s")]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--remedies", "a:warmup_steps=2", "b:warmup_steps=3"])
    assert ended.value.code == 2
    assert "cannot be joined: a sets warmup_steps to 2 and b to 3" in capsys.readouterr().err
    remedies = {"warm": {"warmup_steps": 2}, "decay": {"weight_decay": 0.1}}
    run(tiny, tmp_path / "s", remedies=remedies, runs=1)
    main([*words, "--remedies", "warm:warmup_steps=2", "decay:weight_decay=0.1", "--runs", "1"])
    out = capsys.readouterr().out
    assert "left out" in out
    assert "Nothing can be claimed after correction for 5 comparisons: one pair" in out.replace(
        "\n", " "
    ).replace("  ", " ")
    assert (tmp_path / "s" / "report.html").is_file()
