"""Is the Markdown valid, and does the card say what the study found, once and for all?"""

from __future__ import annotations

import dataclasses
import re

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from hf_stabilizer.cli import main
from hf_stabilizer.errors import ConfigurationError, StudyError
from hf_stabilizer.records import Run, write_run
from hf_stabilizer.studies.cards.markdown import (
    caveats,
    code_block,
    escaped,
    markdown_summary,
    write_markdown_summary,
)
from hf_stabilizer.studies.cards.model_card import (
    BEGIN,
    END,
    chosen_run,
    configuration_digest,
    model_card_section,
    write_model_card,
)
from hf_stabilizer.studies.findings import chosen_by_validation
from hf_stabilizer.studies.statistics import bootstrap_interval
from hf_stabilizer.studies.study import Study, run_folder, write_definition

HOSTILE = "a|b*c_d`e <i>[f](g) #h\\"
OLD_CARD = """\
---
# For reference on model card metadata, see the spec
language: no            # YAML 1.1 would read false
license: "mit"
model-index:
- name: mine
  results:
  - task:
      type: text-classification
    dataset:
      name: GLUE
      type: glue
    metrics:
    - type: accuracy
      value: 0.5
---

# My model

Words of its author.
"""
CONFIGURATION = {
    "task": "text-regression",
    "model_name_or_path": "bert-base-uncased",
    "train_file": "data/commonlit.csv",
}


def one_run(recipe, seed, validation, test=None, status="finished", **more):
    seeds = {"head_seed": seed, "data_seed": seed, "seed": seed}
    return Run(recipe, seeds, status, metric="f1", best_score=validation, test_score=test, **more)


def make_study(recipes=("plain", "steady"), **more):
    """By hand: the second recipe has validation .71 to .76 and test .70, .70, .70, .69, .71, .72"""
    first, second = recipes
    tests = [0.70, 0.70, 0.70, 0.69, 0.71, 0.72]
    runs = [one_run(first, seed, 0.6 + seed / 100, 0.5) for seed in range(1, 7)]
    runs += [one_run(second, seed, 0.7 + seed / 100, tests[seed - 1]) for seed in range(1, 7)]
    values = {
        "command": "hf-stabilizer study demo.yaml --runs 6",
        "versions": {"torch": "2.13.0"},
        "configuration": CONFIGURATION,
        "recipe_settings": {first: {}, second: {"averaging": "swa"}},
    }
    return Study("demo", tuple(recipes), tuple(runs), "f1", True, **{**values, **more})


def rendered(text):
    """HTML as a reader of CommonMark with GitHub's tables makes it."""
    return MarkdownIt("commonmark").enable("table").render(text)


def cells(text):
    """Cells of each row of all tables."""
    found = []
    for row in re.findall(r"<tr>(.*?)</tr>", rendered(text), flags=re.S):
        found.append(re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.S))
    return found


def test_the_summary_by_hand() -> None:
    text = markdown_summary(make_study())
    (recipes, differences) = [row for row in cells(text) if row[0] == "steady"]
    assert recipes[1:3] == ["6", "0.703 ± 0.010"]
    assert recipes[4:] == ["0.700", "0.690", "0 of 6", "\N{EN DASH}"]
    assert differences[1:3] == ["6 pairs", "+0.203"]
    assert differences[4:] == ["0.031", "better", "100\N{NO-BREAK SPACE}%"]
    assert "steady beats plain by 0.203 f1" in text
    assert "```bash\nhf-stabilizer study demo.yaml --runs 6\n```" in text
    assert "torch 2.13.0" in text


def test_names_are_no_markup() -> None:
    text = markdown_summary(make_study(("plain", HOSTILE)))
    page = rendered(text)
    lengths = [len(row) for row in cells(text)]
    assert lengths == [8, 8, 8, 7, 7]
    shown = "a|b*c_d`e &lt;i&gt;[f](g) #h\\"
    assert page.count(shown) >= 3
    assert "<i>" not in page
    assert "<em>" not in page
    assert "<a " not in page


