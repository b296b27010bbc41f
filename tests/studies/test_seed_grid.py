"""Seeds as factors: which runs a grid has, what they prove, and what each seed does."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_stabilizer import run_study
from hf_stabilizer.errors import ConfigurationError, StudyError
from hf_stabilizer.records import Run
from hf_stabilizer.studies.commands.command_study import run_command_study
from hf_stabilizer.studies.comparison import compare
from hf_stabilizer.studies.seeds.seed_grid import grid_runs, plan_seeds, said, varied
from hf_stabilizer.studies.statistics import (
    pairs_needed,
    permutation_p_value,
    sign_flip_interval,
    sign_flip_p_value,
    smallest_p_value,
    spread_p_value,
)
from hf_stabilizer.studies.statistics.shared_seeds import shared_seeds
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.verdict import outcome, verdict
from tests import reference

NAMES = ("head_seed", "data_seed", "seed")


def cells_of(seeds: list[dict[str, int]]) -> list[tuple[int, ...]]:
    return [tuple(one[name] for name in NAMES) for one in seeds]


def runs_on(
    seeds: list[dict[str, int]], before: list[float], after: list[float]
) -> tuple[Run, ...]:
    pairs = zip(seeds, before, after, strict=True)
    return tuple(
        Run(recipe, one, "finished", best_score=score)
        for one, *scores in pairs
        for recipe, score in zip(("plain", "swa"), scores, strict=True)
    )


def compared(seeds: list[dict[str, int]], differences: list[float]) -> Any:
    return compare(
        runs_on(seeds, [0.5] * len(seeds), [0.5 + d for d in differences]), "plain", "swa"
    )


# --- which runs there are


def test_without_a_grid_all_three_seeds_go_together() -> None:
    assert cells_of(plan_seeds(runs=3, first_seed=4)) == [(4, 4, 4), (5, 5, 5), (6, 6, 6)]


def test_a_grid_is_every_head_with_every_data_order_under_one_dropout_seed() -> None:
    found = cells_of(plan_seeds(runs=None, first_seed=7, head_seeds=2, data_seeds=[9, 1, 5]))
    assert sorted(found) == [(h, d, 7) for h in (7, 8) for d in (1, 5, 9)]
    assert grid_runs(runs=None, head_seeds=2, data_seeds=[9, 1, 5]) == 6


def test_one_seed_is_varied_alone() -> None:
    assert cells_of(plan_seeds(runs=None, head_seeds=3)) == [(1, 1, 1), (2, 1, 1), (3, 1, 1)]
    assert cells_of(plan_seeds(runs=2, data_seeds=3)) == [(1, 1, 1), (1, 2, 1)]


def test_three_ways() -> None:
    found = cells_of(plan_seeds(runs=None, head_seeds=2, data_seeds=3, dropout_seeds=2))
    assert sorted(found) == sorted(itertools.product((1, 2), (1, 2, 3), (1, 2)))


SHAPES = [*itertools.product(range(2, 8), repeat=2)]


@pytest.mark.parametrize(("heads", "data"), SHAPES)
def test_every_part_of_a_grid_is_balanced(heads: int, data: int) -> None:
    cells = plan_seeds(runs=None, head_seeds=heads, data_seeds=data)
    assert len(set(cells_of(cells))) == heads * data
    for runs in range(1, len(cells) + 1):
        for name, levels in (("head_seed", heads), ("data_seed", data)):
            counts = Counter(one[name] for one in cells[:runs])
            often = [counts[seed] for seed in range(1, levels + 1)]
            assert max(often) - min(often) <= 1


@pytest.mark.parametrize(("heads", "data"), SHAPES)
def test_a_part_of_a_grid_is_connected_as_soon_as_can_be(heads: int, data: int) -> None:
    """A walk from head to data seed to head reaches all: a slow and obvious look."""
    cells = plan_seeds(runs=None, head_seeds=heads, data_seeds=data)[: heads + data - 1]
    reached = {("head_seed", 1)}
    for _ in range(heads + data):
        for one in cells:
            ends = {("head_seed", one["head_seed"]), ("data_seed", one["data_seed"])}
            reached |= ends if ends & reached else set()
    assert len(reached) == heads + data


def test_a_larger_part_holds_the_smaller_one(caplog: pytest.LogCaptureFixture) -> None:
    parts = [plan_seeds(runs=n, head_seeds=4, data_seeds=5) for n in (3, 9, 10, 20)]
    for smaller, larger in itertools.pairwise(parts):
        assert larger[: len(smaller)] == smaller
    notes = [record.message for record in caplog.records]
    assert len(notes) == 1  # nine runs are one more than there is to estimate: 1 + 3 + 4
    assert "with runs=3 of 3 head x 3 data seeds" in notes[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "runs is needed: how many runs each recipe has; or give a grid of seeds"),
        (
            {"runs": 7, "head_seeds": 2, "data_seeds": 3},
            r"runs=7 is more than the 2 head x 3 data seeds = 6 cells of the grid of seeds; "
            "leave runs out to run all of them, or give more seeds",
        ),
        ({"head_seeds": 0}, "head_seeds must be a whole number of seeds from 1 up, or a list"),
        ({"data_seeds": [1, 1]}, r"data_seeds must be one or more different seeds, got \[1, 1\]"),
        ({"data_seeds": []}, "data_seeds must be one or more different seeds"),
        ({"dropout_seeds": [1, -1]}, r"dropout_seeds must be a whole number in \[0, 2\^32\)"),
        ({"head_seeds": "5"}, "head_seeds must be a whole number of seeds from 1 up"),
        ({"runs": 0, "head_seeds": 2}, "runs must be a whole number of runs per recipe from 1 up"),
        ({"runs": 2, "first_seed": 2**32 - 1}, "and so the last seed"),
        ({"head_seeds": 2, "first_seed": 2**32 - 1}, "head_seeds must be a whole number"),
    ],
)
def test_refusal(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        plan_seeds(**{"runs": None, **options})


@pytest.mark.parametrize(
    "options",
    [
        {"runs": 4},
        {"runs": None, "head_seeds": 3, "data_seeds": [2, 5]},
        {"runs": 9, "head_seeds": 4, "data_seeds": 4},
    ],
)
def test_what_is_said_of_seeds_makes_them_again(options: dict[str, Any]) -> None:
    cells = plan_seeds(**options)
    again = eval(f"dict({said(cells)})")  # our own words
    assert sorted(cells_of(plan_seeds(**{"runs": None, **again}))) == sorted(cells_of(cells))


# --- what they prove


def test_units_by_hand() -> None:
    # Rows 1, 3 and 5; columns 2, 3 and 4; mean 3: units 1 + 2 - 3, 3 + 3 - 3, 5 + 4 - 3.
    cells = plan_seeds(runs=None, head_seeds=3, data_seeds=3)
    values = [2 * one["head_seed"] + one["data_seed"] - 3.0 for one in cells]
    found = shared_seeds(cells)
    assert found is not None
    assert found.of(values) == pytest.approx([0, 3, 6])
    assert found.mean(values) == pytest.approx(3)


@pytest.mark.parametrize("seed", range(3))
def test_units_of_a_full_grid_are_those_of_the_reference(seed: int) -> None:
    cells = plan_seeds(runs=None, head_seeds=4, data_seeds=4)
    values = np.random.default_rng(seed).normal(size=16).tolist()
    table = {(one["head_seed"], one["data_seed"]): v for one, v in zip(cells, values, strict=True)}
    found = shared_seeds(cells)
    assert found is not None
    assert found.of(values) == pytest.approx(reference.independent_units(table))
    assert found.mean(values) == pytest.approx(np.mean(values))


@pytest.mark.parametrize(
    "options",
    [
        {"runs": None, "head_seeds": 6, "data_seeds": 6},
        {"runs": 20, "head_seeds": 6, "data_seeds": 6},
        {"runs": None, "head_seeds": 7, "data_seeds": 4},
        {"runs": 25, "head_seeds": 9, "data_seeds": 5},
        {"runs": None, "head_seeds": 4, "data_seeds": 3, "dropout_seeds": 5},
        {"runs": 40, "head_seeds": 4, "data_seeds": 4, "dropout_seeds": 4},
    ],
)
def test_without_a_rest_no_two_units_share_a_head_or_a_data_order(options: dict[str, Any]) -> None:
    """Each effect goes into one unit alone, and the units' weights of a constant are one."""
    cells = plan_seeds(**options)
    found = shared_seeds(cells)
    assert found is not None
    assert found.units == min(varied(cells).values())
    assert found.chosen is None
    assert found.of([1.0] * len(cells)) == pytest.approx([1.0] * found.units)
    for name, levels in varied(cells).items():
        for level in range(1, levels + 1):
            parts = found.of([float(one[name] == level) for one in cells])
            assert sum(abs(part) > 1e-9 for part in parts) == 1


