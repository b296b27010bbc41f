"""Do tables fit on a terminal with every name told apart and every number whole?"""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from hf_stabilizer.records import Run
from hf_stabilizer.studies import formats
from hf_stabilizer.studies.fitted_table import fitted_table
from hf_stabilizer.studies.study import Study
from hf_stabilizer.studies.table import print_study
from hf_stabilizer.studies.verdict import verdict


def printed(study: Study, width: int) -> str:
    out = io.StringIO()
    print_study(study, Console(file=out, width=width))
    return out.getvalue()


def study_of(scores: dict[str, list[float]], metric: str = "accuracy") -> Study:
    runs = [
        Run(
            recipe,
            {"seed": seed},
            "finished",
            metric=metric,
            greater_is_better=metric == "accuracy",
            best_score=score,
            seconds=4000.0,
        )
        for recipe, own in scores.items()
        for seed, score in enumerate(own)
    ]
    return Study("demo", tuple(scores), tuple(runs), metric, metric == "accuracy")


def column(text: str, place: int) -> list[str]:
    """The cells of a column, folded ones put together, row by row."""
    rows: list[str] = []
    for line in text.splitlines():
        if not line.startswith("│"):
            continue
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        if cells[1]:  # the number of runs begins a row
            rows.append(cells[place])
        else:
            rows[-1] += cells[place]
    return rows


@pytest.mark.parametrize("width", [160, 80, 60, 45])
def test_arms_of_a_sweep_keep_their_names_and_numbers(width: int) -> None:
    names = ["plain", *(f"transfer_layers={depth}" for depth in range(12))]
    study = study_of({name: [0.5 + place / 100, 0.6] for place, name in enumerate(names)})
    text = printed(study, width)
    table = text[: text.index("└")]
    assert all(len(line) <= width for line in table.splitlines())
    assert "…" not in table
    assert column(table, 0) == names
    for row in study.summary():
        assert row.mean is not None
        assert formats.number(row.mean, 3) in table
        assert formats.number(row.std, 3) in table


def test_what_is_left_out_is_named_and_the_first_spare_column_goes_first() -> None:
    columns, rows = ["name", "a", "b", "c"], [["first", "1.00000", "2.00000", "3.00000"]]

    def shown(width: int) -> str:
        out = io.StringIO()
        table = fitted_table("", columns, rows, width=width, names=["name"], spare=["b", "a"])
        Console(file=out, width=width).print(table)
        return out.getvalue()

    assert "no room" not in shown(39)  # 5 + 3 x 7 letters, and 4 x 3 + 1 of the rules
    assert "no room for: b" in shown(38)
    assert "2.00000" not in shown(38)
    assert "no room for: b, a" in shown(28)
    assert "3.00000" in shown(19)


def test_cells_are_no_markup() -> None:
    out = io.StringIO()
    table = fitted_table("", ["name", "n"], [["[red]x", "1"]], width=40, names=["name"])
    Console(file=out, width=40).print(table)
    assert "[red]x" in out.getvalue()


def test_a_small_difference_has_the_digits_that_show_it() -> None:
    plain = [1.137 + place / 1e6 for place in range(6)]
    study = study_of({"plain": plain, "swa": [score + 0.00031 for score in plain]}, "rmse")
    assert verdict(study).startswith("plain beats swa by 0.0003 rmse: 1.1370 against 1.1373")


@pytest.mark.parametrize("runs", [2, 8])
def test_a_tie_is_called_one(runs: int) -> None:
    scores = [0.5 + 0.1 * place for place in range(runs)]
    sentence = verdict(study_of({"plain": scores, "swa": scores[::-1]}))
    assert sentence.startswith("No difference can be claimed between plain and swa")
    assert "their mean accuracy is the same" in sentence
