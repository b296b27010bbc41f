"""The page of a cross-validation: is what it says true, whole, and safe to open?"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hf_stabilizer.cli import main
from hf_stabilizer.errors import StudyError
from hf_stabilizer.folds import CrossValidation, FoldScore, write_fold_report
from hf_stabilizer.folds.page.answers import Answers
from hf_stabilizer.folds.page.confusion import MOST_POINTS, confusion_section, counted
from hf_stabilizer.folds.page.mistakes import LONGEST, mistakes_section, wrongness
from hf_stabilizer.folds.record import TestScore
from hf_stabilizer.procedure import Procedure
from hf_stabilizer.records import Run, write_run
from hf_stabilizer.studies.study import Study, write_definition

TEXTS = ["good film", "warm <b>plot</b>", "great & cast", "bad tone", "grim score", "poor scene"]
LABELS = ["fresh"] * 3 + ["rotten"] * 3
# Of the right label: the second and the last row are wrong, the last one more so.
RIGHT = [0.9, 0.4, 0.8, 0.7, 0.6, 0.1]


def two_classes(names: Sequence[str] = ("fresh", "rotten")) -> pd.DataFrame:
    first = [p if label == "fresh" else 1 - p for p, label in zip(RIGHT, LABELS, strict=True)]
    said = [names[0] if p > 0.5 else names[1] for p in first]
    labels = [names[0] if label == "fresh" else names[1] for label in LABELS]
    probabilities = {names[0]: first, names[1]: [1 - p for p in first]}
    columns = {f"probability_{name}": values for name, values in probabilities.items()}
    return pd.DataFrame({"label": labels, "prediction": said, **columns})


def validated(
    folder: Path,
    said: pd.DataFrame,
    *,
    texts: Sequence[str] = TEXTS,
    seeds: int = 2,
    failed: str = "",
    name: str = "cv",
    **more: Any,
) -> CrossValidation:
    """Writes what a cross-validation with two folds leaves behind, scores 0.5 and up."""
    folder = folder / name
    rows = len(said)
    places = {
        "row": range(rows),
        "source": "train",
        "source_row": range(rows),
        "fold": ["fold1" if row % 2 else "fold2" for row in range(rows)],
    }
    folder.mkdir()
    pd.DataFrame({**places, **said}).to_parquet(folder / "out_of_fold.parquet")
    pd.DataFrame({**places, "label": said["label"], "text": list(texts)}).to_parquet(
        folder / "folds.parquet"
    )
    folds = []
    study = Study("study", ("fold1", "fold2"), (), "accuracy", True, command="hf-stabilizer ...")
    write_definition(study, folder / "study")
    for place, fold in enumerate(study.recipes):
        scores = {str(s): {"accuracy": 0.5 + place / 10 + s / 100} for s in range(1, seeds + 1)}
        mean = float(np.mean([one["accuracy"] for one in scores.values()]))
        folds.append(FoldScore(fold, rows // 2, rows - rows // 2, {"accuracy": mean}, scores))
        for seed in range(1, seeds + 1):
            reason = failed if (fold, seed) == ("fold2", 1) else ""
            run = Run(
                fold,
                {"head_seed": seed, "data_seed": seed, "seed": seed},
                "failed" if reason else "finished",
                reason=reason,
                evaluations=((5, {"accuracy": 0.9}), (9, {"accuracy": 0.5})),
                metric="accuracy",
                seconds=30.0,
                steps=9,
                checkpoint="model" if seed == 1 else None,
                configuration=more.get("configuration", {"load_best_model_at_end": False}),
            )
            write_run(run, folder / "study" / "runs" / fold / run.name / "run.json")
    found = CrossValidation(
        "accuracy",
        True,
        more.get("choose_on", "nothing"),
        tuple(folds),
        {"accuracy": 0.625},
        {str(s): {"accuracy": 0.6 + s / 100} for s in range(1, seeds + 1)},
        test=more.get("test"),
        notes=(*more.get("notes", ()), *([f"fold2, seed 1: {failed}"] if failed else [])),
        folder=folder,
    )
    settings = {"folds": 2, "learning_rate": 1e-4, "reader_options": None}
    Procedure("cross-validate", settings).ended(folder, **found.to_records())
    return found


def page_of(found: CrossValidation) -> str:
    return write_fold_report(found).read_text(encoding="utf-8")


def part(page: str, anchor: str) -> str:
    """The words of one section, tags left out."""
    inside = page.partition(f'id="{anchor}"')[2].partition("</section>")[0]
    return " ".join(re.sub(r"<[^>]*>", " ", inside).split())


def body(section: Any) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", str(section.body)).split())


# --- what it says


def test_by_hand_what_is_taken_for_what(tmp_path: Path) -> None:
    found = validated(tmp_path, two_classes())
    answers = Answers.of(found)
    assert counted(answers).tolist() == [[2, 1], [1, 2]]
    words = part(page_of(found), "confusion")
    assert "2 of 6 out-of-fold rows are wrong" in words
    assert "fresh 2 1 3 67 % rotten 1 2 3 67 %" in words
    assert "taken for it 3 3 6 67" in words


def test_the_row_that_is_most_wrong_comes_first_and_right_ones_do_not(tmp_path: Path) -> None:
    found = validated(tmp_path, two_classes())
    assert wrongness(Answers.of(found)).tolist() == pytest.approx([0, 0.6, 0, 0, 0, 0.9])
    words = part(page_of(found), "mistakes")
    assert words.index("poor scene") < words.index("warm")
    assert "5 fold1 rotten \N{RIGHTWARDS ARROW} fresh 0.100 train, 5 poor scene" in words
    assert "good film" not in words


def test_where_nothing_is_wrong_there_is_no_such_part(tmp_path: Path) -> None:
    said = two_classes().assign(prediction=LABELS)
    assert mistakes_section(Answers.of(validated(tmp_path, said))) is None


def test_scores_of_folds_seeds_and_all_rows(tmp_path: Path) -> None:
    page = page_of(validated(tmp_path, two_classes()))
    assert "accuracy 0.625 on rows that the models did not learn from" in page
    folds = part(page, "folds")
    # The mean of .51 and .52, and of .61 and .62; the last weights are those of step 9.
    for name, score in (("fold1", "0.515"), ("fold2", "0.615")):
        assert f"{name} {score} 3 3 last, step 9; model of seed 1" in folds
    assert "mean 0.565 std over folds 0.071 pooled 0.625 6" in folds
    assert "1 (33" in folds  # a fold's rows of a class
    seeds = part(page, "seeds")
    assert "fold1 0.510 0.520 fold2 0.610 0.620 pooled 0.610 0.620" in seeds


def test_weights_that_validation_chose_are_of_the_best_step(tmp_path: Path) -> None:
    keys = {"load_best_model_at_end": True}
    note = "each fold's rows chose the weights that they score, so these scores are optimistic"
    found = validated(
        tmp_path, two_classes(), choose_on="fold", configuration=keys, notes=(note,), seeds=1
    )
    page = page_of(found)
    assert "best, step 5; model of seed 1" in part(page, "folds")
    assert "optimistic" in page.partition("</header>")[0]
    assert "Each fold&#39;s rows chose the weights" in part(page, "notes")
    assert 'id="seeds"' not in page  # there is one seed


def test_failed_runs_and_test_rows(tmp_path: Path) -> None:
    test = TestScore(4, {"accuracy": 0.75}, {"fold1/1": 0.5, "fold2/1": 0.7})
    found = validated(tmp_path, two_classes(), failed="collapsed: <all> the same", test=test)
    page = page_of(found)
    words = " ".join(re.sub(r"<[^>]*>", " ", page).split())
    assert "Failed runs 1 of 4" in words
    assert "fold2 1 collapsed: &lt;all&gt; the same" in words
    assert 'id="notes"' not in page  # a failure is told in its own part alone
    shown = part(page, "test")
    assert "the mean of 2 models scores 0.750 accuracy" in shown
    assert "fold1/1 0.500 fold2/1 0.700" in shown


def test_by_hand_residuals_of_numbers(tmp_path: Path) -> None:
    """Every prediction is half its label: the residual falls by a half from label to label."""
    said = pd.DataFrame({"label": [-2.0, -1, 0, 1, 2, 3], "prediction": [-1.0, -0.5, 0, 0.5, 1, 2]})
    found = validated(tmp_path, said, seeds=1)
    answers = Answers.of(found)
    assert (answers.kind, answers.residuals.tolist()) == ("numbers", [1, 0.5, 0, -0.5, -1, -1])
    section = confusion_section(answers)
    assert section is not None
    assert "-0.167" in section.lead  # the mean of the six residuals
    assert "moves by \N{MINUS SIGN}0.43" in body(section)  # by least squares: -7.5 / 17.5
    assert str(section.body).count("<circle") == 6
    worst = mistakes_section(answers)
    assert worst is not None
    assert [record["row"] for record in worst.records] == [0, 4, 5, 1, 3]


def test_several_labels_for_a_row(tmp_path: Path) -> None:
    labels = [["x"], ["x", "y"], [], ["y"], ["x"], ["y"]]
    said = pd.DataFrame(
        {
            "label": labels,
            "prediction": [["x"], ["x"], ["y"], ["y"], ["y"], ["y"]],
            "probability_x": [0.9, 0.9, 0.1, 0.1, 0.2, 0.1],
            "probability_y": [0.1, 0.4, 0.6, 0.9, 0.9, 0.9],
        }
    )
    answers = Answers.of(validated(tmp_path, said))
    assert answers.kind == "several"
    section = confusion_section(answers)
    assert section is not None
    assert "3 of 6 out-of-fold rows have all of their labels right" in section.lead
    assert "x 3 2 2 67 % 100 % y 3 4 2 67 % 50 %" in body(section)
    worst = mistakes_section(answers)
    assert worst is not None
    assert [record["row"] for record in worst.records] == [4, 1, 2]  # .8 + .9, .1 + .6, .1 + .6
    assert worst.records[2]["label"] == "none"


def test_of_many_classes_the_commonest_mistakes_are_listed(tmp_path: Path) -> None:
    names = [f"c{k:02}" for k in range(30)]
    labels = [*names, *names]
    said = [*names, *["c07"] * 30]
    chances = {f"probability_{n}": [0.9 if s == n else 0.0 for s in said] for n in names}
    table = pd.DataFrame({"label": labels, "prediction": said, **chances})
    section = confusion_section(Answers.of(validated(tmp_path, table, texts=["t"] * 60)))
    assert section is not None
    assert section.lead.startswith("29 of 60 out-of-fold rows are wrong.")
    assert "c00 c07 1 50" in body(section)


# --- what it is


def test_texts_are_cut_and_nothing_of_the_user_s_is_markup(tmp_path: Path) -> None:
    evil = '</script><script>alert("x")</script>'
    texts = [evil, f"{evil} {'long ' * 900}", evil, evil, evil, "\x00 & <img src=x>"]
    said = two_classes((f"fresh{evil}", "rot|ten"))
    page = page_of(validated(tmp_path, said, texts=texts, failed=evil, notes=(evil,)))
    assert "<script>alert" not in page
    assert page.count("<script>") == 1
    assert "<img" not in page
    assert max(map(len, re.findall(r"long [long ]*", page))) <= LONGEST


def test_the_page_loads_nothing_and_is_the_same_again(tmp_path: Path) -> None:
    found = validated(tmp_path, two_classes())
    page = page_of(found)
    assert "default-src 'none'" in page
    assert not re.search(r"(?:src|href)=[\"'](?!data:|#)", page)
    assert "http://" not in page
    assert "https://" not in page
    assert page_of(found) == page
    assert not re.search(r"\b(nan|None|inf)\b", re.sub(r"<style>.*?</style>|<script>.*", "", page))


@pytest.mark.parametrize("kind", ["numbers", "classes"])
def test_many_rows_still_make_a_small_page(kind: str, tmp_path: Path) -> None:
    draw, rows = np.random.default_rng(0), 30_000
    if kind == "numbers":
        label = draw.normal(size=rows)
        said = pd.DataFrame({"label": label, "prediction": label / 2 + draw.normal(size=rows)})
    else:
        p = draw.uniform(size=rows)
        label = np.where(draw.uniform(size=rows) < p, "a", "b")
        said = pd.DataFrame({"label": label, "prediction": np.where(p > 0.5, "a", "b")})
        said = said.assign(probability_a=p, probability_b=1 - p)
    page = page_of(validated(tmp_path, said, texts=["word " * 200] * rows))
    assert len(page.encode()) < 1_000_000
    if kind == "numbers":
        assert page.count("<circle") <= MOST_POINTS + 20
        assert f"{rows // 10} of {rows} rows are drawn" in page


# --- where it comes from


def test_the_command_makes_it_again_from_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = validated(tmp_path, two_classes())
    page = page_of(found)
    folder = Path(shutil.move(found.folder or "", tmp_path / "elsewhere"))
    (folder / "report.html").unlink()
    main(["report", str(folder)])
    assert "std over folds" in capsys.readouterr().out
    again = (folder / "report.html").read_text(encoding="utf-8")
    assert again.replace("elsewhere", "cv") == page
    main(["report", str(folder), "--output", str(tmp_path / "other.html")])
    assert (tmp_path / "other.html").read_text(encoding="utf-8") == again


def test_what_is_for_studies_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = validated(tmp_path, two_classes())
    for option in (["--markdown", "a.md"], ["--metric", "f1"], ["--recipe", "*=a"]):
        with pytest.raises(SystemExit) as stopped:
            main(["report", str(found.folder), *option])
        assert stopped.value.code == 2
        assert f"{option[0]} is for studies" in capsys.readouterr().err
    assert not (tmp_path / "cv" / "report.html").exists()


def test_what_cannot_be_written_or_read_is_named(tmp_path: Path) -> None:
    found = validated(tmp_path, two_classes())
    with pytest.raises(StudyError, match="is a folder; name the file to write"):
        write_fold_report(found, tmp_path)
    with pytest.raises(StudyError, match="holds no finished cross-validation"):
        write_fold_report(tmp_path)
    (tmp_path / "cv" / "folds.parquet").unlink()
    with pytest.raises(StudyError, match=r"there is no folds\.parquet"):
        write_fold_report(tmp_path / "cv")