def test_where_holes_are_many_only_pairs_that_share_nothing_are_used() -> None:
    cells = plan_seeds(runs=13, head_seeds=7, data_seeds=7)
    found = shared_seeds(cells)
    assert found is not None
    assert found.chosen is not None
    used = [cells[place] for place in found.chosen]
    assert len({one["head_seed"] for one in used}) == len({one["data_seed"] for one in used}) == 7
    values = [float(k) for k in range(len(cells))]
    assert found.of(values) == [values[place] for place in found.chosen]


def test_seeds_that_go_together_or_alone_leave_every_run_a_unit() -> None:
    assert shared_seeds(plan_seeds(runs=6)) is None
    assert shared_seeds(plan_seeds(runs=None, head_seeds=6)) is None
    assert shared_seeds([]) is None
    assert shared_seeds([{"seed": 1}, {"seed": 2}]) is None


def test_a_comparison_on_the_diagonal_is_what_it_was() -> None:
    differences = np.random.default_rng(0).normal(0.1, 0.1, size=7).tolist()
    found = compared(plan_seeds(runs=7), differences)
    assert found.grid is None
    assert found.held == "7 pairs"
    assert found.p_value == sign_flip_p_value(found.differences)
    assert found.interval == sign_flip_interval(found.differences)
    assert found.mean_difference == sum(found.differences) / 7
    before, after = [p.baseline for p in found.pairs], [p.candidate for p in found.pairs]
    assert found.spread_p == spread_p_value(before, after)