@pytest.mark.parametrize("text", [HOSTILE, "**x**", "&amp; ![a](b)", "~~x~~", "a\nb"])
def test_escaped_text_is_shown_as_it_stands(text) -> None:
    from html import unescape

    page = rendered(f"**{escaped(text)}**").strip()
    assert unescape(page) == f"<p><strong>{' '.join(text.split())}</strong></p>"


def test_a_command_with_a_fence_stays_in_its_block() -> None:
    text = "echo '```'\n# no heading"
    assert rendered(code_block(text)).count("<code>") == 1
    assert "<h1>" not in rendered(code_block(text))


def test_caveats_are_told() -> None:
    runs = (
        one_run("plain", 1, 0.7),
        one_run("plain", 2, 0.6, status="stopped", steps=10),
        one_run("plain", 3, None, status="failed", reason="out of memory"),
    )
    study = Study("demo", ("plain",), runs, "f1", True, stop_at=0.25, keep=1)
    text = markdown_summary(study)
    for words in (
        "best of each run on the validation rows",
        "Fewer than 5 scores of plain",
        "1 of 2 runs that were not stopped failed",
        "1 run was stopped early",
    ):
        assert words in text
    assert "| plain | 3 | 2 |" in text


def test_what_is_said_of_intervals_on_a_grid_is_true() -> None:
    # Heads differ by 0.1, data orders by nothing: three heads are three scores, not nine.
    runs = tuple(
        Run(
            *("plain", {"head_seed": head, "data_seed": data, "seed": 1}, "finished"),
            best_score=0.5 + head / 10 + (head * data % 3) / 1000,
        )
        for head in (1, 2, 3)
        for data in (1, 2, 3)
    )
    study = Study("demo", ("plain",), runs, "f1", True)
    assert "the intervals of the means count that" in " ".join(caveats(study))
    (row,) = study.summary()
    alone = bootstrap_interval([run.score or 0.0 for run in runs])
    assert row.interval is not None
    assert alone is not None
    assert row.interval.high - row.interval.low > alone.high - alone.low


def test_a_study_without_runs_has_a_summary() -> None:
    text = markdown_summary(Study("demo", ("plain",), (), "f1", True))
    assert "no run is over" in text


def test_the_section_tells_seeds_spread_and_which_weights() -> None:
    study = make_study()
    text = model_card_section(study)
    (row,) = [row for row in cells(text) if row[0] == "6"]
    assert row[1] == "0.703 ± 0.010"
    assert row[3:] == ["0.700", "0.690", "0.720", "0 of 6"]
    assert "best validation f1 of 6: head seed 6, data seed 6, dropout seed 6." in text
    assert "Validation f1 0.760, test f1 0.720." in text
    found = chosen_by_validation.find(study).recipes[1]
    gains = f"{found.validation_gain:+.3f} on the validation rows and by {found.test_gain:+.3f}"
    assert gains in text
    assert gains.startswith("+0.025 on the validation rows and by +0.017")
    assert "expect the mean, 0.703" in text
    assert "Averaging of weights: SWA" in text
    assert configuration_digest(study, "steady") in text
    assert "Averaging of weights: none" in model_card_section(study, recipe="plain")


def test_the_digest_knows_the_recipe() -> None:
    study = make_study()
    other = dataclasses.replace(study, configuration={**CONFIGURATION, "learning_rate": 1e-5})
    digests = {configuration_digest(s, r) for s in (study, other) for r in study.recipes}
    assert len(digests) == 4


def test_the_weights_are_those_that_were_kept() -> None:
    study = make_study()
    assert chosen_run(study, "steady").seeds["seed"] == 6
    runs = [
        dataclasses.replace(run, checkpoint="model" if run.seeds["seed"] == 2 else None)
        for run in study.runs
    ]
    assert chosen_run(dataclasses.replace(study, runs=tuple(runs)), "steady").seeds["seed"] == 2
    less = dataclasses.replace(study, greater_is_better=False)
    assert chosen_run(less, "steady").seeds["seed"] == 1