def test_a_comparison_on_a_grid_counts_units() -> None:
    cells = plan_seeds(runs=None, head_seeds=6, data_seeds=8)
    differences = np.random.default_rng(1).normal(0.1, 0.02, size=48).tolist()
    found = compared(cells, differences)
    assert found.held == "48 pairs in 6 head x 8 data seeds, tested as 6 independent units"
    assert found.p_value == found.smallest_p == smallest_p_value(6)
    assert found.mean_difference == pytest.approx(np.mean(differences))
    assert len(found.units) == 6
    assert found.interval == sign_flip_interval(found.units)
    assert found.grid.candidate_mean - found.grid.baseline_mean == found.mean_difference
    # Wilson's interval is as wide as six pairs make it, not 48.
    assert found.superiority == 1
    assert found.superiority_interval.low == pytest.approx(0.61, abs=0.01)
    text = verdict(Study("s", ("plain", "swa"), runs_on(cells, [0.5] * 48, [0.6] * 48), "f1", True))
    assert "better with 48 of 48 pairs in 6 head x 8 data seeds, tested as 6 independent" in text


def test_twenty_five_pairs_in_five_by_five_seeds_cannot_reach_significance() -> None:
    cells = plan_seeds(runs=None, head_seeds=5, data_seeds=5)
    runs = runs_on(cells, [0.5] * 25, [0.9] * 25)
    found = compare(runs, "plain", "swa")
    assert outcome(found) == "open"
    assert found.smallest_p == 0.0625
    assert found.words == (
        "25 pairs in 5 head x 5 data seeds, tested as 5 independent units, cannot reach p <= 0.05; "
        f"{pairs_needed()} of each seed can"
    )
    text = verdict(Study("s", ("plain", "swa"), runs, "f1", True))
    assert text == (
        "No difference can be claimed between plain and swa: 25 pairs in 5 head x 5 data seeds, "
        "tested as 5 independent units, cannot reach p < 0.05 in an exact test, whatever they show "
        "(6 of each seed can); so far swa leads plain by 0.400 f1."
    )


def test_one_seed_alone_is_a_claim_about_the_others_as_they_are() -> None:
    cells = plan_seeds(runs=None, head_seeds=6, first_seed=3)
    runs = runs_on(cells, [0.5] * 6, [0.6] * 6)
    assert compare(runs, "plain", "swa").given == (("data_seed", 3),)
    text = verdict(Study("s", ("plain", "swa"), runs, "f1", True))
    assert "better with 6 of 6 seeds, all with data seed 3)" in text


def test_recipes_on_grids_without_common_seeds_are_compared_by_units() -> None:
    rng = np.random.default_rng(0)
    grids = [plan_seeds(runs=None, first_seed=k, head_seeds=4, data_seeds=5) for k in (1, 10)]
    runs = [
        Run(recipe, one, "finished", best_score=float(rng.normal()))
        for recipe, grid in zip(("plain", "swa"), grids, strict=True)
        for one in grid
    ]
    found = compare(runs, "plain", "swa")
    assert found.held == "20 and 20 unpaired runs that share seeds, as 4 and 4 units"
    units = []
    for recipe, grid in zip(("plain", "swa"), grids, strict=True):
        shared = shared_seeds(grid)
        assert shared is not None
        units.append(shared.of([r.best_score or 0.0 for r in runs if r.recipe == recipe]))
    assert found.p_value == permutation_p_value(*units)


def false_claims(
    cells: list[dict[str, int]], share: tuple[float, float, float], kind: str
) -> float:
    """Share of studies in which recipes that do not differ are told apart, over 2,000 of them."""
    rng = np.random.default_rng(0)
    found = shared_seeds(cells)
    assert found is not None

    def draw(*size: int) -> Any:
        if kind == "normal":
            return rng.normal(size=size)
        lost = (rng.random((2, *size)) < 0.15) * -5.0  # of either recipe one run in seven collapses
        return lost[0] - lost[1] + 0.3 * rng.normal(size=size)

    heads, data = (np.array([one[name] for one in cells]) for name in NAMES[:2])
    size = 2_000, 1 + max(heads.max(), data.max())
    table = share[0] * draw(*size)[:, heads] + share[1] * draw(*size)[:, data]
    table = table + share[2] * draw(2_000, len(cells))
    claims = [(sign_flip_p_value(found.of(row)) or 1.0) <= 0.05 for row in table.tolist()]
    return float(np.mean(claims))


SHARES = [(0.0, 0.0, 1.0), (1.0, 0.0, 0.3), (0.0, 1.0, 0.3), (1.0, 1.0, 0.1), (1.0, 1.0, 1.0)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "collapsing"])
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize(
    "options",
    [
        {"runs": None, "head_seeds": 6, "data_seeds": 6},
        {"runs": None, "head_seeds": 7, "data_seeds": 10},
        {"runs": 24, "head_seeds": 8, "data_seeds": 8},
        {"runs": 15, "head_seeds": 8, "data_seeds": 8},
    ],
)
def test_false_differences_stay_rare_on_grids(
    options: dict[str, Any], share: tuple[float, float, float], kind: str
) -> None:
    # 5 % and two and a half standard errors of 2,000 studies.
    assert false_claims(plan_seeds(**options), share, kind) <= 0.05 + 2.5 * 0.005


def test_cell_by_cell_false_differences_would_be_the_rule() -> None:
    """Why there are units at all: head by recipe interactions, and 36 cells taken for witnesses."""
    cells = plan_seeds(runs=None, head_seeds=6, data_seeds=6)
    rng = np.random.default_rng(0)
    found = shared_seeds(cells)
    assert found is not None
    heads = np.array([one["head_seed"] - 1 for one in cells])
    naive = ours = 0
    for _ in range(200):
        row = rng.normal(size=6)[heads] + 0.3 * rng.normal(size=36)
        distance = abs(row.mean()) / (row.std(ddof=1) / 6)
        naive += distance > 2.03  # t with 35 degrees of freedom
        ours += (sign_flip_p_value(found.of(row.tolist())) or 1.0) <= 0.05
    assert naive > 60
    assert ours <= 18  # 5 % of 200, and two and a half standard errors


# --- whole studies


class InOrder(ThreadPoolExecutor):
    """One thread in this process: the runs of a study without the start of workers."""

    def __init__(self) -> None:
        super().__init__(max_workers=1)


def study(config: dict[str, Any], folder: Path, **options: Any) -> Study:
    del config["output_dir"]
    with InOrder() as executor:
        values = {"recipes": ["plain"], **options}
        return run_study({**config, "max_steps": 3}, output_dir=folder, executor=executor, **values)


def test_a_study_over_a_grid_and_a_bigger_one_that_joins(
    config: dict[str, Any], tmp_path: Path
) -> None:
    first = study(dict(config), tmp_path / "s", head_seeds=2, data_seeds=2, runs=3)
    assert [run.name for run in first.runs] == [
        "head1-data1-dropout1", "head1-data2-dropout1", "head2-data2-dropout1",
    ]  # fmt: skip
    assert "head_seeds=[1, 2], data_seeds=[1, 2], dropout_seeds=[1], runs=3" in first.command
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("s/runs/*/*/halted.json")}
    more = study(dict(config), tmp_path / "s", head_seeds=2, data_seeds=2)
    assert len(more.runs) == 4
    assert [r.evaluations for r in more.runs if r.name in {one.name for one in first.runs}] == [
        r.evaluations for r in first.runs
    ]
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_early_stopping_works_with_a_grid(config: dict[str, Any], tmp_path: Path) -> None:
    found = study(
        {**config, "evaluations_per_epoch": 6}, tmp_path / "s", head_seeds=2, data_seeds=2,
        stop_at=0.5, keep=1,
    )  # fmt: skip
    assert sorted(run.status for run in found.runs) == ["finished", *["stopped"] * 3]
    with pytest.raises(StudyError, match="the seeds of 2 of them are not asked for now"):
        study(
            {**config, "evaluations_per_epoch": 6}, tmp_path / "s", head_seeds=2, stop_at=0.5,
            keep=1,
        )  # fmt: skip