def test_the_mean_of_runs_that_were_chosen_is_not_promised() -> None:
    study = make_study()
    more = (one_run("steady", 7, 0.6, status="stopped"),)
    cut = dataclasses.replace(study, runs=study.runs + more, stop_at=0.5, keep=6)
    text = model_card_section(cut)
    assert "expect the mean" not in text
    assert "1 was stopped early" in text


def test_a_new_card_is_one_for_the_hubs_library(tmp_path) -> None:
    card = ModelCard.load(write_model_card(make_study(), tmp_path / "mine" / "README.md"))
    assert card.data.base_model == "bert-base-uncased"
    assert card.data.pipeline_tag == "text-classification"
    assert card.data.model_name == "mine"
    mean, these = card.data.eval_results
    assert (mean.metric_name, mean.metric_value) == ("f1, mean over seeds", 0.703333)
    assert (these.metric_name, these.metric_value) == ("f1, these weights", 0.72)
    assert (mean.dataset_name, mean.dataset_split) == ("commonlit", "test")
    assert card.text.startswith("\n# mine\n")


def test_a_path_is_no_base_model(tmp_path) -> None:
    configuration = {**CONFIGURATION, "model_name_or_path": "pkg://somewhere/model"}
    path = write_model_card(make_study(configuration=configuration), tmp_path / "README.md")
    assert ModelCard.load(path).data.base_model is None


@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
def test_all_else_in_a_card_stays(tmp_path, line_break) -> None:
    path = tmp_path / "README.md"
    path.write_bytes(OLD_CARD.replace("\n", line_break).encode())
    write_model_card(make_study(), path)
    first = path.read_bytes().decode()
    assert first.count(line_break) == first.count("\n")
    text = first.replace("\r\n", "\n")
    for kept in (
        "# For reference on",
        "language: no  ",
        'license: "mit"',
        "Words of its author.\n",
    ):
        assert kept in text
    names = [one.metric_name for one in ModelCard(text).data.eval_results]
    assert names == [None, "f1, mean over seeds", "f1, these weights"]
    assert text.index("Words of its author.") < text.index(BEGIN) < text.index(END)
    write_model_card(make_study(), path)
    assert path.read_bytes().decode() == first


def test_another_study_takes_the_place_of_the_first(tmp_path) -> None:
    path = tmp_path / "README.md"
    write_model_card(make_study(), path)
    path.write_text(path.read_text() + "\nBelow.\n")
    write_model_card(make_study(), path, recipe="plain")
    text = path.read_text()
    assert (text.count(BEGIN), text.count(END)) == (1, 1)
    assert "recipe plain" in text
    assert "recipe steady" not in text
    assert text.endswith(f"{END}\n\nBelow.\n")
    assert [one.metric_value for one in ModelCard(text).data.eval_results] == [0.5, 0.5]


def test_a_card_without_metadata_gets_them(tmp_path) -> None:
    path = tmp_path / "README.md"
    path.write_text("# Mine\n\nWords.\n")
    write_model_card(make_study(), path)
    assert ModelCard.load(path).text.startswith("\n# Mine\n\nWords.\n\n<!--")


def test_other_weights_beside_the_card_are_told(tmp_path, caplog) -> None:
    folder = tmp_path / "study"
    runs = tuple(dataclasses.replace(run, checkpoint="model") for run in make_study().runs)
    study = dataclasses.replace(make_study(), runs=runs)
    write_definition(study, folder)
    for run in runs:
        write_run(run, run_folder(folder, run.recipe, run.name) / "run.json")
    kept = run_folder(folder, "steady", chosen_run(study, "steady").name) / "model"
    kept.mkdir()
    (kept / "model.safetensors").write_bytes(b"kept")
    (tmp_path / "model.safetensors").write_bytes(b"kept")
    write_model_card(Study.from_folder(folder), tmp_path / "README.md")
    assert not caplog.messages
    (tmp_path / "model.safetensors").write_bytes(b"another")
    write_model_card(Study.from_folder(folder), tmp_path / "README.md")
    assert "is not the model that" in caplog.text