SCRIPT = """
import json, pathlib, sys
out = pathlib.Path(sys.argv[1]); out.mkdir(parents=True)
log = [{"step": 1, "eval_f1": 0.1 * int(sys.argv[2]) + 0.01 * int(sys.argv[3])}]
(out / "trainer_state.json").write_text(json.dumps({"global_step": 1, "max_steps": 1,
    "log_history": log}))
"""


def test_a_script_is_given_the_seeds_that_it_takes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = f"{sys.executable} {script} {{output_dir}} {{seed}} {{data_seed}}"
    options: dict[str, Any] = {"metric": "f1", "output_dir": tmp_path / "s"}
    found = run_command_study(command, dropout_seeds=[3, 4], data_seeds=2, **options)
    assert {(r.seeds["seed"], r.seeds["data_seed"]): r.score for r in found.runs} == {
        (3, 1): pytest.approx(0.31), (3, 2): pytest.approx(0.32),
        (4, 1): pytest.approx(0.41), (4, 2): pytest.approx(0.42),
    }  # fmt: skip
    with pytest.raises(ConfigurationError, match=r"head_seeds cannot be varied: the command has"):
        run_command_study(command, head_seeds=2, **options)
    with pytest.raises(ConfigurationError, match=r"vary \{seed\} with dropout_seeds instead"):
        run_study(command, head_seeds=2, output_dir=tmp_path / "s")


# --- each seed does its own part, and no other


class Seen:
    """Makes batches, and remembers which rows came in which order."""

    def __init__(self) -> None:
        self.order: list[tuple[int, ...]] = []

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        import torch

        self.order += [tuple(row["input_ids"].tolist()) for row in rows]
        return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}


def trained(
    model_folder: Path, folder: Path, *, rows: int = 0, labels: int = 2, dropout: float = 0.1,
    **seeds: int,
) -> tuple[dict[str, Any], list[tuple[int, ...]], dict[str, Any]]:  # fmt: skip
    """New parameters before training, rows in the order seen, and all weights after it."""
    import transformers

    from hf_stabilizer import StabilizerArguments, prepare_model, stabilize
    from tests.tiny import TRAINING, Rows

    given = {"head_seed": 1, "data_seed": 1, "seed": 1, **seeds}
    args = StabilizerArguments(
        output_dir=str(folder), **{**TRAINING, **given, "num_train_epochs": 1}
    )
    transformers.set_seed(args.seed)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        model_folder, num_labels=labels, hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    model = prepare_model(model, args)
    new = {n: p.detach().clone() for n, p in model.named_parameters() if "classifier" in n}
    assert new
    seen = Seen()
    # The tiny model knows 22 words.
    data = Rows(32, num_labels=labels, seed=rows)
    data.input_ids %= 22
    trainer = transformers.Trainer(
        model, args, train_dataset=data, data_collator=seen, **stabilize(args)
    )
    trainer.train()
    return new, seen.order, {n: p.detach().clone() for n, p in model.named_parameters()}


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    import torch

    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.fixture
def one(model_folder: Path, tmp_path: Path) -> Any:
    return lambda **options: trained(model_folder, tmp_path, **options)


def test_a_head_seed_draws_the_same_head_on_another_data_set_of_equal_label_count(one: Any) -> None:
    head, order, _ = one(head_seed=3)
    elsewhere, other_order, _ = one(head_seed=3, data_seed=5, seed=8, rows=1)
    assert same(head, elsewhere)
    assert sorted(order) != sorted(other_order)  # they are other rows
    assert not same(head, one(head_seed=4)[0])
    more_labels = one(head_seed=3, labels=3)[0]
    assert {k: v.shape for k, v in more_labels.items()} != {k: v.shape for k, v in head.items()}


def test_a_data_seed_changes_the_order_and_no_row(one: Any) -> None:
    head, order, weights = one(data_seed=3)
    other_head, other_order, _ = one(data_seed=4)
    assert same(head, other_head)
    assert order != other_order
    assert sorted(order) == sorted(other_order)
    assert one(data_seed=3, head_seed=9, seed=9)[1] == order
    assert same(one(data_seed=3)[2], weights)


def test_a_dropout_seed_changes_dropout_alone(one: Any) -> None:
    head, order, weights = one(seed=3)
    other_head, other_order, other_weights = one(seed=4)
    assert same(head, other_head)
    assert order == other_order
    assert not same(weights, other_weights)
    # Without dropout nothing is left for it to change.
    assert same(one(seed=3, dropout=0.0)[2], one(seed=4, dropout=0.0)[2])