def test_refusals(tmp_path) -> None:
    study, path = make_study(), tmp_path / "README.md"
    for write in (write_model_card, write_markdown_summary):
        with pytest.raises(StudyError, match="is a folder; name the file to write"):
            write(study, tmp_path)
    with pytest.raises(ConfigurationError, match="must be one of plain, steady, got 'stedy'"):
        write_model_card(study, path, recipe="stedy")
    with pytest.raises(StudyError, match="no run of the study has a final score"):
        write_model_card(Study("demo", ("plain",), (), "f1", True), path)
    assert not path.exists()
    for text, words in {
        f"# A\n{BEGIN}\n": "1 times .* and 0 times",
        f"# A\n{END}\n{BEGIN}\n": "in this order",
        "---\na: [\n---\n# A\n": "cannot be read",
        "---\n- a\n---\n# A\n": "no mapping of keys",
        "---\nmodel-index: 3\n---\n# A\n": "no model card's",
    }.items():
        path.write_text(text)
        with pytest.raises(StudyError, match=words):
            write_model_card(study, path)
        assert path.read_text() == text


def test_the_command_line_writes_both(tmp_path, capsys) -> None:
    study = make_study()
    write_definition(study, tmp_path / "study")
    for run in study.runs:
        write_run(run, run_folder(tmp_path / "study", run.recipe, run.name) / "run.json")
    card, page = tmp_path / "README.md", tmp_path / "summary.md"
    words = ["report", str(tmp_path / "study"), "--markdown", str(page)]
    main([*words, "--model_card", str(card), "--model-card-recipe", "plain"])
    assert f"Model card: {card}" in capsys.readouterr().out
    assert "recipe plain" in card.read_text()
    assert page.read_text(encoding="utf-8") == markdown_summary(study)
    with pytest.raises(SystemExit):
        main([*words, "--model-card", str(card), "--model-card-recipe", "plan"])
    assert "did you mean plain?" in capsys.readouterr().err


def test_one_run_is_one_run() -> None:
    study = Study("demo", ("plain",), (one_run("plain", 1, 0.7),), "f1", True)
    assert "\n- 1 run.\n" in markdown_summary(study)
    assert "Trained once with the recipe plain; no run failed." in model_card_section(study)


def test_failures_before_the_stop_are_said_to_weigh_too_much() -> None:
    runs = (
        one_run("plain", 1, 0.7),
        one_run("plain", 2, 0.6, status="stopped", steps=10),
        one_run("plain", 3, 0.1, status="failed", reason="out of memory"),
    )
    study = Study("demo", ("plain",), runs, "f1", True, stop_at=0.25, keep=1)
    limit = "Runs that failed before the stop are, so that share may lie too high."
    assert limit in markdown_summary(study)
    sound = dataclasses.replace(study, runs=runs[:2])
    assert limit not in markdown_summary(sound)


def test_a_better_run_whose_weights_are_gone_is_not_passed_over() -> None:
    runs = [one_run("plain", s, s / 10, checkpoint="model" if s == 2 else None) for s in (1, 2, 3)]
    text = model_card_section(Study("demo", ("plain",), tuple(runs), "f1", True))
    assert "best validation f1 of those whose weights are kept: head seed 2" in text


def test_tiny_scores_are_no_zeros_in_a_card(tmp_path) -> None:
    runs = tuple(one_run("plain", s, 7e-10 + s * 1e-12) for s in (1, 2, 3))
    card = write_model_card(Study("demo", ("plain",), runs, "mse", False), tmp_path / "README.md")
    assert ModelCard.load(card).data.eval_results[0].metric_value == pytest.approx(7.02e-10)
